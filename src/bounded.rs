//! A map of bounded size, for caches whose entries can be fetched again at the cost of a request.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

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

#[cfg(test)]
mod tests {
    use super::*;

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
