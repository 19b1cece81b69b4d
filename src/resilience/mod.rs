//! What keeps a program going while parts of it fail: how long to wait before trying again.

mod backoff;

pub use backoff::{Backoff, InvalidBackoff};
