//! Files of known host keys (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT): what they know of a name, also where names are hashed.
//!
//! For programs that ssh or a person has started: the host itself starts nothing but shims. Which line is about a name is asked of `ssh-keygen -F`, which knows hashed names, patterns and `[host]:port`. Only what a person
//! asks for is written: a new file is theirs alone, and a line is appended or taken out as a whole.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::process::{Command, Stdio};

use camino::{Utf8Path, Utf8PathBuf};

use super::host_key::fingerprint;

/// Its name in the data directory: the keys that a person has trusted.
const OWN: &str = "known_hosts";
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

/// Where the keys are that a person has trusted for targets that name no file.
#[must_use]
pub fn own(data_dir: &Utf8Path) -> Utf8PathBuf {
    data_dir.join(OWN)
}

/// Where the keys are that a person's own ssh knows.
#[must_use]
pub fn persons(home: &Utf8Path) -> Utf8PathBuf {
    home.join(".ssh/known_hosts")
}

/// Appends lines, each without its end; makes the file (0600) and its directory (0700) where they are not there.
///
/// # Errors
/// What the system says.
pub fn append(file: &Utf8Path, lines: &[String]) -> io::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    if let Some(dir) = file.parent().filter(|dir| !dir.is_dir()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    let ended = match std::fs::read(file) {
        Ok(text) => text.last().is_none_or(|last| *last == b'\n'),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(error),
    };
    let text = format!("{}{}\n", if ended { "" } else { "\n" }, lines.join("\n"));
    let mut opened = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(file)?;
    opened.write_all(text.as_bytes())?;
    opened.sync_all()
}

/// Takes lines out of a file, where they are still as they were found: all of them or none.
///
/// # Errors
/// What the system says; `InvalidData` where the file has changed meanwhile.
pub fn remove(file: &Utf8Path, entries: &[&Entry]) -> io::Result<()> {
    // The file itself, where this is a link to it.
    let place = file.canonicalize_utf8()?;
    let text = std::fs::read(&place)?;
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    let mut gone = BTreeSet::new();
    for wanted in entries {
        let line = wanted.line.checked_sub(1).and_then(|at| lines.get(at)).map(|line| String::from_utf8_lossy(line));
        if line.and_then(|line| entry(file, wanted.line, &line)).as_ref() != Some(*wanted) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it has changed meanwhile; try again"));
        }
        gone.insert(wanted.line);
    }
    let kept: Vec<u8> =
        lines.iter().enumerate().filter(|(at, _)| !gone.contains(&(at + 1))).flat_map(|(_, line)| line.iter().copied()).collect();
    let dir = place.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut new = tempfile::NamedTempFile::new_in(dir)?;
    new.write_all(&kept)?;
    new.as_file().set_permissions(std::fs::metadata(&place)?.permissions())?;
    new.as_file().sync_all()?;
    new.persist(&place).map_err(|error| error.error)?;
    Ok(())
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
    fn lines_are_appended_to_a_file_that_is_ours_alone() {
        use std::os::unix::fs::PermissionsExt;
        let temp = tempfile::tempdir().unwrap();
        let file = Utf8Path::from_path(temp.path()).unwrap().join("new/known");
        append(&file, &["a b c".into()]).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(file.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        std::fs::write(&file, "no end").unwrap();
        append(&file, &["a".into(), "b".into()]).unwrap();
        append(&file, &[]).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "no end\na\nb\n");
    }

    #[test]
    fn plain_and_hashed_names_are_found() {
        if !std::path::Path::new("/usr/bin/ssh-keygen").exists() {
            assert!(std::env::var("FALCONER_TESTS_REQUIRE").as_deref() != Ok("all"), "ssh-keygen is missing: run tests/fetch");
            return eprintln!("no ssh-keygen here: tests/fetch installs it");
        }
        let temp = tempfile::tempdir().unwrap();
        let file = Utf8Path::from_path(temp.path()).unwrap().join("known");
        assert_eq!(entries(&file, "web").unwrap(), []);
        std::fs::write(
            &file,
            format!("# known\nweb,web.example ssh-ed25519 {KEY} a comment\n[web]:2222 ssh-ed25519 {KEY}\n@revoked * ssh-ed25519 {KEY}\n"),
        )
        .unwrap();
        let found = entries(&file, "[web]:2222").unwrap();
        let told: Vec<_> = found.iter().map(|entry| (entry.line, entry.marker.as_deref(), entry.fingerprint.as_str())).collect();
        assert_eq!(told, [(3, None, SHOWN), (4, Some("@revoked"), SHOWN)]);
        assert!(mentions(&file, KEY) && !mentions(&file, "AAAA"));
        let hashed = Command::new("ssh-keygen")
            .args(["-q", "-H", "-f", file.as_str()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(hashed.success());
        let found = entries(&file, "web.example").unwrap();
        assert!(found[0].names.starts_with("|1|") && found[0].key == KEY, "{found:?}");
        let gone = found[0].clone();
        let before = std::fs::read_to_string(&file).unwrap();
        assert!(remove(&file, &[&Entry { line: gone.line + 1, ..gone.clone() }]).is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), before, "all or none");
        remove(&file, &[&gone]).unwrap();
        assert!(entries(&file, "web.example").unwrap().iter().all(|entry| entry.marker.is_some()));
        assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count() + 1, before.lines().count());
        assert_eq!(entries(&file, "db").unwrap().len(), 1, "the pattern of the revoked one");
    }
}
