//! From a caller's message to the parts that a backend gets: texts and data as they are, files as blobs.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;

use crate::contract::falconer::backend::types as wit;
use crate::fault::{Fault, code};
use crate::ledger::artifact::Artifacts;
use crate::run::record::ledger_fault;
use crate::run::request::{Message, MessagePart, PartKind};

/// The texts of a message, all together. What is larger belongs into a file.
const MAX_TEXT: usize = 2 * 1024 * 1024;
/// One file of a message.
const MAX_FILE: usize = 16 * 1024 * 1024;

/// A message as a backend gets it.
pub(super) struct Parts {
    pub(super) parts: Vec<wit::Part>,
    pub(super) inputs: BTreeMap<String, Utf8PathBuf>,
}

/// The message of a request: `prompt`, `message`, or none.
pub(super) fn message_of(prompt: Option<&str>, message: Option<&Message>) -> Result<Message, Fault> {
    match (prompt, message) {
        (Some(_), Some(_)) => Err(Fault::new(code::CONFLICTING_FIELDS, "`prompt` and `message` were both given")
            .hint("give one: `prompt` for text, `message` for several parts")),
        (Some(text), None) if text.trim().is_empty() => {
            Err(Fault::new(code::INVALID_ARGUMENT, "`prompt` is empty").hint("say what is to be done; leave `prompt` out where the backend takes its job from `config`"))
        }
        (Some(text), None) => Ok(Message::text(text)),
        (None, Some(message)) if message.parts.is_empty() => Err(Fault::new(code::INVALID_ARGUMENT, "`message.parts` is empty")),
        (None, Some(message)) => Ok(message.clone()),
        (None, None) => Ok(Message { parts: Vec::new() }),
    }
}

/// Checks a message against what the backend can take, and puts its files aside.
pub(super) fn parts_of(message: &Message, abilities: wit::Abilities, artifacts: &Artifacts) -> Result<Parts, Fault> {
    let text: usize = message.parts.iter().filter_map(|part| part.text.as_ref()).map(String::len).sum();
    if text > MAX_TEXT {
        return Err(Fault::new(code::INVALID_ARGUMENT, format!("the message has {text} bytes of text; at most {MAX_TEXT} are taken"))
            .hint("put it into a file in the working directory and name that"));
    }
    let mut inputs = BTreeMap::new();
    let mut parts = Vec::with_capacity(message.parts.len());
    for (index, part) in message.parts.iter().enumerate() {
        parts.push(match part.kind {
            PartKind::Text => wit::Part::Text(wanted(index, "text", part.text.clone())?),
            PartKind::Data => wit::Part::Data(wanted(index, "data", part.data.clone())?.to_string()),
            PartKind::File => wit::Part::File(file(index, part, abilities, artifacts, &mut inputs)?),
        });
    }
    Ok(Parts { parts, inputs })
}

fn wanted<T>(index: usize, field: &str, value: Option<T>) -> Result<T, Fault> {
    value.ok_or_else(|| Fault::new(code::INVALID_ARGUMENT, format!("`message.parts[{index}]` has no `{field}`, which its type wants")))
}

fn file(
    index: usize,
    part: &MessagePart,
    abilities: wit::Abilities,
    artifacts: &Artifacts,
    inputs: &mut BTreeMap<String, Utf8PathBuf>,
) -> Result<wit::BlobRef, Fault> {
    let mime = part.mime_type.clone().unwrap_or_else(|| "application/octet-stream".to_owned());
    let able = abilities.contains(wit::Abilities::FILES) || (mime.starts_with("image/") && abilities.contains(wit::Abilities::IMAGES));
    if !able {
        return Err(Fault::new(code::UNSUPPORTED, format!("`message.parts[{index}]`: this backend takes no files of type {mime}"))
            .hint("put the file into the working directory and name it in the text"));
    }
    if part.uri.is_some() {
        return Err(
            Fault::new(code::UNSUPPORTED, format!("`message.parts[{index}].uri` is not fetched")).hint("give the bytes in `bytes_base64`")
        );
    }
    let text = wanted(index, "bytes_base64", part.bytes_base64.as_deref())?;
    let bytes = from_base64(text).ok_or_else(|| {
        Fault::new(code::INVALID_ARGUMENT, format!("`message.parts[{index}].bytes_base64` is no base64 (RFC 4648, with padding)"))
    })?;
    if bytes.len() > MAX_FILE {
        return Err(Fault::new(
            code::INVALID_ARGUMENT,
            format!("`message.parts[{index}]` has {} bytes; at most {MAX_FILE} are taken", bytes.len()),
        ));
    }
    let stored = artifacts.put(&bytes).map_err(|error| ledger_fault(&error))?;
    if let Some(path) = artifacts.path(&stored.sha256) {
        inputs.insert(stored.sha256.clone(), path);
    }
    Ok(wit::BlobRef { id: stored.sha256, size: stored.size, mime, file_name: part.name.clone() })
}

/// RFC 4648 section 4, with padding.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let text = text.as_bytes();
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    if padding > 2 {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut buffer, mut bits) = (0u32, 0);
    for byte in &text[..text.len() - padding] {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        buffer = (buffer << 6) | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((buffer >> bits) as u8);
            buffer &= (1 << bits) - 1;
        }
    }
    Some(out)
}

/// Bytes that are no text, for an answer.
pub(super) fn to_base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for piece in bytes.chunks(3) {
        let word = piece.iter().fold(0u32, |word, byte| (word << 8) | u32::from(*byte)) << (8 * (3 - piece.len()));
        for index in 0..4 {
            let letter = LETTERS[((word >> (18 - 6 * index)) & 63) as usize];
            out.push(if index <= piece.len() { letter as char } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(to_base64(plain.as_bytes()), coded);
            assert_eq!(from_base64(coded).unwrap(), plain.as_bytes());
        }
        for wrong in ["Zg", "Zg=", "====", "Z g=", "Zm9v\n"] {
            assert_eq!(from_base64(wrong), None, "{wrong}");
        }
    }
}
