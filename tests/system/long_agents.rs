//! Agents that work for a long time: what a backend remembers of a run does not grow with it.
//!
//! The agent's program is a script here, because no model would sit through so many rounds; the component is the real one.
//! Its memory is limited to a little more than a short run needs, so that whatever it kept of each round would end the run.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::fetched;
use crate::host::Host;

/// Rounds of a short day, and of a long one: six events each.
const SHORT: u32 = 20;
const LONG: u32 = 3_000;
/// What a round may leave behind is less than this, in bytes.
const LEAK: u32 = 256;

/// Whether a run of so many rounds gets by with so much memory.
fn completes(backend: &str, rounds: u32, memory_kib: u32) -> Option<(bool, u64)> {
    let python = fetched::plain_python("a long day of an agent")?;
    let host = Host::bare("");
    let program = host.path(backend);
    let script = fetched::of_tests("fixtures/long_agents.py");
    let text = format!("#!/bin/sh\nexec '{}' '{}' {backend} {rounds} \"$@\"\n", python.display(), script.display());
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    host.configure(&format!(
        "[backends.{backend}.grants]\nprograms = {{ {backend} = \"{}\" }}\nworkspaces = [\"{{work}}\"]\nenv = {{ HOME = \"{{dir}}/home\" }}\n\
         [backends.{backend}.limits]\nmemory = \"{memory_kib} KiB\"\n",
        program.display(),
    ));
    let client = host.client();
    let run = client.run(json!({ "backend": backend, "cwd": host.work(), "prompt": "work" }));
    let status = run["status"].as_str().unwrap();
    if status != "completed" {
        assert_eq!(run["error"]["code"], "memory_exceeded", "{run}");
        return Some((false, 0));
    }
    assert_eq!(run["result"]["text"], "a long day", "{run}");
    Some((true, run["last_seq"].as_u64().unwrap()))
}

#[track_caller]
fn is_flat(backend: &str) {
    // The least, in steps of 256 KiB, with which a short day is done.
    let mut memory = 1_024;
    loop {
        match completes(backend, SHORT, memory) {
            None => return,
            Some((true, _)) => break,
            Some((false, _)) => memory += 256,
        }
        assert!(memory < 32 << 10, "a short day takes more than {memory} KiB");
    }
    let (done, events) = completes(backend, LONG, memory + LONG * LEAK / 1024).unwrap();
    assert!(done, "{backend}: {LONG} rounds do not fit into {memory} KiB and {LEAK} bytes for each");
    assert!(events > 10_000, "{events}");
}

#[test]
fn claude_remembers_no_more_after_ten_thousand_events() {
    is_flat("claude");
}

#[test]
fn codex_remembers_no_more_after_ten_thousand_events() {
    is_flat("codex");
}
