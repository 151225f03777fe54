//! What `~/.ssh/config` says about chosen aliases, by `ssh -G` (ssh(1)): the resolved options, printed, with nothing connected.
//!
//! Only listed options are taken: HostName, Port, User, IdentityFile, UserKnownHostsFile, HostKeyAlias, and ProxyJump where it
//! names a target. An alias that needs a program to be reached (ProxyCommand) is refused, not half taken. The file is the user's
//! own, and `ssh -G` runs what its `Match exec` lines say, as every ssh of theirs does; runs never read it.

use std::collections::BTreeMap;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, pidfd_open};

use super::Problem;
use crate::config::{Address, Config, Target, inert, is_user};
use crate::policy::programs;

/// How long all `ssh -G` together may take.
pub const EXPANSION: Duration = Duration::from_secs(10);
/// More than `ssh -G` ever prints.
const LONGEST: u64 = 256 << 10;
/// A name that no file speaks of: what is said about it is said about everything.
const NOBODY: &str = "falconer-no-such-alias";

/// What is taken of an alias.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Expanded {
    pub address: Option<Address>,
    pub port: Option<u16>,
    pub user: Option<String>,
    pub identity: Vec<Utf8PathBuf>,
    pub known_hosts: Option<Utf8PathBuf>,
    pub host_key_alias: Option<String>,
    /// The name of a target, once [`Expanded::jump`] was called; before that, as the file has it.
    pub jump: Option<String>,
}

impl Expanded {
    /// Finds the target that the alias jumps over.
    pub fn jump(mut self, config: &Config, target: &Target) -> Result<Self, Problem> {
        let Some(written) = self.jump.take().filter(|_| target.jump.is_none()) else { return Ok(self) };
        let one = written.rsplit_once('@').map_or(written.as_str(), |(_, host)| host);
        let bare = one.split_once(':').map_or(one, |(host, _)| host);
        let found = config.targets.iter().find(|other| other.name == bare || other.ssh_alias.as_deref() == Some(bare));
        match found {
            Some(over) if !written.contains(',') => {
                self.jump = Some(over.name.clone());
                Ok(self)
            }
            _ => Err(Problem {
                message: format!("its alias jumps over `{}`, which is no target", inert(&written)),
                hint: "add each jump host as [[targets]], and name it with `jump`".into(),
            }),
        }
    }
}

/// Asks about every alias of a configuration, once for each. Nothing is started where there is none.
pub(super) fn expand(config: &Config) -> BTreeMap<String, Result<Expanded, Problem>> {
    let mut aliases: Vec<&str> = config.targets.iter().filter_map(|target| target.ssh_alias.as_deref()).collect();
    aliases.sort_unstable();
    aliases.dedup();
    if aliases.is_empty() {
        return BTreeMap::new();
    }
    let file = config.home.join(".ssh/config");
    let all = |problem: Problem| aliases.iter().map(|alias| ((*alias).to_owned(), Err(problem.clone()))).collect();
    if !file.is_file() {
        return all(Problem { message: format!("{file} is not there"), hint: "write `address` instead of `ssh_alias`".into() });
    }
    let ssh = match programs::find("ssh", &config.path) {
        Ok(ssh) => ssh,
        Err(why) => return all(Problem { message: why, hint: "install the OpenSSH client (Debian: openssh-client)".into() }),
    };
    let until = Instant::now() + EXPANSION;
    let start = |alias: &str| ask(&ssh, &file, alias, config);
    let nobody = start(NOBODY);
    let started: Vec<_> = aliases.iter().map(|alias| (*alias, start(alias))).collect();
    let nobody = nobody.and_then(|child| answer(child, until));
    let read = |alias: &str, child: std::io::Result<Child>| {
        let failed = |why: String| Problem { message: format!("`ssh -G {alias}`: {why}"), hint: format!("mend {file}") };
        let said = child.and_then(|child| answer(child, until)).map_err(|error| failed(inert(&error.to_string())))?;
        // A name that the file does not speak of gets the same answer as any other.
        let same = |other: &String| said.replace(alias, NOBODY) == *other;
        if nobody.as_ref().is_ok_and(same) {
            return Err(Problem {
                message: format!("{file} says nothing about `{alias}`"),
                hint: format!("write `Host {alias}` there, or mend `ssh_alias`"),
            });
        }
        taken(&said, config).map_err(|message| Problem {
            message: format!("alias `{alias}`: {message}"),
            hint: "write what is needed into [[targets]]; `ssh_alias` is for the simple ones".into(),
        })
    };
    started.into_iter().map(|(alias, child)| (alias.to_owned(), read(alias, child))).collect()
}

fn ask(ssh: &Utf8Path, file: &Utf8Path, alias: &str, config: &Config) -> std::io::Result<Child> {
    let path = config.path.iter().map(|dir| dir.as_str()).collect::<Vec<_>>().join(":");
    Command::new(ssh)
        .args(["-F", file.as_str(), "-G", "--", alias])
        .env_clear()
        .env("PATH", path)
        .env("HOME", config.home.as_str())
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

/// All that it prints, once it has ended; it is killed when the time is over.
fn answer(mut child: Child, until: Instant) -> std::io::Result<String> {
    let read = read(&mut child, until);
    if read.is_err() {
        let _ = child.kill();
    }
    let status = child.wait()?;
    let said = read?;
    if status.success() {
        return Ok(said);
    }
    let mut why = String::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = stderr.take(1000).read_to_string(&mut why);
    }
    Err(std::io::Error::other(why.lines().next().unwrap_or("it failed").to_owned()))
}

fn read(child: &mut Child, until: Instant) -> std::io::Result<String> {
    let late = || std::io::Error::from(std::io::ErrorKind::TimedOut);
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw).ok_or_else(late)?;
    let ends = pidfd_open(pid, PidfdFlags::empty())?;
    let Some(mut stdout) = child.stdout.take() else { return Err(late()) };
    let wait = |fd: &mut PollFd<'_>| {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(|_| late())?;
            match poll(std::slice::from_mut(fd), Some(&left)) {
                Ok(0) => return Err(late()),
                Ok(_) => return Ok(()),
                // A signal that this process handles, such as that of the end of another child.
                Err(Errno::INTR) => {}
                Err(other) => return Err(other.into()),
            }
        }
    };
    let mut bytes = Vec::new();
    loop {
        wait(&mut PollFd::new(&stdout, PollFlags::IN))?;
        let mut piece = [0; 8192];
        match stdout.read(&mut piece)? {
            0 => break,
            _ if bytes.len() as u64 > LONGEST => return Err(std::io::Error::other("it prints too much")),
            count => bytes.extend_from_slice(&piece[..count]),
        }
    }
    wait(&mut PollFd::new(&ends, PollFlags::IN))?;
    String::from_utf8(bytes).map_err(|_| std::io::Error::from(std::io::ErrorKind::InvalidData))
}

/// The listed options of an answer.
fn taken(said: &str, config: &Config) -> Result<Expanded, String> {
    let mut out = Expanded::default();
    let home = |path: &str| path.strip_prefix("~/").map_or_else(|| Utf8PathBuf::from(path), |rest| config.home.join(rest));
    let plain = |key: &str, path: &str| {
        // TOKENS and environment variables (ssh_config(5)) mean something else for every connection.
        if path.contains(['%', '$']) { Err(format!("its {key} `{}` holds a token", inert(path))) } else { Ok(home(path)) }
    };
    for line in said.lines() {
        let Some((key, value)) = line.split_once(' ') else { continue };
        match key {
            "hostname" => out.address = Some(Address::parse(value).map_err(|(message, _)| inert(&message))?),
            "port" => out.port = Some(value.parse().map_err(|_| format!("port `{}`", inert(value)))?),
            "user" if is_user(value) => out.user = Some(value.to_owned()),
            "user" => return Err(format!("`{}` is no login that is taken", inert(value))),
            "identityfile" if value != "none" => out.identity.push(plain("IdentityFile", value)?),
            // One file, or the two that are there without a word.
            "userknownhostsfile" => match value.split(' ').collect::<Vec<_>>()[..] {
                [one] if one != "none" => out.known_hosts = Some(plain("UserKnownHostsFile", one)?),
                [one, two] if one.ends_with("/.ssh/known_hosts") && two.ends_with("/.ssh/known_hosts2") => {}
                _ => return Err("it names no or several UserKnownHostsFile".into()),
            },
            "hostkeyalias" => out.host_key_alias = Some(Address::parse(value).map_err(|(message, _)| inert(&message))?.to_string()),
            "proxyjump" if value != "none" => out.jump = Some(value.to_owned()),
            "proxycommand" if value != "none" => return Err("it is reached by a ProxyCommand, which falconer never runs".into()),
            _ => {}
        }
    }
    // Without a word, ssh prints the names that it tries by itself.
    let own = |file: &Utf8PathBuf| {
        file.parent().is_some_and(|dir| dir.ends_with(".ssh")) && file.file_name().is_some_and(|name| DEFAULTS.contains(&name))
    };
    if out.identity.len() > 3 && out.identity.iter().all(own) {
        out.identity.clear();
    }
    Ok(out)
}

/// The names of keys that ssh(1) tries where it is told none.
const DEFAULTS: &[&str] = &["id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk", "id_xmss", "id_dsa"];
