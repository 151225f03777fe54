//! Many runs, many readers, and one that floods.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::*;
use crate::ledger::queue::{Queue, ROOM, SHARE, Work};

const RUNS: usize = 20;
const EVENTS: u64 = 2000;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pollers_of_twenty_runs_see_no_gap_and_no_repeat() {
    let (_temporary, _dir, ledger) = open();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..RUNS {
        let run = begin(&ledger).await;
        let (told, mut hears) = tokio::sync::watch::channel(0u64);
        for _ in 0..2 {
            let (ledger, mut hears) = (ledger.clone(), hears.clone());
            tasks.spawn(async move {
                let mut seen = 0;
                loop {
                    let durable = *hears.borrow_and_update();
                    let page = ledger.events(run, seen, 100, 4000, &[]).unwrap();
                    for event in &page {
                        assert_eq!(event.seq, seen + 1);
                        seen = event.seq;
                        assert_eq!(event.kind == "run_completed", seen == EVENTS);
                    }
                    assert!(!page.is_empty() || seen >= durable, "{seen} of {durable} answered events are readable");
                    if seen == EVENTS {
                        break;
                    }
                    if page.is_empty() {
                        hears.changed().await.unwrap();
                    }
                }
                assert!(ledger.events(run, seen, 100, 4000, &[]).unwrap().is_empty());
            });
        }
        hears.mark_unchanged();
        let ledger = ledger.clone();
        tasks.spawn(async move {
            let size = 1 + n as u64;
            let mut last = 0;
            while last < EVENTS {
                let to = EVENTS.min(last + size);
                let mut ops = vec![Op::AppendEvents(
                    (last + 1..=to).map(|seq| event(run, seq, if seq == EVENTS { "run_completed" } else { "notice" })).collect(),
                )];
                if to == EVENTS {
                    ops.push(update(run, "completed"));
                }
                ledger.commit(Some(run), ops).await.unwrap();
                last = to;
                told.send_replace(last);
            }
            told.closed().await;
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert!(ledger.unfinished().unwrap().is_empty());
}

/// A flood fills its own share only: another run's change finds room at once, and a share of the flood in front of it.
#[tokio::test]
async fn a_flood_fills_only_its_share() {
    let queue = Queue::new();
    let (flood, calm) = (RunId::random(), RunId::random());
    let change = |run, seq| Work::Change(vec![Op::AppendEvents(vec![EventRow { data: "x".repeat(4000), ..event(run, seq, "notice") }])]);
    let mut seq = 0;
    let waiting = loop {
        let mut push = Box::pin(queue.push(Some(flood), change(flood, seq)));
        if futures::poll!(&mut push).is_pending() {
            break push;
        }
        seq += 1;
    };
    assert!(seq < u64::from(SHARE / 4000) + 1, "{seq} changes of one run have room");
    assert!(seq > u64::from(SHARE / 4000) - 10, "{seq} changes of one run have room");
    assert!(futures::poll!(Box::pin(queue.push(Some(calm), change(calm, 1)))).is_ready());
    assert!(futures::poll!(Box::pin(queue.push(None, change(calm, 2)))).is_ready());
    let mut batch = Vec::new();
    assert!(queue.take(&mut batch));
    assert_eq!(batch.len() as u64, seq + 2, "one batch takes several shares");
    // The room is there again before the batch is written.
    assert!(tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap().is_ok());
    // Many runs together fill the line, and no more than that.
    let mut runs = 0;
    while futures::poll!(Box::pin(queue.push(Some(RunId::random()), change(calm, 0)))).is_ready() {
        runs += 1;
    }
    assert!(runs <= u64::from(ROOM / 4000), "the changes of {runs} runs have room");
    queue.close();
    assert!(matches!(queue.push(Some(calm), change(calm, 3)).await, Err(LedgerError::Closed)));
    batch.clear();
    while queue.take(&mut batch) {}
    assert!(batch.len() as u64 >= runs, "what had room is still written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_run_goes_on_beside_a_flood() {
    let (_temporary, _dir, ledger) = open();
    let (flood, calm) = (begin(&ledger).await, begin(&ledger).await);
    let on = Arc::new(AtomicBool::new(true));
    let flooding = tokio::spawn({
        let (ledger, on) = (ledger.clone(), Arc::clone(&on));
        async move {
            let mut seq = 0;
            let mut commits = Vec::new();
            while on.load(Ordering::Relaxed) {
                let events = (0..50).map(|n| EventRow { data: "x".repeat(4000), ..event(flood, seq + 1 + n, "command_output") });
                commits.push(ledger.submit(Some(flood), vec![Op::AppendEvents(events.collect())]).await);
                seq += 50;
            }
            for commit in commits {
                commit.await.unwrap();
            }
            seq
        }
    });
    for seq in 1..=50 {
        ledger.commit(Some(calm), vec![append(calm, [seq])]).await.unwrap();
    }
    on.store(false, Ordering::Relaxed);
    let written = flooding.await.unwrap();
    assert_eq!(numbers(&ledger, flood), (1..=written).collect::<Vec<_>>());
    assert_eq!(numbers(&ledger, calm), (1..=50).collect::<Vec<_>>());
}

/// A change that is larger than a share, or than a batch, is taken all the same; and so is the order of those behind it.
#[tokio::test]
async fn large_changes_are_taken_in_order() {
    let (_temporary, _dir, ledger) = open();
    let run = begin(&ledger).await;
    let mut commits = Vec::new();
    for seq in 1..=12 {
        let data = "x".repeat(if seq % 3 == 0 { 5 << 20 } else { 10 });
        commits.push(ledger.submit(Some(run), vec![Op::AppendEvents(vec![EventRow { data, ..event(run, seq, "notice") }])]).await);
    }
    for commit in commits {
        commit.await.unwrap();
    }
    assert_eq!(numbers(&ledger, run), (1..=12).collect::<Vec<_>>());
}

/// Futures that are dropped while they wait for room leave nothing in the queue, and take nothing away from it.
#[tokio::test]
async fn a_dropped_submission_gives_its_room_back() {
    let (_temporary, _dir, ledger) = open();
    let run = begin(&ledger).await;
    let big = |seq| vec![Op::AppendEvents(vec![EventRow { data: "x".repeat(1 << 20), ..event(run, seq, "notice") }])];
    let mut expected = 0;
    for _ in 0..50 {
        let taken = ledger.submit(Some(run), big(expected + 1)).await;
        // Room or none, it is polled once.
        let second = tokio::time::timeout(Duration::ZERO, ledger.submit(Some(run), big(expected + 2))).await;
        taken.await.unwrap();
        expected += 1;
        if let Ok(second) = second {
            second.await.unwrap();
            expected += 1;
        }
    }
    assert_eq!(numbers(&ledger, run), (1..=expected).collect::<Vec<_>>());
    ledger.commit(None, vec![key("a")]).await.unwrap();
    assert!(ledger.inner.queue.shares() <= 1, "{} shares of runs that have nothing waiting", ledger.inner.queue.shares());
}

/// The log does not grow for ever beside readers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_begins_anew() {
    let (_temporary, dir, ledger) = open();
    let run = begin(&ledger).await;
    let longest = (crate::ledger::writer::LOG_PAGES as u64) * 4096 * 6;
    let mut written = 0;
    for seq in 1.. {
        let data = "x".repeat(1 << 20);
        written += data.len() as u64;
        ledger.commit(Some(run), vec![Op::AppendEvents(vec![EventRow { data, ..event(run, seq, "notice") }])]).await.unwrap();
        ledger.events(run, seq - 1, 1, 1, &[]).unwrap();
        let log = dir.join("ledger.db-wal").metadata().unwrap().len();
        assert!(log < longest, "a log of {log} bytes after {written}");
        if written > 2 * longest {
            break;
        }
    }
}
