//! What an earlier host left behind: its shims, which kill their trees by themselves, what those could not, and what
//! carries the mark of a run. All of it is ended, and what is known then is said for each run.
//!
//! A record that tells of its end proves its tree empty, and so does a boot that is over. Where a shim was killed
//! together with its host, nothing can be proven, though its cgroup may be empty: a process can leave it; nor where a record
//! cannot be read. What was ended here is noted in the records, so that it is known also to a host that comes later.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::runtime::Handle;

use super::carriers::{self, Carrier};
use super::cgroup::Group;
use super::pidfd::Process;
use super::proc::Stat;
use super::records::{self, Cleared, Killed, Record, Records};
use super::shim::report::NAMED;
use super::{Ground, Seen, Verdict, control, proc, walk};
use crate::id::RunId;

/// Between two looks at what does not end.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// A shim that has not ended its tree after so long is helped from outside.
const SHIM_TIME: Duration = Duration::from_millis(1_000);
/// A shim that has nothing below it and does not end after so long is killed: nobody will ever hear of it.
const SHIM_END: Duration = Duration::from_millis(2_000);

/// What was left of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// What was killed, by its shims or by us; at most [`NAMED`] are named.
    pub killed: Vec<Seen>,
    /// How many.
    pub killed_total: u64,
    /// What is known now.
    pub verdict: Verdict,
}

impl Left {
    /// The run had a process, and there is no record of one: what is not known is not proven.
    pub fn miss_records(&mut self) {
        if self.verdict == Verdict::Never {
            let reason = "it started a command, and its records are gone: whether anything of it lives cannot be found out".into();
            self.verdict = Verdict::Unverified { reason, survivors: Vec::new() };
        }
    }
}

/// How a process of a run was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// It is the shim of one of the run's children, or lives below one.
    Shim,
    /// It is a member of the run's cgroup.
    Cgroup,
    /// It has the run's mark in its environment.
    Mark,
}

/// A process of a run that lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Living {
    /// Its id.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// It is a shim.
    pub is_shim: bool,
    /// How it was found.
    pub by: BTreeSet<By>,
    stat: Stat,
}

impl Living {
    /// For how long it has been there.
    #[must_use]
    pub fn age(&self) -> Duration {
        let ticks = proc::ticks_now().saturating_sub(self.stat.start);
        Duration::from_millis(ticks.saturating_mul(1_000) / rustix::param::clock_ticks_per_second().max(1))
    }

    /// Its arguments, as it shows them; empty where it shows none. Anything may be in it.
    #[must_use]
    pub fn command(&self) -> String {
        let line = std::fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        words.join(" ").trim_end().to_owned()
    }

    /// The process above it.
    #[must_use]
    pub fn parent(&self) -> u32 {
        self.stat.parent
    }

    fn seen(&self) -> Seen {
        Seen { pid: self.pid, name: self.name.clone() }
    }
}

/// What lives of some runs.
type Survey = BTreeMap<RunId, BTreeMap<u32, Living>>;

/// Looks at these runs and changes nothing: what lives of each, and what is known of it. Blocks for some milliseconds.
#[must_use]
pub fn examine(ground: &Ground, runs: &[RunId], carriers: &[Carrier]) -> BTreeMap<RunId, (Vec<Living>, Left)> {
    let papers: BTreeMap<RunId, Records> = runs.iter().map(|run| (*run, records::of(ground, *run))).collect();
    let mut survey = survey(Some(ground), &papers, carriers);
    papers
        .iter()
        .map(|(run, records)| {
            let living = survey.remove(run).unwrap_or_default();
            let left = judge(ground, records, &living, &BTreeMap::new());
            (*run, (living.into_values().collect(), left))
        })
        .collect()
}

/// What lives of these runs, by what its processes say; records are not read.
#[must_use]
pub fn living(runs: &[RunId], carriers: &[Carrier]) -> BTreeMap<RunId, Vec<Living>> {
    let papers = runs.iter().map(|run| (*run, Records::default())).collect();
    let found = |(run, living): (RunId, BTreeMap<u32, Living>)| (run, living.into_values().collect());
    survey(None, &papers, carriers).into_iter().map(found).collect()
}

/// Ends what is left of these runs, and says what is known of each.
pub async fn end_leftovers(ground: &Ground, runs: &[RunId], within: Duration) -> BTreeMap<RunId, Left> {
    let wanted: Arc<BTreeSet<RunId>> = Arc::new(runs.iter().copied().collect());
    let mut killed: BTreeMap<RunId, BTreeMap<u32, String>> = BTreeMap::new();
    let begun = Instant::now();
    loop {
        let (ground, wanted) = (ground.clone(), Arc::clone(&wanted));
        let patience = begun.elapsed();
        let Ok((found, nothing)) = control(&Handle::current(), move || round(&ground, &wanted, patience)).await else { break };
        for (run, seen) in found {
            killed.entry(run).or_default().insert(seen.pid, seen.name);
        }
        if nothing || begun.elapsed() >= within {
            break;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    let ground = ground.clone();
    control(&Handle::current(), move || {
        let papers: BTreeMap<RunId, Records> = wanted.iter().map(|run| (*run, records::of(&ground, *run))).collect();
        let survey = survey(Some(&ground), &papers, &carriers::all());
        let (none, nobody) = (BTreeMap::new(), BTreeMap::new());
        let conclude = |(run, records): (&RunId, &Records)| {
            let ours = killed.get(run).unwrap_or(&nobody);
            let left = judge(&ground, records, survey.get(run).unwrap_or(&none), ours);
            note(records, ours, &left);
            (*run, left)
        };
        papers.iter().map(conclude).collect()
    })
    .await
    .unwrap_or_default()
}

/// Takes away the records and the groups of a run that is judged.
pub fn forget(ground: &Ground, run: RunId) {
    for record in records::of(ground, run).list {
        record.begun.limits.iter().for_each(|dir| Group::forget_v1(dir));
        if let Some(group) = record.group(ground) {
            let _ = group.remove();
            // The run's own, which holds its children's.
            if let Some(parent) = group.dir().parent() {
                let _ = std::fs::remove_dir(parent);
            }
        }
    }
    let _ = std::fs::remove_dir_all(records::dir(ground, run));
}

/// What lives of these runs; without a ground, groups are not looked at.
fn survey(ground: Option<&Ground>, papers: &BTreeMap<RunId, Records>, carriers: &[Carrier]) -> Survey {
    let me = std::process::id();
    let mut survey = Survey::new();
    let mut add = |run: RunId, stat: &Stat, is_shim: bool, by: By| {
        if stat.pid == me || !papers.contains_key(&run) {
            return;
        }
        let living = survey.entry(run).or_default().entry(stat.pid).or_insert_with(|| Living {
            pid: stat.pid,
            name: stat.name.clone(),
            is_shim: false,
            by: BTreeSet::new(),
            stat: stat.clone(),
        });
        living.is_shim |= is_shim;
        living.by.insert(by);
    };
    for carrier in carriers {
        add(carrier.run, &carrier.stat, carrier.is_shim, if carrier.is_shim { By::Shim } else { By::Mark });
        if carrier.is_shim && papers.contains_key(&carrier.run) {
            for stat in walk::below(&[carrier.stat.pid]) {
                add(carrier.run, &stat, false, By::Shim);
            }
        }
    }
    for (run, records) in papers {
        let groups = ground.into_iter().flat_map(|ground| records.list.iter().filter_map(|record| record.group(ground)));
        for stat in groups.flat_map(|group| group.members()) {
            add(*run, &stat, false, By::Cgroup);
        }
    }
    survey
}

/// Kills what is found of these runs, or has their shims do it; what was killed, and whether nothing was found.
fn round(ground: &Ground, runs: &BTreeSet<RunId>, patience: Duration) -> (Vec<(RunId, Seen)>, bool) {
    let carriers = carriers::all();
    let papers: BTreeMap<RunId, Records> = runs.iter().map(|run| (*run, records::of(ground, *run))).collect();
    let survey = survey(Some(ground), &papers, &carriers);
    let mut killed = Vec::new();
    let groups = papers.values().flat_map(|records| &records.list).filter_map(|record| record.group(ground));
    let populated: Vec<Group> = groups.filter(|group| group.is_populated().unwrap_or(false)).collect();
    for group in &populated {
        if let Err(error) = group.kill() {
            tracing::debug!(group = %group.dir().display(), %error, "a cgroup of an earlier host cannot be killed");
        }
    }
    for (run, living) in &survey {
        let only_shims = living.values().all(|process| process.is_shim);
        for process in living.values() {
            if process.is_shim {
                wake(process, only_shims && patience >= SHIM_END);
            } else if process.by.iter().any(|by| *by != By::Shim) || patience >= SHIM_TIME {
                // What is in a group is gone with it; it was there to be killed all the same.
                let held = Process::found(&process.stat, |_| true);
                let ended = held.map_or(process.by.contains(&By::Cgroup), |held| held.signal(Signal::KILL).is_ok());
                if ended {
                    killed.push((*run, process.seen()));
                }
            }
        }
    }
    (killed, survey.is_empty() && populated.is_empty())
}

/// A shim that was stopped goes on, sees that its host is lost, and ends its tree.
fn wake(shim: &Living, for_ever: bool) {
    let still = |now: &Stat| carriers::of(now).is_some_and(|now| now.is_shim);
    let Some(process) = Process::found(&shim.stat, still) else { return };
    let _ = process.signal(if for_ever { Signal::KILL } else { Signal::CONT });
}

/// What is known of a run.
fn judge(ground: &Ground, records: &Records, living: &BTreeMap<u32, Living>, ours: &BTreeMap<u32, String>) -> Left {
    let ended = || records.list.iter().filter_map(|record| record.ended.as_ref());
    let mut killed: Vec<Seen> = ended().flat_map(|ended| ended.killed.iter().cloned()).collect();
    let mut killed_total: u64 = ended().map(|ended| ended.killed_total).sum();
    // Lists that are cut short may leave out what both have killed.
    let all_named = killed.len() as u64 == killed_total;
    let by_others = killed_by_others(records);
    let here = ours.iter().map(|(pid, name)| Seen { pid: *pid, name: name.clone() });
    let named: BTreeSet<u32> = killed.iter().map(|seen| seen.pid).collect();
    let more: Vec<Seen> =
        by_others.into_iter().chain(here).filter(|seen| !named.contains(&seen.pid)).collect::<BTreeSet<_>>().into_iter().collect();
    let more_total = (more.len() as u64).max(total_by_others(records));
    killed_total = if all_named { killed_total + more_total } else { killed_total.max(more_total) };
    killed.extend(more);
    killed.sort();
    killed.dedup();
    killed.truncate(NAMED);
    Left { verdict: verdict(ground, records, living, !killed.is_empty()), killed, killed_total }
}

fn verdict(ground: &Ground, records: &Records, living: &BTreeMap<u32, Living>, some_killed: bool) -> Verdict {
    let unverified = |reason: String| {
        // A shim is named where nothing else is.
        let processes: Vec<Seen> = living.values().filter(|process| !process.is_shim).map(Living::seen).collect();
        let survivors = if processes.is_empty() { living.values().map(Living::seen).collect() } else { processes };
        Verdict::Unverified { reason, survivors: survivors.into_iter().take(NAMED).collect() }
    };
    if !living.is_empty() {
        let processes = living.values().filter(|process| !process.is_shim).count();
        return unverified(match processes {
            0 => "a shim has not said that its tree is empty, though nothing of it can be seen".into(),
            count => format!("{count} of its processes still live"),
        });
    }
    if let Some(why) = records.unreadable.first() {
        return unverified(format!("a record of it cannot be read: {why}"));
    }
    if records.list.is_empty() {
        return if some_killed { unverified("its records are gone: what left it unmarked cannot be found".into()) } else { Verdict::Never };
    }
    let mut by: BTreeSet<&str> = BTreeSet::new();
    for record in &records.list {
        match (how(ground, record), records.cleared()) {
            (Err(why), _) => return unverified(why),
            (Ok(how), _) if !how.is_empty() => by.extend(how),
            // Noted of the whole run, by whoever looked.
            (Ok(_), Some(cleared)) => by.extend(cleared.by.iter().map(String::as_str)),
            (Ok(_), None) => {
                return unverified(format!(
                    "the host and the shim of {} were both killed: nothing of it can be seen, but what left its cgroup and cleared its environment \
                     could not be",
                    record.begun.program
                ));
            }
        }
    }
    by.insert("scan");
    let known = ["boot", "cgroup", "walk", "scan"];
    Verdict::Empty(known.into_iter().filter(|how| by.contains(how)).map(str::to_owned).collect())
}

/// How it is known that the tree of a record is empty; nothing: it is not known. The error: what speaks against it.
fn how(ground: &Ground, record: &Record) -> Result<Vec<&'static str>, String> {
    if record.is_of_another_boot(ground) {
        return Ok(vec!["boot"]);
    }
    let mut how = Vec::new();
    match record.group(ground).map(|group| group.is_populated()) {
        Some(Ok(true)) => return Err("its cgroup is not empty, though nothing of it can be seen".into()),
        Some(Ok(false)) => how.push("cgroup"),
        Some(Err(_)) | None => {}
    }
    // Its shim had no child any more; or there was none that could have started anything.
    if record.ended.is_some() || (record.shim.is_none() && record.is_bare) {
        how.push("walk");
        return Ok(how);
    }
    // An empty cgroup alone proves little: a process may leave it, where it may write to another.
    Ok(Vec::new())
}

/// What was noted as killed, by whoever ended something of it from outside.
fn killed_by_others(records: &Records) -> BTreeSet<Seen> {
    let cleared = records.cleared().into_iter().flat_map(|cleared| &cleared.killed);
    cleared.chain(&records.killed.killed).cloned().collect()
}

fn total_by_others(records: &Records) -> u64 {
    records.cleared().map_or(0, |cleared| cleared.killed_total).max(records.killed.killed_total)
}

/// Leaves word of what was ended here, for a host that comes later: always of what was killed, and of the proof where
/// there is one.
fn note(records: &Records, ours: &BTreeMap<u32, String>, left: &Left) {
    if ours.is_empty() {
        return;
    }
    let told: BTreeSet<u32> =
        records.list.iter().filter_map(|record| record.ended.as_ref()).flat_map(|ended| &ended.killed).map(|seen| seen.pid).collect();
    let earlier = killed_by_others(records);
    let here: BTreeSet<Seen> = ours
        .iter()
        .map(|(pid, name)| Seen { pid: *pid, name: name.clone() })
        .filter(|seen| !told.contains(&seen.pid) && !earlier.contains(seen))
        .collect();
    let killed_total = total_by_others(records).max(earlier.len() as u64) + here.len() as u64;
    let killed: Vec<Seen> = here.into_iter().chain(earlier).take(NAMED).collect::<BTreeSet<_>>().into_iter().collect();
    if killed.is_empty() {
        return;
    }
    let noted = records.note_killed(&Killed { killed: killed.clone(), killed_total }).and_then(|()| match &left.verdict {
        Verdict::Empty(by) => records.note(&Cleared { by: by.clone(), killed, killed_total }),
        Verdict::Never | Verdict::Unverified { .. } => Ok(()),
    });
    if let Err(error) = noted {
        tracing::debug!(%error, "what was ended of a run could not be noted");
    }
}

#[cfg(test)]
mod tests;
