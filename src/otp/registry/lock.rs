//! Mutual exclusion by key.

use std::{collections::HashMap, fmt, hash::Hash, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

/// Who waits for which key. A key that nobody holds or waits for is not in it.
pub(super) struct Locks<K>(Mutex<HashMap<K, Arc<Turn<()>>>>);

impl<K> Default for Locks<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// The exclusive use of a key, until it is dropped: at the end of a block, by a panic, or with the task that holds it.
#[must_use = "a lock that is dropped is free"]
pub struct KeyLock<K: Hash + Eq> {
    /// Goes before the place does.
    guard: Option<OwnedMutexGuard<()>>,
    place: Place<K>,
}

/// Keeps the key in the list, and cleans up behind whoever gets it or gives up.
struct Place<K: Hash + Eq> {
    locks: Arc<Locks<K>>,
    key: K,
    turn: Option<Arc<Turn<()>>>,
}

impl<K: Hash + Eq + Clone> Locks<K> {
    pub(super) async fn lock(self: Arc<Self>, key: &K) -> KeyLock<K> {
        let turn = Arc::clone(self.0.lock().entry(key.clone()).or_default());
        let place = Place {
            locks: self,
            key: key.clone(),
            turn: Some(Arc::clone(&turn)),
        };
        let guard = turn.lock_owned().await;
        KeyLock {
            guard: Some(guard),
            place,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }
}

impl<K: Hash + Eq> Drop for KeyLock<K> {
    fn drop(&mut self) {
        self.guard = None;
    }
}

impl<K: Hash + Eq> Drop for Place<K> {
    fn drop(&mut self) {
        let mut locks = self.locks.0.lock();
        self.turn = None;
        // Clones are made under the lock only: where the list has the last one, nobody holds it or waits.
        if locks
            .get(&self.key)
            .is_some_and(|turn| Arc::strong_count(turn) == 1)
        {
            locks.remove(&self.key);
        }
    }
}

impl<K: Hash + Eq + fmt::Debug> fmt::Debug for KeyLock<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyLock").field(&self.place.key).finish()
    }
}
