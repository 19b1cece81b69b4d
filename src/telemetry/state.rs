//! The pure half of the service: what is due when.

use std::time::Duration;

/// When idle series are looked for again, on the clock that the caller reads.
#[derive(Debug)]
pub(super) struct Schedule {
    sweep_every: Duration,
    sweep_at: Duration,
}

impl Schedule {
    /// Idle series are looked for after one interval.
    pub(super) fn new(sweep_every: Duration, now: Duration) -> Self {
        Self {
            sweep_every,
            sweep_at: now.saturating_add(sweep_every),
        }
    }

    /// Whether it is time for a sweep. A late one is done once, not once for each interval that was missed.
    pub(super) fn sweep_is_due(&mut self, now: Duration) -> bool {
        let due = now >= self.sweep_at;
        if due {
            self.sweep_at = now.saturating_add(self.sweep_every);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_is_due_once_an_interval_however_late() {
        let second = Duration::from_secs;
        let mut schedule = Schedule::new(second(60), second(100));
        let mut due = |at| schedule.sweep_is_due(second(at));

        assert_eq!(
            [due(100), due(159), due(160), due(161), due(500), due(501)],
            [false, false, true, false, true, false]
        );
    }
}
