//! Maps of bounded size, for caches whose entries can be fetched again at the cost of a request.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// A map of at most `MAX` entries that is emptied when it is full. Entries in use come back with the
/// next request, and nothing has to be tracked for each entry.
#[derive(Debug)]
pub(crate) struct BoundedMap<K, V, const MAX: usize>(HashMap<K, V>);

impl<K, V, const MAX: usize> Default for BoundedMap<K, V, MAX> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash, V, const MAX: usize> BoundedMap<K, V, MAX> {
    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.0.get(key)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.make_room(&key);
        self.0.insert(key, value);
    }

    pub(crate) fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        self.make_room(&key);
        self.0.entry(key).or_insert_with(make)
    }

    fn make_room(&mut self, key: &K) {
        if self.0.len() >= MAX && !self.0.contains_key(key) {
            self.0.clear();
        }
    }
}

/// A cache of at most `max` bytes, keys and bookkeeping included. The entries that were not used
/// for the longest time are removed first.
#[derive(Debug)]
pub(crate) struct Cache<K, V> {
    entries: HashMap<K, Entry<V>>,
    max: usize,
    bytes: usize,
    /// Counts the uses.
    clock: u64,
    /// Whether an entry is in use and must stay: removing it would free no memory.
    is_in_use: fn(&V) -> bool,
    /// Entries that were not used for this long are removed when another one is added.
    longest_idle: Duration,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    bytes: usize,
    used: u64,
    used_at: Instant,
}

impl<K: Clone + Eq + Hash, V> Cache<K, V> {
    /// Bytes of bookkeeping for an entry, besides the key and the value.
    const OVERHEAD: usize = 64 + size_of::<K>() + size_of::<Entry<V>>();

    pub(crate) fn new(max: usize) -> Self {
        Self::with_use(max, |_| false)
    }

    /// A cache whose entries stay while `is_in_use`.
    pub(crate) fn with_use(max: usize, is_in_use: fn(&V) -> bool) -> Self {
        let longest_idle = Duration::MAX;
        Self { entries: HashMap::new(), max, bytes: 0, clock: 0, is_in_use, longest_idle }
    }

    /// Removes entries that were not used for this long, too.
    pub(crate) fn without_idle(self, longest_idle: Duration) -> Self {
        Self { longest_idle, ..self }
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<&V> {
        self.clock += 1;
        let entry = self.entries.get_mut(key)?;
        (entry.used, entry.used_at) = (self.clock, Instant::now());
        Some(&entry.value)
    }

    /// Adds a value, whose heap and that of its key have `bytes`.
    pub(crate) fn insert(&mut self, key: K, value: V, bytes: usize) {
        self.clock += 1;
        let bytes = bytes.saturating_add(Self::OVERHEAD);
        let now = Instant::now();
        let (longest, is_in_use) = (self.longest_idle, self.is_in_use);
        let is_idle = |_: &K, entry: &mut Entry<V>| {
            now.duration_since(entry.used_at) > longest && !is_in_use(&entry.value)
        };
        self.bytes -= self.entries.extract_if(is_idle).map(|(_, entry)| entry.bytes).sum::<usize>();

        let entry = Entry { value, bytes, used: self.clock, used_at: now };
        if let Some(before) = self.entries.insert(key, entry) {
            self.bytes -= before.bytes;
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.shrink();
    }

    pub(crate) fn get_or_insert_with(&mut self, key: K, bytes: usize, make: impl FnOnce() -> V) -> V
    where
        V: Clone,
    {
        if let Some(value) = self.get(&key) {
            return value.clone();
        }
        let value = make();
        self.insert(key, value.clone(), bytes);
        value
    }

    /// Changes the bytes of an entry, if it is there.
    pub(crate) fn resize(&mut self, key: &K, bytes: usize) {
        if let Some(entry) = self.entries.get_mut(key) {
            let bytes = bytes.saturating_add(Self::OVERHEAD);
            self.bytes = (self.bytes - entry.bytes).saturating_add(bytes);
            entry.bytes = bytes;
            self.shrink();
        }
    }

    /// Removes entries until an eighth of the room is free, so that this is not done each time. The
    /// entry that was used last stays.
    fn shrink(&mut self) {
        if self.bytes <= self.max {
            return;
        }
        let idle = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.used != self.clock && !(self.is_in_use)(&entry.value));
        let mut idle: Vec<_> = idle.map(|(key, entry)| (entry.used, key.clone())).collect();
        idle.sort_unstable_by_key(|(used, _)| *used);

        for (_, key) in idle {
            if self.bytes <= self.max / 8 * 7 {
                return;
            }
            self.bytes -= self.entries.remove(&key).map_or(0, |entry| entry.bytes);
        }
    }

    /// Returns the bytes of all entries.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_entries_that_were_not_used_for_the_longest_time_go_first() {
        let room = Cache::<u32, u32>::OVERHEAD + 1000;
        let mut cache = Cache::new(8 * room);
        for key in 0..8 {
            cache.insert(key, key, 1000);
        }
        assert_eq!(cache.get(&0), Some(&0));
        assert_eq!(cache.bytes(), 8 * room);

        cache.insert(8, 8, 1000);
        let kept: Vec<u32> = (0..9).filter(|key| cache.entries.contains_key(key)).collect();
        assert_eq!((kept, cache.bytes()), (vec![0, 3, 4, 5, 6, 7, 8], 7 * room));
        cache.insert(8, 9, 0);
        assert_eq!(cache.get(&8), Some(&9));
        assert_eq!(cache.bytes(), 7 * room - 1000);
        assert_eq!(cache.get_or_insert_with(8, 0, || 10), 9);
    }

    #[tokio::test(start_paused = true)]
    async fn entries_that_are_idle_for_too_long_go_with_the_next_new_one() {
        let longest = Duration::from_secs(300);
        let mut cache = Cache::new(1_000_000).without_idle(longest);
        cache.insert("rotated", 1, 1000);
        cache.insert("in use", 2, 1000);
        tokio::time::advance(longest).await;
        assert_eq!(cache.get(&"in use"), Some(&2));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(cache.entries.len(), 2, "nothing was added");

        cache.insert("new", 3, 1000);
        assert_eq!(cache.get(&"rotated"), None);
        assert_eq!(cache.get(&"in use"), Some(&2));
        assert_eq!(cache.bytes(), 2 * (1000 + Cache::<&str, i32>::OVERHEAD));
    }

    #[test]
    fn entries_in_use_and_the_last_one_stay() {
        let mut cache = Cache::with_use(1000, |value: &Arc<u32>| Arc::strong_count(value) > 1);
        let in_use = cache.get_or_insert_with(0, 2000, || Arc::new(0));
        cache.insert(1, Arc::new(1), 10);
        cache.resize(&1, 5000);
        assert!(cache.get(&0).is_some() && cache.get(&1).is_some());

        drop(in_use);
        cache.insert(2, Arc::new(2), 5000);
        assert!(cache.get(&0).is_none() && cache.get(&1).is_none() && cache.get(&2).is_some());
    }

    #[test]
    fn keys_without_end_take_no_more_than_the_room() {
        let mut cache = Cache::new(1_000_000);
        for key in 0..100_000_u32 {
            cache.insert(key, (), 100);
            assert!(cache.bytes() <= 1_000_000);
        }
    }

    #[test]
    fn a_full_map_is_emptied_for_a_new_key_only() {
        let mut map = BoundedMap::<_, _, 2>::default();
        map.insert("a", 1);
        map.insert("b", 2);
        map.insert("b", 3);
        assert_eq!((map.get("a"), map.get("b")), (Some(&1), Some(&3)));

        assert_eq!(*map.get_or_insert_with("b", || 4), 3);
        assert_eq!(*map.get_or_insert_with("c", || 5), 5);
        assert_eq!((map.get("a"), map.get("b")), (None, None));
    }
}
