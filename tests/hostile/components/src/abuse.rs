//! What a backend must not do.

use std::hint::black_box;
use std::time::Duration;

use crate::bindings::falconer::backend::process;
use crate::bindings::falconer::backend::types::{
    CommandStart, Completion, Event, ItemStatus, Next, Outcome, OutputKind, Step, Stopped, Todo, TodoStatus,
};
use crate::config::{Config, Mode};
use crate::events::{finished, message, native, output};

const SLEEP: Duration = Duration::from_secs(600);
const MIB: usize = 1 << 20;

pub fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

pub fn sleep<T>() -> T {
    loop {
        std::thread::sleep(SLEEP);
    }
}

pub fn panics(place: &str) -> ! {
    panic!("told to panic in {place}")
}

/// Uses the stack for ever; the sum keeps the compiler from making a loop of it.
#[expect(unconditional_recursion, reason = "what it is for")]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    recurse(depth + 1) + frame.iter().sum::<u64>()
}

fn allocate() -> usize {
    let mut pieces = Vec::new();
    while pieces.len() < 256 {
        pieces.push(black_box(vec![1_u8; 16 * MIB]));
    }
    pieces.iter().map(Vec::len).sum()
}

fn step(events: Vec<Event>, next: Next) -> Step {
    Step { events, checkpoint: None, next }
}

fn completed() -> Next {
    Next::Finished(Outcome::Completed(Completion { text: Some("nobody stopped it".into()), structured: None }))
}

/// The step of a mode that breaks the rules in `poll`; none where the mode behaves there.
pub fn poll(config: &Config) -> Option<Step> {
    let events = match config.mode {
        Mode::SpinPoll => spin(),
        Mode::SleepPoll => sleep(),
        Mode::PanicPoll => panics("poll"),
        Mode::Recurse => vec![message("depth", recurse(0).to_string())],
        Mode::Allocate => vec![message("bytes", allocate().to_string())],
        Mode::TenMillion => (0..10_000_000).map(|_| native("n", "0")).collect(),
        Mode::TenMillionTodos => {
            let todo = |_| Todo { text: String::new(), status: TodoStatus::Pending };
            vec![Event::TodoUpdated((0..10_000_000).map(todo).collect())]
        }
        Mode::HugeEvent => vec![message("huge", "x".repeat(100_000_000))],
        Mode::LongStep => (0..1_025).map(|n| native("n", n.to_string())).collect(),
        Mode::LargeCall => (0..12).map(|n| message(format!("m{n}"), "x".repeat(MIB - 1_024))).collect(),
        Mode::BadJson => vec![native("bad", "{ \"open\": ")],
        Mode::UnknownId => vec![finished("never-started", ItemStatus::Succeeded, Some(0), None)],
        Mode::LongName => vec![native("k".repeat(10_000), "{}")],
        Mode::OffsetGap => vec![begun(), output(OutputKind::Stdout, 0, b"one".to_vec()), output(OutputKind::Stdout, 100, b"two".to_vec())],
        Mode::LargeCheckpoint => {
            return Some(Step { events: Vec::new(), checkpoint: Some(vec![0; 65 * 1_024]), next: completed() });
        }
        Mode::StoppedUnasked => {
            let stopped = Stopped { remote: None, detail: None, partial: Completion { text: None, structured: None } };
            return Some(step(Vec::new(), Next::Finished(Outcome::Stopped(stopped))));
        }
        Mode::Again => return Some(step(Vec::new(), Next::Again)),
        Mode::PendingZero => return Some(step(Vec::new(), Next::Pending(Some(0)))),
        Mode::ManyChildren => return Some(children(config)),
        _ => return None,
    };
    Some(step(events, completed()))
}

fn begun() -> Event {
    Event::CommandStarted(CommandStart { id: "child".into(), command: "none".into(), args: None, cwd: None, parent: None })
}

/// Starts children until the host refuses, and says how far it came.
fn children(config: &Config) -> Step {
    let mut held = Vec::new();
    let refusal = loop {
        let options = process::Options {
            label: format!("child-{}", held.len()),
            program: config.program.clone(),
            args: config.args.clone(),
            far: None,
            env: Vec::new(),
            cwd: None,
            stdin: process::StdinMode::Null,
        };
        match process::spawn(&options) {
            Ok(child) => held.push(child),
            Err(process::SpawnError::Limit(why)) => break format!("limit: {why}"),
            Err(other) => break format!("{other:?}"),
        }
    };
    step(vec![message("children", format!("{} children, then {refusal}", held.len()))], completed())
}
