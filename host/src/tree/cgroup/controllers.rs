//! Which controllers there are for limits on trees, of which version, and where: memory, pids and cpu (cgroups(7)).
//!
//! Each controller belongs to one version at a time, so version 2 is looked at first, and version 1 where that has it
//! not. Of version 2 a controller is given on from group to group down to where the runs' groups are made, which the
//! kernel refuses below a group that holds processes itself. What is missing is known with its reason, and is not made up for.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::place::{self, Place};
use super::{Base, SHARED, own_dir, v1};
use crate::config::TreeLimits;

/// A controller that limits are held with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controller {
    /// `memory`
    Memory,
    /// `pids`
    Processes,
    /// `cpu`
    Cpu,
}

/// Where a controller's groups are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// In the run's own group of version 2.
    V2,
    /// Of version 1, below this directory.
    V1(PathBuf),
}

/// All of them: where, or why nowhere.
#[derive(Debug, Clone)]
pub struct Controllers {
    memory: Result<Way, String>,
    processes: Result<Way, String>,
    cpu: Result<Way, String>,
    /// Of version 1, held.
    places: Vec<Place>,
}

/// A limit that cannot be held.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` cannot be held here: {why}")]
pub struct Missing {
    /// The limit, as the configuration calls it.
    pub key: &'static str,
    /// Its controller.
    pub controller: &'static str,
    /// Why.
    pub why: String,
}

impl Controller {
    /// All that limits need.
    pub const ALL: [Self; 3] = [Self::Memory, Self::Processes, Self::Cpu];

    /// The kernel's name of it, in both versions.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Processes => "pids",
            Self::Cpu => "cpu",
        }
    }

    /// The limit that it holds, as the configuration calls it.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Memory => "tree_memory",
            Self::Processes => "tree_processes",
            Self::Cpu => "tree_cpu",
        }
    }

    /// Whether these limits need it.
    #[must_use]
    pub const fn is_wanted(self, limits: &TreeLimits) -> bool {
        match self {
            Self::Memory => limits.memory.is_some(),
            Self::Processes => limits.processes.is_some(),
            Self::Cpu => limits.cpu.is_some(),
        }
    }
}

impl Controllers {
    /// None, for this reason.
    #[must_use]
    pub fn none(why: &str) -> Self {
        let none = || Err(why.to_owned());
        Self { memory: none(), processes: none(), cpu: none(), places: Vec::new() }
    }

    /// Makes each ready for the runs of the host with this tag.
    #[must_use]
    pub fn probe(base: Result<&Base, &str>, tag: &str) -> Self {
        let mut places = Vec::new();
        let found = Self::each(|controller| {
            let without = match base.map_err(str::to_owned).and_then(|base| base.enable(controller)) {
                Ok(()) => return Ok(Way::V2),
                Err(why) => why,
            };
            let place = v1::prepare(controller, tag).map_err(|why| format!("{without}; {why}"))?;
            let dir = place.dir().to_owned();
            places.push(place);
            Ok(Way::V1(dir))
        });
        Self { places, ..found }
    }

    /// What a probe would find, without making or changing anything: as far as that can be seen.
    #[must_use]
    pub fn survey() -> Self {
        let above = own_dir().map(|own| highest(&own)).map_err(|error| format!("no cgroup of version 2: {error}"));
        Self::each(|controller| {
            let without = match above.as_ref().map_err(Clone::clone).and_then(|above| can_give_on(above, controller)) {
                Ok(()) => return Ok(Way::V2),
                Err(why) => why,
            };
            v1::survey(controller).map(Way::V1).map_err(|why| format!("{without}; {why}"))
        })
    }

    fn each(find: impl FnMut(Controller) -> Result<Way, String>) -> Self {
        let [memory, processes, cpu] = Controller::ALL.map(find);
        Self { memory, processes, cpu, places: Vec::new() }
    }

    /// Where one of them is, or why nowhere.
    pub fn way(&self, controller: Controller) -> Result<&Way, &str> {
        let way = match controller {
            Controller::Memory => &self.memory,
            Controller::Processes => &self.processes,
            Controller::Cpu => &self.cpu,
        };
        way.as_ref().map_err(String::as_str)
    }

    /// Whether all of these limits can be held.
    ///
    /// # Errors
    /// The first that cannot.
    pub fn can_hold(&self, limits: &TreeLimits) -> Result<(), Missing> {
        for controller in Controller::ALL.into_iter().filter(|controller| controller.is_wanted(limits)) {
            self.way(controller).map_err(|why| Missing { key: controller.key(), controller: controller.name(), why: why.to_owned() })?;
        }
        Ok(())
    }

    /// Takes away what a probe made of version 1, where nothing is in it.
    pub fn close(&self) {
        for place in &self.places {
            place::remove(place.dir());
        }
    }
}

impl Base {
    /// Gives a controller on, down to where the runs' groups are made.
    fn enable(&self, controller: Controller) -> Result<(), String> {
        let name = controller.name();
        let shared = self.dir().parent().unwrap_or(self.dir());
        let above = shared.parent().unwrap_or(shared);
        if !lists(&above.join("cgroup.controllers"), name) {
            return Err(not_there(above, controller));
        }
        for dir in [above, shared, self.dir()] {
            let control = dir.join("cgroup.subtree_control");
            if !lists(&control, name) {
                std::fs::write(&control, format!("+{name}")).map_err(|error| match error.raw_os_error() {
                    Some(libc::EBUSY) => holds_processes(dir, controller),
                    _ => format!("cannot give the controller {name} on in {}: {error}", dir.display()),
                })?;
            }
        }
        Ok(())
    }
}

/// Whether a list of controllers has this one.
fn lists(file: &Path, name: &str) -> bool {
    std::fs::read_to_string(file).is_ok_and(|text| text.split_ascii_whitespace().any(|word| word == name))
}

fn not_there(above: &Path, controller: Controller) -> String {
    format!("version 2 has no controller {} in {}", controller.name(), above.display())
}

fn holds_processes(dir: &Path, controller: Controller) -> String {
    format!("{} holds processes itself, so it cannot give the controller {} on", dir.display(), controller.name())
}

/// Below which group a daemon that is started from this group makes its own: the highest that lets it in.
fn highest(own: &Path) -> PathBuf {
    // A daemon's own.
    if own.ends_with(Path::new(SHARED).join(super::DAEMONS)) {
        return own.parent().and_then(Path::parent).unwrap_or(own).to_owned();
    }
    let groups = |dir: &&Path| dir.join("cgroup.procs").exists();
    let mut candidates: Vec<&Path> = own.ancestors().take_while(groups).collect();
    candidates.reverse();
    candidates.into_iter().find(|dir| access(*dir, Access::WRITE_OK).is_ok()).unwrap_or(own).to_owned()
}

/// Whether a controller could be given on from here.
fn can_give_on(above: &Path, controller: Controller) -> Result<(), String> {
    let name = controller.name();
    if !lists(&above.join("cgroup.controllers"), name) {
        return Err(not_there(above, controller));
    }
    let control = above.join("cgroup.subtree_control");
    if lists(&control, name) {
        return access(above, Access::WRITE_OK)
            .map_err(|error| format!("cannot make a group in {}: {}", above.display(), io::Error::from(error)));
    }
    access(&control, Access::WRITE_OK)
        .map_err(|error| format!("cannot give the controller {name} on in {}: {}", above.display(), io::Error::from(error)))?;
    // The root group alone has no type, and may hold processes beside groups (cgroups(7), "no internal processes").
    let root = !above.join("cgroup.type").exists();
    if !root && std::fs::read_to_string(above.join("cgroup.procs")).is_ok_and(|pids| !pids.trim().is_empty()) {
        return Err(holds_processes(above, controller));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::units::Cpus;

    #[test]
    fn a_limit_without_its_controller_is_named() {
        let some = Controllers { processes: Ok(Way::V2), ..Controllers::none("it is not there") };
        let limits = TreeLimits { processes: Some(3), ..TreeLimits::default() };
        assert_eq!(some.can_hold(&TreeLimits::default()), Ok(()));
        assert_eq!(some.can_hold(&limits), Ok(()));
        let limits = TreeLimits { cpu: Some(Cpus::hundredths(50)), ..limits };
        let missing = some.can_hold(&limits).unwrap_err();
        assert_eq!(missing.to_string(), "`tree_cpu` cannot be held here: it is not there");
        assert_eq!((missing.key, missing.controller), ("tree_cpu", "cpu"));
    }

    #[test]
    fn groups_that_cannot_give_a_controller_on_say_why() {
        let dir = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| std::fs::write(dir.path().join(file), text).unwrap();
        write("cgroup.controllers", "cpuset pids\n");
        write("cgroup.subtree_control", "\n");
        write("cgroup.procs", "1\n");
        let can = |controller| can_give_on(dir.path(), controller);
        assert!(can(Controller::Cpu).unwrap_err().starts_with("version 2 has no controller cpu in "), "cpuset is another");
        assert_eq!(can(Controller::Processes), Ok(()), "the root may hold processes");
        write("cgroup.type", "domain\n");
        assert!(can(Controller::Processes).unwrap_err().contains("holds processes itself"));
        write("cgroup.subtree_control", "pids\n");
        assert_eq!(can(Controller::Processes), Ok(()), "given on already");
    }
}
