use std::time::Duration;

/// How long to wait before trying again: `base · factor^attempt`, at most `cap`, spread by jitter.
///
/// Pure: the random number is an argument.
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
pub enum InvalidBackoff {
    /// Each wait must be at least as long as the one before it.
    #[error(
        "a backoff factor of {0} would shrink the wait or break it; use a finite number of at least 1"
    )]
    Factor(f64),
    /// The longest wait is shorter than the first.
    #[error("the backoff cap {cap:?} is below its base {base:?}; raise the cap")]
    Cap {
        /// The first wait.
        base: Duration,
        /// The longest wait.
        cap: Duration,
    },
    /// Jitter is a share.
    #[error("a jitter of {0} is not a share; use a number from 0 to 1")]
    Jitter(f64),
}

impl Backoff {
    /// How long a run must last by default for the next wait to start at `base` again.
    pub const RESET_AFTER: Duration = Duration::from_mins(1);

    /// Waits of `base`, `base · factor`, `base · factor²` … up to `cap`, without jitter.
    ///
    /// ```
    /// use std::time::Duration;
    /// use underpin::resilience::Backoff;
    ///
    /// let backoff = Backoff::exponential(Duration::from_millis(100), 2.0, Duration::from_secs(5))?;
    /// assert_eq!(backoff.delay(0, 0.5), Duration::from_millis(100));
    /// assert_eq!(backoff.delay(3, 0.5), Duration::from_millis(800));
    /// assert_eq!(backoff.delay(60, 0.5), Duration::from_secs(5));
    /// # Ok::<(), underpin::resilience::InvalidBackoff>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidBackoff`] for a factor below 1 or a cap below the base.
    pub fn exponential(base: Duration, factor: f64, cap: Duration) -> Result<Self, InvalidBackoff> {
        if !factor.is_finite() || factor < 1.0 {
            return Err(InvalidBackoff::Factor(factor));
        }
        if cap < base {
            return Err(InvalidBackoff::Cap { base, cap });
        }
        Ok(Self {
            base,
            factor,
            cap,
            jitter: 0.0,
            reset_after: Self::RESET_AFTER,
        })
    }

    /// Shortens each wait by up to this share of it, so that many that failed together do not try again together.
    ///
    /// # Errors
    ///
    /// [`InvalidBackoff::Jitter`] outside of 0 to 1.
    pub fn with_jitter(mut self, jitter: f64) -> Result<Self, InvalidBackoff> {
        if !(0.0..=1.0).contains(&jitter) {
            return Err(InvalidBackoff::Jitter(jitter));
        }
        self.jitter = jitter;
        Ok(self)
    }

    /// A run that lasts this long counts as stable: the next wait starts at the base again.
    #[must_use]
    pub fn with_reset_after(mut self, stable: Duration) -> Self {
        self.reset_after = stable;
        self
    }

    /// The wait before try number `attempt`, counted from 0; `random` is uniform in 0 to 1.
    #[must_use]
    pub fn delay(&self, attempt: u32, random: f64) -> Duration {
        let power = i32::try_from(attempt).unwrap_or(i32::MAX);
        let grown = self.base.as_secs_f64() * self.factor.powi(power);
        let capped = grown.min(self.cap.as_secs_f64());
        let share = 1.0 - self.jitter * random.clamp(0.0, 1.0);
        Duration::try_from_secs_f64(capped * share).unwrap_or(self.cap)
    }

    /// How long a run must last to count as stable.
    #[must_use]
    pub fn reset_after(&self) -> Duration {
        self.reset_after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_makes_no_sense_is_refused() {
        let cap = 1000 * MS;
        for factor in [0.9, f64::NAN, f64::INFINITY, -1.0] {
            assert!(Backoff::exponential(MS, factor, cap).is_err());
        }
        assert!(Backoff::exponential(cap, 2.0, MS).is_err());
        let valid = Backoff::exponential(MS, 1.0, MS).expect("constant");
        assert!(valid.with_jitter(1.1).is_err());
        assert!(valid.with_jitter(f64::NAN).is_err());
    }

    proptest::proptest! {
        #[test]
        fn a_wait_is_never_above_the_cap_nor_below_what_jitter_leaves(
            base in 0_u32..10_000,
            factor in 1.0_f64..10.0,
            more in 0_u32..10_000,
            jitter in 0.0_f64..=1.0,
            attempt in 0_u32..200,
            random in 0.0_f64..1.0,
        ) {
            let (base, cap) = (base * MS, (base + more) * MS);
            let backoff = Backoff::exponential(base, factor, cap)
                .and_then(|backoff| backoff.with_jitter(jitter))
                .expect("valid");
            let delay = backoff.delay(attempt, random);
            proptest::prop_assert!(delay <= cap);
            proptest::prop_assert!(delay >= base.mul_f64((1.0 - jitter).max(0.0)).saturating_sub(MS));
        }
    }
}
