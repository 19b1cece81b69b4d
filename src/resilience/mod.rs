//! What to do when something fails: plain decisions, for which the caller brings clock and chance.
//!
//! * [`Backoff`]: how long to wait before the next attempt.
//!
//! ```
//! use std::time::Duration;
//! use underpin::resilience::Backoff;
//!
//! # fn main() -> Result<(), underpin::resilience::BackoffError> {
//! let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5))?;
//! let without_luck = 0.0;
//! assert_eq!(backoff.delay(0, without_luck), Duration::from_millis(100));
//! assert_eq!(backoff.delay(3, without_luck), Duration::from_millis(800));
//! assert_eq!(backoff.delay(30, without_luck), Duration::from_secs(5));
//! # Ok(())
//! # }
//! ```

mod backoff;

pub use backoff::{Backoff, BackoffError};
