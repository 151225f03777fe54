//! Large values, for components.
/// A blob being written.
pub struct Writer {}
