//! A model's API on loopback, which plays the script that the prompt holds, and notes what it is sent.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::fetched;

/// The key that it takes. At least eight bytes, so that it may be a secret.
pub const KEY: &str = "mock-key-0123456789";

/// A mock, until it is dropped.
pub struct Mock {
    child: Child,
    pub url: String,
    log: PathBuf,
}

impl Mock {
    /// The Messages API, for claude.
    pub fn anthropic(python: &Path, log: PathBuf) -> Self {
        Self::start(python, "fixtures/mock_anthropic.py", log)
    }

    /// The Responses API, for codex.
    pub fn openai(python: &Path, log: PathBuf) -> Self {
        Self::start(python, "fixtures/mock_openai.py", log)
    }

    fn start(python: &Path, file: &str, log: PathBuf) -> Self {
        let mut command = Command::new(python);
        // Nothing is written beside the sources.
        command.arg("-B").arg(fetched::of_tests(file)).args(["--port", "0", "--log-bodies", "--key", KEY, "--log"]).arg(&log);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        Self { child, url: ready["base_url"].as_str().unwrap().into(), log }
    }

    /// Whether it has noted this.
    pub fn noted(&self, word: &str) -> bool {
        fs::read_to_string(&self.log).is_ok_and(|text| text.contains(word))
    }

    /// What it noted, in order.
    pub fn rows(&self) -> Vec<Value> {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The bodies of the requests to the model that hold this word, in their order.
    pub fn bodies(&self, word: &str) -> Vec<Value> {
        let asks = |body: &Value| body["messages"].is_array() || body["input"].is_array();
        let wanted = |row: &Value| row["ev"] == "request" && asks(&row["body"]) && row["body"].to_string().contains(word);
        self.rows().into_iter().filter(wanted).map(|mut row| row["body"].take()).collect()
    }

    /// How the response ended to the first request that holds this word.
    pub fn outcome(&self, word: &str) -> Option<String> {
        let rows = self.rows();
        let number = &rows.iter().find(|row| row["ev"] == "request" && row["body"].to_string().contains(word))?["n"];
        let end = rows.iter().find(|row| row["ev"] == "response_end" && row["n"] == *number)?;
        end["outcome"].as_str().map(str::to_owned)
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
