//! A map of bounded size, for caches whose entries can be fetched again at the cost of a request.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// A map that is emptied when it is full. Entries in use come back with the next request, and
/// nothing has to be tracked for each entry.
#[derive(Debug)]
pub(crate) struct BoundedMap<K, V> {
    entries: HashMap<K, V>,
    max: usize,
}

impl<K: Eq + Hash, V> BoundedMap<K, V> {
    pub(crate) fn new(max: usize) -> Self {
        Self { entries: HashMap::new(), max }
    }

    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.entries.get(key)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.make_room(&key);
        self.entries.insert(key, value);
    }

    pub(crate) fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        self.make_room(&key);
        self.entries.entry(key).or_insert_with(make)
    }

    fn make_room(&mut self, key: &K) {
        if self.entries.len() >= self.max && !self.entries.contains_key(key) {
            self.entries.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_map_is_emptied_for_a_new_key_only() {
        let mut map = BoundedMap::new(2);
        map.insert("a", 1);
        map.insert("b", 2);
        map.insert("b", 3);
        assert_eq!((map.get("a"), map.get("b")), (Some(&1), Some(&3)));

        assert_eq!(*map.get_or_insert_with("b", || 4), 3);
        assert_eq!(*map.get_or_insert_with("c", || 5), 5);
        assert_eq!((map.get("a"), map.get("b")), (None, None));
    }
}
