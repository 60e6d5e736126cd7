//! Ctrl-C, SIGTERM and a closed terminal.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

use crate::Error;

/// Why something did not come to its end.
#[derive(Debug)]
pub(super) enum End {
    /// Somebody wanted it so.
    Interrupted,
    /// It went wrong.
    Failed(Error),
}

/// Listens for the signals that mean "stop".
#[derive(Debug)]
pub(super) struct Interrupt {
    signals: [Signal; 3],
}

impl Interrupt {
    pub(super) fn new() -> Result<Self, Error> {
        let listen = |kind| signal(kind).map_err(|e| format!("cannot listen for signals: {e}"));
        let kinds = (SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup());
        Ok(Self { signals: [listen(kinds.0)?, listen(kinds.1)?, listen(kinds.2)?] })
    }

    /// Does `work` unless a signal comes first.
    pub(super) async fn or<T>(
        &mut self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, End> {
        /// Ctrl-C at a terminal reaches kubectl, crane and us at the same time: their failure may
        /// be seen first.
        const SAME_TIME: Duration = Duration::from_millis(200);
        tokio::select! {
            () = self.received() => Err(End::Interrupted),
            done = work => match done {
                Ok(done) => Ok(done),
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
