//! A hash map in copy-on-write pieces, so that publishing a changed directory costs what changed.
//!
//! A clone shares every bucket; a change copies the one bucket it touches, and only if somebody
//! else still holds it. Importing ten thousand users between two publications copies each bucket
//! once. Two maps that descend from one another are compared bucket by bucket, by pointer first.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashMap};

/// Buckets of a map; at 100,000 entries a change copies about a hundred.
const BUCKETS: usize = 1024;

type Bucket<K, V> = Arc<HashMap<K, V>>;

#[derive(Clone)]
pub struct Buckets<K, V> {
    hasher: DefaultHashBuilder,
    // Two levels: a clone of the whole copies one pointer.
    table: Arc<Vec<Bucket<K, V>>>,
    len: usize,
}

impl<K: Hash + Eq + Clone, V: Clone + PartialEq> Buckets<K, V> {
    pub fn new() -> Self {
        Self::with_hasher(DefaultHashBuilder::default())
    }

    fn with_hasher(hasher: DefaultHashBuilder) -> Self {
        let empty: Bucket<K, V> = Arc::new(HashMap::new());
        Buckets {
            hasher,
            table: Arc::new(vec![empty; BUCKETS]),
            len: 0,
        }
    }

    /// An empty map of the same descent.
    pub fn emptied(&self) -> Self {
        Self::with_hasher(self.hasher.clone())
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.table[self.place(key)].get(key)
    }

    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let place = self.place(&key);
        let table = Arc::make_mut(&mut self.table);
        let old = Arc::make_mut(&mut table[place]).insert(key, value);
        self.len += usize::from(old.is_none());
        old
    }

    pub fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let place = self.place(key);
        if !self.table[place].contains_key(key) {
            return None;
        }
        let table = Arc::make_mut(&mut self.table);
        let old = Arc::make_mut(&mut table[place]).remove(key);
        self.len -= usize::from(old.is_some());
        old
    }

    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.table.iter().flat_map(|bucket| bucket.iter())
    }

    /// What turns `old` into `self`: each key whose value is not the same, with both values.
    /// `old` must be an ancestor or a descendant: maps of one descent share one hasher, so a key
    /// is in the same bucket of both.
    pub fn diff(&self, old: &Self, mut each: impl FnMut(&K, Option<&V>, Option<&V>)) {
        if Arc::ptr_eq(&self.table, &old.table) {
            return;
        }
        for (new_bucket, old_bucket) in self.table.iter().zip(old.table.iter()) {
            if Arc::ptr_eq(new_bucket, old_bucket) {
                continue;
            }
            for (key, was) in old_bucket.iter() {
                match new_bucket.get(key) {
                    Some(now) if now == was => {}
                    now => each(key, Some(was), now),
                }
            }
            for (key, now) in new_bucket.iter() {
                if !old_bucket.contains_key(key) {
                    each(key, None, Some(now));
                }
            }
        }
    }

    fn place<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        // The map inside takes its own bits of its own hash; any slice of ours will do.
        usize::try_from(self.hasher.hash_one(key) >> 32).unwrap_or(0) % BUCKETS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_keeps_what_it_saw_and_the_difference_is_what_changed() {
        let mut map: Buckets<String, u32> = Buckets::new();
        for n in 0..5000 {
            map.insert(format!("user{n}"), n);
        }
        let before = map.clone();
        map.insert("user7".into(), 70);
        map.insert("new".into(), 1);
        assert_eq!(map.remove("user8"), Some(8));
        assert_eq!(map.remove("nobody"), None);
        assert_eq!(
            (before.get("user7"), map.get("user7")),
            (Some(&7), Some(&70))
        );
        assert_eq!((before.len(), map.len()), (5000, 5000));
        let mut seen = Vec::new();
        map.diff(&before, |key, was, now| {
            seen.push((key.clone(), was.copied(), now.copied()));
        });
        seen.sort();
        assert_eq!(
            seen,
            [
                ("new".into(), None, Some(1)),
                ("user7".into(), Some(7), Some(70)),
                ("user8".into(), Some(8), None),
            ]
        );
        assert_eq!(map.iter().count(), map.len());
    }
}
