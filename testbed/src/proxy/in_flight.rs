//! Requests in progress through the proxy, which a test can count and hang up on.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use futures::{StreamExt, stream};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::traffic::{Cut, Record};

/// The requests in progress. Clones share one set.
#[derive(Clone, Debug, Default)]
pub(super) struct InFlight(pub(super) Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
pub(super) struct Lines {
    next: u64,
    pub(super) lines: BTreeMap<u64, (Record, CancellationToken)>,
}

impl InFlight {
    pub(super) fn begin(&self, record: &Record, cut: Cut) -> Line {
        let hung_up = CancellationToken::new();
        let mut lines = self.0.lock();
        let id = lines.next;
        lines.next += 1;
        lines.lines.insert(id, (record.clone(), hung_up.clone()));
        Line { all: self.clone(), id, hung_up, cut }
    }
}

/// One request in progress, until dropped.
pub(super) struct Line {
    all: InFlight,
    id: u64,
    pub(super) hung_up: CancellationToken,
    cut: Cut,
}

impl Line {
    /// Streams `content` until the test hangs up. Dropped when the client disconnects.
    pub(super) fn carry(self, content: Body) -> Body {
        let content = (content.into_data_stream(), self);
        Body::from_stream(stream::unfold(content, |(mut content, line)| async move {
            tokio::select! {
                () = line.hung_up.cancelled() => {
                    line.cut.cut();
                    // The server resets the connection when it polls it next, which is at once. The
                    // end of the body would send a FIN.
                    std::future::pending().await
                }
                chunk = content.next() => chunk.map(|chunk| (chunk, (content, line))),
            }
        }))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.all.0.lock().lines.remove(&self.id);
    }
}
