//! How fast the ledger writes and reads, beside what the disk allows: `cargo bench --workspace --bench ledger`.
//!
//! Prints one line for each measure. The directory is made below `FALCONER_BENCH_DIR`, or the system's temporary one;
//! it should lie on the disk that is meant.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use falconer::clock::Millis;
use falconer::id::{RunId, SessionId};
use falconer::ledger::{EventRow, Ledger, Op, RunRow, RunUpdate};

/// Bytes of an event's data: a short line of output.
const DATA: usize = 120;
/// Events written in each measure of a rate.
const EVENTS: u64 = 400_000;
/// Single commits, and single fsyncs.
const SINGLES: usize = 1000;
/// Pages read.
const READS: usize = 20_000;

fn main() -> Result<()> {
    let base = std::env::var("FALCONER_BENCH_DIR").map_or_else(|_| std::env::temp_dir(), Into::into);
    let dir = tempfile::tempdir_in(base)?;
    let dir = Utf8Path::from_path(dir.path()).context("the directory's name is not UTF-8")?.join("data");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ledger = Ledger::open(&dir)?;
    let fsync = fsyncs(&dir.join("bare"))?;
    println!("bare: 4 KiB appended and fsync            p50 {:>8.1} µs  ({:.0}/s)", micros(fsync), 1.0 / fsync.as_secs_f64());
    runtime.block_on(measure(&ledger, fsync))
}

async fn measure(ledger: &Ledger, fsync: Duration) -> Result<()> {
    let (run, _) = begin(ledger).await?;
    let mut times = Vec::with_capacity(SINGLES);
    for seq in 1..=SINGLES as u64 {
        let start = Instant::now();
        ledger.commit(Some(run), vec![events(run, seq, 1), update(run, seq)]).await?;
        times.push(start.elapsed());
    }
    let single = median(&mut times);
    println!(
        "one event and its run, alone, durable     p50 {:>8.1} µs  ({:.2} bare fsyncs)",
        micros(single),
        single.as_secs_f64() / fsync.as_secs_f64()
    );
    for (runs, size) in [(1, 64), (10, 64), (20, 1), (20, 64), (20, 500)] {
        let begun = Instant::now();
        let each = EVENTS / runs / size;
        let writers: Vec<_> = (0..runs)
            .map(|_| {
                let ledger = ledger.clone();
                tokio::spawn(async move {
                    let (run, _) = begin(&ledger).await?;
                    let mut last = None;
                    for step in 0..each {
                        let first = 1 + step * size;
                        let ops = vec![events(run, first, size), update(run, first + size - 1)];
                        last = Some(ledger.submit(Some(run), ops).await);
                    }
                    if let Some(last) = last {
                        last.await?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        for writer in writers {
            writer.await??;
        }
        let rows = runs * each * size;
        println!(
            "{runs:>2} runs, {size:>3} events a commit, durable          {:>8.0} events/s",
            rows as f64 / begun.elapsed().as_secs_f64()
        );
    }
    let mut times = Vec::with_capacity(READS);
    for turn in 0..READS as u64 {
        let start = Instant::now();
        let page = ledger.events(run, turn % (SINGLES as u64 - 100), 100, u64::MAX, &[])?;
        times.push(start.elapsed());
        anyhow::ensure!(page.len() == 100, "a page has {} events", page.len());
    }
    println!("a page of 100 events, read                p50 {:>8.1} µs", micros(median(&mut times)));
    times.clear();
    for _ in 0..READS {
        let start = Instant::now();
        anyhow::ensure!(ledger.run(run)?.is_some(), "the run is gone");
        times.push(start.elapsed());
    }
    println!("a run, read                               p50 {:>8.1} µs", micros(median(&mut times)));
    ledger.close(Duration::from_secs(60)).await;
    Ok(())
}

async fn begin(ledger: &Ledger) -> Result<(RunId, SessionId)> {
    let (run, session) = (RunId::random(), SessionId::random());
    let row = RunRow {
        id: run,
        session,
        group: None,
        parent: None,
        depth: 0,
        backend: "bench".to_owned(),
        digest: "0".repeat(64),
        role: None,
        cwd: Some("/tmp".to_owned()),
        target: None,
        life: 1,
        status: "running".to_owned(),
        created_at: Millis::now(),
        started_at: Some(Millis::now()),
        ended_at: None,
        last_seq: 0,
        summary: None,
        request: r#"{"prompt":"none"}"#.to_owned(),
        state: "{}".to_owned(),
        metadata: None,
    };
    ledger.commit(Some(run), vec![Op::InsertRun(Box::new(row))]).await?;
    Ok((run, session))
}

fn events(run: RunId, first: u64, count: u64) -> Op {
    let data = format!(r#"{{"text":"{}"}}"#, "x".repeat(DATA - 11));
    let event = |seq| EventRow { run, seq, ts: Millis(1_795_000_000_000), kind: "command_output".to_owned(), data: data.clone() };
    Op::AppendEvents((first..first + count).map(event).collect())
}

fn update(run: RunId, last_seq: u64) -> Op {
    Op::UpdateRun(Box::new(RunUpdate {
        id: run,
        life: 1,
        status: "running".to_owned(),
        started_at: Some(Millis(1_795_000_000_000)),
        ended_at: None,
        last_seq,
        summary: Some("at work".to_owned()),
        state: None,
    }))
}

fn fsyncs(path: &Utf8PathBuf) -> Result<Duration> {
    let mut file = std::fs::File::create(path)?;
    let mut times = Vec::with_capacity(SINGLES);
    for _ in 0..SINGLES {
        let start = Instant::now();
        file.write_all(&[0u8; 4096])?;
        file.sync_all()?;
        times.push(start.elapsed());
    }
    Ok(median(&mut times))
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
