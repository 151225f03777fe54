//! An answer, as it is streamed; and what a prompt is.

use std::fs;

use serde_json::json;

use super::{KEY, Stage, all, of_type, script, text};

#[test]
fn a_plain_answer() {
    let Some(stage) = Stage::usual("a plain answer of claude") else { return };
    let (run, events) = stage.completed(stage.request("MOCK:hello"));
    assert_eq!(text(&run), "Hello from the mock model.");
    of_type(&events, "session_started");
    assert!(run["usage"]["output_tokens"].as_u64().is_some_and(|count| count > 0), "{}", run["usage"]);
    assert_eq!(run["usage"]["turns"], 1, "{}", run["usage"]);
    assert!(run["usage"]["cost_microdollars"].as_u64().is_some_and(|cost| cost > 0), "{}", run["usage"]);

    // The key was used and is nowhere.
    assert!(!json!(events).to_string().contains(KEY) && !run.to_string().contains(KEY));
    let holding = stage.host.data_holding(KEY.as_bytes());
    assert!(holding.is_empty(), "{holding:?}");
}

#[test]
fn text_and_thoughts_come_in_pieces_and_then_whole() {
    let Some(stage) = Stage::usual("streamed text of claude") else { return };
    let words = "one two three four five six seven";
    let prompt = script(&json!([[{ "thinking": "let me see", "delay_ms": 30 }, { "text": words, "delay_ms": 60 }]]));
    let (run, events) = stage.completed(stage.request(&prompt));
    assert_eq!(text(&run), words);
    for (kind, said) in [("agent_message", words), ("reasoning", "let me see")] {
        let (whole, pieces): (Vec<_>, Vec<_>) = all(&events, kind).into_iter().partition(|event| event["data"]["whole"] == true);
        let joined: String = pieces.iter().map(|piece| piece["data"]["text"].as_str().unwrap()).collect();
        assert_eq!(joined, said, "{events:#?}");
        assert!(pieces.len() > 1 && whole.len() == 1, "{events:#?}");
        assert_eq!(whole[0]["data"]["text"], said);
        assert!(pieces.iter().all(|piece| piece["data"]["id"] == whole[0]["data"]["id"]), "{events:#?}");
    }
}

#[test]
fn prompts_are_texts_and_never_commands_of_claude() {
    let Some(stage) = Stage::usual("odd prompts to claude") else { return };
    fs::write(stage.work.join("secret.txt"), "inlined").unwrap();
    let prompts = ["/cost MOCK:hello", "@secret.txt MOCK:hello", "-p MOCK:hello", "--help MOCK:hello"];
    let runs: Vec<String> = prompts.iter().map(|prompt| stage.client.spawn(stage.request(prompt))).collect();
    for (run, prompt) in runs.iter().zip(prompts) {
        assert_eq!(text(&stage.completes(run).0), "Hello from the mock model.", "{prompt}");
    }
    assert!(!stage.mock.noted("inlined"));
    let large = format!("MOCK:hello {}", "many words ".repeat(20_000));
    assert_eq!(text(&stage.completed(stage.request(&large)).0), "Hello from the mock model.");
    stage.fails(stage.request(""), "invalid_argument");

    // Unless the caller asks for it.
    let (run, _) = stage.completed(stage.choosing("/cost", json!({ "expand_prompt": true })));
    assert!(text(&run).contains("cost"), "{run}");
    stage.completed(stage.choosing("@secret.txt MOCK:hello", json!({ "expand_prompt": true })));
    assert!(stage.mock.noted("inlined"));
}
