//! Ctrl-C, SIGTERM and a closed terminal: each stops the demo cleanly.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

use crate::Error;

/// Reason why work ended early.
#[derive(Debug)]
pub(crate) enum End {
    /// A signal came.
    Interrupted,
    /// The work failed.
    Failed(Error),
}

/// Listens for SIGINT, SIGTERM and SIGHUP.
#[derive(Debug)]
pub(crate) struct Interrupt {
    signals: [Signal; 3],
}

impl Interrupt {
    pub(crate) fn new() -> Result<Self, Error> {
        let listen = |kind| signal(kind).map_err(|e| format!("cannot listen for signals: {e}"));
        let kinds = (SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup());
        Ok(Self { signals: [listen(kinds.0)?, listen(kinds.1)?, listen(kinds.2)?] })
    }

    /// Runs `work` until it ends or a signal comes.
    pub(crate) async fn or<T>(
        &mut self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, End> {
        /// Ctrl-C at a terminal reaches kubectl and crane, too; their failure may be noticed before
        /// the signal.
        const SAME_TIME: Duration = Duration::from_millis(200);

        tokio::select! {
            () = self.received() => Err(End::Interrupted),
            result = work => match result {
                Ok(value) => Ok(value),
                Err(_) if timeout(SAME_TIME, self.received()).await.is_ok() => Err(End::Interrupted),
                Err(e) => Err(End::Failed(e)),
            },
        }
    }

    async fn received(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
