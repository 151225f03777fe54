//! Components that misbehave on purpose, compiled at build time, for the tests of the host.
//!
//! [`HOSTILE`] does what its config's `mode` says (`components/src/lib.rs` has the list); [`TARGETED`] behaves; the others cannot even be described.

/// A backend that does what `config.mode` says.
pub const HOSTILE: &[u8] = include_bytes!(concat!(env!("FALCONER_HOSTILE_DIR"), "/hostile.wasm"));
/// A backend whose `describe` panics.
pub const DESCRIBE_TRAPS: &[u8] = include_bytes!(concat!(env!("FALCONER_HOSTILE_DIR"), "/describe_traps.wasm"));
/// A backend whose `describe` never returns.
pub const DESCRIBE_SPINS: &[u8] = include_bytes!(concat!(env!("FALCONER_HOSTILE_DIR"), "/describe_spins.wasm"));
/// A backend of a version of the contract that this host does not know.
pub const OTHER_VERSION: &[u8] = include_bytes!(concat!(env!("FALCONER_HOSTILE_DIR"), "/other_version.wasm"));
/// A backend for targets that plans what `config.plan` says and starts what `config.start` says (`components/examples/planned.rs`).
pub const PLANNED: &[u8] = include_bytes!(concat!(env!("FALCONER_HOSTILE_DIR"), "/planned.wasm"));
/// A component of another world.
pub const OTHER_WORLD: &[u8] = include_bytes!(concat!(env!("FALCONER_HOSTILE_DIR"), "/other_world.wasm"));
/// A backend that works at targets, each of which is a name for a granted program of this machine.
pub const TARGETED: &[u8] = include_bytes!(concat!(env!("FALCONER_HOSTILE_DIR"), "/targeted.wasm"));
/// A module of core WebAssembly: the magic number, the version of modules, nothing else.
pub const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";
/// No WebAssembly at all.
pub const GARBAGE: &[u8] = b"this is no component\n";

#[cfg(test)]
mod tests {
    /// The preamble of a component: magic number, version 13, layer 1.
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    #[test]
    fn all_are_components() {
        use super::{DESCRIBE_SPINS, DESCRIBE_TRAPS, HOSTILE, OTHER_VERSION, OTHER_WORLD, PLANNED, TARGETED};
        for wasm in [HOSTILE, DESCRIBE_TRAPS, DESCRIBE_SPINS, OTHER_VERSION, OTHER_WORLD, PLANNED, TARGETED] {
            assert!(wasm.starts_with(COMPONENT));
        }
        assert!(!super::CORE_MODULE.starts_with(COMPONENT));
    }
}
