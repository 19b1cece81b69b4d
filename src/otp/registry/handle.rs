use std::{
    fmt::{self, Debug},
    hash::{BuildHasher, Hash},
    num::NonZeroUsize,
    panic::resume_unwind,
    sync::Arc,
    time::Duration,
};

use foldhash::fast::RandomState;
use ractor::{ActorRef, Message};
use tokio::{sync::Notify, task::JoinSet};

use super::{
    KeyLock, Listener, Listening, NotRegistered, Owner, RegisterError, RegistryEvent, UpdateError,
    listener::Listeners,
    lock::Locks,
    partition::{Entry, Partition},
    state::{Holder, Taken},
};
use crate::otp::feed::Subscriber;

/// Leads from keys to values that somebody owns. Cheap to clone; a clone is the same registry.
///
/// It is split into partitions, each with a lock of its own that is held for some nanoseconds: look-ups of different keys
/// seldom meet, and none ever waits for an actor.
///
/// # Panics
///
/// All that registers has to be called in a tokio runtime, which waits for the ends of owners.
pub struct Registry<K, V = ()> {
    shared: Arc<Shared<K, V>>,
}

struct Shared<K, V> {
    name: Arc<str>,
    keys: Keys,
    hasher: RandomState,
    partitions: Box<[Arc<Partition<K, V>>]>,
    listeners: Arc<Listeners<K, V>>,
    locks: Arc<Locks<K>>,
    /// Somebody registered something.
    entered: Notify,
}

/// How many entries a key may have, and how they are spread over the partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Keys {
    /// One.
    Unique,
    /// Any number, also several of one owner. Those of one owner are in one partition, so that many owners can register one key
    /// at once; who looks a key up goes through all partitions. Right for few keys with many entries.
    Duplicate,
    /// Any number, and all of one key in one partition. Right for many keys with few entries.
    DuplicateByKey,
}

/// What a key leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered<V> {
    /// Whose it is.
    pub owner: Owner,
    /// Its value.
    pub value: V,
}

/// Figures of a registry. All but the first two count from its beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RegistryStats {
    /// Entries now, those of owners that ended a moment ago included.
    pub entries: usize,
    /// Owners that are watched now; one that has entries in several partitions counts in each.
    pub owners: usize,
    /// Look-ups.
    pub lookups: u64,
    /// Registrations.
    pub registered: u64,
    /// Registrations that were refused, as the key was another's.
    pub refused: u64,
    /// Entries that their owners took back.
    pub unregistered: u64,
    /// Entries that went because their owners ended.
    pub expired: u64,
}

impl<K, V> Registry<K, V>
where
    K: Hash + Eq + Clone + Debug + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// How many partitions a registry has by default: enough for the cores of a usual machine to seldom meet.
    pub const PARTITIONS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(7);

    /// An empty registry. Its name is for errors and logs.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, keys: Keys) -> Self {
        Self::with_partitions(name, keys, Self::PARTITIONS)
    }

    /// An empty registry with another number of partitions.
    #[must_use]
    pub fn with_partitions(
        name: impl Into<Arc<str>>,
        keys: Keys,
        partitions: NonZeroUsize,
    ) -> Self {
        let listeners = Arc::default();
        let partition = |_| Partition::new(&listeners);
        Self {
            shared: Arc::new(Shared {
                name: name.into(),
                keys,
                hasher: RandomState::default(),
                partitions: (0..partitions.get()).map(partition).collect(),
                listeners,
                locks: Arc::default(),
                entered: Notify::new(),
            }),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Registers a value of `owner` under a key.
    ///
    /// # Errors
    ///
    /// [`RegisterError`].
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn register(&self, key: K, owner: impl Into<Owner>, value: V) -> Result<(), RegisterError> {
        let owner = owner.into();
        let registry = || Arc::clone(&self.shared.name);
        if !owner.is_alive() {
            return Err(RegisterError::OwnerEnded {
                registry: registry(),
                key: format!("{key:?}"),
                owner,
            });
        }
        let unique = self.shared.keys == Keys::Unique;
        let partition = self.partition(&key, &owner);
        let entered = partition.register(unique, key, &owner, value);
        entered.map_err(|Taken { key, owner }| RegisterError::AlreadyRegistered {
            registry: registry(),
            key: format!("{key:?}"),
            owner,
        })?;
        self.shared.entered.notify_waiters();
        Ok(())
    }

    /// Removes all that `owner` has under a key, and tells how many entries that were; 0 is no error.
    pub fn unregister(&self, key: &K, owner: impl Into<Owner>) -> usize {
        let owner = owner.into();
        self.partition(key, &owner).unregister(key, &owner)
    }

    /// All that a key leads to; of what is in one partition, the oldest first.
    #[must_use]
    pub fn lookup(&self, key: &K) -> Vec<Registered<V>> {
        let mut found = Vec::new();
        for partition in self.partitions_of(key) {
            partition.look(key, |items| found.extend(living(items)));
        }
        found
    }

    /// Whose a key is; where it has several entries, whose one of them is. The quickest way to look it up.
    #[must_use]
    pub fn whereis(&self, key: &K) -> Option<Owner> {
        self.first(key, |item| item.owner.clone())
    }

    /// What a key leads to; where it has several entries, one of them.
    ///
    /// # Errors
    ///
    /// [`NotRegistered`].
    pub fn find(&self, key: &K) -> Result<Registered<V>, NotRegistered> {
        self.try_find(key)
            .ok_or_else(|| self.not_registered(key, Duration::ZERO))
    }

    /// Changes the value of a unique key, which its owner alone can do. Gives the new value and the old one.
    ///
    /// `change` runs while the partition is locked: it must be short and must not use the registry. If it panics, nothing has
    /// changed.
    ///
    /// # Errors
    ///
    /// [`UpdateError`].
    pub fn update_value(
        &self,
        key: &K,
        owner: impl Into<Owner>,
        change: impl FnOnce(&V) -> V,
    ) -> Result<(V, V), UpdateError> {
        let registry = Arc::clone(&self.shared.name);
        if self.shared.keys != Keys::Unique {
            return Err(UpdateError::NotUnique { registry });
        }
        let own = owner.into();
        let updated = self.partition(key, &own).update(key, &own, change);
        updated.map_err(|owner| match owner {
            Some(owner) => UpdateError::NotOwner {
                registry,
                key: format!("{key:?}"),
                owner,
            },
            None => self.not_registered(key, Duration::ZERO).into(),
        })
    }

    /// The keys of one, each as often as it registered it.
    #[must_use]
    pub fn keys(&self, owner: impl Into<Owner>) -> Vec<K> {
        let owner = owner.into();
        if !owner.is_alive() {
            return Vec::new();
        }
        let partitions = self.shared.partitions.iter();
        partitions
            .flat_map(|partition| partition.keys_of(owner.id()))
            .collect()
    }

    /// All entries, in no order.
    #[must_use]
    pub fn entries(&self) -> Vec<(K, Registered<V>)> {
        let mut all = Vec::new();
        self.for_each_living(|key, item| all.push((key.clone(), item.into())));
        all
    }

    /// How many entries there are. Takes as long as there are entries.
    #[must_use]
    pub fn count(&self) -> usize {
        let mut count = 0;
        self.for_each_living(|_, _| count += 1);
        count
    }

    /// Calls `work` with all that a key leads to; not at all when that is nothing. A panic in it goes on to the caller.
    pub fn dispatch(&self, key: &K, work: impl FnOnce(&[Registered<V>])) {
        let found = self.lookup(key);
        if !found.is_empty() {
            work(&found);
        }
    }

    /// Calls `work` once for each partition where the key leads to something, each in a task of its own, and waits for all. Where
    /// there is one such partition at most, it runs here.
    ///
    /// # Panics
    ///
    /// When `work` does, once all have ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends those that have not begun.
    pub async fn dispatch_parallel<F>(&self, key: &K, work: F)
    where
        F: Fn(&[Registered<V>]) + Clone + Send + 'static,
    {
        if self.partitions_of(key).len() == 1 {
            return self.dispatch(key, work);
        }
        let mut tasks = JoinSet::new();
        for partition in self.partitions_of(key) {
            let found: Vec<_> = partition.look(key, |items| living(items).collect());
            if !found.is_empty() {
                let work = work.clone();
                tasks.spawn(async move { work(&found) });
            }
        }
        let mut panicked = None;
        while let Some(ended) = tasks.join_next().await {
            let error = ended.err().filter(tokio::task::JoinError::is_panic);
            panicked = panicked.or(error);
        }
        if let Some(panicked) = panicked {
            resume_unwind(panicked.into_panic());
        }
    }

    /// Waits for the exclusive use of a key, first come, first served. It needs not be registered.
    ///
    /// Who gives up waiting is passed over.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe; whoever waits again waits behind the others.
    pub async fn lock(&self, key: &K) -> KeyLock<K> {
        Arc::clone(&self.shared.locks).lock(key).await
    }

    /// How many keys somebody holds or waits for.
    #[must_use]
    pub fn locked(&self) -> usize {
        self.shared.locks.len()
    }

    /// What happens from now on, as a stream.
    #[must_use]
    pub fn listen(&self) -> Listener<K, V> {
        Listener::new(&self.shared.listeners)
    }

    /// Has an actor told what happens from now on, by messages of its own.
    ///
    /// The conversion into a message runs while a partition is locked: it must be short and must not use the registry.
    pub fn forward_to<M>(&self, observer: &ActorRef<M>) -> Listening<K, V>
    where
        M: Message + From<RegistryEvent<K, V>>,
    {
        Listening::new(&self.shared.listeners, Subscriber::actor(observer))
    }

    /// How many listen.
    #[must_use]
    pub fn listeners(&self) -> usize {
        self.shared.listeners.len()
    }

    /// Its figures.
    #[must_use]
    pub fn stats(&self) -> RegistryStats {
        let mut stats = RegistryStats::default();
        for partition in &*self.shared.partitions {
            partition.add_to(&mut stats);
        }
        stats
    }

    pub(super) fn not_registered(&self, key: &K, waited: Duration) -> NotRegistered {
        NotRegistered {
            registry: Arc::clone(&self.shared.name),
            key: format!("{key:?}"),
            waited,
        }
    }

    pub(super) fn entered(&self) -> &Notify {
        &self.shared.entered
    }

    pub(super) fn try_find(&self, key: &K) -> Option<Registered<V>> {
        self.first(key, |item| item.into())
    }

    fn first<T>(&self, key: &K, take: impl Fn(&Entry<V>) -> T) -> Option<T> {
        let oldest = |items: &[Entry<V>]| {
            let living = items.iter().find(|item| item.owner.is_alive());
            living.map(&take)
        };
        let mut partitions = self.partitions_of(key).iter();
        partitions.find_map(|partition| partition.look(key, oldest))
    }

    fn for_each_living(&self, mut look: impl FnMut(&K, &Entry<V>)) {
        for partition in &*self.shared.partitions {
            partition.for_each(|key, item| {
                if item.owner.is_alive() {
                    look(key, item);
                }
            });
        }
    }

    /// Where an owner's entry of a key is.
    fn partition(&self, key: &K, owner: &Owner) -> &Arc<Partition<K, V>> {
        match self.shared.keys {
            Keys::Unique | Keys::DuplicateByKey => self.shared.pick(key),
            Keys::Duplicate => self.shared.pick(&owner.id()),
        }
    }

    /// Where entries of a key may be.
    fn partitions_of(&self, key: &K) -> &[Arc<Partition<K, V>>] {
        match self.shared.keys {
            Keys::Unique | Keys::DuplicateByKey => std::slice::from_ref(self.shared.pick(key)),
            Keys::Duplicate => &self.shared.partitions,
        }
    }
}

impl<K, V> Shared<K, V> {
    fn pick(&self, what: &impl Hash) -> &Arc<Partition<K, V>> {
        let partitions = &self.partitions;
        if let [only] = &**partitions {
            return only;
        }
        // The upper half of the hash as a share of them: a division would cost as much as the hash.
        let share = (self.hasher.hash_one(what) >> 32) * partitions.len() as u64;
        &partitions[usize::try_from(share >> 32).unwrap_or_default()]
    }
}

fn living<V: Clone>(items: &[Entry<V>]) -> impl Iterator<Item = Registered<V>> {
    let living = items.iter().filter(|item| item.owner.is_alive());
    living.map(Registered::from)
}

impl<V: Clone> From<&Entry<V>> for Registered<V> {
    fn from(item: &Entry<V>) -> Self {
        Self {
            owner: item.owner.clone(),
            value: item.value.clone(),
        }
    }
}

impl<K, V> Clone for Registry<K, V> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<K, V> fmt::Debug for Registry<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("name", &self.shared.name)
            .field("keys", &self.shared.keys)
            .field("partitions", &self.shared.partitions.len())
            .finish_non_exhaustive()
    }
}
