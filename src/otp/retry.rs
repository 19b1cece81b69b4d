//! Which failed requests it makes sense to send again.

use super::{CallError, NotSent, Unanswered};
use crate::resilience::{Again, Retryable};

impl Retryable for NotSent {
    /// It did not run, so that nothing is done twice.
    fn again(&self) -> Again {
        match self {
            Self::Down | Self::Full => Again::Backoff,
            Self::CallingSelf => Again::Never,
        }
    }
}

impl Retryable for Unanswered {
    /// It may have run. Whether it may run twice only the caller knows, and says so in a closure of its own.
    fn again(&self) -> Again {
        Again::Never
    }
}

impl Retryable for CallError {
    fn again(&self) -> Again {
        match self {
            Self::NotSent(error) => error.again(),
            Self::Unanswered(error) => error.again(),
        }
    }
}
