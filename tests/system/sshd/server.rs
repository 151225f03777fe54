//! One far machine: an sshd with its keys, users, shells and names, its start, its restart and its death.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};

use tempfile::TempDir;

use super::far::Process;
use super::keys::{Key, Kind};
use super::{Link, Shell, directory, tool};
use crate::patience::until;
use crate::processes::Seen;

/// The user that only far machines have; no such number is taken on Debian.
const FAR_UID: u32 = 48_211;

/// What a machine is to be like.
pub struct Setup {
    address: Option<IpAddr>,
    port: Option<u16>,
    network: Option<PathBuf>,
    kinds: Vec<Kind>,
    shell: Shell,
    password: String,
    authorized: Vec<String>,
    options: Vec<String>,
    environment: Vec<(String, String)>,
    hosts: Vec<String>,
    programs: Vec<(String, String)>,
    own_pids: bool,
}

impl Setup {
    /// An ed25519 host key, dash as the login shell, a loopback address of its own.
    pub fn new() -> Self {
        Self {
            address: None,
            port: None,
            network: None,
            kinds: vec![Kind::Ed25519],
            shell: Shell::Dash,
            password: "far away".into(),
            authorized: Vec::new(),
            options: Vec::new(),
            environment: Vec::new(),
            hosts: Vec::new(),
            programs: Vec::new(),
            own_pids: true,
        }
    }

    /// Listens here instead.
    pub fn at(self, address: IpAddr) -> Self {
        Self { address: Some(address), ..self }
    }
    /// Listens on this port, instead of a free one.
    pub fn port(self, port: u16) -> Self {
        Self { port: Some(port), ..self }
    }
    /// Stands behind a link, and listens at its far end.
    pub fn behind(self, link: &Link) -> Self {
        Self { network: Some(link.network()), address: Some(link.address()), ..self }
    }
    /// Stands in the network of another machine, on a loopback address there: only from there it can be reached.
    pub fn beside(self, other: &Sshd) -> Self {
        Self { network: Some(other.network()), ..self }
    }
    /// The host keys it has.
    pub fn host_keys(self, kinds: &[Kind]) -> Self {
        Self { kinds: kinds.to_vec(), ..self }
    }
    /// The login shell of all accounts.
    pub fn shell(self, shell: Shell) -> Self {
        Self { shell, ..self }
    }
    /// The password of `far`.
    pub fn password(self, password: &str) -> Self {
        Self { password: password.into(), ..self }
    }
    /// This key opens all accounts too.
    pub fn authorize(mut self, key: &Key) -> Self {
        self.authorized.push(key.public());
        self
    }
    /// Of its accounts, those that this authority certifies are let in.
    pub fn trust(self, authority: &Key) -> Self {
        let file = authority.file().with_extension("pub");
        self.option(&format!("TrustedUserCAKeys {}", file.display()))
    }
    /// A line of `sshd_config(5)`; it goes before what is usual here.
    pub fn option(mut self, line: &str) -> Self {
        self.options.push(line.into());
        self
    }
    /// A variable of every session.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }
    /// A name that can be looked up on this machine.
    pub fn resolves(mut self, name: &str, address: IpAddr) -> Self {
        self.hosts.push(format!("{address} {name}"));
        self
    }
    /// A script in its `/usr/local/bin`, which has nothing else then.
    pub fn program(mut self, name: &str, script: &str) -> Self {
        self.programs.push((name.into(), script.into()));
        self
    }
    /// Sees all processes of the real machine, as an sshd on the daemon's own machine does. What has lost both its mark and
    /// its parents is then neither found nor ended.
    pub fn shared_pids(self) -> Self {
        Self { own_pids: false, ..self }
    }

    /// Makes the machine, and waits until it listens.
    pub fn start(self) -> Sshd {
        let dir = directory("falconer-sshd-");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = format!("{}-{number}-{:08x}", std::process::id(), rustix::time::clock_gettime(rustix::time::ClockId::Monotonic).tv_nsec);
        let address = self.address.unwrap_or_else(|| own_address(number));
        let port = self.port.unwrap_or_else(|| if self.network.is_some() { 22 } else { free_port(address) });
        let keys = self.kinds.iter().map(|kind| Key::new(*kind)).collect();
        let sshd =
            Sshd { dir, id, address, port, key: Key::new(Kind::Ed25519), keys: Mutex::new(keys), machine: Mutex::new(None), setup: self };
        sshd.furnish();
        sshd.boot();
        sshd
    }
}

static NEXT: AtomicU32 = AtomicU32::new(1);

/// An address in 127/8 that no other test of this machine has.
fn own_address(number: u32) -> IpAddr {
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 + (high & 0x7f), low, (number % 254 + 1).to_le_bytes()[0]).into()
}

/// A port that nobody listens on.
fn free_port(address: IpAddr) -> u16 {
    TcpListener::bind((address, 0)).unwrap().local_addr().unwrap().port()
}

/// A machine that was set up; gone with all its processes when dropped.
pub struct Sshd {
    dir: TempDir,
    id: String,
    address: IpAddr,
    port: u16,
    /// Opens all accounts.
    pub key: Key,
    keys: Mutex<Vec<Key>>,
    machine: Mutex<Option<Machine>>,
    setup: Setup,
}

/// Its first process, and what is said with it.
struct Machine {
    child: Child,
    stdin: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// What `/proc/PID/ns/pid` of its processes says, where it has a pid namespace of its own.
    pids: Option<PathBuf>,
    /// The sshd that listens, by its number in there.
    listener: Option<u32>,
}

impl Sshd {
    pub fn usual() -> Self {
        Setup::new().start()
    }

    pub fn address(&self) -> IpAddr {
        self.address
    }
    pub fn port(&self) -> u16 {
        self.port
    }
    pub fn socket(&self) -> SocketAddr {
        (self.address, self.port).into()
    }
    pub fn path(&self, part: &str) -> PathBuf {
        self.dir.path().join(part)
    }
    /// The home directory of `root` or `far`.
    pub fn home(&self, user: &str) -> PathBuf {
        self.path("home").join(user)
    }
    /// What sshd has said.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.path("log")).unwrap_or_default()).into_owned()
    }
    /// The password of `far`.
    pub fn password(&self) -> &str {
        &self.setup.password
    }
    /// The mark that all its sessions have in their environment.
    pub fn mark(&self) -> String {
        format!("FALCONER_TEST_SSHD={}", self.id)
    }

    /// The fingerprints of its host keys.
    pub fn fingerprints(&self) -> Vec<String> {
        self.keys.lock().unwrap().iter().map(Key::fingerprint).collect()
    }
    /// Its lines in known_hosts under a name; `[name]:port` where the port is not 22.
    pub fn known_as(&self, name: &str) -> String {
        let name = if self.port == 22 { name.to_owned() } else { format!("[{name}]:{}", self.port) };
        self.keys.lock().unwrap().iter().fold(String::new(), |text, key| text + &format!("{name} {}\n", key.bare()))
    }
    /// The same under its address.
    pub fn known(&self) -> String {
        self.known_as(&self.address.to_string())
    }
    /// The same with the names hashed, as `ssh-keygen -H` does it.
    pub fn known_hashed(&self) -> String {
        let dir = directory("falconer-known-");
        let file = dir.path().join("known_hosts");
        fs::write(&file, self.known()).unwrap();
        tool(Command::new("ssh-keygen").arg("-Hf").arg(&file));
        fs::read_to_string(file).unwrap()
    }
    /// A known_hosts file with its lines; it stays as it is when the keys change.
    pub fn known_hosts(&self) -> PathBuf {
        let file = self.path("known_hosts");
        if !file.exists() {
            fs::write(&file, self.known()).unwrap();
        }
        file
    }

    fn machine(&self) -> MutexGuard<'_, Option<Machine>> {
        self.machine.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The network namespace it stands in.
    fn network(&self) -> PathBuf {
        let machine = self.machine();
        let first = machine.as_ref().expect("a machine that runs").child.id();
        PathBuf::from(format!("/proc/{first}/ns/net"))
    }

    /// Turns it on: its first process and its sshd.
    pub fn boot(&self) {
        self.write_config();
        let mut command = match &self.setup.network {
            Some(network) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={}", network.display())).args(["--", "unshare"]);
                command
            }
            None => Command::new("unshare"),
        };
        command.arg("--mount");
        if self.setup.own_pids {
            command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
        }
        let mode = if self.setup.own_pids { "own" } else { "shared" };
        command
            .args(["--", "/bin/bash", "-c", include_str!("init.sh"), "init"])
            .arg(self.dir.path())
            .arg(mode)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("FALCONER_TEST_SSHD", &self.id)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (stdin, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut machine = Machine { child, stdin, answers, pids: None, listener: None };
        assert_eq!(machine.answer(), "ready", "{command:?}");
        if self.setup.own_pids {
            machine.pids = Some(fs::read_link(format!("/proc/{}/ns/pid_for_children", machine.child.id())).unwrap());
        }
        let mut place = self.machine();
        assert!(place.is_none(), "it runs already");
        *place = Some(machine);
        drop(place);
        self.start();
    }

    /// Starts sshd where none listens, and waits until it does.
    pub fn start(&self) {
        let said = self.log().len();
        let mut place = self.machine();
        let machine = place.as_mut().expect("a machine that runs");
        machine.stdin.write_all(b"start\n").unwrap();
        let answer = machine.answer();
        machine.listener = Some(answer.strip_prefix("sshd ").unwrap().parse().unwrap());
        drop(place);
        until("sshd to listen", || {
            let log = self.log();
            let new = log.get(said..)?;
            assert!(
                !new.contains("fatal:") && !new.contains("Bind to port"),
                "{new}\n{}",
                fs::read_to_string(self.path("config")).unwrap()
            );
            new.contains("Server listening on").then_some(())
        });
    }

    /// Ends the sshd that listens; sessions go on.
    pub fn stop(&self) {
        let listener = self.machine().as_mut().expect("a machine that runs").listener.take().expect("an sshd that listens");
        if let Some(process) = self.members().into_iter().find(|process| process.inner == listener) {
            end(&[process.seen]);
        }
    }

    /// sshd anew, with the configuration as it is now; sessions go on.
    pub fn restart(&self) {
        self.stop();
        self.write_config();
        self.start();
    }

    /// Other host keys of the same kinds, at the same address and port.
    pub fn change_keys(&self) {
        self.keep_known_hosts();
        *self.keys.lock().unwrap() = self.setup.kinds.iter().map(|kind| Key::new(*kind)).collect();
        self.restart();
    }

    fn keep_known_hosts(&self) {
        let _ = self.known_hosts();
    }

    /// Every sshd dies, the one that listens and those of the sessions; what the sessions started may live on.
    pub fn kill(&self) {
        self.machine().as_mut().expect("a machine that runs").listener = None;
        let all: Vec<Seen> = self.members().iter().filter(|process| process.is_sshd()).map(|process| process.seen).collect();
        end(&all);
    }

    /// The machine dies, with all that runs on it.
    pub fn power_off(&self) {
        if let Some(machine) = self.machine().take() {
            machine.end();
        }
    }

    /// All its processes are stopped by a signal, and none of its connections is closed.
    pub fn freeze(&self) {
        self.signal_all(rustix::process::Signal::STOP);
    }
    pub fn thaw(&self) {
        self.signal_all(rustix::process::Signal::CONT);
    }

    fn signal_all(&self, signal: rustix::process::Signal) {
        for process in self.members() {
            if let Some(pid) = rustix::process::Pid::from_raw(process.seen.pid.cast_signed()) {
                let _ = rustix::process::kill_process(pid, signal);
            }
        }
    }

    /// All its processes but the first one.
    pub(super) fn members(&self) -> Vec<Process> {
        let machine = self.machine();
        let Some(machine) = machine.as_ref() else { return Vec::new() };
        match &machine.pids {
            Some(pids) => Process::in_namespace(pids).into_iter().filter(|process| process.inner != 1).collect(),
            None => Process::below_or_marked(machine.child.id(), &self.mark()),
        }
    }

    /// Files that do not change while it stands.
    fn furnish(&self) {
        let setup = &self.setup;
        let shell = match &setup.shell {
            Shell::Ash => {
                fs::create_dir(self.path("bin")).unwrap();
                symlink(setup.shell.program(), self.path("bin/ash")).unwrap();
                self.path("bin/ash")
            }
            shell => shell.program().to_owned(),
        };
        for home in ["home", "home/root", "home/far", "etc"] {
            fs::create_dir(self.path(home)).unwrap();
        }
        chown(self.home("far"), Some(FAR_UID), Some(FAR_UID)).unwrap();

        let real = |file: &str| fs::read_to_string(Path::new("/etc").join(file)).unwrap();
        let mut passwd: String =
            real("passwd").lines().filter(|line| !line.starts_with("root:")).fold(String::new(), |all, line| all + line + "\n");
        if !passwd.lines().any(|line| line.starts_with("sshd:")) {
            passwd.push_str("sshd:x:48212:65534::/run/sshd:/usr/sbin/nologin\n");
        }
        for (user, uid) in [("root", 0), ("far", FAR_UID)] {
            let _ = writeln!(passwd, "{user}:x:{uid}:{uid}::{}:{}", self.home(user).display(), shell.display());
        }
        let hash = tool(Command::new("busybox").args(["mkpasswd", "-m", "sha512", "-S", "falconer", &setup.password]));
        let shadow = format!("root:*:19000:0:99999:7:::\nfar:{}:19000:0:99999:7:::\n", hash.trim_end());
        let hosts = setup.hosts.iter().fold(real("hosts"), |all, line| all + line + "\n");
        let group = format!("{}far:x:{FAR_UID}:\n", real("group"));
        for (file, text) in [("passwd", passwd), ("group", group), ("shadow", shadow), ("hosts", hosts)] {
            fs::write(self.path("etc").join(file), text).unwrap();
        }
        if !setup.programs.is_empty() {
            fs::create_dir(self.path("local")).unwrap();
        }
        for (name, script) in &setup.programs {
            executable(&self.path("local").join(name), script);
        }
        let authorized = setup.authorized.iter().fold(self.key.public() + "\n", |all, line| all + line + "\n");
        fs::write(self.path("authorized_keys"), authorized).unwrap();
    }

    fn write_config(&self) {
        let mut text = format!("ListenAddress {}\n", self.socket());
        for key in self.keys.lock().unwrap().iter() {
            let _ = writeln!(text, "HostKey {}", key.file().display());
        }
        for line in &self.setup.options {
            let _ = writeln!(text, "{line}");
        }
        let _ = write!(text, "SetEnv {}", self.mark());
        for (name, value) in &self.setup.environment {
            let _ = write!(text, " \"{name}={value}\"");
        }
        let _ = writeln!(text, "\nAuthorizedKeysFile {}", self.path("authorized_keys").display());
        text.push_str(
            "PermitRootLogin yes\nStrictModes no\nUsePAM no\nPasswordAuthentication yes\nKbdInteractiveAuthentication no\n\
             LogLevel VERBOSE\nPidFile none\nPrintMotd no\nPrintLastLog no\nUseDNS no\nMaxStartups 500\nX11Forwarding no\n",
        );
        // Debian 13 has 10.0, which keeps those away who failed before.
        if version() >= (9, 8) {
            text.push_str("PerSourcePenalties no\n");
        }
        fs::write(self.path("config"), text).unwrap();
    }
}

/// Writes a script.
pub fn executable(file: &Path, script: &str) {
    fs::write(file, script).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Of OpenSSH, client and server.
fn version() -> (u32, u32) {
    let output = Command::new("ssh").arg("-V").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut numbers = text.trim_start_matches("OpenSSH_").split(|sign: char| !sign.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => panic!("which version is {text:?}?"),
    }
}

/// Kills them, and waits until they are gone.
fn end(processes: &[Seen]) {
    for process in processes {
        process.kill();
    }
    until("killed processes to be gone", || processes.iter().all(|process| !process.lives()).then_some(()));
}

impl Machine {
    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Its first process reads the end of its pipe and ends; in a pid namespace it is gone only when all others are.
    fn end(mut self) {
        drop(self.stdin);
        for _ in 0..500 {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        // A process that a signal stopped is killed all the same; without a namespace the first one must be able to do it.
        if !self.setup.own_pids && self.machine().is_some() {
            self.thaw();
        }
        self.power_off();
        if std::thread::panicking() {
            eprintln!("what the sshd on {} said:\n{}", self.socket(), self.log());
        }
    }
}
