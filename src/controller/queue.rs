//! The table of waiting work, and the decision which of it gets the next place. Pure: no clock, no
//! tasks, no I/O.
//!
//! The order of the decision:
//! 1. The class: new specs first, periodic checks last. One place in [`OVERDUE_TURN`] goes to the
//!    class whose oldest work has waited longer than [`PATIENCE`], so that nothing starves.
//! 2. The namespace, in turn. A namespace that has more work waiting than all others together pays
//!    [`CROWD_COST`] turns for one place.
//! 3. The source hosts, in turn. A host that keeps [`Limits::per_host`] jobs waiting gets no more.
//! 4. The order of arrival.

mod lane;

use std::collections::HashMap;
use std::time::Duration;

use strum::{IntoStaticStr, VariantArray};
use tokio::time::Instant;

use self::lane::Lane;

/// Wait after which work of any class counts as overdue.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// One place in this number goes to overdue work, so new work keeps three quarters of the places.
const OVERDUE_TURN: u64 = 4;
/// Turns that a place costs a namespace with more waiting work than all others together. The others
/// keep seven eighths of the places, so such a crowd delays them by at most a seventh.
const CROWD_COST: u64 = 8;

/// The kind of waiting work, in the order in which it gets places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub(super) enum Class {
    /// A new resource, a new generation, or a deletion.
    Changed,
    /// A request, or a change outside of the resource.
    OnDemand,
    /// A pass after a failed one.
    Retry,
    /// A periodic check.
    Periodic,
}

/// Bounds of the places that one party may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Places in all.
    pub(super) places: usize,
}

/// Work that waits for a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    /// Namespace of the resource.
    pub(super) namespace: String,
    /// Hosts that the work reads from, without duplicates.
    pub(super) hosts: Vec<String>,
    pub(super) class: Class,
    /// Time of arrival.
    pub(super) since: Instant,
}

/// The identity of work. A later arrival has a greater number.
pub(super) type Id = u64;

#[derive(Debug)]
enum Job {
    Waiting(Waiting),
    Running,
}

/// Waiting and running work.
#[derive(Debug)]
pub(super) struct Queue {
    limits: Limits,
    jobs: HashMap<Id, Job>,
    /// Waiting work by class, in the order of [`Class`].
    lanes: [Lane; Class::VARIANTS.len()],
    taken: usize,
    /// Number of places given so far.
    given: u64,
}

impl Queue {
    pub(super) fn new(limits: Limits) -> Self {
        let lanes = std::array::from_fn(|_| Lane::default());
        Self { limits, jobs: HashMap::new(), lanes, taken: 0, given: 0 }
    }

    /// Adds work.
    pub(super) fn add(&mut self, id: Id, waiting: Waiting) {
        self.lanes[waiting.class as usize].add(id, &waiting);
        self.jobs.insert(id, Job::Waiting(waiting));
    }

    /// Moves waiting work to a class that is served earlier. Its time of arrival stays.
    pub(super) fn promote(&mut self, id: Id, class: Class) {
        let Some(Job::Waiting(waiting)) = self.jobs.get_mut(&id) else { return };
        if class < waiting.class {
            self.lanes[waiting.class as usize].remove(id, waiting);
            waiting.class = class;
            self.lanes[class as usize].add(id, waiting);
        }
    }

    /// Removes work. A place that it has is free again.
    pub(super) fn remove(&mut self, id: Id) {
        match self.jobs.remove(&id) {
            Some(Job::Waiting(waiting)) => self.lanes[waiting.class as usize].remove(id, &waiting),
            Some(Job::Running) => self.taken -= 1,
            None => {}
        }
    }

    /// Gives a place to the work whose turn it is, if a place is free.
    pub(super) fn next(&mut self, now: Instant) -> Option<Id> {
        if self.taken >= self.limits.places {
            return None;
        }

        let overdue = self.overdue(now);
        let id = overdue.into_iter().chain(0..self.lanes.len()).find_map(|index| {
            let lane = &mut self.lanes[index];
            lane.take()
        })?;

        self.jobs.insert(id, Job::Running);
        self.taken += 1;
        self.given += 1;
        Some(id)
    }

    /// Returns the class that has waited longest, if it is overdue and it is the turn of overdue
    /// work.
    fn overdue(&self, now: Instant) -> Option<usize> {
        if self.given % OVERDUE_TURN != OVERDUE_TURN - 1 {
            return None;
        }
        let oldest = |(index, lane): (usize, &Lane)| Some((lane.oldest()?, index));
        let (since, index) = self.lanes.iter().enumerate().filter_map(oldest).min()?;
        (now.duration_since(since) > PATIENCE).then_some(index)
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
