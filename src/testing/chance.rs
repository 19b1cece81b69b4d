/// From here on, chance draws the same on this thread in each run: the jitter of backoff and retries, fresh trace ids, node ids and
/// correlation ids.
///
/// Of one thread, so that tests that run side by side do not share their luck: for tests whose runtime has one, as
/// `#[tokio::test]` gives it. The ids of events are counted from the clock and not drawn;
/// [`IdGenerator::next_at`](crate::ids::IdGenerator::next_at) repeats them at a time of the test's own.
///
/// ```
/// use underpin::{ids::CorrelationId, testing::seed};
///
/// seed(7);
/// let drawn = CorrelationId::random();
/// assert_ne!(drawn, CorrelationId::random());
///
/// seed(7);
/// assert_eq!(drawn, CorrelationId::random());
/// ```
pub fn seed(seed: u64) {
    fastrand::seed(seed);
    crate::ids::seed(seed);
}
