use std::{sync::Arc, time::Duration};

use super::{Counter, Distribution, buckets, shard::Shard, sharded::Sharded};

/// How values are distributed, such as how long requests took. Cheap to clone; all handles with the same name and labels
/// record together.
///
/// Values fall into fixed log-linear buckets ([`RELATIVE_ERROR`](super::RELATIVE_ERROR)); count, sum, minimum and
/// maximum are exact. Memory is constant: about 0.4 kB for each thread that records, and 1 kB more for each range of four
/// powers of two that its values fall into (26 ranges of each sign at most).
///
/// A read beside running writers may hold a value in the count that is not yet in the sum; it is there once the write
/// has returned.
#[derive(Debug, Clone)]
pub struct Histogram(Arc<HistogramCells>);

/// The shared part of all handles to one histogram.
#[derive(Debug)]
pub(super) struct HistogramCells {
    shards: Sharded<Shard>,
    refused: Counter,
}

impl Histogram {
    pub(super) fn over(cells: Arc<HistogramCells>) -> Self {
        Self(cells)
    }

    /// Records a value. NaN and infinities are not recorded, and counted as
    /// `underpin_telemetry_refused_values_total`.
    #[inline]
    pub fn record(&self, value: f64) {
        match (buckets::common(value), self.0.shards.own()) {
            (Some(step), Some(shard)) => shard.record_common(value, step),
            _ => self.0.record_times(value, 1),
        }
    }

    /// Records a value `times` times at once.
    pub fn record_many(&self, value: f64, times: u64) {
        self.0.record_times(value, times);
    }

    /// Records a duration in seconds, the unit that a name ending in `_seconds` promises.
    #[inline]
    pub fn record_duration(&self, duration: Duration) {
        self.record(duration.as_secs_f64());
    }

    /// Everything recorded so far, by all handles.
    #[must_use]
    pub fn distribution(&self) -> Distribution {
        self.0.distribution()
    }
}

impl HistogramCells {
    /// `refused` counts the values that could not be recorded.
    pub(super) fn new(refused: Counter) -> Self {
        Self {
            shards: Sharded::new(),
            refused,
        }
    }

    #[inline(never)]
    pub(super) fn record_times(&self, value: f64, times: u64) {
        if times == 0 {
            return;
        }
        if value.is_finite() {
            let (shard, writer) = self.shards.mine();
            shard.record(value, times, writer);
        } else {
            self.refused.add(times);
        }
    }

    pub(super) fn distribution(&self) -> Distribution {
        let mut whole = Distribution::default();
        for shard in self.shards.iter() {
            shard.each_bucket(|place, count| whole.count_in(buckets::key(place), count));
            let (min, max) = shard.extremes();
            whole.widen(shard.sum(), min, max);
        }
        whole
    }

    /// How many values were recorded; cheaper than the whole distribution.
    pub(super) fn count(&self) -> u64 {
        let mut count = 0;
        for shard in self.shards.iter() {
            shard.each_bucket(|_, n| count = u64::saturating_add(count, n));
        }
        count
    }

    pub(super) fn sum(&self) -> f64 {
        let shards = self.shards.iter().map(Shard::sum);
        shards.fold(0.0, |sum, shard| sum + shard)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;

    use super::*;
    use crate::telemetry::counter::CounterCells;

    fn histogram() -> Histogram {
        let refused = Counter::over(Arc::new(CounterCells::new()));
        Histogram::over(Arc::new(HistogramCells::new(refused)))
    }

    #[test]
    fn f84_count_sum_and_extremes_are_exact_for_any_kind_of_number() {
        let latency = histogram();
        for value in [5.0, 2.5, 0.0, 999_999.0, -10.0] {
            latency.record(value);
        }

        let seen = latency.distribution();

        assert_eq!(seen.count(), 5);
        assert_eq!(seen.sum().to_bits(), 999_996.5_f64.to_bits());
        assert_eq!((seen.min(), seen.max()), (Some(-10.0), Some(999_999.0)));
        assert_eq!(seen.quantile(0.0), Some(-10.0));
        assert_eq!(seen.quantile(0.4), Some(0.0));
        assert_eq!(seen.quantile(1.0), Some(999_999.0));
    }

    #[test]
    fn a_value_recorded_many_times_at_once_is_there_so_often() {
        let (once, each) = (histogram(), histogram());
        once.record_many(2.5, 4);
        once.record_many(7.0, 0);
        (0..4).for_each(|_| each.record(2.5));
        assert_eq!(once.distribution(), each.distribution());
    }

    #[test]
    fn what_is_no_number_is_counted_and_harms_nothing() {
        let latency = histogram();
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            latency.record(value);
        }
        assert_eq!(latency.distribution(), Distribution::default());
        assert_eq!(latency.0.refused.value(), 3);
    }

    #[test]
    fn records_from_many_threads_are_never_lost() {
        let latency = histogram();
        thread::scope(|scope| {
            for one in 0..60_u32 {
                let latency = &latency;
                scope.spawn(move || (0..500).for_each(|_| latency.record(f64::from(one + 1))));
            }
        });
        let seen = latency.distribution();
        assert_eq!((seen.count(), latency.0.count()), (60 * 500, 60 * 500));
        assert_eq!(
            seen.sum().to_bits(),
            f64::from(500 * (60 * 61 / 2)).to_bits()
        );
        assert_eq!((seen.min(), seen.max()), (Some(1.0), Some(60.0)));
    }

    #[test]
    fn an_empty_histogram_is_an_empty_distribution() {
        assert_eq!(histogram().distribution(), Distribution::default());
    }

    proptest! {
        #[test]
        fn a_histogram_holds_what_a_plain_list_gives(values in prop::collection::vec(-1e30..1e30_f64, 0..100)) {
            let recorded = histogram();
            for value in &values {
                recorded.record(*value);
            }
            prop_assert_eq!(recorded.distribution(), values.into_iter().collect());
        }
    }
}
