//! Questions: yes, no, for the session, with changed input, expired, withdrawn; of the agent and of its MCP servers.

use std::fs;

use serde_json::{Value, json};

use super::{Props, Stage, all, answering, noticed, of_type, script};

fn touch(name: &str) -> String {
    format!("MOCK:bash {}", json!({ "command": format!("touch {name}") }))
}

fn choices(question: &Value) -> Vec<&str> {
    question["choices"].as_array().unwrap().iter().map(|choice| choice["id"].as_str().unwrap()).collect()
}

#[test]
fn a_command_is_asked_and_answered_once() {
    let Some(stage) = Stage::set("questions of codex") else { return };
    let run = stage.client.spawn(stage.request(&touch("made")));
    let question = stage.question(&run);
    assert!(question["details"]["command"].as_str().unwrap().contains("touch made"), "{question}");
    assert_eq!(question["details"]["cwd"], json!(stage.host.work()), "{question}");
    assert_eq!((choices(&question), &question["default_choice"]), (vec!["allow", "allow_session", "deny"], &json!("deny")), "{question}");
    assert!(!stage.host.work().join("made").exists());
    let mut stale = answering(&run, &question, json!({ "choices": ["allow"] }));
    stale["answer"]["details_hash"] = json!("0".repeat(64));
    stage.client.refused("continue_run", stale, "stale_answer");
    stage.answer(&run, &question, json!({ "choices": ["allow"] }));
    let (view, events) = stage.ended(&run);
    assert_eq!(view["status"], "completed", "{view}");
    assert!(stage.host.work().join("made").exists());
    assert_eq!(of_type(&events, "command_finished")["data"]["status"], "succeeded");
    assert_eq!(all(&events, "input_resolved")[0]["how"], "answered");

    // No, with a word.
    let run = stage.client.spawn(stage.request(&touch("never")));
    let question = stage.question(&run);
    stage.answer(&run, &question, json!({ "choices": ["deny"], "text": "not in this house" }));
    let (view, events) = stage.ended(&run);
    assert_eq!(view["status"], "completed", "{view}");
    assert!(!stage.host.work().join("never").exists());
    assert_eq!(of_type(&events, "command_finished")["data"]["status"], "declined");
    assert_eq!(all(&events, "message_added")[0]["text"], "not in this house");
    assert!(stage.mock.bodies("").last().unwrap().to_string().contains("not in this house"));
}

#[test]
fn an_answer_for_the_session_answers_the_same_again() {
    let Some(stage) = Stage::set("an answer for the session of codex") else { return };
    let twice = json!({ "tool": "shell", "input": { "command": "echo x >> counted" } });
    let run = stage.client.spawn(stage.request(&script(json!([[twice], [twice], [{ "text": "done" }]]))));
    let question = stage.question(&run);
    stage.answer(&run, &question, json!({ "choices": ["allow_session"] }));
    let (view, events) = stage.ended(&run);
    assert_eq!((&view["status"], all(&events, "input_required").len()), (&json!("completed"), 1), "{events:#?}");
    assert_eq!(fs::read_to_string(stage.host.work().join("counted")).unwrap(), "x\nx\n");
}

#[test]
fn a_change_of_files_is_asked_with_its_diff() {
    let Some(stage) = Stage::set("file questions of codex") else { return };
    let patch =
        |name: &str| format!("MOCK:patch {}", json!({ "patch": format!("*** Begin Patch\n*** Add File: {name}\n+caught\n*** End Patch") }));
    for (choice, status) in [("allow", "succeeded"), ("deny", "declined")] {
        let run = stage.client.spawn(stage.choosing(&patch(choice), json!({ "model": "gpt-5.5" })));
        let question = stage.question(&run);
        let file = stage.host.work().join(choice);
        assert_eq!(question["details"]["changes"], json!([{ "path": file, "kind": { "type": "add" }, "diff": "caught\n" }]), "{question}");
        stage.answer(&run, &question, json!({ "choices": [choice] }));
        let (_, events) = stage.ended(&run);
        assert_eq!(of_type(&events, "tool_finished")["data"]["status"], status);
        assert_eq!((file.exists(), all(&events, "file_changed").len()), (choice == "allow", usize::from(choice == "allow")));
    }
}

#[test]
fn changed_input_is_refused_and_the_question_stays() {
    let Some(stage) = Stage::set("changed input to codex") else { return };
    let run = stage.client.spawn(stage.request(&touch("as-it-stands")));
    let question = stage.question(&run);
    // Under whatever key: it would not be heard.
    stage.answer(&run, &question, json!({ "choices": ["allow"], "data": { "command": "touch other" } }));
    let notice = stage.client.event(&run, "the refusal", |event| event["data"]["code"] == "reply_refused");
    assert!(notice["data"]["message"].as_str().unwrap().contains("codex takes no changed input"), "{notice}");
    let again = stage.question(&run);
    assert_ne!(again["question_id"], question["question_id"]);
    assert_eq!(again["details"], question["details"]);
    stage.client.refused("continue_run", answering(&run, &question, json!({ "choices": ["allow"] })), "question_answered");
    stage.answer(&run, &again, json!({ "choices": ["allow"] }));
    let (view, _) = stage.ended(&run);
    assert_eq!(view["status"], "completed", "{view}");
    let work = stage.host.work();
    assert!(work.join("as-it-stands").exists() && !work.join("other").exists());
}

#[test]
fn a_question_that_expires_is_a_no() {
    let Some(stage) = Stage::with("an expired question of codex", Props { more: "[host]\nquestion = \"1s\"", ..Props::default() }) else {
        return;
    };
    let run = stage.client.spawn(stage.request(&touch("late")));
    let question = stage.question(&run);
    let (view, events) = stage.ended(&run);
    assert_eq!(view["status"], "completed", "{view}");
    assert_eq!(all(&events, "input_resolved")[0]["how"], "expired", "{events:#?}");
    assert_eq!(of_type(&events, "command_finished")["data"]["status"], "declined");
    assert!(!stage.host.work().join("late").exists());
    assert!(stage.client.try_call("continue_run", answering(&run, &question, json!({ "choices": ["allow"] }))).is_err());

    // Nobody answers the agent's own question: it goes on without.
    let ask = json!({ "questions": [{ "id": "db", "header": "DB", "question": "Which?", "options": [{ "label": "A", "description": "a" }, { "label": "B", "description": "b" }] }] });
    let prompt = script(json!([[{ "tool": "request_user_input", "input": ask }], [{ "text": "got {{tool_result}}" }]]));
    let (view, events) = stage.completed(stage.request(&prompt));
    assert_eq!(all(&events, "input_resolved")[0]["how"], "expired", "{events:#?}");
    assert_eq!(view["result"]["text"], "got {\"answers\":{}}");
}

#[test]
fn a_question_is_withdrawn_when_its_turn_is_cut() {
    let Some(stage) = Stage::set("a withdrawn question of codex") else { return };
    let run = stage.client.spawn(stage.request(&touch("withdrawn")));
    let question = stage.question(&run);
    stage.steer(&run, "MOCK:hello", "now");
    let (view, events) = stage.ended(&run);
    assert_eq!(view["result"]["text"], "Hello from the mock model.", "{view}\n{events:#?}");
    let resolved = all(&events, "input_resolved")[0];
    assert_eq!((&resolved["question_id"], &resolved["how"]), (&question["question_id"], &json!("withdrawn")), "{resolved}");
    assert!(stage.client.try_call("continue_run", answering(&run, &question, json!({ "choices": ["allow"] }))).is_err());
    assert!(!stage.host.work().join("withdrawn").exists());
}

#[test]
fn several_questions_are_open_at_once() {
    let Some(stage) = Stage::set("several questions of codex") else { return };
    let child =
        |name: &str| script(json!([[{ "tool": "shell", "input": { "command": format!("touch {name}") } }], [{ "text": "child done" }]]));
    let spawn = |name: &str| json!({ "tool": "multi_agent_v1__spawn_agent", "input": { "message": child(name), "agent_type": "default" } });
    let run = stage.client.spawn(stage.request(&script(json!([[spawn("one")], [spawn("two")], [{ "text": "parent done" }]]))));
    let both = crate::patience::until("two questions", || {
        let events = stage.client.events(&run);
        let asked: Vec<Value> = all(&events, "input_required").into_iter().cloned().collect();
        (asked.len() == 2).then_some(asked)
    });
    // The second one first.
    for (question, choice) in both.iter().rev().zip(["deny", "allow"]) {
        stage.answer(&run, question, json!({ "choices": [choice] }));
    }
    let (view, events) = stage.ended(&run);
    assert_eq!(view["status"], "completed", "{view}");
    let made = ["one", "two"].iter().filter(|name| stage.host.work().join(name).exists()).count();
    assert_eq!((made, all(&events, "input_resolved").len()), (1, 2), "{events:#?}");
}

#[test]
fn the_agents_own_questions() {
    let Some(stage) = Stage::set("the agent's questions of codex") else { return };
    let option = |label: &str| json!({ "label": label, "description": format!("it is {label}") });
    let one = json!({ "id": "color", "header": "Color", "question": "Which color?", "options": [option("Red"), option("Blue")] });
    let two = json!({ "id": "size", "header": "Size", "question": "Which size?", "options": [option("S"), option("L")] });
    let prompt = |questions: Value| {
        script(json!([[{ "tool": "request_user_input", "input": { "questions": questions } }], [{ "text": "got {{tool_result}}" }]]))
    };
    for (answer, told) in [(json!({ "choices": ["option-2"] }), r#"["Blue"]"#), (json!({ "text": "green" }), r#"["green"]"#)] {
        let run = stage.client.spawn(stage.request(&prompt(json!([one]))));
        let question = stage.question(&run);
        assert_eq!((question["prompt"].as_str(), choices(&question)), (Some("Which color?"), vec!["option-1", "option-2"]), "{question}");
        stage.answer(&run, &question, answer);
        let (view, _) = stage.ended(&run);
        assert_eq!(view["result"]["text"], format!(r#"got {{"answers":{{"color":{{"answers":{told}}}}}}}"#), "{view}");
    }
    let run = stage.client.spawn(stage.request(&prompt(json!([one, two]))));
    let question = stage.question(&run);
    assert_eq!(question["form"]["properties"]["size"]["description"], "Which size?", "{question}");
    let wrong = answering(&run, &question, json!({ "data": { "size": 3 } }));
    stage.client.refused("continue_run", wrong, "invalid_argument");
    stage.answer(&run, &question, json!({ "data": { "color": "Red", "size": "L" } }));
    let (view, _) = stage.ended(&run);
    let text = view["result"]["text"].as_str().unwrap();
    assert!(text.contains(r#""color":{"answers":["Red"]}"#) && text.contains(r#""size":{"answers":["L"]}"#), "{view}");
}

#[test]
fn what_an_mcp_server_of_the_agent_asks() {
    let config = "permission_mode = \"accept_edits\"\nmcp_servers = [\"probe\"]\n[backends.codex.config.mcp_catalog.probe]\ncommand = \"python3\"\nargs = [\"{tests}/fixtures/mcp_probe.py\", \"--log\", \"/dev/null\"]\n";
    let Some(stage) = Stage::with("elicitations to codex", Props { config, ..Props::default() }) else { return };
    let call = format!("MOCK:mcp {}", json!({ "tool": "mcp__probe__elicit", "input": { "message": "Which colour?" } }));
    for (answer, told) in
        [(json!({ "data": { "colour": "green" } }), "\"action\": \"accept\""), (json!({ "choices": ["deny"] }), "\"action\": \"decline\"")]
    {
        let run = stage.client.spawn(stage.request(&call));
        // First whether the tool may be called at all.
        let question = stage.question(&run);
        assert_eq!(question["details"]["tool_name"], "elicit", "{question}");
        stage.answer(&run, &question, json!({ "choices": ["allow"] }));
        let form = crate::patience::until("the form", || {
            let view = stage.client.get(&run);
            Some(view["question"].clone()).filter(|question| question["form"].is_object())
        });
        assert!(form["prompt"].as_str().unwrap().contains("Which colour?"), "{form}");
        assert_eq!(form["form"]["properties"]["colour"]["enum"], json!(["red", "green"]), "{form}");
        stage.answer(&run, &form, answer);
        let (view, events) = stage.ended(&run);
        assert!(of_type(&events, "tool_finished").to_string().replace('\\', "").contains(told), "{view}\n{events:#?}");
    }
    // A tool that may not be called.
    let run = stage.client.spawn(stage.request(&call));
    let question = stage.question(&run);
    stage.answer(&run, &question, json!({ "choices": ["deny"] }));
    let (view, events) = stage.ended(&run);
    assert_eq!(view["status"], "completed", "{view}");
    assert_eq!(of_type(&events, "tool_finished")["data"]["status"], "failed");

    // Nobody is asked: refused at once, and said.
    let (view, events) = stage.completed(stage.choosing(&call, json!({ "permission_mode": "never_ask_deny" })));
    assert!(view["result"]["text"].as_str().unwrap().contains("approval"), "{view}\n{events:#?}");
    assert_eq!(all(&events, "input_required"), Vec::<&Value>::new());
    assert!(!noticed(&events, "reply_refused"));
}
