//! Changes become rows, and the order of a run's events is kept.
//!
//! The ledger guards by itself that the events of a run are numbered 1, 2, 3 …, that its terminal event and its
//! terminal status are committed together, and that nothing follows them. What it must know for that it keeps in
//! memory for the runs that are being written, and reads from the file where it does not know.
//!
//! One submission is one savepoint: a refused one leaves nothing behind and disturbs no other of its batch.

use std::collections::HashMap;

use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

use super::LedgerError;
use super::row::{
    ArtifactRow, DecisionRow, EventRow, InboxRow, KEPT_DECISIONS, KeyRow, Op, RunRow, RunUpdate, SessionRow, is_last_event, is_last_status,
};
use crate::id::RunId;

/// Why a submission was not applied.
pub enum Failure {
    /// It alone is at fault; the transaction goes on without it.
    Refused(LedgerError),
    /// The disk or the file is at fault; the transaction is lost.
    Fatal(rusqlite::Error),
    /// The statement failed for a reason of its own; the transaction goes on without the submission.
    Statement(rusqlite::Error),
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        Self::Refused(error)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            // Of these a submission can be the cause; after the others SQLite may have ended the transaction.
            Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch | ErrorCode::ParameterOutOfRange) | None => {
                Self::Statement(error)
            }
            Some(_) => Self::Fatal(error),
        }
    }
}

/// What is known of a run that is being written.
#[derive(Debug, Clone)]
struct Head {
    /// Its number in the ledger.
    n: i64,
    /// The number of its last event.
    last_seq: u64,
    /// What its row says of that.
    stored_seq: u64,
    /// Its terminal status.
    ended: Option<String>,
    /// That, as it was before this submission.
    ended_before: bool,
    /// Its terminal event.
    last_event: Option<String>,
}

/// The runs that are being written.
#[derive(Default)]
pub struct Heads(HashMap<RunId, Head>);

impl Heads {
    /// Forgets everything: the transaction it was true in did not happen.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Applies one submission, or nothing of it.
    pub fn apply(&mut self, conn: &Connection, ops: &[Op]) -> Result<(), Failure> {
        conn.prepare_cached("SAVEPOINT submission")?.execute([])?;
        let mut changes = Changes { conn, known: &self.0, staged: Vec::new() };
        match changes.apply(ops) {
            Ok(()) => {
                let staged = changes.staged;
                conn.prepare_cached("RELEASE submission")?.execute([])?;
                for (run, mut head) in staged {
                    if head.ended.is_some() {
                        self.0.remove(&run);
                    } else {
                        head.ended_before = false;
                        self.0.insert(run, head);
                    }
                }
                Ok(())
            }
            Err(Failure::Fatal(error)) => Err(Failure::Fatal(error)),
            Err(failure) => {
                conn.prepare_cached("ROLLBACK TO submission")?.execute([]).map_err(Failure::Fatal)?;
                conn.prepare_cached("RELEASE submission")?.execute([]).map_err(Failure::Fatal)?;
                Err(failure)
            }
        }
    }
}

/// One submission on its way.
struct Changes<'a> {
    conn: &'a Connection,
    known: &'a HashMap<RunId, Head>,
    /// What the submission makes of the runs it touches; nearly always one.
    staged: Vec<(RunId, Head)>,
}

impl Changes<'_> {
    fn apply(&mut self, ops: &[Op]) -> Result<(), Failure> {
        for op in ops {
            match op {
                Op::InsertRun(run) => self.insert_run(run)?,
                Op::UpdateRun(update) => self.update_run(update)?,
                Op::AppendEvents(events) => self.append(events)?,
                Op::PutArtifacts(artifacts) => self.put_artifacts(artifacts)?,
                Op::PutCheckpoint { run, bytes } => self.put_checkpoint(*run, bytes)?,
                Op::PutDigest { run, digest } => self.put_digest(*run, digest)?,
                Op::PutSession(session) => self.put_session(session)?,
                Op::PutMessage(message) => self.put_message(message)?,
                Op::PutKey(key) => self.put_key(key)?,
                Op::PutDecisions(decisions) => self.put_decisions(decisions)?,
            }
        }
        for (run, head) in &mut self.staged {
            if let Some(event) = &head.last_event
                && head.ended.as_deref() != event.strip_prefix("run_")
            {
                return Err(LedgerError::TornEnd(*run).into());
            }
            if head.ended.is_some() && !head.ended_before {
                self.conn.prepare_cached("DELETE FROM checkpoints WHERE run = ?1")?.execute([head.n])?;
            }
            if head.stored_seq != head.last_seq {
                self.conn.prepare_cached("UPDATE runs SET last_seq = ?2 WHERE n = ?1")?.execute(params![head.n, signed(head.last_seq)])?;
                head.stored_seq = head.last_seq;
            }
        }
        Ok(())
    }

    /// Where the head of a run is staged.
    fn head(&mut self, run: RunId) -> Result<usize, Failure> {
        if let Some(at) = self.staged.iter().position(|(staged, _)| *staged == run) {
            return Ok(at);
        }
        let head = match self.known.get(&run) {
            Some(head) => head.clone(),
            None => self.read_head(run)?.ok_or(LedgerError::NoRun(run))?,
        };
        self.staged.push((run, head));
        Ok(self.staged.len() - 1)
    }

    fn read_head(&self, run: RunId) -> Result<Option<Head>, Failure> {
        let found = self
            .conn
            .prepare_cached("SELECT n, status, last_seq FROM runs WHERE id = ?1")?
            .query_row([run.to_string()], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?)))
            .optional()?;
        let Some((n, status, stored_seq)) = found else { return Ok(None) };
        let last = self
            .conn
            .prepare_cached("SELECT seq, type FROM events WHERE run = ?1 ORDER BY seq DESC LIMIT 1")?
            .query_row([n], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))
            .optional()?;
        let (last_seq, last_event) = last.unwrap_or((0, String::new()));
        let ended = is_last_status(&status);
        Ok(Some(Head {
            n,
            last_seq: last_seq.unsigned_abs(),
            stored_seq: stored_seq.unsigned_abs(),
            ended: ended.then_some(status),
            ended_before: ended,
            last_event: is_last_event(&last_event).then_some(last_event),
        }))
    }

    fn insert_run(&mut self, run: &RunRow) -> Result<(), Failure> {
        self.conn
            .prepare_cached(
                "INSERT INTO runs (id, session, run_group, parent, depth, backend, digest, role, cwd, target, created_at, life, status,
                    started_at, ended_at, last_seq, summary) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, 0, ?16)",
            )?
            .execute(params![
                run.id.to_string(),
                run.session.to_string(),
                run.group.map(|group| group.to_string()),
                run.parent.map(|parent| parent.to_string()),
                run.depth,
                run.backend,
                run.digest,
                run.role,
                run.cwd,
                run.target,
                run.created_at.0,
                run.life,
                run.status,
                run.started_at.map(|time| time.0),
                run.ended_at.map(|time| time.0),
                run.summary,
            ])?;
        let n = self.conn.last_insert_rowid();
        self.conn.prepare_cached("INSERT INTO requests (run, request, metadata) VALUES (?1, ?2, ?3)")?.execute(params![
            n,
            run.request,
            run.metadata
        ])?;
        self.conn.prepare_cached("INSERT INTO states (run, state) VALUES (?1, ?2)")?.execute(params![n, run.state])?;
        let ended = is_last_status(&run.status).then(|| run.status.clone());
        self.staged.push((run.id, Head { n, last_seq: 0, stored_seq: 0, ended, ended_before: false, last_event: None }));
        Ok(())
    }

    fn update_run(&mut self, update: &RunUpdate) -> Result<(), Failure> {
        let at = self.head(update.id)?;
        let (_, head) = &mut self.staged[at];
        if let Some(ended) = &head.ended
            && *ended != update.status
        {
            return Err(LedgerError::Ended(update.id).into());
        }
        if head.ended.is_none() && is_last_status(&update.status) {
            head.ended = Some(update.status.clone());
        }
        self.conn
            .prepare_cached(
                "UPDATE runs SET life = ?2, status = ?3, started_at = ?4, ended_at = ?5, last_seq = ?6, summary = ?7 WHERE n = ?1",
            )?
            .execute(params![
                head.n,
                update.life,
                update.status,
                update.started_at.map(|time| time.0),
                update.ended_at.map(|time| time.0),
                signed(head.last_seq),
                update.summary,
            ])?;
        head.stored_seq = head.last_seq;
        if let Some(state) = &update.state {
            self.conn.prepare_cached("UPDATE states SET state = ?2 WHERE run = ?1")?.execute(params![head.n, state])?;
        }
        Ok(())
    }

    fn append(&mut self, events: &[EventRow]) -> Result<(), Failure> {
        let mut insert = self.conn.prepare_cached("INSERT INTO events (run, seq, ts, type, data) VALUES (?1, ?2, ?3, ?4, ?5)")?;
        for event in events {
            let at = self.head(event.run)?;
            let (_, head) = &mut self.staged[at];
            if head.ended_before || head.last_event.is_some() {
                return Err(LedgerError::Ended(event.run).into());
            }
            let expected = head.last_seq + 1;
            if event.seq != expected {
                return Err(LedgerError::OutOfOrder { run: event.run, expected, found: event.seq }.into());
            }
            insert.execute(params![head.n, signed(event.seq), event.ts.0, event.kind, event.data])?;
            head.last_seq = event.seq;
            if is_last_event(&event.kind) {
                head.last_event = Some(event.kind.clone());
            }
        }
        Ok(())
    }

    fn put_artifacts(&mut self, artifacts: &[ArtifactRow]) -> Result<(), Failure> {
        for artifact in artifacts {
            let at = self.head(artifact.run)?;
            self.conn
                .prepare_cached("INSERT INTO artifacts (run, seq, pointer, sha256, size, mime) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
                .execute(params![
                    self.staged[at].1.n,
                    signed(artifact.seq),
                    artifact.pointer,
                    artifact.sha256,
                    signed(artifact.size),
                    artifact.mime
                ])?;
        }
        Ok(())
    }

    fn put_checkpoint(&mut self, run: RunId, bytes: &[u8]) -> Result<(), Failure> {
        let at = self.head(run)?;
        self.conn
            .prepare_cached("INSERT INTO checkpoints (run, bytes) VALUES (?1, ?2) ON CONFLICT (run) DO UPDATE SET bytes = excluded.bytes")?
            .execute(params![self.staged[at].1.n, bytes])?;
        Ok(())
    }

    fn put_digest(&mut self, run: RunId, digest: &str) -> Result<(), Failure> {
        let at = self.head(run)?;
        self.conn.prepare_cached("UPDATE runs SET digest = ?2 WHERE n = ?1")?.execute(params![self.staged[at].1.n, digest])?;
        Ok(())
    }

    fn put_session(&mut self, session: &SessionRow) -> Result<(), Failure> {
        let id = session.id.to_string();
        if let Some(name) = &session.name {
            let taken = self.conn.prepare_cached("SELECT 1 FROM sessions WHERE name = ?1 AND id <> ?2")?.exists(params![name, id])?;
            if taken {
                return Err(LedgerError::NameTaken(name.clone()).into());
            }
        }
        self.conn
            .prepare_cached(
                "INSERT INTO sessions (id, backend, name, native_id, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                ON CONFLICT (id) DO UPDATE SET native_id = coalesce(excluded.native_id, sessions.native_id),
                    name = coalesce(excluded.name, sessions.name), updated_at = max(excluded.updated_at, sessions.updated_at)",
            )?
            .execute(params![id, session.backend, session.name, session.native_id, session.created_at.0, session.updated_at.0])?;
        Ok(())
    }

    fn put_message(&mut self, message: &InboxRow) -> Result<(), Failure> {
        self.conn
            .prepare_cached(
                "INSERT INTO messages (session, seq, id, sender, created_at, text, metadata)
                VALUES (?1, (SELECT coalesce(max(seq), 0) + 1 FROM messages WHERE session = ?1), ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                message.to.to_string(),
                message.id.to_string(),
                message.from,
                message.created_at.0,
                message.text,
                message.metadata
            ])?;
        Ok(())
    }

    fn put_decisions(&mut self, decisions: &[DecisionRow]) -> Result<(), Failure> {
        if decisions.is_empty() {
            return Ok(());
        }
        let mut insert = self.conn.prepare_cached(
            "INSERT INTO decisions (at, caller, parent, run, backend, target, what, allowed, code, rule, address, command)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?;
        for decision in decisions {
            insert.execute(params![
                decision.at.0,
                decision.caller,
                decision.parent.map(|run| run.to_string()),
                decision.run.map(|run| run.to_string()),
                decision.backend,
                decision.target,
                decision.what,
                decision.allowed,
                decision.code,
                decision.rule,
                decision.address,
                decision.command,
            ])?;
        }
        // By their numbers, so that it costs nothing where none is to go.
        let newest = self.conn.last_insert_rowid();
        self.conn.prepare_cached("DELETE FROM decisions WHERE n <= ?1")?.execute([newest - i64::from(KEPT_DECISIONS)])?;
        Ok(())
    }

    fn put_key(&mut self, key: &KeyRow) -> Result<(), Failure> {
        let stored = self
            .conn
            .prepare_cached(
                "INSERT INTO request_keys (key, arguments, outcome, created_at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (key) DO NOTHING",
            )?
            .execute(params![key.key, key.arguments, key.outcome, key.created_at.0])?;
        if stored == 0 { Err(LedgerError::KeyTaken.into()) } else { Ok(()) }
    }
}

/// SQLite's integers have a sign; our numbers never come near it.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
