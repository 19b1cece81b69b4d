use std::{
    future::Future,
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

    /// The child that a supervisor starts. When it is stopped, tasks are asked to end, and cut off after 5 s.
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
        // The end of the tasks has its own limit; this one only has to be longer.
        spec.shutdown(Shutdown::Timeout(GRACE * 2))
    }

    /// Runs `work`; dropping the [`Task`] cancels it.
    ///
    /// # Errors
    ///
    /// [`SpawnError`]; `work` has not run.
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
                let _place = place;
                let end = end;
                tokio::select! {
                    biased;
                    () = cancel.cancelled() => end.0.leave(Left::Reason(ExitReason::Shutdown(None))),
                    outcome = end.0.run(work) => match outcome {
                        Ok(value) => {
                            end.0.leave(Left::Clean);
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
        match (&mut self.result).await {
            Ok(value) => Ok(value),
            Err(_) => Err(self.incarnation.ended().await),
        }
    }

    /// Waits for the result, at most this long; `Ok(None)` when it is not there yet. Can be asked again.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn join_timeout(&mut self, limit: Duration) -> Result<Option<T>, ExitReason> {
        match time::timeout(limit, &mut self.result).await {
            Ok(Ok(value)) => Ok(Some(value)),
            Ok(Err(_)) => Err(self.incarnation.ended().await),
            Err(_) => Ok(None),
        }
    }

    /// Asks the task to end at its next `.await`, and aborts it when it has not after `limit`. A result that was there
    /// already is returned.
    ///
    /// # Errors
    ///
    /// How the task ended.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the task is cancelled all the same.
    pub async fn shutdown(mut self, limit: Duration) -> Result<T, ExitReason> {
        self.cancel.cancel();
        if time::timeout(limit, self.incarnation.ended())
            .await
            .is_err()
        {
            self.abort.abort();
        }
        match self.result.try_recv() {
            Ok(value) => Ok(value),
            Err(_) => Err(self.incarnation.ended().await),
        }
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
        if time::timeout(GRACE, self.running.tracker.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                left = self.running.tracker.len(),
                "tasks did not end when asked"
            );
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.shared.current.store(None);
        self.running.cancel.cancel();
    }
}

/// A place among the running tasks.
struct Place(Arc<Shared>);

impl Place {
    fn take(shared: &Arc<Shared>) -> Result<Self, SpawnError> {
        let place = Self(Arc::clone(shared));
        if shared.running.fetch_add(1, Ordering::AcqRel) < shared.limit {
            return Ok(place);
        }
        Err(SpawnError::MaxChildren(shared.limit))
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
