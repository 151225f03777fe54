//! The real `claude` in the middle of a long shell command with a child in a session of its own.

use serde_json::json;

use super::Stage;
use super::bait::Bait;
use super::look;
use super::way::Way;
use crate::claude::Stage as Claude;
use crate::client::is_terminal;
use crate::mock::KEY;
use crate::patience::until;

#[test]
fn claude_in_a_long_command_leaves_nothing() {
    let test = "a cancel of claude in a long command";
    for way in Way::all(test) {
        let more = format!("[host]\ncgroup = \"{}\"\ncall = \"60 s\"\n", way.setting());
        let Some(claude) = Claude::with(test, KEY, &more) else { return };
        for grace in [Some(0), None] {
            let bait = Bait::new(claude.host.path(""), "session");
            let command = format!("{} {} & sleep 1000", falconer_bait::PROGRAM, bait.arguments().join(" "));
            let prompt = format!("MOCK:bash-hang {}", json!({ "command": command }));
            let run = claude.client.spawn(claude.request(&prompt));
            until("the command to stand", || {
                let view = claude.client.get(&run);
                assert!(!is_terminal(&view), "{view}\n{:#?}", claude.client.events(&run));
                (bait.alive().iter().filter(|alive| alive.name == "falconer-bait").count() == 2).then_some(())
            });
            let all = look::with_mark(&run);
            assert!(all.len() > 3, "claude, its shell, the bait and its child: {all:?}");
            let answer = Stage::cancel(&claude.client, &run, grace);
            bait.is_gone(&run);
            assert_eq!(answer["status"], "cancelled", "{answer}");
            assert_eq!(answer["receipt"]["survivors"], json!([]), "{answer}");
            assert_eq!(answer["receipt"]["proof"], json!({ "outcome": "empty", "by": way.proves_by() }), "{answer}");
            assert_eq!(claude.client.events(&run).last().unwrap()["type"], "run_cancelled");
        }
    }
}
