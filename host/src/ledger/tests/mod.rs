//! The ledger against real files, real processes and a real full disk.

mod artifacts;
mod crash;
mod decisions;
mod format;
mod order;
mod queries;
mod traffic;

use camino::{Utf8Path, Utf8PathBuf};
use tempfile::TempDir;

use super::{EventRow, InboxRow, KeyRow, Ledger, LedgerError, Op, RunRow, RunUpdate, SessionRow};
use crate::clock::Millis;
use crate::id::{MessageId, RunId, SessionId};

/// A data directory of its own.
fn data_dir() -> (TempDir, Utf8PathBuf) {
    let temporary = TempDir::new().unwrap();
    let dir = Utf8Path::from_path(temporary.path()).unwrap().join("data");
    (temporary, dir)
}

fn open() -> (TempDir, Utf8PathBuf, Ledger) {
    let (temporary, dir) = data_dir();
    let ledger = Ledger::open(&dir).unwrap();
    (temporary, dir, ledger)
}

fn run_row(id: RunId) -> RunRow {
    RunRow {
        id,
        session: SessionId::random(),
        group: None,
        parent: None,
        depth: 0,
        backend: "exec".to_owned(),
        digest: "0".repeat(64),
        role: Some("worker".to_owned()),
        cwd: Some("/src".to_owned()),
        target: None,
        life: 1,
        status: "running".to_owned(),
        created_at: Millis(1000),
        started_at: Some(Millis(1001)),
        ended_at: None,
        last_seq: 0,
        summary: None,
        request: r#"{"prompt":"hello"}"#.to_owned(),
        state: "{}".to_owned(),
        metadata: Some("{}".to_owned()),
    }
}

fn insert(id: RunId) -> Op {
    Op::InsertRun(Box::new(run_row(id)))
}

async fn begin(ledger: &Ledger) -> RunId {
    let id = RunId::random();
    ledger.commit(Some(id), vec![insert(id)]).await.unwrap();
    id
}

fn event(run: RunId, seq: u64, kind: &str) -> EventRow {
    EventRow { run, seq, ts: Millis(1000), kind: kind.to_owned(), data: format!(r#"{{"n":{seq}}}"#) }
}

fn append(run: RunId, numbers: impl IntoIterator<Item = u64>) -> Op {
    Op::AppendEvents(numbers.into_iter().map(|seq| event(run, seq, "notice")).collect())
}

fn update(run: RunId, status: &str) -> Op {
    Op::UpdateRun(Box::new(RunUpdate {
        id: run,
        life: 1,
        status: status.to_owned(),
        started_at: Some(Millis(1001)),
        ended_at: None,
        last_seq: 0,
        summary: Some("so far".to_owned()),
        state: None,
    }))
}

fn session(name: Option<&str>) -> SessionRow {
    SessionRow {
        id: SessionId::random(),
        backend: "exec".to_owned(),
        name: name.map(str::to_owned),
        native_id: None,
        created_at: Millis(1),
        updated_at: Millis(1),
    }
}

fn message(to: SessionId, text: &str) -> InboxRow {
    InboxRow { seq: 0, id: MessageId::random(), to, from: None, created_at: Millis(1), text: text.to_owned(), metadata: None }
}

fn key(key: &str) -> Op {
    Op::PutKey(KeyRow { key: key.to_owned(), arguments: "a".to_owned(), outcome: "{}".to_owned(), created_at: Millis(1) })
}

fn numbers(ledger: &Ledger, run: RunId) -> Vec<u64> {
    ledger.events(run, 0, u32::MAX, u64::MAX, &[]).unwrap().iter().map(|event| event.seq).collect()
}

fn is_broken<T: std::fmt::Debug>(answer: Result<T, LedgerError>) -> String {
    match answer {
        Err(LedgerError::Broken(message)) => message,
        other => panic!("not broken: {other:?}"),
    }
}
