//! What a tool is, and the table of tools: made once, the same for every connection.

use std::sync::Arc;

use futures::future::BoxFuture;
use rmcp::model::{CallToolResult, JsonObject, MetaObject, ToolAnnotations};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::call::Call;
use super::transport::Flow;
use super::{answer, arguments, schema};
use crate::fault::{Fault, code};

/// What clients may assume of a tool; every one is said, because a client asks its user where one is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hints {
    /// Changes nothing.
    pub read_only: bool,
    /// May end or change what is there.
    pub destructive: bool,
    /// Calling it again with the same arguments changes nothing more.
    pub idempotent: bool,
    /// Reaches beyond the host: programs, machines, services.
    pub open_world: bool,
}

impl Hints {
    /// Only looks.
    pub const LOOK: Self = Self { read_only: true, destructive: false, idempotent: true, open_world: false };
    /// Starts or steers work, which may do anything it was granted.
    pub const WORK: Self = Self { read_only: false, destructive: true, idempotent: false, open_world: true };
    /// Ends something; again makes no difference.
    pub const END: Self = Self { read_only: false, destructive: true, idempotent: true, open_world: false };
    /// Adds a record.
    pub const ADD: Self = Self { read_only: false, destructive: false, idempotent: false, open_world: false };
}

/// One tool, for hosts of type `C`.
pub trait Tool<C> {
    /// `verb_noun`.
    const NAME: &'static str;
    /// For people.
    const TITLE: &'static str;
    /// For models; at most [`MAX_DESCRIPTION`] characters.
    const DESCRIPTION: &'static str;
    /// What clients may assume.
    const HINTS: Hints;
    /// Whether clients that load tools on demand should always load this one.
    const MAIN: bool = false;
    /// What it takes.
    type Request: DeserializeOwned + JsonSchema + Send;
    /// What it answers.
    type Answer: Serialize + JsonSchema + Send;

    /// Whether this call may last: it then has no part in the limit of calls in work, but in that of waits.
    fn lasts(_request: &Self::Request) -> bool {
        false
    }

    /// Does it. The arguments fit the schema.
    fn call(call: &Call<C>, request: Self::Request) -> impl Future<Output = Result<Self::Answer, Fault>> + Send;
}

/// The longest description: well under the 2,048 characters at which clients cut.
pub const MAX_DESCRIPTION: usize = 1_000;
/// Lasting calls of one connection at once.
pub const MAX_WAITS: usize = 256;

/// What one connection has for its calls.
pub struct Room {
    flow: Arc<Flow>,
    waits: Semaphore,
}

impl Room {
    /// All free.
    #[must_use]
    pub fn new(flow: Arc<Flow>) -> Self {
        Self { flow, waits: Semaphore::new(MAX_WAITS) }
    }
}

type Dispatch<C> = for<'a> fn(&'a Row<C>, &'a Room, &'a Call<C>, JsonObject) -> BoxFuture<'a, CallToolResult>;

/// A tool as it stands in the table.
pub struct Row<C> {
    /// As clients list it.
    pub tool: rmcp::model::Tool,
    dispatch: Dispatch<C>,
}

impl<C> Row<C>
where
    C: Send + Sync + 'static,
{
    /// The row of a tool.
    #[must_use]
    pub fn of<T: Tool<C> + 'static>() -> Self {
        let hints = ToolAnnotations::with_title(T::TITLE)
            .read_only(T::HINTS.read_only)
            .destructive(T::HINTS.destructive)
            .idempotent(T::HINTS.idempotent)
            .open_world(T::HINTS.open_world);
        let mut tool = rmcp::model::Tool::new(T::NAME, T::DESCRIPTION, Arc::new(schema::input::<T::Request>()))
            .with_title(T::TITLE)
            .with_annotations(hints)
            .with_raw_output_schema(Arc::new(schema::output::<T::Answer>()));
        if T::MAIN {
            let mut meta = MetaObject::new();
            meta.0.insert("anthropic/alwaysLoad".to_owned(), Value::Bool(true));
            tool = tool.with_meta(meta);
        }
        Self { tool, dispatch: |row, room, call, arguments| Box::pin(dispatch::<C, T>(row, room, call, arguments)) }
    }

    /// Calls it. Whatever goes wrong is in the answer.
    pub async fn call(&self, room: &Room, call: &Call<C>, arguments: JsonObject) -> CallToolResult {
        (self.dispatch)(self, room, call, arguments).await
    }
}

async fn dispatch<C, T: Tool<C>>(row: &Row<C>, room: &Room, call: &Call<C>, arguments: JsonObject) -> CallToolResult {
    match take::<C, T>(row, room, call, arguments).await {
        Ok(answer) => answer::success(&answer),
        Err(fault) => answer::failure(&fault),
    }
}

async fn take<C, T: Tool<C>>(row: &Row<C>, room: &Room, call: &Call<C>, arguments: JsonObject) -> Result<T::Answer, Fault> {
    let request: T::Request = arguments::parse(T::NAME, &row.tool.input_schema, arguments)?;
    if T::lasts(&request) {
        let _turn = room.waits.try_acquire().map_err(|_| {
            Fault::new(code::LIMIT_REACHED, format!("this connection has {MAX_WAITS} calls waiting already"))
                .retryable()
                .hint("wait for several runs with one wait_runs call, or let other calls end first")
        })?;
        T::call(call, request).await
    } else {
        let _turn = room.flow.work();
        T::call(call, request).await
    }
}

/// All tools, sorted by name.
pub struct Table<C> {
    rows: Vec<Row<C>>,
}

impl<C> Table<C> {
    /// A table of these.
    #[must_use]
    pub fn new(mut rows: Vec<Row<C>>) -> Self {
        rows.sort_by(|one, other| one.tool.name.cmp(&other.tool.name));
        Self { rows }
    }

    /// In the order in which clients list them.
    pub fn rows(&self) -> impl Iterator<Item = &Row<C>> {
        self.rows.iter()
    }

    /// By name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Row<C>> {
        let at = self.rows.binary_search_by(|row| row.tool.name.as_ref().cmp(name)).ok()?;
        self.rows.get(at)
    }
}
