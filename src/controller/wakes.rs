//! The resources that are reconciled next: now, in the order in which they were woken, or later.
//!
//! There are two queues. Changes and ended passes are first: they do not wait behind thousands of
//! resources that a list or a check brings. One reconcile in [`NORMAL_TURN`] is for the others, so
//! that nothing starves.
//!
//! A resource is in the queue at most once, and its reconciles never overlap: a resource that is
//! woken during its reconcile is queued when that ends. A sooner time replaces a later one.
//!
//! kube-runtime's scheduler is not used: it takes the resources of a burst from a hash set, in any
//! order, so some of 10,000 new resources would wait to the end for their first reconcile.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::action::Action;
use super::key::Key;

/// One reconcile in this number is for the second queue, if it has any.
const NORMAL_TURN: u64 = 4;

/// Longest time until the next reconcile, so that it is always a valid time.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// The resources that are reconciled next. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Wakes {
    table: Arc<Mutex<Table<Key>>>,
    changed: Arc<Notify>,
}

impl Wakes {
    /// Queues resources, in this order.
    pub(super) fn wake(&self, keys: impl IntoIterator<Item = Key>) {
        self.wake_as(Rank::Normal, keys);
    }

    /// Queues resources that changed, or whose pass has ended, before those that did not.
    pub(super) fn wake_first(&self, keys: impl IntoIterator<Item = Key>) {
        self.wake_as(Rank::First, keys);
    }

    fn wake_as(&self, rank: Rank, keys: impl IntoIterator<Item = Key>) {
        let mut table = self.table.lock();
        keys.into_iter().for_each(|key| table.wake(key, rank));
        drop(table);
        self.changed.notify_one();
    }

    /// Waits for the next resource to reconcile. For one caller, which must call [`Self::ended`].
    pub(super) async fn next(&self) -> Key {
        loop {
            let next_wake = match self.table.lock().next(Instant::now()) {
                Next::Now(key) => return key,
                Next::At(time) => Some(time),
                Next::Never => None,
            };
            match next_wake {
                Some(time) => {
                    let _changed_or_late =
                        tokio::time::timeout_at(time, self.changed.notified()).await;
                }
                None => self.changed.notified().await,
            }
        }
    }

    /// Records the end of a reconcile, and when the resource is reconciled again.
    pub(super) fn ended(&self, key: Key, action: Action) {
        let wait = action.requeue_after().map(|wait| Instant::now() + wait.min(LONGEST));
        self.table.lock().ended(key, wait);
        self.changed.notify_one();
    }

    /// Whether a reconcile of the resource runs.
    pub(super) fn is_running(&self, key: &Key) -> bool {
        matches!(self.table.lock().states.get(key), Some(State::Running(_)))
    }

    /// Forgets when a resource is reconciled again: it does not exist.
    pub(super) fn forget(&self, key: &Key) {
        self.table.lock().forget(key);
    }
}

/// The next step of the only worker.
#[derive(Debug, PartialEq, Eq)]
enum Next<K> {
    /// A resource to reconcile.
    Now(K),
    /// Nothing before this time.
    At(Instant),
    /// Nothing until a resource is woken.
    Never,
}

/// The resources. Pure.
#[derive(Debug)]
struct Table<K> {
    states: HashMap<K, State>,
    /// The queued resources, each queue in order of arrival. A resource that is in the first one
    /// may also be in the second one, where it no longer counts.
    first: VecDeque<K>,
    normal: VecDeque<K>,
    /// Number of reconciles so far.
    turns: u64,
    /// The resources that are queued later. The number keeps resources of the same time apart.
    later: BTreeMap<(Instant, u64), K>,
    next_number: u64,
}

/// The queue of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rank {
    First,
    Normal,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Queued(Rank),
    /// Its place in [`Table::later`].
    Later(Instant, u64),
    Running(After),
}

/// The state of a resource after its running reconcile.
#[derive(Clone, Copy, Debug)]
enum After {
    /// As the result of the reconcile says.
    AsAsked,
    /// Queued: it was woken meanwhile.
    Queued(Rank),
    /// Forgotten meanwhile.
    Forgotten,
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self {
            states: HashMap::new(),
            first: VecDeque::new(),
            normal: VecDeque::new(),
            turns: 0,
            later: BTreeMap::new(),
            next_number: 0,
        }
    }
}

impl<K: Clone + Eq + Hash> Table<K> {
    fn wake(&mut self, key: K, rank: Rank) {
        match self.states.get_mut(&key) {
            Some(State::Queued(Rank::First)) => {}
            Some(State::Queued(Rank::Normal)) if rank == Rank::Normal => {}
            Some(State::Running(After::Queued(Rank::First))) => {}
            Some(State::Running(after)) => *after = After::Queued(rank),
            Some(State::Later(time, number)) => {
                self.later.remove(&(*time, *number));
                self.enqueue(key, rank);
            }
            Some(State::Queued(_)) | None => self.enqueue(key, rank),
        }
    }

    fn enqueue(&mut self, key: K, rank: Rank) {
        self.states.insert(key.clone(), State::Queued(rank));
        match rank {
            Rank::First => self.first.push_back(key),
            Rank::Normal => self.normal.push_back(key),
        }
    }

    /// Takes the next resource. It counts as running until [`Self::ended`].
    fn next(&mut self, now: Instant) -> Next<K> {
        while let Some(entry) = self.later.first_entry()
            && entry.key().0 <= now
        {
            let key = entry.remove();
            self.enqueue(key, Rank::Normal);
        }

        let is_normal = (self.turns + 1).is_multiple_of(NORMAL_TURN);
        let key = match is_normal {
            true => self.pop_normal().or_else(|| self.first.pop_front()),
            false => self.first.pop_front().or_else(|| self.pop_normal()),
        };
        match (key, self.later.first_key_value()) {
            (Some(key), _) => {
                self.turns += 1;
                self.states.insert(key.clone(), State::Running(After::AsAsked));
                Next::Now(key)
            }
            (None, Some(((time, _), _))) => Next::At(*time),
            (None, None) => Next::Never,
        }
    }

    fn pop_normal(&mut self) -> Option<K> {
        loop {
            let key = self.normal.pop_front()?;
            if matches!(self.states.get(&key), Some(State::Queued(Rank::Normal))) {
                return Some(key);
            }
        }
    }

    fn ended(&mut self, key: K, next: Option<Instant>) {
        match (self.states.remove(&key), next) {
            (Some(State::Running(After::Queued(rank))), _) => self.enqueue(key, rank),
            (Some(State::Running(After::AsAsked)), Some(time)) => {
                let number = self.next_number;
                self.next_number += 1;
                self.states.insert(key.clone(), State::Later(time, number));
                self.later.insert((time, number), key);
            }
            _ => {}
        }
    }

    fn forget(&mut self, key: &K) {
        match self.states.get_mut(key) {
            // It stays in the queue; its reconcile does nothing.
            Some(State::Queued(_)) | None => {}
            Some(State::Running(after)) => *after = After::Forgotten,
            Some(State::Later(time, number)) => {
                self.later.remove(&(*time, *number));
                self.states.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes all resources that are due.
    fn take(table: &mut Table<&'static str>, now: Instant) -> Vec<&'static str> {
        std::iter::from_fn(|| match table.next(now) {
            Next::Now(key) => Some(key),
            Next::At(_) | Next::Never => None,
        })
        .collect()
    }

    fn after(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_burst_is_taken_in_the_order_of_arrival_and_each_resource_once() {
        let mut table = Table::default();
        for key in ["c", "a", "b", "a", "c"] {
            table.wake(key, Rank::Normal);
        }
        assert_eq!(take(&mut table, Instant::now()), ["c", "a", "b"]);
    }

    #[test]
    fn a_resource_that_is_woken_during_its_reconcile_is_queued_behind_the_others_when_it_ends() {
        let now = Instant::now();
        let mut table = Table::default();
        table.wake("a", Rank::Normal);
        assert_eq!(take(&mut table, now), ["a"]);

        table.wake("a", Rank::Normal);
        table.wake("b", Rank::Normal);
        table.wake("a", Rank::Normal);
        assert_eq!(table.next(now), Next::Now("b"), "two reconciles of one resource never overlap");
        table.ended("a", Some(now + after(60)));
        assert_eq!(take(&mut table, now), ["a"]);
        table.ended("a", Some(now + after(60)));
        assert_eq!(table.next(now), Next::At(now + after(60)), "it was woken once");
    }

    #[test]
    fn resources_are_queued_again_when_their_time_comes_and_a_sooner_time_replaces_a_later_one() {
        let now = Instant::now();
        let mut table = Table::default();
        for key in ["a", "b", "c", "d"] {
            table.wake(key, Rank::Normal);
        }
        take(&mut table, now);
        for (key, wait) in [("a", Some(30)), ("b", Some(10)), ("c", Some(30)), ("d", None)] {
            table.ended(key, wait.map(|wait| now + after(wait)));
        }

        assert_eq!(table.next(now), Next::At(now + after(10)));
        table.wake("c", Rank::Normal);
        assert_eq!(take(&mut table, now + after(10)), ["c", "b"]);
        table.ended("c", Some(now + after(90)));
        assert_eq!(take(&mut table, now + after(60)), ["a"]);
        assert_eq!(table.next(now + after(60)), Next::At(now + after(90)));
    }

    #[test]
    fn changes_do_not_wait_behind_a_list_and_the_list_does_not_starve() {
        let now = Instant::now();
        let mut table = Table::default();
        for key in ["a", "b", "c", "d"] {
            table.wake(key, Rank::Normal);
        }
        for key in ["v", "w", "x", "y", "z"] {
            table.wake(key, Rank::First);
        }
        // A resource of the list changes.
        table.wake("c", Rank::First);
        table.wake("c", Rank::Normal);
        let taken = take(&mut table, now);
        assert_eq!(taken, ["v", "w", "x", "a", "y", "z", "c", "b", "d"]);

        // A change during its reconcile, and then a check.
        table.wake("a", Rank::First);
        table.wake("a", Rank::Normal);
        table.wake("b", Rank::Normal);
        table.ended("b", None);
        table.ended("a", None);
        assert_eq!(take(&mut table, now), ["a", "b"]);
    }

    #[test]
    fn a_resource_that_is_forgotten_leaves_nothing_behind() {
        let now = Instant::now();
        let mut table = Table::default();
        for key in ["later", "running", "queued"] {
            table.wake(key, Rank::Normal);
        }
        assert_eq!(table.next(now), Next::Now("later"));
        table.ended("later", Some(now + after(60)));
        assert_eq!(table.next(now), Next::Now("running"));

        for key in ["later", "running", "queued", "unknown"] {
            table.forget(&key);
        }
        table.ended("running", Some(now + after(60)));
        assert_eq!(table.next(now), Next::Now("queued"));
        table.ended("queued", None);
        assert_eq!(table.next(now), Next::Never);
        assert!(table.states.is_empty() && table.later.is_empty());
    }

    #[test]
    fn a_resource_that_is_created_again_during_the_reconcile_of_the_old_one_is_reconciled() {
        let now = Instant::now();
        let mut table = Table::default();
        table.wake("a", Rank::Normal);
        table.next(now);
        table.forget(&"a");
        table.wake("a", Rank::Normal);
        table.ended("a", None);
        assert_eq!(table.next(now), Next::Now("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_worker_sleeps_until_a_time_comes_or_a_resource_is_woken() {
        let key = |name| Key::new("ns", name);
        let wakes = Wakes::default();
        let start = Instant::now();
        wakes.wake([key("a")]);
        assert_eq!(wakes.next().await, key("a"));
        wakes.ended(key("a"), Action::requeue(after(3600)));

        let waker = wakes.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after(10)).await;
            waker.wake([key("b")]);
        });
        assert_eq!(wakes.next().await, key("b"));
        assert_eq!(start.elapsed(), after(10));
        wakes.ended(key("b"), Action::await_change());

        assert_eq!(wakes.next().await, key("a"));
        assert_eq!(start.elapsed(), after(3600));
        wakes.ended(key("a"), Action::requeue(Duration::MAX));
        assert!(tokio::time::timeout(after(1000), wakes.next()).await.is_err());
    }
}
