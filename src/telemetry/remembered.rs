//! Series that were looked up once, remembered by each thread.

use std::{borrow::Borrow, collections::HashMap, fmt, hash::Hash};

use foldhash::fast::RandomState;
use parking_lot::Mutex;

use super::{registry::Found, sharded::Sharded};

/// Handles by key, each thread's own, so that finding one again costs no shared cache line. What counts in an overflow series is
/// not remembered but looked up each time, so that there are never more than a metric may have series.
pub(super) struct Remembered<K, V>(Sharded<Mutex<HashMap<K, V, RandomState>>>);

/// Something that remembers handles, which keep idle series from being forgotten.
pub(super) trait Forgetful: fmt::Debug + Send + Sync {
    /// Lets go of all handles. They are looked up again when they are used.
    fn forget(&self);
}

impl<K: Hash + Eq, V> Remembered<K, V> {
    pub(super) fn new() -> Self {
        Self(Sharded::new())
    }

    /// Shows the handle of a key to `see`; `find` looks for it where it is not remembered. `see` is called under a lock that is
    /// this thread's own, and must not come back here. `find` may: it logs what it refuses, and whoever reads the log may count.
    pub(super) fn with<Q, T>(
        &self,
        key: &Q,
        find: impl FnOnce() -> Found<V>,
        see: impl Fn(&V) -> T,
    ) -> T
    where
        K: Borrow<Q> + for<'a> From<&'a Q>,
        Q: Hash + Eq + ?Sized,
    {
        let own = self.0.own().unwrap_or_else(|| self.0.mine().0);
        if let Some(handle) = own.lock().get(key) {
            return see(handle);
        }
        match find() {
            Found::Overflow(handle) => see(&handle),
            Found::Own(handle) => {
                let seen = see(&handle);
                own.lock().insert(K::from(key), handle);
                seen
            }
        }
    }

    pub(super) fn forget(&self) {
        for own in self.0.iter() {
            let forgotten = std::mem::take(&mut *own.lock());
            // Without the lock: it may be a lot.
            drop(forgotten);
        }
    }
}

impl<K, V> fmt::Debug for Remembered<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remembered").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_looked_for_may_come_back_while_it_is_found() {
        let remembered = Remembered::<String, u8>::new();
        let inner = || remembered.with("inner", || Found::Own(2), |found| *found);
        let outer = remembered.with("outer", || Found::Own(inner() + 1), |found| *found);
        assert_eq!(outer, 3);
        let again = remembered.with("outer", || Found::Own(0), |found| *found);
        assert_eq!(again, 3, "it is remembered");
    }
}
