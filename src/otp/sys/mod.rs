//! Looking inside one actor while it runs: OTP's `sys`.
//!
//! [`Sys`] reads or replaces an actor's state, suspends and resumes it, counts and logs its messages, hangs hooks on them, and
//! ends it. It needs nothing of the actor, and no message: the wrapper around each actor that is reached through an
//! [`Address`](super::Address) keeps its state where it can be reached between two messages. While nobody looks, that costs an
//! actor nothing.
//!
//! What differs from OTP: requests do not wait behind the messages in the mailbox, only for the one at work; what is noted of
//! messages goes on over a restart, since the life that crashes is the one to look at; `messages_out` counts answers, since what
//! else an actor sends is not known; `change_code` has no counterpart.

mod cell;
mod debug;
mod error;
mod handle;

pub(crate) use cell::{AnyCell, Cell, Gone, Lent, StateFormat};
pub(crate) use debug::Debug;
pub use debug::{Direction, Keep, Statistics, Traffic};
pub use error::SysError;
pub use handle::{Status, Sys};
