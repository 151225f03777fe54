//! Logs of a real ssh (OpenSSH 9.2), one for each way to fail.

use super::*;

fn read(text: &str) -> Log {
    let mut log = Log::new("web");
    text.lines().for_each(|line| log.line(line));
    log
}

/// What a log comes to: code, machine, message, hint.
fn told(text: &str) -> Option<(&'static str, String, String, String)> {
    let (reason, hop) = read(text).reason()?;
    Some((reason.code(), hop.name().to_owned(), reason.message(&hop), reason.hint(&hop)))
}

macro_rules! logs {
    ($($name:literal),* $(,)?) => {
        fn log(name: &str) -> &'static str {
            match name {
                $($name => include_str!(concat!("../../tests/logs/", $name, ".txt")),)*
                other => panic!("no log {other}"),
            }
        }
    };
}

logs!(
    "alive",
    "auth_agent_absent",
    "auth_agent_empty",
    "auth_key_missing",
    "auth_key_open",
    "auth_key_refused",
    "auth_nothing",
    "auth_passphrase_none",
    "auth_passphrase_wrong",
    "auth_password_none",
    "auth_password_wrong",
    "auth_too_many",
    "banner_timeout",
    "behind_jump_auth",
    "behind_jump_dns",
    "behind_jump_key_unknown",
    "behind_jump_refused",
    "closed",
    "config",
    "denied_user",
    "dns",
    "good",
    "hostkey_mismatch",
    "jump_auth",
    "jump_forbids",
    "jump_good",
    "jump_key_unknown",
    "jump_refused",
    "kex_mismatch",
    "key_changed",
    "key_revoked",
    "key_unknown",
    "lost",
    "net_unreachable",
    "no_route",
    "not_ssh",
    "prohibited",
    "refused",
    "timeout",
    "two_jumps",
);

#[test]
fn each_failure_has_its_code_its_machine_and_its_words() {
    for (name, code, at, words, hint) in [
        ("key_unknown", "host_key_unknown", "web", "it offers ssh-ed25519 SHA256:", "falconer ssh trust web"),
        ("key_changed", "host_key_changed", "web", "another one is known in /home/u/kh_changed:2", "falconer ssh trust --replace web"),
        ("key_revoked", "host_key_changed", "web", "is revoked", "why it was revoked"),
        (
            "auth_key_refused",
            "auth_failed",
            "web",
            "it takes publickey, password, keyboard-interactive; one key was offered",
            "authorized_keys",
        ),
        ("auth_nothing", "auth_required", "web", "nothing to log in with", "`password` of target `web`"),
        ("auth_agent_absent", "auth_required", "web", "no agent at SSH_AUTH_SOCK", "SSH_AUTH_SOCK"),
        ("auth_agent_empty", "auth_required", "web", "the agent holds no keys", "identity"),
        ("auth_key_missing", "auth_required", "web", "key file /home/u/keys/nokey is not there", "mends `identity`"),
        ("auth_key_open", "auth_required", "web", "key file /home/u/keys/u_open: bad permissions", "or the file"),
        ("auth_passphrase_none", "auth_required", "web", "it would take the key, but it is locked", "`passphrase` of target `web`"),
        ("auth_too_many", "auth_failed", "web", "too many attempts", "`identity` of target `web`"),
        ("denied_user", "auth_failed", "web", "one key was offered", "may it log in there"),
        ("refused", "connect_refused", "web", "refused the connection", "sshd running"),
        ("timeout", "connect_timeout", "web", "did not answer in time", "firewall"),
        ("banner_timeout", "connect_timeout", "web", "was not ready in time", "overloaded"),
        ("net_unreachable", "unreachable_host", "web", "Network is unreachable", "VPN"),
        ("no_route", "unreachable_host", "web", "No route to host", "VPN"),
        ("prohibited", "unreachable_host", "web", "Permission denied", "VPN"),
        ("dns", "host_not_found", "web", "no-such-host.invalid: Name or service not known", "`address`"),
        ("kex_mismatch", "far_end_failed", "web", "no key exchange method in common; it has sntrup", "too old"),
        ("hostkey_mismatch", "far_end_failed", "web", "no host key type in common; it has ssh-ed25519", "too old"),
        ("config", "far_end_failed", "web", "Bad configuration option: nosuchoption", "defect"),
        ("closed", "far_end_failed", "web", "ended the connection before the login", "MaxStartups"),
        ("not_ssh", "far_end_failed", "web", "is no SSH server: `HTTP/1.1 400 Bad Request`", "`port`"),
        ("alive", "link_lost", "web", "Timeout, server 127.0.0.1 not responding.", "network"),
        ("jump_auth", "auth_failed", "bastion", "jump host `bastion` refused the login", "`user` of target `bastion`"),
        ("jump_refused", "connect_refused", "bastion", "jump host `bastion` refused", "sshd"),
        ("jump_key_unknown", "host_key_unknown", "bastion", "of jump host `bastion` is not known", "falconer ssh trust bastion"),
        ("jump_forbids", "far_end_failed", "bastion", "jump host `bastion` passes no connections on", "AllowTcpForwarding"),
        ("behind_jump_auth", "auth_failed", "web", "`web` refused the login", "target `web`"),
        ("behind_jump_key_unknown", "host_key_unknown", "web", "of `web` is not known", "trust web"),
        ("behind_jump_refused", "connect_refused", "web", "`web` refused the connection", "sshd"),
        ("behind_jump_dns", "host_not_found", "web", "Name or service not known", "`address`"),
        ("two_jumps", "auth_failed", "inner", "jump host `inner` refused the login", "target `inner`"),
    ] {
        let (found, hop, message, way) = told(log(name)).unwrap_or_else(|| panic!("{name}: no reason"));
        assert_eq!((found, hop.as_str()), (code, at), "{name}: {message}");
        assert!(message.contains(words), "{name}: {message}");
        assert!(way.contains(hint), "{name}: {way}");
    }
}

#[test]
fn a_connection_that_goes_well_has_no_reason_and_is_known_to_be_in() {
    for name in ["good", "jump_good", "lost"] {
        let log = read(log(name));
        assert!(log.is_in(), "{name}");
        // What ended `lost` stands in ssh's standard error alone.
        assert_eq!(log.reason(), None, "{name}");
    }
    let (before, _) = log("jump_good").split_once("Authenticated to 127.0.0.1 (via proxy)").unwrap();
    let halfway = read(before);
    assert!(!halfway.is_in());
    assert_eq!(halfway.hop(), Hop::Target("web".into()), "the jump host has let the login in");
    let mut lost = read(log("good"));
    lost.line("client_loop: send disconnect: Broken pipe\r");
    assert_eq!(lost.reason().unwrap().0, Reason::Lost("client_loop: send disconnect: Broken pipe".into()));
}

#[test]
fn a_jump_is_known_however_its_command_is_quoted() {
    for name in ["behind_jump_refused", "jump_auth", "jump_forbids", "two_jumps"] {
        let quoted: Vec<String> = log(name)
            .lines()
            .map(|line| match line.split_once("proxy command: exec ") {
                Some((before, words)) => {
                    let words: Vec<String> = words.split(' ').map(|word| format!("'{word}'")).collect();
                    format!("{before}proxy command: exec {}", words.join(" "))
                }
                None => line.to_owned(),
            })
            .collect();
        assert_eq!(told(&quoted.join("\n")), told(log(name)), "{name}");
    }
}

#[test]
fn what_falconer_says_itself_is_heard() {
    let given = |what: &str, name: &str| {
        let text = log(name)
            .replace("debug1: No more authentication methods", &format!("falconer: {what}\ndebug1: No more authentication methods"));
        told(&text).unwrap()
    };
    let wrong = given("answered password", "auth_password_wrong");
    assert!(
        wrong.0 == "auth_failed" && wrong.2.contains("a password was given") && wrong.3.contains("mends the secret that `password`"),
        "{wrong:?}"
    );
    let none = given("unanswered password", "auth_password_none");
    assert!(none.0 == "auth_required" && none.2.contains("there was none for it"), "{none:?}");
    let opened = given("answered passphrase", "auth_passphrase_wrong");
    assert!(opened.0 == "auth_failed" && opened.2.contains("its passphrase does not open it"), "{opened:?}");
    let known =
        format!("falconer: known other SHA256:x in /k:1\nfalconer: known web SHA256:old in /home/u/kh_changed:2\n{}", log("key_changed"));
    let (.., message, _) = told(&known).unwrap();
    assert!(
        message.contains("it offers ssh-ed25519 SHA256:") && message.ends_with(", known is SHA256:old in /home/u/kh_changed:2"),
        "{message}"
    );
    let (.., message, hint) = told(&format!("falconer: pinned web SHA256:pin\n{}", log("key_unknown"))).unwrap();
    assert!(message.ends_with("pinned is SHA256:pin") && hint.contains("`fingerprint`"), "{message}: {hint}");
}

#[test]
fn what_another_side_says_is_cut_and_harmless() {
    let (.., message, _) =
        told(&format!("debug1: kex_exchange_identification: banner line 0: \u{1b}[31m{}\nConnection closed by x port 1", "x".repeat(5000)))
            .unwrap();
    assert!(message.len() < 400 && !message.contains('\u{1b}'), "{message}");
    let mut log = Log::new("web");
    for _ in 0..1000 {
        log.line("debug1: Executing proxy command: exec ssh -- x");
        log.line("no such identity: /k: No");
        log.line("falconer: known web x");
    }
    assert!(log.jumps.len() <= MOST && log.tried.files.len() <= MOST && log.told.len() <= MOST);
    assert_eq!(
        told("something new\n"),
        Some((
            "far_end_failed",
            "web".into(),
            "ssh could not connect to `web`: something new".into(),
            "`ssh` by hand to the same machine says more".into()
        ))
    );
    assert_eq!(told(""), None);
}
