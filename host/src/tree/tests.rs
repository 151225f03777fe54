use std::io::Read;

use super::*;
use crate::config::Cgroup;

/// How long a test waits for what must come.
const SOON: Duration = Duration::from_secs(20);

fn plan(script: &str) -> Plan {
    Plan {
        program: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
        env: vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())],
        cwd: None,
        stdin: false,
    }
}

thread_local! {
    /// Removed with the test's thread.
    static PLACE: tempfile::TempDir = tempfile::Builder::new().prefix("falconer-unit-").tempdir().unwrap();
}

/// A tree in a place of its own.
fn tree_of(run: RunId) -> Tree {
    let ground = PLACE.with(|dir| Ground::open(camino::Utf8Path::from_path(dir.path()).unwrap(), Cgroup::Off).unwrap());
    Tree::new(run, ground)
}

/// Polls a condition that no event tells of.
async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + SOON;
    while !is() {
        assert!(tokio::time::Instant::now() < end, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn exit(child: &mut Child) -> Exit {
    tokio::time::timeout(SOON, child.exit.wait_for(Option::is_some)).await.unwrap().unwrap().unwrap()
}

/// Everything that a child wrote, once it has ended.
fn text(pipe: OwnedFd) -> String {
    rustix::io::ioctl_fionbio(&pipe, false).unwrap();
    let mut text = String::new();
    std::fs::File::from(pipe).read_to_string(&mut text).unwrap();
    text
}

fn marked(run: RunId) -> Vec<String> {
    let lives = |stat: &proc::Stat| stat.lives() && proc::mark(stat.pid) == Some(run);
    proc::all().into_iter().filter(lives).map(|stat| stat.name).collect()
}

#[tokio::test]
async fn exits_are_told_as_they_were() {
    let tree = tree_of(RunId::random());
    assert!(!tree.is_alive());
    for (script, expected) in [("exit 0", Exit::Code(0)), ("exit 7", Exit::Code(7)), ("kill -9 $$", Exit::Signalled(9))] {
        let mut child = tree.spawn(plan(script)).await.unwrap();
        assert_eq!(exit(&mut child).await, expected, "{script}");
        assert!(!tree.is_alive(), "an exit is told when its group was looked at");
        assert!(proc::stat(child.pid).is_err(), "reaped");
    }
    tokio::time::timeout(SOON, tree.empty()).await.unwrap();
}

#[tokio::test]
async fn a_child_has_its_own_group_a_plain_environment_and_no_niceness() {
    let run = RunId::random();
    let tree = tree_of(run);
    let mut child = tree.spawn(Plan { program: "/usr/bin/env".into(), args: Vec::new(), ..plan("") }).await.unwrap();
    assert_eq!(exit(&mut child).await, Exit::Code(0));
    let mut env: Vec<String> = text(child.stdout).lines().map(str::to_owned).collect();
    env.sort();
    assert_eq!(env, [format!("FALCONER_RUN_ID={run}"), "PATH=/usr/local/bin:/usr/bin:/bin".to_owned()]);

    let script = "cut -d' ' -f5 /proc/$$/stat; echo $$; nice; grep -E 'SigBlk|SigIgn' /proc/self/status; ls /proc/self/fd | wc -l";
    let mut child = tree.spawn(plan(script)).await.unwrap();
    exit(&mut child).await;
    let out = text(child.stdout);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], lines[1], "the leader of its group");
    assert_eq!(lines[2], std::process::Command::new("nice").output().map(|out| String::from_utf8(out.stdout).unwrap()).unwrap().trim());
    assert_eq!(lines[3], "SigBlk:\t0000000000000000");
    let ignored = u64::from_str_radix(lines[4].strip_prefix("SigIgn:\t").unwrap(), 16).unwrap();
    assert_eq!(ignored & !(0b11 << 31), 0, "but for the C library's own two: {}", lines[4]);
    assert_eq!(lines[5], "4", "0, 1, 2 and the folder that is listed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_child_of_a_nice_thread_is_not_nice() {
    let tree = tree_of(RunId::random());
    let own = text_of(&tree, "nice").await;
    let nicer = std::thread::spawn(move || {
        #[expect(unsafe_code, reason = "the standard library has no call for niceness")]
        // SAFETY: setpriority takes plain numbers; 0 is the calling thread.
        let set = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 7) };
        assert_eq!(set, 0);
        let guests = tokio::runtime::Builder::new_current_thread().build().unwrap();
        guests.block_on(text_of(&tree, "nice"))
    });
    let nicer = tokio::task::spawn_blocking(|| nicer.join().unwrap()).await.unwrap();
    assert_eq!(nicer, own);
}

/// From any runtime, also one without a driver.
async fn text_of(tree: &Tree, script: &str) -> String {
    let mut child = tree.spawn(plan(script)).await.unwrap();
    child.exit.wait_for(Option::is_some).await.unwrap();
    text(child.stdout)
}

#[tokio::test]
async fn what_cannot_be_executed_says_so() {
    let tree = tree_of(RunId::random());
    for (program, kind) in [("/nowhere/x", std::io::ErrorKind::NotFound), ("/etc/passwd", std::io::ErrorKind::PermissionDenied)] {
        match tree.spawn(Plan { program: program.into(), ..plan("") }).await {
            Err(SpawnError::Exec { source, .. }) => assert_eq!(source.kind(), kind, "{program}"),
            other => panic!("{other:?}"),
        }
    }
    assert!(!tree.is_alive());
    assert_eq!(tree.prove(Duration::ZERO).await, Verdict::Never);
    tree.kill().await;
    assert_eq!(tree.killed().total, 0);
    assert!(matches!(tree.spawn(plan("true")).await, Err(SpawnError::Sealed)));
}

#[tokio::test]
async fn a_child_works_in_the_directory_that_was_opened() {
    let dir = tempfile::tempdir().unwrap();
    let (inside, moved) = (dir.path().join("inside"), dir.path().join("moved"));
    std::fs::create_dir(&inside).unwrap();
    let fd: OwnedFd = std::fs::File::open(&inside).unwrap().into();
    // Swapped after it was judged.
    std::fs::rename(&inside, &moved).unwrap();
    std::os::unix::fs::symlink("/", &inside).unwrap();
    let tree = tree_of(RunId::random());
    let mut child = tree.spawn(Plan { cwd: Some(fd), ..plan("pwd -P") }).await.unwrap();
    exit(&mut child).await;
    assert_eq!(text(child.stdout).trim(), moved.canonicalize().unwrap().to_str().unwrap());
}

#[tokio::test]
async fn a_kill_finds_children_of_the_group_and_those_that_left_it() {
    let run = RunId::random();
    let tree = tree_of(run);
    let mut child = tree.spawn(plan("setsid sleep 3001 & env -i sleep 3002 & sleep 3003 & trap '' TERM; wait")).await.unwrap();
    let asleep = || walk::below(&[child.pid]).iter().filter(|stat| stat.name == "sleep").count() == 3;
    until("all sleeps, the one without an environment too", asleep).await;
    tree.kill().await;
    let killed = tree.killed().named;
    let mut names: Vec<&str> = killed.iter().map(|seen| seen.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["sh", "sleep", "sleep", "sleep"], "{killed:?}");
    assert_eq!(exit(&mut child).await, Exit::Signalled(9));
    tokio::time::timeout(SOON, tree.empty()).await.unwrap();
    assert_eq!(marked(run), Vec::<String>::new());
    assert_eq!(tree.prove(SOON).await, Verdict::Empty(vec!["walk".into(), "scan".into()]));
    assert!(matches!(tree.spawn(plan("true")).await, Err(SpawnError::Sealed)));
}

#[tokio::test]
async fn a_stopped_tree_and_one_that_left_its_group_take_their_term() {
    let run = RunId::random();
    let tree = tree_of(run);
    let mut child = tree.spawn(plan("setsid sleep 3001 & kill -STOP $$; wait")).await.unwrap();
    let pid = child.pid;
    until("the stop", || proc::stat(pid).is_ok_and(|stat| stat.state == b'T') && marked(run).contains(&"sleep".to_owned())).await;
    tree.terminate().await;
    assert_eq!(exit(&mut child).await, Exit::Signalled(15));
    tokio::time::timeout(SOON, tree.empty()).await.unwrap();
    assert_eq!(marked(run), Vec::<String>::new());
}

#[tokio::test]
async fn what_a_child_leaves_behind_is_alive_until_it_ends() {
    let tree = tree_of(RunId::random());
    let mut child = tree.spawn(Plan { stdin: true, ..plan("exec 3<&0; cat <&3 >/dev/null & exit 3") }).await.unwrap();
    assert_eq!(exit(&mut child).await, Exit::Code(3));
    assert!(tree.is_alive());
    assert_eq!(tree.children(), 1);
    tree.signal(child.pid, Signal::TERM).unwrap();
    assert!(tree.is_alive(), "a signal to the child alone");
    drop(child.stdin.take());
    tokio::time::timeout(SOON, tree.empty()).await.unwrap();
    assert!(proc::stat(child.pid).is_err());
    assert_eq!(tree.children(), 0);
}

#[tokio::test]
async fn a_signal_reaches_one_child() {
    let tree = tree_of(RunId::random());
    let mut one = tree.spawn(plan("exec sleep 3000")).await.unwrap();
    let two = tree.spawn(plan("exec sleep 3000")).await.unwrap();
    tree.signal(one.pid, Signal::INT).unwrap();
    assert_eq!(exit(&mut one).await, Exit::Signalled(2));
    assert_eq!(*two.exit.borrow(), None);
    tree.signal(one.pid, Signal::INT).unwrap();
    tree.kill().await;
}

#[tokio::test]
async fn a_storm_of_starts_does_not_outlive_a_kill() {
    let run = RunId::random();
    let tree = tree_of(run);
    let starts: Vec<_> = (0..20)
        .map(|_| {
            tokio::spawn({
                let tree = tree.clone();
                async move { while tree.spawn(plan("setsid sleep 3000 & exec sleep 3000")).await.is_ok() && tree.children() < 60 {} }
            })
        })
        .collect();
    until("some", || tree.children() > 10).await;
    tree.kill().await;
    for start in starts {
        start.await.unwrap();
    }
    assert_eq!(tree.prove(SOON).await, Verdict::Empty(vec!["walk".into(), "scan".into()]));
    assert!(!tree.is_alive());
    assert_eq!(marked(run), Vec::<String>::new());
}

#[tokio::test]
async fn a_process_is_in_the_runs_of_its_ancestors() {
    let (outer, inner) = (RunId::random(), RunId::random());
    let tree = tree_of(outer);
    let child = tree.spawn(plan(&format!("FALCONER_RUN_ID={inner} sh -c 'env -i sleep 3000; true'; true"))).await.unwrap();
    let find = || proc::all().into_iter().find(|stat| stat.group == child.pid && stat.name == "sleep");
    until("the sleep", || find().is_some()).await;
    assert_eq!(mark_of(find().unwrap().pid), [inner, outer]);
    assert_eq!(mark_of(std::process::id()), []);

    let unmarked = tree.spawn(plan("(env -i setsid sleep 3001 &) ; sleep 3000")).await.unwrap();
    let find = || {
        proc::all()
            .into_iter()
            .find(|stat| stat.session != unmarked.pid && stat.name == "sleep" && stat.group == stat.pid && mark_of(stat.pid) == [outer])
    };
    until("a sleep that left everything but its shim", || find().is_some()).await;
    tree.kill().await;
}
