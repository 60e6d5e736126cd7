//! The waiting work of one class, in fair shares: namespaces in turn, in each the hosts in turn.
//!
//! Start-time fair queueing: each party has a clock that a place moves on, and the party with the
//! earliest clock is next. A party that arrives starts at the clock of the last one that was served,
//! so it neither waits for the others' backlog nor has credit from the time when it was idle.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::{CROWD_COST, Id, Waiting};

/// The waiting work of one class.
#[derive(Debug, Default)]
pub(super) struct Lane {
    namespaces: BTreeMap<String, Namespace>,
    arrivals: BTreeSet<(Instant, Id)>,
    clock: u64,
}

/// Work whose turn it is.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) namespace: String,
    hosts: Vec<String>,
    arrival: (Instant, Id),
}

impl Turn {
    pub(super) const fn id(&self) -> Id {
        self.arrival.1
    }
}

/// The waiting work of one namespace.
#[derive(Debug, Default)]
struct Namespace {
    clock: u64,
    /// Work by the hosts that it reads from.
    routes: BTreeMap<Vec<String>, Route>,
    hosts_clock: u64,
    waiting: usize,
}

/// The waiting work that reads from the same hosts, in order of arrival.
#[derive(Debug, Default)]
struct Route {
    clock: u64,
    arrivals: BTreeSet<(Instant, Id)>,
}

impl Lane {
    pub(super) fn add(&mut self, id: Id, waiting: &Waiting) {
        self.arrivals.insert((waiting.since, id));
        let clock = self.clock;
        let new = || Namespace { clock, ..Namespace::default() };
        let namespace = self.namespaces.entry(waiting.namespace.clone()).or_insert_with(new);

        namespace.waiting += 1;
        let clock = namespace.hosts_clock;
        let new = || Route { clock, ..Route::default() };
        let route = namespace.routes.entry(waiting.hosts.clone()).or_insert_with(new);
        route.arrivals.insert((waiting.since, id));
    }

    pub(super) fn remove(&mut self, id: Id, waiting: &Waiting) {
        self.arrivals.remove(&(waiting.since, id));
        self.remove_from(&waiting.namespace, &waiting.hosts, &(waiting.since, id));
    }

    fn remove_from(&mut self, name: &str, hosts: &[String], arrival: &(Instant, Id)) {
        let Some(namespace) = self.namespaces.get_mut(name) else { return };
        let Some(route) = namespace.routes.get_mut(hosts) else { return };
        if !route.arrivals.remove(arrival) {
            return;
        }

        namespace.waiting -= 1;
        if route.arrivals.is_empty() {
            namespace.routes.remove(hosts);
        }
        if namespace.waiting == 0 {
            self.namespaces.remove(name);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.arrivals.is_empty() && self.namespaces.is_empty()
    }

    /// Returns the arrival of the work that has waited longest.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.arrivals.first().map(|(since, _)| *since)
    }

    /// Takes the work whose turn it is out of the lane, and counts its place.
    pub(super) fn serve(&mut self, turn: &Turn) {
        let Turn { namespace: name, hosts, arrival } = turn;
        let all = self.arrivals.len();
        if let Some(namespace) = self.namespaces.get_mut(name) {
            let is_crowd = namespace.waiting * 2 > all;
            self.clock = self.clock.max(namespace.clock);
            namespace.clock = self.clock + if is_crowd { CROWD_COST } else { 1 };

            if let Some(route) = namespace.routes.get_mut(hosts) {
                namespace.hosts_clock = namespace.hosts_clock.max(route.clock);
                route.clock = namespace.hosts_clock + 1;
            }
        }

        self.arrivals.remove(arrival);
        self.remove_from(name, hosts, arrival);
    }

    /// Returns the work whose turn it is, among the namespaces and hosts that `is_open` names.
    pub(super) fn turn<'a>(&'a self, is_open: impl Fn(&str, &[String]) -> bool) -> Option<Turn> {
        let of_namespace = |(name, namespace): (&'a String, &'a Namespace)| {
            let (hosts, arrival) = namespace.turn(|hosts| is_open(name, hosts))?;
            Some((namespace.clock.max(self.clock), arrival, name, hosts))
        };
        let (_, arrival, name, hosts) = self.namespaces.iter().filter_map(of_namespace).min()?;
        Some(Turn { namespace: name.clone(), hosts: hosts.clone(), arrival })
    }
}

impl Namespace {
    /// Returns hosts and arrival of the work whose turn it is.
    fn turn(&self, is_open: impl Fn(&[String]) -> bool) -> Option<(&Vec<String>, (Instant, Id))> {
        let open = self.routes.iter().filter(|(hosts, _)| is_open(hosts));
        let of_route = |(hosts, route): (_, &Route)| {
            let arrival = *route.arrivals.first()?;
            Some((route.clock.max(self.hosts_clock), arrival, hosts))
        };
        let (_, arrival, hosts) = open.filter_map(of_route).min()?;
        Some((hosts, arrival))
    }
}
