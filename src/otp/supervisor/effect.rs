//! What the decisions ask for.

use std::time::Duration;

use super::{StartOutcome, state::Key};
use crate::otp::{Lifecycle, ShutdownCause, SupervisorError};

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Effect {
    /// Begin the child's next life; what came of it goes to [`Children::started`].
    Start(Key),
    /// Bring to its end what there is of the child; what came of it goes to [`Children::stopped`].
    Stop(Key, How),
    /// Tell [`Children::due`] after this long. An earlier timer of the same kind is not needed any more.
    Wake(Timer, Duration),
    /// Whoever asked for the start has this answer.
    Settled(Key, Result<StartOutcome, SupervisorError>),
    /// Those that asked for the end have this answer.
    Ended(Key, Result<(), SupervisorError>),
    /// The child's state has changed.
    Show(Key),
    Tell(Key, Lifecycle),
    /// The child goes, with its spec and all.
    Forget(Key),
    /// The supervisor ends for this reason.
    End(ShutdownCause, Lifecycle),
}

/// How a child is brought to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// As its spec says.
    AsSaid,
    /// At once: it hangs.
    Kill,
}

/// Names a timer. One that was replaced or cancelled meanwhile does nothing when it fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    Child(Key, u64),
    Group(u64),
}
