//! A picture of a whole tree, taken without asking anyone in it.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{ChildKind, admission::Gate, incarnation::Incarnation};

mod node;
mod walk;

pub(crate) use node::TreeNode;
pub(crate) use walk::{Cursor, StuckOnes};

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

/// How it is shown.
impl TreeNode {
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
            id: self.id(),
            path: Arc::clone(self.path()),
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
    use crate::otp::Intensity;

    fn node(id: &str, parent: Option<&TreeNode>) -> Arc<TreeNode> {
        let parent = parent.map(TreeNode::path);
        TreeNode::new(
            &id.into(),
            parent,
            ChildKind::Supervisor,
            None,
            Instant::now(),
        )
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
            let found = root.at(path).map(|node| Arc::clone(node.path()));
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
                root.each_from(&mut cursor, most, &mut |node| seen.push(Arc::clone(node.path())));
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
