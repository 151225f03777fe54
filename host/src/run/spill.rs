//! What is too large for an event: its large fields go into artifacts, and a preview stays.
//!
//! The bytes are written by the run's own task, before the event that names them; the ledger takes only rows.

use serde_json::{Value, json};

use super::inert;
use super::record::{MAX_INLINE, Record, ledger_fault};
use crate::fault::{Fault, code};
use crate::ledger::{ArtifactRow, LedgerError};

/// What stays of a field that was put into an artifact.
const PREVIEW: usize = 2 * 1024;
/// Fields up to this size are never put into artifacts.
const KEEP: usize = 1024;

impl Record {
    /// Puts the largest texts of an event into artifacts until it is small enough.
    pub(super) async fn spill(&mut self, data: &mut Value) -> Result<Vec<ArtifactRow>, Fault> {
        let mut rows = Vec::new();
        let mut refs = Vec::new();
        loop {
            let mut largest = None;
            find_largest(data, &mut String::new(), 0, &mut largest);
            let Some((pointer, _)) = largest else { break };
            let Some(place) = data.pointer_mut(&pointer) else { break };
            let (bytes, mime) = match std::mem::take(place) {
                Value::String(text) => (text, "text/plain; charset=utf-8"),
                other => (other.to_string(), "application/json"),
            };
            *place = Value::String(inert::preview(&bytes, PREVIEW));
            let bytes = bytes.into_bytes();
            self.charge(bytes.len() as u64)?;
            let store = self.artifacts.clone();
            let stored = blocking(move || store.put(&bytes)).await?;
            refs.push(json!({ "pointer": pointer, "bytes": stored.size, "mime": mime, "sha256": stored.sha256 }));
            rows.push(ArtifactRow {
                run: self.update.id,
                seq: self.update.last_seq + 1,
                pointer,
                sha256: stored.sha256,
                size: stored.size,
                mime: mime.to_owned(),
            });
            if data.to_string().len() + refs.len() * 200 <= MAX_INLINE {
                break;
            }
        }
        if let Value::Object(map) = data {
            map.insert("artifacts".into(), Value::Array(refs));
        }
        Ok(rows)
    }
}

/// Work on the disk, away from the threads that serve.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, LedgerError> + Send + 'static) -> Result<T, Fault> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome.map_err(|error| ledger_fault(&error)),
        Err(error) => Err(Fault::new(code::INTERNAL, format!("a task of the host failed: {error}"))),
    }
}

/// The place and size of the largest text, or of the largest list of small values where no text is large.
fn find_largest(value: &Value, pointer: &mut String, depth: usize, largest: &mut Option<(String, usize)>) {
    let consider = |pointer: &str, size: usize, largest: &mut Option<(String, usize)>| {
        if size > KEEP.max(PREVIEW + 200) && largest.as_ref().is_none_or(|(_, best)| size > *best) {
            *largest = Some((pointer.to_owned(), size));
        }
    };
    let mut below = |step: &str, item: &Value, largest: &mut Option<(String, usize)>| {
        let length = pointer.len();
        pointer.push('/');
        pointer.push_str(step);
        find_largest(item, pointer, depth + 1, largest);
        pointer.truncate(length);
    };
    match value {
        Value::String(text) if depth > 0 => return consider(pointer, text.len(), largest),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                below(&index.to_string(), item, largest);
            }
        }
        Value::Object(map) => {
            for (key, item) in map.iter().filter(|(key, _)| depth > 0 || *key != "artifacts") {
                below(&key.replace('~', "~0").replace('/', "~1"), item, largest);
            }
        }
        _ => return,
    }
    // A list or map of many small values has no large text: it goes as a whole.
    if depth > 0 && largest.is_none() {
        consider(pointer, value.to_string().len(), largest);
    }
}
