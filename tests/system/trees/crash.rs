//! The host is killed in each rung of a stop: the shims end what it had, and the next host knows the truth of it.

use std::time::Duration;

use serde_json::{Value, json};

use super::bait::Bait;
use super::look;
use super::way::Way;
use super::{Stage, truth};
use crate::client::Client;
use crate::patience::until;

/// How often the host is killed at some moment of a short stop.
const MOMENTS: u32 = 12;
/// Between two such moments.
const STEP: Duration = Duration::from_millis(5);

const ASK: &str = "ask = \"500 ms\"";
const TERMINATE: &str = "terminate = \"500 ms\"";
const DRAIN: &str = "[stop]\n";

/// A host with such rungs, and a tree that stands, under a component that does not hear `cancel`.
struct Scene {
    client: Client,
    bait: Bait,
    run: String,
    stage: Stage,
}

impl Scene {
    fn set(way: Way, mode: &'static str, rungs: &[(&str, &str)]) -> Self {
        let stage = Stage::with(way, rungs);
        let client = stage.host.client();
        let bait = stage.bait(mode);
        let run = client.spawn(stage.hostile("spawn_deaf", &bait));
        bait.stands(&client, &run).unwrap();
        Self { client, bait, run, stage }
    }

    /// Cancels the run, and kills the host as soon as this is so. Nobody gets an answer.
    fn crash_when(&self, what: &str, is_so: impl Fn(&Value) -> bool) {
        let canceller = self.stage.host.client();
        std::thread::scope(|scope| {
            let arguments = json!({ "name": "cancel_run", "arguments": { "run_id": self.run } });
            scope.spawn(|| canceller.request("tools/call", arguments));
            until(what, || {
                let view = self.client.get(&self.run);
                (view["status"] == "cancelling" && is_so(&view)).then_some(())
            });
            self.stage.host.crash();
        });
    }

    /// The shims end all of it, with no host there.
    #[track_caller]
    fn ends_by_itself(&self) {
        until("the tree of a dead host to end", || (self.bait.alive().is_empty() && !self.bait.is_held()).then_some(()));
        until("its shims to end", || look::shims(&self.run).is_empty().then_some(()));
        self.bait.is_gone(&self.run);
        assert_eq!(self.stage.host.daemon(), None, "no other host did that");
    }

    /// The next host says that the run is lost, and that nothing of it lives.
    #[track_caller]
    fn is_known(&self, statuses: &[&str]) {
        let client = self.stage.host.client();
        let view = client.ended(&self.run);
        truth::of_an_end(&client, &self.run, &view, statuses);
        if view["status"] == "lost" {
            assert_eq!(view["error"]["code"], "host_lost", "{view}");
            truth::of_a_recovery(&self.stage, &view["receipt"]);
        } else {
            truth::of_a_proof(&self.stage, &self.bait, &view["receipt"]);
        }
        truth::nothing_left(&self.stage, &self.run);
        self.bait.is_gone(&self.run);
    }
}

fn last_rung(view: &Value) -> Option<&str> {
    view["receipt"]["rungs"].as_array()?.last()?["rung"].as_str()
}

#[test]
fn while_nobody_has_asked_for_an_end() {
    for way in Way::all("a crash of the host") {
        let scene = Scene::set(way, "everything", &[]);
        scene.stage.host.crash();
        scene.ends_by_itself();
        scene.is_known(&["lost"]);
    }
}

#[test]
fn while_the_backend_is_asked() {
    for way in Way::all("a crash while the backend is asked") {
        let scene = Scene::set(way, "everything", &[(ASK, "ask = \"60 s\"")]);
        scene.crash_when("the backend to be asked", |view| [None, Some("ask")].contains(&last_rung(view)));
        scene.ends_by_itself();
        scene.is_known(&["lost"]);
    }
}

#[test]
fn while_the_tree_is_asked() {
    for way in Way::all("a crash after TERM") {
        let scene = Scene::set(way, "listener", &[(ASK, "ask = \"0 s\""), (TERMINATE, "terminate = \"60 s\"")]);
        let heard = |event: &Value| event["data"]["text"].as_str().is_some_and(|text| text.contains("heard TERM"));
        scene.crash_when("TERM to be heard", |_| scene.client.events(&scene.run).iter().any(heard));
        scene.ends_by_itself();
        scene.is_known(&["lost"]);
    }
}

#[test]
fn while_the_pipes_are_drained() {
    for way in Way::all("a crash while the pipes are drained") {
        let none = [(ASK, "ask = \"0 s\""), (TERMINATE, "terminate = \"0 s\""), (DRAIN, "[stop]\ndrain = \"10 s\"\n")];
        let scene = Scene::set(way, "everything", &none);
        scene.crash_when("the tree to be killed", |_| scene.bait.alive().is_empty() && !scene.bait.is_held());
        scene.ends_by_itself();
        scene.is_known(&["lost"]);
    }
}

/// Killing, cutting and proving last too short to be waited for: the host is killed a little later each time.
#[test]
fn at_any_moment_of_a_short_stop() {
    for way in Way::all("a crash at any moment of a stop") {
        for moment in 0..MOMENTS {
            let none = [(ASK, "ask = \"0 s\""), (TERMINATE, "terminate = \"0 s\""), (DRAIN, "[stop]\ndrain = \"20 ms\"\n")];
            let scene = Scene::set(way, "everything", &none);
            let canceller = scene.stage.host.client();
            std::thread::scope(|scope| {
                let arguments = json!({ "name": "cancel_run", "arguments": { "run_id": scene.run } });
                scope.spawn(|| canceller.request("tools/call", arguments));
                std::thread::sleep(STEP * moment);
                scene.stage.host.crash();
            });
            scene.ends_by_itself();
            // What was on disk before the crash is what happened.
            scene.is_known(&["lost", "cancelled"]);
        }
    }
}

/// Host and shim killed together. The next host ends what it can still know as the run's, by its cgroup or its mark; of the
/// rest it does not say that it is gone.
#[test]
fn together_with_the_shim() {
    for way in Way::all("a crash of host and shim") {
        // Whether it is ended: what left its cgroup, as root may, and lost its mark, cannot be found.
        let modes = [("session", true), ("daemon", way == Way::Cgroup), ("fugitive", false)];
        for (mode, is_known) in modes {
            let scene = Scene::set(way, mode, &[]);
            let daemon = scene.stage.host.daemon().unwrap();
            // The host must not see the shim's end.
            let pid = rustix::process::Pid::from_raw(daemon.pid.cast_signed()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
            let shims = look::shims(&scene.run);
            assert_eq!(shims.len(), 1, "one child, one shim");
            shims[0].kill();
            daemon.kill();
            until("the host to be gone", || (!daemon.lives()).then_some(()));
            until("the shim to be gone", || (!shims[0].lives()).then_some(()));
            let client = scene.stage.host.client();
            let view = client.ended(&scene.run);
            truth::of_an_end(&client, &scene.run, &view, &["lost"]);
            let lives = !scene.bait.alive().is_empty();
            assert!(!is_known || !lives, "{mode} lives on: {view}");
            assert_eq!(view["receipt"]["proof"]["outcome"], "unverified", "{mode}: nobody can know: {view}");
            // We know, because we made it: what is kept for a person to look at is forgotten at his word.
            scene.bait.end();
            scene.stage.host.run(&["check", "--orphans", "--forget", &scene.run]).well();
            truth::nothing_left(&scene.stage, &scene.run);
        }
    }
}
