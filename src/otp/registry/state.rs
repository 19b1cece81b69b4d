//! Which key leads to what, and whose it is, as plain data.

use std::{collections::HashMap, hash::Hash};

use foldhash::fast::RandomState;

/// One who can own entries.
pub(super) trait Holder: Clone {
    type Id: Copy + Eq + Hash;

    fn id(&self) -> Self::Id;

    /// Whether it has ended for good, so that what it owned can be another's.
    fn is_gone(&self) -> bool;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item<O, V> {
    pub(super) owner: O,
    pub(super) value: V,
}

/// The entries by key, and the keys by owner. Nothing in it is empty.
#[derive(Debug)]
pub(super) struct Table<K, O: Holder, V> {
    /// The oldest first.
    entries: HashMap<K, Vec<Item<O, V>>, RandomState>,
    /// How often each has registered each of its keys.
    owners: HashMap<O::Id, HashMap<K, usize, RandomState>, RandomState>,
}

/// A key that is another's.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken<K, O> {
    pub(super) key: K,
    pub(super) owner: O,
}

/// What a registration has changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entered<O, V> {
    /// The owner had nothing here before.
    pub(super) is_new_owner: bool,
    /// What a dead owner had at the key.
    pub(super) taken_over: Option<Item<O, V>>,
}

impl<K, O, V> Table<K, O, V>
where
    K: Hash + Eq + Clone,
    O: Holder,
{
    pub(super) fn new() -> Self {
        Self {
            entries: HashMap::default(),
            owners: HashMap::default(),
        }
    }

    pub(super) fn get(&self, key: &K) -> &[Item<O, V>] {
        self.entries.get(key).map_or(&[], Vec::as_slice)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &Item<O, V>)> {
        let items = self.entries.iter();
        items.flat_map(|(key, items)| items.iter().map(move |item| (key, item)))
    }

    pub(super) fn keys_of(&self, owner: O::Id) -> impl Iterator<Item = (&K, usize)> {
        let keys = self.owners.get(&owner).into_iter().flatten();
        keys.map(|(key, times)| (key, *times))
    }

    pub(super) fn owns(&self, owner: O::Id) -> bool {
        self.owners.contains_key(&owner)
    }

    pub(super) fn owners(&self) -> usize {
        self.owners.len()
    }

    /// Adds an entry; not where a key leads to one only, and that one's owner is not gone.
    pub(super) fn register(
        &mut self,
        unique: bool,
        key: K,
        owner: O,
        value: V,
    ) -> Result<Entered<O, V>, Taken<K, O>> {
        let mut taken_over = None;
        if unique && let Some(item) = self.get(&key).first() {
            let holder = &item.owner;
            if !holder.is_gone() {
                let owner = holder.clone();
                return Err(Taken { key, owner });
            }
            let gone = holder.id();
            taken_over = self.unregister(&key, gone).pop();
        }
        let is_new_owner = !self.owns(owner.id());
        let keys = self.owners.entry(owner.id()).or_default();
        *keys.entry(key.clone()).or_default() += 1;
        let items = self.entries.entry(key).or_default();
        items.push(Item { owner, value });
        Ok(Entered {
            is_new_owner,
            taken_over,
        })
    }

    /// Removes all that one has at a key.
    pub(super) fn unregister(&mut self, key: &K, owner: O::Id) -> Vec<Item<O, V>> {
        if let Some(keys) = self.owners.get_mut(&owner) {
            keys.remove(key);
            if keys.is_empty() {
                self.owners.remove(&owner);
            }
        }
        self.remove(key, owner)
    }

    /// Removes all that one has.
    pub(super) fn forget(&mut self, owner: O::Id) -> Vec<(K, Vec<Item<O, V>>)> {
        let keys = self.owners.remove(&owner).unwrap_or_default();
        keys.into_keys()
            .map(|key| {
                let items = self.remove(&key, owner);
                (key, items)
            })
            .collect()
    }

    /// The value that one has at a key, the oldest first.
    pub(super) fn value_mut(&mut self, key: &K, owner: O::Id) -> Option<&mut V> {
        let items = self.entries.get_mut(key)?;
        let own = items.iter_mut().find(|item| item.owner.id() == owner)?;
        Some(&mut own.value)
    }

    fn remove(&mut self, key: &K, owner: O::Id) -> Vec<Item<O, V>> {
        let Some(items) = self.entries.get_mut(key) else {
            return Vec::new();
        };
        let removed = items
            .extract_if(.., |item| item.owner.id() == owner)
            .collect();
        if items.is_empty() {
            self.entries.remove(key);
        }
        removed
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc};

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, PartialEq)]
    struct Actor(u8, Rc<Cell<bool>>);

    impl Holder for Actor {
        type Id = u8;

        fn id(&self) -> u8 {
            self.0
        }

        fn is_gone(&self) -> bool {
            self.1.get()
        }
    }

    fn actor(id: u8) -> Actor {
        Actor(id, Rc::default())
    }

    #[test]
    fn a_unique_key_has_one_owner_until_that_is_gone() {
        let mut table = Table::new();
        let (first, second) = (actor(1), actor(2));
        let entered = table.register(true, "key", first.clone(), 'a');
        assert!(entered.is_ok_and(|entered| entered.is_new_owner));

        let refused = table.register(true, "key", second.clone(), 'b');
        assert_eq!(refused.expect_err("is taken").owner.id(), 1);
        let again = table.register(true, "key", first.clone(), 'b');
        assert_eq!(again.expect_err("is taken, by itself").owner.id(), 1);
        assert_eq!(table.get(&"key")[0].value, 'a');

        first.1.set(true);
        let entered = table.register(true, "key", second, 'b').expect("is free");
        assert_eq!(entered.taken_over.map(|item| item.value), Some('a'));
        assert!(!table.owns(1) && table.owns(2));
        assert!(table.forget(1).is_empty());
        assert_eq!(table.get(&"key")[0].value, 'b');
    }

    #[test]
    fn only_what_is_ones_own_can_be_changed() {
        let mut table = Table::new();
        let entered = table.register(true, "key", actor(1), 1);
        entered.expect("is free");

        assert_eq!(table.value_mut(&"key", 2), None);
        assert!(table.unregister(&"key", 2).is_empty());
        *table.value_mut(&"key", 1).expect("is its own") += 1;

        assert_eq!(table.unregister(&"key", 1)[0].value, 2);
        assert!(table.entries.is_empty() && table.owners.is_empty());
    }

    proptest! {
        #[test]
        fn a_table_is_a_list_of_entries(steps in prop::collection::vec((0..4_u8, 0..3_u8, 0..3_u8), 0..60)) {
            let mut table = Table::new();
            let mut list: Vec<(u8, u8, usize)> = Vec::new();
            for (number, (what, key, who)) in steps.into_iter().enumerate() {
                match what {
                    0 | 1 => {
                        let is_new_owner = !list.iter().any(|entry| entry.1 == who);
                        let entered = table.register(false, key, actor(who), number).expect("any number may");
                        prop_assert_eq!(entered.is_new_owner, is_new_owner);
                        list.push((key, who, number));
                    }
                    2 => {
                        let own = |entry: &(u8, u8, usize)| (entry.0, entry.1) == (key, who);
                        let expected: Vec<_> = list.iter().copied().filter(own).map(|entry| entry.2).collect();
                        let removed: Vec<_> = table.unregister(&key, who).into_iter().map(|item| item.value).collect();
                        prop_assert_eq!(removed, expected);
                        list.retain(|entry| !own(entry));
                    }
                    _ => {
                        let removed: usize = table.forget(who).iter().map(|(_, items)| items.len()).sum();
                        let before = list.len();
                        list.retain(|entry| entry.1 != who);
                        prop_assert_eq!(removed, before - list.len());
                    }
                }
                for key in 0..3 {
                    let expected: Vec<_> = list.iter().filter(|entry| entry.0 == key).map(|entry| entry.2).collect();
                    let values: Vec<_> = table.get(&key).iter().map(|item| item.value).collect();
                    prop_assert_eq!(values, expected);
                }
                for who in 0..3 {
                    let times: usize = table.keys_of(who).map(|(_, times)| times).sum();
                    prop_assert_eq!(times, list.iter().filter(|entry| entry.1 == who).count());
                }
                prop_assert_eq!(table.iter().count(), list.len());
                prop_assert!(table.entries.values().all(|items| !items.is_empty()));
                prop_assert!(table.owners.values().all(|keys| !keys.is_empty()));
            }
        }
    }
}
