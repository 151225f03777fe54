//! From the contract's events to the ledger's: checks what a component sent against the limits of the contract, and
//! writes it as JSON.
//!
//! A value over its limit or against its form is a [`Fault`] that ends the run; nothing is cut in silence.

mod output;

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use self::output::output_data;
use super::bookmark::Mark;
use super::event::{Choice, EventType, Question, QuestionKind};
use crate::backend::Schema;
use crate::clock::Millis;
use crate::contract::falconer::backend::types as wit;
use crate::fault::{Fault, code};

/// Names: 1 to 128 bytes.
const MAX_NAME: usize = 128;
/// Messages for people.
const MAX_MESSAGE: usize = 4 * 1024;
/// JSON texts.
const MAX_JSON: usize = 1024 * 1024;
/// Free texts (an agent's message, a diff, a command line): what one call may carry.
const MAX_TEXT: usize = 8 * 1024 * 1024;
/// One piece of output.
const MAX_CHUNK: usize = 64 * 1024;
/// What full pieces of output are made of one event.
const MAX_JOINED: usize = 512 * 1024;
/// Items of a list.
const MAX_LIST: usize = 4096;

/// What one event of a component means for the run.
#[derive(Debug)]
pub enum Meaning {
    /// An event for the ledger, as it is.
    Event(EventType, Value),
    /// The backend's own session id.
    Session(String),
    /// A question opens.
    Asked(Box<Question>),
    /// A question closes.
    Withdrawn {
        /// Which.
        question: String,
        /// Why.
        reason: String,
    },
    /// A sealed blob becomes an artifact of this event, under the pointer `/content`.
    Artifact {
        /// Its content's hash.
        blob: String,
        /// Its media type.
        mime: String,
        /// The event's data.
        data: Value,
    },
}

/// Translates the events of one run. It remembers what spans several events: halves of characters, and offsets.
#[derive(Debug, Default)]
pub struct Translator {
    /// For each open stream, where it is.
    streams: HashMap<(String, &'static str), Stream>,
}

/// How far one stream of output is.
#[derive(Debug)]
struct Stream {
    /// The offset of the next byte to be told.
    next: u64,
    /// The bytes of a character that is not complete yet; the first has the offset `next`.
    half: Vec<u8>,
}

fn too_large(what: &str, size: usize, max: usize) -> Fault {
    Fault::new(code::VALUE_TOO_LARGE, format!("the backend sent {what} of {size} bytes; at most {max} are allowed"))
}

fn violation(message: impl Into<String>) -> Fault {
    Fault::new(code::CONTRACT_VIOLATION, message)
}

fn name(what: &str, text: String) -> Result<String, Fault> {
    match text.len() {
        0 => Err(violation(format!("the backend sent an empty {what}"))),
        1..=MAX_NAME => Ok(text),
        size => Err(too_large(&format!("a {what}"), size, MAX_NAME)),
    }
}

fn sized(what: &str, text: String, max: usize) -> Result<String, Fault> {
    if text.len() > max { Err(too_large(what, text.len(), max)) } else { Ok(text) }
}

fn listed<T>(what: &str, list: Vec<T>) -> Result<Vec<T>, Fault> {
    if list.len() > MAX_LIST {
        return Err(Fault::new(code::VALUE_TOO_LARGE, format!("the backend sent {} {what}; at most {MAX_LIST} are allowed", list.len())));
    }
    Ok(list)
}

/// Parses a JSON text of a component.
pub fn parsed(what: &str, text: &str) -> Result<Value, Fault> {
    if text.len() > MAX_JSON {
        return Err(too_large(what, text.len(), MAX_JSON));
    }
    serde_json::from_str(text).map_err(|error| violation(format!("the backend sent {what} that is no JSON: {error}")))
}

/// Puts a field in when there is a value.
fn put(map: &mut Map<String, Value>, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        map.insert(key.to_owned(), value.into());
    }
}

fn item_status(status: wit::ItemStatus) -> &'static str {
    match status {
        wit::ItemStatus::Succeeded => "succeeded",
        wit::ItemStatus::Failed => "failed",
        wit::ItemStatus::Declined => "declined",
        wit::ItemStatus::Interrupted => "interrupted",
    }
}

fn message(text: wit::MessageText) -> Result<Value, Fault> {
    let mut map = Map::new();
    map.insert("id".into(), name("message id", text.id)?.into());
    map.insert("text".into(), sized("a message", text.text, MAX_TEXT)?.into());
    map.insert("whole".into(), text.whole.into());
    put(&mut map, "parent", text.parent.map(|id| name("parent id", id)).transpose()?);
    Ok(map.into())
}

impl Translator {
    /// What an event means.
    pub fn translate(&mut self, event: wit::Event, question_time: std::time::Duration) -> Result<Vec<Meaning>, Fault> {
        let one = |kind, data| Ok(vec![Meaning::Event(kind, data)]);
        match event {
            wit::Event::SessionStarted(id) => Ok(vec![Meaning::Session(name("session id", id)?)]),
            wit::Event::AgentMessage(text) => one(EventType::AgentMessage, message(text)?),
            wit::Event::MessageAdded(text) => one(EventType::MessageAdded, message(text)?),
            wit::Event::Reasoning(text) => one(EventType::Reasoning, message(text)?),
            wit::Event::CommandStarted(start) => one(EventType::CommandStarted, command_started(start)?),
            wit::Event::CommandOutput(chunk) => self.output(chunk),
            wit::Event::CommandFinished(end) => self.command_finished(end),
            wit::Event::ToolStarted(start) => {
                let mut map = Map::new();
                map.insert("id".into(), name("tool id", start.id)?.into());
                put(&mut map, "server", start.server.map(|text| name("server", text)).transpose()?);
                map.insert("tool".into(), name("tool", start.tool)?.into());
                map.insert("input".into(), parsed("a tool's input", &start.input)?);
                put(&mut map, "parent", start.parent.map(|id| name("parent id", id)).transpose()?);
                one(EventType::ToolStarted, map.into())
            }
            wit::Event::ToolFinished(end) => one(
                EventType::ToolFinished,
                json!({
                    "id": name("tool id", end.id)?,
                    "status": item_status(end.status),
                    "output": parsed("a tool's output", &end.output)?,
                }),
            ),
            wit::Event::FileChanged(change) => one(EventType::FileChanged, file_changed(change)?),
            wit::Event::TodoUpdated(todos) => {
                let items = listed("todos", todos)?
                    .into_iter()
                    .map(|todo| {
                        let status = match todo.status {
                            wit::TodoStatus::Pending => "pending",
                            wit::TodoStatus::Active => "active",
                            wit::TodoStatus::Done => "done",
                        };
                        Ok(json!({ "text": sized("a todo", todo.text, MAX_MESSAGE)?, "status": status }))
                    })
                    .collect::<Result<Vec<_>, Fault>>()?;
                one(EventType::TodoUpdated, json!({ "items": items }))
            }
            wit::Event::ArtifactAdded(artifact) => {
                let blob = name("blob", artifact.blob)?;
                let mime = name("media type", artifact.mime)?;
                let data = json!({ "name": name("artifact name", artifact.name)?, "mime": mime });
                Ok(vec![Meaning::Artifact { blob, mime, data }])
            }
            wit::Event::Usage(usage) => {
                let mut map = Map::new();
                map.insert("input_tokens".into(), usage.input_tokens.into());
                map.insert("cached_tokens".into(), usage.cached_tokens.into());
                map.insert("output_tokens".into(), usage.output_tokens.into());
                map.insert("turns".into(), usage.turns.into());
                put(&mut map, "cost_microdollars", usage.cost_microdollars);
                if let Some(detail) = usage.detail {
                    map.insert("detail".into(), parsed("the detail of a usage", &detail)?);
                }
                one(EventType::Usage, map.into())
            }
            wit::Event::Notice(notice) => {
                let severity = match notice.severity {
                    wit::Severity::Debug => "debug",
                    wit::Severity::Info => "info",
                    wit::Severity::Warning => "warning",
                    wit::Severity::Error => "error",
                };
                one(
                    EventType::Notice,
                    json!({
                        "severity": severity,
                        "code": name("notice code", notice.code)?,
                        "message": sized("a notice", notice.message, MAX_MESSAGE)?,
                    }),
                )
            }
            wit::Event::Asked(question) => Ok(vec![Meaning::Asked(Box::new(asked(question, question_time)?))]),
            wit::Event::Withdrawn(withdrawal) => Ok(vec![Meaning::Withdrawn {
                question: name("question id", withdrawal.question)?,
                reason: sized("a reason", withdrawal.reason, MAX_MESSAGE)?,
            }]),
            wit::Event::Native(native) => {
                one(EventType::Native, json!({ "kind": name("kind", native.kind)?, "data": parsed("a native event", &native.data)? }))
            }
        }
    }

    /// How far the outputs of open commands are.
    pub(super) fn marks(&self) -> Vec<Mark> {
        let mark = |((id, stream), at): (&(String, &'static str), &Stream)| Mark {
            id: id.clone(),
            stream: (*stream).to_owned(),
            next: at.next,
            half: at.half.clone(),
        };
        self.streams.iter().map(mark).collect()
    }

    /// Goes on there.
    pub(super) fn go_on(&mut self, marks: Vec<Mark>) {
        self.streams = marks
            .into_iter()
            .map(|mark| {
                let stream = if mark.stream == "stderr" { "stderr" } else { "stdout" };
                ((mark.id, stream), Stream { next: mark.next, half: mark.half })
            })
            .collect();
    }

    fn command_finished(&mut self, end: wit::CommandEnd) -> Result<Vec<Meaning>, Fault> {
        let id = name("command id", end.id)?;
        let mut meanings = self.rest(&id);
        let mut map = Map::new();
        map.insert("id".into(), id.into());
        map.insert("status".into(), item_status(end.status).into());
        put(&mut map, "exit_code", end.exit_code);
        put(&mut map, "signal", end.signal.map(|text| name("signal", text)).transpose()?);
        put(&mut map, "duration_ms", end.duration_ms);
        meanings.push(Meaning::Event(EventType::CommandFinished, map.into()));
        Ok(meanings)
    }

    /// Halves of characters that no further piece completes, when a command ends. They are shown as U+FFFD.
    pub fn rest(&mut self, id: &str) -> Vec<Meaning> {
        ["stdout", "stderr"]
            .into_iter()
            .filter_map(|stream| {
                let at = self.streams.remove(&(id.to_owned(), stream))?;
                let half = (!at.half.is_empty()).then_some(at.half)?;
                Some(Meaning::Event(EventType::CommandOutput, output_data(id, stream, at.next, half)))
            })
            .collect()
    }
}

fn command_started(start: wit::CommandStart) -> Result<Value, Fault> {
    let mut map = Map::new();
    map.insert("id".into(), name("command id", start.id)?.into());
    map.insert("command".into(), sized("a command", start.command, MAX_TEXT)?.into());
    put(&mut map, "args", start.args.map(|args| listed("arguments", args)).transpose()?);
    put(&mut map, "cwd", start.cwd.map(|text| sized("a working directory", text, MAX_MESSAGE)).transpose()?);
    put(&mut map, "parent", start.parent.map(|id| name("parent id", id)).transpose()?);
    Ok(map.into())
}

fn file_changed(change: wit::FileChange) -> Result<Value, Fault> {
    let kind = match change.kind {
        wit::ChangeKind::Created => "created",
        wit::ChangeKind::Modified => "modified",
        wit::ChangeKind::Deleted => "deleted",
        wit::ChangeKind::Renamed => "renamed",
    };
    let mut map = Map::new();
    map.insert("path".into(), sized("a path", change.path, MAX_MESSAGE)?.into());
    map.insert("kind".into(), kind.into());
    put(&mut map, "renamed_to", change.renamed_to.map(|text| sized("a path", text, MAX_MESSAGE)).transpose()?);
    put(&mut map, "diff", change.diff.map(|text| sized("a diff", text, MAX_TEXT)).transpose()?);
    Ok(map.into())
}

fn asked(question: wit::Question, time: std::time::Duration) -> Result<Question, Fault> {
    let kind = match question.kind {
        wit::QuestionKind::Approval => QuestionKind::Approval,
        wit::QuestionKind::Input => QuestionKind::Input,
        wit::QuestionKind::Auth => QuestionKind::Auth,
    };
    let choices = listed("choices", question.choices)?
        .into_iter()
        .map(|choice| {
            Ok(Choice {
                id: name("choice id", choice.id)?,
                label: sized("a label", choice.label, MAX_MESSAGE)?,
                description: choice.description.map(|text| sized("a description", text, MAX_MESSAGE)).transpose()?,
            })
        })
        .collect::<Result<Vec<_>, Fault>>()?;
    if let Some(default) = &question.default_choice
        && !choices.iter().any(|choice| &choice.id == default)
    {
        return Err(violation(format!("the backend asked a question whose default choice `{default}` is none of its choices")));
    }
    let form = question.form.map(|text| parsed("a question's form", &text)).transpose()?;
    if let Some(why) = form.as_ref().and_then(|form| Schema::compile(form).err()) {
        return Err(violation(format!("the backend asked a question whose form is no JSON Schema: {why}")));
    }
    let wait = question.expires_ms.map_or(time, |ms| std::time::Duration::from_millis(ms.into()));
    let details = parsed("a question's details", &question.details)?;
    Ok(Question {
        question_id: name("question id", question.id)?,
        kind,
        prompt: sized("a question", question.prompt, MAX_JSON)?,
        choices,
        multiple: question.multiple,
        details_hash: hash(&question.details),
        details,
        form,
        default_choice: question.default_choice,
        expires_at: Millis(Millis::now().0 + i64::try_from(wait.as_millis()).unwrap_or(i64::MAX / 2)),
        seq: 0,
    })
}

/// A backend's failure as a caller gets it; harmless to show, for one to a message goes straight to its caller.
pub(super) fn from_failure(failure: wit::Failure) -> Fault {
    use super::inert::{inert, preview};
    let code = if (1..=128).contains(&failure.code.len()) { inert(failure.code) } else { "backend_failed".to_owned() };
    let shown = |text: String| inert(preview(&text, MAX_MESSAGE));
    Fault { code: code.into(), message: shown(failure.message), retryable: failure.retryable, hint: failure.hint.map(shown) }
}

/// SHA-256 of a text, in hex.
#[must_use]
pub fn hash(text: &str) -> String {
    use sha2::{Digest, Sha256};
    use std::fmt::Write;
    Sha256::digest(text.as_bytes()).iter().fold(String::with_capacity(64), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backends_failure_is_harmless_to_show() {
        let text = || "\u{1b}[2J".to_owned();
        let fault = from_failure(wit::Failure { code: text(), message: text(), retryable: false, hint: Some(text()) });
        assert!(
            ![fault.code.as_ref(), &fault.message, fault.hint.as_deref().unwrap()].iter().any(|text| text.contains('\u{1b}')),
            "{fault:?}"
        );
    }

    #[test]
    fn values_over_their_limit_are_refused() {
        let mut translator = Translator::default();
        let bytes = vec![0; MAX_CHUNK + 1];
        let chunk = wit::CommandChunk { id: "c".into(), kind: wit::OutputKind::Stdout, offset: 0, bytes };
        let fault = Translator::join(vec![wit::Event::CommandOutput(chunk)]).unwrap_err();
        assert_eq!(fault.code, code::VALUE_TOO_LARGE);
        let fault = translator
            .translate(wit::Event::Native(wit::NativeEvent { kind: "x".into(), data: "{".into() }), std::time::Duration::ZERO)
            .unwrap_err();
        assert_eq!(fault.code, code::CONTRACT_VIOLATION);
    }
}
