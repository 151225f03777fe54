//! Files that a message names: the path of a `file:` URI (RFC 8089), a bounded read, and what kind of file it is by its first bytes.
//!
//! Whether a file may be read at all is [`crate::policy`]'s to say; what it opened is what is read here.

use std::fs::File;
use std::io::{self, Read};

use camino::Utf8PathBuf;

/// The path that a URI names; or what is wrong with it.
pub(super) fn path_of(uri: &str) -> Result<Utf8PathBuf, String> {
    let rest = uri.strip_prefix("file:").ok_or("is no `file:` URI; no other kind is read")?;
    let path = match rest.strip_prefix("//") {
        Some(rest) => {
            let (host, _) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            if !host.is_empty() && !host.eq_ignore_ascii_case("localhost") {
                return Err("names another machine".into());
            }
            &rest[host.len()..]
        }
        None => rest,
    };
    if path.contains(['?', '#']) {
        return Err("has a query or a fragment; write these characters as %3F and %23".into());
    }
    let path = decoded(path).ok_or("has a % that begins no character of UTF-8")?;
    if !path.starts_with('/') || path.contains('\0') {
        return Err("names no absolute path".into());
    }
    Ok(path.into())
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let (high, low) = (digit()?, digit()?);
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

/// All of a file; the inner error is its size, where that is more than `max`.
pub(super) fn read(file: File, max: usize) -> io::Result<Result<Vec<u8>, u64>> {
    let size = file.metadata()?.len();
    if size > max as u64 {
        return Ok(Err(size));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    file.take(max as u64 + 1).read_to_end(&mut bytes)?;
    Ok(if bytes.len() > max { Err(bytes.len() as u64) } else { Ok(bytes) })
}

/// The media type of a file, by its first bytes.
pub(super) fn mime_of(bytes: &[u8]) -> &'static str {
    match bytes {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => "image/png",
        [0xff, 0xd8, 0xff, ..] => "image/jpeg",
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => "image/gif",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "image/webp",
        [b'%', b'P', b'D', b'F', b'-', ..] => "application/pdf",
        _ if std::str::from_utf8(bytes).is_ok_and(|text| !text.contains('\0')) => "text/plain",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_names_a_path_of_this_machine() {
        let path = |uri: &str| path_of(uri).map(|path| path.to_string());
        assert_eq!(path("file:///a/b%20c.png"), Ok("/a/b c.png".into()));
        assert_eq!(path("file://localhost/a"), Ok("/a".into()));
        assert_eq!(path("file:/a"), Ok("/a".into()));
        for uri in [
            "https://example.org/a",
            "/a",
            "file://other/a",
            "file://",
            "file:a",
            "file:///a%",
            "file:///a%zz",
            "file:///%ff",
            "file:///a%00",
            "file:///a#b",
        ] {
            assert!(path(uri).is_err(), "{uri}");
        }
    }

    #[test]
    fn kinds_are_told_by_the_first_bytes() {
        assert_eq!(mime_of(b"\x89PNG\r\n\x1a\n.."), "image/png");
        assert_eq!(mime_of(b"\xff\xd8\xff\xe0"), "image/jpeg");
        assert_eq!(mime_of(b"GIF89a"), "image/gif");
        assert_eq!(mime_of(b"RIFF\x01\x02\x03\x04WEBPVP8 "), "image/webp");
        assert_eq!(mime_of("größe".as_bytes()), "text/plain");
        assert_eq!(mime_of(b"\x00\xff"), "application/octet-stream");
    }
}
