use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use ractor::{ActorCell, ActorStatus};
use tokio::{
    task::JoinHandle,
    time::{self, Instant},
};

use super::{Message, ShutdownReport, SupervisorSpec, actor};
use crate::otp::{
    Address, Admission, CallError, ChildKind, ChildSpec, ChildState, ExitReason, NotSent, Reply,
    ReportStream, SupervisorError, Tree, address::Live, lifecycle::Reports, scope, start::Started,
    tree::TreeNode,
};

/// A handle to a supervisor. Cheap to clone; survives the supervisor's own restarts.
///
/// Dropping it stops nothing: say [`stop`](Self::stop).
#[derive(Debug, Clone)]
pub struct Supervisor {
    shared: Arc<Shared>,
}

/// What a handle and the supervisor's lives have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(super) address: Address<Message>,
    pub(super) node: ArcSwapOption<TreeNode>,
    pub(super) reports: ArcSwapOption<Reports>,
    /// Children of a life that was cut off; the next one waits for them.
    pub(super) left_behind: Mutex<Vec<JoinHandle<()>>>,
    pub(super) stopped: Mutex<ShutdownReport>,
    /// The root of a tree is held by its handles and by itself; a nested supervisor is held by its parent.
    pub(super) root: Mutex<Option<Started>>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            // Requests wait for starts and stops, which have limits of their own; looking must not wait behind them.
            address: Address::with_admission(Admission::NONE),
            node: ArcSwapOption::empty(),
            reports: ArcSwapOption::empty(),
            left_behind: Mutex::default(),
            stopped: Mutex::default(),
            root: Mutex::default(),
        }
    }
}

impl Shared {
    /// How long a new life waits for what an earlier one left behind. They were killed; what blocks a thread may never go.
    const PATIENCE: Duration = Duration::from_secs(1);

    pub(super) async fn wait_for_the_left_behind(&self) {
        let left = std::mem::take(&mut *self.left_behind.lock());
        let gone = async {
            for task in left {
                let _ = task.await;
            }
        };
        if time::timeout(Self::PATIENCE, gone).await.is_err() {
            tracing::warn!(
                "children of a killed supervisor are still there; its new life begins beside them"
            );
        }
    }
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
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
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
        spec.check()?;
        let supervisor = spec.handle();
        actor::start_root(spec).await?;
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
        self.ask(|reply| Message::StartChild { spec, reply })
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
        self.ask(|reply| Message::TerminateChild { id, caller, reply })
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
        self.ask(|reply| Message::RestartChild { id, reply })
            .await?
    }

    /// Forgets a stopped child.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Running`], [`SupervisorError::Restarting`] or [`SupervisorError::NotFound`].
    pub async fn delete_child(&self, id: &str) -> Answer<()> {
        let id = id.into();
        self.ask(|reply| Message::DeleteChild { id, reply }).await?
    }

    /// The children, in start order (OTP lists them in reverse).
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Down`].
    pub async fn which_children(&self) -> Answer<Vec<ChildInfo>> {
        self.ask(|reply| Message::WhichChildren { reply }).await
    }

    /// How many children there are.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Down`].
    pub async fn count_children(&self) -> Answer<ChildCounts> {
        self.ask(|reply| Message::CountChildren { reply }).await
    }

    /// The spec of a child, defaults filled in.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::NotFound`] or [`SupervisorError::Down`].
    pub async fn child_spec(&self, id: &str) -> Answer<ChildSpec> {
        let id = id.into();
        self.ask(|reply| Message::ChildSpec { id, reply }).await?
    }

    /// Stops the children in reverse start order, each as its spec says, then the supervisor. Says how it went; an empty
    /// report when it was not running.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the stop goes on, its report is lost.
    pub async fn stop(&self) -> ShutdownReport {
        let Some(life) = self.life() else {
            return ShutdownReport::default();
        };
        life.actor.stop(Some("shutdown".into()));
        life.incarnation.ended().await;
        self.shared.stopped.lock().clone()
    }

    /// Waits until the supervisor has ended, and says why. At once when it is not running.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn ended(&self) -> ExitReason {
        match self.shared.address.slot().life() {
            None => ExitReason::NoProc,
            Some(life) => life.incarnation.ended().await,
        }
    }

    /// Whether it runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.life().is_some()
    }

    /// A picture of the supervisor and all below it, without waiting for anyone. `None` before its first start.
    #[must_use]
    pub fn tree(&self) -> Option<Tree> {
        let node = self.shared.node.load();
        node.as_ref().map(|node| node.snapshot(Instant::now()))
    }

    /// What happens in the whole tree this supervisor belongs to, from now on. `None` before its first start.
    #[must_use]
    pub fn reports(&self) -> Option<ReportStream> {
        let reports = self.shared.reports.load();
        reports.as_ref().map(|reports| reports.subscribe())
    }

    /// The supervisor's own actor, for what only ractor offers. Killing it kills its children, without their `post_stop`.
    #[must_use]
    pub fn actor(&self) -> Option<ActorCell> {
        self.life().map(|life| life.actor.clone())
    }

    #[cfg(feature = "testing")]
    pub(crate) fn node(&self) -> Option<Arc<TreeNode>> {
        self.shared.node.load_full()
    }

    /// OTP's management calls wait for ever, and so do these: a start or a stop has its own limit.
    async fn ask<T: Send + 'static>(&self, request: impl FnOnce(Reply<T>) -> Message) -> Answer<T> {
        let life = self.life().ok_or(SupervisorError::Down)?;
        if life.actor.get_status() >= ActorStatus::Stopping {
            // It stops its children now, and this may be one of them.
            return Err(SupervisorError::Down);
        }
        tokio::select! {
            biased;
            answer = self.shared.address.call(request, Duration::MAX) => answer.map_err(|error| match error {
                CallError::NotSent(NotSent::CallingSelf) => SupervisorError::CallingSelf,
                CallError::NotSent(_) => SupervisorError::Down,
                CallError::Unanswered(_) => SupervisorError::Unanswered,
            }),
            _ = life.incarnation.ended() => Err(SupervisorError::Unanswered),
        }
    }

    pub(crate) fn address(&self) -> &Address<Message> {
        &self.shared.address
    }

    fn life(&self) -> Option<Arc<Live>> {
        let life = self.shared.address.slot().life();
        life.filter(|life| life.incarnation.exit().is_none())
    }
}
