use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::RwLock;

use super::Owner;
use crate::otp::feed::{Inbox, Subscriber, Unread};

/// What happened in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegistryEvent<K, V> {
    /// An entry came.
    Registered {
        /// Its key.
        key: K,
        /// Whose it is.
        owner: Owner,
        /// Its value.
        value: V,
    },
    /// All that one had at a key went.
    Unregistered {
        /// The key.
        key: K,
        /// Whose it was.
        owner: Owner,
        /// It went because its owner ended, which Elixir does not tell.
        ended: bool,
    },
    /// The listener was not read for so long that this many events were thrown away. Look at the
    /// [entries](super::Registry::entries) anew; what is read after this may have happened before that look.
    Missed {
        /// How many.
        count: u64,
    },
}

/// Those who are told.
pub(super) struct Listeners<K, V> {
    all: RwLock<BTreeMap<u64, Subscriber<RegistryEvent<K, V>>>>,
    next: AtomicU64,
}

impl<K, V> Default for Listeners<K, V> {
    fn default() -> Self {
        Self {
            all: RwLock::default(),
            next: AtomicU64::new(0),
        }
    }
}

impl<K: Clone + 'static, V: Clone + 'static> Listeners<K, V> {
    /// Makes the event where there is somebody to hear it.
    pub(super) fn tell(&self, event: impl FnOnce() -> RegistryEvent<K, V>) {
        let all = self.all.read();
        if all.is_empty() {
            return;
        }
        let event = event();
        for listener in all.values() {
            listener.tell(&event);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.all.read().len()
    }
}

/// What happens in a registry, as a stream. Dropping it ends it.
///
/// Events of one key come in their order, each once. At most [`Listener::BOUND`] wait to be read; beyond that they become one
/// [`RegistryEvent::Missed`].
pub struct Listener<K, V> {
    inbox: Arc<Inbox<RegistryEvent<K, V>>>,
    _place: Listening<K, V>,
}

/// Keeps an actor told of what happens in a registry. Dropping it ends that; kept in the actor's state, it goes when the actor
/// does.
#[must_use = "a listener that is dropped hears nothing"]
pub struct Listening<K, V> {
    id: u64,
    listeners: Arc<Listeners<K, V>>,
}

impl<K: Clone + 'static, V: Clone + 'static> Listener<K, V> {
    /// How many events wait to be read: a start of a thousand children.
    pub const BOUND: usize = 1024;

    pub(super) fn new(listeners: &Arc<Listeners<K, V>>) -> Self {
        let inbox = Inbox::new(Self::BOUND);
        let subscriber = Subscriber::Stream(Arc::clone(&inbox));
        Self {
            inbox,
            _place: Listening::new(listeners, subscriber),
        }
    }

    /// The next event. Waits for ever while nothing happens.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> RegistryEvent<K, V> {
        loop {
            if let Some(event) = event(self.inbox.unread().await) {
                return event;
            }
        }
    }

    /// The next event, if there is one.
    pub fn try_next(&mut self) -> Option<RegistryEvent<K, V>> {
        event(self.inbox.pop())
    }
}

fn event<K, V>(unread: Unread<RegistryEvent<K, V>>) -> Option<RegistryEvent<K, V>> {
    match unread {
        Unread::Nothing => None,
        Unread::Event(event) => Some(event),
        Unread::Missed(count) => Some(RegistryEvent::Missed { count }),
    }
}

impl<K, V> Listening<K, V> {
    pub(super) fn new(
        listeners: &Arc<Listeners<K, V>>,
        subscriber: Subscriber<RegistryEvent<K, V>>,
    ) -> Self {
        let id = listeners.next.fetch_add(1, Ordering::Relaxed);
        listeners.all.write().insert(id, subscriber);
        Self {
            id,
            listeners: Arc::clone(listeners),
        }
    }
}

impl<K, V> Drop for Listening<K, V> {
    fn drop(&mut self) {
        let removed = self.listeners.all.write().remove(&self.id);
        // Outside of the lock: it may be the last to hold something of a user's.
        drop(removed);
    }
}

impl<K, V> fmt::Debug for Listener<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").finish_non_exhaustive()
    }
}

impl<K, V> fmt::Debug for Listening<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listening").finish_non_exhaustive()
    }
}
