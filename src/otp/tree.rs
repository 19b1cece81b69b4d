//! A picture of a whole tree, taken without asking anyone in it.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{ChildKind, ExitReason, address::Slot, incarnation::Incarnation};

/// One child, and all below it, at one moment.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Tree {
    /// Its id among its siblings.
    pub id: Arc<str>,
    /// The ids from the root on, joined by `/`.
    pub path: Arc<str>,
    /// What it is.
    pub kind: ChildKind,
    /// What it is doing.
    pub state: ChildState,
    /// Which life this is, from 1 on; 0 before the first.
    pub incarnation: u64,
    /// How often it was restarted.
    pub restarts: u64,
    /// How long it has been in this state, in milliseconds.
    pub for_ms: u64,
    /// When the next start is due, in milliseconds from now, while it waits for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_in_ms: Option<u64>,
    /// Requests in flight to its address.
    pub admitted: usize,
    /// Requests that were refused because its address was full.
    pub refused: u64,
    /// Messages handled in this life.
    pub handled: u64,
    /// Whether it is handling a message now.
    pub busy: bool,
    /// How its last life ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<String>,
    /// Those below it, in start order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Tree>,
}

/// What a child is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ChildState {
    /// Its start is under way.
    Starting,
    /// It runs.
    Running,
    /// It ended, and will be started again.
    Restarting,
    /// It is being stopped.
    Stopping,
    /// It does not run, and will not by itself.
    Stopped,
    /// It was killed and did not end: something of it blocks a thread.
    Leaked,
}

impl Tree {
    /// This child and all below it, parents first.
    pub fn walk(&self) -> impl Iterator<Item = &Tree> {
        let mut waiting = vec![self];
        std::iter::from_fn(move || {
            let next = waiting.pop()?;
            waiting.extend(next.children.iter().rev());
            Some(next)
        })
    }

    /// The one at this path, here or below.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<&Tree> {
        self.walk().find(|child| &*child.path == path)
    }
}

/// What a supervisor notes of a child, for those who look.
#[derive(Debug)]
pub(crate) struct TreeNode {
    id: Arc<str>,
    path: Arc<str>,
    kind: ChildKind,
    slot: Option<Arc<Slot>>,
    facts: Mutex<Facts>,
    children: Mutex<BTreeMap<u64, Arc<TreeNode>>>,
}

#[derive(Debug)]
struct Facts {
    state: ChildState,
    since: Instant,
    incarnation: Option<Arc<Incarnation>>,
    restarts: u64,
    restart_at: Option<Instant>,
    last_exit: Option<ExitReason>,
}

impl TreeNode {
    pub(crate) fn new(
        id: &Arc<str>,
        parent: Option<&str>,
        kind: ChildKind,
        slot: Option<Arc<Slot>>,
        now: Instant,
    ) -> Arc<Self> {
        let path = match parent {
            None => Arc::clone(id),
            Some(parent) => format!("{parent}/{id}").into(),
        };
        Arc::new(Self {
            id: Arc::clone(id),
            path,
            kind,
            slot,
            facts: Mutex::new(Facts {
                state: ChildState::Starting,
                since: now,
                incarnation: None,
                restarts: 0,
                restart_at: None,
                last_exit: None,
            }),
            children: Mutex::default(),
        })
    }

    pub(crate) fn path(&self) -> &Arc<str> {
        &self.path
    }

    pub(crate) fn add(&self, key: u64, child: Arc<TreeNode>) {
        self.children.lock().insert(key, child);
    }

    pub(crate) fn remove(&self, key: u64) {
        self.children.lock().remove(&key);
    }

    /// A supervisor's new life begins with no children.
    pub(crate) fn clear(&self) {
        self.children.lock().clear();
    }

    pub(crate) fn starting(&self, incarnation: &Arc<Incarnation>, now: Instant) {
        let mut facts = self.facts.lock();
        facts.enter(ChildState::Starting, now);
        facts.restarts = incarnation.number.saturating_sub(1);
        facts.incarnation = Some(Arc::clone(incarnation));
    }

    pub(crate) fn enter(&self, state: ChildState, now: Instant) {
        self.facts.lock().enter(state, now);
    }

    pub(crate) fn restart_at(&self, at: Instant, now: Instant) {
        let mut facts = self.facts.lock();
        facts.enter(ChildState::Restarting, now);
        facts.restart_at = Some(at);
    }

    pub(crate) fn exited(&self, reason: &ExitReason) {
        self.facts.lock().last_exit = Some(reason.clone());
    }

    /// Its latest life was over before it began.
    pub(crate) fn start_failed(&self, reason: &ExitReason) {
        let mut facts = self.facts.lock();
        facts.last_exit = Some(reason.clone());
        if let Some(incarnation) = &facts.incarnation {
            incarnation.finish(reason.clone());
        }
    }

    pub(crate) fn snapshot(&self, now: Instant) -> Tree {
        let children = self.children.lock().values().cloned().collect::<Vec<_>>();
        let facts = self.facts.lock();
        let incarnation = facts.incarnation.as_deref();
        Tree {
            id: Arc::clone(&self.id),
            path: Arc::clone(&self.path),
            kind: self.kind,
            state: facts.state,
            incarnation: incarnation.map_or(0, |life| life.number),
            restarts: facts.restarts,
            for_ms: millis(now, facts.since),
            restart_in_ms: facts.restart_at.map(|at| millis(at, now)),
            admitted: self.slot.as_ref().map_or(0, |slot| slot.admitted()),
            refused: self.slot.as_ref().map_or(0, |slot| slot.refused()),
            handled: incarnation.map_or(0, Incarnation::handled),
            busy: facts.state == ChildState::Running
                && incarnation.is_some_and(Incarnation::is_busy),
            last_exit: facts.last_exit.as_ref().map(ToString::to_string),
            children: children.iter().map(|child| child.snapshot(now)).collect(),
        }
    }
}

#[cfg(feature = "testing")]
impl TreeNode {
    /// The first that fits, here or below.
    pub(crate) fn find(self: &Arc<Self>, fits: &impl Fn(&Self) -> bool) -> Option<Arc<Self>> {
        if fits(self) {
            return Some(Arc::clone(self));
        }
        let children = self.children.lock();
        children.values().find_map(|child| child.find(fits))
    }

    /// Whether it is reached through this slot.
    pub(crate) fn is_at(&self, slot: &Arc<Slot>) -> bool {
        self.slot
            .as_ref()
            .is_some_and(|mine| Arc::ptr_eq(mine, slot))
    }

    /// Its latest life.
    pub(crate) fn incarnation(&self) -> Option<Arc<Incarnation>> {
        self.facts.lock().incarnation.clone()
    }
}

impl Facts {
    fn enter(&mut self, state: ChildState, now: Instant) {
        self.state = state;
        self.since = now;
        self.restart_at = None;
    }
}

fn millis(later: Instant, earlier: Instant) -> u64 {
    let elapsed = later.saturating_duration_since(earlier);
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
