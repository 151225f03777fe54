//! What is allowed and refused at targets: judged when a run is asked for and again when its backend acts, told in the run's
//! history, and kept in the ledger with the rule and the caller.

use serde_json::{Value, json};

use crate::client::Client;
use crate::host::Host;
use crate::patience::until;

/// Targets that nothing listens on, rules with limits, and a backend that plans and starts what it is told to, with the grant that the
/// bundled `ssh` has.
const FAR: &str = r#"
path = ["/usr/local/bin", "/usr/bin", "/bin"]

[stop]
ask = "500 ms"
terminate = "500 ms"

[backends.planned.grants]
workspaces = ["{work}"]
[backends.planned.grants.programs]
sh = "/bin/sh"
only = { path = "/bin/echo", allow = ["[a-z]+"], max_args = 2 }
[backends.planned.grants.programs.ssh]
path = "/bin/true"
first = ["-F", "{config}", "-E", "{log}", "-T", "{args}", "--", "{target}", "{command}"]
allow = ["-C"]
max_args = 1
[backends.planned.allow]
plan = true
start = true
repeat = true
say = true
hold = true

[network]
block = ["198.51.100.0/24"]

[[targets]]
name = "web-1"
address = "203.0.113.7"
tags = ["web"]
limits = { parallel = 1 }
[[targets]]
name = "web-2"
address = "203.0.113.8"
tags = ["web"]
[[targets]]
name = "blocked"
address = "198.51.100.9"
[tags.web]
limits = { parallel = 2 }

[[rules]]
name = "look"
targets = ["*"]
allow = [["uptime"], ["tail", "/var/log/**"]]
cwd = ["/srv"]
env = ["LANG"]
[[rules]]
name = "short"
targets = ["*"]
allow = [["sleep", "*"]]
wall = "1s"
[[rules]]
name = "terse"
targets = ["*"]
allow = [["yes"]]
output = "64 KiB"
[[rules]]
name = "lines"
tags = ["web"]
shell = true
allow = ["df *"]
"#;

fn host() -> Host {
    let host = Host::bare(FAR);
    host.plugin("planned", falconer_hostile::PLANNED);
    host
}

fn run(args: &[&str]) -> Value {
    json!({ "program": "ssh", "far": "run", "command": args })
}

fn request(target: &str, config: Value) -> Value {
    json!({ "backend": "planned", "prompt": "go", "target": target, "config": config })
}

/// A run that plans a command, and holds on without starting it.
fn holding(target: &str, args: &[&str]) -> Value {
    request(target, json!({ "plan": [run(args)], "hold": true }))
}

/// The decisions, oldest first.
fn decisions(host: &Host, arguments: &[&str]) -> Vec<Value> {
    let mut command = vec!["decisions", "--json", "--limit", "1000"];
    command.extend(arguments);
    let text = host.run(&command).well();
    let mut all: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    all.reverse();
    all
}

fn notices<'a>(events: &'a [Value], code: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["type"] == "notice" && event["data"]["code"] == code).map(|event| &event["data"]).collect()
}

#[test]
fn what_no_rule_allows_is_refused_at_once_and_nothing_is_started() {
    let host = host();
    let client = host.client();
    let refused = client.refused("spawn_run", holding("web-1", &["rm", "-rf", "/"]), "not_allowed");
    assert_eq!(refused.message, "no rule allows `rm` on target `web-1`");
    assert!(refused.hint.unwrap().contains("under [[rules]]: targets = [\"web-1\"], allow = [[\"rm\", \"-rf\", \"/\"]]"));
    client.refused("spawn_run", holding("web-1", &["tail", "/var/log/../../etc/shadow"]), "not_allowed");
    client.refused("spawn_run", holding("blocked", &["uptime"]), "address_not_allowed");
    client.refused("spawn_run", holding("nowhere", &["uptime"]), "unknown_target");
    let line = |line: &str| json!({ "plan": [{ "program": "ssh", "far": "run", "shell": line }], "hold": true });
    client.refused("spawn_run", request("web-1", line("df -h; id")), "not_allowed");
    client.refused("spawn_run", request("blocked", line("df x")), "not_allowed");
    let spoilt = json!({ "program": "ssh", "far": "run", "command": ["uptime"], "args": ["-oProxyCommand=id"] });
    client.refused("spawn_run", request("web-1", json!({ "plan": [spoilt] })), "not_allowed");
    // One that is refused among others is enough.
    client.refused("spawn_run", request("web-1", json!({ "plan": [run(&["uptime"]), run(&["id"])] })), "not_allowed");
    assert_eq!(client.call("list_runs", json!({}))["runs"], json!([]));

    let all = decisions(&host, &["--refused"]);
    assert_eq!(all.len(), 8, "{all:?}");
    assert!(all.iter().all(|row| row["what"] == "spawn_run" && row["run_id"].is_null() && row["backend"] == "planned"));
    let first = &all[0];
    assert_eq!(first["caller"], "falconer-tests 1");
    assert_eq!((&first["outcome"], &first["code"], &first["target"]), (&json!("refused"), &json!("not_allowed"), &json!("web-1")));
    assert_eq!(first["command"], json!({ "args": ["rm", "-rf", "/"], "cwd": null, "env": [] }));
    assert_eq!(first["rule"], "no rule allows `rm` on target `web-1`");
    assert_eq!(all[2]["code"], "address_not_allowed");
    let shown = host.run(&["decisions", "--refused"]).well();
    assert!(shown.contains("not_allowed: no rule allows `rm` on target `web-1`") && shown.contains(r#""rm" "-rf" "/""#), "{shown}");
}

#[test]
fn a_plan_says_where_by_which_rule_and_within_which_limits() {
    let host = host();
    let client = host.client();
    let action = json!({ "program": "ssh", "far": "run", "command": ["uptime"], "cwd": "/srv", "env": [["LANG", "C"]] });
    let plan = client.call("plan_run", request("web-1", json!({ "plan": [action, run(&["sleep", "5"])] })));
    assert_eq!((&plan["allowed"], &plan["refusal"]), (&json!(true), &Value::Null), "{plan}");
    let first = &plan["actions"][0];
    assert_eq!(first["detail"]["command"], json!({ "args": ["uptime"], "cwd": "/srv", "env": ["LANG"] }));
    assert_eq!((&first["detail"]["target"], &first["allowed"]), (&json!("web-1"), &json!(true)));
    assert!(first["rule"].as_str().unwrap().starts_with("rule `look` (falconer.toml:"), "{first}");
    assert!(!plan.to_string().contains("203.0.113"), "no address is shown to a client: {plan}");
    assert_eq!(first["detail"]["network"][0]["rule"], "the inventory gives this address, and nothing blocks it");
    assert_eq!(plan["limits"]["wall_s"], 1);
    assert!(plan["limits"]["wall_by"].as_str().unwrap().starts_with("rule `short`"), "{}", plan["limits"]);
    let parallel: Vec<&str> = plan["limits"]["parallel"].as_array().unwrap().iter().map(|share| share["by"].as_str().unwrap()).collect();
    assert_eq!(parallel, ["target `web-1`", "tag `web`"]);

    let bad = client.call("plan_run", request("web-1", json!({ "plan": [run(&["uptime"]), run(&["id"])] })));
    assert_eq!((&bad["allowed"], &bad["refusal"]["code"]), (&json!(false), &json!("not_allowed")));
    assert_eq!((&bad["actions"][0]["allowed"], &bad["actions"][1]["allowed"]), (&json!(true), &json!(false)));
    assert!(bad["actions"][1]["hint"].as_str().unwrap().contains("[[rules]]"), "{bad}");
    assert_eq!(client.call("list_runs", json!({}))["runs"], json!([]));
    let all = decisions(&host, &[]);
    assert_eq!(all.len(), 4, "{all:?}");
    assert!(all.iter().all(|row| row["what"] == "plan_run" && row["run_id"].is_null()));
    assert_eq!((&all[0]["address"], &all[2]["outcome"], &all[3]["outcome"]), (&json!("203.0.113.7"), &json!("refused"), &json!("allowed")));
}

#[test]
fn what_was_planned_is_what_runs() {
    let host = host();
    let client = host.client();
    let starts = json!([
        run(&["tail", "/var/log/x"]),
        run(&["id"]),
        { "program": "ssh", "far": "detach", "command": ["tail", "/var/log/x"] },
        { "program": "ssh", "far": "run", "shell": "uptime" },
        { "program": "ssh", "far": "run", "command": ["uptime"], "cwd": "/srv" },
        { "program": "ssh", "far": "run", "command": ["uptime"], "env": [["LANG", "C"]] },
        { "program": "sh", "far": "run", "command": ["uptime"] },
        { "program": "ssh" },
    ]);
    let count = starts.as_array().unwrap().len();
    let ended = client.run(request("web-1", json!({ "plan": [run(&["uptime"])], "start": starts })));
    assert_eq!(ended["status"], "completed", "{ended}");
    let id = ended["run_id"].as_str().unwrap();
    let events = client.events(id);
    assert_eq!(notices(&events, "spawn_denied").len(), count, "all were refused: {events:?}");
    let commands: Vec<&str> = notices(&events, "command_refused").iter().map(|data| data["message"].as_str().unwrap()).collect();
    let unplanned = "the command is none of those that the plan of this run named for target `web-1`";
    assert_eq!(commands[..3], [unplanned, "no rule allows `id` on target `web-1`", unplanned], "{commands:?}");
    assert_eq!(commands.len(), 6, "{commands:?}");
    assert_eq!(notices(&events, "spawn_refused").len(), 2, "a grant for the far end and one for here are not the other");
    // Before what the component makes of it.
    let place = |code: &str| events.iter().position(|event| event["data"]["code"] == code).unwrap();
    assert!(place("command_refused") < place("spawn_denied"));

    let all = decisions(&host, &["--run", id]);
    assert_eq!((&all[0]["what"], &all[0]["outcome"]), (&json!("spawn_run"), &json!("allowed")));
    assert!(all[0]["rule"].as_str().unwrap().starts_with("rule `look`"), "{}", all[0]);
    assert_eq!(all.len(), count + 1);
    assert!(all[1..].iter().all(|row| row["what"] == "spawn" && row["outcome"] == "refused" && row["caller"] == "falconer-tests 1"));
    assert_eq!(all[1]["command"]["args"], json!(["tail", "/var/log/x"]));
}

#[test]
fn a_component_that_asks_for_the_forbidden_is_told_of_and_cannot_flood() {
    let host = host();
    let client = host.client();
    let mut starts: Vec<Value> = [
        "-oProxyCommand=id",
        "-oLocalCommand=id",
        "-o",
        "-F",
        "-F/tmp/x",
        "-E/tmp/x",
        "-Wa:22",
        "-L1:a:2",
        "-R1:a:2",
        "-D1",
        "-Ja",
        "-S/tmp/x",
        "-w0:0",
        "-oInclude=/tmp/x",
        "-A",
        "-N",
        "-f",
    ]
    .iter()
    .map(|arg| json!({ "program": "ssh", "far": "run", "command": ["uptime"], "args": [arg] }))
    .collect();
    starts.push(json!({ "program": "only", "args": ["A"] }));
    starts.push(json!({ "program": "only", "args": ["a", "b", "c"] }));
    starts.push(json!({ "program": "never" }));
    starts.push(json!({ "program": "sh", "set": [["LD_PRELOAD", "/tmp/x.so"]] }));
    let count = starts.len();
    let plan = json!({ "plan": [run(&["uptime"])], "start": starts, "repeat": 10 });
    let ended = client.run(request("web-1", plan));
    assert_eq!(ended["status"], "completed", "{ended}");
    let id = ended["run_id"].as_str().unwrap();
    let events = client.events(id);
    assert_eq!(notices(&events, "spawn_denied").len(), 10 * count);
    let told = notices(&events, "spawn_refused");
    assert_eq!(told.len(), 100);
    assert!(told[0]["message"].as_str().unwrap().contains("[backends.planned.grants] programs.ssh: allow"), "{}", told[0]);
    assert_eq!(told[0]["command"]["args"], json!(["uptime"]));
    let rest = notices(&events, "refused_more");
    assert_eq!(rest[0]["message"], format!("{} more starts were refused; they are not told one by one", 10 * count - 100));
    let all = decisions(&host, &["--run", id]);
    assert_eq!(all.len(), 102);
    for part in ["programs.only: allow", "programs.only: max_args = 2", "`never` is not granted", "LD_PRELOAD"] {
        assert!(all.iter().any(|row| row["code"] == "spawn_refused" && row["rule"].as_str().unwrap().contains(part)), "{part}");
    }
}

#[test]
fn rules_lower_the_limits_and_the_end_names_them() {
    let host = host();
    let client = host.client();
    let late = client.run(holding("web-2", &["sleep", "9"]));
    assert_eq!((&late["status"], &late["error"]["code"]), (&json!("failed"), &json!("deadline_exceeded")), "{late}");
    let message = late["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("the run took longer than 1 s, the limit of rule `short` (falconer.toml:"), "{message}");
    assert_eq!((&late["limits"]["wall_s"], late["limits"]["wall_by"].is_string()), (&json!(1), true));

    let long = client.run(request("web-2", json!({ "plan": [run(&["yes"])], "say": 200_000 })));
    assert_eq!(long["error"]["code"], "output_exceeded", "{long}");
    let message = long["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("the run wrote more than 65536 bytes, the limit of rule `terse`"), "{message}");
    // Who asks for less gets less, and is told so as usual.
    let mut own = holding("web-2", &["uptime"]);
    own["timeout_s"] = json!(1);
    let own = client.run(own);
    assert_eq!(own["error"]["message"], "the run took longer than 1 s");
    assert_eq!(own["limits"]["wall_by"], Value::Null);
}

#[test]
fn runs_wait_for_all_their_places_and_hold_none_meanwhile() {
    let host = host();
    let client = host.client();
    let status = |run: &str| client.get(run)["status"].clone();
    let spawn = |target: &str| client.spawn(holding(target, &["uptime"]));
    // One on web-1; two on targets with the tag.
    let first = spawn("web-1");
    client.until_status(&first, "running");
    let second = spawn("web-1");
    assert_eq!(status(&second), "queued");
    assert_eq!(client.get(&second)["limits"]["parallel"], json!([{ "runs": 1, "by": "target `web-1`" }, { "runs": 2, "by": "tag `web`" }]));
    // The second waits for web-1 and takes no place of the tag meanwhile.
    let other = spawn("web-2");
    client.until_status(&other, "running");
    let third = spawn("web-2");
    assert_eq!(status(&third), "queued", "the tag is full");
    client.cancel(&other);
    client.until_status(&third, "running");
    assert_eq!(status(&second), "queued");
    client.cancel(&first);
    client.until_status(&second, "running");
    // One that is cancelled in the line is no obstacle.
    let (fourth, fifth) = (spawn("web-1"), spawn("web-1"));
    assert_eq!((status(&fourth), status(&fifth)), (json!("queued"), json!("queued")));
    client.cancel(&fourth);
    client.cancel(&second);
    client.until_status(&fifth, "running");
    for run in [&third, &fifth] {
        let ended = client.cancel(run);
        assert_eq!(ended["status"], "cancelled", "{ended}");
    }
}

#[test]
fn a_run_does_not_wait_for_a_place_that_only_its_own_parents_have() {
    let host = host();
    let client = host.client();
    let plan = run(&["uptime"]).to_string();
    let inner = |target: &str| format!("{} run planned go --target {target} --config-json 'plan=[{plan}]'", crate::host::FALCONER);
    let script = format!("{}; {}", inner("web-1"), inner("web-2"));
    let starts = json!([{ "program": "sh", "args": ["-c", script], "set": [["HOME", host.path("home")]] }]);
    let outer = client.spawn(request("web-1", json!({ "plan": [run(&["uptime"])], "start": starts, "hold": true })));
    let inside = until("both calls from inside to be decided", || {
        let all: Vec<Value> = decisions(&host, &["--run", &outer]).into_iter().filter(|row| row["parent_run_id"] == json!(outer)).collect();
        (all.len() == 2).then_some(all)
    });
    assert_eq!((&inside[0]["code"], &inside[0]["target"]), (&json!("limit_reached"), &json!("web-1")), "{inside:?}");
    assert!(inside[0]["rule"].as_str().unwrap().ends_with("has the last place of target `web-1`"), "{}", inside[0]);
    assert_eq!((&inside[1]["outcome"], &inside[1]["target"]), (&json!("allowed"), &json!("web-2")), "the tag has another place");
    assert_eq!(client.ended(inside[1]["run_id"].as_str().unwrap())["status"], "completed");
    client.cancel(&outer);
}

#[test]
fn many_runs_with_different_places_all_come_to_their_end() {
    let host = host();
    let client = host.client();
    let quick = |target: &str| request(target, json!({ "plan": [run(&["uptime"])] }));
    let runs: Vec<String> = (0..30).map(|at| client.spawn(quick(if at % 3 == 0 { "web-1" } else { "web-2" }))).collect();
    for run in &runs {
        assert_eq!(client.ended(run)["status"], "completed");
    }
}

#[test]
fn runs_on_this_machine_and_calls_from_inside_them_are_in_the_ledger_too() {
    let host = Host::usual();
    let client = host.client();
    let ended = client.run(host.exec(json!({ "program": "sh", "args": ["-c", "true"] })));
    client.refused("spawn_run", json!({ "backend": "exec", "cwd": "/etc", "config": { "program": "sh" } }), "cwd_not_granted");
    let denied = client.run(host.exec(json!({ "program": "nothing-granted" })));
    let all = decisions(&host, &[]);
    assert_eq!(all.iter().map(|row| &row["what"]).collect::<Vec<_>>(), ["spawn_run", "spawn_run", "spawn_run", "spawn"], "{all:?}");
    assert_eq!((&all[0]["run_id"], &all[0]["outcome"]), (&ended["run_id"], &json!("allowed")));
    assert!(all[0]["rule"].as_str().unwrap().starts_with("backends.exec.grants.workspaces: "), "{}", all[0]);
    assert_eq!((&all[1]["code"], &all[1]["outcome"]), (&json!("cwd_not_granted"), &json!("refused")));
    assert_eq!((&all[3]["run_id"], &all[3]["code"]), (&denied["run_id"], &json!("spawn_refused")));
    // From inside a run.
    let script = format!("{} run nobody x; true", crate::host::FALCONER);
    let outer = client.run(host.exec(json!({ "program": "sh", "args": ["-c", script] })));
    let inside = decisions(&host, &["--run", outer["run_id"].as_str().unwrap()]);
    assert!(inside.iter().any(|row| row["parent_run_id"] == outer["run_id"] && row["outcome"] == "refused"), "{inside:?} {outer}");
}

#[test]
fn nothing_decided_is_no_error() {
    let host = host();
    assert_eq!(host.run(&["decisions"]).well(), "no decisions\n");
    let client: Client = host.client();
    client.call("list_runs", json!({}));
    assert_eq!(host.run(&["decisions", "--json"]).well(), "");
}
