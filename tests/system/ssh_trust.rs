//! Host keys: a person adds them, no run does; and a real ssh asks the program about pinned ones.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::host::{Ended, FALCONER, Host, USUAL};
use crate::patience::until;

/// A real sshd on the loopback, with a key of its own.
struct Sshd {
    dir: TempDir,
    port: u16,
    child: Child,
}

impl Sshd {
    /// None, with a line that says so, where there is no sshd and none is required.
    fn start(test: &str) -> Option<Self> {
        if !Path::new("/usr/sbin/sshd").exists() || !Path::new("/usr/bin/ssh-keyscan").exists() {
            assert!(std::env::var("FALCONER_TESTS_REQUIRE").as_deref() != Ok("all"), "{test} needs sshd; run tests/fetch");
            println!("left out: {test} needs sshd; run tests/fetch");
            return None;
        }
        // Where root starts it, it wants this directory; others need none.
        let _ = fs::create_dir_all("/run/sshd");
        let dir = tempfile::Builder::new().prefix("falconer-sshd-").tempdir().unwrap();
        new_key(dir.path());
        let (port, child) = serve(dir.path(), None);
        Some(Self { dir, port, child })
    }

    /// The machine is set up anew: another key at the same place.
    fn renew(&mut self) {
        self.end();
        fs::remove_file(self.dir.path().join("key")).unwrap();
        new_key(self.dir.path());
        self.child = serve(self.dir.path(), Some(self.port)).1;
    }

    fn end(&mut self) {
        // One that was ended already is no error.
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// As `ssh-keygen -l` shows it.
    fn fingerprint(&self) -> String {
        let out = Command::new("ssh-keygen").arg("-lf").arg(self.dir.path().join("key.pub")).output().unwrap();
        String::from_utf8(out.stdout).unwrap().split(' ').nth(1).unwrap().to_owned()
    }

    /// The target `web`, with these keys besides.
    fn target(&self, more: &str) -> String {
        format!("{USUAL}\n[[targets]]\nname = 'web'\naddress = '127.0.0.1'\nport = {}\n{more}\n", self.port)
    }

    fn name(&self) -> String {
        format!("[127.0.0.1]:{}", self.port)
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.end();
    }
}

fn new_key(dir: &Path) {
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(dir.join("key")).status().unwrap();
    assert!(made.success());
}

fn serve(dir: &Path, port: Option<u16>) -> (u16, Child) {
    until("an sshd", || {
        let port = port.unwrap_or_else(|| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
        let config = dir.join("config");
        fs::write(&config, format!("ListenAddress 127.0.0.1:{port}\nHostKey {}\nPidFile none\nUsePAM no\n", dir.join("key").display()))
            .unwrap();
        let mut child = Command::new("/usr/sbin/sshd").arg("-D").arg("-f").arg(config).arg("-E").arg(dir.join("log")).spawn().unwrap();
        until("it to listen, or to end", || {
            if child.try_wait().unwrap().is_some() {
                return Some(None);
            }
            TcpStream::connect(("127.0.0.1", port)).ok().map(Some)
        })
        // Nobody was faster at this port.
        .map(|_| (port, child))
    })
}

fn known(host: &Host) -> PathBuf {
    host.data().join("known_hosts")
}

/// What a file knows of a name.
fn knows(file: &Path, name: &str) -> String {
    let out = Command::new("ssh-keygen").args(["-l", "-F", name, "-f"]).arg(file).output().unwrap();
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn a_key_is_added_once_by_its_fingerprint_and_replaced_only_on_purpose() {
    let Some(mut sshd) = Sshd::start("ssh_trust") else { return };
    let host = Host::bare(&sshd.target(""));
    let trust = |fingerprint: &str, more: &[&str]| host.run(&[&["ssh", "trust", "web", "--fingerprint", fingerprint], more].concat());
    let first = sshd.fingerprint();

    let other = trust("SHA256:mVPwvezndPv/ARoIadVY98vAC0g+P/5633yTC4d/wXE", &[]);
    assert!(other.code == Some(1) && other.err.contains(&first) && !known(&host).exists(), "{other:?}");
    let added = trust(&first, &["--json"]);
    let told: Value = serde_json::from_str(&added.well()).unwrap();
    assert_eq!((&told["added"][0]["fingerprint"], &told["added"][0]["type"]), (&first.as_str().into(), &"ssh-ed25519".into()), "{told}");
    assert_eq!(fs::metadata(known(&host)).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(knows(&known(&host), &sshd.name()).contains(&first));
    let before = fs::read_to_string(known(&host)).unwrap();
    let again = trust(&first, &[]);
    assert!(again.well().contains("known already") && fs::read_to_string(known(&host)).unwrap() == before);

    // Hashed, as people's own files are.
    assert!(Command::new("ssh-keygen").args(["-q", "-H", "-f"]).arg(known(&host)).stderr(Stdio::null()).status().unwrap().success());
    sshd.renew();
    let second = sshd.fingerprint();
    let changed = trust(&second, &[]);
    assert!(changed.code == Some(1) && changed.err.contains("has changed"), "{changed:?}");
    assert!(changed.err.contains(&first) && changed.err.contains(&second) && changed.err.contains("--replace"), "{changed:?}");
    let replaced = trust(&second, &["--replace"]);
    assert!(replaced.out.contains("taken away") && replaced.code == Some(0), "{replaced:?}");
    let left = knows(&known(&host), &sshd.name());
    assert!(left.contains(&second) && !left.contains(&first), "{left}");

    // Now what a person's own ssh knows counts too.
    fs::rename(known(&host), host.path("was")).unwrap();
    fs::create_dir(host.path("home/.ssh")).unwrap();
    fs::copy(host.path("was"), host.path("home/.ssh/known_hosts")).unwrap();
    assert!(trust(&second, &[]).well().contains("known already") && !known(&host).exists());
    sshd.end();
    let dead = trust(&second, &[]);
    assert!(dead.code == Some(1) && dead.err.contains("does not answer as an SSH server"), "{dead:?}");
}

/// The program in a terminal, with this typed into it.
fn in_terminal(host: &Host, arguments: &str, typed: &str) -> Ended {
    use std::io::Write;
    let mut command = host.command(&[]);
    let env: Vec<_> = command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect();
    command = Command::new("/usr/bin/script");
    command.args(["-qefc", &format!("{FALCONER} {arguments}"), "/dev/null"]).env_clear().envs(env).current_dir(host.work());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(typed.as_bytes()).unwrap();
    let ended = child.wait_with_output().unwrap();
    drop(stdin);
    Ended::of(ended)
}

#[test]
fn without_a_fingerprint_a_person_says_yes_in_a_terminal() {
    let Some(sshd) = Sshd::start("ssh_trust") else { return };
    if !Path::new("/usr/bin/script").exists() {
        return println!("left out: no script(1) here");
    }
    let host = Host::bare(&sshd.target("known_hosts = '{dir}/mine/known'"));
    let file = host.path("mine/known");
    let nobody = host.run(&["ssh", "trust", "web"]);
    assert!(nobody.code == Some(4) && nobody.err.contains("--fingerprint"), "{nobody:?}");
    let no = in_terminal(&host, "ssh trust web", "y\n");
    assert!(no.code == Some(4) && no.out.contains(&sshd.fingerprint()) && !file.exists(), "{no:?}");
    let yes = in_terminal(&host, "ssh trust web", "yes\n");
    assert!(yes.code == Some(0) && knows(&file, &sshd.name()).contains(&sshd.fingerprint()), "{yes:?}");
    assert!(!known(&host).exists(), "only the target's own file");
}

#[test]
fn what_cannot_be_is_said() {
    let Some(sshd) = Sshd::start("ssh_trust") else { return };
    let more = "[[targets]]\nname = 'behind'\naddress = 'db.internal'\njump = 'web'\n[[targets]]\nname = 'pinned'\naddress = '127.0.0.1'\nfingerprint = 'SHA256:mVPwvezndPv/ARoIadVY98vAC0g+P/5633yTC4d/wXE'\n[[targets]]\nname = 'blocked'\naddress = '203.0.113.7'\n[network]\nblock = ['203.0.113.0/24']\n";
    let host = Host::bare(&sshd.target(more));
    let fingerprint = sshd.fingerprint();
    for (target, code, words) in [
        ("nobody", 2, "no target is called `nobody`"),
        ("pinned", 2, "is pinned to SHA256:mVPw"),
        ("behind", 4, "is reached over `web`"),
        ("blocked", 4, "network.block: 203.0.113.0/24"),
    ] {
        let ended = host.run(&["ssh", "trust", target, "--fingerprint", &fingerprint]);
        assert!(ended.code == Some(code) && ended.err.contains(words), "{target}: {ended:?}");
    }
    assert_eq!(host.run(&["ssh", "trust", "web", "--fingerprint", "SHA256:x"]).code, Some(2));
    assert!(!known(&host).exists());
}

#[test]
fn no_run_may_do_it() {
    let Some(sshd) = Sshd::start("ssh_trust") else { return };
    let host = Host::with(&sshd.target(""));
    let trust = format!(
        "{FALCONER} --config {} --data-dir {} ssh trust web --fingerprint {}; echo code=$?",
        host.path("falconer.toml").display(),
        host.data().display(),
        sshd.fingerprint()
    );
    for script in [trust.clone(), format!("unset FALCONER_RUN_ID; {trust}"), format!("unset FALCONER_RUN_ID; setsid -w sh -c '{trust}'")] {
        let ended = host.run(&["run", "exec", "--", "sh", "-c", &script]);
        let all = format!("{}{}", ended.out, ended.err);
        assert!(all.contains("code=4") && all.contains("this is inside a run"), "{script}: {ended:?}");
    }
    assert!(!known(&host).exists());
}

#[test]
fn a_real_ssh_takes_a_pinned_key_and_no_other() {
    let Some(mut sshd) = Sshd::start("ssh_trust") else { return };
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("falconer-askpass");
    symlink(FALCONER, &link).unwrap();
    fs::write(dir.path().join("pinned"), format!("web {}\n", sshd.fingerprint())).unwrap();
    let other = dir.path().join("known");
    let connect = |port: u16| {
        let log = dir.path().join("ssh.log");
        let _ = fs::remove_file(&log);
        let command = format!("KnownHostsCommand={} host-key web %I %H %t %K {}", link.display(), other.display());
        let options = [
            "StrictHostKeyChecking=yes",
            "UserKnownHostsFile=none",
            "GlobalKnownHostsFile=none",
            "PreferredAuthentications=none",
            "LogLevel=DEBUG1",
        ];
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-T", "-p", &port.to_string(), "-o", &command, "-o", "HostKeyAlias=[web]:1"]);
        ssh.args(options.iter().flat_map(|option| ["-o", option])).arg("-E").arg(&log).args(["--", "127.0.0.1", "true"]);
        let ended = Ended::of(ssh.env("SSH_ASKPASS", &link).env("SSH_ASKPASS_REQUIRE", "force").stdin(Stdio::null()).output().unwrap());
        (ended, fs::read_to_string(log).unwrap())
    };
    let (_, log) = connect(sshd.port);
    assert!(log.contains("is known and matches") && log.contains("Permission denied"), "{log}");
    let first = sshd.fingerprint();
    sshd.renew();
    let (_, log) = connect(sshd.port);
    assert!(log.contains("Host key verification failed") && !log.contains("Permission denied"), "{log}");
    let offered = fs::read_to_string(dir.path().join("offered")).unwrap();
    assert_eq!(offered, format!("web ssh-ed25519 {first}\nweb ssh-ed25519 {}\n", sshd.fingerprint()));
}

#[test]
fn the_link_answers_nothing_where_nobody_listens() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("falconer-askpass");
    symlink(FALCONER, &link).unwrap();
    let ask = |prompt: &str, kind: Option<&str>| {
        let mut command = Command::new(&link);
        command.arg(prompt).env_remove("SSH_ASKPASS_PROMPT").stdin(Stdio::null());
        command.envs(kind.map(|kind| ("SSH_ASKPASS_PROMPT", kind)));
        let ended = Ended::of(command.output().unwrap());
        assert!(ended.out.is_empty() && ended.err.is_empty(), "{ended:?}");
        ended.code
    };
    assert_eq!(ask("u@web's password: ", None), Some(1));
    assert_eq!(ask("Are you sure you want to continue connecting (yes/no/[fingerprint])? ", Some("confirm")), Some(1));
    assert_eq!(ask("Confirm user presence for key ED25519-SK SHA256:x", Some("none")), Some(0));
}
