//! `falconer check --orphans`: what an earlier host left behind; with `--kill`, its end.
//!
//! An orphan is a run of this data directory that no daemon holds. It is known by its records, by the ledger, or by
//! processes that name this data directory. What belongs to another host is listed and never touched; what belongs to
//! a data directory that is gone, and to no host, is an orphan too. While something is ended, the lock of the data
//! directory is ours, so that no daemon starts into it.
//!
//! Exit codes: 0 nothing is left, or all of it was ended, proven; 1 something is left, or not proven; 2 the command line
//! or the configuration is wrong.

mod forget;
mod print;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use camino::{Utf8Path, Utf8PathBuf};

pub use self::forget::forget;
use super::exit::Exit;
use super::serve::{Taken, take_lock};
use super::{Globals, fail, put};
use crate::config::Config;
use crate::daemon::lock::Lock;
use crate::daemon::{DirFinding, LOCK_FILE, code, inspect_dir};
use crate::fault::Fault;
use crate::id::RunId;
use crate::ledger::{Glance, LedgerError, RunRow};
use crate::run::event::EventType;
use crate::run::proven_up_to;
use crate::run::status::Status;
use crate::tree::carriers::{self, Carrier};
use crate::tree::orphans::{self, Whose};
use crate::tree::{Ground, Left, Living, Seen, Verdict, end_leftovers, examine, forget_leftovers, living, mark_of, records};

/// All that was found.
struct Found {
    data_dir: Utf8PathBuf,
    holder: Holder,
    /// How many runs are in its hands.
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
    /// There are records of it here.
    has_records: bool,
    /// Its records were taken away.
    forgotten: bool,
}

impl Found {
    /// Nothing is left, or what is left is in the hands of a daemon.
    fn is_well(&self) -> bool {
        self.orphans.iter().all(Orphan::is_proven) && (self.holder != Holder::Somebody || self.held == 0)
    }
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
        self.row.as_ref().is_some_and(is_unfinished)
    }
}

fn is_unfinished(row: &RunRow) -> bool {
    Status::from_word(&row.status).is_none_or(|status| !status.is_terminal())
}

/// Looks, ends what is left where that is asked for, and says it.
pub async fn run(globals: &Globals, config: &Config, kill: bool) -> ExitCode {
    match find(config, kill).await {
        Ok(found) => {
            let well = found.is_well();
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

async fn find(config: &Config, kill: bool) -> Result<Found, Fault> {
    let dir = &config.data_dir;
    // Held to the end of this function.
    let (holder, _lock) = holder(dir, kill)?;
    let ground = ground_of(dir)?;
    // First what lives, then what is known of it: a run is in the ledger before it has a process.
    let carriers = carriers::all();
    let with_records = records::runs(&ground);
    let book = Book::open(dir);
    let mut runs: BTreeSet<RunId> = with_records.iter().chain(book.unfinished.keys()).copied().collect();
    let sorted = orphans::sort(&carriers, dir, LOCK_FILE, |run| runs.contains(&run) || book.row(run).is_some());
    runs.extend(sorted.iter().filter(|(_, whose)| **whose == Whose::Ours).map(|(run, _)| *run));
    // Whoever is there holds what has not ended; of what cannot be read, all.
    let all = runs.len();
    runs.retain(|run| holder == Holder::Nobody || (book.error.is_none() && !book.unfinished.contains_key(run)));
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
        end(&ground, &mut orphans, config, &book).await;
    }
    orphans.sort_by_key(|orphan| (orphan.is_proven(), orphan.run));
    Ok(Found {
        data_dir: dir.clone(),
        holder,
        held,
        ledger: book.error.map(|error| error.to_string()),
        orphans,
        others: others.into_iter().map(|(whose, runs)| Others { whose: whose.clone(), runs }).collect(),
        strangers: records::strangers(&ground),
    })
}

/// Who holds a data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    /// Nobody, or this command.
    Nobody,
    /// A daemon, by the number that it wrote there.
    Daemon(Option<u32>),
    /// Its lock is held, and nobody listens: a daemon that starts or ends, or another of these commands.
    Somebody,
}

/// Who holds the data directory; where nobody does and something is to be changed, it is us from now on. A look gives the
/// lock back at once; a start that meets it waits for that.
fn holder(dir: &Utf8Path, keep: bool) -> Result<(Holder, Option<Lock>), Fault> {
    let bad = |why: String| {
        Fault::new(code::BAD_DATA_DIR, format!("data directory {dir}: {why}")).hint("name another one with --data-dir or FALCONER_DATA_DIR")
    };
    match inspect_dir(dir) {
        DirFinding::Missing => return Ok((Holder::Nobody, None)),
        DirFinding::Unusable { reason } => return Err(bad(reason)),
        DirFinding::NotOurs { owner } if keep => return Err(bad(format!("it belongs to user {owner}, who can end what is left there"))),
        DirFinding::Private | DirFinding::Open { .. } | DirFinding::NotOurs { .. } => {}
    }
    if !keep && !dir.join(LOCK_FILE).exists() {
        // It never had an owner, and a look makes none.
        return Ok((Holder::Nobody, None));
    }
    Ok(match take_lock(dir).map_err(|error| bad(format!("{}: {error}", dir.join(LOCK_FILE))))? {
        Taken::Ours(lock) => (Holder::Nobody, keep.then_some(lock)),
        Taken::Daemon(pid) => (Holder::Daemon(pid), None),
        Taken::Somebody => (Holder::Somebody, None),
    })
}

/// `/proc` is read; nothing is changed.
fn ground_of(dir: &Utf8Path) -> Result<Ground, Fault> {
    Ground::of_another(dir).map_err(|error| Fault::new(crate::fault::code::INTERNAL, format!("/proc cannot be read: {error}")))
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

    /// A run that has not ended and had a process has records: where there are none, they are lost.
    fn doubt(&self, run: RunId, left: &mut Left) {
        let Some(ledger) = self.ledger.as_ref().filter(|_| left.verdict == Verdict::Never && self.unfinished.contains_key(&run)) else {
            return;
        };
        let words = EventType::OF_A_CHILD.map(EventType::word);
        let proven = self.unfinished.get(&run).map_or(0, proven_up_to);
        if ledger.events(run, proven, 1, u64::MAX, &words).is_ok_and(|events| events.is_empty()) {
            return;
        }
        left.miss_records();
    }
}

fn gather(ground: &Ground, gone: Option<&Utf8Path>, runs: &BTreeSet<RunId>, carriers: &[Carrier], book: &Book) -> Vec<Orphan> {
    let ours = mark_of(std::process::id());
    let runs: Vec<RunId> = runs.iter().copied().collect();
    let orphan = |(run, (living, mut left)): (RunId, (Vec<Living>, Left))| {
        book.doubt(run, &mut left);
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
            has_records: gone.is_none() && records::dir(ground, run).exists(),
            forgotten: false,
        }
    };
    examine(ground, &runs, carriers).into_iter().map(orphan).collect()
}

/// Ends them, and takes the records away of those that are proven and whose end is on disk.
async fn end(ground: &Ground, orphans: &mut [Orphan], config: &Config, book: &Book) {
    let within = config.stop.prove;
    // What is killed is to be known to the daemon that writes the run's end, also where its records are lost.
    for orphan in orphans.iter_mut().filter(|orphan| orphan.data_dir.is_none() && orphan.is_unfinished() && !orphan.living.is_empty()) {
        match records::keep(ground, orphan.run) {
            Ok(()) => orphan.has_records = true,
            Err(error) => tracing::warn!(run = %orphan.run, %error, "what is killed of a run cannot be noted"),
        }
    }
    let mut grounds: BTreeMap<Option<Utf8PathBuf>, Vec<RunId>> = BTreeMap::new();
    for orphan in orphans.iter().filter(|orphan| !orphan.is_proven() && !orphan.around_us) {
        grounds.entry(orphan.data_dir.clone()).or_default().push(orphan.run);
    }
    for (gone, runs) in grounds {
        let there = gone.as_deref().and_then(|gone| Ground::of_another(gone).ok());
        let there = there.as_ref().unwrap_or(ground);
        let mut left = end_leftovers(there, &runs, within).await;
        for orphan in orphans.iter_mut().filter(|orphan| orphan.data_dir == gone) {
            let Some(mut left) = left.remove(&orphan.run) else { continue };
            book.doubt(orphan.run, &mut left);
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
        let stray = book.error.is_none() && orphan.row.is_none() && orphan.data_dir.is_none();
        if orphan.is_proven() && (settled || stray) && records::dir(ground, orphan.run).exists() {
            forget_leftovers(ground, orphan.run);
            orphan.has_records = false;
            orphan.forgotten = true;
        }
    }
}

/// As a receipt names it.
fn named(seen: &Seen) -> String {
    format!("{} ({})", super::show::inert(&seen.name), seen.pid)
}
