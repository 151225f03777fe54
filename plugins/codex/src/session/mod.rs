//! One run of Codex as a state machine: lines and time in, events and lines to write out.
//!
//! It knows no host: the adapter in `lib.rs` feeds it, and so do the tests, with recorded streams. Here is where a run is and what
//! comes in; [`open`] gets it to its thread, [`turn`] runs turns and steers them, [`ask`] has the questions, [`end`] the end.

mod ask;
mod end;
mod open;
mod turn;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use falconer_backend::{Effects, Event, Failure, JsonLine, Severity};
use serde_json::Value;

use crate::incoming::{Incoming, Note};
use crate::item::Item;
use crate::map::Mapper;
use crate::order::{Login, Order, OwnConfig, Thread};
use crate::question;
use crate::usage::Account;
use crate::{map, outgoing};

pub use turn::Message;

/// Lines of the program that are shown as notices; more only go to the log.
const MAX_LINE_NOTICES: u32 = 50;
/// Bytes of the standard error that are kept for the error's message.
const MAX_STDERR: usize = 4 << 10;

/// Where the run is.
#[derive(Debug)]
enum Stage {
    /// The program was greeted, and is asked for what must be known before a thread is opened.
    Greeting { own: Option<OwnConfig>, login: Option<Login> },
    /// The thread is being opened.
    Opening,
    /// A turn was asked for and has no id yet.
    Starting,
    /// A turn runs.
    Working,
    /// The turn was told to end, so that another one begins with this message.
    Redirecting { message: Message, until: Duration },
    /// There is an answer; what runs in the background may go on until then.
    Answered { until: Duration },
    /// The turn was told to end for good, and may take until then.
    Interrupting { until: Duration },
    /// What it left running is being ended, so many threads have not answered.
    Cleaning { left: usize, until: Duration },
    /// The program's input is closed, and it may take until then.
    Ending { until: Duration },
}

/// What a cancel found to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Turn,
    /// The answer was there, and work in the background went on.
    Background,
}

/// What a request of ours was for.
#[derive(Debug)]
enum Purpose {
    Greet,
    OwnConfig,
    Account,
    Open,
    Turn,
    Steer(Message),
    Terminals,
    Clean,
    /// Its answer changes nothing.
    Nothing,
}

/// A run.
#[derive(Debug)]
pub struct Session {
    order: Order,
    stage: Stage,
    mapper: Mapper,
    account: Account,
    thread: Option<Thread>,
    /// The main thread's turn that runs.
    turn: Option<String>,
    /// One that was told to end for a message and did not in its time.
    left: Option<turn::Left>,
    /// Messages that wait for a turn to take them.
    waiting: VecDeque<Message>,
    /// Turns of subagents that run, by thread.
    children: BTreeMap<String, String>,
    /// The agent pursues a goal: turns begin by themselves.
    goal: bool,
    requests: BTreeMap<u64, Purpose>,
    next_request: u64,
    questions: BTreeMap<String, question::Open>,
    asked: u64,
    /// Background terminals are being looked up in so many threads, and so many were found.
    looking: usize,
    found: usize,
    version: String,
    answer: Option<String>,
    failure: Option<Failure>,
    /// What `cancel` stopped.
    cut: Option<Cut>,
    /// The request to the model in hand uses tools: another one follows.
    acted: bool,
    line_notices: u32,
    stderr: VecDeque<String>,
}

impl Session {
    /// A run; what it writes first is in the effects.
    pub fn new(order: Order, out: &mut Effects) -> Self {
        let mut session = Self {
            order,
            stage: Stage::Greeting { own: None, login: None },
            mapper: Mapper::default(),
            account: Account::default(),
            thread: None,
            turn: None,
            left: None,
            waiting: VecDeque::new(),
            children: BTreeMap::new(),
            goal: false,
            requests: BTreeMap::new(),
            next_request: 0,
            questions: BTreeMap::new(),
            asked: 0,
            looking: 0,
            found: 0,
            version: String::new(),
            answer: None,
            failure: None,
            cut: None,
            acted: false,
            line_notices: 0,
            stderr: VecDeque::new(),
        };
        session.greet(out);
        session
    }

    /// One line of the program's output.
    pub fn line(&mut self, line: JsonLine, now: Duration, out: &mut Effects) {
        match line {
            JsonLine::Value(value) => match Incoming::read(value) {
                Incoming::Answer { id, result } => self.answered(id, result, now, out),
                Incoming::Asked(asked) => self.asked(&asked, out),
                Incoming::Told(note) => self.told(note, now, out),
                Incoming::Other => {}
            },
            JsonLine::Text(text) if self.line_notices < MAX_LINE_NOTICES => {
                self.line_notices += 1;
                out.events.push(Event::notice(Severity::Warning, "unexpected_output", text));
            }
            JsonLine::Text(text) => out.log.push(format!("unexpected output: {text}")),
        }
    }

    /// One line of the program's standard error: its log. What it refuses without asking is only there.
    pub fn stderr(&mut self, text: &str, out: &mut Effects) {
        let text = without_colours(text);
        if text.trim().is_empty() {
            return;
        }
        if !self.order.mode.asks()
            && let Some((_, why)) = text.split_once("codex_core::tools::router:")
            && (why.contains("rejected") || why.contains("approval policy is Never"))
        {
            let why = why.trim().trim_start_matches("error=");
            out.events.push(Event::notice(Severity::Warning, "permission_denied", format!("refused, nobody is asked in this run: {why}")));
        }
        if !is_routine(&text) {
            self.stderr.push_back(text[..text.floor_char_boundary(MAX_STDERR)].to_owned());
            while self.stderr.iter().map(String::len).sum::<usize>() > MAX_STDERR {
                self.stderr.pop_front();
            }
        }
        out.log.push(text);
    }

    fn told(&mut self, note: Note, now: Duration, out: &mut Effects) {
        let events = &mut out.events;
        match note {
            Note::ThreadStarted { thread, parent: Some(parent) } => self.mapper.child_began(&thread, &parent),
            Note::ThreadStarted { .. } => {}
            Note::ThreadGone { thread } => {
                self.mapper.child_gone(&thread);
                self.child_idle(&thread, out);
            }
            Note::Goal { thread, active } if self.is_main(&thread) => {
                self.goal = active;
                self.look_for_the_end(out);
            }
            Note::Goal { .. } => {}
            Note::TurnStarted { thread, turn } if self.is_main(&thread) => self.turn_began(turn, out),
            Note::TurnStarted { thread, turn } => _ = self.children.insert(thread, turn),
            Note::TurnCompleted { thread, turn } if self.is_main(&thread) => self.turn_ended(turn, now, out),
            Note::TurnCompleted { thread, .. } => {
                self.mapper.turn_ended(events, &thread);
                self.child_idle(&thread, out);
            }
            Note::ItemStarted { thread, item } => {
                let acts = matches!(item, Item::Command(_) | Item::Change { .. } | Item::Tool(_));
                let asks_the_model = acts || matches!(item, Item::Message { .. } | Item::Reasoning { .. });
                self.mapper.started(events, &thread, item, now);
                if self.is_main(&thread) {
                    self.acted |= acts;
                    self.over_turns(asks_the_model, now, out);
                }
            }
            Note::ItemCompleted { item: Item::User { client: Some(client), .. }, .. } if client == turn::PROMPT => {}
            Note::ItemCompleted { thread, item } => {
                let is_command = matches!(item, Item::Command(_));
                self.mapper.completed(events, &thread, item, now);
                if is_command {
                    self.look_for_the_end(out);
                }
            }
            Note::Said { thread, item, text } => self.mapper.said(events, &thread, &item, text),
            Note::Summary { thread, item, text } => self.mapper.reasoned(events, &thread, &item, text, false),
            Note::Reasoned { thread, item, text } => self.mapper.reasoned(events, &thread, &item, text, true),
            Note::Output { item, text } => self.mapper.output(events, &item, &text, now),
            Note::Todos(todos) => events.push(Event::TodoUpdated(todos)),
            Note::Tokens { thread, turn, total, last } => {
                let own = !self.is_main(&thread) || self.turn.as_deref() == Some(&turn);
                if self.account.told(&thread, own, total, last) {
                    events.push(Event::Usage(self.account.usage()));
                    let goes_on = self.is_main(&thread) && std::mem::take(&mut self.acted);
                    self.over_tokens(now, out);
                    self.over_turns(goes_on, now, out);
                }
            }
            Note::Resolved(request) => self.withdrawn(&request, out),
            Note::Error { error, will_retry: true } => {
                let details = error.details.map(|details| format!(": {details}")).unwrap_or_default();
                let text = format!("a request to the model failed: {}{details}", error.message);
                events.push(Event::notice(Severity::Warning, "api_retry", text));
            }
            // The end of the turn says the same.
            Note::Error { .. } => {}
            Note::Notice(severity, code, text) => events.push(Event::notice(severity, code, text)),
            Note::Native(kind, data) => map::push_native(events, kind, &data),
            Note::Ignored => {}
            Note::Unknown(method) => out.log.push(format!("unknown notification {method}")),
        }
    }

    fn answered(&mut self, id: u64, result: Result<Value, String>, now: Duration, out: &mut Effects) {
        let Some(purpose) = self.requests.remove(&id) else { return };
        match purpose {
            Purpose::Greet => self.greeted(result, now, out),
            Purpose::OwnConfig => self.knows_config(result, now, out),
            Purpose::Account => self.knows_login(result, now, out),
            Purpose::Open => self.opened(result, now, out),
            Purpose::Turn => self.turn_asked(result, now, out),
            Purpose::Steer(message) => self.steered(message, result.is_ok(), out),
            Purpose::Terminals => self.terminals(result.ok(), now, out),
            Purpose::Clean => self.cleaned(now, out),
            Purpose::Nothing => {}
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Duration, out: &mut Effects) {
        self.mapper.tick(&mut out.events, now);
        self.overtime(now, out);
    }

    /// When [`Session::tick`] has something to do, if nothing is heard before.
    pub fn deadline(&self) -> Option<Duration> {
        let stage = match self.stage {
            Stage::Greeting { .. } | Stage::Opening | Stage::Starting | Stage::Working => None,
            Stage::Redirecting { until, .. }
            | Stage::Answered { until }
            | Stage::Interrupting { until }
            | Stage::Cleaning { until, .. }
            | Stage::Ending { until } => Some(until),
        };
        stage.into_iter().chain(self.mapper.deadline()).min()
    }

    /// Sends a request.
    fn request(&mut self, method: &str, params: &Value, purpose: Purpose, out: &mut Effects) {
        self.next_request += 1;
        self.requests.insert(self.next_request, purpose);
        out.lines.push(outgoing::request(self.next_request, method, params));
    }

    fn is_main(&self, thread: &str) -> bool {
        self.thread.as_ref().is_none_or(|main| main.id == thread)
    }
}

/// A line of the program's tracing (`2026-11-20T15:24:56Z ERROR target: …`), or a warning at its start: no reason of an end.
fn is_routine(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let stamped = words.next().is_some_and(|word| word.ends_with('Z') && word.starts_with(|c: char| c.is_ascii_digit()));
    stamped && words.next().is_some_and(|word| ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"].contains(&word)) || line.starts_with("WARNING: ")
}

/// A line of a log, without the escape sequences that colour it (ECMA-48, CSI … m).
fn without_colours(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |(_, rest)| rest);
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_taken_out() {
        assert_eq!(without_colours("\u{1b}[2mnow\u{1b}[0m \u{1b}[31mERROR\u{1b}[0m x"), "now ERROR x");
        assert_eq!(without_colours("plain"), "plain");
        assert!(is_routine("2026-11-20T15:24:56.123774Z ERROR codex_app_server: x") && is_routine("WARNING: proceeding"));
        assert!(!is_routine("Error: CODEX_HOME points to x") && !is_routine("thread 'main' panicked at x"));
    }
}
