//! The bundled backends, compiled to components at build time and embedded, so that one file is a whole installation.

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

/// All of them, by name.
pub const BACKENDS: &[Bundled] = &[];
