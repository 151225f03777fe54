//! What the end of a command at the far end is for its run: completed, failed, or lost where something may live.

use falconer_backend::{CommandEnd, Completion, Event, Events, ExitStatus, Failure, ItemStatus, Outcome, RemoteProof, signal_name};

use super::Run;
use crate::checkpoint::Ended;
use crate::line::COMMAND;

impl Run {
    pub(super) fn finished(&self, ended: Ended, events: &mut Events) {
        let signal = signal(ended.status);
        let status = match (self.stop, ended.status) {
            (Some(_), _) => ItemStatus::Interrupted,
            (None, 0) => ItemStatus::Succeeded,
            (None, _) => ItemStatus::Failed,
        };
        let duration = self.begun_at.map(|at| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX));
        events.push(Event::CommandFinished(CommandEnd {
            id: COMMAND.to_owned(),
            status,
            exit_code: Some(exit_code(ended.status)),
            signal: signal.and_then(signal_name).map(str::to_owned),
            duration_ms: duration,
        }));
    }

    pub(super) fn outcome(&self, ended: Ended) -> Outcome {
        let (proof, detail) = proof(ended.left, 0, ended.looked);
        if self.stop.is_some() {
            return Outcome::stopped_remotely(proof, detail, self.result());
        }
        if ended.left > 0 {
            let failure = Failure::new("far_end_survivors", format!("the command ended with {}, but {detail}", ended.status))
                .with_hint("look on the machine and end by hand what is left");
            return Outcome::lost(failure, RemoteProof::Unknown, detail, self.result());
        }
        let (program, _) = self.config.shown();
        let failure = match (ended.status, signal(ended.status)) {
            (0, _) => return Outcome::Completed(self.result()),
            (_, Some(number)) => Failure::of_exit(&program, ExitStatus::Signalled(number)),
            (status, None) => Failure::of_exit(&program, ExitStatus::Code(exit_code(status))),
        };
        let message = match &self.last_line {
            Some(line) => format!("{}: {}", failure.message, &line[..line.floor_char_boundary(500)]),
            None => failure.message.clone(),
        };
        Outcome::failed(Failure { message, ..failure })
    }

    pub(super) fn result(&self) -> Completion {
        Completion { text: Some(self.tail.clone()).filter(|text| !text.is_empty()), structured: None }
    }
}

impl Ended {
    const CODE: &str = "far_end_left_behind";

    /// As the reason of a look, which then only takes away what is kept.
    pub(super) fn failure(self) -> Failure {
        let mut failure = Failure::new(Self::CODE, "what was kept of the run is to be taken away");
        failure.hint = serde_json::to_string(&self).ok();
        failure
    }

    pub(super) fn of(why: &Failure) -> Option<Self> {
        if why.code != Self::CODE {
            return None;
        }
        serde_json::from_str(why.hint.as_deref()?).ok()
    }
}

/// 128 and more is how shells tell a signal (POSIX.1-2024, 2.8.2).
fn signal(status: u32) -> Option<i32> {
    (129..=192).contains(&status).then(|| exit_code(status) - 128)
}

fn exit_code(status: u32) -> i32 {
    i32::try_from(status).unwrap_or(i32::MAX)
}

pub(super) fn proof(left: u32, killed: u32, looked: bool) -> (RemoteProof, String) {
    let processes = |count: u32| if count == 1 { "1 process".to_owned() } else { format!("{count} processes") };
    let ended = if killed > 0 { format!(", {} killed", processes(killed)) } else { String::new() };
    match (left, looked) {
        (0, true) => (RemoteProof::Confirmed, format!("nothing of the run is left there{ended}")),
        (0, false) => (RemoteProof::Unknown, format!("there is no /proc there: only its process group was looked at, and is empty{ended}")),
        (left, _) => (RemoteProof::Unknown, format!("{} of the run still live there{ended}", processes(left))),
    }
}
