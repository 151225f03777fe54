//! The protocol of the installed version: everything it may send is in the table of `docs/codex.md`.

use std::process::Command;

use serde_json::Value;

use crate::fetched;

#[test]
fn every_notification_request_and_item_is_in_the_table() {
    let Some(codex) = fetched::codex("the schema of codex") else { return };
    let dir = tempfile::tempdir().unwrap();
    let made =
        Command::new(codex).args(["app-server", "generate-json-schema", "--experimental", "--out"]).arg(dir.path()).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let read = |name: &str| -> Value { serde_json::from_slice(&std::fs::read(dir.path().join(name)).unwrap()).unwrap() };
    let table = std::fs::read_to_string(fetched::of_tests("../docs/codex.md")).unwrap();
    let known = |name: &str| table.lines().any(|line| line.starts_with('|') && line.contains(&format!("`{name}`")));
    let mut missing: Vec<String> = Vec::new();
    let mut seen = 0;
    let mut look = |name: &str| {
        seen += 1;
        if !known(name) {
            missing.push(name.to_owned());
        }
    };
    for file in ["ServerNotification.json", "ServerRequest.json"] {
        for one in read(file)["oneOf"].as_array().unwrap() {
            look(one["properties"]["method"]["enum"][0].as_str().unwrap());
        }
    }
    let notifications = read("ServerNotification.json");
    for one in notifications["definitions"]["ThreadItem"]["oneOf"].as_array().unwrap() {
        look(one["properties"]["type"]["enum"][0].as_str().unwrap());
    }
    assert_eq!(missing, Vec::<String>::new(), "codex knows what docs/codex.md does not");
    assert!(seen > 90, "{seen}");
}
