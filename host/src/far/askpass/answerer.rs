//! The host's side: answers one ssh, and those ssh below it that make its jumps.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::{Arc, Mutex, PoisonError};

use camino::Utf8Path;
use rustix::fs::{Mode, OFlags};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::{Hop, LONGEST_ANSWER, LONGEST_PROMPT, PATIENCE, SOCKET, YES, peer};
use crate::capability::{Attendant, RunLog, Secrets};
use crate::tree::lineage::Ancestor;

/// So many may ask at the same time; ssh asks one after the other.
const AT_ONCE: usize = 8;
/// So much of a prompt is put into the run's log.
const SHOWN: usize = 200;

/// Answers the prompts of one ssh with the secrets of its hops: each prompt once, and only to a process that this ssh, or one
/// below it, has started for that. Waits without a timer; ends when it is dropped.
#[derive(Debug)]
pub struct Answerer {
    ssh: watch::Sender<Option<Ancestor>>,
    task: AbortHandle,
}

impl Answerer {
    /// Listens in the private directory of an ssh that is to be started. Until [`Attendant::started`] has said which one that is,
    /// whoever asks waits.
    ///
    /// # Errors
    /// What bind(2) says.
    pub fn listen(dir: &Utf8Path, hops: Vec<Hop>, secrets: Arc<Secrets>, log: RunLog) -> io::Result<Self> {
        let runtime = secrets.runtime().clone();
        // Through the directory: its path may be longer than an address of a socket (unix(7)).
        let opened = rustix::fs::open(dir.as_std_path(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let listener = {
            let _serving = runtime.enter();
            UnixListener::bind(format!("/proc/self/fd/{}/{SOCKET}", opened.as_raw_fd()))?
        };
        std::fs::set_permissions(dir.join(SOCKET), std::fs::Permissions::from_mode(0o600))?;
        let (ssh, known) = watch::channel(None);
        let answers = Arc::new(Answers { hops, secrets, log, ssh: known, given: Mutex::default() });
        let task = runtime.spawn(serve(listener, answers)).abort_handle();
        Ok(Self { ssh, task })
    }
}

impl Attendant for Answerer {
    fn started(&self, pid: u32) {
        // One that has ended already asks nothing any more.
        if let Ok(ssh) = Ancestor::of(pid) {
            self.ssh.send_replace(Some(ssh));
        }
    }
}

impl Drop for Answerer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: UnixListener, answers: Arc<Answers>) {
    // Aborted with the task.
    let mut asking = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if asking.len() < AT_ONCE => {
                    asking.spawn(tokio::time::timeout(PATIENCE, Arc::clone(&answers).answer(stream)));
                }
                Ok(_) => {}
                // No descriptors left: one that is answered gives its own back; without any, nobody is served any more.
                Err(_) if asking.is_empty() => return,
                Err(_) => drop(asking.join_next().await),
            },
            Some(_) = asking.join_next() => {}
        }
    }
}

struct Answers {
    hops: Vec<Hop>,
    secrets: Arc<Secrets>,
    log: RunLog,
    ssh: watch::Receiver<Option<Ancestor>>,
    /// The prompts that were answered, each with its hop.
    given: Mutex<BTreeSet<(String, String)>>,
}

impl Answers {
    async fn answer(self: Arc<Self>, mut stream: UnixStream) {
        let mut prompt = Vec::new();
        if (&mut stream).take(LONGEST_PROMPT + 1).read_to_end(&mut prompt).await.is_err() {
            return;
        }
        let shown: String = String::from_utf8_lossy(&prompt).chars().take(SHOWN).collect();
        let (stream, secret) = match self.judge(stream, prompt).await {
            Ok(judged) => judged,
            Err(why) => return self.log.line("host", &format!("ssh's question is not answered: {why}: {shown}")),
        };
        let Ok(mut stream) = UnixStream::from_std(stream) else { return };
        let mut answer = vec![YES];
        answer.extend_from_slice(&secret);
        // Who does not wait for its answer gets none.
        let _ = stream.write_all(&answer).await;
    }

    /// The answer, and the way for it.
    async fn judge(&self, stream: UnixStream, prompt: Vec<u8>) -> Result<(StdStream, Arc<[u8]>), String> {
        if prompt.len() as u64 > LONGEST_PROMPT {
            return Err("it is too long".into());
        }
        let prompt = String::from_utf8(prompt).map_err(|_| "it is no text")?;
        let mut known = self.ssh.clone();
        let ssh = known.wait_for(Option::is_some).await.ok().and_then(|ssh| *ssh).ok_or("its ssh is gone")?;
        let stream = stream.into_std().map_err(|error| error.to_string())?;
        // Looking can take as long as whoever is looked at likes.
        let looked = tokio::task::spawn_blocking(move || peer::asker(&stream, ssh).map(|arguments| (stream, arguments)));
        let (stream, arguments) = looked.await.map_err(|error| error.to_string())??;
        let hop = self.hops.iter().find(|hop| is_of(&arguments, hop)).ok_or("what asks is no ssh of a hop")?;
        let name = hop.secret(&prompt)?;
        if !self.given.lock().unwrap_or_else(PoisonError::into_inner).insert((hop.name.clone(), prompt.clone())) {
            return Err("it was answered before".into());
        }
        let value = self.secrets.value_at_last(name).await;
        let value = value.ok_or_else(|| format!("the secret `{name}` is not granted"))?;
        let value = value.map_err(|why| format!("the secret `{name}` has no value: {why}"))?;
        if value.len() as u64 >= LONGEST_ANSWER || value.iter().any(|byte| b"\r\n\0".contains(byte)) {
            return Err(format!(
                "the secret `{name}` is longer than {} bytes, or holds a line end: ssh would take a part of it",
                LONGEST_ANSWER - 1
            ));
        }
        Ok((stream, value))
    }
}

/// Whether this is the ssh of a hop: it was given its name behind `--`.
fn is_of(arguments: &[Vec<u8>], hop: &Hop) -> bool {
    let at = arguments.iter().position(|argument| argument == b"--");
    at.and_then(|at| arguments.get(at + 1)).is_some_and(|name| name == hop.name.as_bytes())
}
