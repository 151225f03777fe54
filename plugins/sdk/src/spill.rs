//! Values that are too large for an event, put aside in the host's store.

use serde_json::{Value, json};

use crate::bindings::falconer::backend::blobs;
use crate::{Artifact, Event, Events, Failure, PIECE};

/// A JSON text of an event is at most this long, by the contract.
pub const MAX_JSON: usize = 1 << 20;
/// What is left in the event of a value that was put aside.
const HEAD: usize = 2 << 10;

/// A blob that is being written, piece by piece.
#[derive(Debug)]
pub struct Blob {
    writer: blobs::Writer,
    size: u64,
}

impl Blob {
    /// An empty one.
    ///
    /// # Errors
    /// The run's budget is spent, or the disk fails.
    pub fn create() -> Result<Self, Failure> {
        Ok(Self { writer: blobs::create()?, size: 0 })
    }

    /// Adds bytes, all of them or none.
    ///
    /// # Errors
    /// The run's budget is spent, or the disk fails.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        for piece in bytes.chunks(PIECE as usize) {
            self.writer.write(piece)?;
            self.size += piece.len() as u64;
        }
        Ok(())
    }

    /// How many bytes it has.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Seals it; the id goes into an `artifact-added` event.
    ///
    /// # Errors
    /// The disk fails.
    pub fn seal(self) -> Result<String, Failure> {
        self.writer.seal()
    }
}

/// Puts bytes aside and tells of them by an `artifact-added` event; the answer is the blob's id.
///
/// # Errors
/// The run's budget is spent, or the disk fails.
pub fn artifact(events: &mut Events, name: &str, mime: &str, bytes: &[u8]) -> Result<String, Failure> {
    let mut blob = Blob::create()?;
    blob.write(bytes)?;
    let id = blob.seal()?;
    events.push(Event::ArtifactAdded(Artifact { name: name.to_owned(), mime: mime.to_owned(), blob: id.clone() }));
    Ok(id)
}

/// A JSON text that fits an event: the value itself, or, where it is longer than [`MAX_JSON`], what it was put aside as:
/// `{ "artifact": id, "size": bytes, "head": "…" }`.
#[must_use]
pub fn json(events: &mut Events, name: &str, value: &Value) -> String {
    let text = value.to_string();
    if text.len() <= MAX_JSON {
        return text;
    }
    let head = &text[..text.floor_char_boundary(HEAD)];
    match artifact(events, &format!("{name}.json"), "application/json", text.as_bytes()) {
        Ok(id) => json!({ "artifact": id, "size": text.len(), "head": head }),
        Err(failure) => json!({ "lost": failure.message, "size": text.len(), "head": head }),
    }
    .to_string()
}

/// A text that fits an event: itself, or, where it is longer than [`MAX_JSON`], its beginning and where the whole is.
#[must_use]
pub fn text(events: &mut Events, name: &str, text: String) -> String {
    if text.len() <= MAX_JSON {
        return text;
    }
    let head = &text[..text.floor_char_boundary(MAX_JSON / 2)];
    match artifact(events, &format!("{name}.txt"), "text/plain", text.as_bytes()) {
        Ok(id) => format!("{head}\n… (cut; the whole is artifact {id}, {} bytes)", text.len()),
        Err(failure) => format!("{head}\n… (cut; the whole of {} bytes is lost: {})", text.len(), failure.message),
    }
}
