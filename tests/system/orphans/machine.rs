//! What else lives on the machine: of another host, of nobody.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::PoisonError;

use serde_json::{Value, json};

use super::{Guarded, Marked, NOBODYS, orphans, pids, some_run};
use crate::host::Host;
use crate::patience::until;
use crate::processes::with_environment;

#[test]
fn what_is_of_another_host_is_listed_and_left_alone() {
    let (host, other) = (Host::usual(), Host::usual());
    fs::create_dir(other.data()).unwrap();
    let [of_theirs, of_silent, of_torn, of_held] = std::array::from_fn(|_| some_run());
    let theirs = Marked::start(&of_theirs, Some(&other.data()));
    let silent = Marked::start(&of_silent, None);
    let torn = [Marked::start(&of_torn, Some(&host.data())), Marked::start(&of_torn, Some(&other.data()))];
    let held = Marked::start(&of_held, Some(&host.path("gone")));
    let kill = |arguments: &[&str]| {
        let _others = NOBODYS.read().unwrap_or_else(PoisonError::into_inner);
        host.run(&[&["check", "--orphans", "--kill"], arguments].concat()).out
    };
    let said: Value = serde_json::from_str(&kill(&["--json"])).unwrap();
    let others = said["others"].as_array().unwrap();
    let of = |run: &str| others.iter().find(|other| other["runs"].as_array().unwrap().iter().any(|known| known["run_id"] == run)).unwrap();
    assert_eq!(of(&of_theirs)["data_dir"], json!(other.data()));
    assert_eq!((&of(&of_silent)["why"], &of(&of_torn)["why"]), (&json!("unknown"), &json!("unknown")));
    assert_eq!((&of(&of_held)["why"], &of(&of_held)["holder"]["pid"]), (&json!("held"), &json!(std::process::id())));
    let told = kill(&[]);
    let look = format!("falconer check --orphans --data-dir {}", other.data().display());
    assert!(told.contains(&look), "{told}");
    assert!([&theirs, &silent, &held].into_iter().chain(&torn).all(Marked::lives));

    // Looked at from there, it is that host's own, and what it left unknown to its own records is ended, though not proven.
    let (nothing, runs) = orphans(&other, &["--kill"]);
    assert!(!nothing && runs.iter().any(|run| run["run_id"] == of_theirs.as_str()), "{runs:?}");
    assert!(!theirs.lives() && silent.lives() && torn.iter().all(Marked::lives));
    assert_eq!(orphans(&other, &[]), (true, Vec::new()));
}

#[test]
fn what_is_nobodys_is_ended_where_no_host_can_be() {
    let host = Host::usual();
    let gone = host.path("gone");
    let run = some_run();
    let _alone = NOBODYS.write().unwrap_or_else(PoisonError::into_inner);
    fs::create_dir(&gone).unwrap();
    // Its parent ends at once: it is given to the first process, as whatever outlives its host.
    let started = Command::new("/bin/sh")
        .args(["-c", "/bin/sleep 1000 >/dev/null 2>&1 &"])
        .env_clear()
        .env("FALCONER_RUN_ID", &run)
        .env("FALCONER_DATA_DIR", &gone)
        .stdin(Stdio::null())
        .status();
    assert!(started.unwrap().success());
    let orphan = until("the orphan", || {
        let found = with_environment(&format!("FALCONER_RUN_ID={run}"));
        found.into_iter().find(|seen| fs::read_to_string(format!("/proc/{}/comm", seen.pid)).is_ok_and(|name| name.trim() == "sleep"))
    });
    let _guard = Guarded(vec![orphan]);
    let above = fs::read_to_string(format!("/proc/{}/stat", orphan.pid)).unwrap();
    let above = above[above.rfind(')').unwrap() + 2..].split(' ').nth(1).unwrap().to_owned();
    if above != "1" {
        eprintln!("orphans are not given to the first process here: left out");
        return;
    }
    host.run(&["check", "--orphans", "--kill"]);
    assert!(orphan.lives(), "its directory is there");
    fs::remove_dir(&gone).unwrap();
    // From here on, whoever looks on this machine with `--kill` may end it, tests of another program as well.
    let of_run = |arguments: &[&str]| {
        let ended = host.run(&[&["check", "--orphans", "--json"], arguments].concat());
        let said: Value = serde_json::from_str(&ended.out).unwrap();
        said["runs"].as_array().unwrap().iter().find(|found| found["run_id"] == run.as_str()).cloned()
    };
    if let Some(found) = of_run(&[]) {
        assert_eq!(
            (&found["data_dir"], &found["ended"], &found["killed"]),
            (&json!(gone), &json!(false), &json!([])),
            "a look ends nothing"
        );
    }
    match of_run(&["--kill"]).filter(|found| found["killed"] != json!([])) {
        Some(found) => {
            assert_eq!((&found["data_dir"], &pids(&found["killed"])[..]), (&json!(gone), &[u64::from(orphan.pid)][..]), "{found}")
        }
        None => eprintln!("somebody else on this machine ended it first"),
    }
    assert!(!orphan.lives());
}
