//! What is open in a run's history until its end is told: commands, tools, questions. At the end the host closes what is left.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::event::{Closed, EventType};
use super::record::Record;

/// What is open until its end is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ItemKind {
    Command,
    Tool,
}

impl Record {
    /// Whether a command, or a tool, of this id was started and has not ended.
    #[must_use]
    pub fn is_open(&self, kind: EventType, id: &str) -> bool {
        let wanted = match kind {
            EventType::CommandOutput | EventType::CommandFinished => ItemKind::Command,
            EventType::ToolFinished => ItemKind::Tool,
            _ => return true,
        };
        self.open.iter().any(|(open, item)| *open == wanted && item == id)
    }

    pub(super) fn close(&mut self, kind: ItemKind, id: &str) {
        if let Some(at) = self.open.iter().rposition(|(open, item)| *open == kind && item == id) {
            self.open.remove(at);
        }
    }

    /// Closes the questions that are open, because the run is being stopped or ends.
    pub fn close_questions(&mut self, how: Closed) {
        for question in std::mem::take(&mut self.outline.questions) {
            let data = json!({ "question_id": question.question_id, "how": how });
            self.push(EventType::InputResolved, data.to_string());
            self.touched = true;
        }
    }

    /// Takes the questions back that are open: who asked them is gone, and may ask again.
    pub fn withdraw_questions(&mut self, reason: &str) {
        for question in std::mem::take(&mut self.outline.questions) {
            let data = json!({ "question_id": question.question_id, "how": Closed::Withdrawn, "reason": reason });
            self.push(EventType::InputResolved, data.to_string());
            self.touched = true;
        }
    }

    /// Takes up what an earlier writer of this run left open.
    pub fn reopen_items(&mut self, items: Vec<(EventType, String)>) {
        self.open = items
            .into_iter()
            .map(|(kind, id)| (if kind == EventType::ToolStarted { ItemKind::Tool } else { ItemKind::Command }, id))
            .collect();
    }

    /// Closes what is open: commands and tools as interrupted.
    pub fn close_items(&mut self) {
        for (kind, id) in std::mem::take(&mut self.open) {
            let kind = match kind {
                ItemKind::Command => EventType::CommandFinished,
                ItemKind::Tool => EventType::ToolFinished,
            };
            self.push(kind, json!({ "id": id, "status": "interrupted" }).to_string());
        }
    }

    /// The ids of commands that are open.
    #[must_use]
    pub fn open_commands(&self) -> Vec<String> {
        self.open.iter().filter(|(kind, _)| *kind == ItemKind::Command).map(|(_, id)| id.clone()).collect()
    }
}
