//! A thread's part of a histogram.

use std::array;

use super::{
    buckets::{self, Place},
    sharded::Writer,
    sync::{AtomicU64, OnceLock, Ordering},
};

/// What one thread recorded.
#[derive(Debug)]
pub(super) struct Shard {
    zero: AtomicU64,
    /// Several, each for some of the buckets: with a single one each addition would wait for the one before, which costs
    /// more than all the rest.
    sums: [AtomicU64; SUMS],
    min: AtomicU64,
    max: AtomicU64,
    positive: Ladder,
    negative: OnceLock<Box<Ladder>>,
}

/// The buckets of one sign, in blocks that are made when first used.
#[derive(Debug)]
struct Ladder([OnceLock<Box<Block>>; BLOCKS]);

type Block = [AtomicU64; BLOCK];

const SUMS: usize = 8;
/// Four powers of two in 32 parts.
const BLOCK: usize = 128;
const BLOCKS: usize = buckets::COUNT.div_ceil(BLOCK);

impl Default for Shard {
    fn default() -> Self {
        Self {
            zero: AtomicU64::new(0),
            sums: array::from_fn(|_| AtomicU64::new(0.0_f64.to_bits())),
            min: AtomicU64::new(f64::INFINITY.to_bits()),
            max: AtomicU64::new(f64::NEG_INFINITY.to_bits()),
            positive: Ladder::new(),
            negative: OnceLock::new(),
        }
    }
}

impl Shard {
    /// [`record`](Self::record) for a positive value in bucket `step` when nobody else writes.
    #[inline]
    pub(super) fn record_common(&self, value: f64, step: usize) {
        let alone = Writer::Alone;
        alone.add(self.positive.bucket(step), 1);
        alone.update(&self.sums[step % SUMS], |sum| Some(sum + value));
        // Where one of two floats is positive, their bits as signed integers have their order.
        let bits = |float: &AtomicU64| float.load(Ordering::Relaxed).cast_signed();
        let own = value.to_bits().cast_signed();
        if own < bits(&self.min) {
            self.min.store(value.to_bits(), Ordering::Relaxed);
        }
        if own > bits(&self.max) {
            self.max.store(value.to_bits(), Ordering::Relaxed);
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a float's sum is not exact beyond 2^53 anyway"
    )]
    pub(super) fn record(&self, value: f64, times: u64, writer: Writer) {
        let (bucket, step) = match buckets::place(value) {
            Place::Positive(step) => (self.positive.bucket(step), step),
            Place::Negative(step) => (self.negative().bucket(step), step),
            Place::Zero => (&self.zero, 0),
        };
        writer.add(bucket, times);
        let sum_of_these = value * times as f64;
        writer.update(&self.sums[step % SUMS], |sum| Some(sum + sum_of_these));
        writer.update(&self.min, |min| (value < min).then_some(value));
        writer.update(&self.max, |max| (value > max).then_some(value));
    }

    fn negative(&self) -> &Ladder {
        self.negative.get_or_init(|| Box::new(Ladder::new()))
    }

    pub(super) fn sum(&self) -> f64 {
        self.sums.iter().map(float).sum()
    }

    /// The smallest and the largest value, if there are any.
    pub(super) fn extremes(&self) -> (Option<f64>, Option<f64>) {
        let extreme = |bits| Some(float(bits)).filter(|value| value.is_finite());
        (extreme(&self.min), extreme(&self.max))
    }

    pub(super) fn each_bucket(&self, mut see: impl FnMut(Place, u64)) {
        if let Some(negative) = self.negative.get() {
            negative.each(|step, count| see(Place::Negative(step), count));
        }
        see(Place::Zero, self.zero.load(Ordering::Relaxed));
        self.positive
            .each(|step, count| see(Place::Positive(step), count));
    }
}

impl Ladder {
    fn new() -> Self {
        Self(array::from_fn(|_| OnceLock::new()))
    }

    #[inline]
    fn bucket(&self, step: usize) -> &AtomicU64 {
        let block = &self.0[step / BLOCK];
        let block = match block.get() {
            Some(block) => block,
            None => make(block),
        };
        &block[step % BLOCK]
    }

    fn each(&self, mut see: impl FnMut(usize, u64)) {
        for (at, block) in self.0.iter().enumerate() {
            for (part, count) in block
                .get()
                .into_iter()
                .flat_map(|block| block.iter().enumerate())
            {
                see(at * BLOCK + part, count.load(Ordering::Relaxed));
            }
        }
    }
}

fn float(bits: &AtomicU64) -> f64 {
    f64::from_bits(bits.load(Ordering::Relaxed))
}

#[cold]
fn make(block: &OnceLock<Box<Block>>) -> &Block {
    block.get_or_init(|| Box::new(array::from_fn(|_| AtomicU64::new(0))))
}
