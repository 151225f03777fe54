//! What the agent says and does, as events.

mod render;

use std::collections::BTreeMap;

use falconer_backend::{CommandEnd, CommandStart, Event, Events, ItemStatus, MessageText, ToolEnd, ToolStart, spill};
use serde_json::{Value, json};

use crate::incoming::{Assistant, Block, Stream, StreamEvent, Task, ToolResult, User};
use render::{change, command_end, todo};

/// Pieces of one message that come together are one event, up to this many bytes.
const JOINED: usize = 8 << 10;

/// What the program puts into the conversation when a turn is cut short; nobody said it.
const INTERRUPTED: &str = "[Request interrupted by user";

/// A tool call that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Open {
    is_command: bool,
    /// It goes on after its call was answered; a notification tells the end.
    in_background: bool,
    /// It was refused, here or by the program.
    declined: bool,
    /// The call of which it is part.
    parent: Option<String>,
}

/// Where the stream of one conversation (the main one, or a subagent's) stands.
#[derive(Debug, Default)]
struct Position {
    message: String,
    /// Of the block that is being streamed.
    streamed: Option<u64>,
    /// Blocks of the message that came whole.
    whole: u64,
}

/// Keeps what is needed to tell the next event from the next line.
#[derive(Debug, Default)]
pub struct Mapper {
    open: BTreeMap<String, Open>,
    positions: BTreeMap<Option<String>, Position>,
    /// Of the main agent's newest message: its id, and its text so far.
    last_text: Option<(String, String)>,
    /// The turn is being cut short from here: what it leaves was interrupted.
    pub interrupting: bool,
}

impl Mapper {
    /// The last thing the main agent said.
    pub fn last_text(&self) -> Option<&str> {
        self.last_text.as_ref().map(|(_, text)| text.as_str())
    }

    /// Whether a call of the main agent's turn is open.
    pub fn is_busy(&self) -> bool {
        self.open.keys().any(|id| self.is_of_turn(id))
    }

    /// Whether this call is open in the main agent's turn.
    pub fn is_of_turn(&self, id: &str) -> bool {
        self.open.get(id).is_some_and(|open| open.parent.is_none() && !open.in_background)
    }

    /// A use of a tool was refused here.
    pub fn declined(&mut self, tool_use_id: Option<&str>) {
        if let Some(open) = tool_use_id.and_then(|id| self.open.get_mut(id)) {
            open.declined = true;
        }
    }

    /// A turn of the main agent ended: what it left open, and does not go on in the background, has no end of its own.
    pub fn turn_ended(&mut self, events: &mut Events) {
        let left = |open: &Open| !open.in_background && open.parent.as_ref().is_none_or(|parent| !self.open.contains_key(parent));
        let ids: Vec<String> = self.open.iter().filter(|(_, open)| left(open)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.close(events, id, ItemStatus::Interrupted, None, "");
        }
        self.positions.retain(|parent, _| parent.as_ref().is_none_or(|parent| self.open.contains_key(parent)));
        self.interrupting = false;
    }

    /// What is kept: calls that are open, and conversations that are being streamed.
    #[cfg(test)]
    pub fn kept(&self) -> (usize, usize) {
        (self.open.len(), self.positions.len())
    }

    /// A raw event of the API: pieces of text.
    pub fn stream(&mut self, events: &mut Events, stream: Stream) {
        let position = self.positions.entry(stream.parent.clone()).or_default();
        if let Some(id) = stream.message_id.filter(|id| *id != position.message) {
            *position = Position { message: id, ..Position::default() };
        }
        let (index, text, thinking) = match stream.event {
            StreamEvent::MessageStart(id) => {
                if position.message != id {
                    *position = Position { message: id, ..Position::default() };
                }
                return;
            }
            StreamEvent::BlockStart(index) => {
                position.streamed = Some(index);
                return;
            }
            StreamEvent::Text(index, text) => (index, text, false),
            StreamEvent::Thinking(index, text) => (index, text, true),
            StreamEvent::Usage(_) | StreamEvent::Other => return,
        };
        position.streamed = Some(index);
        let id = format!("{}-{index}", position.message);
        push_piece(events, MessageText { id, text, whole: false, parent: stream.parent }, thinking);
    }

    /// Whole blocks of a message.
    pub fn assistant(&mut self, events: &mut Events, assistant: Assistant) {
        let Assistant { message_id, parent, blocks, .. } = assistant;
        for block in blocks {
            let position = self.positions.entry(parent.clone()).or_default();
            if position.message != message_id {
                *position = Position { message: message_id.clone(), ..Position::default() };
            }
            let index = position.streamed.unwrap_or(position.whole);
            position.whole += 1;
            let id = format!("{message_id}-{index}");
            match block {
                Block::Text(text) if !text.is_empty() => {
                    if parent.is_none() {
                        match &mut self.last_text {
                            Some((id, said)) if *id == message_id => said.push_str(&text),
                            last => *last = Some((message_id.clone(), text.clone())),
                        }
                    }
                    let text = spill::text(events, "message", text);
                    events.push(Event::AgentMessage(MessageText { id, text, whole: true, parent: parent.clone() }));
                }
                Block::Thinking(text) if !text.is_empty() => {
                    let text = spill::text(events, "reasoning", text);
                    events.push(Event::Reasoning(MessageText { id, text, whole: true, parent: parent.clone() }));
                }
                Block::ToolUse { id, name, input } => self.tool_use(events, id, &name, &input, parent.clone()),
                Block::Text(_) | Block::Thinking(_) | Block::Other => {}
            }
        }
    }

    fn tool_use(&mut self, events: &mut Events, id: String, name: &str, input: &Value, parent: Option<String>) {
        let command = input.get("command").and_then(Value::as_str).filter(|_| name == "Bash");
        let open = Open { is_command: command.is_some(), in_background: false, declined: false, parent: parent.clone() };
        self.open.insert(id.clone(), open);
        if let Some(command) = command {
            let command = spill::text(events, "command", command.to_owned());
            events.push(Event::CommandStarted(CommandStart { id, command, args: None, cwd: None, parent }));
            return;
        }
        if name == "TodoWrite"
            && let Some(todos) = input.get("todos").and_then(Value::as_array)
        {
            events.push(Event::TodoUpdated(todos.iter().filter_map(todo).collect()));
        }
        let (server, tool) = match name.strip_prefix("mcp__").and_then(|rest| rest.split_once("__")) {
            Some((server, tool)) => (Some(server.to_owned()), tool),
            None => (None, name),
        };
        let input = spill::json(events, "input", input);
        events.push(Event::ToolStarted(ToolStart { id, server, tool: tool.to_owned(), input, parent }));
    }

    /// Tool results, and messages that joined the conversation.
    pub fn user(&mut self, events: &mut Events, user: User) {
        if user.is_replay {
            return;
        }
        for result in user.results {
            self.tool_result(events, result);
        }
        let uuid = user.uuid.unwrap_or_default();
        for (n, text) in user.texts.into_iter().enumerate() {
            if text.is_empty() || text.starts_with(INTERRUPTED) {
                continue;
            }
            let text = spill::text(events, "message", text);
            events.push(Event::MessageAdded(MessageText { id: format!("{uuid}-{n}"), text, whole: true, parent: user.parent.clone() }));
        }
    }

    fn tool_result(&mut self, events: &mut Events, result: ToolResult) {
        let Some(open) = self.open.get_mut(&result.id) else { return };
        open.in_background |= result.detail.get("backgroundTaskId").is_some();
        if open.in_background && !result.is_error {
            return;
        }
        let Some(open) = self.remove(&result.id) else { return };
        let stopped = result.detail.get("interrupted").and_then(Value::as_bool).unwrap_or(false) || self.interrupting;
        let status = match result.is_error {
            _ if open.declined => ItemStatus::Declined,
            true if stopped => ItemStatus::Interrupted,
            true if result.declined => ItemStatus::Declined,
            true => ItemStatus::Failed,
            false if stopped && open.is_command => ItemStatus::Interrupted,
            false => ItemStatus::Succeeded,
        };
        if open.is_command {
            command_end(events, &result, status);
        } else {
            let output = spill::json(events, "output", &result.content);
            events.push(Event::ToolFinished(ToolEnd { id: result.id, status, output }));
        }
        if status == ItemStatus::Succeeded
            && let Some(mut change) = change(&result.detail)
        {
            change.diff = change.diff.map(|diff| spill::text(events, "diff", diff));
            events.push(Event::FileChanged(change));
        }
    }

    /// A task began: where its call goes on in the background, the call's item stays open.
    pub fn task_started(&mut self, task: &Task) {
        if task.is_backgrounded == Some(true)
            && let Some(open) = task.tool_use_id.as_ref().and_then(|id| self.open.get_mut(id))
        {
            open.in_background = true;
        }
    }

    /// A task ended, and with it the call that it was.
    pub fn task_ended(&mut self, events: &mut Events, task: Task) {
        let Some(id) = task.tool_use_id else { return };
        if !self.open.get(&id).is_some_and(|open| open.in_background) {
            return;
        }
        let status = match task.status.as_deref() {
            Some("completed") => ItemStatus::Succeeded,
            Some("stopped" | "killed") => ItemStatus::Interrupted,
            _ => ItemStatus::Failed,
        };
        let summary = task.summary.unwrap_or_default();
        let exit_code = summary.rsplit_once("(exit code ").and_then(|(_, rest)| rest.strip_suffix(')')?.parse().ok());
        self.close(events, id, status, exit_code, &summary);
    }

    /// Ends a call that has no result of its own.
    fn close(&mut self, events: &mut Events, id: String, status: ItemStatus, exit_code: Option<i32>, summary: &str) {
        let Some(open) = self.remove(&id) else { return };
        if open.is_command {
            events.push(Event::CommandFinished(CommandEnd { id, status, exit_code, signal: None, duration_ms: None }));
        } else {
            let output = spill::json(events, "output", &json!({ "summary": summary }));
            events.push(Event::ToolFinished(ToolEnd { id, status, output }));
        }
    }

    /// A call ended, and the conversation below it.
    fn remove(&mut self, id: &str) -> Option<Open> {
        let open = self.open.remove(id)?;
        self.positions.remove(&Some(id.to_owned()));
        Some(open)
    }
}

/// Adds a piece of text, to the piece before it where that is of the same message.
fn push_piece(events: &mut Events, piece: MessageText, thinking: bool) {
    match (events.last_mut(), thinking) {
        (Some(Event::Reasoning(last)), true) | (Some(Event::AgentMessage(last)), false)
            if !last.whole && last.id == piece.id && last.text.len() < JOINED =>
        {
            last.text.push_str(&piece.text);
        }
        (_, true) => events.push(Event::Reasoning(piece)),
        (_, false) => events.push(Event::AgentMessage(piece)),
    }
}
