//! The MCP face: the tools over one connection. Knows runs, never components.
//!
//! Both eras of the protocol are spoken: `initialize` up to 2025-11-25, and the stateless 2026-07-28 with
//! `server/discover`. What a call means is decided in [`crate::run`]; here are the tools' names, schemas and
//! descriptions ([`tools`]), the check of arguments ([`arguments`]), the shape of answers ([`answer`]), waits that end
//! with their request or their connection ([`wait`]), and what keeps one client from hurting others ([`transport`]).
//! When a connection breaks, its waits end and its runs go on.

pub mod answer;
pub mod arguments;
pub mod call;
pub mod schema;
pub mod server;
pub mod tool;
pub mod tools;
pub mod transport;
pub mod wait;

use std::sync::Arc;

use rmcp::ServiceExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::run::{Caller, Manager};
use server::Server;
use transport::{Flow, Gated};

/// What the tools of one connection work with. Cheap to clone.
#[derive(Clone)]
pub struct Host {
    /// All runs.
    pub manager: Manager,
    /// What the hello of the connection said.
    pub caller: Arc<Caller>,
}

/// Serves one client until its input ends, its output breaks, or the token is cancelled. Runs go on.
///
/// At the end of the input, calls that were read before it are still answered; waits answer at once, with the state
/// as it is then.
pub async fn serve<R, W>(manager: Manager, caller: Caller, input: R, output: W, closing: CancellationToken)
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let host = Host { manager, caller: Arc::new(caller) };
    serve_table(tools::table(), host, input, output, closing).await;
}

/// The same for any set of tools.
pub(crate) async fn serve_table<C, R, W>(table: &'static tool::Table<C>, host: C, input: R, output: W, closing: CancellationToken)
where
    C: Clone + Send + Sync + 'static,
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    // A child, because the running service cancels the token it was given when it is dropped.
    let ending = closing.child_token();
    let flow = Arc::new(Flow::default());
    let transport = Gated::new(input, output, flow.clone(), ending.clone());
    let server = Server::new(table, host, flow, ending);
    match server.serve_with_ct(transport, closing.child_token()).await {
        Ok(running) => {
            if let Err(error) = running.waiting().await {
                tracing::error!(%error, "the task of a connection failed");
            }
        }
        Err(error) => tracing::debug!(%error, "a client left before it began"),
    }
}

#[cfg(test)]
mod tests;
