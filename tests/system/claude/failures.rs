//! What goes wrong ends with its own code, and with a hint.

use serde_json::{Value, json};

use super::{KEY, Props, Stage, asked, bash, notice, script, text};
use crate::patience::until;
use crate::processes::{Seen, with_environment};

#[track_caller]
fn has_hint(run: &Value, word: &str) {
    let hint = run["error"]["hint"].as_str().unwrap_or_else(|| panic!("no hint: {run}"));
    assert!(hint.contains(word), "{hint}");
}

#[test]
fn errors_of_the_api_end_or_recover_as_they_should() {
    let Some(stage) = Stage::usual("errors of the API for claude") else { return };
    let all = [
        "MOCK:overloaded-once",
        "MOCK:ratelimit-once",
        "MOCK:overloaded",
        "MOCK:ratelimit",
        "MOCK:badrequest",
        "MOCK:drop",
        "MOCK[[{\"error\":404,\"type\":\"not_found_error\",\"message\":\"model: no-such-model\"}]]",
    ];
    let runs: Vec<String> = all.iter().map(|prompt| stage.client.spawn(stage.request(prompt))).collect();
    for (run, said) in runs.iter().zip(["Recovered after 529.", "Recovered after 429."]) {
        let (view, events) = stage.completes(run);
        assert_eq!(text(&view), said);
        notice(&events, "api_retry");
    }
    let codes =
        [("overloaded", true), ("rate_limited", true), ("bad_request", false), ("api_unreachable", true), ("model_not_found", false)];
    for (run, (code, retryable)) in runs[2..].iter().zip(codes) {
        let (view, events) = stage.finished(run);
        let error = &view["error"];
        assert_eq!((&view["status"], &error["code"], &error["retryable"]), (&json!("failed"), &json!(code), &json!(retryable)), "{view}");
        assert!(error["hint"].is_string(), "{view}");
        if retryable {
            notice(&events, "api_retry");
        }
    }
    // It waited as long as it was told to.
    let retried = notice(&stage.client.events(&runs[3]), "api_retry").to_string();
    assert!(retried.contains("429"), "{retried}");
}

#[test]
fn keys_that_are_wrong_or_missing_are_told() {
    let Some(stage) = Stage::with("a wrong key for claude", "another-key-0123456789", "") else { return };
    let (run, _) = stage.fails(stage.request("MOCK:hello"), "auth_failed");
    has_hint(&run, "ANTHROPIC_API_KEY");
    let Some(stage) = Stage::with("a missing key for claude", "", "") else { return };
    let (run, _) = stage.fails(stage.request("MOCK:hello"), "auth_required");
    has_hint(&run, "/login");
}

#[test]
fn an_api_that_nobody_serves_is_told_and_not_waited_for() {
    let Some(stage) = Stage::with("an unreachable API for claude", KEY, "") else { return };
    let config = std::fs::read_to_string(stage.host.path("falconer.toml")).unwrap();
    stage.host.configure(&config.replace(&stage.mock.url, "http://127.0.0.1:9"));
    stage.host.run(&["stop"]).well();
    let mut command = stage.host.command(&["mcp"]);
    command.env("ANTHROPIC_API_KEY", KEY);
    let client = crate::client::Client::start(command, crate::client::Era::Legacy);
    let run = client.run(stage.request("MOCK:hello"));
    let error = &run["error"];
    assert_eq!((&error["code"], &error["retryable"]), (&json!("api_unreachable"), &json!(true)), "{run}");
    has_hint(&run, "ANTHROPIC_BASE_URL");
}

#[test]
fn budgets_end_a_run() {
    let Some(stage) = Stage::usual("budgets of claude") else { return };
    let run = |config: Value| stage.client.spawn(stage.choosing("MOCK:loop", config));
    let runs = [
        (run(json!({ "max_turns": 2 })), "max_turns"),
        (run(json!({ "max_budget_usd": 0.0001 })), "budget_exceeded"),
        (run(json!({ "max_tokens": 6_000 })), "max_tokens"),
    ];
    for (run, code) in runs {
        let (view, events) = stage.finished(&run);
        assert_eq!((&view["status"], &view["error"]["code"]), (&json!("failed"), &json!(code)), "{view}\n{events:#?}");
        assert!(view["error"]["hint"].is_string(), "{view}");
        let loops = events.iter().filter(|event| event["type"] == "command_started").count();
        assert!(loops < 10, "{code} after {loops} rounds");
    }
    // What is enough is enough.
    let (run, _) = stage.completed(stage.choosing("MOCK:hello", json!({ "max_turns": 2, "max_tokens": 1_000_000, "max_budget_usd": 5 })));
    assert_eq!(text(&run), "Hello from the mock model.");
}

#[test]
fn budgets_are_of_the_run_not_of_a_turn_or_the_session() {
    let Some(stage) = Stage::usual("budgets of claude over turns") else { return };
    // Each message is a turn of its own to the program.
    let words = json!([[{ "text": "one two three four five six seven eight", "delay_ms": 100 }]]);
    let run = stage.client.spawn(stage.choosing(&script(&words), json!({ "max_turns": 1 })));
    stage.client.event(&run, "the first word", |event| event["type"] == "agent_message");
    let message = script(&json!([[{ "text": "again" }]]));
    stage.client.call("continue_run", json!({ "run_id": run, "message": message, "timing": "after_step" }));
    let (view, events) = stage.finished(&run);
    assert_eq!((&view["status"], &view["error"]["code"]), (&json!("failed"), &json!("max_turns")), "{view}\n{events:#?}");

    // What the session cost before is not this run's.
    let (first, _) = stage.completed(stage.request("MOCK:hello"));
    let cost = first["usage"]["cost_microdollars"].as_f64().unwrap_or_else(|| panic!("{first}")) / 1e6;
    let mut next = stage.choosing("MOCK:hello", json!({ "max_budget_usd": cost * 1.5 }));
    next["session_id"] = first["session_id"].clone();
    let (second, _) = stage.completed(next);
    let mut next = stage.choosing("MOCK:hello", json!({ "max_budget_usd": cost * 1.5 }));
    next["session_id"] = second["session_id"].clone();
    stage.completed(next);
}

#[test]
fn an_agent_that_is_killed_is_told_so() {
    let Some(stage) = Stage::usual("a killed claude") else { return };
    let agent = |run: &str| -> Seen {
        let claude = crate::fetched::claude("a killed claude").unwrap().canonicalize().unwrap();
        let is_agent = |seen: &Seen| std::fs::read_link(format!("/proc/{}/exe", seen.pid)).is_ok_and(|exe| exe == claude);
        until("claude among the run's processes", || with_environment(&format!("FALCONER_RUN_ID={run}")).into_iter().find(is_agent))
    };
    let in_text = stage.client.spawn(stage.request("MOCK:hang"));
    stage.client.event(&in_text, "the first word", |event| event["type"] == "agent_message");
    let in_tool = stage.client.spawn(stage.request(&bash("setsid tail -f /dev/null & tail -f /dev/null")));
    stage.client.event(&in_tool, "the command", |event| event["type"] == "command_started");
    let asking = stage.client.spawn(stage.choosing(&bash("touch x"), asked()));
    stage.question(&asking, &[]);
    for run in [in_text, in_tool, asking] {
        agent(&run).kill();
        let (view, _) = stage.finished(&run);
        assert_eq!((&view["status"], &view["error"]["code"]), (&json!("failed"), &json!("killed_by_signal")), "{view}");
    }
}

#[test]
fn what_the_program_refuses_at_its_start_has_the_way_out() {
    let Some(stage) = Stage::usual("refusals of claude at its start") else { return };
    let bypass = || stage.choosing(&bash("touch bypassed"), json!({ "permission_mode": "bypass", "allowed_tools": [] }));
    if rustix::process::geteuid().is_root() {
        let (run, _) = stage.fails(bypass(), "unsupported");
        has_hint(&run, "IS_SANDBOX");
    }
    if !std::path::Path::new("/usr/bin/bwrap").exists() {
        let (run, _) = stage.fails(stage.choosing("MOCK:hello", json!({ "scrub_env": true })), "unsupported");
        has_hint(&run, "bubblewrap");
    }
    let Some(stage) = Stage::of("a claude that asks nothing", Props { env: ", IS_SANDBOX = \"1\"", ..Props::default() }) else { return };
    let (_, events) = stage.completed(stage.choosing(&bash("touch bypassed"), json!({ "permission_mode": "bypass", "allowed_tools": [] })));
    assert!(events.iter().all(|event| event["type"] != "input_required"));
    assert!(stage.work.join("bypassed").exists());
}

#[test]
fn a_session_that_is_gone_is_told() {
    let Some(stage) = Stage::with("a lost session of claude", KEY, "") else { return };
    let (run, _) = stage.completed(stage.request("MOCK:hello"));
    std::fs::remove_dir_all(stage.host.path("home/.claude/projects")).unwrap();
    let next = stage.client.call("continue_run", json!({ "run_id": run["run_id"], "message": script(&json!([[{ "text": "x" }]])) }));
    let (view, _) = stage.finished(next["run_id"].as_str().unwrap());
    assert_eq!(view["error"]["code"], "session_not_found", "{view}");
}
