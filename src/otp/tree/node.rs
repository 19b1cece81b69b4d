//! What a supervisor notes of a child, for those who look.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{ChildState, Stuck, whole_millis};
use crate::otp::{
    ChildKind, ChildSpec, Context, ExitReason, Intensity, address::Slot, incarnation::Incarnation,
    sampler::Work, supervisor::intensity::Window,
};

/// What a supervisor notes of a child, for those who look.
#[derive(Debug)]
pub(crate) struct TreeNode {
    /// Where its supervisor stands; `None` at the root.
    parent: Option<Arc<str>>,
    id: Arc<str>,
    /// Which one of many with this id; 0 where there is one only.
    number: u64,
    /// Put together when somebody looks: there may be very many children, of whom nobody ever asks.
    path: OnceLock<Arc<str>>,
    pub(super) kind: ChildKind,
    pub(super) slot: Option<Arc<Slot>>,
    /// Milliseconds.
    stuck_after: AtomicU64,
    /// Whether it was told that this one is stuck.
    told_stuck: AtomicBool,
    pub(super) facts: Mutex<Facts>,
    pub(super) children: Mutex<BTreeMap<u64, Arc<TreeNode>>>,
}

#[derive(Debug)]
pub(super) struct Facts {
    pub(super) state: ChildState,
    pub(super) since: Instant,
    pub(super) incarnation: Option<Arc<Incarnation>>,
    pub(super) restarts: u64,
    pub(super) restart_at: Option<Instant>,
    pub(super) last_exit: Option<ExitReason>,
    pub(super) budget: Option<Box<Budget>>,
}

/// The restarts that count at the moment.
#[derive(Debug)]
pub(super) struct Budget {
    window: Window,
    began: Instant,
}

impl TreeNode {
    pub(crate) fn new(
        id: &Arc<str>,
        parent: Option<&Arc<str>>,
        kind: ChildKind,
        slot: Option<Arc<Slot>>,
        now: Instant,
    ) -> Arc<Self> {
        Self::numbered(id, 0, parent, kind, slot, now)
    }

    /// One of many with the same id, told apart by a number from 1 on.
    pub(crate) fn numbered(
        id: &Arc<str>,
        number: u64,
        parent: Option<&Arc<str>>,
        kind: ChildKind,
        slot: Option<Arc<Slot>>,
        now: Instant,
    ) -> Arc<Self> {
        Arc::new(Self {
            parent: parent.cloned(),
            id: Arc::clone(id),
            number,
            path: OnceLock::new(),
            kind,
            slot,
            stuck_after: AtomicU64::new(whole_millis(ChildSpec::STUCK_AFTER)),
            told_stuck: AtomicBool::new(false),
            facts: Mutex::new(Facts {
                state: ChildState::Starting,
                since: now,
                incarnation: None,
                restarts: 0,
                restart_at: None,
                last_exit: None,
                budget: None,
            }),
            children: Mutex::default(),
        })
    }

    /// Its id among its siblings: of one of many, `id#number`.
    pub(super) fn id(&self) -> Arc<str> {
        match self.number {
            0 => Arc::clone(&self.id),
            number => format!("{}#{number}", self.id).into(),
        }
    }

    pub(crate) fn path(&self) -> &Arc<str> {
        self.path.get_or_init(|| match &self.parent {
            None => self.id(),
            Some(parent) => format!("{parent}/{}", self.id()).into(),
        })
    }

    pub(crate) fn kind(&self) -> ChildKind {
        self.kind
    }

    pub(crate) fn slot(&self) -> Option<Arc<Slot>> {
        self.slot.clone()
    }

    /// Takes over what a child's spec says of what is shown.
    pub(crate) fn heed(&self, spec: &ChildSpec, now: Instant) {
        self.stuck_after
            .store(whole_millis(spec.extras().stuck_after), Ordering::Relaxed);
        if let Some(budget) = spec.extras().budget {
            self.set_budget(budget.intensity, now);
        }
    }

    /// Its restarts count against this from now on: a child's own budget, or a supervisor's for its children.
    pub(crate) fn set_budget(&self, intensity: Intensity, now: Instant) {
        let window = Window::new(intensity);
        self.facts.lock().budget = Some(Box::new(Budget { window, began: now }));
    }

    /// One restart that counts.
    pub(crate) fn count_restart(&self, now: Instant) {
        if let Some(budget) = &mut self.facts.lock().budget {
            let passed = now.saturating_duration_since(budget.began);
            budget.window.record(passed);
        }
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

    /// The context in which its latest life failed.
    pub(crate) fn failed_in(&self) -> Context {
        let facts = self.facts.lock();
        let latest = facts.incarnation.as_ref();
        latest.map_or_else(Context::default, |life| life.failed_in())
    }

    /// Its latest life was over before it began.
    pub(crate) fn start_failed(&self, reason: &ExitReason) {
        let mut facts = self.facts.lock();
        facts.last_exit = Some(reason.clone());
        if let Some(incarnation) = &facts.incarnation {
            incarnation.finish(reason.clone());
        }
    }

    /// Its life, where it leads one now that may be at work on messages.
    pub(crate) fn running(&self) -> Option<Arc<Incarnation>> {
        let facts = self.facts.lock();
        let at_work = matches!(facts.state, ChildState::Running | ChildState::Stopping);
        facts.incarnation.clone().filter(|_| at_work)
    }

    pub(super) fn is_stuck(&self, work: Work) -> bool {
        let limit = self.stuck_after.load(Ordering::Relaxed);
        work.in_message
            .is_some_and(|elapsed| whole_millis(elapsed) >= limit)
    }

    /// How long it has been at what, where that is too long.
    pub(crate) fn stuck(&self) -> Option<Stuck> {
        let life = self.running()?;
        let work = life.work();
        self.is_stuck(work).then(|| Stuck {
            path: Arc::clone(self.path()),
            message: life.message(),
            elapsed: work.in_message.unwrap_or_default(),
        })
    }

    /// Whether it is stuck and that is news, or was.
    pub(crate) fn becomes_stuck(&self, life: &Incarnation) -> bool {
        let stuck = self.is_stuck(life.work());
        let told = self.told_stuck.swap(stuck, Ordering::Relaxed);
        stuck && !told
    }

    /// The one at this path, here or below. Found by going down, not by looking at all.
    pub(crate) fn at(self: &Arc<Self>, path: &str) -> Option<Arc<Self>> {
        let below = path.strip_prefix(&**self.path())?;
        if below.is_empty() {
            return Some(Arc::clone(self));
        }
        let below = below.strip_prefix('/')?;
        let leads = |child: &&Arc<Self>| child.is_first_of(below);
        let child = self.children.lock().values().find(leads).cloned()?;
        child.at(path)
    }

    /// Whether it is, or leads to, what stands at this path below its supervisor.
    fn is_first_of(&self, path: &str) -> bool {
        let Some(mut rest) = path.strip_prefix(&*self.id) else {
            return false;
        };
        if self.number > 0 {
            let digits = rest.strip_prefix('#').unwrap_or_default();
            let end = digits.find('/').unwrap_or(digits.len());
            if digits[..end] != self.number.to_string() {
                return false;
            }
            rest = &digits[end..];
        }
        rest.is_empty() || rest.starts_with('/')
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

impl Budget {
    pub(super) fn left(&self, now: Instant) -> u32 {
        self.window.left(now.saturating_duration_since(self.began))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_of_many_is_named_by_its_id_and_its_number_and_found_by_them() {
        let now = Instant::now();
        let jobs = TreeNode::new(&"jobs".into(), None, ChildKind::Supervisor, None, now);
        for number in [1, 9, 10, 109, u64::MAX] {
            let id = "job".into();
            let parent = Some(jobs.path());
            let node = TreeNode::numbered(&id, number, parent, ChildKind::Task, None, now);
            assert_eq!(*node.id(), format!("job#{number}"));
            assert_eq!(**node.path(), format!("jobs/job#{number}"));
            jobs.add(number, node);
        }

        for (path, number) in [
            ("jobs/job#1", 1),
            ("jobs/job#10", 10),
            ("jobs/job#109", 109),
        ] {
            let found = jobs.at(path).map(|node| node.number);
            assert_eq!(found, Some(number), "{path}");
        }
        for path in [
            "jobs/job",
            "jobs/job#",
            "jobs/job#2",
            "jobs/job#01",
            "jobs/job#1x",
            "jobs/job1",
        ] {
            assert!(jobs.at(path).is_none(), "{path}");
        }
    }
}
