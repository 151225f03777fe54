//! Fifty clients cancel the same run at once: there is one stop, and all are told the same.

use std::sync::Barrier;

use serde_json::{Value, json};

use super::way::Way;
use super::{Stage, truth};
use crate::client::{Client, is_end};

const CLIENTS: usize = 50;

/// The clients of a storm, each with a connection of its own.
struct Storm(Vec<Client>);

impl Storm {
    fn of(stage: &Stage) -> Self {
        Self((0..CLIENTS).map(|_| stage.host.client()).collect())
    }

    /// All cancel the run; the one answer that they get.
    #[track_caller]
    fn cancel(&self, run: &str) -> Value {
        let start = Barrier::new(self.0.len());
        let answers: Vec<Value> = std::thread::scope(|scope| {
            let threads: Vec<_> = self
                .0
                .iter()
                .map(|client| {
                    let start = &start;
                    scope.spawn(move || {
                        start.wait();
                        Stage::cancel(client, run, None)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for answer in &answers {
            assert_eq!(*answer, answers[0], "two clients are told two things");
        }
        answers[0].clone()
    }

    /// So many stops of what had begun, one end, and the answer says so.
    #[track_caller]
    fn ends(&self, run: &str, stops: usize) -> Value {
        let answer = self.cancel(run);
        truth::of_an_end(&self.0[0], run, &answer, &["cancelled"]);
        let events = self.0[0].events(run);
        let told = events.iter().filter(|event| event["type"] == "status_changed" && event["data"]["to"] == "cancelling").count();
        assert_eq!(told, stops, "{events:?}");
        assert_eq!(self.cancel(run), answer, "the answer after the end is the same");
        assert_eq!(self.0[0].events(run), events, "and nothing is added");
        answer
    }
}

#[test]
fn at_every_moment_of_a_life() {
    for way in Way::all("storms of cancels") {
        let stage = Stage::with(
            way,
            &[("[backends.exec.limits]\nruns = 500", "[backends.exec.limits]\nruns = 1"), ("ask = \"500 ms\"", "ask = \"3 s\"")],
        );
        let storm = Storm::of(&stage);
        let client = &storm.0[0];

        // Queued: behind the one run that `exec` may have.
        let (first, second) = (stage.bait("deaf"), stage.bait("deaf"));
        let running = client.spawn(stage.exec(&first));
        first.stands(client, &running).unwrap();
        let queued = client.spawn(stage.exec(&second));
        assert_eq!(client.get(&queued)["status"], "queued");
        let answer = storm.ends(&queued, 0);
        assert_eq!(answer["receipt"]["proof"], json!({ "outcome": "no_processes" }), "{answer}");
        truth::of_a_proof(&stage, &second, &answer["receipt"]);

        // Running.
        let answer = storm.ends(&running, 1);
        first.is_gone(&running);
        truth::of_a_proof(&stage, &first, &answer["receipt"]);
        truth::nothing_left(&stage, &running);

        // Starting: the guest sleeps in its `start`.
        let starting = client.spawn(stage.host.hostile(json!({ "mode": "sleep_start" })));
        client.until_status(&starting, "starting");
        storm.ends(&starting, 1);

        // A question is open.
        let asking = client.spawn(stage.host.hostile(json!({ "mode": "ask" })));
        client.until_status(&asking, "input_required");
        storm.ends(&asking, 1);

        // Being cancelled already, by a component that does not hear, so that this lasts.
        let bait = stage.bait("stone");
        let cancelling = client.spawn(stage.hostile("spawn_deaf", &bait));
        bait.stands(client, &cancelling).unwrap();
        let before = stage.host.client();
        std::thread::scope(|scope| {
            let one = scope.spawn(|| Stage::cancel(&before, &cancelling, None));
            client.until_status(&cancelling, "cancelling");
            let answer = storm.ends(&cancelling, 1);
            assert_eq!(one.join().unwrap(), answer, "who asked first is told the same");
            truth::of_a_proof(&stage, &bait, &answer["receipt"]);
        });
        bait.is_gone(&cancelling);
        assert_eq!(client.events(&cancelling).iter().filter(|event| is_end(event)).count(), 1);

        // Ended, in another way than by a cancel.
        let ended = client.run(stage.host.hostile(json!({ "mode": "echo" })));
        let answer = storm.cancel(ended["run_id"].as_str().unwrap());
        assert_eq!((&answer["status"], &answer["receipt"]), (&json!("completed"), &ended["receipt"]));
    }
}
