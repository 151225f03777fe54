//! Lines that are lost: ssh, the host, the network, the far end itself.

use serde_json::json;

use super::{Stage, request};
use crate::patience::until;
use crate::processes::{Seen, with_environment};
use crate::sshd::{Link, Setup};

/// The local ssh of a run.
fn ssh_of(run: &str) -> Seen {
    until("the ssh of the run", || {
        with_environment(&format!("FALCONER_RUN_ID={run}"))
            .into_iter()
            .find(|seen| std::fs::read_link(format!("/proc/{}/exe", seen.pid)).is_ok_and(|exe| exe.ends_with("ssh")))
    })
}

const DEAF: &str = "trap '' TERM HUP; echo up; while :; do sleep 1; done";

#[test]
fn when_ssh_is_killed_the_far_end_is_asked() {
    let Some(stage) = Stage::usual("a killed ssh") else { return };
    let run = stage.begun(json!({ "shell": DEAF }));
    stage.until_said(&run, "up");
    ssh_of(&run).kill();
    let view = stage.ended_as(&run, "failed");
    assert_eq!(view["error"]["code"], "link_lost", "{view:#}");
    assert!(view["error"]["message"].as_str().unwrap().contains("nothing of the run is left there"), "{view:#}");
}

#[test]
fn when_the_host_is_killed_nothing_is_left_there() {
    let Some(stage) = Stage::usual("a killed host and its far end") else { return };
    let run = stage.begun(json!({ "shell": DEAF }));
    stage.until_said(&run, "up");
    stage.host.crash();
    stage.sshd.until_empty();
    let client = stage.host.client();
    let view = client.ended(&run);
    assert_eq!((&view["status"], &view["error"]["code"]), (&json!("lost"), &json!("host_lost")), "{view:#}");
    // The next host looks by itself.
    until("a later look", || (client.get(&run)["receipt"]["far_end"]["state"] == "confirmed").then_some(()));
    assert_eq!(client.cancel(&run)["status"], "lost");
}

#[test]
fn when_the_link_is_cut_the_far_end_ends_it() {
    let Some(link) = Link::new("a cut link") else { return };
    let stage = Stage::of(Setup::new().behind(&link).start());
    // A stop that nobody there hears: not cancelled.
    let run = stage.begun(json!({ "shell": DEAF, "link_timeout_s": 3 }));
    stage.until_said(&run, "up");
    link.cut();
    let answer = stage.client.call("cancel_run", json!({ "run_id": run, "grace_ms": 3_000 }));
    assert_eq!(answer["status"], "lost", "{answer:#}");
    assert_eq!(answer["receipt"]["far_end"]["state"], "unreachable", "{answer:#}");
    // It ends by itself all the same.
    stage.sshd.until_empty();
    let events = stage.client.events(&run);
    // Who looks again while nobody answers learns nothing; later the look confirms, and the run stays what it was.
    let answer = stage.client.cancel(&run);
    assert_eq!((&answer["status"], &answer["receipt"]["far_end"]["state"]), (&json!("lost"), &json!("unreachable")), "{answer:#}");
    link.restore();
    let answer = stage.client.cancel(&run);
    assert_eq!((&answer["status"], &answer["receipt"]["far_end"]["state"]), (&json!("lost"), &json!("confirmed")), "{answer:#}");
    assert_eq!(stage.client.get(&run)["receipt"], answer["receipt"]);
    assert_eq!(stage.client.events(&run), events, "its history is closed");

    // One that is restored in time is looked at.
    let run = stage.begun(json!({ "shell": DEAF, "link_timeout_s": 3 }));
    stage.until_said(&run, "up");
    link.cut();
    stage.client.event(&run, "the loss", |event| event["type"] == "notice" && event["data"]["code"] == "link_lost");
    link.restore();
    let view = stage.ended_as(&run, "failed");
    assert_eq!(view["error"]["code"], "link_lost", "{view:#}");
}

#[test]
fn when_the_far_end_dies_nobody_knows() {
    let Some(stage) = Stage::usual("a far end that dies") else { return };
    let run = stage.client.spawn(request(json!({ "shell": DEAF, "link_timeout_s": 3 })));
    stage.client.event(&run, "the command", |event| event["type"] == "command_started");
    stage.sshd.power_off();
    let answer = stage.client.cancel(&run);
    assert_eq!(answer["status"], "lost", "{answer:#}");
    assert_eq!(answer["receipt"]["far_end"]["state"], "unreachable", "{answer:#}");
}
