//! Ctrl-C and SIGTERM: the first asks for a clean stop, the second stops at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// SIGINT and SIGTERM of this process.
#[derive(Debug)]
pub(super) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    /// Starts listening. From now on the signals no longer end the process by themselves.
    ///
    /// # Errors
    /// When the signal handlers cannot be installed.
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Runs `work`; the first signal cancels `stop`, which makes `work` end early. Returns `None`
    /// if a second signal comes before `work` has ended.
    pub(super) async fn guard<T>(
        &mut self,
        stop: &CancellationToken,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        tokio::pin!(work);

        tokio::select! {
            output = &mut work => return Some(output),
            () = self.next() => stop.cancel(),
        }

        tokio::select! {
            biased;
            output = &mut work => Some(output),
            () = self.next() => None,
        }
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
