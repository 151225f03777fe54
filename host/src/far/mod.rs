//! The far end of a run: a command on another machine, over a link that may be lost.
//!
//! [`wrapper`] makes the one line that the login shell there executes. What may be executed there is judged in
//! [`crate::policy`]; what the wrapper says over the link is read by the component (`falconer_backend::far`). The protocol is
//! described in `docs/far-end.md`.

pub mod wrapper;
