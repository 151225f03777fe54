//! The limits of one run: what it asked for, under the ceiling of the configuration.

use std::time::Duration;

use crate::config::units::{Cpus, show_duration, show_size};
use crate::config::{Limits, TreeLimits, defaults};
use crate::fault::{Fault, code};

/// What a run asks for; none: the ceiling.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Asked {
    /// `timeout_s`
    pub wall: Option<Duration>,
    /// `idle_timeout_s`
    pub idle: Option<Duration>,
    /// `limits.tree_memory_bytes`
    pub tree_memory: Option<u64>,
    /// `limits.tree_processes`
    pub tree_processes: Option<u32>,
    /// `limits.tree_cpu`, in CPUs
    pub tree_cpu: Option<f64>,
}

/// One limit: what it is called where it is asked for and where it is configured, and how it is written.
struct Kind<'a, T> {
    backend: &'a str,
    key: &'a str,
    config: &'a str,
    show: fn(T) -> String,
    /// As the request writes it, with its unit.
    write: fn(T) -> String,
}

impl<T: Copy + PartialOrd> Kind<'_, T> {
    /// More than the ceiling is an error that names it, not a silent cut: a caller that asked for a day must not lose its
    /// work after two hours.
    fn under(&self, asked: T, ceiling: Option<T>) -> Result<T, Fault> {
        let Some(most) = ceiling.filter(|most| asked > *most) else { return Ok(asked) };
        let Self { backend, key, config, show, write } = self;
        Err(Fault::new(code::INVALID_ARGUMENT, format!("{key} is {}, and the ceiling of `{backend}` is {}", show(asked), show(most))).hint(
            format!(
                "ask for at most {}, or leave it out; a person can raise [backends.{backend}.limits] {config} in the configuration",
                write(most)
            ),
        ))
    }

    fn within(&self, asked: T, least: T, most: T) -> Result<T, Fault> {
        if least <= asked && asked <= most {
            return Ok(asked);
        }
        Err(Fault::new(code::INVALID_ARGUMENT, format!("{} is out of range", self.key)).hint(format!(
            "give something from {} to {}, or leave it out",
            (self.write)(least),
            (self.write)(most)
        )))
    }
}

/// The limits of a run.
pub(super) fn of_run(backend: &str, ceiling: &Limits, asked: &Asked) -> Result<Limits, Fault> {
    let time = |key, config| Kind { backend, key, config, show: show_duration, write: |time: Duration| format!("{} s", time.as_secs()) };
    let not_zero = |key: &str, asked: Duration| {
        if asked.is_zero() {
            return Err(Fault::new(code::INVALID_ARGUMENT, format!("{key} is 0")).hint("give at least 1, or leave it out"));
        }
        Ok(asked)
    };
    let mut limits = ceiling.clone();
    if let Some(wall) = asked.wall {
        limits.wall = time("timeout_s", "wall").under(not_zero("timeout_s", wall)?, Some(ceiling.wall))?;
    }
    if let Some(idle) = asked.idle {
        limits.idle = Some(time("idle_timeout_s", "idle").under(not_zero("idle_timeout_s", idle)?, ceiling.idle)?);
    }
    limits.tree = of_tree(backend, &ceiling.tree, asked)?;
    Ok(limits)
}

fn of_tree(backend: &str, ceiling: &TreeLimits, asked: &Asked) -> Result<TreeLimits, Fault> {
    let mut tree = *ceiling;
    // Both as the call takes it and as people read it.
    let bytes = |bytes: u64| format!("{bytes} ({})", show_size(bytes));
    if let Some(memory) = asked.tree_memory {
        let kind = Kind { backend, key: "limits.tree_memory_bytes", config: "tree_memory", show: show_size, write: bytes };
        let bound = defaults::TREE_MEMORY;
        tree.memory = Some(kind.under(kind.within(memory, bound.least, bound.most)?, ceiling.memory)?);
    }
    if let Some(count) = asked.tree_processes {
        let write = |count: u32| count.to_string();
        let kind = Kind { backend, key: "limits.tree_processes", config: "tree_processes", show: write, write };
        let bound = defaults::TREE_PROCESSES;
        tree.processes = Some(kind.under(kind.within(count, bound.least, bound.most)?, ceiling.processes)?);
    }
    if let Some(cpus) = asked.tree_cpu {
        let write = |cpus: Cpus| cpus.to_string();
        let kind = Kind { backend, key: "limits.tree_cpu", config: "tree_cpu", show: write, write };
        let bound = defaults::TREE_CPU;
        // What is no share at all is below the least.
        let cpus = Cpus::new(cpus).unwrap_or(Cpus::hundredths(0));
        tree.cpu = Some(kind.under(kind.within(cpus, bound.least, bound.most)?, ceiling.cpu)?);
    }
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(wall: Option<Duration>, idle: Option<Duration>) -> Asked {
        Asked { wall, idle, ..Asked::default() }
    }

    #[test]
    fn a_run_may_ask_for_less_and_not_for_more() {
        let hour = Duration::from_secs(3600);
        let ceiling = defaults::limits();
        assert_eq!(of_run("exec", &ceiling, &Asked::default()).unwrap(), ceiling);
        let less = of_run("exec", &ceiling, &times(Some(hour), Some(hour * 5))).unwrap();
        assert_eq!((less.wall, less.idle), (hour, Some(hour * 5)), "no idle ceiling: any idle time");
        let more = of_run("exec", &ceiling, &times(Some(hour * 3), None)).unwrap_err();
        assert_eq!(more.code, code::INVALID_ARGUMENT);
        assert_eq!(more.message, "timeout_s is 3h, and the ceiling of `exec` is 2h");
        assert!(more.hint.unwrap().contains("at most 7200 s"));
        let with_idle = Limits { idle: Some(hour), ..ceiling };
        assert_eq!(of_run("exec", &with_idle, &Asked::default()).unwrap().idle, Some(hour));
        assert!(of_run("exec", &with_idle, &times(None, Some(hour * 2))).unwrap_err().message.contains("idle_timeout_s is 2h"));
        assert!(of_run("exec", &with_idle, &times(None, Some(Duration::ZERO))).is_err());
    }

    #[test]
    fn the_limits_of_a_tree_have_ceilings_and_ranges() {
        let open = defaults::limits();
        let asked = Asked { tree_memory: Some(64 << 20), tree_processes: Some(50), tree_cpu: Some(0.2), ..Asked::default() };
        let wanted = TreeLimits { memory: Some(64 << 20), processes: Some(50), cpu: Some(Cpus::hundredths(20)) };
        assert_eq!(of_run("exec", &open, &asked).unwrap().tree, wanted, "no ceiling: any");
        let ceiling = Limits { tree: wanted, ..open };
        assert_eq!(of_run("exec", &ceiling, &Asked::default()).unwrap().tree, wanted);
        assert_eq!(of_run("exec", &ceiling, &asked).unwrap().tree, wanted);
        for (asked, message, hint) in [
            (
                Asked { tree_memory: Some(1 << 30), ..Asked::default() },
                "limits.tree_memory_bytes is 1 GiB, and the ceiling of `exec` is 64 MiB",
                "at most 67108864 (64 MiB), or leave it out; a person can raise [backends.exec.limits] tree_memory",
            ),
            (
                Asked { tree_processes: Some(51), ..Asked::default() },
                "limits.tree_processes is 51, and the ceiling of `exec` is 50",
                "[backends.exec.limits] tree_processes",
            ),
            (
                Asked { tree_cpu: Some(1.5), ..Asked::default() },
                "limits.tree_cpu is 1.5, and the ceiling of `exec` is 0.2",
                "[backends.exec.limits] tree_cpu",
            ),
            (Asked { tree_memory: Some(1), ..Asked::default() }, "limits.tree_memory_bytes is out of range", "from 1048576 (1 MiB) to"),
            (Asked { tree_processes: Some(0), ..Asked::default() }, "limits.tree_processes is out of range", "from 1 to 4194304"),
            (Asked { tree_cpu: Some(0.01), ..Asked::default() }, "limits.tree_cpu is out of range", "from 0.05 to 1024"),
            (Asked { tree_cpu: Some(f64::NAN), ..Asked::default() }, "limits.tree_cpu is out of range", "from 0.05 to 1024"),
        ] {
            let fault = of_run("exec", &ceiling, &asked).unwrap_err();
            assert_eq!((fault.code.as_ref(), fault.message.as_str()), (code::INVALID_ARGUMENT, message));
            assert!(fault.hint.as_ref().unwrap().contains(hint), "{fault:?}");
        }
    }
}
