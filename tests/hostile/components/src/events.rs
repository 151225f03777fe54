//! Short ways to write events.

use crate::bindings::falconer::backend::types::{CommandChunk, CommandEnd, Event, ItemStatus, MessageText, NativeEvent, OutputKind};

pub fn message(id: impl Into<String>, text: impl Into<String>) -> Event {
    Event::AgentMessage(MessageText { id: id.into(), text: text.into(), whole: true, parent: None })
}

pub fn native(kind: impl Into<String>, data: impl Into<String>) -> Event {
    Event::Native(NativeEvent { kind: kind.into(), data: data.into() })
}

pub fn output(kind: OutputKind, offset: u64, bytes: Vec<u8>) -> Event {
    Event::CommandOutput(CommandChunk { id: "child".into(), kind, offset, bytes })
}

pub fn finished(id: impl Into<String>, status: ItemStatus, exit_code: Option<i32>, signal: Option<String>) -> Event {
    Event::CommandFinished(CommandEnd { id: id.into(), status, exit_code, signal, duration_ms: None })
}
