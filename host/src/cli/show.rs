//! Events on a screen, in a pipe, or as JSON lines.
//!
//! Standard output has what a run gives (an agent's words, a command's output) and nothing else, so it can be piped;
//! standard error has what it does, and on a terminal a progress line. With `--json` standard output has every event,
//! one a line, and standard error only what goes wrong.

use std::collections::HashSet;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fault::Fault;
use crate::run::event::{Event, EventType};
use crate::run::receipt::{Cause, Proof, Receipt, Rung};

/// The widest line of what a run does, in characters.
const WIDTH: usize = 100;

/// Where a run is shown.
pub struct Screen {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    json: bool,
    progress: bool,
    on_terminal: bool,
    drawn: bool,
    line_open: bool,
    began: Instant,
    events: u64,
    doing: String,
    in_pieces: HashSet<String>,
    said: String,
    gave_output: bool,
}

impl Screen {
    /// For this process' standard output and error.
    #[must_use]
    pub fn new(json: bool) -> Self {
        let (out, err) = (io::stdout(), io::stderr());
        let (progress, on_terminal) = (!json && err.is_terminal(), out.is_terminal());
        Self::over(Box::new(out), Box::new(err), json, progress, on_terminal)
    }

    /// For any two: `progress` where the second is a terminal that shows a progress line, `on_terminal` where the first is one.
    pub(super) fn over(out: Box<dyn Write + Send>, err: Box<dyn Write + Send>, json: bool, progress: bool, on_terminal: bool) -> Self {
        Self {
            out,
            err,
            json,
            progress,
            on_terminal,
            drawn: false,
            line_open: false,
            began: Instant::now(),
            events: 0,
            doing: String::new(),
            in_pieces: HashSet::new(),
            said: String::new(),
            gave_output: false,
        }
    }

    /// Whether there is a progress line that wants to be drawn again now and then.
    #[must_use]
    pub const fn has_progress(&self) -> bool {
        self.progress
    }

    /// Whether events are shown as they are.
    #[must_use]
    pub const fn is_json(&self) -> bool {
        self.json
    }

    /// Shows one event.
    pub fn event(&mut self, event: &Event) -> io::Result<()> {
        self.events += 1;
        if self.json {
            let mut line = serde_json::to_string(event).unwrap_or_default();
            line.push('\n');
            return self.out(&line);
        }
        match event.kind {
            EventType::AgentMessage => self.message(&event.data),
            EventType::CommandOutput => self.output(&event.data),
            EventType::CommandStarted
            | EventType::CommandFinished
            | EventType::ToolStarted
            | EventType::ToolFinished
            | EventType::FileChanged
            | EventType::Notice
            | EventType::ArtifactAdded => {
                self.doing = gist(event);
                self.note(&format!("· {}", self.doing.clone()))
            }
            _ => {
                self.doing = gist(event);
                Ok(())
            }
        }
    }

    /// A whole message, or a piece of one whose whole comes later and is not shown twice.
    fn message(&mut self, data: &Value) -> io::Result<()> {
        let id = data["id"].as_str().unwrap_or_default();
        let text = data["text"].as_str().unwrap_or_default();
        if data["whole"] == Value::Bool(false) {
            self.in_pieces.insert(id.to_owned());
            return self.out(text);
        }
        self.said = text.to_owned();
        if self.in_pieces.remove(id) { self.end_line() } else { self.out(&format!("{}\n", text.trim_end_matches('\n'))) }
    }

    fn output(&mut self, data: &Value) -> io::Result<()> {
        let text = data["text"].as_str().unwrap_or_default();
        let stream = data["stream"].as_str().or_else(|| data["kind"].as_str()).unwrap_or("stdout");
        self.gave_output = true;
        if stream == "stderr" { self.err(text) } else { self.out(text) }
    }

    /// The result of a run, unless it was said or printed already.
    pub fn result(&mut self, text: &str) -> io::Result<()> {
        self.end_line()?;
        if self.json || self.gave_output || text.trim() == self.said.trim() || text.is_empty() {
            return Ok(());
        }
        self.out(&format!("{}\n", text.trim_end_matches('\n')))
    }

    /// A line of our own, on standard error.
    pub fn note(&mut self, line: &str) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        self.end_line()?;
        self.err(&format!("{line}\n"))
    }

    /// Draws the progress line.
    pub fn tick(&mut self) {
        if !self.progress || self.line_open {
            return;
        }
        let doing: String = self.doing.chars().take(60).collect();
        let line = format!("\r\x1b[2K… {} · {} events · {doing}", elapsed(self.began.elapsed()), self.events);
        // A progress line that cannot be drawn is not missed.
        let _ = self.err.write_all(line.as_bytes());
        let _ = self.err.flush();
        self.drawn = true;
    }

    /// Takes the progress line away.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.drawn) {
            let _ = self.err.write_all(b"\r\x1b[2K");
        }
    }

    fn end_line(&mut self) -> io::Result<()> {
        if self.line_open { self.out("\n") } else { Ok(()) }
    }

    fn out(&mut self, text: &str) -> io::Result<()> {
        self.clear();
        if let Some(last) = text.chars().last() {
            // Only a terminal shows output and notes in one place.
            self.line_open = last != '\n' && self.on_terminal;
        }
        if self.on_terminal {
            self.out.write_all(inert(text).as_bytes())?
        } else {
            self.out.write_all(text.as_bytes())?
        }
        self.out.flush()
    }

    fn err(&mut self, text: &str) -> io::Result<()> {
        self.clear();
        self.err.write_all(inert(text).as_bytes())
    }
}

/// Text whose control characters do nothing to a terminal.
#[must_use]
pub fn inert(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() && !matches!(letter, '\n' | '\t') { '\u{fffd}' } else { letter }).collect()
}

/// The first line of a text, cut.
pub(super) fn line(text: &str, width: usize) -> String {
    let first = text.trim().lines().next().unwrap_or_default();
    let mut short: String = inert(first).chars().take(width).collect();
    if short.len() < text.trim().len() {
        short.push('…');
    }
    short
}

/// An event in one line.
#[must_use]
pub fn gist(event: &Event) -> String {
    let data = &event.data;
    let text = |name: &str| data[name].as_str().unwrap_or_default().to_owned();
    let any = |names: &[&str]| names.iter().find_map(|name| data[*name].as_str()).unwrap_or_default().to_owned();
    let gist = match event.kind {
        EventType::AgentMessage | EventType::Reasoning | EventType::MessageAdded | EventType::CommandOutput => text("text"),
        EventType::CommandStarted => {
            let args = data["args"].as_array().into_iter().flatten().filter_map(Value::as_str);
            std::iter::once(text("command").as_str()).chain(args).collect::<Vec<_>>().join(" ")
        }
        EventType::CommandFinished => match (data["exit_code"].as_i64(), data["signal"].as_str()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("ended by {signal}"),
            (None, None) => text("status"),
        },
        EventType::ToolStarted => format!("{} {}", text("tool"), data["input"]),
        EventType::ToolFinished => format!("{} {}", text("status"), any(&["output"])),
        EventType::FileChanged => format!("{} {}", text("kind"), text("path")),
        EventType::Notice => any(&["message", "code"]),
        EventType::StatusChanged => any(&["status", "to"]),
        EventType::InputRequired | EventType::AuthRequired => text("prompt"),
        EventType::ArtifactAdded => text("name"),
        EventType::RunCompleted => data["result"]["text"].as_str().unwrap_or_default().to_owned(),
        EventType::RunCancelled => receipt_of(event).map(|receipt| asked(&receipt)).unwrap_or_default(),
        EventType::RunFailed | EventType::RunRejected | EventType::RunLost => {
            let error = if data["error"].is_object() { &data["error"] } else { data };
            format!("{}: {}", error["code"].as_str().unwrap_or_default(), error["message"].as_str().unwrap_or_default())
        }
        _ => data.to_string(),
    };
    line(&gist, WIDTH)
}

/// An event in one line, with its number, time and type; of a run's end also what is known of its processes.
#[must_use]
pub fn numbered(event: &Event) -> String {
    let proof = receipt_of(event).map(|receipt| format!("  [{}]", line(&proof(receipt.proof.as_ref()), WIDTH))).unwrap_or_default();
    format!("{:>5}  {}  {:<16}  {}{proof}", event.seq, event.ts, event.kind.word(), gist(event)).trim_end().to_owned()
}

/// The receipt in a run's last event.
fn receipt_of(event: &Event) -> Option<Receipt> {
    match event.kind {
        EventType::RunCompleted | EventType::RunFailed | EventType::RunCancelled | EventType::RunRejected | EventType::RunLost => {
            serde_json::from_value(event.data["receipt"].clone()).ok()
        }
        _ => None,
    }
}

/// A duration for people.
#[must_use]
pub fn elapsed(time: Duration) -> String {
    match time.as_secs() {
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        whole @ 60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        whole => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// Why something went wrong, in a few lines: what, with its code, and the way out.
#[must_use]
pub fn fault(fault: &Fault) -> Vec<String> {
    let hint = fault.hint.as_deref().map(|hint| format!("hint: {}", inert(hint)));
    std::iter::once(format!("error: {} ({})", inert(&fault.message), fault.code)).chain(hint).collect()
}

/// Why a run was stopped, and by whom.
fn asked(receipt: &Receipt) -> String {
    let reason = receipt.reason.as_deref().map(|reason| format!(": {}", inert(reason))).unwrap_or_default();
    format!("{}, by {}{reason}", cause(receipt.cause), inert(&receipt.asked_by))
}

/// What is known about a run's processes.
fn proof(proof: Option<&Proof>) -> String {
    match proof {
        Some(Proof::NoProcesses) => "proof: the run had no processes".to_owned(),
        Some(Proof::Empty { by }) => format!("proof: nothing of it lives on this machine ({})", by.join(", ")),
        Some(Proof::Unverified { reason }) => format!("proof: none; {}", inert(reason)),
        None => "proof: being looked for".to_owned(),
    }
}

/// A receipt in a few lines.
#[must_use]
pub fn receipt(receipt: &Receipt) -> Vec<String> {
    let rungs: Vec<String> = receipt.rungs.iter().map(|step| format!("{} after {} ms", rung(step.rung), step.after_ms)).collect();
    let mut lines = vec![format!("cause: {}", asked(receipt))];
    if !rungs.is_empty() {
        lines.push(format!("steps: {}", rungs.join(", ")));
    }
    let names = |seen: &[crate::run::receipt::ProcessSeen]| {
        seen.iter().map(|process| format!("{} ({})", inert(&process.name), process.pid)).collect::<Vec<_>>().join(", ")
    };
    if !receipt.killed.is_empty() {
        let unnamed = receipt.killed_total.saturating_sub(receipt.killed.len() as u64);
        let more = if unnamed > 0 { format!(", and {unnamed} more") } else { String::new() };
        lines.push(format!("killed: {}{more}", names(&receipt.killed)));
    }
    if !receipt.survivors.is_empty() {
        lines.push(format!("STILL ALIVE: {}", names(&receipt.survivors)));
    }
    lines.push(proof(receipt.proof.as_ref()));
    if let Some(far) = &receipt.far_end {
        let detail = far.detail.as_deref().map(|detail| format!(": {}", inert(detail))).unwrap_or_default();
        lines.push(format!("far end, by the backend's word: {}{detail}", far.state));
    }
    lines
}

/// As the receipt has it in JSON.
fn cause(cause: Cause) -> String {
    serde_json::to_value(cause).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

const fn rung(rung: Rung) -> &'static str {
    match rung {
        Rung::Ask => "asked",
        Rung::Terminate => "terminated",
        Rung::Kill => "killed",
        Rung::Drain => "drained",
        Rung::Cut => "cut",
        Rung::Prove => "proved",
    }
}

/// Rows as columns of one width each; the last is not padded.
#[must_use]
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or_default())
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Prints to standard output.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::json;

    use super::*;
    use crate::clock::Millis;

    fn event(kind: EventType, data: Value) -> Event {
        Event { seq: 3, ts: Millis(0), kind, data }
    }

    /// What was written, to be looked at.
    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Paper {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn screen(json: bool, progress: bool, on_terminal: bool) -> (Screen, Paper, Paper) {
        let (out, err) = (Paper::default(), Paper::default());
        (Screen::over(Box::new(out.clone()), Box::new(err.clone()), json, progress, on_terminal), out, err)
    }

    #[test]
    fn what_a_run_gives_is_apart_from_what_it_does() {
        let (mut screen, out, err) = screen(false, false, false);
        screen.event(&event(EventType::CommandStarted, json!({ "command": "make" }))).unwrap();
        screen.event(&event(EventType::CommandOutput, json!({ "text": "one\npart", "stream": "stdout" }))).unwrap();
        screen.event(&event(EventType::CommandOutput, json!({ "text": "warning\n", "stream": "stderr" }))).unwrap();
        screen.event(&event(EventType::StatusChanged, json!({ "status": "running" }))).unwrap();
        screen.result("one\npart").unwrap();
        assert_eq!((out.text().as_str(), err.text().as_str()), ("one\npart", "· make\nwarning\n"));
    }

    #[test]
    fn a_message_is_shown_once_in_pieces_or_whole() {
        let (mut screen, out, _) = screen(false, false, true);
        for (text, whole) in [("Hel", false), ("lo", false), ("Hello", true)] {
            screen.event(&event(EventType::AgentMessage, json!({ "id": "a", "text": text, "whole": whole }))).unwrap();
        }
        screen.event(&event(EventType::AgentMessage, json!({ "id": "b", "text": "Bye", "whole": true }))).unwrap();
        screen.result("Bye\n").unwrap();
        assert_eq!(out.text(), "Hello\nBye\n");
        screen.result("Something else").unwrap();
        assert_eq!(out.text(), "Hello\nBye\nSomething else\n");
    }

    #[test]
    fn a_progress_line_is_gone_before_anything_else_is_written() {
        let (mut screen, out, err) = screen(false, true, true);
        screen.tick();
        assert!(err.text().starts_with("\r\x1b[2K… 0.0 s · 0 events"));
        screen.note("a note").unwrap();
        assert!(err.text().ends_with("\r\x1b[2Ka note\n"));
        screen.event(&event(EventType::CommandOutput, json!({ "text": "no end of line" }))).unwrap();
        let before = err.text();
        screen.tick();
        assert_eq!(err.text(), before, "an open line is not drawn over");
        screen.note("another").unwrap();
        assert_eq!(out.text(), "no end of line\n");
    }

    #[test]
    fn json_is_one_event_a_line_and_nothing_else() {
        let (mut screen, out, err) = screen(true, false, false);
        let one = event(EventType::AgentMessage, json!({ "text": "a\nb" }));
        screen.event(&one).unwrap();
        screen.note("not shown").unwrap();
        screen.result("not shown").unwrap();
        assert_eq!(serde_json::from_str::<Event>(out.text().trim_end()).unwrap(), one);
        assert_eq!((out.text().lines().count(), err.text().as_str()), (1, ""));
    }

    #[test]
    fn an_event_has_one_line() {
        let started = event(EventType::CommandStarted, json!({ "command": "make", "args": ["-j2", "test"] }));
        assert_eq!(gist(&started), "make -j2 test");
        assert_eq!(numbered(&started), "    3  1970-01-01T00:00:00.000Z  command_started   make -j2 test");
        assert_eq!(gist(&event(EventType::AgentMessage, json!({ "text": "one\ntwo" }))), "one…");
        assert_eq!(gist(&event(EventType::CommandFinished, json!({ "exit_code": 2 }))), "exit code 2");
        assert_eq!(gist(&event(EventType::RunFailed, json!({ "error": { "code": "c", "message": "m" } }))), "c: m");
        assert_eq!(gist(&event(EventType::Native, json!({ "kind": "x" }))), "{\"kind\":\"x\"}");
    }

    #[test]
    fn control_characters_do_nothing() {
        assert_eq!(inert("a\x1b[2Jb\tc\n"), "a\u{fffd}[2Jb\tc\n");
        assert_eq!(gist(&event(EventType::AgentMessage, json!({ "text": "\x1b]0;title\x07" }))), "\u{fffd}]0;title\u{fffd}");
    }

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["a".to_owned(), "bcd".to_owned()], vec!["long".to_owned(), String::new()]];
        assert_eq!(table(&rows), "a     bcd\nlong\n");
    }

    #[test]
    fn durations_are_for_people() {
        assert_eq!(elapsed(Duration::from_millis(1_250)), "1.2 s");
        assert_eq!(elapsed(Duration::from_secs(61)), "1 min 01 s");
        assert_eq!(elapsed(Duration::from_secs(7_265)), "2 h 01 min");
    }

    #[test]
    fn a_receipt_names_survivors() {
        use crate::run::receipt::{ProcessSeen, Step};
        let mut made = Receipt::begun("cli", Cause::Requested, Some("enough".to_owned()));
        made.rungs = vec![Step { rung: Rung::Ask, after_ms: 0 }, Step { rung: Rung::Kill, after_ms: 900 }];
        made.survivors = vec![ProcessSeen { pid: 7, name: "sleep".to_owned() }];
        made.proof = Some(Proof::Unverified { reason: "no walk".to_owned() });
        let why = "cause: requested, by cli: enough";
        let steps = "steps: asked after 0 ms, killed after 900 ms";
        assert_eq!(receipt(&made), [why, steps, "STILL ALIVE: sleep (7)", "proof: none; no walk"]);
        made.killed = vec![ProcessSeen { pid: 8, name: "sh".to_owned() }];
        made.killed_total = 70;
        assert_eq!(receipt(&made)[2], "killed: sh (8), and 69 more");
    }

    #[test]
    fn the_line_of_an_end_has_the_proof_however_long_the_rest_is() {
        let mut made = Receipt::begun("cli", Cause::Requested, Some("enough ".repeat(90)));
        made.proof = Some(Proof::Empty { by: vec!["walk".to_owned(), "scan".to_owned()] });
        let proof = "[proof: nothing of it lives on this machine (walk, scan)]";
        let cancelled = numbered(&event(EventType::RunCancelled, json!({ "receipt": made, "result": "long ".repeat(90) })));
        assert!(cancelled.contains("requested, by cli: enough") && cancelled.ends_with(proof), "{cancelled}");
        let failed = json!({ "error": { "code": "timed_out", "message": "long ".repeat(90) }, "receipt": made });
        let failed = numbered(&event(EventType::RunFailed, failed));
        assert!(failed.contains("timed_out: long") && failed.ends_with(proof), "{failed}");
        let fault = Fault::new("timed_out", "too long").hint("give it more");
        assert_eq!(super::fault(&fault), ["error: too long (timed_out)", "hint: give it more"]);
    }
}
