//! Every way in which a component's call can end badly, as a coded error that names the backend and the call.

use wasmtime::Trap;
use wasmtime::component::ResourceTableError;
use wasmtime_wasi::I32Exit;

use super::limits::{CALL_BYTES, Exceeded, HANDLES};
use super::stdio::{LastWords, one_line};
use crate::capability::{Redactor, Violation};
use crate::fault::{Fault, code};

/// The longest piece of a component's own text in a message.
const DETAIL_CHARS: usize = 500;

/// What wasmtime says (it has no types for these) when more than the hostcall fuel is carried …
const FUEL_WORDS: &str = "too much data is being copied between the host and the guest";
/// … and when a store holds too many handles.
const HANDLE_WORDS: &str = "store handle limit exceeded";

/// The fault of a call that trapped.
pub(super) fn fault(backend: &str, call: &str, error: &wasmtime::Error, words: &LastWords, secrets: &Redactor) -> Fault {
    let find = |text: &str| error.chain().any(|cause| cause.to_string().contains(text));
    if let Some(exceeded) = cause::<Exceeded>(error) {
        return self::exceeded(backend, call, exceeded);
    }
    if let Some(violation) = cause::<Violation>(error) {
        return Fault::new(violation.code, format!("backend `{backend}` broke the contract in `{call}`: {}", violation.message));
    }
    if cause::<wasmtime::PoolConcurrencyLimitError>(error).is_some() {
        return Fault::new(code::LIMIT_REACHED, format!("there is no room for another instance of backend `{backend}`"))
            .retryable()
            .hint("wait until other runs have ended, or raise `[host] runs`");
    }
    if matches!(cause::<ResourceTableError>(error), Some(ResourceTableError::Full)) || find(HANDLE_WORDS) {
        return Fault::new(code::HANDLES_EXCEEDED, format!("backend `{backend}` holds more than {HANDLES} resources in `{call}`"));
    }
    if find(FUEL_WORDS) {
        return Fault::new(
            code::CALL_TOO_LARGE,
            format!("backend `{backend}` carries more than {} MiB to the host in `{call}`", CALL_BYTES >> 20),
        )
        .hint("large values go through `blobs`, in pieces");
    }
    if let Some(I32Exit(status)) = cause::<I32Exit>(error) {
        return Fault::new(code::BACKEND_TRAPPED, format!("backend `{backend}` exited with status {status} in `{call}`"))
            .hint("a backend never exits; it answers `finished`");
    }
    let why = match (words.panic(secrets), cause::<Trap>(error)) {
        (Some(panic), _) => format!("it panicked at {panic}"),
        (None, Some(trap)) => one_line(&trap.to_string(), DETAIL_CHARS),
        (None, None) => one_line(&format!("{:#}", error.root_cause()), DETAIL_CHARS),
    };
    Fault::new(code::BACKEND_TRAPPED, format!("backend `{backend}` trapped in `{call}`: {why}"))
        .hint("the backtrace is in the run's log; this is a fault of the backend")
}

/// The fault of a limit.
pub(super) fn exceeded(backend: &str, call: &str, exceeded: &Exceeded) -> Fault {
    let (code, hint) = match exceeded {
        Exceeded::Memory { .. } => {
            (code::MEMORY_EXCEEDED, Some(format!("raise `memory` in `[backends.{backend}.limits]` if it needs more")))
        }
        Exceeded::Table { .. } => (code::HANDLES_EXCEEDED, None),
        Exceeded::CallCpu { .. } => {
            (code::BACKEND_BUSY, Some("a backend does a little in each call and answers `again` where there is more".to_owned()))
        }
        Exceeded::RunCpu { .. } => (code::CPU_EXCEEDED, Some(format!("raise `cpu` in `[backends.{backend}.limits]` if it needs more"))),
        Exceeded::Cut => return cut(backend, call),
    };
    let fault = Fault::new(code, format!("backend `{backend}` went over a limit in `{call}`: {exceeded}"));
    match hint {
        Some(hint) => fault.hint(hint),
        None => fault,
    }
}

/// The fault of a call that its owner ended.
pub(super) fn cut(backend: &str, call: &str) -> Fault {
    Fault::new(super::CUT, format!("the call `{call}` of backend `{backend}` was cut"))
}

/// The first error of this type, however deep.
fn cause<E: std::error::Error + 'static>(error: &wasmtime::Error) -> Option<&E> {
    error.chain().find_map(|cause| cause.downcast_ref::<E>())
}

#[cfg(test)]
mod tests {
    use wasmtime::error::Context as _;

    use super::*;

    #[test]
    fn causes_are_found_below_contexts() {
        let violation = Violation { code: code::VALUE_TOO_LARGE, message: "the label is too long".into() };
        let error = wasmtime::Result::<()>::Err(wasmtime::Error::new(violation)).context("while executing").unwrap_err();
        let fault = fault("x", "poll", &error, &LastWords::default(), &Redactor::default());
        assert_eq!(fault.code, code::VALUE_TOO_LARGE);
        assert!(
            fault.message.contains("`x`") && fault.message.contains("`poll`") && fault.message.contains("too long"),
            "{}",
            fault.message
        );
    }

    #[test]
    fn a_full_table_of_a_capability_is_a_limit() {
        let error = wasmtime::Error::from_anyhow(anyhow::Error::new(ResourceTableError::Full).context("spawn"));
        assert_eq!(fault("x", "start", &error, &LastWords::default(), &Redactor::default()).code, code::HANDLES_EXCEEDED);
    }
}
