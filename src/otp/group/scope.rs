//! One scope: the lists that are kept beside ractor's `pg`, and who is told when they change.

use std::{
    collections::{BTreeMap, HashMap, HashSet, hash_map::Entry},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use ractor::{ActorCell, ActorId, ActorRef, ActorStatus, pg};

use super::{
    JoinError, NotJoined,
    keeper::{Keeper, Nothing},
    monitor::{GroupEvent, GroupSnapshot},
    state::{Member, Removed, Roster},
};
use crate::otp::feed::Subscriber;

impl Member for ActorCell {
    type Id = ActorId;

    fn id(&self) -> ActorId {
        self.get_id()
    }
}

pub(super) struct Scope {
    /// As ractor's `pg` knows it.
    pg: String,
    /// Held over each change here and in `pg`, so that the two agree whenever it is free; but for what others do to `pg`, which
    /// the keeper is told.
    state: Mutex<State>,
    keeper: Mutex<Option<ActorRef<Nothing>>>,
}

#[derive(Default)]
struct State {
    groups: HashMap<Arc<str>, Kept>,
    monitors: BTreeMap<u64, Subscriber<GroupEvent>>,
    /// By the group's name; those of the whole scope are under `None`.
    watched: HashMap<Option<Arc<str>>, Vec<u64>>,
}

/// What is kept of one group, while it has members or somebody holds a handle of it.
#[derive(Default)]
struct Kept {
    roster: Roster<ActorCell>,
    published: Arc<Published>,
    handles: usize,
}

/// The list that broadcasts go through; none when it has changed since it was made.
#[derive(Debug, Default)]
pub(super) struct Published(ArcSwapOption<Vec<ActorCell>>);

/// What `pg` says of some actors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    Joined,
    Left,
    /// Nobody listened for a while.
    Unknown,
}

static NEXT: AtomicU64 = AtomicU64::new(1);

impl Scope {
    pub(super) fn new(pg: String) -> Arc<Self> {
        Arc::new(Self {
            pg,
            state: Mutex::default(),
            keeper: Mutex::default(),
        })
    }

    /// A number that no other scope and no other monitor of this process has.
    pub(super) fn number() -> u64 {
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn name(&self) -> &str {
        &self.pg
    }

    /// Begins to keep the list of a group for one more handle.
    pub(super) fn hold(&self, group: &Arc<str>) -> Arc<Published> {
        let mut state = self.state.lock();
        let kept = state.groups.entry(Arc::clone(group)).or_default();
        kept.handles += 1;
        Arc::clone(&kept.published)
    }

    /// A handle goes.
    pub(super) fn release(&self, group: &Arc<str>) {
        let mut state = self.state.lock();
        if let Some(kept) = state.groups.get_mut(group) {
            kept.handles -= 1;
        }
        state.forget_idle(group);
    }

    /// Adds actors, each as often as it is named, in one change.
    pub(super) fn join(
        self: &Arc<Self>,
        group: &Arc<str>,
        actors: &[ActorCell],
    ) -> Result<(), JoinError> {
        self.keep_up();
        let ended = || JoinError::Ended {
            group: Arc::clone(group),
        };
        if actors.iter().any(|actor| !actor.get_id().is_local()) {
            return Err(JoinError::NotLocal {
                group: Arc::clone(group),
            });
        }
        if actors.iter().any(is_ending) {
            return Err(ended());
        }
        let mut state = self.state.lock();
        pg::join_scoped(self.pg.clone(), group.to_string(), actors.to_vec());
        // One that ended meanwhile is out again already, or will be; the news of that are handled after this.
        let living: Vec<_> = actors
            .iter()
            .filter(|actor| !is_ending(actor))
            .cloned()
            .collect();
        if living.is_empty() && !actors.is_empty() {
            return Err(ended());
        }
        state.add(group, living);
        Ok(())
    }

    /// Takes actors out, each as often as it is named, in one change. Tells how many were in.
    pub(super) fn leave(&self, group: &Arc<str>, actors: &[ActorCell]) -> Result<usize, NotJoined> {
        let mut state = self.state.lock();
        let (mut left, mut out) = (Vec::new(), Vec::new());
        if let Some(kept) = state.groups.get_mut(group) {
            for actor in actors {
                match kept.roster.remove_one(actor.get_id()) {
                    Removed::NotThere => continue,
                    Removed::Once => {}
                    Removed::Last => out.push(actor.clone()),
                }
                left.push(actor.clone());
            }
        }
        if left.is_empty() {
            return Err(NotJoined {
                group: Arc::clone(group),
            });
        }
        if !out.is_empty() {
            pg::leave_scoped(self.pg.clone(), group.to_string(), out);
        }
        let count = left.len();
        state.left(group, left);
        Ok(count)
    }

    /// The list of a group, as it was published last or as it is now.
    pub(super) fn list(&self, group: &Arc<str>, published: &Published) -> Arc<Vec<ActorCell>> {
        if let Some(list) = &*published.0.load() {
            return Arc::clone(list);
        }
        let state = self.state.lock();
        let kept = state.groups.get(group);
        let list =
            Arc::new(kept.map_or_else(Vec::new, |kept| kept.roster.iter().cloned().collect()));
        // Under the lock, so that no change comes between the look and this.
        published.0.store(Some(Arc::clone(&list)));
        list
    }

    pub(super) fn which_groups(&self) -> Vec<Arc<str>> {
        let state = self.state.lock();
        let mut names: Vec<_> = state
            .populated()
            .map(|(name, _)| Arc::clone(name))
            .collect();
        names.sort_unstable();
        names
    }

    pub(super) fn local_counts(&self) -> Vec<(Arc<str>, usize)> {
        let local = |kept: &Kept| {
            let members = kept.roster.iter();
            members.filter(|member| member.get_id().is_local()).count()
        };
        let state = self.state.lock();
        let counts = state.populated();
        counts
            .map(|(name, kept)| (Arc::clone(name), local(kept)))
            .collect()
    }

    /// Registers a monitor of one group, or of all, and shows what is at this moment.
    pub(super) fn monitor(
        self: &Arc<Self>,
        group: Option<&Arc<str>>,
        subscriber: Subscriber<GroupEvent>,
    ) -> (u64, GroupSnapshot) {
        self.keep_up();
        let id = Self::number();
        let mut state = self.state.lock();
        state.monitors.insert(id, subscriber);
        state.watched.entry(group.cloned()).or_default().push(id);
        let snapshot = state.snapshot(group);
        (id, snapshot)
    }

    pub(super) fn demonitor(&self, group: Option<&Arc<str>>, id: u64) {
        let mut state = self.state.lock();
        let removed = state.monitors.remove(&id);
        if let Entry::Occupied(mut watched) = state.watched.entry(group.cloned()) {
            watched.get_mut().retain(|other| *other != id);
            if watched.get().is_empty() {
                watched.remove();
            }
        }
        drop(state);
        // It may be the last to hold something of a user's.
        drop(removed);
    }

    pub(super) fn monitors(&self) -> usize {
        self.state.lock().monitors.len()
    }

    /// What is, and what `also` does in the same moment.
    pub(super) fn snapshot<T>(
        &self,
        group: Option<&Arc<str>>,
        also: impl FnOnce() -> T,
    ) -> (GroupSnapshot, T) {
        let state = self.state.lock();
        (state.snapshot(group), also())
    }

    /// `pg` tells news of these: makes the list agree with it. Of what was done here, the list knows already.
    ///
    /// News may come late, and not in the order of what they tell of; but each comes after it. So where they say other than the
    /// list, `pg` itself is looked at, and the last news make it right.
    pub(super) fn reconcile(&self, news: News, group: &str, actors: &[ActorCell]) {
        let group: Arc<str> = group.into();
        let mut state = self.state.lock();
        let mut looked_at = None;
        let mut is_member = |actor: &ActorCell| {
            let look = || pg::get_scoped_members(&self.pg, &group.to_string());
            let truth: &HashSet<ActorId> =
                looked_at.get_or_insert_with(|| look().iter().map(ActorCell::get_id).collect());
            !is_ending(actor) && truth.contains(&actor.get_id())
        };
        let (mut gone, mut come) = (Vec::new(), Vec::new());
        for actor in actors {
            let is_kept = state.contains(&group, actor);
            // An end is plain to see, without a look at all the others.
            if is_kept && news != News::Joined && (is_ending(actor) || !is_member(actor)) {
                gone.extend(state.remove_all(&group, actor));
            }
            if !is_kept && news != News::Left && is_member(actor) && !come.contains(actor) {
                come.push(actor.clone());
            }
        }
        if !gone.is_empty() {
            state.left(&group, gone);
        }
        state.add(&group, come);
    }

    /// Sees to it that somebody hears what `pg` tells.
    fn keep_up(self: &Arc<Self>) {
        let mut keeper = self.keeper.lock();
        if keeper.as_ref().is_some_and(|keeper| !is_ending(keeper)) {
            return;
        }
        let is_first = keeper.is_none();
        *keeper = Keeper::start(self);
        if let Some(keeper) = &*keeper {
            pg::monitor_scope(self.pg.clone(), keeper.get_cell());
        }
        drop(keeper);
        if !is_first || self.is_shared() {
            self.reconcile_all();
        }
    }

    /// Whether `pg` may have known the scope before.
    fn is_shared(&self) -> bool {
        !pg::which_scoped_groups(&self.pg).is_empty()
    }

    fn reconcile_all(&self) {
        let mut groups: HashSet<String> = pg::which_scoped_groups(&self.pg).into_iter().collect();
        let state = self.state.lock();
        groups.extend(state.populated().map(|(name, _)| name.to_string()));
        drop(state);
        for group in groups {
            let mut actors = pg::get_scoped_members(&self.pg, &group);
            let state = self.state.lock();
            let kept = state.groups.get(group.as_str());
            actors.extend(
                kept.into_iter()
                    .flat_map(|kept| kept.roster.distinct().cloned()),
            );
            drop(state);
            self.reconcile(News::Unknown, &group, &actors);
        }
    }
}

impl State {
    fn populated(&self) -> impl Iterator<Item = (&Arc<str>, &Kept)> {
        self.groups
            .iter()
            .filter(|(_, kept)| !kept.roster.is_empty())
    }

    fn contains(&self, group: &Arc<str>, actor: &ActorCell) -> bool {
        let kept = self.groups.get(group);
        kept.is_some_and(|kept| kept.roster.contains(actor.get_id()))
    }

    fn remove_all(&mut self, group: &Arc<str>, actor: &ActorCell) -> Vec<ActorCell> {
        let kept = self.groups.get_mut(group);
        kept.map_or_else(Vec::new, |kept| kept.roster.remove_all(actor.get_id()))
    }

    fn snapshot(&self, group: Option<&Arc<str>>) -> GroupSnapshot {
        let members = |kept: &Kept| kept.roster.iter().cloned().collect();
        let wanted = self
            .populated()
            .filter(|(name, _)| group.is_none_or(|group| group == *name));
        wanted
            .map(|(name, kept)| (Arc::clone(name), members(kept)))
            .collect()
    }

    fn add(&mut self, group: &Arc<str>, actors: Vec<ActorCell>) {
        if actors.is_empty() {
            return;
        }
        let kept = self.groups.entry(Arc::clone(group)).or_default();
        for actor in &actors {
            kept.roster.add(actor.clone());
        }
        kept.published.0.store(None);
        self.tell(&GroupEvent::Joined {
            group: Arc::clone(group),
            actors: actors.into(),
        });
    }

    /// These have been taken out.
    fn left(&mut self, group: &Arc<str>, actors: Vec<ActorCell>) {
        if let Some(kept) = self.groups.get(group) {
            kept.published.0.store(None);
        }
        self.forget_idle(group);
        self.tell(&GroupEvent::Left {
            group: Arc::clone(group),
            actors: actors.into(),
        });
    }

    fn forget_idle(&mut self, group: &Arc<str>) {
        let kept = self.groups.get(group);
        if kept.is_some_and(|kept| kept.handles == 0 && kept.roster.is_empty()) {
            self.groups.remove(group);
        }
    }

    fn tell(&self, event: &GroupEvent) {
        for key in [None, event.group().cloned()] {
            let watching = self.watched.get(&key).into_iter().flatten();
            for subscriber in watching.filter_map(|id| self.monitors.get(id)) {
                subscriber.tell(event);
            }
        }
    }
}

impl Drop for Scope {
    /// Nobody can reach the scope any more: what is left of it in `pg` goes.
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.get_mut() {
            keeper.stop(None);
        }
        for (group, kept) in std::mem::take(&mut self.state.get_mut().groups) {
            let local = kept
                .roster
                .distinct()
                .filter(|actor| actor.get_id().is_local());
            let members: Vec<_> = local.cloned().collect();
            if !members.is_empty() {
                pg::leave_scoped(self.pg.clone(), group.to_string(), members);
            }
        }
    }
}

/// `pg` drops an actor when it begins to stop.
pub(super) fn is_ending(actor: &ActorCell) -> bool {
    actor.get_status() >= ActorStatus::Stopping
}
