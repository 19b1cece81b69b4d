use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use ractor::{ActorCell, ActorId, ActorRef, ActorStatus, Message};
use tokio::sync::watch;

use super::state::Holder;
use crate::otp::{Address, incarnation::Incarnation};

/// Somebody whose end can be seen, and who can therefore own something.
///
/// An actor (`&ActorRef`, or [`Owner::at`] an address), or whoever holds a [`Lease`].
///
/// What a child's spec has [`registered`](crate::otp::ChildSpec::registered) belongs to the life of the child, and not to its actor,
/// which is there later and gone sooner: it is not among the actor's keys. Who wants to change its value, or to know all its keys,
/// takes the owner that the key leads to, `registry.find(&key)?.owner`.
#[derive(Clone)]
pub struct Owner(Kind);

#[derive(Clone)]
enum Kind {
    Actor(ActorCell),
    /// One life of a supervised child, known before it begins.
    Child(Arc<Incarnation>, Arc<str>),
    Lease(u64, watch::Receiver<()>),
}

/// What tells one owner from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum OwnerId {
    Actor(ActorId),
    Child(u64),
    Lease(u64),
}

impl Owner {
    /// The actor that lives at an address now; `None` when nobody does.
    #[must_use]
    pub fn at<M: Message>(address: &Address<M>) -> Option<Self> {
        address.actor().map(Self::from)
    }

    pub(super) fn child(life: Arc<Incarnation>, path: Arc<str>) -> Self {
        Self(Kind::Child(life, path))
    }

    /// The actor, where it is one that said so itself. For the actor at a supervised child's name, let the value be its address.
    #[must_use]
    pub fn actor(&self) -> Option<&ActorCell> {
        match &self.0 {
            Kind::Actor(actor) => Some(actor),
            Kind::Child(..) | Kind::Lease(..) => None,
        }
    }

    /// Whether it has not begun to end.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        match &self.0 {
            Kind::Actor(actor) => actor.get_status() < ActorStatus::Stopping,
            Kind::Child(life, _) => life.exit().is_none() && !life.has_ended(),
            Kind::Lease(_, held) => held.has_changed().is_ok(),
        }
    }

    /// Waits until it has ended.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn ended(&self) {
        match &self.0 {
            // Without a limit there is no error.
            Kind::Actor(actor) => drop(actor.wait(None).await),
            Kind::Child(life, _) => drop(life.ended().await),
            Kind::Lease(_, held) => {
                let mut held = held.clone();
                while held.changed().await.is_ok() {}
            }
        }
    }
}

impl Holder for Owner {
    type Id = OwnerId;

    fn id(&self) -> OwnerId {
        match &self.0 {
            Kind::Actor(actor) => OwnerId::Actor(actor.get_id()),
            Kind::Child(life, _) => OwnerId::Child(life.id),
            Kind::Lease(id, _) => OwnerId::Lease(*id),
        }
    }

    fn is_gone(&self) -> bool {
        match &self.0 {
            Kind::Actor(actor) => actor.get_status() >= ActorStatus::Stopped,
            Kind::Child(life, _) => life.exit().is_some(),
            Kind::Lease(..) => !self.is_alive(),
        }
    }
}

impl PartialEq for Owner {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for Owner {}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Actor(actor) => write!(f, "actor {}", actor.get_id()),
            Kind::Child(life, path) => write!(f, "{path} (life {})", life.number),
            Kind::Lease(id, _) => write!(f, "lease {id}"),
        }
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Owner({self})")
    }
}

impl From<ActorCell> for Owner {
    fn from(actor: ActorCell) -> Self {
        Self(Kind::Actor(actor))
    }
}

impl<M: Message> From<&ActorRef<M>> for Owner {
    fn from(actor: &ActorRef<M>) -> Self {
        Self(Kind::Actor(actor.get_cell()))
    }
}

impl From<&Owner> for Owner {
    fn from(owner: &Owner) -> Self {
        owner.clone()
    }
}

impl From<&Lease> for Owner {
    fn from(lease: &Lease) -> Self {
        lease.owner.clone()
    }
}

/// Makes whoever holds it an owner, for as long as it is held: a task, or any other code.
///
/// It is dropped however a task ends: when it returns, panics or is cancelled.
#[derive(Debug)]
#[must_use = "what it owns goes when it is dropped"]
pub struct Lease {
    owner: Owner,
    _held: watch::Sender<()>,
}

impl Lease {
    /// A new owner.
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let (held, seen) = watch::channel(());
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            owner: Owner(Kind::Lease(id, seen)),
            _held: held,
        }
    }
}

impl Default for Lease {
    fn default() -> Self {
        Self::new()
    }
}
