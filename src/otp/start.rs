//! How each kind of child comes to life, and what a supervisor holds of it while it lives.

use std::{
    future::{Future, ready},
    marker::PhantomData,
    pin::pin,
    sync::Arc,
};

use futures_util::future::{BoxFuture, Either, FutureExt as _};
use ractor::{Actor, ActorCell, ActorRef, ActorRuntime, Message, SpawnErr};
use tokio::{
    runtime::Handle,
    task::{AbortHandle, JoinHandle},
    time::Instant,
};

use super::{
    BoxError, ChildContext, ChildKind, ExitReason, ShutdownReport, SupervisorError,
    address::Slot,
    incarnation::{Incarnation, Left},
    left_behind::LeftBehind,
    lifecycle::Reports,
    supervised::Supervised,
    tree::TreeNode,
};

/// Starts a child, and starts it again.
pub(crate) trait Start: Send + Sync + 'static {
    fn start(&self, seat: Seat) -> BoxFuture<'static, Result<Started, NotStarted>>;

    /// The address that is filled, where there is one.
    fn slot(&self) -> Option<Arc<Slot>> {
        None
    }

    /// Checks everything that can be checked before anything starts.
    fn check(&self) -> Result<(), SupervisorError> {
        Ok(())
    }

    /// Whatever of the child stops or is being stopped is to be gone by then.
    fn hurry(&self, _deadline: Instant) {}

    /// Of a supervisor: what its last life left behind.
    fn left_behind(&self) -> Option<Arc<LeftBehind>> {
        None
    }

    /// How the child's own children were stopped, the last time.
    fn stopped_children(&self) -> ShutdownReport {
        ShutdownReport::default()
    }
}

/// A start with something before or after it; in all else like the one inside.
pub(crate) struct Around<F> {
    pub(crate) inner: Arc<dyn Start>,
    pub(crate) start: F,
}

impl<F> Start for Around<F>
where
    F: Fn(&dyn Start, Seat) -> BoxFuture<'static, Result<Started, NotStarted>>
        + Send
        + Sync
        + 'static,
{
    fn start(&self, seat: Seat) -> BoxFuture<'static, Result<Started, NotStarted>> {
        (self.start)(&*self.inner, seat)
    }

    fn slot(&self) -> Option<Arc<Slot>> {
        self.inner.slot()
    }

    fn check(&self) -> Result<(), SupervisorError> {
        self.inner.check()
    }

    fn hurry(&self, deadline: Instant) {
        self.inner.hurry(deadline);
    }

    fn left_behind(&self) -> Option<Arc<LeftBehind>> {
        self.inner.left_behind()
    }

    fn stopped_children(&self) -> ShutdownReport {
        self.inner.stopped_children()
    }
}

/// Why nothing runs after a start.
#[derive(Debug)]
pub(crate) enum NotStarted {
    Failed(ExitReason),
    /// It declined: OTP's `ignore`.
    Ignored,
}

impl From<ExitReason> for NotStarted {
    fn from(reason: ExitReason) -> Self {
        Self::Failed(reason)
    }
}

/// Where a new incarnation is put: what it is told, and whom it tells of its end.
pub(crate) struct Seat {
    pub(crate) context: ChildContext,
    pub(crate) incarnation: Arc<Incarnation>,
    pub(crate) notice: ExitNotice,
    /// `None` at the root of a tree.
    pub(crate) overseer: Option<Overseer>,
    pub(crate) node: Arc<TreeNode>,
    pub(crate) reports: Reports,
}

impl Seat {
    /// The place of a child's next life, which shows as starting from now on.
    pub(crate) fn new(
        overseer: Option<Overseer>,
        child: u64,
        life: u64,
        node: &Arc<TreeNode>,
        reports: &Reports,
        now: Instant,
    ) -> Self {
        let incarnation = Incarnation::new(life);
        node.starting(&incarnation, now);
        Self {
            context: ChildContext {
                node: Arc::clone(node),
                life: Arc::clone(&incarnation),
            },
            notice: ExitNotice {
                overseer: overseer.clone(),
                child,
                incarnation: Arc::clone(&incarnation),
            },
            incarnation,
            overseer,
            node: Arc::clone(node),
            reports: reports.clone(),
        }
    }

    /// The supervisor's own incarnation: what its children must not call while they start; 0 at the root.
    fn supervisor_id(&self) -> u64 {
        self.overseer.as_ref().map_or(0, |overseer| overseer.id)
    }

    /// Runs a piece of the child's code as the child that starts.
    pub(crate) fn catch<T>(&self, code: impl FnOnce() -> T) -> Result<T, ExitReason> {
        self.incarnation.catch(self.supervisor_id(), code)
    }
}

/// A supervisor of any kind, as its children see it.
#[derive(Debug, Clone)]
pub(crate) struct Overseer {
    cell: ActorCell,
    /// Its incarnation.
    id: u64,
    tell: fn(&ActorCell, Ending),
}

/// What a child's task tells its supervisor with its last breath.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ending {
    pub(crate) child: u64,
    pub(crate) incarnation: u64,
}

impl Overseer {
    pub(crate) fn new<M: Message + From<Ending>>(me: &ActorRef<M>, incarnation: u64) -> Self {
        Self {
            cell: me.get_cell(),
            id: incarnation,
            tell: |cell, ending| drop(cell.send_message(M::from(ending))),
        }
    }
}

/// Tells the supervisor that a child has ended, when it is dropped. It lives inside the child's own task, so no end goes
/// unseen: not a panic, not a kill, not an unlinked child.
pub(crate) struct ExitNotice {
    /// `None` at the root of a tree.
    pub(crate) overseer: Option<Overseer>,
    pub(crate) child: u64,
    pub(crate) incarnation: Arc<Incarnation>,
}

impl Drop for ExitNotice {
    fn drop(&mut self) {
        self.incarnation.end();
        let ending = Ending {
            child: self.child,
            incarnation: self.incarnation.id,
        };
        match &self.overseer {
            // Where it has ended itself, whoever has what it held of the child gives the verdict.
            Some(overseer) => (overseer.tell)(&overseer.cell, ending),
            None => self.incarnation.finish_from_left(),
        }
    }
}

/// A living child. Dropped while it lives, it is killed: no orphans.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) control: Control,
    /// Ends when everything of the child is gone; taken by whoever waits for that.
    pub(crate) join: Option<JoinHandle<()>>,
    pub(crate) incarnation: Arc<Incarnation>,
    pub(crate) slot: Option<Arc<Slot>>,
    /// A task of its own sees to the rest.
    handed_on: bool,
}

/// What ends with a child and not before: its address is vacant, and its verdict is given. Dropped with the runtime, it is done then.
struct Remains {
    incarnation: Arc<Incarnation>,
    slot: Option<Arc<Slot>>,
    /// Where it is known better than by what the child left.
    reason: Option<ExitReason>,
}

impl Drop for Remains {
    fn drop(&mut self) {
        if let Some(slot) = &self.slot {
            slot.vacate(&self.incarnation);
        }
        match self.reason.take() {
            Some(reason) => self.incarnation.finish(reason),
            None => self.incarnation.finish_from_left(),
        }
    }
}

impl Started {
    fn new(
        control: Control,
        join: JoinHandle<()>,
        incarnation: Arc<Incarnation>,
        slot: Option<Arc<Slot>>,
    ) -> Self {
        #[cfg(feature = "testing")]
        incarnation.fault.aim(&control);
        Self {
            control,
            join: Some(join),
            incarnation,
            slot,
            handed_on: false,
        }
    }
}

/// The two things that can be asked of any child.
#[derive(Debug, Clone)]
pub(crate) enum Control {
    Actor(ActorCell),
    Task(AbortHandle),
}

impl Started {
    /// Asks the child to end.
    pub(crate) fn stop(&self) {
        self.incarnation.cancel();
        if let Control::Actor(actor) = &self.control {
            self.incarnation.resume();
            actor.stop(Some("shutdown".into()));
        }
    }

    /// Nobody waits for it any longer. Its verdict is given and its address is vacant when everything of it is gone: now, or at the
    /// end of the task that is returned. `reason`: where it is known better than by what the child left.
    pub(crate) fn conclude(mut self, reason: Option<ExitReason>) -> Option<JoinHandle<()>> {
        self.hand_on(reason)
    }

    fn hand_on(&mut self, reason: Option<ExitReason>) -> Option<JoinHandle<()>> {
        self.handed_on = true;
        let remains = Remains {
            incarnation: Arc::clone(&self.incarnation),
            slot: self.slot.take(),
            reason,
        };
        if self.is_gone() {
            return None;
        }
        let join = self.join.take();
        // Where the runtime itself ends, nothing is left to wait for.
        let runtime = Handle::try_current().ok()?;
        Some(runtime.spawn(async move {
            if let Some(join) = join {
                let _ = join.await;
            }
            remains.incarnation.gone().await;
        }))
    }

    /// Whether everything of the child is gone.
    pub(crate) fn is_gone(&self) -> bool {
        let finished = self.join.as_ref().is_none_or(JoinHandle::is_finished);
        finished && self.incarnation.has_ended()
    }

    /// Waits until everything of the child is gone. A panic in its last moments is in its incarnation.
    pub(crate) async fn gone(&mut self) {
        if let Some(join) = &mut self.join {
            let _ = join.await;
            self.join = None;
        }
        self.incarnation.gone().await;
    }

    /// Ends the child at its next `.await`.
    pub(crate) fn kill(&self) {
        self.incarnation.cancel();
        self.control.kill();
    }
}

impl Control {
    pub(crate) fn kill(&self) {
        match self {
            Self::Actor(actor) => actor.kill(),
            Self::Task(task) => task.abort(),
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.incarnation.cancel();
        if self.handed_on {
            return;
        }
        if !self.is_gone() {
            self.kill();
        }
        self.hand_on(None);
    }
}

pub(crate) struct ActorStart<A, F> {
    slot: Arc<Slot>,
    make: F,
    actor: PhantomData<fn() -> A>,
}

impl<A, F> ActorStart<A, F> {
    pub(crate) fn new(slot: Arc<Slot>, make: F) -> Self {
        Self {
            slot,
            make,
            actor: PhantomData,
        }
    }
}

impl<A, F> Start for ActorStart<A, F>
where
    A: Actor,
    F: Fn(&ChildContext) -> (A, A::Arguments) + Send + Sync + 'static,
{
    fn start(&self, seat: Seat) -> BoxFuture<'static, Result<Started, NotStarted>> {
        let free = self.slot.check_free();
        let made = free.and_then(|()| seat.catch(|| (self.make)(&seat.context)));
        match made {
            Ok((actor, arguments)) => {
                let slot = Arc::clone(&self.slot);
                Box::pin(spawn_actor(actor, arguments, seat, slot))
            }
            Err(reason) => Box::pin(ready(Err(reason.into()))),
        }
    }

    fn slot(&self) -> Option<Arc<Slot>> {
        Some(Arc::clone(&self.slot))
    }
}

/// Spawns an actor in the wrapper that watches over it, linked to its supervisor, and puts it where it is reached.
///
/// Not an async function, which would hold what it is given several times over: the allocator has room at hand for less than a
/// kilobyte, and there may be very many starts.
pub(crate) fn spawn_actor<A: Actor>(
    actor: A,
    arguments: A::Arguments,
    seat: Seat,
    slot: Arc<Slot>,
) -> impl Future<Output = Result<Started, NotStarted>> + Send {
    let supervisor_id = seat.supervisor_id();
    let Seat {
        incarnation,
        notice,
        overseer,
        node,
        ..
    } = seat;
    // What a supervisor is told is of no interest.
    let watch = (node.kind() != ChildKind::Supervisor).then(|| Arc::clone(&slot));
    let life = Arc::clone(&incarnation);
    let supervised = Supervised::new(actor, life, supervisor_id, watch, notice);
    let spawn = match overseer {
        Some(overseer) => {
            let cell = overseer.cell;
            Either::Left(ActorRuntime::spawn_linked(
                None, supervised, arguments, cell,
            ))
        }
        None => Either::Right(ActorRuntime::spawn(None, supervised, arguments)),
    };
    spawn.map(move |spawned| {
        let (actor, join) = spawned.map_err(|error| why_not_spawned(&incarnation, &error))?;
        slot.fill(actor.get_cell(), Arc::clone(&incarnation));
        let control = Control::Actor(actor.get_cell());
        Ok(Started::new(control, join, incarnation, Some(slot)))
    })
}

fn why_not_spawned(incarnation: &Incarnation, error: &SpawnErr) -> NotStarted {
    let reason = match (incarnation.left(), error) {
        (Some(Left::Ignored), _) => return NotStarted::Ignored,
        (Some(Left::Reason(reason)), _) => reason.clone(),
        (_, SpawnErr::StartupFailed(error)) => ExitReason::from_error(&**error),
        (_, other) => ExitReason::from_error(other),
    };
    NotStarted::Failed(reason)
}

pub(crate) struct TaskStart<F> {
    make: F,
}

impl<F> TaskStart<F> {
    pub(crate) fn new(make: F) -> Self {
        Self { make }
    }
}

impl<F, W> Start for TaskStart<F>
where
    F: Fn(ChildContext) -> W + Send + Sync + 'static,
    W: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    fn start(&self, seat: Seat) -> BoxFuture<'static, Result<Started, NotStarted>> {
        let supervisor_id = seat.supervisor_id();
        let Seat {
            context,
            incarnation,
            notice,
            ..
        } = seat;
        let made = incarnation.catch(supervisor_id, || (self.make)(context));
        Box::pin(async move {
            let work = made?;
            let watched = Arc::clone(&incarnation);
            let join = tokio::spawn(async move {
                let _notice = notice;
                let outcome = {
                    let work = pin!(work);
                    watched.run(work).await
                };
                let left = match outcome {
                    Ok(Ok(())) if watched.is_cancelled() => ExitReason::Shutdown(None),
                    Ok(Ok(())) => ExitReason::Normal,
                    Ok(Err(error)) => ExitReason::from_error(&*error),
                    Err(panicked) => panicked,
                };
                watched.leave(Left::Reason(left));
            });
            let control = Control::Task(join.abort_handle());
            Ok(Started::new(control, join, incarnation, None))
        })
    }
}
