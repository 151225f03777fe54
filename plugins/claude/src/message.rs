//! A message as `claude` takes it: texts, pictures and documents, in their order. What cannot be delivered is refused with
//! its reason, before anything is sent.

use falconer_backend::{BlobRef, Failure, Part};
use serde_json::{Value, json};

use crate::base64;

/// One picture, in bytes. The program scales down what is larger than its API takes (5 MiB in base64).
const MAX_IMAGE: u64 = 10 << 20;
/// One text file, in bytes; more is longer than any model reads.
const MAX_TEXT: u64 = 4 << 20;
/// All files of one message, in bytes: the API takes requests of 32 MB, in base64.
const MAX_FILES: u64 = 22 << 20;
/// Media types that are text, besides `text/…`.
const TEXTS: [&str; 8] = [
    "application/json",
    "application/xml",
    "application/yaml",
    "application/x-yaml",
    "application/toml",
    "application/javascript",
    "application/sql",
    "application/x-sh",
];

/// What a file is to the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Image(&'static str),
    Pdf,
    Text,
}

impl Kind {
    fn of(file: &BlobRef) -> Option<Self> {
        let mime = file.mime.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match mime.as_str() {
            "image/png" => Some(Self::Image("image/png")),
            "image/jpeg" | "image/jpg" => Some(Self::Image("image/jpeg")),
            "image/gif" => Some(Self::Image("image/gif")),
            "image/webp" => Some(Self::Image("image/webp")),
            "application/pdf" => Some(Self::Pdf),
            text if text.starts_with("text/") || TEXTS.contains(&text) => Some(Self::Text),
            _ => None,
        }
    }

    /// Whether the bytes are what the caller said: the program drops a picture that is none without a word.
    fn fits(self, bytes: &[u8]) -> bool {
        match self {
            Self::Image("image/png") => bytes.starts_with(b"\x89PNG\r\n\x1a\n"),
            Self::Image("image/jpeg") => bytes.starts_with(b"\xff\xd8\xff"),
            Self::Image("image/gif") => bytes.starts_with(b"GIF8"),
            Self::Image(_) => bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP"),
            Self::Pdf => bytes.starts_with(b"%PDF-"),
            Self::Text => std::str::from_utf8(bytes).is_ok() && !bytes.contains(&0),
        }
    }
}

/// Whether the message can be delivered, as far as can be told without reading its files.
///
/// # Errors
/// `invalid_argument`: it says nothing; `unsupported`: a file of a type that is not taken; `file_too_large`.
pub fn check(parts: &[Part]) -> Result<(), Failure> {
    let mut total = 0;
    let mut says = false;
    for part in parts {
        let file = match part {
            Part::Text(text) | Part::Data(text) => {
                says |= !text.trim().is_empty();
                continue;
            }
            Part::File(file) => file,
        };
        says = true;
        total += file.size;
        let most = match Kind::of(file) {
            Some(Kind::Image(_)) => MAX_IMAGE,
            Some(Kind::Pdf) => MAX_FILES,
            Some(Kind::Text) => MAX_TEXT,
            None => {
                let message = format!("claude takes no file of type {} ({}) in a message", file.mime, name(file));
                return Err(Failure::new("unsupported", message).with_hint(
                    "png, jpeg, gif, webp, pdf and text are delivered; put any other file into the working directory and name its path",
                ));
            }
        };
        if file.size > most {
            return Err(too_large(&format!("{} has {} bytes; at most {most} are taken of its type", name(file), file.size)));
        }
    }
    if total > MAX_FILES {
        return Err(too_large(&format!("the files of the message have {total} bytes together; at most {MAX_FILES} are taken")));
    }
    if !says {
        return Err(Failure::new("invalid_argument", "the message is empty; claude needs one that says something"));
    }
    Ok(())
}

/// The content blocks of a message. `read` gives the whole of a file.
///
/// # Errors
/// Those of [`check`] and of `read`; `unsupported`: a file is not what its type says.
pub fn content(parts: &[Part], mut read: impl FnMut(&BlobRef) -> Result<Vec<u8>, Failure>) -> Result<Vec<Value>, Failure> {
    check(parts)?;
    let mut blocks = Vec::with_capacity(parts.len());
    for part in parts {
        match part {
            Part::Text(text) | Part::Data(text) if text.is_empty() => {}
            Part::Text(text) | Part::Data(text) => blocks.push(json!({ "type": "text", "text": text })),
            Part::File(file) => {
                let Some(kind) = Kind::of(file) else { continue };
                let bytes = read(file)?;
                if !kind.fits(&bytes) {
                    let message = format!("{} is not what its type says ({})", name(file), file.mime);
                    return Err(Failure::new("unsupported", message).with_hint("give its true mime_type; text must be UTF-8"));
                }
                blocks.push(block(kind, file, bytes));
            }
        }
    }
    Ok(blocks)
}

fn block(kind: Kind, file: &BlobRef, bytes: Vec<u8>) -> Value {
    match kind {
        Kind::Image(mime) => {
            json!({ "type": "image", "source": { "type": "base64", "media_type": mime, "data": base64::encode(&bytes) } })
        }
        Kind::Pdf => {
            let source = json!({ "type": "base64", "media_type": "application/pdf", "data": base64::encode(&bytes) });
            json!({ "type": "document", "source": source, "title": name(file) })
        }
        Kind::Text => {
            let text = String::from_utf8(bytes).unwrap_or_default();
            json!({ "type": "document", "source": { "type": "text", "media_type": "text/plain", "data": text }, "title": name(file) })
        }
    }
}

fn too_large(message: &str) -> Failure {
    Failure::new("file_too_large", message).with_hint("make it smaller, or put it into the working directory and name its path")
}

/// What a file is called.
fn name(file: &BlobRef) -> &str {
    file.file_name.as_deref().filter(|name| !name.is_empty()).unwrap_or("a file without a name")
}

/// The texts of a message, for those who look on; of a file, its name.
pub fn shown(parts: &[Part]) -> String {
    let piece = |part: &Part| match part {
        Part::Text(text) | Part::Data(text) => text.clone(),
        Part::File(file) => format!("[{}: {}]", file.mime, name(file)),
    };
    parts.iter().map(piece).filter(|piece| !piece.is_empty()).collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(mime: &str, size: u64) -> Part {
        Part::File(BlobRef { id: "b".to_owned(), size, mime: mime.to_owned(), file_name: Some("f".to_owned()) })
    }

    fn code(parts: &[Part]) -> String {
        check(parts).map_or_else(|failure| failure.code, |()| "taken".to_owned())
    }

    #[test]
    fn what_cannot_be_delivered_is_refused() {
        let text = Part::Text("look".to_owned());
        assert_eq!(code(&[]), "invalid_argument");
        assert_eq!(code(&[Part::Text(" \n".to_owned())]), "invalid_argument");
        assert_eq!(code(&[text.clone(), file("image/png", 3)]), "taken");
        assert_eq!(code(&[file("text/csv; charset=utf-8", 3), file("application/json", 3)]), "taken");
        assert_eq!(code(&[text.clone(), file("image/tiff", 3)]), "unsupported");
        assert_eq!(code(&[file("application/octet-stream", 3)]), "unsupported");
        assert_eq!(code(&[file("image/png", MAX_IMAGE + 1)]), "file_too_large");
        assert_eq!(code(&[file("application/pdf", MAX_FILES), text]), "taken");
        assert_eq!(code(&[file("application/pdf", MAX_FILES), file("image/png", 1)]), "file_too_large");
    }

    #[test]
    fn parts_become_blocks_in_their_order() {
        let parts = [file("image/jpeg", 4), Part::Text("what is it?".to_owned()), file("text/plain", 2), Part::Data("{}".to_owned())];
        let read = |file: &BlobRef| Ok(if file.mime == "image/jpeg" { b"\xff\xd8\xff\xe0".to_vec() } else { b"hi".to_vec() });
        let blocks = content(&parts, read).unwrap();
        let kinds: Vec<_> = blocks.iter().map(|block| block["type"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["image", "text", "document", "text"]);
        assert_eq!(blocks[0]["source"]["data"], "/9j/4A==");
        assert_eq!((&blocks[2]["source"]["data"], &blocks[2]["title"]), (&json!("hi"), &json!("f")));
        assert_eq!(shown(&parts), "[image/jpeg: f]\n\nwhat is it?\n\n[text/plain: f]\n\n{}");
        let failure = content(&[file("image/png", 4)], |_| Ok(b"no picture".to_vec())).unwrap_err();
        assert_eq!(failure.code, "unsupported");
    }
}
