//! `list_agents`, `send_agent_message`, `fetch_agent_messages`: names, and messages between runs.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::get::{metadata, status_of};
use crate::clock::Millis;
use crate::fault::{Fault, code};
use crate::id::MessageId;
use crate::ledger::{InboxRow, KeyRow, LedgerError, Op, SessionRow};
use crate::run::inert;
use crate::run::manager::{Caller, Manager};
use crate::run::record::ledger_fault;
use crate::run::request::{AgentsRequest, FetchRequest, SendRequest};
use crate::run::translate::hash;
use crate::run::view::{AgentPage, AgentView, Inbox, InboxMessage, Sent};

/// Agents that a page has when the caller does not say.
const AGENTS: u32 = 50;
/// Messages that a page has when the caller does not say.
const MESSAGES: u32 = 50;
/// One message.
const MAX_TEXT: usize = 64 * 1024;

impl Manager {
    /// `list_agents`
    pub async fn agents(&self, request: AgentsRequest) -> Result<AgentPage, Fault> {
        let rows = self
            .inner
            .ledger
            .agents(request.backend.as_deref(), request.cwd.as_deref(), request.limit.unwrap_or(AGENTS))
            .map_err(|error| ledger_fault(&error))?;
        let agents = rows
            .into_iter()
            .map(|(session, run, messages)| AgentView {
                name: session.name.unwrap_or_default(),
                session_id: session.id,
                backend: session.backend,
                role: run.as_ref().and_then(|run| run.role.clone()),
                run_id: run.as_ref().map(|run| run.id),
                status: run
                    .as_ref()
                    .map(|run| self.find_live(run.id).map_or_else(|| status_of(&run.status), |live| live.progress().status)),
                cwd: run.and_then(|run| run.cwd),
                updated_at: session.updated_at,
                messages,
            })
            .collect();
        Ok(AgentPage { agents })
    }

    fn agent(&self, name: &str) -> Result<SessionRow, Fault> {
        self.inner
            .ledger
            .session_named(name)
            .map_err(|error| ledger_fault(&error))?
            .ok_or_else(|| Fault::new(code::UNKNOWN_AGENT, format!("no agent is called `{name}`")).hint("list_agents shows the names"))
    }

    /// `send_agent_message`
    pub async fn send_message(&self, _caller: &Caller, request: SendRequest) -> Result<Sent, Fault> {
        if request.text.len() > MAX_TEXT {
            return Err(Fault::new(code::INVALID_ARGUMENT, format!("`text` has {} bytes; at most {MAX_TEXT}", request.text.len())));
        }
        let to = self.agent(&request.to)?;
        if request.from.as_ref().is_some_and(|from| from.is_empty() || from.len() > 128) {
            return Err(Fault::new(code::INVALID_ARGUMENT, "`from` is no name").hint("1 to 128 characters"));
        }
        let arguments = hash(&serde_json::to_string(&request).unwrap_or_default());
        let row = InboxRow {
            seq: 0,
            id: MessageId::random(),
            to: to.id,
            from: request.from.map(inert::inert),
            created_at: Millis::now(),
            text: inert::inert(request.text),
            metadata: request.metadata.map(|map| Value::Object(map).to_string()),
        };
        let mut ops = vec![Op::PutMessage(row.clone())];
        let key = request.request_key.map(|key| format!("message:{key}"));
        if let Some(key) = &key {
            let outcome = serde_json::to_string(&(row.id, row.created_at)).unwrap_or_default();
            ops.push(Op::PutKey(KeyRow { key: key.clone(), arguments: arguments.clone(), outcome, created_at: row.created_at }));
        }
        let (id, created_at) = match self.inner.ledger.commit(None, ops).await {
            Ok(()) => (row.id, row.created_at),
            Err(LedgerError::KeyTaken) => self.sent_before(key.as_deref().unwrap_or_default(), &arguments)?,
            Err(error) => return Err(ledger_fault(&error)),
        };
        self.inner.mail.send_modify(|count| *count += 1);
        let seq = self.inner.ledger.message_seq(id).map_err(|error| ledger_fault(&error))?.unwrap_or(0);
        Ok(Sent { message_id: id, seq, to: request.to, created_at })
    }

    fn sent_before(&self, key: &str, arguments: &str) -> Result<(MessageId, Millis), Fault> {
        let row = self.inner.ledger.key(key).map_err(|error| ledger_fault(&error))?;
        match row {
            Some(row) if row.arguments == arguments => {
                serde_json::from_str(&row.outcome).map_err(|error| Fault::new(code::INTERNAL, error.to_string()))
            }
            _ => Err(Fault::new(code::REQUEST_KEY_CONFLICT, "the request key was used with other arguments")
                .hint("use a new key for a new message")),
        }
    }

    /// `fetch_agent_messages`
    pub async fn fetch_messages(&self, request: FetchRequest) -> Result<Inbox, Fault> {
        let until = Instant::now() + Duration::from_millis(request.wait_ms.unwrap_or(0));
        let session = self.agent(&request.name)?;
        let limit = request.limit.unwrap_or(MESSAGES);
        let mut mail = self.inner.mail.subscribe();
        loop {
            mail.borrow_and_update();
            let mut rows =
                self.inner.ledger.messages(session.id, request.after_seq, limit.saturating_add(1)).map_err(|error| ledger_fault(&error))?;
            if rows.is_empty() && matches!(tokio::time::timeout_at(until, mail.changed()).await, Ok(Ok(()))) {
                continue;
            }
            let has_more = rows.len() > limit as usize;
            rows.truncate(limit as usize);
            let next_after_seq = rows.last().map_or(request.after_seq, |row| row.seq);
            let messages = rows
                .into_iter()
                .map(|row| InboxMessage {
                    seq: row.seq,
                    message_id: row.id,
                    from: row.from,
                    to: request.name.clone(),
                    created_at: row.created_at,
                    text: row.text,
                    metadata: metadata(row.metadata.as_deref()),
                })
                .collect();
            return Ok(Inbox { name: request.name, messages, next_after_seq, has_more });
        }
    }
}
