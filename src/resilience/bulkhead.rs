use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time,
};

use super::{Again, Happening, Observer, Retryable, report::Reporter};

/// Lets so many calls be under way at once: a counting semaphore. Cheap to clone; a clone is the same one.
///
/// A place is held by a [`Place`], and cannot leak: it is given back however its holder ends, also when that panics or is
/// cancelled. Who waits gets a place in turn.
///
/// ```
/// use std::{num::NonZeroU32, time::Duration};
/// use underpin::resilience::Bulkhead;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tills = Bulkhead::new("tills", NonZeroU32::MIN);
/// let place = tills.enter(Duration::ZERO).await?;
/// assert!(tills.enter(Duration::ZERO).await.is_err());
/// drop(place);
/// assert_eq!(tills.free(), 1);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Bulkhead {
    reporter: Reporter,
    places: Arc<Semaphore>,
    limit: u32,
    waiting: Arc<AtomicUsize>,
    waiting_max: usize,
}

/// One or several places. Dropping it gives them back.
#[derive(Debug)]
#[must_use = "a place that is dropped is free"]
pub struct Place {
    _places: OwnedSemaphorePermit,
}

/// There was no place: the call was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("all {limit} places of {bulkhead} are taken; retry later, or wait longer")]
pub struct BulkheadFull {
    /// The bulkhead's name.
    pub bulkhead: Arc<str>,
    /// How many places it has.
    pub limit: u32,
}

impl Retryable for BulkheadFull {
    fn again(&self) -> Again {
        Again::Backoff
    }
}

impl Bulkhead {
    /// How many may wait by default for each place: some times what is under way, so that a wait is short or refused.
    pub const WAITING_PER_PLACE: usize = 16;

    /// So many places. The name is for errors, [`Observer`]s and logs.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, limit: NonZeroU32) -> Self {
        let places = limit.get() as usize;
        Self {
            reporter: Reporter::new(name),
            places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
            limit: limit.get(),
            waiting: Arc::default(),
            waiting_max: places.saturating_mul(Self::WAITING_PER_PLACE),
        }
    }

    /// Lets so many wait, and refuses those beyond.
    #[must_use]
    pub fn waiting(mut self, limit: usize) -> Self {
        self.waiting_max = limit;
        self
    }

    /// Has an observer told of refusals.
    #[must_use]
    pub fn observed_by(mut self, observer: Arc<dyn Observer>) -> Self {
        self.reporter.observed_by(observer);
        self
    }

    /// Takes a place, and waits for one so long.
    ///
    /// # Errors
    ///
    /// [`BulkheadFull`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: who gives up takes none.
    pub async fn enter(&self, patience: Duration) -> Result<Place, BulkheadFull> {
        self.enter_with(NonZeroU32::MIN, patience).await
    }

    /// Takes several places at once, for what weighs more. What weighs more than there are places takes all.
    ///
    /// # Errors
    ///
    /// [`BulkheadFull`].
    ///
    /// # Cancel safety
    ///
    /// As [`enter`](Self::enter).
    pub async fn enter_with(
        &self,
        weight: NonZeroU32,
        patience: Duration,
    ) -> Result<Place, BulkheadFull> {
        let weight = weight.get().min(self.limit);
        let now = Arc::clone(&self.places).try_acquire_many_owned(weight);
        if let Ok(places) = now {
            return Ok(Place { _places: places });
        }
        let waiting = Waiting::new(self);
        if patience.is_zero() || waiting.beside > self.waiting_max {
            return Err(self.full());
        }
        let later = Arc::clone(&self.places).acquire_many_owned(weight);
        match time::timeout(patience, later).await {
            Ok(Ok(places)) => Ok(Place { _places: places }),
            // It is never closed.
            Ok(Err(_)) | Err(_) => Err(self.full()),
        }
    }

    /// How many places are free.
    #[must_use]
    pub fn free(&self) -> usize {
        self.places.available_permits()
    }

    /// How many wait for a place.
    #[must_use]
    pub fn waiters(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    fn full(&self) -> BulkheadFull {
        self.reporter.report(Happening::Full);
        BulkheadFull {
            bulkhead: Arc::clone(self.reporter.name()),
            limit: self.limit,
        }
    }
}

struct Waiting<'a> {
    all: &'a AtomicUsize,
    /// How many wait, this one included.
    beside: usize,
}

impl<'a> Waiting<'a> {
    fn new(bulkhead: &'a Bulkhead) -> Self {
        let all = &*bulkhead.waiting;
        let beside = all.fetch_add(1, Ordering::Relaxed) + 1;
        Self { all, beside }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}
