//! Much and nothing: output and input of any size pass whole, in little memory, or are ended at their limit.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::{Stage, request};
use crate::client::Client;
use crate::host::Host;
use crate::patience::until;
use crate::processes::carrying;
use crate::sshd::{Setup, Target, available};

const MUCH: u64 = 100 << 20;
/// What the daemon may grow by while that passes.
const FLAT: u64 = 64 << 20;

/// All bytes that were told of a stream, without a gap.
#[track_caller]
fn told(client: &Client, run: &str, stream: &str) -> u64 {
    let (mut bytes, mut after) = (0, 0);
    loop {
        let page = client.call(
            "poll_events",
            json!({ "run_id": run, "after_seq": after, "limit": 2_000, "max_chars": 1_000_000, "types": ["command_output"] }),
        );
        for event in page["events"].as_array().unwrap().iter().filter(|event| event["data"]["stream"] == stream) {
            assert_eq!(event["data"]["offset"], json!(bytes), "{event}");
            bytes += event["data"]["bytes"].as_u64().unwrap();
        }
        after = page["next_after_seq"].as_u64().unwrap();
        if page["has_more"] != json!(true) {
            return bytes;
        }
    }
}

/// The end of a run that takes long, with a look now and then.
fn ended_meanwhile(client: &Client, run: &str, mut look: impl FnMut()) -> Value {
    until("the end of much", || {
        look();
        let view = client.call("wait_runs", json!({ "run_ids": [run], "wait_ms": 200 }));
        (view["runs"][0]["ready"] == true).then(|| client.get(run))
    })
}

#[test]
fn a_hundred_megabytes_pass_and_memory_is_flat() {
    let Some(stage) = Stage::usual("much output over ssh") else { return };
    let line = |bytes: u64| json!({ "shell": format!("yes 'a line of sixty-three characters, and one more for its line end' | head -c {bytes}; echo end >&2") });
    // What is made once is there before it is measured.
    stage.run(line(1 << 20));
    let daemon = stage.host.daemon().unwrap();
    let before = daemon.memory("VmRSS").unwrap();
    let run = stage.client.spawn(request(line(MUCH)));
    let mut most = 0;
    let view = ended_meanwhile(&stage.client, &run, || most = most.max(daemon.memory("VmRSS").unwrap_or(0)));
    assert_eq!(view["status"], "completed", "{view:#}");
    assert!(most < before + FLAT, "{} MiB resident, {} MiB before", most >> 20, before >> 20);
    assert_eq!((told(&stage.client, &run, "stdout"), told(&stage.client, &run, "stderr")), (MUCH, 4));
    stage.nothing_lives(&run);
}

#[test]
fn what_says_too_much_is_ended_there() {
    if !available("an output limit over ssh") {
        return;
    }
    let sshd = Setup::new().start();
    let limited = Target::of("little", &sshd).key("limits", "{ output = \"1 MiB\" }");
    let host = Host::bare(Stage::configuration(&sshd).target(limited).text());
    let stage = Stage { client: host.client(), host, sshd };
    for line in ["yes", "trap '' TERM PIPE; while :; do yes 2>/dev/null; done"] {
        let run = stage.client.spawn(json!({ "backend": "ssh", "target": "little", "config": { "shell": line } }));
        let view = stage.ended_as(&run, "failed");
        assert_eq!(view["error"]["code"], "output_exceeded", "{view:#}");
        assert_eq!(view["receipt"]["far_end"]["state"], "confirmed", "{view:#}");
        assert!(told(&stage.client, &run, "stdout") > 0);
    }
}

#[test]
fn nothing_at_all_is_no_error() {
    let Some(stage) = Stage::usual("no output over ssh") else { return };
    for config in [json!({ "command": ["true"] }), json!({ "shell": "exec >&- 2>&-; sleep 0.1" }), json!({ "shell": ":", "stdin": "" })] {
        let run = stage.run(config.clone());
        assert_eq!((&run["status"], &run["result"]["text"]), (&json!("completed"), &Value::Null), "{config}: {run:#}");
        assert_eq!((stage.all(&run, "stdout"), stage.all(&run, "stderr")), (String::new(), String::new()), "{config}");
        stage.nothing_lives(run["run_id"].as_str().unwrap());
    }
}

#[test]
fn a_large_file_is_read_there() {
    if !available("much input over ssh") {
        return;
    }
    let sshd = Setup::new().start();
    let host = Host::bare(Stage::configuration(&sshd).table("[backends.ssh.grants]\nworkspaces = [\"{work}\"]").text());
    let stage = Stage { client: host.client(), host, sshd };
    let file = stage.host.work().join("input");
    // Text or not, line ends or none: bytes. A message takes 16 MiB.
    let size = 16 << 20;
    let mut bytes = Vec::with_capacity(size);
    let mut state = 1_u32;
    while bytes.len() < size {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bytes.extend(state.to_be_bytes());
    }
    fs::write(&file, &bytes).unwrap();
    let sum = String::from_utf8(Command::new("sha256sum").arg(&file).output().unwrap().stdout).unwrap();
    let sum = sum.split(' ').next().unwrap();
    let with_file = |config: Value| {
        let mut request = request(config);
        request["message"] = json!({ "parts": [{ "type": "file", "uri": format!("file://{}", file.display()) }] });
        request
    };
    let run = stage.client.run(with_file(json!({ "command": ["sha256sum"] })));
    assert_eq!((&run["status"], stage.all(&run, "stdout")), (&json!("completed"), format!("{sum}  -\n")), "{run:#}");
    // Nobody reads it.
    let run = stage.client.run(with_file(json!({ "command": ["true"] })));
    assert_eq!(run["status"], "completed", "{run:#}");
    // A stop while it goes over, or just after.
    let run = stage.client.spawn(with_file(json!({ "shell": "cat; exec sleep 2030" })));
    until("its ssh", || (!carrying(&run).is_empty()).then_some(()));
    assert_eq!(stage.client.cancel(&run)["status"], "cancelled");
    stage.ended_as(&run, "cancelled");
}
