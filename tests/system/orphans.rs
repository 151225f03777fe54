//! `falconer check --orphans`: what an earlier host left behind is found, named, and ended, and nothing else is touched.

mod machine;
mod records;

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{PoisonError, RwLock};

use falconer::id::RunId;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::client::Client;
use crate::host::{Host, USUAL};
use crate::patience::until;
use crate::processes::{Seen, with_environment};

/// `--kill` ends what is nobody's on the whole machine: who has something of that kind keeps the others of this program
/// away. Tests of another program may do it all the same.
static NOBODYS: RwLock<()> = RwLock::new(());

/// Processes that end with their test, however it ends.
#[derive(Debug)]
#[must_use = "they end with it"]
struct Guarded(Vec<Seen>);

impl Deref for Guarded {
    type Target = [Seen];
    fn deref(&self) -> &[Seen] {
        &self.0
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.0.iter().for_each(|process| process.kill());
    }
}

/// An id that no other test has.
fn some_run() -> String {
    RunId::random().to_string()
}

/// A child, one in a session of its own, and one that has no mark either; says all three pids, and waits.
const FAMILY: &str = "setsid sleep 1000 & echo pid $!; env -i /usr/bin/setsid /bin/sleep 1000 & echo pid $!; echo pid $$; wait";

fn host(cgroup: &str) -> Host {
    Host::with(&USUAL.replace("[host]", &format!("[host]\ncgroup = \"{cgroup}\"")))
}

/// Whether trees are put into cgroups here.
fn has_cgroups() -> bool {
    let host = Host::usual();
    let checked: Value = serde_json::from_str(&host.run(&["check", "--json"]).out).unwrap();
    let trees = checked["findings"]["host"].as_array().unwrap().iter().find(|finding| finding["subject"] == "trees").cloned();
    trees.unwrap()["message"].as_str().unwrap().starts_with("cgroup v2")
}

/// The ways in which trees can be held here.
fn ways() -> Vec<&'static str> {
    if has_cgroups() {
        return vec!["off", "auto"];
    }
    eprintln!("no cgroup can be made here: held by shims only");
    vec!["off"]
}

/// A run with a family, in a session that can go on, and what it consists of.
fn family(host: &Host, client: &Client) -> (String, Guarded) {
    let session = client.run(host.hostile(json!({ "mode": "echo" })))["session_id"].clone();
    let mut request = host.hostile(json!({ "mode": "spawn", "program": "sh", "args": ["-c", FAMILY] }));
    request["session_id"] = session;
    let run = client.spawn(request);
    let pids = until("three pids in the output", || {
        let events = client.events(&run);
        let output: String = events.iter().filter_map(|event| event["data"]["text"].as_str()).collect();
        let pids: Vec<u32> = output.lines().filter_map(|line| line.strip_prefix("pid ")?.parse().ok()).collect();
        (pids.len() == 3).then_some(pids)
    });
    // Until both have become what they are to be.
    for pid in &pids[..2] {
        until("a sleep", || fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "sleep").then_some(()));
    }
    (run, Guarded(pids.into_iter().map(|pid| Seen::of(pid).expect("a living child")).collect()))
}

/// The shims of a run.
fn shims(run: &str) -> Vec<Seen> {
    let wanted = format!("shim\0{run}\0");
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.ends_with(wanted.as_bytes())))
        .filter_map(Seen::of)
        .collect()
}

fn signal(process: Seen, signal: Signal) {
    kill_process(Pid::from_raw(process.pid.cast_signed()).unwrap(), signal).unwrap();
}

/// Loses the host, while the shims of the run are stopped: all that is below them lives on.
fn lose(host: &Host, client: Client, run: &str) -> Guarded {
    let shims = Guarded(shims(run));
    assert!(!shims.is_empty());
    for shim in shims.iter() {
        signal(*shim, Signal::STOP);
    }
    host.crash();
    drop(client);
    shims
}

/// What is said of this host's own: how the command ended, and the runs. What others left on the machine is not ours to count.
fn orphans(host: &Host, arguments: &[&str]) -> (bool, Vec<Value>) {
    let ended = {
        let _others = (!arguments.is_empty()).then(|| NOBODYS.read().unwrap_or_else(PoisonError::into_inner));
        host.run(&[&["check", "--orphans", "--json"], arguments].concat())
    };
    let said: Value = serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    let code = if said["ok"] == true { 0 } else { 1 };
    assert_eq!(ended.code, Some(code), "{ended:?}");
    let runs: Vec<Value> = said["runs"].as_array().unwrap().clone();
    let own: Vec<Value> = runs.into_iter().filter(|run| run["data_dir"] == json!(host.data())).collect();
    let proven = own.iter().all(|run| run["processes"] == json!([]) && run["proof"]["outcome"] != "unverified");
    (proven, own)
}

fn words(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
}

fn pids(list: &Value) -> Vec<u64> {
    list.as_array().unwrap().iter().map(|process| process["pid"].as_u64().unwrap()).collect()
}

#[track_caller]
fn nothing_lives(run: &str, family: &[Seen]) {
    assert!(family.iter().all(|process| !process.lives()), "{family:?}");
    assert_eq!(with_environment(&format!("FALCONER_RUN_ID={run}")), []);
    assert_eq!(shims(run), []);
}

#[test]
fn trees_whose_shims_were_stopped_are_named_and_ended() {
    for way in ways() {
        let host = host(way);
        let client = host.client();
        let (run, family) = family(&host, &client);
        let shims = lose(&host, client, &run);

        let (nothing, runs) = orphans(&host, &[]);
        assert!(!nothing);
        let [found] = &runs[..] else { panic!("{runs:?}") };
        assert_eq!((&found["run_id"], &found["status"], &found["backend"]), (&json!(run), &json!("running"), &json!("hostile")));
        let mut by = vec!["shim", "mark", "record", "ledger"];
        by.extend((way == "auto").then_some("cgroup"));
        for by in by {
            assert!(words(&found["found_by"]).contains(&by), "{way} {by}: {found}");
        }
        let processes = found["processes"].as_array().unwrap();
        for process in family.iter().chain(shims.iter()) {
            let named = processes.iter().find(|named| named["pid"] == process.pid).unwrap_or_else(|| panic!("{process:?}: {found}"));
            assert_eq!(named["shim"], json!(shims.contains(process)));
            assert!(!named["command"].as_str().unwrap().is_empty() && named["age_ms"].is_u64(), "{named}");
        }
        assert!(family.iter().all(|process| process.lives()), "a look ends nothing");
        let told = host.run(&["check", "--orphans"]);
        assert_eq!(told.code, Some(1), "{told:?}");
        for word in [run.as_str(), "sleep 1000", "--kill", &family[0].pid.to_string()] {
            assert!(told.out.contains(word), "{word}: {}", told.out);
        }

        let (nothing, runs) = orphans(&host, &["--kill"]);
        assert!(nothing, "{way} {runs:?}");
        nothing_lives(&run, &family);
        let killed = pids(&runs[0]["killed"]);
        assert!(family.iter().all(|process| killed.contains(&u64::from(process.pid))), "{way} {runs:?}");
        assert_eq!((&runs[0]["ended"], &runs[0]["proof"]["outcome"]), (&json!(true), &json!("empty")));
        let (nothing, _) = orphans(&host, &[]);
        assert!(nothing);

        let client = host.client();
        let view = client.ended(&run);
        assert_eq!((&view["status"], &view["receipt"]["proof"]["outcome"]), (&json!("lost"), &json!("empty")), "{way} {view}");
        assert_eq!(pids(&view["receipt"]["killed"]), killed, "what was killed is not forgotten");
        until("its records to be taken away", || (!host.data().join("trees").join(&run).exists()).then_some(()));
        assert_eq!(client.run(host.hostile(json!({ "mode": "echo" })))["status"], "completed");
    }
}

#[test]
fn without_their_shims_trees_are_ended_as_far_as_they_can_be_seen_and_nothing_is_proven() {
    for way in ways() {
        let host = host(way);
        let client = host.client();
        let (run, family) = family(&host, &client);
        let session = client.get(&run)["session_id"].clone();
        for shim in lose(&host, client, &run).iter() {
            shim.kill();
        }
        let [marked, unmarked, program] = family[..] else { panic!("{family:?}") };
        until("the program to end with its shim", || (!program.lives()).then_some(()));
        assert!(marked.lives() && unmarked.lives());

        let (nothing, runs) = orphans(&host, &["--kill"]);
        assert!(!nothing, "{runs:?}");
        assert!(!marked.lives());
        let killed = pids(&runs[0]["killed"]);
        assert!(killed.contains(&u64::from(marked.pid)), "{runs:?}");
        assert_eq!(runs[0]["proof"]["outcome"], "unverified", "what nobody can know of it is not guessed: {runs:?}");
        // A cgroup reaches what lost its mark, if it did not leave.
        assert_eq!(unmarked.lives(), way != "auto");
        unmarked.kill();
        let told = host.run(&["check", "--orphans"]);
        let way_out = format!("falconer check --orphans --forget {run}");
        assert!(told.code == Some(1) && told.out.contains("both killed") && told.out.contains(&way_out), "{told:?}");
        assert_eq!(pids(&orphans(&host, &[]).1[0]["killed"]), killed, "a later look knows what was killed");

        // What its end is to be written by is not forgotten before that.
        let early = host.run(&["check", "--orphans", "--forget", &run, "--json"]);
        let said: Value = serde_json::from_str(&early.out).unwrap();
        assert_eq!((early.code, &said["ok"], &said["records_removed"]), (Some(1), &json!(false), &json!(false)), "{early:?}");
        assert!(early.err.contains("start the daemon once") && host.data().join("trees").join(&run).exists(), "{early:?}");

        let client = host.client();
        let view = client.ended(&run);
        assert_eq!((&view["status"], &view["receipt"]["proof"]["outcome"]), (&json!("lost"), &json!("unverified")), "{view}");
        assert_eq!(pids(&view["receipt"]["killed"]), killed, "what was killed is in the receipt: {view}");
        assert!(host.data().join("trees").join(&run).exists(), "what is not proven is kept");
        let mut again = host.hostile(json!({ "mode": "echo" }));
        again["session_id"] = session;
        let refusal = client.refused("spawn_run", again.clone(), "not_continuable");
        assert!(refusal.hint.is_some_and(|hint| hint.contains("--forget")), "a session opens again only when that is proven");

        // Or when a person says so, beside the daemon.
        let other = host.run(&["check", "--orphans", "--forget", &some_run()]);
        assert!(other.code == Some(2) && other.err.contains("no records"), "{other:?}");
        let forgotten = host.run(&["check", "--orphans", "--forget", &run, "--json"]).well();
        let said: Value = serde_json::from_str(&forgotten).unwrap();
        assert_eq!(said, json!({ "ok": true, "run_id": run, "records_removed": true }));
        assert_eq!(client.run(again)["status"], "completed");
        assert_eq!(orphans(&host, &[]), (true, Vec::new()));
        assert_eq!(groups_of(&run), Vec::<PathBuf>::new(), "nor is a cgroup of it left");
    }
}

#[test]
fn a_run_whose_records_are_lost_is_not_said_to_have_had_no_process() {
    let host = host("off");
    let client = host.client();
    let (run, family) = family(&host, &client);
    for shim in lose(&host, client, &run).iter() {
        shim.kill();
    }
    fs::remove_dir_all(host.data().join("trees").join(&run)).unwrap();
    let (nothing, runs) = orphans(&host, &["--kill"]);
    assert!(!nothing && runs[0]["proof"]["outcome"] == "unverified", "{runs:?}");
    let killed = pids(&runs[0]["killed"]);
    assert!(killed.contains(&u64::from(family[0].pid)), "{runs:?}");
    let view = host.client().ended(&run);
    assert_eq!((&view["status"], &view["receipt"]["proof"]["outcome"]), (&json!("lost"), &json!("unverified")), "{view}");
    assert_eq!(pids(&view["receipt"]["killed"]), killed, "{view}");
}

#[test]
fn a_run_that_lost_its_records_and_its_processes_is_not_proven() {
    let host = host("off");
    let client = host.client();
    let (run, family) = family(&host, &client);
    for shim in lose(&host, client, &run).iter() {
        shim.kill();
    }
    drop(family);
    fs::remove_dir_all(host.data().join("trees").join(&run)).unwrap();
    until("nothing of it", || with_environment(&format!("FALCONER_RUN_ID={run}")).is_empty().then_some(()));
    let (nothing, runs) = orphans(&host, &[]);
    assert!(!nothing && runs[0]["proof"]["outcome"] == "unverified", "{runs:?}");
    let view = host.client().ended(&run);
    assert_eq!((&view["status"], &view["receipt"]["proof"]["outcome"]), (&json!("lost"), &json!("unverified")), "{view}");
    assert!(view["receipt"]["proof"]["reason"].as_str().unwrap().contains("records are gone"), "{view}");
}

#[test]
fn a_lock_that_is_not_known_to_be_a_daemons_is_said_to_be_somebodys() {
    let host = Host::usual();
    let client = host.client();
    let (run, family) = family(&host, &client);
    let _shims = lose(&host, client, &run);
    let lock = fs::File::options().read(true).write(true).open(host.data().join("daemon.lock")).unwrap();
    until("the lock of the killed daemon", || rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).ok());
    let (_, runs) = orphans(&host, &["--kill"]);
    assert_eq!(runs, Vec::<Value>::new(), "what whoever it is may hold is not touched");
    let told = host.run(&["check", "--orphans"]);
    let somebody = format!("somebody holds the lock of {}", host.data().display());
    assert!(told.code == Some(1) && told.out.contains(&somebody) && !told.out.contains("serves it"), "{told:?}");
    let refused = host.run(&["serve"]);
    assert!(refused.code == Some(7) && refused.err.contains(&somebody), "{refused:?}");
    assert!(family.iter().all(|process| process.lives()));

    // Who looks holds it for a moment only; a start waits for that.
    let start = host.command(&["serve"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut daemon = Marked(start);
    drop(lock);
    until("the daemon", || host.daemon());
    let client = host.client();
    assert_eq!(client.ended(&run)["receipt"]["proof"]["outcome"], "empty");
    drop(client);
    host.run(&["stop"]).well();
    assert!(daemon.0.wait().unwrap().success());
}

/// What is left of a run's cgroups.
fn groups_of(run: &str) -> Vec<PathBuf> {
    fn below(dir: &Path, run: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            if entry.file_name() == run {
                found.push(entry.path());
            }
            below(&entry.path(), run, found);
        }
    }
    let mut found = Vec::new();
    if let Some(mount) = unified() {
        below(&mount, run, &mut found);
    }
    found
}

/// Where cgroups of version 2 are mounted (proc_pid_mountinfo(5)).
fn unified() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        (after.split(' ').next()? == "cgroup2").then(|| before.split(' ').nth(4).map(PathBuf::from)).flatten()
    })
}

#[test]
fn a_sessions_next_run_waits_until_the_lost_one_is_ended() {
    let host = Host::usual();
    let client = host.client();
    let (run, family) = family(&host, &client);
    let session = client.get(&run)["session_id"].clone();
    let _shims = lose(&host, client, &run);
    let client = host.client();
    let mut next = host.hostile(json!({ "mode": "echo" }));
    next["session_id"] = session;
    let next = client.spawn(next);
    nothing_lives(&run, &family);
    let next = client.ended(&next);
    assert_eq!(next["status"], "completed", "{next}");
    assert_eq!(client.get(&run)["receipt"]["proof"]["outcome"], "empty");
}

#[test]
fn what_a_living_daemon_holds_is_no_orphan() {
    let host = Host::usual();
    let client = host.client();
    let (run, family) = family(&host, &client);
    for arguments in [&[][..], &["--kill"]] {
        let (nothing, runs) = orphans(&host, arguments);
        assert!(nothing && runs.is_empty(), "{runs:?}");
    }
    let told = host.run(&["check", "--orphans"]);
    assert!(told.out.contains("serves it and holds 1 run"), "{told:?}");
    assert!(family.iter().all(|process| process.lives()));
    assert_eq!(client.get(&run)["status"], "running");
    assert_eq!(client.cancel(&run)["status"], "cancelled");
    assert_eq!(host.run(&["check", "--kill"]).code, Some(2), "only what was looked for is ended");
}

/// A process that says of itself whose it is; it ends with the test.
struct Marked(std::process::Child);

impl Marked {
    fn start(run: &str, data: Option<&Path>) -> Self {
        let mut command = Command::new("/bin/sleep");
        command.arg("1000").env_clear().env("FALCONER_RUN_ID", run).stdin(Stdio::null());
        if let Some(data) = data {
            command.env("FALCONER_DATA_DIR", data);
        }
        let child = command.spawn().unwrap();
        until("its environment", || {
            with_environment(&format!("FALCONER_RUN_ID={run}")).iter().any(|seen| seen.pid == child.id()).then_some(())
        });
        Self(child)
    }
    fn lives(&self) -> bool {
        Seen::of(self.0.id()).is_some()
    }
}

impl Drop for Marked {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn check_says_how_trees_are_held_and_leaves_nothing() {
    let trees = |host: &Host| {
        let ended = host.run(&["check", "--json"]);
        let checked: Value = serde_json::from_str(&ended.out).unwrap();
        checked["findings"]["host"].as_array().unwrap().iter().find(|finding| finding["subject"] == "trees").unwrap().clone()
    };
    let off = trees(&host("off"));
    assert!(off["severity"] == "ok" && off["message"].as_str().unwrap().contains("cgroup = \"off\""), "{off}");
    let required = host("required");
    let found = trees(&required);
    assert_eq!(found["severity"], if has_cgroups() { "ok" } else { "error" }, "{found}");
    assert!(!required.data().exists(), "check changes nothing");
    assert_eq!(orphans(&required, &[]), (true, Vec::new()));
    assert!(!required.data().exists(), "nor does a look for orphans");
}
