use std::{collections::VecDeque, num::NonZeroU32, time::Duration};

/// How many restarts are allowed in any window of `period`; one more, and the supervisor gives up.
///
/// OTP's `intensity` and `period`, except that the window is exact: OTP counts in whole seconds, so that its true window is
/// up to a second longer. There is no default: OTP says 1 in 5 s, Elixir 3 in 5 s, and neither is guessed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intensity {
    pub(crate) restarts: u32,
    pub(crate) period: Duration,
}

impl Intensity {
    /// Allows `restarts` restarts in any window of `period`. 0 restarts means that the first one is too many.
    #[must_use]
    pub const fn new(restarts: u32, period: Duration) -> Self {
        Self { restarts, period }
    }
}

/// The restarts in the current window. Pure: the caller brings the time, counted from any fixed moment.
#[derive(Debug)]
pub(crate) struct Window {
    intensity: Intensity,
    restarts: VecDeque<Duration>,
}

impl Window {
    pub(crate) fn new(intensity: Intensity) -> Self {
        Self {
            intensity,
            restarts: VecDeque::new(),
        }
    }

    pub(crate) fn intensity(&self) -> Intensity {
        self.intensity
    }

    /// Records a restart at `now`; `false` when it is one too many. A restart counts while it is at most `period` old.
    pub(crate) fn record(&mut self, now: Duration) -> bool {
        while let Some(&oldest) = self.restarts.front()
            && now.saturating_sub(oldest) > self.intensity.period
        {
            self.restarts.pop_front();
        }
        // Nothing beyond the limit needs to be remembered.
        let allowed = NonZeroU32::new(self.intensity.restarts)
            .is_some_and(|limit| self.restarts.len() < limit.get() as usize);
        if allowed {
            self.restarts.push_back(now);
        }
        allowed
    }

    /// How many restarts are left at `now`.
    pub(crate) fn left(&self, now: Duration) -> u32 {
        let counting = |at: &&Duration| now.saturating_sub(**at) <= self.intensity.period;
        let used = self.restarts.iter().rev().take_while(counting).count();
        let used = u32::try_from(used).unwrap_or(u32::MAX);
        self.intensity.restarts.saturating_sub(used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn exactly_as_many_restarts_as_said_are_allowed() {
        for limit in 0..5 {
            let mut window = Window::new(Intensity::new(limit, 5 * S));
            let allowed = (0..10).take_while(|_| window.record(S)).count();
            assert_eq!(allowed, limit as usize);
        }
    }

    #[test]
    fn a_restart_counts_until_it_is_older_than_the_period() {
        let mut window = Window::new(Intensity::new(1, S));
        assert!(window.record(Duration::ZERO));
        assert!(!window.record(S));
        assert!(window.record(S + Duration::from_nanos(1)));
    }

    #[test]
    fn a_refused_restart_does_not_count() {
        let mut window = Window::new(Intensity::new(1, S));
        assert!(window.record(Duration::ZERO));
        assert!(!window.record(S / 2));
        assert!(window.record(S + S / 4));
    }

    proptest::proptest! {
        #[test]
        fn any_sequence_agrees_with_counting_by_hand(
            limit in 0_u32..4,
            period in 1_u64..50,
            steps in proptest::collection::vec(0_u64..30, 0..60),
        ) {
            let mut window = Window::new(Intensity::new(limit, Duration::from_millis(period)));
            let mut allowed: Vec<u64> = Vec::new();
            let mut now = 0;
            for step in steps {
                now += step;
                let in_window = allowed.iter().filter(|&&at| now - at <= period).count();
                let expected = in_window < limit as usize;
                let left = window.left(Duration::from_millis(now)) as usize;
                proptest::prop_assert_eq!(left, limit as usize - in_window);
                proptest::prop_assert_eq!(window.record(Duration::from_millis(now)), expected);
                if expected {
                    allowed.push(now);
                }
            }
        }
    }
}
