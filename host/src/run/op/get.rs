//! `get_run`: the whole state of one run.

use serde_json::{Map, Value};

use crate::fault::Fault;
use crate::run::event::Question;
use crate::run::inert;
use crate::run::live::View;
use crate::run::manager::Manager;
use crate::run::question::DETAILS_KEPT;
use crate::run::request::SpawnRequest;
use crate::run::status::{Completion, Status};
use crate::run::view::{RunSummary, RunView};

/// A text of the request longer than this is shown as a preview.
const REQUEST_TEXT: usize = 2 * 1024;
/// A text of the result longer than this is shown as a preview.
const RESULT_TEXT: usize = 6 * 1024;

impl Manager {
    /// `get_run`
    pub async fn get(&self, run: &str) -> Result<RunView, Fault> {
        let found = self.find(run).await?;
        let view = found.view();
        let name = self.name_of(view.row.session);
        Ok(shown(view, name))
    }
}

/// The word's status; a word that this build does not know is shown as lost.
pub(super) fn status_of(word: &str) -> Status {
    Status::from_word(word).unwrap_or(Status::Lost)
}

fn shown(view: View, name: Option<String>) -> RunView {
    let View { row, mut outline, durable } = view;
    let mut request: SpawnRequest = serde_json::from_str(&row.request).unwrap_or_default();
    shorten(&mut request);
    let open = outline.questions.len();
    let questions = cut_questions(&outline.questions, DETAILS_KEPT);
    let question = outline.questions.drain(..).next();
    RunView {
        run_id: row.id,
        session_id: row.session,
        backend: row.backend,
        backend_digest: row.digest,
        name,
        status: status_of(&row.status),
        role: row.role,
        cwd: row.cwd,
        target: row.target,
        parent_run_id: row.parent,
        group_id: row.group,
        created_at: row.created_at,
        started_at: row.started_at,
        ended_at: row.ended_at,
        last_seq: row.last_seq,
        summary: row.summary,
        metadata: metadata(row.metadata.as_deref()),
        request,
        result: outline.result.map(|result| cut(result, RESULT_TEXT)),
        error: outline.error,
        usage: outline.usage,
        limits: outline.limits,
        question,
        questions,
        open_questions: u32::try_from(open).unwrap_or(u32::MAX),
        receipt: outline.receipt,
        durable,
    }
}

/// A question whose details are cut where they are long; its event has them whole.
pub(super) fn cut_question(mut question: Question, max: usize) -> Question {
    inert::cut_value(&mut question.details, max);
    question
}

/// The same for several, which share the room.
fn cut_questions(questions: &[Question], max: usize) -> Vec<Question> {
    let share = (max / questions.len().max(1)).max(200);
    questions.iter().cloned().map(|question| cut_question(question, share)).collect()
}

/// A result whose text is a preview where it is long.
pub(super) fn cut(mut result: Completion, max: usize) -> Completion {
    if let Some(text) = &mut result.text
        && text.len() > max
    {
        *text = inert::preview(text, max);
    }
    if let Some(value) = &mut result.structured {
        let text = value.to_string();
        if text.len() > max * 2 {
            *value = Value::String(inert::preview(&text, max));
        }
    }
    result
}

/// The bytes of a request's files are kept as files; of the request itself, only their beginning and end.
pub(super) fn without_bytes(request: &SpawnRequest) -> SpawnRequest {
    let mut request = request.clone();
    for part in request.message.iter_mut().flat_map(|message| &mut message.parts) {
        if let Some(bytes) = part.bytes_base64.take() {
            part.bytes_base64 = Some(inert::preview(&bytes, REQUEST_TEXT));
        }
    }
    request
}

fn shorten(request: &mut SpawnRequest) {
    for text in [&mut request.prompt, &mut request.instructions].into_iter().flatten() {
        if text.len() > REQUEST_TEXT {
            *text = inert::preview(text, REQUEST_TEXT);
        }
    }
    if let Some(message) = &mut request.message {
        for part in &mut message.parts {
            for text in [&mut part.text, &mut part.bytes_base64].into_iter().flatten() {
                if text.len() > REQUEST_TEXT {
                    *text = inert::preview(text, REQUEST_TEXT);
                }
            }
        }
    }
    if let Some(config) = &mut request.config {
        for value in config.values_mut() {
            let text = value.to_string();
            if text.len() > REQUEST_TEXT {
                *value = Value::String(inert::preview(&text, REQUEST_TEXT));
            }
        }
    }
}

/// The caller's metadata as it was given.
pub(super) fn metadata(text: Option<&str>) -> Option<Map<String, Value>> {
    text.and_then(|text| serde_json::from_str(text).ok())
}

/// A run in a list.
pub(super) fn summary_of(view: View, name: Option<String>) -> RunSummary {
    let row = view.row;
    RunSummary {
        run_id: row.id,
        session_id: row.session,
        backend: row.backend,
        name,
        status: status_of(&row.status),
        role: row.role,
        cwd: row.cwd,
        target: row.target,
        parent_run_id: row.parent,
        group_id: row.group,
        created_at: row.created_at,
        started_at: row.started_at,
        ended_at: row.ended_at,
        last_seq: row.last_seq,
        summary: row.summary,
        metadata: metadata(row.metadata.as_deref()),
    }
}
