//! The fixed log-linear buckets of every histogram: which bucket a value falls into, and which values a bucket holds.
//!
//! Each power of two from 2^-40 (about a picosecond, in seconds) to 2^64 (all that a `u64` can hold) is cut into 32 equal
//! parts. A positive bucket is open below and closed above, `(low, high]`, as Prometheus' `le` wants it; so each bound of
//! the form `2^e * (1 + n/32)` splits a histogram exactly. Negative values mirror the positive ones.
//!
//! A quantile answers with the middle of a bucket that is at most 1/32 of its value wide: [`RELATIVE_ERROR`].

use std::cmp::Ordering;

/// How far a quantile can be from the recorded value it stands for, as a fraction of that value: 1/64, about 1.6 %.
/// Values nearer to zero than 2^-40 count as zero, values beyond 2^64 share one bucket (quantiles there answer the
/// exact minimum or maximum).
pub const RELATIVE_ERROR: f64 = 1.0 / 64.0;

const PARTS_BITS: u32 = 5;
const EXPONENT_MIN: i32 = -40;
const EXPONENT_MAX: i32 = 64;
const SHIFT: u32 = f64::MANTISSA_DIGITS - 1 - PARTS_BITS;
const FIRST: u64 = ((EXPONENT_MIN + 1023) as u64) << PARTS_BITS;

/// How many buckets each sign has, the last one for what is beyond 2^64.
pub(super) const COUNT: usize = ((EXPONENT_MAX - EXPONENT_MIN) as usize) * (1 << PARTS_BITS) + 1;

/// Where a finite value is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Negative(usize),
    Zero,
    Positive(usize),
}

/// The bucket of a positive value that has one of its own: what nearly every recorded value is, found with one comparison.
/// `None` for all else, be it zero, negative, not finite or beyond the range.
#[inline]
pub(super) fn common(value: f64) -> Option<usize> {
    // One less in the bits of a positive float is the next smaller float: this closes the buckets above. A set sign bit,
    // and a zero that wraps around, give numbers far beyond the last bucket.
    let step = (value.to_bits().wrapping_sub(1) >> SHIFT).wrapping_sub(FIRST);
    usize::try_from(step).ok().filter(|step| *step < COUNT - 1)
}

/// The bucket of a finite value.
pub(super) fn place(value: f64) -> Place {
    let size = value.abs();
    if size <= 2.0_f64.powi(EXPONENT_MIN) {
        return Place::Zero;
    }
    let step = common(size).unwrap_or(COUNT - 1);
    if value > 0.0 {
        Place::Positive(step)
    } else {
        Place::Negative(step)
    }
}

/// The bucket's number in a [`Distribution`](super::Distribution): 0 for zero, 1 and up for positive, -1 and down for
/// negative values.
pub(super) fn key(place: Place) -> i16 {
    let number = |step: usize| i16::try_from(step + 1).unwrap_or(i16::MAX);
    match place {
        Place::Negative(step) => -number(step),
        Place::Zero => 0,
        Place::Positive(step) => number(step),
    }
}

/// The value that stands for a bucket: its middle. Infinite for the last bucket, which has no end.
pub(super) fn middle(key: i16) -> f64 {
    match key.cmp(&0) {
        Ordering::Equal => 0.0,
        Ordering::Greater => f64::midpoint(low(key), low(key.saturating_add(1))),
        Ordering::Less => -middle(-key),
    }
}

/// Whether all values of a bucket are at most `bound`. Exact for bounds that are bucket bounds; for others a bucket that
/// the bound cuts is counted above it.
pub(super) fn is_within(key: i16, bound: f64) -> bool {
    match key.cmp(&0) {
        Ordering::Equal => bound >= 0.0,
        Ordering::Greater => low(key.saturating_add(1)) <= bound,
        Ordering::Less => -low(-key) <= bound,
    }
}

/// The open lower bound of a positive bucket, which is the closed upper bound of the one before.
fn low(key: i16) -> f64 {
    let step = u64::from(key.unsigned_abs()) - 1;
    if step >= COUNT as u64 {
        return f64::INFINITY;
    }
    f64::from_bits((FIRST + step) << SHIFT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bound_belongs_to_the_bucket_below_it() {
        for bound in [0.25, 1.0, 1.5, 2.0, 1024.0, 33.0] {
            let at = key(place(bound));
            let above = key(place(bound * (1.0 + f64::EPSILON)));
            assert_eq!(above, at + 1, "{bound}");
            assert!(is_within(at, bound));
            assert!(!is_within(above, bound));
        }
    }

    #[test]
    fn the_ends_of_the_range_are_held() {
        assert_eq!(place(0.0), Place::Zero);
        assert_eq!(place(-0.0), Place::Zero);
        assert_eq!(place(f64::MIN_POSITIVE), Place::Zero);
        assert_eq!(place(2.0_f64.powi(-40)), Place::Zero);
        assert_eq!(place(2.0_f64.powi(-40) * 1.000_000_1), Place::Positive(0));
        assert_eq!(
            place(-(2.0_f64.powi(-40) * 1.000_000_1)),
            Place::Negative(0)
        );
        assert_eq!(place(2.0_f64.powi(64)), Place::Positive(COUNT - 2));
        assert_eq!(place(2.0_f64.powi(65)), Place::Positive(COUNT - 1));
        assert_eq!(place(f64::MAX), Place::Positive(COUNT - 1));
        assert_eq!(place(f64::MIN), Place::Negative(COUNT - 1));
        assert!(middle(key(place(f64::MAX))).is_infinite());
        assert!(!is_within(key(place(f64::MAX)), f64::MAX));
    }

    proptest! {
        #[test]
        fn the_middle_is_within_the_stated_error(exponent in -39.9_f64..63.9, sign in prop::bool::ANY) {
            let value = exponent.exp2() * if sign { 1.0 } else { -1.0 };
            let error = (middle(key(place(value))) - value).abs() / value.abs();
            prop_assert!(error <= RELATIVE_ERROR, "{value}: {error}");
        }

        #[test]
        fn buckets_keep_the_order_of_values(a in any::<f64>(), b in any::<f64>()) {
            prop_assume!(a.is_finite() && b.is_finite());
            let (low, high) = if a <= b { (a, b) } else { (b, a) };
            prop_assert!(key(place(low)) <= key(place(high)));
        }
    }
}
