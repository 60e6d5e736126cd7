//! Signals that end the process: SIGINT (Ctrl-C) and SIGTERM.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// SIGINT and SIGTERM of this process.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Starts listening. From now on the signals no longer end the process by themselves.
    ///
    /// # Errors
    /// When the signal handlers cannot be installed.
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Returns a token that the first signal cancels. Later signals are ignored.
    pub(crate) fn into_token(mut self) -> CancellationToken {
        let stop = CancellationToken::new();
        let token = stop.clone();
        tokio::spawn(async move {
            self.next().await;
            token.cancel();
        });
        stop
    }

    /// Runs `work`; the first signal cancels `stop`, which makes `work` end early. Returns `None`
    /// if a second signal comes before `work` has ended.
    pub(crate) async fn guard<T>(
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
