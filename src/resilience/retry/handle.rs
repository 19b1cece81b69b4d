use std::{num::NonZeroU32, sync::Arc, time::Duration};

use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Again,
    state::{Limits, Next},
};
use crate::resilience::{Backoff, Happening, Observer, report::Reporter};

/// Tries something again when it fails, as often and as long as it is told to.
///
/// ```
/// use std::time::Duration;
/// use underpin::resilience::{Backoff, Retry, RetryError};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let retry = Retry::new("till", Backoff::constant(Duration::from_millis(1)));
///
/// let third_time_lucky = retry.run(|attempt| async move { if attempt < 3 { Err("busy") } else { Ok(attempt) } });
/// assert_eq!(third_time_lucky.await, Ok(3));
///
/// let never = retry.run(|_| async { Err::<(), _>("closed") });
/// assert_eq!(never.await, Err(RetryError::Exhausted { attempts: 3, last: "closed" }));
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Retry {
    reporter: Reporter,
    limits: Limits,
    cancel: Option<CancellationToken>,
}

/// Why something did not work out. All but [`Cancelled`](Self::Cancelled) hold the last error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RetryError<E> {
    /// It failed as often as it may.
    #[error("failed {attempts} times, at last with: {last}")]
    Exhausted {
        /// How often it was tried.
        attempts: u32,
        /// The last error.
        #[source]
        last: E,
    },
    /// It failed for as long as it may, or would have to wait longer than that.
    #[error("failed {attempts} times within {elapsed:?}, at last with: {last}")]
    Elapsed {
        /// How often it was tried.
        attempts: u32,
        /// How long that took.
        elapsed: Duration,
        /// The last error.
        #[source]
        last: E,
    },
    /// It failed with what it makes no sense to repeat.
    #[error("{last}")]
    Permanent {
        /// How often it was tried.
        attempts: u32,
        /// The last error.
        #[source]
        last: E,
    },
    /// It was cancelled, before an attempt or between two.
    #[error("cancelled after {attempts} attempts")]
    Cancelled {
        /// How often it was tried.
        attempts: u32,
        /// The last error, where there was an attempt.
        last: Option<E>,
    },
}

impl<E> RetryError<E> {
    /// The last error, where there was an attempt.
    #[must_use]
    pub fn into_last(self) -> Option<E> {
        match self {
            Self::Exhausted { last, .. }
            | Self::Elapsed { last, .. }
            | Self::Permanent { last, .. } => Some(last),
            Self::Cancelled { last, .. } => last,
        }
    }
}

impl Retry {
    /// How often something is tried by default.
    pub const ATTEMPTS: NonZeroU32 = NonZeroU32::MIN.saturating_add(2);

    /// Tries up to three times, with these delays between. The name is for [`Observer`]s and logs.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, backoff: Backoff) -> Self {
        Self {
            reporter: Reporter::new(name),
            limits: Limits {
                backoff,
                attempts: Some(Self::ATTEMPTS.get()),
                elapsed: None,
            },
            cancel: None,
        }
    }

    /// Tries so often at most.
    #[must_use]
    pub fn attempts(mut self, attempts: NonZeroU32) -> Self {
        self.limits.attempts = Some(attempts.get());
        self
    }

    /// Tries any number of times.
    #[must_use]
    pub fn without_end(mut self) -> Self {
        self.limits.attempts = None;
        self
    }

    /// Begins no attempt later than this after the first. An attempt that is under way is not cut off.
    #[must_use]
    pub fn elapsed_limit(mut self, limit: Duration) -> Self {
        self.limits.elapsed = Some(limit);
        self
    }

    /// Ends the waiting and begins no attempt any more when the token is cancelled: mostly `ChildContext::cancellation`, so that a
    /// stop need not wait. An attempt that is under way is not cut off; give it the token too where it may be.
    #[must_use]
    pub fn cancelled_by(mut self, cancel: CancellationToken) -> Self {
        self.cancel = Some(cancel);
        self
    }

    /// Has an observer told.
    #[must_use]
    pub fn observed_by(mut self, observer: Arc<dyn Observer>) -> Self {
        self.reporter.observed_by(observer);
        self
    }

    /// Tries until it succeeds; every failure is worth another try. `attempt` is called with the number of the attempt, from 1 on.
    ///
    /// # Errors
    ///
    /// [`RetryError`].
    ///
    /// # Cancel safety
    ///
    /// As safe as an attempt: dropping the future drops the attempt that is under way.
    pub async fn run<T, E, F>(&self, attempt: impl FnMut(u32) -> F) -> Result<T, RetryError<E>>
    where
        F: Future<Output = Result<T, E>>,
    {
        self.run_when(attempt, |_| Again::Backoff).await
    }

    /// The same, where an error says whether to try again: [`Retryable::again`](super::Retryable::again), or a closure.
    ///
    /// # Errors
    ///
    /// [`RetryError`].
    ///
    /// # Cancel safety
    ///
    /// As [`run`](Self::run).
    pub async fn run_when<T, E, F>(
        &self,
        mut attempt: impl FnMut(u32) -> F,
        again: impl Fn(&E) -> Again,
    ) -> Result<T, RetryError<E>>
    where
        F: Future<Output = Result<T, E>>,
    {
        let begin = Instant::now();
        let mut attempts = 0;
        let mut last = None;
        while !self.is_cancelled() {
            attempts += 1;
            let error = match attempt(attempts).await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let elapsed = begin.elapsed();
            let next = self
                .limits
                .next(attempts, elapsed, again(&error), fastrand::f64());
            let Next::After(delay) = next else {
                self.reporter.report(Happening::GaveUp { attempts });
                return Err(given_up(next, attempts, elapsed, error));
            };
            self.reporter.report(Happening::Retrying {
                attempt: attempts,
                delay,
            });
            last = Some(error);
            self.pause(delay).await;
        }
        self.reporter.report(Happening::GaveUp { attempts });
        Err(RetryError::Cancelled { attempts, last })
    }

    fn is_cancelled(&self) -> bool {
        self.cancel
            .as_ref()
            .is_some_and(CancellationToken::is_cancelled)
    }

    async fn pause(&self, delay: Duration) {
        match &self.cancel {
            None => time::sleep(delay).await,
            Some(cancel) => drop(time::timeout(delay, cancel.cancelled()).await),
        }
    }
}

fn given_up<E>(why: Next, attempts: u32, elapsed: Duration, last: E) -> RetryError<E> {
    match why {
        Next::Permanent => RetryError::Permanent { attempts, last },
        Next::Elapsed => RetryError::Elapsed {
            attempts,
            elapsed,
            last,
        },
        Next::After(_) | Next::Exhausted => RetryError::Exhausted { attempts, last },
    }
}
