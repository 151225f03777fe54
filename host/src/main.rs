//! falconer
fn main() {}
