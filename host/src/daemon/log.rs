//! Where the program's own log goes: stderr, or a file of bounded size for a daemon that has no terminal.
//!
//! `FALCONER_LOG` chooses what is logged, in the syntax of tracing's `EnvFilter` (e.g. `debug`, `falconer::run=trace`).
//! Nothing here may get a secret: callers log names, ids and numbers.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Mutex, PoisonError};

use camino::{Utf8Path, Utf8PathBuf};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::LOG_FILE;

/// Size at which the file is put aside as `daemon.log.1` and a new one begun: at most twice this is kept.
pub const LOG_BYTES: u64 = 4 << 20;

/// What is logged where `FALCONER_LOG` does not say.
#[derive(Debug, Clone, Copy)]
pub enum Verbosity {
    /// For commands.
    Warnings,
    /// For a daemon.
    Informative,
}

fn filter(verbosity: Verbosity) -> EnvFilter {
    let default = match verbosity {
        Verbosity::Warnings => "warn",
        Verbosity::Informative => "warn,falconer=info",
    };
    std::env::var("FALCONER_LOG")
        .ok()
        .filter(|text| !text.is_empty())
        .and_then(|text| EnvFilter::try_new(text).ok())
        .unwrap_or_else(|| EnvFilter::new(default))
}

/// Logs to stderr; with colours on a terminal, where `NO_COLOR` is not set.
pub fn to_stderr(verbosity: Verbosity) {
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let built = tracing_subscriber::fmt().with_env_filter(filter(verbosity)).with_writer(io::stderr).with_ansi(colours).try_init();
    drop(built); // A second subscriber is refused; the first one stays.
}

/// Logs to the file of a data directory, and sends stderr (panics, mainly) there as well.
///
/// # Errors
/// What open(2) says.
pub fn to_file(dir: &Utf8Path) -> io::Result<()> {
    let file = Bounded::open(dir.join(LOG_FILE), LOG_BYTES, true)?;
    drop(tracing_subscriber::fmt().with_env_filter(filter(Verbosity::Informative)).with_writer(file).with_ansi(false).try_init());
    Ok(())
}

/// Opens the log file for appending.
///
/// # Errors
/// What open(2) says.
pub fn open(path: &Utf8Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// A log file that never grows beyond its bound.
struct Bounded {
    path: Utf8PathBuf,
    bound: u64,
    as_stderr: bool,
    open: Mutex<Open>,
}

struct Open {
    file: File,
    size: u64,
}

impl Bounded {
    fn open(path: Utf8PathBuf, bound: u64, as_stderr: bool) -> io::Result<Self> {
        let open = Self::begin(&path, as_stderr)?;
        Ok(Self { path, bound, as_stderr, open: Mutex::new(open) })
    }

    fn begin(path: &Utf8Path, as_stderr: bool) -> io::Result<Open> {
        let file = open(path)?;
        if as_stderr {
            rustix::stdio::dup2_stderr(&file)?;
        }
        let size = file.metadata()?.len();
        Ok(Open { file, size })
    }

    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.size > 0 && open.size + bytes.len() as u64 > self.bound {
            std::fs::rename(&self.path, format!("{}.1", self.path))?;
            *open = Self::begin(&self.path, self.as_stderr)?;
        }
        open.file.write_all(bytes)?;
        open.size += bytes.len() as u64;
        Ok(())
    }
}

/// One log line on its way to the file.
struct Line<'a>(&'a Bounded);

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(bytes).map(|()| bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Bounded {
    type Writer = Line<'a>;
    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_put_aside_once_and_never_grows_beyond_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(dir.path()).unwrap().join("log");
        let log = Bounded::open(path.clone(), 100, false).unwrap();
        for number in 0..50 {
            log.make_writer().write_all(format!("line {number:03}\n").as_bytes()).unwrap();
        }
        let (now, before) = (std::fs::read_to_string(&path).unwrap(), std::fs::read_to_string(format!("{path}.1")).unwrap());
        assert!(now.ends_with("line 049\n") && now.len() <= 100 && before.len() <= 100);
        assert!(before.ends_with(&format!("line {:03}\n", 50 - now.lines().count() - 1)), "nothing between the two is lost");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
        let again = Bounded::open(path, 100, false).unwrap();
        again.make_writer().write_all(&[b'x'; 90]).unwrap();
    }
}
