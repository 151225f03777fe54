//! Commands that outlive the line and the host.

use serde_json::{Value, json};

use super::{Stage, output, request};
use crate::client::Client;
use crate::patience::until;
use crate::sshd::{Link, Setup};

/// Says numbers until `go` is there, then ends with 7.
const COUNTS: &str =
    "i=0; until [ -e \"$HOME/go\" ]; do i=$((i+1)); echo $i; [ $((i % 3)) = 0 ] && echo e$i >&2; sleep 0.1; done; echo last; exit 7";

fn detached(line: &str) -> Value {
    request(json!({ "shell": line, "detach": true, "link_timeout_s": 4 }))
}

fn numbers(client: &Client, run: &str) -> usize {
    output(client, run, "stdout").lines().count()
}

/// All of the output once and in order.
#[track_caller]
fn whole(client: &Client, run: &str) {
    let out = output(client, run, "stdout");
    let (rest, last) = out.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(last, "last");
    let count = rest.lines().count();
    assert!(rest.lines().map(|line| line.parse::<usize>().unwrap()).eq(1..=count), "{out}");
    let expected: String = (1..=count).filter(|n| n % 3 == 0).map(|n| format!("e{n}\n")).collect();
    assert_eq!(output(client, run, "stderr"), expected);
}

#[track_caller]
fn more(client: &Client, run: &str) {
    let before = numbers(client, run);
    until("more output", || (numbers(client, run) > before + 5).then_some(()));
}

impl Stage {
    fn go(&self) {
        std::fs::write(self.sshd.home("root").join("go"), "").unwrap();
    }
    #[track_caller]
    fn nothing_is_kept(&self) {
        until("nothing to be kept there", || (!self.sshd.home("root").join(".falconer").exists()).then_some(()));
    }
}

#[test]
fn it_is_followed_to_its_end() {
    let Some(stage) = Stage::usual("a detached command") else { return };
    let run = stage.client.spawn(detached(COUNTS));
    more(&stage.client, &run);
    stage.go();
    let view = stage.ended_as(&run, "failed");
    assert_eq!(view["error"]["code"], "exit_nonzero", "{view:#}");
    whole(&stage.client, &run);
    stage.nothing_is_kept();
    let run = stage.client.spawn(request(json!({ "command": ["cat"], "stdin": "x".repeat(300_000), "detach": true })));
    let view = stage.ended_as(&run, "completed");
    assert_eq!(stage.all(&view, "stderr"), "");
    stage.nothing_is_kept();
}

#[test]
fn it_outlives_its_lines() {
    let Some(link) = Link::new("a detached command and a cut link") else { return };
    let stage = Stage::of(Setup::new().behind(&link).start());
    let run = stage.client.spawn(detached(COUNTS));
    more(&stage.client, &run);
    link.cut();
    stage.client.event(&run, "the loss", |event| event["type"] == "notice" && event["data"]["code"] == "link_lost");
    link.restore();
    more(&stage.client, &run);
    stage.sshd.kill();
    stage.sshd.start();
    more(&stage.client, &run);
    stage.go();
    stage.ended_as(&run, "failed");
    whole(&stage.client, &run);
    stage.nothing_is_kept();
}

#[test]
fn it_outlives_the_host() {
    let Some(stage) = Stage::usual("a detached command and a killed host") else { return };
    let run = stage.client.spawn(detached(COUNTS));
    more(&stage.client, &run);
    // The client's own directory is a part of the run, and nothing that it asked for.
    assert_eq!(stage.client.call("get_run", json!({ "run_id": run }))["cwd"], stage.host.work().to_str().unwrap());
    stage.host.crash();
    let client = stage.host.client();
    more(&client, &run);
    // An orderly end too.
    stage.host.run(&["stop"]).well();
    let client = stage.host.client();
    more(&client, &run);
    stage.go();
    let view = client.ended(&run);
    assert_eq!((&view["status"], &view["error"]["code"]), (&json!("failed"), &json!("exit_nonzero")), "{view:#}");
    whole(&client, &run);
    stage.nothing_lives(&run);
    stage.nothing_is_kept();
}

#[test]
fn its_stop_is_proven() {
    let Some(stage) = Stage::usual("the stop of a detached command") else { return };
    const DEAF: &str = "trap '' TERM HUP; (sleep 1020; true) & setsid sleep 1021 & echo up; while :; do sleep 1; done";
    let run = stage.client.spawn(detached(DEAF));
    stage.until_said(&run, "up");
    let answer = stage.client.cancel(&run);
    assert_eq!(answer["receipt"]["far_end"]["state"], "confirmed", "{answer:#}");
    stage.ended_as(&run, "cancelled");
    stage.nothing_is_kept();
    // Also where it has no line: sshd is gone for a while.
    let run = stage.client.spawn(detached(DEAF));
    stage.until_said(&run, "up");
    stage.sshd.kill();
    stage.client.event(&run, "the loss", |event| event["type"] == "notice" && event["data"]["code"] == "link_lost");
    stage.sshd.start();
    let answer = stage.client.cancel(&run);
    assert_eq!(answer["receipt"]["far_end"]["state"], "confirmed", "{answer:#}");
    stage.ended_as(&run, "cancelled");
    stage.nothing_is_kept();
}
