//! What the agent asks: answered yes, no, otherwise, too late, not at all; one and several at once.

use std::fs;

use serde_json::{Value, json};

use super::{Stage, all, answer_to, asked, bash, notice, of_type, script, text};

fn status(events: &[Value]) -> Value {
    of_type(events, "command_finished")["data"]["status"].clone()
}

#[test]
fn a_tool_is_used_as_the_answer_says() {
    let Some(stage) = Stage::usual("questions of claude") else { return };
    let work = &stage.work;
    let ask = |file: &str| stage.client.spawn(stage.choosing(&bash(&format!("touch {file} && echo touched")), asked()));

    let yes = ask("yes");
    let question = stage.question(&yes, &[]);
    assert_eq!((&question["kind"], &question["default_choice"]), (&json!("approval"), &json!("deny")), "{question}");
    assert_eq!(question["details"]["tool"], "Bash");
    assert_eq!(question["details"]["input"]["command"], "touch yes && echo touched");
    let view = stage.client.until_status(&yes, "input_required");
    assert_eq!(view["question"]["question_id"], question["question_id"], "{view}");
    assert!(!work.join("yes").exists());
    // Nobody approves what they did not see, and nobody answers twice.
    let mut blind = answer_to(&question, json!({ "choices": ["allow"] }));
    blind["details_hash"] = "0".repeat(64).into();
    stage.client.refused("continue_run", json!({ "run_id": yes, "answer": blind }), "stale_answer");
    stage.answer(&yes, &question, json!({ "choices": ["allow"] }));
    let again = json!({ "run_id": yes, "answer": answer_to(&question, json!({ "choices": ["deny"] })) });
    assert!(stage.client.try_call("continue_run", again).is_err());
    let (run, events) = stage.completes(&yes);
    assert_eq!((text(&run), status(&events)), ("got touched", json!("succeeded")));
    assert!(work.join("yes").exists());

    let no = ask("no");
    stage.answer(&no, &stage.question(&no, &[]), json!({ "choices": ["deny"], "text": "the mouse sleeps there" }));
    let (run, events) = stage.completes(&no);
    assert!(text(&run).contains("the mouse sleeps there"), "the model reads why: {run}");
    assert_eq!(status(&events), json!("declined"));
    assert!(!work.join("no").exists());

    let other = ask("one");
    let changed = json!({ "input": { "command": "touch two && echo changed", "description": "d" } });
    stage.answer(&other, &stage.question(&other, &[]), json!({ "choices": ["allow"], "data": changed, "text": "two, not one" }));
    let (run, events) = stage.completes(&other);
    assert!(json!(events).to_string().contains("changed"), "{run}");
    assert!(work.join("two").exists() && !work.join("one").exists());
    let remark = of_type(&events, "message_added");
    assert_eq!(remark["data"]["text"], "two, not one", "what is said beside a yes reaches the agent");
}

#[test]
fn an_answer_from_now_on_holds_for_the_session_alone() {
    let Some(stage) = Stage::usual("an answer of claude that holds") else { return };
    let twice = script(&json!([
        [{ "tool": "Bash", "input": { "command": "touch first", "description": "d" } }],
        [{ "tool": "Bash", "input": { "command": "touch first second", "description": "d" } }],
        [{ "text": "both" }]
    ]));
    let run = stage.client.spawn(stage.choosing(&twice, asked()));
    let question = stage.question(&run, &[]);
    let offered: Vec<&Value> = question["choices"].as_array().unwrap().iter().map(|choice| &choice["id"]).collect();
    assert_eq!(offered, ["allow", "allow_session", "deny"]);
    stage.answer(&run, &question, json!({ "choices": ["allow_session"] }));
    let (run, events) = stage.completes(&run);
    assert_eq!((text(&run), all(&events, "input_required").len()), ("both", 1), "{events:#?}");
    assert!(stage.work.join("second").exists());
    assert!(!stage.work.join(".claude").exists(), "nothing is written into the project");
}

#[test]
fn a_question_that_nobody_answers_is_a_no() {
    let Some(stage) = Stage::with("an expired question of claude", super::KEY, "[host]\nquestion = \"1 s\"") else { return };
    let run = stage.client.spawn(stage.choosing(&bash("touch late"), asked()));
    let question = stage.question(&run, &[]);
    let (view, events) = stage.completes(&run);
    assert!(text(&view).to_lowercase().contains("nobody answered in time"), "{view}");
    let resolved = of_type(&events, "input_resolved");
    assert_eq!((&resolved["data"]["how"], &resolved["data"]["choice"]), (&json!("expired"), &json!("deny")));
    assert_eq!(status(&events), json!("declined"));
    assert!(!stage.work.join("late").exists());
    let late = json!({ "run_id": run, "answer": answer_to(&question, json!({ "choices": ["allow"] })) });
    assert!(stage.client.try_call("continue_run", late).is_err());

    // A question without a default is dismissed.
    let options = json!([{ "label": "A", "description": "a" }, { "label": "B", "description": "b" }]);
    let ask = json!({ "questions": [{ "question": "Which?", "header": "W", "options": options, "multiSelect": false }] });
    let (view, events) = stage.completed(
        stage.choosing(&script(&json!([[{ "tool": "AskUserQuestion", "input": ask }], [{ "text": "got {{tool_result}}" }]])), asked()),
    );
    assert!(text(&view).contains("decide yourself"), "{view}");
    assert_eq!(of_type(&events, "tool_finished")["data"]["status"], "declined");
}

#[test]
fn a_question_is_withdrawn_by_a_message_that_cuts_the_turn() {
    let Some(stage) = Stage::usual("a withdrawn question of claude") else { return };
    let run = stage.client.spawn(stage.choosing(&bash("touch gone"), asked()));
    let question = stage.question(&run, &[]);
    let steer = json!({ "run_id": run, "message": script(&json!([[{ "text": "something else" }]])), "timing": "now" });
    assert_eq!(stage.client.call("continue_run", steer)["action"], "steered");
    let (view, events) = stage.completes(&run);
    assert_eq!(text(&view), "something else");
    let resolved = of_type(&events, "input_resolved");
    assert_eq!((&resolved["data"]["question_id"], &resolved["data"]["how"]), (&question["question_id"], &json!("withdrawn")));
    assert!(!stage.work.join("gone").exists());
}

#[test]
fn two_subagents_ask_at_once_and_each_gets_its_answer() {
    let Some(stage) = Stage::usual("two open questions of claude") else { return };
    let below = |file: &str| {
        let input = json!({ "command": format!("touch {file}"), "description": "d" });
        let prompt = script(&json!([[{ "tool": "Bash", "input": input }], [{ "text": "done below" }]]));
        json!({ "tool": "Task", "input": { "description": file, "prompt": prompt, "subagent_type": "general-purpose", "run_in_background": false } })
    };
    let prompt = script(&json!([[below("left"), below("right")], [{ "text": "both are done" }]]));
    let run = stage.client.spawn(stage.choosing(&prompt, asked()));
    let first = stage.question(&run, &[]);
    let second = stage.question(&run, &[first["question_id"].as_str().unwrap()]);
    assert_eq!(stage.client.get(&run)["open_questions"], 2);
    let says = |question: &Value| if question["details"].to_string().contains("left") { "allow" } else { "deny" };
    for question in [&second, &first] {
        stage.answer(&run, question, json!({ "choices": [says(question)] }));
    }
    stage.completes(&run);
    assert!(stage.work.join("left").exists() && !stage.work.join("right").exists());
}

#[test]
fn the_agents_own_questions_are_answered_by_choice_by_text_and_by_form() {
    let Some(stage) = Stage::usual("AskUserQuestion of claude") else { return };
    let one = |question: &str, multiple: bool| {
        let options = json!([{ "label": "Red", "description": "as a rose" }, { "label": "Blue", "description": "as the sky" }]);
        json!({ "question": question, "header": "Colour", "options": options, "multiSelect": multiple })
    };
    let ask = |questions: Value| {
        let turn = json!([[{ "tool": "AskUserQuestion", "input": { "questions": questions } }], [{ "text": "got {{tool_result}}" }]]);
        let run = stage.client.spawn(stage.choosing(&script(&turn), asked()));
        let question = stage.question(&run, &[]);
        assert_eq!(question["kind"], "input", "{question}");
        (run, question)
    };
    let answered = |run: &str| text(&stage.completes(run).0).to_owned();

    let (run, question) = ask(json!([one("Which colour?", false)]));
    assert_eq!((&question["prompt"], &question["choices"][1]["label"]), (&json!("Which colour?"), &json!("Blue")), "{question}");
    stage.answer(&run, &question, json!({ "choices": ["option-2"] }));
    assert!(answered(&run).contains("\"Which colour?\"=\"Blue\""));

    let (run, question) = ask(json!([one("Which colour?", false)]));
    stage.answer(&run, &question, json!({ "text": "the colour of mice" }));
    assert!(answered(&run).contains("\"Which colour?\"=\"the colour of mice\""));

    let (run, question) = ask(json!([one("Which colours?", true)]));
    assert_eq!(question["multiple"], true);
    stage.answer(&run, &question, json!({ "choices": ["option-1", "option-2"] }));
    assert!(answered(&run).contains("\"Which colours?\"=\"Red, Blue\""));

    let (run, question) = ask(json!([one("Which colour?", false), one("Which colours?", true)]));
    assert!(question["form"]["properties"]["Which colours?"].is_object(), "{question}");
    let odd = json!({ "run_id": run, "answer": answer_to(&question, json!({ "data": { "Which mouse?": "grey" } })) });
    stage.client.refused("continue_run", odd, "invalid_argument");
    stage.answer(&run, &question, json!({ "data": { "Which colour?": "Red", "Which colours?": ["Red", "Blue"] } }));
    let said = answered(&run);
    assert!(said.contains("\"Which colour?\"=\"Red\"") && said.contains("\"Which colours?\"=\"Red, Blue\""), "{said}");
}

#[test]
fn a_plan_is_worked_on_and_then_approved() {
    let Some(stage) = Stage::usual("a plan of claude") else { return };
    let plan = "{{find:/\\S+/plans/[a-z-]+\\.md}}";
    let file = stage.work.join("done.txt");
    let prompt = script(&json!([
        [{ "tool": "Write", "input": { "file_path": plan, "content": "1. look for the mouse" } }],
        [{ "tool": "ExitPlanMode", "input": {} }],
        [{ "tool": "ExitPlanMode", "input": {} }],
        [{ "tool": "Write", "input": { "file_path": file, "content": "x" } }],
        [{ "text": "the end: {{tool_result}}" }]
    ]));
    let run = stage.client.spawn(stage.choosing(&prompt, json!({ "permission_mode": "plan", "allowed_tools": [] })));
    let first = stage.question(&run, &[]);
    assert_eq!((&first["kind"], &first["details"]["tool"]), (&json!("approval"), &json!("ExitPlanMode")), "{first}");
    assert_eq!(first["details"]["input"]["plan"], "1. look for the mouse", "{first}");
    assert!(first["prompt"].as_str().unwrap().contains("1. look for the mouse"));
    stage.answer(&run, &first, json!({ "choices": ["deny"], "text": "and for the vole" }));
    let second = stage.question(&run, &[first["question_id"].as_str().unwrap()]);
    stage.answer(&run, &second, json!({ "choices": ["allow"] }));
    // The plan is approved, not each of its steps.
    let id = |question: &Value| question["question_id"].as_str().unwrap().to_owned();
    let third = stage.question(&run, &[&id(&first), &id(&second)]);
    assert_eq!(third["details"]["tool"], "Write", "{third}");
    stage.answer(&run, &third, json!({ "choices": ["allow"] }));
    stage.completes(&run);
    assert!(file.exists());
    assert!(stage.mock.noted("and for the vole"));
}

#[test]
fn an_approved_plan_asks_whatever_mode_the_person_has_by_default() {
    let Some(stage) = Stage::with("a plan of claude under settings", crate::mock::KEY, "") else { return };
    std::fs::create_dir_all(stage.host.path("home/.claude")).unwrap();
    let settings = json!({ "permissions": { "defaultMode": "acceptEdits" } });
    std::fs::write(stage.host.path("home/.claude/settings.json"), settings.to_string()).unwrap();
    let file = stage.work.join("done.txt");
    let write = json!({ "tool": "Write", "input": { "file_path": file, "content": "x" } });
    let end = json!([{ "text": "the end: {{tool_result}}" }]);
    // The person's default does not go over what the run says.
    let asks = script(&json!([[write], end]));
    let run = stage.client.spawn(stage.choosing(&asks, json!({ "permission_mode": "ask", "allowed_tools": [] })));
    let question = stage.question(&run, &[]);
    stage.answer(&run, &question, json!({ "choices": ["deny"] }));
    stage.completes(&run);
    let plans = script(&json!([
        [{ "tool": "Write", "input": { "file_path": "{{find:/\\S+/plans/[a-z-]+\\.md}}", "content": "1. look for the mouse" } }],
        [{ "tool": "ExitPlanMode", "input": {} }],
        [write],
        end
    ]));
    let run = stage.client.spawn(stage.choosing(&plans, json!({ "permission_mode": "plan", "allowed_tools": [] })));
    let plan = stage.question(&run, &[]);
    stage.answer(&run, &plan, json!({ "choices": ["allow"] }));
    let step = stage.question(&run, &[plan["question_id"].as_str().unwrap()]);
    assert_eq!(step["details"]["tool"], "Write", "{step}");
    stage.answer(&run, &step, json!({ "choices": ["deny"] }));
    stage.completes(&run);
    assert!(!file.exists());
}

#[test]
fn servers_of_the_agent_ask_by_form_and_by_address() {
    let Some(stage) = Stage::usual("elicitation of claude") else { return };
    let config = json!({ "permission_mode": "ask", "allowed_tools": ["mcp__asking"], "mcp_servers": ["asking"] });
    let ask = |tool: &str| {
        let turn = json!([[{ "tool": tool, "input": { "message": "who are you?" } }], [{ "text": "got {{tool_result}}" }]]);
        let run = stage.client.spawn(stage.choosing(&script(&turn), config.clone()));
        let question = stage.question(&run, &[]);
        assert!(question["prompt"].as_str().unwrap().contains("asking asks: who are you?"), "{question}");
        (run, question)
    };
    let (run, question) = ask("mcp__asking__ask");
    assert_eq!(question["form"]["required"], json!(["name"]), "{question}");
    let odd = json!({ "run_id": run, "answer": answer_to(&question, json!({ "choices": ["accept"], "data": { "count": 0 } })) });
    stage.client.refused("continue_run", odd, "invalid_argument");
    stage.answer(&run, &question, json!({ "choices": ["accept"], "data": { "name": "Bob", "count": 3 } }));
    let (view, events) = stage.completes(&run);
    assert!(text(&view).contains(r#""content": {"count": 3, "name": "Bob"}"#), "{view}");
    let call = of_type(&events, "tool_started");
    assert_eq!((&call["data"]["server"], &call["data"]["tool"]), (&json!("asking"), &json!("ask")));

    let (run, question) = ask("mcp__asking__ask");
    stage.answer(&run, &question, json!({ "choices": ["decline"] }));
    assert!(text(&stage.completes(&run).0).contains("decline"));

    let (run, question) = ask("mcp__asking__visit");
    assert_eq!(question["details"]["url"], "https://example.org/visit", "{question}");
    stage.answer(&run, &question, json!({ "choices": ["accept"] }));
    assert!(text(&stage.completes(&run).0).contains("accept"));
}

#[test]
fn where_nobody_is_asked_everything_is_refused_at_once() {
    let Some(stage) = Stage::usual("a run of claude that never asks") else { return };
    let config = json!({ "permission_mode": "never_ask_deny", "allowed_tools": ["mcp__asking"], "mcp_servers": ["asking"] });
    let (run, events) = stage.completed(stage.choosing(&bash("touch x"), config.clone()));
    assert!(text(&run).to_lowercase().contains("nobody can be asked"), "{run}");
    assert_eq!(status(&events), json!("declined"));
    notice(&events, "permission_denied");
    let prompt = script(&json!([[{ "tool": "mcp__asking__ask", "input": {} }], [{ "text": "got {{tool_result}}" }]]));
    let (run, events) = stage.completed(stage.choosing(&prompt, config));
    assert!(text(&run).contains("decline"), "{run}");
    notice(&events, "question_declined");
    assert!(all(&events, "input_required").is_empty());
    assert!(fs::read_dir(&stage.work).unwrap().next().is_none());
}
