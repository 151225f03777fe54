//! Mode `run` when it is told to end, when the link is lost, when the wrapper is; and mode `end`.

use std::os::unix::process::CommandExt;

use super::world::{LINK_S, Link, World, lives, shell, until};
use super::*;

/// The lines of a stubborn lot.
const STUBBORN: &str = "trap '' TERM HUP INT; (while :; do sleep 1; done) & sleep 3000 & echo ready; while :; do sleep 1; done";

fn signal(pid: u32, name: &str) {
    let status = std::process::Command::new("/bin/sh").args(["-c", "kill -$1 $2", "sh", name, &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

/// Until these programs are at work in a session. (mksh catches TERM, and what it forks may forget it on the way to its program.)
fn settled(session: u32, names: &[&str]) {
    until(&format!("{names:?}"), || {
        let stats =
            std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
        let ours: Vec<String> =
            stats.filter(|stat| stat.rsplit(") ").next().unwrap().split(' ').nth(3) == Some(&session.to_string())).collect();
        let mut names = names.to_vec();
        for stat in ours {
            let name = stat.split_once('(').unwrap().1.rsplit_once(") ").unwrap().0.to_owned();
            if let Some(at) = names.iter().position(|wanted| *wanted == name) {
                names.remove(at);
            }
        }
        names.is_empty()
    });
}

#[test]
fn it_ends_when_it_is_told_to() {
    World::everywhere(|world| {
        for (line, names) in [
            ("exec sleep 3000", &["sleep"][..]),
            ("exec env -i \"$(command -v sleep)\" 3000", &["sleep"]),
            ("sleep 3000; true", &["sleep"]),
            ("sleep 3000 | cat", &["sleep", "cat"]),
        ] {
            let mut link = world.run(line);
            settled(link.begun(), names);
            link.say(b".\nT\n");
            // What heard TERM may still be about to end when the wrapper looks.
            let word = link.end().word;
            assert!(word.starts_with("end exited 143 0 ") && word.ends_with(" proc"), "{line}: {word}");
        }
        let mut link = world.run("trap 'echo heard; exit 7' TERM; echo ready; while :; do sleep 1; done");
        link.out_has("ready");
        link.say(b"T\n");
        let said = link.end();
        assert!(said.word.starts_with("end exited 7 0 ") && said.out.ends_with(b"heard\n"), "{said:?}");
    });
}

#[test]
fn it_is_killed_when_term_does_not_help() {
    World::everywhere(|world| {
        for line in [STUBBORN, "echo ready; kill -STOP $$"] {
            let mut link = world.run(line);
            link.out_has("ready");
            link.say(if line == STUBBORN { b"T\nK\n" } else { b"K\n" });
            let said = link.end();
            assert!(said.word.starts_with("end exited 137 0 "), "{}", said.word);
            world.is_clean();
        }
    });
}

#[test]
fn a_stopped_command_hears_term() {
    World::everywhere(|world| {
        let mut link = world.run("echo ready; kill -STOP $$; sleep 3000");
        link.out_has("ready");
        link.say(b"T\n");
        assert!(link.end().word.starts_with("end exited 143 0 "));
    });
}

#[test]
fn without_a_link_it_ends_by_itself() {
    World::everywhere(|world| {
        let mut link = world.run(STUBBORN);
        link.out_has("ready");
        link.hang_up();
        assert!(link.end().word.starts_with("end exited 137 0 "));
        world.is_clean();
        // Before anything of the command could be there.
        let mut link = world.run("sleep 3000");
        link.hang_up();
        link.end();
    });
}

#[test]
fn without_a_word_it_ends_by_itself() {
    World::everywhere(|world| {
        let link = world.start(&Mode::Run { command: shell("echo ready; sleep 3000", None, &[]), input: 0, link_s: 1 });
        assert!(link.end().word.starts_with("end exited 143 0 "));
    });
}

#[test]
fn each_word_begins_a_new_dead_man_s_sleep() {
    World::everywhere(|world| {
        let sleepers = || -> Vec<u32> {
            let line = format!("sleep {LINK_S} ");
            world.alive().into_iter().filter(|(_, words)| *words == line).map(|(pid, _)| pid).collect()
        };
        let mut link = world.run("sleep 2999");
        link.begun();
        until("a sleeper", || sleepers().len() == 1);
        let mut last = sleepers()[0];
        for _ in 0..5 {
            link.say(b".\n");
            until("another sleeper alone", || matches!(sleepers()[..], [one] if one != last));
            last = sleepers()[0];
        }
        link.say(b"K\n");
        link.end();
    });
}

#[test]
fn without_the_wrapper_it_ends_too() {
    World::everywhere(|world| {
        for name in ["KILL", "TERM", "HUP", "PIPE"] {
            // Also what is in a session of its own.
            let mut link = world.run("setsid sleep 2997 & exec env -i \"$(command -v sleep)\" 3000");
            let pid = link.begun();
            until("the other one", || world.alive().iter().filter(|(_, words)| words == "sleep 2997 ").count() == 1);
            signal(link.wrapper(), name);
            // The link of a wrapper that is gone is closed by the server; a heartbeat shows it, too.
            if name == "KILL" {
                link.wait();
                link.say(b".\n")
            } else {
                link.hang_up()
            }
            until(&format!("the command ends after {name}"), || !lives(pid));
            link.end();
            world.is_clean();
        }
    });
}

#[test]
fn outputs_that_nobody_reads_keep_nothing_alive() {
    World::everywhere(|world| {
        // A child that drops its outputs when the other side does.
        let mut child = std::process::Command::new("/bin/sh");
        let line = command_line(world.run, &Mode::Run { command: shell(STUBBORN, None, &[]), input: 0, link_s: LINK_S }).unwrap();
        let path = format!("{}:/usr/bin:/bin", world.at("bin").display());
        child.args(["-c", &line]).env_clear().env("PATH", path).env("HOME", world.at("home")).env("TMPDIR", world.at("tmp"));
        let piped = std::process::Stdio::piped;
        let mut child = child.stdin(piped()).stdout(piped()).stderr(piped()).spawn().unwrap();
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"00112233445566778899aabbccddeeff\n").unwrap();
        until("it has begun", || world.alive().iter().any(|(_, words)| words.contains("sleep 3000")));
        drop((child.stdin.take(), child.stdout.take(), child.stderr.take()));
        child.wait().unwrap();
    });
}

#[test]
fn another_link_ends_it() {
    World::everywhere(|world| {
        let ready = |line: &str| -> Link {
            let link = world.run(line);
            link.out_has("ready");
            link
        };
        // One that hears; one that does not; one without a mark; one whose wrapper is gone.
        for (line, grace) in [
            ("echo ready; sleep 3000", 30),
            (STUBBORN, 1),
            ("echo ready; exec env -i \"$(command -v sleep)\" 3000", 0),
            ("echo ready; (exec setsid env -i \"$(command -v sleep)\" 3000) & wait", 1),
        ] {
            let link = ready(line);
            let said = world.end(grace);
            let words: Vec<&str> = said.word.split(' ').collect();
            assert!(matches!(words[..], ["end", "ended", "-", "0", killed, "proc"] if killed != "0"), "{line}: {}", said.word);
            link.end();
            world.is_clean();
        }
        let mut link = ready("echo ready; exec sleep 3000");
        link.kill();
        assert!(world.end(5).word.starts_with("end ended - 0 "));
        link.end();
        assert_eq!(world.end(0).word, "end ended - 0 0 proc");
    });
}

#[test]
fn a_name_with_line_ends_hides_nothing() {
    World::everywhere(|world| {
        let program = "$TMPDIR/a\n) S 1 (\nb";
        let link = world.run(&format!("/bin/ln -s /bin/sleep \"{program}\"; echo ready; exec env -i \"{program}\" 3000"));
        let pid = link.begun();
        let name = format!("/proc/{pid}/comm");
        until("the name", || std::fs::read_to_string(&name).is_ok_and(|name| name == "a\n) S 1 (\nb\n"));
        std::fs::remove_file(world.at("tmp").join("a\n) S 1 (\nb")).unwrap();
        assert_eq!(world.end(0).word, "end ended - 0 1 proc");
        assert!(!lives(pid));
        link.end();
    });
}

#[test]
fn an_end_also_reaches_what_has_not_begun() {
    World::everywhere(|world| {
        let file = world.at("started");
        let command = shell(&format!("touch {}", file.display()), None, &[]);
        // It waits for the rest of its input.
        let mut link = world.start(&Mode::Run { command: command.clone(), input: 100, link_s: LINK_S });
        link.say(b"x");
        until("it waits", || world.alive().iter().any(|(_, words)| words.contains("head")));
        assert_eq!(world.end(5).word, "end ended - 0 0 proc");
        link.say(&[b'x'; 99]);
        link.end();
        // The login's own shell waits for something.
        let line = command_line(world.run, &Mode::Run { command, input: 0, link_s: LINK_S }).unwrap();
        let mut login = std::process::Command::new("/bin/bash");
        login.arg0("-bash").args(["-c", &line]).env("BASH_ENV", "/dev/stdin").env("PATH", "/usr/bin:/bin");
        let mut login = login.stdin(std::process::Stdio::piped()).spawn().unwrap();
        let cmdline = format!("/proc/{}/cmdline", login.id());
        until("the login", || std::fs::read(&cmdline).is_ok_and(|words| words.starts_with(b"-bash\0-c\0exec ")));
        assert_eq!(world.end(5).word, "end ended - 0 0 proc");
        login.wait().unwrap();
        assert!(!file.exists());
    });
}

#[test]
fn other_runs_and_other_processes_are_let_alone() {
    World::everywhere(|world| {
        let run = world.run.to_string();
        let mut others = Vec::new();
        for (name, value) in [
            (MARK, RunId::random().to_string()),
            (MARK, format!("{run}x")),
            ("X", format!("{MARK}={run}")),
            ("FALCONER_RUN_ID", run.clone()),
            ("Y", format!("a\n{MARK}={run}")),
        ] {
            let mut other = std::process::Command::new("/bin/sleep");
            others.push(other.arg("2998").env_clear().env(name, value).spawn().unwrap());
        }
        let mut link = world.run("sleep 3000 & sleep 3000");
        settled(link.begun(), &["sleep", "sleep"]);
        link.say(b"T\n");
        link.end();
        assert_eq!(world.end(0).word, "end ended - 0 0 proc");
        for mut other in others {
            assert!(other.try_wait().unwrap().is_none());
            other.kill().unwrap();
            other.wait().unwrap();
        }
    });
}

#[test]
fn without_proc_the_group_is_what_is_ended() {
    let world = World::without(&[]).without_proc_and_orphans();
    let said = world.run("sleep 3000 & sleep 3001 & exit 5").end();
    assert_eq!(said.word, "end exited 5 0 1 group");
    let mut link = world.run(STUBBORN);
    link.out_has("ready");
    link.say(b"T\nK\n");
    let word = link.end().word;
    assert!(word.starts_with("end exited 137 0 ") && word.ends_with(" group"), "{word}");
    world.is_clean();
}

#[test]
fn without_setsid_it_has_a_group_of_its_own_or_is_found_by_its_mark() {
    let world = World::without(&["setsid"]);
    let said = world.run("sleep 3000 & sleep 3001 & exit 5").end();
    assert_eq!(said.word, "end exited 5 0 2 proc");
    let mut link = world.run(STUBBORN);
    link.out_has("ready");
    link.hang_up();
    assert!(link.end().word.starts_with("end exited 137 0 "));
    world.is_clean();
    let world = world.without_proc_and_orphans();
    assert_eq!(world.run("sleep 3000 & exit 5").end().word, "end exited 5 0 1 group");
    world.is_clean();
}
