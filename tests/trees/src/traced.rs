//! A process that traces another: who is traced stops before its end, until the tracer lets it or ends.

use std::io::{Read, Write};

use crate::stand::child;
use crate::{Stands, c};

/// Where tracing is not allowed there is an error, and the two live on untraced.
pub fn tracer() -> Stands {
    let (mut answer, said) = std::io::pipe().map_err(|error| format!("no pipe: {error}"))?;
    child(|| {
        let traced = child(|| ());
        let traces = c::trace(traced) && c::wait(traced, c::WALL);
        let _ = (&said).write_all(&[u8::from(traces)]);
    });
    let mut traces = [0];
    answer.read_exact(&mut traces).map_err(|error| format!("no tracer: {error}"))?;
    if traces == [1] { Ok(()) } else { Err("it may not trace".into()) }
}
