//! What a shim says, on its socket and in its record: JSON, one line each.
//!
//! The record (`DATA_DIR/trees/RUN/N`) begins with a line of the host's. It is not synced: what it tells of processes
//! matters only until the machine is started again, and until then it is in the kernel's hands.

use std::fs::File;
use std::io::Write;

use serde::{Deserialize, Serialize};

use super::super::{Exit, Seen};

/// Processes that are named in one list; the others are counted.
pub const NAMED: usize = 64;

/// A process, for as long as this machine is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its id while it lives.
    pub pid: u32,
    /// When it started: clock ticks after boot (field 22 of proc_pid_stat(5)).
    pub start: u64,
}

/// The host's first line of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// The run.
    pub run: crate::id::RunId,
    /// The boot in which all that follows is true.
    pub boot: String,
    /// The host.
    pub host: Identity,
    /// What was started.
    pub program: String,
    /// The cgroup in which it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// The cgroups of version 1 that hold the limits of its run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<String>,
}

/// Why a shim ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Its tree ended by itself.
    Empty,
    /// The host asked it to kill.
    Asked,
    /// The host was lost.
    HostLost,
}

/// What a shim says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// The shim itself.
    Shim(Identity),
    /// The program runs. A pidfd of it comes along.
    Started(Identity),
    /// The program could not be executed.
    Refused {
        /// errno(3)
        errno: i32,
    },
    /// The program has ended.
    Exited(Exit),
    /// A process whose parent had ended, has ended.
    Stray {
        /// Which.
        #[serde(flatten)]
        process: Seen,
        /// How.
        exit: Exit,
    },
    /// Nothing of the tree lives: the shim has no child any more. It ends.
    Ended {
        /// Why.
        why: Why,
        /// What it killed; at most [`NAMED`].
        killed: Vec<Seen>,
        /// How many it killed.
        killed_total: u64,
    },
}

impl Report {
    /// As a line.
    pub fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

/// Appends a line to a record. Where it cannot be written (a full disk), nothing may be started: the next host would
/// take the run for one that had no process. What comes after the start may be missing: it trusts this record less then.
pub fn append(record: &File, line: &[u8]) -> std::io::Result<()> {
    (&mut &*record).write_all(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_a_record() {
        let text = |report: Report| String::from_utf8(report.line()).unwrap();
        assert_eq!(text(Report::Shim(Identity { pid: 7, start: 9 })), "{\"shim\":{\"pid\":7,\"start\":9}}\n");
        assert_eq!(text(Report::Exited(Exit::Code(3))), "{\"exited\":{\"code\":3}}\n");
        assert_eq!(text(Report::Exited(Exit::Signalled(9))), "{\"exited\":{\"signal\":9}}\n");
        let killed = vec![Seen { pid: 4, name: "sh".into() }];
        assert_eq!(
            text(Report::Ended { why: Why::HostLost, killed, killed_total: 1 }),
            "{\"ended\":{\"why\":\"host_lost\",\"killed\":[{\"pid\":4,\"name\":\"sh\"}],\"killed_total\":1}}\n"
        );
        let stray = Report::Stray { process: Seen { pid: 4, name: "sh".into() }, exit: Exit::Unknown };
        assert_eq!(serde_json::from_slice::<Report>(&stray.line()).unwrap(), stray);
    }
}
