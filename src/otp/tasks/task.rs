use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use tokio::{sync::oneshot, time};

use super::life::Control;
use crate::otp::{ExitReason, Shutdown, supervisor::stop::KILL_GRACE};

/// Which task: unique among those of its supervisor, whatever its lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub(super) u64);

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task#{}", self.0)
    }
}

/// A task that runs under a [`TaskSupervisor`](super::TaskSupervisor), and its result, which comes by `.await`.
///
/// One that was spawned linked ends at its next `.await` when this is dropped; one from
/// [`spawn_nolink`](super::TaskSupervisor::spawn_nolink) goes on, and its result is lost.
///
/// The result is given once: [`ExitReason::NoProc`] after that.
///
/// # Cancel safety
///
/// `(&mut task).await` is cancel safe: nothing is lost. `timeout(limit, task).await` drops the task when the time is up, which
/// ends a linked one.
#[derive(Debug)]
#[must_use = "dropping a linked task ends it"]
pub struct Task<T> {
    pub(super) id: TaskId,
    pub(super) answer: oneshot::Receiver<Result<T, ExitReason>>,
    pub(super) control: Arc<Control>,
    pub(super) linked: bool,
    /// Whether the result, or how the task ended, was handed out.
    pub(super) consumed: bool,
}

impl<T> Future for Task<T> {
    type Output = Result<T, ExitReason>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        if self.consumed {
            return Poll::Ready(Err(ExitReason::NoProc));
        }
        let answer = ready!(Pin::new(&mut self.answer).poll(cx));
        self.consumed = true;
        Poll::Ready(answer.unwrap_or(Err(ExitReason::Killed)))
    }
}

impl<T> Task<T> {
    /// Which task it is.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// Waits for the result, at most this long; `Ok(None)` when it is not there yet. Can be asked again. Elixir's `yield`.
    ///
    /// # Errors
    ///
    /// How the task ended without a result; [`ExitReason::NoProc`] once the result was handed out.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn yield_for(&mut self, limit: Duration) -> Result<Option<T>, ExitReason> {
        match time::timeout(limit, self).await {
            Ok(result) => result.map(Some),
            Err(_) => Ok(None),
        }
    }

    /// The result if it is there, and else nothing, now or later: the task goes on, also a linked one, and its result is lost.
    #[must_use = "a result that is there is given, and then lost"]
    pub fn ignore(mut self) -> Option<Result<T, ExitReason>> {
        self.linked = false;
        self.finished()
    }

    /// Ends the task at its next `.await`, and waits until it is gone. A result that was there already is returned.
    ///
    /// Work does not hear of this before it is dropped, so that what differs is how long is waited, and the reason:
    /// [`Shutdown::Timeout`] waits that long, [`Shutdown::Infinity`] for ever, [`Shutdown::Brutal`] counts as killed.
    ///
    /// # Errors
    ///
    /// How the task ended; [`ExitReason::Killed`] also for one that blocks its thread and is still there another second
    /// after the time was up; [`ExitReason::NoProc`] once the result was handed out.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the task is ended all the same.
    pub async fn shutdown(mut self, how: Shutdown) -> Result<T, ExitReason> {
        if let Some(result) = self.finished() {
            return result;
        }
        let (reason, patience) = match how {
            Shutdown::Brutal => (ExitReason::Killed, KILL_GRACE),
            Shutdown::Timeout(limit) => {
                (ExitReason::Shutdown(None), limit.saturating_add(KILL_GRACE))
            }
            Shutdown::Infinity => (ExitReason::Shutdown(None), Duration::MAX),
        };
        self.control.end(reason);
        match time::timeout(patience, &mut self).await {
            Ok(result) => result,
            Err(_) => Err(ExitReason::Killed),
        }
    }

    /// The result, or why there is none, if that is known by now.
    pub(super) fn finished(&mut self) -> Option<Result<T, ExitReason>> {
        if self.consumed {
            return Some(Err(ExitReason::NoProc));
        }
        match self.answer.try_recv() {
            Ok(result) => {
                self.consumed = true;
                Some(result)
            }
            Err(_) => None,
        }
    }

    /// Ends it now: nobody waits for it any more.
    pub(super) fn kill(&self) {
        self.control.end(ExitReason::Killed);
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if self.linked {
            self.control.end(ExitReason::Shutdown(None));
        }
    }
}
