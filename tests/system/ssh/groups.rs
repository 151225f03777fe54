//! Groups of far machines: one command at thirty, with one that fails, one that hangs, and a stop of them all.

use std::fs;

use serde_json::{Value, json};

use super::Stage;
use super::ways::anything;
use crate::client::{Client, is_terminal};
use crate::host::Host;
use crate::patience::until;
use crate::processes::with_environment;
use crate::sshd::{Configuration, Setup, Target, available};

const ALL: usize = 30;
const CAP: usize = 10;

/// Takes the next number, from 1 on; says how many are at work, and that it is not any more at its end.
const TURN: &str = r#"cd; n=1; until mkdir "n$n" 2>/dev/null; do n=$((n+1)); done; mkdir -p on; : >"on/$n"; ls on | wc -l >"n$n/at-work"; trap 'rm "on/$n"' EXIT; "#;

/// A host with thirty names for one machine, all with the tag `web`.
fn stage(test: &str) -> Option<Stage> {
    if !available(test) {
        return None;
    }
    let sshd = Setup::new().start();
    let targets = (1..=ALL)
        .fold(Configuration::new(), |configuration, n| configuration.target(Target::of(&format!("web-{n}"), &sshd).tags(&["web"])));
    let host = Host::bare(anything(targets, &[]).text());
    Some(Stage { client: host.client(), host, sshd })
}

impl Stage {
    fn group(&self, line: &str, more: Value) -> Value {
        let mut request = json!({ "backend": "ssh", "target_tag": "web", "config": { "shell": format!("{TURN}{line}") } });
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.client.call("spawn_run", request)
    }
    /// How many have begun there.
    fn begun_there(&self) -> usize {
        let names = fs::read_dir(self.sshd.home("root")).unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
        names.filter(|name| name.starts_with('n')).count()
    }
    fn no_run_lives(&self, runs: &[Value]) {
        self.sshd.until_empty();
        for run in runs {
            assert_eq!(with_environment(&format!("FALCONER_RUN_ID={}", run["run_id"].as_str().unwrap())), [], "{run}");
        }
        assert!(!self.host.data().join("far").exists() || fs::read_dir(self.host.data().join("far")).unwrap().next().is_none());
    }
}

fn of_status(client: &Client, group: &str, status: &str) -> usize {
    client.call("list_runs", json!({ "group_id": group, "status": [status], "limit": 200 }))["runs"].as_array().unwrap().len()
}

fn all_ended(client: &Client, group: &str) -> Vec<Value> {
    until("the end of the group", || {
        let page = client.call("wait_runs", json!({ "run_ids": [group], "mode": "all", "wait_ms": 5_000 }));
        let runs = page["runs"].as_array().unwrap();
        runs.iter().all(is_terminal).then(|| runs.clone())
    })
}

/// Each has its receipt: what began was stopped there, what did not was never there.
#[track_caller]
fn stopped(client: &Client, run: &Value) -> bool {
    let run = client.get(run["run_id"].as_str().unwrap());
    assert_eq!(run["status"], "cancelled", "{run:#}");
    let receipt = &run["receipt"];
    let began = client.events(run["run_id"].as_str().unwrap()).iter().any(|event| event["type"] == "command_started");
    if began {
        assert_eq!((&receipt["proof"]["outcome"], &receipt["far_end"]["state"]), (&json!("empty"), &json!("confirmed")), "{receipt:#}");
    } else {
        assert!(["empty", "no_processes"].contains(&receipt["proof"]["outcome"].as_str().unwrap()), "{receipt:#}");
        assert!(receipt["far_end"].is_null() || receipt["far_end"]["state"] == "confirmed", "{receipt:#}");
    }
    began
}

#[test]
fn one_fails_one_hangs_and_the_stop_of_the_group_ends_it() {
    let Some(stage) = stage("a group over ssh") else { return };
    let line = "case $n in 3) exit 3;; 7) exec sleep 2020;; esac; echo well";
    let spawned = stage.group(line, json!({ "parallel": CAP }));
    let group = spawned["group_id"].as_str().unwrap();
    assert_eq!(spawned["run_ids"].as_array().unwrap().len(), ALL);
    until("28 to complete", || (of_status(&stage.client, group, "completed") == ALL - 2).then_some(()));
    until("the failure", || (of_status(&stage.client, group, "failed") == 1).then_some(()));
    assert_eq!(of_status(&stage.client, group, "running"), 1);
    stage.sshd.until_runs("2020");

    let answer = stage.client.call("cancel_run", json!({ "run_id": group, "reason": "enough" }));
    let runs = answer["runs"].as_array().unwrap();
    assert_eq!(runs.len(), ALL);
    for run in runs {
        let view = stage.client.get(run["run_id"].as_str().unwrap());
        assert_eq!(view["receipt"]["proof"]["outcome"], "empty", "{view:#}");
        match view["status"].as_str().unwrap() {
            "completed" => assert_eq!(view["result"]["text"], "well\n", "{view:#}"),
            "failed" => assert_eq!(view["error"]["code"], "exit_nonzero", "{view:#}"),
            _ => assert!(stopped(&stage.client, run) && view["receipt"]["reason"] == "enough", "{view:#}"),
        }
    }
    stage.no_run_lives(runs);
    let at_work: Vec<usize> = (1..=ALL)
        .map(|n| fs::read_to_string(stage.sshd.home("root").join(format!("n{n}/at-work"))).unwrap().trim().parse().unwrap())
        .collect();
    assert!(at_work.iter().all(|count| *count <= CAP), "{at_work:?}");
}

#[test]
fn a_stop_reaches_those_at_work_and_those_that_wait() {
    let Some(stage) = stage("the stop of a group over ssh") else { return };
    let spawned = stage.group("trap '' TERM; sleep 2021; sleep 2022", json!({ "parallel": CAP }));
    let group = spawned["group_id"].as_str().unwrap();
    until("ten at work", || (stage.begun_there() == CAP).then_some(()));
    stage.client.cancel(group);
    let runs = all_ended(&stage.client, group);
    assert_eq!((runs.len(), runs.iter().filter(|run| stopped(&stage.client, run)).count()), (ALL, CAP));
    stage.no_run_lives(&runs);
    assert_eq!(stage.begun_there(), CAP, "no other one began");
}

#[test]
fn the_first_failure_stops_the_rest_there_too() {
    let Some(stage) = stage("a failing group over ssh") else { return };
    let line = "if [ $n = 2 ]; then until [ -e go ]; do sleep 0.1; done; exit 3; fi; sleep 2023";
    let spawned = stage.group(line, json!({ "parallel": 4, "stop_on_failure": true }));
    until("four at work", || (stage.begun_there() == 4).then_some(()));
    fs::write(stage.sshd.home("root").join("go"), "").unwrap();
    let runs = all_ended(&stage.client, spawned["group_id"].as_str().unwrap());
    let (failed, others): (Vec<&Value>, Vec<&Value>) = runs.iter().partition(|run| run["status"] == "failed");
    assert_eq!(failed.len(), 1, "{runs:#?}");
    assert_eq!(others.iter().filter(|run| stopped(&stage.client, run)).count(), 3);
    stage.no_run_lives(&runs);
    assert_eq!(stage.begun_there(), 4, "those that waited never began");
}
