use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
};

use parking_lot::Mutex;
use ractor::{ActorCell, ActorRef, Message};
use tokio::sync::Notify;

use super::{
    scope::Scope,
    state::{Backlog, Unread},
};

/// The members of each group, as often as each joined and in that order. Groups without members are not in it.
pub type GroupSnapshot = BTreeMap<Arc<str>, Vec<ActorCell>>;

/// What changed in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupEvent {
    /// These joined, in one step; one that joined twice is named twice.
    Joined {
        /// The group.
        group: Arc<str>,
        /// Who joined.
        actors: Arc<[ActorCell]>,
    },
    /// These left, or died; one that was a member twice and died is named twice.
    Left {
        /// The group.
        group: Arc<str>,
        /// Who left.
        actors: Arc<[ActorCell]>,
    },
    /// The monitor was not read for so long that it would have had to keep too much. What is comes in place of what changed:
    /// forget what was known, and go on from here.
    Resync {
        /// How many changes went by.
        missed: u64,
        /// What is now.
        groups: GroupSnapshot,
    },
}

impl GroupEvent {
    /// The group that changed; `None` for a [`Resync`](Self::Resync).
    #[must_use]
    pub fn group(&self) -> Option<&Arc<str>> {
        match self {
            Self::Joined { group, .. } | Self::Left { group, .. } => Some(group),
            Self::Resync { .. } => None,
        }
    }
}

/// Tells what changes in one group, or in a whole scope: OTP's `pg:monitor/2` and `pg:monitor_scope/1`.
///
/// Changes come in their order, each once. At most [`GroupMonitor::BOUND`] wait to be read; beyond that they become one
/// [`GroupEvent::Resync`]. Dropping the monitor is OTP's `demonitor`: nothing comes any more, not even what waits.
pub struct GroupMonitor {
    scope: Arc<Scope>,
    group: Option<Arc<str>>,
    id: u64,
    inbox: Arc<Inbox>,
}

/// One who is told.
pub(super) enum Subscriber {
    Stream(Arc<Inbox>),
    Actor(Box<dyn Fn(&GroupEvent) + Send + Sync>),
}

pub(super) struct Inbox {
    backlog: Mutex<Backlog<GroupEvent>>,
    arrived: Notify,
}

impl GroupMonitor {
    /// How many changes wait to be read: enough for a start of a thousand children, some 100 kB.
    pub const BOUND: usize = 1024;

    pub(super) fn new(scope: &Arc<Scope>, group: Option<Arc<str>>) -> (GroupSnapshot, Self) {
        let inbox = Arc::new(Inbox {
            backlog: Mutex::new(Backlog::new(Self::BOUND)),
            arrived: Notify::new(),
        });
        let subscriber = Arc::new(Subscriber::Stream(Arc::clone(&inbox)));
        let (id, snapshot) = scope.monitor(group.as_ref(), subscriber);
        let scope = Arc::clone(scope);
        let monitor = Self {
            scope,
            group,
            id,
            inbox,
        };
        (snapshot, monitor)
    }

    /// The next change. Waits for ever while nothing changes.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> GroupEvent {
        let inbox = Arc::clone(&self.inbox);
        loop {
            let mut arrived = pin!(inbox.arrived.notified());
            arrived.as_mut().enable();
            if let Some(event) = self.try_next() {
                return event;
            }
            arrived.await;
        }
    }

    /// The next change, if there is one.
    pub fn try_next(&mut self) -> Option<GroupEvent> {
        let unread = self.inbox.backlog.lock().pop();
        match unread {
            Unread::Nothing => None,
            Unread::Event(event) => Some(event),
            Unread::Missed(missed) => Some(self.resync(missed)),
        }
    }

    /// What is; and all that had come up to this moment is done with.
    fn resync(&self, missed: u64) -> GroupEvent {
        let rest = || self.inbox.backlog.lock().clear();
        let (groups, rest) = self.scope.snapshot(self.group.as_ref(), rest);
        GroupEvent::Resync {
            missed: missed + rest,
            groups,
        }
    }
}

impl Drop for GroupMonitor {
    fn drop(&mut self) {
        self.scope.demonitor(self.group.as_ref(), self.id);
    }
}

impl std::fmt::Debug for GroupMonitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupMonitor")
            .field("scope", &self.scope.name())
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

/// A monitor that sends what changes to an actor. Dropping it takes the monitor back; kept in the actor's state, it goes when
/// the actor does. What is in the actor's mailbox by then stays there.
#[must_use = "a monitor that is dropped tells nothing"]
pub struct GroupForwarding {
    scope: Arc<Scope>,
    group: Option<Arc<str>>,
    id: u64,
}

impl GroupForwarding {
    pub(super) fn new<M: Message + From<GroupEvent>>(
        scope: &Arc<Scope>,
        group: Option<Arc<str>>,
        observer: &ActorRef<M>,
    ) -> (GroupSnapshot, Self) {
        let observer = observer.clone();
        let tell = move |event: &GroupEvent| {
            // An observer that has gone needs no news.
            let _ = observer.send_message(M::from(event.clone()));
        };
        let subscriber = Arc::new(Subscriber::Actor(Box::new(tell)));
        let (id, snapshot) = scope.monitor(group.as_ref(), subscriber);
        let scope = Arc::clone(scope);
        (snapshot, Self { scope, group, id })
    }
}

impl Drop for GroupForwarding {
    fn drop(&mut self) {
        self.scope.demonitor(self.group.as_ref(), self.id);
    }
}

impl std::fmt::Debug for GroupForwarding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupForwarding")
            .field("scope", &self.scope.name())
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

impl Subscriber {
    /// Called while nothing else changes, so that all hear all in one order.
    pub(super) fn tell(&self, event: &GroupEvent) {
        match self {
            Self::Stream(inbox) => {
                inbox.backlog.lock().push(event.clone());
                inbox.arrived.notify_one();
            }
            Self::Actor(tell) => {
                // A conversion of the user's runs in there.
                if catch_unwind(AssertUnwindSafe(|| tell(event))).is_err() {
                    tracing::error!("an observer panicked when it was told of a group");
                }
            }
        }
    }
}
