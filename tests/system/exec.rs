//! The bundled backend `exec`: real programs, their output, their environment, their end.

use serde_json::{Value, json};

use crate::client::{Client, Era};
use crate::host::{Host, USUAL};
use crate::patience::until;
use crate::processes::{Seen, with_environment};

fn sh(host: &Host, script: &str) -> Value {
    host.exec(json!({ "program": "sh", "args": ["-c", script] }))
}

/// All of one stream, as the events have it inline; offsets are checked to have no gap.
#[track_caller]
fn output(client: &Client, run: &Value, stream: &str) -> String {
    let mut whole = String::new();
    for event in client.events(run["run_id"].as_str().unwrap()) {
        if event["type"] == "command_output" && event["data"]["stream"] == stream {
            assert_eq!(event["data"]["offset"], json!(whole.len()), "{event}");
            whole.push_str(event["data"]["text"].as_str().unwrap());
        }
    }
    whole
}

#[test]
fn output_and_exit_code_are_reported() {
    let host = Host::usual();
    let client = host.client();
    let run = client.run(sh(&host, "echo out; echo err >&2; pwd"));
    assert_eq!(run["status"], "completed", "{run}");
    assert_eq!(output(&client, &run, "stdout"), format!("out\n{}\n", host.work().canonicalize().unwrap().display()));
    assert_eq!(output(&client, &run, "stderr"), "err\n");
    let finished = client.event(run["run_id"].as_str().unwrap(), "the end", |event| event["type"] == "command_finished");
    assert_eq!(finished["data"]["exit_code"], 0);

    let run = client.run(sh(&host, "echo before; exit 3"));
    assert_eq!((&run["status"], &run["error"]["code"]), (&json!("failed"), &json!("exit_nonzero")), "{run}");
    assert_eq!(output(&client, &run, "stdout"), "before\n", "what came before is kept");
    let finished = client.event(run["run_id"].as_str().unwrap(), "the end", |event| event["type"] == "command_finished");
    assert_eq!(finished["data"]["exit_code"], 3);

    let run = client.run(sh(&host, "kill -9 $$"));
    assert_eq!((&run["status"], &run["error"]["code"]), (&json!("failed"), &json!("killed_by_signal")), "{run}");
}

#[test]
fn programs_that_are_not_granted_or_not_there() {
    let host = Host::usual();
    let client = host.client();
    let denied = ["program_not_granted", "spawn_denied"];
    for (program, codes) in [("bash", &denied[..]), ("/bin/sh", &denied), ("missing", &["program_not_found"])] {
        let request = host.exec(json!({ "program": program }));
        let code = match client.try_call("spawn_run", request) {
            Err(refusal) => refusal.code,
            Ok(spawned) => client.ended(spawned["run_id"].as_str().unwrap())["error"]["code"].as_str().unwrap().to_owned(),
        };
        assert!(codes.contains(&code.as_str()), "{program}: {code}");
    }
}

#[test]
fn stdin_is_fed_and_closed() {
    let host = Host::usual();
    let client = host.client();
    // More than a pipe holds, to a reader that begins late.
    let text = "0123456789abcdef\n".repeat(10_000);
    let run = client.run(host.exec(json!({ "program": "sh", "args": ["-c", "sleep 0.2; wc -c; cat"], "stdin": text })));
    assert_eq!(output(&client, &run, "stdout").trim(), text.len().to_string(), "{run}");
    let run = client.run(host.exec(json!({ "program": "cat" })));
    assert_eq!((&run["status"], output(&client, &run, "stdout")), (&json!("completed"), String::new()), "none is at its end at once");
}

#[test]
fn the_environment_is_what_was_granted_and_nothing_else() {
    let host = Host::usual();
    let mut command = host.command(&["mcp"]);
    command.env("SEEN_BY_THE_RUN", "by the run").env("SEEN_BY_NOBODY", "by nobody");
    let client = Client::start(command, Era::Legacy);
    let run = client.run(host.exec(json!({ "program": "sh", "args": ["-c", "exec env"], "env": ["SEEN_BY_THE_RUN"] })));
    let listed = output(&client, &run, "stdout");
    let mut names: Vec<&str> = listed.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    names.sort_unstable();
    // The shell itself adds PWD (and some OLDPWD, SHLVL, _).
    names.retain(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name));
    assert!(
        names.iter().all(|name| [
            "FALCONER_CONFIG",
            "FALCONER_DATA_DIR",
            "FALCONER_PLUGINS",
            "FALCONER_RUN_ID",
            "SEEN_BY_THE_RUN",
            "LANG",
            "PATH"
        ]
        .contains(name)),
        "{names:?}"
    );
    assert!(listed.contains("SEEN_BY_THE_RUN=by the run\n"), "{listed}");
    assert!(listed.contains(&format!("FALCONER_RUN_ID={}\n", run["run_id"].as_str().unwrap())), "{listed}");

    // A name that is not granted.
    match client.try_call("spawn_run", host.exec(json!({ "program": "sh", "args": ["-c", "env"], "env": ["SEEN_BY_NOBODY"] }))) {
        Err(refusal) => assert!(!refusal.message.contains("by nobody")),
        Ok(spawned) => assert_eq!(client.ended(spawned["run_id"].as_str().unwrap())["status"], "failed"),
    }
}

#[test]
fn a_gigabyte_of_output_and_flat_memory() {
    const BYTES: u64 = 1 << 30;
    /// More than the daemon needs, far less than the output.
    const FLAT: u64 = 400 << 20;
    let host = Host::usual();
    let client = host.client();
    let run = client.spawn(sh(&host, &format!("yes 'a line of sixty-three characters, and one more for its line end' | head -c {BYTES}")));
    let daemon = host.daemon().unwrap();
    let mut most = 0;
    let view = until_long("the end of a gigabyte", || {
        most = most.max(daemon.memory("VmRSS").unwrap_or(0));
        let view = client.call("wait_runs", json!({ "run_ids": [run], "wait_ms": 500 }));
        (view["runs"][0]["ready"] == true).then(|| client.get(&run))
    });
    assert_eq!(view["status"], "completed", "{}", view["error"]);
    assert!(most < FLAT, "{} MiB resident", most >> 20);
    let mut bytes = 0;
    let mut after = 0;
    loop {
        let page = client.call(
            "poll_events",
            json!({ "run_id": run, "after_seq": after, "limit": 2_000, "max_chars": 1_000_000, "types": ["command_output"] }),
        );
        for event in page["events"].as_array().unwrap() {
            assert_eq!(event["data"]["offset"], json!(bytes), "{event}");
            bytes += event["data"]["bytes"].as_u64().unwrap_or_else(|| panic!("no count of bytes in {event}"));
        }
        after = page["next_after_seq"].as_u64().unwrap();
        if page["has_more"] != json!(true) {
            break;
        }
    }
    assert_eq!(bytes, BYTES);
}

/// [`until`], for what takes minutes on a small machine.
fn until_long<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..1_200 {
        if let Some(found) = look() {
            return found;
        }
    }
    panic!("waited in vain for {what}");
}

#[test]
fn a_writer_that_nobody_reads_is_held_up() {
    let host = Host::usual();
    let client = host.client();
    let run = client.spawn(host.hostile(json!({ "mode": "spawn_unread", "program": "sh", "args": ["-c", "exec yes"] })));
    client.until_status(&run, "running");
    let mark = format!("FALCONER_RUN_ID={run}");
    let is_writer = |seen: &Seen| std::fs::read_to_string(format!("/proc/{}/comm", seen.pid)).is_ok_and(|name| name.trim() == "yes");
    let writer = until("the writer", || with_environment(&mark).into_iter().find(is_writer));
    // Blocked in a write: it sleeps, and uses no more time.
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", writer.pid)).unwrap();
        let fields: Vec<String> = stat[stat.rfind(')').unwrap() + 2..].split(' ').map(str::to_owned).collect();
        (fields[0].clone(), fields[11].clone(), fields[12].clone())
    };
    until("the writer to be held up", || {
        let before = ticks();
        std::thread::sleep(std::time::Duration::from_millis(300));
        (before.0 == "S" && ticks() == before).then_some(())
    });
    assert_eq!(client.cancel(&run)["status"], "cancelled");
    assert!(!writer.lives());
}

#[test]
fn a_cancel_kills_what_ignores_it() {
    let host = Host::usual();
    let client = host.client();
    for script in [
        "trap '' TERM INT HUP; echo up; while :; do sleep 1; done",
        "(trap '' TERM; exec sleep 1000) & (setsid sleep 1000 &) ; echo up; wait",
        "echo up; exec sleep 1000",
    ] {
        let run = client.spawn(sh(&host, script));
        client.event(&run, "its output", |event| event["type"] == "command_output");
        let answer = client.call("cancel_run", json!({ "run_id": run, "grace_ms": 200 }));
        assert_eq!(answer["status"], "cancelled", "{script}: {answer}");
        let rungs: Vec<&str> = answer["receipt"]["rungs"].as_array().unwrap().iter().map(|step| step["rung"].as_str().unwrap()).collect();
        assert!(rungs.starts_with(&["ask"]), "{rungs:?}");
        assert_eq!(answer["receipt"]["survivors"], json!([]));
        assert_eq!(with_environment(&format!("FALCONER_RUN_ID={run}")), [], "{script}");
    }
}

#[test]
fn a_secret_is_never_seen() {
    let host = Host::usual();
    let secret = format!("canary-{:016x}-tweet", 0x5ec_2e7_u64.wrapping_mul(u64::from(std::process::id()) | 1));
    let mut command = host.command(&["mcp"]);
    command.env("CANARY_TOKEN", &secret);
    let client = Client::start(command, Era::Legacy);
    // The child has it, and shows it: whole, in two writes, in the middle of other text, on both streams, as an error.
    let script = format!(
        "s=$CANARY_TOKEN; b=${{s#??????????????}}; a=${{s%\"$b\"}}; [ ${{#s}} = {} ] && echo has it; \
         echo \"x${{s}}y\"; echo \"$s\" >&2; printf %s \"$a\"; sleep 0.3; echo \"$b\"; exit 3",
        secret.len(),
    );
    let config = json!({ "mode": "spawn", "program": "sh", "args": ["-c", script], "secrets": ["CANARY_TOKEN"] });
    let run = client.run(host.hostile(config));
    let id = run["run_id"].as_str().unwrap();
    let events = client.events(id);
    let seen = json!(events).to_string();
    assert!(seen.contains("has it"), "the child had it: {seen}");
    assert!(!seen.contains(&secret), "{seen}");
    assert!(!client.get(id).to_string().contains(&secret));
    assert!(!client.errors().contains(&secret));
    assert_eq!(host.data_holding(secret.as_bytes()), Vec::<std::path::PathBuf>::new());
    // Byte for byte: the lengths are as they were.
    let bytes: u64 = events
        .iter()
        .filter(|event| event["type"] == "command_output" && event["data"]["stream"] == "stdout")
        .map(|event| event["data"]["bytes"].as_u64().unwrap())
        .sum();
    let shown = "has it\n".len() + "xy\n".len() + 2 * secret.len() + 1;
    assert_eq!(bytes, shown as u64);

    // Nor where it is not granted, or its value is missing.
    let without = host.client();
    let run = without.run(host.hostile(json!({ "mode": "spawn", "program": "sh", "secrets": ["CANARY_TOKEN"] })));
    assert!(["failed", "auth_required"].contains(&run["status"].as_str().unwrap()), "{run}");
}

#[test]
fn a_short_secret_is_refused_in_the_configuration_or_at_use() {
    let host = Host::with(&USUAL.replace("CANARY_TOKEN = { env = \"CANARY_TOKEN\" }", "CANARY_TOKEN = { env = \"SHORT\" }"));
    let mut command = host.command(&["mcp"]);
    command.env("SHORT", "abc");
    let client = Client::start(command, Era::Legacy);
    let run = client.run(host.hostile(json!({ "mode": "spawn", "program": "sh", "args": ["-c", "true"], "secrets": ["CANARY_TOKEN"] })));
    assert_eq!(run["status"], "failed", "{run}");
}

#[test]
fn control_characters_are_made_inert() {
    let host = Host::usual();
    let client = host.client();
    let run = client.run(sh(&host, "printf 'a\\033[2Jb\\007c\\200d\\n'"));
    let events = client.events(run["run_id"].as_str().unwrap());
    let event = events.iter().find(|event| event["type"] == "command_output").unwrap();
    let text = event["data"]["text"].as_str().unwrap();
    assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'), "{text:?}");
    assert!(text.contains('a') && text.contains('b') && text.ends_with("d\n"), "{text:?}");
}
