use std::time::Duration;

/// A setting of a capture that cannot be used. Nothing was changed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// No filter.
    #[error("{given:?} is no filter: {reason}; write targets and levels, as in `info,hyper=warn`")]
    Filter {
        /// What was given.
        given: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No share.
    #[error("{given} is no share of the traces; give a number from 0 to 1")]
    Share {
        /// What was given.
        given: f64,
    },
}

/// What was captured is not stored yet. Asking again is safe: nothing is lost by it, nothing stored twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlushError {
    /// The store did not take it in time.
    #[error(
        "{queued_bytes} captured bytes were not stored within {limit:?}; see the health of the event store"
    )]
    Timeout {
        /// How long was waited.
        limit: Duration,
        /// About what is still in the queue.
        queued_bytes: u64,
    },
}
