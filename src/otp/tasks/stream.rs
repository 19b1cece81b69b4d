//! Work on many inputs, so many at a time.

use std::{
    fmt,
    future::Future,
    num::NonZeroUsize,
    pin::Pin,
    task::{Context, Poll, ready},
    thread::available_parallelism,
    time::Duration,
};

use futures_util::stream::{FuturesUnordered, Stream, StreamExt as _};
use tokio::time::{Sleep, sleep};

use super::{OnTimeout, Task, TaskError, TaskExit, TaskSupervisor, reorder::Reorder};

/// The results of work on many inputs, from [`TaskSupervisor::stream`]. Elixir's `Task.Supervisor.async_stream`.
///
/// Each input is worked on in a task of its own. The stream is lazy: inputs are taken and tasks are started while it is
/// polled, at most [`max_concurrency`](Self::max_concurrency) at a time. Results come in the order of the inputs, unless
/// [`unordered`](Self::unordered). A task that fails is an `Err` in its place; the others go on, so that the caller decides,
/// with `try_collect` for all or nothing. When a task cannot be started, or takes too long and [`OnTimeout::Fail`] is
/// set, that is the last item.
///
/// Dropping the stream ends its tasks, and nothing of them is left behind.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{num::NonZeroUsize, time::Duration};
/// use futures_util::StreamExt as _;
/// use underpin::otp::{Intensity, OnTimeout, Supervisor, SupervisorSpec, TaskSupervisor};
///
/// const SECOND: Duration = Duration::from_secs(1);
/// let tasks = TaskSupervisor::new();
/// let spec = SupervisorSpec::new("doc", Intensity::new(3, 5 * SECOND)).child(tasks.child_spec("tasks"));
/// let supervisor = Supervisor::start(spec).await?;
///
/// let two = NonZeroUsize::new(2).expect("is not zero");
/// let halves = tasks
///     .stream([8, 7, 6], |n: u32| async move { if n % 2 == 0 { Ok(n / 2) } else { Err(n) } })
///     .max_concurrency(two)
///     .timeout(SECOND, OnTimeout::Kill);
/// let halves: Vec<_> = halves.map(|half| half.expect("no task fails")).collect().await;
///
/// assert_eq!(halves, [Ok(4), Err(7), Ok(3)]);
/// supervisor.stop().await;
/// # Ok(()) }
/// ```
#[must_use = "a stream does nothing unless it is polled"]
pub struct TaskStream<S: Stream, F, W: Future, K = ()> {
    tasks: TaskSupervisor,
    /// `None` when all inputs were taken, or after a failure.
    inputs: Option<Pin<Box<S>>>,
    work: F,
    /// What is kept of an input for the case that its task fails.
    keep: fn(&S::Item) -> K,
    limits: Limits,
    ordered: bool,
    on_timeout: OnTimeout,
    next: u64,
    running: FuturesUnordered<Timed<W::Output, K>>,
    done: Reorder<Result<W::Output, TaskExit<K>>>,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    concurrency: NonZeroUsize,
    buffered: Option<usize>,
    timeout: Option<Duration>,
}

impl Limits {
    /// A page of results; enough for the others to go on behind a slow head, and nothing that fills the memory.
    const BUFFERED: usize = 1024;
    /// Elixir's.
    const TIMEOUT: Duration = Duration::from_secs(5);

    fn new() -> Self {
        Self {
            concurrency: available_parallelism().unwrap_or(NonZeroUsize::MIN),
            buffered: None,
            timeout: Some(Self::TIMEOUT),
        }
    }

    /// Whether one more task may be started. Of the tasks in order one is the head, whose result never waits.
    fn allow(&self, ordered: bool, running: usize, held: usize) -> bool {
        let concurrency = self.concurrency.get();
        let buffered = self.buffered.unwrap_or(Self::BUFFERED.max(concurrency));
        running < concurrency && (!ordered || running + held <= buffered)
    }
}

impl<S, F, W> TaskStream<S, F, W>
where
    S: Stream,
    F: FnMut(S::Item) -> W,
    W: Future<Output: Send + 'static> + Send + 'static,
{
    pub(super) fn new(tasks: TaskSupervisor, inputs: S, work: F) -> Self {
        Self {
            tasks,
            inputs: Some(Box::pin(inputs)),
            work,
            keep: |_| (),
            limits: Limits::new(),
            ordered: true,
            on_timeout: OnTimeout::default(),
            next: 0,
            running: FuturesUnordered::new(),
            done: Reorder::new(),
        }
    }

    /// Gives the input of a task that failed along with why.
    pub fn zip_input_on_exit(self) -> TaskStream<S, F, W, S::Item>
    where
        S::Item: Clone,
    {
        TaskStream {
            tasks: self.tasks,
            inputs: self.inputs,
            work: self.work,
            keep: Clone::clone,
            limits: self.limits,
            ordered: self.ordered,
            on_timeout: self.on_timeout,
            next: self.next,
            running: FuturesUnordered::new(),
            done: Reorder::new(),
        }
    }
}

impl<S: Stream, F, W: Future, K> TaskStream<S, F, W, K> {
    /// How many tasks run at a time. Default: as many as the machine has processors.
    pub fn max_concurrency(mut self, limit: NonZeroUsize) -> Self {
        self.limits.concurrency = limit;
        self
    }

    /// Gives each result when it is there, in whatever order.
    pub fn unordered(mut self) -> Self {
        self.ordered = false;
        self
    }

    /// How many results may wait behind a slower one whose turn it is; when so many do, no more tasks are started. Default:
    /// 1024, or as many as tasks run at a time where that is more. Elixir has no limit.
    pub fn max_buffered(mut self, limit: usize) -> Self {
        self.limits.buffered = Some(limit);
        self
    }

    /// How long each task may take, and what happens to one that takes longer. Default: 5 s and [`OnTimeout::Fail`], as in
    /// Elixir.
    pub fn timeout(mut self, limit: Duration, on_timeout: OnTimeout) -> Self {
        self.limits.timeout = Some(limit);
        self.on_timeout = on_timeout;
        self
    }

    /// Lets each task take as long as it takes.
    pub fn no_timeout(mut self) -> Self {
        self.limits.timeout = None;
        self
    }
}

impl<S, F, W, K> TaskStream<S, F, W, K>
where
    S: Stream,
    F: FnMut(S::Item) -> W,
    W: Future<Output: Send + 'static> + Send + 'static,
{
    /// Takes inputs and starts tasks as far as that is allowed now.
    fn fill(&mut self, cx: &mut Context<'_>) -> Result<(), TaskExit<K>> {
        while let Some(inputs) = &mut self.inputs
            && self
                .limits
                .allow(self.ordered, self.running.len(), self.done.held())
        {
            match inputs.as_mut().poll_next(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => self.inputs = None,
                Poll::Ready(Some(input)) => self.start(input)?,
            }
        }
        Ok(())
    }

    fn start(&mut self, input: S::Item) -> Result<(), TaskExit<K>> {
        let kept = (self.keep)(&input);
        let task = match self.tasks.spawn((self.work)(input)) {
            Ok(task) => task,
            Err(error) => {
                return Err(TaskExit {
                    input: kept,
                    why: error.into(),
                });
            }
        };
        let index = self.next;
        self.next += 1;
        self.running.push(Timed {
            index,
            task,
            kept: Some(kept),
            timer: self
                .limits
                .timeout
                .map(|limit| (limit, Box::pin(sleep(limit)))),
        });
        Ok(())
    }

    /// The last item there is: everything else is given up.
    fn fail<R>(&mut self, last: R) -> R {
        self.inputs = None;
        self.running.clear();
        self.done = Reorder::new();
        last
    }
}

impl<S, F, W, K> Stream for TaskStream<S, F, W, K>
where
    S: Stream,
    F: FnMut(S::Item) -> W,
    W: Future<Output: Send + 'static> + Send + 'static,
{
    type Item = Result<W::Output, TaskExit<K>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Err(exit) = this.fill(cx) {
                return Poll::Ready(Some(this.fail(Err(exit))));
            }
            if let Some(result) = this.done.take() {
                return Poll::Ready(Some(result));
            }
            let Some((index, result)) = ready!(this.running.poll_next_unpin(cx)) else {
                // Nothing runs: either all is done, or the next input is waited for.
                return match this.inputs {
                    None => Poll::Ready(None),
                    Some(_) => Poll::Pending,
                };
            };
            if let Err(exit) = &result
                && matches!(exit.why, TaskError::Timeout(_))
                && this.on_timeout == OnTimeout::Fail
            {
                return Poll::Ready(Some(this.fail(result)));
            }
            if !this.ordered {
                return Poll::Ready(Some(result));
            }
            this.done.put(index, result);
        }
    }
}

/// The inputs are boxed, and the tasks run elsewhere.
impl<S: Stream, F, W: Future, K> Unpin for TaskStream<S, F, W, K> {}

impl<S: Stream, F, W: Future, K> fmt::Debug for TaskStream<S, F, W, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskStream")
            .field("limits", &self.limits)
            .field("ordered", &self.ordered)
            .field("running", &self.running.len())
            .field("held", &self.done.held())
            .finish_non_exhaustive()
    }
}

/// A task and the end of its time. Dropped, it ends the task.
struct Timed<T, K> {
    index: u64,
    task: Task<T>,
    kept: Option<K>,
    timer: Option<(Duration, Pin<Box<Sleep>>)>,
}

impl<T, K> Unpin for Timed<T, K> {}

impl<T, K> Future for Timed<T, K> {
    type Output = (u64, Result<T, TaskExit<K>>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = match (Pin::new(&mut self.task).poll(cx), &mut self.timer) {
            (Poll::Ready(result), _) => result.map_err(TaskError::Exited),
            (Poll::Pending, None) => return Poll::Pending,
            (Poll::Pending, Some((limit, timer))) => {
                ready!(timer.as_mut().poll(cx));
                let limit = *limit;
                self.task.kill();
                Err(TaskError::Timeout(limit))
            }
        };
        let index = self.index;
        match (result, self.kept.take()) {
            (Ok(value), _) => Poll::Ready((index, Ok(value))),
            (Err(why), Some(input)) => Poll::Ready((index, Err(TaskExit { input, why }))),
            // It was asked again after its end.
            (Err(_), None) => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_started_than_can_wait_behind_a_slow_head() {
        let limits = |concurrency, buffered| Limits {
            concurrency: NonZeroUsize::new(concurrency).expect("some"),
            buffered: Some(buffered),
            timeout: None,
        };
        for (concurrency, buffered) in [(1, 0), (2, 0), (4, 2), (4, 100)] {
            let limits = limits(concurrency, buffered);
            // The head never ends; everything else does at once.
            let (mut running, mut held, mut most) = (0, 0, 0);
            for _ in 0..1000 {
                while limits.allow(true, running, held) {
                    running += 1;
                    most = most.max(running);
                }
                held += running - 1;
                running = 1;
            }
            assert!(held <= buffered, "{held} of {buffered}");
            assert!(most <= concurrency, "{most} of {concurrency}");
        }
        assert!(limits(2, 0).allow(false, 1, 0));
    }
}
