//! Every way in which a call can end.

use std::time::Duration;

use super::guest::{Guest, SPIN};
use super::*;
use crate::backend::instance::End;
use crate::backend::life::Phase;
use crate::backend::{CUT, limits};
use crate::fault::code;

/// A step at 4096 with so many bytes of checkpoint, or so many events, from the start of memory.
pub(super) fn step_with(what: &str, count: u32, pages: u32) -> String {
    let at = if what == "checkpoint" { 4108 } else { 4096 };
    let store = |at: u32, number: u32| format!("(i32.store (i32.const {at}) (i32.const {number}))");
    let some = if what == "checkpoint" { "(i32.store8 (i32.const 4104) (i32.const 1))" } else { "" };
    format!(
        "(if (i32.eq (memory.grow (i32.const {pages})) (i32.const -1)) (then unreachable)) {some} {} {} (i32.const 4096)",
        store(at, 65536),
        store(at + 4, count)
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_from_start_to_end() {
    let room = Room::new();
    let instance = room.instance(&Guest::new().build()).await;
    instance.start(job()).await.unwrap().unwrap();
    let step = instance.poll().await.unwrap();
    assert!(step.events.is_empty() && matches!(step.next, wit::Next::Pending(None)));
    instance.reply(wit::Answer::Dismissed(wit::Withdrawal { question: "q".into(), reason: "r".into() })).await.unwrap().unwrap();
    instance.cancel("enough".into(), Duration::from_secs(1)).await.unwrap().unwrap();
    instance.cut();
    assert_eq!(instance.gone().await, End::Returned);
    assert_eq!(instance.poll().await.unwrap_err().code, CUT);
    instance.cut();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_ticks_while_no_call_is_in_flight() {
    let room = Room::new();
    let instance = room.instance(&Guest::new().build()).await;
    instance.start(job()).await.unwrap().unwrap();
    until("the ticker is parked", || room.engine.ticker().is_parked()).await;
    let spinning = room.instance(&Guest::new().body("poll", SPIN).build()).await;
    let poll = spinning.poll();
    tokio::pin!(poll);
    tokio::select! {
        _ = &mut poll => panic!("a spinning guest answered"),
        () = until("the ticker ticks", || !room.engine.ticker().is_parked()) => {}
    }
    spinning.cut();
    until("the ticker is parked again", || room.engine.ticker().is_parked()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spinning_guest_is_cut_wherever_it_spins() {
    let room = Room::new();
    for export in ["start", "poll", "cancel"] {
        let instance = room.instance(&Guest::new().body(export, SPIN).build()).await;
        let called = async {
            match export {
                "start" => instance.start(job()).await.map(drop),
                "poll" => instance.poll().await.map(drop),
                _ => instance.cancel("x".into(), Duration::from_secs(1)).await.map(drop),
            }
        };
        let cut = async {
            until("it spins", || instance.waits() == Some(Phase::Yielded)).await;
            instance.cut();
            instance.gone().await
        };
        let (called, end) = tokio::join!(called, cut);
        assert_eq!(called.unwrap_err().code, CUT, "{export}");
        assert_eq!(end, End::Trapped, "{export}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_computes_too_long_in_one_call_is_busy() {
    let room = Room::new();
    let limits = Limits { call_cpu: Duration::from_millis(50), ..Limits::default() };
    let instance = room.limited(&Guest::new().body("poll", SPIN).build(), limits).await;
    instance.start(job()).await.unwrap().unwrap();
    let fault = instance.poll().await.unwrap_err();
    assert_eq!(fault.code, code::BACKEND_BUSY);
    assert!(fault.message.contains("`guest`") && fault.message.contains("`poll`"), "{}", fault.message);
    assert_eq!(instance.gone().await, End::Trapped);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_short_calls_use_up_the_cpu_time_of_a_run() {
    let room = Room::new();
    let limits = Limits { cpu: Duration::from_millis(100), ..Limits::default() };
    let some_work = "(global.set $count (i32.const 3000000))
        (loop $l (global.set $count (i32.sub (global.get $count) (i32.const 1))) (br_if $l (global.get $count)))
        (i32.const 256)";
    let instance = room.limited(&Guest::new().body("poll", some_work).build(), limits).await;
    let fault = loop {
        if let Err(fault) = instance.poll().await {
            break fault;
        }
    };
    assert_eq!(fault.code, code::CPU_EXCEEDED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_waits_inside_wasi_is_cut() {
    let room = Room::new();
    let sleeping = Guest::sleeping("poll", 3_600_000_000_000, "(i32.const 256)").build();
    let instance = room.instance(&sleeping).await;
    let cut = async {
        until("it sleeps", || instance.waits() == Some(Phase::Called)).await;
        instance.cut();
        instance.gone().await
    };
    let (polled, end) = tokio::join!(instance.poll(), cut);
    assert_eq!(polled.unwrap_err().code, CUT);
    assert_eq!(end, End::Dropped);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_waits_too_long_is_blocked_and_one_that_computes_busy() {
    let room = Room::with(|options| options.call_wall = Duration::from_millis(200));
    let sleeping = room.instance(&Guest::sleeping("poll", 3_600_000_000_000, "(i32.const 256)").build()).await;
    assert_eq!(sleeping.poll().await.unwrap_err().code, code::BACKEND_BLOCKED);
    assert_eq!(sleeping.gone().await, End::Dropped);
    let spinning = room.instance(&Guest::new().body("poll", SPIN).build()).await;
    assert_eq!(spinning.poll().await.unwrap_err().code, code::BACKEND_BUSY);
    assert_eq!(spinning.gone().await, End::Trapped);
    let short = room.instance(&Guest::sleeping("poll", 1_000_000, "(i32.const 256)").build()).await;
    short.poll().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_bomb_ends_at_its_limit() {
    let room = Room::new();
    let bomb = "(loop $more (drop (memory.grow (i32.const 16))) (br $more)) unreachable";
    let instance = room.limited(&Guest::new().body("start", bomb).build(), Limits { memory: 8 << 20, ..Limits::default() }).await;
    let fault = instance.start(job()).await.unwrap_err();
    assert_eq!(fault.code, code::MEMORY_EXCEEDED);
    assert!(fault.hint.unwrap().contains("[backends.guest.limits]"));
    // 4 GiB in one piece.
    let instance = room.instance(&Guest::new().body("start", "(memory.grow (i32.const 65535))").build()).await;
    assert_eq!(instance.start(job()).await.unwrap_err().code, code::MEMORY_EXCEEDED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_and_a_recursion_end_the_instance() {
    let room = Room::new();
    let instance = room.instance(&Guest::new().body("poll", "unreachable").build()).await;
    let fault = instance.poll().await.unwrap_err();
    assert_eq!(fault.code, code::BACKEND_TRAPPED);
    assert!(fault.message.contains("unreachable"), "{}", fault.message);
    assert_eq!(instance.gone().await, End::Trapped);
    let instance = room.instance(&Guest::new().body("poll", "(i32.add (call $poll) (i32.const 1))").build()).await;
    let fault = instance.poll().await.unwrap_err();
    assert_eq!(fault.code, code::BACKEND_TRAPPED);
    assert!(fault.message.contains("call stack"), "{}", fault.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_message_of_a_panic_is_in_the_fault() {
    let room = Room::new();
    let guest = Guest::saying("poll", "thread '<unnamed>' panicked at src/lib.rs:7:9: no wind", "unreachable").build();
    let file = room.dir.join("log");
    let instance = room.limited(&guest, Limits { log: RunLog::open(&file, Vec::new()), ..Limits::default() }).await;
    let fault = instance.poll().await.unwrap_err();
    assert_eq!(fault.code, code::BACKEND_TRAPPED);
    assert!(fault.message.contains("src/lib.rs:7:9: no wind"), "{}", fault.message);
    instance.gone().await;
    let log = std::fs::read_to_string(&file).unwrap();
    assert!(log.contains("stderr thread '<unnamed>' panicked") && log.contains("wasm backtrace") && log.contains("!poll"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exit_is_a_trap() {
    let room = Room::new();
    let guest = Guest::new()
        .import(Some("wasi:cli/exit@0.2.12"), r#"(import "wasi:cli/exit@0.2.12" "exit" (func $exit (param i32)))"#)
        .body("poll", "(call $exit (i32.const 1)) unreachable");
    let fault = room.instance(&guest.build()).await.poll().await.unwrap_err();
    assert_eq!(fault.code, code::BACKEND_TRAPPED);
    assert!(fault.message.contains("exited with status 1"), "{}", fault.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_megabytes_are_refused_before_they_are_copied() {
    let room = Room::new();
    let roomy = || Limits { memory: 256 << 20, ..Limits::default() };
    for (what, count) in [("checkpoint", 100_000_000), ("checkpoint", 9 << 20), ("events", 1_000_000)] {
        let instance = room.limited(&Guest::new().body("poll", &step_with(what, count, 2500)).build(), roomy()).await;
        let fault = instance.poll().await.unwrap_err();
        assert_eq!(fault.code, code::CALL_TOO_LARGE, "{what} {count}: {fault}");
    }
    // Ten million events do not even lie in memory.
    let instance = room.limited(&Guest::new().body("poll", &step_with("events", 10_000_000, 2500)).build(), roomy()).await;
    let fault = instance.poll().await.unwrap_err();
    assert_eq!(fault.code, code::BACKEND_TRAPPED, "{fault}");
    // Just below the limit is fine.
    let instance = room.limited(&Guest::new().body("poll", &step_with("checkpoint", 8_000_000, 2500)).build(), roomy()).await;
    assert_eq!(instance.poll().await.unwrap().checkpoint.unwrap().len(), 8_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_argument_to_the_host_is_bounded_as_well() {
    let room = Room::new();
    let guest = Guest::new()
        .import(None, r#"(import "falconer:backend/log@0.1.0" "write" (func $log (param i32 i32 i32)))"#)
        .body("poll", "(drop (memory.grow (i32.const 200))) (call $log (i32.const 0) (i32.const 0) (i32.const 9000000)) (i32.const 256)");
    assert_eq!(room.instance(&guest.build()).await.poll().await.unwrap_err().code, code::CALL_TOO_LARGE);
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_are_bounded() {
    let room = Room::new();
    let pollables = Guest::sleeping("start", 1, "(i32.const 3072)")
        .body("poll", "(loop $more (drop (call $subscribe (i64.const 1000000000000))) (br $more)) unreachable");
    let fault = room.instance(&pollables.build()).await.poll().await.unwrap_err();
    assert_eq!(fault.code, code::HANDLES_EXCEEDED, "{fault}");
    assert!(fault.message.contains(&limits::HANDLES.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_nobody_waits_for_goes_on() {
    let room = Room::new();
    let guest = Guest::sleeping("start", 30_000_000, "(i32.const 3072)").build();
    let instance = room.instance(&guest).await;
    {
        let start = instance.start(job());
        tokio::pin!(start);
        assert!(futures::poll!(&mut start).is_pending(), "asked for, and left");
    }
    instance.poll().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_guests_fault_disturbs_no_other() {
    let room = Room::new();
    let good = shared(room.instance(&Guest::new().build()).await);
    let mut bad = Vec::new();
    for body in [SPIN, "unreachable", "(i32.add (call $poll) (i32.const 1))", SPIN, SPIN] {
        let limits = Limits { call_cpu: Duration::from_millis(100), ..Limits::default() };
        bad.push(room.limited(&Guest::new().body("poll", body).build(), limits).await);
    }
    let polls = futures::future::join_all(bad.iter().map(Instance::poll));
    let beside = async {
        for _ in 0..50 {
            good.poll().await.unwrap();
        }
    };
    let (faults, ()) = tokio::join!(polls, beside);
    assert!(faults.into_iter().all(|fault| fault.is_err()));
    good.poll().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_handle_ends_the_guest() {
    let room = Room::new();
    let instance = room.instance(&Guest::new().body("poll", SPIN).build()).await;
    let poll = Box::pin(async move { instance.poll().await.map(drop) });
    assert!(tokio::time::timeout(Duration::from_millis(20), poll).await.is_err());
    until("the guest is gone", || room.engine.ticker().is_parked()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_there_is_no_room_the_fault_says_so() {
    let room = Room::with(|options| options.instances = 0);
    let guest = Guest::new().build();
    let mut held = Vec::new();
    let fault = loop {
        match room.try_instance(&guest, Limits::default()).await {
            Ok(instance) => held.push(instance),
            Err(fault) => break fault,
        }
    };
    assert_eq!(held.len(), limits::SPARE_INSTANCES as usize);
    assert_eq!((fault.code.as_ref(), fault.retryable), (code::LIMIT_REACHED, true));
    drop(held.pop());
    until("there is room again", || {
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(room.try_instance(&guest, Limits::default())).is_ok())
    })
    .await;
}
