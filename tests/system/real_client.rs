//! Real MCP clients, from their registries, against the built program.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::fetched;
use crate::host::{Ended, FALCONER, Host};

/// The environment that `falconer` is given, on a command that starts it indirectly.
fn over(host: &Host, program: &std::path::Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().current_dir(host.work()).stdin(Stdio::null());
    for (name, value) in host.command(&[]).get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    command
}

fn python(mode: &str) {
    let Some(python) = fetched::python("Python's MCP client") else { return };
    let host = Host::usual();
    let mut command = over(&host, &python);
    command.arg(fetched::of_tests("python/client.py")).arg(mode).arg(host.work()).args([FALCONER, "mcp"]);
    let ended = Ended::of(command.output().unwrap());
    assert_eq!(ended.code, Some(0), "mode {mode}\n{}\n{}", ended.out, ended.err);
    assert!(ended.out.lines().last().is_some_and(|line| line.starts_with("list: ")), "{}", ended.out);
}

#[test]
fn pythons_client_in_the_older_era() {
    python("legacy");
}

#[test]
fn pythons_client_that_finds_out() {
    python("auto");
}

#[test]
fn pythons_client_in_the_era_of_2026() {
    python("2026-07-28");
}

#[test]
fn claude_as_a_client_spawns_a_run_and_waits_for_it() {
    let test = "claude as MCP client";
    let (Some(claude), Some(python)) = (fetched::claude(test), fetched::plain_python(test)) else { return };
    let host = Host::usual();
    let mut request = host.exec(json!({ "program": "sh", "args": ["-c", "echo caught a mouse"] }));
    request["name"] = json!("falcon");
    let calls: Value = json!([
        ["list_backends", {}, "hostile"],
        ["spawn_run", request, "run_"],
        ["wait_runs", { "run_ids": ["falcon"], "wait_ms": 30_000 }, "completed"],
        ["get_run", { "run_id": "falcon" }, "caught a mouse"],
        ["get_run", { "run_id": "sparrow" }, "unknown_run"],
    ]);
    let mut command = over(&host, &python);
    command.arg(fetched::of_tests("fixtures/claude_client.py")).arg(claude).arg(calls.to_string()).args([FALCONER, "mcp"]);
    let ended = Ended::of(command.output().unwrap());
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.out, ended.err);
    // claude kills its server as soon as it is through; the run is in the daemon's hands and is still there.
    assert_eq!(host.client().get("falcon")["status"], "completed");
}
