//! Pipes, exits and news.

use super::fixture::{borrowed, resident, until};
use super::*;

#[tokio::test]
async fn output_and_exit_come_as_they_were() {
    let mut run = Fixture::new();
    let child = run.spawn(options("one", "echo out; echo err >&2; exit 7")).await.unwrap();
    assert!(run.host.pid(borrowed(&child)).unwrap() > 0);
    let (out, err, exit) = run.finish(&child).await;
    assert_eq!((out.as_str(), err.as_str(), exit), ("out\n", "err\n", Exit::Code(7)));
    assert!(matches!(run.out(&child), Received::End), "says so again");
    let killed = run.spawn(options("two", "kill -USR1 $$")).await.unwrap();
    assert_eq!(run.finish(&killed).await.2, Exit::Signalled(10));
}

#[tokio::test]
async fn an_armed_source_rings_once() {
    let mut run = Fixture::new();
    // Each line that it is given makes it write one.
    let child = run.spawn(Options { stdin: StdinMode::Piped, ..options("one", "exec cat") }).await.unwrap();
    // Room in its stdin is news: the source was armed when it was made.
    run.heard().await;
    assert!(matches!(run.out(&child), Received::NotYet));
    assert!(!run.rang());
    assert_eq!(run.host.write_stdin(borrowed(&child), b"a\n".to_vec()).unwrap().unwrap(), 2);
    run.heard().await;
    assert!(!run.rang(), "once");
    // It is not read, and so not armed: what follows wakes nobody.
    assert_eq!(run.host.write_stdin(borrowed(&child), b"b\n".to_vec()).unwrap().unwrap(), 2);
    let mut seen = Vec::new();
    until("both lines", || {
        if let Received::Bytes(bytes) = run.out(&child) {
            seen.extend(bytes);
        }
        seen == b"a\nb\n"
    })
    .await;
    assert!(matches!(run.out(&child), Received::NotYet));
    let _ = run.rang();
    run.host.close_stdin(borrowed(&child)).unwrap();
    assert_eq!(run.finish(&child).await.2, Exit::Code(0));
    assert!(matches!(run.host.write_stdin(borrowed(&child), b"c".to_vec()).unwrap(), Err(IoError::Closed)));
}

#[tokio::test]
async fn an_exit_is_news_and_signals_reach_the_child() {
    let mut run = Fixture::new();
    let child = run.spawn(options("one", "exec sleep 3000")).await.unwrap();
    assert_eq!(run.exit(&child), None);
    assert!(!run.rang());
    run.host.signal(borrowed(&child), Signal::Interrupt).unwrap().unwrap();
    while run.exit(&child).is_none() {
        run.heard().await;
    }
    assert_eq!(run.exit(&child), Some(Exit::Signalled(2)));
    run.host.signal(borrowed(&child), Signal::Kill).unwrap().unwrap();
}

#[tokio::test]
async fn a_fast_writer_is_held_up_and_memory_stays_flat() {
    const GIB: u64 = 1024 * 1024 * 1024;
    const GROWTH: u64 = 32 * 1024 * 1024;
    let mut run = Fixture::new();
    let child = run
        .spawn(Options { program: "head".into(), args: vec!["-c".into(), "1G".into(), "/dev/zero".into()], ..options("one", "") })
        .await
        .unwrap();
    let pid = run.host.pid(borrowed(&child)).unwrap();
    // Unread: it fills its pipe and sleeps there.
    let written = || {
        let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
        io.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap().parse::<u64>().unwrap()
    };
    until("a full pipe", || {
        std::fs::read_to_string(format!("/proc/{pid}/wchan")).is_ok_and(|at| at.contains("pipe"))
            || (written() >= 65_536 && std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") S ")))
    })
    .await;
    assert!(written() <= 1024 * 1024, "{}", written());
    let before = resident();
    let mut total = 0;
    loop {
        match run.out(&child) {
            Received::Bytes(bytes) => {
                assert!(bytes.len() <= 65_536);
                total += bytes.len() as u64;
            }
            Received::NotYet => run.heard().await,
            Received::End => break,
        }
        assert!(resident() < before + GROWTH);
    }
    assert_eq!(total, GIB);
    assert_eq!(run.finish(&child).await.2, Exit::Code(0));
}

#[tokio::test]
async fn a_child_that_does_not_read_is_not_pushed() {
    let mut run = Fixture::new();
    let child = run.spawn(Options { stdin: StdinMode::Piped, ..options("one", "read go; exec cat") }).await.unwrap();
    let offered = vec![b'x'; 1024 * 1024];
    let taken = run.host.write_stdin(borrowed(&child), [b"go\n".to_vec(), offered.clone()].concat()).unwrap().unwrap() as usize;
    assert!(taken < offered.len(), "{taken}");
    let (mut sent, mut got) = (taken - 3, 0);
    while got < offered.len() {
        if sent < offered.len() {
            sent += run.host.write_stdin(borrowed(&child), offered[sent..].to_vec()).unwrap().unwrap() as usize;
            if sent == offered.len() {
                run.host.close_stdin(borrowed(&child)).unwrap();
            }
        }
        match run.out(&child) {
            Received::Bytes(bytes) => got += bytes.len(),
            Received::NotYet => run.heard().await,
            Received::End => break,
        }
    }
    assert_eq!(got, offered.len());
}

#[tokio::test]
async fn the_other_side_of_stdin_can_go_away() {
    let mut run = Fixture::new();
    let child = run.spawn(Options { stdin: StdinMode::Piped, ..options("one", "exec 0<&-; echo closed; exec sleep 3000") }).await.unwrap();
    while !matches!(run.out(&child), Received::Bytes(_)) {
        run.heard().await;
    }
    assert!(matches!(run.host.write_stdin(borrowed(&child), vec![b'x'; 100]).unwrap(), Err(IoError::Closed)));
    run.tree.kill().await;
}

#[tokio::test]
async fn dropping_a_child_closes_its_pipes_and_kills_nothing() {
    let mut run = Fixture::new();
    let child = run.spawn(options("one", "exec sleep 3000")).await.unwrap();
    run.host.drop(child).unwrap();
    assert!(run.tree.is_alive());
    run.tree.kill().await;
    assert_eq!(run.tree.killed().total, 1);
}

#[tokio::test]
async fn what_is_left_goes_into_the_log_up_to_a_limit() {
    let mut run = Fixture::with(|setup| {
        Arc::make_mut(&mut setup.grant).env.insert("MY_TOKEN".into(), EnvSource::Value("canary-canary".into()));
    });
    let script = "echo last words of canary-canary; echo and 1>&2; touch done; exec sleep 3000";
    run.spawn(options("one", script)).await.unwrap();
    let done = run.dir.join("work/done");
    until("its words", || done.exists()).await;
    run.host.drain_into_log(1024);
    let log = run.log_text();
    assert!(log.contains(" one:stdout last words of *************\n"), "{log}");
    assert!(log.contains(" one:stderr and\n"), "{log}");
    run.tree.kill().await;

    let mut loud = Fixture::new();
    loud.spawn(options("loud", "yes")).await.unwrap();
    loud.heard().await;
    loud.host.drain_into_log(10_000);
    let kept = loud.log_text().matches(" loud:stdout y\n").count();
    assert!(kept <= 5_001, "{kept}");
    loud.tree.kill().await;
}

#[tokio::test]
async fn secrets_are_replaced_at_any_cut() {
    let mut run = Fixture::with(|setup| {
        setup.client_env = ClientEnv::of(&[("BUILD_TOKEN".to_owned(), "hunter2-hunter2".to_owned())].into());
        let grant = Arc::make_mut(&mut setup.grant);
        grant.secrets.insert("token".into(), SecretSource::Env("BUILD_TOKEN".into()));
    });
    let script = "printf 'a%sb' \"$T\"; printf 'hunt'; sleep 0.05; printf 'er2-hunter2 hunter'";
    let env = vec![("T".to_owned(), EnvValue::Secret("token".into()))];
    assert_eq!(run.run(Options { env, ..options("one", script) }).await, "a***************b*************** hunter");
}
