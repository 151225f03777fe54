//! What a job asks, read.

use serde::de::DeserializeOwned;

use crate::{Failure, Job, Part};

impl Job {
    /// The message as text, its parts joined by an empty line; data parts as JSON. Empty when there is none.
    ///
    /// # Errors
    /// `unsupported`: the message holds a file, which this cannot show as text.
    pub fn prompt(&self) -> Result<String, Failure> {
        text_of(&self.message)
    }

    /// The config, which the host checked against the schema of `backend.json`.
    ///
    /// # Errors
    /// `invalid_config`: the schema lets through what the type does not.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let text = if self.config.is_empty() { "{}" } else { &self.config };
        serde_json::from_str(text).map_err(|error| Failure::new("invalid_config", format!("config: {error}")))
    }
}

/// The text of a message's parts.
///
/// # Errors
/// `unsupported`: a file is among them.
fn text_of(parts: &[Part]) -> Result<String, Failure> {
    let mut text = String::new();
    for part in parts {
        if !text.is_empty() {
            text.push_str("\n\n");
        }
        match part {
            Part::Text(piece) | Part::Data(piece) => text.push_str(piece),
            Part::File(file) => {
                let name = file.file_name.as_deref().unwrap_or(&file.id);
                return Err(Failure::new("unsupported", format!("this backend takes text only; {name} is a file"))
                    .with_hint("put the file into the working directory and name its path in the message"));
            }
        }
    }
    Ok(text)
}
