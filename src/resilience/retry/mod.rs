//! Trying again.

mod handle;
mod state;

pub use handle::{Retry, RetryError};
pub use state::{Again, Retryable};
