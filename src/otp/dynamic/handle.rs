use std::{fmt, sync::Arc, time::Duration};

use ractor::ActorCell;
use tokio::{task::coop, time};

use super::{DynamicSupervisorSpec, nursery::Nursery, spec::Desk};
use crate::otp::{
    AutoShutdown, ChildCounts, ChildKind, ChildSpec, ChildState, ExitReason, Monitor, ReportStream,
    ShutdownReport, SupervisorError, Tree, TreeLimits, office::start_root, scope,
    supervisor::spec::check_child,
};

/// A handle to a supervisor of children that come and go. Cheap to clone; survives the supervisor's own restarts.
///
/// Dropping it stops nothing: say [`stop`](Self::stop).
#[derive(Debug, Clone)]
pub struct DynamicSupervisor {
    desk: Arc<Desk>,
}

/// Names one child of one life of a [`DynamicSupervisor`], through all the child's own restarts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ChildRef {
    pub(super) id: Arc<str>,
    pub(super) key: u64,
    /// The supervisor's incarnation: children do not survive it.
    pub(super) supervisor: u64,
}

impl ChildRef {
    /// The id in the child's spec, which others may have, too.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// As in the tree: `id#number`.
impl fmt::Display for ChildRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.id, self.key)
    }
}

/// One child, as [`DynamicSupervisor::which_children`] lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DynamicChild {
    /// Which one.
    pub child: ChildRef,
    /// What it is.
    pub kind: ChildKind,
    /// What it is doing.
    pub state: ChildState,
}

type Answer<T> = Result<T, SupervisorError>;

impl DynamicSupervisor {
    pub(super) fn new(desk: Arc<Desk>) -> Self {
        Self { desk }
    }

    /// Starts a dynamic supervisor as the root of a tree; [`DynamicSupervisorSpec::child_spec`] puts it under another.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Invalid`] for an id that is none.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: dropping the future kills what has started so far.
    pub async fn start(spec: DynamicSupervisorSpec) -> Answer<Self> {
        let supervisor = spec.handle();
        start_root(spec).await?;
        Ok(supervisor)
    }

    /// Starts a child. An actor is reached through an [`Address`](super::super::Address) of its own: two children cannot share
    /// one.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::MaxChildren`]; [`SupervisorError::Ignored`] when the start declined; [`SupervisorError::Start`] when it
    /// failed: nothing is retried, and nothing counts against the intensity. In each case nothing is left of the child.
    /// [`SupervisorError::Invalid`] for an id that is none.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the child may still be started.
    pub async fn start_child(&self, spec: ChildSpec) -> Answer<ChildRef> {
        // Nothing is waited for. Whoever starts one child after the other, or tries to, must not keep the others from running, the
        // supervisor among them. Until there is some left: a start for which there is no budget would go on in a task.
        coop::consume_budget().await;
        if !coop::has_budget_remaining() {
            coop::consume_budget().await;
        }
        check_child(&spec, AutoShutdown::Never)?;
        let nursery = self.nursery()?;
        while nursery.is_behind() {
            time::sleep(Duration::from_millis(1)).await;
        }
        match nursery.start_child(spec)? {
            Ok(child) => Ok(child),
            Err(slow) => slow.await.unwrap_or(Err(SupervisorError::Unanswered)),
        }
    }

    /// Stops a child as its spec says, waits until it is gone, and forgets it. A pending restart is cancelled.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::NotFound`] when it is gone, also by itself, or was never here; [`SupervisorError::Leaked`] when it did not
    /// even end when killed; [`SupervisorError::CallingSelf`] when a child asks for its own end.
    pub async fn terminate_child(&self, child: &ChildRef) -> Answer<()> {
        let ended = self.nursery()?.terminate_child(child, scope::current())?;
        ended.await.unwrap_or(Err(SupervisorError::Unanswered))
    }

    /// The children, first started first.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Down`].
    pub fn which_children(&self) -> Answer<Vec<DynamicChild>> {
        Ok(self.nursery()?.which())
    }

    /// How many children there are. Those between two lives count, but not as active.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Down`].
    pub fn count_children(&self) -> Answer<ChildCounts> {
        Ok(self.nursery()?.count())
    }

    /// Stops all children at the same time, each as its spec says, then the supervisor. Says how it went; an empty report when
    /// it was not running. One that is still starting is not running, and starts all the same.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the stop goes on, its report is lost.
    pub async fn stop(&self) -> ShutdownReport {
        self.desk.office.stop().await
    }

    /// The same, with a deadline for all that is below, whatever the specs say: [`Supervisor::stop_within`](crate::otp::Supervisor::stop_within).
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the stop goes on, its report is lost.
    pub async fn stop_within(&self, limit: Duration) -> ShutdownReport {
        self.desk.office.stop_within(limit).await
    }

    /// The same as [`stop`](Self::stop), for a reason that those who wait for its end are told:
    /// [`ShutdownCause::Said`](crate::otp::ShutdownCause::Said).
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the stop goes on, its report is lost.
    pub async fn stop_because(&self, words: &str) -> ShutdownReport {
        self.desk.office.stop_because(words).await
    }

    /// Waits until the supervisor has ended, and says why. At once when it is not running.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn ended(&self) -> ExitReason {
        self.desk.office.ended().await
    }

    /// Watches the life that the supervisor leads now.
    pub fn monitor(&self) -> Monitor {
        let life = self.desk.office.life();
        Monitor::new(life.map(|life| Arc::clone(&life.incarnation)))
    }

    /// Whether it runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.desk.office.life().is_some()
    }

    /// A picture of the supervisor and of its children, without waiting for anyone. `None` before its first start. Of very many
    /// children some are shown, and the others counted ([`TreeLimits::DEFAULT`]).
    #[must_use]
    pub fn tree(&self) -> Option<Tree> {
        self.desk.office.tree(None, TreeLimits::DEFAULT)
    }

    /// What happens in the whole tree this supervisor belongs to, from now on. `None` before its first start.
    #[must_use]
    pub fn reports(&self) -> Option<ReportStream> {
        self.desk.office.reports()
    }

    /// The supervisor's own actor, for what only ractor offers. Killing it kills its children and all below them, without their
    /// `post_stop`. Its next life waits up to a second until nothing of them is left, and does not start beside what is; a sibling
    /// that is restarted along with it, before it, does not wait for that.
    #[must_use]
    pub fn actor(&self) -> Option<ActorCell> {
        self.desk.office.actor()
    }

    pub(super) fn nursery(&self) -> Answer<Arc<Nursery>> {
        let nursery = self.desk.nursery.load_full();
        nursery.ok_or(SupervisorError::Down)
    }
}
