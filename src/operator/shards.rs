//! Shards (`--shards N`): every replica holds its fair share of N Leases, and works on the resources
//! of those shards.
//!
//! ```text
//! ecr-sync               "3 shards"     the lock on the layout, renewed by all that hold a shard
//! ecr-sync-shard-0-of-3  pod-a_…        the right to write to the repositories of a shard
//! ecr-sync-shard-1-of-3  pod-b_…
//! ecr-sync-shard-2-of-3  pod-a_…
//! ecr-sync-member-…-of-3 pod-a_…        a live replica: the shares depend on their number
//! ecr-sync-member-…-of-3 pod-b_…
//! ```
//!
//! A replica may write for a shard while it holds the Lease of the shard *and* the lock. The lock
//! keeps two layouts apart: replicas with another N, without shards, or of an older version compete
//! for the same Lease, and wait while its holder is `3 shards`.
//!
//! # The lock
//! Several processes renew the lock, so two rules replace the single holder:
//!
//! 1. A replica renews the lock only after it has written the Leases of its shards, and its right
//!    counts from before *those* writes. So whoever reads the lock as this replica wrote it, and then
//!    reads the Leases of the shards, sees a shard of this replica whose term outlives the right.
//! 2. The last replica to leave releases the lock only if no shard of the layout has a holder, in a
//!    list that was read with or after the record of the lock that it replaces. If another replica
//!    has renewed the lock since, the resourceVersion differs, and the release is refused.
//!
//! The lock may be lost and taken again while a process is frozen. `leaseTransitions` tells: it
//! changes only when the lock is taken, not when it is renewed. A replica that finds another number
//! gives up all its shards, because its jobs may act on what it has seen before.

mod decision;
mod leases;
mod lock;
mod records;
mod report;

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::coordination::v1::Lease as Record;
use kube::Api;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use self::decision::{Lock, State, View};
use self::leases::{Error, Leases};
use self::lock::Locked;
use self::records::{Records, holder};
use super::lease::{LONGEST_WRITE, RENEW_EVERY, RENEW_WITHIN, drain};
use super::server::Health;
use crate::shard::{Assignment, Shard};
use crate::telemetry::Liveness;
use crate::writes::Grant;

/// Time between two reads of the Leases.
const READ_EVERY: Duration = Duration::from_secs(1);
/// Age at which a Lease is renewed: every second round, even if that is early by some milliseconds.
const RENEW_AFTER: Duration = RENEW_EVERY.saturating_sub(Duration::from_millis(500));
/// Time for the end of the jobs of a shard. Without a right they write nothing, so a job that hangs
/// does not keep the shard.
const LONGEST_END: Duration = Duration::from_secs(5);

/// One replica.
pub(crate) struct Replica {
    leases: Leases,
    /// Unique to this process.
    identity: String,
    assignment: Assignment,
    /// The rights to write, by number of the shard.
    grants: Arc<[Grant]>,
    records: Records,
    held: BTreeMap<Shard, Held>,
    lock: Option<Locked>,
    /// Time before the last write of the Lease of this replica.
    registered: Option<Instant>,
    /// Shards that are given up, until their jobs have ended.
    departures: FuturesUnordered<BoxFuture<'static, Shard>>,
    /// Cancelled when the process stops and its writes to AWS have ended. Then the controller ends.
    drained: CancellationToken,
    /// Holder of the lock that this replica waits for.
    awaited: Option<String>,
    is_paused: bool,
}

/// A shard whose Lease this replica holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// Time before the last write of its Lease.
    renewed: Instant,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Working,
    /// Without the right to write, until its jobs have ended.
    Leaving,
    /// Ready to be released.
    Left,
}

/// A Lease that was written.
#[derive(Clone, Copy, Debug)]
enum Target {
    Member,
    Renewed(Shard),
    Taken(Shard),
}

impl Replica {
    /// Returns a replica that holds no shard. `base` is the name of the Lease that locks the layout.
    pub(super) fn new(
        api: Api<Record>,
        base: String,
        identity: String,
        assignment: Assignment,
        grants: Vec<Grant>,
    ) -> Self {
        Self {
            leases: Leases::new(api, base),
            identity,
            assignment,
            grants: grants.into(),
            records: Records::default(),
            held: BTreeMap::new(),
            lock: None,
            registered: None,
            departures: FuturesUnordered::new(),
            drained: CancellationToken::new(),
            awaited: None,
            is_paused: false,
        }
    }

    /// Returns the token that ends the controller. Cancelled when the process stops, but not before
    /// the writes to AWS that are under way have ended: another replica may work seconds later.
    pub(super) fn drained(&self) -> CancellationToken {
        self.drained.clone()
    }

    /// Holds the fair share of the shards until `done` is cancelled, then releases them. A replica
    /// that waits is ready; one that cannot read the Leases is not. Failures of a replica that works
    /// are reported to `liveness`: a restart would only end copies.
    pub(super) async fn run(
        mut self,
        done: &CancellationToken,
        stop: &CancellationToken,
        health: &Health,
        liveness: &Liveness,
    ) {
        let mut next = Instant::now();
        let (grants, drained) = (self.grants.clone(), self.drained.clone());
        let mut draining = pin!(async {
            stop.cancelled().await;
            drain(&grants).await;
            drained.cancel();
        });
        loop {
            tokio::select! {
                () = done.cancelled() => break,
                () = &mut draining, if !self.drained.is_cancelled() => {}
                Some(shard) = self.departures.next(), if !self.departures.is_empty() => {
                    self.left(shard).await;
                }
                () = sleep_until(next) => {
                    next = Instant::now() + READ_EVERY;
                    let result = self.round(stop).await;
                    self.report(result, stop.is_cancelled(), health, liveness);
                }
            }
        }
        self.leave().await;
    }

    /// Reads the Leases, decides, and writes them.
    async fn round(&mut self, stop: &CancellationToken) -> Result<(), Error> {
        let records = self.leases.list().await?;
        self.records.read(records, Instant::now());
        self.notice_losses();

        let view = self.view();
        let decision = view.decide();
        self.log_wait(view.lock);
        for shard in decision.give_up {
            tracing::info!(shard, "giving up a shard: another replica has fewer");
            self.give_up(shard, LONGEST_WRITE);
        }
        // A job that has begun in a former term must not write in the next.
        let is_free = |shard: &Shard| !self.assignment.is_worked_on(*shard);
        let take = decision.take.into_iter().filter(is_free).collect();

        let asked = Instant::now();
        let written = self.write(take, asked).await;
        let is_written = |held: &Held| held.renewed == asked && held.phase != Phase::Left;
        let locked = match self.held.values().any(is_written) {
            true => self.renew_lock().await,
            false => Ok(()),
        };
        if !stop.is_cancelled() {
            self.grant();
        }
        self.clean_up(&view.members).await;
        written.and(locked)
    }

    /// Gives up what other processes have taken, at once: their writes may have begun.
    fn notice_losses(&mut self) {
        if self.lock.is_some() && !self.has_lock() {
            tracing::error!(
                lease = self.leases.base(),
                "lost the Lease that locks the number of shards; giving up all shards"
            );
            self.lock = None;
            let working = self.held.iter().filter(|(_, held)| held.phase == Phase::Working);
            let working: Vec<_> = working.map(|(shard, _)| *shard).collect();
            working.into_iter().for_each(|shard| self.give_up(shard, Duration::ZERO));
        }

        let is_lost = |shard: &Shard| {
            let record = self.records.get(&self.leases.of_shard(*shard, self.assignment.layout()));
            record.map(holder) != Some(&self.identity)
        };
        let lost: Vec<_> = self.held.keys().copied().filter(is_lost).collect();
        for shard in lost {
            tracing::error!(shard, "another process holds the Lease of the shard");
            self.held.remove(&shard);
            self.grants[usize::from(shard)].revoke();
            self.assignment.withdraw(shard);
        }
    }

    fn view(&self) -> View {
        let lock = match self.records.holder(self.leases.base()) {
            _ if self.lock.is_some() => Lock::Ours,
            None => Lock::Free,
            Some(holder) if holder == self.lock_holder() => Lock::Ours,
            Some(_) => Lock::Other,
        };
        let layout = self.assignment.layout();
        let members = self.records.names().filter(|name| self.leases.is_member(name, layout));
        let members = members.filter_map(|name| self.records.holder(name));
        let state = |shard| match self.held.get(&shard).map(|held| held.phase) {
            Some(Phase::Working) => State::Mine,
            Some(Phase::Leaving | Phase::Left) => State::Leaving,
            None => match self.records.holder(&self.leases.of_shard(shard, layout)) {
                Some(holder) if holder != self.identity => State::Other(holder.to_owned()),
                // An own record: the answer to the write that took it was late.
                _ => State::Free,
            },
        };
        View {
            me: self.identity.clone(),
            lock,
            members: members.map(str::to_owned).collect(),
            shards: (0..layout.shards()).map(state).collect(),
        }
    }

    /// Begins to give up a shard. No write begins from now on; those under way have this time.
    fn give_up(&mut self, shard: Shard, longest_write: Duration) {
        let Some(held) = self.held.get_mut(&shard) else { return };
        held.phase = Phase::Leaving;
        self.grants[usize::from(shard)].revoke();

        let (grants, assignment) = (self.grants.clone(), self.assignment.clone());
        let departure = async move {
            let _late = timeout(longest_write, grants[usize::from(shard)].idle()).await;
            assignment.withdraw(shard);
            if timeout(LONGEST_END, assignment.left(shard)).await.is_err() {
                tracing::warn!(shard, "some jobs of the shard did not end in time");
            }
            shard
        };
        self.departures.push(departure.boxed());
    }

    /// Releases a shard whose jobs have ended.
    async fn left(&mut self, shard: Shard) {
        let Some(held) = self.held.get_mut(&shard) else { return };
        held.phase = Phase::Left;
        let name = self.leases.of_shard(shard, self.assignment.layout());
        let Some(record) = self.records.get(&name) else { return };
        match self.leases.release(record).await {
            Ok(record) => {
                self.records.written(record);
                self.held.remove(&shard);
                tracing::info!(shard, "released the shard");
            }
            // The next round sees the current record, and tries again.
            Err(error) => tracing::debug!(shard, %error, "cannot release the shard, retrying"),
        }
        if self.held.is_empty() {
            self.lock = None;
        }
    }

    /// Registers this replica, renews its shards, and takes others.
    async fn write(&mut self, take: Vec<Shard>, asked: Instant) -> Result<(), Error> {
        let layout = self.assignment.layout();
        let is_due = |renewed: Instant| asked.saturating_duration_since(renewed) >= RENEW_AFTER;
        let of_shard = |shard| self.leases.of_shard(shard, layout);

        let mut writes: Vec<BoxFuture<'_, (Target, Result<Record, Error>)>> = Vec::new();
        let name = self.leases.of_member(&self.identity, self.assignment.layout());
        match self.records.get(&name) {
            None => writes.push(self.taking(Target::Member, name)),
            Some(record) if self.registered.is_none_or(is_due) => {
                writes.push(self.renewing(Target::Member, record));
            }
            Some(_) => {}
        }
        // All together, since the right to write counts from the oldest renewal.
        let is_any_due = self.held.values().any(|held| is_due(held.renewed));
        for (&shard, held) in &self.held {
            let Some(record) = self.records.get(&of_shard(shard)) else { continue };
            if held.phase == Phase::Left {
                let release = self.leases.release(record);
                writes.push(release.map(move |r| (Target::Renewed(shard), r)).boxed());
            } else if is_any_due {
                writes.push(self.renewing(Target::Renewed(shard), record));
            }
        }
        for shard in take {
            writes.push(self.taking(Target::Taken(shard), of_shard(shard)));
        }

        let answers = join_all(writes).await;
        let mut result = Ok(());
        for (target, answer) in answers {
            match answer {
                Ok(record) => self.wrote(target, record, asked),
                // The next list shows who was faster.
                Err(Error::Conflict) => tracing::debug!(?target, "another process was faster"),
                Err(error) => result = Err(error),
            }
        }
        result
    }

    fn taking(
        &self,
        target: Target,
        name: String,
    ) -> BoxFuture<'_, (Target, Result<Record, Error>)> {
        let (leases, identity, record) = (&self.leases, &self.identity, self.records.get(&name));
        async move { (target, leases.take(&name, record, identity).await) }.boxed()
    }

    fn renewing<'a>(
        &'a self,
        target: Target,
        record: &'a Record,
    ) -> BoxFuture<'a, (Target, Result<Record, Error>)> {
        self.leases.renew(record).map(move |answer| (target, answer)).boxed()
    }

    fn wrote(&mut self, target: Target, record: Record, asked: Instant) {
        let is_released = holder(&record).is_empty();
        self.records.written(record);
        match target {
            Target::Member => self.registered = Some(asked),
            Target::Renewed(shard) if is_released => {
                self.held.remove(&shard);
                tracing::info!(shard, "released the shard");
            }
            Target::Renewed(shard) => {
                if let Some(held) = self.held.get_mut(&shard) {
                    held.renewed = asked;
                }
            }
            Target::Taken(shard) => {
                tracing::info!(shard, "acquired the shard");
                self.held.insert(shard, Held { renewed: asked, phase: Phase::Working });
            }
        }
    }

    /// Grants the rights to write, and assigns the shards that have one for the first time.
    fn grant(&mut self) {
        if self.held.is_empty() {
            self.lock = None;
        }
        let Some(locked) = self.lock else { return };
        let now = Instant::now();
        for (&shard, held) in self.held.iter().filter(|(_, held)| held.phase == Phase::Working) {
            let until = locked.until.min(held.renewed + RENEW_WITHIN);
            self.grants[usize::from(shard)].until(until);
            if until > now {
                self.assignment.assign(shard);
            }
        }
    }

    /// Deletes the Leases of replicas that died, and of shards of other layouts. One replica does it.
    async fn clean_up(&mut self, members: &[String]) {
        if self.lock.is_none() || members.iter().min() != Some(&self.identity) {
            return;
        }
        let layout = self.assignment.layout();
        let is_over = |name: &&str| {
            self.leases.is_temporary(name, layout) && self.records.holder(name).is_none()
        };
        let names: Vec<_> = self.records.names().filter(is_over).map(str::to_owned).collect();

        for name in names {
            let Some(record) = self.records.get(&name) else { continue };
            match self.leases.delete(record).await {
                Ok(()) => self.records.deleted(&name),
                Err(error) => tracing::debug!(lease = name, %error, "cannot delete the Lease"),
            }
        }
    }

    /// Releases everything. The controller has ended.
    async fn leave(mut self) {
        self.grants.iter().for_each(Grant::revoke);
        // The member first: then the others know their shares when the shards are free.
        let member = self.leases.of_member(&self.identity, self.assignment.layout());
        if let Some(record) = self.records.get(&member)
            && let Err(error) = self.leases.delete(record).await
        {
            tracing::warn!(%error, "cannot delete the Lease of this replica; it will expire");
        }

        let layout = self.assignment.layout();
        let names: Vec<_> =
            self.held.keys().map(|shard| self.leases.of_shard(*shard, layout)).collect();
        let releases = names.iter().filter_map(|name| self.records.get(name));
        for answer in join_all(releases.map(|record| self.leases.release(record))).await {
            match answer {
                Ok(_) => tracing::info!("released a shard"),
                Err(error) => tracing::warn!(%error, "cannot release a shard; it will expire"),
            }
        }

        if self.lock.is_some()
            && let Err(error) = self.release_lock().await
        {
            tracing::warn!(%error, "cannot release the lock on the shards; it will expire");
        }
    }
}

#[cfg(test)]
mod simulation;
