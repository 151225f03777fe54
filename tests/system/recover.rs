//! Runs with a checkpoint outlive their host: crashes at any moment, orderly ends, and what is said and stopped meanwhile.
//!
//! The far job is a file that the test itself writes; the run follows it by a child, as one follows a job on another machine.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Client, Era, is_end, is_terminal};
use crate::daemon::nested;
use crate::host::{Host, USUAL};
use crate::patience::until;
use crate::processes::{listening_below, with_environment};

/// Follows the far job from a byte on.
const FOLLOW: &str = "exec tail -c +{at} -f far";

/// No limit of the host is met because the machine is busy.
fn patient() -> String {
    let patient = USUAL.replace("ask = \"500 ms\"", "ask = \"60 s\"\nprove = \"60 s\"").replace("call = \"1 s\"", "call = \"60 s\"");
    patient.replace("call_cpu = \"500 ms\"", "call_cpu = \"60 s\"")
}

fn host() -> Host {
    Host::with(&patient())
}

fn count(host: &Host, config: Value) -> Value {
    let mut request = host.hostile(json!({ "mode": "count", "every_ms": 5 }));
    request["config"].as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    request
}

fn follow(host: &Host, end: &str) -> Value {
    fs::write(host.work().join("far"), "").unwrap();
    host.hostile(json!({ "mode": "follow", "program": "sh", "args": ["-c", FOLLOW], "text": end }))
}

/// A job that goes on whatever becomes of any host: writes lines, in pieces that cut characters.
struct Far {
    stop: Arc<AtomicBool>,
    writer: Option<JoinHandle<Vec<u8>>>,
}

impl Far {
    fn begin(host: &Host) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut file = OpenOptions::new().append(true).open(host.work().join("far")).unwrap();
        let over = Arc::clone(&stop);
        let writer = std::thread::spawn(move || {
            let mut said = Vec::new();
            let mut line = 0_u64;
            while !over.load(Ordering::Relaxed) {
                line += 1;
                let text = format!("Zeile {line}: aé€𝄞\n");
                for piece in text.as_bytes().chunks(3 + (line as usize % 4)) {
                    file.write_all(piece).unwrap();
                    std::thread::sleep(Duration::from_millis(2));
                }
                said.extend(text.as_bytes());
            }
            file.write_all(b"END\n").unwrap();
            said.extend(b"END\n");
            said
        });
        Self { stop, writer: Some(writer) }
    }

    /// Ends it, and gives all that it said.
    fn end(mut self) -> String {
        self.stop.store(true, Ordering::Relaxed);
        String::from_utf8(self.writer.take().unwrap().join().unwrap()).unwrap()
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn of_type<'a>(events: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    events.iter().filter(move |event| event["type"] == kind)
}

fn notices(events: &[Value], code: &str) -> usize {
    of_type(events, "notice").filter(|event| event["data"]["code"] == code).count()
}

/// What a run of `count` has told: 1, 2, 3 …, whatever happened.
#[track_caller]
fn ticks(events: &[Value]) -> u64 {
    let told: Vec<u64> = of_type(events, "native").map(|event| event["data"]["data"]["n"].as_u64().unwrap()).collect();
    let expected: Vec<u64> = (1..=told.len() as u64).collect();
    assert_eq!(told, expected, "nothing is told twice, nothing is left out");
    told.len() as u64
}

/// The output of a run, its offsets checked.
#[track_caller]
fn output(events: &[Value]) -> String {
    let mut text = String::new();
    for event in of_type(events, "command_output") {
        assert_eq!(event["data"]["offset"], json!(text.len()), "{event}");
        text.push_str(event["data"]["text"].as_str().unwrap());
        assert_eq!(event["data"]["bytes"].as_u64().unwrap() + event["data"]["offset"].as_u64().unwrap(), text.len() as u64, "{event}");
    }
    text
}

#[track_caller]
fn ends_once(events: &[Value]) {
    assert_eq!(events.iter().filter(|event| is_end(event)).count(), 1);
    assert!(is_end(events.last().unwrap()));
}

fn ticked(client: &Client, run: &str, at_least: u64) {
    client.event(run, "a tick", |event| event["data"]["data"]["n"].as_u64().is_some_and(|n| n >= at_least));
}

/// Numbers that differ enough from each other.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

#[test]
fn runs_go_on_through_thirty_crashes() {
    let host = host();
    let client = host.client();
    let counting = client.spawn(count(&host, json!({})));
    let following = client.spawn(follow(&host, "true"));
    let lost = client.spawn(host.hostile(json!({ "mode": "idle" })));
    let far = Far::begin(&host);
    // What has told nothing yet has no checkpoint either.
    ticked(&client, &counting, 1);
    client.event(&following, "output", |event| event["type"] == "command_output");
    client.until_status(&lost, "running");
    drop(client);
    let seed = u64::from(std::process::id());
    eprintln!("seed {seed}");
    let mut state = seed;
    for round in 0..30 {
        let client = host.client();
        // Some lives are long enough to tell something, others end while they begin.
        if round % 3 == 0 {
            let before = client.get(&counting)["last_seq"].as_u64().unwrap();
            until("more events", || (client.get(&counting)["last_seq"].as_u64().unwrap() > before + 3).then_some(()));
        }
        std::thread::sleep(Duration::from_millis(random(&mut state) % 200));
        host.crash();
    }
    let client = host.client();
    let said = far.end();
    let view = client.ended(&following);
    let events = client.events(&following);
    assert_eq!(view["status"], "completed", "{view}");
    assert_eq!(output(&events), said);
    assert_eq!((of_type(&events, "command_started").count(), of_type(&events, "command_finished").count()), (1, 1));
    ends_once(&events);

    let told = ticks(&client.events(&counting));
    ticked(&client, &counting, told + 1);
    let view = client.cancel(&counting);
    assert_eq!((&view["status"], &view["receipt"]["far_end"]["state"]), (&json!("cancelled"), &json!("confirmed")), "{view}");
    let events = client.events(&counting);
    assert!(ticks(&events) > told);
    ends_once(&events);
    let lives = notices(&events, "recovered") + 1;
    assert!(lives > 10, "{lives}");
    assert_eq!(client.get(&counting)["result"]["text"], format!("stopped in life {lives}"));

    assert_eq!(client.ended(&lost)["error"]["code"], "host_lost", "what has no checkpoint is lost");
    for run in [&counting, &following] {
        until("nothing of the run to live", || with_environment(&format!("FALCONER_RUN_ID={run}")).is_empty().then_some(()));
    }
}

#[test]
fn an_orderly_end_leaves_them_to_the_next_host() {
    let host = host();
    let client = host.client();
    let counting = client.spawn(count(&host, json!({})));
    let following = client.spawn(follow(&host, "touch ended"));
    let idle = client.spawn(host.hostile(json!({ "mode": "idle" })));
    let far = Far::begin(&host);
    client.until_status(&idle, "running");
    for _ in 0..2 {
        let client = host.client();
        let before = client.get(&counting)["last_seq"].as_u64().unwrap();
        until("more events", || (client.get(&counting)["last_seq"].as_u64().unwrap() > before + 3).then_some(()));
        client.event(&following, "output", |event| event["type"] == "command_output");
        let daemon = host.daemon().unwrap();
        host.run(&["stop"]).well();
        until("the daemon to end", || (!daemon.lives()).then_some(()));
        assert_eq!(with_environment(&format!("FALCONER_RUN_ID={following}")), [], "here nothing of it is left");
        let checked = host.run(&["check", "--orphans", "--json"]);
        let said: Value = serde_json::from_str(&checked.out).unwrap();
        let ours = said["runs"].as_array().unwrap().iter().filter(|run| run["data_dir"] == json!(host.data()));
        assert!(ours.clone().all(|run| run["proof"]["outcome"] != "unverified"), "{said}");
    }
    let client = host.client();
    assert_eq!(client.get(&idle)["status"], "cancelled", "what has no checkpoint is stopped");
    let said = far.end();
    assert_eq!(client.ended(&following)["status"], "completed");
    let events = client.events(&following);
    assert_eq!(output(&events), said);
    assert_eq!((notices(&events, "parked"), notices(&events, "recovered")), (2, 2));
    assert!(!host.work().join("ended").exists(), "nobody told the far job to end");
    assert_eq!(client.cancel(&counting)["status"], "cancelled");
    let events = client.events(&counting);
    ticks(&events);
    ends_once(&events);
    assert!(!events.iter().any(|event| event["data"]["cause"] == "shutdown"));
}

#[test]
fn a_host_whose_directory_goes_leaves_nothing() {
    let host = host();
    let mut daemon = host.command(&["serve", "--ephemeral"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(daemon.stderr.take().unwrap()).lines().map_while(Result::ok);
    let place = lines.find_map(|line| Some(line.strip_prefix("falconer serves ")?.split(';').next()?.to_owned())).unwrap();
    std::thread::spawn(move || lines.for_each(drop));
    let data = place.as_str();
    let client = until("a client", || {
        (!listening_below(Path::new(data)).is_empty()).then(|| Client::start(host.command(&["mcp", "--data-dir", data]), Era::Legacy))
    });
    let run = client.spawn(follow(&host, "touch ended"));
    let _far = Far::begin(&host);
    client.event(&run, "output", |event| event["type"] == "command_output");
    let pid = rustix::process::Pid::from_raw(daemon.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(daemon.wait().unwrap().success());
    assert_eq!(with_environment(&format!("FALCONER_RUN_ID={run}")), []);
    assert!(host.work().join("ended").exists(), "it was asked to end");
}

#[test]
fn what_goes_on_has_its_place() {
    let host = Host::with(&patient().replace("runs = 500\ncall_cpu", "runs = 1\ncall_cpu"));
    let client = host.client();
    let run = client.spawn(count(&host, json!({})));
    ticked(&client, &run, 1);
    host.crash();
    let client = host.client();
    client.event(&run, "its next life", |event| event["data"]["code"] == "recovered");
    let next = client.spawn(count(&host, json!({})));
    ticked(&client, &run, ticks(&client.events(&run)) + 3);
    assert_eq!(client.get(&next)["status"], "queued");
    assert_eq!(client.cancel(&run)["status"], "cancelled");
    client.until_status(&next, "running");
}

#[test]
fn a_cancel_reaches_the_far_job_from_another_life() {
    let host = host();
    let client = host.client();
    let run = client.spawn(follow(&host, "touch ended"));
    let _far = Far::begin(&host);
    client.event(&run, "output", |event| event["type"] == "command_output");
    host.crash();
    let client = host.client();
    let view = client.cancel(&run);
    assert_eq!((&view["status"], &view["receipt"]["far_end"]["state"]), (&json!("cancelled"), &json!("confirmed")), "{view}");
    assert!(host.work().join("ended").exists());
    let events = client.events(&run);
    assert_eq!(of_type(&events, "command_finished").count(), 1, "what was open is closed");
    ends_once(&events);
}

#[test]
fn a_cancel_before_the_crash_counts_after_it() {
    let host = host();
    let client = Arc::new(host.client());
    let run = client.spawn(follow(&host, "until [ -e go ]; do sleep 0.05; done; touch ended"));
    let _far = Far::begin(&host);
    client.event(&run, "output", |event| event["type"] == "command_output");
    let asking = std::thread::spawn({
        let (client, run) = (Arc::clone(&client), run.clone());
        // Its answer never comes.
        move || client.request("tools/call", json!({ "name": "cancel_run", "arguments": { "run_id": run, "reason": "enough" } }))
    });
    client.until_status(&run, "cancelling");
    for _ in 0..2 {
        host.crash();
        let client = host.client();
        let view = client.get(&run);
        assert_eq!(view["status"], "cancelling", "{view}");
    }
    assert!(asking.join().unwrap().is_err());
    fs::write(host.work().join("go"), "").unwrap();
    let client = host.client();
    let view = client.ended(&run);
    assert_eq!((&view["status"], &view["receipt"]["reason"]), (&json!("cancelled"), &json!("enough")), "{view}");
    assert!(host.work().join("ended").exists());
    let events = client.events(&run);
    assert_eq!(of_type(&events, "status_changed").filter(|event| event["data"]["to"] == "cancelling").count(), 1);
    ends_once(&events);
}

#[test]
fn time_goes_on_while_no_host_is_there() {
    let host = host();
    let client = host.client();
    let mut request = count(&host, json!({}));
    request["timeout_s"] = json!(20);
    let run = client.spawn(request);
    ticked(&client, &run, 1);
    let ticked = Instant::now();
    host.crash();
    until("the run's time to be over", || (ticked.elapsed() > Duration::from_secs(20)).then_some(()));
    let client = host.client();
    let view = client.ended(&run);
    assert_eq!((&view["status"], &view["error"]["code"]), (&json!("failed"), &json!("deadline_exceeded")), "{view}");
    assert_eq!(view["receipt"]["far_end"]["state"], "confirmed", "its component was asked to end it");
}

#[test]
fn questions_are_taken_back_and_asked_again() {
    let host = host();
    let client = host.client();
    let run = client.spawn(count(&host, json!({ "text": "ask" })));
    let old = client.until_status(&run, "input_required")["question"].clone();
    host.crash();
    let client = host.client();
    let view = until("the question of the second life", || {
        let view = client.get(&run);
        (view["question"]["details"]["life"] == 2).then_some(view)
    });
    let events = client.events(&run);
    let resolved: Vec<&Value> = of_type(&events, "input_resolved").collect();
    assert_eq!(resolved.len(), 1);
    assert_eq!(resolved[0]["data"]["how"], "withdrawn");
    let stale = json!({ "question_id": "q1", "details_hash": old["details_hash"], "choices": ["yes"] });
    client.refused("continue_run", json!({ "run_id": run, "answer": stale }), "stale_answer");
    let answer = json!({ "question_id": "q1", "details_hash": view["question"]["details_hash"], "choices": ["yes"] });
    assert_eq!(client.call("continue_run", json!({ "run_id": run, "answer": answer }))["action"], "answered");
    client.cancel(&run);
    ticks(&client.events(&run));
}

#[test]
fn the_job_is_as_it_was() {
    let host = host();
    let client = host.client();
    let mut request = count(&host, json!({ "n": 400 }));
    request.as_object_mut().unwrap().remove("prompt");
    request["name"] = json!("lasting");
    let file = host.work().join("a.png");
    fs::write(&file, b"\x89PNG\r\n\x1a\n from a file").unwrap();
    request["message"] = json!({ "parts": [
        { "type": "text", "text": "look" },
        { "type": "data", "data": { "at": 1 } },
        { "type": "file", "uri": format!("file://{}", file.display()) },
    ] });
    let run = client.spawn(request);
    ticked(&client, &run, 1);
    fs::remove_file(file).unwrap();
    host.crash();
    let client = host.client();
    let view = client.ended("lasting");
    assert_eq!(view["run_id"], json!(run));
    let text = view["result"]["text"].as_str().unwrap();
    assert!(text.starts_with("400 in life 2: look\n{\"at\":1}\n[a.png: 20 bytes of image/png: "), "{text}");
    assert_eq!(ticks(&client.events(&run)), 400);
}

#[test]
fn what_cannot_go_on_is_lost_with_its_reason() {
    let host = host();
    for (text, code) in [("refuse", "resume_refused"), ("trap", "stop_unverified")] {
        let client = host.client();
        let run = client.spawn(count(&host, json!({ "text": text })));
        ticked(&client, &run, 1);
        host.crash();
        let client = host.client();
        let view = client.ended(&run);
        assert_eq!((&view["status"], &view["error"]["code"]), (&json!("lost"), &json!(code)), "{view}");
        ends_once(&client.events(&run));
    }
    let client = host.client();
    let run = client.spawn(count(&host, json!({})));
    ticked(&client, &run, 1);
    host.crash();
    host.configure(&USUAL.replace("every_ms = true\n", ""));
    let client = host.client();
    let view = client.ended(&run);
    assert_eq!(view["status"], "lost", "{view}");
    let message = view["error"]["message"].as_str().unwrap();
    assert!(message.contains("cannot be taken up again") && message.contains("every_ms"), "{message}");
}

#[test]
fn a_client_brings_the_values_that_a_run_of_before_needs() {
    let host = host();
    let brings = |value: &str| {
        let mut command = host.command(&["mcp"]);
        command.env("CANARY_TOKEN", value);
        Client::start(command, Era::Legacy)
    };
    let client = brings("first-canary-value");
    let mut request = follow(&host, "true");
    request["config"]["secrets"] = json!(["CANARY_TOKEN"]);
    request["config"]["args"] = json!(["-c", "echo \"$CANARY_TOKEN\" >> seen; exec tail -c +{at} -f far"]);
    let run = client.spawn(request);
    let far = Far::begin(&host);
    client.event(&run, "output", |event| event["type"] == "command_output");
    host.crash();
    let client = host.client();
    until("the second life", || (notices(&client.events(&run), "recovered") == 1).then_some(()));
    assert_eq!(fs::read_to_string(host.work().join("seen")).unwrap(), "first-canary-value\n", "nobody has brought it");
    let client = brings("second-canary-value");
    let said = far.end();
    assert_eq!(client.ended(&run)["status"], "completed");
    assert_eq!(output(&client.events(&run)), said);
    assert_eq!(fs::read_to_string(host.work().join("seen")).unwrap(), "first-canary-value\nsecond-canary-value\n");
    for value in ["first-canary-value", "second-canary-value"] {
        assert_eq!(host.data_holding(value.as_bytes()), Vec::<std::path::PathBuf>::new());
    }
}

/// A run inside a run: a client below the parent's child starts it.
#[test]
fn the_child_of_a_run_that_is_lost_is_stopped() {
    let host = host();
    let client = host.client();
    let request = follow(&host, "touch ended");
    let script = nested(&host, &request);
    let parent = client.spawn(host.hostile(json!({ "mode": "spawn", "program": "sh", "args": ["-c", script], "env": ["HOME"] })));
    let child = until("the nested run", || {
        let page = client.call("list_runs", json!({ "parent_run_id": parent }));
        page["runs"][0]["run_id"].as_str().map(str::to_owned)
    });
    let _far = Far::begin(&host);
    client.event(&child, "output", |event| event["type"] == "command_output");
    host.crash();
    let client = host.client();
    assert_eq!(client.ended(&parent)["status"], "lost");
    let view = client.ended(&child);
    assert_eq!((&view["status"], &view["receipt"]["cause"]), (&json!("cancelled"), &json!("parent")), "{view}");
    assert_eq!(view["receipt"]["far_end"]["state"], "confirmed");
    assert!(host.work().join("ended").exists());
}

#[test]
fn a_session_waits_for_the_run_that_goes_on() {
    let host = host();
    let client = host.client();
    let run = client.spawn(count(&host, json!({})));
    ticked(&client, &run, 1);
    let session = client.get(&run)["session_id"].clone();
    host.crash();
    let client = host.client();
    let mut request = count(&host, json!({ "n": 3 }));
    request["session_id"] = session;
    let next = client.spawn(request);
    assert_eq!(client.get(&next)["status"], "queued");
    assert!(!is_terminal(&client.get(&run)));
    assert_eq!(client.cancel(&run)["status"], "cancelled");
    // Its turn comes only then.
    assert!(is_terminal(&client.ended(&next)));
}
