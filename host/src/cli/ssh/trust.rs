//! `falconer ssh trust`: a person says that a machine's key is the right one.
//!
//! The target is found, judged and resolved as for a run; it is asked for its keys (`ssh-keyscan`), nothing is logged in to. The
//! person compares the fingerprint and says yes, or gives the one that is right. Nothing that lives inside a run may do this: a model
//! must not vouch for a machine.
//!
//! Exit codes: 0 the key is known now, or was before; 1 the machine cannot be asked, or offers another key; 2 the command line or the
//! configuration is wrong; 4 it is refused: inside a run, without a person, or the person said no.

use std::io::{self, BufRead, IsTerminal};
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::json;

use crate::cli::exit::{Exit, end};
use crate::cli::{Globals, fail, fail_config, put, say};
use crate::config::{Config, Fingerprint, HostKey};
use crate::daemon::prepare_dir;
use crate::far::host_key::fingerprint;
use crate::far::known::{self, Entry};
use crate::fault::{Fault, code};
use crate::policy::Policy;
use crate::policy::inventory::Host;
use crate::tree::mark_of;

/// How long one address may take for its keys; those of one type at a time.
const SCAN: Duration = Duration::from_secs(10);
/// How long `ssh-keyscan` may take in all, which asks for each type by a connection of its own.
const SCANS: Duration = Duration::from_secs(45);
/// Files of known keys of the machine, which are not the person's own.
const GLOBAL: &str = "/etc/ssh/ssh_known_hosts";

/// Ask a target for its host key, show its fingerprint, and add it to the known ones.
///
/// Compare the fingerprint with the machine's own: `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`, on that machine.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of a target
    pub target: String,
    /// The fingerprint that is right; nothing is asked then
    #[arg(long, value_name = "SHA256:…")]
    pub fingerprint: Option<String>,
    /// Take the place of another key that is known for it
    #[arg(long)]
    pub replace: bool,
}

/// A key that the machine offers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Offer {
    kind: String,
    key: String,
    fingerprint: String,
}

/// The command.
pub async fn run(globals: &Globals, args: Args) -> ExitCode {
    // Before anything else: here the configuration may be out of sight.
    if std::env::var_os("FALCONER_RUN_ID").is_some_and(|run| !run.is_empty()) || !mark_of(std::process::id()).is_empty() {
        return fail(
            &Fault::new(code::NOT_ALLOWED, "this is inside a run, and no run may say which host keys are right")
                .hint(format!("a person runs `falconer ssh trust {}` in a terminal of their own", args.target)),
        );
    }
    let config = match globals.overrides().and_then(|overrides| Config::read(&overrides)) {
        Ok(config) => Arc::new(config),
        Err(errors) => return fail_config(&errors),
    };
    end(trust(globals, &config, args).await)
}

fn expected(text: &str) -> Result<Fingerprint, Fault> {
    Fingerprint::parse(text).ok_or_else(|| {
        Fault::new(code::INVALID_ARGUMENT, format!("`{}` is no fingerprint", crate::config::inert(text)))
            .hint("write it as `ssh-keygen -lf` shows it: SHA256: and 43 letters")
    })
}

async fn trust(globals: &Globals, config: &Arc<Config>, args: Args) -> Result<Exit, Fault> {
    let wanted = args.fingerprint.as_deref().map(expected).transpose()?;
    let policy = Policy::resolve(config);
    let host = policy.inventory().host(&args.target)?;
    let files = Files::of(host, config)?;
    let name = host.known_as();
    if let Some(jump) = &host.jump {
        return Err(Fault::new(code::UNSUPPORTED, format!("`{}` is reached over `{jump}`, and cannot be asked from here", args.target)).hint(format!(
            "on that machine, `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` shows the fingerprint: write it as `fingerprint` of the target; or add `{name} TYPE KEY` to {}",
            files.own
        )));
    }
    let way = policy.network().resolve(&host.address, host.port).await?;
    let mut offers = Vec::new();
    for checked in std::iter::once(&way.first).chain(&way.others) {
        offers = scan(config, &checked.host(), host.port).await?;
        if !offers.is_empty() {
            break;
        }
    }
    if offers.is_empty() {
        return Err(Fault::new(
            code::TARGET_UNAVAILABLE,
            format!("`{}` does not answer as an SSH server at {} port {}", args.target, way.first.host(), host.port),
        )
        .hint("is it up, is the port right, and does a firewall let this machine in?")
        .retryable());
    }
    let mut entries = Vec::new();
    for file in files.all() {
        let found = known::entries(file, &name);
        entries.extend(found.map_err(|error| {
            Fault::new(code::PROGRAM_NOT_FOUND, format!("ssh-keygen cannot be started: {error}")).hint("install the OpenSSH client")
        })?);
    }
    let found = Found { target: &args.target, name: &name, offers, entries };
    decide(globals, config, &files, &found, wanted.as_ref(), args.replace)
}

/// What the machine offers and what is known of it.
struct Found<'a> {
    target: &'a str,
    name: &'a str,
    offers: Vec<Offer>,
    entries: Vec<Entry>,
}

impl Found<'_> {
    fn knows(&self, offer: &Offer) -> bool {
        self.entries.iter().any(|entry| entry.marker.is_none() && entry.key == offer.key)
    }

    /// Keys that are known and that the machine would have to offer: it has another one of their type.
    fn changed(&self) -> impl Iterator<Item = &Entry> {
        let other = |entry: &&Entry| {
            let mut same = self.offers.iter().filter(|offer| offer.kind == entry.kind).peekable();
            entry.marker.is_none() && same.peek().is_some() && !same.any(|offer| offer.key == entry.key)
        };
        self.entries.iter().filter(other)
    }
}

fn decide(
    globals: &Globals,
    config: &Config,
    files: &Files,
    found: &Found<'_>,
    wanted: Option<&Fingerprint>,
    replace: bool,
) -> Result<Exit, Fault> {
    let list = |offers: &[Offer]| offers.iter().map(|offer| format!("{} {}", offer.kind, offer.fingerprint)).collect::<Vec<_>>().join(", ");
    let Found { target, name, offers, .. } = found;
    let revoked = |offer: &&Offer| found.entries.iter().any(|entry| entry.marker.as_deref() == Some("@revoked") && entry.key == offer.key);
    if let Some(offer) = offers.iter().find(revoked) {
        return Err(Fault::new(code::NOT_ALLOWED, format!("`{target}` offers {} {}, which is revoked", offer.kind, offer.fingerprint))
            .hint("find out why; the machine needs a new key"));
    }
    let chosen: Vec<&Offer> = match wanted {
        None => offers.iter().collect(),
        Some(wanted) => offers.iter().filter(|offer| offer.fingerprint == wanted.as_str()).collect(),
    };
    if chosen.is_empty() {
        return Err(Fault::new("host_key_mismatch", format!("`{target}` does not offer this key; it offers {}", list(offers)))
            .hint("somebody may stand in the way, or the fingerprint is another machine's; nothing was changed"));
    }
    let changed: Vec<&Entry> = found.changed().collect();
    let known = |entry: &&Entry| format!("{} {} ({}:{})", entry.kind, entry.fingerprint, entry.file, entry.line);
    if !changed.is_empty() && !replace {
        let known: Vec<String> = changed.iter().map(known).collect();
        return Err(Fault::new(
            "host_key_changed",
            format!("the host key of `{target}` has changed: it offers {}, known is {}", list(offers), known.join(", ")),
        )
        .hint("somebody may stand in the way, or the machine was set up anew; where you know that it was: --replace"));
    }
    let new: Vec<&Offer> = chosen.into_iter().filter(|offer| !found.knows(offer)).collect();
    if new.is_empty() && changed.is_empty() {
        tell(globals, found, &files.own, &[], &[]);
        return Ok(Exit::Completed);
    }
    // Before anybody is asked: what cannot be done is not offered.
    for entry in &changed {
        files.may_remove(entry, name)?;
    }
    if wanted.is_none() {
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Err(Fault::new(code::NOT_ALLOWED, "nobody is here to compare the fingerprint")
                .hint("run it in a terminal, or give the right one: --fingerprint SHA256:…"));
        }
        say(format_args!("`{target}` is known as {name}, and offers"));
        for offer in &new {
            say(format_args!("  {} {}", offer.kind, offer.fingerprint));
        }
        for entry in &changed {
            say(format_args!("and this key of it was known, and is to be taken away:\n  {}", known(entry)));
        }
        if !is_yes(&new)? {
            return Err(Fault::new(code::NOT_ALLOWED, "you did not say yes; nothing was changed"));
        }
    }
    let failed = |file: &Utf8Path| {
        let file = file.to_owned();
        move |error: io::Error| {
            Fault::new("known_hosts_failed", format!("{file}: {error}")).hint("make it a file of yours that you can write")
        }
    };
    if files.is_data {
        prepare_dir(&config.data_dir)?;
    }
    for file in files.all() {
        let lines: Vec<&Entry> = changed.iter().copied().filter(|entry| entry.file == *file).collect();
        if !lines.is_empty() {
            known::remove(file, &lines).map_err(failed(file))?;
        }
    }
    let lines: Vec<String> = new.iter().map(|offer| format!("{name} {} {}", offer.kind, offer.key)).collect();
    known::append(&files.own, &lines).map_err(failed(&files.own))?;
    tell(globals, found, &files.own, &new, &changed);
    Ok(Exit::Completed)
}

/// The files in which the key of a target is looked for.
struct Files {
    /// Where a new one goes.
    own: Utf8PathBuf,
    /// That is in the data directory.
    is_data: bool,
    others: Vec<Utf8PathBuf>,
}

impl Files {
    fn of(host: &Host, config: &Config) -> Result<Self, Fault> {
        match &host.host_key {
            Some(HostKey::Pinned(keys)) => {
                let keys: Vec<&str> = keys.iter().map(Fingerprint::as_str).collect();
                Err(Fault::new(
                    code::INVALID_ARGUMENT,
                    format!("the key of `{}` is pinned to {}, and no file counts", host.target.name, keys.join(" or ")),
                )
                .hint("change `fingerprint` of the target in the configuration, or take it out"))
            }
            Some(HostKey::KnownHosts(file)) => Ok(Self { own: file.clone(), is_data: false, others: vec![GLOBAL.into()] }),
            None => {
                Ok(Self { own: known::own(&config.data_dir), is_data: true, others: vec![known::persons(&config.home), GLOBAL.into()] })
            }
        }
    }

    fn all(&self) -> impl Iterator<Item = &Utf8PathBuf> {
        std::iter::once(&self.own).chain(&self.others)
    }

    /// Only lines of the person's own files that are about this one name are taken away.
    fn may_remove(&self, entry: &Entry, name: &str) -> Result<(), Fault> {
        if entry.file == GLOBAL || !(entry.names == name || entry.names.starts_with("|1|")) {
            return Err(Fault::new(
                code::NOT_ALLOWED,
                format!("the old key stands in {} line {}, which is not about `{name}` alone", entry.file, entry.line),
            )
            .hint("take it out of that line by hand, and try again"));
        }
        Ok(())
    }
}

fn is_yes(new: &[&Offer]) -> Result<bool, Fault> {
    say(format_args!("Compare with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on that machine."));
    say(format_args!("Type yes, or paste the right fingerprint:"));
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(|error| Fault::new(code::INTERNAL, format!("the terminal cannot be read: {error}")))?;
    let said = line.trim();
    Ok(said == "yes" || new.iter().any(|offer| offer.fingerprint == said))
}

fn tell(globals: &Globals, found: &Found<'_>, file: &Utf8Path, added: &[&Offer], removed: &[&Entry]) {
    if globals.json {
        let key = |kind: &str, fingerprint: &str| json!({ "type": kind, "fingerprint": fingerprint });
        let added: Vec<_> = added.iter().map(|offer| key(&offer.kind, &offer.fingerprint)).collect();
        let removed: Vec<_> = removed.iter().map(|entry| key(&entry.kind, &entry.fingerprint)).collect();
        put(format_args!(
            "{}",
            json!({ "target": found.target, "known_as": found.name, "added": added, "removed": removed, "file": file })
        ));
        return;
    }
    for entry in removed {
        put(format_args!("taken away: {} {} of {} in {}", entry.kind, entry.fingerprint, found.name, entry.file));
    }
    for offer in added {
        put(format_args!("added: {} {} for {} in {file}", offer.kind, offer.fingerprint, found.name));
    }
    if added.is_empty() && removed.is_empty() {
        for offer in found.offers.iter().filter(|offer| found.knows(offer)) {
            put(format_args!("known already: {} {} for {}", offer.kind, offer.fingerprint, found.name));
        }
    }
}

/// Asks one address for its keys; none where it does not answer.
async fn scan(config: &Config, address: &str, port: u16) -> Result<Vec<Offer>, Fault> {
    let path: Vec<&str> = config.path.iter().map(|dir| dir.as_str()).collect();
    let mut command = tokio::process::Command::new("ssh-keyscan");
    command.args(["-T", &SCAN.as_secs().to_string(), "-p", &port.to_string(), "--", address]);
    command.env("PATH", path.join(":")).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let out = match tokio::time::timeout(SCANS, command.output()).await {
        Ok(Ok(out)) => out,
        Ok(Err(error)) => {
            return Err(
                Fault::new(code::PROGRAM_NOT_FOUND, format!("ssh-keyscan cannot be started: {error}")).hint("install the OpenSSH client")
            );
        }
        Err(_) => return Ok(Vec::new()),
    };
    Ok(offers(&String::from_utf8_lossy(&out.stdout)))
}

/// Lines of `address type key`; comments begin with `#`. What is no key is left out.
fn offers(said: &str) -> Vec<Offer> {
    let plain = |kind: &str| kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-@.".contains(&byte));
    let read = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (kind, key) = (words.next().filter(|kind| plain(kind))?, words.next()?);
        Some(Offer { kind: kind.to_owned(), key: key.to_owned(), fingerprint: fingerprint(key)? })
    };
    said.lines().filter(|line| !line.starts_with('#')).filter_map(read).collect()
}
