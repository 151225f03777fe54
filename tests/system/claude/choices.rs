//! What a run may choose, and what the agent then has.

use std::fs;

use serde_json::json;

use super::{KEY, Stage, all, asked, bash, script, text};

#[test]
fn servers_are_named_and_their_secrets_are_never_arguments() {
    let Some(stage) = Stage::usual("MCP servers of claude") else { return };
    // One that the project brings is not there.
    fs::write(stage.work.join(".mcp.json"), json!({ "mcpServers": { "project": { "command": "true" } } }).to_string()).unwrap();
    let prompt = script(&json!([
        [{ "tool": "mcp__asking__env", "input": { "name": "GIVEN" } }],
        [{ "tool": "mcp__asking__env", "input": { "name": "MCP_PLAIN" } }],
        [{ "text": "got {{tool_result}}; tools {{tools}}" }]
    ]));
    let request = stage.choosing(&prompt, json!({ "mcp_servers": ["asking"], "allowed_tools": ["mcp__asking"] }));
    let plan = stage.client.call("plan_run", request.clone());
    assert!(plan["actions"].to_string().contains("${MCP_TOKEN}"), "{plan}");
    let (run, events) = stage.completed(request);
    assert!(text(&run).contains("got from-the-grant") && !text(&run).contains("mcp__project"), "{run}");
    // The server had the secret, and what it said of it was cut out.
    assert!(stage.mock.noted("mcp-secret-0123456789"));
    assert!(!json!(events).to_string().contains("mcp-secret-0123456789"), "{events:#?}");
    assert!(stage.host.data_holding(b"mcp-secret-0123456789").is_empty());

    let (run, _) = stage.fails(stage.choosing("MOCK:hello", json!({ "mcp_servers": ["falcons"] })), "invalid_argument");
    assert!(run["error"]["message"].as_str().unwrap().contains("there are: asking, other"), "{run}");

    let none = script(&json!([[{ "text": "tools {{tools}}" }]]));
    let (run, _) = stage.completed(stage.request(&none));
    assert!(!text(&run).contains("mcp__"), "{run}");
}

#[test]
fn directories_tools_and_the_model_are_as_chosen() {
    let Some(stage) = Stage::usual("choices of a run of claude") else { return };
    let (near, far) = (stage.work.join("near"), stage.work.join("far"));
    for dir in [&near, &far] {
        fs::create_dir(dir).unwrap();
    }
    let write = |file: &std::path::Path| {
        let turn = json!([[{ "tool": "Write", "input": { "file_path": file, "content": "x" } }], [{ "text": "got {{tool_result}}" }]]);
        let mut request = stage.choosing(&script(&turn), json!({ "permission_mode": "accept_edits", "model": "claude-haiku-4-5" }));
        request["cwd"] = json!(near);
        request
    };
    // Edits outside of its directories are asked about, unless they are added.
    let run = stage.client.spawn(write(&far.join("asked")));
    let question = stage.question(&run, &[]);
    stage.answer(&run, &question, json!({ "choices": ["deny"] }));
    stage.completes(&run);
    let mut request = write(&far.join("added"));
    request["config"]["add_dirs"] = json!([far]);
    let (_, events) = stage.completed(request);
    assert!(all(&events, "input_required").is_empty() && far.join("added").exists() && !far.join("asked").exists());
    assert_eq!(stage.mock.bodies("far/added").last().unwrap()["model"], "claude-haiku-4-5");

    let tools = script(&json!([[{ "text": "{{tools}}" }]]));
    let (run, _) = stage.completed(stage.choosing(&tools, json!({ "disallowed_tools": ["WebFetch", "Task"] })));
    assert!(text(&run).contains("Bash") && !text(&run).contains("WebFetch") && !text(&run).contains("Task,"), "{run}");

    // What is not allowed is not chosen.
    let request = stage.choosing("MOCK:hello", json!({ "mcp_catalog": {} }));
    stage.client.refused("spawn_run", request, "not_allowed");
}

#[test]
fn settings_of_the_person_and_of_the_project_are_read_as_chosen() {
    let Some(stage) = Stage::with("settings of claude", KEY, "") else { return };
    let settings = |dir: &str, name: &str, hook: &str| {
        let dir = stage.host.path(dir).join(".claude");
        fs::create_dir_all(&dir).unwrap();
        let hooks = json!({ "PreToolUse": [{ "matcher": "Bash", "hooks": [{ "type": "command", "command": format!("touch {hook}") }] }] });
        fs::write(dir.join(name), json!({ "permissions": { "allow": ["Bash"] }, "hooks": hooks }).to_string()).unwrap();
    };
    settings("work", "settings.json", "hooked-by-project");
    fs::write(stage.work.join("CLAUDE.md"), "the memory of the project").unwrap();
    let exists = |name: &str| stage.work.join(name).exists();

    // Nothing is read: its rule does not hold, and the use of a tool is asked about.
    let mut config = asked();
    config["settings"] = json!([]);
    let run = stage.client.spawn(stage.choosing(&bash("touch one"), config.clone()));
    stage.answer(&run, &stage.question(&run, &[]), json!({ "choices": ["deny"] }));
    stage.completes(&run);
    assert!(!exists("hooked-by-project") && !stage.mock.noted("the memory of the project"));

    // The project's, as the program itself does: its hooks run and its memory is read, but it allows nothing.
    let run = stage.client.spawn(stage.choosing(&bash("touch two"), asked()));
    stage.answer(&run, &stage.question(&run, &[]), json!({ "choices": ["deny"] }));
    stage.completes(&run);
    assert!(exists("hooked-by-project") && stage.mock.noted("the memory of the project"));

    // The person's own rules hold.
    settings("home", "settings.json", "hooked-by-user");
    config["settings"] = json!(["user"]);
    stage.completed(stage.choosing(&bash("touch three"), config));
    assert!(exists("hooked-by-user") && exists("three") && !exists("one") && !exists("two"));
}
