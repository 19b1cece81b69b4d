//! A picture of a whole tree, taken without asking anyone in it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    ChildKind, ChildSpec, Context, ExitReason, Intensity, address::Slot, admission::Gate,
    incarnation::Incarnation, sampler::Work, supervisor::intensity::Window,
};

/// One child, and all below it, at one moment.
///
/// All figures are read where they lie, so that no child is waited for; none of them costs a message a look at the clock.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use underpin::otp::{ChildSpec, ChildState, Intensity, Supervisor, SupervisorSpec};
///
/// let idle = ChildSpec::task("idle", |ctx| async move { Ok(ctx.cancelled().await) });
/// let spec = SupervisorSpec::new("app", Intensity::new(3, Duration::from_secs(5))).child(idle);
/// let app = Supervisor::start(spec).await?;
///
/// let tree = app.tree().expect("it was started");
/// let idle = tree.find("app/idle").expect("it is there");
/// assert_eq!((idle.state, idle.restarts, idle.stuck), (ChildState::Running, 0, false));
/// assert_eq!(tree.budget_left, Some(3));
/// # app.stop().await;
/// # Ok(()) }
/// ```
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
    /// How many more restarts the budget allows at this moment: a supervisor's for its children, or a child's own. `None` for a
    /// child without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_left: Option<u32>,
    /// How long it has been in this state, in milliseconds.
    pub for_ms: u64,
    /// How long this life has been running, in milliseconds; `None` when it does not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uptime_ms: Option<u64>,
    /// When the next start is due, in milliseconds from now, while it waits for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_in_ms: Option<u64>,
    /// Requests in flight to its address.
    pub admitted: usize,
    /// Callers that wait to be admitted.
    pub waiting: usize,
    /// Requests that were refused because its address was full.
    pub refused: u64,
    /// Requests that were skipped because their callers had given up.
    pub expired: u64,
    /// Answers that came when their callers had given up.
    pub late: u64,
    /// Messages handled in this life.
    pub handled: u64,
    /// Whether it is handling a message now.
    pub busy: bool,
    /// Which part of the time it was handling messages in the last ten seconds or so, from 0 to 1. Looked at ten times a
    /// second, and less often in a tree of more than some thousand children or one where nothing happens.
    pub busy_share: f64,
    /// How long it has been handling the current message, in milliseconds, to a tenth of a second; `None` between two messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_message_ms: Option<u64>,
    /// What the current message is called, where its address gives names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<&'static str>,
    /// Whether it has been at one message for longer than its spec finds good
    /// ([`ChildSpec::stuck_after`](super::ChildSpec::stuck_after)).
    pub stuck: bool,
    /// Whether it was suspended ([`Sys::suspend`](super::Sys::suspend)).
    pub suspended: bool,
    /// How its last life ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<String>,
    /// Those below it, in start order, as many as were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Tree>,
    /// How many more children it has than are in `children`.
    #[serde(skip_serializing_if = "is_none_left")]
    pub unlisted: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields so")]
fn is_none_left(unlisted: &usize) -> bool {
    *unlisted == 0
}

/// How much of a tree a picture shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeLimits {
    /// How many levels below the first; 0 shows it alone.
    pub depth: usize,
    /// How many children of each.
    pub children: usize,
    /// How many in all, shared out evenly among siblings.
    pub total: usize,
}

impl TreeLimits {
    /// What a picture shows by default: 64 levels, 1000 children of each, 10,000 in all, some megabytes as JSON.
    pub const DEFAULT: Self = Self {
        depth: 64,
        children: 1000,
        total: 10_000,
    };

    /// How many of `count` children are shown, and what is left for each of them. Pure.
    fn below(self, count: usize) -> (usize, Self) {
        let listed = match self.depth {
            0 => 0,
            _ => count.min(self.children).min(self.total),
        };
        let each = Self {
            depth: self.depth.saturating_sub(1),
            children: self.children,
            total: (self.total - listed).checked_div(listed).unwrap_or(0),
        };
        (listed, each)
    }
}

impl Default for TreeLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
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

/// A child that has been at one message for too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stuck {
    /// Where it stands in the tree.
    pub(crate) path: Arc<str>,
    /// What the message is called, where its address gives names.
    pub(crate) message: Option<&'static str>,
    /// How long it has been at it.
    pub(crate) elapsed: Duration,
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
    path: Arc<str>,
    /// Its last bytes are the id among its siblings.
    id_bytes: usize,
    kind: ChildKind,
    slot: Option<Arc<Slot>>,
    /// Milliseconds.
    stuck_after: AtomicU64,
    /// Whether it was told that this one is stuck.
    told_stuck: AtomicBool,
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
    budget: Option<Box<Budget>>,
}

/// The restarts that count at the moment.
#[derive(Debug)]
struct Budget {
    window: Window,
    began: Instant,
}

/// How far a walk through a tree has come: the keys of those on the way to the next one.
#[derive(Debug, Default)]
pub(crate) struct Cursor(Vec<u64>);

impl TreeNode {
    pub(crate) fn new(
        id: impl fmt::Display,
        parent: Option<&str>,
        kind: ChildKind,
        slot: Option<Arc<Slot>>,
        now: Instant,
    ) -> Arc<Self> {
        let path: Arc<str> = match parent {
            None => id.to_string().into(),
            Some(parent) => format!("{parent}/{id}").into(),
        };
        let parent_bytes = parent.map_or(0, |parent| parent.len() + 1);
        Arc::new(Self {
            id_bytes: path.len() - parent_bytes,
            path,
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

    fn id(&self) -> &str {
        &self.path[self.path.len() - self.id_bytes..]
    }

    pub(crate) fn path(&self) -> &Arc<str> {
        &self.path
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

    pub(crate) fn snapshot(&self, now: Instant, limits: TreeLimits) -> Tree {
        let (children, unlisted, each) = self.listed(limits);
        let children = children.iter().map(|child| child.snapshot(now, each));
        let children = children.collect();
        let facts = self.facts.lock();
        let running = facts.state == ChildState::Running;
        let life = facts.incarnation.as_deref();
        let work = life.filter(|_| running).map(Incarnation::work);
        let in_message = work.and_then(|work| work.in_message);
        let gate = self.slot.as_ref().map(|slot| slot.gate());
        Tree {
            id: self.id().into(),
            path: Arc::clone(&self.path),
            kind: self.kind,
            state: facts.state,
            incarnation: life.map_or(0, |life| life.number),
            restarts: facts.restarts,
            budget_left: facts.budget.as_ref().map(|budget| budget.left(now)),
            for_ms: millis(now, facts.since),
            uptime_ms: running.then(|| millis(now, facts.since)),
            restart_in_ms: facts.restart_at.map(|at| millis(at, now)),
            admitted: self.slot.as_ref().map_or(0, |slot| slot.admitted()),
            waiting: gate.map_or(0, Gate::waiting),
            refused: gate.map_or(0, Gate::refused),
            expired: gate.map_or(0, Gate::expired),
            late: gate.map_or(0, Gate::late),
            handled: life.map_or(0, Incarnation::handled),
            busy: in_message.is_some(),
            busy_share: work.map_or(0.0, |work| (work.busy_share * 1000.0).round() / 1000.0),
            in_message_ms: in_message.map(whole_millis),
            message: life
                .filter(|_| in_message.is_some())
                .and_then(Incarnation::message),
            stuck: work.is_some_and(|work| self.is_stuck(work)),
            suspended: life
                .filter(|_| running)
                .and_then(Incarnation::cell)
                .is_some_and(|cell| cell.is_suspended()),
            last_exit: facts.last_exit.as_ref().map(ToString::to_string),
            children,
            unlisted,
        }
    }

    /// The first children that the limits allow, how many more there are, and the limits of each.
    fn listed(&self, limits: TreeLimits) -> (Vec<Arc<TreeNode>>, usize, TreeLimits) {
        let children = self.children.lock();
        let (listed, each) = limits.below(children.len());
        let unlisted = children.len() - listed;
        let listed = children.values().take(listed).cloned().collect();
        (listed, unlisted, each)
    }

    fn is_stuck(&self, work: Work) -> bool {
        let limit = self.stuck_after.load(Ordering::Relaxed);
        work.in_message
            .is_some_and(|elapsed| whole_millis(elapsed) >= limit)
    }

    /// How long it has been at what, where that is too long.
    pub(crate) fn stuck(&self) -> Option<Stuck> {
        let life = self.running()?;
        let work = life.work();
        self.is_stuck(work).then(|| Stuck {
            path: Arc::clone(&self.path),
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
        if path == &*self.path {
            return Some(Arc::clone(self));
        }
        path.strip_prefix(&*self.path)?.strip_prefix('/')?;
        let leads = |child: &&Arc<Self>| {
            let rest = path.strip_prefix(&*child.path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let child = self.children.lock().values().find(leads).cloned()?;
        child.at(path)
    }

    /// Shows at most `most` children to `look`, going on where `cursor` was left; it begins anew after the last one.
    pub(crate) fn each_from(
        self: &Arc<Self>,
        cursor: &mut Cursor,
        most: usize,
        look: &mut impl FnMut(&Arc<Self>),
    ) {
        let from = std::mem::take(&mut cursor.0);
        let mut walk = WalkOn {
            left: most,
            path: Vec::new(),
            look,
        };
        if !walk.through(self, &from) {
            cursor.0 = walk.path;
        }
    }
}

/// A walk that ends after some steps.
struct WalkOn<'a, F> {
    left: usize,
    path: Vec<u64>,
    look: &'a mut F,
}

impl<F: FnMut(&Arc<TreeNode>)> WalkOn<'_, F> {
    /// Children are taken out of the lock by this many, so that no supervisor waits for long.
    const BATCH: usize = 256;

    /// Goes on at `from` below this one; `false` when it has to end here.
    fn through(&mut self, node: &Arc<TreeNode>, from: &[u64]) -> bool {
        if from.is_empty() {
            if self.left == 0 {
                return false;
            }
            self.left -= 1;
            (self.look)(node);
        }
        let (mut next, rest) = match from.split_first() {
            None => (0, &[][..]),
            Some((first, rest)) => (*first, rest),
        };
        let resumed = next;
        loop {
            let batch: Vec<_> = {
                let children = node.children.lock();
                let on = children.range(next..).take(Self::BATCH);
                on.map(|(key, child)| (*key, Arc::clone(child))).collect()
            };
            let Some((last, _)) = batch.last() else {
                return true;
            };
            next = last.saturating_add(1);
            for (key, child) in batch {
                self.path.push(key);
                let below = if key == resumed { rest } else { &[] };
                if !self.through(&child, below) {
                    return false;
                }
                self.path.pop();
            }
        }
    }
}

/// The children of a tree that its sampler found stuck.
#[derive(Debug, Default)]
pub(crate) struct StuckOnes(Mutex<Vec<Weak<TreeNode>>>);

impl StuckOnes {
    /// How many are remembered: where so many are stuck, more names do not tell more.
    const MOST: usize = 100;

    pub(crate) fn add(&self, node: &Arc<TreeNode>) {
        let mut all = self.0.lock();
        all.retain(|other| other.upgrade().is_some_and(|other| other.stuck().is_some()));
        if all.len() < Self::MOST {
            all.push(Arc::downgrade(node));
        }
    }

    /// Those that are stuck now.
    pub(crate) fn list(&self) -> Vec<Stuck> {
        let all = self.0.lock();
        let mut stuck: Vec<Stuck> = all
            .iter()
            .filter_map(|node| node.upgrade()?.stuck())
            .collect();
        stuck.sort_by(|a, b| a.path.cmp(&b.path));
        stuck.dedup_by(|a, b| a.path == b.path);
        stuck
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
    fn left(&self, now: Instant) -> u32 {
        self.window.left(now.saturating_duration_since(self.began))
    }
}

fn millis(later: Instant, earlier: Instant) -> u64 {
    whole_millis(later.saturating_duration_since(earlier))
}

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn node(id: &str, parent: Option<&TreeNode>) -> Arc<TreeNode> {
        let parent = parent.map(|parent| &*parent.path);
        TreeNode::new(id, parent, ChildKind::Supervisor, None, Instant::now())
    }

    /// A root with `wide` children, each with `below` of its own.
    fn tree(wide: u64, below: u64) -> Arc<TreeNode> {
        let root = node("root", None);
        for n in 0..wide {
            let child = node(&n.to_string(), Some(&root));
            for m in 0..below {
                child.add(m, node(&m.to_string(), Some(&child)));
            }
            root.add(n, child);
        }
        root
    }

    #[test]
    fn a_picture_shows_as_much_as_it_may_and_counts_the_rest() {
        let root = tree(10, 5);
        let shown = |depth, children, total| {
            let limits = TreeLimits {
                depth,
                children,
                total,
            };
            let tree = root.snapshot(Instant::now(), limits);
            let unlisted: usize = tree.walk().map(|child| child.unlisted).sum();
            (tree.walk().count(), unlisted)
        };
        assert_eq!(shown(64, 1000, 10_000), (61, 0));
        assert_eq!(shown(0, 1000, 10_000), (1, 10));
        assert_eq!(shown(1, 1000, 10_000), (11, 50));
        assert_eq!(shown(64, 3, 10_000), (1 + 3 + 9, 7 + 6));
        assert_eq!(shown(64, 1000, 10), (11, 50));
        assert_eq!(shown(64, 1000, 30), (1 + 10 + 20, 30));
    }

    #[test]
    fn a_child_is_found_by_its_path_and_no_other() {
        let root = tree(12, 2);
        for path in ["root", "root/1", "root/11", "root/11/1"] {
            let found = root.at(path).map(|node| Arc::clone(&node.path));
            assert_eq!(found.as_deref(), Some(path));
        }
        for path in ["", "roo", "roots", "root/", "root/12", "root/1/7", "1"] {
            assert!(root.at(path).is_none(), "{path}");
        }
    }

    proptest::proptest! {
        /// A walk in pieces of any size sees each child once a round, whatever comes and goes meanwhile.
        #[test]
        fn a_walk_in_pieces_sees_everyone_who_stays(
            wide in 0_u64..40,
            below in 0_u64..5,
            most in 1_usize..30,
            gone in proptest::collection::vec(0_u64..40, 0..10),
        ) {
            let root = tree(wide, below);
            let (mut cursor, mut seen) = (Cursor::default(), Vec::new());
            let mut gone = gone.into_iter();
            loop {
                let before = seen.len();
                root.each_from(&mut cursor, most, &mut |node| seen.push(Arc::clone(&node.path)));
                proptest::prop_assert!(seen.len() - before <= most);
                if cursor.0.is_empty() {
                    break;
                }
                if let Some(key) = gone.next() {
                    root.remove(key);
                }
            }
            let seen_once: BTreeSet<_> = seen.iter().cloned().collect();
            proptest::prop_assert_eq!(seen.len(), seen_once.len());
            let all = TreeLimits { depth: 9, children: usize::MAX, total: usize::MAX };
            for child in root.snapshot(Instant::now(), all).walk() {
                proptest::prop_assert!(seen_once.contains(&child.path), "{} was not seen", child.path);
            }
        }
    }

    #[test]
    fn a_budget_comes_back_as_restarts_grow_old() {
        let now = Instant::now();
        let one = node("a", None);
        one.set_budget(Intensity::new(2, Duration::from_secs(1)), now);
        let left = |after| one.snapshot(now + after, TreeLimits::DEFAULT).budget_left;
        assert_eq!(left(Duration::ZERO), Some(2));

        one.count_restart(now);
        one.count_restart(now + Duration::from_millis(500));

        assert_eq!(left(Duration::from_secs(1)), Some(0));
        assert_eq!(left(Duration::from_millis(1001)), Some(1));
        assert_eq!(left(Duration::from_millis(1501)), Some(2));
    }
}
