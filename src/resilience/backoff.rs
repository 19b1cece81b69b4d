use std::time::Duration;

/// How long to wait before the next attempt: `min(base * factor^attempt, cap)`, less up to `jitter` of it by chance.
///
/// The default is to try again at once, which is what OTP does. Valid by construction: no delay is negative, above `cap` or not a
/// number, whatever the attempt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    base: Duration,
    factor: f64,
    cap: Duration,
    jitter: f64,
    reset_after: Duration,
}

/// Why a backoff was refused.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BackoffError {
    /// The first delay is longer than the longest.
    #[error(
        "backoff begins with {base:?}, above its cap of {cap:?}; raise the cap or lower the base"
    )]
    BaseAboveCap {
        /// The first delay.
        base: Duration,
        /// The longest delay.
        cap: Duration,
    },
    /// The factor would shrink delays, or is no number.
    #[error(
        "backoff factor is {given}; use a number from 1, which keeps the delay, or 2, which doubles it"
    )]
    Factor {
        /// What was given.
        given: f64,
    },
    /// The jitter is no share.
    #[error(
        "backoff jitter is {given}; use a number from 0 (none) to 1 (anything up to the whole delay)"
    )]
    Jitter {
        /// What was given.
        given: f64,
    },
}

impl Backoff {
    /// No delay at all: OTP's way.
    pub const AT_ONCE: Self = Self {
        base: Duration::ZERO,
        factor: 1.0,
        cap: Duration::ZERO,
        jitter: 0.0,
        reset_after: Self::RESET_AFTER,
    };

    /// After how long a stable run the next failure counts as the first again, unless told otherwise: a minute, longer than most of
    /// what fails again and again takes to do so.
    pub const RESET_AFTER: Duration = Duration::from_mins(1);

    const FACTOR: f64 = 2.0;
    /// Enough to pull apart what failed together, little enough to keep the delays' order.
    const JITTER: f64 = 0.2;

    /// Delays that begin with `base` and double up to `cap`, with a jitter of a fifth.
    ///
    /// # Errors
    ///
    /// [`BackoffError::BaseAboveCap`].
    pub fn new(base: Duration, cap: Duration) -> Result<Self, BackoffError> {
        if base > cap {
            return Err(BackoffError::BaseAboveCap { base, cap });
        }
        Ok(Self {
            base,
            factor: Self::FACTOR,
            cap,
            jitter: Self::JITTER,
            reset_after: Self::RESET_AFTER,
        })
    }

    /// The same with another factor.
    ///
    /// # Errors
    ///
    /// [`BackoffError::Factor`] below 1 and for what is no finite number.
    pub fn with_factor(self, factor: f64) -> Result<Self, BackoffError> {
        if !(factor.is_finite() && factor >= 1.0) {
            return Err(BackoffError::Factor { given: factor });
        }
        Ok(Self { factor, ..self })
    }

    /// The same with another jitter: the share of each delay, from 0 to 1, that chance may take away.
    ///
    /// # Errors
    ///
    /// [`BackoffError::Jitter`] outside 0 to 1.
    pub fn with_jitter(self, jitter: f64) -> Result<Self, BackoffError> {
        if !(0.0..=1.0).contains(&jitter) {
            return Err(BackoffError::Jitter { given: jitter });
        }
        Ok(Self { jitter, ..self })
    }

    /// The same with another stable run, after which the next failure counts as the first again.
    #[must_use]
    pub fn with_reset_after(self, reset_after: Duration) -> Self {
        Self {
            reset_after,
            ..self
        }
    }

    /// How long to wait before attempt number `attempt`, where 0 is the first *repeated* one. `random` is a draw from 0 to 1; anything
    /// beyond is taken for the nearer end.
    #[must_use]
    pub fn delay(&self, attempt: u32, random: f64) -> Duration {
        let full = self.full_delay(attempt);
        let luck = if random.is_nan() {
            0.0
        } else {
            random.clamp(0.0, 1.0)
        };
        let seconds = full.as_secs_f64() * (1.0 - self.jitter * luck);
        Duration::try_from_secs_f64(seconds).map_or(full, |delay| delay.min(full))
    }

    /// Whether a run this long makes the next failure the first again.
    #[must_use]
    pub fn is_stable(&self, run: Duration) -> bool {
        run >= self.reset_after
    }

    /// The longest delay.
    #[must_use]
    pub fn cap(&self) -> Duration {
        self.cap
    }

    fn full_delay(&self, attempt: u32) -> Duration {
        if self.base.is_zero() {
            return Duration::ZERO;
        }
        let exponent = i32::try_from(attempt).unwrap_or(i32::MAX);
        let seconds = self.base.as_secs_f64() * self.factor.powi(exponent);
        // What is infinite or too long for a duration is certainly beyond the cap.
        Duration::try_from_secs_f64(seconds).map_or(self.cap, |delay| delay.min(self.cap))
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::AT_ONCE
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn delays_double_up_to_the_cap() {
        let backoff = Backoff::new(SECOND, 30 * SECOND).expect("base is below cap");

        let delays: Vec<u64> = (0..7)
            .map(|attempt| backoff.delay(attempt, 0.0).as_secs())
            .collect();

        assert_eq!(delays, [1, 2, 4, 8, 16, 30, 30]);
    }

    #[test]
    fn chance_takes_away_up_to_the_jitter() {
        let backoff = Backoff::new(SECOND, SECOND)
            .and_then(|backoff| backoff.with_jitter(0.5))
            .expect("valid settings");
        assert_eq!(backoff.delay(0, 0.0), SECOND);
        assert_eq!(backoff.delay(0, 0.5), SECOND * 3 / 4);
        assert_eq!(backoff.delay(0, 1.0), SECOND / 2);
        assert_eq!(backoff.delay(0, 7.0), SECOND / 2);
        assert_eq!(backoff.delay(0, f64::NAN), SECOND);
    }

    #[test]
    fn the_default_is_at_once() {
        for attempt in [0, 1, u32::MAX] {
            assert_eq!(Backoff::default().delay(attempt, 0.3), Duration::ZERO);
        }
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        assert!(matches!(
            Backoff::new(2 * SECOND, SECOND),
            Err(BackoffError::BaseAboveCap { .. })
        ));
        let backoff = Backoff::new(SECOND, SECOND).expect("base is not above cap");
        for bad in [0.9, 0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(backoff.with_factor(bad).is_err(), "{bad}");
        }
        for bad in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert!(backoff.with_jitter(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_stable_run_is_one_of_at_least_reset_after() {
        let backoff = Backoff::AT_ONCE.with_reset_after(SECOND);
        assert!(backoff.is_stable(SECOND));
        assert!(!backoff.is_stable(Duration::from_nanos(999_999_999)));
    }

    proptest! {
        #[test]
        fn no_delay_is_ever_above_the_cap_or_shorter_than_the_one_before(
            base in any::<Duration>(), more in any::<Duration>(), factor in 1.0..1e300, jitter in 0.0..=1.0, attempt: u32, random: f64
        ) {
            let cap = base.saturating_add(more);
            let backoff = Backoff::new(base, cap)
                .and_then(|backoff| backoff.with_factor(factor))
                .and_then(|backoff| backoff.with_jitter(jitter))
                .expect("valid settings");
            prop_assert!(backoff.delay(attempt, random) <= cap);
            prop_assert!(backoff.delay(attempt, 0.0) <= backoff.delay(attempt.saturating_add(1), 0.0));
        }
    }
}
