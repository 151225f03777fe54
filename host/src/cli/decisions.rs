//! `falconer decisions`: what was allowed and what was refused, by which rule, to whom.
//!
//! For a person, who reads the ledger; no tool of the server shows it. It starts no daemon, and changes nothing.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::exit::{Exit, end};
use super::follow::closed;
use super::{Globals, fail_config, show};
use crate::config::Config;
use crate::fault::{Fault, code};
use crate::id::RunId;
use crate::ledger::{DecisionFilter, DecisionRow, Glance, LedgerError};

/// The longest rule, message or command that a table shows, in characters; JSON has all.
const SHOWN: usize = 160;

/// List decisions, newest first: calls that were taken or refused, and what backends were allowed or refused while they ran.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only what was refused.
    #[arg(long)]
    pub refused: bool,
    /// Only what is about this run, or was asked from inside it.
    #[arg(long, value_name = "run_…")]
    pub run: Option<RunId>,
    /// At most so many.
    #[arg(long, default_value_t = 50)]
    pub limit: u32,
}

/// The command.
pub fn run(globals: &Globals, args: &Args) -> ExitCode {
    let config = match globals.overrides().and_then(|overrides| Config::read(&overrides)) {
        Ok(config) => config,
        Err(errors) => return fail_config(&errors),
    };
    let filter = DecisionFilter { refused: args.refused, run: args.run, limit: args.limit };
    end(list(&config, &filter, globals.json))
}

fn list(config: &Config, filter: &DecisionFilter, as_json: bool) -> Result<Exit, Fault> {
    let unreadable = |error: LedgerError| {
        Fault::new(code::LEDGER_FAILED, format!("the ledger cannot be read: {error}")).hint("`falconer check` looks at the data directory")
    };
    let rows = match Glance::open(&config.data_dir).map_err(unreadable)? {
        Some(ledger) => ledger.decisions(filter).map_err(unreadable)?,
        None => Vec::new(),
    };
    let text = match (as_json, rows.is_empty()) {
        (true, _) => rows.iter().map(|row| format!("{}\n", as_value(row))).collect(),
        (false, true) => "no decisions\n".to_owned(),
        (false, false) => rows.iter().map(for_people).collect(),
    };
    show::print(&text).map_err(|error| closed(&error))?;
    Ok(Exit::Completed)
}

fn as_value(row: &DecisionRow) -> Value {
    let command = row.command.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
    json!({
        "n": row.n, "at": row.at, "caller": row.caller, "parent_run_id": row.parent, "run_id": row.run, "backend": row.backend,
        "target": row.target, "what": row.what, "outcome": outcome(row), "code": row.code, "rule": row.rule, "address": row.address,
        "command": command,
    })
}

const fn outcome(row: &DecisionRow) -> &'static str {
    if row.allowed { "allowed" } else { "refused" }
}

/// A decision in two or three lines: what, the rule, the command.
fn for_people(row: &DecisionRow) -> String {
    let line = |text: &str| show::line(text, SHOWN);
    let mut first = vec![row.at.to_string(), outcome(row).to_owned(), row.what.clone(), row.backend.clone()];
    first.extend(row.target.as_ref().map(|target| match &row.address {
        Some(address) => format!("on {target} ({address})"),
        None => format!("on {target}"),
    }));
    first.extend(row.run.map(|run| run.to_string()));
    first.push(format!("for {}", row.caller));
    first.extend(row.parent.map(|parent| format!("inside {parent}")));
    let mut text = format!("{}\n", show::inert(&first.join("  ")));
    let code = row.code.as_ref().map_or_else(String::new, |code| format!("{code}: "));
    text.push_str(&format!("  {code}{}\n", line(&row.rule)));
    if let Some(command) = &row.command {
        text.push_str(&format!("  {}\n", line(&words(command))));
    }
    text
}

/// The words of a command; of a list each as JSON has it, so that nobody takes two for one.
fn words(command: &str) -> String {
    let Ok(value) = serde_json::from_str::<Value>(command) else { return command.to_owned() };
    let list = |value: &Value| value.as_array().map(|args| args.iter().map(Value::to_string).collect::<Vec<_>>().join(" "));
    let mut text = match (&value["shell"], list(&value["args"]), value["program"].as_str()) {
        (Value::String(line), ..) => format!("shell: {line}"),
        (_, Some(args), Some(program)) => format!("{program} {args}"),
        (_, Some(args), None) => args,
        _ => return command.to_owned(),
    };
    if let Some(cwd) = value["cwd"].as_str() {
        text.push_str(&format!("  in {cwd}"));
    }
    if let Some(env) = list(&value["env"]).filter(|env| !env.is_empty()) {
        text.push_str(&format!("  with {env}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Millis;

    #[test]
    fn a_decision_reads_in_a_few_lines() {
        let row = DecisionRow {
            n: 7,
            at: Millis(0),
            caller: "a client 1".into(),
            parent: None,
            run: None,
            backend: "ssh".into(),
            target: Some("web-1".into()),
            what: "spawn_run".into(),
            allowed: false,
            code: Some("not_allowed".into()),
            rule: "no rule allows `id` on target `web-1`".into(),
            address: Some("203.0.113.7".into()),
            command: Some(r#"{"args":["id","a b"],"cwd":"/srv","env":["X"]}"#.into()),
        };
        let lines: Vec<String> = for_people(&row).lines().map(str::to_owned).collect();
        assert!(lines[0].ends_with("refused  spawn_run  ssh  on web-1 (203.0.113.7)  for a client 1"), "{}", lines[0]);
        assert_eq!(lines[1..], ["  not_allowed: no rule allows `id` on target `web-1`", r#"  "id" "a b"  in /srv  with "X""#]);
        assert_eq!(as_value(&row)["command"]["args"][1], "a b");
        assert_eq!(words(r#"{"shell":"df -h"}"#), "shell: df -h");
    }
}
