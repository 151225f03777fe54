//! A home of its own for each case, its clients, and the daemon that is ended with it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use falconer::config::{Config, Overrides};
use falconer::daemon::connect::Local;
use falconer::daemon::ending::{self, Ended};
use falconer::daemon::hello::{Answer, Control, Status};
use falconer::daemon::lock;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Nothing here takes so long but by a defect.
pub const LIMIT: Duration = Duration::from_secs(20);

pub struct World {
    _temp: tempfile::TempDir,
    pub home: Utf8PathBuf,
    pub data: Utf8PathBuf,
}

impl World {
    pub fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let home = Utf8Path::from_path(temp.path()).unwrap().canonicalize_utf8().unwrap();
        let data = home.join("data");
        Self { _temp: temp, home, data }
    }

    /// Writes a configuration and gives its path.
    pub fn config(&self, name: &str, text: &str) -> Utf8PathBuf {
        let file = self.home.join(name);
        std::fs::write(&file, text).unwrap();
        file
    }

    /// A client's command: nothing in its environment but its home.
    pub fn mcp(&self) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.arg("mcp").arg("--data-dir").arg(&self.data).env_clear().env("HOME", &self.home).current_dir(&self.home);
        command
    }

    pub fn local(&self) -> Local {
        let overrides = Overrides { data_dir: Some(self.data.clone()), ..Overrides::at_home(self.home.clone()) };
        Local::of(Config::read(&overrides).unwrap(), None)
    }

    pub fn status(&self) -> Option<Status> {
        match self.local().control(Control::Status).unwrap() {
            Some((_, Answer::Status(status))) => Some(*status),
            None => None,
            Some((_, other)) => panic!("{other:?}"),
        }
    }

    pub fn stop(&self) -> Ended {
        ending::stop(&self.local(), LIMIT).unwrap()
    }

    pub fn kill_daemon(&self) -> u32 {
        let pid = self.status().unwrap().pid;
        kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
        pid
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.data.exists() && !lock::is_free(&self.data).unwrap_or(true) {
            // A case that failed may have left it stopped.
            if let Some(pid) = lock::last_owner(&self.data).and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
                let _ = kill_process(pid, Signal::CONT);
            }
            let _ = ending::stop(&self.local(), LIMIT);
        }
    }
}

/// A client with its pipes or sockets.
pub struct Client {
    pub child: Child,
    to: Option<Box<dyn Write>>,
    from: BufReader<Box<dyn Read>>,
}

impl Client {
    /// With pipes, as Python's clients have them.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, to: Some(Box::new(to)), from: BufReader::new(Box::new(from)) }
    }

    /// With socket pairs, as Node's clients have them.
    pub fn start_on_sockets(mut command: Command) -> Self {
        let ((to, stdin), (from, stdout)) = (UnixStream::pair().unwrap(), UnixStream::pair().unwrap());
        let child = command.stdin(OwnedFd::from(stdin)).stdout(OwnedFd::from(stdout)).stderr(Stdio::piped()).spawn().unwrap();
        drop(command);
        Self { child, to: Some(Box::new(to)), from: BufReader::new(Box::new(from)) }
    }

    pub fn say(&mut self, text: &str) {
        let to = self.to.as_mut().unwrap();
        // Where it does not listen any more, what it says instead is looked for in `hear`.
        let _ = to.write_all(format!("{text}\n").as_bytes());
        let _ = to.flush();
    }

    pub fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        if line.is_empty() {
            panic!("no answer; stderr: {}", self.stderr());
        }
        serde_json::from_str(&line).unwrap()
    }

    pub fn ask(&mut self, text: &str) -> Value {
        self.say(text);
        let answer = self.hear();
        assert_eq!(answer["echo"], text);
        answer
    }

    pub fn close(&mut self) {
        self.to = None;
    }

    pub fn wait(&mut self) -> ExitStatus {
        wait_for(&mut self.child)
    }

    pub fn stderr(&mut self) -> String {
        self.close();
        self.wait();
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn wait_for(child: &mut Child) -> ExitStatus {
    let mut status = None;
    until("the process ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}

/// Waits for a condition.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A field of `/proc/PID/stat` after the name, as proc_pid_stat(5) numbers it.
pub fn stat(pid: u32, field: usize) -> i64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    text.rsplit_once(") ").unwrap().1.split(' ').nth(field - 3).unwrap().parse().unwrap()
}

pub fn read(file: &mut File) -> String {
    let mut text = String::new();
    std::io::Seek::rewind(file).unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}
