//! Mode `run`: what arrives at the command, what comes back, and what is left.

use super::world::{LINK_S, World, deaf_to, judged, lives, shell};
use super::*;

fn with(command: FarCommand, input: usize) -> Mode {
    Mode::Run { command, input: input as u64, link_s: LINK_S }
}

#[test]
fn both_outputs_and_the_status_come_back() {
    World::everywhere(|world| {
        let said = world.run("echo out; echo err >&2; exit 3").end();
        assert_eq!((said.out, said.err), (b"out\n".to_vec(), b"err\n".to_vec()));
        assert_eq!(said.word, "end exited 3 0 0 proc");
        for (line, status) in [("true", 0), ("exit 255", 255), ("kill -TERM $$", 143), ("kill -KILL $$", 137), ("no-such-program", 127)] {
            assert_eq!(world.run(line).end().word, format!("end exited {status} 0 0 proc"), "{line}");
        }
    });
}

#[test]
fn bytes_arrive_as_they_are() {
    let input: Vec<u8> = (0..3_000_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    World::everywhere(|world| {
        for (line, input) in
            [("cat", &input[..]), ("cat >&2", &input[..]), ("cat", b"\0"), ("cat", b"no line end"), ("cat", b"\n\n\n"), ("cat", b"")]
        {
            let mut link = world.start(&with(shell(line, None, &[]), input.len()));
            link.say(input);
            let said = link.end();
            assert_eq!(said.word, "end exited 0 0 0 proc");
            let got = if line == "cat" { said.out } else { said.err };
            assert!(got == input, "{line}: {} of {}", got.len(), input.len());
        }
    });
}

#[test]
fn arguments_arrive_as_they_are() {
    let args = [
        "printf",
        "%s\\0",
        "",
        " ",
        "it's",
        "\"$HOME\" `id` $(id) ${x}",
        "a\nb\n",
        "\\",
        "*",
        "~",
        "ä€😀",
        "-n",
        "!!",
        "&|;<>()#",
        "\r\t\u{1}",
    ];
    World::everywhere(|world| {
        let said = world.start(&with(judged(&args, None, &[]), 0)).end();
        let expected: Vec<u8> = args[2..].iter().flat_map(|arg| [arg.as_bytes(), b"\0"].concat()).collect();
        assert_eq!(String::from_utf8_lossy(&said.out), String::from_utf8_lossy(&expected));
        assert_eq!(said.word, "end exited 0 0 0 proc");
    });
}

#[test]
fn directory_and_environment_are_those_that_were_asked_for() {
    World::everywhere(|world| {
        let env = [("A", "b  c"), ("LINES_", "x\ny'"), ("EMPTY", ""), ("run", "1"), ("nonce", "2"), ("x", "3"), ("IFS", "/")];
        let line = "pwd; printf '%s\\0' \"$A\" \"$LINES_\" \"${EMPTY-none}\" \"$run\" \"$nonce\" \"$x\" \"$FALCONER_FAR_RUN\" \"${FALCONER_WRAPPER-none}\"";
        let said = world.start(&with(shell(line, Some("/usr/bin"), &env), 0)).end();
        let expected = format!("/usr/bin\nb  c\0x\ny'\0\0{}\0{}\0{}\0{}\0none\0", 1, 2, 3, world.run);
        assert_eq!(String::from_utf8_lossy(&said.out), expected);
        // A path of the command's own does not take the wrapper's tools away.
        let said = world.start(&with(shell("echo here", None, &[("PATH", "/nowhere")]), 0)).end();
        assert_eq!((said.out, said.word), (b"here\n".to_vec(), "end exited 0 0 0 proc".to_owned()));
    });
}

#[test]
fn a_directory_that_cannot_be_entered_is_told_and_nothing_starts() {
    World::everywhere(|world| {
        for (dir, words) in [("/no/such/place", "there is no such directory"), ("/etc/passwd", "it is not a directory")] {
            let command = shell("echo started", Some(dir), &[]);
            for mode in [with(command.clone(), 0), Mode::Detach { command, input: 0, link_s: LINK_S }] {
                let said = world.start(&mode).end();
                assert_eq!((said.out, said.err, said.word), (vec![], vec![], format!("fail cwd {words}")));
            }
        }
    });
}

#[test]
fn the_command_is_alone_in_its_session_with_nothing_inherited() {
    World::everywhere(|world| {
        let line = "read -r a b c d e f rest </proc/$$/stat; echo $(($$ == e)) $((e == f)); \
            for n in 3 4 5 6 7 8 9; do [ ! -e /proc/$$/fd/$n ] || echo $n is open; done; exec sed -n /^SigIgn/p /proc/self/status";
        let link = world.run(line);
        let pid = link.begun();
        let said = link.end();
        let text = String::from_utf8_lossy(&said.out).into_owned();
        // A shell may keep a file of its own open.
        let own: Vec<&str> = text.lines().filter(|line| !line.ends_with("is open") || line.as_bytes()[0] < b'9').collect();
        assert_eq!(own[0], "1 1", "{text}");
        assert_eq!((own.len(), deaf_to(own[1])), (2, 0), "{text}");
        assert!(pid > 1 && !lives(pid));
    });
}

#[test]
fn the_nonce_stands_nowhere() {
    World::everywhere(|world| {
        let mut link = world.run("sleep 3000");
        link.begun();
        world::until("sleep", || world.alive().iter().any(|(_, words)| words.contains("sleep 3000")));
        for (pid, _) in world.alive() {
            for file in ["cmdline", "environ"] {
                let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
                assert!(!String::from_utf8_lossy(&bytes).contains("00112233445566778899aabbccddeeff"), "{file} of {pid}");
            }
        }
        link.say(b"K\n");
        assert_eq!(link.end().word, "end exited 137 0 0 proc");
    });
}

#[test]
fn what_the_command_leaves_behind_is_ended() {
    let scripts = [
        ("children", "sleep 3000 & sleep 3001 & exit 5", 2),
        ("one that ignores TERM", "trap '' TERM; sleep 3000 & exit 5", 1),
        ("a shell that does", "(trap '' TERM HUP INT; while :; do sleep 1; done) & sleep .3; exit 5", 1),
        ("nohup", "trap '' HUP; sleep 3000 >/dev/null 2>&1 & exit 5", 1),
        ("a daemon", "setsid sh -c '(setsid sleep 3000 >/dev/null 2>&1 </dev/null &)'; exit 5", 1),
        ("unmarked, in its session", "env -i \"$(command -v sleep)\" 3000 & exit 5", 1),
        ("stopped", "sleep 3000 & kill -STOP $!; exit 5", 1),
        ("a pipeline", "(while :; do echo x; sleep 1; done) | cat >/dev/null & exit 5", 2),
        ("200 forks", "i=0; while [ $i -lt 200 ]; do sleep 3000 & i=$((i+1)); done; exit 5", 200),
        ("endless output", "(while :; do echo x; done) & sleep .3; exit 5", 1),
    ];
    World::everywhere(|world| {
        for (what, line, least) in scripts {
            let said = world.run(line).end();
            let words: Vec<&str> = said.word.split(' ').collect();
            assert_eq!((&words[..4], words[5]), (&["end", "exited", "5", "0"][..], "proc"), "{what}: {}", said.word);
            // Children of a moment are counted too.
            assert!(words[4].parse::<u32>().unwrap() >= least, "{what}: {}", said.word);
            world.is_clean();
        }
    });
}

#[test]
fn input_that_ends_early_starts_nothing() {
    World::everywhere(|world| {
        let file = world.at("started");
        let line = format!("touch {}", file.display());
        let command = shell(&line, None, &[]);
        for mode in [with(command.clone(), 100), Mode::Detach { command, input: 100, link_s: LINK_S }] {
            let mut link = world.start(&mode);
            link.say(&[b'x'; 50]);
            link.hang_up();
            let said = link.end();
            assert_eq!((said.word.as_str(), file.exists()), ("fail input the input ended before it was complete", false));
            world.is_clean();
        }
    });
}

#[test]
fn a_first_line_that_is_no_nonce_starts_nothing() {
    World::everywhere(|world| {
        let file = world.at("started");
        let mode = with(shell(&format!("touch {}", file.display()), None, &[]), 0);
        for line in
            ["\n", "hello\n", "00112233445566778899aabbccddee\n", "00112233445566778899aabbccddeefX\n", "00112233445566778899aabbccddeeff"]
        {
            let mut link = world.open(&mode);
            link.say(line.as_bytes());
            link.hang_up();
            let said = link.end();
            assert_eq!((said.out, said.err, said.word, file.exists()), (vec![], vec![], String::new(), false));
        }
    });
}
