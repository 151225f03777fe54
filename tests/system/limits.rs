//! Limits on trees: held by the kernel's own controllers, refused where they cannot be, and gone with the run.
//!
//! Whether this machine can hold them is asked of the program (`falconer check`); where it says no, the tests look for the
//! refusal instead. That its word is true is a test of its own, which says what is left out.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::client::Client;
use crate::host::{Host, USUAL};
use crate::patience::until;
use crate::processes::with_environment;
use crate::trees::way::left_out;

/// A fork bomb that any POSIX shell takes, and a shell that does not end by itself.
const BOMB: &str = "bomb() { bomb | bomb & }; bomb; while :; do sleep 1; done";

fn sh(host: &Host, script: &str, limits: Value) -> Value {
    let mut request = host.exec(json!({ "program": "sh", "args": ["-c", script] }));
    request["limits"] = limits;
    request
}

/// The usual configuration with these limits of `exec`.
fn limited(limits: &str) -> String {
    USUAL.replace("[backends.exec.limits]\n", &format!("[backends.exec.limits]\n{limits}\n"))
}

/// The controllers that limits need, a limit of each that hurts nothing, and a file that only groups with it have.
const CONTROLLERS: [(&str, &str, &[&str]); 3] = [
    ("memory", "tree_memory_bytes", &["memory.max", "memory.limit_in_bytes"]),
    ("pids", "tree_processes", &["pids.max"]),
    ("cpu", "tree_cpu", &["cpu.max", "cpu.cfs_quota_us"]),
];

/// Why a host that is started from here has not this controller, as the program says.
fn lacks(host: &Host, controller: &str) -> Option<String> {
    let checked: Value = serde_json::from_str(&host.run(&["check", "--json"]).out).unwrap();
    let findings = checked["findings"]["limits on trees"].as_array().unwrap();
    let subject = format!("controller {controller}");
    let finding = findings.iter().find(|finding| finding["subject"] == subject).unwrap_or_else(|| panic!("{subject}: {checked}"));
    let message = finding["message"].as_str().unwrap();
    assert!(["version 1, ", "version 2, ", "none, "].iter().any(|word| message.starts_with(word)), "{finding}");
    message.starts_with("none, ").then(|| message.to_owned())
}

/// Whether all of these are there; where one is not, that the limits are refused is all that can be shown.
fn holds(controllers: &[&str], host: &Host, client: &Client, request: &Value) -> bool {
    let missing: Vec<String> = controllers.iter().filter_map(|controller| lacks(host, controller)).collect();
    if missing.is_empty() {
        return true;
    }
    eprintln!("only the refusal is tested: {missing:?}");
    client.refused("spawn_run", request.clone(), "limit_unavailable");
    false
}

/// Where groups with this controller can be made here as things are, with nothing switched on for it: below our own group of
/// version 1, or below the highest group of version 2 that lets us in.
fn surely(controller: &str, files: &[&str]) -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let own = |wanted: &str| {
        groups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (names, path) = (fields.next()?, fields.next()?);
            names.split(',').any(|name| name == wanted).then(|| path.trim_start_matches('/').to_owned())
        })
    };
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ").unwrap();
        let mount = PathBuf::from(before.split(' ').nth(4).unwrap());
        let options = after.rsplit(' ').next().unwrap();
        let own = match after.split(' ').next().unwrap() {
            "cgroup" if options.split(',').any(|option| option == controller) => own(controller)?,
            "cgroup2" => own("")?,
            _ => return None,
        };
        // A container may show the group that it has outside.
        let own = if own.split('/').all(|part| part != "..") { mount.join(own) } else { return None };
        let mut above: Vec<&Path> = own.ancestors().take_while(|dir| dir.starts_with(&mount)).collect();
        above.reverse();
        above.into_iter().find_map(|dir| {
            let trial = dir.join(format!("falconer-test-{}-{controller}", std::process::id()));
            fs::create_dir(&trial).ok()?;
            let has = files.iter().any(|file| trial.join(file).exists());
            fs::remove_dir(&trial).unwrap();
            Some(has.then(|| dir.to_owned()))
        })?
    })
}

/// What the program says of a controller is what a run then meets, and it misses none that is there for the taking.
#[test]
fn what_is_said_of_the_controllers_is_so() {
    let host = Host::usual();
    let client = host.client();
    for (controller, key, files) in CONTROLLERS {
        let request = sh(&host, "true", json!({ key: if key == "tree_memory_bytes" { 64 << 20 } else { 50 } }));
        let Some(why) = lacks(&host, controller) else {
            let run = client.run(request);
            assert_eq!(run["status"], "completed", "{controller}: {run}");
            nothing_left(run["run_id"].as_str().unwrap());
            continue;
        };
        client.refused("spawn_run", request, "limit_unavailable");
        assert_eq!(surely(controller, files), None, "there it is: {why}");
        left_out(&format!("limits that need the controller {controller} (limits::*)"), &why);
    }
}

/// All cgroups of a run, of whatever version.
fn groups(run: &str) -> Vec<PathBuf> {
    fn walk(dir: &Path, name: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name() == name {
                    found.push(entry.path());
                } else {
                    walk(&entry.path(), name, found);
                }
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), run, &mut found);
    found
}

/// The text of a file that one of a run's groups has.
fn of_groups(run: &str, file: &str) -> Option<String> {
    groups(run).iter().find_map(|group| fs::read_to_string(group.join(file)).ok()).map(|text| text.trim().to_owned())
}

/// A run that ended by a limit: its code, nothing left, and a receipt that says so.
#[track_caller]
fn ended_by(run: &Value, code: &str) {
    assert_eq!((&run["status"], &run["error"]["code"]), (&json!("failed"), &json!(code)), "{run}");
    assert!(run["error"]["hint"].as_str().unwrap().contains("[backends.NAME.limits]"), "{run}");
    assert_eq!((&run["receipt"]["cause"], &run["receipt"]["asked_by"]), (&json!("limit"), &json!("host")), "{run}");
    assert_eq!((&run["receipt"]["survivors"], &run["receipt"]["proof"]["outcome"]), (&json!([]), &json!("empty")), "{run}");
    nothing_left(run["run_id"].as_str().unwrap());
}

#[track_caller]
fn nothing_left(run: &str) {
    assert_eq!(with_environment(&format!("FALCONER_RUN_ID={run}")), [], "{run}");
    // The end is told before the groups are taken away.
    until("the groups to be gone", || groups(run).is_empty().then_some(()));
}

#[test]
fn who_takes_too_much_memory_is_ended_with_its_own_code() {
    let host = Host::usual();
    let client = host.client();
    let limits = json!({ "tree_memory_bytes": 32 << 20 });
    if !holds(&["memory"], &host, &client, &sh(&host, "true", limits.clone())) {
        return;
    }
    for script in [
        "exec tail /dev/zero",
        "tail /dev/zero",
        // The shell does not mind, and would end well.
        "tail /dev/zero; exit 0",
        "setsid tail /dev/zero & sleep 1000",
        "tail /dev/zero | sleep 1000",
    ] {
        let run = client.run(sh(&host, script, limits.clone()));
        ended_by(&run, "tree_memory_exceeded");
        assert!(run["error"]["message"].as_str().unwrap().contains("32 MiB"), "{run}");
    }
    let run = client.run(sh(&host, "head -c 8000000 /dev/zero | tail | wc -c", limits));
    assert_eq!(run["status"], "completed", "less is no breach: {run}");
    nothing_left(run["run_id"].as_str().unwrap());
}

#[test]
fn a_fork_bomb_is_bounded_and_ended() {
    let host = Host::with(&limited("tree_processes = 50"));
    let client = host.client();
    if !holds(&["pids"], &host, &client, &sh(&host, "true", json!({}))) {
        return;
    }
    for _ in 0..3 {
        let run = client.run(sh(&host, BOMB, json!({})));
        ended_by(&run, "tree_processes_exceeded");
        assert!(run["error"]["message"].as_str().unwrap().contains("50 processes"), "{run}");
    }
    // One that ends well, though a fork was refused to a child that it does not ask.
    let run = client.run(sh(&host, "(for i in 1 2 3; do sleep 0.1 & done; wait) 2>/dev/null; exit 0", json!({ "tree_processes": 3 })));
    ended_by(&run, "tree_processes_exceeded");
    let run = client.run(sh(&host, "for i in 1 2 3; do sleep 0.1 & done; wait", json!({ "tree_processes": 8 })));
    assert_eq!(run["status"], "completed", "less is no breach: {run}");
}

#[test]
fn a_share_of_cpu_time_throttles_and_ends_nothing() {
    let host = Host::usual();
    let client = host.client();
    let request = sh(&host, "while :; do :; done", json!({ "tree_cpu": 0.2 }));
    if !holds(&["cpu"], &host, &client, &request) {
        return;
    }
    let run = client.spawn(request);
    until("the run to be throttled", || {
        // A group of version 2 has such a file also without the controller, and then without this line.
        let stats: String = groups(&run).iter().filter_map(|group| fs::read_to_string(group.join("cpu.stat")).ok()).collect();
        let count = |line: &str| line.strip_prefix("nr_throttled ")?.parse::<u64>().ok();
        stats.lines().find_map(count).filter(|throttled| *throttled > 2)
    });
    assert_eq!(client.get(&run)["status"], "running");
    assert_eq!(client.cancel(&run)["status"], "cancelled");
    nothing_left(&run);
}

#[test]
fn the_groups_hold_what_was_asked_for_and_every_child_is_in_them() {
    let host = Host::with(&limited("tree_memory = \"1 GiB\"\ntree_processes = 100\ntree_cpu = 1.5"));
    let client = host.client();
    let request = sh(&host, "sleep 1000 & setsid sleep 1000 & wait", json!({ "tree_processes": 40, "tree_cpu": 0.5 }));
    if !holds(&["memory", "pids", "cpu"], &host, &client, &request) {
        return;
    }
    let plan = client.call("plan_run", request.clone());
    let shown = |key: &str| plan["limits"][key].clone();
    assert_eq!((shown("tree_memory_bytes"), shown("tree_processes"), shown("tree_cpu")), (json!(1 << 30), json!(40), json!(0.5)), "{plan}");
    let run = client.spawn(request);
    let mark = format!("FALCONER_RUN_ID={run}");
    let members = until("three processes", || Some(with_environment(&mark)).filter(|found| found.len() == 3));
    let first = |files: &[&str]| files.iter().find_map(|file| of_groups(&run, file)).unwrap();
    assert_eq!(first(&["memory.max", "memory.limit_in_bytes"]), (1 << 30).to_string());
    assert_eq!(first(&["pids.max"]), "40");
    assert_eq!(first(&["pids.current"]), "3", "and nothing of the host");
    assert!(["50000 100000", "50000"].contains(&first(&["cpu.max", "cpu.cfs_quota_us"]).as_str()));
    for member in members {
        let own = fs::read_to_string(format!("/proc/{}/cgroup", member.pid)).unwrap();
        for group in groups(&run) {
            let tail: PathBuf = group.components().rev().take(3).collect::<Vec<_>>().into_iter().rev().collect();
            assert!(own.contains(tail.to_str().unwrap()), "{} is not in {own}", group.display());
        }
    }
    assert_eq!(client.cancel(&run)["status"], "cancelled");
    nothing_left(&run);
}

#[test]
fn groups_of_a_host_that_was_killed_are_taken_away_by_the_next() {
    let host = Host::usual();
    let client = host.client();
    let request = sh(&host, "sleep 1000", json!({ "tree_memory_bytes": 64 << 20, "tree_processes": 40, "tree_cpu": 0.5 }));
    if !holds(&["memory", "pids", "cpu"], &host, &client, &request) {
        return;
    }
    let run = client.spawn(request);
    until("its groups", || (!groups(&run).is_empty() && !with_environment(&format!("FALCONER_RUN_ID={run}")).is_empty()).then_some(()));
    host.crash();
    let client = host.client();
    assert_eq!(client.ended(&run)["status"], "lost");
    nothing_left(&run);
}

#[test]
fn more_than_the_ceiling_is_refused_with_its_name() {
    let host = Host::with(&limited("tree_memory = \"64 MiB\"\ntree_processes = 50\ntree_cpu = 0.5"));
    let client = host.client();
    for (limits, key) in [
        (json!({ "tree_memory_bytes": 65 << 20 }), "tree_memory"),
        (json!({ "tree_processes": 51 }), "tree_processes"),
        (json!({ "tree_cpu": 0.6 }), "tree_cpu"),
    ] {
        let refusal = client.refused("spawn_run", sh(&host, "true", limits), "invalid_argument");
        assert!(refusal.message.contains("ceiling of `exec`"), "{refusal:?}");
        assert!(refusal.hint.as_ref().unwrap().contains(&format!("[backends.exec.limits] {key}")), "{refusal:?}");
    }
    for limits in [json!({ "tree_memory_bytes": 1 }), json!({ "tree_processes": 0 }), json!({ "tree_cpu": 2_000 }), json!({ "memory": 1 })]
    {
        client.refused("spawn_run", sh(&host, "true", limits), "invalid_argument");
    }
}

#[test]
fn a_limit_that_cannot_be_held_is_refused_and_not_dropped() {
    let without = USUAL.replace("[host]\n", "[host]\ncgroup = \"off\"\n");
    let host = Host::with(&without);
    let client = host.client();
    for limits in [json!({ "tree_memory_bytes": 64 << 20 }), json!({ "tree_processes": 50 }), json!({ "tree_cpu": 0.5 })] {
        let request = sh(&host, "true", limits);
        let refusal = client.refused("spawn_run", request.clone(), "limit_unavailable");
        assert!(refusal.message.contains("cgroup = \"off\""), "{refusal:?}");
        let plan = client.call("plan_run", request);
        assert_eq!((&plan["allowed"], &plan["refusal"]["code"]), (&json!(false), &json!("limit_unavailable")), "{plan}");
    }
    assert_eq!(client.run(sh(&host, "true", json!({})))["status"], "completed", "no limit, no refusal");

    let host = Host::with(&without.replace("[backends.exec.limits]\n", "[backends.exec.limits]\ntree_processes = 50\n"));
    let check = host.run(&["check"]);
    assert_eq!(check.code, Some(1), "{check:?}");
    assert!(check.out.contains("tree_processes of exec: it cannot be held"), "{check:?}");
    host.client().refused("spawn_run", sh(&host, "true", json!({})), "limit_unavailable");
}

#[test]
fn limits_are_given_on_the_command_line_and_check_knows_the_controllers() {
    let host = Host::usual();
    let check = host.run(&["check"]);
    for controller in ["memory", "pids", "cpu"] {
        let line =
            check.out.lines().find(|line| line.contains(&format!("controller {controller}: "))).unwrap_or_else(|| panic!("{check:?}"));
        assert_eq!(line.contains("none, so no run"), lacks(&host, controller).is_some(), "{line}");
    }
    let hog = host.run(&[
        "run",
        "exec",
        "--tree-memory",
        "32MiB",
        "--tree-processes",
        "40",
        "--tree-cpu",
        "1.5",
        "--",
        "sh",
        "-c",
        "tail /dev/zero",
    ]);
    assert_ne!(hog.code, Some(0), "{hog:?}");
    let code = if ["memory", "pids", "cpu"].iter().all(|controller| lacks(&host, controller).is_none()) {
        "tree_memory_exceeded"
    } else {
        "limit_unavailable"
    };
    assert!(hog.err.contains(code) || hog.out.contains(code), "{hog:?}");
}
