//! A part of a registry with a lock of its own, and its watch over those who own something in it.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::RwLock;
use tokio::{runtime::Handle, task::AbortHandle};

use super::{
    Owner, RegistryEvent, RegistryStats,
    listener::Listeners,
    owner::OwnerId,
    state::{Holder, Item, Table, Taken},
};

pub(super) type Entry<V> = Item<Owner, V>;

pub(super) struct Partition<K, V> {
    state: RwLock<State<K, V>>,
    /// Beside the lock, which a look-up has in hand anyway.
    lookups: AtomicU64,
    counts: Counts,
    listeners: Arc<Listeners<K, V>>,
}

#[derive(Default)]
struct Counts {
    registered: AtomicU64,
    refused: AtomicU64,
    unregistered: AtomicU64,
    expired: AtomicU64,
}

struct State<K, V> {
    table: Table<K, Owner, V>,
    /// One for each who owns something here.
    watches: HashMap<OwnerId, Watch>,
}

/// Waits for the end of an owner; not any more when it is dropped.
struct Watch(AbortHandle);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<K, V> Partition<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn new(listeners: &Arc<Listeners<K, V>>) -> Arc<Self> {
        Arc::new(Self {
            state: RwLock::new(State {
                table: Table::new(),
                watches: HashMap::new(),
            }),
            lookups: AtomicU64::new(0),
            counts: Counts::default(),
            listeners: Arc::clone(listeners),
        })
    }

    /// Looks at what a key leads to.
    pub(super) fn look<T>(&self, key: &K, look: impl FnOnce(&[Entry<V>]) -> T) -> T {
        let state = self.state.read();
        self.lookups.fetch_add(1, Ordering::Relaxed);
        look(state.table.get(key))
    }

    /// Looks at all that is here.
    pub(super) fn for_each(&self, mut look: impl FnMut(&K, &Entry<V>)) {
        for (key, item) in self.state.read().table.iter() {
            look(key, item);
        }
    }

    /// The keys of one, each as often as it registered it.
    pub(super) fn keys_of(&self, owner: OwnerId) -> Vec<K> {
        let state = self.state.read();
        let keys = state.table.keys_of(owner);
        keys.flat_map(|(key, times)| std::iter::repeat_n(key.clone(), times))
            .collect()
    }

    /// Registers, or says whose it is.
    pub(super) fn register(
        self: &Arc<Self>,
        unique: bool,
        key: K,
        owner: &Owner,
        value: V,
    ) -> Result<(), Taken<K, Owner>> {
        // Where there is none, this panics before anything has changed.
        let runtime = Handle::current();
        let mut state = self.state.write();
        let entered = state
            .table
            .register(unique, key.clone(), owner.clone(), value.clone())
            .inspect_err(|_| count(&self.counts.refused, 1))?;
        count(&self.counts.registered, 1);
        if let Some(gone) = &entered.taken_over {
            count(&self.counts.expired, 1);
            self.tell_gone(&key, &gone.owner, true);
            if !state.table.owns(gone.owner.id()) {
                state.watches.remove(&gone.owner.id());
            }
        }
        if entered.is_new_owner {
            let watching = runtime.spawn(watch(owner.clone(), Arc::downgrade(self)));
            let watch = Watch(watching.abort_handle());
            state.watches.insert(owner.id(), watch);
        }
        let owner = owner.clone();
        self.listeners
            .tell(|| RegistryEvent::Registered { key, owner, value });
        // What a dead owner had is a user's, and dropped outside of the lock.
        drop(state);
        drop(entered);
        Ok(())
    }

    /// Removes all that one has at a key, and tells how many that were.
    pub(super) fn unregister(&self, key: &K, owner: &Owner) -> usize {
        let mut state = self.state.write();
        let removed = state.table.unregister(key, owner.id());
        let watch = (!state.table.owns(owner.id()))
            .then(|| state.watches.remove(&owner.id()))
            .flatten();
        if !removed.is_empty() {
            count(&self.counts.unregistered, removed.len());
            self.tell_gone(key, owner, false);
        }
        // What is a user's is dropped outside of the lock.
        drop(state);
        drop(watch);
        removed.len()
    }

    /// Changes the value that one has at a key. Gives whose the key is where it is not its own.
    pub(super) fn update(
        &self,
        key: &K,
        owner: &Owner,
        change: impl FnOnce(&V) -> V,
    ) -> Result<(V, V), Option<Owner>> {
        let mut state = self.state.write();
        if let Some(value) = state.table.value_mut(key, owner.id()) {
            let new = change(value);
            let old = std::mem::replace(value, new.clone());
            return Ok((new, old));
        }
        let mut items = state.table.get(key).iter();
        Err(items
            .find(|item| item.owner.is_alive())
            .map(|item| item.owner.clone()))
    }

    pub(super) fn add_to(&self, stats: &mut RegistryStats) {
        let table = &self.state.read().table;
        stats.entries += table.iter().count();
        stats.owners += table.owners();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        stats.lookups += read(&self.lookups);
        stats.registered += read(&self.counts.registered);
        stats.refused += read(&self.counts.refused);
        stats.unregistered += read(&self.counts.unregistered);
        stats.expired += read(&self.counts.expired);
    }

    fn forget(&self, owner: &Owner) {
        let mut state = self.state.write();
        let gone = state.table.forget(owner.id());
        let watch = state.watches.remove(&owner.id());
        for (key, items) in &gone {
            count(&self.counts.expired, items.len());
            self.tell_gone(key, owner, true);
        }
        drop(state);
        drop(watch);
    }

    fn tell_gone(&self, key: &K, owner: &Owner, ended: bool) {
        self.listeners.tell(|| RegistryEvent::Unregistered {
            key: key.clone(),
            owner: owner.clone(),
            ended,
        });
    }
}

async fn watch<K, V>(owner: Owner, partition: Weak<Partition<K, V>>)
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    owner.ended().await;
    if let Some(partition) = partition.upgrade() {
        partition.forget(&owner);
    }
}

fn count(counter: &AtomicU64, more: usize) {
    counter.fetch_add(more as u64, Ordering::Relaxed);
}
