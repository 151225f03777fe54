//! The connection: JSON-RPC lines, with two additions to what rmcp does.
//!
//! The end of the input is told at once (rmcp alone would go on for up to 5 s while a wait is open), and nothing is
//! read while the client has too many answers unread or too many calls in work: a client that only writes is held up by
//! its own socket, and costs a bounded amount of memory. When the output breaks, sends fail, the input ends, and the
//! connection is over.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rmcp::RoleServer;
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use rmcp::transport::async_rw::AsyncRwTransport;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Messages that wait to be written, above which nothing more is read.
pub const MAX_UNSENT: usize = 256;
/// Calls in work, waits aside, above which nothing more is read.
pub const MAX_WORKING: usize = 64;

/// What is under way on one connection.
#[derive(Default)]
pub struct Flow {
    unsent: AtomicUsize,
    working: AtomicUsize,
    less: Notify,
}

impl Flow {
    /// Counts a call that is in work and ends by itself; a wait is not counted, or a cancellation would not get through.
    #[must_use]
    pub fn work(self: &Arc<Self>) -> Counted {
        Counted::new(self, |flow| &flow.working)
    }

    fn sending(self: &Arc<Self>) -> Counted {
        Counted::new(self, |flow| &flow.unsent)
    }

    fn has_room(&self) -> bool {
        self.unsent.load(Ordering::Acquire) < MAX_UNSENT && self.working.load(Ordering::Acquire) < MAX_WORKING
    }

    /// Ends when there is room. Dropping the future loses nothing.
    async fn room(&self) {
        loop {
            let less = self.less.notified();
            if self.has_room() {
                return;
            }
            less.await;
        }
    }
}

/// One thing under way; dropping it makes room.
pub struct Counted {
    flow: Arc<Flow>,
    which: fn(&Flow) -> &AtomicUsize,
}

impl Counted {
    fn new(flow: &Arc<Flow>, which: fn(&Flow) -> &AtomicUsize) -> Self {
        which(flow).fetch_add(1, Ordering::AcqRel);
        Self { flow: flow.clone(), which }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.which)(&self.flow).fetch_sub(1, Ordering::AcqRel);
        // One reader waits at most; a permit left over costs it one more look.
        self.flow.less.notify_one();
    }
}

/// A transport that stops reading when too much is under way, and tells the end of its input.
pub struct Gated<R: AsyncRead, W: AsyncWrite> {
    inner: AsyncRwTransport<RoleServer, R, W>,
    flow: Arc<Flow>,
    ending: CancellationToken,
}

impl<R, W> Gated<R, W>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    /// `ending` is cancelled when the input ends.
    pub fn new(input: R, output: W, flow: Arc<Flow>, ending: CancellationToken) -> Self {
        Self { inner: AsyncRwTransport::new_server(input, output), flow, ending }
    }
}

impl<R, W> Transport<RoleServer> for Gated<R, W>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    type Error = io::Error;

    fn name() -> Cow<'static, str> {
        "falconer".into()
    }

    fn send(&mut self, item: TxJsonRpcMessage<RoleServer>) -> impl Future<Output = Result<(), io::Error>> + Send + 'static {
        let counted = self.flow.sending();
        let sent = self.inner.send(item);
        async move {
            let sent = sent.await;
            drop(counted);
            sent
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        self.flow.room().await;
        let message = self.inner.receive().await;
        if message.is_none() {
            self.ending.cancel();
        }
        message
    }

    async fn close(&mut self) -> Result<(), io::Error> {
        self.inner.close().await
    }
}
