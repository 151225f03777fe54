//! Runs at far machines, over real ssh and real sshd: the built program from the outside, and the far end as it really is.

mod amount;
mod closed;
mod corpus;
mod detached;
mod groups;
mod jumps;
mod lost;
mod plain;
mod same_machine;
mod stop;
mod ways;

use serde_json::{Value, json};

use crate::client::Client;
use crate::host::Host;
use crate::patience::until;
use crate::processes::with_environment;
use crate::sshd::{Configuration, Setup, Sshd, Target, available};

/// A far machine called `far`, a host that may execute anything on it, and a client.
pub struct Stage {
    pub client: Client,
    pub host: Host,
    pub sshd: Sshd,
}

impl Stage {
    /// None where far machines cannot be had; that is said.
    pub fn usual(test: &str) -> Option<Self> {
        available(test).then(|| Self::of(Setup::new().start()))
    }

    pub fn of(sshd: Sshd) -> Self {
        let host = Host::bare(Self::configuration(&sshd).text());
        Self { client: host.client(), host, sshd }
    }

    /// Any command and any line, everywhere.
    pub fn configuration(sshd: &Sshd) -> Configuration {
        Configuration::new()
            .target(Target::of("far", sshd))
            .any_line()
            .table("[[rules]]\ntargets = [\"*\"]\nallow = [[\"**\", \"...\"]]\ncwd = [\"/**\"]\nenv = [\"*\"]")
    }

    /// A run of this config, to its end.
    pub fn run(&self, config: Value) -> Value {
        self.client.run(request(config))
    }
    /// A run of this line, which has begun.
    pub fn begun(&self, config: Value) -> String {
        let run = self.client.spawn(request(config));
        self.client.event(&run, "the command", |event| event["type"] == "command_started");
        run
    }
    pub fn all(&self, run: &Value, stream: &str) -> String {
        output(&self.client, run["run_id"].as_str().unwrap(), stream)
    }

    /// Nothing of the run lives, here or there.
    #[track_caller]
    pub fn nothing_lives(&self, run: &str) {
        self.sshd.until_empty();
        assert_eq!(with_environment(&format!("FALCONER_RUN_ID={run}")), [], "here");
    }
    /// The same, and one end in its history, which its state tells too.
    #[track_caller]
    pub fn ended_as(&self, run: &str, status: &str) -> Value {
        let view = self.client.ended(run);
        assert_eq!(view["status"], status, "{view:#}\n{}", self.sshd.log());
        let events = self.client.events(run);
        assert_eq!(events.last().unwrap()["type"], format!("run_{status}"), "{events:#?}");
        self.nothing_lives(run);
        view
    }
    pub fn until_said(&self, run: &str, text: &str) {
        until(&format!("{text:?} of {run}"), || output(&self.client, run, "stdout").contains(text).then_some(()));
    }
}

pub fn request(config: Value) -> Value {
    json!({ "backend": "ssh", "target": "far", "config": config })
}

/// All of one stream, as the events have it; offsets are checked to have no gap.
#[track_caller]
pub fn output(client: &Client, run: &str, stream: &str) -> String {
    let (mut whole, mut bytes) = (String::new(), 0);
    for event in client.events(run) {
        if event["type"] == "command_output" && event["data"]["stream"] == stream {
            assert_eq!(event["data"]["offset"], json!(bytes), "{event}");
            whole.push_str(event["data"]["text"].as_str().unwrap_or_default());
            bytes += event["data"]["bytes"].as_u64().unwrap();
        }
    }
    whole
}
