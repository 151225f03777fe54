//! Ways that lead nowhere: each says why in a code of its own, with the way out, and no secret of it is to be found afterwards.

use std::fs;
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::ways::{Drawer, all_let_in, anything, nowhere, spawned};
use crate::client::{Client, Era};
use crate::host::Host;
use crate::sshd::nowhere::{BlackHole, DeadPort, Silence, Stranger};
use crate::sshd::{Agent, Configuration, Key, Kind, Setup, Shell, Sshd, Target, available};

/// What a run to a target is to fail with: its code, words of its message, a word of its hint.
type Failing<'a> = (&'a str, &'a str, Vec<String>, &'a str);

#[track_caller]
fn all_fail(client: &Client, cases: &[Failing<'_>]) {
    let runs: Vec<String> = cases.iter().map(|(target, ..)| spawned(client, target, "echo in")).collect();
    for (run, (target, code, words, hint)) in runs.iter().zip(cases) {
        let view = client.ended(run);
        assert_eq!((&view["status"], &view["error"]["code"]), (&json!("failed"), &json!(code)), "{target}: {view:#}");
        let told = |field: &str| view["error"][field].as_str().unwrap_or_else(|| panic!("{target}: no {field}: {view:#}")).to_owned();
        let message = told("message");
        assert!(words.iter().all(|word| message.contains(word.as_str())), "{target}: {words:?}: {message}");
        assert!(message.contains(&format!("`{target}`")) || *code == "far_end_failed", "{target}: {message}");
        assert!(told("hint").contains(hint), "{target}: {view:#}");
        assert!(client.events(run).iter().all(|event| event["type"] != "command_started"), "{target} began");
    }
}

fn words(of: &[&str]) -> Vec<String> {
    of.iter().map(ToString::to_string).collect()
}

#[test]
fn what_does_not_let_in_says_why() {
    if !available("refused logins over ssh") {
        return;
    }
    let secrets = ["canary: a wrong password", "canary: a wrong passphrase", "canary: the right passphrase"];
    let (locked, stray) = (Key::encrypted(Kind::Ed25519, secrets[2]), Key::new(Kind::Rsa));
    let sshd = Setup::new().authorize(&locked).start();
    let drawer = Drawer::new();
    let configuration = Configuration::new()
        .target(Target::of("wrong-password", &sshd).without("identity").user("far").key("password", "\"password\""))
        .target(Target::of("no-password", &sshd).without("identity").user("far"))
        .target(Target::of("wrong-passphrase", &sshd).identity(&locked).key("passphrase", "\"passphrase\""))
        .target(Target::of("no-passphrase", &sshd).identity(&locked))
        .target(Target::of("stray", &sshd).identity(&stray))
        .target(Target::of("agent", &sshd).without("identity"))
        .target(Target::of("well", &sshd).identity(&locked).key("passphrase", "\"right\""));
    let granted = [
        ("password", drawer.file("one", secrets[0])),
        ("passphrase", drawer.command("two", secrets[1])),
        ("right", drawer.file("three", secrets[2])),
    ];
    let host = Host::bare(anything(configuration, &granted).text());
    let agent = Agent::start();
    agent.add(&stray);
    let mut command = host.command(&["mcp"]);
    command.env("SSH_AUTH_SOCK", agent.socket());
    let client = Client::start(command, Era::Legacy);
    all_fail(
        &client,
        &[
            ("wrong-password", "auth_failed", words(&["a password was given"]), "mends the secret that `password`"),
            ("wrong-passphrase", "auth_failed", words(&["its passphrase does not open it"]), "mends the secret that `passphrase`"),
            ("no-passphrase", "auth_required", words(&["it is locked"]), "`passphrase` of target"),
            ("stray", "auth_failed", words(&["one key was offered"]), "authorized_keys"),
            ("agent", "auth_failed", words(&["one key was offered"]), "authorized_keys"),
        ],
    );
    let plain = host.client();
    all_fail(&plain, &[("no-password", "auth_required", words(&["it takes publickey, password"]), "`password` of target")]);
    all_let_in(&client, &["well"], || sshd.log());
    assert!(!sshd.log().contains("Accepted password"), "{}", sshd.log());
    sshd.until_empty();
    nowhere(&host, &client, &secrets, &[]);
}

#[test]
fn a_host_key_that_is_not_right_ends_it_before_the_login() {
    if !available("wrong host keys over ssh") {
        return;
    }
    let canary = "canary: never sent";
    let sshd = Sshd::usual();
    let old = sshd.fingerprints();
    let drawer = Drawer::new();
    let hashed = sshd.path("hashed");
    fs::write(&hashed, sshd.known_hashed()).unwrap();
    let with_password = |target: Target| target.without("identity").user("far").key("password", "\"login\"");
    let configuration = Configuration::new()
        .target(with_password(Target::of("changed", &sshd)))
        .target(with_password(Target::of("changed-hashed", &sshd).known_hosts(&hashed)))
        .target(with_password(Target::at("unknown", sshd.socket())))
        .target(with_password(Target::of("pinned", &sshd).fingerprint(&old)));
    let host = Host::bare(anything(configuration, &[("login", drawer.file("one", canary))]).text());
    let client = host.client();
    sshd.change_keys();
    let new = sshd.fingerprints();
    let both = || vec![old[0].clone(), new[0].clone()];
    all_fail(
        &client,
        &[
            ("changed", "host_key_changed", both(), "--replace changed"),
            ("changed-hashed", "host_key_changed", both(), "--replace changed-hashed"),
            ("unknown", "host_key_unknown", new.clone(), "falconer ssh trust unknown"),
            ("pinned", "host_key_unknown", both(), "mends `fingerprint`"),
        ],
    );
    let log = sshd.log();
    assert!(!log.contains(" password for") && !log.contains("Accepted") && !log.contains("Failed"), "{log}");
    nowhere(&host, &client, &[canary], &[]);
}

#[test]
fn where_no_sshd_answers_it_is_said_how() {
    if !available("dead ends over ssh") {
        return;
    }
    let canary = "canary: told to nobody";
    let (dead, hole, silence, stranger) = (DeadPort::new(), BlackHole::new(), Silence::new(), Stranger::new());
    let closed = Setup::new().shell(Shell::Other("/usr/sbin/nologin".into())).start();
    let mute = Setup::new().shell(Shell::Other("/bin/false".into())).start();
    let drawer = Drawer::new();
    let at = |name: &str, address: SocketAddr| Target::at(name, address).user("far").key("password", "\"login\"");
    let configuration = Configuration::new()
        .target(at("dead", dead.address))
        .target(at("hole", hole.address))
        .target(at("silence", silence.address))
        .target(at("stranger", stranger.address))
        .target(Target::of("nologin", &closed))
        .target(Target::of("mute", &mute))
        .target(Target::named("nobody").address("no-such-name.invalid"))
        .target(Target::named("loop").address("localhost").key("port", &closed.port().to_string()))
        .table("[network]\nconnect = \"2s\"");
    let host = Host::bare(anything(configuration, &[("login", drawer.file("one", canary))]).text());
    let client = host.client();
    all_fail(
        &client,
        &[
            ("dead", "connect_refused", vec![], "sshd running"),
            ("hole", "connect_timeout", vec![], "firewall"),
            ("silence", "connect_timeout", vec![], "overloaded"),
            ("stranger", "far_end_failed", words(&["`stranger`", "HTTP/1.1 400 Bad Request"]), "`port` or `address`"),
            ("nologin", "far_end_failed", words(&["not available"]), "POSIX shell"),
            ("mute", "far_end_failed", words(&["said nothing"]), "POSIX shell"),
        ],
    );
    // The host itself looks names up, and judges what they lead to.
    for (target, code) in [("nobody", "host_not_found"), ("loop", "address_not_allowed")] {
        let view = client.ended(&spawned(&client, target, "echo in"));
        assert_eq!((&view["status"], &view["error"]["code"]), (&json!("failed"), &json!(code)), "{target}: {view:#}");
        assert!(view["error"]["hint"].is_string(), "{target}: {view:#}");
    }
    nowhere(&host, &client, &[canary], &[]);
}

#[test]
fn an_address_that_is_not_allowed_is_refused_and_never_connected_to() {
    if !available("the network rule over ssh") {
        return;
    }
    let sshd = Sshd::usual();
    let configuration = Configuration::new()
        .target(Target::of("outside", &sshd))
        .target(Target::of("jump", &sshd))
        .target(Target::named("behind").address("behind.internal").jump("jump"))
        .table("[network]\nallow = [\"203.0.113.0/24\"]");
    let host = Host::bare(anything(configuration, &[]).text());
    let client = host.client();
    for target in ["outside", "behind"] {
        let request = json!({ "backend": "ssh", "target": target, "config": { "shell": "echo in" } });
        let refusal = client.refused("spawn_run", request, "address_not_allowed");
        assert!(refusal.message.contains(&sshd.address().to_string()) && refusal.hint.is_some() && !refusal.retryable, "{refusal:?}");
    }
    assert_eq!(client.call("list_runs", json!({}))["runs"], json!([]));
    let log = sshd.log();
    assert!(!log.contains("Connection from"), "{log}");
    let decisions: Vec<Value> =
        host.run(&["decisions", "--json", "--refused"]).well().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(Value::from(decisions).to_string().contains("address_not_allowed"));
}
