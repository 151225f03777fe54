//! Write a backend for falconer.

pub mod bindings;
