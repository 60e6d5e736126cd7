//! Log and probes of a replica with shards.

use tokio::time::Instant;

use super::decision::Lock;
use super::leases::Error;
use super::{Held, Replica};
use crate::operator::lease::RENEW_WITHIN;
use crate::operator::server::Health;
use crate::telemetry::Liveness;

impl Replica {
    /// Logs for whom this replica waits, once.
    pub(super) fn log_wait(&mut self, lock: Lock) {
        let holder = self.records.holder(self.leases.base()).map(str::to_owned);
        let awaited = holder.filter(|_| lock == Lock::Other);
        if awaited.is_some() && awaited != self.awaited {
            let lease = self.leases.base();
            tracing::info!(
                lease,
                holder = awaited,
                "a process with another number of shards is working; waiting"
            );
        }
        self.awaited = awaited;
    }

    /// Reports the result of a round to the probes and the log.
    pub(super) fn report(
        &mut self,
        result: Result<(), Error>,
        is_stopping: bool,
        health: &Health,
        liveness: &Liveness,
    ) {
        let may_write = |held: &Held| held.renewed.elapsed() < RENEW_WITHIN;
        let may_write = self.lock.is_some_and(|locked| Instant::now() < locked.until)
            && self.held.values().any(may_write);
        match result {
            Ok(()) => {
                if !is_stopping {
                    health.set_ready();
                }
                if may_write && std::mem::take(&mut self.is_paused) {
                    tracing::info!("renewed the Leases of the shards; writing again");
                }
            }
            Err(error) if self.held.is_empty() => {
                let reason = format!("cannot read or acquire the Leases of the shards: {error}");
                if !is_stopping && health.set_waiting(&reason) {
                    tracing::warn!(reason, "not ready, retrying");
                }
            }
            Err(error) => {
                liveness.finished();
                if may_write {
                    tracing::warn!(%error, "cannot renew the Leases of the shards, retrying");
                } else if !std::mem::replace(&mut self.is_paused, true) {
                    tracing::error!(
                        %error,
                        "cannot renew the Leases of the shards: another process may acquire them; \
                         copies go on, but no tags, settings or policies are written until they \
                         are renewed"
                    );
                }
            }
        }
    }
}
