//! Where the bait is: a program whose processes are hard to end (`src/main.rs` has the list of what it does).

/// The path of the program; its name is `falconer-bait`.
pub const PROGRAM: &str = env!("FALCONER_BAIT");
