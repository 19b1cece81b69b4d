//! What was broadcast and not dealt with: it holds the credit of whoever sent it.

use std::{
    fmt,
    ops::Deref,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use ractor::Message;
use tokio::sync::Notify;

use super::credit::{Charge, Window};

/// One broadcast, as a member of a [`ClusterGroup`](super::ClusterGroup) gets it. It dereferences to what was sent.
///
/// Keep it until the work is done, and drop it then. It uses up the credit that its sender's node has for the group while any member
/// here has its delivery of it: so senders wait, or are told that the node is full, when members are slow. Who takes
/// [the payload out](Self::into_payload) at once, to put it into a queue of its own for instance, bounds that queue itself. Drop it before
/// waiting for a broadcast of one's own: members that wait for each other's credit would wait for ever.
#[derive(Clone)]
pub struct Delivery<T> {
    payload: T,
    #[expect(dead_code, reason = "its end is what counts")]
    held: Option<Held>,
}

impl<T> Delivery<T> {
    /// As one that was sent, with no credit to hold.
    pub fn new(payload: T) -> Self {
        Self {
            payload,
            held: None,
        }
    }

    pub(super) fn holding(payload: T, held: Held) -> Self {
        Self {
            payload,
            held: Some(held),
        }
    }

    /// What was sent; this member has dealt with it.
    pub fn into_payload(self) -> T {
        self.payload
    }
}

impl<T> Deref for Delivery<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.payload
    }
}

impl<T: fmt::Debug> fmt::Debug for Delivery<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Delivery").field(&self.payload).finish()
    }
}

impl<T: Send + 'static> Message for Delivery<T> {}

/// The credit of one broadcast, shared by all who have it here; when the last one drops it, it has been dealt with.
#[derive(Clone)]
pub(super) struct Held(#[expect(dead_code, reason = "its end is what counts")] Arc<Guard>);

struct Guard {
    charge: Charge,
    lender: Arc<dyn Lender>,
}

/// Whoever wants the credit back.
trait Lender: Send + Sync {
    fn dealt_with(&self, charge: Charge);
}

impl Held {
    fn of(charge: Charge, lender: Arc<dyn Lender>) -> Self {
        Self(Arc::new(Guard { charge, lender }))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.lender.dealt_with(self.charge);
    }
}

/// What has been dealt with and not been told to the sender. As long as what had credit, at most.
pub(super) struct Dealt {
    /// What is held of the node, also of what came over earlier connections: it outlives them.
    held: Arc<AtomicU64>,
    charges: Mutex<Vec<Charge>>,
    came: Notify,
}

impl Dealt {
    pub(super) fn new(held: Arc<AtomicU64>) -> Self {
        Self {
            held,
            charges: Mutex::default(),
            came: Notify::new(),
        }
    }

    /// A broadcast came.
    pub(super) fn hold(self: &Arc<Self>, charge: Charge) -> Held {
        self.held.fetch_add(charge.cost, Ordering::Relaxed);
        Held::of(charge, Arc::clone(self) as Arc<dyn Lender>)
    }

    pub(super) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Waits until there is something. Cancel safe.
    pub(super) async fn wait(&self) {
        self.came.notified().await;
    }

    pub(super) fn take(&self) -> Vec<Charge> {
        std::mem::take(&mut *self.charges.lock())
    }
}

impl Lender for Dealt {
    fn dealt_with(&self, charge: Charge) {
        self.held.fetch_sub(charge.cost, Ordering::Relaxed);
        self.charges.lock().push(charge);
        self.came.notify_one();
    }
}

/// The credit that this node has with its own members.
pub(super) struct Home {
    window: Mutex<Window>,
    freed: Notify,
}

impl Home {
    pub(super) fn new(window: u32) -> Self {
        Self {
            window: Mutex::new(Window::new(window)),
            freed: Notify::new(),
        }
    }

    /// Credit, where there is any.
    pub(super) fn try_hold(self: &Arc<Self>, charge: Charge) -> Option<Held> {
        let taken = self.window.lock().take(charge);
        taken.then(|| Held::of(charge, Arc::clone(self) as Arc<dyn Lender>))
    }

    /// Waits for credit. Cancel safe.
    pub(super) async fn hold(self: &Arc<Self>, charge: Charge) -> Held {
        loop {
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            if let Some(held) = self.try_hold(charge) {
                return held;
            }
            freed.await;
        }
    }
}

impl Lender for Home {
    fn dealt_with(&self, charge: Charge) {
        self.window.lock().give_back(charge);
        self.freed.notify_waiters();
    }
}
