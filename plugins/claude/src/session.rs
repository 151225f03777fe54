//! One run of `claude` as a state machine: lines and time in, events and lines to write out.
//!
//! It knows no host: the adapter in `lib.rs` feeds it, and so do the tests, with recorded streams.

use std::collections::VecDeque;
use std::time::Duration;

use falconer_backend::{Completion, Event, Events, ExitStatus, JsonLine, NativeEvent, Outcome, Severity};
use serde_json::json;

use crate::incoming::{Asked, Asking, Incoming, Init, Retry, State, StreamEvent, TurnResult};
use crate::map::Mapper;
use crate::usage::Account;
use crate::{outgoing, verdict};

/// How long an interrupted turn may take to its result, before the session is ended.
const INTERRUPT_WAIT: Duration = Duration::from_secs(2);
/// How long a program that was told to end may take.
const END_WAIT: Duration = Duration::from_secs(5);
/// After a result or the end of background work: how long the program may take to say whether it goes on.
const SETTLE: Duration = Duration::from_secs(2);
/// The same, for a program that has told its state before and will do so again.
const STATE_WAIT: Duration = Duration::from_secs(15);
/// Lines of the program that are shown as notices; more only go to the log.
const MAX_LINE_NOTICES: u32 = 50;
/// Bytes of the standard error that are kept for the error's message.
const MAX_STDERR: usize = 4 << 10;

/// What a step has to tell, and to write.
#[derive(Debug, Default)]
pub struct Effects {
    /// For the host.
    pub events: Events,
    /// For the program's input.
    pub lines: Vec<String>,
    /// The input ends after `lines`.
    pub close: bool,
    /// For the run's log.
    pub log: Vec<String>,
}

/// Where the run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// A turn runs.
    Working,
    /// There is a result; background work may go on until then, and another turn may come of it.
    Answered { background_until: Duration },
    /// The turn was told to end; its result is awaited until then.
    Interrupting { until: Duration },
    /// The program was told to end, by a request or by the end of its input, and may take until then.
    Ending { until: Duration },
}

/// What a cancel found to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Turn,
    /// The answer was there, and work in the background went on.
    Background,
}

/// A run.
#[derive(Debug)]
pub struct Session {
    stage: Stage,
    mapper: Mapper,
    account: Account,
    native_id: Option<String>,
    announced: bool,
    /// The last result, and whether a turn began after it.
    answer: Option<Box<TurnResult>>,
    turn_open: bool,
    /// The program tells its state.
    tells_state: bool,
    state: State,
    background: usize,
    /// The run is over at that time if nothing more is heard.
    quiet_until: Option<Duration>,
    background_wait: Duration,
    /// What `cancel` stopped.
    cut: Option<Cut>,
    requests: u32,
    line_notices: u32,
    stderr: VecDeque<String>,
}

impl Session {
    /// A run whose message was sent. `continued`: of a session that is older than the run.
    pub fn new(continued: bool, background_wait: Duration) -> Self {
        Self {
            stage: Stage::Working,
            mapper: Mapper::default(),
            account: Account::new(continued),
            native_id: None,
            announced: false,
            answer: None,
            turn_open: true,
            tells_state: false,
            state: State::Running,
            background: 0,
            quiet_until: None,
            background_wait,
            cut: None,
            requests: 0,
            line_notices: 0,
            stderr: VecDeque::new(),
        }
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
                self.init(init, events);
            }
            Incoming::State(state) => self.state_changed(state, now, out),
            Incoming::BackgroundTasks(count) => {
                self.background = count;
                // An end of background work brings a turn of its own; wait for it a little.
                if count == 0 && matches!(self.stage, Stage::Answered { .. }) {
                    self.quiet_until = Some(now + SETTLE);
                }
            }
            Incoming::TaskStarted(task) => self.mapper.task_started(&task),
            Incoming::TaskEnded(task) => self.mapper.task_ended(events, task),
            Incoming::Progress(kind, data) => events.push(native(kind, data)),
            Incoming::Retry(retry) => events.push(Event::notice(Severity::Warning, "api_retry", retry_text(&retry))),
            Incoming::PermissionDenied(denied) => {
                self.mapper.declined(denied.tool_use_id);
                let tool = denied.tool_name.as_deref().unwrap_or("a tool");
                let why = denied.message.or(denied.decision_reason).unwrap_or_else(|| "not allowed in this permission mode".to_owned());
                events.push(Event::notice(Severity::Warning, "permission_denied", format!("{tool} was refused: {why}")));
            }
            Incoming::Said(code, text) => events.push(Event::notice(Severity::Info, code, text)),
            Incoming::RateLimit(info) => {
                let status = info.get("status").and_then(serde_json::Value::as_str).unwrap_or("unknown");
                if status != "allowed" {
                    events.push(Event::notice(Severity::Warning, "rate_limit", format!("the account's limit: {info}")));
                }
            }
            Incoming::Stream(stream) => {
                if stream.parent.is_none() {
                    self.turn_began();
                }
                if let StreamEvent::Usage(tokens) = stream.event {
                    self.account.message(tokens);
                    events.push(Event::Usage(self.account.usage()));
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
            Incoming::User(user) => self.mapper.user(events, user),
            Incoming::Result(result) => self.result(result, now, out),
            Incoming::Asked(asked) => self.asked(asked, out),
            Incoming::Answered(_) | Incoming::Withdrawn(_) | Incoming::Other => {}
        }
    }

    fn turn_began(&mut self) {
        self.quiet_until = None;
        if matches!(self.stage, Stage::Answered { .. }) {
            self.stage = Stage::Working;
        }
        self.turn_open = true;
    }

    fn init(&mut self, init: Init, events: &mut Events) {
        if !init.session_id.is_empty() && self.native_id.as_deref() != Some(&init.session_id) {
            events.push(Event::SessionStarted(init.session_id.clone()));
            self.native_id = Some(init.session_id.clone());
        }
        if self.announced {
            return;
        }
        self.announced = true;
        for server in init.mcp_servers.iter().filter(|server| server.status == "failed" || server.status == "needs-auth") {
            let text = format!("the agent's MCP server {} is not there: {}", server.name, server.status);
            events.push(Event::notice(Severity::Warning, "mcp_server_failed", text));
        }
        let data = json!({
            "model": init.model,
            "permission_mode": init.permission_mode,
            "version": init.claude_code_version,
            "cwd": init.cwd,
        });
        events.push(native("init", data));
    }

    fn state_changed(&mut self, state: State, now: Duration, out: &mut Effects) {
        self.tells_state = true;
        self.state = state;
        match state {
            State::Running | State::RequiresAction => self.turn_began(),
            State::Idle if matches!(self.stage, Stage::Answered { .. }) && self.background == 0 => self.close(now, out),
            State::Idle => {}
        }
    }

    fn result(&mut self, result: Box<TurnResult>, now: Duration, out: &mut Effects) {
        self.account.settle(&result);
        out.events.push(Event::Usage(self.account.usage()));
        self.turn_open = false;
        self.answer = Some(result);
        match self.stage {
            Stage::Interrupting { .. } => self.end_session(now, out),
            Stage::Ending { .. } => {}
            Stage::Working | Stage::Answered { .. } => {
                self.stage = Stage::Answered { background_until: now + self.background_wait };
                self.quiet_until = Some(now + if self.tells_state { STATE_WAIT } else { SETTLE });
            }
        }
    }

    /// Nobody can be asked yet: every question is answered at once, so that nothing waits.
    fn asked(&mut self, asked: Asked, out: &mut Effects) {
        let id = asked.request_id;
        match asked.question {
            Asking::CanUseTool { tool, tool_use_id, description } => {
                self.mapper.declined(tool_use_id);
                let why = refusal(&tool);
                let what = description.map(|text| format!(" ({text})")).unwrap_or_default();
                let text = format!("{tool}{what} was refused: it needs a permission, and nobody can be asked in this run");
                out.events.push(Event::notice(Severity::Warning, "permission_denied", text));
                out.lines.push(outgoing::deny(&id, why));
            }
            Asking::Elicitation { server } => {
                let text = format!("a question of the agent's MCP server {server} was declined: nobody can be asked in this run");
                out.events.push(Event::notice(Severity::Warning, "question_declined", text));
                out.lines.push(outgoing::decline(&id));
            }
            Asking::Other(subtype) => out.lines.push(outgoing::unsupported(&id, &subtype)),
        }
    }

    /// Ends the run politely: the turn first, then the session.
    pub fn cancel(&mut self, now: Duration, out: &mut Effects) {
        if self.cut.is_some() {
            return;
        }
        match self.stage {
            Stage::Working => {
                self.cut = Some(Cut::Turn);
                self.mapper.interrupting = true;
                let id = self.request_id();
                out.lines.push(outgoing::interrupt(&id));
                self.stage = Stage::Interrupting { until: now + INTERRUPT_WAIT };
            }
            Stage::Answered { .. } if self.background > 0 => {
                self.cut = Some(Cut::Background);
                self.end_session(now, out);
            }
            // The answer is there and nothing else runs: it stands.
            Stage::Answered { .. } => self.close(now, out),
            Stage::Interrupting { .. } | Stage::Ending { .. } => {}
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Duration, out: &mut Effects) {
        match self.stage {
            Stage::Interrupting { until } if now >= until => self.end_session(now, out),
            Stage::Answered { background_until } if self.background > 0 && now >= background_until => {
                let text = format!(
                    "{} background tasks of the agent were still running {} s after its answer and are stopped",
                    self.background,
                    self.background_wait.as_secs()
                );
                out.events.push(Event::notice(Severity::Warning, "background_stopped", text));
                self.end_session(now, out);
            }
            Stage::Answered { .. } if self.background == 0 && self.quiet_until.is_some_and(|until| now >= until) => self.close(now, out),
            _ => {}
        }
    }

    /// When [`Session::tick`] has something to do, if nothing is heard before.
    pub fn deadline(&self) -> Option<Duration> {
        match self.stage {
            Stage::Working => None,
            Stage::Answered { background_until } if self.background > 0 => Some(background_until),
            Stage::Answered { .. } => self.quiet_until,
            Stage::Interrupting { until } | Stage::Ending { until } => Some(until),
        }
    }

    /// The program was told to end and did not in its time: the run is over all the same.
    pub fn overdue(&self, now: Duration) -> bool {
        matches!(self.stage, Stage::Ending { until } if now >= until)
    }

    /// How the run ended: its output is read to the end, or nothing more is waited for.
    pub fn outcome(&mut self, exit: Option<ExitStatus>) -> Outcome {
        let answer = self.answer.take().filter(|_| !self.turn_open);
        let text = answer.as_ref().and_then(|result| result.result.clone()).filter(|text| !text.is_empty());
        let text = text.or_else(|| self.mapper.last_text().map(str::to_owned));
        let partial = Completion { text: text.map(fit), structured: None };
        let Some(result) = answer else {
            if self.cut.is_some() {
                return Outcome::stopped(partial);
            }
            let stderr = Vec::from(std::mem::take(&mut self.stderr)).join("\n");
            return Outcome::failed(verdict::without_result(exit, &stderr));
        };
        let aborted = result.terminal_reason.as_deref().is_some_and(|reason| reason.starts_with("aborted_"));
        match self.cut {
            Some(Cut::Background) => return Outcome::stopped(partial),
            Some(Cut::Turn) if aborted => return Outcome::stopped(partial),
            // The turn ended by itself before the interrupt reached it: its result stands.
            Some(Cut::Turn) | None => {}
        }
        if result.is_error || aborted {
            return Outcome::failed(verdict::of_result(&result));
        }
        Outcome::Completed(partial)
    }

    fn end_session(&mut self, now: Duration, out: &mut Effects) {
        let id = self.request_id();
        out.lines.push(outgoing::end_session(&id));
        out.close = true;
        self.stage = Stage::Ending { until: now + END_WAIT };
    }

    fn close(&mut self, now: Duration, out: &mut Effects) {
        out.close = true;
        self.stage = Stage::Ending { until: now + END_WAIT };
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
}

/// What the model reads when it may not do something.
fn refusal(tool: &str) -> &'static str {
    match tool {
        "AskUserQuestion" => "Nobody can answer questions in this run. Decide yourself, and say in your answer what you assumed.",
        "ExitPlanMode" => "Nobody can approve the plan in this run. Give the plan as your answer and end your turn.",
        _ => {
            "This needs a permission that this run does not have, and nobody can be asked. Go on without it, or say in your answer what is needed."
        }
    }
}

fn retry_text(retry: &Retry) -> String {
    let why = match (retry.error_status, retry.error.as_deref()) {
        (Some(status), Some(error)) => format!("{status} {error}"),
        (Some(status), None) => status.to_string(),
        (None, Some(error)) => error.to_owned(),
        (None, None) => "unknown".to_owned(),
    };
    let of = retry.max_retries.map(|max| format!(" of {max}")).unwrap_or_default();
    let delay = retry.retry_delay_ms.map(|ms| format!(" in {ms:.0} ms")).unwrap_or_default();
    format!("a request to the model failed ({why}); try {}{of}{delay}", retry.attempt.unwrap_or(1))
}

fn native(kind: &str, data: serde_json::Value) -> Event {
    Event::Native(NativeEvent { kind: kind.to_owned(), data: data.to_string() })
}

/// An answer at most as long as the contract lets a result be.
fn fit(mut text: String) -> String {
    const MAX: usize = 1 << 20;
    const MARK: &str = "\n… (cut; the whole is in the events)";
    if text.len() > MAX {
        text.truncate(text.floor_char_boundary(MAX - MARK.len()));
        text.push_str(MARK);
    }
    text
}
