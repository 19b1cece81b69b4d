//! What to do when something fails: try again, spare it, limit what it gets, or go on without.
//!
//! * [`Backoff`]: how long to wait before the next attempt.
//! * [`Retry`]: tries again, with a backoff, limits and a token that ends it at a shutdown.
//! * [`CircuitBreaker`]: refuses calls to what keeps failing, and probes whether it is well again.
//! * [`RateLimit`]: so many calls in a time, without a burst where one time ends and the next begins.
//! * [`Bulkhead`]: so many calls at once; its places cannot leak.
//! * [`LastGood`]: the last good value when there is no new one.
//! * [`Protection`]: several of them around one call.
//!
//! Each says what it does to an [`Observer`], and a node has one that counts. Errors are typed, and those that were refused
//! without being made know when to come back ([`Retryable`]).
//!
//! The decisions are plain functions of what is passed in, time and chance included; the clock of the rest is tokio's, which
//! tests can pause. Below the rate limit is the crate `governor`, below the bulkhead tokio's semaphore. The retry is our own: it
//! shares its backoff with the supervisors, and has limits over attempts *and* time and a cancellation that others lack.
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
mod breaker;
mod bulkhead;
mod last_good;
mod protection;
mod rate;
mod report;
mod retry;

pub use backoff::{Backoff, BackoffError, Jitter};
pub use breaker::{
    BreakerError, BreakerOptions, CircuitBreaker, CircuitOpen, CircuitState, InvalidBreaker,
    Outcome, Pass, Trip,
};
pub use bulkhead::{Bulkhead, BulkheadFull, Place};
pub use last_good::{Answer, LastGood};
pub use protection::{AlreadyProtected, Protection, ProtectionError, Protections};
pub use rate::{RateLimit, RateLimited};
pub use report::{Happening, Observer};
pub use retry::{Again, Retry, RetryError, Retryable};
