//! Components that misbehave. Each ends its own run only, with the right code, while a run beside it goes on.

use serde_json::{Value, json};

use crate::client::Client;
use crate::host::{Host, USUAL};
use crate::patience::until;
use crate::processes::with_environment;

/// The same component with room for half a gibibyte, so that large values get as far as the host.
const ROOMY: &str = r#"
[backends.roomy.grants]
workspaces = ["{work}"]
[backends.roomy.allow]
mode = true
[backends.roomy.limits]
memory = "1 GiB"
call_cpu = "30 s"
"#;

/// A run that ticks beside the others; it must neither end nor stand still.
struct Bystander<'a> {
    client: &'a Client,
    run: String,
}

impl<'a> Bystander<'a> {
    fn new(host: &Host, client: &'a Client) -> Self {
        Self { client, run: client.spawn(host.hostile(json!({ "mode": "tick", "every_ms": 10 }))) }
    }
    #[track_caller]
    fn goes_on(&self) {
        let before = self.client.get(&self.run);
        until("the run beside it to tick on", || {
            let now = self.client.get(&self.run);
            assert_eq!(now["status"], "running", "the run beside it was disturbed: {now}");
            (now["last_seq"].as_u64() > before["last_seq"].as_u64()).then_some(())
        });
    }
    fn end(self) {
        assert_eq!(self.client.cancel(&self.run)["status"], "cancelled");
        // Numbers without gap or repeat are checked on the way.
        self.client.events(&self.run);
    }
}

#[track_caller]
fn fails(client: &Client, request: Value, codes: &[&str]) {
    let run = client.run(request.clone());
    let code = run["error"]["code"].as_str().unwrap_or_default();
    assert!(
        run["status"] == "failed" && codes.contains(&code),
        "{}: {} {code}, not {codes:?}: {}",
        request["config"],
        run["status"],
        run["error"]
    );
    let events = client.events(run["run_id"].as_str().unwrap());
    assert_eq!(events.last().unwrap()["type"], "run_failed");
}

#[test]
fn each_fault_ends_its_own_run_with_its_code() {
    let host = Host::usual();
    let client = host.client();
    let beside = Bystander::new(&host, &client);
    let daemon = host.daemon();
    for (mode, codes) in [
        ("spin_start", &["backend_busy"][..]),
        ("spin_poll", &["backend_busy"]),
        ("sleep_start", &["backend_blocked"]),
        ("sleep_poll", &["backend_blocked"]),
        ("panic_poll", &["backend_trapped"]),
        ("recurse", &["backend_trapped"]),
        ("allocate", &["memory_exceeded"]),
        ("ten_million", &["memory_exceeded", "value_too_large", "call_too_large"]),
        ("huge_event", &["memory_exceeded", "value_too_large", "call_too_large"]),
        ("long_step", &["value_too_large"]),
        ("large_call", &["call_too_large"]),
        ("large_checkpoint", &["value_too_large"]),
        ("long_name", &["value_too_large"]),
        ("bad_json", &["contract_violation"]),
        ("unknown_id", &["contract_violation"]),
        ("offset_gap", &["contract_violation"]),
        ("stopped_unasked", &["contract_violation"]),
        ("again", &["backend_idling"]),
        ("pending_zero", &["backend_idling"]),
    ] {
        fails(&client, host.hostile(json!({ "mode": mode })), codes);
        beside.goes_on();
    }
    beside.end();
    assert_eq!(host.daemon(), daemon, "the daemon is still the same");
}

#[test]
fn large_values_are_refused_even_where_memory_is_granted() {
    let host = Host::with(&format!("{USUAL}{ROOMY}"));
    host.plugin("roomy", falconer_hostile::HOSTILE);
    let client = host.client();
    let beside = Bystander::new(&host, &client);
    for mode in ["huge_event", "ten_million_todos"] {
        let request = json!({ "backend": "roomy", "prompt": "go", "cwd": host.work(), "config": { "mode": mode } });
        fails(&client, request, &["value_too_large", "call_too_large"]);
        beside.goes_on();
    }
    beside.end();
}

#[test]
fn a_cancel_that_is_not_heard_still_stops() {
    let host = Host::usual();
    let client = host.client();
    let beside = Bystander::new(&host, &client);
    for mode in ["spin_cancel", "sleep_cancel", "panic_cancel", "deaf"] {
        let run = client.spawn(host.hostile(json!({ "mode": mode })));
        client.until_status(&run, "running");
        let answer = client.cancel(&run);
        assert_eq!(answer["status"], "cancelled", "{mode}: {answer}");
        assert_eq!(client.events(&run).last().unwrap()["type"], "run_cancelled", "{mode}");
        beside.goes_on();
    }
    // A spinning or sleeping guest is called back at once, whatever its limits say.
    for mode in ["spin_start", "spin_poll", "sleep_start", "sleep_poll", "again"] {
        let run = client.spawn(host.hostile(json!({ "mode": mode })));
        let answer = client.cancel(&run);
        let status = answer["status"].as_str().unwrap();
        assert!(["cancelled", "failed"].contains(&status), "{mode}: {answer}");
        beside.goes_on();
    }
    beside.end();
}

/// The usual configuration, in which a call may take long.
fn patient() -> String {
    USUAL.replace("call_cpu = \"500 ms\"", "call_cpu = \"60 s\"").replace("call = \"1 s\"", "call = \"60 s\"")
}

#[test]
fn a_cancel_is_taken_at_every_moment_of_a_start() {
    // No limit may end a run before its cancel arrives, however slow the machine is.
    let host = Host::with(&patient());
    let client = host.client();
    let beside = Bystander::new(&host, &client);
    for round in 0..60 {
        let mode = ["sleep_start", "sleep_poll", "spin_poll", "idle", "echo"][round % 5];
        let run = client.spawn(host.hostile(json!({ "mode": mode })));
        // A look more each time: a little later each time.
        for _ in 0..round % 7 {
            client.get(&run);
        }
        let answer = client.cancel(&run);
        let status = answer["status"].as_str().unwrap();
        assert!(["cancelled", "completed"].contains(&status), "{mode}, round {round}: {answer}");
        assert!(crate::client::is_end(client.events(&run).last().unwrap()), "{mode}, round {round}");
    }
    beside.goes_on();
    beside.end();
}

#[test]
fn many_spinning_guests_do_not_keep_clients_waiting() {
    let host = Host::with(&patient());
    let client = host.client();
    let runs: Vec<String> = (0..50).map(|_| client.spawn(host.hostile(json!({ "mode": "spin_poll" })))).collect();
    let echo = client.run(host.hostile(json!({ "mode": "echo" })));
    assert_eq!(echo["status"], "completed");
    for run in &runs {
        let answer = client.cancel(run);
        assert_eq!(answer["status"], "cancelled", "{answer}");
    }
}

#[test]
fn children_of_bad_components_are_ended() {
    let host = Host::usual();
    let client = host.client();
    // The component says that it is finished while its child lives, and the child ignores TERM.
    let script = "trap '' TERM; echo up; while :; do sleep 1; done";
    let run = client.run(host.hostile(json!({ "mode": "finish_early", "program": "sh", "args": ["-c", script] })));
    assert_eq!(run["status"], "completed", "{run}");
    assert_eq!(run["receipt"]["cause"], "finished", "{run}");
    assert_eq!(with_environment(&format!("FALCONER_RUN_ID={}", run["run_id"].as_str().unwrap())), []);

    // The component asks for more children than it may have.
    let run = client.run(host.hostile(json!({ "mode": "many_children", "program": "sh", "args": ["-c", "sleep 1000"] })));
    let said = client.event(run["run_id"].as_str().unwrap(), "its word", |event| event["type"] == "agent_message");
    assert!(said["data"]["text"].as_str().unwrap().starts_with("4 children, then limit"), "{said}");
    assert_eq!(with_environment(&format!("FALCONER_RUN_ID={}", run["run_id"].as_str().unwrap())), []);
}

#[test]
fn what_cannot_be_described_is_listed_with_the_reason() {
    let host = Host::usual();
    host.plugin("describe-traps", falconer_hostile::DESCRIBE_TRAPS);
    host.plugin("describe-spins", falconer_hostile::DESCRIBE_SPINS);
    host.plugin("other-version", falconer_hostile::OTHER_VERSION);
    host.plugin("other-world", falconer_hostile::OTHER_WORLD);
    host.plugin("core-module", falconer_hostile::CORE_MODULE);
    host.plugin("garbage", falconer_hostile::GARBAGE);
    host.plugin("empty", b"");
    let client = host.client();
    // What is still being looked at is listed as such; it is done when nothing says "try again" any more.
    let page = until("the descriptions", || {
        let page = client.call("list_backends", json!({}));
        let done = page["backends"].as_array().unwrap().iter().all(|backend| backend["reason"]["retryable"] != true);
        done.then_some(page)
    });
    let find = |name: &str| page["backends"].as_array().unwrap().iter().find(|backend| backend["name"] == name).unwrap();
    for (name, codes) in [
        ("describe-traps", &["backend_trapped", "backend_unavailable"][..]),
        ("describe-spins", &["backend_busy", "backend_blocked", "backend_unavailable"]),
        ("other-version", &["wit_version"]),
        ("other-world", &["wit_version"]),
        ("core-module", &["wit_version"]),
        ("garbage", &["wit_version"]),
        ("empty", &["wit_version"]),
    ] {
        let backend = find(name);
        assert_eq!(backend["state"], "failed", "{backend}");
        let code = backend["reason"]["code"].as_str().unwrap();
        assert!(codes.contains(&code), "{name}: {code}, not {codes:?}: {backend}");
        assert!(!backend["reason"]["message"].as_str().unwrap().is_empty());
        client.refused("spawn_run", json!({ "backend": name, "prompt": "go", "cwd": host.work() }), "backend_unavailable");
    }
    for name in ["claude", "codex", "exec", "hostile"] {
        assert_eq!(find(name)["state"], "ready", "{}", find(name));
    }
    assert_eq!(client.run(host.hostile(json!({ "mode": "echo" })))["status"], "completed");
}

#[test]
fn a_plan_that_spins_is_cut() {
    let host = Host::usual();
    let client = host.client();
    let refusal = client.try_call("plan_run", host.hostile(json!({ "mode": "spin_plan" })));
    let code = match &refusal {
        Ok(plan) => plan["refusal"]["code"].as_str().unwrap_or_default().to_owned(),
        Err(refusal) => refusal.code.clone(),
    };
    assert!(["backend_busy", "backend_blocked"].contains(&code.as_str()), "{refusal:?}");
    assert_eq!(client.run(host.hostile(json!({ "mode": "echo" })))["status"], "completed");
}

#[test]
fn a_flood_over_its_limits_ends() {
    let host = Host::with(&USUAL.replace("children = 4", "children = 4\nevents = 1000"));
    let client = host.client();
    let beside = Bystander::new(&host, &client);
    fails(&client, host.hostile(json!({ "mode": "flood", "n": 5_000 })), &["output_exceeded"]);
    beside.goes_on();
    drop(client);
}
