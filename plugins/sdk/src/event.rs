//! Making events, and knowing how large they are.

use crate::{CommandChunk, CommandEnd, CommandStart, Event, ExitStatus, ItemStatus, MessageText, Notice, OutputKind, Severity};

/// What a message for people may take, by the contract.
const MAX_MESSAGE: usize = 4 << 10;

impl Event {
    /// A whole message of the agent.
    pub fn agent_message(id: impl Into<String>, text: impl Into<String>) -> Self {
        Self::AgentMessage(MessageText { id: id.into(), text: text.into(), whole: true, parent: None })
    }

    /// A piece to append to the agent's message of this id.
    pub fn agent_message_piece(id: impl Into<String>, text: impl Into<String>) -> Self {
        Self::AgentMessage(MessageText { id: id.into(), text: text.into(), whole: false, parent: None })
    }

    /// Something worth knowing that ends nothing. A message over 4 KiB is cut, and says so.
    pub fn notice(severity: Severity, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Notice(Notice { severity, code: code.into(), message: shorten(message.into(), MAX_MESSAGE) })
    }

    /// A command began.
    pub fn command_started(id: impl Into<String>, command: impl Into<String>, args: &[String]) -> Self {
        Self::CommandStarted(CommandStart { id: id.into(), command: command.into(), args: Some(args.to_vec()), cwd: None, parent: None })
    }

    /// A piece of a command's output, at most 64 KiB; `offset` is that of its first byte in its stream.
    pub fn command_output(id: impl Into<String>, kind: OutputKind, offset: u64, bytes: Vec<u8>) -> Self {
        Self::CommandOutput(CommandChunk { id: id.into(), kind, offset, bytes })
    }

    /// A command ended by itself or by a signal.
    pub fn command_finished(id: impl Into<String>, status: ExitStatus, duration_ms: Option<u64>) -> Self {
        let (item, exit_code, signal) = match status {
            ExitStatus::Code(0) => (ItemStatus::Succeeded, Some(0), None),
            ExitStatus::Code(code) => (ItemStatus::Failed, Some(code), None),
            ExitStatus::Signalled(number) => {
                (ItemStatus::Interrupted, None, Some(crate::failure::signal_name(number).map_or_else(|| number.to_string(), str::to_owned)))
            }
            ExitStatus::Unknown => (ItemStatus::Interrupted, None, None),
        };
        Self::CommandFinished(CommandEnd { id: id.into(), status: item, exit_code, signal, duration_ms })
    }

    /// About how many bytes the event takes in a call: its texts and lists, and a little for the rest.
    #[must_use]
    pub fn weight(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        64 + match self {
            Self::SessionStarted(id) => id.len(),
            Self::AgentMessage(message) | Self::MessageAdded(message) | Self::Reasoning(message) => message.id.len() + message.text.len(),
            Self::CommandStarted(start) => start.command.len() + start.args.iter().flatten().map(|arg| arg.len() + 8).sum::<usize>(),
            Self::CommandOutput(chunk) => chunk.id.len() + chunk.bytes.len(),
            Self::CommandFinished(end) => end.id.len(),
            Self::ToolStarted(start) => start.id.len() + start.tool.len() + start.input.len(),
            Self::ToolFinished(end) => end.id.len() + end.output.len(),
            Self::FileChanged(change) => change.path.len() + text(&change.renamed_to) + text(&change.diff),
            Self::TodoUpdated(todos) => todos.iter().map(|todo| todo.text.len() + 16).sum(),
            Self::ArtifactAdded(artifact) => artifact.name.len() + artifact.mime.len() + artifact.blob.len(),
            Self::Usage(usage) => text(&usage.detail),
            Self::Notice(notice) => notice.code.len() + notice.message.len(),
            Self::Asked(question) => question.prompt.len() + question.details.len() + text(&question.form),
            Self::Withdrawn(withdrawal) => withdrawal.question.len() + withdrawal.reason.len(),
            Self::Native(native) => native.kind.len() + native.data.len(),
        }
    }
}

/// The beginning of a text, at most `max` bytes with the mark that says it was cut; never cuts a character in two.
pub(crate) fn shorten(mut text: String, max: usize) -> String {
    const MARK: &str = " … (cut)";
    if text.len() > max {
        text.truncate(text.floor_char_boundary(max.saturating_sub(MARK.len())));
        text.push_str(MARK);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_notice_is_cut_between_characters() {
        let Event::Notice(notice) = Event::notice(Severity::Info, "long", "ä".repeat(4000)) else { unreachable!() };
        assert!(notice.message.len() <= MAX_MESSAGE);
        assert!(notice.message.ends_with("(cut)"));
    }
}
