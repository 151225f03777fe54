//! Targets and rules, as clients and operators see them.

use serde_json::{Value, json};

use crate::host::{Host, USUAL};

const TARGETS: &str = r#"
[[targets]]
name = "web-2.example.org"
address = "203.0.113.99"
user = "canary"
tags = ["web", "eu"]
description = "the second"
[[targets]]
name = "db"
identity = "/nowhere/key"
[[rules]]
name = "look"
tags = ["web"]
allow = [["uptime"], ["find", "..."]]
"#;

#[test]
fn targets_are_listed_by_name_and_tag_and_nothing_leads_to_them() {
    let host = Host::with(&format!("{USUAL}{TARGETS}"));
    let client = host.client();
    let all = client.call("list_targets", json!({}));
    let view = |name: &str, tags: Value, description: Value| json!({ "name": name, "tags": tags, "description": description, "backends": ["ssh"] });
    let web = view("web-2.example.org", json!(["web", "eu"]), json!("the second"));
    assert_eq!(all["targets"], json!([view("db", json!([]), Value::Null), web]));
    assert_eq!(client.call("list_targets", json!({ "tag": "eu" }))["targets"], json!([web]));
    assert_eq!(client.call("list_targets", json!({ "tag": "none" }))["targets"], json!([]));
    assert_eq!(client.call("list_targets", json!({ "backend": "exec" }))["targets"], json!([]), "it runs on this machine only");
    let text = all.to_string();
    assert!(!text.contains("203.0.113.99") && !text.contains("canary") && !text.contains("/nowhere"), "{text}");
}

#[test]
fn check_shows_targets_and_rules() {
    let host = Host::with(&format!("{USUAL}{TARGETS}"));
    let checked = host.run(&["check", "--json"]);
    assert_eq!(checked.code, Some(1), "{checked:?}");
    let findings: Value = serde_json::from_str::<Value>(&checked.out).unwrap()["findings"].clone();
    let has = |section: &str, severity: &str, subject: &str, words: &str| {
        findings[section].as_array().unwrap().iter().any(|finding| {
            finding["severity"] == severity && finding["subject"] == subject && finding["message"].as_str().unwrap().contains(words)
        })
    };
    assert!(has("targets", "ok", "target web-2.example.org", "canary@203.0.113.99:22; tags web, eu"), "{findings}");
    assert!(has("targets", "error", "target db", "identity /nowhere/key is not there"), "{findings}");
    assert!(has("rules", "ok", "rule look", "allows 2 commands; tags web"), "{findings}");
    assert!(has("rules", "warning", "rule look", "`find` executes or writes what its arguments say"), "{findings}");
}
