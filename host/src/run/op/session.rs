//! Which session a new run belongs to: a new one, one that goes on, or a fork of one; and names of sessions.

use camino::Utf8PathBuf;

use crate::backend::Backend;
use crate::clock::Millis;
use crate::contract::falconer::backend::types as wit;
use crate::fault::{Fault, code};
use crate::id::SessionId;
use crate::ledger::SessionRow;
use crate::run::manager::Manager;
use crate::run::record::ledger_fault;
use crate::run::request::SpawnRequest;

impl Manager {
    /// The session of a run (the one it continues, or a new one), and what it is to know.
    pub(super) fn session_for(&self, request: &SpawnRequest, backend: &Backend) -> Result<(SessionRow, Option<wit::PriorSession>), Fault> {
        if let Some(name) = &request.name {
            good_name(name)?;
        }
        let fork = request.fork.unwrap_or(false);
        let known = request.session_id.as_deref().map(|text| self.known_session(text, backend)).transpose()?;
        let prior = known.as_ref().map(|known| wit::PriorSession {
            id: known.id.to_string(),
            native_id: known.native_id.clone().unwrap_or_default(),
            fork,
        });
        match known {
            None if fork => Err(Fault::new(code::CONFLICTING_FIELDS, "`fork` was given without `session_id`")
                .hint("name the session that is to be forked, or use continue_run with `fork`")),
            Some(known) if !fork => Ok((continued(known, request.name.as_deref())?, prior)),
            Some(known) if known.native_id.is_none() => {
                Err(Fault::new(code::NOT_CONTINUABLE, format!("session {} has no conversation yet that could be forked", known.id))
                    .hint("wait for its `session_started` event; a session that never had one cannot be forked"))
            }
            _ => {
                if let Some(name) = &request.name
                    && self.inner.ledger.session_named(name).map_err(|error| ledger_fault(&error))?.is_some()
                {
                    return Err(name_taken(name));
                }
                let now = Millis::now();
                let (id, name) = (SessionId::random(), request.name.clone());
                Ok((SessionRow { id, backend: backend.name.clone(), name, native_id: None, created_at: now, updated_at: now }, prior))
            }
        }
    }

    /// Where the newest run of the session works that a request names without a directory of its own: its agent looks for its
    /// conversation there.
    pub(super) fn cwd_of_session(&self, request: &SpawnRequest) -> Option<Utf8PathBuf> {
        let session = request.session_id.as_deref().filter(|_| request.cwd.is_none())?.parse().ok()?;
        self.inner.ledger.newest_run(session).ok().flatten()?.cwd.map(Utf8PathBuf::from)
    }

    fn known_session(&self, text: &str, backend: &Backend) -> Result<SessionRow, Fault> {
        let id: SessionId =
            text.parse().map_err(|error| Fault::new(code::INVALID_ARGUMENT, format!("`session_id`: {error}")).hint("get_run gives it"))?;
        let session =
            self.inner.ledger.session(id).map_err(|error| ledger_fault(&error))?.ok_or_else(|| {
                Fault::new(code::UNKNOWN_SESSION, format!("no session is called {id}")).hint("list_runs shows the sessions")
            })?;
        if session.backend != backend.name {
            return Err(Fault::new(code::INVALID_ARGUMENT, format!("session {id} belongs to backend `{}`", session.backend)));
        }
        Ok(session)
    }
}

/// A session that goes on; it may get the name that it did not have.
fn continued(mut session: SessionRow, name: Option<&str>) -> Result<SessionRow, Fault> {
    match (&session.name, name) {
        (Some(old), Some(new)) if old != new => {
            return Err(
                Fault::new(code::CONFLICTING_FIELDS, format!("session {} is called `{old}` already", session.id)).hint("leave `name` out")
            );
        }
        (None, Some(new)) => session.name = Some(new.to_owned()),
        _ => {}
    }
    session.updated_at = Millis::now();
    // A live run of it may tell another by the time that this is written, and what is not said here is kept as it is.
    session.native_id = None;
    Ok(session)
}

pub(super) fn name_taken(name: &str) -> Fault {
    Fault::new(code::NAME_TAKEN, format!("`{name}` is the name of another session"))
        .hint(format!("choose another name, or go on with that session: continue_run with run_id `{name}`"))
}

/// Names: 1 to 64 of lower-case letters, digits, `.`, `_`, `-`, beginning with a letter or digit, and no id.
fn good_name(name: &str) -> Result<(), Fault> {
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let rest = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-'));
    let id = ["run_", "ses_", "grp_", "msg_"].iter().any(|prefix| name.starts_with(prefix));
    if first && rest && !id && name.len() <= 64 {
        return Ok(());
    }
    Err(Fault::new(code::INVALID_ARGUMENT, "`name` is no name")
        .hint("1 to 64 lower-case letters, digits, `.`, `_` or `-`, beginning with a letter or digit, not with `run_`, `ses_`, `grp_`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_waits_in_line_writes_no_id_over_that_of_the_run_before() {
        let now = Millis::now();
        let native_id = Some("native-1".to_owned());
        let known = SessionRow { id: SessionId::random(), backend: "x".into(), name: None, native_id, created_at: now, updated_at: now };
        let goes_on = continued(known, Some("walter")).unwrap();
        assert_eq!((goes_on.name.as_deref(), goes_on.native_id), (Some("walter"), None));
    }
}
