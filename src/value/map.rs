use std::{fmt, sync::Arc};

use super::{Value, path::Components};

/// Up to how many names are looked at one by one. Names of a short map mostly have different lengths, which are told apart without
/// looking at the names.
const SHORT: usize = 8;

/// Named values, sorted by name, shared. A clone costs a counter.
///
/// Built with [`FromIterator`]; of several entries with one name the last one stays. Looking up a name takes a binary search.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Map(Arc<[Entry]>);

pub(super) type Entry = (Arc<str>, Value);

impl Map {
    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value under this name.
    #[must_use]
    #[inline]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.find(key).ok().map(|at| &self.0[at].1)
    }

    /// The value under the next component of a path, and what is left of the path after it.
    #[inline]
    pub(super) fn step<'p>(&self, path: Components<'p>) -> Option<(&Value, Components<'p>)> {
        if self.0.len() <= SHORT {
            let mut named = self.0.iter();
            return named.find_map(|(name, value)| Some((value, path.after(name)?)));
        }
        let mut left = path;
        let value = self.get(left.next()?)?;
        Some((value, left))
    }

    /// The entries, sorted by name (by bytes).
    #[must_use = "an iterator does nothing until asked"]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> + DoubleEndedIterator {
        self.0.iter().map(|(key, value)| (&**key, value))
    }

    /// A copy of this level in which `key` holds `value`; what is below is shared.
    #[must_use]
    pub fn with(&self, key: impl Into<Arc<str>>, value: Value) -> Self {
        let key = key.into();
        match self.find(&key) {
            Ok(at) => self.replaced(at, value),
            Err(at) => {
                let (before, after) = self.0.split_at(at);
                let entries = before.iter().cloned().chain([(key, value)]);
                Self(entries.chain(after.iter().cloned()).collect())
            }
        }
    }

    /// A copy of this level in which each of these names holds its value, and of equal names the last one; what is below is shared.
    #[must_use]
    pub fn with_all<K: Into<Arc<str>>>(
        &self,
        entries: impl IntoIterator<Item = (K, Value)>,
    ) -> Self {
        let entries = entries.into_iter().map(|(key, value)| (key.into(), value));
        self.0.iter().cloned().chain(entries).collect()
    }

    /// A copy of this level without `key`; what is below is shared.
    #[must_use]
    pub fn without(&self, key: &str) -> Self {
        match self.find(key) {
            Err(_) => self.clone(),
            Ok(at) => self
                .0
                .iter()
                .enumerate()
                .filter(|(index, _)| *index != at)
                .map(|(_, entry)| entry.clone())
                .collect::<Vec<_>>()
                .into(),
        }
    }

    /// Whether both are one and the same shared section; a cheap "nothing changed here".
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// Wraps entries whose names rise strictly, which the caller has seen to.
    pub(super) fn from_sorted(entries: Vec<Entry>) -> Self {
        Self::from_rising(entries.into_iter())
    }

    /// Entries whose names rise strictly, which the caller has seen to. Where it is known how many there are, they go where they stay.
    pub(crate) fn from_rising(entries: impl Iterator<Item = (Arc<str>, Value)>) -> Self {
        let map = Self(entries.collect());
        debug_assert!(map.0.is_sorted_by(|(a, _), (b, _)| a < b));
        map
    }

    /// A copy in which `key` holds what `change` makes of what it holds. A name that is there stays.
    pub(super) fn with_changed<E>(
        &self,
        key: &str,
        change: impl FnOnce(Option<&Value>) -> Result<Value, E>,
    ) -> Result<Self, E> {
        match self.find(key) {
            Ok(at) => Ok(self.replaced(at, change(Some(&self.0[at].1))?)),
            Err(_) => Ok(self.with(key, change(None)?)),
        }
    }

    fn replaced(&self, at: usize, value: Value) -> Self {
        // Moved: a clone and the end of the other one would cost two counters.
        let mut value = Some(value);
        let entry = |(index, (name, old)): (usize, &Entry)| {
            let new = (index == at).then(|| value.take()).flatten();
            (Arc::clone(name), new.unwrap_or_else(|| old.clone()))
        };
        Self(self.0.iter().enumerate().map(entry).collect())
    }

    #[inline]
    fn find(&self, key: &str) -> Result<usize, usize> {
        if self.0.len() <= SHORT
            && let Some(at) = self.0.iter().position(|(name, _)| **name == *key)
        {
            return Ok(at);
        }
        self.0.binary_search_by(|(name, _)| (**name).cmp(key))
    }
}

impl From<Vec<Entry>> for Map {
    fn from(mut entries: Vec<Entry>) -> Self {
        if !entries.is_sorted_by(|(a, _), (b, _)| a < b) {
            // Stable, so that of equal names the last given stands last; each later one then takes the place of the one before.
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            entries.dedup_by(|later, earlier| {
                let same = later.0 == earlier.0;
                if same {
                    std::mem::swap(&mut later.1, &mut earlier.1);
                }
                same
            });
        }
        Self::from_sorted(entries)
    }
}

impl<K: Into<Arc<str>>, V: Into<Value>> FromIterator<(K, V)> for Map {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        entries
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()))
            .collect::<Vec<Entry>>()
            .into()
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn same_entries(map: &Map, model: &BTreeMap<String, i64>) -> bool {
        let found = map.iter().map(|(name, value)| (name, value.as_i64()));
        found.eq(model
            .iter()
            .map(|(name, value)| (name.as_str(), Some(*value))))
    }

    proptest! {
        #[test]
        fn a_map_is_a_sorted_map(entries in vec(("[a-d]{0,2}", any::<i64>()), 0..12), key in "[a-d]{0,2}", value: i64) {
            let mut model: BTreeMap<String, i64> = entries.iter().cloned().collect();
            let map: Map = entries.into_iter().collect();
            prop_assert!(same_entries(&map, &model));
            prop_assert_eq!(map.get(&key).and_then(Value::as_i64), model.get(&key).copied());

            model.insert(key.clone(), value);
            let with = map.with(key.as_str(), value.into());
            prop_assert!(same_entries(&with, &model));
            prop_assert_eq!(map.with_changed(&key, |_| Ok::<_, ()>(value.into())), Ok(with.clone()));

            let twice = [(key.as_str(), Value::Null), (key.as_str(), value.into())];
            prop_assert_eq!(map.with_all(twice), with.clone());

            model.remove(&key);
            prop_assert!(same_entries(&with.without(&key), &model));
            prop_assert!(same_entries(&map.without(&key), &model));
        }
    }
}
