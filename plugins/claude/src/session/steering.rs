//! Messages of the person into the live run, and what makes room for them.
//!
//! A message of the priority `now` ends a turn that writes, or that waits for an answer to a question. Where a command of the turn
//! runs already it waits for the command's end, and the program takes no interrupt for that turn any more (2.1.329). So
//! an interrupt goes before the message. An interrupt also stops subagents in the background, which a message does not:
//! where there are some and no call of the turn is open, the message goes alone; a command that began just before it
//! is stopped as the task that it is, as soon as the program tells its id.

use std::time::Duration;

use falconer_backend::{Effects, Event, Failure, MessageText, Steering, Timing};
use serde_json::Value;

use super::end::Stage;
use super::{STATE_WAIT, Session};
use crate::incoming::Task;
use crate::{message, outgoing};

impl Session {
    /// A message of the person to the live run. `content` is what its parts are to the program.
    ///
    /// # Errors
    /// `run_ending`: the run is being ended, and takes no more.
    pub fn steer(&mut self, steering: Steering, content: Vec<Value>, now: Duration, out: &mut Effects) -> Result<(), Failure> {
        if !matches!(self.stage, Stage::Working | Stage::Answered { .. }) {
            return Err(Failure::new("run_ending", "the run is being ended; the message was not given to the agent")
                .with_hint("continue the run when it has ended"));
        }
        self.say(steering.id, message::shown(&steering.message), content, steering.timing, now, out);
        Ok(())
    }

    pub(super) fn say(&mut self, id: String, text: String, content: Vec<Value>, timing: Timing, now: Duration, out: &mut Effects) {
        match self.stage {
            Stage::Working if timing == Timing::Now => {
                // The turn in hand may be cut short for it.
                self.mapper.interrupting = true;
                if self.background.agents == 0 || self.mapper.is_busy() {
                    let request = self.request_id();
                    out.lines.push(outgoing::cut(&request));
                }
            }
            Stage::Answered { .. } => self.quiet_until = Some(now + STATE_WAIT),
            _ => {}
        }
        let uuid = self.inbox.send(Some(id.clone()), Some(timing));
        out.lines.push(outgoing::Message { uuid: &uuid, content, expand: self.setup.expand, timing: Some(timing) }.line());
        out.events.push(Event::MessageAdded(MessageText { id, text, whole: true, parent: None }));
    }

    /// A call is told to be a task: what holds up a message that cannot wait is stopped.
    pub(super) fn task_started(&mut self, task: &Task, out: &mut Effects) {
        self.mapper.task_started(task);
        let is_of_turn = task.tool_use_id.as_deref().is_some_and(|id| self.mapper.is_of_turn(id));
        if is_of_turn && matches!(self.stage, Stage::Working) && self.inbox.cannot_wait() {
            let request = self.request_id();
            out.lines.push(outgoing::stop_task(&request, &task.task_id));
        }
    }
}
