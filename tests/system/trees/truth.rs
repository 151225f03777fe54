//! Whether what the host says of an end is so.

use std::path::Path;

use serde_json::{Value, json};

use super::Stage;
use super::bait::Bait;
use super::look::{self, Alive};
use super::way;
use crate::client::{Client, is_end};
use crate::patience::until;

/// At most so many killed processes are named.
const NAMED: usize = 64;

/// A run that has ended: one status, one terminal event, one receipt, the same wherever it is asked for; a proof; and the
/// proof is of this way. `told` is an answer to `cancel_run` or a run.
#[track_caller]
pub fn of_an_end(client: &Client, run: &str, told: &Value, statuses: &[&str]) {
    let view = client.get(run);
    let events = client.events(run);
    let last = events.last().unwrap();
    assert!(statuses.contains(&told["status"].as_str().unwrap()), "{told}\n{last}");
    assert_eq!(view["status"], told["status"]);
    assert_eq!(events.iter().filter(|event| is_end(event)).count(), 1, "{events:?}");
    assert_eq!(last["type"], json!(format!("run_{}", view["status"].as_str().unwrap())));
    let receipt = &told["receipt"];
    assert!(receipt.is_object(), "no receipt: {told}");
    assert_eq!((&view["receipt"], &last["data"]["receipt"]), (receipt, receipt), "one receipt");
    // The numbers are the same when they are asked for again.
    assert_eq!(client.events(run), events);
}

/// The receipt proves that nothing lives, in the way that the stage has; that nothing was started only where that is so.
#[track_caller]
pub fn of_a_proof(stage: &Stage, bait: &Bait, receipt: &Value) {
    assert_eq!(receipt["survivors"], json!([]), "{receipt}");
    if receipt["proof"]["outcome"] == "no_processes" {
        assert!(!Path::new(bait.token()).exists(), "the bait was started: {receipt}");
        assert_eq!(receipt["killed"], json!([]), "{receipt}");
        return;
    }
    assert_eq!(receipt["proof"], json!({ "outcome": "empty", "by": stage.way.proves_by() }), "{receipt}");
}

/// The receipt of a run that an earlier host left behind proves that nothing lives, by what there still was to look at.
#[track_caller]
pub fn of_a_recovery(stage: &Stage, receipt: &Value) {
    assert_eq!((&receipt["cause"], &receipt["survivors"]), (&json!("recovery"), &json!([])), "{receipt}");
    assert_eq!(receipt["proof"]["outcome"], "empty", "{receipt}");
    let by: Vec<&str> = receipt["proof"]["by"].as_array().unwrap().iter().map(|way| way.as_str().unwrap()).collect();
    assert!(by.iter().all(|way| stage.way.proves_by().contains(way)) && by.contains(&"scan") && by.len() > 1, "{receipt}");
}

/// What was killed was there: these names, these processes. Gives how many were killed.
#[track_caller]
pub fn of_the_killed(receipt: &Value, names: &[&str], seen: Option<&[Alive]>) -> usize {
    let killed = receipt["killed"].as_array().unwrap();
    let total = usize::try_from(receipt["killed_total"].as_u64().unwrap_or_else(|| panic!("no killed_total: {receipt}"))).unwrap();
    assert_eq!(killed.len(), total.min(NAMED), "{receipt}");
    for process in killed {
        let (pid, name) = (&process["pid"], process["name"].as_str().unwrap());
        assert!(names.contains(&name), "{process} is none of {names:?}");
        assert_eq!(killed.iter().filter(|other| other["pid"] == *pid).count(), 1, "{pid} twice: {receipt}");
        if let Some(seen) = seen {
            assert!(seen.iter().any(|alive| json!(alive.pid) == *pid && alive.name == name), "{process} was never there: {seen:?}");
        }
    }
    total
}

/// Nothing is left of what the host itself had for the run.
#[track_caller]
pub fn nothing_left(stage: &Stage, run: &str) {
    until("the shims to end", || look::shims(run).is_empty().then_some(()));
    until("the cgroups to be removed", || way::named(run).is_empty().then_some(()));
    let records = stage.host.data().join("trees").join(run);
    until("the records to be removed", || (!records.exists()).then_some(()));
}
