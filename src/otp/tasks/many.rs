//! Several tasks at once.

use std::time::Duration;

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    task::coop::unconstrained,
    time::{self, Instant},
};

use super::{Task, TaskError, TaskExit};
use crate::otp::ExitReason;

/// How [`yield_many`] waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct YieldMany {
    /// For how long, all in all.
    pub timeout: Duration,
    /// For how many results; `None` for all. When so many are there, it returns at once, and the others go on.
    pub limit: Option<usize>,
    /// Whether tasks that are not done when the time is up are killed. Else they go on, and can be asked again.
    pub kill_late: bool,
}

impl YieldMany {
    /// Waits for all, at most this long, and leaves the others alone.
    #[must_use]
    pub fn all(timeout: Duration) -> Self {
        Self {
            timeout,
            limit: None,
            kill_late: false,
        }
    }
}

/// Waits for several tasks at once; gives what each of them has by then, in their order: its result, why it has none, or
/// `None` when it is not done. Elixir's `Task.yield_many`; to let go of the late ones, drop or
/// [`ignore`](Task::ignore) them.
///
/// # Cancel safety
///
/// Not cancel safe: results that came are lost with the future.
pub async fn yield_many<T>(
    tasks: &mut [Task<T>],
    how: YieldMany,
) -> Vec<Option<Result<T, ExitReason>>> {
    let mut results: Vec<_> = tasks.iter().map(|_| None).collect();
    let wanted = how.limit.unwrap_or(usize::MAX).min(tasks.len());
    let in_time = {
        let waiting = tasks
            .iter_mut()
            .enumerate()
            .map(|(index, task)| unconstrained(async move { (index, task.await) }));
        let mut waiting: FuturesUnordered<_> = waiting.collect();
        let enough = async {
            for _ in 0..wanted {
                if let Some((index, result)) = waiting.next().await {
                    results[index] = Some(result);
                }
            }
        };
        time::timeout(how.timeout, enough).await.is_ok()
    };
    if how.kill_late && !in_time {
        for task in tasks.iter().filter(|task| !task.consumed) {
            task.kill();
        }
    }
    results
}

/// Waits for all results, and gives them in the order of the tasks; fails as soon as one task does, or when the time is up.
/// Then the tasks are dropped, which ends those that are linked. Elixir's `Task.await_many`.
///
/// # Errors
///
/// The first failure, with the place of its task in the list; for a timeout that of the first task that was not done.
///
/// # Cancel safety
///
/// Dropping the future drops the tasks.
pub async fn await_many<T>(
    tasks: Vec<Task<T>>,
    timeout: Duration,
) -> Result<Vec<T>, TaskExit<usize>> {
    let mut results: Vec<Option<T>> = tasks.iter().map(|_| None).collect();
    let deadline = Instant::now().checked_add(timeout);
    let indexed = tasks.into_iter().enumerate();
    let mut waiting: FuturesUnordered<_> = indexed
        .map(|(index, task)| unconstrained(async move { (index, task.await) }))
        .collect();
    let all = async {
        while let Some((input, result)) = waiting.next().await {
            let why = TaskError::Exited;
            results[input] = Some(result.map_err(|reason| TaskExit {
                input,
                why: why(reason),
            })?);
        }
        Ok(())
    };
    match deadline {
        None => all.await?,
        Some(deadline) => {
            if let Ok(done) = time::timeout_at(deadline, all).await {
                done?;
            }
        }
    }
    let late = |(input, result): (usize, Option<T>)| {
        let why = TaskError::Timeout(timeout);
        result.ok_or(TaskExit { input, why })
    };
    results.into_iter().enumerate().map(late).collect()
}
