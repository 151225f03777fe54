//! What an earlier host left behind: its shims, which kill their trees by themselves, what those could not, and what
//! carries the mark of a run. All of it is ended, and what is known then is said for each run.
//!
//! A record that tells of its end proves its tree empty, and so does a boot that is over, or an empty cgroup. Where a
//! shim was killed together with its host, and there was no cgroup, nothing can be proven.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::runtime::Handle;

use super::cgroup::Group;
use super::pidfd::Process;
use super::proc::Stat;
use super::records::{self, Record};
use super::{Ground, Seen, Verdict, control, proc, shim, walk};
use crate::id::RunId;

/// Between two looks at what does not end.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// A shim that has not ended its tree after so long is helped from outside.
const SHIM_TIME: Duration = Duration::from_millis(1_000);

/// What was left of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// What was killed, by its shims or by us.
    pub killed: Vec<Seen>,
    /// How many.
    pub killed_total: u64,
    /// What is known now.
    pub verdict: Verdict,
}

/// Ends what is left of these runs, and says what is known of each.
pub async fn end_leftovers(ground: &Ground, runs: &[RunId], within: Duration) -> BTreeMap<RunId, Left> {
    let end = Instant::now() + within;
    let wanted: Arc<[RunId]> = runs.into();
    let mut killed: BTreeMap<RunId, BTreeMap<u32, String>> = BTreeMap::new();
    let begun = Instant::now();
    loop {
        let (ground, wanted) = (ground.clone(), Arc::clone(&wanted));
        let impatient = begun.elapsed() >= SHIM_TIME;
        let Ok((found, waits)) = control(&Handle::current(), move || round(&ground, &wanted, impatient)).await else { break };
        let nothing = found.is_empty() && !waits;
        for (run, seen) in found {
            killed.entry(run).or_default().insert(seen.pid, seen.name);
        }
        if nothing || Instant::now() >= end {
            break;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    let judge =
        |(ground, wanted): (Ground, Arc<[RunId]>)| move || wanted.iter().map(|run| (*run, judge(&ground, *run))).collect::<Vec<_>>();
    let verdicts = control(&Handle::current(), judge((ground.clone(), wanted))).await.unwrap_or_default();
    verdicts
        .into_iter()
        .map(|(run, (mut by_shims, total, verdict))| {
            let ours = killed.remove(&run).unwrap_or_default();
            let total = total + ours.len() as u64;
            by_shims.extend(ours.into_iter().map(|(pid, name)| Seen { pid, name }));
            by_shims.sort();
            by_shims.dedup();
            by_shims.truncate(shim::report::NAMED);
            (run, Left { killed: by_shims, killed_total: total, verdict })
        })
        .collect()
}

/// Takes away the records and the groups of a run that is judged.
pub fn forget(ground: &Ground, run: RunId) {
    for record in records::of(ground, run) {
        record.begun.limits.iter().for_each(|dir| Group::forget_v1(dir));
        if let Some(group) = record.begun.cgroup.as_deref().and_then(Group::recorded) {
            let _ = group.remove();
            // The run's own, which holds its children's.
            if let Some(parent) = group.dir().parent().filter(|parent| parent.ends_with(run.to_string())) {
                let _ = std::fs::remove_dir(parent);
            }
        }
    }
    let _ = std::fs::remove_dir_all(records::dir(ground, run));
}

/// Kills what is found of these runs; what was found, and whether a shim is still at work.
fn round(ground: &Ground, runs: &[RunId], impatient: bool) -> (Vec<(RunId, Seen)>, bool) {
    let mut found = Vec::new();
    let mut waits = false;
    let all = proc::all();
    for run in runs {
        let shims: Vec<&Stat> = all.iter().filter(|stat| stat.lives() && is_shim_of(stat.pid, *run)).collect();
        waits |= !shims.is_empty();
        for stat in &shims {
            let Some(process) = Process::found(stat, |now| is_shim_of(now.pid, *run)) else { continue };
            let _ = process.signal(Signal::CONT);
            if impatient {
                let below = walk::below(&[stat.pid]);
                found.extend(kill(&below).into_iter().map(|seen| (*run, seen)));
                if below.is_empty() {
                    let _ = process.signal(Signal::KILL);
                }
            }
        }
        for record in records::of(ground, *run).iter().filter(|record| !record.is_of_another_boot(ground)) {
            let Some(group) = record.begun.cgroup.as_deref().and_then(Group::recorded) else { continue };
            let members = group.members();
            if !members.is_empty() {
                let _ = group.kill();
                found.extend(members.iter().map(|stat| (*run, Seen { pid: stat.pid, name: stat.name.clone() })));
            }
        }
    }
    found.extend(kill_marked_once(&all, runs));
    (found, waits)
}

/// What is known of a run.
fn judge(ground: &Ground, run: RunId) -> (Vec<Seen>, u64, Verdict) {
    let records = records::of(ground, run);
    let mut killed = Vec::new();
    let mut total = 0;
    let mut by: Vec<&str> = Vec::new();
    let mut open = Vec::new();
    for record in &records {
        if let Some(ended) = &record.ended {
            killed.extend(ended.killed.iter().cloned());
            total += ended.killed_total;
        }
        match how(ground, record) {
            Some(how) if !by.contains(&how) => by.push(how),
            Some(_) => {}
            None => open.push(record),
        }
    }
    let survivors: Vec<Seen> = survivors(ground, run, &records);
    let verdict = if !survivors.is_empty() {
        Verdict::Unverified { reason: format!("{} of its processes still live", survivors.len()), survivors }
    } else if let Some(record) = open.first() {
        let reason = format!(
            "the host and the shim of {} were both killed, and there was no cgroup: what left it unmarked cannot be found",
            record.begun.program
        );
        Verdict::Unverified { reason, survivors }
    } else if records.is_empty() {
        Verdict::Never
    } else {
        by.push("scan");
        Verdict::Empty(by.into_iter().map(str::to_owned).collect())
    };
    (killed, total, verdict)
}

/// How it is known that the tree of a record is empty.
fn how(ground: &Ground, record: &Record) -> Option<&'static str> {
    if record.is_of_another_boot(ground) {
        return Some("boot");
    }
    // Its shim had no child any more; or it came to start nothing.
    if record.ended.is_some() || record.shim.is_none() {
        return Some("walk");
    }
    let group = record.begun.cgroup.as_deref().and_then(Group::recorded)?;
    group.is_populated().is_ok_and(|populated| !populated).then_some("cgroup")
}

fn survivors(ground: &Ground, run: RunId, records: &[Record]) -> Vec<Seen> {
    let all = proc::all();
    let marked = all.iter().filter(|stat| is_ours_of(stat, &[run]).is_some()).cloned();
    let shims: Vec<u32> = all.iter().filter(|stat| stat.lives() && is_shim_of(stat.pid, run)).map(|stat| stat.pid).collect();
    let grouped = records
        .iter()
        .filter(|record| !record.is_of_another_boot(ground))
        .filter_map(|record| Group::recorded(record.begun.cgroup.as_deref()?))
        .flat_map(|group| group.members());
    let mut left: Vec<Seen> =
        marked.chain(walk::below(&shims)).chain(grouped).map(|stat| Seen { pid: stat.pid, name: stat.name }).collect();
    left.sort();
    left.dedup();
    left
}

/// Kills what carries the mark of these runs, round by round until a scan finds none or the time is over; what was found.
pub async fn kill_marked(runs: &[RunId], within: Duration) -> Vec<(RunId, Seen)> {
    let end = Instant::now() + within;
    let mut killed = BTreeMap::new();
    while !runs.is_empty() {
        let wanted = runs.to_vec();
        let Ok(found) = control(&Handle::current(), move || kill_marked_once(&proc::all(), &wanted)).await else { break };
        if found.is_empty() {
            break;
        }
        killed.extend(found.into_iter().map(|(run, seen)| (seen.pid, (run, seen))));
        if Instant::now() >= end {
            break;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    killed.into_values().collect()
}

fn kill_marked_once(all: &[Stat], runs: &[RunId]) -> Vec<(RunId, Seen)> {
    let mut found = Vec::new();
    for stat in all {
        let Some(run) = is_ours_of(stat, runs) else { continue };
        if let Some(process) = Process::found(stat, |now| proc::mark(now.pid) == Some(run)) {
            let _ = process.signal(Signal::KILL);
            found.push((run, process.seen()));
        }
    }
    found
}

/// The one of these runs whose mark a living process of ours carries.
fn is_ours_of(stat: &Stat, runs: &[RunId]) -> Option<RunId> {
    if !stat.lives() || stat.pid == std::process::id() || !proc::is_ours(stat.pid) {
        return None;
    }
    proc::mark(stat.pid).filter(|run| runs.contains(run))
}

/// Kills these; what was there to be killed.
fn kill(found: &[Stat]) -> Vec<Seen> {
    found
        .iter()
        .filter_map(|stat| {
            let process = Process::found(stat, |_| true)?;
            process.signal(Signal::KILL).ok().map(|()| process.seen())
        })
        .collect()
}

/// Whether this process is a shim of this run: by its arguments, and its name.
fn is_shim_of(pid: u32, run: RunId) -> bool {
    let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let mut args = line.split(|byte| *byte == 0).skip(1);
    args.next() == Some(shim::COMMAND.as_bytes()) && args.next() == Some(run.to_string().as_bytes()) && proc::is_ours(pid)
}
