//! The client's side: find the daemon of a data directory, start one if there is none, and be let in.
//!
//! Everything up to the answer of the daemon is blocking and needs no runtime, because `falconer mcp` is to be quick.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::hello::{self, Answer, Control, Hello, Mark, Opening};
use super::lock::{self, Lock};
use super::{CONNECT_LIMIT, LOG_FILE, PROTOCOL, code, dir, handover, socket, start};
use crate::config::{Config, ConfigErrors, Overrides};
use crate::fault::Fault;

/// Pauses between two tries to connect while another process starts a daemon: short first, then longer.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// The longest of these pauses.
const LONGEST_PAUSE: Duration = Duration::from_millis(25);
/// How often a daemon may hang up on a hello before that is an error; one that is ending does it once.
const HANG_UPS: u32 = 3;
/// The longest answer to a hello, in bytes.
const ANSWER_BYTES: usize = 64 << 10;

/// Where a client finds its daemon, and what it says to it.
pub struct Local {
    /// The daemon's data directory.
    pub data_dir: Utf8PathBuf,
    /// This client's configuration; none only inside a run.
    pub config: Option<Mark>,
    /// The values of the environment names that the configuration lists.
    pub env: BTreeMap<String, String>,
    /// `FALCONER_RUN_ID`: this client lives inside a run and never starts a daemon.
    pub inside: Option<String>,
    /// What a daemon started from here is to be told on its command line.
    pub daemon_args: Vec<OsString>,
}

impl Local {
    /// Reads the configuration, and from the environment what it lists.
    ///
    /// # Errors
    /// A configuration that is not right. Inside a run, where it may be unreadable, knowing the data directory is enough.
    pub fn find(overrides: &Overrides) -> Result<Self, ConfigErrors> {
        let inside = std::env::var("FALCONER_RUN_ID").ok().filter(|run| !run.is_empty());
        let config = match Config::read(overrides) {
            Ok(config) => config,
            Err(error) => {
                return match (inside, &overrides.data_dir) {
                    (Some(run), Some(data_dir)) => Ok(Self {
                        data_dir: data_dir.clone(),
                        config: None,
                        env: BTreeMap::new(),
                        inside: Some(run),
                        daemon_args: Vec::new(),
                    }),
                    _ => Err(error),
                };
            }
        };
        Ok(Self::of(config, inside))
    }

    /// What follows from a configuration.
    #[must_use]
    pub fn of(config: Config, inside: Option<String>) -> Self {
        let mut daemon_args: Vec<OsString> = vec!["--data-dir".into(), config.data_dir.clone().into()];
        if let Some(file) = &config.file {
            daemon_args.extend(["--config".into(), file.clone().into()]);
        }
        daemon_args.extend(["--plugins".into(), config.plugins_dir.clone().into()]);
        Self {
            env: hello::env_names(&config).into_iter().filter_map(|name| std::env::var(&name).ok().map(|value| (name, value))).collect(),
            config: Some(Mark::of(&config)),
            data_dir: config.data_dir,
            inside,
            daemon_args,
        }
    }

    fn hello(&self, handover: bool) -> Opening {
        Opening::Hello(Box::new(Hello {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            cwd: std::env::current_dir().ok().and_then(|cwd| Utf8PathBuf::from_path_buf(cwd).ok()),
            config: self.config.clone(),
            env: self.env.clone(),
            inside: self.inside.clone(),
            handover,
        }))
    }

    /// Connects and is let in; starts a daemon where there is none, but never inside a run. With `stdio`, stdin and
    /// stdout are the daemon's from then on.
    ///
    /// # Errors
    /// The daemon's refusal, or why there is none.
    pub fn enter(&self, stdio: Option<[BorrowedFd<'_>; 2]>) -> Result<Entered, Fault> {
        let line = self.hello(stdio.is_some()).line();
        let deadline = Instant::now() + CONNECT_LIMIT;
        let mut hang_ups = 0;
        loop {
            let stream = self.dial(deadline)?;
            match exchange(&stream, &line, stdio) {
                Ok(answer) => {
                    return match Answer::parse(&answer)? {
                        Answer::Welcome { version, pid } => Ok(Entered { stream, version, pid }),
                        Answer::Error(fault) => Err(fault),
                        other => Err(Fault::new(code::DAEMON_UNREACHABLE, format!("the daemon gave an answer out of order: {other:?}"))),
                    };
                }
                // It ended before it let us in: nothing was read of what was handed over.
                Err(error) if is_hang_up(&error) && hang_ups < HANG_UPS => {
                    hang_ups += 1;
                    std::thread::sleep(LONGEST_PAUSE);
                }
                Err(error) => return Err(self.silent(&error)),
            }
        }
    }

    /// A connection to a daemon, which is started if need be.
    fn dial(&self, deadline: Instant) -> Result<StdStream, Fault> {
        let dir = &self.data_dir;
        let mut pause = FIRST_PAUSE;
        loop {
            if let Some(stream) = self.try_dial()? {
                return Ok(stream);
            }
            if let Some(run) = &self.inside {
                return Err(Fault::new(
                    code::NO_DAEMON,
                    format!("no daemon serves {dir}, and a process of a run ({run}) does not start one"),
                )
                .hint("the daemon that started this run has ended; FALCONER_DATA_DIR must name its data directory"));
            }
            dir::prepare(dir)?;
            let taken = Lock::try_take(dir)
                .map_err(|error| Fault::new(code::DAEMON_FAILED, format!("cannot lock {}: {error}", dir.join(super::LOCK_FILE))))?;
            if let Some(lock) = taken {
                start::launch(lock, dir, &self.daemon_args)?;
                continue;
            }
            if Instant::now() >= deadline {
                let owner = lock::last_owner(dir).map_or_else(String::new, |pid| format!(" (process {pid})"));
                return Err(Fault::new(
                    code::DAEMON_UNREACHABLE,
                    format!("a daemon{owner} owns {dir}, but has not let anybody in for {} s", CONNECT_LIMIT.as_secs()),
                )
                .hint(format!("it is starting or ending; its log is {}", dir.join(LOG_FILE)))
                .retryable());
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn try_dial(&self) -> Result<Option<StdStream>, Fault> {
        if !dir::check(&self.data_dir)? {
            return Ok(None);
        }
        socket::connect(&self.data_dir)
            .map_err(|error| Fault::new(code::DAEMON_UNREACHABLE, format!("cannot connect to {}: {error}", socket::path(&self.data_dir))))
    }

    fn silent(&self, error: &io::Error) -> Fault {
        let owner = lock::last_owner(&self.data_dir).map_or_else(String::new, |pid| format!(" (process {pid})"));
        Fault::new(code::DAEMON_UNREACHABLE, format!("the daemon{owner} of {} does not answer: {error}", self.data_dir))
            .hint(format!("its log is {}", self.data_dir.join(LOG_FILE)))
            .retryable()
    }

    /// Asks the daemon itself, where one is there. The connection stays open as long as the daemon keeps it.
    ///
    /// # Errors
    /// When a daemon is there and does not answer, or refuses.
    pub fn control(&self, control: Control) -> Result<Option<(StdStream, Answer)>, Fault> {
        let Some(stream) = self.try_dial()? else { return Ok(None) };
        match exchange(&stream, &Opening::Control(control).line(), None) {
            Ok(line) => match Answer::parse(&line)? {
                Answer::Error(fault) => Err(fault),
                answer => Ok(Some((stream, answer))),
            },
            Err(error) if is_hang_up(&error) => Ok(None),
            Err(error) => Err(self.silent(&error)),
        }
    }
}

/// A connection on which the daemon has said welcome.
pub struct Entered {
    /// The connection.
    pub stream: StdStream,
    /// Version of the daemon's program.
    pub version: String,
    /// The daemon's process id.
    pub pid: u32,
}

fn is_hang_up(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// Says the first line and reads the answer, and not a byte more.
fn exchange(mut stream: &StdStream, line: &[u8], stdio: Option<[BorrowedFd<'_>; 2]>) -> io::Result<Vec<u8>> {
    stream.set_write_timeout(Some(CONNECT_LIMIT))?;
    stream.set_read_timeout(Some(CONNECT_LIMIT))?;
    handover::send(stream, line, stdio)?;
    stream.flush()?;
    let mut answer = Vec::new();
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, format!("no word for {} s", CONNECT_LIMIT.as_secs())),
            io::ErrorKind::UnexpectedEof => io::Error::new(io::ErrorKind::UnexpectedEof, "it hung up"),
            _ => error,
        })?;
        if byte == *b"\n" {
            break;
        }
        answer.push(byte[0]);
        if answer.len() > ANSWER_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is too long"));
        }
    }
    stream.set_write_timeout(None)?;
    stream.set_read_timeout(None)?;
    Ok(answer)
}

/// A connection for a command that speaks to the daemon's service; a daemon is started where there is none.
///
/// # Errors
/// As [`Local::enter`].
pub async fn open(overrides: &Overrides) -> Result<(OwnedReadHalf, OwnedWriteHalf), Fault> {
    let overrides = overrides.clone();
    let internal = |error: String| Fault::new(crate::fault::code::INTERNAL, format!("cannot connect to the daemon: {error}"));
    let entered = tokio::task::spawn_blocking(move || Local::find(&overrides).map_err(Fault::from)?.enter(None))
        .await
        .map_err(|error| internal(error.to_string()))??;
    entered.stream.set_nonblocking(true).map_err(|error| internal(error.to_string()))?;
    Ok(UnixStream::from_std(entered.stream).map_err(|error| internal(error.to_string()))?.into_split())
}
