//! What was found, for people and for programs. Names and command lines are anybody's: they are cut and made inert.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Found, Holder, Orphan, Others, Whose, named};
use crate::cli::{put, show};
use crate::run::receipt::Proof;
use crate::tree::{By, Living, Seen, Verdict};

/// Letters of a command line that are shown.
const COMMAND: usize = 100;
/// Processes of one run that are shown to people; JSON has all.
const SHOWN: usize = 20;

fn command(process: &Living) -> String {
    let text: String = show::inert(&process.command()).chars().map(|letter| if letter.is_whitespace() { ' ' } else { letter }).collect();
    let mut short: String = text.chars().take(COMMAND).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

const fn word(by: By) -> &'static str {
    match by {
        By::Shim => "shim",
        By::Cgroup => "cgroup",
        By::Mark => "mark",
    }
}

/// How a run is known: by what lives of it, by its records, by the ledger.
fn found_by(orphan: &Orphan) -> Vec<&'static str> {
    let living: BTreeSet<&str> = orphan.living.iter().flat_map(|process| process.by.iter().map(|by| word(*by))).collect();
    let mut found: Vec<&str> = living.into_iter().collect();
    found.extend(orphan.open_record.then_some("record"));
    found.extend(orphan.is_unfinished().then_some("ledger"));
    found
}

fn proof(verdict: &Verdict) -> Proof {
    match verdict {
        Verdict::Never => Proof::NoProcesses,
        Verdict::Empty(by) => Proof::Empty { by: by.clone() },
        Verdict::Unverified { reason, .. } => Proof::Unverified { reason: reason.clone() },
    }
}

/// As a refusal names it.
pub fn living_named(process: &Living) -> String {
    format!("{} ({})", show::inert(&process.name), process.pid)
}

/// A process that lives.
pub fn process_json(process: &Living) -> Value {
    let by: Vec<_> = process.by.iter().map(|by| word(*by)).collect();
    json!({
        "pid": process.pid, "name": show::inert(&process.name), "command": command(process),
        "age_ms": u64::try_from(process.age().as_millis()).unwrap_or(u64::MAX), "shim": process.is_shim, "found_by": by,
    })
}

/// Everything, as one value.
pub fn as_json(found: &Found, well: bool) -> Value {
    let seen = |list: &[Seen]| list.iter().map(|seen| json!({ "pid": seen.pid, "name": show::inert(&seen.name) })).collect::<Vec<_>>();
    let run = |orphan: &Orphan| {
        let survivors: &[Seen] = match &orphan.left.verdict {
            Verdict::Unverified { survivors, .. } => survivors,
            Verdict::Never | Verdict::Empty(_) => &[],
        };
        json!({
            "run_id": orphan.run,
            "data_dir": orphan.data_dir.as_ref().unwrap_or(&found.data_dir),
            "backend": orphan.row.as_ref().map(|row| &row.backend),
            "status": orphan.row.as_ref().map(|row| &row.status),
            "found_by": found_by(orphan),
            "processes": orphan.living.iter().map(process_json).collect::<Vec<_>>(),
            "ended": orphan.ended,
            "killed": seen(&orphan.left.killed),
            "killed_total": orphan.left.killed_total,
            "survivors": seen(survivors),
            "proof": proof(&orphan.left.verdict),
            "records_removed": orphan.forgotten,
        })
    };
    let other = |others: &Others| {
        let (data_dir, why, holder) = match &others.whose {
            Whose::Held(dir, holder) => (Some(dir), "held", Some(json!({ "pid": holder.pid, "name": show::inert(&holder.name) }))),
            Whose::Anothers(dir) | Whose::Nobodys(dir) => (Some(dir), "another_host", None),
            Whose::Ours | Whose::Unknown => (None, "unknown", None),
        };
        let runs = others
            .runs
            .iter()
            .map(|(run, living)| json!({ "run_id": run, "processes": living.iter().map(process_json).collect::<Vec<_>>() }));
        json!({ "data_dir": data_dir.map(|dir| show::inert(dir.as_str())), "why": why, "holder": holder, "runs": runs.collect::<Vec<_>>() })
    };
    json!({
        "ok": well,
        "data_dir": found.data_dir,
        "daemon": if let Holder::Daemon(pid) = found.holder { json!({ "pid": pid, "runs_held": found.held }) } else { Value::Null },
        "locked_by_somebody": if found.holder == Holder::Somebody { json!({ "runs_held": found.held }) } else { Value::Null },
        "ledger_error": found.ledger,
        "runs": found.orphans.iter().map(run).collect::<Vec<_>>(),
        "others": found.others.iter().map(other).collect::<Vec<_>>(),
        "strangers": found.strangers.iter().map(|name| show::inert(name)).collect::<Vec<_>>(),
    })
}

/// The same, for people.
pub fn print(found: &Found, killed: bool) {
    let dir = &found.data_dir;
    match found.holder {
        Holder::Nobody => put(format_args!("{dir}: no daemon serves it")),
        Holder::Somebody => put(format_args!(
            "somebody holds the lock of {dir} (a daemon that starts or ends, or another of these commands): left to it: {}",
            count(found.held, "run")
        )),
        Holder::Daemon(pid) => {
            let pid = pid.map_or_else(String::new, |pid| format!(" (process {pid})"));
            put(format_args!("{dir}: a daemon{pid} serves it and holds {}: they are no orphans", count(found.held, "run")))
        }
    };
    if let Some(error) = &found.ledger {
        put(format_args!("  the ledger says nothing of them: {error}"));
    }
    for orphan in &found.orphans {
        print_orphan(orphan, killed);
    }
    for others in &found.others {
        print_others(others);
    }
    if !found.strangers.is_empty() {
        let names: Vec<_> = found.strangers.iter().take(SHOWN).map(|name| show::inert(name)).collect();
        put(format_args!("in {dir}/trees, and no record: {}", names.join(", ")));
    }
    let left: Vec<&Orphan> = found.orphans.iter().filter(|orphan| !orphan.is_proven()).collect();
    if left.is_empty() && !found.is_well() {
        put(format_args!("nothing else is left; look again when the lock is free"));
    } else if left.is_empty() {
        put(format_args!("nothing is left"));
    } else {
        let alive: usize = left.iter().map(|orphan| orphan.living.len()).sum();
        put(format_args!("{} left, {} alive", count(left.len(), "run"), count(alive, "process")));
    }
}

fn print_orphan(orphan: &Orphan, killed: bool) {
    let backend = orphan.row.as_ref().map_or_else(String::new, |row| format!(" {}", show::inert(&row.backend)));
    let status = orphan.row.as_ref().map_or("not in the ledger", |row| row.status.as_str());
    let found = found_by(orphan);
    let found = if found.is_empty() { String::new() } else { format!(", found by {}", found.join(", ")) };
    put(format_args!("{}{backend}: {status}{found}", orphan.run));
    if let Some(gone) = &orphan.data_dir {
        put(format_args!("  of {}, which is gone", show::inert(gone.as_str())));
    }
    print_processes(&orphan.living);
    let left = &orphan.left;
    if left.killed_total > 0 {
        let names: Vec<_> = left.killed.iter().take(SHOWN).map(named).collect();
        let more = if left.killed_total > names.len() as u64 { ", …" } else { "" };
        put(format_args!("  killed {}: {}{more}", left.killed_total, names.join(", ")));
    }
    match &left.verdict {
        Verdict::Never => put(format_args!("  nothing lives: it has no record of a process")),
        Verdict::Empty(by) => put(format_args!("  nothing lives, proven by {}", by.join(", "))),
        Verdict::Unverified { reason, .. } => put(format_args!("  not proven: {}", show::inert(reason))),
    };
    if orphan.around_us {
        put(format_args!("  hint: this command is a process of it; call it from outside"));
    } else if orphan.is_proven() && orphan.is_unfinished() {
        put(format_args!("  the daemon goes on with it, or writes its end, when it starts again"));
    } else if !orphan.is_proven() && orphan.living.is_empty() && orphan.has_records {
        let first = if orphan.is_unfinished() { "start the daemon once, which writes its end, and " } else { "" };
        put(format_args!(
            "  hint: nothing of it can be seen; it is proven when the machine is started again; or {first}look on the machine, and say so with \
             `falconer check --orphans --forget {}`",
            orphan.run
        ));
    } else if !orphan.is_proven() && !killed {
        put(format_args!("  hint: end it with `falconer check --orphans --kill`"));
    }
}

fn print_others(others: &Others) {
    let hint = match &others.whose {
        Whose::Anothers(dir) | Whose::Nobodys(dir) => {
            let dir = show::inert(dir.as_str());
            put(format_args!("of another host: {dir}"));
            format!("look there: falconer check --orphans --data-dir {dir}")
        }
        Whose::Held(dir, holder) => {
            put(format_args!("of another host: {}, which is gone, but {} is still above it", show::inert(dir.as_str()), named(holder)));
            format!("it ends with process {}", holder.pid)
        }
        Whose::Ours | Whose::Unknown => {
            put(format_args!("of unknown origin: no data directory, or more than one, is named"));
            "end it yourself where it is not wanted".to_owned()
        }
    };
    for (run, living) in &others.runs {
        put(format_args!("{run}"));
        print_processes(living);
    }
    put(format_args!("  hint: {hint}"));
}

fn print_processes(living: &[Living]) {
    for process in living.iter().take(SHOWN) {
        let by: Vec<_> = process.by.iter().map(|by| word(*by)).collect();
        put(format_args!(
            "  {:>7}  {:<15}  {:>9}  {:<16}  {}",
            process.pid,
            show::inert(&process.name),
            age(process.age().as_secs()),
            by.join(", "),
            command(process)
        ));
    }
    if living.len() > SHOWN {
        put(format_args!("  and {} more", living.len() - SHOWN));
    }
}

/// A time for people: its largest unit.
fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn count(number: usize, what: &str) -> String {
    let ending = match (number, what.ends_with('s')) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{number} {what}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_ages_are_for_people() {
        assert_eq!([count(1, "process"), count(2, "process"), count(0, "run")], ["1 process", "2 processes", "0 runs"]);
        assert_eq!([age(59), age(61), age(7_200), age(90_000)], ["59 s", "1 min", "2 h", "1 d"]);
    }
}
