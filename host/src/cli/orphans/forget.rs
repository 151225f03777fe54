//! `falconer check --orphans --forget RUN`: takes the records of a run away, on a person's word that nothing of it is left.
//!
//! It speaks for runs that have ended, and of which that cannot be proven. A run whose end is not written yet needs its
//! records for that: they are kept. What can be seen to live speaks against the person's word.

use std::process::ExitCode;

use camino::Utf8Path;
use serde_json::json;

use super::{Book, Config, Exit, Globals, Holder, ground_of, holder, is_unfinished, print};
use crate::cli::exit::report;
use crate::cli::put;
use crate::fault::{Fault, code};
use crate::id::RunId;
use crate::tree::carriers;
use crate::tree::{Living, examine, forget_leftovers, records};

/// Why the records stay, and what lives.
struct Refusal {
    fault: Fault,
    living: Vec<Living>,
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self { fault, living: Vec::new() }
    }
}

/// Takes them away, and says so.
pub fn forget(globals: &Globals, config: &Config, run: RunId) -> ExitCode {
    match try_forget(&config.data_dir, run) {
        Ok(()) => {
            if globals.json {
                put(format_args!("{}", json!({ "ok": true, "run_id": run, "records_removed": true })));
            } else {
                put(format_args!("the records of {run} are taken away; its session may be continued"));
            }
            Exit::Completed
        }
        Err(Refusal { fault, living }) => {
            if globals.json {
                let living: Vec<_> = living.iter().map(print::process_json).collect();
                put(format_args!(
                    "{}",
                    json!({ "ok": false, "run_id": run, "records_removed": false, "processes": living, "error": fault })
                ));
            }
            report(&fault)
        }
    }
    .into()
}

fn try_forget(dir: &Utf8Path, run: RunId) -> Result<(), Refusal> {
    let (holder, _lock) = holder(dir, true)?;
    let ground = ground_of(dir)?;
    if !records::runs(&ground).contains(&run) {
        let fault = Fault::new(code::INVALID_ARGUMENT, format!("there are no records of {run}"));
        return Err(fault.hint("`falconer check --orphans` shows what is left").into());
    }
    // What is left exits with 1, as a look does.
    let left = |message: String, hint: &'static str| Fault::new(code::STOP_UNVERIFIED, message).hint(hint);
    let book = Book::open(dir);
    if let Some(error) = &book.error {
        let fault = Fault::new(code::LEDGER_FAILED, format!("whether {run} has ended cannot be read: {error}"));
        return Err(fault.hint("its records are kept until that is known").into());
    }
    if book.row(run).as_ref().is_some_and(is_unfinished) {
        return Err(match holder {
            Holder::Daemon(_) => {
                left(format!("a daemon holds {run}, which has not ended"), "`falconer cancel RUN` stops it; then forget it")
            }
            Holder::Somebody => left(
                format!("{run} has not ended, and somebody holds the lock of {dir}"),
                "a daemon that starts writes the run's end; then forget it",
            ),
            Holder::Nobody => left(
                format!("the end of {run} is not written yet"),
                "start the daemon once (`falconer runs`): it writes the run's end; then forget it",
            ),
        }
        .into());
    }
    let living = examine(&ground, &[run], &carriers::all()).remove(&run).map(|(living, _)| living).unwrap_or_default();
    if !living.is_empty() {
        let names: Vec<String> = living.iter().map(print::living_named).collect();
        let fault = left(format!("processes of {run} live: {}", names.join(", ")), "`falconer check --orphans --kill` ends them");
        return Err(Refusal { fault, living });
    }
    forget_leftovers(&ground, run);
    Ok(())
}
