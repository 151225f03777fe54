//! One call of a tool: who calls, when to stop waiting, and news on the way.

use std::time::{Duration, Instant};

use rmcp::RoleServer;
use rmcp::model::{ProgressNotificationParam, ProgressToken};
use rmcp::service::{Peer, RequestContext};
use tokio_util::sync::CancellationToken;

use super::Host;
use crate::run::Caller;

/// One call.
pub struct Call<C> {
    /// What the tools of the connection work with.
    pub host: C,
    context: RequestContext<RoleServer>,
    ending: CancellationToken,
}

impl<C> Call<C> {
    /// `ending` is the end of the connection's input.
    pub fn new(host: C, context: RequestContext<RoleServer>, ending: CancellationToken) -> Self {
        Self { host, context, ending }
    }

    /// Does this until it is done, the request is cancelled or the connection ends; `None`: it was broken off.
    /// What was begun elsewhere is not undone by that.
    pub async fn unless_over<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.ending.cancelled() => None,
            () = self.context.ct.cancelled() => None,
        }
    }

    /// News for the client, if it asked for them.
    #[must_use]
    pub fn progress(&self) -> Option<Progress> {
        let token = self.context.meta.get_progress_token()?;
        Some(Progress { token, peer: self.context.peer.clone(), sent: 0, last: Instant::now() })
    }
}

impl Call<Host> {
    /// Who calls, with the name that the client gives itself.
    #[must_use]
    pub fn caller(&self) -> Caller {
        let mut caller = Caller::clone(&self.host.caller);
        if let Some(client) = self.context.client_info() {
            caller.name = plain(&format!("{} {}", client.name, client.version));
        }
        caller
    }
}

/// The longest name of a client that is kept, in characters.
const MAX_NAME: usize = 80;

/// The text of others in one short line.
fn plain(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(MAX_NAME).collect::<String>().trim().to_owned()
}

/// How often a wait is told of, when nothing changes.
pub const PROGRESS_EVERY: Duration = Duration::from_secs(10);
/// The least time between two news of one call.
pub const PROGRESS_GAP: Duration = Duration::from_secs(1);
/// How long a client may take to read one piece of news; one that takes longer gets none any more.
pub const PROGRESS_SEND: Duration = Duration::from_secs(2);
/// The longest piece of news, in characters.
pub const MAX_NEWS: usize = 200;

/// `notifications/progress` of one call: the numbers rise, and nothing in them is told only here.
pub struct Progress {
    token: ProgressToken,
    peer: Peer<RoleServer>,
    sent: u32,
    last: Instant,
}

impl Progress {
    /// Tells something. False: this client does not read, and is told nothing more.
    pub async fn tell(&mut self, news: &str) -> bool {
        if self.last.elapsed() < PROGRESS_GAP {
            return true;
        }
        self.last = Instant::now();
        self.sent += 1;
        let news: String = news.chars().take(MAX_NEWS).collect();
        let param = ProgressNotificationParam::new(self.token.clone(), f64::from(self.sent)).with_message(news);
        matches!(tokio::time::timeout(PROGRESS_SEND, self.peer.notify_progress(param)).await, Ok(Ok(())))
    }
}
