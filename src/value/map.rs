use std::{fmt, sync::Arc};

use super::Value;

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
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.find(key).ok().map(|at| &self.0[at].1)
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
        let mut entries = self.0.to_vec();
        match self.find(&key) {
            Ok(at) => entries[at].1 = value,
            Err(at) => entries.insert(at, (key, value)),
        }
        Self(entries.into())
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
        debug_assert!(entries.is_sorted_by(|(a, _), (b, _)| a < b));
        Self(entries.into())
    }

    fn find(&self, key: &str) -> Result<usize, usize> {
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
