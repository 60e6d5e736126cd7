//! Leader election by a Lease (coordination.k8s.io): one process works, the others wait.
//!
//! Own code, since kube-lease-manager 0.13 asks for a lease again only when the term it saw last
//! has ended (so a clean stop would still cost a whole term), takes a lease over without a
//! resourceVersion (two could win), and compares clocks of two machines. Here as in client-go:
//! every write carries the resourceVersion that was read, and a term is over when the record did
//! not change for its length on *our* clock.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease as Record, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// A holder that is silent for so long has lost the lease.
const TERM: Duration = Duration::from_secs(15);
/// A holder that could not renew for so long gives up by itself: well before another may take over.
const RENEW_WITHIN: Duration = Duration::from_secs(10);
/// Between two renewals.
const RENEW_EVERY: Duration = Duration::from_secs(3);
/// Between two looks of one that waits: a clean stop is noticed within this.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// One call to the API server.
const CALL: Duration = Duration::from_secs(3);

/// A lease that this process may come to hold.
pub(super) struct Lease {
    leases: Api<Record>,
    name: String,
    /// Unique to this process.
    identity: String,
}

/// The record that was seen last, and since when it looks like that.
struct Seen {
    holder: String,
    renewed: Option<MicroTime>,
    since: Instant,
}

/// How holding a lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// We were told to stop, and gave it back.
    Released,
    /// Another has it, or may have it by now.
    Lost,
}

impl Lease {
    pub(super) const fn new(leases: Api<Record>, name: String, identity: String) -> Self {
        Self { leases, name, identity }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Waits until this process holds the lease.
    pub(super) async fn acquire(&self) -> Record {
        let mut seen: Option<Seen> = None;
        let mut told = None;
        loop {
            match timeout(CALL, self.try_acquire(&mut seen)).await {
                Ok(Ok(Some(record))) => return record,
                Ok(Ok(None)) => {
                    let holder = seen.as_ref().map(|seen| seen.holder.clone());
                    if holder != told {
                        tracing::info!(lease = self.name, holder, "another process leads; waiting");
                        told = holder;
                    }
                }
                Ok(Err(error)) => {
                    tracing::warn!(lease = self.name, %error, "cannot read or take the lease; retried")
                }
                Err(_late) => {
                    tracing::warn!(lease = self.name, "the API server does not answer; retried")
                }
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn try_acquire(&self, seen: &mut Option<Seen>) -> Result<Option<Record>, kube::Error> {
        let Some(mut record) = self.leases.get_opt(&self.name).await? else {
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
            let record = Record { metadata, spec: Some(self.spec(0)) };
            return won(self.leases.create(&PostParams::default(), &record).await);
        };
        let spec = record.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.unwrap_or_default();
        let now = Instant::now();
        let unchanged = seen
            .as_ref()
            .is_some_and(|seen| seen.holder == holder && seen.renewed == spec.renew_time);
        if !unchanged {
            *seen = Some(Seen { holder: holder.clone(), renewed: spec.renew_time, since: now });
        }
        let term = spec
            .lease_duration_seconds
            .and_then(|term| u64::try_from(term).ok())
            .map_or(TERM, Duration::from_secs);
        let silent = seen.as_ref().map(|seen| now.duration_since(seen.since)).unwrap_or_default();
        if !holder.is_empty() && silent < term {
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

    /// Renews the lease until `give_back` is cancelled or it is lost.
    pub(super) async fn hold(&self, mut record: Record, give_back: &CancellationToken) -> End {
        let mut renewed = Instant::now();
        loop {
            tokio::select! {
                () = give_back.cancelled() => {
                    self.release(record).await;
                    return End::Released;
                }
                () = sleep(RENEW_EVERY) => {}
            }
            match timeout(CALL, self.renew(&record)).await {
                Ok(Ok(Some(new))) => {
                    record = new;
                    renewed = Instant::now();
                }
                Ok(Ok(None)) => {
                    tracing::error!(lease = self.name, "another process holds the lease");
                    return End::Lost;
                }
                Ok(Err(error)) => {
                    tracing::warn!(lease = self.name, %error, "cannot renew the lease; retried")
                }
                Err(_late) => {
                    tracing::warn!(lease = self.name, "the lease is not renewed in time; retried")
                }
            }
            if renewed.elapsed() + RENEW_EVERY > RENEW_WITHIN {
                tracing::error!(
                    lease = self.name,
                    "the lease could not be renewed: another process may take it"
                );
                return End::Lost;
            }
        }
    }

    /// `None` if another holds it.
    async fn renew(&self, record: &Record) -> Result<Option<Record>, kube::Error> {
        let mut next = record.clone();
        if let Some(spec) = &mut next.spec {
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        match self.leases.replace(&self.name, &PostParams::default(), &next).await {
            Ok(record) => Ok(Some(record)),
            // Somebody wrote it: us, with an answer that came too late; a person with a label; or
            // another holder.
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {
                let now = self.leases.get_opt(&self.name).await?;
                let ours = |record: &Record| {
                    record.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref())
                        == Some(&self.identity)
                };
                Ok(now.filter(ours))
            }
            Err(error) => Err(error),
        }
    }

    /// Empties the record, so that nobody has to wait for the end of the term.
    async fn release(&self, mut record: Record) {
        if let Some(spec) = &mut record.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        match timeout(CALL, self.leases.replace(&self.name, &PostParams::default(), &record)).await
        {
            Ok(Ok(record)) => tracing::info!(lease = record.name_any(), "lease released"),
            Ok(Err(error)) => {
                tracing::warn!(lease = self.name, %error, "cannot release the lease: it ends by itself")
            }
            Err(_late) => tracing::warn!(
                lease = self.name,
                "the lease was not released in time: it ends by itself"
            ),
        }
    }
}

/// A write that met a newer version has lost the race, nothing more.
fn won(written: Result<Record, kube::Error>) -> Result<Option<Record>, kube::Error> {
    match written {
        Ok(record) => Ok(Some(record)),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
        Err(error) => Err(error),
    }
}
