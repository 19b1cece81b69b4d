use std::{
    any::Any,
    panic::{AssertUnwindSafe, Location, resume_unwind},
};

use futures_util::FutureExt;

use crate::{
    node::{Node, NodeBuilder},
    otp::{Lifecycle, Report, ReportStream, ShutdownReport, StopKind, Supervisor, SupervisorSpec},
};

use super::wait::{PATIENCE, patiently};

/// Runs a story on a tree of its own, and stops the tree afterwards, whether the story succeeds or fails.
///
/// The tree is what the program itself would start: give it the program's own spec. Two trees never meet, whatever they are
/// called: addresses, ids and paths mean something only within one tree.
///
/// ```
/// use std::time::Duration;
/// use underpin::{
///     otp::{ChildSpec, Intensity, SupervisorSpec},
///     testing::with_tree,
/// };
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let idle = ChildSpec::task("idle", |ctx| async move { Ok(ctx.cancelled().await) });
/// let shop = SupervisorSpec::new("shop", Intensity::new(3, Duration::from_secs(5))).child(idle);
///
/// let active = with_tree(shop, async |shop| shop.count_children().await.map(|counts| counts.active)).await;
///
/// assert_eq!(active, Ok(1));
/// # }
/// ```
///
/// # Panics
///
/// The tree does not start, or does not stop within [`PATIENCE`]; or a child leaked: it did not even end when it was killed,
/// at any time while the tree ran. A panic of the story goes on after the stop.
///
/// # Cancel safety
///
/// Not cancel safe: dropping the future leaves the tree running.
#[track_caller]
pub fn with_tree<T>(
    spec: SupervisorSpec,
    story: impl AsyncFnOnce(&Supervisor) -> T,
) -> impl Future<Output = T> {
    let caller = Location::caller();
    async move {
        let tree = match Supervisor::start(spec).await {
            Ok(tree) => tree,
            Err(error) => panic!("{caller}: the tree did not start: {error}"),
        };
        let reports = tree.reports();
        let outcome = AssertUnwindSafe(story(&tree)).catch_unwind().await;
        let stopped = patiently(tree.stop()).await;
        end(outcome, stopped, reports, caller)
    }
}

/// Runs a story on a node of its own, and shuts the node down afterwards, whether the story succeeds or fails.
///
/// Begin with [`in_memory`], or give it the program's own builder with a folder of the test's own.
///
/// ```
/// use underpin::testing::{Life, in_memory, with_node};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// with_node(in_memory(), async |node| {
///     Life::of(node.supervisor(), "events").kill().restarted().await;
///
///     let event = node.events().event("still_here").build().expect("valid");
///     assert!(node.events().store(event).await.is_ok());
/// })
/// .await;
/// # }
/// ```
///
/// # Panics
///
/// As [`with_tree`].
///
/// # Cancel safety
///
/// Dropping the future stops the node abruptly.
#[track_caller]
pub fn with_node<T>(
    builder: NodeBuilder,
    story: impl AsyncFnOnce(&Node) -> T,
) -> impl Future<Output = T> {
    let caller = Location::caller();
    async move {
        let node = match builder.start().await {
            Ok(node) => node,
            Err(error) => panic!("{caller}: the node did not start: {error}"),
        };
        let reports = node.supervisor().reports();
        let outcome = AssertUnwindSafe(story(&node)).catch_unwind().await;
        let stopped = patiently(node.shutdown()).await;
        end(outcome, stopped, reports, caller)
    }
}

/// A node for a test: named `test`, everything in memory, and deaf to the environment of whoever runs the tests.
#[must_use]
pub fn in_memory() -> NodeBuilder {
    Node::builder().name("test").memory().without_environment()
}

/// A story's own failure comes first; then that of the stop.
fn end<T>(
    outcome: Result<T, Box<dyn Any + Send>>,
    stopped: Option<ShutdownReport>,
    reports: Option<ReportStream>,
    caller: &Location<'_>,
) -> T {
    let outcome = outcome.unwrap_or_else(|panicked| resume_unwind(panicked));
    let Some(stopped) = stopped else {
        panic!("{caller}: the tree did not stop within {PATIENCE:?}");
    };
    let leaked = leaked(&stopped, reports);
    assert!(
        leaked.is_empty(),
        "{caller}: these did not end, not even when they were killed, and still hold what they held: {}",
        leaked.join(", ")
    );
    outcome
}

/// Those that leaked, by path; from the shutdown's own report where the stream of reports was too long to be kept.
fn leaked(stopped: &ShutdownReport, reports: Option<ReportStream>) -> Vec<String> {
    let mut reports = reports;
    let mut next = || reports.as_mut()?.next().now_or_never().flatten();
    let reported: Vec<String> = std::iter::from_fn(&mut next)
        .filter(is_leak)
        .map(|report| report.path.to_string())
        .collect();
    if !reported.is_empty() {
        return reported;
    }
    let last = stopped.walk().filter(|child| child.how == StopKind::Leaked);
    last.map(|child| child.id.to_string()).collect()
}

fn is_leak(report: &Report) -> bool {
    matches!(
        report.what,
        Lifecycle::Stopped {
            how: StopKind::Leaked,
            ..
        }
    )
}
