//! A plain answer, streamed; reasoning; the key; odd prompts.

use serde_json::json;

use super::{KEY, Stage, all, of_type};

#[test]
fn a_plain_answer_is_streamed() {
    let Some(stage) = Stage::set("a plain answer of codex") else { return };
    let (run, events) = stage.completed(stage.request("MOCK[[{\"text\":\"one two three four\",\"delay_ms\":30}]]"));
    assert_eq!(run["result"]["text"], "one two three four", "{run}");
    of_type(&events, "session_started");
    let said = all(&events, "agent_message");
    let (whole, pieces) = said.split_last().unwrap();
    assert!(whole["whole"] == true && pieces.len() > 1, "{said:#?}");
    let joined: String = pieces.iter().map(|piece| piece["text"].as_str().unwrap()).collect();
    assert_eq!(joined, "one two three four");
    assert!(pieces.iter().all(|piece| piece["id"] == whole["id"]), "{said:#?}");
    // The run's own message is no message that joined.
    assert_eq!(all(&events, "message_added"), Vec::<&serde_json::Value>::new());
    let init = all(&events, "native").into_iter().find(|native| native["kind"] == "init").unwrap();
    assert_eq!((&init["data"]["model"], &init["data"]["version"]), (&json!("mock-model"), &json!("0.169.0")), "{init}");

    // The key was used and is nowhere.
    assert!(!json!(events).to_string().contains(KEY) && !run.to_string().contains(KEY));
    let holding = stage.host.data_holding(KEY.as_bytes());
    assert!(holding.is_empty(), "{holding:?}");

    let (run, events) = stage.completed(stage.request("MOCK:think"));
    assert_eq!(run["result"]["text"], "I thought about it.");
    let thought = all(&events, "reasoning");
    assert_eq!(thought.last().unwrap()["text"], "**Thinking** about this.", "{thought:#?}");
    assert!(thought.len() > 1 && thought.iter().all(|piece| piece["id"] == thought[0]["id"]), "{thought:#?}");
}

#[test]
fn prompts_are_texts() {
    let Some(stage) = Stage::set("odd prompts to codex") else { return };
    for prompt in ["/help MOCK:hello", "@secret.txt MOCK:hello", "-c MOCK:hello", "$skill \u{1f600}\nMOCK:hello"] {
        let (run, _) = stage.completed(stage.request(prompt));
        assert_eq!(run["result"]["text"], "Hello from the mock model.", "{prompt}");
        let sent = stage.mock.bodies("").pop().unwrap()["input"].to_string();
        assert!(sent.contains(json!(prompt).to_string().trim_matches('"')), "{prompt}: {sent}");
    }
    let large = format!("MOCK:hello {}", "many words ".repeat(20_000));
    let (run, _) = stage.completed(stage.request(&large));
    assert_eq!(run["result"]["text"], "Hello from the mock model.");
    stage.failed(stage.request(""), "invalid_argument");
}

#[test]
fn a_plan_of_a_run_says_what_would_be_started() {
    let Some(stage) = Stage::set("a plan of a codex run") else { return };
    let plan = stage.client.call("plan_run", stage.request("MOCK:hello"));
    assert_eq!(plan["allowed"], true, "{plan}");
    assert!(plan["summary"].as_str().unwrap().contains("the sandbox is workspace-write"), "{plan}");
    let actions = plan["actions"].to_string();
    assert!(actions.contains("app-server") && actions.contains("openai_base_url") && !actions.contains("127.0.0.1"), "{plan}");
    let plan = stage.client.call("plan_run", stage.choosing("MOCK:hello", json!({ "mcp_servers": ["none"] })));
    assert_eq!(plan["allowed"], false, "{plan}");
    assert!(plan["refusal"]["message"].as_str().unwrap().contains("there is no server `none`"), "{plan}");
}
