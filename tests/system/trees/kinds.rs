//! Each kind of tree, cancelled once it stands, at once and by all rungs.

use serde_json::{Value, json};

use super::bait::Bait;
use super::way::Way;
use super::{Stage, truth};
use crate::client::{Client, is_terminal};
use crate::patience::until;

/// More than a pipe and the host's own buffers hold.
const TOO_MUCH: usize = 1 << 20;

/// How the bait is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// By `exec`, which reads what it says and passes TERM on.
    Exec,
    /// By a component that reads nothing.
    Unread,
    /// By a component that does not hear `cancel`.
    Deaf,
    /// By a component that has more to say to it than it takes.
    Fed,
    /// The shell runs a pipeline, with the bait's token in it.
    Pipeline,
}

/// A kind of tree.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    pub name: &'static str,
    pub mode: &'static str,
    pub start: Start,
    /// How many processes there are, where they are always the same.
    pub steady: Option<usize>,
    /// What they are called.
    pub names: &'static [&'static str],
    /// How its run may end when it is cancelled.
    pub ends: &'static [&'static str],
}

const CANCELLED: &[&str] = &["cancelled"];
const BAIT: &[&str] = &["falconer-bait"];

const fn kind(mode: &'static str, steady: Option<usize>) -> Kind {
    Kind { name: mode, mode, start: Start::Exec, steady, names: BAIT, ends: CANCELLED }
}

/// Those that live until they are ended.
pub const KINDS: &[Kind] = &[
    kind("deaf", Some(2)),
    kind("stone", Some(2)),
    kind("stopped", Some(3)),
    kind("session", Some(2)),
    kind("daemon", Some(2)),
    kind("headless", Some(1)),
    kind("comet", None),
    kind("bush", None),
    kind("crowd", Some(501)),
    kind("tracer", Some(3)),
    kind("reader", Some(1)),
    kind("mover", Some(2)),
    kind("fugitive", Some(3)),
    kind("shim_stopper", Some(2)),
    kind("everything", None),
    Kind { name: "writer", mode: "writer", start: Start::Unread, steady: Some(1), names: &["falconer-bait", "bait-full"], ends: CANCELLED },
    // The component waits for nothing but its child, and takes any end of it for its own.
    Kind { name: "fed", mode: "deaf", start: Start::Fed, steady: Some(2), names: BAIT, ends: &["cancelled", "completed"] },
    Kind { name: "unheard", mode: "session", start: Start::Deaf, steady: Some(2), names: BAIT, ends: CANCELLED },
    Kind { name: "pipeline", mode: "pipeline", start: Start::Pipeline, steady: None, names: &["sh", "yes", "cat"], ends: CANCELLED },
];

impl Kind {
    pub fn request(&self, stage: &Stage, bait: &Bait) -> Value {
        match self.start {
            Start::Exec => stage.exec(bait),
            Start::Unread => stage.hostile("spawn_unread", bait),
            Start::Deaf => stage.hostile("spawn_deaf", bait),
            Start::Fed => {
                let mut request = stage.hostile("spawn", bait);
                request["config"]["stdin"] = json!("x".repeat(TOO_MUCH));
                request
            }
            Start::Pipeline => {
                let script = "echo ready; yes \"$0\" | cat | cat >/dev/null";
                stage.host.exec(json!({ "program": "sh", "args": ["-c", script, bait.token()] }))
            }
        }
    }
}

/// One kind of tree, in all ways that there are here, first without any grace and then with all rungs.
#[track_caller]
fn is_ended(name: &str) {
    let kind = KINDS.iter().find(|kind| kind.name == name).unwrap();
    for way in Way::all(name) {
        let stage = Stage::set(way);
        let client = stage.host.client();
        for grace in [0, 100] {
            let bait = stage.bait(kind.mode);
            let run = client.spawn(kind.request(&stage, &bait));
            if let Err(why) = bait.stands(&client, &run) {
                eprintln!("left out: {name}: {why}");
                return;
            }
            let seen = kind.steady.map(|count| {
                let seen = bait.alive();
                assert_eq!(seen.len(), count, "{seen:?}");
                seen
            });
            let answer = Stage::cancel(&client, &run, Some(grace));
            bait.is_gone(&run);
            truth::of_an_end(&client, &run, &answer, kind.ends);
            let receipt = &answer["receipt"];
            assert_eq!(receipt["cause"], "requested");
            truth::of_a_proof(&stage, &bait, receipt);
            assert_eq!(receipt["proof"]["outcome"], "empty", "{receipt}");
            let killed = truth::of_the_killed(receipt, kind.names, seen.as_deref());
            if grace == 0 {
                // Nobody was asked, so all that was there was killed.
                assert!(kind.steady.map_or(killed > 0, |count| killed == count), "{killed} killed: {receipt}");
            }
            truth::nothing_left(&stage, &run);
        }
    }
}

macro_rules! each {
    ($($kind:ident),* $(,)?) => {
        $(#[test]
        fn $kind() {
            is_ended(stringify!($kind));
        })*

        #[test]
        fn all_kinds_have_a_test() {
            assert_eq!(KINDS.iter().map(|kind| kind.name).collect::<Vec<_>>(), [$(stringify!($kind)),*]);
        }
    };
}

each!(
    deaf,
    stone,
    stopped,
    session,
    daemon,
    headless,
    comet,
    bush,
    crowd,
    tracer,
    reader,
    mover,
    fugitive,
    shim_stopper,
    everything,
    writer,
    fed,
    unheard,
    pipeline,
);

/// The program ends at once and leaves a daemon: the run is completed, and only after the daemon is ended.
#[test]
fn what_a_program_leaves_behind_ends_before_its_run() {
    for way in Way::all("a daemon that is left behind") {
        let stage = Stage::set(way);
        let client = stage.host.client();
        let bait = stage.bait("leaver");
        let run = client.spawn(stage.exec(&bait));
        let view = client.ended(&run);
        bait.is_gone(&run);
        truth::of_an_end(&client, &run, &view, &["completed"]);
        let receipt = &view["receipt"];
        assert_eq!(receipt["cause"], "finished");
        truth::of_a_proof(&stage, &bait, receipt);
        assert_eq!(receipt["proof"]["outcome"], "empty", "{receipt}");
        assert_eq!(truth::of_the_killed(receipt, BAIT, None), 1, "{receipt}");
        truth::nothing_left(&stage, &run);
    }
}

/// Whose shim is killed may end by itself, or live on until it is cancelled; it is never said to have done its work.
#[test]
fn a_shim_that_is_killed_takes_nothing_along() {
    for way in Way::all("a shim that is killed") {
        let stage = Stage::set(way);
        let client = stage.host.client();
        let bait = stage.bait("shim_killer");
        let run = client.spawn(stage.exec(&bait));
        until("the shim to be killed", || (is_terminal(&client.get(&run)) || says_ready(&client, &run)).then_some(()));
        let answer = Stage::cancel(&client, &run, Some(0));
        bait.is_gone(&run);
        truth::of_an_end(&client, &run, &answer, &["cancelled", "failed"]);
        truth::of_a_proof(&stage, &bait, &answer["receipt"]);
        truth::of_the_killed(&answer["receipt"], BAIT, None);
        truth::nothing_left(&stage, &run);
    }
}

fn says_ready(client: &Client, run: &str) -> bool {
    client.events(run).iter().any(|event| event["data"]["text"] == "ready\n")
}
