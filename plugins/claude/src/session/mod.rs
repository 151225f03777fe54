//! One run of `claude` as a state machine: lines, answers and time in; events and lines to write out.
//!
//! It knows no host: the adapter in `lib.rs` feeds it, and so do the tests, with recorded streams. This file takes what the
//! program says; [`steering`] what the person says meanwhile, [`end`] the ways to the end, [`said`] the words for people.

mod end;
mod said;
mod steering;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use falconer_backend::{Answer, Effects, Event, Failure, JsonLine, NativeEvent, Severity, Timing};
use serde_json::{Value, json};

use crate::incoming::{Asked, Asking, Background, Incoming, Init, State, StreamEvent, TurnResult};
use crate::map::Mapper;
use crate::outgoing;
use crate::question::{Opened, Questions, refusal};
use crate::schema::Schema;
use crate::steer::Inbox;
use crate::usage::Account;
use end::{Cut, Stage};

/// After a result or the end of background work: how long the program may take to say whether it goes on.
const SETTLE: Duration = Duration::from_secs(2);
/// The same, for a program that has told its state before and will do so again.
const STATE_WAIT: Duration = Duration::from_secs(15);
/// Lines of the program that are shown as notices; more only go to the log.
const MAX_LINE_NOTICES: u32 = 50;
/// Bytes of the standard error that are kept for the error's message.
const MAX_STDERR: usize = 4 << 10;

/// What a run is told at its start.
#[derive(Debug, Default)]
pub struct Setup {
    /// Its id.
    pub run: String,
    /// Of a session that is older than the run.
    pub continued: bool,
    /// Somebody can be asked.
    pub asks: bool,
    /// `/x` and `@x` in messages are the program's to expand.
    pub expand: bool,
    /// For what is left in the background after the answer.
    pub background_wait: Duration,
    /// Of the model, in the whole run: the program counts from each message anew.
    pub max_turns: Option<u32>,
    /// Of input that is not from a cache, and output, in the whole run.
    pub max_tokens: Option<u64>,
    /// Of a structured answer.
    pub schema: Option<Schema>,
}

/// A run.
#[derive(Debug)]
pub struct Session {
    setup: Setup,
    stage: Stage,
    mapper: Mapper,
    account: Account,
    questions: Questions,
    inbox: Inbox,
    native_id: Option<String>,
    announced: bool,
    /// The last result, and whether a turn began after it.
    answer: Option<Box<TurnResult>>,
    turn_open: bool,
    /// Messages of the model that are whole, since the last result.
    messages: u32,
    /// The program tells its state.
    tells_state: bool,
    background: Background,
    /// The run is over at that time if nothing more is heard.
    quiet_until: Option<Duration>,
    /// What was cut short from here, and why.
    cut: Option<Cut>,
    requests: u32,
    line_notices: u32,
    stderr: VecDeque<String>,
}

impl Session {
    /// A run that has not said anything yet.
    pub fn new(setup: Setup) -> Self {
        Self {
            stage: Stage::Working,
            mapper: Mapper::default(),
            account: Account::new(setup.continued),
            questions: Questions::default(),
            inbox: Inbox::new(&setup.run),
            native_id: None,
            announced: false,
            answer: None,
            turn_open: true,
            messages: 0,
            tells_state: false,
            background: Background::default(),
            quiet_until: None,
            cut: None,
            requests: 0,
            line_notices: 0,
            stderr: VecDeque::new(),
            setup,
        }
    }

    /// The run's own message.
    pub fn begin(&mut self, content: Vec<Value>, out: &mut Effects) {
        let uuid = self.inbox.send(None, None);
        out.lines.push(outgoing::Message { uuid: &uuid, content, expand: self.setup.expand, timing: None }.line());
    }

    /// An answer to a question.
    ///
    /// # Errors
    /// `question_closed`: nobody waits for it any more.
    pub fn answer(&mut self, answer: Answer, now: Duration, out: &mut Effects) -> Result<(), Failure> {
        let resolved = self.questions.answer(answer)?;
        self.mapper.declined(resolved.declined.as_deref());
        out.lines.push(resolved.line);
        if let Some(remark) = resolved.remark {
            let content = vec![json!({ "type": "text", "text": remark.clone() })];
            self.requests += 1;
            self.say(format!("remark-{}", self.requests), remark, content, Timing::AfterStep, now, out);
        }
        Ok(())
    }

    /// One line of the program's output.
    pub fn line(&mut self, line: JsonLine, now: Duration, out: &mut Effects) {
        match line {
            JsonLine::Value(value) => self.incoming(Incoming::read(value), now, out),
            JsonLine::Text(text) => self.line_notice("unexpected_output", text, out),
        }
    }

    /// One line of the program's standard error.
    pub fn stderr(&mut self, text: String, out: &mut Effects) {
        if text.trim().is_empty() {
            return;
        }
        self.stderr.push_back(text[..text.floor_char_boundary(MAX_STDERR)].to_owned());
        while self.stderr.iter().map(String::len).sum::<usize>() > MAX_STDERR {
            self.stderr.pop_front();
        }
        self.line_notice("stderr", text, out);
    }

    fn incoming(&mut self, incoming: Incoming, now: Duration, out: &mut Effects) {
        let events = &mut out.events;
        match incoming {
            Incoming::Init(init) => {
                self.turn_began();
                self.init(init, out);
            }
            Incoming::State(state) => self.state_changed(state, now, out),
            Incoming::Mode(mode) => events.push(native("permission_mode", &json!({ "permission_mode": mode }))),
            Incoming::BackgroundTasks(background) => {
                self.background = background;
                // An end of background work brings a turn of its own; wait for it a little.
                if background.tasks == 0 && matches!(self.stage, Stage::Answered { .. }) {
                    self.quiet_until = Some(now + SETTLE);
                }
            }
            Incoming::TaskStarted(task) => self.task_started(&task, out),
            Incoming::TaskEnded(task) => self.mapper.task_ended(events, task),
            Incoming::Progress(kind, data) => events.push(native(kind, &data)),
            Incoming::Retry(retry) => events.push(Event::notice(Severity::Warning, "api_retry", said::retry(&retry))),
            Incoming::PermissionDenied(denied) => {
                self.mapper.declined(denied.tool_use_id.as_deref());
                events.push(Event::notice(Severity::Warning, "permission_denied", said::denied(denied)));
            }
            Incoming::Said(code, text) => events.push(Event::notice(Severity::Info, code, text)),
            Incoming::RateLimit(info) => events.extend(said::rate_limit(&info)),
            Incoming::Stream(stream) => {
                if stream.parent.is_none() {
                    self.turn_began();
                    match stream.event {
                        StreamEvent::MessageStart(_) => {
                            self.judge_turns(now, out);
                            self.account.message_began();
                        }
                        StreamEvent::Usage(_) => self.messages += 1,
                        _ => {}
                    }
                }
                let events = &mut out.events;
                if let StreamEvent::Usage(tokens) = stream.event {
                    self.account.message(tokens);
                    events.push(Event::Usage(self.account.usage()));
                    self.judge_tokens(now, out);
                } else {
                    self.mapper.stream(events, stream);
                }
            }
            // The program's own words about an error of the API: the result says the same, with its code.
            Incoming::Assistant(assistant) if assistant.is_api_error => {}
            Incoming::Assistant(assistant) => {
                // What a subagent says in the background is no turn of the main conversation.
                if assistant.parent.is_none() {
                    self.turn_began();
                }
                self.mapper.assistant(events, assistant);
            }
            // Ours was told of when it was sent.
            Incoming::User(user) if user.uuid.as_ref().is_some_and(|uuid| self.inbox.holds(uuid)) => {}
            Incoming::User(user) => self.mapper.user(events, user),
            Incoming::Message(uuid, state) => {
                if let Some(id) = self.inbox.lifecycle(&uuid, state) {
                    events.push(said::not_delivered(&id));
                }
            }
            Incoming::Result(result) => self.result(result, now, out),
            Incoming::Asked(asked) => self.asked(asked, out),
            Incoming::Withdrawn(request) => events.extend(self.questions.withdraw(&request)),
            // An interrupt that was refused brings no result.
            Incoming::Answered(_, false) if matches!(self.stage, Stage::Interrupting { .. }) => self.end_session(now, out),
            Incoming::Answered(..) | Incoming::Other => {}
        }
    }

    fn turn_began(&mut self) {
        self.quiet_until = None;
        if matches!(self.stage, Stage::Answered { .. }) {
            self.stage = Stage::Working;
        }
        self.turn_open = true;
    }

    fn init(&mut self, init: Init, out: &mut Effects) {
        if !init.session_id.is_empty() && self.native_id.as_deref() != Some(&init.session_id) {
            out.events.push(Event::SessionStarted(init.session_id.clone()));
            self.native_id = Some(init.session_id.clone());
        }
        if self.announced {
            return;
        }
        self.announced = true;
        for server in init.mcp_servers.iter().filter(|server| server.status == "failed" || server.status == "needs-auth") {
            let text = format!("the agent's MCP server {} is not there: {}", server.name, server.status);
            out.events.push(Event::notice(Severity::Warning, "mcp_server_failed", text));
        }
        let data = json!({
            "model": init.model,
            "permission_mode": init.permission_mode,
            "version": init.claude_code_version,
            "cwd": init.cwd,
        });
        out.events.push(native("init", &data));
    }

    fn state_changed(&mut self, state: State, now: Duration, out: &mut Effects) {
        self.tells_state = true;
        match (state, self.stage) {
            (State::Running | State::RequiresAction, _) => self.turn_began(),
            (State::Idle, Stage::Answered { .. }) if self.is_done() => self.close(now, out),
            // The message was given up before a turn began: there will be no result.
            (State::Idle, Stage::Interrupting { .. }) => self.end_session(now, out),
            (State::Idle, Stage::Working) if self.is_done() => self.close(now, out),
            (State::Idle, _) => {}
        }
    }

    /// Nothing is left to do: every message is answered, and nothing runs in the background.
    fn is_done(&self) -> bool {
        self.background.tasks == 0 && self.inbox.is_settled()
    }

    fn result(&mut self, result: Box<TurnResult>, now: Duration, out: &mut Effects) {
        self.account.settle(&result);
        out.events.push(Event::Usage(self.account.usage()));
        self.mapper.turn_ended(&mut out.events);
        self.inbox.answered(result.user_message_uuids.as_deref());
        self.turn_open = false;
        self.messages = 0;
        self.answer = Some(result);
        match self.stage {
            Stage::Interrupting { .. } => self.end_session(now, out),
            Stage::Ending { .. } => {}
            Stage::Working | Stage::Answered { .. } => {
                self.stage = Stage::Answered { background_until: now + self.setup.background_wait };
                self.quiet_until = Some(now + if self.tells_state { STATE_WAIT } else { SETTLE });
                self.judge_tokens(now, out);
            }
        }
    }

    fn asked(&mut self, asked: Asked, out: &mut Effects) {
        if self.setup.asks || matches!(asked.question, Asking::Other(_)) {
            if let Opened::Refused(line) = self.questions.ask(asked, &mut out.events) {
                out.lines.push(line);
            }
            return;
        }
        if let Asking::Tool(ask) = &asked.question {
            self.mapper.declined(ask.tool_use_id.as_deref());
        }
        out.events.push(said::refused_at_once(&asked.question));
        out.lines.push(refusal(&asked.request_id, &asked.question, "nobody can be asked in this run"));
    }

    fn request_id(&mut self) -> String {
        self.requests += 1;
        format!("falconer-{}", self.requests)
    }

    fn line_notice(&mut self, code: &str, text: String, out: &mut Effects) {
        if self.line_notices < MAX_LINE_NOTICES {
            self.line_notices += 1;
            out.events.push(Event::notice(Severity::Warning, code, text));
        } else {
            out.log.push(format!("{code}: {text}"));
        }
    }

    /// A message that a recorded stream holds was sent.
    #[cfg(test)]
    pub fn sent(&mut self, uuid: &str) {
        self.inbox.sent(uuid);
    }

    /// What is kept: open calls, conversations that are being streamed, open questions, messages on their way.
    #[cfg(test)]
    pub fn kept(&self) -> (usize, usize, usize, usize) {
        let (open, positions) = self.mapper.kept();
        (open, positions, self.questions.len(), self.inbox.len())
    }
}

fn native(kind: &str, data: &Value) -> Event {
    Event::Native(NativeEvent { kind: kind.to_owned(), data: data.to_string() })
}
