use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

use super::{Happening, Observer, report::Reporter};

/// Gives the last good value when there is no new one.
///
/// Clones share the value. It keeps one value, and gives it until it is older than `max_age`.
///
/// ```
/// use std::time::Duration;
/// use underpin::resilience::LastGood;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let rates = LastGood::new("rates", Duration::from_secs(3600));
/// assert!(rates.run(async { Err::<f64, _>("offline") }).await.is_err());
///
/// let fresh = rates.run(async { Ok::<_, &str>(1.08) }).await.expect("is there");
/// let kept = rates.run(async { Err::<f64, _>("offline") }).await.expect("is kept");
/// assert_eq!((*kept.value, fresh.age, kept.age.is_some()), (1.08, None, true));
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct LastGood<T> {
    reporter: Reporter,
    max_age: Duration,
    kept: Arc<ArcSwapOption<Kept<T>>>,
}

#[derive(Debug)]
struct Kept<T> {
    value: Arc<T>,
    since: Instant,
}

/// A value, new or kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// The value.
    pub value: Arc<T>,
    /// How old it is; `None` for a new one.
    pub age: Option<Duration>,
}

impl<T> LastGood<T> {
    /// Keeps nothing yet. The name is for [`Observer`]s and logs.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, max_age: Duration) -> Self {
        Self {
            reporter: Reporter::new(name),
            max_age,
            kept: Arc::new(ArcSwapOption::empty()),
        }
    }

    /// Has an observer told when the last value is given.
    #[must_use]
    pub fn observed_by(mut self, observer: Arc<dyn Observer>) -> Self {
        self.reporter.observed_by(observer);
        self
    }

    /// Makes a call; where it fails, gives the last value.
    ///
    /// # Errors
    ///
    /// The call's own, where no value is kept, or it is too old.
    ///
    /// # Cancel safety
    ///
    /// As safe as the call.
    pub async fn run<E>(&self, call: impl Future<Output = Result<T, E>>) -> Result<Answer<T>, E> {
        match call.await {
            Ok(value) => {
                let value = Arc::new(value);
                let since = Instant::now();
                let kept = Kept {
                    value: Arc::clone(&value),
                    since,
                };
                self.kept.store(Some(Arc::new(kept)));
                Ok(Answer { value, age: None })
            }
            Err(error) => {
                let kept = self.last().ok_or(error)?;
                self.reporter.report(Happening::FellBack);
                Ok(kept)
            }
        }
    }

    /// The last value, unless it is too old.
    #[must_use]
    pub fn last(&self) -> Option<Answer<T>> {
        let kept = self.kept.load();
        let kept = kept.as_ref()?;
        let age = kept.since.elapsed();
        (age <= self.max_age).then(|| Answer {
            value: Arc::clone(&kept.value),
            age: Some(age),
        })
    }
}
