//! What a histogram holds at one moment; can be merged with others and asked for quantiles.

use serde::{Deserialize, Serialize};

use super::{buckets, floats};

/// The recorded values of a histogram: exact count, sum, minimum and maximum, and how many fell into each bucket.
///
/// ```
/// use underpin::telemetry::{Distribution, RELATIVE_ERROR};
///
/// let answered: Distribution = (1..=1000).map(f64::from).collect();
///
/// assert_eq!(answered.count(), 1000);
/// assert_eq!(answered.max(), Some(1000.0));
/// let p99 = answered.quantile(0.99).expect("not empty");
/// assert!((p99 - 990.0).abs() <= 990.0 * RELATIVE_ERROR);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    count: u64,
    /// Infinite when finite values add up to more than a float holds.
    #[serde(with = "floats")]
    sum: f64,
    min: Option<f64>,
    max: Option<f64>,
    /// Bucket numbers, rising, and their counts, none of them zero.
    buckets: Vec<(i16, u64)>,
}

impl Distribution {
    /// How many values were recorded; stays at the largest number there is.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their sum; exact while it fits the 53 bits of a float's mantissa.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// The smallest value, exactly; `None` when empty.
    #[must_use]
    pub fn min(&self) -> Option<f64> {
        self.min
    }

    /// The largest value, exactly; `None` when empty.
    #[must_use]
    pub fn max(&self) -> Option<f64> {
        self.max
    }

    /// The arithmetic mean; `None` when empty.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / as_float(self.count))
    }

    /// The value below which the fraction `q` of all values lies (nearest rank), within
    /// [`RELATIVE_ERROR`](super::RELATIVE_ERROR) of it; the first and the last one exactly. `q` is brought into 0 to 1;
    /// `None` when empty.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let (min, max) = (self.min?, self.max?);
        let rank = (q.clamp(0.0, 1.0) * as_float(self.count)).ceil().max(1.0);
        if rank <= 1.0 || rank >= as_float(self.count) {
            return if rank <= 1.0 { self.min } else { self.max };
        }
        let mut seen = 0_u64;
        let bucket = self.buckets.iter().find(|(_, count)| {
            seen = seen.saturating_add(*count);
            as_float(seen) >= rank
        });
        bucket.map(|(key, _)| buckets::middle(*key).clamp(min, max))
    }

    /// How many values are at most `bound`; exact for a bound of the form `2^e * (1 + n/32)`, otherwise values in the
    /// bucket that the bound cuts are left out.
    #[must_use]
    pub fn count_within(&self, bound: f64) -> u64 {
        self.counts_within(&[bound]).into_iter().sum()
    }

    /// [`count_within`](Self::count_within) of each of several rising bounds, in one pass.
    pub(super) fn counts_within(&self, bounds: &[f64]) -> Vec<u64> {
        let mut buckets = self.buckets.iter().peekable();
        let mut seen = 0_u64;
        let up_to = bounds.iter().map(|bound| {
            while let Some((_, count)) =
                buckets.next_if(|(key, _)| buckets::is_within(*key, *bound))
            {
                seen = seen.saturating_add(*count);
            }
            seen
        });
        up_to.collect()
    }

    /// Adds all values of another distribution: the result is what one histogram that saw both would hold.
    pub fn merge(&mut self, other: &Self) {
        for (key, count) in &other.buckets {
            self.count_in(*key, *count);
        }
        self.widen(other.sum, other.min, other.max);
    }

    /// Counts values in a bucket; the caller adds their sum and extremes with [`widen`](Self::widen).
    pub(super) fn count_in(&mut self, key: i16, count: u64) {
        if count > 0 {
            self.count = self.count.saturating_add(count);
            match self.buckets.binary_search_by_key(&key, |(key, _)| *key) {
                Ok(at) => self.buckets[at].1 = self.buckets[at].1.saturating_add(count),
                Err(at) => self.buckets.insert(at, (key, count)),
            }
        }
    }

    pub(super) fn widen(&mut self, sum: f64, min: Option<f64>, max: Option<f64>) {
        self.sum += sum;
        self.min = self.min.into_iter().chain(min).reduce(f64::min);
        self.max = self.max.into_iter().chain(max).reduce(f64::max);
    }
}

/// Non-finite values are left out, as a histogram leaves them out.
impl FromIterator<f64> for Distribution {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut whole = Self::default();
        for value in values.into_iter().filter(|value| value.is_finite()) {
            whole.count_in(buckets::key(buckets::place(value)), 1);
            whole.widen(value, Some(value), Some(value));
        }
        whole
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "above 2^53 values a rank may be off by parts in 10^16"
)]
fn as_float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::telemetry::RELATIVE_ERROR;

    #[test]
    fn an_empty_distribution_has_no_quantile() {
        let empty = Distribution::default();
        assert_eq!(
            (empty.quantile(0.5), empty.mean(), empty.min()),
            (None, None, None)
        );
    }

    #[test]
    fn one_value_is_every_quantile_exactly() {
        let one: Distribution = [0.123].into_iter().collect();
        for q in [-1.0, 0.0, 0.5, 1.0, 7.0, f64::NAN] {
            assert_eq!(one.quantile(q), Some(0.123));
        }
    }

    fn values() -> impl Strategy<Value = Vec<f64>> {
        let value = prop_oneof![
            8 => (-30.0_f64..50.0).prop_map(f64::exp2),
            2 => (-30.0_f64..50.0).prop_map(|e| -e.exp2()),
            1 => Just(0.0),
            1 => (-10_000_i32..10_000).prop_map(f64::from),
        ];
        prop::collection::vec(value, 1..200)
    }

    proptest! {
        #[test]
        fn a_quantile_is_within_the_stated_error_of_the_sorted_list(mut all in values(), q in 0.0_f64..=1.0) {
            let whole: Distribution = all.iter().copied().collect();
            all.sort_by(f64::total_cmp);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a rank below 200")]
            let rank = ((q * all.len() as f64).ceil().max(1.0)) as usize;
            let exact = all[rank - 1];
            let found = whole.quantile(q).expect("not empty");
            prop_assert!((found - exact).abs() <= exact.abs() * RELATIVE_ERROR, "{found} for {exact}");
        }

        #[test]
        fn merged_parts_are_the_whole(left in values(), right in values()) {
            let mut merged: Distribution = left.iter().copied().collect();
            merged.merge(&right.iter().copied().collect());
            let whole: Distribution = left.iter().chain(&right).copied().collect();
            prop_assert_eq!(&merged.buckets, &whole.buckets);
            prop_assert_eq!((merged.count, merged.min, merged.max), (whole.count, whole.min, whole.max));
            let size: f64 = left.iter().chain(&right).map(|value| value.abs()).sum();
            prop_assert!((merged.sum - whole.sum).abs() <= size * 1e-12);
        }

        #[test]
        fn merging_is_commutative(left in values(), right in values()) {
            let (left, right): (Distribution, Distribution) = (left.into_iter().collect(), right.into_iter().collect());
            let (mut one, mut other) = (left.clone(), right.clone());
            one.merge(&right);
            other.merge(&left);
            prop_assert_eq!(one.buckets, other.buckets);
        }

        #[test]
        fn the_count_within_a_bucket_bound_is_exact(all in values(), exponent in -20_i32..30, part in 0_u8..32) {
            let bound = 2.0_f64.powi(exponent) * (1.0 + f64::from(part) / 32.0);
            let whole: Distribution = all.iter().copied().collect();
            let exact = all.iter().filter(|value| **value <= bound).count() as u64;
            prop_assert_eq!(whole.count_within(bound), exact);
        }
    }
}
