//! What goes wrong, told with its code: logins, the API's errors, budgets.

use std::net::TcpListener;

use serde_json::{Value, json};

use super::{Props, Stage, all, noticed, script};

#[test]
fn errors_of_the_api() {
    let Some(stage) = Stage::set("errors of the API of codex") else { return };
    let (run, events) = stage.completed(stage.request("MOCK:ratelimit-once"));
    assert_eq!(run["result"]["text"], "Recovered after 429.");
    assert!(noticed(&events, "api_retry"), "{events:#?}");
    let error = |code: u16, word: &str| script(json!([[{ "error": code, "code": word, "message": "mock says no" }]]));
    for (prompt, code, retryable) in [
        ("MOCK:ratelimit".to_owned(), "rate_limited", true),
        ("MOCK:overloaded".to_owned(), "overloaded", true),
        (error(529, "overloaded_error"), "overloaded", true),
        ("MOCK:badrequest".to_owned(), "bad_request", false),
        ("MOCK:drop".to_owned(), "api_error", true),
        (error(500, "server_error"), "api_error", true),
        (error(404, "model_not_found"), "model_not_found", false),
        (script(json!([[{ "failed": "context_length_exceeded" }]])), "prompt_too_long", false),
    ] {
        let (run, _) = stage.failed(stage.request(&prompt), code);
        assert_eq!(run["error"]["retryable"], retryable, "{prompt}: {run}");
    }
    let (run, _) = stage.run(stage.request("MOCK:badrequest"));
    assert_eq!(run["error"]["message"], "mock bad request", "{run}");
}

#[test]
fn a_wrong_key_and_none() {
    let Some(stage) = Stage::with("a wrong key of codex", Props { key: Some("another-key-0123456789"), ..Props::default() }) else {
        return;
    };
    let (run, events) = stage.failed(stage.request("MOCK:hello"), "auth_failed");
    assert!(run["error"]["hint"].as_str().unwrap().contains("OPENAI_API_KEY"), "{run}");
    assert!(!json!([run, events]).to_string().contains("another-key"));

    let Some(stage) = Stage::with("a missing key of codex", Props { key: Some(""), ..Props::default() }) else { return };
    let (run, _) = stage.failed(stage.request("MOCK:hello"), "auth_required");
    assert!(run["error"]["hint"].as_str().unwrap().contains("codex login"), "{run}");
    assert_eq!(stage.mock.bodies(""), Vec::<Value>::new(), "nothing was asked of the API");
}

#[test]
fn a_home_that_is_not_there() {
    let env = Some("env = { CODEX_HOME = \"{dir}/nowhere\" }");
    let Some(stage) = Stage::with("a missing home of codex", Props { env, ..Props::default() }) else { return };
    let (run, _) = stage.failed(stage.request("MOCK:hello"), "auth_required");
    let error = &run["error"];
    assert!(error["message"].as_str().unwrap().contains("nowhere") && error["hint"].as_str().unwrap().contains("CODEX_HOME"), "{error}");
}

#[test]
fn an_api_that_cannot_be_reached_is_not_tried_for_ever() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{closed}/v1");
    let Some(stage) = Stage::with("an unreachable API of codex", Props { url: Some(&url), ..Props::default() }) else { return };
    let (run, events) = stage.failed(stage.request("MOCK:hello"), "api_unreachable");
    assert_eq!(run["error"]["retryable"], true, "{run}");
    assert!(noticed(&events, "api_retry"), "{events:#?}");
}

#[test]
fn budgets_end_a_run() {
    let config = "permission_mode = \"accept_edits\"";
    let Some(stage) = Stage::with("budgets of codex", Props { config, ..Props::default() }) else { return };
    let (run, events) = stage.failed(stage.choosing("MOCK:loop", json!({ "max_turns": 3 })), "max_turns");
    // The fourth may have been on its way.
    assert!((3..=4).contains(&run["usage"]["turns"].as_u64().unwrap()), "{run}");
    assert!(all(&events, "command_started").len() <= 4, "{events:#?}");
    // As many as are needed are enough.
    let prompt = format!("MOCK:bash {}", json!({ "command": "echo hi" }));
    stage.completed(stage.choosing(&prompt, json!({ "max_turns": 2 })));
    let (run, _) = stage.failed(stage.choosing("MOCK:loop", json!({ "max_tokens": 20_000 })), "max_tokens");
    let used = run["usage"]["input_tokens"].as_u64().unwrap() + run["usage"]["output_tokens"].as_u64().unwrap();
    assert!(used > 20_000, "{run}");
    assert!(run["usage"]["turns"].as_u64().unwrap() < 50, "{run}");
}
