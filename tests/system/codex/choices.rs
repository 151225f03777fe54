//! What a run may choose: permission modes, sandbox, directories, instructions, effort, web search, images.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Props, Stage, all, noticed, script};

fn bash(command: &str) -> String {
    format!("MOCK:bash {}", json!({ "command": command }))
}

/// A directory that no sandbox may write: not below `/tmp`.
fn elsewhere() -> TempDir {
    tempfile::Builder::new().prefix("falconer-test-").tempdir_in("/var/tmp").unwrap()
}

#[test]
fn each_permission_mode_does_what_it_says() {
    let Some(stage) = Stage::set("permission modes of codex") else { return };
    let (work, elsewhere) = (stage.host.work(), elsewhere());
    let inside = |name: &str| bash(&format!("touch {name}; touch {}/{name}", elsewhere.path().display()));
    let outside = |name: &str| elsewhere.path().join(name);

    // The workspace may be written, and nothing else; nobody is asked.
    for mode in ["accept_edits", "never_ask_deny"] {
        let (_, events) = stage.completed(stage.choosing(&inside(mode), json!({ "permission_mode": mode })));
        assert_eq!(all(&events, "input_required"), Vec::<&Value>::new());
        assert!(work.join(mode).exists() && !outside(mode).exists(), "{mode}");
    }
    // What the sandbox does not allow is asked in the one mode, and refused in the other.
    let escalate = format!("MOCK:escalate {}", json!({ "command": format!("touch {}/more", elsewhere.path().display()) }));
    let run = stage.client.spawn(stage.choosing(&escalate, json!({ "permission_mode": "accept_edits" })));
    let question = stage.question(&run);
    assert_eq!(question["details"]["reason"], "mock: needs more rights", "{question}");
    stage.answer(&run, &question, json!({ "choices": ["allow"] }));
    assert_eq!(stage.ended(&run).0["status"], "completed");
    assert!(outside("more").exists());
    fs::remove_file(outside("more")).unwrap();
    let (_, events) = stage.completed(stage.choosing(&escalate, json!({ "permission_mode": "never_ask_deny" })));
    assert!(!outside("more").exists() && noticed(&events, "permission_denied"), "{events:#?}");

    // A plan changes nothing, and is the answer.
    let (run, _) = stage.completed(stage.choosing(&inside("plan"), json!({ "permission_mode": "plan" })));
    assert!(run["result"]["text"].as_str().unwrap().contains("Read-only file system"), "{run}");
    assert!(!work.join("plan").exists() && !outside("plan").exists());
    let plan = script(json!([[{ "text": "<proposed_plan>\n# Plan\n- catch it\n</proposed_plan>" }]]));
    let (run, _) = stage.completed(stage.choosing(&plan, json!({ "permission_mode": "plan" })));
    assert_eq!(run["result"]["text"].as_str().unwrap().trim(), "# Plan\n- catch it", "{run}");
    // Carried on in another mode, it is no plan any more.
    let mut next = stage.choosing(&inside("after"), json!({ "permission_mode": "never_ask_deny" }));
    next["session_id"] = run["session_id"].clone();
    let (run, _) = stage.completed(next);
    assert!(work.join("after").exists(), "{run}");

    // No sandbox and no questions: not for a run to choose.
    for choice in [json!({ "permission_mode": "bypass" }), json!({ "sandbox": "full_access" })] {
        let refusal = stage.client.try_call("spawn_run", stage.choosing("MOCK:hello", choice)).unwrap_err();
        assert!(refusal.message.contains("may not choose"), "{refusal:?}");
    }
}

#[test]
fn bypass_is_the_operators() {
    let Some(stage) = Stage::with("bypass of codex", Props { config: "permission_mode = \"bypass\"", ..Props::default() }) else { return };
    let elsewhere = elsewhere();
    let escalate = format!("MOCK:escalate {}", json!({ "command": format!("touch {}/more", elsewhere.path().display()) }));
    let (_, events) = stage.completed(stage.request(&bash(&format!("touch {}/more", elsewhere.path().display()))));
    assert!(elsewhere.path().join("more").exists(), "{events:#?}");
    let (_, events) = stage.run(stage.request(&escalate));
    assert_eq!(all(&events, "input_required"), Vec::<&Value>::new());
}

#[test]
fn directories_and_the_sandbox() {
    let (config, beside) = ("permission_mode = \"accept_edits\"", elsewhere());
    let props = Props { config, workspace: beside.path().to_str(), ..Props::default() };
    let Some(stage) = Stage::with("directories of codex", props) else { return };
    let command = bash(&format!("touch {}/there", beside.path().display()));
    stage.completed(stage.request(&command));
    assert!(!beside.path().join("there").exists());
    stage.completed(stage.choosing(&command, json!({ "add_dirs": [beside.path()] })));
    assert!(beside.path().join("there").exists());
    let (run, _) = stage.completed(stage.choosing(&bash("touch here"), json!({ "sandbox": "read_only" })));
    assert!(run["result"]["text"].as_str().unwrap().contains("Read-only file system"), "{run}");
    assert!(!stage.host.work().join("here").exists());
}

#[test]
fn what_codexs_own_configuration_allows_widens_no_sandbox() {
    let elsewhere = elsewhere();
    let Some(stage) = Stage::set("codex's own configuration and its sandbox") else { return };
    let own = format!(
        "approval_policy = \"never\"\nsandbox_mode = \"danger-full-access\"\n[sandbox_workspace_write]\nnetwork_access = true\nwritable_roots = [{:?}]\n",
        elsewhere.path()
    );
    fs::create_dir_all(stage.codex_home()).unwrap();
    fs::write(stage.codex_home().join("config.toml"), own).unwrap();
    let command = bash(&format!("touch {}/there", elsewhere.path().display()));
    let (_, events) = stage.completed(stage.choosing(&command, json!({ "permission_mode": "never_ask_deny" })));
    let init = all(&events, "native").into_iter().find(|native| native["kind"] == "init").unwrap_or_else(|| panic!("{events:#?}"));
    assert_eq!(init["data"]["sandbox"]["networkAccess"], false, "{init}");
    assert!(!elsewhere.path().join("there").exists(), "{init}");
}

#[test]
fn model_effort_instructions_and_web_search() {
    let Some(stage) = Stage::set("choices of codex") else { return };
    let mut request = stage.choosing("MOCK:hello", json!({ "model": "gpt-5.5", "effort": "low" }));
    request["instructions"] = json!("Call every mouse Walter.");
    let (first, _) = stage.completed(request);
    let sent = stage.mock.bodies("").pop().unwrap();
    assert_eq!((&sent["model"], &sent["reasoning"]["effort"]), (&json!("gpt-5.5"), &json!("low")), "{sent}");
    assert!(sent.to_string().contains("Call every mouse Walter."));
    let web = |sent: &Value| sent["tools"].as_array().unwrap().iter().any(|tool| tool["type"] == "web_search");
    assert!(!web(&sent));
    // A follow-up keeps them.
    stage.continued(&first, "MOCK:hello");
    let sent = stage.mock.bodies("").pop().unwrap();
    assert_eq!((&sent["model"], &sent["reasoning"]["effort"]), (&json!("gpt-5.5"), &json!("low")), "{sent}");
    assert!(sent.to_string().contains("Call every mouse Walter."));
    stage.completed(stage.choosing("MOCK:hello", json!({ "model": "gpt-5.5", "web_search": true })));
    assert!(web(&stage.mock.bodies("").pop().unwrap()));
}
