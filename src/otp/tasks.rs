use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::{sync::oneshot, task::AbortHandle, time};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{ChildSpec, ExitReason, Shutdown, incarnation::Incarnation, incarnation::Left};

/// Runs one-off work under supervision: counted, bounded, cancelled when the supervisor stops, its failures contained.
///
/// Elixir's `Task.Supervisor`. The handle exists before the supervisor runs and survives its restarts.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use underpin::otp::{Intensity, Supervisor, SupervisorSpec, TaskSupervisor};
///
/// let tasks = TaskSupervisor::new();
/// let spec = SupervisorSpec::new("doc", Intensity::new(3, Duration::from_secs(5))).child(tasks.child_spec("tasks"));
/// let supervisor = Supervisor::start(spec).await?;
///
/// let task = tasks.spawn(async { 6 * 7 })?;
/// assert_eq!(task.join().await?, 42);
/// supervisor.stop().await;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct TaskSupervisor {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limit: usize,
    running: AtomicUsize,
    current: ArcSwapOption<Running>,
}

/// One life of the supervisor.
#[derive(Debug)]
struct Running {
    tracker: TaskTracker,
    cancel: CancellationToken,
}

/// Why a task was not started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// The task supervisor does not run.
    #[error("the task supervisor is not running; retry once it has been restarted")]
    Down,
    /// As many tasks as allowed are running.
    #[error("{0} tasks are running already; retry when one has ended")]
    MaxChildren(usize),
}

/// A task that runs under a [`TaskSupervisor`], and its result.
///
/// A task from [`TaskSupervisor::spawn`] is cancelled when this is dropped; one from
/// [`TaskSupervisor::spawn_nolink`] goes on.
#[derive(Debug)]
pub struct Task<T> {
    result: oneshot::Receiver<T>,
    incarnation: Arc<Incarnation>,
    cancel: CancellationToken,
    abort: AbortHandle,
    linked: bool,
    /// Whether the result, or how the task ended, was handed out.
    consumed: bool,
}

impl TaskSupervisor {
    /// How many tasks may run at once by default: more is a queue in disguise.
    pub const LIMIT: usize = 10_000;

    /// A task supervisor with the default limit.
    #[must_use]
    pub fn new() -> Self {
        Self::with_limit(Self::LIMIT)
    }

    /// A task supervisor that runs at most `limit` tasks at once and refuses more.
    #[must_use]
    pub fn with_limit(limit: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                limit,
                running: AtomicUsize::new(0),
                current: ArcSwapOption::empty(),
            }),
        }
    }

    /// The child that a supervisor starts. When it is stopped, tasks are asked to end
    /// at their next `.await`; when some have not after 5 s, the report says that this child had to be killed.
    #[must_use]
    pub fn child_spec(&self, id: impl Into<Arc<str>>) -> ChildSpec {
        let shared = Arc::clone(&self.shared);
        let spec = ChildSpec::task(id, move |ctx| {
            // Here and not in the future: when the child counts as started, tasks can be spawned.
            let life = Life::begin(Arc::clone(&shared));
            async move {
                ctx.cancelled().await;
                life.end().await;
                Ok(())
            }
        });
        spec.shutdown(Shutdown::Timeout(GRACE))
    }

    /// Runs `work`; dropping the [`Task`] cancels it.
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
        self.start(work, true)
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
        self.start(work, false)
    }

    /// How many tasks are running.
    #[must_use]
    pub fn running(&self) -> usize {
        self.shared.running.load(Ordering::Acquire)
    }

    fn start<F>(&self, work: F, linked: bool) -> Result<Task<F::Output>, SpawnError>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let life = self.shared.current.load_full().ok_or(SpawnError::Down)?;
        let place = Place::take(&self.shared)?;
        let incarnation = Incarnation::new(1);
        let cancel = life.cancel.child_token();
        let (answer, result) = oneshot::channel();
        let end = End(Arc::clone(&incarnation));
        let handle = life.tracker.spawn({
            let cancel = cancel.clone();
            async move {
                let end = end;
                tokio::select! {
                    biased;
                    () = cancel.cancelled() => end.0.leave(Left::Reason(ExitReason::Shutdown(None))),
                    outcome = async { end.0.run(pin!(work)).await } => match outcome {
                        Ok(value) => {
                            end.0.leave(Left::Clean);
                            // Whoever has the answer may start the next one.
                            drop(place);
                            let _ = answer.send(value);
                        }
                        Err(panicked) => end.0.leave(Left::Reason(panicked)),
                    },
                }
            }
        });
        Ok(Task {
            result,
            incarnation,
            cancel,
            abort: handle.abort_handle(),
            linked,
            consumed: false,
        })
    }
}

impl<T> Task<T> {
    /// Waits for the result.
    ///
    /// # Errors
    ///
    /// How the task ended when it has no result: it panicked, was cancelled, or killed.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe for a linked task: dropping the future cancels it.
    pub async fn join(mut self) -> Result<T, ExitReason> {
        self.take().await
    }

    /// The result, once; [`ExitReason::NoProc`] after that.
    async fn take(&mut self) -> Result<T, ExitReason> {
        if self.consumed {
            return Err(ExitReason::NoProc);
        }
        let result = (&mut self.result).await;
        self.consumed = true;
        match result {
            Ok(value) => Ok(value),
            Err(_) => Err(self.incarnation.ended().await),
        }
    }

    /// Waits for the result, at most this long; `Ok(None)` when it is not there yet. Can be asked again.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join); [`ExitReason::NoProc`] once the result was handed out.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn join_timeout(&mut self, limit: Duration) -> Result<Option<T>, ExitReason> {
        match time::timeout(limit, self.take()).await {
            Ok(result) => result.map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Asks the task to end at its next `.await`, and aborts it when it has not after `limit`. A result that was there
    /// already is returned.
    ///
    /// # Errors
    ///
    /// How the task ended; [`ExitReason::Killed`] also for one that blocks its thread and is still there after another
    /// second.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the task is cancelled all the same.
    pub async fn shutdown(mut self, limit: Duration) -> Result<T, ExitReason> {
        self.cancel.cancel();
        let ended = || self.incarnation.ended();
        if time::timeout(limit, ended()).await.is_err() {
            self.abort.abort();
            if time::timeout(KILL_GRACE, ended()).await.is_err() {
                return Err(ExitReason::Killed);
            }
        }
        self.take().await
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if self.linked {
            self.cancel.cancel();
        }
    }
}

impl Default for TaskSupervisor {
    fn default() -> Self {
        Self::new()
    }
}

/// How long tasks have to end when their supervisor is stopped, as OTP's shutdown of 5 s.
const GRACE: Duration = Duration::from_secs(5);
/// How long an aborted task may take to go: it goes at its next `.await`.
const KILL_GRACE: Duration = Duration::from_secs(1);

/// The supervisor's own life: while this lives, tasks can be started.
struct Life {
    shared: Arc<Shared>,
    running: Arc<Running>,
}

impl Life {
    fn begin(shared: Arc<Shared>) -> Self {
        let running = Arc::new(Running {
            tracker: TaskTracker::new(),
            cancel: CancellationToken::new(),
        });
        shared.current.store(Some(Arc::clone(&running)));
        Self { shared, running }
    }

    async fn end(self) {
        self.shared.current.store(None);
        self.running.tracker.close();
        self.running.cancel.cancel();
        self.running.tracker.wait().await;
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let current = self.shared.current.load();
        if current
            .as_ref()
            .is_some_and(|life| Arc::ptr_eq(life, &self.running))
        {
            self.shared.current.store(None);
        }
        self.running.cancel.cancel();
    }
}

/// A place among the running tasks.
struct Place(Arc<Shared>);

impl Place {
    fn take(shared: &Arc<Shared>) -> Result<Self, SpawnError> {
        let more = |now: usize| (now < shared.limit).then_some(now + 1);
        let taken = shared
            .running
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        match taken {
            Ok(_) => Ok(Self(Arc::clone(shared))),
            Err(_) => Err(SpawnError::MaxChildren(shared.limit)),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Gives the verdict on a task, however its future ends: done, panicked, aborted, or dropped with the runtime.
struct End(Arc<Incarnation>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.finish_from_left();
    }
}
