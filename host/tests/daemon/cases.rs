//! The cases. Each has a data directory of its own.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use falconer::daemon::ending::Ended;
use falconer::daemon::{LOCK_FILE, LOG_FILE, SOCKET_FILE, lock};
use falconer::id::RunId;
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::process::{REFUSE, SHUT_DOWN};
use super::world::{Client, World, read, stat, until};

pub const ALL: &[(&str, fn())] = &[
    ("ten_at_once_make_one_daemon", ten_at_once_make_one_daemon),
    ("a_client_ends_and_the_daemon_stays", a_client_ends_and_the_daemon_stays),
    ("a_killed_pipe_is_dropped_and_its_pipes_block_again", a_killed_pipe_is_dropped_and_its_pipes_block_again),
    ("sockets_as_node_has_them", sockets_as_node_has_them),
    ("files_are_passed_byte_by_byte", files_are_passed_byte_by_byte),
    ("the_daemon_is_detached_and_clean", the_daemon_is_detached_and_clean),
    ("a_failed_start_says_why", a_failed_start_says_why),
    ("a_killed_daemon_is_noticed_and_replaced", a_killed_daemon_is_noticed_and_replaced),
    ("stop_and_signals_end_in_order", stop_and_signals_end_in_order),
    ("another_configuration_is_refused", another_configuration_is_refused),
    ("bad_first_lines_are_refused", bad_first_lines_are_refused),
    ("inside_a_run_nothing_is_started", inside_a_run_nothing_is_started),
    ("only_listed_environment_crosses", only_listed_environment_crosses),
    ("a_long_data_directory_works", a_long_data_directory_works),
    ("an_open_data_directory_is_refused", an_open_data_directory_is_refused),
    ("a_daemon_that_hangs_does_not_hold_the_pipe", a_daemon_that_hangs_does_not_hold_the_pipe),
    ("an_ephemeral_host_leaves_nothing", an_ephemeral_host_leaves_nothing),
];

fn ten_at_once_make_one_daemon() {
    let world = World::new();
    let mut clients: Vec<Client> = (0..10).map(|_| Client::start(world.mcp())).collect();
    let daemons: BTreeSet<u64> = clients.iter_mut().map(|client| client.ask("hello")["daemon"].as_u64().unwrap()).collect();
    assert_eq!(daemons.len(), 1, "{daemons:?}");
    let status = world.status().unwrap();
    assert_eq!((u64::from(status.pid), status.clients, status.live_runs), (*daemons.first().unwrap(), 10, 7));
    let log = std::fs::read_to_string(world.data.join(LOG_FILE)).unwrap();
    assert_eq!(log.matches("serves data_dir").count(), 1, "{log}");
    assert_eq!(lock::last_owner(&world.data), Some(status.pid));
    for mut client in clients {
        client.close();
        assert!(client.wait().success());
    }
}

fn a_client_ends_and_the_daemon_stays() {
    let world = World::new();
    let mut first = Client::start(world.mcp());
    let daemon = first.ask("one")["daemon"].clone();
    let mut second = Client::start(world.mcp());
    assert_eq!(second.ask("two")["daemon"], daemon);
    // What was said before the end is still answered.
    first.say("last");
    first.close();
    assert_eq!(first.hear()["echo"], "last");
    assert!(first.wait().success());
    second.signal(Signal::TERM);
    assert!(!second.wait().success(), "a signal just ends the pipe");
    until("the daemon has no client", || world.status().unwrap().clients == 0);
    let mut third = Client::start(world.mcp());
    assert_eq!(third.ask("three")["daemon"], daemon);
}

fn a_killed_pipe_is_dropped_and_its_pipes_block_again() {
    let world = World::new();
    let (stdin, mut to) = std::io::pipe().unwrap();
    let (from, stdout) = std::io::pipe().unwrap();
    let mut command = world.mcp();
    command.stdin(stdin.try_clone().unwrap()).stdout(stdout.try_clone().unwrap());
    let mut child = command.spawn().unwrap();
    drop(command);
    to.write_all(b"hello\n").unwrap();
    let mut line = String::new();
    BufReader::new(from).read_line(&mut line).unwrap();
    assert!(line.contains("\"echo\":\"hello\""));
    let blocks = |flags: OFlags| !flags.contains(OFlags::NONBLOCK);
    assert!(!blocks(fcntl_getfl(&stdin).unwrap()), "the daemon reads the client's own pipe");
    child.kill().unwrap();
    child.wait().unwrap();
    until("the daemon has dropped it", || world.status().unwrap().clients == 0);
    assert!(blocks(fcntl_getfl(&stdin).unwrap()) && blocks(fcntl_getfl(&stdout).unwrap()));
}

fn sockets_as_node_has_them() {
    let world = World::new();
    let mut client = Client::start_on_sockets(world.mcp());
    let long = "x".repeat(300_000);
    for text in ["one", &long, "three"] {
        client.ask(text);
    }
    client.close();
    assert!(client.wait().success());
}

fn files_are_passed_byte_by_byte() {
    let world = World::new();
    let (mut input, mut output) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    let text: String = (0..5000).map(|number| format!("line {number}\n")).collect();
    input.write_all(text.as_bytes()).unwrap();
    read(&mut input);
    std::io::Seek::rewind(&mut input).unwrap();
    let mut command = world.mcp();
    command.stdin(input).stdout(output.try_clone().unwrap());
    assert!(command.status().unwrap().success());
    let answers = read(&mut output);
    assert_eq!(answers.lines().count(), 5000);
    for (number, line) in answers.lines().enumerate() {
        assert_eq!(serde_json::from_str::<Value>(line).unwrap()["echo"], format!("line {number}"));
    }
}

fn the_daemon_is_detached_and_clean() {
    let world = World::new();
    let mut command = world.mcp();
    command.env("CANARY", "in the environment").env("LANG", "C.UTF-8");
    let mut client = Client::start(command);
    client.ask("hello");
    let pid = world.status().unwrap().pid;
    let [parent, session] = [stat(pid, 4), stat(pid, 6)];
    assert_eq!(session, i64::from(pid), "a session of its own");
    assert!(![client.child.id(), std::process::id()].map(i64::from).contains(&parent), "nobody's child");
    let proc = format!("/proc/{pid}");
    assert_eq!(std::fs::read_to_string(format!("{proc}/comm")).unwrap(), "falconer\n");
    assert_eq!(std::fs::read_link(format!("{proc}/cwd")).unwrap().to_str(), Some("/"));
    for fd in [0, 1] {
        assert_eq!(std::fs::read_link(format!("{proc}/fd/{fd}")).unwrap().to_str(), Some("/dev/null"));
    }
    assert_eq!(std::fs::read_link(format!("{proc}/fd/2")).unwrap(), world.data.join(LOG_FILE));
    let environ = String::from_utf8(std::fs::read(format!("{proc}/environ")).unwrap()).unwrap();
    let names: BTreeSet<&str> = environ.split('\0').filter_map(|entry| entry.split_once('=')).map(|(name, _)| name).collect();
    assert_eq!(names, BTreeSet::from(["HOME", "LANG"]));
    for (file, mode) in [("", 0o700), (SOCKET_FILE, 0o600), (LOCK_FILE, 0o600), (LOG_FILE, 0o600)] {
        let path = world.data.join(file);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode, "{path}");
    }
}

fn a_failed_start_says_why() {
    let world = World::new();
    std::fs::create_dir(&world.data).unwrap();
    std::fs::set_permissions(&world.data, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::write(world.data.join(REFUSE), "the disk is made of cheese").unwrap();
    let mut clients: Vec<Client> = (0..3).map(|_| Client::start(world.mcp())).collect();
    for client in &mut clients {
        let told = client.stderr();
        assert!(told.contains("the disk is made of cheese") && told.contains("remove the file"), "{told}");
        assert_eq!(client.wait().code(), Some(2));
    }
    assert_eq!(world.stop(), Ended::NoneRan);
    std::fs::remove_file(world.data.join(REFUSE)).unwrap();
    Client::start(world.mcp()).ask("hello");
}

fn a_killed_daemon_is_noticed_and_replaced() {
    let world = World::new();
    let mut client = Client::start(world.mcp());
    client.ask("hello");
    let killed = world.kill_daemon();
    assert_eq!(client.wait().code(), Some(2));
    assert!(client.stderr().contains("daemon_lost"));
    let mut next = Client::start(world.mcp());
    assert_ne!(next.ask("hello")["daemon"], killed);
}

fn stop_and_signals_end_in_order() {
    let world = World::new();
    assert_eq!(world.stop(), Ended::NoneRan);
    for signal in [None, Some(Signal::TERM), Some(Signal::INT), Some(Signal::HUP)] {
        let mut client = Client::start(world.mcp());
        let pid = u32::try_from(client.ask("hello")["daemon"].as_u64().unwrap()).unwrap();
        match signal {
            None => assert_eq!(world.stop(), Ended::Ended { pid }),
            Some(signal) => {
                let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
                rustix::process::kill_process(pid, signal).unwrap();
                until("the lock is free", || lock::is_free(&world.data).unwrap());
            }
        }
        client.wait();
        assert!(!world.data.join(SOCKET_FILE).exists());
        std::fs::remove_file(world.data.join(SHUT_DOWN)).expect("the service was shut down");
    }
}

fn another_configuration_is_refused() {
    let world = World::new();
    let [one, other] =
        [("one.toml", ""), ("other.toml", "[client]\ncwd_is_workspace = false\n")].map(|(name, text)| world.config(name, text));
    let with = |file: &camino::Utf8Path| {
        let mut command = world.mcp();
        command.arg("--config").arg(file);
        command
    };
    let mut first = Client::start(with(&one));
    first.ask("hello");
    let mut second = Client::start(with(&other));
    let told = second.stderr();
    assert!(told.starts_with("config_mismatch"), "{told}");
    for word in [one.as_str(), other.as_str(), "falconer stop"] {
        assert!(told.contains(word), "{told}");
    }
    first.ask("still there");
}

fn bad_first_lines_are_refused() {
    let world = World::new();
    let mut client = Client::start(world.mcp());
    client.ask("hello");
    let say = |line: &str| -> Value {
        let mut socket = UnixStream::connect(world.data.join(SOCKET_FILE)).unwrap();
        socket.write_all(line.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    };
    let other = say("{\"protocol\":77,\"version\":\"8.0.0\"}\n");
    assert_eq!(other["error"]["code"], "protocol_mismatch");
    let message = other["error"]["message"].as_str().unwrap();
    assert!(message.contains("falconer 8.0.0 (protocol 77)") && message.contains("(protocol 1)"), "{message}");
    assert!(other["error"]["hint"].as_str().unwrap().contains("falconer stop"));
    for line in ["\n", "GET / HTTP/1.1\n", "{\"control\":\"explode\"}\n", "{\"protocol\":1}\n", "{\"control\":\"status\"}\nmore\n"] {
        assert_eq!(say(line)["error"]["code"], "bad_hello", "{line:?}");
    }
    let with_no_descriptors =
        json!({ "protocol": 1, "version": "0", "pid": 1, "handover": true, "config": { "file": null, "digest": "x" } });
    assert!(say(&format!("{with_no_descriptors}\n"))["error"]["code"].is_string());
    client.ask("still there");
}

fn inside_a_run_nothing_is_started() {
    let world = World::new();
    let run = RunId::random().to_string();
    let inside = |home: bool| {
        let mut command = world.mcp();
        command.env("FALCONER_RUN_ID", &run).env("FALCONER_DATA_DIR", &world.data);
        if !home {
            command.env_remove("HOME");
        }
        command
    };
    let told = Client::start(inside(true)).stderr();
    assert!(told.starts_with("no_daemon") && told.contains(&run), "{told}");
    assert!(!world.data.exists());
    Client::start(world.mcp()).ask("hello");
    // Also where the run's environment has no home, and so no configuration.
    for home in [true, false] {
        let answer = Client::start(inside(home)).ask("hello");
        assert_eq!((answer["parent"].as_str(), &answer["cwd"]), (Some(run.as_str()), &Value::Null));
    }
}

fn only_listed_environment_crosses() {
    let world = World::new();
    let text = "[backends.claude]\nenabled = false\n[backends.codex]\nenabled = false\n[backends.ssh]\nenabled = false\n[backends.exec.grants]\nenv = ['LISTED', 'UNSET']\nsecrets = { t = { env = 'TOKEN' } }\n";
    let file = world.config("falconer.toml", text);
    let mut command = world.mcp();
    command.arg("--config").arg(&file).envs([("LISTED", "one"), ("TOKEN", "canary"), ("OTHER", "two"), ("PATH", "/nowhere")]);
    let mut client = Client::start(command);
    let answer = client.ask("hello");
    assert_eq!(answer["env"], json!({ "LISTED": "one", "TOKEN": "canary" }));
    assert_eq!(answer["cwd"], world.home.as_str());
    let log = std::fs::read_to_string(world.data.join(LOG_FILE)).unwrap();
    assert!(!log.contains("canary"));
    // Another client, another environment, the same daemon.
    let mut command = world.mcp();
    command.arg("--config").arg(&file).envs([("LISTED", "three"), ("XDG_CONFIG_HOME", "/elsewhere")]);
    let other = Client::start(command).ask("hello");
    assert_eq!((&other["env"], &other["daemon"]), (&json!({ "LISTED": "three" }), &answer["daemon"]));
}

fn a_long_data_directory_works() {
    let mut world = World::new();
    world.data = world.home.join("d".repeat(100)).join("e".repeat(100));
    let mut client = Client::start(world.mcp());
    client.ask("hello");
    assert_eq!(world.status().unwrap().data_dir, world.data);
    let pid = world.status().unwrap().pid;
    assert_eq!(world.stop(), Ended::Ended { pid });
}

fn an_open_data_directory_is_refused() {
    let world = World::new();
    std::fs::create_dir(&world.data).unwrap();
    std::fs::write(world.data.join("something"), "").unwrap();
    std::fs::set_permissions(&world.data, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = world.mcp();
    command.stdin(Stdio::null());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.starts_with("bad_data_dir") && told.contains("chmod 700"), "{told}");
    std::fs::set_permissions(&world.data, std::fs::Permissions::from_mode(0o700)).unwrap();
    Client::start(world.mcp()).ask("hello");
}

fn a_daemon_that_hangs_does_not_hold_the_pipe() {
    let world = World::new();
    let mut clients = [Client::start(world.mcp()), Client::start_on_sockets(world.mcp())];
    for client in &mut clients {
        client.ask("hello");
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(world.status().unwrap().pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::STOP).unwrap();
    for client in &mut clients {
        client.close();
        assert!(client.wait().success());
    }
    rustix::process::kill_process(pid, Signal::CONT).unwrap();
    until("the daemon has dropped them", || world.status().unwrap().clients == 0);
}

fn an_ephemeral_host_leaves_nothing() {
    for signal in [None, Some(Signal::TERM)] {
        let world = World::new();
        let mut command = Command::new("/proc/self/exe");
        command.arg("mcp--ephemeral").env_clear().env("HOME", &world.home).env("TMPDIR", &world.home).current_dir(&world.home);
        let mut client = Client::start(command);
        let answer = client.ask("hello");
        assert_eq!((answer["cwd"].as_str(), answer["daemon"].as_u64()), (Some(world.home.as_str()), Some(client.child.id().into())));
        // A process of one of its runs finds it.
        let mut child = world.mcp();
        child.arg("--data-dir").arg(answer["dir"].as_str().unwrap()).env("FALCONER_RUN_ID", RunId::random().to_string());
        assert_eq!(Client::start(child).ask("hello")["daemon"], answer["daemon"]);
        match signal {
            None => client.close(),
            Some(signal) => client.signal(signal),
        }
        assert!(client.wait().success());
        assert_eq!(std::fs::read_dir(&world.home).unwrap().count(), 0, "the directory is gone");
    }
}
