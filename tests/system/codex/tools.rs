//! Commands with their output, changes of files with their diffs, MCP servers, subagents.

use std::fs;

use serde_json::{Value, json};

use super::{Props, Stage, all, noticed, of_type, output, script};

/// Nothing is asked.
const EDITS: &str = "permission_mode = \"accept_edits\"";

fn bash(command: &str) -> String {
    format!("MOCK:bash {}", json!({ "command": command }))
}

#[test]
fn a_command_with_its_output() {
    let Some(stage) = Stage::with("commands of codex", Props { config: EDITS, ..Props::default() }) else { return };
    let (run, events) = stage.completed(stage.request(&bash("echo a mouse; sleep 0.3; echo a vole >&2; exit 3")));
    assert!(run["result"]["text"].as_str().unwrap().contains("a mouse\na vole"), "{run}");
    let started = &of_type(&events, "command_started")["data"];
    assert!(started["command"].as_str().unwrap().contains("echo a mouse"), "{started}");
    assert_eq!(started["cwd"], json!(stage.host.work()), "{started}");
    assert_eq!(output(&events), "a mouse\na vole\n");
    let finished = &of_type(&events, "command_finished")["data"];
    assert_eq!((&finished["id"], &finished["status"], &finished["exit_code"]), (&started["id"], &json!("failed"), &json!(3)), "{finished}");

    // Much of it: Codex keeps the beginning and the end, and may tell the beginning last.
    let (_, events) = stage.completed(stage.request(&bash("seq 1 200000")));
    let text = output(&events);
    let (first, last) = ("1\n2\n3\n", "199999\n200000\n");
    let whole = if noticed(&events, "output_out_of_order") {
        text.contains(&format!("{last}{first}"))
    } else {
        text.starts_with(first) && text.ends_with(last)
    };
    assert!(whole, "{} bytes", text.len());
    let mut offset = 0u64;
    for chunk in all(&events, "command_output") {
        assert_eq!(chunk["offset"], json!(offset), "{chunk}");
        offset += chunk["bytes"].as_u64().unwrap_or(chunk["text"].as_str().unwrap().len() as u64);
    }
}

#[test]
fn output_is_streamed_while_a_command_runs() {
    let Some(stage) = Stage::with("live output of codex", Props { config: EDITS, ..Props::default() }) else { return };
    let go = stage.host.work().join("go");
    let command = format!("echo first; sleep 0.4; echo second; until test -e {}; do sleep 0.05; done; echo third", go.display());
    let run = stage.client.spawn(stage.request(&bash(&command)));
    stage.client.event(&run, "the second line", |event| {
        event["data"]["text"].as_str().is_some_and(|text| text.contains("second")) && event["type"] == "command_output"
    });
    fs::write(&go, "").unwrap();
    let (_, events) = stage.ended(&run);
    // Codex may not stream the beginning; it comes last then, and is said to.
    let whole = if noticed(&events, "output_out_of_order") { "second\nthird\nfirst\n" } else { "first\nsecond\nthird\n" };
    assert_eq!(output(&events), whole, "{events:#?}");
}

#[test]
fn what_reaches_a_command() {
    let Some(stage) = Stage::with("the environment of codex's commands", Props { config: EDITS, ..Props::default() }) else { return };
    let names =
        |events: &[Value]| -> Vec<String> { output(events).lines().filter_map(|line| Some(line.split_once('=')?.0.to_owned())).collect() };
    let (run, events) = stage.completed(stage.request(&bash("env")));
    let seen = names(&events);
    assert!(!seen.iter().any(|name| name.contains("KEY") || name == "SEEN"), "{seen:?}");
    assert!(output(&events).contains(&format!("FALCONER_RUN_ID={}", run["run_id"].as_str().unwrap())), "{seen:?}");
    assert!(seen.contains(&"HOME".to_owned()) && seen.contains(&"PATH".to_owned()), "{seen:?}");
    let (_, events) = stage.completed(stage.choosing(&bash("env"), json!({ "env": ["SEEN"] })));
    assert!(output(&events).contains("SEEN=by-commands"), "{}", output(&events));
}

#[test]
fn changed_files_have_diffs() {
    let Some(stage) = Stage::with("patches of codex", Props { config: EDITS, ..Props::default() }) else { return };
    let work = stage.host.work();
    for (name, text) in [("old.txt", "a\nb\nc\n"), ("gone.txt", "x\n"), ("from.txt", "1\n2\n3\n")] {
        fs::write(work.join(name), text).unwrap();
    }
    let patch = "*** Begin Patch\n*** Update File: old.txt\n@@\n a\n-b\n+B\n c\n*** Delete File: gone.txt\n*** Update File: from.txt\n\
                 *** Move to: to.txt\n@@\n 1\n-2\n+two\n 3\n*** Add File: new.txt\n+caught\n*** End Patch";
    let prompt = format!("MOCK:patch {}", json!({ "patch": patch }));
    let (_, events) = stage.completed(stage.choosing(&prompt, json!({ "model": "gpt-5.5" })));
    assert_eq!(fs::read_to_string(work.join("new.txt")).unwrap(), "caught\n");
    let change = |name: &str| {
        let path = json!(work.join(name));
        all(&events, "file_changed").into_iter().find(|change| change["path"] == path).unwrap_or_else(|| panic!("{name}: {events:#?}"))
    };
    assert_eq!(change("new.txt")["kind"], "created");
    assert!(change("new.txt")["diff"].as_str().unwrap().ends_with("@@ -0,0 +1,1 @@\n+caught\n"));
    assert_eq!(change("gone.txt")["kind"], "deleted");
    assert_eq!((&change("from.txt")["kind"], &change("from.txt")["renamed_to"]), (&json!("renamed"), &json!(work.join("to.txt"))));
    assert!(change("old.txt")["diff"].as_str().unwrap().ends_with("@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n"), "{}", change("old.txt"));
    assert_eq!(of_type(&events, "tool_started")["data"]["tool"], "apply_patch");
}

const PROBE: &str = r#"permission_mode = "accept_edits"
[backends.codex.config.mcp_catalog.probe]
command = "python3"
args = ["{tests}/fixtures/mcp_probe.py", "--log", "/dev/null"]
env = { GIVEN = "by-the-catalogue", SEEN = true }
[backends.codex.config.mcp_catalog.gone]
command = "no-such-program-anywhere"
"#;

#[test]
fn only_named_mcp_servers_are_there() {
    let Some(stage) = Stage::with("MCP servers of codex", Props { config: PROBE, ..Props::default() }) else { return };
    // One of the user's own, which runs must not get.
    fs::create_dir_all(stage.codex_home()).unwrap();
    fs::write(stage.codex_home().join("config.toml"), "[mcp_servers.mine]\ncommand = \"touch\"\nargs = [\"mine-was-started\"]\n").unwrap();
    let tools = script(json!([[{ "text": "there are: {{tools}}" }]]));
    let (run, _) = stage.completed(stage.request(&tools));
    let text = run["result"]["text"].as_str().unwrap();
    assert!(text.contains("exec_command") && !text.contains("mcp__"), "{text}");
    let (run, _) = stage.completed(stage.choosing(&tools, json!({ "mcp_servers": ["probe"] })));
    let text = run["result"]["text"].as_str().unwrap();
    assert!(text.contains("mcp__probe__echo") && !text.contains("mine"), "{text}");
    assert!(!stage.host.work().join("mine-was-started").exists());

    let call = format!("MOCK:mcp {}", json!({ "tool": "mcp__probe__env", "input": {} }));
    let run = stage.client.spawn(stage.choosing(&call, json!({ "mcp_servers": ["probe"] })));
    let question = stage.question(&run);
    assert_eq!((&question["details"]["server"], &question["details"]["tool_name"]), (&json!("probe"), &json!("env")), "{question}");
    stage.answer(&run, &question, json!({ "choices": ["allow"] }));
    let (_, events) = stage.ended(&run);
    let tool = &of_type(&events, "tool_started")["data"];
    assert_eq!((&tool["server"], &tool["tool"]), (&json!("probe"), &json!("env")), "{tool}");
    let seen = of_type(&events, "tool_finished").to_string();
    assert!(seen.contains("GIVEN") && seen.contains("SEEN") && !seen.contains("OPENAI_API_KEY"), "{seen}");

    let (run, _) = stage.failed(stage.choosing(&tools, json!({ "mcp_servers": ["gone"] })), "mcp_server_failed");
    assert!(run["error"]["hint"].is_string(), "{run}");
    let (run, _) = stage.failed(stage.choosing(&tools, json!({ "mcp_servers": ["other"] })), "invalid_argument");
    assert!(run["error"]["message"].as_str().unwrap().contains("configured: gone, probe"), "{run}");
}

#[test]
fn a_subagents_work_is_part_of_the_call_that_began_it() {
    let config = "permission_mode = \"accept_edits\"\n[backends.codex.config.settings]\nopenai_base_url = \"{url}\"\n\"features.multi_agent\" = true";
    let Some(stage) = Stage::with("subagents of codex", Props { config, own_settings: true, ..Props::default() }) else { return };
    let child = script(
        json!([[{ "text": "the child looks" }, { "tool": "shell", "input": { "command": "echo from the child" } }], [{ "text": "child done" }]]),
    );
    let spawn = json!({ "tool": "multi_agent_v1__spawn_agent", "input": { "message": child, "agent_type": "default" } });
    // The parent ends its turn first: the run waits for the child.
    let (run, events) = stage.completed(stage.request(&script(json!([[spawn], [{ "text": "parent done" }]]))));
    assert_eq!(run["result"]["text"], "parent done", "{run}");
    let call = all(&events, "tool_started").into_iter().find(|tool| tool["tool"] == "spawnAgent").unwrap();
    let said = all(&events, "agent_message").into_iter().find(|said| said["text"] == "child done").unwrap_or_else(|| panic!("{events:#?}"));
    assert_eq!(said["parent"], call["id"], "{said}");
    let command = &of_type(&events, "command_started")["data"];
    assert_eq!(command["parent"], call["id"], "{command}");
    assert_eq!(output(&events), "from the child\n");
    // Both count.
    assert_eq!(run["usage"]["turns"], 4, "{}", run["usage"]);
}
