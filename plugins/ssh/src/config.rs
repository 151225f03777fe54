//! What a run of this backend is told: `config_schema` in `backend.json`, and the files of its message.

use std::collections::BTreeMap;

use falconer_backend::{BlobRef, Failure, FarCommand, FarWords, Job, Part};
use serde::Deserialize;

/// `link_timeout_s` where nothing is said: as long as a laptop takes to change its network.
const LINK_S: u32 = 45;

/// The backend's own config as it is written. The host has checked it against the schema.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    command: Option<Vec<String>>,
    shell: Option<String>,
    cwd: Option<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    stdin: Option<String>,
    #[serde(default)]
    detach: bool,
    link_timeout_s: Option<u32>,
}

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Config {
    /// The command at the far end.
    pub command: FarCommand,
    /// What it reads.
    pub input: Vec<Piece>,
    /// It outlives the link and the host.
    pub detach: bool,
    /// Seconds of silence after which a link is lost.
    pub link_s: u32,
}

/// A piece of the command's input.
#[derive(Debug, Clone)]
pub enum Piece {
    /// As it is.
    Text(String),
    /// To be read by pieces.
    Blob(BlobRef),
}

impl Piece {
    fn size(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Blob(blob) => blob.size,
        }
    }
}

impl Config {
    /// Reads the config and the message of a job.
    ///
    /// # Errors
    /// `invalid_config`, with what to write instead.
    pub fn of(job: &Job) -> Result<Self, Failure> {
        let written: Written = job.config()?;
        let words = match (written.command, written.shell) {
            (Some(args), None) => FarWords::Args(args),
            (None, Some(line)) => FarWords::Shell(line),
            (Some(_), Some(_)) => return Err(wrong("`command` and `shell` are both given", "give one of them")),
            (None, None) => {
                return Err(wrong("there is no command", "give config.command, a list such as [\"systemctl\", \"status\", \"nginx\"]"));
            }
        };
        let input = match written.stdin {
            Some(text) => vec![Piece::Text(text)],
            None => Vec::new(),
        };
        let input = files(job, input)?;
        Ok(Self {
            command: FarCommand { words, cwd: written.cwd, env: written.env.into_iter().collect() },
            input,
            detach: written.detach,
            link_s: written.link_timeout_s.unwrap_or(LINK_S),
        })
    }

    /// Bytes that the command reads.
    #[must_use]
    pub fn input_bytes(&self) -> u64 {
        self.input.iter().map(Piece::size).sum()
    }

    /// The command as people write it.
    #[must_use]
    pub fn shown(&self) -> (String, Option<Vec<String>>) {
        match &self.command.words {
            FarWords::Args(args) => (args.first().cloned().unwrap_or_default(), Some(args.iter().skip(1).cloned().collect())),
            FarWords::Shell(line) => (line.clone(), None),
        }
    }
}

/// The files of the message are the input, in order. Its words are nobody's.
fn files(job: &Job, mut input: Vec<Piece>) -> Result<Vec<Piece>, Failure> {
    let stdin = !input.is_empty();
    for part in &job.message {
        match part {
            Part::Text(text) | Part::Data(text) if text.trim().is_empty() => {}
            Part::Text(_) | Part::Data(_) => {
                return Err(wrong(
                    "this backend takes no prompt: nobody there reads it",
                    "put the command into config.command, and what it reads into config.stdin or a file of the message",
                ));
            }
            Part::File(_) if stdin => {
                return Err(wrong("the input is given twice, by config.stdin and by a file", "give one of them"));
            }
            Part::File(blob) => input.push(Piece::Blob(blob.clone())),
        }
    }
    Ok(input)
}

fn wrong(message: &str, hint: &str) -> Failure {
    Failure::new("invalid_config", message).with_hint(hint)
}
