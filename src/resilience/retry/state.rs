use std::time::Duration;

use crate::resilience::Backoff;

/// Whether what failed should be tried again, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// It would fail again, or do harm.
    Never,
    /// After the delay that the backoff says.
    Backoff,
    /// After this delay, as whoever refused it asked for (`Retry-After`), whatever the backoff says.
    After(Duration),
}

/// Errors that know whether a retry makes sense.
pub trait Retryable {
    /// Whether to try again what failed with this, and when.
    fn again(&self) -> Again;
}

/// How long to go on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) backoff: Backoff,
    /// `None` is any number.
    pub(super) attempts: Option<u32>,
    pub(super) elapsed: Option<Duration>,
}

/// What follows a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    After(Duration),
    Permanent,
    Exhausted,
    /// The next attempt would begin after the time that there is.
    Elapsed,
}

impl Limits {
    /// What follows the failure of attempt number `attempt`, from 1 on, so long after the first began.
    pub(super) fn next(&self, attempt: u32, elapsed: Duration, again: Again, random: f64) -> Next {
        let delay = match again {
            Again::Never => return Next::Permanent,
            Again::Backoff => self.backoff.delay(attempt.saturating_sub(1), random),
            Again::After(delay) => delay,
        };
        if self.attempts.is_some_and(|limit| attempt >= limit) {
            return Next::Exhausted;
        }
        let begins = elapsed.saturating_add(delay);
        if self.elapsed.is_some_and(|limit| begins > limit) {
            return Next::Elapsed;
        }
        Next::After(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits(attempts: Option<u32>, elapsed: Option<Duration>) -> Limits {
        let backoff = Backoff::new(SECOND, 30 * SECOND).expect("base is below cap");
        Limits {
            backoff,
            attempts,
            elapsed,
        }
    }

    #[test]
    fn delays_follow_the_backoff_until_the_last_attempt() {
        let limits = limits(Some(3), None);
        let next = |attempt| limits.next(attempt, SECOND, Again::Backoff, 0.0);
        assert_eq!(next(1), Next::After(SECOND));
        assert_eq!(next(2), Next::After(2 * SECOND));
        assert_eq!(next(3), Next::Exhausted);
    }

    #[test]
    fn what_the_other_side_asks_for_comes_before_the_backoff() {
        let limits = limits(Some(3), None);
        let asked = limits.next(1, SECOND, Again::After(60 * SECOND), 0.0);
        assert_eq!(asked, Next::After(60 * SECOND));
        let last = limits.next(3, SECOND, Again::After(SECOND), 0.0);
        assert_eq!(last, Next::Exhausted);
    }

    #[test]
    fn what_makes_no_sense_to_repeat_is_not() {
        let next = limits(None, None).next(1, SECOND, Again::Never, 0.0);
        assert_eq!(next, Next::Permanent);
    }

    #[test]
    fn no_attempt_begins_after_the_time_that_there_is() {
        let limits = limits(None, Some(10 * SECOND));
        let next = |elapsed| limits.next(2, elapsed, Again::Backoff, 0.0);
        assert_eq!(next(8 * SECOND), Next::After(2 * SECOND));
        assert_eq!(next(8 * SECOND + Duration::from_nanos(1)), Next::Elapsed);
        let far = limits.next(1, SECOND, Again::After(Duration::MAX), 0.0);
        assert_eq!(far, Next::Elapsed);
    }

    #[test]
    fn without_limits_it_never_ends() {
        let next = limits(None, None).next(u32::MAX, Duration::MAX, Again::Backoff, 0.0);
        assert_eq!(next, Next::After(30 * SECOND));
    }
}
