//! Whatever may be among the records: it is survived, and leads nowhere.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use super::{Marked, family, orphans, some_run, unified};
use crate::host::Host;
use crate::patience::until;

/// A record of this boot that names a cgroup.
fn record(run: &str, cgroup: &Path) -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let begun = json!({ "run": run, "boot": boot.trim(), "host": { "pid": 1, "start": 1 }, "program": "/bin/sh", "cgroup": cgroup });
    format!("{begun}\n{}\n", json!({ "shim": { "pid": 1, "start": 1 } }))
}

#[test]
fn whatever_is_among_the_records_is_survived_and_leads_nowhere() {
    let host = Host::usual();
    let trees = host.data().join("trees");
    let runs: BTreeMap<&str, String> = ["g", "h", "i", "j", "k", "l"].map(|letter| (letter, some_run())).into();
    let run = |letter: &str| runs[letter].clone();
    let place = |name: &str| {
        let dir = trees.join(name);
        fs::create_dir_all(&dir).unwrap();
        dir
    };
    fs::create_dir(host.data()).unwrap();
    fs::set_permissions(host.data(), fs::Permissions::from_mode(0o700)).unwrap();
    let victim = Marked(Command::new("/bin/sleep").arg("1000").env_clear().stdin(Stdio::null()).spawn().unwrap());

    // Nothing that is a record, or the name of a run.
    place("not-a-run");
    fs::write(trees.join(run("g")), "a file").unwrap();
    fs::write(trees.join("\u{1b}[31mred"), "").unwrap();
    // What would keep a reader waiting, lead it elsewhere, or is none.
    let odd = place(&run("h"));
    rustix::fs::mknodat(rustix::fs::CWD, odd.join("1"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", odd.join("2")).unwrap();
    fs::create_dir(odd.join("3")).unwrap();
    fs::write(odd.join("4"), [0xff, b'\n', 0, 0xfe]).unwrap();
    fs::write(odd.join("5"), "").unwrap();
    fs::write(odd.join("not-a-number"), "x").unwrap();
    // A run elsewhere.
    let outside = host.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("1"), record(&run("i"), Path::new("/nowhere"))).unwrap();
    std::os::unix::fs::symlink(&outside, trees.join(run("i"))).unwrap();
    // A directory that looks like a group of ours, and holds one that is not.
    let fake = host.path("work").join("falconer/host-000000000000").join(run("j")).join("c1");
    fs::create_dir_all(fake.join("empty")).unwrap();
    fs::write(fake.join("cgroup.procs"), format!("{}\n", victim.0.id())).unwrap();
    fs::write(fake.join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
    fs::write(place(&run("j")).join("1"), record(&run("j"), &fake)).unwrap();
    // A group of somebody else's, a real one where one can be made.
    let mount = unified().unwrap_or_else(|| host.path("no-cgroups"));
    let mut real =
        Groups { mount: mount.clone(), dir: mount.join(format!("falconer-test-{}", some_run())).join("falconer/host-000000000000/run/c1") };
    // It ends before its group does.
    let mut victim = victim;
    let made = real.make() && fs::write(real.dir.join("cgroup.procs"), victim.0.id().to_string()).is_ok();
    fs::write(place(&run("k")).join("1"), record(&run("k"), &real.dir)).unwrap();
    // Half a first line: nothing was started after it.
    fs::write(place(&run("l")).join("1"), "{\"run\":\"run_").unwrap();

    let untouched = |victim: &Marked| {
        assert!(victim.lives());
        assert!(!fake.join("cgroup.kill").exists() && fake.join("empty").exists() && outside.join("1").exists());
        assert!(!made || real.dir.exists());
    };
    let (nothing, found) = orphans(&host, &["--kill"]);
    assert!(!nothing);
    let of = |letter: &str| found.iter().find(|found| found["run_id"] == run(letter)).map(|found| found["proof"]["outcome"].clone());
    for letter in ["h", "j", "k"] {
        assert_eq!(of(letter), Some(json!("unverified")), "{letter}: {found:?}");
        assert!(trees.join(run(letter)).exists(), "what is not proven is kept");
    }
    assert_eq!(of("l"), Some(json!("no_processes")), "{found:?}");
    assert!(!trees.join(run("l")).exists());
    untouched(&victim);
    let told = host.run(&["check", "--orphans"]);
    assert!(told.out.contains("not-a-run") && !told.out.contains('\u{1b}'), "{told:?}");

    let client = host.client();
    assert_eq!(client.run(host.hostile(json!({ "mode": "echo" })))["status"], "completed", "a daemon starts all the same");
    let (_, family) = family(&host, &client);
    host.run(&["stop"]).well();
    until("its end", || family.iter().all(|process| !process.lives()).then_some(()));
    untouched(&victim);
    victim.0.kill().unwrap();
    victim.0.wait().unwrap();
    until("the group to be empty", || real.remove().then_some(()));
}

/// Cgroups of a test's own; they end with it.
struct Groups {
    mount: PathBuf,
    dir: PathBuf,
}

impl Groups {
    fn make(&self) -> bool {
        self.mount.join("cgroup.procs").exists() && fs::create_dir_all(&self.dir).is_ok()
    }
    /// From the innermost one outwards; whether none is left.
    fn remove(&mut self) -> bool {
        while self.dir != self.mount {
            if self.dir.exists() && fs::remove_dir(&self.dir).is_err() {
                return false;
            }
            self.dir.pop();
        }
        true
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        self.remove();
    }
}
