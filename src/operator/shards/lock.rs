//! The lock on the layout, which all replicas hold that hold a shard. The module above has the rules.

use k8s_openapi::api::coordination::v1::Lease as Record;
use tokio::time::Instant;

use super::Replica;
use super::leases::Error;
use super::records::{holder, transitions};
use crate::operator::lease::RENEW_WITHIN;

/// Attempts to renew the lock, which other replicas may renew at the same time.
const LOCK_ATTEMPTS: usize = 4;

/// The lock, while this replica is one of its holders.
#[derive(Clone, Copy, Debug)]
pub(super) struct Locked {
    /// See [`transitions`].
    transitions: i32,
    /// End of the right to write.
    pub(super) until: Instant,
}

impl Replica {
    /// Whether the lock is the one that this replica holds.
    pub(super) fn has_lock(&self) -> bool {
        let record = self.records.get(self.leases.base());
        let is_same = |locked: Locked, record: &Record| {
            holder(record) == self.lock_holder() && transitions(record) == locked.transitions
        };
        self.lock.zip(record).is_some_and(|(locked, record)| is_same(locked, record))
    }

    /// Returns the holder that the replicas of this layout write into the lock.
    pub(super) fn lock_holder(&self) -> String {
        format!("{} shards", self.assignment.layout().shards())
    }

    /// Renews or takes the lock, after the Leases of the shards were written. The right counts from
    /// the oldest of these writes.
    pub(super) async fn renew_lock(&mut self) -> Result<(), Error> {
        let Some(written) = self.held.values().map(|held| held.renewed).min() else {
            return Ok(());
        };
        let base = self.leases.base().to_owned();
        for _ in 0..LOCK_ATTEMPTS {
            let record = self.records.get(&base);
            let renewed = match (record, self.records.holder(&base)) {
                // Its term may be over on our clock, but nobody has taken it.
                (Some(record), _) if self.lock.is_some() => self.leases.renew(record).await,
                (Some(record), Some(holder)) if holder == self.lock_holder() => {
                    self.leases.renew(record).await
                }
                (record, None) => self.leases.take(&base, record, &self.lock_holder()).await,
                (_, Some(_)) => return Ok(()),
            };

            match renewed {
                Ok(record) => {
                    let until = written + RENEW_WITHIN;
                    self.lock = Some(Locked { transitions: transitions(&record), until });
                    self.records.written(record);
                    return Ok(());
                }
                Err(Error::Conflict) => match self.leases.get_base().await? {
                    Some(record) => self.records.written(record),
                    None => self.records.deleted(&base),
                },
                Err(error) => return Err(error),
            }

            if self.lock.is_some() && !self.has_lock() {
                self.notice_losses();
                return Ok(());
            }
        }
        Ok(())
    }

    /// Releases the lock if this replica was the last one.
    pub(super) async fn release_lock(&mut self) -> Result<(), Error> {
        let records = self.leases.list().await?;
        self.records.read(records, Instant::now());
        let layout = self.assignment.layout();
        let is_held = |shard| self.records.holder(&self.leases.of_shard(shard, layout)).is_some();
        if !self.has_lock() || (0..layout.shards()).any(is_held) {
            return Ok(());
        }
        match self.records.get(self.leases.base()) {
            // Another replica that renews it meanwhile is the last one.
            Some(record) => match self.leases.release(record).await {
                Ok(_) | Err(Error::Conflict) => Ok(()),
                Err(error) => Err(error),
            },
            None => Ok(()),
        }
    }
}
