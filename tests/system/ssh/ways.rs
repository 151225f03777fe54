//! The ways in: every kind of key, secret and host key that is right, directly and over jumps. None of the secrets is to be found
//! anywhere afterwards.

use std::fs;
use std::net::{IpAddr, Ipv6Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::output;
use crate::client::{Client, Era};
use crate::fetched::left_out;
use crate::host::Host;
use crate::processes::{carrying, with_environment};
use crate::sshd::{Agent, Configuration, Key, Kind, Setup, Target, available};

/// Anything may be executed there, and these secrets are granted, each as TOML has it.
pub fn anything(configuration: Configuration, secrets: &[(&str, String)]) -> Configuration {
    let secrets: String = secrets.iter().map(|(name, source)| format!("{name} = {source}\n")).collect();
    configuration
        .any_line()
        .table("[[rules]]\ntargets = [\"*\"]\nallow = [[\"**\", \"...\"]]")
        .table(&format!("[backends.ssh.grants.secrets]\n{secrets}\n[backends.ssh.limits]\nruns = 100"))
}

/// Files with secrets, as a person keeps them.
pub struct Drawer {
    dir: tempfile::TempDir,
}

impl Drawer {
    pub fn new() -> Self {
        Self { dir: tempfile::Builder::new().prefix("falconer-drawer-").tempdir().unwrap() }
    }
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    fn write(&self, name: &str, secret: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, format!("{secret}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
    /// From a file.
    pub fn file(&self, name: &str, secret: &str) -> String {
        format!("{{ file = {:?} }}", self.write(name, secret))
    }
    /// From what a command says.
    pub fn command(&self, name: &str, secret: &str) -> String {
        format!("{{ command = [\"/bin/cat\", {:?}] }}", self.write(name, secret))
    }
}

/// A way to run there, which is asked for and awaited with others.
pub fn spawned(client: &Client, target: &str, line: &str) -> String {
    client.spawn(json!({ "backend": "ssh", "target": target, "config": { "shell": line } }))
}

/// Each target lets it in.
#[track_caller]
pub fn all_let_in(client: &Client, targets: &[&str], said: impl Fn() -> String) {
    let runs: Vec<String> = targets.iter().map(|target| spawned(client, target, "echo in")).collect();
    for (run, target) in runs.iter().zip(targets) {
        let view = client.ended(run);
        assert_eq!(view["status"], "completed", "{target}: {view:#}\n{}", said());
        assert_eq!((output(client, run, "stdout"), output(client, run, "stderr")), ("in\n".into(), String::new()), "{target}");
    }
}

/// No secret is in anything that is kept or shown, nor in any process but those of `holders`.
#[track_caller]
pub fn nowhere(host: &Host, client: &Client, secrets: &[&str], holders: &[u32]) {
    let runs = client.call("list_runs", json!({ "limit": 200 }))["runs"].clone();
    let mut shown = vec![runs.to_string(), host.run(&["decisions", "--json", "--limit", "1000"]).well(), client.errors()];
    for run in runs.as_array().unwrap() {
        let id = run["run_id"].as_str().unwrap();
        shown.push(client.get(id).to_string());
        shown.push(Value::from(client.events(id)).to_string());
    }
    for secret in secrets {
        assert_eq!(host.data_holding(secret.as_bytes()), Vec::<PathBuf>::new(), "{secret}");
        for text in &shown {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
        assert_eq!(carrying(secret), [], "{secret} in arguments");
        let others: Vec<u32> = with_environment(secret).iter().map(|seen| seen.pid).filter(|pid| !holders.contains(pid)).collect();
        assert_eq!(others, Vec::<u32>::new(), "{secret} in an environment");
    }
}

#[test]
fn every_kind_of_key_and_secret_lets_in() {
    if !available("logins over ssh") {
        return;
    }
    let secrets = ["canary of the environment", "canary of a file", "canary-of-a-command '\"$`\\", "canary: a password é"];
    let [by_env, by_file, by_command, password] = secrets;
    let keys = Kind::ALL.map(Key::new);
    let locked = [(Kind::Ed25519, by_env), (Kind::Rsa, by_file), (Kind::Ecdsa, by_command)].map(|(kind, word)| Key::encrypted(kind, word));
    let (authority, certified, held) = (Key::new(Kind::Ed25519), Key::new(Kind::Ed25519), Key::new(Kind::Ed25519));
    authority.certify(&certified, "root");
    let setup = keys.iter().chain(&locked).chain([&held]).fold(Setup::new().password(password).trust(&authority), Setup::authorize);
    let sshd = setup.start();
    let drawer = Drawer::new();
    let mut configuration = Configuration::new();
    for (name, key) in ["ed25519", "rsa", "ecdsa"].iter().zip(&keys) {
        configuration = configuration.target(Target::of(name, &sshd).identity(key));
    }
    for (name, key) in ["by-env", "by-file", "by-command"].iter().zip(&locked) {
        configuration = configuration.target(Target::of(name, &sshd).identity(key).key("passphrase", &format!("\"{name}\"")));
    }
    configuration = configuration
        .target(Target::of("certificate", &sshd).identity(&certified))
        .target(Target::of("agent", &sshd).without("identity"))
        .target(Target::of("password", &sshd).without("identity").user("far").key("password", "\"login\""));
    let granted = [
        ("by-env", "{ env = \"CANARY\" }".into()),
        ("by-file", drawer.file("one", by_file)),
        ("by-command", drawer.command("two", by_command)),
        ("login", drawer.file("three", password)),
    ];
    let host = Host::bare(anything(configuration, &granted).text());
    // The daemon is started by this one, who has neither agent nor canary.
    let client = host.client();
    let direct = ["ed25519", "rsa", "ecdsa", "by-file", "by-command", "certificate", "password"];
    all_let_in(&client, &direct, || sshd.log());
    for key in keys.iter().chain(&locked[1..]) {
        assert!(sshd.log().contains(&key.fingerprint()), "{}", sshd.log());
    }
    let log = sshd.log();
    assert!(log.contains("Accepted password for far") && log.contains("ID falconer-tests"), "{log}");
    let without = client.ended(&spawned(&client, "agent", "echo in"));
    assert_eq!(without["error"]["code"], "auth_required", "{without:#}");

    let agent = Agent::start();
    agent.add(&held);
    let mut command = host.command(&["mcp"]);
    command.env("SSH_AUTH_SOCK", agent.socket()).env("CANARY", by_env);
    let other = Client::start(command, Era::Legacy);
    all_let_in(&other, &["agent", "by-env"], || sshd.log());
    assert!(sshd.log().contains(&held.fingerprint()) && sshd.log().contains(&locked[0].fingerprint()), "{}", sshd.log());

    // While they are at work too.
    let at_work = ["password", "by-file", "by-command"].map(|target| (spawned(&client, target, "echo up; exec sleep 2001"), &client));
    let at_work = at_work.into_iter().chain([(spawned(&other, "by-env", "echo up; exec sleep 2001"), &other)]);
    let at_work: Vec<_> = at_work.collect();
    for (run, of) in &at_work {
        of.event(run, "the command", |event| event["type"] == "command_started");
    }
    nowhere(&host, &client, &secrets, &[other.pid()]);
    for (run, of) in &at_work {
        assert_eq!(of.cancel(run)["receipt"]["far_end"]["state"], "confirmed");
    }
    sshd.until_empty();
    // What prints a secret prints stars.
    fs::write(sshd.home("far").join("words"), format!("it is {password}!\n")).unwrap();
    let echo = spawned(&client, "password", "cat words; cat words >&2");
    let view = client.ended(&echo);
    let stars = format!("it is {}!\n", "*".repeat(password.len()));
    assert_eq!((&view["status"], &view["result"]["text"]), (&json!("completed"), &json!(stars)), "{view:#}");
    assert_eq!((output(&client, &echo, "stdout"), output(&client, &echo, "stderr")), (stars.clone(), stars));
    nowhere(&host, &client, &secrets, &[other.pid()]);
}

#[test]
fn every_way_to_know_a_host_key_is_taken() {
    if !available("host keys over ssh") {
        return;
    }
    let sshd = Setup::new().host_keys(&Kind::ALL).start();
    let hashed = sshd.path("hashed");
    fs::write(&hashed, sshd.known_hashed()).unwrap();
    let fingerprints = sshd.fingerprints();
    let unknown = || Target::at("trusted", sshd.socket()).user("root").identity(&sshd.key);
    let mut configuration = Configuration::new()
        .target(Target::of("known", &sshd))
        .target(Target::of("hashed", &sshd).known_hosts(&hashed))
        .target(Target::of("pinned", &sshd).fingerprint(&fingerprints))
        .target(unknown());
    let six = if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        Some(Setup::new().at(IpAddr::V6(Ipv6Addr::LOCALHOST)).start())
    } else {
        left_out("a target at ::1", "needs IPv6");
        None
    };
    if let Some(six) = &six {
        configuration = configuration.target(Target::of("six", six)).target(Target::of("six-pinned", six).fingerprint(&six.fingerprints()));
    }
    let host = Host::bare(anything(configuration, &[]).text());
    let client = host.client();
    all_let_in(&client, &["known", "hashed", "pinned"], || sshd.log());
    if let Some(six) = &six {
        all_let_in(&client, &["six", "six-pinned"], || six.log());
    }
    let before = client.ended(&spawned(&client, "trusted", "echo in"));
    assert_eq!(before["error"]["code"], "host_key_unknown", "{before:#}");
    let message = before["error"]["message"].as_str().unwrap();
    let offered = fingerprints.iter().find(|fingerprint| message.contains(fingerprint.as_str())).unwrap_or_else(|| panic!("{message}"));
    host.run(&["ssh", "trust", "trusted", "--fingerprint", offered]).well();
    all_let_in(&client, &["trusted"], || sshd.log());
    // Its own files as a person has them.
    fs::remove_file(host.data().join("known_hosts")).unwrap();
    fs::create_dir(host.path("home/.ssh")).unwrap();
    fs::copy(&hashed, host.path("home/.ssh/known_hosts")).unwrap();
    all_let_in(&client, &["trusted"], || sshd.log());
}
