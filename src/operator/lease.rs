//! A Lease (coordination.k8s.io): one process works, the others wait.
//!
//! Own code, since kube-lease-manager 0.13 has three faults. It asks for a lease again only when
//! the term that it saw last has ended, so that even a clean stop costs a whole term. It takes a
//! lease over without a resourceVersion, so that two processes can win. It compares the clocks of
//! two machines. This module does as client-go does: every write carries the resourceVersion that
//! was read, and a term is over when the record did not change for its length on *our* clock.
//!
//! Unlike with client-go, a holder that cannot renew the lease does not end: it loses the right to
//! write (`sync::Leadership`), which it has again after the next renewal. It ends when another
//! process has taken the lease. So an outage of the API server, which nobody can use to take the
//! lease, does not end the copies. A process that waits does not count the time in which it could
//! not read the record: the holder could not renew it either.

use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::coordination::v1::{Lease as Record, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::server::Health;
use crate::controller::brief;
use crate::telemetry::Liveness;
use crate::writes::Grant;

/// A holder that does not renew the lease for this long has lost it. With a read every half second,
/// a follower works within 10 s after the holder was killed. client-go has 15 s, because there a
/// holder that cannot renew ends. Here it only stops writing, so a shorter term costs no copies.
pub(super) const TERM: Duration = Duration::from_secs(9);
/// A holder that cannot renew for this long stops writing: two renewals in a row may fail. The 3 s
/// until another may take over are for a write that AWS has not yet carried out.
pub(super) const RENEW_WITHIN: Duration = Duration::from_secs(6);
/// Time between two renewals.
pub(super) const RENEW_EVERY: Duration = Duration::from_secs(2);
/// Time between a renewal that failed and the next.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// Time between two reads of a process that waits: it notices a clean stop within this time.
const READ_EVERY: Duration = Duration::from_millis(500);
/// Deadline of one call to the API server.
pub(super) const CALL: Duration = Duration::from_secs(2);
/// Time for the writes to AWS that are under way when a process stops, or gives up a shard. Most take
/// less than a second; the others are cancelled.
pub(super) const LONGEST_WRITE: Duration = Duration::from_secs(2);
/// A longer time between two successful reads is an outage: a read and the wait after it take at
/// most 2.5 s.
const LONGEST_GAP: Duration = Duration::from_secs(3);

/// A lease that this process competes for.
pub(crate) struct Lease {
    leases: Api<Record>,
    name: String,
    /// Unique to this process.
    identity: String,
    /// The right to write, while the lease is held.
    grant: Grant,
    /// Cancelled when the controller should end.
    drained: CancellationToken,
}

/// The record as it was read last.
struct LastRead {
    holder: String,
    renewed: Option<MicroTime>,
    /// First read of this record, or the first after an outage.
    since: Instant,
    /// Latest read.
    read: Instant,
}

/// End of holding a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The process stopped and released it.
    Released,
    /// Another process holds it, or may hold it.
    Lost,
}

/// The result of a renewal.
enum Renewal {
    Renewed(Record),
    /// This process holds the lease, but the record was written since it was read: by this process,
    /// whose answer was late, or by a person who set a label. A late write may be seconds old, so
    /// the right to write does not count from now.
    Rewritten(Record),
    Lost,
}

impl Lease {
    pub(super) fn new(leases: Api<Record>, name: String, identity: String, grant: Grant) -> Self {
        Self { leases, name, identity, grant, drained: CancellationToken::new() }
    }

    /// Returns the token that ends the controller. Cancelled when the lease is lost, or when the
    /// process stops and the writes to AWS that are under way have ended: another replica may work
    /// seconds later.
    pub(super) fn drained(&self) -> CancellationToken {
        self.drained.clone()
    }

    /// Lets no further write begin after `stop`, waits for those that are under way, and ends the
    /// controller.
    pub(super) async fn drain(&self, stop: &CancellationToken) {
        stop.cancelled().await;
        drain(std::slice::from_ref(&self.grant)).await;
        self.drained.cancel();
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Waits until this process holds the lease. A process that waits for another one is ready; one
    /// that cannot read the lease is not.
    pub(super) async fn acquire(&self, health: &Health) -> Record {
        let mut last: Option<LastRead> = None;
        let mut logged = None;

        loop {
            let asked = Instant::now();
            match timeout(CALL, self.try_acquire(&mut last)).await {
                Ok(Ok(Some(record))) => {
                    self.grant.until(asked + RENEW_WITHIN);
                    return record;
                }
                Ok(Ok(None)) => {
                    health.set_ready();
                    let holder = last.as_ref().map(|last| last.holder.clone());
                    if holder != logged {
                        tracing::info!(
                            lease = self.name,
                            holder,
                            "another process is leading; waiting"
                        );
                        logged = holder;
                    }
                }
                Ok(Err(error)) => {
                    health.set_waiting(&format!(
                        "cannot read or acquire the lease: {}",
                        brief(&error)
                    ));
                    tracing::warn!(
                        lease = self.name,
                        error = brief(&error),
                        "cannot read or acquire the lease, retrying"
                    );
                }
                Err(_late) => {
                    health.set_waiting("the API server does not answer");
                    tracing::warn!(lease = self.name, "the API server does not answer, retrying")
                }
            }

            sleep(READ_EVERY).await;
        }
    }

    async fn try_acquire(
        &self,
        last: &mut Option<LastRead>,
    ) -> Result<Option<Record>, kube::Error> {
        let Some(mut record) = self.leases.get_opt(&self.name).await? else {
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
            let record = Record { metadata, spec: Some(self.spec(0)) };
            return won(self.leases.create(&PostParams::default(), &record).await);
        };
        let spec = record.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.unwrap_or_default();
        let now = Instant::now();
        let is_unchanged = last
            .as_ref()
            .is_some_and(|last| last.holder == holder && last.renewed == spec.renew_time);
        let was_out = last.as_ref().is_some_and(|last| now - last.read > LONGEST_GAP);
        let since = match last {
            Some(last) if is_unchanged && !was_out => last.since,
            _ => now,
        };
        *last =
            Some(LastRead { holder: holder.clone(), renewed: spec.renew_time, since, read: now });

        let term = spec
            .lease_duration_seconds
            .and_then(|term| u64::try_from(term).ok())
            .map_or(TERM, Duration::from_secs);
        if !holder.is_empty() && now - since < term {
            return Ok(None);
        }

        record.spec = Some(self.spec(spec.lease_transitions.unwrap_or_default().saturating_add(1)));
        won(self.leases.replace(&self.name, &PostParams::default(), &record).await)
    }

    fn spec(&self, transitions: i32) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(TERM.as_secs()).ok(),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    /// Renews the lease until `done` is cancelled or another process has taken it. After `stop`, the
    /// right to write is not renewed. Failures are reported to `liveness`: a restart would only end
    /// copies.
    pub(super) async fn hold(
        &self,
        mut record: Record,
        done: &CancellationToken,
        stop: &CancellationToken,
        liveness: &Liveness,
    ) -> End {
        let mut renewed = Instant::now();
        let mut is_paused = false;
        let mut wait = RENEW_EVERY;
        loop {
            tokio::select! {
                () = done.cancelled() => {
                    self.release(record).await;
                    return End::Released;
                }
                () = sleep(wait) => {}
            }

            let asked = Instant::now();
            let reason = match timeout(CALL, self.renew(&record)).await {
                Ok(Ok(Renewal::Renewed(new))) => {
                    record = new;
                    (renewed, wait) = (asked, RENEW_EVERY);
                    if !stop.is_cancelled() {
                        self.grant.until(renewed + RENEW_WITHIN);
                    }
                    if std::mem::take(&mut is_paused) {
                        tracing::info!(lease = self.name, "renewed the lease; writing again");
                    }
                    continue;
                }
                Ok(Ok(Renewal::Rewritten(current))) => {
                    (record, wait) = (current, Duration::ZERO);
                    continue;
                }
                Ok(Ok(Renewal::Lost)) => {
                    tracing::error!(lease = self.name, "another process holds the lease");
                    self.drained.cancel();
                    return End::Lost;
                }
                Ok(Err(error)) => brief(&error),
                Err(_late) => "the API server does not answer".to_owned(),
            };

            wait = RETRY_EVERY;
            liveness.finished();
            if is_paused {
                tracing::debug!(lease = self.name, reason, "cannot renew the lease, retrying");
            } else if renewed.elapsed() + RETRY_EVERY >= RENEW_WITHIN {
                is_paused = true;
                tracing::error!(
                    lease = self.name,
                    reason,
                    "cannot renew the lease: another process may acquire it; copies go on, but no \
                     tags, settings or policies are written until the lease is renewed"
                );
            } else {
                tracing::warn!(lease = self.name, reason, "cannot renew the lease, retrying");
            }
        }
    }

    async fn renew(&self, record: &Record) -> Result<Renewal, kube::Error> {
        let mut next = record.clone();
        if let Some(spec) = &mut next.spec {
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }

        match self.leases.replace(&self.name, &PostParams::default(), &next).await {
            Ok(record) => Ok(Renewal::Renewed(record)),
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {
                let current = self.leases.get_opt(&self.name).await?;
                let is_ours = |record: &Record| {
                    record.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref())
                        == Some(&self.identity)
                };
                Ok(current.filter(is_ours).map_or(Renewal::Lost, Renewal::Rewritten))
            }
            Err(error) => Err(error),
        }
    }

    /// Empties the record, so that the next process need not wait for the end of the term.
    async fn release(&self, mut record: Record) {
        if let Some(spec) = &mut record.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        match timeout(CALL, self.leases.replace(&self.name, &PostParams::default(), &record)).await
        {
            Ok(Ok(record)) => tracing::info!(lease = record.name_any(), "released the lease"),
            Ok(Err(error)) => {
                tracing::warn!(
                    lease = self.name,
                    %error,
                    "cannot release the lease; it will expire"
                );
            }
            Err(_late) => tracing::warn!(
                lease = self.name,
                "the lease was not released in time; it will expire"
            ),
        }
    }
}

/// Lets no further write begin, and waits for those that are under way.
pub(super) async fn drain(grants: &[Grant]) {
    grants.iter().for_each(Grant::revoke);
    let _late = timeout(LONGEST_WRITE, join_all(grants.iter().map(Grant::idle))).await;
}

/// Turns the conflict of a write into `None`: another process was faster.
fn won(written: Result<Record, kube::Error>) -> Result<Option<Record>, kube::Error> {
    match written {
        Ok(record) => Ok(Some(record)),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
