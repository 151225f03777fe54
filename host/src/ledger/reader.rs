//! Readers beside the writer: connections of their own, each used for one call at a time.
//!
//! A call takes microseconds and holds no transaction when it returns, so it may be made from asynchronous code, and
//! the writer's log never grows because of it. What a reader sees is on disk: the log's index names a commit only after
//! its fsync. A connection whose call failed is thrown away, and the next call opens another.

use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use camino::Utf8PathBuf;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Params, Row, ToSql, params};

use super::failure::broken;
use super::row::{ArtifactRow, DecisionRow, EventRow, InboxRow, KeyRow, RunRow, SessionRow, is_last_status};
use super::schema::{self, is_open};
use super::{DecisionFilter, LedgerError, RunFilter};
use crate::clock::Millis;
use crate::id::{MessageId, RunId, SessionId};

/// Connections that are kept for the next call.
const IDLE: usize = 4;

/// A run with its texts, in the order that `run_row` reads.
macro_rules! select_run {
    ($rest:literal) => {
        concat!(
            "SELECT r.id, r.session, r.run_group, r.parent, r.depth, r.backend, r.digest, r.role, r.cwd, r.target, r.life, r.status,
                r.created_at, r.started_at, r.ended_at, r.last_seq, r.summary, q.request, s.state, q.metadata
            FROM runs r JOIN requests q ON q.run = r.n JOIN states s ON s.run = r.n ",
            $rest
        )
    };
}

/// The readers.
pub struct Readers {
    path: Utf8PathBuf,
    /// None: closed.
    idle: Mutex<Option<Vec<Connection>>>,
}

impl Readers {
    pub fn new(path: Utf8PathBuf) -> Self {
        Self { path, idle: Mutex::new(Some(Vec::new())) }
    }

    /// Refuses further calls.
    pub fn close(&self) {
        drop(self.idle.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn read<T>(&self, call: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, LedgerError> {
        let idle = match self.idle.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(idle) => idle.pop(),
            None => return Err(LedgerError::Closed),
        };
        let read = || {
            let conn = match idle {
                Some(conn) => conn,
                None => schema::open_reader(&self.path)?,
            };
            let found = call(&conn)?;
            Ok((conn, found))
        };
        let (conn, found) = read().map_err(|error| broken(&self.path, &error))?;
        if let Some(idle) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).as_mut()
            && idle.len() < IDLE
        {
            idle.push(conn);
        }
        Ok(found)
    }

    fn one<T>(&self, sql: &str, params: impl Params, row: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>) -> Result<Option<T>, LedgerError> {
        self.read(|conn| conn.prepare_cached(sql)?.query_row(params, row).optional())
    }

    fn all<T>(&self, sql: &str, params: impl Params, row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>) -> Result<Vec<T>, LedgerError> {
        self.read(|conn| conn.prepare_cached(sql)?.query_map(params, row)?.collect())
    }

    pub fn run(&self, id: RunId) -> Result<Option<RunRow>, LedgerError> {
        self.one(select_run!("WHERE r.id = ?1"), [id.to_string()], run_row)
    }

    pub fn newest_run(&self, session: SessionId) -> Result<Option<RunRow>, LedgerError> {
        self.one(select_run!("WHERE r.session = ?1 ORDER BY r.n DESC LIMIT 1"), [session.to_string()], run_row)
    }

    pub fn unfinished(&self) -> Result<Vec<RunRow>, LedgerError> {
        const SQL: &str = concat!(select_run!("WHERE r."), is_open!(), " ORDER BY r.created_at, r.n");
        self.all(SQL, [], run_row)
    }

    pub fn runs(&self, filter: &RunFilter) -> Result<Vec<RunRow>, LedgerError> {
        let mut sql = select_run!("WHERE 1").to_owned();
        let mut values: Vec<Box<dyn ToSql>> = Vec::new();
        let mut and = |condition: &str, value: Option<Box<dyn ToSql>>| {
            if let Some(value) = value {
                sql.push_str(condition);
                values.push(value);
            }
        };
        let text = |text: String| -> Box<dyn ToSql> { Box::new(text) };
        and(" AND r.session = ?", filter.session.map(|id| text(id.to_string())));
        and(" AND r.run_group = ?", filter.group.map(|id| text(id.to_string())));
        and(" AND r.parent = ?", filter.parent.map(|id| text(id.to_string())));
        and(" AND r.backend = ?", filter.backend.clone().map(text));
        and(" AND r.cwd = ?", filter.cwd.clone().map(text));
        if !filter.status.is_empty() {
            let marks = vec!["?"; filter.status.len()].join(", ");
            sql.push_str(&format!(" AND r.status IN ({marks})"));
            // The few runs that live have an index of their own.
            if !filter.status.iter().any(|status| is_last_status(status)) {
                sql.push_str(concat!(" AND r.", is_open!()));
            }
            values.extend(filter.status.iter().cloned().map(text));
        }
        // Runs of one millisecond stand in the order of their making.
        if let Some((created_at, id)) = filter.before {
            sql.push_str(" AND (r.created_at, r.n) < (?, coalesce((SELECT n FROM runs WHERE id = ?), 0))");
            values.push(Box::new(created_at));
            values.push(text(id.to_string()));
        }
        sql.push_str(" ORDER BY r.created_at DESC, r.n DESC LIMIT ?");
        values.push(Box::new(filter.limit));
        self.all(&sql, rusqlite::params_from_iter(values), run_row)
    }

    pub fn events(&self, run: RunId, after: u64, limit: u32, max_bytes: u64, kinds: &[&str]) -> Result<Vec<EventRow>, LedgerError> {
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        if kinds.is_empty() {
            return self.read(|conn| all_events(conn, run, after, limit, max_bytes));
        }
        self.read(|conn| events_of(conn, run, after, limit, max_bytes, kinds))
    }

    pub fn session(&self, id: SessionId) -> Result<Option<SessionRow>, LedgerError> {
        self.one("SELECT id, backend, name, native_id, created_at, updated_at FROM sessions WHERE id = ?1", [id.to_string()], session_row)
    }

    pub fn session_named(&self, name: &str) -> Result<Option<SessionRow>, LedgerError> {
        self.one("SELECT id, backend, name, native_id, created_at, updated_at FROM sessions WHERE name = ?1", [name], session_row)
    }

    pub fn agents(
        &self,
        backend: Option<&str>,
        cwd: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(SessionRow, Option<RunRow>, u64)>, LedgerError> {
        let found = self.all(
            "SELECT a.id, a.backend, a.name, a.native_id, a.created_at, a.updated_at,
                (SELECT coalesce(max(seq), 0) FROM messages WHERE session = a.id), r.id
            FROM sessions a LEFT JOIN runs r ON r.n = (SELECT max(n) FROM runs WHERE session = a.id)
            WHERE a.name IS NOT NULL AND (?1 IS NULL OR a.backend = ?1) AND (?2 IS NULL OR r.cwd = ?2)
            ORDER BY a.updated_at DESC, a.rowid DESC LIMIT ?3",
            params![backend, cwd, limit],
            |row| Ok((session_row(row)?, row.get::<_, i64>(6)?.unsigned_abs(), optional_id::<RunId>(row, 7)?)),
        )?;
        found
            .into_iter()
            .map(|(session, inbox, run)| {
                let run = run.map(|run| self.run(run)).transpose()?.flatten();
                Ok((session, run, inbox))
            })
            .collect()
    }

    pub fn checkpoint(&self, run: RunId) -> Result<Option<Vec<u8>>, LedgerError> {
        self.one("SELECT bytes FROM checkpoints WHERE run = (SELECT n FROM runs WHERE id = ?1)", [run.to_string()], |row| row.get(0))
    }

    pub fn messages(&self, to: SessionId, after: u64, limit: u32) -> Result<Vec<InboxRow>, LedgerError> {
        self.all(
            "SELECT seq, id, sender, created_at, text, metadata FROM messages WHERE session = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
            params![to.to_string(), i64::try_from(after).unwrap_or(i64::MAX), limit],
            |row| {
                Ok(InboxRow {
                    seq: row.get::<_, i64>(0)?.unsigned_abs(),
                    id: id(row, 1)?,
                    to,
                    from: row.get(2)?,
                    created_at: Millis(row.get(3)?),
                    text: row.get(4)?,
                    metadata: row.get(5)?,
                })
            },
        )
    }

    pub fn message_seq(&self, id: MessageId) -> Result<Option<u64>, LedgerError> {
        self.one("SELECT seq FROM messages WHERE id = ?1", [id.to_string()], |row| Ok(row.get::<_, i64>(0)?.unsigned_abs()))
    }

    pub fn key(&self, key: &str) -> Result<Option<KeyRow>, LedgerError> {
        self.one("SELECT key, arguments, outcome, created_at FROM request_keys WHERE key = ?1", [key], |row| {
            Ok(KeyRow { key: row.get(0)?, arguments: row.get(1)?, outcome: row.get(2)?, created_at: Millis(row.get(3)?) })
        })
    }

    pub fn decisions(&self, filter: &DecisionFilter) -> Result<Vec<DecisionRow>, LedgerError> {
        let mut sql =
            "SELECT n, at, caller, parent, run, backend, target, what, allowed, code, rule, address, command FROM decisions WHERE 1"
                .to_owned();
        let mut values: Vec<Box<dyn ToSql>> = Vec::new();
        if filter.refused {
            sql.push_str(" AND allowed = 0");
        }
        if let Some(run) = filter.run {
            sql.push_str(" AND (run = ? OR parent = ?)");
            values.push(Box::new(run.to_string()));
            values.push(Box::new(run.to_string()));
        }
        sql.push_str(" ORDER BY n DESC LIMIT ?");
        values.push(Box::new(filter.limit));
        self.read(|conn| {
            // A ledger that is only looked at may be of an older format.
            let is_kept = conn.prepare_cached("SELECT 1 FROM sqlite_schema WHERE name = 'decisions'")?.exists([])?;
            if !is_kept {
                return Ok(Vec::new());
            }
            conn.prepare_cached(&sql)?.query_map(rusqlite::params_from_iter(values), decision_row)?.collect()
        })
    }

    pub fn artifact(&self, run: RunId, seq: u64, pointer: &str) -> Result<Option<ArtifactRow>, LedgerError> {
        self.one(
            "SELECT pointer, sha256, size, mime FROM artifacts
            WHERE run = (SELECT n FROM runs WHERE id = ?1) AND seq = ?2 AND pointer = ?3",
            params![run.to_string(), i64::try_from(seq).unwrap_or(i64::MAX), pointer],
            |row| {
                Ok(ArtifactRow {
                    run,
                    seq,
                    pointer: row.get(0)?,
                    sha256: row.get(1)?,
                    size: row.get::<_, i64>(2)?.unsigned_abs(),
                    mime: row.get(3)?,
                })
            },
        )
    }
}

/// A page of events that ends at its limit, or before its bytes are too many.
struct Page {
    events: Vec<EventRow>,
    bytes: u64,
    max_bytes: u64,
}

impl Page {
    /// False: this event belongs to the next page. The first event is always taken.
    fn take(&mut self, run: RunId, row: &Row<'_>) -> rusqlite::Result<bool> {
        let data = row.get_ref(3)?.as_str()?;
        self.bytes = self.bytes.saturating_add(data.len() as u64);
        if !self.events.is_empty() && self.bytes > self.max_bytes {
            return Ok(false);
        }
        self.events.push(EventRow {
            run,
            seq: row.get::<_, i64>(0)?.unsigned_abs(),
            ts: Millis(row.get(1)?),
            kind: row.get(2)?,
            data: data.to_owned(),
        });
        Ok(true)
    }
}

fn all_events(conn: &Connection, run: RunId, after: i64, limit: u32, max_bytes: u64) -> rusqlite::Result<Vec<EventRow>> {
    let mut page = Page { events: Vec::with_capacity(limit.min(128) as usize), bytes: 0, max_bytes };
    let mut select = conn.prepare_cached(
        "SELECT seq, ts, type, data FROM events WHERE run = (SELECT n FROM runs WHERE id = ?1) AND seq > ?2 ORDER BY seq LIMIT ?3",
    )?;
    let mut rows = select.query(params![run.to_string(), after, limit])?;
    while let Some(row) = rows.next()? {
        if !page.take(run, row)? {
            break;
        }
    }
    Ok(page.events)
}

/// The numbers first, from the index by type: at most a page of them for each type, however many events lie between.
fn events_of(conn: &Connection, run: RunId, after: i64, limit: u32, max_bytes: u64, kinds: &[&str]) -> rusqlite::Result<Vec<EventRow>> {
    // One transaction for all these statements: the locks of each would cost more than the reads.
    let _transaction = conn.unchecked_transaction()?;
    let Some(n) =
        conn.prepare_cached("SELECT n FROM runs WHERE id = ?1")?.query_row([run.to_string()], |row| row.get::<_, i64>(0)).optional()?
    else {
        return Ok(Vec::new());
    };
    let mut numbers: Vec<i64> = Vec::new();
    let mut select = conn.prepare_cached("SELECT seq FROM events WHERE run = ?1 AND type = ?2 AND seq > ?3 ORDER BY seq LIMIT ?4")?;
    for kind in kinds {
        let mut rows = select.query(params![n, kind, after, limit])?;
        while let Some(row) = rows.next()? {
            numbers.push(row.get(0)?);
        }
    }
    numbers.sort_unstable();
    numbers.dedup();
    numbers.truncate(limit as usize);
    let mut page = Page { events: Vec::with_capacity(limit.min(128) as usize), bytes: 0, max_bytes };
    let mut select = conn.prepare_cached("SELECT seq, ts, type, data FROM events WHERE run = ?1 AND seq = ?2")?;
    for number in numbers {
        if !select.query_row([n, number], |row| page.take(run, row))? {
            break;
        }
    }
    Ok(page.events)
}

fn run_row(row: &Row<'_>) -> rusqlite::Result<RunRow> {
    Ok(RunRow {
        id: id(row, 0)?,
        session: id(row, 1)?,
        group: optional_id(row, 2)?,
        parent: optional_id(row, 3)?,
        depth: row.get(4)?,
        backend: row.get(5)?,
        digest: row.get(6)?,
        role: row.get(7)?,
        cwd: row.get(8)?,
        target: row.get(9)?,
        life: row.get(10)?,
        status: row.get(11)?,
        created_at: Millis(row.get(12)?),
        started_at: row.get::<_, Option<i64>>(13)?.map(Millis),
        ended_at: row.get::<_, Option<i64>>(14)?.map(Millis),
        last_seq: row.get::<_, i64>(15)?.unsigned_abs(),
        summary: row.get(16)?,
        request: row.get(17)?,
        state: row.get(18)?,
        metadata: row.get(19)?,
    })
}

fn decision_row(row: &Row<'_>) -> rusqlite::Result<DecisionRow> {
    Ok(DecisionRow {
        n: row.get::<_, i64>(0)?.unsigned_abs(),
        at: Millis(row.get(1)?),
        caller: row.get(2)?,
        parent: optional_id(row, 3)?,
        run: optional_id(row, 4)?,
        backend: row.get(5)?,
        target: row.get(6)?,
        what: row.get(7)?,
        allowed: row.get(8)?,
        code: row.get(9)?,
        rule: row.get(10)?,
        address: row.get(11)?,
        command: row.get(12)?,
    })
}

fn session_row(row: &Row<'_>) -> rusqlite::Result<SessionRow> {
    Ok(SessionRow {
        id: id(row, 0)?,
        backend: row.get(1)?,
        name: row.get(2)?,
        native_id: row.get(3)?,
        created_at: Millis(row.get(4)?),
        updated_at: Millis(row.get(5)?),
    })
}

fn id<T: FromStr>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    parse(row.get_ref(column)?.as_str()?, column)
}

fn optional_id<T: FromStr>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    row.get_ref(column)?.as_str_or_null()?.map(|text| parse(text, column)).transpose()
}

fn parse<T: FromStr>(text: &str, column: usize) -> rusqlite::Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.parse().map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}
