//! Turns of the main thread, what is said to them while they run, and their budgets.

use std::time::Duration;

use falconer_backend::{Effects, Event, Events, Failure, Severity, Steering, Timing};
use serde_json::{Value, json};

use super::{Purpose, Session, Stage};
use crate::incoming::{Turn, TurnStatus};
use crate::{input, verdict};

/// The id of the run's own message, which is not told as one that joined.
pub const PROMPT: &str = "falconer-prompt";
/// How long a turn may take to its end when it was told to.
const INTERRUPT_WAIT: Duration = Duration::from_secs(1);
/// Messages that may wait for a turn.
const MAX_WAITING: usize = 64;

/// A message to the agent.
#[derive(Debug, Clone)]
pub struct Message {
    /// Comes back with the message when the agent gets it.
    pub id: String,
    pub input: Vec<Value>,
}

/// A turn that did not end in its time, and the message that another one was asked for with.
#[derive(Debug)]
pub struct Left {
    turn: String,
    message: Message,
    /// It ended after all.
    ended: bool,
    /// The program put the message into it.
    joined: bool,
}

impl Session {
    pub(super) fn first_turn(&mut self, out: &mut Effects) {
        let message = Message { id: PROMPT.to_owned(), input: std::mem::take(&mut self.order.input) };
        self.start_turn(&message, out);
    }

    fn start_turn(&mut self, message: &Message, out: &mut Effects) {
        let Some(thread) = &self.thread else { return };
        let params = self.order.turn(thread, &message.input, &message.id);
        self.stage = Stage::Starting;
        self.turn = None;
        self.answer = None;
        self.found = 0;
        self.acted = false;
        self.mapper.turn_began();
        self.request("turn/start", &params, Purpose::Turn, out);
    }

    pub(super) fn turn_asked(&mut self, result: Result<Value, String>, now: Duration, out: &mut Effects) {
        match result {
            Ok(answer) => {
                let id = answer.get("turn").and_then(|turn| turn.get("id")).and_then(Value::as_str);
                if self.turn.is_none()
                    && let Some(left) = self.left.as_mut().filter(|left| Some(left.turn.as_str()) == id)
                {
                    left.joined = true;
                    return self.begin_anew(out);
                }
                if let Some(id) = id
                    && self.turn.is_none()
                    && matches!(self.stage, Stage::Starting | Stage::Redirecting { .. } | Stage::Interrupting { .. })
                {
                    self.turn_began(id.to_owned(), out);
                }
            }
            Err(message) => self.fail(verdict::of_request("a turn", &message), now, out),
        }
    }

    /// A turn runs. What waited for one is said now.
    pub(super) fn turn_began(&mut self, turn: String, out: &mut Effects) {
        if self.turn.as_deref() == Some(&turn) {
            return;
        }
        self.turn = Some(turn);
        self.left = None;
        match self.stage {
            Stage::Starting | Stage::Answered { .. } => {
                self.stage = Stage::Working;
                self.answer = None;
                self.flush_waiting(out);
            }
            Stage::Redirecting { .. } | Stage::Interrupting { .. } => self.interrupt_turn(out),
            _ => {}
        }
    }

    fn flush_waiting(&mut self, out: &mut Effects) {
        for message in std::mem::take(&mut self.waiting) {
            self.steer_turn(message, out);
        }
    }

    fn steer_turn(&mut self, message: Message, out: &mut Effects) {
        let (Some(thread), Some(turn)) = (&self.thread, &self.turn) else { return self.waiting.push_back(message) };
        let params = json!({
            "threadId": thread.id, "expectedTurnId": turn, "input": message.input, "clientUserMessageId": message.id,
        });
        self.request("turn/steer", &params, Purpose::Steer(message), out);
    }

    /// The turn took a message, or had ended: then another turn begins with it.
    pub(super) fn steered(&mut self, message: Message, taken: bool, out: &mut Effects) {
        if taken {
            return;
        }
        match self.stage {
            Stage::Answered { .. } => self.start_turn(&message, out),
            _ => self.waiting.push_back(message),
        }
    }

    pub(super) fn turn_ended(&mut self, turn: Turn, now: Duration, out: &mut Effects) {
        if self.turn.as_deref().is_some_and(|running| running != turn.id) {
            return;
        }
        let is_left = self.turn.take().is_none() && self.left.as_ref().is_some_and(|left| left.turn == turn.id);
        if let Some(thread) = &self.thread {
            self.mapper.turn_ended(&mut out.events, &thread.id);
        }
        let completed = turn.status == TurnStatus::Completed;
        if let Some(left) = self.left.as_mut().filter(|left| is_left && !(left.joined && completed)) {
            left.ended = true;
            if matches!(self.stage, Stage::Starting) {
                return self.begin_anew(out);
            }
        }
        match std::mem::replace(&mut self.stage, Stage::Working) {
            Stage::Redirecting { message, .. } => {
                // The command that ran goes on without the turn; it is not what the person wants now.
                self.clean_main(out);
                self.start_turn(&message, out);
            }
            Stage::Interrupting { .. } => {
                // It ended by itself before the interrupt reached it: its answer stands.
                if completed {
                    self.keep_answer();
                }
                self.clean_up(now, out);
            }
            stage @ (Stage::Cleaning { .. } | Stage::Ending { .. }) => self.stage = stage,
            _ if completed => match self.waiting.pop_front() {
                Some(message) => self.start_turn(&message, out),
                None => {
                    self.keep_answer();
                    self.stage = Stage::Answered { until: now + self.order.background_wait };
                    self.look_for_the_end(out);
                }
            },
            _ => {
                let failure = match (turn.status, &turn.error) {
                    (_, Some(error)) => verdict::of_error(error),
                    (TurnStatus::Interrupted, None) => Failure::new("interrupted", "the turn was cut short"),
                    (_, None) => Failure::new("agent_error", "codex ended the turn with an error and no message"),
                };
                self.failure.get_or_insert(failure);
                self.clean_up(now, out);
            }
        }
    }

    fn keep_answer(&mut self) {
        self.answer = Some(self.mapper.last_text().unwrap_or_default().to_owned());
    }

    /// A message to the run while it lives.
    ///
    /// # Errors
    /// `not_running`, `busy`, and those of its files.
    pub fn steer(&mut self, steering: &Steering, now: Duration, out: &mut Effects) -> Result<(), Failure> {
        let message = Message { id: steering.id.clone(), input: input::of(&steering.message)? };
        match self.stage {
            Stage::Greeting { .. } | Stage::Opening | Stage::Starting | Stage::Redirecting { .. } => {
                if self.waiting.len() >= MAX_WAITING {
                    return Err(Failure::new("busy", format!("{MAX_WAITING} messages wait already")).retryable());
                }
                self.waiting.push_back(message);
            }
            Stage::Working if steering.timing == Timing::Now => {
                self.interrupt_turn(out);
                self.stage = Stage::Redirecting { message, until: now + INTERRUPT_WAIT };
            }
            Stage::Working => self.steer_turn(message, out),
            Stage::Answered { .. } => self.start_turn(&message, out),
            Stage::Interrupting { .. } | Stage::Cleaning { .. } | Stage::Ending { .. } => {
                return Err(Failure::new("not_running", "the run is ending and takes no more messages")
                    .with_hint("continue the session when it has ended"));
            }
        }
        Ok(())
    }

    /// Tells the turn in hand to end.
    pub(super) fn interrupt_turn(&mut self, out: &mut Effects) {
        if let (Some(thread), Some(turn)) = (&self.thread, &self.turn) {
            let params = json!({ "threadId": thread.id, "turnId": turn });
            self.request("turn/interrupt", &params, Purpose::Nothing, out);
        }
    }

    /// Tells the turn to end for good.
    pub(super) fn interrupt(&mut self, now: Duration, out: &mut Effects) {
        self.interrupt_turn(out);
        if let Stage::Redirecting { message, .. } = std::mem::replace(&mut self.stage, Stage::Interrupting { until: now + INTERRUPT_WAIT })
        {
            self.waiting.push_back(message);
        }
    }

    /// The run is over: tells of each message that no turn took.
    pub fn give_up(&mut self, events: &mut Events) {
        let asked = std::mem::take(&mut self.requests).into_values().filter_map(|purpose| match purpose {
            Purpose::Steer(message) => Some(message),
            _ => None,
        });
        for message in asked.chain(self.waiting.drain(..)) {
            let text = format!("the agent did not read the message {}: its turn was over", message.id);
            events.push(Event::notice(Severity::Warning, "message_not_delivered", text));
        }
    }

    /// The program does not end the turn it was told to end: a new one makes it do so.
    pub(super) fn redirect_anyway(&mut self, out: &mut Effects) {
        if let Stage::Redirecting { message, .. } = std::mem::replace(&mut self.stage, Stage::Working) {
            self.left = self.turn.clone().map(|turn| Left { turn, message: message.clone(), ended: false, joined: false });
            self.start_turn(&message, out);
        }
    }

    /// The message went into a turn that ended without it: another one is asked for.
    fn begin_anew(&mut self, out: &mut Effects) {
        if matches!(self.stage, Stage::Starting)
            && let Some(left) = self.left.take_if(|left| left.ended && left.joined)
        {
            self.start_turn(&left.message, out);
        }
    }

    /// The requests to the model are spent, and the turn goes on with another one.
    pub(super) fn over_turns(&mut self, goes_on: bool, now: Duration, out: &mut Effects) {
        let Some(most) = self.order.max_turns else { return };
        if self.account.turns() > most || self.account.turns() == most && goes_on {
            let failure = Failure::new("max_turns", format!("the run used its {most} requests to the model"));
            self.over(failure.with_hint("raise max_turns, or continue the session"), now, out);
        }
    }

    /// The tokens are spent.
    pub(super) fn over_tokens(&mut self, now: Duration, out: &mut Effects) {
        let Some(most) = self.order.max_tokens.filter(|most| self.account.spent() > *most) else { return };
        let failure = Failure::new("max_tokens", format!("the run used {} tokens of its {most}", self.account.spent()));
        self.over(failure.with_hint("raise max_tokens, or continue the session"), now, out);
    }

    fn over(&mut self, failure: Failure, now: Duration, out: &mut Effects) {
        if self.failure.is_none()
            && matches!(self.stage, Stage::Starting | Stage::Working | Stage::Redirecting { .. } | Stage::Answered { .. })
        {
            self.failure = Some(failure);
            match self.turn {
                Some(_) => self.interrupt(now, out),
                None => self.clean_up(now, out),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use falconer_backend::{ItemStatus, Job, JsonLine, Limits, Part};

    use super::*;
    use crate::mcp::Servers;
    use crate::order::Order;

    /// A run, told what the program answers.
    fn session(lines: &[Value], out: &mut Effects) -> Session {
        let job = Job {
            run_id: "run_a".to_owned(),
            life: 1,
            message: Vec::new(),
            instructions: None,
            cwd: None,
            session: None,
            target: None,
            output_schema: None,
            config: String::new(),
            limits: Limits { wall_ms: None, idle_ms: None, ask_ms: 1, output_bytes: 1 },
            checkpoint: None,
            only_end: false,
        };
        let order = Order::of(&job, &crate::config::Config::default(), Servers::default(), input::of_text("go"), None).unwrap();
        let mut session = Session::new(order, out);
        for line in lines {
            tell(&mut session, line, out);
        }
        session
    }

    fn tell(session: &mut Session, line: &Value, out: &mut Effects) {
        session.line(JsonLine::parse(line.to_string().as_bytes()).unwrap(), Duration::ZERO, out);
    }

    fn steering(id: &str, timing: Timing) -> Steering {
        Steering { id: id.to_owned(), message: vec![Part::Text("more".to_owned())], timing }
    }

    /// Up to a turn `t1` that runs.
    fn working() -> Vec<Value> {
        vec![
            json!({"id": 1, "result": {}}),
            json!({"id": 2, "result": {"config": {}}}),
            json!({"id": 3, "result": {}}),
            json!({"id": 4, "result": {"thread": {"id": "main"}}}),
            json!({"id": 5, "result": {"turn": {"id": "t1"}}}),
        ]
    }

    fn undelivered(mut session: Session, mut out: Effects) -> Vec<String> {
        session.give_up(&mut out.events);
        let notices = out.events.pending().events.into_iter().filter_map(|event| match event {
            Event::Notice(notice) if notice.code == "message_not_delivered" => Some(notice.message),
            _ => None,
        });
        notices.collect()
    }

    #[test]
    fn a_message_that_no_turn_took_is_told() {
        // It waits for a thread that is never opened.
        let mut out = Effects::default();
        let mut early = session(&working()[..3], &mut out);
        early.steer(&steering("m1", Timing::AfterStep), Duration::ZERO, &mut out).unwrap();
        tell(&mut early, &json!({"id": 4, "error": {"message": "no"}}), &mut out);
        assert!(undelivered(early, out).concat().contains("m1"));

        // The turn is to end for it, and then for good.
        let mut out = Effects::default();
        let mut cut = session(&working(), &mut out);
        cut.steer(&steering("m2", Timing::Now), Duration::ZERO, &mut out).unwrap();
        cut.cancel(Duration::ZERO, &mut out);
        assert!(undelivered(cut, out).concat().contains("m2"));

        // The program is gone before it answers.
        let mut out = Effects::default();
        let mut gone = session(&working(), &mut out);
        gone.steer(&steering("m3", Timing::AfterStep), Duration::ZERO, &mut out).unwrap();
        assert!(undelivered(gone, out).concat().contains("m3"));
    }

    #[test]
    fn a_turn_that_ends_late_takes_no_redirected_message_with_it() {
        let late = json!({"method": "turn/completed", "params": {"threadId": "main", "turn": {"id": "t1", "status": "interrupted"}}});
        let begun = |id: u64, turn: &str| json!({"id": id, "result": {"turn": {"id": turn}}});
        // The old turn ends before the new one begins; or the message joined it and went with it, told in either order.
        for lines in [
            vec![late.clone(), begun(7, "t2")],
            vec![begun(7, "t1"), late.clone(), begun(8, "t2")],
            vec![late.clone(), begun(7, "t1"), begun(8, "t2")],
        ] {
            let mut out = Effects::default();
            let mut session = session(&working(), &mut out);
            session.steer(&steering("m1", Timing::Now), Duration::ZERO, &mut out).unwrap();
            session.tick(INTERRUPT_WAIT, &mut out);
            for line in &lines {
                tell(&mut session, line, &mut out);
            }
            assert!(session.failure.is_none() && matches!(session.stage, Stage::Working), "{lines:?}: {:?}", session.failure);
            assert_eq!(session.turn.as_deref(), Some("t2"), "{lines:?}");
            tell(
                &mut session,
                &json!({"method": "turn/completed", "params": {"threadId": "main", "turn": {"id": "t2", "status": "completed"}}}),
                &mut out,
            );
            assert!(matches!(session.stage, Stage::Answered { .. }), "{lines:?}");
        }
    }

    #[test]
    fn a_command_that_is_killed_for_a_message_was_interrupted() {
        let item = |method: &str, code: Option<i32>| {
            let status = if code.is_some() { "failed" } else { "inProgress" };
            let item = json!({"type": "commandExecution", "id": "c", "command": "x", "status": status, "exitCode": code});
            json!({"method": method, "params": {"threadId": "main", "turnId": "t1", "item": item}})
        };
        let cut = json!({"method": "turn/completed", "params": {"threadId": "main", "turn": {"id": "t1", "status": "interrupted"}}});
        // As the sandbox tells of the kill; of its own accord before that; and where nothing was to be ended.
        for (code, now, status, left) in [
            (137, true, ItemStatus::Interrupted, None),
            (1, true, ItemStatus::Failed, Some(1)),
            (137, false, ItemStatus::Failed, Some(137)),
        ] {
            let mut out = Effects::default();
            let mut session = session(&working(), &mut out);
            tell(&mut session, &item("item/started", None), &mut out);
            if now {
                session.steer(&steering("m1", Timing::Now), Duration::ZERO, &mut out).unwrap();
                tell(&mut session, &cut, &mut out);
            }
            tell(&mut session, &item("item/completed", Some(code)), &mut out);
            let ended = out.events.pending().events.into_iter().find_map(|event| match event {
                Event::CommandFinished(end) => Some((end.status, end.exit_code)),
                _ => None,
            });
            assert_eq!(ended, Some((status, left)), "{code} {now}");
        }
    }
}
