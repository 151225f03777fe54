//! A host for one test: directories, configuration, and the end of everything it started.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Client, Era};
use crate::patience::until;
use crate::processes::{self, Seen};

/// The program under test.
pub const FALCONER: &str = env!("CARGO_BIN_EXE_falconer");

/// What most tests want: `hostile` as a plugin that may be told anything, `exec` with a shell, short limits.
/// `{work}`, `{dir}` and `{falconer}` are filled in.
pub const USUAL: &str = r#"
path = ["/usr/local/bin", "/usr/bin", "/bin"]

[stop]
ask = "500 ms"
terminate = "500 ms"

[host]
runs = 500
call = "1 s"

[backends.exec.grants]
programs = { sh = "/bin/sh", cat = "cat", missing = "no-such-program-anywhere" }
workspaces = ["{work}"]
env = ["SEEN_BY_THE_RUN"]
[backends.exec.limits]
runs = 500

[backends.hostile.grants]
programs = { sh = "/bin/sh", cat = "cat", missing = "no-such-program-anywhere" }
workspaces = ["{work}"]
env = { HOME = "{dir}/home" }
secrets = { CANARY_TOKEN = { env = "CANARY_TOKEN" } }
[backends.hostile.allow]
mode = true
n = true
size = true
batch = true
every_ms = true
text = true
program = true
args = true
stdin = true
env = true
secrets = true
dirs = true
[backends.hostile.limits]
runs = 500
call_cpu = "500 ms"
children = 4
"#;

/// Directories and configuration of one test; its daemon ends with it.
pub struct Host {
    dir: TempDir,
}

impl Host {
    /// With the usual configuration, and `hostile` in the plugins directory.
    pub fn usual() -> Self {
        Self::with(USUAL)
    }

    /// With this configuration, and `hostile` in the plugins directory.
    pub fn with(config: &str) -> Self {
        let host = Self::bare(config);
        host.plugin("hostile", falconer_hostile::HOSTILE);
        host
    }

    /// With this configuration and no plugins.
    pub fn bare(config: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("falconer-test-").tempdir().unwrap();
        let host = Self { dir };
        for dir in ["home", "work", "plugins"] {
            fs::create_dir(host.path(dir)).unwrap();
            fs::set_permissions(host.path(dir), fs::Permissions::from_mode(0o700)).unwrap();
        }
        host.configure(config);
        host
    }

    /// Writes the configuration anew.
    pub fn configure(&self, config: &str) {
        let text = config
            .replace("{work}", self.work().to_str().unwrap())
            .replace("{dir}", self.dir.path().to_str().unwrap())
            .replace("{falconer}", FALCONER);
        fs::write(self.path("falconer.toml"), text).unwrap();
    }

    pub fn path(&self, part: &str) -> PathBuf {
        self.dir.path().join(part)
    }
    /// The directory in which runs may work.
    pub fn work(&self) -> PathBuf {
        self.path("work")
    }
    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// Puts a component into the plugins directory, as a person would: beside, then in place.
    pub fn plugin(&self, name: &str, wasm: &[u8]) {
        let file = self.path("plugins").join(format!("{name}.wasm"));
        let part = file.with_extension("part");
        fs::write(&part, wasm).unwrap();
        fs::rename(part, file).unwrap();
    }

    /// The program with these arguments, in an environment of its own, in the work directory.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(FALCONER);
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.path("home"))
            .env("LANG", "C.UTF-8")
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("FALCONER_CONFIG", self.path("falconer.toml"))
            .env("FALCONER_DATA_DIR", self.data())
            .env("FALCONER_PLUGINS", self.path("plugins"))
            .current_dir(self.work())
            .stdin(Stdio::null());
        for name in ["FALCONER_LOG", "RUST_BACKTRACE"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        Ended::of(self.command(arguments).output().unwrap())
    }

    /// A client of this host, in the older era.
    pub fn client(&self) -> Client {
        Client::start(self.command(&["mcp"]), Era::Legacy)
    }

    /// The daemon, if one listens: the process at the other end of its socket.
    pub fn daemon(&self) -> Option<Seen> {
        processes::listening_below(&self.data()).into_iter().find_map(|socket| {
            let stream = UnixStream::connect(socket).ok()?;
            let peer = rustix::net::sockopt::socket_peercred(&stream).ok()?;
            Seen::of(peer.pid.as_raw_nonzero().get().cast_unsigned())
        })
    }

    /// Kills the daemon as a crash would, and waits until it is gone.
    pub fn crash(&self) {
        let daemon = self.daemon().expect("a daemon to kill");
        daemon.kill();
        until("the killed daemon to be gone", || (!daemon.lives()).then_some(()));
    }

    /// A request with the work directory as its cwd.
    pub fn hostile(&self, config: Value) -> Value {
        json!({ "backend": "hostile", "prompt": "go", "cwd": self.work(), "config": config })
    }
    /// The same for `exec`.
    pub fn exec(&self, config: Value) -> Value {
        json!({ "backend": "exec", "cwd": self.work(), "config": config })
    }

    /// Whether any file below the data directory holds these bytes, and which.
    pub fn data_holding(&self, bytes: &[u8]) -> Vec<PathBuf> {
        let mut found = Vec::new();
        walk(&self.data(), &mut |file| {
            if fs::read(file).is_ok_and(|content| processes::holds(&content, bytes)) {
                found.push(file.to_owned());
            }
        });
        found
    }
}

fn walk(dir: &Path, visit: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&entry.path(), visit),
            Ok(kind) if kind.is_file() => visit(&entry.path()),
            _ => {}
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let Some(daemon) = self.daemon() else { return };
        let _ = self.command(&["stop"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        // What does not end in order is ended all the same, so that no test leaves anything behind.
        for _ in 0..250 {
            if !daemon.lives() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        daemon.kill();
    }
}

/// What a command of the program did.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    pub fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
    /// Its output, when it went well.
    #[track_caller]
    pub fn well(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }
}
