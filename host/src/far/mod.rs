//! The way to a target: what a child that a component wants at the far end is started with.
//!
//! [`Remote`] belongs to one run. Each time it judges the command, resolves the address (once, and that very address is connected
//! to), writes the only configuration file that ssh is given ([`ssh_config`]), and wraps the command for the shell there
//! ([`wrapper`]). It leaves to the component what ssh and the wrapper then say, to [`crate::policy`] what is allowed, and to
//! [`crate::capability`] who may ask at all.
//!
//! What is refused is a coded failure for the component, with the rule; nothing is started then, and nothing was connected to.

mod address;
pub mod askpass;
pub mod host_key;
pub mod known;
mod link;
pub mod scratch;
mod ssh_config;
pub mod wrapper;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use camino::Utf8PathBuf;
use tokio::runtime::Handle;

use crate::capability::{Attendant, FarEnd, Prepared, Preparing, RunLog, Secrets};
use crate::contract::falconer::backend::process::{FarAction, FarStart, SpawnError};
use crate::contract::falconer::backend::types::{Failure, FarWords};
use crate::fault::{Fault, code};
use crate::id::RunId;
use crate::policy::Policy;
use crate::policy::command::{Asked, Command, FarCommand};
use crate::policy::inventory::Host;
use askpass::{Answerer, Hop as Asking};
use link::note;
pub use link::{LINK, LOG, env, is_wanted, link, main};
use scratch::{Room, Scratch};
use ssh_config::Page;
use wrapper::Mode;

/// How long a link may be silent when only its end is asked for, in seconds.
const LINK_OF_AN_END: u32 = 15;

/// One run's way to its target.
pub struct Remote {
    run: RunId,
    backend: String,
    target: String,
    policy: Policy,
    scratch: Scratch,
    log: RunLog,
    begun: AtomicBool,
    /// Where the way begins, once it was looked up: a name may lead to several machines, and only one has the run.
    first: Mutex<Option<String>>,
    /// Addresses are looked up here, apart from guests.
    runtime: Handle,
}

impl Remote {
    /// Of a run, to the target of this name; `begun`: an earlier life of it may have started something there. What it writes into the
    /// data directory goes with it. To be made on the runtime that serves.
    #[must_use]
    pub fn new(run: RunId, backend: &str, target: &str, policy: Policy, log: RunLog, begun: bool) -> Self {
        let scratch = Scratch::of(&policy.config().data_dir, run);
        Self {
            run,
            backend: backend.to_owned(),
            target: target.to_owned(),
            policy,
            scratch,
            log,
            begun: AtomicBool::new(begun),
            first: Mutex::default(),
            runtime: Handle::current(),
        }
    }

    async fn made_ready(&self, label: String, program: Utf8PathBuf, action: FarAction, secrets: Arc<Secrets>) -> Result<Prepared, Fault> {
        let (mode, link_s) = match &action {
            FarAction::Run(start) => {
                (Mode::Run { command: self.judged(start)?, input: start.input_bytes, link_s: start.link_s }, start.link_s)
            }
            FarAction::Detach(start) => {
                (Mode::Detach { command: self.judged(start)?, input: start.input_bytes, link_s: start.link_s }, start.link_s)
            }
            FarAction::Attach(place) => (Mode::Attach { stdout: place.stdout, stderr: place.stderr, link_s: place.link_s }, place.link_s),
            FarAction::End(end) => (Mode::End { grace_s: end.grace_s }, LINK_OF_AN_END),
        };
        let command = wrapper::command_line(self.run, &mode).map_err(|error| {
            Fault::new(code::VALUE_TOO_LARGE, error.to_string()).hint("send what is large as the command's input (stdin)")
        })?;
        let (policy, target) = (self.policy.clone(), self.target.clone());
        let known = self.first.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let looked_up = self.runtime.spawn(async move { address::hops(&policy, &target, known).await });
        let hops = looked_up.await.map_err(|error| Fault::new(code::INTERNAL, format!("a look-up failed: {error}")))??;
        *self.first.lock().unwrap_or_else(PoisonError::into_inner) = hops.first().map(|hop| hop.to.clone());
        let room = self.scratch.room(&label).map_err(|error| unwritable(&error))?;
        let log = room.log().map_err(|error| unwritable(&error))?;
        let called = link(room.dir()).map_err(|error| unwritable(&error))?;
        let way: Vec<&Host> = hops.iter().map(|hop| &hop.host).collect();
        host_key::write_pinned(room.dir(), &way).map_err(|error| unwritable(&error))?;
        let page = Page {
            called: &called,
            hops: &hops,
            program: &program,
            config: &room.file("config"),
            log: &log.path,
            home: &self.policy.config().home,
            trusted: &self.policy.config().data_dir.join(KNOWN_HOSTS),
            connect_s: self.policy.config().network.connect.as_secs().max(1),
            link_s,
        };
        room.write("config", &page.write()?).map_err(|error| unwritable(&error))?;
        let asking: Vec<Asking> = way.into_iter().map(Asking::of).collect();
        let (mut variables, answerer) = if asking.iter().any(Asking::has_secrets) {
            let answerer = Answerer::listen(room.dir(), asking, secrets, self.log.clone()).map_err(|error| unwritable(&error))?;
            (env(&called), Some(answerer))
        } else {
            // Nobody is there to be asked.
            (vec![("SSH_ASKPASS_REQUIRE".to_owned(), "never".into())], None)
        };
        // The program runs a jump by the login's shell, whichever that is.
        variables.push(("SHELL".to_owned(), "/bin/sh".into()));
        if matches!(action, FarAction::Run(_) | FarAction::Detach(_)) {
            self.begun.store(true, Ordering::Relaxed);
        }
        Ok(Prepared {
            target: self.target.clone(),
            command,
            config: page.config.to_string(),
            log,
            rule: None,
            address: hops.last().map(|hop| hop.to.clone()),
            env: variables,
            attendant: Some(Box::new(Attending { answerer, _room: room })),
        })
    }

    /// Judges a command once more: what is judged is what runs.
    fn judged(&self, start: &FarStart) -> Result<FarCommand, Fault> {
        let asked = &start.command;
        let command = match &asked.words {
            FarWords::Args(args) => Command::List(args),
            FarWords::Shell(line) => Command::Shell(line),
        };
        let target = self.policy.inventory().target(&self.target)?;
        let asked = Asked { backend: &self.backend, target: Some(target), command, cwd: asked.cwd.as_deref(), env: &asked.env };
        let allowed = self.policy.command(&asked).map_err(|refused| refused.fault())?;
        Ok(allowed.command)
    }
}

/// The file in the data directory that holds what a person trusted (`falconer ssh trust`).
pub const KNOWN_HOSTS: &str = "known_hosts";

/// What waits upon a child, and what is there for it alone.
struct Attending {
    answerer: Option<Answerer>,
    /// Goes with the child.
    _room: Room,
}

impl Attendant for Attending {
    fn started(&self, pid: u32) {
        if let Some(answerer) = &self.answerer {
            answerer.started(pid);
        }
    }
}

impl FarEnd for Remote {
    fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    fn prepare(&self, label: String, program: Utf8PathBuf, action: FarAction, secrets: Arc<Secrets>) -> Preparing<'_> {
        Box::pin(async move { self.made_ready(label, program, action, secrets).await.map_err(refusal) })
    }
}

fn refusal(fault: Fault) -> SpawnError {
    SpawnError::Far(Failure { code: fault.code.into_owned(), message: fault.message, retryable: fault.retryable, hint: fault.hint })
}

fn unwritable(error: &std::io::Error) -> Fault {
    Fault::new(code::FAR_UNPREPARED, format!("what ssh needs cannot be written: {error}"))
        .hint("look at the space and the rights of falconer's data directory")
        .retryable()
}
