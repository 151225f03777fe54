use falconer_backend::QuestionKind;
use serde_json::json;

use super::*;
use crate::incoming::Incoming;

/// Asks one request; the question.
fn ask(questions: &mut Questions, request: Value) -> Question {
    let line = json!({ "type": "control_request", "request_id": "r1", "request": request });
    let Incoming::Asked(asked) = Incoming::read(line) else { panic!("nothing is asked") };
    let mut events = Events::new();
    assert!(matches!(questions.ask(asked, &mut events), Opened::Asked));
    match events.pending().events.pop() {
        Some(Event::Asked(question)) => question,
        other => panic!("{other:?}"),
    }
}

fn tool(name: &str, input: Value) -> Value {
    json!({ "subtype": "can_use_tool", "tool_name": name, "input": input, "tool_use_id": "toolu_1" })
}

fn chosen(id: &str, choices: &[&str], text: Option<&str>, data: Option<Value>) -> Answer {
    Answer::Chosen(QuestionAnswer {
        question: id.to_owned(),
        choices: choices.iter().map(|choice| (*choice).to_owned()).collect(),
        text: text.map(str::to_owned),
        data: data.map(|data| data.to_string()),
        reason: None,
    })
}

/// What the program is told.
fn response(resolved: &Resolved) -> Value {
    let line: Value = serde_json::from_str(&resolved.line).unwrap();
    assert_eq!(line["response"]["request_id"], "r1");
    line["response"]["response"].clone()
}

/// Asks, answers, and gives what the program is told.
fn round(request: Value, choices: &[&str], text: Option<&str>, data: Option<Value>) -> Value {
    let mut questions = Questions::default();
    let question = ask(&mut questions, request);
    let told = response(&questions.answer(chosen(&question.id, choices, text, data)).unwrap());
    assert_eq!(questions.len(), 0);
    told
}

#[test]
fn a_tool_is_allowed_changed_or_refused() {
    let bash = || tool("Bash", json!({ "command": "touch x" }));
    let mut questions = Questions::default();
    let question = ask(&mut questions, bash());
    assert_eq!((question.kind, question.default_choice.as_deref()), (QuestionKind::Approval, Some("deny")));
    assert!(question.prompt.contains("touch x"), "{}", question.prompt);
    let details: Value = serde_json::from_str(&question.details).unwrap();
    assert_eq!(details, json!({ "tool": "Bash", "input": { "command": "touch x" } }));
    let ids: Vec<_> = question.choices.iter().map(|choice| choice.id.as_str()).collect();
    assert_eq!(ids, ["allow", "deny"]);

    assert_eq!(round(bash(), &["allow"], None, None), json!({ "behavior": "allow", "updatedInput": { "command": "touch x" } }));
    let changed = json!({ "input": { "command": "touch y" } });
    assert_eq!(round(bash(), &["allow"], None, Some(changed))["updatedInput"]["command"], "touch y");
    let refused = round(bash(), &["deny"], Some("not there"), None);
    assert_eq!((&refused["behavior"], &refused["interrupt"]), (&json!("deny"), &json!(false)));
    assert!(refused["message"].as_str().unwrap().contains("not there"));
    // Whatever is no yes is a no.
    for (choices, text, data) in [(vec![], Some("yes"), None), (vec![], None, Some(json!({ "input": {} }))), (vec!["other"], None, None)] {
        assert_eq!(round(bash(), &choices, text, data)["behavior"], "deny");
    }
}

#[test]
fn an_answer_that_never_came_is_a_no_with_its_reason() {
    for request in [tool("Bash", json!({})), tool("ExitPlanMode", json!({ "plan": "1." })), tool("AskUserQuestion", questions(1))] {
        let mut open = Questions::default();
        let question = ask(&mut open, request);
        let gone = Withdrawal { question: question.id.clone(), reason: "nobody answered in time".to_owned() };
        let resolved = open.answer(Answer::Dismissed(gone)).unwrap();
        assert_eq!(resolved.declined.as_deref(), Some("toolu_1"));
        let told = response(&resolved);
        assert_eq!(told["behavior"], "deny");
        assert!(told["message"].as_str().unwrap().to_lowercase().contains("nobody answered in time"), "{told}");
        assert_eq!(open.answer(chosen(&question.id, &["allow"], None, None)).unwrap_err().code, "question_closed");
    }
}

#[test]
fn from_now_on_holds_for_the_session() {
    let rule = json!({ "type": "addRules", "rules": [{ "toolName": "Bash", "ruleContent": "touch *" }], "behavior": "allow", "destination": "localSettings" });
    let mut request = tool("Bash", json!({ "command": "touch x" }));
    request["permission_suggestions"] = json!([rule]);
    let mut questions = Questions::default();
    let question = ask(&mut questions, request.clone());
    assert_eq!(question.choices[1].id, "allow_session");
    assert!(question.choices[1].description.as_ref().unwrap().contains("Bash(touch *)"));
    assert!(question.details.contains("touch *"), "what is granted is in what is judged: {}", question.details);
    let told = round(request.clone(), &["allow_session"], None, None);
    assert_eq!(told["updatedPermissions"][0]["destination"], "session");
    assert!(round(request, &["allow"], None, None).get("updatedPermissions").is_none());
}

/// The input of `AskUserQuestion`, with one question or two.
fn questions(count: usize) -> Value {
    let options = json!([{ "label": "Red", "description": "as a rose" }, { "label": "Blue" }]);
    let both = [
        json!({ "question": "Which colour?", "header": "Colour", "options": options, "multiSelect": false }),
        json!({ "question": "Which sizes?", "header": "Size", "options": options, "multiSelect": true }),
    ];
    json!({ "questions": both[..count] })
}

#[test]
fn the_agents_question_has_its_options() {
    let mut open = Questions::default();
    let question = ask(&mut open, tool("AskUserQuestion", questions(1)));
    assert_eq!((question.kind, question.multiple, question.default_choice), (QuestionKind::Input, false, None));
    assert_eq!((question.choices[0].id.as_str(), question.choices[1].label.as_str()), ("option-1", "Blue"));
    let answers =
        |choices: &[&str], text| round(tool("AskUserQuestion", questions(1)), choices, text, None)["updatedInput"]["answers"].clone();
    assert_eq!(answers(&["option-2"], None), json!({ "Which colour?": "Blue" }));
    assert_eq!(answers(&[], Some("none of them")), json!({ "Which colour?": "none of them" }));
    assert_eq!(answers(&["option-1", "option-2"], Some("mixed")), json!({ "Which colour?": "Red, Blue, mixed" }));
    assert_eq!(round(tool("AskUserQuestion", questions(1)), &[], None, None)["behavior"], "deny");
}

#[test]
fn several_questions_are_one_form() {
    let request = || tool("AskUserQuestion", questions(2));
    let mut open = Questions::default();
    let question = ask(&mut open, request());
    let form: Value = serde_json::from_str(question.form.as_ref().unwrap()).unwrap();
    assert!(question.choices.is_empty());
    assert_eq!(form["properties"]["Which sizes?"]["type"], json!(["array", "string"]));
    assert_eq!(form["properties"]["Which colour?"]["examples"], json!(["Red", "Blue"]));
    let data = json!({ "Which colour?": "Blue", "Which sizes?": ["Red", "Blue"] });
    let answers = round(request(), &[], None, Some(data))["updatedInput"]["answers"].clone();
    assert_eq!(answers, json!({ "Which colour?": "Blue", "Which sizes?": "Red, Blue" }));
    let answers = round(request(), &[], Some("as you like"), Some(json!({ "Which colour?": "Red" })))["updatedInput"]["answers"].clone();
    assert_eq!(answers, json!({ "Which colour?": "Red", "Which sizes?": "as you like" }));
    // One of a shape that is not known can be allowed or refused all the same.
    let odd = tool("AskUserQuestion", json!({ "ask": "what?" }));
    assert_eq!(round(odd, &["deny"], None, None)["behavior"], "deny");
}

#[test]
fn a_plan_is_approved_or_worked_on() {
    let plan = || tool("ExitPlanMode", json!({ "plan": "1. dig" }));
    let mut open = Questions::default();
    let question = ask(&mut open, plan());
    assert!(question.prompt.contains("1. dig"));
    let resolved = open.answer(chosen(&question.id, &["allow"], Some("mind the cables"), None)).unwrap();
    assert_eq!(resolved.remark.as_deref(), Some("mind the cables"));
    assert_eq!(response(&resolved), json!({ "behavior": "allow", "updatedInput": { "plan": "1. dig" } }));
    assert!(round(plan(), &["deny"], Some("deeper"), None)["message"].as_str().unwrap().contains("deeper"));
}

#[test]
fn a_form_of_a_server_is_accepted_declined_or_cancelled() {
    let schema = json!({
        "type": "object", "required": ["name", "name", "else"],
        "properties": {
            "name": { "type": "string", "minLength": -1, "pattern": "(?<", "title": "Name" },
            "odd": { "type": "wrong", "enum": ["a", "a"], "$ref": "https://x.example/" },
            "kind": { "type": "string", "oneOf": [{ "const": "a", "title": "A" }] },
        },
    });
    let request =
        || json!({ "subtype": "elicitation", "mcp_server_name": "srv", "message": "who?", "mode": "form", "requested_schema": schema });
    let mut open = Questions::default();
    let question = ask(&mut open, request());
    let form: Value = serde_json::from_str(question.form.as_ref().unwrap()).unwrap();
    let expected = json!({
        "type": "object", "required": ["name"],
        "properties": {
            "name": { "type": "string", "title": "Name" }, "odd": {},
            "kind": { "type": "string", "oneOf": [{ "const": "a", "title": "A" }] },
        },
    });
    assert_eq!(form, expected, "an odd schema makes no odd form");
    assert_eq!(question.default_choice.as_deref(), Some("cancel"));
    let data = json!({ "name": "Bob" });
    let accepted = json!({ "action": "accept", "content": data });
    assert_eq!(round(request(), &["accept"], None, Some(data.clone())), accepted);
    assert_eq!(round(request(), &[], None, Some(data)), accepted);
    assert_eq!(round(request(), &["decline"], None, None), json!({ "action": "decline" }));
    assert_eq!(round(request(), &["accept"], None, None), json!({ "action": "cancel" }));
    assert_eq!(round(request(), &["cancel"], None, None), json!({ "action": "cancel" }));

    let visit =
        || json!({ "subtype": "elicitation", "mcp_server_name": "srv", "message": "go", "mode": "url", "url": "https://x.example/y" });
    let question = ask(&mut Questions::default(), visit());
    assert!(question.prompt.contains("https://x.example/y") && question.form.is_none());
    assert_eq!(round(visit(), &["accept"], None, None), json!({ "action": "accept" }));
}

#[test]
fn what_is_taken_back_or_not_known_leaves_nothing_open() {
    let mut open = Questions::default();
    let question = ask(&mut open, tool("Bash", json!({})));
    assert_eq!(open.withdraw("another"), None);
    let Some(Event::Withdrawn(withdrawal)) = open.withdraw("r1") else { panic!("nothing is withdrawn") };
    assert_eq!((withdrawal.question, open.len()), (question.id, 0));
    let Incoming::Asked(asked) =
        Incoming::read(json!({ "type": "control_request", "request_id": "r2", "request": { "subtype": "later" } }))
    else {
        panic!("nothing is asked")
    };
    let Opened::Refused(line) = open.ask(asked, &mut Events::new()) else { panic!("a question") };
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["response"]["subtype"], open.len()), (&json!("error"), 0));
}
