//! A far end without a link: each shell in a directory of its own, as `sh` and as the login's shell.

use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use camino::Utf8Path;

use super::super::*;
use crate::config::{Config, Overrides};
use crate::policy::command::{Asked, Command as Given, Rules};

/// For what must come to pass, on a loaded machine.
pub const LIMIT: Duration = Duration::from_secs(180);
/// Longer than any test: a dead man's sleeper that is forgotten is found.
pub const LINK_S: u32 = 3000;
const NONCE: &str = "00112233445566778899aabbccddeeff";
/// What the wrapper may use; commands of the tests use no more.
const TOOLS: [&str; 22] = [
    "awk", "cat", "dd", "env", "head", "id", "kill", "mkdir", "mktemp", "mv", "printf", "pwd", "rm", "rmdir", "sed", "setsid", "sleep",
    "touch", "tr", "true", "wc", "test",
];

/// A far end.
pub struct World {
    dir: tempfile::TempDir,
    /// The words that start the login's shell.
    login: Vec<String>,
    path: String,
    pub name: &'static str,
    pub run: RunId,
}

/// What came over a link until it ended.
#[derive(Debug)]
pub struct Said {
    pub out: Vec<u8>,
    pub err: Vec<u8>,
    /// The last words, without the nonce.
    pub word: String,
}

#[derive(Default)]
struct Stream {
    came: Mutex<(Vec<u8>, bool)>,
    news: Condvar,
}

/// A wrapper, and what it said so far.
pub struct Link {
    child: Child,
    input: Option<ChildStdin>,
    out: Arc<Stream>,
    err: Arc<Stream>,
}

/// A list that was allowed.
pub fn judged(args: &[&str], cwd: Option<&str>, env: &[(&str, &str)]) -> FarCommand {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    allowed(Given::List(&args), cwd, env)
}

/// A line that was allowed.
pub fn shell(line: &str, cwd: Option<&str>, env: &[(&str, &str)]) -> FarCommand {
    allowed(Given::Shell(line), cwd, env)
}

fn allowed(command: Given<'_>, cwd: Option<&str>, env: &[(&str, &str)]) -> FarCommand {
    let config = Config::parse(
        "[[rules]]
targets = ['*']
allow = [['cat', '...'], ['printf', '...'], ['sleep', '...']]
cwd = ['/**', '/']
env = ['*', 'PATH', 'IFS']
[[rules]]
targets = ['*']
shell = true
control_characters = true
cwd = ['/**', '/']
env = ['*', 'PATH', 'IFS']
allow = ['re:(?s).*']",
        Some(Utf8Path::new("/etc/falconer/falconer.toml")),
        &Overrides::at_home("/home/u"),
    )
    .map_err(|errors| errors.to_string())
    .unwrap();
    let env: Vec<(String, String)> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Rules::of(&config).judge(&Asked { backend: "ssh", target: None, command, cwd, env: &env }).unwrap().command
}

/// Waits until it is so.
pub fn until(what: &str, so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !so() {
        assert!(begin.elapsed() < LIMIT, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a process lives; one that nobody has waited for does not.
pub fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// The signals that are ignored by this line of `/proc/PID/status`, and not by this test itself (which may be started so).
pub fn deaf_to(line: &str) -> u64 {
    let mask = |line: &str| u64::from_str_radix(line.strip_prefix("SigIgn:").unwrap().trim(), 16).unwrap();
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let own = mask(own.lines().find(|line| line.starts_with("SigIgn:")).unwrap());
    // Rust ignores PIPE (13), and lets its children hear it. The C library keeps 32 and 33 to itself (nptl(7)).
    mask(line) & !(own & !(1 << 12)) & !(3 << 31)
}

impl World {
    /// Does this with each shell: dash, bash, busybox's ash, and the latter with busybox's tools alone; mksh and zsh where they are.
    pub fn everywhere(test: impl Fn(&Self) + Sync) {
        // Each looks through all processes again and again, six at a time: side by side they would hold each other up for minutes.
        static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _alone = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        std::thread::scope(|scope| {
            for world in Self::all() {
                let test = &test;
                scope.spawn(move || {
                    // A panic's message names the test; this names the shell.
                    let name = world.name;
                    let guard = Named(name);
                    test(&world);
                    world.is_clean();
                    std::mem::forget(guard);
                });
            }
        });
    }

    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for (name, program) in
            [("dash", "dash"), ("bash", "bash"), ("busybox", "busybox"), ("pure", "busybox"), ("mksh", "mksh"), ("zsh", "zsh")]
        {
            let found = ["/bin", "/usr/bin"].iter().map(|dir| Path::new(dir).join(program)).find(|path| path.exists());
            match found {
                Some(path) => all.push(Self::new(name, &path, name == "pure")),
                None if ["mksh", "zsh"].contains(&name) => {}
                None => {
                    assert_ne!(std::env::var("FALCONER_TESTS_REQUIRE").as_deref(), Ok("all"), "{name} is missing: run tests/fetch");
                    eprintln!("{name} is not here: tests/fetch installs it");
                }
            }
        }
        all
    }

    /// bash, and none of these tools.
    pub fn without(missing: &[&str]) -> Self {
        let mut world = Self::new("poor", Path::new("/bin/bash"), true);
        for tool in missing {
            std::fs::remove_file(world.at("bin").join(tool)).unwrap();
        }
        world.name = "without some tools";
        world
    }

    fn new(name: &'static str, shell: &Path, pure: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for part in ["bin", "tmp", "home"] {
            std::fs::create_dir(dir.path().join(part)).unwrap();
        }
        let bin = dir.path().join("bin");
        symlink(shell, bin.join("sh")).unwrap();
        if pure {
            for tool in TOOLS {
                symlink("/bin/busybox", bin.join(tool)).unwrap();
            }
        }
        let login = vec![bin.join("sh").to_str().unwrap().to_owned()];
        let path = if pure { bin.to_str().unwrap().to_owned() } else { format!("{}:/usr/bin:/bin", bin.to_str().unwrap()) };
        Self { dir, login, path, name, run: RunId::random() }
    }

    /// Where no `/proc` is. Needs root.
    pub fn without_proc(self) -> Self {
        self.behind(&["--mount"], "/bin/mount -t tmpfs none /proc && exec \"$@\"")
    }

    /// The same, and each link has processes of its own, whose first waits for what lost its parent: where nobody does, and no
    /// `/proc` tells them apart, a group of processes that have ended looks like one that lives.
    pub fn without_proc_and_orphans(self) -> Self {
        self.behind(&["--mount", "--pid", "--fork"], "/bin/mount -t tmpfs none /proc || exit; \"$@\"; exit $?")
    }

    fn behind(mut self, namespaces: &[&str], script: &str) -> Self {
        let words = [&["/usr/bin/unshare"], namespaces, &["/bin/sh", "-c", script, "hidden"]].concat();
        self.login.splice(0..0, words.into_iter().map(str::to_owned));
        self
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where a detached command keeps what it said.
    pub fn kept(&self) -> PathBuf {
        self.at("home/.falconer").join(self.run.to_string())
    }

    /// A wrapper for a shell's line without input.
    pub fn run(&self, line: &str) -> Link {
        self.start(&Mode::Run { command: shell(line, None, &[]), input: 0, link_s: LINK_S })
    }

    pub fn detach(&self, line: &str) -> Link {
        self.start(&Mode::Detach { command: shell(line, None, &[]), input: 0, link_s: LINK_S })
    }

    pub fn attach(&self, stdout: u64, stderr: u64) -> Link {
        self.start(&Mode::Attach { stdout, stderr, link_s: LINK_S })
    }

    /// A second link that ends what the run started.
    pub fn end(&self, grace_s: u32) -> Said {
        self.start(&Mode::End { grace_s }).end()
    }

    /// A wrapper that was told the nonce.
    pub fn start(&self, mode: &Mode) -> Link {
        let mut link = self.open(mode);
        link.say(format!("{NONCE}\n").as_bytes());
        link
    }

    /// A wrapper that was told nothing yet.
    pub fn open(&self, mode: &Mode) -> Link {
        let line = command_line(self.run, mode).unwrap();
        let mut command = Command::new(&self.login[0]);
        command.args(&self.login[1..]).arg("-c").arg(line).env_clear();
        command.env("PATH", &self.path).env("HOME", self.at("home")).env("TMPDIR", self.at("tmp")).env("nonce", "from outside");
        // A group of its own, for `bury`.
        let mut child = command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, err) = (Stream::read(child.stdout.take().unwrap()), Stream::read(child.stderr.take().unwrap()));
        let input = child.stdin.take();
        Link { child, input, out, err }
    }

    /// What lives with a mark of this run: its id and its arguments.
    pub fn alive(&self) -> Vec<(u32, String)> {
        let (mark, wrapper) = (format!("{MARK}={}", self.run), format!("{WRAPPER_MARK}={}", self.run));
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            let ours = |entry: &[u8]| entry == mark.as_bytes() || entry.starts_with(wrapper.as_bytes());
            if environ.split(|byte| *byte == 0).any(ours) && lives(pid) {
                let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
                found.push((
                    pid,
                    String::from_utf8_lossy(&words).replace('\0', " ").chars().rev().take(200).collect::<Vec<_>>().iter().rev().collect(),
                ));
            }
        }
        found
    }

    /// Nothing lives, nothing lies about. (A sleeper that was killed a moment ago may still be seen.)
    pub fn is_clean(&self) {
        let begin = Instant::now();
        crate::tree::tidy();
        while !self.alive().is_empty() {
            assert!(begin.elapsed() < LIMIT, "{}: {:?}", self.name, self.alive());
            std::thread::sleep(Duration::from_millis(20));
        }
        for place in ["tmp", "home"] {
            let left: Vec<_> = std::fs::read_dir(self.at(place)).unwrap().flatten().map(|entry| entry.path()).collect();
            assert!(left.is_empty(), "{}: {left:?}", self.name);
        }
    }
}

/// A test that failed leaves nothing behind that could be found.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let pids: Vec<String> = self.alive().iter().map(|(pid, _)| pid.to_string()).collect();
            let _ = Command::new("kill").arg("-KILL").args(pids).stderr(Stdio::null()).status();
        }
    }
}

struct Named(&'static str);

impl Drop for Named {
    fn drop(&mut self) {
        eprintln!("this was with {}", self.0);
    }
}

impl Stream {
    fn read(mut from: impl Read + Send + 'static) -> Arc<Self> {
        let stream = Arc::new(Self::default());
        let to = Arc::clone(&stream);
        std::thread::spawn(move || {
            let mut piece = vec![0; 65536];
            loop {
                let length = from.read(&mut piece).unwrap_or(0);
                let mut came = to.came.lock().unwrap();
                came.0.extend_from_slice(&piece[..length]);
                came.1 = length == 0;
                to.news.notify_all();
                if length == 0 {
                    return;
                }
            }
        });
        stream
    }

    fn wait(&self, what: &str, so: impl Fn(&[u8], bool) -> bool) -> Vec<u8> {
        let came = self.came.lock().unwrap();
        let (came, result) = self.news.wait_timeout_while(came, LIMIT, |came| !so(&came.0, came.1)).unwrap();
        assert!(!result.timed_out(), "waited for {what}: {:?}", String::from_utf8_lossy(&came.0));
        came.0.clone()
    }

    fn until(&self, text: &str) -> Vec<u8> {
        let bytes = text.as_bytes();
        let came = self.wait(text, |came, ended| ended || came.windows(bytes.len()).any(|part| part == bytes));
        assert!(came.windows(bytes.len()).any(|part| part == bytes), "ended without {text}: {:?}", String::from_utf8_lossy(&came));
        came
    }
}

impl Link {
    /// Errors do not count: the other side may be gone.
    pub fn say(&mut self, bytes: &[u8]) {
        if let Some(input) = &mut self.input {
            let _ = input.write_all(bytes);
        }
    }

    /// The id of the wrapper's process.
    pub fn wrapper(&self) -> u32 {
        self.child.id()
    }

    /// The command's process, once it has begun.
    pub fn begun(&self) -> u32 {
        let came = self.err.until(&format!("{NONCE} begin "));
        let text = String::from_utf8_lossy(&came).into_owned();
        text.split_once(" begin ").unwrap().1.split('\n').next().unwrap().parse().unwrap()
    }

    pub fn out_has(&self, text: &str) {
        self.out.until(text);
    }

    /// Until the last words are there, though the link stays.
    pub fn trailer(&self) -> String {
        let came = self.err.wait("last words", |came, ended| ended || word(came).is_some_and(|(_, word)| word.ends_with('\n')));
        without_totals(word(&came).unwrap().1.trim_end())
    }

    /// The link is gone: nothing is said any more.
    pub fn hang_up(&mut self) {
        self.input = None;
    }

    /// Until the wrapper has ended, and is gone for whoever looks for it.
    pub fn wait(&mut self) {
        self.child.wait().unwrap();
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Until both outputs have ended and the wrapper has.
    pub fn end(mut self) -> Said {
        let out = self.out.wait("the end of the output", |_, ended| ended);
        let err = self.err.wait("the end of the errors", |_, ended| ended);
        self.child.wait().unwrap();
        bury(&self.child);
        let out = out.strip_prefix(format!("{NONCE}\n").as_bytes()).unwrap_or(&out).to_vec();
        let (err, word) = word(&err).map_or((err.clone(), String::new()), |(before, word)| (before.to_vec(), word));
        let begin = format!("{NONCE} begin ");
        let err = match err.strip_prefix(begin.as_bytes()) {
            Some(rest) => rest[rest.iter().position(|byte| *byte == b'\n').unwrap() + 1..].to_vec(),
            None => err,
        };
        Said { out, err, word: without_totals(word.trim_end()) }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
        bury(&self.child);
    }
}

/// Another test may have made this process the one that orphans come to: those of a wrapper's group, which nobody else waits for.
/// (What had a session of its own is tidied by whoever adopts.)
fn bury(wrapper: &Child) {
    use rustix::process::{Pid, WaitOptions, waitpgid};
    while let Ok(Some(_)) = waitpgid(Pid::from_child(wrapper), WaitOptions::NOHANG) {}
}

/// The words without the sizes that a follower adds.
fn without_totals(words: &str) -> String {
    let line = |line: &str| match line.split(' ').collect::<Vec<_>>()[..] {
        ["end", "exited", status, left, killed, looked, _, _] => format!("end exited {status} {left} {killed} {looked}"),
        _ => line.to_owned(),
    };
    words.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// The wrapper's last words, and what stands before them.
fn word(bytes: &[u8]) -> Option<(&[u8], String)> {
    let at = ["end ", "fail "].iter().find_map(|kind| {
        let words = format!("{NONCE} {kind}");
        bytes.windows(words.len()).position(|part| part == words.as_bytes())
    })?;
    let text = String::from_utf8_lossy(&bytes[at + NONCE.len() + 1..]).into_owned();
    Some((&bytes[..at], text))
}
