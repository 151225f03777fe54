//! Signals that ask this process to end.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A second signal so soon after the first one is the same wish: clients send INT and TERM in one breath.
const ONE_WISH: Duration = Duration::from_secs(1);

/// The exit code of a process that did not wait for its orderly end.
const AT_ONCE: i32 = 130;

struct Wishes {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    /// Never asked. A starter may have ignored this signal, which exec keeps, and then no child's exit could be known.
    _child: Signal,
}

impl Wishes {
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.hang_up.recv() => "SIGHUP",
        }
    }
}

/// The first TERM, INT or HUP cancels the token, which asks for the orderly end; one more ends the process at once.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn watch(ending: CancellationToken) -> std::io::Result<()> {
    let mut wishes = Wishes {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        hang_up: signal(SignalKind::hangup())?,
        _child: signal(SignalKind::child())?,
    };
    tokio::spawn(async move {
        let first = wishes.next().await;
        tracing::info!(signal = first, "ends in order");
        ending.cancel();
        loop {
            let heard = tokio::time::Instant::now();
            let again = wishes.next().await;
            if heard.elapsed() >= ONE_WISH {
                tracing::warn!(signal = again, "ends at once");
                std::process::exit(AT_ONCE);
            }
        }
    });
    Ok(())
}
