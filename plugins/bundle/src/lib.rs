//! The bundled backends, compiled to components at build time and embedded, so that one file is a whole installation.
//!
//! `build.rs` does the work; this is only its result. It leaves compiling the components for this machine, and checking
//! what they say of themselves, to the host. It fails when the build fails, never later.

/// A bundled backend.
#[derive(Debug, Clone, Copy)]
pub struct Bundled {
    /// Its name.
    pub name: &'static str,
    /// The component.
    pub wasm: &'static [u8],
    /// What it says of itself (`describe`), as JSON; a test holds the two together.
    pub description: &'static str,
    /// SHA-256 of the component, in hex.
    pub digest: &'static str,
}

/// All of them, sorted by name.
pub const BACKENDS: &[Bundled] = include!(concat!(env!("OUT_DIR"), "/backends.rs"));

/// A component that loops for ever, for the demo; no backend that runs are given.
pub const SPINNER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/spinner.wasm"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_backend_is_a_component_and_they_are_sorted() {
        assert!(BACKENDS.is_sorted_by_key(|backend| backend.name));
        assert!(!BACKENDS.is_empty());
        for backend in BACKENDS {
            // Preamble of the binary format: the layer in bytes 6 and 7 is 1 for a component (0 for a module).
            assert_eq!(&backend.wasm[..4], b"\0asm", "{}", backend.name);
            assert_eq!(&backend.wasm[6..8], &[1, 0], "{}", backend.name);
            assert_eq!(backend.digest.len(), 64);
            assert!(backend.description.trim_start().starts_with('{'));
        }
    }
}
