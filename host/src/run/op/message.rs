//! From a caller's message to the parts that a backend gets: texts and data as they are, files as blobs.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use super::file::{mime_of, path_of, read};
use crate::base64::from_base64;
use crate::contract::falconer::backend::types as wit;
use crate::fault::{Fault, code};
use crate::ledger::artifact::Artifacts;
use crate::policy::Policy;
use crate::run::record::ledger_fault;
use crate::run::request::{Message, MessagePart, PartKind};

/// The texts of a message, all together. What is larger belongs into a file.
pub(super) const MAX_TEXT: usize = 2 * 1024 * 1024;
/// One JSON text for a backend (the contract's 1 MiB).
pub(super) const MAX_JSON: usize = 1 << 20;
/// One file of a message.
const MAX_FILE: usize = 16 * 1024 * 1024;
/// The name of a file (NAME_MAX of Linux), and its media type.
const MAX_NAME: usize = 255;
/// All files of a message.
const MAX_FILES: usize = 64 * 1024 * 1024;
/// Parts of a message.
const MAX_PARTS: usize = 64;

/// A message as a backend gets it.
pub(super) struct Parts {
    pub(super) parts: Vec<wit::Part>,
    pub(super) inputs: BTreeMap<String, Utf8PathBuf>,
}

/// What a message is judged by: the backend, what it can take, and where its run may read.
pub(super) struct Taker {
    pub(super) backend: String,
    pub(super) abilities: wit::Abilities,
    pub(super) policy: Policy,
    /// The client's own directory, or what stands for it.
    pub(super) client: Option<Utf8PathBuf>,
    pub(super) artifacts: Artifacts,
}

/// The message of a request: `prompt`, `message`, or none.
pub(super) fn message_of(prompt: Option<&str>, message: Option<&Message>) -> Result<Message, Fault> {
    match (prompt, message) {
        (Some(_), Some(_)) => Err(Fault::new(code::CONFLICTING_FIELDS, "`prompt` and `message` were both given")
            .hint("give one: `prompt` for text, `message` for several parts")),
        (Some(text), None) => Ok(Message::text(text)),
        (None, Some(message)) if message.parts.is_empty() => Err(Fault::new(code::INVALID_ARGUMENT, "`message.parts` is empty")),
        (None, Some(message)) => Ok(message.clone()),
        (None, None) => Ok(Message { parts: Vec::new() }),
    }
}

impl Taker {
    /// Checks a message against what the backend can take, and puts its files aside. Its disk work is done elsewhere.
    pub(super) async fn take(self, message: Message) -> Result<Parts, Fault> {
        if !message.parts.iter().any(|part| part.kind == PartKind::File) {
            return self.parts(&message);
        }
        match tokio::task::spawn_blocking(move || self.parts(&message)).await {
            Ok(parts) => parts,
            Err(error) => Err(Fault::new(code::INTERNAL, format!("a task of the host failed: {error}"))),
        }
    }

    fn parts(&self, message: &Message) -> Result<Parts, Fault> {
        if message.parts.len() > MAX_PARTS {
            return Err(Fault::new(
                code::INVALID_ARGUMENT,
                format!("the message has {} parts; at most {MAX_PARTS} are taken", message.parts.len()),
            ));
        }
        let texts = message.parts.iter().filter_map(|part| part.text.as_ref()).map(String::len);
        let data = message.parts.iter().filter_map(|part| part.data.as_ref()).map(json_size);
        bounded("the message", texts.chain(data).sum(), MAX_TEXT)?;
        let mut inputs = BTreeMap::new();
        let mut parts = Vec::with_capacity(message.parts.len());
        let mut size = 0;
        for (index, part) in message.parts.iter().enumerate() {
            let place = format!("`message.parts[{index}]`");
            parts.push(match part.kind {
                PartKind::Text => wit::Part::Text(wanted(&place, "text", part.text.clone())?),
                PartKind::Data => {
                    let data = wanted(&place, "data", part.data.clone())?.to_string();
                    bounded(&place, data.len(), MAX_JSON)?;
                    wit::Part::Data(data)
                }
                PartKind::File => {
                    let file = self.file(&place, part, &mut inputs)?;
                    size += file.size;
                    wit::Part::File(file)
                }
            });
            if size > MAX_FILES as u64 {
                return Err(Fault::new(
                    code::INVALID_ARGUMENT,
                    format!("the files of the message have more than {MAX_FILES} bytes together"),
                ));
            }
        }
        Ok(Parts { parts, inputs })
    }

    fn file(&self, place: &str, part: &MessagePart, inputs: &mut BTreeMap<String, Utf8PathBuf>) -> Result<wit::BlobRef, Fault> {
        for (field, value) in [("name", &part.name), ("mime_type", &part.mime_type)] {
            bounded(&format!("{place}: `{field}`"), value.as_ref().map_or(0, String::len), MAX_NAME)?;
        }
        // A backend that takes no files at all is asked for none.
        if let Some(mime) = &part.mime_type {
            self.able(place, mime)?;
        } else if !self.abilities.intersects(wit::Abilities::FILES | wit::Abilities::IMAGES) {
            self.able(place, "any type")?;
        }
        let (bytes, named) = match (&part.bytes_base64, &part.uri) {
            (Some(_), Some(_)) => {
                return Err(Fault::new(code::CONFLICTING_FIELDS, format!("{place} has both `bytes_base64` and `uri`")).hint("give one"));
            }
            (None, None) => {
                return Err(Fault::new(code::INVALID_ARGUMENT, format!("{place} is a file with neither `uri` nor `bytes_base64`"))
                    .hint("give `uri` (`file:///…` inside a workspace) or the bytes"));
            }
            (Some(text), None) => {
                let bytes = from_base64(text).ok_or_else(|| {
                    Fault::new(code::INVALID_ARGUMENT, format!("{place}: `bytes_base64` is no base64 (RFC 4648, with padding)"))
                })?;
                if bytes.len() > MAX_FILE {
                    return Err(too_large(place, bytes.len() as u64));
                }
                (bytes, None)
            }
            (None, Some(uri)) => {
                let path = path_of(uri).map_err(|why| {
                    Fault::new(code::INVALID_ARGUMENT, format!("{place}: `uri` {why}"))
                        .hint("write `file:///absolute/path`, or give `bytes_base64`")
                })?;
                let file = self.policy.file(&self.backend, &path, self.client.as_deref())?;
                let bytes = read(file, MAX_FILE)
                    .map_err(|error| Fault::new(code::FILE_NOT_FOUND, format!("{place}: {path} cannot be read: {error}")))?
                    .map_err(|size| too_large(place, size))?;
                (bytes, path.file_name().map(str::to_owned))
            }
        };
        let mime = part.mime_type.clone().unwrap_or_else(|| mime_of(&bytes).to_owned());
        self.able(place, &mime)?;
        let stored = self.artifacts.put(&bytes).map_err(|error| ledger_fault(&error))?;
        if let Some(path) = self.artifacts.path(&stored.sha256) {
            inputs.insert(stored.sha256.clone(), path);
        }
        // The last part alone, and none where that is no name, such as `..`.
        let file_name = part.name.as_deref().map_or(named, |name| Utf8Path::new(name).file_name().map(str::to_owned));
        Ok(wit::BlobRef { id: stored.sha256, size: stored.size, mime, file_name })
    }

    /// Whether the backend takes files of this type.
    fn able(&self, place: &str, mime: &str) -> Result<(), Fault> {
        let images = self.abilities.contains(wit::Abilities::IMAGES);
        if self.abilities.contains(wit::Abilities::FILES) || (images && mime.starts_with("image/")) {
            return Ok(());
        }
        let takes = if images { "; it takes images" } else { "" };
        Err(Fault::new(code::UNSUPPORTED, format!("{place}: backend `{}` takes no files of {mime}{takes}", self.backend))
            .hint("put the file into the working directory and name it in the text"))
    }
}

/// The bytes of a value as JSON.
pub(super) fn json_size(value: &Value) -> usize {
    value.to_string().len()
}

/// Refuses text that is too large for a backend.
pub(super) fn bounded(what: &str, size: usize, most: usize) -> Result<(), Fault> {
    if size <= most {
        return Ok(());
    }
    Err(Fault::new(code::INVALID_ARGUMENT, format!("{what} has {size} bytes of text; at most {most} are taken"))
        .hint("put it into a file in the working directory and name that"))
}

fn too_large(place: &str, size: u64) -> Fault {
    Fault::new(code::INVALID_ARGUMENT, format!("{place} has {size} bytes; at most {MAX_FILE} are taken"))
        .hint("put the file into the working directory and name it in the text")
}

fn wanted<T>(place: &str, field: &str, value: Option<T>) -> Result<T, Fault> {
    value.ok_or_else(|| Fault::new(code::INVALID_ARGUMENT, format!("{place} has no `{field}`, which its type wants")))
}
