//! What one child is doing, and what becomes of it when that is over.

use std::time::Duration;

use super::{record::Record, state::Rules};
use crate::otp::{ChildState, ExitReason};

#[derive(Debug)]
pub(super) struct Child {
    pub(super) rules: Rules,
    pub(super) phase: Phase,
    /// Lives so far.
    pub(super) lives: u64,
    pub(super) record: Record,
}

/// What a child is doing.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Phase {
    /// A start is under way.
    Starting(Why),
    Running {
        since: Duration,
    },
    /// It ended by itself, and not all of it is gone yet.
    Ending {
        since: Duration,
        reason: ExitReason,
    },
    /// The next start is due when this timer fires.
    Waiting {
        timer: u64,
    },
    /// Down for its siblings' sake; it starts when its turn comes.
    Held(Why),
    Stopping(Then),
    /// It did not end when killed. Nothing is started in its place while anything of it is there.
    Leaked(Then),
    Stopped,
}

/// Who wanted a start, and so what its failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// `start_child`: on failure the spec is forgotten.
    Add,
    /// `restart_child`: on failure the spec stays.
    Again,
    /// After an end: a failure counts as one more.
    Restart,
}

/// What becomes of a child that is being stopped.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Then {
    Rest,
    Forget,
    /// It is started again when its turn comes.
    Hold(Why),
    /// It hung, or had come to its own end already: this counts as its end.
    Judge {
        since: Duration,
        reason: ExitReason,
    },
}

impl Phase {
    pub(super) fn state(&self) -> ChildState {
        match self {
            Self::Starting(Why::Restart)
            | Self::Held(Why::Restart)
            | Self::Ending { .. }
            | Self::Waiting { .. } => ChildState::Restarting,
            Self::Starting(_) | Self::Held(_) => ChildState::Starting,
            Self::Running { .. } => ChildState::Running,
            Self::Stopping(_) => ChildState::Stopping,
            Self::Leaked(_) => ChildState::Leaked,
            Self::Stopped => ChildState::Stopped,
        }
    }

    /// Who waits for it to start, while somebody does.
    pub(super) fn wanted_by(&self) -> Option<Why> {
        match self {
            Self::Starting(why) | Self::Held(why) => Some(*why),
            Self::Stopping(then) => then.wanted_by(),
            _ => None,
        }
    }

    /// Nothing of it runs, and nothing will by itself.
    pub(super) fn is_down_for_good(&self) -> bool {
        matches!(
            self,
            Self::Stopped | Self::Leaked(_) | Self::Stopping(Then::Rest | Then::Forget)
        )
    }
}

impl Then {
    pub(super) fn wanted_by(&self) -> Option<Why> {
        match self {
            Self::Hold(why) => Some(*why),
            Self::Rest | Self::Forget | Self::Judge { .. } => None,
        }
    }
}
