use std::time::Duration;

/// How long to wait before the next attempt: what grows from `base` to `cap`, spread by chance as a [`Jitter`] says.
///
/// The default is to try again at once, which is what OTP does. Valid by construction: no delay is negative, above `cap` or not a
/// number, whatever the attempt.
///
/// ```
/// use std::time::Duration;
/// use underpin::resilience::{Backoff, Jitter};
///
/// const SECOND: Duration = Duration::from_secs(1);
/// let backoff = Backoff::new(SECOND, 30 * SECOND)?.with_jitter(Jitter::None)?;
/// // Which attempt it is, and a draw from 0 to 1.
/// assert_eq!(backoff.delay(0, 0.5), SECOND);
/// assert_eq!(backoff.delay(3, 0.5), 8 * SECOND);
/// assert_eq!(backoff.delay(10, 0.5), 30 * SECOND);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    base: Duration,
    growth: Growth,
    cap: Duration,
    /// The least and the most that chance makes of a delay, as shares of it.
    spread: (f64, f64),
    reset_after: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Growth {
    /// `base * factor^attempt`.
    Factor(f64),
    /// `base * (attempt + 1)`.
    Linear,
}

/// How chance spreads delays, so that what failed together does not come back together. No delay is ever above the cap.
///
/// `None`, `Equal` and `Full` are what Marc Brooker calls so ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Jitter {
    /// All delays are whole.
    None,
    /// At least half of the delay, the other half by chance.
    Equal,
    /// Anything from nothing to the whole delay.
    Full,
    /// Up to this share, from 0 to 1, is taken away.
    Less(f64),
    /// Up to this share, from 0 to 1, is added.
    More(f64),
    /// Up to this share, from 0 to 1, is taken away or added.
    Around(f64),
}

impl Jitter {
    /// The least and the most, as shares of the whole.
    fn spread(self) -> Result<(f64, f64), BackoffError> {
        let share = match self {
            Self::None => 0.0,
            Self::Equal => 0.5,
            Self::Full => 1.0,
            Self::Less(share) | Self::More(share) | Self::Around(share) => share,
        };
        if !(0.0..=1.0).contains(&share) {
            return Err(BackoffError::Jitter { given: share });
        }
        Ok(match self {
            Self::None | Self::Equal | Self::Full | Self::Less(_) => (1.0 - share, 1.0),
            Self::More(_) => (1.0, 1.0 + share),
            Self::Around(_) => (1.0 - share, 1.0 + share),
        })
    }
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
    pub const AT_ONCE: Self = Self::constant(Duration::ZERO);

    /// After how long a stable run the next failure counts as the first again, unless told otherwise: a minute, longer than most of
    /// what fails again and again takes to do so.
    pub const RESET_AFTER: Duration = Duration::from_mins(1);

    const FACTOR: f64 = 2.0;
    /// Enough to pull apart what failed together, little enough to keep the delays' order.
    const JITTER: f64 = 0.2;

    /// Delays that begin with `base` and double up to `cap`, with up to a fifth taken away by chance.
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
            growth: Growth::Factor(Self::FACTOR),
            cap,
            spread: (1.0 - Self::JITTER, 1.0),
            reset_after: Self::RESET_AFTER,
        })
    }

    /// Delays that grow by `base` each time, up to `cap`, with up to a fifth taken away by chance.
    ///
    /// # Errors
    ///
    /// [`BackoffError::BaseAboveCap`].
    pub fn linear(base: Duration, cap: Duration) -> Result<Self, BackoffError> {
        Ok(Self {
            growth: Growth::Linear,
            ..Self::new(base, cap)?
        })
    }

    /// The same delay each time.
    #[must_use]
    pub const fn constant(delay: Duration) -> Self {
        Self {
            base: delay,
            growth: Growth::Factor(1.0),
            cap: delay,
            spread: (1.0, 1.0),
            reset_after: Self::RESET_AFTER,
        }
    }

    /// The same, growing by another factor.
    ///
    /// # Errors
    ///
    /// [`BackoffError::Factor`] below 1 and for what is no finite number.
    pub fn with_factor(self, factor: f64) -> Result<Self, BackoffError> {
        if !(factor.is_finite() && factor >= 1.0) {
            return Err(BackoffError::Factor { given: factor });
        }
        Ok(Self {
            growth: Growth::Factor(factor),
            ..self
        })
    }

    /// The same with another jitter.
    ///
    /// # Errors
    ///
    /// [`BackoffError::Jitter`] for a share outside 0 to 1.
    pub fn with_jitter(self, jitter: Jitter) -> Result<Self, BackoffError> {
        Ok(Self {
            spread: jitter.spread()?,
            ..self
        })
    }

    /// The same with another stable run, after which the next failure counts as the first again.
    #[must_use]
    pub fn with_reset_after(self, reset_after: Duration) -> Self {
        Self {
            reset_after,
            ..self
        }
    }

    /// How long to wait before attempt number `attempt`, where 0 is the first *repeated* one. `random` is a draw from 0, the longest
    /// delay that chance allows, to 1, the shortest; anything beyond is taken for the nearer end.
    #[must_use]
    pub fn delay(&self, attempt: u32, random: f64) -> Duration {
        let full = self.full_delay(attempt);
        let luck = if random.is_nan() {
            0.0
        } else {
            random.clamp(0.0, 1.0)
        };
        let (least, most) = self.spread;
        let seconds = full.as_secs_f64() * (most - (most - least) * luck);
        Duration::try_from_secs_f64(seconds).map_or(self.cap, |delay| delay.min(self.cap))
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
        let times = match self.growth {
            Growth::Factor(factor) => factor.powi(i32::try_from(attempt).unwrap_or(i32::MAX)),
            Growth::Linear => f64::from(attempt) + 1.0,
        };
        // What is infinite or too long for a duration is certainly beyond the cap.
        Duration::try_from_secs_f64(self.base.as_secs_f64() * times)
            .map_or(self.cap, |delay| delay.min(self.cap))
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
            .and_then(|backoff| backoff.with_jitter(Jitter::Equal))
            .expect("valid settings");
        assert_eq!(backoff.delay(0, 0.0), SECOND);
        assert_eq!(backoff.delay(0, 0.5), SECOND * 3 / 4);
        assert_eq!(backoff.delay(0, 1.0), SECOND / 2);
        assert_eq!(backoff.delay(0, 7.0), SECOND / 2);
        assert_eq!(backoff.delay(0, f64::NAN), SECOND);
    }

    #[test]
    fn each_jitter_has_its_spread() {
        let spread = |jitter| {
            let backoff =
                Backoff::new(SECOND, 10 * SECOND).and_then(|backoff| backoff.with_jitter(jitter));
            let backoff = backoff.expect("valid settings");
            [0.0, 0.5, 1.0].map(|random| backoff.delay(2, random).as_millis())
        };
        assert_eq!(spread(Jitter::None), [4000, 4000, 4000]);
        assert_eq!(spread(Jitter::Equal), [4000, 3000, 2000]);
        assert_eq!(spread(Jitter::Full), [4000, 2000, 0]);
        assert_eq!(spread(Jitter::Less(0.25)), [4000, 3500, 3000]);
        assert_eq!(spread(Jitter::More(0.25)), [5000, 4500, 4000]);
        assert_eq!(spread(Jitter::Around(0.25)), [5000, 4000, 3000]);
    }

    #[test]
    fn delays_can_grow_evenly_or_not_at_all() {
        let linear = Backoff::linear(SECOND, 3 * SECOND).expect("base is below cap");
        let delays = [0, 1, 2, 3].map(|attempt| linear.delay(attempt, 0.0).as_secs());
        assert_eq!(delays, [1, 2, 3, 3]);
        let constant = Backoff::constant(SECOND);
        assert_eq!(
            [0, 9].map(|attempt| constant.delay(attempt, 1.0)),
            [SECOND, SECOND]
        );
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
            for jitter in [Jitter::Less(bad), Jitter::More(bad), Jitter::Around(bad)] {
                assert!(backoff.with_jitter(jitter).is_err(), "{bad}");
            }
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
            base in any::<Duration>(), more in any::<Duration>(), factor in 1.0..1e300, share in 0.0..=1.0, attempt: u32, random: f64, more_or_less: bool
        ) {
            let cap = base.saturating_add(more);
            let jitter = if more_or_less { Jitter::Around(share) } else { Jitter::Less(share) };
            let backoff = Backoff::new(base, cap)
                .and_then(|backoff| backoff.with_factor(factor))
                .and_then(|backoff| backoff.with_jitter(jitter))
                .expect("valid settings");
            prop_assert!(backoff.delay(attempt, random) <= cap);
            prop_assert!(backoff.delay(attempt, 0.0) <= backoff.delay(attempt.saturating_add(1), 0.0));
        }
    }
}
