//! (in work)
pub mod connect;
