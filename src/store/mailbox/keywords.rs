//! Keyword names of a mailbox, and the sets of them that its rows have.

use std::sync::Arc;

use hashbrown::HashMap;

/// Names in order of first use.
#[derive(Clone)]
pub(super) struct Keywords {
    pub names: Vec<Arc<str>>,
    by_name: HashMap<String, u32>,
    pub sets: Vec<Box<[u32]>>,
    by_set: HashMap<Box<[u32]>, u32>,
}

impl Default for Keywords {
    fn default() -> Self {
        let none: Box<[u32]> = Box::default();
        Keywords {
            names: Vec::new(),
            by_name: HashMap::new(),
            sets: vec![none.clone()],
            by_set: HashMap::from_iter([(none, 0)]),
        }
    }
}

impl Keywords {
    /// As a snapshot has them: the number of a set is its place.
    pub fn of(names: &[&str], sets: Vec<Box<[u32]>>) -> Self {
        let mut keywords = Keywords {
            names: Vec::new(),
            by_name: HashMap::new(),
            sets: Vec::new(),
            by_set: HashMap::new(),
        };
        for name in names {
            keywords.name(name);
        }
        for set in sets {
            keywords.push(set);
        }
        keywords
    }

    /// Names without sets of them.
    pub fn named(names: &[String]) -> Self {
        let mut keywords = Keywords::default();
        names.iter().for_each(|name| {
            keywords.name(name);
        });
        keywords
    }

    fn name(&mut self, name: &str) -> u32 {
        let lower = name.to_ascii_lowercase();
        if let Some(&id) = self.by_name.get(&lower) {
            return id;
        }
        let id = self.names.len() as u32;
        self.names.push(Arc::from(name));
        self.by_name.insert(lower, id);
        id
    }

    fn push(&mut self, ids: Box<[u32]>) -> u32 {
        let set = self.sets.len() as u32;
        self.sets.push(ids.clone());
        self.by_set.insert(ids, set);
        set
    }

    /// The number of a set. The names are shared with snapshots, and so copied where one is new.
    pub fn set(keywords: &mut Arc<Keywords>, names: &[String]) -> u32 {
        if names.is_empty() {
            return 0;
        }
        let known = |name: &String| {
            let lower = name.to_ascii_lowercase();
            keywords.by_name.get(&lower).copied()
        };
        let ids = match names.iter().map(known).collect() {
            Some(ids) => ordered(ids),
            None => {
                let own = Arc::make_mut(keywords);
                ordered(names.iter().map(|name| own.name(name)).collect())
            }
        };
        match keywords.by_set.get(&ids) {
            Some(&set) => set,
            None => Arc::make_mut(keywords).push(ids),
        }
    }
}

fn ordered(mut ids: Vec<u32>) -> Box<[u32]> {
    ids.sort_unstable();
    ids.dedup();
    ids.into_boxed_slice()
}
