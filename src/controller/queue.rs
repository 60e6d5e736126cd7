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
//!
//! Work that announces bytes begins only if there is room for them ([`Limits::bytes`]). If there is
//! none, the turn is kept for it: smaller work behind it does not overtake it.
//!
//! Work that only waits steps aside: its place is free for other work, and it takes it back as soon
//! as it goes on, even if no place is free. Then no new work begins until enough has ended. So work
//! that has begun is always ahead, and never waits for a place while others wait for it.

mod lane;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use strum::{IntoStaticStr, VariantArray};
use tokio::time::Instant;

use self::lane::{Lane, Turn};

/// Wait after which work of any class counts as overdue.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// One place in this number goes to overdue work, so new work keeps three quarters of the places.
const OVERDUE_TURN: u64 = 4;
/// Turns that a place costs a namespace with more waiting work than all others together. The others
/// keep seven eighths of the places, so such a crowd delays them by at most a seventh.
const CROWD_COST: u64 = 8;

/// The host of work that waits for a rate limit of AWS. No source is called so.
const AWS: &str = "";

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

/// Bounds of the places that work may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Places in all.
    pub(super) places: usize,
    /// Places of one namespace.
    pub(super) per_namespace: usize,
    /// Work that has begun and has not ended: in places, or aside.
    pub(super) begun: usize,
    /// Work that waits aside for one host. Work that reads from it would only wait with it.
    pub(super) per_host: usize,
    /// Announced bytes of the work that has places.
    pub(super) bytes: u64,
    /// The same for one namespace. Work that announces more counts as this much, so that it has room
    /// as soon as its namespace has nothing else on the way.
    pub(super) bytes_per_namespace: u64,
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
    /// Bytes that the work announces; 0 where they do not count.
    pub(super) bytes: u64,
}

impl Waiting {
    /// Returns the hosts of the work that stand for `host`. If none does, as with a mirror, the work
    /// waits for all of them.
    fn matching(&self, host: &str) -> Vec<String> {
        let is_host = |key: &&String| {
            key.strip_prefix(host).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        };
        let matching: Vec<_> = self.hosts.iter().filter(is_host).cloned().collect();
        if matching.is_empty() { self.hosts.clone() } else { matching }
    }
}

/// The reason for which work has no place although it has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait<'a> {
    /// A wait for a host.
    Host(&'a str),
    /// A wait for a rate limit of AWS. More work would only wait with it, so no more than there are
    /// places waits aside.
    RateLimit,
    /// A wait for a place in another queue, or work there.
    OtherQueue,
}

/// The identity of work. A later arrival has a greater number.
pub(super) type Id = u64;

/// Work in the table.
#[derive(Debug)]
struct Job {
    work: Waiting,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Running,
    /// Without a place, waiting for these hosts.
    Aside(Vec<String>),
}

/// The work of one namespace that has begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Begun {
    places: usize,
    all: usize,
    /// Announced bytes of the work that has places.
    bytes: u64,
}

/// Waiting and running work.
#[derive(Debug)]
pub(super) struct Queue {
    limits: Limits,
    jobs: HashMap<Id, Job>,
    /// Waiting work by class, in the order of [`Class`].
    lanes: [Lane; Class::VARIANTS.len()],
    taken: usize,
    /// Announced bytes of the work that has places.
    bytes: u64,
    /// Work that has begun, by namespace.
    begun: HashMap<String, Begun>,
    /// Work that waits aside, by host.
    aside: HashMap<String, usize>,
    /// Number of places given so far.
    given: u64,
}

impl Queue {
    pub(super) fn new(limits: Limits) -> Self {
        let lanes = std::array::from_fn(|_| Lane::default());
        Self {
            limits,
            jobs: HashMap::new(),
            lanes,
            taken: 0,
            bytes: 0,
            begun: HashMap::new(),
            aside: HashMap::new(),
            given: 0,
        }
    }

    /// Adds work.
    pub(super) fn add(&mut self, id: Id, mut work: Waiting) {
        work.bytes = work.bytes.min(self.limits.bytes_per_namespace);
        self.lanes[work.class as usize].add(id, &work);
        self.jobs.insert(id, Job { work, state: State::Waiting });
    }

    /// Moves waiting work to a class that is served earlier. Its time of arrival stays.
    pub(super) fn promote(&mut self, id: Id, class: Class) {
        let Some(Job { work, state: State::Waiting }) = self.jobs.get_mut(&id) else { return };
        if class < work.class {
            self.lanes[work.class as usize].remove(id, work);
            work.class = class;
            self.lanes[class as usize].add(id, work);
        }
    }

    /// Returns work in any state.
    pub(super) fn work(&self, id: Id) -> Option<&Waiting> {
        self.jobs.get(&id).map(|job| &job.work)
    }

    /// Removes work. A place that it has is free again.
    pub(super) fn remove(&mut self, id: Id) {
        self.take_back(id);
        let Some(Job { work, state }) = self.jobs.remove(&id) else { return };
        if state == State::Waiting {
            return self.lanes[work.class as usize].remove(id, &work);
        }

        self.taken -= 1;
        self.bytes -= work.bytes;
        if let Some(begun) = self.begun.get_mut(&work.namespace) {
            begun.places -= 1;
            begun.bytes -= work.bytes;
            begun.all -= 1;
            if begun.all == 0 {
                self.begun.remove(&work.namespace);
            }
        }
    }

    /// Frees the place of running work that waits. Returns whether it has stepped aside.
    pub(super) fn step_aside(&mut self, id: Id, wait: Wait<'_>) -> bool {
        let Some(Job { work, state: state @ State::Running }) = self.jobs.get_mut(&id) else {
            return false;
        };
        let hosts = match wait {
            Wait::Host(host) => work.matching(host),
            Wait::RateLimit if self.aside.get(AWS) >= Some(&self.limits.places) => return false,
            Wait::RateLimit => vec![AWS.to_owned()],
            Wait::OtherQueue => Vec::new(),
        };
        for host in &hosts {
            *self.aside.entry(host.clone()).or_default() += 1;
        }

        *state = State::Aside(hosts);
        self.taken -= 1;
        self.bytes -= work.bytes;
        if let Some(begun) = self.begun.get_mut(&work.namespace) {
            begun.places -= 1;
            begun.bytes -= work.bytes;
        }
        true
    }

    /// Takes the place of work that had stepped aside, even if none is free.
    pub(super) fn take_back(&mut self, id: Id) {
        let Some(Job { work, state: state @ State::Aside(_) }) = self.jobs.get_mut(&id) else {
            return;
        };
        let State::Aside(hosts) = std::mem::replace(state, State::Running) else { return };
        for host in hosts {
            if let Some(count) = self.aside.get_mut(&host) {
                *count -= 1;
                if *count == 0 {
                    self.aside.remove(&host);
                }
            }
        }

        self.taken += 1;
        self.bytes += work.bytes;
        if let Some(begun) = self.begun.get_mut(&work.namespace) {
            begun.places += 1;
            begun.bytes += work.bytes;
        }
    }

    /// Gives a place to the work whose turn it is, if a place is free.
    pub(super) fn next(&mut self, now: Instant) -> Option<Id> {
        let all: usize = self.begun.values().map(|begun| begun.all).sum();
        if self.taken >= self.limits.places || all >= self.limits.begun {
            return None;
        }

        let (index, turn) = self.turn(now)?;
        self.lanes[index].serve(&turn);
        let id = turn.id();
        let job = self.jobs.get_mut(&id)?;
        job.state = State::Running;
        let begun = self.begun.entry(job.work.namespace.clone()).or_default();
        begun.places += 1;
        begun.bytes += job.work.bytes;
        begun.all += 1;
        self.taken += 1;
        self.bytes += job.work.bytes;
        self.given += 1;
        Some(id)
    }

    /// Returns the work whose turn it is, with the index of its lane.
    fn turn(&self, now: Instant) -> Option<(usize, Turn)> {
        let Self { limits, begun, aside, lanes, jobs, .. } = self;
        let overdue = self.overdue(now);
        let mut full = BTreeSet::new();
        loop {
            let is_open = |namespace: &str, hosts: &[String]| {
                let begun = begun.get(namespace).copied().unwrap_or_default();
                // A namespace can fill half of the table, so the others can always begin.
                begun.places < limits.per_namespace
                    && begun.all < limits.begun.div_ceil(2)
                    && hosts.iter().all(|host| aside.get(host).is_none_or(|n| *n < limits.per_host))
                    && !full.contains(namespace)
            };
            let mut order = overdue.into_iter().chain(0..lanes.len());
            let (index, turn) =
                order.find_map(|index| Some((index, lanes[index].turn(is_open)?)))?;

            let bytes = jobs.get(&turn.id()).map_or(0, |job| job.work.bytes);
            let of_namespace = begun.get(&turn.namespace).map_or(0, |begun| begun.bytes);
            if of_namespace + bytes > limits.bytes_per_namespace {
                full.insert(turn.namespace);
            } else if self.bytes + bytes > limits.bytes {
                return None;
            } else {
                return Some((index, turn));
            }
        }
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
mod long_copies;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
