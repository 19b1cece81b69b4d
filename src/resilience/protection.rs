use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::RwLock;
use tokio::time;

use super::{
    Again, Bulkhead, BulkheadFull, CircuitBreaker, CircuitOpen, Happening, Observer, Outcome,
    RateLimit, RateLimited, Retryable, report::Reporter,
};

/// Guards calls by several means, one after the other: rate limit, circuit breaker, bulkhead, time limit. Cheap to clone.
///
/// To try again or fall back as well, put [`Retry`](super::Retry) or [`LastGood`](super::LastGood) around it: a refused call
/// tells when it makes sense to come back.
///
/// ```
/// use std::{num::NonZeroU32, time::Duration};
/// use underpin::resilience::{BreakerOptions, Bulkhead, CircuitBreaker, Protection, RateLimit};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bank = Protection::new("bank")
///     .rate_limit(RateLimit::new("bank", 100, Duration::from_secs(1)))
///     .circuit_breaker(CircuitBreaker::new("bank", BreakerOptions::default())?)
///     .bulkhead(Bulkhead::new("bank", NonZeroU32::new(8).ok_or("zero")?), Duration::from_millis(50))
///     .timeout(Duration::from_secs(2));
///
/// let balance = bank.run(async { Ok::<_, std::io::Error>(42) }).await?;
/// assert_eq!(balance, 42);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Protection {
    reporter: Reporter,
    rate_limit: Option<RateLimit>,
    breaker: Option<CircuitBreaker>,
    bulkhead: Option<(Bulkhead, Duration)>,
    timeout: Option<Duration>,
}

/// Why a guarded call gave no result. Where a guard refused it, it was not made, and a retry is safe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtectionError<E> {
    /// There were too many calls.
    #[error(transparent)]
    RateLimited(RateLimited),
    /// What is called fails again and again.
    #[error(transparent)]
    Open(CircuitOpen),
    /// Too many calls are under way.
    #[error(transparent)]
    Full(BulkheadFull),
    /// The call took too long and was dropped. What was asked may have been done.
    #[error("{guard} gave no answer within {limit:?}; what was asked may have been done")]
    TimedOut {
        /// The protection's name.
        guard: Arc<str>,
        /// The limit that passed.
        limit: Duration,
    },
    /// The call failed.
    #[error("{0}")]
    Failed(#[source] E),
}

impl<E: Retryable> Retryable for ProtectionError<E> {
    fn again(&self) -> Again {
        match self {
            Self::RateLimited(limited) => limited.again(),
            Self::Open(open) => open.again(),
            Self::Full(full) => full.again(),
            // It may have been done: the caller knows whether that matters.
            Self::TimedOut { .. } => Again::Never,
            Self::Failed(error) => error.again(),
        }
    }
}

impl Protection {
    /// Guards nothing yet. The name is for errors, [`Observer`]s and logs.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            reporter: Reporter::new(name),
            rate_limit: None,
            breaker: None,
            bulkhead: None,
            timeout: None,
        }
    }

    /// Refuses calls beyond a rate.
    #[must_use]
    pub fn rate_limit(mut self, limit: RateLimit) -> Self {
        self.rate_limit = Some(limit);
        self
    }

    /// Refuses calls while what is called keeps failing. A call that takes too long is a failure.
    #[must_use]
    pub fn circuit_breaker(mut self, breaker: CircuitBreaker) -> Self {
        self.breaker = Some(breaker);
        self
    }

    /// Lets so many calls be under way; a call waits so long for a place.
    #[must_use]
    pub fn bulkhead(mut self, bulkhead: Bulkhead, patience: Duration) -> Self {
        self.bulkhead = Some((bulkhead, patience));
        self
    }

    /// Drops a call that takes longer. The wait for a place does not count.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Has an observer told of calls that took too long; the other guards have their own.
    #[must_use]
    pub fn observed_by(mut self, observer: Arc<dyn Observer>) -> Self {
        self.reporter.observed_by(observer);
        self
    }

    /// Its circuit breaker.
    #[must_use]
    pub fn breaker(&self) -> Option<&CircuitBreaker> {
        self.breaker.as_ref()
    }

    /// Makes a call, unless a guard refuses it. The call is not even begun then.
    ///
    /// # Errors
    ///
    /// [`ProtectionError`].
    ///
    /// # Cancel safety
    ///
    /// As safe as the call; what guards counted of it is given back, but for the rate: a call that another guard refuses has used it.
    pub async fn run<T, E>(
        &self,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, ProtectionError<E>> {
        if let Some(limit) = &self.rate_limit {
            limit.check(&()).map_err(ProtectionError::RateLimited)?;
        }
        let admitted = self.breaker.as_ref().map(CircuitBreaker::admit);
        let pass = admitted.transpose().map_err(ProtectionError::Open)?;
        let _place = match &self.bulkhead {
            None => None,
            Some((bulkhead, patience)) => {
                let entered = bulkhead.enter(*patience).await;
                Some(entered.map_err(ProtectionError::Full)?)
            }
        };
        let result = self.within_time(call).await;
        if let Some(pass) = pass {
            pass.settle(match &result {
                Ok(_) => Outcome::Success,
                Err(_) => Outcome::Failure,
            });
        }
        result
    }

    async fn within_time<T, E>(
        &self,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, ProtectionError<E>> {
        let Some(limit) = self.timeout else {
            return call.await.map_err(ProtectionError::Failed);
        };
        if let Ok(result) = time::timeout(limit, call).await {
            return result.map_err(ProtectionError::Failed);
        }
        self.reporter.report(Happening::TimedOut);
        Err(ProtectionError::TimedOut {
            guard: Arc::clone(self.reporter.name()),
            limit,
        })
    }
}

/// Protections by name, for programs whose settings say what is guarded how. Cheap to clone; a clone is the same.
#[derive(Debug, Clone, Default)]
pub struct Protections {
    all: Arc<RwLock<BTreeMap<Arc<str>, Protection>>>,
}

/// There is a protection of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is a protection named {0} already; take it, or remove it first")]
pub struct AlreadyProtected(pub Arc<str>);

impl Protections {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one, under its own name.
    ///
    /// # Errors
    ///
    /// [`AlreadyProtected`].
    pub fn add(&self, protection: Protection) -> Result<(), AlreadyProtected> {
        let name = Arc::clone(protection.reporter.name());
        let mut all = self.all.write();
        if all.contains_key(&name) {
            return Err(AlreadyProtected(name));
        }
        all.insert(name, protection);
        Ok(())
    }

    /// The one of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Protection> {
        self.all.read().get(name).cloned()
    }

    /// Takes one out. Those who hold it still have it.
    #[must_use]
    pub fn remove(&self, name: &str) -> Option<Protection> {
        self.all.write().remove(name)
    }

    /// The names, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<Arc<str>> {
        self.all.read().keys().cloned().collect()
    }
}
