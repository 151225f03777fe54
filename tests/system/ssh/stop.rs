//! Stops that are proven at the far end.

use serde_json::json;

use super::{Stage, request};
use crate::processes::carrying;

/// What is hard to stop, each with a word that it says when it is at work.
const HARD: [(&str, &str); 7] = [
    ("a program alone", "echo up; exec sleep 1000"),
    ("children in the background", "sleep 1001 & sleep 1002 & (sleep 1003; true) & echo up; wait"),
    ("one that ignores TERM", "trap '' TERM HUP INT; echo up; while :; do sleep 1; done"),
    ("one that outlives its login", "nohup sh -c 'sleep 1004' >/dev/null 2>&1 & echo up; sleep 1005"),
    ("one in a session of its own", "setsid sh -c 'trap \"\" TERM; sleep 1006; sleep 1007' & echo up; wait"),
    ("two hundred", "i=0; while [ $i -lt 200 ]; do sleep 1008 & i=$((i+1)); done; echo up; wait"),
    ("a pipeline", "echo up; yes | cat | while read -r x; do sleep 1; done"),
];

#[test]
fn whatever_it_is_ends() {
    let Some(stage) = Stage::usual("stops over ssh") else { return };
    for (what, line) in HARD {
        let run = stage.begun(json!({ "shell": line }));
        stage.until_said(&run, "up");
        let answer = stage.client.cancel(&run);
        assert_eq!(answer["status"], "cancelled", "{what}: {answer:#}");
        assert_eq!(answer["receipt"]["far_end"]["state"], "confirmed", "{what}: {answer:#}");
        assert_eq!(answer["receipt"]["proof"]["outcome"], "empty", "{what}: {answer:#}");
        stage.ended_as(&run, "cancelled");
    }
}

#[test]
fn a_grace_is_the_command_s_and_the_proof_has_its_own_time() {
    let Some(stage) = Stage::usual("a grace over ssh") else { return };
    for detach in [false, true] {
        let run = stage.begun(json!({ "shell": "trap '' TERM HUP; echo up; while :; do sleep 1; done", "detach": detach }));
        stage.until_said(&run, "up");
        let answer = stage.client.call("cancel_run", json!({ "run_id": run, "grace_ms": 0 }));
        assert_eq!((&answer["status"], &answer["receipt"]["far_end"]["state"]), (&json!("cancelled"), &json!("confirmed")), "{answer:#}");
        stage.ended_as(&run, "cancelled");
        // What needs some seconds has them.
        let run =
            stage.begun(json!({ "shell": "trap 'sleep 2; echo tidy; exit' TERM; echo up; while :; do sleep 1; done", "detach": detach }));
        stage.until_said(&run, "up");
        let answer = stage.client.call("cancel_run", json!({ "run_id": run, "grace_ms": 14_000 }));
        assert_eq!(answer["status"], "cancelled", "{answer:#}");
        assert!(stage.all(&stage.client.call("get_run", json!({ "run_id": run })), "stdout").ends_with("tidy\n"));
    }
}

#[test]
fn a_writer_without_end_ends() {
    let Some(stage) = Stage::usual("the stop of a flood over ssh") else { return };
    let run = stage.begun(json!({ "shell": "yes 0123456789012345678901234567890123456789" }));
    let answer = stage.client.cancel(&run);
    assert!(["cancelled", "failed"].contains(&answer["status"].as_str().unwrap()), "{answer:#}");
    assert_eq!(answer["receipt"]["far_end"]["state"], "confirmed", "{answer:#}");
    stage.nothing_lives(&run);
}

#[test]
fn a_time_limit_takes_the_same_way() {
    let Some(stage) = Stage::usual("a time limit over ssh") else { return };
    let mut asked = request(json!({ "shell": "trap '' TERM; echo up; while :; do sleep 1; done" }));
    asked["timeout_s"] = json!(3);
    let run = stage.client.spawn(asked);
    let view = stage.ended_as(&run, "failed");
    assert_eq!(view["error"]["code"], "deadline_exceeded", "{view:#}");
    assert!(["confirmed"].contains(&view["receipt"]["far_end"]["state"].as_str().unwrap_or("confirmed")), "{view:#}");
}

#[test]
fn what_a_command_leaves_behind_ends_with_it() {
    let Some(stage) = Stage::usual("what a command leaves behind over ssh") else { return };
    let run = stage.run(json!({ "shell": "setsid sleep 1010 >/dev/null 2>&1 & (trap '' TERM; exec sleep 1011) & echo done" }));
    assert_eq!((&run["status"], stage.all(&run, "stdout").as_str()), (&json!("completed"), "done\n"), "{run:#}");
    stage.nothing_lives(run["run_id"].as_str().unwrap());
}

#[test]
fn a_cancel_is_taken_at_every_moment_of_a_start() {
    let Some(stage) = Stage::usual("early stops over ssh") else { return };
    for round in 0..16 {
        let run = stage.client.spawn(request(json!({ "shell": "trap '' TERM; sleep 1012" })));
        // A look more each time: a little later each time.
        for _ in 0..round * 3 {
            stage.client.get(&run);
        }
        let answer = stage.client.cancel(&run);
        assert_eq!(answer["status"], "cancelled", "round {round}: {answer:#}");
        stage.ended_as(&run, "cancelled");
    }
}

#[test]
fn runs_side_by_side_do_not_touch_each_other() {
    let Some(stage) = Stage::usual("runs side by side over ssh") else { return };
    let runs: Vec<String> = (0..6).map(|_| stage.begun(json!({ "shell": "echo up; exec sleep 1013" }))).collect();
    let answer = stage.client.cancel(&runs[2]);
    assert_eq!(answer["receipt"]["far_end"]["state"], "confirmed", "{answer:#}");
    for (at, run) in runs.iter().enumerate() {
        assert_eq!(stage.client.get(run)["status"], if at == 2 { "cancelled" } else { "running" });
        assert_eq!(stage.sshd.far_processes(run).is_empty(), at == 2, "{at}");
    }
    assert!(!carrying("1013").is_empty());
    for run in &runs {
        stage.client.cancel(run);
    }
    stage.sshd.until_empty();
}
