//! The MCP face: the tools over one connection. Knows runs, never components.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::run::{Caller, Manager};

/// Serves one client until its input ends, its output breaks, or the token is cancelled. Runs go on.
pub async fn serve<R, W>(_manager: Manager, _caller: Caller, _input: R, _output: W, _closing: CancellationToken)
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    unimplemented!()
}
