//! Ctrl-C and SIGTERM: the first asks for a clean end, the second does not wait for it.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Signals of this process.
#[derive(Debug)]
pub(super) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    /// From now on signals do not end the process by themselves.
    ///
    /// # Errors
    /// When the system does not let us listen.
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Runs `work`, which ends early when `stop` is cancelled: as the first signal does. `None`: a
    /// second one came before it had ended.
    pub(super) async fn guard<T>(
        &mut self,
        stop: &CancellationToken,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        tokio::pin!(work);
        tokio::select! {
            done = &mut work => return Some(done),
            () = self.next() => stop.cancel(),
        }
        tokio::select! {
            biased;
            done = &mut work => Some(done),
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
