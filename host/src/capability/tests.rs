//! Real programs through the contract's own calls.

use std::time::Duration;

use wasmtime::component::Resource;

use super::process::Child;
use super::*;
use crate::config::SecretSource;
use crate::contract::falconer::backend::process::{
    EnvValue, ExitStatus, Host as _, HostChild as _, Options, Signal, SpawnError, StdinMode,
};
use crate::contract::falconer::backend::types::{IoError, Received, Severity};
use crate::contract::falconer::backend::{blobs, log as log_wit, secret as secret_wit};
use crate::tree::Exit;

/// How long a test waits for what must come.
const SOON: Duration = Duration::from_secs(30);

mod fixture;
mod granting;
mod sources;

use fixture::{Fixture, options};
