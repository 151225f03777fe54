//! One daemon a data directory, whoever starts it, and clients that come and go.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::client::{Client, Era};
use crate::host::{FALCONER, Host, USUAL};
use crate::patience::until;
use crate::processes::{Seen, listening_below, session_of, with_environment};

#[test]
fn ten_at_once_on_an_empty_data_directory_make_one_daemon() {
    let host = Host::usual();
    let clients: Vec<Client> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..10).map(|_| scope.spawn(|| host.client())).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    assert_eq!(listening_below(&host.data()).len(), 1);
    let run = clients[0].run(host.hostile(json!({ "mode": "echo" })));
    for client in &clients {
        assert_eq!(client.get(run["run_id"].as_str().unwrap())["status"], "completed", "all see the same runs");
    }
}

#[test]
fn a_run_outlives_its_client_and_the_next_one_sees_all_of_it() {
    let host = Host::usual();
    let client = host.client();
    let run = client.spawn(host.hostile(json!({ "mode": "tick", "every_ms": 10, "n": 200 })));
    client.event(&run, "a tick", |event| event["type"] == "native");
    client.kill();
    let client = host.client();
    let view = client.ended(&run);
    assert_eq!(view["status"], "completed", "{view}");
    assert_eq!(client.events(&run).iter().filter(|event| event["type"] == "native").count(), 200);
}

#[test]
fn the_pipe_ends_with_its_client_and_the_daemon_does_not() {
    let host = Host::usual();
    let mut client = host.client();
    let daemon = host.daemon().unwrap();
    assert!(client.close().success());
    assert!(daemon.lives());
    // A client that goes away in the middle of a long wait is no reason to stay either.
    let mut client = host.client();
    let run = client.spawn(host.hostile(json!({ "mode": "idle" })));
    client.until_status(&run, "running");
    std::thread::scope(|scope| {
        let wait = scope.spawn(|| client.request("ping", json!({})));
        wait.join().unwrap().unwrap();
    });
    client.close();
    assert_eq!(host.client().get(&run)["status"], "running");
}

#[test]
fn other_search_paths_and_xdg_variables_meet_in_one_daemon() {
    let host = Host::usual();
    let one = host.client();
    let run = one.spawn(host.hostile(json!({ "mode": "idle" })));
    let mut command = host.command(&["mcp"]);
    command.env("PATH", "/nowhere").env("XDG_DATA_HOME", host.path("xdg")).env("XDG_CONFIG_HOME", host.path("xdg"));
    command.env("XDG_RUNTIME_DIR", host.path("xdg")).env("XDG_STATE_HOME", host.path("xdg")).current_dir("/");
    let other = Client::start(command, Era::Modern);
    assert_eq!(other.get(&run)["run_id"], json!(run));
    assert_eq!(other.cancel(&run)["status"], "cancelled");
    assert!(!host.path("xdg").exists());
}

#[test]
fn another_configuration_is_an_error_that_says_so() {
    let host = Host::usual();
    let _client = host.client();
    host.configure(&USUAL.replace("children = 4", "children = 5"));
    let output = host.command(&["mcp"]).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("configuration") && said.contains("falconer stop"), "{said}");
}

#[test]
fn defaults_come_from_home_alone() {
    let host = Host::usual();
    let mut command = host.command(&["status", "--json"]);
    command.env_remove("FALCONER_DATA_DIR").env_remove("FALCONER_CONFIG").env_remove("FALCONER_PLUGINS");
    let output = command.env("XDG_DATA_HOME", "/elsewhere").output().unwrap();
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["running"], false);
    assert!(status["data_dir"].as_str().unwrap().starts_with(host.path("home").to_str().unwrap()), "{status}");
}

/// What an agent inside a run does: it starts `falconer mcp`, says hello and spawns a run; then it waits.
pub fn nested(host: &Host, request: &Value) -> String {
    let hello = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "nested", "version": "1" } } });
    let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    let spawn = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": { "name": "spawn_run", "arguments": request } });
    let lines = format!("{hello}\n{ready}\n{spawn}\n").replace('\'', "'\\''");
    let dir = host.path("");
    let dir = dir.display();
    // The variables of the host are its own, and reach no child: an agent's configuration names the place.
    format!(
        "(printf '%s' '{lines}'; exec sleep 1000) | '{FALCONER}' mcp --config '{dir}falconer.toml' --data-dir '{dir}data' --plugins '{dir}plugins'"
    )
}

#[test]
fn inside_a_run_the_run_is_the_parent_and_stopping_it_stops_the_child() {
    let host = Host::usual();
    let client = host.client();
    let daemon = host.daemon().unwrap();
    let script = nested(&host, &host.hostile(json!({ "mode": "idle" })));
    let parent = client.spawn(host.hostile(json!({ "mode": "spawn", "program": "sh", "args": ["-c", script], "env": ["HOME"] })));
    let child = until("the nested run", || {
        let page = client.call("list_runs", json!({ "parent_run_id": parent }));
        page["runs"][0]["run_id"].as_str().map(str::to_owned)
    });
    let view = client.until_status(&child, "running");
    assert_eq!(view["parent_run_id"], json!(parent));
    let stranger = client.spawn(host.hostile(json!({ "mode": "idle" })));

    assert_eq!(client.cancel(&parent)["status"], "cancelled");
    let view = client.ended(&child);
    assert_eq!((&view["status"], &view["receipt"]["cause"]), (&json!("cancelled"), &json!("parent")), "{view}");
    assert_eq!(with_environment(&format!("FALCONER_RUN_ID={parent}")), []);
    assert_eq!(host.daemon(), Some(daemon), "the daemon is not stopped with it");
    assert_eq!(client.get(&stranger)["status"], "running", "nor is another run");
}

#[test]
fn inside_a_run_no_daemon_is_started() {
    let host = Host::usual();
    let mut command = host.command(&["mcp"]);
    command.env("FALCONER_RUN_ID", "run_aaaaaaaaaaaaaaaa").stdin(Stdio::null());
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{output:?}");
    assert_eq!(host.daemon(), None);
    assert_eq!(listening_below(&host.data()), Vec::<std::path::PathBuf>::new());
}

#[test]
fn the_daemon_is_in_a_session_of_its_own_with_a_clean_environment() {
    let host = Host::usual();
    let mut command = host.command(&["mcp"]);
    command.env("SOMETHING_OF_THE_CLIENT", "leaked");
    let client = Client::start(command, Era::Legacy);
    let daemon = host.daemon().unwrap();
    assert!(!with_environment("SOMETHING_OF_THE_CLIENT=leaked").contains(&daemon));
    assert_ne!(session_of(daemon.pid), session_of(client.pid()));
    assert_ne!(session_of(daemon.pid), session_of(std::process::id()));
}

#[test]
fn an_ephemeral_host_leaves_nothing() {
    let host = Host::usual();
    let mut client = Client::start(host.command(&["mcp", "--ephemeral"]), Era::Legacy);
    let script = "echo up; sleep 1000";
    let run = client.spawn(host.hostile(json!({ "mode": "spawn", "program": "sh", "args": ["-c", script] })));
    client.event(&run, "its output", |event| event["type"] == "command_output");
    let mark = format!("FALCONER_RUN_ID={run}");
    assert!(!with_environment(&mark).is_empty());
    client.close();
    until("the run's processes to be gone", || with_environment(&mark).is_empty().then_some(()));
    assert!(!host.data().exists(), "the usual data directory is not touched");
}

#[test]
fn a_term_is_an_orderly_end() {
    let host = Host::usual();
    let client = host.client();
    let run = client.spawn(host.hostile(json!({ "mode": "idle" })));
    client.until_status(&run, "running");
    let daemon: Seen = host.daemon().unwrap();
    let pid = rustix::process::Pid::from_raw(daemon.pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    until("the daemon to end", || (!daemon.lives()).then_some(()));
    let client = host.client();
    assert_eq!(client.get(&run)["status"], "cancelled");
}
