//! The bait: `falconer-bait MODE TOKEN [NUMBER …]` builds a tree of processes that is hard to end, says `ready` on a line of
//! its own once the tree stands, and stays.
//!
//! The token is the path of a file. Every process of the tree has it among its arguments, also those that cleared their
//! environment, so that a look through `/proc` finds each one; and every process holds a shared lock on the file, so that also
//! those that are too quick for any look are known to live (but for the moment in which a daemon has let go of all it held and
//! is not yet itself). What is not found and ended by anybody ends itself after five minutes ([`stand::LIFE`]), unless it is
//! stopped. A mode that cannot do here what it is for says `cannot: ` and why instead of `ready`.

mod c;
mod cgroup;
mod crowds;
mod pipes;
mod shim;
mod signals;
mod stand;
mod strays;
mod traced;

use std::process::ExitCode;

/// What was asked for besides the mode.
pub struct Order {
    /// What all processes of the tree are known by.
    token: String,
    /// What the mode counts.
    numbers: Vec<u32>,
}

impl Order {
    fn number(&self, index: usize, default: u32) -> u32 {
        self.numbers.get(index).copied().unwrap_or(default)
    }
}

/// What a mode answers with: nothing when its tree stands, or why it cannot stand here.
type Stands = Result<(), String>;

/// Its name, and what builds its tree.
type Mode = (&'static str, fn(&Order) -> Stands);

/// All there are.
const MODES: &[Mode] = &[
    // One process that waits: what the others become, too.
    ("stay", |_| Ok(())),
    // Ignores what asks politely, with a child that does the same.
    ("deaf", |_| signals::deaf()),
    // Ignores every signal that can be ignored, blocks the rest.
    ("stone", |_| signals::stone()),
    // Says `heard TERM` for each TERM, and goes on.
    ("listener", |_| signals::listener()),
    // All processes of a tree of three are stopped, the first one last.
    ("stopped", |_| signals::stopped()),
    // A child in a session of its own.
    ("session", |_| strays::session()),
    // A grandchild without a parent, without descriptors, without an environment.
    ("daemon", strays::daemon),
    // The same, deaf, and the first process ends at once.
    ("leaver", strays::leaver),
    // Its first thread has ended, a second one lives on.
    ("headless", |_| strays::headless()),
    // Each process forks one child and ends, in a session of its own, as fast as it can, NUMBER (20000) times.
    ("comet", |order| crowds::comet(order.number(0, 20_000))),
    // All fork as fast as they can: the first NUMBER (300) live on, until NUMBER (20000) were made in all.
    ("bush", |order| crowds::bush(order.number(0, 300), order.number(1, 20_000))),
    // NUMBER (500) descendants, wide and deep.
    ("crowd", |order| crowds::crowd(order.number(0, 500))),
    // A child traces a child of its own, and wants to see it end.
    ("tracer", |_| traced::tracer()),
    // Fills its standard output, and then the name of its process is `bait-full`.
    ("writer", |_| pipes::writer()),
    // Reads its standard input, and then a pipe that nobody writes to.
    ("reader", |_| pipes::reader()),
    // Stops, kills the shim that it was started by.
    ("shim_stopper", |_| shim::stopper()),
    ("shim_killer", |_| shim::killer()),
    // Moves its processes into another cgroup.
    ("mover", cgroup::mover),
    // The same, and a daemon of them there.
    ("fugitive", fugitive),
    // Several of these at once.
    ("everything", everything),
];

/// Nothing says of the daemon whose it is: not its parent, not its session, not its environment, not its cgroup.
fn fugitive(order: &Order) -> Stands {
    cgroup::mover(order)?;
    strays::daemon(order)
}

/// Several at once; what cannot be done here is left out.
fn everything(order: &Order) -> Stands {
    signals::stone()?;
    strays::session()?;
    strays::daemon(order)?;
    traced::tracer()?;
    crowds::crowd(20)?;
    crowds::comet(5_000)?;
    crowds::bush(30, 300)?;
    let _ = cgroup::mover(order);
    signals::stopped_children();
    strays::headless()
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(mode), Some(token)) = (arguments.next(), arguments.next()) else { return usage() };
    let Some((_, build)) = MODES.iter().find(|(name, _)| *name == mode) else { return usage() };
    let held = stand::hold(&token);
    let order = Order { token, numbers: arguments.filter_map(|number| number.parse().ok()).collect() };
    match held.and_then(|()| build(&order)) {
        Ok(()) => stand::say("ready"),
        Err(why) => stand::say(&format!("cannot: {why}")),
    }
    match mode.as_str() {
        "leaver" => ExitCode::SUCCESS,
        "stopped" => signals::stop_myself(),
        "writer" => pipes::write_on(),
        "reader" => pipes::read_on(),
        _ => stand::stay(),
    }
}

fn usage() -> ExitCode {
    let names: Vec<&str> = MODES.iter().map(|(name, _)| *name).collect();
    stand::say(&format!("usage: falconer-bait MODE TOKEN [NUMBER …]; modes: {}", names.join(", ")));
    ExitCode::from(2)
}
