//! What a run is, and how runs are driven.

pub mod event;
pub mod manager;
pub mod receipt;
pub mod request;
pub mod status;
pub mod view;

pub use manager::{Caller, Manager, Parts};
