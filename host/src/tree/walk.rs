//! Everything below some processes, as `/proc` tells it now (`/proc/PID/task/TID/children`, proc_tid_children(5)).
//!
//! A walk can miss what is born, or changes its parent, while it goes by. So it finds what is to be killed, and never
//! proves that nothing is left: that is for whoever would be the parent of what is left.

use std::collections::BTreeSet;

use super::proc::{self, Stat};

/// All living descendants, the roots left out.
pub fn below(roots: &[u32]) -> Vec<Stat> {
    let mut found: Vec<Stat> = Vec::new();
    let mut seen: BTreeSet<u32> = roots.iter().copied().collect();
    // With how many threads each has, where that is known.
    let mut to_do: Vec<(u32, u32)> = roots.iter().map(|pid| (*pid, 0)).collect();
    while let Some((parent, threads)) = to_do.pop() {
        // One that has a single thread has no other's children: nobody lists its threads.
        let children = if threads == 1 { listed(&format!("/proc/{parent}/task/{parent}/children")).ok() } else { None };
        let Some(children) = children.or_else(|| self::children(parent)) else { return by_parents(roots) };
        for pid in children {
            if !seen.insert(pid) {
                continue;
            }
            let stat = proc::stat(pid).ok();
            // Also below a zombie: other threads of it may have children.
            to_do.push((pid, stat.as_ref().map_or(0, |stat| stat.threads)));
            found.extend(stat.filter(Stat::lives));
        }
        if found.len() > MOST {
            break;
        }
    }
    found
}

/// More than this are not looked for in one walk: there is the next one.
const MOST: usize = 32_768;

/// The children of all threads of a process; none where this kernel does not tell.
pub fn children(pid: u32) -> Option<Vec<u32>> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")).map_err(proc::missed) else { return Some(Vec::new()) };
    let mut children = Vec::new();
    for task in tasks.flatten() {
        match listed(&format!("{}/children", task.path().display())) {
            Ok(pids) => children.extend(pids),
            // Of a thread that has ended.
            Err(_) if !task.path().exists() => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(_) => {}
        }
    }
    Some(children)
}

/// The numbers in a list of children.
fn listed(path: &str) -> std::io::Result<Vec<u32>> {
    let text = proc::text(path)?;
    Ok(text.split(u8::is_ascii_whitespace).filter_map(|pid| std::str::from_utf8(pid).ok()?.parse().ok()).collect())
}

/// The same from one look at all processes, for kernels without lists of children.
fn by_parents(roots: &[u32]) -> Vec<Stat> {
    let mut left = proc::all();
    let mut parents = roots.to_vec();
    let mut found = Vec::new();
    while !parents.is_empty() {
        let (below, others): (Vec<Stat>, Vec<Stat>) = left.into_iter().partition(|stat| parents.contains(&stat.parent));
        parents = below.iter().map(|stat| stat.pid).collect();
        found.extend(below.into_iter().filter(Stat::lives));
        left = others;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn both_ways_see_the_same_descendants() {
        let mut shell = Command::new("/bin/sh").args(["-c", "(sleep 3000 & sleep 3000) & wait"]).stdin(Stdio::null()).spawn().unwrap();
        let root = shell.id();
        let pids = |mut found: Vec<Stat>| {
            found.sort_by_key(|stat| stat.pid);
            found.into_iter().map(|stat| stat.pid).collect::<Vec<_>>()
        };
        let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while below(&[root]).iter().filter(|stat| stat.name == "sleep").count() < 2 {
            assert!(std::time::Instant::now() < end, "two sleeps: {:?}", below(&[root]));
        }
        let found = below(&[root]);
        assert_eq!(pids(found.clone()), pids(by_parents(&[root])));
        assert!(!found.iter().any(|stat| stat.pid == root));
        for stat in &found {
            let process = super::super::pidfd::Process::found(stat, |_| true).unwrap();
            process.signal(rustix::process::Signal::KILL).unwrap();
        }
        shell.wait().unwrap();
    }
}
