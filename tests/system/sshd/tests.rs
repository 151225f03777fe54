//! What the far machines of these tests can do, shown with the plain client: a test that fails here is a fault of the bench.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};

use serde_json::Value;

use super::nowhere::{BlackHole, DeadPort, Silence, Stranger};
use super::{Agent, Bare, Configuration, Key, Kind, Link, Setup, Shell, Sshd, Target, available};
use crate::fetched::left_out;
use crate::host::Host;
use crate::patience::until;

#[test]
fn keys_of_each_kind_open_it_and_others_do_not() {
    if !available("sshd keys") {
        return;
    }
    let keys = Kind::ALL.map(Key::new);
    let locked = Key::encrypted(Kind::Ed25519, "open sesame");
    let setup = keys.iter().chain([&locked]).fold(Setup::new().host_keys(&Kind::ALL), Setup::authorize);
    let sshd = setup.start();
    assert_eq!(sshd.known().lines().count(), 3);
    assert_eq!(sshd.fingerprints().len(), 3);
    for key in &keys {
        assert_eq!(Bare::to(&sshd).identity(key).says("id -un"), "root\n");
        assert!(sshd.log().contains(&key.fingerprint()), "{}", sshd.log());
    }
    for (kind, prefix) in [("ssh-rsa", "rsa-sha2-512"), ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256"), ("ssh-ed25519", "ssh-ed25519")] {
        assert!(sshd.known().contains(kind));
        assert_eq!(Bare::to(&sshd).option(&format!("HostKeyAlgorithms={prefix}")).says("echo in"), "in\n");
    }
    assert_eq!(Bare::to(&sshd).known(&sshd.known_hashed()).user("far").says("id -un"), "far\n");
    assert!(!sshd.known_hashed().contains(&sshd.address().to_string()));

    assert_eq!(Bare::to(&sshd).identity(&locked).secret("open sesame").says("echo in"), "in\n");
    let refused = Bare::to(&sshd).identity(&locked).secret("wrong").fails();
    assert!(refused.contains("Permission denied"), "{refused}");
    let refused = Bare::to(&sshd).identity(&Key::new(Kind::Ed25519)).fails();
    assert!(refused.contains("Permission denied (publickey,password)"), "{refused}");
}

#[test]
fn an_agent_a_certificate_and_a_password_open_it() {
    if !available("sshd logins") {
        return;
    }
    let (authority, certified, other) = (Key::new(Kind::Ed25519), Key::new(Kind::Ed25519), Key::new(Kind::Ed25519));
    assert!(authority.certify(&certified, "root,far").exists());
    Key::new(Kind::Ed25519).certify(&other, "root");
    let sshd = Setup::new().trust(&authority).password("it's $far \"away\"").start();
    assert_eq!(Bare::to(&sshd).identity(&certified).says("echo in"), "in\n");
    assert!(Bare::to(&sshd).identity(&other).fails().contains("Permission denied"));

    let agent = Agent::start();
    let by_agent = Bare::to(&sshd).agent(&agent);
    assert!(by_agent.fails().contains("Permission denied"), "the agent is empty");
    agent.add(&sshd.key);
    assert!(agent.list().contains(&sshd.key.fingerprint()));
    assert_eq!(by_agent.says("echo in"), "in\n");

    assert_eq!(
        Bare::at(sshd.socket()).known(&sshd.known()).password(&sshd).says("id -un; echo ~"),
        format!("far\n{}\n", sshd.home("far").display())
    );
    let wrong = Bare::at(sshd.socket()).known(&sshd.known()).password(&sshd).secret("wrong").fails();
    assert!(wrong.contains("Permission denied"), "{wrong}");
}

#[test]
fn each_shell_can_be_the_login_shell() {
    if !available("sshd shells") {
        return;
    }
    for shell in Shell::ALL.into_iter().filter(|shell| shell.is_here("sshd shells")) {
        let sshd = Setup::new().shell(shell.clone()).environment("A_WORD", "two words").start();
        let program = std::fs::canonicalize(shell.program()).unwrap();
        for user in ["root", "far"] {
            let bare = Bare::to(&sshd).user(user);
            assert_eq!(bare.says("readlink /proc/$$/exe; :").trim_end(), program.to_str().unwrap(), "{shell:?} {user}");
            assert_eq!(
                bare.says("echo $A_WORD; echo \"$FALCONER_TEST_SSHD\""),
                format!("two words\n{}\n", sshd.mark().split_once('=').unwrap().1)
            );
        }
    }
    let closed = Setup::new().shell(Shell::Other("/usr/sbin/nologin".into())).start();
    assert!(String::from_utf8_lossy(&Bare::to(&closed).output("echo in").stdout).contains("not available"));
}

#[test]
fn the_real_machine_sees_nothing_of_it() {
    if !available("sshd apart") {
        return;
    }
    let real = || ["passwd", "shadow", "hosts"].map(|file| std::fs::read(format!("/etc/{file}")).unwrap());
    let (before, run) = (real(), std::path::Path::new("/run/sshd").exists());
    let setup = Setup::new().resolves("only.far.internal", Ipv4Addr::new(127, 1, 2, 3).into());
    let sshd = setup.program("only-far", "#!/bin/sh\necho only far\n").start();
    assert_eq!(Bare::to(&sshd).says("only-far"), "only far\n");
    assert!(!std::path::Path::new("/usr/local/bin/only-far").exists());
    assert_eq!(
        Bare::to(&sshd).says("getent hosts only.far.internal | cut -d ' ' -f 1; ls /proc/1/exe >&-; cat /proc/1/comm"),
        "127.1.2.3\nbash\n"
    );
    assert_eq!(real(), before);
    assert_eq!(std::path::Path::new("/run/sshd").exists(), run);
}

#[test]
fn processes_are_found_from_outside_and_end_with_it() {
    if !available("sshd processes") {
        return;
    }
    for own_pids in [true, false] {
        let sshd = if own_pids { Sshd::usual() } else { Setup::new().shared_pids().start() };
        let bare = Bare::to(&sshd);
        let mut running = bare.start("FALCONER_RUN_ID=r_1 sh -c 'setsid sleep 9711 & exec sleep 9712'");
        // For a moment after its execve a process shows no environment.
        until("its mark", || Some(sshd.until_runs("9711")).filter(|found| found.has(&sshd.mark())));
        sshd.until_runs("9712");
        assert_eq!(sshd.far_processes("r_1").len(), 2);
        assert!(sshd.far_processes("r_2").is_empty());
        // What has no mark at all is found too.
        let _other = bare.start("exec env -i sleep 9713");
        let bare_one = sshd.until_runs("9713");
        assert!(!bare_one.has(&sshd.mark()));

        // The client's end closes its stdin, and nobody at the far end cares: that is what the wrapper is for.
        running.0.kill().unwrap();
        running.0.wait().unwrap();
        if !own_pids {
            // Without parents and without a mark nobody could tell whose it is.
            bare_one.seen.kill();
        }
        sshd.kill();
        let orphan = sshd.until_runs("9711");
        assert_eq!(Bare::to(&sshd).output("echo in").status.code(), Some(255), "no sshd listens");
        sshd.start();
        assert_eq!(bare.says("echo in"), "in\n");
        drop(sshd);
        assert!(!orphan.seen.lives() && !bare_one.seen.lives());
    }
}

#[test]
fn it_can_be_restarted_changed_frozen_and_turned_off() {
    if !available("sshd restart") {
        return;
    }
    let sshd = Sshd::usual();
    let (bare, old) = (Bare::to(&sshd), sshd.fingerprints());
    let mut session = bare.start("echo one; read word; echo $word");
    let mut lines = BufReader::new(session.0.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "one");
    sshd.restart();
    assert_eq!(bare.says("echo in"), "in\n");
    session.0.stdin.as_mut().unwrap().write_all(b"two\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "two", "a session outlives the restart");

    sshd.change_keys();
    let changed = bare.fails();
    assert!(changed.contains("REMOTE HOST IDENTIFICATION HAS CHANGED") && changed.contains(&sshd.fingerprints()[0]), "{changed}");
    assert_ne!(sshd.fingerprints(), old);
    assert_eq!(Bare::to(&sshd).says("echo in"), "in\n");
    assert!(
        std::fs::read_to_string(sshd.known_hosts()).unwrap().lines().all(|line| !sshd.known().contains(line)),
        "the file keeps the old keys"
    );
    let unknown = Bare::to(&sshd).known("").fails();
    assert!(unknown.contains("No ED25519 host key is known"), "{unknown}");

    let bare = Bare::to(&sshd);
    let mut session = bare.start("sleep 9714");
    sshd.until_runs("9714");
    sshd.freeze();
    assert!(session.0.try_wait().unwrap().is_none());
    sshd.thaw();
    assert_eq!(bare.says("echo in"), "in\n");
    sshd.power_off();
    assert_eq!(session.0.wait().unwrap().code(), Some(255));
    assert!(bare.fails().contains("Connection refused"));
    sshd.boot();
    assert_eq!(bare.says("echo in"), "in\n");
    sshd.until_empty();
}

#[test]
fn a_jump_host_reaches_what_nobody_else_can() {
    if !available("sshd jump") {
        return;
    }
    // By a name that only the jump host can look up.
    let inner = Sshd::usual();
    let outer = Setup::new().resolves("inner.internal", inner.address()).start();
    let named = Bare::to(&inner).host("inner.internal").known(&inner.known_as("inner.internal"));
    assert!(named.fails().contains("Could not resolve hostname"));
    assert_eq!(named.jump(&Bare::to(&outer)).says("echo $SSH_CONNECTION | cut -d ' ' -f 4"), format!("{}\n", inner.port()));

    // On a loopback address behind a link.
    let Some(link) = Link::new("sshd jump") else { return };
    let outer = Setup::new().behind(&link).start();
    let inner = Setup::new().beside(&outer).start();
    assert!(Bare::to(&inner).option("ConnectTimeout=30").fails().contains("Connection refused"));
    assert_eq!(Bare::to(&inner).jump(&Bare::to(&outer)).says("echo in"), "in\n");
}

#[test]
fn a_cut_link_says_nothing_and_can_be_restored() {
    let Some(link) = Link::new("sshd link") else { return };
    let sshd = Setup::new().behind(&link).start();
    let bare = Bare::to(&sshd);
    let mut session = bare.start("while read word; do echo $word; done");
    let mut lines = BufReader::new(session.0.stdout.take().unwrap()).lines();
    let mut say = |word: &str| session.0.stdin.as_mut().unwrap().write_all(format!("{word}\n").as_bytes()).unwrap();
    say("one");
    assert_eq!(lines.next().unwrap().unwrap(), "one");

    let mut watched = bare.option("ServerAliveInterval=2").option("ServerAliveCountMax=2").start("sleep 9715");
    sshd.until_runs("9715");
    link.cut();
    say("two");
    let ended = until("the client to miss its server", || watched.0.try_wait().unwrap());
    let mut said = String::new();
    watched.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(ended.code() == Some(255) && said.contains("not responding"), "{said}");
    let new = Bare::to(&sshd).option("ConnectTimeout=1").fails();
    assert!(new.contains("timed out"), "{new}");
    sshd.until_runs("9715");

    link.restore();
    assert_eq!(lines.next().unwrap().unwrap(), "two", "the connection was never closed");
    assert_eq!(Bare::to(&sshd).says("echo in"), "in\n");
}

#[test]
fn nobody_answers_in_four_ways() {
    if !available("sshd nowhere") {
        return;
    }
    let quick = |address| Bare::at(address).option("ConnectTimeout=1").fails();
    let (dead, hole, silence, stranger) = (DeadPort::new(), BlackHole::new(), Silence::new(), Stranger::new());
    assert!(quick(dead.address).contains("Connection refused"));
    assert!(quick(hole.address).contains("Connection timed out"));
    let said = quick(silence.address);
    assert!(said.contains("timed out during banner exchange"), "{said}");
    let said = quick(stranger.address);
    assert!(said.contains("kex_exchange_identification"), "{said}");
}

#[test]
fn it_listens_on_ipv6_and_port_22() {
    if !available("sshd addresses") {
        return;
    }
    let sshd = Setup::new().port(22).start();
    assert!(sshd.known().starts_with(&format!("{} ssh-ed25519 ", sshd.address())));
    assert_eq!(Bare::to(&sshd).says("echo in"), "in\n");
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return left_out("sshd on ::1", "needs IPv6");
    }
    let sshd = Setup::new().at(IpAddr::V6(Ipv6Addr::LOCALHOST)).start();
    assert!(sshd.known().starts_with(&format!("[::1]:{} ", sshd.port())));
    assert_eq!(Bare::to(&sshd).says("echo in"), "in\n");
}

#[test]
fn targets_and_rules_are_written_as_check_reads_them() {
    if !available("sshd configuration") {
        return;
    }
    let sshd = Sshd::usual();
    let dead = DeadPort::new();
    let configuration = Configuration::new()
        .target(Target::of("one", &sshd).tags(&["all", "first"]))
        .target(Target::of("two", &sshd).fingerprint(&sshd.fingerprints()).user("far").jump("one"))
        .target(Target::at("dead", dead.address).without("port"))
        .target(Target::named("name.internal"))
        .allow(&[["uptime", "..."], ["echo", "..."]])
        .any_line()
        .table("[network]\nallow = [\"127.0.0.0/8\"]");
    let host = Host::bare(configuration.text());
    let checked = host.run(&["check", "--json"]);
    let findings: Value = serde_json::from_str(&checked.out).unwrap_or_else(|_| panic!("{checked:?}\n{}", configuration.text()));
    let targets = findings["findings"]["targets"].as_array().unwrap();
    let message = |name: &str| {
        let of = targets.iter().find(|finding| finding["subject"] == format!("target {name}")).unwrap_or_else(|| panic!("{findings}"));
        (of["severity"].as_str().unwrap().to_owned(), of["message"].as_str().unwrap().to_owned())
    };
    let (severity, words) = message("one");
    assert!(severity == "ok" && words.contains(&format!("root@{}", sshd.socket())) && words.contains("tags all, first"), "{words}");
    let (severity, words) = message("two");
    assert!(severity == "ok" && words.contains("far@"), "{words}");
    assert!(findings["findings"]["rules"].as_array().unwrap().len() >= 2, "{findings}");
}
