//! Hosts that are killed, disks that are full, files that are locked or gone. The parts that need a process of their own
//! run this test program again, with the directory in its environment.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::*;

/// Names the data directory of a child.
const DIR: &str = "FALCONER_TEST_LEDGER_DIR";
/// How many answered events of each run a child is allowed before it is killed.
const ENOUGH: usize = 400;

fn child(test: &str, dir: &Utf8Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("ledger::tests::crash::{test}"), "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(DIR, dir);
    command
}

/// Killed and reaped also when the test fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a child of `what_was_answered_survives_a_kill`"]
async fn writes_until_it_is_killed() {
    let Ok(dir) = std::env::var(DIR).map(Utf8PathBuf::from) else { return };
    let ledger = Ledger::open(&dir).unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..3u64 {
        let run = begin(&ledger).await;
        let ledger = ledger.clone();
        writers.spawn(async move {
            let mut last = 0;
            loop {
                let to = last + 1 + n;
                ledger.commit(Some(run), vec![append(run, last + 1..=to), update(run, "running")]).await.unwrap();
                last = to;
                println!("\nanswered {run} {last}");
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
}

#[test]
fn what_was_answered_survives_a_kill() {
    let (_temporary, dir) = data_dir();
    let mut answered = std::collections::HashMap::<RunId, u64>::new();
    for life in 1..=3 {
        let mut host = Killed(child("writes_until_it_is_killed", &dir).stdout(Stdio::piped()).spawn().unwrap());
        let mut lines = BufReader::new(host.0.stdout.take().unwrap()).lines();
        let mut note = |line: &str| {
            let Some((run, seq)) = line.strip_prefix("answered ").and_then(|line| line.split_once(' ')) else { return false };
            // The last line may be cut off by the kill.
            let (Ok(run), Ok(seq)) = (run.parse(), seq.parse::<u64>()) else { return false };
            let known = answered.entry(run).or_default();
            *known = seq.max(*known);
            true
        };
        let mut seen = 0;
        while seen < ENOUGH {
            seen += usize::from(note(&lines.next().unwrap().unwrap()));
        }
        host.0.kill().unwrap();
        host.0.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            note(&line);
        }
        let ledger = Ledger::open(&dir).unwrap();
        assert_eq!(answered.len(), 3 * life);
        for (&run, &last) in &answered {
            let written = numbers(&ledger, run);
            assert_eq!(written, (1..=written.len() as u64).collect::<Vec<_>>(), "no gap");
            assert!(written.len() as u64 >= last, "{run}: {last} was answered, {} is there", written.len());
            assert_eq!(ledger.run(run).unwrap().unwrap().last_seq, written.len() as u64);
        }
        assert_eq!(ledger.unfinished().unwrap().len(), 3 * life);
    }
}

#[tokio::test]
async fn a_full_file_fails_what_does_not_fit_and_recovers() {
    let (_temporary, dir, ledger) = open();
    let run = begin(&ledger).await;
    ledger.commit(Some(run), vec![append(run, [1])]).await.unwrap();
    ledger.limit_size(Some(0)).await.unwrap();
    let big = |seq| vec![Op::AppendEvents(vec![EventRow { data: "x".repeat(1 << 20), ..event(run, seq, "notice") }])];
    let message = is_broken(ledger.commit(Some(run), big(2)).await);
    assert!(message.contains(dir.join("ledger.db").as_str()) && message.contains("free some space"), "{message}");
    // What was numbered after it cannot follow; what fits is still taken.
    let behind = [ledger.submit(Some(run), big(2)).await, ledger.submit(Some(run), vec![append(run, [3])]).await];
    let [first, second] = behind;
    is_broken(first.await);
    assert!(matches!(second.await, Err(LedgerError::OutOfOrder { expected: 2, found: 3, .. })));
    ledger.commit(Some(run), vec![update(run, "cancelling")]).await.unwrap();
    assert_eq!(ledger.run(run).unwrap().unwrap().status, "cancelling");
    ledger.limit_size(None).await.unwrap();
    ledger.commit(Some(run), big(2)).await.unwrap();
    assert_eq!(numbers(&ledger, run), [1, 2]);
}

#[tokio::test]
#[ignore = "a child of `a_full_disk_fails_and_recovers`, in a mount namespace of its own"]
async fn fills_its_disk() {
    let Ok(dir) = std::env::var(DIR).map(Utf8PathBuf::from) else { return };
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m,mode=700", "none", dir.as_str()]).status().unwrap();
    assert!(mount.success());
    let ballast = dir.join("ballast");
    std::fs::write(&ballast, vec![0; 300 << 10]).unwrap();
    let ledger = Ledger::open(&dir).unwrap();
    let artifacts = crate::ledger::artifact::Artifacts::open(&dir).unwrap();
    let run = begin(&ledger).await;
    let mut seq = 0;
    let message = loop {
        let events = vec![EventRow { data: "x".repeat(16 << 10), ..event(run, seq + 1, "notice") }];
        match ledger.commit(Some(run), vec![Op::AppendEvents(events)]).await {
            Ok(()) => seq += 1,
            Err(error) => break is_broken::<()>(Err(error)),
        }
        assert!(seq < 100, "the disk does not fill");
    };
    assert!(message.contains("ledger.db") && message.contains("space"), "{message}");
    let mut spool = artifacts.spool().unwrap();
    let message = is_broken(spool.write(&vec![0; 1 << 20]));
    assert!(message.contains("artifacts") && message.contains("space"), "{message}");
    is_broken(spool.seal());
    assert_eq!(numbers(&ledger, run), (1..=seq).collect::<Vec<_>>());
    std::fs::remove_file(ballast).unwrap();
    ledger.commit(Some(run), vec![append(run, [seq + 1])]).await.unwrap();
    assert_eq!(numbers(&ledger, run), (1..=seq + 1).collect::<Vec<_>>());
    ledger.close(Duration::from_secs(30)).await;
    assert_eq!(numbers(&Ledger::open(&dir).unwrap(), run), (1..=seq + 1).collect::<Vec<_>>());
}

#[test]
fn a_full_disk_fails_and_recovers() {
    let (_temporary, dir) = data_dir();
    std::fs::create_dir(&dir).unwrap();
    // A small disk, which is gone with the process whatever happens to it.
    let namespace = |command: &mut Command| {
        command.args(["--mount", "--map-root-user", "--"]);
    };
    let mut able = Command::new("unshare");
    namespace(&mut able);
    able.args(["mount", "-t", "tmpfs", "none", dir.as_str()]).stderr(Stdio::null());
    if !able.status().is_ok_and(|status| status.success()) {
        eprintln!("left out: this user can make no mount namespace");
        return;
    }
    let inner = child("fills_its_disk", &dir);
    let mut command = Command::new("unshare");
    namespace(&mut command);
    command.arg(inner.get_program()).args(inner.get_args()).env(DIR, &dir);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_file_that_is_gone_is_not_written_to() {
    let (_temporary, dir, ledger) = open();
    let run = begin(&ledger).await;
    std::fs::rename(dir.join("ledger.db"), dir.join("elsewhere.db")).unwrap();
    let message = is_broken(ledger.commit(Some(run), vec![append(run, [1])]).await);
    assert!(message.contains("ledger.db was removed"), "{message}");
    std::fs::rename(dir.join("elsewhere.db"), dir.join("ledger.db")).unwrap();
    ledger.commit(Some(run), vec![append(run, [1])]).await.unwrap();
}

#[tokio::test]
async fn a_lock_of_another_program_fails_and_recovers() {
    let (_temporary, dir, ledger) = open();
    let run = begin(&ledger).await;
    let other = rusqlite::Connection::open(dir.join("ledger.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let message = is_broken(ledger.commit(Some(run), vec![append(run, [1])]).await);
    assert!(message.contains("another program holds a lock"), "{message}");
    assert!(ledger.run(run).unwrap().is_some(), "readers go on");
    other.execute_batch("ROLLBACK").unwrap();
    ledger.commit(Some(run), vec![append(run, [1])]).await.unwrap();
}
