//! `falconer check --orphans`: what an earlier host left behind; with `--kill`, its end.
//!
//! An orphan is a run of this data directory that no daemon holds. It is known by its records, by the ledger, or by
//! processes that name this data directory. What belongs to another host is listed and never touched; what belongs to
//! a data directory that is gone, and to no host, is an orphan too. While something is ended, the lock of the data
//! directory is ours, so that no daemon starts into it.
//!
//! Exit codes: 0 nothing is left, or all of it was ended, proven; 1 something is left, or not proven; 2 the command line
//! or the configuration is wrong.

mod print;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};

use super::exit::Exit;
use super::{Globals, fail, put};
use crate::config::Config;
use crate::daemon::lock::{self, Lock};
use crate::daemon::{DirFinding, LOCK_FILE, code, inspect_dir, socket};
use crate::fault::Fault;
use crate::id::RunId;
use crate::ledger::{Glance, LedgerError, RunRow};
use crate::run::status::Status;
use crate::tree::carriers::{self, Carrier};
use crate::tree::orphans::{self, Whose};
use crate::tree::{Ground, Left, Living, Seen, Verdict, end_leftovers, examine, forget_leftovers, living, mark_of, records};

/// How long the owner of a lock may take to end, where nobody listens.
const ENDING: Duration = Duration::from_secs(1);
/// Between two looks at such a lock.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// All that was found.
struct Found {
    data_dir: Utf8PathBuf,
    /// Somebody holds the lock: a daemon, by the number that it wrote there.
    daemon: Option<Option<u32>>,
    /// How many runs it holds.
    held: usize,
    /// Why the ledger does not say anything.
    ledger: Option<String>,
    orphans: Vec<Orphan>,
    others: Vec<Others>,
    /// What is among the records and is none.
    strangers: Vec<String>,
}

/// A run that nobody holds.
struct Orphan {
    run: RunId,
    /// Another one than this host's: it is gone.
    data_dir: Option<Utf8PathBuf>,
    row: Option<RunRow>,
    /// A record of it has no end.
    open_record: bool,
    living: Vec<Living>,
    left: Left,
    /// This command is a process of it.
    around_us: bool,
    /// It was ended here.
    ended: bool,
    /// Its records were taken away.
    forgotten: bool,
}

/// What belongs to another host.
struct Others {
    whose: Whose,
    runs: BTreeMap<RunId, Vec<Living>>,
}

impl Orphan {
    fn is_proven(&self) -> bool {
        self.living.is_empty() && !matches!(self.left.verdict, Verdict::Unverified { .. })
    }

    fn is_unfinished(&self) -> bool {
        self.row.as_ref().is_some_and(|row| Status::from_word(&row.status).is_none_or(|status| !status.is_terminal()))
    }
}

/// Looks, ends what is left where that is asked for, and says it.
pub async fn run(globals: &Globals, config: &Config, kill: bool) -> ExitCode {
    match find(config, kill).await {
        Ok(found) => {
            let well = found.orphans.iter().all(Orphan::is_proven);
            if globals.json {
                put(format_args!("{}", print::as_json(&found, well)));
            } else {
                print::print(&found, kill);
            }
            if well { Exit::Completed } else { Exit::Failed }.into()
        }
        Err(fault) => fail(&fault),
    }
}

/// Takes the records of a run away that nobody holds, on a person's word that nothing of it is left. What can be seen to live
/// speaks against it.
pub fn forget(config: &Config, run: RunId) -> ExitCode {
    match try_forget(&config.data_dir, run) {
        Ok(()) => {
            put(format_args!("the records of {run} are taken away; its session may be continued"));
            Exit::Completed.into()
        }
        Err(fault) => fail(&fault),
    }
}

fn try_forget(dir: &Utf8Path, run: RunId) -> Result<(), Fault> {
    let refused = |message: String, hint: &str| Err(Fault::new(crate::fault::code::INVALID_ARGUMENT, message).hint(hint.to_owned()));
    let (daemon, _lock) = owner(dir, true)?;
    let ground =
        Ground::of_another(dir).map_err(|error| Fault::new(crate::fault::code::INTERNAL, format!("/proc cannot be read: {error}")))?;
    let book = Book::open(dir);
    if daemon.is_some() && (book.error.is_some() || book.unfinished.contains_key(&run)) {
        return refused(format!("a daemon holds {run}"), "`falconer cancel RUN` stops it");
    }
    if !records::runs(&ground).contains(&run) {
        return refused(format!("there are no records of {run}"), "`falconer check --orphans` shows what is left");
    }
    let alive = examine(&ground, &[run], &carriers::all()).remove(&run).map(|(living, _)| living).unwrap_or_default();
    if !alive.is_empty() {
        let names: Vec<String> = alive.iter().map(|process| format!("{} ({})", process.name, process.pid)).collect();
        return refused(format!("processes of {run} live: {}", names.join(", ")), "`falconer check --orphans --kill` ends them");
    }
    forget_leftovers(&ground, run);
    Ok(())
}

async fn find(config: &Config, kill: bool) -> Result<Found, Fault> {
    let dir = &config.data_dir;
    // Held to the end of this function.
    let (daemon, _lock) = owner(dir, kill)?;
    let ground =
        Ground::of_another(dir).map_err(|error| Fault::new(crate::fault::code::INTERNAL, format!("/proc cannot be read: {error}")))?;
    // First what lives, then what is known of it: a run is in the ledger before it has a process.
    let carriers = carriers::all();
    let with_records = records::runs(&ground);
    let book = Book::open(dir);
    let mut runs: BTreeSet<RunId> = with_records.iter().chain(book.unfinished.keys()).copied().collect();
    let sorted = orphans::sort(&carriers, dir, LOCK_FILE, |run| runs.contains(&run) || book.row(run).is_some());
    runs.extend(sorted.iter().filter(|(_, whose)| **whose == Whose::Ours).map(|(run, _)| *run));
    // Where a daemon is there, it holds what has not ended; of what cannot be read, all.
    let all = runs.len();
    runs.retain(|run| daemon.is_none() || (book.error.is_none() && !book.unfinished.contains_key(run)));
    let held = all - runs.len();

    let mut orphans = gather(&ground, None, &runs, &carriers, &book);
    let mut others: BTreeMap<&Whose, BTreeMap<RunId, Vec<Living>>> = BTreeMap::new();
    for (run, whose) in sorted.iter().filter(|(_, whose)| **whose != Whose::Ours) {
        match whose {
            Whose::Nobodys(gone) => {
                let ground = Ground::of_another(gone).unwrap_or_else(|_| ground.clone());
                orphans.extend(gather(&ground, Some(gone), &BTreeSet::from([*run]), &carriers, &book));
            }
            _ => others.entry(whose).or_default().extend(living(&[*run], &carriers)),
        }
    }
    if kill {
        end(&ground, &mut orphans, config, book.error.is_none()).await;
    }
    orphans.sort_by_key(|orphan| (orphan.is_proven(), orphan.run));
    Ok(Found {
        data_dir: dir.clone(),
        daemon,
        held,
        ledger: book.error.map(|error| error.to_string()),
        orphans,
        others: others.into_iter().map(|(whose, runs)| Others { whose: whose.clone(), runs }).collect(),
        strangers: records::strangers(&ground),
    })
}

/// Who owns the data directory; where nobody does and something is to be ended, it is us from now on.
fn owner(dir: &Utf8Path, kill: bool) -> Result<(Option<Option<u32>>, Option<Lock>), Fault> {
    let bad = |why: String| {
        Fault::new(code::BAD_DATA_DIR, format!("data directory {dir}: {why}")).hint("name another one with --data-dir or FALCONER_DATA_DIR")
    };
    match inspect_dir(dir) {
        DirFinding::Missing => return Ok((None, None)),
        DirFinding::Unusable { reason } => return Err(bad(reason)),
        DirFinding::NotOurs { owner } if kill => return Err(bad(format!("it belongs to user {owner}, who can end what is left there"))),
        DirFinding::Private | DirFinding::Open { .. } | DirFinding::NotOurs { .. } => {}
    }
    let failed = |error: std::io::Error| bad(format!("{}: {error}", dir.join(LOCK_FILE)));
    if !kill && !dir.join(LOCK_FILE).exists() {
        // It never had an owner, and a look makes none.
        return Ok((None, None));
    }
    let begun = Instant::now();
    loop {
        if let Some(lock) = Lock::try_take(dir).map_err(failed)? {
            return Ok((None, kill.then_some(lock)));
        }
        // One that nobody can speak with is on its way up or down; a daemon that was killed holds it until its last thread is gone.
        if begun.elapsed() >= ENDING || socket::connect(dir).is_ok_and(|stream| stream.is_some()) {
            return Ok((Some(lock::last_owner(dir)), None));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// What the ledger says.
struct Book {
    ledger: Option<Glance>,
    unfinished: BTreeMap<RunId, RunRow>,
    error: Option<LedgerError>,
}

impl Book {
    fn open(dir: &Utf8Path) -> Self {
        let read = || {
            let ledger = Glance::open(dir)?;
            let rows = ledger.as_ref().map(Glance::unfinished).transpose()?.unwrap_or_default();
            Ok((ledger, rows))
        };
        match read() {
            Ok((ledger, rows)) => Self { ledger, unfinished: rows.into_iter().map(|row| (row.id, row)).collect(), error: None },
            Err(error) => Self { ledger: None, unfinished: BTreeMap::new(), error: Some(error) },
        }
    }

    fn row(&self, run: RunId) -> Option<RunRow> {
        self.unfinished.get(&run).cloned().or_else(|| self.ledger.as_ref()?.run(run).ok().flatten())
    }
}

fn gather(ground: &Ground, gone: Option<&Utf8Path>, runs: &BTreeSet<RunId>, carriers: &[Carrier], book: &Book) -> Vec<Orphan> {
    let ours = mark_of(std::process::id());
    let runs: Vec<RunId> = runs.iter().copied().collect();
    let orphan = |(run, (living, left)): (RunId, (Vec<Living>, Left))| {
        let open = |record: &records::Record| record.ended.is_none() && !record.is_of_another_boot(ground);
        let papers = records::of(ground, run);
        let open_record = papers.cleared().is_none() && papers.list.iter().any(open);
        Orphan {
            run,
            data_dir: gone.map(Utf8Path::to_owned),
            row: book.row(run),
            open_record,
            living,
            left,
            around_us: ours.contains(&run),
            ended: false,
            forgotten: false,
        }
    };
    examine(ground, &runs, carriers).into_iter().map(orphan).collect()
}

/// Ends them, and takes the records away of those that are proven and whose end is on disk. `told`: the ledger could be read.
async fn end(ground: &Ground, orphans: &mut [Orphan], config: &Config, told: bool) {
    let within = config.stop.prove;
    let mut grounds: BTreeMap<Option<Utf8PathBuf>, Vec<RunId>> = BTreeMap::new();
    for orphan in orphans.iter().filter(|orphan| !orphan.is_proven() && !orphan.around_us) {
        grounds.entry(orphan.data_dir.clone()).or_default().push(orphan.run);
    }
    for (gone, runs) in grounds {
        let there = gone.as_deref().and_then(|gone| Ground::of_another(gone).ok());
        let there = there.as_ref().unwrap_or(ground);
        let mut left = end_leftovers(there, &runs, within).await;
        for orphan in orphans.iter_mut().filter(|orphan| orphan.data_dir == gone) {
            let Some(left) = left.remove(&orphan.run) else { continue };
            orphan.ended = true;
            orphan.left = left;
        }
    }
    for orphan in orphans.iter_mut() {
        let alive = match &orphan.left.verdict {
            Verdict::Unverified { survivors, .. } => survivors.iter().map(|seen| seen.pid).collect(),
            Verdict::Never | Verdict::Empty(_) => BTreeSet::new(),
        };
        if orphan.ended {
            orphan.living.retain(|process| alive.contains(&process.pid));
        }
        // Where the run has not ended in the ledger, the next daemon writes its end by these records.
        let settled = orphan.row.is_some() && !orphan.is_unfinished();
        let stray = told && orphan.row.is_none() && orphan.data_dir.is_none();
        if orphan.is_proven() && (settled || stray) && records::dir(ground, orphan.run).exists() {
            forget_leftovers(ground, orphan.run);
            orphan.forgotten = true;
        }
    }
}

/// As a receipt names it.
fn named(seen: &Seen) -> String {
    format!("{} ({})", super::show::inert(&seen.name), seen.pid)
}
