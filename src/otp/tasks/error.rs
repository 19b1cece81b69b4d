use std::{fmt, time::Duration};

use crate::otp::ExitReason;

/// Why a task was not started. Its work has not run.
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

/// Why there is no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The task ended without one: it panicked, was cancelled, or killed.
    #[error("the task ended without a result ({0})")]
    Exited(ExitReason),
    /// It took longer than allowed, and was killed.
    #[error(
        "the task was killed because it took longer than {0:?}; allow it more, or make it smaller"
    )]
    Timeout(Duration),
    /// It was not started.
    #[error(transparent)]
    NotStarted(#[from] SpawnError),
}

/// One task of several that has no result, and which one it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskExit<I = ()> {
    /// What the task was given, where that was asked for
    /// ([`TaskStream::zip_input_on_exit`](super::TaskStream::zip_input_on_exit)); its place in the list for
    /// [`await_many`](super::await_many).
    pub input: I,
    /// Why it has no result.
    pub why: TaskError,
}

impl<I> fmt::Display for TaskExit<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.why.fmt(f)
    }
}

impl<I: fmt::Debug> std::error::Error for TaskExit<I> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.why)
    }
}
