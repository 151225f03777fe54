//! What the agent says and does, as events.

use std::collections::BTreeMap;
use std::time::Duration;

use falconer_backend::{
    CommandEnd, CommandStart, Event, Events, ItemStatus, MessageText, NativeEvent, Severity, ToolEnd, ToolStart, spill,
};
use serde_json::{Value, json};

use crate::item::{self, Item};
use crate::output::Output;
use crate::patch;

/// Pieces of one message that come together are one event, up to this many bytes.
const JOINED: usize = 8 << 10;
/// The longest id, by the contract.
const MAX_ID: usize = 128;
/// Exit codes above it stand for a signal (POSIX shell, 2.8.2).
const SIGNALLED: i32 = 128;
/// Subagents whose calls are remembered.
const MAX_CHILDREN: usize = 256;

/// A command or a tool call that has not ended.
#[derive(Debug)]
struct Open {
    thread: String,
    kind: Kind,
    /// The program was told to end it.
    ending: bool,
}

#[derive(Debug)]
enum Kind {
    Command(Output),
    /// With what it would change.
    Change(Value),
    Tool {
        spawns: bool,
    },
}

/// Keeps what is needed to tell the next event from the next line.
#[derive(Debug, Default)]
pub struct Mapper {
    /// The main thread.
    main: String,
    open: BTreeMap<String, Open>,
    /// Threads of subagents, with the call that began each.
    children: BTreeMap<String, Option<String>>,
    /// The last thing the main agent said in the turn in hand.
    last_text: Option<String>,
}

impl Mapper {
    /// The thread of the run.
    pub fn begin(&mut self, main: &str) {
        main.clone_into(&mut self.main);
    }

    /// Whether it is the main thread.
    pub fn is_main(&self, thread: &str) -> bool {
        thread == self.main
    }

    /// The last thing the main agent said.
    pub fn last_text(&self) -> Option<&str> {
        self.last_text.as_deref()
    }

    /// A turn of the main agent begins: what it said before is no answer to it.
    pub fn turn_began(&mut self) {
        self.last_text = None;
    }

    /// Threads in which commands are open.
    pub fn threads_with_commands(&self) -> Vec<String> {
        let mut threads: Vec<String> =
            self.open.values().filter(|open| matches!(open.kind, Kind::Command(_))).map(|open| open.thread.clone()).collect();
        threads.sort();
        threads.dedup();
        threads
    }

    /// The program is told to end the commands of this thread.
    pub fn ending(&mut self, thread: &str) {
        for open in self.open.values_mut().filter(|open| open.thread == thread) {
            open.ending = true;
        }
    }

    /// How many commands are open.
    pub fn commands(&self) -> usize {
        self.open.values().filter(|open| matches!(open.kind, Kind::Command(_))).count()
    }

    /// What an open change of files would change.
    pub fn change(&self, item: &str) -> Option<&Value> {
        match &self.open.get(item)?.kind {
            Kind::Change(changes) => Some(changes),
            _ => None,
        }
    }

    /// A subagent's thread is there: the newest open call that begins one began it.
    pub fn child_began(&mut self, thread: &str, parent: &str) {
        let call = self.open.iter().find(|(_, open)| open.thread == parent && matches!(open.kind, Kind::Tool { spawns: true }));
        let call = call.map(|(id, _)| id.clone());
        if self.children.len() < MAX_CHILDREN || self.children.contains_key(thread) {
            self.children.insert(thread.to_owned(), call);
        }
    }

    /// A thread is gone.
    pub fn child_gone(&mut self, thread: &str) {
        self.children.remove(thread);
    }

    /// The call of which what happens in this thread is part.
    fn parent(&self, thread: &str) -> Option<String> {
        self.children.get(thread).cloned().flatten()
    }

    /// Pieces of a message.
    pub fn said(&self, events: &mut Events, thread: &str, item: &str, text: String) {
        let piece = MessageText { id: id(item), text, whole: false, parent: self.parent(thread) };
        push_piece(events, piece, false);
    }

    /// Pieces of what the agent thinks; `raw` is not the summary.
    pub fn reasoned(&self, events: &mut Events, thread: &str, item: &str, text: String, raw: bool) {
        if !text.is_empty() {
            let piece = MessageText { id: reasoning_id(item, raw), text, whole: false, parent: self.parent(thread) };
            push_piece(events, piece, true);
        }
    }

    /// Output of an open command.
    pub fn output(&mut self, events: &mut Events, item: &str, text: &str, now: Duration) {
        let item = id(item);
        if let Some(Open { kind: Kind::Command(output), .. }) = self.open.get_mut(&item) {
            output.push(events, &item, text.as_bytes(), now);
        }
    }

    /// When output that is held is due.
    pub fn deadline(&self) -> Option<Duration> {
        let held = self.open.values().filter_map(|open| match &open.kind {
            Kind::Command(output) => output.held_until(),
            _ => None,
        });
        held.min()
    }

    /// Streams output that is held and due.
    pub fn tick(&mut self, events: &mut Events, now: Duration) {
        for (id, open) in &mut self.open {
            if let Kind::Command(output) = &mut open.kind
                && output.held_until().is_some_and(|until| now >= until)
            {
                output.release(events, id);
            }
        }
    }

    /// An item began.
    pub fn started(&mut self, events: &mut Events, thread: &str, item: Item, now: Duration) {
        let parent = self.parent(thread);
        match item {
            Item::Command(command) => {
                let id = id(&command.id);
                if self.open(&id, thread, || Kind::Command(Output::new(now))) {
                    let command_line = spill::text(events, "command", command.command);
                    let start = CommandStart { id, command: command_line, args: None, cwd: command.cwd, parent };
                    events.push(Event::CommandStarted(start));
                }
            }
            Item::Change { id: item, changes, .. } => {
                let id = id(&item);
                let judged = item::changes_to_judge(&changes);
                if self.open(&id, thread, || Kind::Change(judged.clone())) {
                    let input = spill::json(events, "input", &json!({ "changes": judged }));
                    events.push(Event::ToolStarted(ToolStart { id, server: None, tool: "apply_patch".to_owned(), input, parent }));
                }
            }
            Item::Tool(tool) => {
                let id = id(&tool.id);
                if self.open(&id, thread, || Kind::Tool { spawns: tool.spawns }) {
                    let input = spill::json(events, "input", &tool.input());
                    let server = tool.server.filter(|name| !name.is_empty()).map(|name| self::id(&name));
                    events.push(Event::ToolStarted(ToolStart { id, server, tool: self::id(&tool.name), input, parent }));
                }
            }
            // These are told when they are whole.
            Item::User { .. } | Item::Message { .. } | Item::Reasoning { .. } | Item::Compacted | Item::Native { .. } | Item::Other(_) => {}
        }
    }

    /// Opens an item, unless it is open.
    fn open(&mut self, id: &str, thread: &str, kind: impl FnOnce() -> Kind) -> bool {
        if self.open.contains_key(id) {
            return false;
        }
        self.open.insert(id.to_owned(), Open { thread: thread.to_owned(), kind: kind(), ending: false });
        true
    }

    /// An item is whole.
    pub fn completed(&mut self, events: &mut Events, thread: &str, item: Item, now: Duration) {
        let parent = self.parent(thread);
        match item {
            Item::User { id: own, client, text } => {
                let text = spill::text(events, "message", text);
                let id = id(client.as_deref().unwrap_or(&own));
                events.push(Event::MessageAdded(MessageText { id, text, whole: true, parent }));
            }
            Item::Message { id: item, text } if !text.is_empty() => {
                if self.is_main(thread) {
                    self.last_text = Some(text.clone());
                }
                let text = spill::text(events, "message", text);
                events.push(Event::AgentMessage(MessageText { id: id(&item), text, whole: true, parent }));
            }
            Item::Reasoning { id: item, summary, content } => {
                for (text, raw) in [(summary, false), (content, true)] {
                    if !text.is_empty() {
                        let text = spill::text(events, "reasoning", text);
                        let id = reasoning_id(&item, raw);
                        events.push(Event::Reasoning(MessageText { id, text, whole: true, parent: parent.clone() }));
                    }
                }
            }
            Item::Command(_) | Item::Change { .. } | Item::Tool(_) => self.ended(events, thread, item, now),
            Item::Compacted => {
                let text = "the conversation was shortened to fit the model";
                events.push(Event::notice(Severity::Info, "context_compacted", text));
            }
            Item::Native { kind, data } => push_native(events, kind, &data),
            Item::Message { .. } | Item::Other(_) => {}
        }
    }

    fn ended(&mut self, events: &mut Events, thread: &str, item: Item, now: Duration) {
        // One that was never told to begin begins and ends.
        self.started(events, thread, item.clone(), now);
        match item {
            Item::Command(command) => {
                let id = id(&command.id);
                let Some(Open { kind: Kind::Command(output), ending, .. }) = self.open.remove(&id) else { return };
                output.finish(events, &id, command.output.as_deref());
                // The sandbox tells a signal as a shell does, and then the program takes it for an end of the command's own.
                let killed = ending && command.exit_code.is_some_and(|code| code > SIGNALLED);
                let status = if killed { ItemStatus::Interrupted } else { command.status.unwrap_or(ItemStatus::Succeeded) };
                let exit_code = command.exit_code.filter(|_| !killed);
                let end = CommandEnd { id, status, exit_code, signal: None, duration_ms: command.duration_ms };
                events.push(Event::CommandFinished(end));
            }
            Item::Change { id: item, changes, status } => {
                let id = id(&item);
                if self.open.remove(&id).is_none() {
                    return;
                }
                let status = status.unwrap_or(ItemStatus::Succeeded);
                events.push(Event::ToolFinished(ToolEnd { id, status, output: "null".to_owned() }));
                if status == ItemStatus::Succeeded {
                    for mut change in changes.iter().filter_map(patch::change) {
                        change.diff = change.diff.map(|diff| spill::text(events, "diff", diff));
                        events.push(Event::FileChanged(change));
                    }
                }
            }
            Item::Tool(tool) => {
                let id = id(&tool.id);
                if self.open.remove(&id).is_none() {
                    return;
                }
                for child in tool.spawned {
                    if self.children.len() < MAX_CHILDREN || self.children.contains_key(&child) {
                        self.children.insert(child, Some(id.clone()));
                    }
                }
                let output = spill::json(events, "output", &tool.output);
                events.push(Event::ToolFinished(ToolEnd { id, status: tool.status.unwrap_or(ItemStatus::Succeeded), output }));
            }
            _ => {}
        }
    }

    /// A turn ended: its tool calls end with it. Its commands may go on.
    pub fn turn_ended(&mut self, events: &mut Events, thread: &str) {
        let cut: Vec<String> = self
            .open
            .iter()
            .filter(|(_, open)| open.thread == thread && !matches!(open.kind, Kind::Command(_)))
            .map(|(id, _)| id.clone())
            .collect();
        for id in cut {
            self.open.remove(&id);
            events.push(Event::ToolFinished(ToolEnd { id, status: ItemStatus::Interrupted, output: "null".to_owned() }));
        }
    }
}

fn push_piece(events: &mut Events, piece: MessageText, thinking: bool) {
    let last = match events.last_mut() {
        Some(Event::AgentMessage(last)) if !thinking => Some(last),
        Some(Event::Reasoning(last)) if thinking => Some(last),
        _ => None,
    };
    if let Some(last) = last.filter(|last| !last.whole && last.id == piece.id && last.text.len() + piece.text.len() <= JOINED) {
        last.text.push_str(&piece.text);
        return;
    }
    events.push(if thinking { Event::Reasoning(piece) } else { Event::AgentMessage(piece) });
}

/// What has no type of its own.
pub fn push_native(events: &mut Events, kind: &str, data: &Value) {
    let data = spill::json(events, kind, data);
    events.push(Event::Native(NativeEvent { kind: kind.to_owned(), data }));
}

/// An id that fits the contract.
fn id(text: &str) -> String {
    if text.is_empty() { "unnamed".to_owned() } else { text[..text.floor_char_boundary(MAX_ID)].to_owned() }
}

/// A summary and the raw text of one item are two messages.
fn reasoning_id(item: &str, raw: bool) -> String {
    if raw { id(&format!("raw-{item}")) } else { id(item) }
}
