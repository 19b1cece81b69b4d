//! What a supervisor of any kind has in common with its handles, whatever its lives; and how it comes to life, at the root of a
//! tree or in another supervisor.

use std::{future::ready, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use ractor::{Actor, ActorCell, ActorStatus, Message};
use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Address, Admission, CallError, ChildKind, ChildSpec, ChildState, ExitReason, NotSent, Reply,
    ReportStream, ShutdownCause, ShutdownReport, StartError, Stuck, SupervisorError, Sys, Tree,
    TreeLimits,
    address::{Live, Slot},
    incarnation::Incarnation,
    left_behind::LeftBehind,
    lifecycle::Reports,
    sampler::Sampler,
    start::{NotStarted, Seat, Start, Started, spawn_actor},
    tree::TreeNode,
};

/// Where a supervisor is reached, and what outlives its lives. `M` is what it can be asked.
#[derive(Debug)]
pub(crate) struct Office<M: Message> {
    pub(crate) address: Address<M>,
    node: ArcSwapOption<TreeNode>,
    reports: ArcSwapOption<Reports>,
    /// What outlived an earlier life; the next one waits for it.
    left_behind: Arc<LeftBehind>,
    /// When the stop that was asked for is to be over.
    deadline: watch::Sender<Option<Instant>>,
    /// Why the stop was asked for.
    pub(crate) cause: Mutex<Option<ShutdownCause>>,
    pub(crate) stopped: Mutex<ShutdownReport>,
    /// The root of a tree is held by its handles and by itself; a nested supervisor is held by its parent.
    root: Mutex<Option<Started>>,
    /// Of the root of a tree.
    sampler: Mutex<Option<Sampler>>,
}

impl<M: Message> Office<M> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            // Requests wait for starts and stops, which have limits of their own; looking must not wait behind them.
            address: Address::with_admission(Admission::NONE),
            node: ArcSwapOption::empty(),
            reports: ArcSwapOption::empty(),
            left_behind: Arc::default(),
            deadline: watch::Sender::new(None),
            cause: Mutex::default(),
            stopped: Mutex::default(),
            root: Mutex::default(),
            sampler: Mutex::default(),
        })
    }

    /// A life begins.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Leaked`]: children of an earlier life are still there.
    pub(crate) async fn open(
        &self,
        node: &Arc<TreeNode>,
        reports: &Reports,
    ) -> Result<(), SupervisorError> {
        self.left_behind.gone().await?;
        *self.stopped.lock() = ShutdownReport::default();
        *self.cause.lock() = None;
        self.deadline.send_replace(None);
        node.clear();
        self.node.store(Some(Arc::clone(node)));
        self.reports.store(Some(Arc::new(reports.clone())));
        Ok(())
    }

    /// A child is still there when its supervisor ends, as long as this task; or what a nested supervisor has left behind in turn.
    pub(crate) fn leave_behind(
        &self,
        spec: &ChildSpec,
        node: &TreeNode,
        task: Option<JoinHandle<()>>,
    ) {
        let below = spec.start.left_behind();
        if task.is_some() || below.is_some() {
            self.left_behind.add(node.path(), task, below);
        }
    }

    /// A life is over, however it ended.
    pub(crate) fn close(&self) {
        self.reports.store(None);
        *self.sampler.lock() = None;
    }

    /// What is stopped from now on, and what is being stopped, is to be gone by then.
    pub(crate) fn hurry(&self, deadline: Instant) {
        self.deadline.send_if_modified(|current| {
            let sooner = current.is_none_or(|current| deadline < current);
            if sooner {
                *current = Some(deadline);
            }
            sooner
        });
    }

    /// When everything is to be over; it may be set later.
    pub(crate) fn deadline(&self) -> watch::Receiver<Option<Instant>> {
        self.deadline.subscribe()
    }

    /// The reason that the supervisor leaves when it was stopped.
    pub(crate) fn asked_reason(&self) -> ExitReason {
        ExitReason::Shutdown(self.cause.lock().take())
    }

    pub(crate) async fn stop(&self) -> ShutdownReport {
        self.stop_as(|| {}).await
    }

    /// The same, with a deadline for the whole tree below.
    pub(crate) async fn stop_within(&self, limit: Duration) -> ShutdownReport {
        let deadline = Instant::now().checked_add(limit);
        self.stop_as(|| deadline.into_iter().for_each(|at| self.hurry(at)))
            .await
    }

    /// The same, for a reason that those who wait for its end are told.
    pub(crate) async fn stop_because(&self, words: &str) -> ShutdownReport {
        let cause = ShutdownCause::Said(words.into());
        self.stop_as(|| *self.cause.lock() = Some(cause)).await
    }

    /// What goes with the stop is said only to a life that is stopped: one that still starts would run on with it.
    async fn stop_as(&self, say: impl FnOnce()) -> ShutdownReport {
        let Some(life) = self.life() else {
            return ShutdownReport::default();
        };
        say();
        life.actor.stop(Some("shutdown".into()));
        life.incarnation.ended().await;
        self.stopped.lock().clone()
    }

    pub(crate) async fn ended(&self) -> ExitReason {
        match self.address.slot().life() {
            None => ExitReason::NoProc,
            Some(life) => life.incarnation.ended().await,
        }
    }

    /// The picture from `path` on down, or of all.
    pub(crate) fn tree(&self, path: Option<&str>, limits: TreeLimits) -> Option<Tree> {
        let node = self.node.load_full()?;
        let node = path.map_or(Some(Arc::clone(&node)), |path| node.at(path))?;
        Some(node.snapshot(Instant::now(), limits))
    }

    /// Those that the tree's sampler found stuck; only the root has one.
    pub(crate) fn stuck(&self) -> Vec<Stuck> {
        let noted = self
            .sampler
            .lock()
            .as_ref()
            .map(|sampler| Arc::clone(&sampler.stuck));
        noted.map_or_else(Vec::new, |stuck| stuck.list())
    }

    /// Looks inside the child at this path.
    pub(crate) fn sys(&self, path: &str) -> Option<Sys> {
        let node = self.node.load_full()?.at(path)?;
        node.slot().map(Sys::new)
    }

    pub(crate) fn reports(&self) -> Option<ReportStream> {
        let reports = self.reports.load();
        reports.as_ref().map(|reports| reports.subscribe())
    }

    pub(crate) fn actor(&self) -> Option<ActorCell> {
        self.life().map(|life| life.actor.clone())
    }

    #[cfg(feature = "testing")]
    pub(crate) fn node(&self) -> Option<Arc<TreeNode>> {
        self.node.load_full()
    }

    /// OTP's management calls wait for ever, and so do these: a start or a stop has its own limit.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        request: impl FnOnce(Reply<T>) -> M,
    ) -> Result<T, SupervisorError> {
        let life = self.life().ok_or(SupervisorError::Down)?;
        if life.actor.get_status() >= ActorStatus::Stopping {
            // It stops its children now, and this may be one of them.
            return Err(SupervisorError::Down);
        }
        tokio::select! {
            biased;
            answer = self.address.call(request, Duration::MAX) => answer.map_err(|error| match error {
                CallError::NotSent(NotSent::CallingSelf) => SupervisorError::CallingSelf,
                CallError::NotSent(_) => SupervisorError::Down,
                CallError::Unanswered(_) => SupervisorError::Unanswered,
            }),
            _ = life.incarnation.ended() => Err(SupervisorError::Unanswered),
        }
    }

    pub(crate) fn life(&self) -> Option<Arc<Live>> {
        let life = self.address.slot().life();
        life.filter(|life| life.incarnation.exit().is_none())
    }
}

/// The spec of a supervisor of any kind.
pub(crate) trait AnySupervisorSpec: Clone + Send + Sync + 'static {
    type Message: Message;
    type Actor: Actor<Msg = Self::Message, Arguments = Arguments>;

    fn id(&self) -> &Arc<str>;

    fn office(&self) -> &Arc<Office<Self::Message>>;

    /// Checks everything that can be checked before anything starts.
    fn check(&self) -> Result<(), SupervisorError>;

    /// The actor for one life.
    fn actor(self, incarnation: Arc<Incarnation>) -> Self::Actor;
}

/// What a supervisor is started with.
pub(crate) struct Arguments {
    pub(crate) node: Arc<TreeNode>,
    pub(crate) reports: Reports,
    /// Fires when the supervisor is to stop before it has started.
    pub(crate) cancel: CancellationToken,
}

/// Starts the root of a tree.
pub(crate) async fn start_root<S: AnySupervisorSpec>(spec: S) -> Result<(), SupervisorError> {
    spec.check()?;
    let id = Arc::clone(spec.id());
    let office = Arc::clone(spec.office());
    let start = NestedStart::new(spec);
    let now = Instant::now();
    let node = TreeNode::new(&id, None, ChildKind::Supervisor, start.slot(), now);
    let seat = Seat::new(None, 0, 1, &node, &Reports::new(), now);
    let started = start.start(seat).await;
    let started = started.map_err(|error| StartError::Failed {
        child: id,
        reason: match error {
            NotStarted::Failed(reason) => reason,
            NotStarted::Ignored => ExitReason::Normal,
        },
    })?;
    node.enter(ChildState::Running, Instant::now());
    *office.sampler.lock() = Some(Sampler::start(&node));
    *office.root.lock() = Some(started);
    Ok(())
}

/// A supervisor as a child of another.
pub(crate) struct NestedStart<S> {
    spec: S,
}

impl<S> NestedStart<S> {
    pub(crate) fn new(spec: S) -> Self {
        Self { spec }
    }
}

impl<S: AnySupervisorSpec> Start for NestedStart<S> {
    fn start(&self, seat: Seat) -> BoxFuture<'static, Result<Started, NotStarted>> {
        let slot = self.spec.office().address.slot();
        let checked = self.spec.check();
        let checked = checked.map_err(|error| ExitReason::from_error(&error));
        if let Err(reason) = checked.and_then(|()| slot.check_free()) {
            return Box::pin(ready(Err(reason.into())));
        }
        let arguments = Arguments {
            node: Arc::clone(&seat.node),
            reports: seat.reports.clone(),
            cancel: seat.context.cancellation(),
        };
        let actor = self.spec.clone().actor(Arc::clone(&seat.incarnation));
        Box::pin(spawn_actor(actor, arguments, seat, Arc::clone(slot)))
    }

    fn check(&self) -> Result<(), SupervisorError> {
        self.spec.check()
    }

    fn hurry(&self, deadline: Instant) {
        self.spec.office().hurry(deadline);
    }

    fn slot(&self) -> Option<Arc<Slot>> {
        Some(Arc::clone(self.spec.office().address.slot()))
    }

    fn stopped_children(&self) -> ShutdownReport {
        self.spec.office().stopped.lock().clone()
    }

    fn left_behind(&self) -> Option<Arc<LeftBehind>> {
        Some(Arc::clone(&self.spec.office().left_behind))
    }
}
