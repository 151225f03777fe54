//! What this program is when a test, or a client of a test, has started it.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use falconer::config::{Config, Overrides};
use falconer::daemon::connect::Local;
use falconer::daemon::lock::Lock;
use falconer::daemon::{Identity, Ready, Scratch, Service, Session, detach, log, pipe, run};
use falconer::fault::Fault;
use falconer::id::RunId;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

/// A file with this name in the data directory makes the service refuse to start, with its content as the reason.
pub const REFUSE: &str = "refuse";
/// A file with this name is made when the service is shut down.
pub const SHUT_DOWN: &str = "shut-down";

fn overrides(args: &[String]) -> Overrides {
    let mut overrides = Overrides::from_env().unwrap();
    for pair in args.windows(2) {
        let value = Some(Utf8PathBuf::from(&pair[1]));
        match pair[0].as_str() {
            "--config" => overrides.config = value,
            "--data-dir" => overrides.data_dir = value,
            "--plugins" => overrides.plugins = value,
            _ => {}
        }
    }
    overrides
}

pub fn mcp(args: &[String]) -> ExitCode {
    match pipe::run(&Local::find(&overrides(args)).unwrap()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("{}: {} ({})", fault.code, fault.message, fault.hint.unwrap_or_default());
            ExitCode::from(2)
        }
    }
}

pub fn serve(args: &[String]) -> ExitCode {
    assert_eq!(args[0], "--detached", "only as a started daemon");
    if args[1] == detach::BEGIN {
        let rest: Vec<OsString> = args[2..].iter().map(OsString::from).collect();
        detach::begin(&rest).unwrap();
        return ExitCode::SUCCESS;
    }
    let overrides = overrides(args);
    let dir = overrides.data_dir.clone().unwrap();
    let mut inherited = detach::go(&dir).unwrap();
    log::to_file(&dir).unwrap();
    let config = Config::read(&overrides).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let served = runtime.block_on(run(&mut inherited.lock, Identity::of(&config), Ready::Starter(inherited.starter), || Echo::open(dir)));
    if served.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Everything in this process and a temporary directory.
pub fn ephemeral() -> ExitCode {
    let scratch = Scratch::new().unwrap();
    let dir = scratch.path().to_owned();
    let config = Config::read(&Overrides { data_dir: Some(dir.clone()), ..Overrides::from_env().unwrap() }).unwrap();
    let mut lock = Lock::try_take(&dir).unwrap().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let served = runtime.block_on(run(&mut lock, Identity::of(&config), Ready::Stdio, || Echo::open(dir)));
    runtime.shutdown_background();
    if served.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Answers each line with what is known about who said it.
struct Echo {
    dir: Utf8PathBuf,
}

impl Echo {
    fn open(dir: Utf8PathBuf) -> Result<Arc<Self>, Fault> {
        match std::fs::read_to_string(dir.join(REFUSE)) {
            Ok(reason) => Err(Fault::new("refused", reason).hint("remove the file")),
            Err(_) => Ok(Arc::new(Self { dir })),
        }
    }
}

impl Service for Echo {
    fn parent(&self, pid: u32) -> Option<RunId> {
        // As a manager would, but by the word of the process alone.
        let environ = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
        environ
            .split(|byte| *byte == 0)
            .find_map(|entry| entry.strip_prefix(b"FALCONER_RUN_ID="))
            .and_then(|run| std::str::from_utf8(run).ok()?.parse().ok())
    }

    fn workspace(&self, cwd: &Utf8Path) -> Option<Utf8PathBuf> {
        Some(cwd.to_owned())
    }

    fn live(&self) -> usize {
        7
    }

    fn serve(&self, session: Session) -> BoxFuture<'static, ()> {
        let dir = self.dir.clone();
        async move {
            let Session { caller, input, mut output, closing } = session;
            let mut lines = BufReader::new(input).lines();
            loop {
                let line = tokio::select! {
                    () = closing.cancelled() => return,
                    line = lines.next_line() => line,
                };
                let Ok(Some(line)) = line else { return };
                let answer = serde_json::json!({
                    "echo": line, "daemon": std::process::id(), "cwd": caller.cwd, "env": *caller.env, "parent": caller.parent, "dir": dir,
                });
                if output.write_all(format!("{answer}\n").as_bytes()).await.is_err() || output.flush().await.is_err() {
                    return;
                }
            }
        }
        .boxed()
    }

    fn shut_down(&self, _within: Option<std::time::Duration>) -> BoxFuture<'static, ()> {
        let file = self.dir.join(SHUT_DOWN);
        async move { std::fs::write(file, "").unwrap() }.boxed()
    }
}
