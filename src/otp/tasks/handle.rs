use std::{
    future::{Future, pending},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use futures_util::stream::{self, Stream};
use ractor::{ActorRef, Message};
use tokio::{sync::oneshot, time};

use super::{
    SpawnError, Task, TaskId, TaskOptions, TaskStream,
    life::{Control, Finish, Life},
};
use crate::otp::{
    ChildRef, ChildSpec, Context, DynamicSupervisor, DynamicSupervisorSpec, ExitReason, Intensity,
    Restart, SupervisorError, SupervisorSpec,
    incarnation::Left,
    scope,
    start::{Around, Start},
    supervisor::stop::KILL_GRACE,
};

/// Runs one-off work under supervision. Cheap to clone; exists before the supervisor runs, and survives its restarts.
///
/// A program's node has one: [`Node::tasks`](crate::node::Node::tasks).
#[derive(Debug, Clone)]
pub struct TaskSupervisor {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    options: TaskOptions,
    running: AtomicUsize,
    next_id: AtomicU64,
    current: ArcSwapOption<Life>,
    /// What is started again when it ends.
    children: DynamicSupervisorSpec,
}

/// A task that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskInfo {
    /// Which one.
    pub id: TaskId,
    /// For how long.
    pub running_for: Duration,
}

impl TaskSupervisor {
    /// A task supervisor with the default options.
    #[must_use]
    pub fn new() -> Self {
        Self::with_options(TaskOptions::default())
    }

    /// A task supervisor with these options.
    #[must_use]
    pub fn with_options(options: TaskOptions) -> Self {
        Self {
            shared: Arc::new(Shared {
                options,
                running: AtomicUsize::new(0),
                next_id: AtomicU64::new(1),
                current: ArcSwapOption::empty(),
                children: DynamicSupervisorSpec::new("children", options.intensity),
            }),
        }
    }

    /// The child that a supervisor starts: a supervisor of two, `work` with the tasks, and `children` with those of
    /// [`start_child`](Self::start_child).
    #[must_use]
    pub fn child_spec(&self, id: impl Into<Arc<str>>) -> ChildSpec {
        let shared = Arc::clone(&self.shared);
        let work = ChildSpec::task("work", move |ctx| {
            // Here and not in the future: when the child counts as started, tasks can be spawned.
            let life = Lifetime::begin(Arc::clone(&shared));
            async move {
                ctx.cancelled().await;
                life.end().await;
                Ok(())
            }
        });
        // Neither ends by itself, but for children that spend their intensity: then all of it ends, as in Elixir.
        let never = Intensity::new(0, Duration::from_secs(1));
        let supervisor = SupervisorSpec::new(id, never)
            .child(self.shared.children.clone().child_spec())
            .child(work.shutdown(self.shared.options.shutdown));
        ChildSpec::supervisor(supervisor)
    }

    /// Starts a child that nobody waits for, restarted as its spec says: [`Restart::Temporary`](crate::otp::Restart::Temporary) for
    /// work that is done once, [`Restart::Transient`](crate::otp::Restart::Transient) until it succeeds,
    /// [`Restart::Permanent`](crate::otp::Restart::Permanent) for ever. One that says nothing is temporary here, as in Elixir, and not
    /// permanent as elsewhere. It takes a place among the tasks for as long as it is known.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// use underpin::otp::{ChildSpec, Intensity, Restart, Supervisor, SupervisorSpec, TaskSupervisor};
    ///
    /// # let tasks = TaskSupervisor::new();
    /// # let spec = SupervisorSpec::new("doc", Intensity::new(3, Duration::from_secs(5))).child(tasks.child_spec("tasks"));
    /// # let supervisor = Supervisor::start(spec).await?;
    /// let upload = ChildSpec::task("upload", |_| async { Ok(()) }).restart(Restart::Transient);
    /// tasks.start_child(upload).await?;
    /// # supervisor.stop().await;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`DynamicSupervisor::start_child`].
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the child may still be started.
    pub async fn start_child(&self, mut spec: ChildSpec) -> Result<ChildRef, SupervisorError> {
        let place = Place::take(&self.shared).map_err(|error| match error {
            SpawnError::Down => SupervisorError::Down,
            SpawnError::MaxChildren(limit) => SupervisorError::MaxChildren(limit),
        })?;
        spec.restart.get_or_insert(Restart::Temporary);
        spec.start = Arc::new(Around {
            inner: spec.start,
            start: move |inner: &dyn Start, seat| {
                // Kept for as long as the spec is known.
                let _place = &place;
                inner.start(seat)
            },
        });
        self.children().start_child(spec).await
    }

    /// The supervisor of the children of [`start_child`](Self::start_child): to list and to terminate them.
    #[must_use]
    pub fn children(&self) -> DynamicSupervisor {
        self.shared.children.handle()
    }

    /// Runs `work`, linked to whoever holds the [`Task`]: dropping that ends it.
    ///
    /// It runs in the caller's [`Context`].
    ///
    /// # Errors
    ///
    /// [`SpawnError`]; `work` has not run.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn spawn<F>(&self, work: F) -> Result<Task<F::Output>, SpawnError>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.task(work, true)
    }

    /// Runs `work`, also when nobody waits for it any more.
    ///
    /// # Errors
    ///
    /// [`SpawnError`]; `work` has not run.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn spawn_nolink<F>(&self, work: F) -> Result<Task<F::Output>, SpawnError>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.task(work, false)
    }

    /// Runs `work` for an actor: it ends when the actor does, and its result, or why there is none, is sent to the actor as the
    /// message that `answer` makes of it. The actor's handler decides what a failure means; `result?` makes it the actor's own.
    ///
    /// ```
    /// # use underpin::ractor::{Actor, ActorProcessingErr, ActorRef};
    /// use underpin::otp::{ExitReason, TaskSupervisor};
    ///
    /// enum Message {
    ///     Refresh,
    ///     Refreshed(Result<u64, ExitReason>),
    /// }
    /// underpin::otp::message!(Message);
    ///
    /// struct Cache(TaskSupervisor);
    /// # async fn load() -> u64 { 7 }
    /// impl Actor for Cache {
    /// #     type Msg = Message;
    /// #     type State = u64;
    /// #     type Arguments = ();
    /// #     async fn pre_start(&self, _: ActorRef<Message>, (): ()) -> Result<u64, ActorProcessingErr> { Ok(0) }
    ///     async fn handle(&self, me: ActorRef<Message>, message: Message, value: &mut u64) -> Result<(), ActorProcessingErr> {
    ///         match message {
    ///             Message::Refresh => {
    ///                 self.0.spawn_for(&me, load(), Message::Refreshed)?;
    ///             }
    ///             Message::Refreshed(result) => *value = result?,
    ///         }
    ///         Ok(())
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`SpawnError`]; `work` has not run, and no message comes.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn spawn_for<M, F>(
        &self,
        owner: &ActorRef<M>,
        work: F,
        answer: impl FnOnce(Result<F::Output, ExitReason>) -> M + Send + 'static,
    ) -> Result<TaskId, SpawnError>
    where
        M: Message,
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let cell = owner.get_cell();
        let gone = async move {
            let _ = cell.wait(None).await;
        };
        let owner = owner.clone();
        let (id, _) = self.start(work, gone, move |result| {
            // An actor that has ended meanwhile wants no answer.
            let _ = owner.send_message(answer(result));
        })?;
        Ok(id)
    }

    /// Runs `work` on each of `inputs`, so many at a time, and gives the results as a stream; see [`TaskStream`] for how.
    pub fn stream<I, F, W>(&self, inputs: I, work: F) -> TaskStream<stream::Iter<I::IntoIter>, F, W>
    where
        I: IntoIterator,
        F: FnMut(I::Item) -> W,
        W: Future<Output: Send + 'static> + Send + 'static,
    {
        self.stream_of(stream::iter(inputs), work)
    }

    /// The same for inputs that come as a stream themselves.
    pub fn stream_of<S, F, W>(&self, inputs: S, work: F) -> TaskStream<S, F, W>
    where
        S: Stream,
        F: FnMut(S::Item) -> W,
        W: Future<Output: Send + 'static> + Send + 'static,
    {
        TaskStream::new(self.clone(), inputs, work)
    }

    /// Ends a task at its next `.await`, whoever holds it, and waits until it is gone.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::NotFound`] when it does not run, or not here; [`SupervisorError::Leaked`] when it blocks its thread and
    /// is still there after a second; [`SupervisorError::CallingSelf`] for a task that asks for its own end.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the task is ended all the same.
    pub async fn terminate(&self, id: TaskId) -> Result<(), SupervisorError> {
        let life = self.shared.current.load_full();
        let found = life.and_then(|life| life.find(id));
        let control = found.ok_or_else(|| SupervisorError::NotFound(id.to_string().into()))?;
        if scope::current() == control.incarnation.id {
            return Err(SupervisorError::CallingSelf);
        }
        control.end(ExitReason::Shutdown(None));
        match time::timeout(KILL_GRACE, control.incarnation.ended()).await {
            Ok(_) => Ok(()),
            Err(_) => Err(SupervisorError::Leaked(id.to_string().into())),
        }
    }

    /// The tasks that run, oldest first.
    #[must_use]
    pub fn which(&self) -> Vec<TaskInfo> {
        let life = self.shared.current.load();
        life.as_ref().map(|life| life.list()).unwrap_or_default()
    }

    /// How many tasks are running.
    #[must_use]
    pub fn running(&self) -> usize {
        self.shared.running.load(Ordering::Acquire)
    }

    fn task<F>(&self, work: F, linked: bool) -> Result<Task<F::Output>, SpawnError>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let (send, answer) = oneshot::channel();
        let (id, control) = self.start(work, pending(), move |result| {
            // Whoever wanted it has gone.
            let _ = send.send(result);
        })?;
        Ok(Task {
            id,
            answer,
            control,
            linked,
            consumed: false,
        })
    }

    /// Runs `work` until it is done, is ended, or `gone` is.
    fn start<F, D>(
        &self,
        work: F,
        gone: impl Future<Output = ()> + Send + 'static,
        deliver: D,
    ) -> Result<(TaskId, Arc<Control>), SpawnError>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
        D: FnOnce(Result<F::Output, ExitReason>) + Send + 'static,
    {
        let life = self.shared.current.load_full().ok_or(SpawnError::Down)?;
        let place = Place::take(&self.shared)?;
        let id = TaskId(self.shared.next_id.fetch_add(1, Ordering::Relaxed));
        let control = Control::new();
        if !life.enter(id, &control) {
            return Err(SpawnError::Down);
        }
        let mut finish = Finish {
            id,
            control: Arc::clone(&control),
            life,
            place: Some(place),
            value: None,
            deliver: Some(deliver),
        };
        let context = Context::current();
        tokio::spawn(async move {
            let control = Arc::clone(&finish.control);
            tokio::select! {
                biased;
                () = control.cancel.cancelled() => {}
                () = gone => control.incarnation.leave(Left::Reason(ExitReason::Shutdown(None))),
                outcome = async { control.incarnation.run(pin!(context.scope(work))).await } => match outcome {
                    Ok(value) => finish.done(value),
                    Err(panicked) => control.incarnation.leave(Left::Reason(panicked)),
                },
            }
        });
        Ok((id, control))
    }
}

impl Default for TaskSupervisor {
    fn default() -> Self {
        Self::new()
    }
}

/// The supervisor's own life: while this lives, tasks can be started. Dropped without an end, it kills them.
struct Lifetime {
    shared: Arc<Shared>,
    life: Arc<Life>,
}

impl Lifetime {
    fn begin(shared: Arc<Shared>) -> Self {
        let life = Life::new();
        shared.current.store(Some(Arc::clone(&life)));
        Self { shared, life }
    }

    async fn end(self) {
        self.life.close(&ExitReason::Shutdown(None));
        self.life.idle().await;
    }
}

impl Drop for Lifetime {
    fn drop(&mut self) {
        let current = self.shared.current.load();
        if current
            .as_ref()
            .is_some_and(|life| Arc::ptr_eq(life, &self.life))
        {
            self.shared.current.store(None);
        }
        self.life.close(&ExitReason::Killed);
    }
}

/// A place among the running tasks.
#[derive(Debug)]
pub(super) struct Place(Arc<Shared>);

impl Place {
    pub(super) fn take(shared: &Arc<Shared>) -> Result<Self, SpawnError> {
        let limit = shared.options.max_children;
        let more = |now: usize| (now < limit).then_some(now + 1);
        let taken = shared
            .running
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        match taken {
            Ok(_) => Ok(Self(Arc::clone(shared))),
            Err(_) => Err(SpawnError::MaxChildren(limit)),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}
