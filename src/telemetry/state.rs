//! The pure half of the service: what is due when.

use std::time::Duration;

use super::Options;

/// When the slower work is due again, on the clock that the caller reads.
#[derive(Debug)]
pub(super) struct Schedule {
    process_every: Duration,
    sweep_every: Duration,
    process_at: Duration,
    sweep_at: Duration,
}

/// What to do at a tick, beside adding to the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) process: bool,
    pub(super) sweep: bool,
}

impl Due {
    pub(super) const ALL: Self = Self {
        process: true,
        sweep: true,
    };
}

impl Schedule {
    /// The process is looked at right away, idle series after one interval.
    pub(super) fn new(options: &Options, now: Duration) -> Self {
        Self {
            process_every: options.process_every,
            sweep_every: options.sweep_every,
            process_at: now,
            sweep_at: now + options.sweep_every,
        }
    }

    pub(super) fn due(&mut self, now: Duration) -> Due {
        Due {
            process: is_due(&mut self.process_at, self.process_every, now),
            sweep: is_due(&mut self.sweep_at, self.sweep_every, now),
        }
    }
}

/// Late work is done once, not once for each interval that was missed.
fn is_due(at: &mut Duration, every: Duration, now: Duration) -> bool {
    let due = now >= *at;
    if due {
        *at = now + every;
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_due_once_an_interval_however_late() {
        let second = Duration::from_secs;
        let mut schedule = Schedule::new(&Options::default(), second(100));
        let mut due = |at| {
            let Due { process, sweep } = schedule.due(second(at));
            (process, sweep)
        };

        assert_eq!(due(100), (true, false));
        assert_eq!(due(104), (false, false));
        assert_eq!(due(105), (true, false));
        assert_eq!(due(160), (true, true));
        assert_eq!(due(500), (true, true));
        assert_eq!(due(501), (false, false));
    }
}
