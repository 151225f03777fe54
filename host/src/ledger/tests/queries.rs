//! What is read is what was written.

use std::time::Duration;

use super::*;
use crate::id::GroupId;
use crate::ledger::{ArtifactRow, RunFilter};

#[tokio::test]
async fn every_row_reads_back() {
    let (_temporary, dir, ledger) = open();
    let id = RunId::random();
    let row = RunRow {
        group: Some(GroupId::random()),
        parent: Some(RunId::random()),
        depth: 2,
        target: Some("build".to_owned()),
        summary: Some("größer".to_owned()),
        ..run_row(id)
    };
    let named = SessionRow { id: row.session, native_id: Some("native".to_owned()), ..session(Some("lead")) };
    let artifact = ArtifactRow {
        run: id,
        seq: 1,
        pointer: "/text".to_owned(),
        sha256: "ab".repeat(32),
        size: u64::from(u32::MAX) + 7,
        mime: "text/plain".to_owned(),
    };
    let letter = InboxRow { from: Some("lead".to_owned()), metadata: Some("{}".to_owned()), ..message(row.session, "hello") };
    ledger
        .commit(
            Some(id),
            vec![
                Op::PutSession(named.clone()),
                Op::InsertRun(Box::new(row.clone())),
                append(id, 1..=2),
                Op::PutArtifacts(vec![artifact.clone()]),
                Op::PutCheckpoint { run: id, bytes: vec![1, 2] },
                Op::PutCheckpoint { run: id, bytes: vec![3, 0, 4] },
                Op::PutMessage(letter.clone()),
                key("spawn:1"),
            ],
        )
        .await
        .unwrap();
    let mut expected = RunRow { last_seq: 2, ..row };
    assert_eq!(ledger.run(id).unwrap(), Some(expected.clone()));
    assert_eq!(ledger.newest_run(expected.session).unwrap(), Some(expected.clone()));
    assert_eq!(ledger.events(id, 0, 10, u64::MAX, &[]).unwrap(), [event(id, 1, "notice"), event(id, 2, "notice")]);
    assert_eq!(ledger.session(named.id).unwrap(), Some(named.clone()));
    assert_eq!(ledger.session_named("lead").unwrap(), Some(named.clone()));
    assert_eq!(ledger.agents(None, None, 10).unwrap(), [(named.clone(), Some(expected.clone()), 1)]);
    assert_eq!(ledger.artifact(id, 1, "/text").unwrap(), Some(artifact));
    assert_eq!(ledger.checkpoint(id).unwrap(), Some(vec![3, 0, 4]));
    assert_eq!(ledger.messages(named.id, 0, 10).unwrap(), [InboxRow { seq: 1, ..letter.clone() }]);
    assert_eq!(ledger.message_seq(letter.id).unwrap(), Some(1));
    assert_eq!(ledger.key("spawn:1").unwrap().unwrap().outcome, "{}");

    let change = RunUpdate {
        id,
        life: 2,
        status: "input_required".to_owned(),
        started_at: Some(Millis(5)),
        ended_at: Some(Millis(6)),
        last_seq: 99,
        summary: None,
        state: Some(r#"{"question":1}"#.to_owned()),
    };
    ledger.commit(Some(id), vec![Op::UpdateRun(Box::new(change)), append(id, [3])]).await.unwrap();
    expected = RunRow {
        life: 2,
        status: "input_required".to_owned(),
        started_at: Some(Millis(5)),
        ended_at: Some(Millis(6)),
        // What is there, whatever the update says.
        last_seq: 3,
        summary: None,
        state: r#"{"question":1}"#.to_owned(),
        ..expected
    };
    assert_eq!(ledger.run(id).unwrap(), Some(expected.clone()));
    ledger.commit(Some(id), vec![update(id, "running")]).await.unwrap();
    assert_eq!(ledger.run(id).unwrap().unwrap().state, expected.state, "no state in an update: as it was");

    // It goes with the end, and not before.
    ledger.commit(Some(id), vec![Op::PutDigest { run: id, digest: "other".to_owned() }]).await.unwrap();
    assert_eq!(ledger.checkpoint(id).unwrap(), Some(vec![3, 0, 4]));
    let ended = EventRow { kind: "run_failed".to_owned(), ..event(id, 4, "notice") };
    let last = Op::PutCheckpoint { run: id, bytes: vec![5] };
    ledger.commit(Some(id), vec![last, update(id, "failed"), Op::AppendEvents(vec![ended])]).await.unwrap();
    assert_eq!(ledger.checkpoint(id).unwrap(), None);
    assert_eq!(ledger.run(id).unwrap().unwrap().digest, "other");

    // What is not there.
    assert_eq!(ledger.run(RunId::random()).unwrap(), None);
    assert_eq!(ledger.newest_run(SessionId::random()).unwrap(), None);
    assert!(ledger.events(RunId::random(), 0, 10, 10, &[]).unwrap().is_empty());
    assert!(ledger.events(RunId::random(), 0, 10, 10, &["notice"]).unwrap().is_empty());
    assert_eq!(ledger.artifact(id, 1, "/other").unwrap(), None);
    assert_eq!(ledger.checkpoint(RunId::random()).unwrap(), None);
    assert_eq!(ledger.key("spawn:2").unwrap(), None);

    // For people with sqlite3.
    let conn = rusqlite::Connection::open(dir.join("ledger.db")).unwrap();
    let seen: (String, String) =
        conn.query_row("SELECT run, time FROM event_log WHERE seq = 1", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(seen, (id.to_string(), "1970-01-01T00:00:01.000Z".to_owned()));
}

#[tokio::test]
async fn a_page_of_events_keeps_its_limits() {
    let (_temporary, _dir, ledger) = open();
    let (run, other) = (begin(&ledger).await, begin(&ledger).await);
    let kinds = ["notice", "usage", "command_output"];
    let events: Vec<_> = (1..=300).map(|seq| EventRow { data: "x".repeat(10), ..event(run, seq, kinds[seq as usize % 3]) }).collect();
    ledger.commit(Some(run), vec![Op::AppendEvents(events), append(other, 1..=5)]).await.unwrap();
    let page = |after, limit, bytes, kinds: &[&str]| -> Vec<u64> {
        ledger.events(run, after, limit, bytes, kinds).unwrap().iter().map(|event| event.seq).collect()
    };
    assert_eq!(page(0, 4, u64::MAX, &[]), [1, 2, 3, 4]);
    assert_eq!(page(297, 100, u64::MAX, &[]), [298, 299, 300]);
    assert_eq!(page(300, 100, u64::MAX, &[]), [0u64; 0]);
    assert_eq!(page(u64::MAX, 100, u64::MAX, &[]), [0u64; 0]);
    assert_eq!(page(0, 0, u64::MAX, &[]), [0u64; 0]);
    for (bytes, count) in [(0, 1), (9, 1), (10, 1), (19, 1), (20, 2), (39, 3), (40, 4)] {
        assert_eq!(page(7, 100, bytes, &[]).len(), count, "{bytes} bytes");
        assert_eq!(page(7, 100, bytes, &["notice"]).len(), count, "{bytes} bytes of one type");
    }
    assert_eq!(page(0, 3, u64::MAX, &["notice"]), [3, 6, 9]);
    assert_eq!(page(3, 4, u64::MAX, &["notice", "usage", "usage"]), [4, 6, 7, 9]);
    assert_eq!(page(0, 400, u64::MAX, &kinds), (1..=300).collect::<Vec<_>>());
    assert_eq!(page(0, 3, u64::MAX, &["run_failed"]), [0u64; 0]);
    assert_eq!(page(298, 3, u64::MAX, &["usage", "command_output"]), [299]);
}

#[tokio::test]
async fn runs_are_listed_newest_first_and_paged() {
    let (_temporary, _dir, ledger) = open();
    let group = GroupId::random();
    let sessions = [SessionId::random(), SessionId::random()];
    let mut ids = Vec::new();
    for n in 0..30i64 {
        let id = RunId::random();
        let row = RunRow {
            session: sessions[n as usize % 2],
            // Three of each millisecond.
            created_at: Millis(1000 + n / 3),
            group: (n % 5 == 0).then_some(group),
            parent: (n > 10).then(|| ids[0]),
            backend: if n % 3 == 0 { "claude" } else { "exec" }.to_owned(),
            cwd: (n % 2 == 0).then(|| "/a".to_owned()),
            status: if n < 20 { "completed" } else { "queued" }.to_owned(),
            ..run_row(id)
        };
        ledger.commit(Some(id), vec![Op::InsertRun(Box::new(row))]).await.unwrap();
        ids.push(id);
    }
    let list = |filter: RunFilter| -> Vec<usize> {
        let filter = RunFilter { limit: if filter.limit == 0 { 100 } else { filter.limit }, ..filter };
        let found = ledger.runs(&filter).unwrap();
        found.iter().map(|run| ids.iter().position(|id| *id == run.id).unwrap()).collect()
    };
    let newest_first = |keep: &dyn Fn(usize) -> bool| -> Vec<usize> { (0..30).rev().filter(|n| keep(*n)).collect() };
    assert_eq!(list(RunFilter::default()), newest_first(&|_| true));
    assert_eq!(list(RunFilter { session: Some(sessions[1]), ..RunFilter::default() }), newest_first(&|n| n % 2 == 1));
    assert_eq!(list(RunFilter { group: Some(group), ..RunFilter::default() }), newest_first(&|n| n % 5 == 0));
    assert_eq!(list(RunFilter { parent: Some(ids[0]), ..RunFilter::default() }), newest_first(&|n| n > 10));
    assert_eq!(list(RunFilter { backend: Some("claude".to_owned()), ..RunFilter::default() }), newest_first(&|n| n % 3 == 0));
    assert_eq!(list(RunFilter { cwd: Some("/a".to_owned()), ..RunFilter::default() }), newest_first(&|n| n % 2 == 0));
    let words = |words: &[&str]| RunFilter { status: words.iter().map(|word| (*word).to_owned()).collect(), ..RunFilter::default() };
    assert_eq!(list(words(&["queued", "running"])), newest_first(&|n| n >= 20));
    assert_eq!(list(words(&["completed"])), newest_first(&|n| n < 20));
    assert_eq!(list(words(&["completed", "queued"])), newest_first(&|_| true));
    assert_eq!(ledger.unfinished().unwrap().iter().map(|run| run.id).collect::<Vec<_>>(), ids[20..]);
    let mut seen = Vec::new();
    let mut before = None;
    loop {
        let page = ledger.runs(&RunFilter { before, limit: 4, ..RunFilter::default() }).unwrap();
        let Some(last) = page.last() else { break };
        before = Some((last.created_at.0, last.id));
        seen.extend(page.iter().map(|run| ids.iter().position(|id| *id == run.id).unwrap()));
    }
    assert_eq!(seen, newest_first(&|_| true));
    assert_eq!(ledger.newest_run(sessions[0]).unwrap().unwrap().id, ids[28]);
}

#[tokio::test]
async fn agents_are_listed_by_use() {
    let (_temporary, _dir, ledger) = open();
    for (n, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let row = SessionRow { updated_at: Millis(n as i64), ..session((name != "d").then_some(name)) };
        let mut ops = vec![Op::PutSession(row.clone())];
        if name != "a" {
            for cwd in ["/old", "/new"] {
                ops.push(Op::InsertRun(Box::new(RunRow { session: row.id, cwd: Some(cwd.to_owned()), ..run_row(RunId::random()) })));
            }
        }
        ops.extend((0..n).map(|_| Op::PutMessage(message(row.id, "hello"))));
        ledger.commit(None, ops).await.unwrap();
    }
    let list = |backend, cwd, limit| -> Vec<(String, Option<String>, u64)> {
        let found = ledger.agents(backend, cwd, limit).unwrap();
        found.into_iter().map(|(session, run, inbox)| (session.name.unwrap(), run.and_then(|run| run.cwd), inbox)).collect()
    };
    let (a, b, c) = (("a".to_owned(), None, 0), ("b".to_owned(), Some("/new".to_owned()), 1), ("c".to_owned(), Some("/new".to_owned()), 2));
    assert_eq!(list(None, None, 10), [c.clone(), b.clone(), a.clone()]);
    assert_eq!(list(None, None, 1), std::slice::from_ref(&c));
    assert_eq!(list(Some("exec"), Some("/new"), 10), [c, b]);
    assert_eq!(list(None, Some("/old"), 10), []);
    assert_eq!(list(Some("claude"), None, 10), []);
}

/// The queries that are made often, and the index that each must use.
#[tokio::test]
async fn frequent_queries_use_their_index() {
    let (_temporary, dir, _ledger) = open();
    let conn = crate::ledger::schema::open_reader(&dir.join("ledger.db")).unwrap();
    for (query, index) in [
        (
            "SELECT id FROM runs r WHERE 1 AND r.status IN (?, ?) AND r.status NOT IN ('completed', 'failed', 'cancelled', 'rejected', 'lost') ORDER BY r.created_at DESC, r.n DESC LIMIT ?",
            "runs_open",
        ),
        ("SELECT id FROM runs r WHERE 1 ORDER BY r.created_at DESC, r.n DESC LIMIT ?", "runs_by_time"),
        ("SELECT seq FROM events WHERE run = ?1 AND type = ?2 AND seq > ?3 ORDER BY seq LIMIT ?4", "events_by_type"),
        ("SELECT id FROM runs r WHERE r.session = ?1 ORDER BY r.n DESC LIMIT 1", "runs_by_session"),
    ] {
        let plan: Vec<String> = conn
            .prepare(&format!("EXPLAIN QUERY PLAN {query}"))
            .unwrap()
            .query_map(rusqlite::params_from_iter(vec!["0"; query.matches('?').count()]), |row| row.get(3))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        assert!(plan.iter().any(|step| step.contains(index)) && !plan.iter().any(|step| step.contains("TEMP B-TREE")), "{query}: {plan:?}");
    }
}

#[tokio::test]
async fn a_closed_ledger_says_so() {
    let (_temporary, dir, ledger) = open();
    let run = begin(&ledger).await;
    let queued = ledger.submit(Some(run), vec![append(run, [1])]).await;
    ledger.close(Duration::from_secs(30)).await;
    assert_eq!(queued.await, Ok(()), "what was queued is written");
    assert_eq!(ledger.commit(Some(run), vec![append(run, [2])]).await, Err(LedgerError::Closed));
    assert_eq!(ledger.run(run), Err(LedgerError::Closed));
    ledger.close(Duration::from_secs(30)).await;
    assert!(!dir.join("ledger.db-wal").exists(), "the log was brought into the file");
    assert_eq!(numbers(&Ledger::open(&dir).unwrap(), run), [1]);
}
