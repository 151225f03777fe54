//! The far end is the host's own machine: it sees the daemon, the local ssh and what other backends run, and touches none of it.

use serde_json::json;

use super::{Stage, request};
use crate::host::Host;
use crate::patience::until;
use crate::processes::{Seen, carrying, with_environment};
use crate::sshd::Setup;
use crate::sshd::available;

const DEAF: &str = "trap '' TERM HUP INT; setsid sleep 2041 & echo up; while :; do sleep 1; done";

/// The host's own processes of a run.
fn here(stage: &Stage, run: &str) -> Vec<Seen> {
    let theirs: Vec<Seen> = stage.sshd.processes().into_iter().map(|process| process.seen).collect();
    with_environment(&format!("FALCONER_RUN_ID={run}")).into_iter().filter(|seen| !theirs.contains(seen)).collect()
}

#[test]
fn a_stop_and_a_sweep_touch_nothing_else_of_this_machine() {
    if !available("a far end that is this machine") {
        return;
    }
    let sshd = Setup::new().shared_pids().start();
    let more = "[backends.exec.grants]\nprograms = { sh = \"/bin/sh\" }\nworkspaces = [\"{work}\"]";
    let host = Host::bare(Stage::configuration(&sshd).table(more).text());
    let stage = Stage { client: host.client(), host, sshd };
    let own = stage.client.spawn(stage.host.exec(json!({ "program": "sh", "args": ["-c", "sleep 2042 & exec sleep 2043"] })));
    let local = until("the local run", || carrying("sleep\x002043").first().copied());
    let daemon = stage.host.daemon().unwrap();
    let other = stage.begun(json!({ "shell": "echo up; exec sleep 2044" }));
    stage.until_said(&other, "up");
    let others = here(&stage, &other);
    assert_eq!(others.len(), 1, "an ssh");
    let untouched = |what: &str| {
        assert!(daemon.lives() && local.lives(), "{what}");
        assert!(others.iter().all(|seen| seen.lives()), "{what}");
        for run in [&own, &other] {
            assert_eq!(stage.client.get(run)["status"], "running", "{what}");
        }
    };

    // A stop over the line: ssh lives until the far end has had its last word.
    let run = stage.begun(json!({ "shell": DEAF }));
    stage.until_said(&run, "up");
    let answer = stage.client.cancel(&run);
    assert_eq!((&answer["status"], &answer["receipt"]["far_end"]["state"]), (&json!("cancelled"), &json!("confirmed")), "{answer:#}");
    let events = stage.client.events(&run);
    assert!(events.iter().all(|event| event["data"]["code"] != "link_lost"), "{events:#?}");
    stage.sshd_has_nothing_of(&run);
    untouched("a stop");

    // What a command leaves behind is ended; its own ssh is none of that.
    let line = "setsid sleep 2045 >/dev/null 2>&1 & (trap '' TERM; exec sleep 2046) & echo done";
    let run = stage.run(json!({ "shell": line }));
    assert_eq!((&run["status"], stage.all(&run, "stdout").as_str()), (&json!("completed"), "done\n"), "{run:#}");
    stage.sshd_has_nothing_of(run["run_id"].as_str().unwrap());
    assert!(carrying("sleep\x002045").is_empty() && carrying("sleep\x002046").is_empty());
    untouched("a sweep");

    // A lost line: another one ends what there is, and its own ssh has the host's mark too.
    let run = stage.begun(json!({ "shell": DEAF }));
    stage.until_said(&run, "up");
    here(&stage, &run)[0].kill();
    let view = stage.client.ended(&run);
    assert_eq!((&view["status"], &view["error"]["code"]), (&json!("failed"), &json!("link_lost")), "{view:#}");
    assert!(view["error"]["message"].as_str().unwrap().contains("nothing of the run is left there"), "{view:#}");
    stage.sshd_has_nothing_of(&run);
    untouched("a look over another line");

    // The same for one that outlives its line.
    let run = stage.client.spawn(request(json!({ "shell": DEAF, "detach": true })));
    stage.until_said(&run, "up");
    let answer = stage.client.cancel(&run);
    assert_eq!((&answer["status"], &answer["receipt"]["far_end"]["state"]), (&json!("cancelled"), &json!("confirmed")), "{answer:#}");
    stage.sshd_has_nothing_of(&run);
    untouched("the stop of a detached one");

    // And the local stop does not reach over: its runs are ended each by its own side.
    assert_eq!(stage.client.cancel(&own)["status"], "cancelled");
    assert!(others.iter().all(|seen| seen.lives()) && !stage.sshd.far_processes(&other).is_empty());
    let answer = stage.client.cancel(&other);
    assert_eq!(answer["receipt"]["far_end"]["state"], "confirmed", "{answer:#}");
    stage.nothing_lives(&other);
}

impl Stage {
    #[track_caller]
    fn sshd_has_nothing_of(&self, run: &str) {
        until(&format!("nothing of {run} to be left"), || {
            (self.sshd.far_processes(run).is_empty() && with_environment(&format!("FALCONER_RUN_ID={run}")).is_empty()).then_some(())
        });
    }
}
