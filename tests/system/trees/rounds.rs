//! Each kind of tree, cancelled again and again at a random moment of its life, several at once on one daemon.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::kinds::{KINDS, Kind};
use super::way::Way;
use super::{Stage, truth};
use crate::client::Client;

/// How often each kind is ended, where nobody says.
const ROUNDS: u64 = 4;
/// Runs that live at once.
const AT_ONCE: usize = 4;
/// A moment is at most so long after the answer to `spawn_run`, or after the tree stands.
const MOMENT: Duration = Duration::from_millis(60);

/// splitmix64: enough to choose moments, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
    fn moment(&mut self) -> Duration {
        Duration::from_micros(self.below(u64::try_from(MOMENT.as_micros()).unwrap()))
    }
}

/// A number of the environment's, or this.
fn number(name: &str, default: impl FnOnce() -> u64) -> u64 {
    std::env::var(name).map_or_else(|_| default(), |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// The seed of this run of the tests; whoever sees it in the output can have the same moments again.
fn seed() -> u64 {
    let seed = number("FALCONER_TREES_SEED", || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        u64::from(now.subsec_nanos()) | now.as_secs() << 32 >> 16
    });
    eprintln!("FALCONER_TREES_SEED={seed}");
    seed
}

#[test]
fn with_cgroups() {
    if Way::all("random moments").contains(&Way::Cgroup) {
        all_kinds(Way::Cgroup);
    }
}

#[test]
fn with_subreapers() {
    all_kinds(Way::Subreaper);
}

fn all_kinds(way: Way) {
    let (seed, rounds) = (seed(), number("FALCONER_TREES_ROUNDS", || ROUNDS));
    let stage = Stage::set(way);
    let client = stage.host.client();
    let all = usize::try_from(rounds).unwrap() * KINDS.len();
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= all {
                return;
            }
            let kind = &KINDS[number % KINDS.len()];
            round(&stage, &client, kind, &mut Dice(seed ^ u64::try_from(number).unwrap().wrapping_mul(0x2545_f491_4f6c_dd1d)));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(work);
        }
    });
}

fn round(stage: &Stage, client: &Client, kind: &Kind, dice: &mut Dice) {
    let bait = stage.bait(kind.mode);
    let run = client.spawn(kind.request(stage, &bait));
    if dice.below(2) == 0 && bait.stands(client, &run).is_err() {
        return;
    }
    // Not in the hope of anything: whatever the tree has come to by then is what is ended.
    std::thread::sleep(dice.moment());
    let grace = [0, 0, 10, 100][usize::try_from(dice.below(4)).unwrap()];
    let answer = Stage::cancel(client, &run, Some(grace));
    bait.is_gone(&run);
    truth::of_an_end(client, &run, &answer, kind.ends);
    truth::of_a_proof(stage, &bait, &answer["receipt"]);
    // Before the exec a child is still called as what started it.
    let names = [kind.names, &["falconer-shim"]].concat();
    truth::of_the_killed(&answer["receipt"], &names, None);
    truth::nothing_left(stage, &run);
}
