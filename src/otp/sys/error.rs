use std::time::Duration;

use crate::otp::ExitReason;

/// Why nothing was seen or done inside an actor. Its state is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SysError {
    /// Nobody lives at the address, or whoever did has ended meanwhile.
    #[error("nobody is running at this address; retry once its supervisor has restarted it")]
    Down,
    /// The actor was at one message all the time.
    #[error("the actor was busy with one message for {0:?}; retry later, or with a longer timeout")]
    Timeout(Duration),
    /// An actor looked inside itself while it was at a message.
    #[error("an actor asked for its own state; its handler has it at hand")]
    CallingSelf,
    /// The state is of another type.
    #[error("the state of this actor is {is}, not {asked}; ask for what it is")]
    OtherState {
        /// What it is.
        is: &'static str,
        /// What was asked for.
        asked: &'static str,
    },
    /// The code that was to look at the state panicked.
    #[error(
        "the code that was to look at the state failed ({0}); the actor goes on with its state"
    )]
    Failed(ExitReason),
}
