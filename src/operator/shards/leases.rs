//! The Leases of the replicas: one that locks the layout, one for each shard, and one for each
//! replica. One list shows all of them.

use k8s_openapi::api::coordination::v1::{Lease as Record, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};
use tokio::time::timeout;

use crate::controller::brief;
use crate::operator::lease::{CALL, TERM};
use crate::registry::Digest;
use crate::shard::{Layout, Shard};

/// Label of all Leases of an operator, with the name of the one that locks the layout.
const LABEL: &str = "ecr-sync.io/lease";

/// A request that failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The record was written since it was read.
    #[error("another process has written the Lease")]
    Conflict,
    #[error("{}", brief(.0))]
    Refused(kube::Error),
    #[error("the API server does not answer")]
    Late,
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if matches!(status.code, 404 | 409) => Self::Conflict,
            other => Self::Refused(other),
        }
    }
}

/// Whether the name of a Lease ends with this layout.
fn is_of(name: &str, layout: Layout) -> bool {
    name.rsplit_once("-of-").is_some_and(|(_, shards)| shards == layout.shards().to_string())
}

/// Waits for the answer to a call.
async fn answer<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
    timeout(CALL, call).await.map_err(|_late| Error::Late)?.map_err(Error::from)
}

/// The Leases of the replicas of one operator.
#[derive(Clone, Debug)]
pub(super) struct Leases {
    api: Api<Record>,
    /// Name of the Lease that locks the layout. Replicas without shards, and older versions of the
    /// operator, compete for this one.
    base: String,
}

impl Leases {
    pub(super) const fn new(api: Api<Record>, base: String) -> Self {
        Self { api, base }
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Name of the Lease of a shard.
    pub(super) fn of_shard(&self, shard: Shard, layout: Layout) -> String {
        format!("{}-shard-{shard}-of-{}", self.base, layout.shards())
    }

    /// Name of the Lease of a replica.
    pub(super) fn of_member(&self, identity: &str, layout: Layout) -> String {
        let hash = Digest::sha256_of(identity.as_bytes());
        let hash = hash.hex().chars().take(10).collect::<String>();
        format!("{}-member-{hash}-of-{}", self.base, layout.shards())
    }

    /// Whether this is the name of the Lease of a replica with this layout.
    pub(super) fn is_member(&self, name: &str, layout: Layout) -> bool {
        self.suffix(name, "-member-").is_some_and(|rest| is_of(rest, layout))
    }

    /// Whether a Lease with this name is of no use when nobody holds it: it is the one of a replica,
    /// or of a shard of another layout.
    pub(super) fn is_temporary(&self, name: &str, layout: Layout) -> bool {
        let is_of_other = |rest: &str| !is_of(rest, layout);
        self.suffix(name, "-member-").is_some()
            || self.suffix(name, "-shard-").is_some_and(is_of_other)
    }

    fn suffix<'n>(&self, name: &'n str, kind: &str) -> Option<&'n str> {
        name.strip_prefix(&self.base)?.strip_prefix(kind)
    }

    /// Reads all records. The lock of the layout is one of them, if it exists.
    pub(super) async fn list(&self) -> Result<Vec<Record>, Error> {
        let params = ListParams::default().labels(&format!("{LABEL}={}", self.base));
        let mut records = answer(self.api.list(&params)).await?.items;
        if !records.iter().any(|record| record.name_any() == self.base) {
            // A replica without shards has created it, without the label.
            records.extend(self.get_base().await?);
        }
        Ok(records)
    }

    /// Reads the record that locks the layout.
    pub(super) async fn get_base(&self) -> Result<Option<Record>, Error> {
        answer(self.api.get_opt(&self.base)).await
    }

    /// Makes `holder` the holder of a Lease, which nobody else may hold.
    pub(super) async fn take(
        &self,
        name: &str,
        record: Option<&Record>,
        holder: &str,
    ) -> Result<Record, Error> {
        let now = MicroTime(Timestamp::now());
        let transitions = |record: &Record| record.spec.as_ref()?.lease_transitions;
        let spec = LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: i32::try_from(TERM.as_secs()).ok(),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: record
                .map(|record| transitions(record).unwrap_or_default().saturating_add(1)),
            ..LeaseSpec::default()
        };
        let named = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let mut metadata = record.map_or(named, |record| record.metadata.clone());
        let labels = metadata.labels.get_or_insert_default();
        labels.insert(LABEL.to_owned(), self.base.clone());

        let taken = Record { metadata, spec: Some(spec) };
        match record {
            Some(_) => answer(self.api.replace(name, &PostParams::default(), &taken)).await,
            None => answer(self.api.create(&PostParams::default(), &taken)).await,
        }
    }

    /// Renews a Lease for its holder.
    pub(super) async fn renew(&self, record: &Record) -> Result<Record, Error> {
        let mut next = record.clone();
        if let Some(spec) = &mut next.spec {
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        answer(self.api.replace(&record.name_any(), &PostParams::default(), &next)).await
    }

    /// Empties a record, so that the next process need not wait for the end of the term.
    pub(super) async fn release(&self, record: &Record) -> Result<Record, Error> {
        let mut next = record.clone();
        if let Some(spec) = &mut next.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        answer(self.api.replace(&record.name_any(), &PostParams::default(), &next)).await
    }

    /// Deletes a Lease if nobody has written it since it was read.
    pub(super) async fn delete(&self, record: &Record) -> Result<(), Error> {
        let params = DeleteParams::default().preconditions(Preconditions {
            resource_version: record.resource_version(),
            uid: record.uid(),
        });
        answer(self.api.delete(&record.name_any(), &params)).await.map(drop)
    }
}
