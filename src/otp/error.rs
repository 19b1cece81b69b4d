use std::{sync::Arc, time::Duration};

use super::ExitReason;

/// Why a call has no answer. The two halves tell whether the request may have run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The request did not run: it is safe to send it again.
    #[error(transparent)]
    NotSent(#[from] NotSent),
    /// The request may have run, wholly or in part: send it again only where that does no harm.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
}

/// Why a request was not sent. It certainly did not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotSent {
    /// Nobody lives at the address, and nobody came within the timeout; or it was a child that asked, and it has itself been asked
    /// to end meanwhile.
    #[error("nobody is running at this address; retry once its supervisor has restarted it")]
    Down,
    /// The address admits no more requests at once.
    #[error("the address is at its limit of requests in flight; retry later, or slow down")]
    Full,
    /// An actor called itself, which can only end in a timeout.
    #[error("an actor called itself; do the work in the handler, or cast")]
    CallingSelf,
}

/// Why a request that was sent has no answer. It may have run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unanswered {
    /// The timeout passed. A late answer is dropped and never delivered.
    #[error("no answer within {0:?}; the request may still take effect")]
    Timeout(Duration),
    /// The actor ended before it answered.
    #[error("the actor ended before it answered ({0}); the request may have taken effect")]
    Died(ExitReason),
    /// The actor lives, but dropped the reply.
    #[error("the actor dropped the request without an answer")]
    Dropped,
}

/// Why a child did not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Its start returned an error or panicked.
    #[error("{child} did not start: {reason}")]
    Failed {
        /// The child's id.
        child: Arc<str>,
        /// What went wrong.
        reason: ExitReason,
    },
    /// Its start took too long, and was cancelled.
    #[error(
        "{child} did not start within {limit:?}; allow it more with start_timeout, or do the slow part in a message"
    )]
    Timeout {
        /// The child's id.
        child: Arc<str>,
        /// The limit that passed.
        limit: Duration,
    },
    /// It was stopped meanwhile, or its supervisor was.
    #[error("{child} did not start: it is stopping, or its supervisor is")]
    Stopping {
        /// The child's id.
        child: Arc<str>,
    },
}

impl StartError {
    /// The same as the end of a life that was over before it began.
    pub(crate) fn reason(&self) -> ExitReason {
        match self {
            Self::Failed { reason, .. } => reason.clone(),
            other => ExitReason::Error(other.to_string().into()),
        }
    }
}

/// Returned from `pre_start`, it declines the start: OTP's `ignore`. Nothing went wrong, nothing is retried, and the child
/// stays listed as stopped (a temporary one is forgotten). [`ChildSpec::start_if`](super::ChildSpec::start_if) does the same
/// from outside.
///
/// ```
/// use underpin::{otp::Ignore, ractor::ActorProcessingErr};
///
/// async fn pre_start(enabled: bool) -> Result<u64, ActorProcessingErr> {
///     if !enabled {
///         return Err(Ignore.into());
///     }
///     Ok(0)
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the start declined: there is nothing to do")]
pub struct Ignore;

/// Why a supervisor refused what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SupervisorError {
    /// The supervisor has stopped.
    #[error("the supervisor is not running")]
    Down,
    /// The supervisor ended before it answered. What was asked may have been done.
    #[error("the supervisor ended before it answered; what was asked may have been done")]
    Unanswered,
    /// The caller is a child that is being started, or one that would be terminated while it waits for that.
    #[error(
        "a child asked its own supervisor for something that waits for the child itself; do it from elsewhere"
    )]
    CallingSelf,
    /// The child did not end, not even when killed: something of it blocks a thread. It is not started again beside that.
    #[error("{0} did not end when killed and still runs; free what it blocks on, then try again")]
    Leaked(Arc<str>),
    /// No child has this id.
    #[error("no child has the id {0}")]
    NotFound(Arc<str>),
    /// A child with this id is running.
    #[error("{0} is already started")]
    AlreadyStarted(Arc<str>),
    /// A child with this id is known, but not running.
    #[error("{0} is already present; restart or delete it")]
    AlreadyPresent(Arc<str>),
    /// The child runs, and the request needs it stopped.
    #[error("{0} is running; terminate it first")]
    Running(Arc<str>),
    /// The child is between two lives.
    #[error("{0} is restarting; terminate it first, or wait")]
    Restarting(Arc<str>),
    /// A dynamic supervisor has as many children as it may have.
    #[error("there are {0} children already, which is the limit; retry when one has ended")]
    MaxChildren(usize),
    /// The start of a dynamic child declined; nothing is left of it.
    #[error("{0} declined to start: there was nothing to do")]
    Ignored(Arc<str>),
    /// Two children have the same id, or an id is not valid.
    #[error("{0}")]
    Invalid(Arc<str>),
    /// The child did not start.
    #[error(transparent)]
    Start(#[from] StartError),
}
