use std::{collections::BTreeMap, sync::Arc};

use ractor::{ActorCell, ActorRef, Message};

use super::scope::Scope;
use crate::otp::feed::{Inbox, Subscriber, Unread};

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
    inbox: Arc<Inbox<GroupEvent>>,
}

impl GroupMonitor {
    /// How many changes wait to be read: enough for a start of a thousand children, some 100 kB.
    pub const BOUND: usize = 1024;

    pub(super) fn new(scope: &Arc<Scope>, group: Option<Arc<str>>) -> (GroupSnapshot, Self) {
        let inbox = Inbox::new(Self::BOUND);
        let subscriber = Subscriber::Stream(Arc::clone(&inbox));
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
        loop {
            let unread = self.inbox.unread().await;
            if let Some(event) = self.event(unread) {
                return event;
            }
        }
    }

    /// The next change, if there is one.
    pub fn try_next(&mut self) -> Option<GroupEvent> {
        self.event(self.inbox.pop())
    }

    fn event(&self, unread: Unread<GroupEvent>) -> Option<GroupEvent> {
        match unread {
            Unread::Nothing => None,
            Unread::Event(event) => Some(event),
            Unread::Missed(missed) => Some(self.resync(missed)),
        }
    }

    /// What is; and all that had come up to this moment is done with.
    fn resync(&self, missed: u64) -> GroupEvent {
        let rest = || self.inbox.clear();
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
        let subscriber = Subscriber::actor(observer);
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
