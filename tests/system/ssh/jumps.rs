//! Ways over jumps: each machine has its own name, its own host key and its own way to log in, and what fails is told of the
//! machine at which it failed.

use std::fs;

use serde_json::json;

use super::ways::{Drawer, all_let_in, anything, nowhere, spawned};
use crate::client::Client;
use crate::host::Host;
use crate::sshd::{Configuration, Key, Kind, Setup, Sshd, Target, available};

/// Three machines in a row, each known by name only to the one before, each with its own way to log in.
struct Row {
    host: Host,
    client: Client,
    outer: Sshd,
    middle: Sshd,
    deep: Sshd,
    _kept: (Drawer, Key, Key),
}

const JUMP_PASSWORD: &str = "canary of the first jump";
const DEEP_PASSPHRASE: &str = "canary of the last machine";

impl Row {
    fn new() -> Self {
        let key = Key::encrypted(Kind::Ed25519, DEEP_PASSPHRASE);
        let stray = Key::new(Kind::Ed25519);
        let deep = Setup::new().authorize(&key).start();
        let middle = Setup::new().resolves("deep.internal", deep.address()).start();
        let setup = Setup::new().password(JUMP_PASSWORD).resolves("middle.internal", middle.address());
        let outer = setup.start();
        let behind = |name: &str, sshd: &Sshd, over: &str| {
            let known = sshd.path(&format!("known-as-{name}"));
            fs::write(&known, sshd.known_as(&format!("{name}.internal"))).unwrap();
            Target::of(name, sshd).address(&format!("{name}.internal")).known_hosts(&known).jump(over)
        };
        let drawer = Drawer::new();
        let configuration = Configuration::new()
            .target(Target::of("outer", &outer).without("identity").user("far").key("password", "\"jump\""))
            .target(behind("middle", &middle, "outer"))
            .target(behind("deep", &deep, "middle").identity(&key).key("passphrase", "\"deep\""))
            .target(behind("pinned", &middle, "outer").address("middle.internal").fingerprint(&middle.fingerprints()))
            .target(behind("nobody", &middle, "outer"))
            .target(
                behind("refused", &middle, "outer")
                    .address("middle.internal")
                    .known_hosts(&middle.path("known-as-middle"))
                    .identity(&stray),
            )
            .target(behind("dead", &middle, "outer").address("127.0.0.1").key("port", "1"))
            .target(behind("stranger", &middle, "outer").address("middle.internal").without("known_hosts"));
        let granted = [("jump", drawer.command("jump", JUMP_PASSWORD)), ("deep", drawer.file("deep", DEEP_PASSPHRASE))];
        let host = Host::bare(anything(configuration, &granted).text());
        let client = host.client();
        let row = Self { host, client, outer, middle, deep, _kept: (drawer, key, stray) };
        all_let_in(&row.client, &["outer", "middle", "deep", "pinned"], || row.log());
        row
    }

    fn log(&self) -> String {
        format!("outer:\n{}\nmiddle:\n{}\ndeep:\n{}", self.outer.log(), self.middle.log(), self.deep.log())
    }

    #[track_caller]
    fn fails(&self, target: &str, code: &str, words: &[&str]) {
        let view = self.client.ended(&spawned(&self.client, target, "echo in"));
        assert_eq!((&view["status"], &view["error"]["code"]), (&json!("failed"), &json!(code)), "{target}: {view:#}\n{}", self.log());
        let message = view["error"]["message"].as_str().unwrap();
        assert!(words.iter().all(|word| message.contains(word)), "{target}: {words:?}: {message}");
        assert!(view["error"]["hint"].is_string(), "{target}: {view:#}");
    }
}

#[test]
fn each_machine_of_a_way_has_its_own_login() {
    if !available("jumps over ssh") {
        return;
    }
    let row = Row::new();
    // The password was for the first, the passphrase for the last: each was told once a way.
    assert_eq!(row.outer.log().matches("Accepted password for far").count(), 4, "{}", row.log());
    assert!(!row.middle.log().contains("password") && !row.deep.log().contains("password"), "{}", row.log());
    let run = spawned(&row.client, "deep", "echo up; exec sleep 2010");
    row.client.event(&run, "the command", |event| event["type"] == "command_started");
    nowhere(&row.host, &row.client, &[JUMP_PASSWORD, DEEP_PASSPHRASE], &[]);
    let answer = row.client.cancel(&run);
    assert_eq!((&answer["status"], &answer["receipt"]["far_end"]["state"]), (&json!("cancelled"), &json!("confirmed")), "{answer:#}");
    for sshd in [&row.outer, &row.middle, &row.deep] {
        sshd.until_empty();
    }

    row.fails("dead", "connect_refused", &["`dead`"]);
    row.fails("nobody", "host_not_found", &["`nobody`"]);
    row.fails("stranger", "host_key_unknown", &["`stranger`", &row.middle.fingerprints()[0]]);
    row.fails("refused", "auth_failed", &["`refused`"]);
    let old = row.middle.fingerprints();
    row.middle.change_keys();
    row.fails("deep", "host_key_changed", &["jump host `middle`", &old[0], &row.middle.fingerprints()[0]]);
    row.fails("middle", "host_key_changed", &["`middle`", &old[0], &row.middle.fingerprints()[0]]);
    row.fails("pinned", "host_key_unknown", &["`pinned`", &old[0], &row.middle.fingerprints()[0]]);
    let asked = row.outer.log().matches("Accepted password for far").count();
    let old = row.outer.fingerprints();
    row.outer.change_keys();
    row.fails("deep", "host_key_changed", &["jump host `outer`", &old[0], &row.outer.fingerprints()[0]]);
    assert_eq!(row.outer.log().matches(" password for far").count(), asked, "the password goes to nobody whose key is another");
    row.outer.power_off();
    row.fails("deep", "connect_refused", &["jump host `outer`"]);
    nowhere(&row.host, &row.client, &[JUMP_PASSWORD, DEEP_PASSPHRASE], &[]);
}
