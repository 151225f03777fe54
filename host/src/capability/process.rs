//! Native programs, for components.
/// A child that a component holds.
pub struct Child {}
