//! One bait: what its processes are known by, when they stand, and that none lives any more.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use super::look::{self, Alive};
use super::way;
use crate::client::Client;
use crate::patience::until;

/// A tree that a mode of `falconer-bait` makes.
pub struct Bait {
    pub mode: &'static str,
    /// A file; every process of the bait has its path among its arguments and a shared lock on it.
    token: PathBuf,
}

impl Bait {
    pub fn new(dir: PathBuf, mode: &'static str) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // The directory is a random one; its name goes in, for the name of the cgroup of a mover. No token begins another.
        let test = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        Self { mode, token: dir.join(format!("bait-{number}-{test}")) }
    }

    /// What its processes are known by.
    pub fn token(&self) -> &str {
        self.token.to_str().unwrap()
    }

    pub fn arguments(&self) -> Vec<String> {
        vec![self.mode.to_owned(), self.token().to_owned()]
    }

    /// Waits until its tree stands: by its own word, or by the name of the one that nobody listens to. The word is kept, for
    /// some cannot do here what they are for.
    #[track_caller]
    pub fn stands(&self, client: &Client, run: &str) -> Result<(), String> {
        if self.mode == "writer" {
            until("a full pipe", || self.alive().iter().any(|alive| alive.name == "bait-full").then_some(()));
            return Ok(());
        }
        let said = client.event(run, "the word of the bait", |event| {
            event["type"] == "command_output" && event["data"]["text"].as_str().is_some_and(|text| text.contains('\n'))
        });
        let said = said["data"]["text"].as_str().unwrap_or_default();
        if said.lines().any(|line| line == "ready") { Ok(()) } else { Err(said.trim().to_owned()) }
    }

    /// Its processes that can be seen.
    pub fn alive(&self) -> Vec<Alive> {
        look::with_argument(self.token())
    }

    /// Whether any of it lives, also what is too quick to be seen: the lock is held as long as one of them is there.
    pub fn is_held(&self) -> bool {
        File::open(&self.token).is_ok_and(|file| file.try_lock().is_err())
    }

    /// Nothing of it lives now.
    #[track_caller]
    pub fn is_gone(&self, run: &str) {
        let (seen, marked) = (self.alive(), look::with_mark(run));
        assert!(seen.is_empty(), "{}: {} live on: {:?}", self.mode, seen.len(), &seen[..seen.len().min(8)]);
        assert!(marked.is_empty(), "{}: {} live on with the mark: {:?}", self.mode, marked.len(), &marked[..marked.len().min(8)]);
        assert!(!self.is_held(), "{}: something that cannot be seen lives on", self.mode);
    }

    /// Ends what is left of it, as far as one can who may only look and kill.
    pub fn end(&self) {
        let fits = |process: &std::path::Path| look::shows(process, "cmdline", self.token());
        for _ in 0..1_000 {
            let alive = self.alive();
            if alive.is_empty() && !self.is_held() {
                break;
            }
            for process in alive {
                process.kill(fits);
            }
        }
    }
}

impl Drop for Bait {
    fn drop(&mut self) {
        self.end();
        for group in way::named(self.token.file_name().unwrap().to_str().unwrap()) {
            let _ = fs::remove_dir(group);
        }
    }
}
