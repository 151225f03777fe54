//! Lines of the type `system`: the state of the session, its tasks, and what the program says to people.

use serde_json::{Map, Value};

use super::fields::{fields, text};
use super::{Background, Incoming, State};

pub fn system(mut value: Value) -> Incoming {
    let subtype = text(&value, "subtype").unwrap_or_default();
    match subtype.as_str() {
        "init" => Incoming::Init(fields(value)),
        "session_state_changed" => match text(&value, "state").as_deref() {
            Some("running") => Incoming::State(State::Running),
            Some("requires_action") => Incoming::State(State::RequiresAction),
            Some("idle") => Incoming::State(State::Idle),
            _ => Incoming::Other,
        },
        "background_tasks_changed" => {
            // A watcher is no work: the program itself does not wait for it.
            let is_work = |task: &&Value| task.get("ambient").and_then(Value::as_bool) != Some(true);
            let is_agent = |task: &&Value| task.get("task_type").and_then(Value::as_str) != Some("local_bash");
            value.get("tasks").and_then(Value::as_array).map_or(Incoming::Other, |tasks| {
                let tasks: Vec<&Value> = tasks.iter().filter(is_work).collect();
                let agents = tasks.iter().copied().filter(is_agent).count();
                Incoming::BackgroundTasks(Background { tasks: tasks.len(), agents })
            })
        }
        "task_started" => Incoming::TaskStarted(fields(value)),
        "task_notification" => Incoming::TaskEnded(fields(value)),
        "task_progress" => Incoming::Progress("task_progress", sign_of_life(&value)),
        "api_retry" => Incoming::Retry(fields(value)),
        "permission_denied" => Incoming::PermissionDenied(fields(value)),
        "status" => status(&value),
        "informational"
        | "notification"
        | "model_fallback"
        | "model_consent_fallback"
        | "model_refusal_fallback"
        | "model_refusal_no_fallback"
        | "compact_boundary"
        | "local_command_output"
        | "instruction_size_warning"
        | "file_attachments_missing"
        | "session_writes_lost"
        | "mirror_error"
        | "late_allow_not_run"
        | "worker_shutting_down"
        | "agents_killed" => {
            let said = ["content", "message", "text", "error", "error_code", "reason"].iter().find_map(|name| {
                match value.get_mut(*name).map(Value::take) {
                    Some(Value::String(said)) if !said.trim().is_empty() => Some(said),
                    _ => None,
                }
            });
            let name = subtype.replace('_', " ");
            let said = said.map_or_else(|| name.clone(), |said| if said.contains(' ') { said } else { format!("{name}: {said}") });
            Incoming::Said(subtype, said)
        }
        _ => Incoming::Other,
    }
}

/// What the program does just now; only a change of the permission mode and a compaction are of interest.
fn status(value: &Value) -> Incoming {
    if let Some(mode) = text(value, "permissionMode") {
        return Incoming::Mode(mode);
    }
    match text(value, "status").as_deref() {
        Some("compacting") => Incoming::Said("compacting".to_owned(), "the conversation is being compacted".to_owned()),
        _ => Incoming::Other,
    }
}

/// What is worth keeping of a heartbeat.
pub fn sign_of_life(value: &Value) -> Value {
    const KEPT: [&str; 9] = [
        "tool_use_id",
        "parent_tool_use_id",
        "tool_name",
        "elapsed_time_seconds",
        "task_id",
        "description",
        "last_tool_name",
        "summary",
        "usage",
    ];
    KEPT.iter().filter_map(|name| Some(((*name).to_owned(), value.get(*name)?.clone()))).collect::<Map<_, _>>().into()
}
