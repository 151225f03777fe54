//! Files of a message on the command line: read here, by the rights of whoever typed their names, and sent as bytes.

use std::fs::File;
use std::io::Read;

use camino::Utf8Path;

use crate::fault::{Fault, code};
use crate::run::request::{Message, MessagePart, PartKind};

/// The largest file that a message takes.
const MAX: u64 = 16 << 20;

/// A text and files as a message; none where there are no files, and the text says it all.
pub(super) fn message(text: Option<&str>, files: &[camino::Utf8PathBuf]) -> Result<Option<Message>, Fault> {
    if files.is_empty() {
        return Ok(None);
    }
    let parts = text.map(MessagePart::text).map(Ok).into_iter().chain(files.iter().map(|file| part(file))).collect::<Result<_, Fault>>()?;
    Ok(Some(Message { parts }))
}

fn part(path: &Utf8Path) -> Result<MessagePart, Fault> {
    let wrong = |why: String| Fault::new(code::INVALID_ARGUMENT, format!("--file {path}: {why}"));
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
    file.take(MAX + 1).read_to_end(&mut bytes).map_err(|error| wrong(error.to_string()))?;
    if bytes.len() as u64 > MAX {
        return Err(wrong(format!("it is larger than {} MiB", MAX >> 20)).hint("put it into the working directory and name it in the text"));
    }
    let name = path.file_name().map(str::to_owned);
    Ok(MessagePart { bytes_base64: Some(crate::base64::to_base64(&bytes)), name, ..MessagePart::of(PartKind::File) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_follow_the_text() {
        let dir = tempfile::tempdir().unwrap();
        let file = camino::Utf8PathBuf::from_path_buf(dir.path().join("a.txt")).unwrap();
        std::fs::write(&file, "foo").unwrap();
        let parts = message(Some("look"), std::slice::from_ref(&file)).unwrap().unwrap().parts;
        assert_eq!((parts.len(), parts[0].text.as_deref()), (2, Some("look")));
        assert_eq!((parts[1].bytes_base64.as_deref(), parts[1].name.as_deref()), (Some("Zm9v"), Some("a.txt")));
        assert_eq!(message(Some("look"), &[]).unwrap(), None);
        assert!(message(None, &[dir.path().join("none").to_str().unwrap().into()]).unwrap_err().message.contains("none"));
    }
}
