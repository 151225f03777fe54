//! `[profiles.NAME]`: standing instructions that a run may name.

use camino::Utf8PathBuf;
use serde::Serialize;

use crate::fault::{Fault, code};

/// The most that instructions may hold, in bytes.
pub const INSTRUCTIONS: u64 = 256 << 10;

/// Where standing instructions come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Profile {
    /// A file, read whenever a run names it, so that an edit counts for the next run.
    File(Utf8PathBuf),
    /// The configuration.
    Text(String),
}

impl Profile {
    /// The instructions now; `name` is for the message. A file that is gone, too large or no text is a fault, never skipped.
    pub fn instructions(&self, name: &str) -> Result<String, Fault> {
        let file = match self {
            Self::Text(text) => return Ok(text.clone()),
            Self::File(file) => file,
        };
        let unreadable = |why: String| {
            Fault::new(code::INVALID_ARGUMENT, format!("profile `{name}`: {file}: {why}"))
                .hint(format!("mend the file, or `[profiles.{name}] file` in the configuration"))
        };
        let meta = std::fs::metadata(file).map_err(|error| unreadable(error.to_string()))?;
        if !meta.is_file() {
            return Err(unreadable("not a regular file".into()));
        }
        if meta.len() > INSTRUCTIONS {
            return Err(unreadable(format!("larger than {}", super::units::show_size(INSTRUCTIONS))));
        }
        std::fs::read_to_string(file).map_err(|error| unreadable(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_read_when_it_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = Utf8PathBuf::from_path_buf(dir.path().join("reviewer.md")).unwrap();
        let profile = Profile::File(file.clone());
        let missing = profile.instructions("reviewer").unwrap_err();
        assert_eq!(missing.code, code::INVALID_ARGUMENT);
        assert!(missing.message.contains("profile `reviewer`"), "{}", missing.message);
        std::fs::write(&file, "Be strict.").unwrap();
        assert_eq!(profile.instructions("reviewer").unwrap(), "Be strict.");
        std::fs::write(&file, vec![b'x'; 300 << 10]).unwrap();
        assert!(profile.instructions("reviewer").unwrap_err().message.contains("larger than 256 KiB"));
        assert_eq!(Profile::Text("Hi".into()).instructions("x").unwrap(), "Hi");
    }
}
