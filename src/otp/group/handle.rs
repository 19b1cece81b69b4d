use std::{fmt, marker::PhantomData, sync::Arc};

use ractor::{ActorCell, ActorRef, Message};

use super::{
    GroupEvent, GroupForwarding, GroupMonitor, GroupSnapshot, JoinError, NotJoined,
    scope::{News, Published, Scope, is_ending},
};
use crate::otp::Address;

/// A scope of groups: OTP's `pg` scope. Cheap to clone; a clone is the same scope.
///
/// It needs no supervisor: its lists are kept by whoever changes them, and a small actor of its own hears of deaths. Should that
/// one ever end, the next who joins or monitors starts another, which finds out what happened meanwhile.
#[derive(Clone)]
pub struct Groups {
    scope: Arc<Scope>,
}

impl Groups {
    /// A new scope that no other meets, whatever its name; `name` is for those who read logs.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let number = Scope::number();
        Self::in_scope(format!("underpin:{name}:{number}"))
    }

    /// The scope that ractor's `pg` knows by exactly this name, with whoever else uses it in this process and, with ractor's
    /// cluster, in others.
    ///
    /// What is a multiset here is a set there: a membership that somebody takes back in `pg` itself is gone however often it was
    /// taken here.
    #[must_use]
    pub fn in_scope(name: impl Into<String>) -> Self {
        Self {
            scope: Scope::new(name.into()),
        }
    }

    /// The name by which ractor's `pg` knows the scope.
    #[must_use]
    pub fn scope(&self) -> &str {
        self.scope.name()
    }

    /// A group of those who understand `M`. It needs not exist yet.
    #[must_use]
    pub fn group<M: Message>(&self, name: impl Into<Arc<str>>) -> Group<M> {
        let name = name.into();
        let published = self.scope.hold(&name);
        let scope = Arc::clone(&self.scope);
        Group {
            held: Arc::new(Held {
                scope,
                name,
                published,
            }),
            message: PhantomData,
        }
    }

    /// The names of the groups that have members, sorted.
    #[must_use]
    pub fn which_groups(&self) -> Vec<Arc<str>> {
        self.scope.which_groups()
    }

    /// How many members of this node each group has. Takes as long as there are members.
    #[must_use]
    pub fn local_counts(&self) -> Vec<(Arc<str>, usize)> {
        self.scope.local_counts()
    }

    /// What is in all groups, and what changes from that moment on.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn monitor(&self) -> (GroupSnapshot, GroupMonitor) {
        GroupMonitor::new(&self.scope, None)
    }

    /// The same, and what changes comes to an actor as messages of its own.
    ///
    /// The conversion into a message runs while the scope is locked: it must be short and must not use the scope's groups.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn forward_to<M: Message + From<GroupEvent>>(
        &self,
        observer: &ActorRef<M>,
    ) -> (GroupSnapshot, GroupForwarding) {
        GroupForwarding::new(&self.scope, None, observer)
    }

    /// How many monitors there are.
    #[must_use]
    pub fn monitors(&self) -> usize {
        self.scope.monitors()
    }
}

impl fmt::Debug for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Groups").field(&self.scope.name()).finish()
    }
}

/// One group of a scope, for those who understand `M`. Cheap to clone.
///
/// Members that understand something else, because the same name is used with another type, are members all the same; what is
/// broadcast here does not reach them, and they are counted as [`Broadcast::unreached`].
pub struct Group<M> {
    held: Arc<Held>,
    message: PhantomData<fn(M)>,
}

struct Held {
    scope: Arc<Scope>,
    name: Arc<str>,
    published: Arc<Published>,
}

/// How many got a message that went to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Broadcast {
    /// As many mailboxes as this have it.
    pub sent: usize,
    /// As many members did not: they are ending, or understand other messages.
    pub unreached: usize,
}

impl<M: Message> Group<M> {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.held.name
    }

    /// Adds an actor; one that is in it already is in it once more.
    ///
    /// # Errors
    ///
    /// [`JoinError`].
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn join(&self, actor: &ActorRef<M>) -> Result<(), JoinError> {
        self.add(&[actor.get_cell()])
    }

    /// Adds several in one step, which monitors hear of at once. One that is named twice joins twice.
    ///
    /// # Errors
    ///
    /// [`JoinError`]; then none has joined.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn join_all(&self, actors: &[ActorRef<M>]) -> Result<(), JoinError> {
        self.add(&cells(actors))
    }

    /// Adds the actor that lives at an address now. Its successor is not in the group: for that there is
    /// [`ChildSpec::joins`](crate::otp::ChildSpec::joins).
    ///
    /// # Errors
    ///
    /// [`JoinError`].
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn join_address(&self, address: &Address<M>) -> Result<(), JoinError> {
        let actor = address.actor().ok_or_else(|| JoinError::Down {
            group: Arc::clone(&self.held.name),
        })?;
        self.add(&[actor])
    }

    /// Takes one membership of an actor back.
    ///
    /// # Errors
    ///
    /// [`NotJoined`].
    pub fn leave(&self, actor: &ActorRef<M>) -> Result<(), NotJoined> {
        self.leave_all(std::slice::from_ref(actor)).map(|_| ())
    }

    /// Takes one membership of each back, in one step, and tells how many those were; one that is named twice leaves twice.
    ///
    /// # Errors
    ///
    /// [`NotJoined`] when none of them is a member.
    pub fn leave_all(&self, actors: &[ActorRef<M>]) -> Result<usize, NotJoined> {
        let held = &self.held;
        held.scope.leave(&held.name, &cells(actors))
    }

    /// All members that have not ended, as often as each joined and in that order.
    #[must_use]
    pub fn members(&self) -> Vec<ActorCell> {
        self.living(|_| true)
    }

    /// Those of them that live in this process.
    #[must_use]
    pub fn local_members(&self) -> Vec<ActorCell> {
        self.living(|member| member.get_id().is_local())
    }

    /// Sends a message to every member, as often as it joined. Never waits.
    ///
    /// Goes outside of admission, as [`Address::send`] does.
    pub fn broadcast(&self, message: &M) -> Broadcast
    where
        M: Clone,
    {
        self.broadcast_with(|| message.clone())
    }

    /// The same for messages that are made one by one.
    pub fn broadcast_with(&self, mut make: impl FnMut() -> M) -> Broadcast {
        let list = self.list();
        let sent = list
            .iter()
            .filter(|member| member.send_message(make()).is_ok())
            .count();
        Broadcast {
            sent,
            unreached: list.len() - sent,
        }
    }

    /// Who is in the group, and what changes from that moment on.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn monitor(&self) -> (Vec<ActorCell>, GroupMonitor) {
        let held = &self.held;
        let (snapshot, monitor) = GroupMonitor::new(&held.scope, Some(Arc::clone(&held.name)));
        (only(snapshot), monitor)
    }

    /// The same, and what changes comes to an actor as messages of its own.
    ///
    /// The conversion into a message runs while the scope is locked: it must be short and must not use the scope's groups.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn forward_to<O: Message + From<GroupEvent>>(
        &self,
        observer: &ActorRef<O>,
    ) -> (Vec<ActorCell>, GroupForwarding) {
        let held = &self.held;
        let group = Some(Arc::clone(&held.name));
        let (snapshot, forwarding) = GroupForwarding::new(&held.scope, group, observer);
        (only(snapshot), forwarding)
    }

    pub(super) fn add(&self, actors: &[ActorCell]) -> Result<(), JoinError> {
        let held = &self.held;
        held.scope.join(&held.name, actors)
    }

    /// This one has ended, of which the news may still be on their way.
    pub(super) fn ended(&self, actor: ActorCell) {
        let held = &self.held;
        held.scope.reconcile(News::Left, &held.name, &[actor]);
    }

    /// The news of an end may still be on their way.
    fn living(&self, wanted: impl Fn(&ActorCell) -> bool) -> Vec<ActorCell> {
        let list = self.list();
        let living = list
            .iter()
            .filter(|member| !is_ending(member) && wanted(member));
        living.cloned().collect()
    }

    fn list(&self) -> Arc<Vec<ActorCell>> {
        let held = &self.held;
        held.scope.list(&held.name, &held.published)
    }
}

impl<M> Clone for Group<M> {
    fn clone(&self) -> Self {
        Self {
            held: Arc::clone(&self.held),
            message: PhantomData,
        }
    }
}

impl<M> fmt::Debug for Group<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("scope", &self.held.scope.name())
            .field("name", &self.held.name)
            .finish_non_exhaustive()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.scope.release(&self.name);
    }
}

fn cells<M: Message>(actors: &[ActorRef<M>]) -> Vec<ActorCell> {
    actors.iter().map(ActorRef::get_cell).collect()
}

/// The one group of a snapshot of one group.
fn only(snapshot: GroupSnapshot) -> Vec<ActorCell> {
    snapshot.into_values().next().unwrap_or_default()
}
