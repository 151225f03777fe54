use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use camino::{Utf8Path, Utf8PathBuf};
use tokio::runtime::Runtime;

use super::super::{Plan, Tree, proc};
use super::*;
use crate::config::Cgroup;

/// How long a test waits for what must come.
const SOON: Duration = Duration::from_secs(20);

/// A host that can be lost: its runtime holds the sockets of its shims.
struct Host {
    dir: Utf8PathBuf,
    runtime: Runtime,
}

/// Shims that were stopped. However a test ends, they go on and end their trees.
#[must_use = "they go on when it is dropped"]
struct Stopped(Vec<Process>);

impl Drop for Stopped {
    fn drop(&mut self) {
        for shim in &self.0 {
            let _ = shim.signal(Signal::CONT);
        }
    }
}

/// A process that ends with its test.
struct Guarded(std::process::Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        // Whoever looks for orphans in this process may have reaped it.
        let _ = (self.0.kill(), self.0.wait());
    }
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("falconer-unit-").tempdir().unwrap().keep();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { dir: Utf8PathBuf::from_path_buf(dir).unwrap(), runtime }
    }

    /// Starts a script in a tree, and waits until it has so many processes, all but the script itself `sleep`.
    fn start(&self, run: RunId, wish: Cgroup, script: &str, processes: usize) {
        let ground = Ground::open(&self.dir, wish).unwrap();
        let plan = Plan {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            env: vec![("PATH".into(), "/usr/bin:/bin".into())],
            cwd: None,
            stdin: false,
        };
        self.runtime.block_on(async {
            let tree = Tree::new(run, ground);
            tree.spawn(plan).await.unwrap();
        });
        self.until("all processes", || {
            let living = self.living(run);
            let sleeps = living.iter().filter(|process| process.name == "sleep").count();
            sleeps + 1 == processes && living.iter().filter(|process| !process.is_shim).count() == processes
        });
    }

    fn until(&self, what: &str, is: impl Fn() -> bool) {
        let end = Instant::now() + SOON;
        while !is() {
            assert!(Instant::now() < end, "{what} did not come");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn living(&self, run: RunId) -> Vec<Living> {
        let ground = Ground::of_another(&self.dir).unwrap();
        examine(&ground, &[run], &carriers::all()).remove(&run).unwrap().0
    }

    /// Stops the shims of a run, and gives them.
    fn stop_shims(&self, run: RunId) -> Stopped {
        let living = self.living(run);
        let shims = living.iter().filter(|process| process.is_shim).map(|shim| Process::found(&shim.stat, |_| true).unwrap());
        Stopped(shims.inspect(|shim| shim.signal(Signal::STOP).unwrap()).collect())
    }

    /// The host is gone; what is known of the run to the next one.
    fn lose(self) -> Ground {
        self.runtime.shutdown_timeout(SOON);
        Ground::of_another(&self.dir).unwrap()
    }
}

fn end(ground: &Ground, run: RunId, within: Duration) -> Left {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(end_leftovers(ground, &[run], within)).remove(&run).unwrap()
}

fn names(left: &Left) -> Vec<&str> {
    left.killed.iter().map(|seen| seen.name.as_str()).collect()
}

fn proven(by: &[&str]) -> Verdict {
    Verdict::Empty(by.iter().map(|by| (*by).to_owned()).collect())
}

#[test]
fn a_stopped_shim_is_woken_and_ends_its_tree() {
    let (host, run) = (Host::new(), RunId::random());
    host.start(run, Cgroup::Off, "setsid sleep 3001 & env -i setsid sleep 3002 & sleep 3003 & wait", 4);
    let _shims = host.stop_shims(run);
    let ground = host.lose();
    let (living, left) = examine(&ground, &[run], &carriers::all()).remove(&run).unwrap();
    assert_eq!(living.len(), 5);
    assert!(matches!(&left.verdict, Verdict::Unverified { survivors, .. } if survivors.len() == 4), "{left:?}");
    let left = end(&ground, run, SOON);
    assert_eq!((names(&left), left.killed_total), (vec!["sh", "sleep", "sleep", "sleep"], 4), "each is counted once");
    assert_eq!(left.verdict, proven(&["walk", "scan"]));
    assert_eq!(end(&ground, run, SOON), left, "and a later look says the same");
    forget(&ground, run);
    assert_eq!(end(&ground, run, SOON).verdict, Verdict::Never);
}

#[test]
fn without_a_shim_nothing_is_proven() {
    for wish in [Cgroup::Off, Cgroup::Auto] {
        let (host, run) = (Host::new(), RunId::random());
        let grouped = Ground::open(&host.dir, wish).unwrap().base().is_ok();
        host.start(run, wish, "setsid sleep 3001 & wait", 2);
        let shims = host.stop_shims(run);
        let ground = host.lose();
        for shim in &shims.0 {
            shim.signal(Signal::KILL).unwrap();
        }
        let left = end(&ground, run, Duration::from_secs(5));
        assert!(matches!(&left.verdict, Verdict::Unverified { survivors, .. } if survivors.is_empty()), "{left:?}");
        assert_eq!(names(&left).contains(&"sleep"), !left.killed.is_empty());
        if grouped {
            assert!(names(&left).contains(&"sleep"), "{left:?}");
        }
        let again = examine(&ground, &[run], &carriers::all()).remove(&run).unwrap().1;
        assert_eq!((again.killed, again.killed_total), (left.killed.clone(), left.killed_total), "a later look knows it too");
        assert_eq!(carriers::all().iter().filter(|carrier| carrier.run == run).count(), 0);
        let dirs: Vec<_> = records::of(&ground, run).list.iter().filter_map(|record| record.group(&ground)).collect();
        assert_eq!(dirs.len(), usize::from(grouped));
        forget(&ground, run);
        assert!(dirs.iter().all(|group| !group.dir().exists()) && !records::dir(&ground, run).exists());
        // That of the host, which goes away with the last daemon.
        for host in dirs.iter().filter_map(|group| group.dir().ancestors().nth(2)) {
            std::fs::remove_dir(host).unwrap();
        }
    }
}

#[test]
fn leftovers_are_known_by_their_mark_and_without_records_not_proven() {
    let (gone, other) = (RunId::random(), RunId::random());
    let start = |run: RunId| {
        let mut command = Command::new("/bin/sleep");
        Guarded(command.arg("3000").env(proc::MARK, run.to_string()).stdin(Stdio::null()).spawn().unwrap())
    };
    let (left, kept) = (start(gone), start(other));
    let host = Host::new();
    host.until("both", || [gone, other].iter().all(|run| host.living(*run).iter().any(|process| process.name == "sleep")));
    assert_eq!(super::super::mark_of(left.0.id()), [gone]);
    let ground = host.lose();
    let found = end(&ground, gone, SOON);
    assert_eq!(found.killed, [Seen { pid: left.0.id(), name: "sleep".into() }]);
    assert!(matches!(&found.verdict, Verdict::Unverified { reason, .. } if reason.contains("records are gone")), "{found:?}");
    assert!(living(&[gone, other], &carriers::all()).into_keys().eq([other]), "the other one is kept");
    drop((left, kept));
    assert_eq!(end(&ground, gone, SOON).verdict, Verdict::Never);
}

/// What is known by records alone.
fn known(texts: &[&[u8]]) -> Verdict {
    let dir = tempfile::tempdir().unwrap();
    let ground = Ground::of_another(Utf8Path::from_path(dir.path()).unwrap()).unwrap();
    let run: RunId = "run_aaaaaaaaaaaaaaaa".parse().unwrap();
    std::fs::create_dir_all(records::dir(&ground, run)).unwrap();
    for (number, text) in texts.iter().enumerate() {
        std::fs::write(records::dir(&ground, run).join((number + 1).to_string()), text).unwrap();
    }
    examine(&ground, &[run], &[]).remove(&run).unwrap().1.verdict
}

fn begun(boot: &str) -> String {
    format!("{{\"run\":\"run_aaaaaaaaaaaaaaaa\",\"boot\":\"{boot}\",\"host\":{{\"pid\":1,\"start\":1}},\"program\":\"/bin/x\"}}\n")
}

#[test]
fn a_record_proves_what_it_says_and_nothing_else() {
    let here = begun(&proc::boot());
    let shim = "{\"shim\":{\"pid\":1,\"start\":1}}\n";
    let ended = "{\"ended\":{\"why\":\"empty\",\"killed\":[],\"killed_total\":0}}\n";
    let is = |text: String| known(&[text.as_bytes()]);
    let walk = || proven(&["walk", "scan"]);
    assert_eq!(is(format!("{here}{shim}{ended}")), walk());
    assert_eq!(is(here.clone()), walk(), "its shim came to start nothing");
    assert_eq!(is(format!("{here}{shim}{{\"refused\":{{\"errno\":2}}}}\n")), walk());
    assert_eq!(is(format!("{}{shim}", begun("another boot"))), proven(&["boot", "scan"]));
    assert_eq!(
        is(format!("{here}{shim}{{\"cleared\":{{\"by\":[\"cgroup\",\"scan\"],\"killed\":[],\"killed_total\":0}}}}\n")),
        proven(&["cgroup", "scan"])
    );
    assert_eq!(known(&[b"", b"{\"run\":\"run_a"]), Verdict::Never, "nothing is started before the first line is whole");
    for doubtful in [
        format!("{here}{shim}"),
        format!("{here}{{\"shim\":{{\"pi"),
        format!("{here}{shim}{{\"ended\":{{\"why\":\"em"),
        format!("{}{shim}", begun("")),
        here.replace("aaaa", "bbbb"),
        "garbage\n".to_owned(),
    ] {
        assert!(matches!(is(doubtful.clone()), Verdict::Unverified { .. }), "{doubtful}");
    }
    let both = [format!("{here}{shim}{ended}"), format!("{here}{shim}")];
    assert!(matches!(known(&[both[0].as_bytes(), both[1].as_bytes()]), Verdict::Unverified { .. }), "one that is open is enough");
    assert!(matches!(known(&[&[0xff, b'\n']]), Verdict::Unverified { .. }));
    assert!(matches!(known(&[&vec![b'x'; 2 << 20]]), Verdict::Unverified { .. }), "too long");
}

#[test]
fn a_group_is_taken_only_where_this_host_would_have_made_it() {
    let dir = tempfile::tempdir().unwrap();
    let ground = Ground::of_another(Utf8Path::from_path(dir.path()).unwrap()).unwrap();
    let run = RunId::random();
    let group = |path: String| {
        let line = begun(ground.boot()).replace("run_aaaaaaaaaaaaaaaa", &run.to_string());
        let line = line.replace("\"program\"", &format!("\"cgroup\":{},\"program\"", serde_json::json!(path)));
        let place = records::dir(&ground, run);
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(place.join("1"), line).unwrap();
        let records = records::of(&ground, run);
        assert_eq!(records.list.len(), 1, "{records:?}");
        records.list[0].group(&ground).is_some()
    };
    let tag = ground.tag().to_owned();
    if let Ok(own) = super::super::cgroup::own_dir() {
        let own = own.display();
        assert!(group(format!("{own}/falconer/{tag}/{run}/c1")));
        for other in [
            format!("{own}/falconer/{tag}/{run}"),
            format!("{own}/falconer/{tag}/{run}/x1"),
            format!("{own}/falconer/{tag}/{run}/c1/../../../../.."),
            format!("{own}/falconer/{tag}/{}/c1", RunId::random()),
            format!("{own}/falconer/host-000000000000/{run}/c1"),
            format!("{own}/{tag}/{run}/c1"),
        ] {
            assert!(!group(other.clone()), "{other}");
        }
    }
    assert!(!group(format!("{}/falconer/{tag}/{run}/c1", dir.path().display())), "no directory of the kernel's");
}

#[test]
fn what_cannot_be_read_is_not_taken_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let ground = Ground::of_another(Utf8Path::from_path(dir.path()).unwrap()).unwrap();
    let run = RunId::random();
    let place = records::dir(&ground, run);
    std::fs::create_dir_all(place.join("1")).unwrap();
    let unproven = || matches!(examine(&ground, &[run], &[]).remove(&run).unwrap().1.verdict, Verdict::Unverified { .. });
    assert!(unproven(), "a directory is no record");
    std::fs::remove_dir(place.join("1")).unwrap();
    assert!(!unproven());
    std::os::unix::fs::symlink("/dev/null", place.join("2")).unwrap();
    assert!(unproven(), "nor is a link");
    std::fs::remove_file(place.join("2")).unwrap();
    if !rustix::process::geteuid().is_root() {
        std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o000)).unwrap();
        assert!(unproven(), "closed");
        std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o700)).unwrap();
    }
    assert_eq!(records::runs(&ground), [run]);
    std::fs::write(ground.records().join(RunId::random().to_string()), "").unwrap();
    std::fs::create_dir(ground.records().join("elsewhere")).unwrap();
    assert_eq!(records::runs(&ground), [run]);
    assert_eq!(records::strangers(&ground).len(), 2);
}

#[test]
fn what_was_killed_is_read_back_and_proves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let ground = Ground::of_another(Utf8Path::from_path(dir.path()).unwrap()).unwrap();
    let run = RunId::random();
    let look = || examine(&ground, &[run], &[]).remove(&run).unwrap().1;
    let sleep = |pid| Seen { pid, name: "sleep".into() };
    let killed = |pids: &[u32], killed_total| records::Killed { killed: pids.iter().map(|pid| sleep(*pid)).collect(), killed_total };
    records::of(&ground, run).note_killed(&killed(&[7], 1)).unwrap();
    assert!(look().killed.is_empty() && !ground.records().exists(), "without records, no directory is made for it");

    records::keep(&ground, run).unwrap();
    assert_eq!(look().verdict, Verdict::Never);
    records::of(&ground, run).note_killed(&killed(&[7], 1)).unwrap();
    records::of(&ground, run).note_killed(&killed(&[7, 8], 70)).unwrap();
    let left = look();
    assert_eq!((left.killed, left.killed_total), (vec![sleep(7), sleep(8)], 70));
    assert!(matches!(left.verdict, Verdict::Unverified { .. }), "{:?}", left.verdict);

    let file = records::dir(&ground, run).join("killed");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, [&whole[..], b"\n{\"killed\":[{\"pid\":9"].concat()).unwrap();
    assert_eq!(look().killed_total, 70, "a torn line takes nothing back");
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/dev/null", &file).unwrap();
    assert_eq!(look().verdict, Verdict::Never, "what cannot be read tells nothing");
    assert!(records::of(&ground, run).note_killed(&killed(&[7], 1)).is_err(), "and is not followed");
}

#[test]
fn missing_records_are_a_doubt_only_where_nothing_else_is_known() {
    let left = |verdict| Left { killed: Vec::new(), killed_total: 0, verdict };
    let mut never = left(Verdict::Never);
    never.miss_records();
    assert!(matches!(never.verdict, Verdict::Unverified { .. }));
    let mut empty = left(proven(&["scan"]));
    empty.miss_records();
    assert_eq!(empty.verdict, proven(&["scan"]));
}
