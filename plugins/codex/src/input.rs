//! A message for Codex: text, and images as data URLs.

use falconer_backend::bindings::falconer::backend::blobs;
use falconer_backend::{BlobRef, Failure, PIECE, Part};
use serde_json::{Value, json};

/// The most that all images of a message may take: Codex gives each back in a line, and lines have a limit of 16 MiB.
const MAX_IMAGES: u64 = 8 << 20;
/// The most characters that all texts of a message may have: Codex refuses more, be it a turn's or a steering's.
const MAX_CHARS: u64 = 1 << 20;

/// The media types of images, and how their bytes begin. Codex tells the model that it could not read another one, and not us.
fn begins(mime: &str, bytes: &[u8]) -> Option<bool> {
    Some(match mime {
        "image/png" => bytes.starts_with(b"\x89PNG\r\n\x1a\n"),
        "image/jpeg" => bytes.starts_with(b"\xff\xd8\xff"),
        "image/gif" => bytes.starts_with(b"GIF8"),
        "image/webp" => bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP"),
        _ => return None,
    })
}

/// Checks a message without reading its files; its size in bytes.
///
/// # Errors
/// `invalid_argument`: it says nothing. `prompt_too_long`. `unsupported`: a file that is no image, or too large.
pub fn check(parts: &[Part]) -> Result<u64, Failure> {
    let (mut size, mut images, mut chars) = (0, 0, 0);
    for part in parts {
        match part {
            Part::Text(text) | Part::Data(text) => {
                size += text.trim().len() as u64;
                // With the empty line between two.
                chars += text.chars().count() as u64 + if chars > 0 { 2 } else { 0 };
            }
            Part::File(file) => {
                if begins(&file.mime, &[]).is_none() {
                    return Err(Failure::new("unsupported", format!("codex takes images only; {} is {}", name(file), file.mime))
                        .with_hint(
                            "png, jpeg, gif and webp are delivered; put any other file into the working directory and name its path",
                        ));
                }
                images += file.size;
                size += file.size;
            }
        }
    }
    if size == 0 {
        return Err(Failure::new("invalid_argument", "the message is empty; codex needs one that says something"));
    }
    if chars > MAX_CHARS {
        return Err(Failure::new("prompt_too_long", format!("the message has {chars} characters; codex takes at most {MAX_CHARS}"))
            .with_hint("put the text into a file in the working directory and name its path"));
    }
    if images > MAX_IMAGES {
        return Err(Failure::new(
            "unsupported",
            format!("the images of the message have {images} bytes; codex takes at most {MAX_IMAGES}"),
        )
        .with_hint("send smaller images, or put them into the working directory and name their paths"));
    }
    Ok(size)
}

/// `input` of a turn.
///
/// # Errors
/// Those of [`check`], and a file that cannot be read, or is not what its type says.
pub fn of(parts: &[Part]) -> Result<Vec<Value>, Failure> {
    check(parts)?;
    let mut input: Vec<Value> = Vec::new();
    let mut text = String::new();
    for part in parts {
        match part {
            Part::Text(piece) | Part::Data(piece) => {
                if !text.is_empty() {
                    text.push_str("\n\n");
                }
                text.push_str(piece);
            }
            Part::File(file) => {
                flush(&mut input, &mut text);
                let bytes = read(file)?;
                if begins(&file.mime, &bytes) != Some(true) {
                    let message = format!("{} is not what its type says ({})", name(file), file.mime);
                    return Err(Failure::new("unsupported", message).with_hint("give its true mime_type"));
                }
                input.push(json!({ "type": "image", "url": format!("data:{};base64,{}", file.mime, base64(&bytes)) }));
            }
        }
    }
    flush(&mut input, &mut text);
    Ok(input)
}

/// One text as the input of a turn.
pub fn of_text(text: &str) -> Vec<Value> {
    vec![json!({ "type": "text", "text": text, "text_elements": [] })]
}

fn flush(input: &mut Vec<Value>, text: &mut String) {
    if !text.is_empty() {
        input.extend(of_text(&std::mem::take(text)));
    }
}

fn name(file: &BlobRef) -> &str {
    file.file_name.as_deref().unwrap_or(&file.id)
}

fn read(file: &BlobRef) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    loop {
        let piece = blobs::read(&file.id, bytes.len() as u64, PIECE)?;
        if piece.is_empty() {
            return Ok(bytes);
        }
        bytes.extend_from_slice(&piece);
    }
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for n in 0..4 {
            let place = (bits >> (18 - 6 * n) & 63) as usize;
            text.push(if n <= group.len() { char::from(ALPHABET[place]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(mime: &str, size: u64) -> Part {
        Part::File(BlobRef { id: "b".to_owned(), size, mime: mime.to_owned(), file_name: Some("f".to_owned()) })
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        let of = |text: &str| base64(text.as_bytes());
        assert_eq!([of(""), of("f"), of("fo"), of("foo"), of("foobar")], ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYmFy"]);
    }

    #[test]
    fn what_cannot_be_delivered_is_refused() {
        let code = |parts: &[Part]| check(parts).unwrap_err().code;
        assert_eq!(code(&[]), "invalid_argument");
        assert_eq!(code(&[Part::Text(" \n".to_owned())]), "invalid_argument");
        assert_eq!(code(&[Part::Text("x".to_owned()), file("application/pdf", 3)]), "unsupported");
        assert_eq!(code(&[file("image/png", MAX_IMAGES + 1)]), "unsupported");
        assert!(check(&[file("image/png", 3)]).is_ok());
        let input = of(&[Part::Text("a".to_owned()), Part::Data("{}".to_owned())]).unwrap();
        assert_eq!(input, [json!({"type": "text", "text": "a\n\n{}", "text_elements": []})]);
    }
}
