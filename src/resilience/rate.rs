use std::{
    fmt,
    hash::Hash,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use governor::{
    Quota, RateLimiter, clock::Clock, middleware::NoOpMiddleware, nanos::Nanos,
    state::keyed::HashMapStateStore,
};
use tokio::time::{self, Instant};

use super::{Again, Happening, Observer, Retryable, report::Reporter};

/// Lets so many calls through in a time, for each key apart. Cheap to clone; a clone is the same limit.
///
/// A key that was quiet may have its whole `limit` at once, and then one more whenever its share of the time has passed: never a
/// burst of more than `limit`, also not where one minute ends and the next begins. Counted over any window, that is less than
/// twice the limit; over long times, the limit. The algorithm is GCRA (ITU-T I.371), by the crate `governor`.
///
/// Keys that are whole again are forgotten from time to time, so it remembers as many as are used within one window.
///
/// ```
/// use std::time::Duration;
/// use underpin::resilience::RateLimit;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let logins = RateLimit::new("logins", 2, Duration::from_secs(60));
/// assert!(logins.check(&"ann").is_ok() && logins.check(&"ann").is_ok());
/// let wait = logins.check(&"ann").expect_err("too many").retry_in;
/// assert!(wait <= Duration::from_secs(30));
/// assert!(logins.check(&"bob").is_ok());
/// # }
/// ```
pub struct RateLimit<K: Hash + Eq + Clone = ()> {
    shared: Arc<Shared<K>>,
}

struct Shared<K: Hash + Eq + Clone> {
    reporter: Reporter,
    /// `None` lets nothing through.
    limiter: Option<Limiter<K>>,
    checks: AtomicU32,
}

type Limiter<K> = RateLimiter<K, HashMapStateStore<K>, TokioClock, NoOpMiddleware<Nanos>>;

/// Too many calls: this one was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the rate limit {limit} {}", when(*.retry_in))]
pub struct RateLimited {
    /// The limit's name.
    pub limit: Arc<str>,
    /// When there is room for one more; [`Duration::MAX`] where the limit is 0, and there will be none.
    pub retry_in: Duration,
}

fn when(retry_in: Duration) -> String {
    match retry_in {
        Duration::MAX => "lets nothing through".to_owned(),
        retry_in => format!("is reached; retry in {retry_in:?}"),
    }
}

impl Retryable for RateLimited {
    fn again(&self) -> Again {
        match self.retry_in {
            Duration::MAX => Again::Never,
            retry_in => Again::After(retry_in),
        }
    }
}

/// Tokio's clock, which tests can pause.
#[derive(Debug, Clone, Copy)]
struct TokioClock(Instant);

impl Clock for TokioClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        let elapsed = self.0.elapsed().as_nanos();
        Nanos::new(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }
}

/// Longer times are taken as this.
const WINDOW_MAX: Duration = Duration::from_hours(24 * 365);
/// Between two looks at which keys can be forgotten.
const CHECKS: u32 = 1024;

impl<K: Hash + Eq + Clone> RateLimit<K> {
    /// Lets `limit` calls through in `window`; 0 lets none through. The name is for errors, [`Observer`]s and logs.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, limit: u32, window: Duration) -> Self {
        Self::reporting(Reporter::new(name), limit, window)
    }

    /// The same, where an observer hears of refusals.
    #[must_use]
    pub fn observed_by(
        name: impl Into<Arc<str>>,
        limit: u32,
        window: Duration,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let mut reporter = Reporter::new(name);
        reporter.observed_by(observer);
        Self::reporting(reporter, limit, window)
    }

    fn reporting(reporter: Reporter, limit: u32, window: Duration) -> Self {
        let window = window.min(WINDOW_MAX);
        let limiter = NonZeroU32::new(limit).and_then(|limit| {
            let each = (window / limit.get()).max(Duration::from_nanos(1));
            let quota = Quota::with_period(each)?.allow_burst(limit);
            let clock = TokioClock(Instant::now());
            Some(RateLimiter::new(quota, HashMapStateStore::default(), clock))
        });
        Self {
            shared: Arc::new(Shared {
                reporter,
                limiter,
                checks: AtomicU32::new(0),
            }),
        }
    }

    /// Counts a call, or refuses it.
    ///
    /// # Errors
    ///
    /// [`RateLimited`]; nothing was counted.
    pub fn check(&self, key: &K) -> Result<(), RateLimited> {
        let shared = &self.shared;
        let retry_in = match &shared.limiter {
            None => Duration::MAX,
            Some(limiter) => match limiter.check_key(key) {
                Ok(()) => {
                    if shared.checks.fetch_add(1, Ordering::Relaxed) % CHECKS == CHECKS - 1 {
                        limiter.retain_recent();
                    }
                    return Ok(());
                }
                Err(not_until) => not_until.wait_time_from(limiter.clock().now()),
            },
        };
        shared.reporter.report(Happening::RateLimited);
        Err(RateLimited {
            limit: Arc::clone(shared.reporter.name()),
            retry_in,
        })
    }

    /// Waits until a call may be made, and counts it. With a limit of 0 it waits for ever.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: who gives up is not counted.
    pub async fn ready(&self, key: &K) {
        while let Err(limited) = self.check(key) {
            time::sleep(limited.retry_in).await;
        }
    }

    /// How many keys it remembers.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.shared.limiter.as_ref().map_or(0, RateLimiter::len)
    }
}

impl<K: Hash + Eq + Clone> Clone for RateLimit<K> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<K: Hash + Eq + Clone> fmt::Debug for RateLimit<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RateLimit")
            .field(&self.shared.reporter)
            .finish()
    }
}
