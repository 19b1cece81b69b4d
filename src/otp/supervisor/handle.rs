use std::sync::Arc;

use ractor::ActorCell;

use super::{Message, ShutdownReport, SupervisorSpec};
#[cfg(feature = "testing")]
use crate::otp::tree::TreeNode;
use crate::otp::{
    Address, ChildKind, ChildSpec, ChildState, ExitReason, ReportStream, SupervisorError, Tree,
    office::{Office, start_root},
    scope,
};

/// A handle to a supervisor. Cheap to clone; survives the supervisor's own restarts.
///
/// Dropping it stops nothing: say [`stop`](Self::stop).
#[derive(Debug, Clone)]
pub struct Supervisor {
    office: Arc<Office<Message>>,
}

/// One child, as [`Supervisor::which_children`] lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildInfo {
    /// Its id.
    pub id: Arc<str>,
    /// What it is.
    pub kind: ChildKind,
    /// What it is doing.
    pub state: ChildState,
}

/// How many children there are, in OTP's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChildCounts {
    /// All children, running or not.
    pub specs: usize,
    /// Those that run.
    pub active: usize,
    /// Those that are supervisors, running or not.
    pub supervisors: usize,
    /// Those that are not, running or not.
    pub workers: usize,
}

type Answer<T> = Result<T, SupervisorError>;

impl Supervisor {
    pub(super) fn new(office: Arc<Office<Message>>) -> Self {
        Self { office }
    }

    /// Starts a supervisor and its children, in order, each after the one before it has started.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Invalid`] before anything has started; [`SupervisorError::Start`] when a child did not start:
    /// those before it have been stopped again, in reverse order, and nothing is retried.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: dropping the future kills what has started so far.
    pub async fn start(spec: SupervisorSpec) -> Answer<Self> {
        let supervisor = spec.handle();
        start_root(spec).await?;
        Ok(supervisor)
    }

    /// Adds a child after those there are, and starts it.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::AlreadyStarted`], [`SupervisorError::AlreadyPresent`] and [`SupervisorError::Restarting`] for a
    /// known id, by what that child is doing; [`SupervisorError::Start`] when it did not start: it is forgotten, not
    /// retried, and nothing counts against the intensity.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the child may still be started.
    pub async fn start_child(&self, spec: ChildSpec) -> Answer<()> {
        self.office
            .ask(|reply| Message::StartChild { spec, reply })
            .await?
    }

    /// Stops a child as its spec says, and waits until it is gone. Its spec stays, unless it is temporary. Stopping a
    /// stopped child is fine; a pending restart is cancelled.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::NotFound`]; [`SupervisorError::Leaked`] when it did not even end when killed;
    /// [`SupervisorError::CallingSelf`] when a child asks for its own end.
    pub async fn terminate_child(&self, id: &str) -> Answer<()> {
        let id = id.into();
        let caller = scope::current();
        self.office
            .ask(|reply| Message::TerminateChild { id, caller, reply })
            .await?
    }

    /// Starts a stopped child again.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Running`], [`SupervisorError::Restarting`], [`SupervisorError::Leaked`],
    /// [`SupervisorError::NotFound`], or [`SupervisorError::Start`]: its spec stays.
    pub async fn restart_child(&self, id: &str) -> Answer<()> {
        let id = id.into();
        self.office
            .ask(|reply| Message::RestartChild { id, reply })
            .await?
    }

    /// Forgets a stopped child.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Running`], [`SupervisorError::Restarting`] or [`SupervisorError::NotFound`].
    pub async fn delete_child(&self, id: &str) -> Answer<()> {
        let id = id.into();
        self.office
            .ask(|reply| Message::DeleteChild { id, reply })
            .await?
    }

    /// The children, in start order (OTP lists them in reverse).
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Down`].
    pub async fn which_children(&self) -> Answer<Vec<ChildInfo>> {
        self.office
            .ask(|reply| Message::WhichChildren { reply })
            .await
    }

    /// How many children there are.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Down`].
    pub async fn count_children(&self) -> Answer<ChildCounts> {
        self.office
            .ask(|reply| Message::CountChildren { reply })
            .await
    }

    /// The spec of a child, defaults filled in.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::NotFound`] or [`SupervisorError::Down`].
    pub async fn child_spec(&self, id: &str) -> Answer<ChildSpec> {
        let id = id.into();
        self.office
            .ask(|reply| Message::ChildSpec { id, reply })
            .await?
    }

    /// Stops the children in reverse start order, each as its spec says, then the supervisor. Says how it went; an empty
    /// report when it was not running.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the stop goes on, its report is lost.
    pub async fn stop(&self) -> ShutdownReport {
        self.office.stop().await
    }

    /// Waits until the supervisor has ended, and says why. At once when it is not running.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn ended(&self) -> ExitReason {
        self.office.ended().await
    }

    /// Whether it runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.office.life().is_some()
    }

    /// A picture of the supervisor and all below it, without waiting for anyone. `None` before its first start.
    #[must_use]
    pub fn tree(&self) -> Option<Tree> {
        self.office.tree()
    }

    /// What happens in the whole tree this supervisor belongs to, from now on. `None` before its first start.
    #[must_use]
    pub fn reports(&self) -> Option<ReportStream> {
        self.office.reports()
    }

    /// The supervisor's own actor, for what only ractor offers. Killing it kills its children, without their `post_stop`.
    #[must_use]
    pub fn actor(&self) -> Option<ActorCell> {
        self.office.actor()
    }

    #[cfg(feature = "testing")]
    pub(crate) fn node(&self) -> Option<Arc<TreeNode>> {
        self.office.node()
    }

    pub(crate) fn address(&self) -> &Address<Message> {
        &self.office.address
    }
}
