//! `get_event_artifact`: reads a field of an event by byte range, never cutting a character in two.

use serde::Deserialize;
use serde_json::Value;

use crate::base64::to_base64;
use crate::fault::{Fault, code};
use crate::id::RunId;
use crate::run::inert;
use crate::run::manager::{Found, Manager};
use crate::run::record::ledger_fault;
use crate::run::request::ArtifactRequest;
use crate::run::translate::hash;
use crate::run::view::Slice;

/// Bytes that an answer has when the caller does not say.
const BYTES: u32 = 8 * 1024;

/// The media type of a field that is no text.
const JSON: &str = "application/json";

/// A field, wherever it is kept.
enum Field {
    /// In a file.
    Stored { sha256: String, size: u64, mime: String },
    /// In the event itself.
    Inline { text: String, mime: &'static str },
}

/// A part of an event that is kept beside it.
#[derive(Debug, Deserialize)]
struct Part {
    pointer: String,
    mime: String,
    sha256: String,
}

impl Manager {
    /// `get_event_artifact`
    pub async fn artifact(&self, request: ArtifactRequest) -> Result<Slice, Fault> {
        let found = self.find(&request.run_id).await?;
        let run = found.id();
        let last = match &found {
            Found::Live(live) => live.progress().last_seq,
            Found::Ended(row) => row.last_seq,
        };
        if request.seq == 0 || request.seq > last {
            return Err(Fault::new(code::UNKNOWN_ARTIFACT, format!("run {run} has no event {}; its last is {last}", request.seq)));
        }
        let limit = request.limit.unwrap_or(BYTES);
        let field = self.field(run, request.seq, &request.pointer)?;
        let (mime, sha256, total) = match &field {
            Field::Stored { sha256, size, mime } => (mime.clone(), sha256.clone(), *size),
            Field::Inline { text, mime } => ((*mime).to_owned(), hash(text), text.len() as u64),
        };
        let start = request.offset.min(total);
        // Up to three bytes before the start belong to the character that it falls into.
        let from = start.saturating_sub(3);
        let want = limit.saturating_add(u32::try_from(start - from).unwrap_or(3)).saturating_add(3);
        let bytes = match &field {
            Field::Stored { sha256, .. } => self.inner.artifacts.read(sha256, from, want).map_err(|error| ledger_fault(&error))?,
            Field::Inline { text, .. } => {
                let bytes = text.as_bytes();
                let (a, b) = (from as usize, (from as usize + want as usize).min(bytes.len()));
                bytes[a..b].to_vec()
            }
        };
        let (low, high) = bounds(&bytes, (start - from) as usize, limit as usize);
        let piece = &bytes[low..high];
        let offset = from + low as u64;
        let end = offset + piece.len() as u64;
        let (encoding, content) = match std::str::from_utf8(piece) {
            Ok(text) => ("utf-8", inert::inert(text.to_owned())),
            Err(_) => ("base64", to_base64(piece)),
        };
        Ok(Slice {
            run_id: run,
            seq: request.seq,
            pointer: request.pointer,
            mime,
            sha256,
            total_bytes: total,
            offset,
            returned_bytes: piece.len() as u64,
            next_offset: (end < total).then_some(end),
            encoding: encoding.to_owned(),
            content,
        })
    }

    /// All of a stored field, as it was in its event.
    fn stored(&self, sha256: &str, mime: &str) -> Result<Value, Fault> {
        let bytes = self.inner.artifacts.read(sha256, 0, u32::MAX).map_err(|error| ledger_fault(&error))?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if mime != JSON {
            return Ok(Value::String(text));
        }
        serde_json::from_str(&text).map_err(|error| Fault::new(code::INTERNAL, format!("the artifact {sha256} is no JSON: {error}")))
    }

    fn field(&self, run: RunId, seq: u64, pointer: &str) -> Result<Field, Fault> {
        if !pointer.is_empty() && !pointer.starts_with('/') {
            return Err(
                Fault::new(code::INVALID_ARGUMENT, "`pointer` is no JSON pointer").hint("it begins with `/`, e.g. `/text` (RFC 6901)")
            );
        }
        let rows = self.inner.ledger.events(run, seq - 1, 1, u64::MAX, &[]).map_err(|error| ledger_fault(&error))?;
        let data: Value = rows.first().and_then(|row| serde_json::from_str(&row.data).ok()).unwrap_or(Value::Null);
        let stored = self.inner.ledger.artifact(run, seq, pointer).map_err(|error| ledger_fault(&error))?;
        // Parts of it may be kept beside it, with a preview in their place: what is read here is whole.
        let below: Vec<Part> = parts(&data).filter(|part| within(&part.pointer, pointer).is_some_and(|rest| !rest.is_empty())).collect();
        if !below.is_empty() && !pointer.is_empty() {
            let mut whole = match &stored {
                Some(row) => self.stored(&row.sha256, &row.mime)?,
                None => data.pointer(pointer).cloned().unwrap_or(Value::Null),
            };
            // What was put aside last may hold the preview of what was put aside before.
            for part in below.iter().rev() {
                let value = self.stored(&part.sha256, &part.mime)?;
                if let Some(place) = within(&part.pointer, pointer).and_then(|rest| whole.pointer_mut(rest)) {
                    *place = value;
                }
            }
            return Ok(Field::Inline { text: whole.to_string(), mime: JSON });
        }
        if let Some(row) = stored {
            return Ok(Field::Stored { sha256: row.sha256, size: row.size, mime: row.mime });
        }
        match data.pointer(pointer) {
            Some(Value::String(text)) => Ok(Field::Inline { text: text.clone(), mime: "text/plain; charset=utf-8" }),
            Some(value) => Ok(Field::Inline { text: value.to_string(), mime: JSON }),
            None => {
                let fields: Vec<_> = data.as_object().into_iter().flatten().map(|(key, _)| format!("/{key}")).collect();
                Err(Fault::new(code::UNKNOWN_ARTIFACT, format!("event {seq} of {run} has no field `{pointer}`"))
                    .hint(format!("its fields are: {}", fields.join(", "))))
            }
        }
    }
}

/// What is kept beside an event, as its `artifacts` say, in the order in which it was put aside.
fn parts(data: &Value) -> impl Iterator<Item = Part> + '_ {
    data["artifacts"].as_array().into_iter().flatten().filter_map(|part| serde_json::from_value(part.clone()).ok())
}

/// The pointer from the field at `whole` to a field within it.
fn within<'a>(pointer: &'a str, whole: &str) -> Option<&'a str> {
    pointer.strip_prefix(whole).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The piece from `start`, at most `limit` long, widened to the left and narrowed on the right to whole characters.
/// Bytes that are no text are given as they are.
fn bounds(bytes: &[u8], start: usize, limit: usize) -> (usize, usize) {
    let continues = |at: usize| bytes.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    let start = start.min(bytes.len());
    let mut low = start;
    while low > 0 && start - low < 3 && continues(low) {
        low -= 1;
    }
    let end = (start + limit).min(bytes.len());
    let mut high = end;
    while high > low && end - high < 3 && continues(high) {
        high -= 1;
    }
    if high <= low { (low, end.max(low)) } else { (low, high) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_whole_text() {
        let text = "aä€😀z".repeat(5);
        let bytes = text.as_bytes();
        for start in 0..=bytes.len() {
            for limit in 4..12 {
                let (low, high) = bounds(bytes, start, limit);
                assert!(low <= start && start - low < 4 && high - low <= limit + 3, "{start} {limit}");
                assert!(std::str::from_utf8(&bytes[low..high]).is_ok(), "{start} {limit}");
                assert!(high > start || start == bytes.len(), "{start} {limit} makes progress");
            }
        }
    }
}
