//! Files of known host keys (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT): what they know of a name, also where names are hashed.
//!
//! Which line is about a name is asked of `ssh-keygen -F`, which knows hashed names, patterns and `[host]:port`. Nothing is written
//! here.

use std::io;
use std::process::{Command, Stdio};

use camino::{Utf8Path, Utf8PathBuf};

use super::host_key::fingerprint;

/// More than a file of known keys has.
const LONGEST: u64 = 16 << 20;

/// A key that a file knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The file.
    pub file: Utf8PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// `@revoked` or `@cert-authority`.
    pub marker: Option<String>,
    /// The names as the line has them: patterns, or a hash.
    pub names: String,
    /// Such as `ssh-ed25519`.
    pub kind: String,
    /// Base64.
    pub key: String,
    /// `SHA256:…`
    pub fingerprint: String,
}

/// Whether a key stands anywhere in a file; a file that cannot be read holds none.
#[must_use]
pub fn mentions(file: &Utf8Path, key: &str) -> bool {
    read(file).is_ok_and(|text| text.lines().any(|line| line.split_ascii_whitespace().any(|word| word == key)))
}

fn read(file: &Utf8Path) -> io::Result<String> {
    let meta = std::fs::metadata(file)?;
    if !meta.is_file() || meta.len() > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(String::from_utf8_lossy(&std::fs::read(file)?).into_owned())
}

/// What a file knows of a name; nothing where there is no such file.
///
/// # Errors
/// `ssh-keygen` cannot be started.
pub fn entries(file: &Utf8Path, name: &str) -> io::Result<Vec<Entry>> {
    if !file.is_file() {
        return Ok(Vec::new());
    }
    let out = Command::new("ssh-keygen").args(["-F", name, "-f", file.as_str()]).stdin(Stdio::null()).stderr(Stdio::null()).output()?;
    // It ends with 1 where it finds nothing.
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let mut line = 0;
    let mut found = Vec::new();
    for text in said.lines() {
        // `# Host web found: line 3 REVOKED`
        if let Some(rest) = text.strip_prefix("# Host ") {
            let number = rest.rsplit_once(" found: line ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
            line = number.unwrap_or(0);
        } else if let Some(entry) = entry(file, line, text) {
            found.push(entry);
        }
    }
    Ok(found)
}

fn entry(file: &Utf8Path, line: usize, text: &str) -> Option<Entry> {
    let mut words = text.split_ascii_whitespace().peekable();
    let marker = words.next_if(|word| word.starts_with('@')).map(str::to_owned);
    let (names, kind, key) = (words.next()?, words.next()?, words.next()?);
    let fingerprint = fingerprint(key)?;
    Some(Entry { file: file.to_owned(), line, marker, names: names.to_owned(), kind: kind.to_owned(), key: key.to_owned(), fingerprint })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIG+sdJSIDakqw+//dj0UyBSGwDtq9RhRbk+8f5P4NVk9";
    const SHOWN: &str = "SHA256:V204vGykyeW/e5jo+u08skzc+fOn7r2kPGBNSklaOSw";

    #[test]
    fn plain_and_hashed_names_are_found() {
        if !std::path::Path::new("/usr/bin/ssh-keygen").exists() {
            assert!(std::env::var("FALCONER_TESTS_REQUIRE").as_deref() != Ok("all"), "ssh-keygen is missing: run tests/fetch");
            return eprintln!("no ssh-keygen here: tests/fetch installs it");
        }
        let temp = tempfile::tempdir().unwrap();
        let file = Utf8Path::from_path(temp.path()).unwrap().join("known");
        assert_eq!(entries(&file, "web").unwrap(), []);
        std::fs::write(&file, format!("# known\nweb,web.example ssh-ed25519 {KEY} a comment\n[web]:2222 ssh-ed25519 {KEY}\n@revoked * ssh-ed25519 {KEY}\n")).unwrap();
        let found = entries(&file, "[web]:2222").unwrap();
        let told: Vec<_> = found.iter().map(|entry| (entry.line, entry.marker.as_deref(), entry.fingerprint.as_str())).collect();
        assert_eq!(told, [(3, None, SHOWN), (4, Some("@revoked"), SHOWN)]);
        assert!(mentions(&file, KEY) && !mentions(&file, "AAAA"));
        let hashed = Command::new("ssh-keygen").args(["-q", "-H", "-f", file.as_str()]).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(hashed.success());
        let found = entries(&file, "web.example").unwrap();
        assert!(found[0].names.starts_with("|1|") && found[0].key == KEY, "{found:?}");
        assert_eq!(entries(&file, "db").unwrap().len(), 1, "the pattern of the revoked one");
    }
}
