//! The room's clock; everything else is told the time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Reads tokio's clock, so that a test with paused time drives everything, and the system's for people.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    started: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    /// How long the clock runs.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Nanoseconds since the clock began.
    pub(super) fn monotonic_ns(&self) -> u64 {
        nanoseconds(self.now())
    }

    /// Nanoseconds since 1970; 0 if the system's clock is set before.
    #[expect(
        clippy::unused_self,
        reason = "the clock is what is asked for the time"
    )]
    pub(super) fn unix_ns(&self) -> u64 {
        nanoseconds(
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
        )
    }

    /// Milliseconds since 1970.
    pub(super) fn unix_ms(&self) -> u64 {
        self.unix_ns() / 1_000_000
    }
}

/// 584 years fit.
pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
