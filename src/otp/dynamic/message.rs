use crate::otp::{ExitReason, start::Ending};

/// All that a dynamic supervisor is told. Private to the runtime. A child is named by its key, and what is told of it by the
/// incarnation that it is about: what comes too late does nothing.
///
/// It is asked nothing this way: whoever wants something of its children does that under the nursery's lock.
#[derive(Debug)]
pub(crate) enum Message {
    /// A child's task is coming to its end.
    Exited {
        child: u64,
        incarnation: u64,
        /// Whether the notice was put off once, so that ractor's own event with the words of the stop could come first.
        asked_again: bool,
    },
    /// A child's task has ended, and everything of it is gone.
    Gone { child: u64, incarnation: u64 },
    /// A start that took more than a moment has come to its end.
    StartDone { child: u64, incarnation: u64 },
    /// A restart is due.
    Retry { child: u64, incarnation: u64 },
    /// A child that was to be stopped has ended.
    StopDone { child: u64, incarnation: u64 },
    /// A child is alive and hangs.
    Unhealthy {
        child: u64,
        incarnation: u64,
        reason: ExitReason,
    },
}

crate::otp::message!(Message);

impl From<Ending> for Message {
    fn from(Ending { child, incarnation }: Ending) -> Self {
        Self::Exited {
            child,
            incarnation,
            asked_again: false,
        }
    }
}
