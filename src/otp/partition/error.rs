use crate::otp::SupervisorError;

/// Why there is no partition for a key, or not as many as wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PartitionError {
    /// The supervisor was resized to nothing.
    #[error("there are no partitions; resize the supervisor to one or more first")]
    Empty,
    /// More partitions were asked for than the supervisor was made with.
    #[error(
        "{asked} partitions were asked for, and the supervisor was made with {most}; ask for that many at most"
    )]
    TooMany {
        /// What was asked for.
        asked: usize,
        /// How many there can be.
        most: usize,
    },
    /// A partition could not be stopped or started. Those before it have been; ask again.
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
}
