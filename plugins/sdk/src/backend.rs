//! The trait that a backend implements, and how the exports of the contract reach it.
//!
//! One instance of the component is one run, so the state is one value: [`Run`] holds it between calls.

use std::cell::RefCell;
use std::time::Duration;

use crate::{Answer, Draft, Events, Failure, Info, Job, Outcome, Step, step};

/// A backend. The value is the state of one run, from `start` to the end.
///
/// Calls never overlap and must not block: a call that takes more than its share of CPU time ends the run with
/// `backend_busy`, one that waits with `backend_blocked`. After `start`, `reply` and `cancel` the host polls once.
pub trait Backend: Sized + 'static {
    /// What the backend is. Called in an instance of its own, where every import of the contract traps.
    fn describe() -> Info;

    /// What a run of this job would do; a dry run. Called in an instance of its own, where every import but `log` traps.
    /// Without one, the plan says that the backend cannot tell.
    ///
    /// # Errors
    /// What `start` would refuse without asking the host.
    fn plan(_job: &Job) -> Result<Draft, Failure> {
        Ok(Draft {
            summary: "this backend does not plan".to_owned(),
            actions: Vec::new(),
            unknown: vec!["all that it would do".to_owned()],
        })
    }

    /// Begins the run.
    ///
    /// # Errors
    /// Ends the run as `failed`; as `rejected` where the code is `rejected`.
    fn start(job: Job) -> Result<Self, Failure>;

    /// What happened since the last call. Read each source until it is pending, or return [`Events::again`].
    fn poll(&mut self) -> Step;

    /// Takes an answer to a question, or a message to a live run.
    ///
    /// # Errors
    /// The answer was not taken; the run goes on.
    fn reply(&mut self, _answer: Answer) -> Result<(), Failure> {
        Err(Failure::new("unsupported", "this backend asks no questions and takes no messages while it runs"))
    }

    /// Ends the run as politely as the far end can be asked to. Polls go on, so that its last events count; return
    /// [`Outcome::Stopped`] when it has ended. What does not end in its time is terminated, then killed, by the host.
    ///
    /// # Errors
    /// Nothing could be asked, so the host goes on to terminate at once. That is what happens without one.
    fn cancel(&mut self, _reason: &str, _within: Duration) -> Result<(), Failure> {
        Err(Failure::new("unsupported", "this backend has no polite way to stop"))
    }
}

/// The state of the run in this instance; what [`export!`] makes one of.
#[derive(Debug)]
pub struct Run<B> {
    state: RefCell<Option<B>>,
    /// Of a step that held more than one may: what is left of it.
    left: RefCell<Option<Step>>,
}

impl<B> Default for Run<B> {
    fn default() -> Self {
        Self { state: RefCell::new(None), left: RefCell::new(None) }
    }
}

impl<B: Backend> Run<B> {
    /// The export `start`.
    ///
    /// # Errors
    /// Those of [`Backend::start`].
    pub fn start(&self, job: Job) -> Result<(), Failure> {
        let state = B::start(job)?;
        self.state.replace(Some(state));
        Ok(())
    }

    /// The export `poll`. A step of more events than one may hold is told in several.
    pub fn poll(&self) -> Step {
        let step = self.left.take().unwrap_or_else(|| match self.state.borrow_mut().as_mut() {
            Some(state) => state.poll(),
            None => Events::new().finish(Outcome::Failed(not_started())),
        });
        let (step, left) = step::parted(step);
        self.left.replace(left);
        step
    }

    /// The export `reply`.
    ///
    /// # Errors
    /// Those of [`Backend::reply`].
    pub fn reply(&self, answer: Answer) -> Result<(), Failure> {
        self.state.borrow_mut().as_mut().ok_or_else(not_started)?.reply(answer)
    }

    /// The export `cancel`.
    ///
    /// # Errors
    /// Those of [`Backend::cancel`].
    pub fn cancel(&self, reason: &str, within: Duration) -> Result<(), Failure> {
        self.state.borrow_mut().as_mut().ok_or_else(not_started)?.cancel(reason, within)
    }
}

fn not_started() -> Failure {
    Failure::new("not_started", "the instance was called before start succeeded")
}

/// Makes a type that implements [`Backend`] what this component exports. Once in a crate.
///
/// Off WebAssembly it exports nothing (a native linker does not take the names), and only checks the type.
#[macro_export]
macro_rules! export {
    ($backend:ty) => {
        #[cfg(not(target_family = "wasm"))]
        const _: fn($crate::Job) -> ::std::result::Result<$backend, $crate::Failure> = <$backend as $crate::Backend>::start;

        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Component;

            ::std::thread_local! {
                static RUN: $crate::Run<$backend> = ::std::default::Default::default();
            }

            impl $crate::bindings::exports::falconer::backend::adapter::Guest for Component {
                fn describe() -> $crate::Info {
                    <$backend as $crate::Backend>::describe()
                }
                fn plan(job: $crate::Job) -> ::std::result::Result<$crate::Draft, $crate::Failure> {
                    <$backend as $crate::Backend>::plan(&job)
                }
                fn start(job: $crate::Job) -> ::std::result::Result<(), $crate::Failure> {
                    RUN.with(|run| run.start(job))
                }
                fn poll() -> $crate::Step {
                    RUN.with(|run| run.poll())
                }
                fn reply(answer: $crate::Answer) -> ::std::result::Result<(), $crate::Failure> {
                    RUN.with(|run| run.reply(answer))
                }
                fn cancel(reason: ::std::string::String, within_ms: u32) -> ::std::result::Result<(), $crate::Failure> {
                    RUN.with(|run| run.cancel(&reason, ::std::time::Duration::from_millis(within_ms.into())))
                }
            }

    $crate::bindings::export_bindings!(Component with_types_in $crate::bindings);
        };
    };
}
