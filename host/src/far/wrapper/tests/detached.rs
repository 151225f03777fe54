//! Modes `detach` and `attach`.

use std::os::unix::fs::PermissionsExt;

use super::world::{LINK_S, Link, Said, World, deaf_to, lives, shell, until};
use super::*;

/// Says a line on each output every now and then, 40 times.
const TALKER: &str = "i=0; while [ $i -lt 40 ]; do echo out $i; echo err $i >&2; sleep .05; i=$((i+1)); done; exit 4";

fn lines(word: &str) -> String {
    (0..40).map(|at| format!("{word} {at}\n")).collect()
}

/// Tells it to forget; what came, without the last word.
fn forget(mut link: Link) -> Said {
    link.trailer();
    link.say(b"F\n");
    let said = link.end();
    let (word, gone) = said.word.split_once('\n').unwrap_or_else(|| panic!("{said:?}"));
    assert_eq!(gone, "00112233445566778899aabbccddeeff gone");
    Said { word: word.to_owned(), ..said }
}

/// The ids of the command and of its holder.
fn kept(world: &World) -> (u32, u32) {
    until("the command's id", || world.kept().join("pid").exists());
    let text = std::fs::read_to_string(world.kept().join("pid")).unwrap();
    let numbers: Vec<u32> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
    (numbers[0], numbers[2])
}

#[test]
fn a_detached_command_is_followed_to_its_end_and_forgotten() {
    World::everywhere(|world| {
        let input = b"some\0input\n";
        let command = shell("cat; echo err >&2; pwd; echo $A; exit 3", Some("/usr"), &[("A", "b c")]);
        let mut link = world.start(&Mode::Detach { command, input: input.len() as u64, link_s: LINK_S });
        link.say(input);
        assert_eq!(link.trailer(), "end exited 3 0 0 proc");
        let mode = std::fs::metadata(world.kept()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let said = forget(link);
        assert_eq!((said.out, said.err), (b"some\0input\n/usr\nb c\n".to_vec(), b"err\n".to_vec()));
    });
}

#[test]
fn it_outlives_its_followers_and_nothing_is_lost_or_said_twice() {
    World::everywhere(|world| {
        let mut link = world.detach(TALKER);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        for (text, how) in [("out 3\n", "hang up"), ("out 10\n", "kill"), ("out 20\n", "both")] {
            link.out_has(text);
            if how != "kill" {
                link.hang_up();
            }
            if how != "hang up" {
                link.kill();
            }
            link.hang_up();
            // Both outputs end: nobody else holds them.
            let said = link.end();
            out.extend(said.out);
            err.extend(said.err);
            link = world.attach(out.len() as u64, err.len() as u64);
        }
        let said = forget(link);
        out.extend(said.out);
        err.extend(said.err);
        assert_eq!((String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap()), (lines("out"), lines("err")));
        assert_eq!(said.word, "end exited 4 0 0 proc");
    });
}

#[test]
fn what_was_said_is_there_until_it_is_forgotten() {
    World::everywhere(|world| {
        let mut link = world.detach("echo hello; echo oops >&2; sleep 3000 & exit 5");
        assert!(link.trailer().starts_with("end exited 5 0 "));
        link.hang_up();
        link.end();
        for (stdout, stderr, out, err) in [(0, 0, "hello\n", "oops\n"), (2, 3, "llo\n", "s\n"), (6, 5, "", "")] {
            let mut link = world.attach(stdout, stderr);
            assert_eq!(link.trailer(), "end exited 5 0 1 proc");
            link.hang_up();
            let said = link.end();
            assert_eq!((String::from_utf8(said.out).unwrap(), String::from_utf8(said.err).unwrap()), (out.to_owned(), err.to_owned()));
        }
        let again = world.detach("echo again").end();
        assert_eq!(again.word, "fail exists this run has a detached command already");
        forget(world.attach(6, 5));
        assert_eq!(world.attach(0, 0).end().word, "fail absent nothing of this run is kept here");
    });
}

#[test]
fn much_output_arrives_whole_from_any_byte_on() {
    World::everywhere(|world| {
        // 4 MiB that tell where they stand.
        let input: Vec<u8> = (0..1u32 << 20).flat_map(u32::to_le_bytes).collect();
        let mut link = world.start(&Mode::Detach { command: shell("cat", None, &[]), input: input.len() as u64, link_s: LINK_S });
        link.say(&input);
        link.trailer();
        link.hang_up();
        assert!(link.end().out == input);
        let link = world.attach(3_000_001, 0);
        link.trailer();
        assert!(forget(link).out == input[3_000_001..]);
    });
}

#[test]
fn it_is_ended_over_any_link() {
    World::everywhere(|world| {
        for (line, words, status) in [
            ("echo ready; exec env -i \"$(command -v sleep)\" 3000", &b"T\n"[..], "143"),
            ("trap '' TERM HUP; echo ready; while :; do sleep 1; done", b"T\nK\n", "137"),
        ] {
            let mut link = world.detach(line);
            link.out_has("ready");
            link.hang_up();
            link.end();
            let mut link = world.attach(6, 0);
            link.begun();
            link.say(words);
            assert!(link.trailer().starts_with(&format!("end exited {status} 0 ")), "{line}");
            forget(link);
            world.is_clean();
        }
        let link = world.detach("trap '' TERM; echo ready; env -i \"$(command -v sleep)\" 3000 & while :; do sleep 1; done");
        link.out_has("ready");
        let said = world.end(1);
        assert!(said.word.starts_with("end ended - 0 "), "{}", said.word);
        link.end();
        // After its end, too.
        let link = world.detach("exit 5");
        link.trailer();
        assert_eq!(world.end(1).word, "end ended - 0 0 proc");
        link.end();
    });
}

#[test]
fn a_silent_link_ends_the_follower_alone() {
    World::everywhere(|world| {
        let link = world.start(&Mode::Detach { command: shell("sleep 3000", None, &[]), input: 0, link_s: 1 });
        let pid = link.begun();
        assert_eq!(link.end().word, "");
        assert!(lives(pid));
        assert!(world.end(5).word.starts_with("end ended - 0 "));
    });
}

#[test]
fn a_command_without_an_end_is_told_when_nothing_of_it_lives() {
    World::everywhere(|world| {
        let mut link = world.detach("echo said; sleep 2999");
        link.out_has("said");
        let (command, holder) = kept(world);
        signal_kill(holder);
        // What it started lives on, and so does its run.
        link.hang_up();
        link.end();
        assert!(lives(command));
        let mut link = world.attach(0, 0);
        link.out_has("said");
        // While it lives it is not forgotten: by the time of the second word the first was heard, for each wakes its own sleeper.
        let sleep = format!("sleep {LINK_S} ");
        let sleeper = || world.alive().into_iter().find(|(_, words)| *words == sleep).map(|(pid, _)| pid);
        for word in [&b"F\n"[..], b".\n"] {
            until("a sleeper", || sleeper().is_some());
            let before = sleeper();
            link.say(word);
            until("another sleeper", || sleeper().is_some_and(|pid| before != Some(pid)));
        }
        until("the sleep", || world.alive().iter().any(|(_, words)| words == "sleep 2999 "));
        for (pid, _) in world.alive().into_iter().filter(|(pid, words)| *pid == command || words == "sleep 2999 ") {
            signal_kill(pid);
        }
        let said = forget(link);
        assert!(said.word.starts_with("fail vanished ") && said.out == b"said\n", "{said:?}");
    });
}

fn signal_kill(pid: u32) {
    let status = std::process::Command::new("/bin/sh").args(["-c", "kill -KILL $1", "sh", &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn the_job_hears_no_hup_and_the_command_is_not_deaf() {
    World::everywhere(|world| {
        let link = world.detach("echo ready; sed -n /^SigIgn/p /proc/self/status; sleep 1; echo still here");
        link.out_has("ready");
        let (_, holder) = kept(world);
        for name in ["HUP", "TERM", "INT"] {
            let status =
                std::process::Command::new("/bin/sh").args(["-c", "kill -$1 $2", "sh", name, &holder.to_string()]).status().unwrap();
            assert!(status.success());
        }
        let said = forget(link);
        let text = String::from_utf8_lossy(&said.out).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines[0], deaf_to(lines[1]), lines[2]), (3, "ready", 0, "still here"), "{text}");
        assert_eq!(said.word, "end exited 0 0 0 proc");
    });
}

#[test]
fn without_a_home_it_is_kept_in_the_temporary_directory() {
    World::everywhere(|world| {
        std::fs::remove_dir(world.at("home")).unwrap();
        std::fs::write(world.at("home"), "no directory").unwrap();
        let link = world.detach("echo hello");
        link.trailer();
        let said = forget(link);
        assert_eq!((said.out, said.word), (b"hello\n".to_vec(), "end exited 0 0 0 proc".to_owned()));
        std::fs::remove_file(world.at("home")).unwrap();
        std::fs::create_dir(world.at("home")).unwrap();
    });
}

#[test]
fn without_proc_a_detached_command_is_followed_and_ended_too() {
    let world = World::without(&[]).without_proc();
    let link = world.detach("echo hello; exit 3");
    link.trailer();
    assert_eq!(forget(link).word, "end exited 3 0 0 group");
    // One process: of more, those that lost their parent would count as left where process 1 waits for nobody.
    let link = world.detach("trap '' TERM; echo ready; exec sleep 3000");
    link.out_has("ready");
    let said = world.end(1);
    assert_eq!(said.word, "end ended - 0 1 group");
    drop(link);
    world.is_clean();
}
