//! The line as it is executed: by each shell as the login's and as the wrapper's, with real processes.

mod attached;
mod detached;
mod ends;
mod world;

use super::*;
use world::{World, judged};

#[test]
fn the_script_is_small_and_without_comments() {
    assert!(SCRIPT.lines().all(|line| !line.starts_with(['#', ' ', '\t']) && !line.is_empty()));
    assert!(SCRIPT.len() < 10 << 10, "{} bytes", SCRIPT.len());
}

#[test]
fn a_command_that_no_argument_holds_is_refused_with_its_size() {
    let line = |bytes: usize| {
        let command = judged(&["cat", &"x".repeat(bytes)], None, &[]);
        command_line(RunId::random(), &Mode::Run { command, input: 0, link_s: 30 })
    };
    let room = LONGEST - line(1).unwrap().len() + 1;
    assert_eq!(line(room).unwrap().len(), LONGEST);
    assert_eq!(line(room + 1), Err(TooLong { bytes: LONGEST + 1 }));
}

#[test]
fn the_longest_line_is_executed() {
    World::everywhere(|world| {
        let length = |bytes: usize| {
            let command = judged(&["cat", "/dev/null", &"x".repeat(bytes)], None, &[]);
            Mode::Run { command, input: 0, link_s: 3000 }
        };
        let room = LONGEST - command_line(world.run, &length(1)).unwrap().len() + 1;
        let said = world.start(&length(room)).end();
        assert!(said.word.starts_with("end exited 1 0 "), "{} {}", said.word, said.err.len());
    });
}
