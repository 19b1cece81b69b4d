//! Ids that rise strictly, from one atomic word.

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    EventId, NodeId,
    event_id::{EPOCH_UNIX_MS, MS_BITS, SEQUENCE_BITS},
};

/// Makes event ids for one node. Shared by reference; one generator per [`NodeId`].
///
/// Its whole state is the last word given out, `ms << 12 | sequence`; the next one is `max(last + 1, now << 12)`. So ids rise
/// strictly, whatever the clock does, and nobody ever waits: beyond 4096 ids in a millisecond, and while the clock stands behind where
/// it once was, ids borrow from the future. [`IdGenerator::drift`] says how far; it shrinks as the clock catches up.
///
/// The clock is followed until 25 days before the 41 bits of milliseconds end, in August 2093, which leaves nine million million ids
/// to count through. Thereafter the last id is given again and again; a store that refuses duplicates shows it.
#[derive(Debug)]
pub struct IdGenerator {
    node: NodeId,
    last: AtomicU64,
}

/// Ids reserved at once, in rising order.
#[derive(Debug, Clone)]
pub struct IdBlock {
    node: NodeId,
    first: u64,
    len: u32,
}

/// The largest word: 41 bits of milliseconds and 12 of sequence.
const WORD_MAX: u64 = (1 << (MS_BITS + SEQUENCE_BITS)) - 1;
/// The latest time that is believed. A clock set beyond it leaves 2^31 ms worth of words to count through.
const CLOCK_MS_MAX: u64 = (1 << MS_BITS) - (1 << 31);

impl IdGenerator {
    /// A generator that has made no id yet. One whose node has made ids before must [`IdGenerator::resume`].
    #[must_use]
    pub fn new(node: NodeId) -> Self {
        Self::resume(node, 0)
    }

    /// A generator whose ids are above `high_water`, a word as [`IdGenerator::high_water`] gives it.
    #[must_use]
    pub fn resume(node: NodeId, high_water: u64) -> Self {
        Self {
            node,
            last: AtomicU64::new(high_water.min(WORD_MAX)),
        }
    }

    /// Makes the next id. Reads the clock (about 20 ns); never waits, never panics.
    #[must_use = "an id that is not used is lost"]
    pub fn next(&self) -> EventId {
        self.next_at(unix_ms())
    }

    /// Makes the next id at a time that the caller has read, in milliseconds since 1970.
    #[must_use = "an id that is not used is lost"]
    pub fn next_at(&self, unix_ms: u64) -> EventId {
        id(self.claim(1, clock_word(unix_ms)), self.node)
    }

    /// Reserves ids for a batch, at the price of one.
    #[must_use = "ids that are not used are lost"]
    pub fn reserve(&self, count: NonZeroU32) -> IdBlock {
        self.reserve_at(count, unix_ms())
    }

    /// Reserves ids at a time that the caller has read, in milliseconds since 1970.
    #[must_use = "ids that are not used are lost"]
    pub fn reserve_at(&self, count: NonZeroU32, unix_ms: u64) -> IdBlock {
        IdBlock {
            node: self.node,
            first: self.claim(count.get(), clock_word(unix_ms)),
            len: count.get(),
        }
    }

    /// The node whose ids these are.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// How far the ids are ahead of the clock, to the millisecond. Worth a warning above 1 s and an error above 10 s.
    #[must_use]
    pub fn drift(&self) -> Duration {
        self.drift_at(unix_ms())
    }

    /// As [`IdGenerator::drift`], at a time that the caller has read, in milliseconds since 1970.
    #[must_use]
    pub fn drift_at(&self, unix_ms: u64) -> Duration {
        let last_ms = self.high_water() >> SEQUENCE_BITS;
        Duration::from_millis(last_ms.saturating_sub(unix_ms.saturating_sub(EPOCH_UNIX_MS)))
    }

    /// The last word given out, `ms << 12 | sequence` with milliseconds since 2024; 0 before the first.
    #[must_use]
    pub fn high_water(&self) -> u64 {
        self.last.load(Ordering::Relaxed).min(WORD_MAX)
    }

    /// Takes `count` words in a row, the first of them not below `now`.
    ///
    /// Words are taken by addition, which never has to be tried again, and the clock only corrects: who finds his words behind it
    /// leaves them unused, lifts the state to the clock and takes others. For one word that is `max(last + 1, now)` exactly. Relaxed
    /// is enough, since all that has to be in order is this one word, and no other memory hangs on it.
    fn claim(&self, count: u32, now: u64) -> u64 {
        let count = u64::from(count);
        let first = self.last.fetch_add(count, Ordering::Relaxed) + 1;
        if first >= now {
            return first;
        }
        self.last.fetch_max(now - 1, Ordering::Relaxed);
        self.last.fetch_add(count, Ordering::Relaxed) + 1
    }
}

impl IdBlock {
    /// The first id that is left; none when all were taken.
    #[must_use]
    pub fn first(&self) -> Option<EventId> {
        (self.len > 0).then(|| id(self.first, self.node))
    }
}

impl Iterator for IdBlock {
    type Item = EventId;

    fn next(&mut self) -> Option<EventId> {
        let id = self.first()?;
        self.first += 1;
        self.len -= 1;
        Some(id)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len as usize, Some(self.len as usize))
    }
}

impl ExactSizeIterator for IdBlock {}

/// The word at which a generator stands when it is in step with the clock.
pub(super) fn clock_word(unix_ms: u64) -> u64 {
    unix_ms.saturating_sub(EPOCH_UNIX_MS).min(CLOCK_MS_MAX) << SEQUENCE_BITS
}

/// Milliseconds since 1970; 0 before.
pub(super) fn unix_ms() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    now.as_secs() * 1000 + u64::from(now.subsec_millis())
}

fn id(word: u64, node: NodeId) -> EventId {
    EventId::from_word(word.min(WORD_MAX), node)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = EPOCH_UNIX_MS + 1_000_000;

    fn generator() -> IdGenerator {
        IdGenerator::new(NodeId::new(5).expect("5 is a node id"))
    }

    /// What the generator has to do, said in one line.
    fn model(last: u64, now: u64) -> u64 {
        (last + 1).max(now).min(WORD_MAX)
    }

    fn word(id: EventId) -> u64 {
        (id.unix_ms() - EPOCH_UNIX_MS) << SEQUENCE_BITS | u64::from(id.sequence())
    }

    #[test]
    fn the_first_id_is_now() {
        let id = generator().next_at(NOW);
        assert_eq!((id.unix_ms(), id.node().get(), id.sequence()), (NOW, 5, 0));
    }

    #[test]
    fn a_burst_borrows_from_the_future_and_the_clock_catches_up() {
        let ids = generator();
        for _ in 0..3 * 4096 {
            let _ = ids.next_at(NOW);
        }
        assert_eq!(ids.drift_at(NOW), Duration::from_millis(2));

        let later = ids.next_at(NOW + 10);

        assert_eq!((later.unix_ms(), later.sequence()), (NOW + 10, 0));
        assert_eq!(ids.drift_at(NOW + 10), Duration::ZERO);
    }

    #[test]
    fn a_clock_that_steps_back_shows_as_drift() {
        let ids = generator();
        let before = ids.next_at(NOW);

        let after = ids.next_at(NOW - 60_000);

        assert_eq!(after.get(), before.get() + 1);
        assert_eq!(ids.drift_at(NOW - 60_000), Duration::from_mins(1));
    }

    #[test]
    fn a_clock_before_2024_still_gives_rising_ids() {
        let ids = generator();
        let (first, second) = (ids.next_at(0), ids.next_at(0));
        assert!(first < second);
        assert_eq!(first.unix_ms(), EPOCH_UNIX_MS);
    }

    #[test]
    fn a_clock_set_far_ahead_does_not_use_up_the_ids() {
        let ids = generator();

        let first = ids.next_at(u64::MAX);
        let second = ids.next_at(u64::MAX);

        assert!(first < second);
        assert!(second.get() < EventId::MAX.get() - (1 << 50));
    }

    #[test]
    fn at_the_very_end_the_last_id_repeats_and_nothing_panics() {
        let ids = IdGenerator::resume(generator().node(), WORD_MAX - 1);

        let last = ids.next_at(NOW);

        assert_eq!(word(last), WORD_MAX);
        assert_eq!(ids.next_at(NOW), last);
        assert_eq!(IdGenerator::resume(ids.node(), u64::MAX).next_at(NOW), last);
        assert_eq!(ids.reserve_at(NonZeroU32::MAX, NOW).last_of(3), [last; 3]);
    }

    #[test]
    fn a_block_is_dense_and_stands_between_its_neighbours() {
        let ids = generator();
        let before = ids.next_at(NOW);
        let block = ids.reserve_at(NonZeroU32::new(5000).expect("not zero"), NOW);
        let after = ids.next_at(NOW);

        assert_eq!((block.len(), block.first()), (5000, block.clone().next()));
        let words: Vec<u64> = [before]
            .into_iter()
            .chain(block)
            .chain([after])
            .map(word)
            .collect();
        assert!(words.windows(2).all(|pair| pair[1] == pair[0] + 1));
    }

    #[test]
    fn a_block_starts_at_the_clock_even_where_its_length_spans_it() {
        let ids = generator();
        let _ = ids.next_at(NOW);
        let many = NonZeroU32::new(1_000_000).expect("not zero");

        let block = ids.reserve_at(many, NOW + 1);

        assert!(block.first().is_some_and(|first| first.unix_ms() > NOW));
    }

    /// Every small state beside every small clock: the boundaries of milliseconds are all among them.
    #[test]
    fn small_states_and_clocks_follow_the_model_exhaustively() {
        for last in 0..3 * 4096 {
            for ms in 0..4 {
                let ids = IdGenerator::resume(generator().node(), last);
                let next = word(ids.next_at(EPOCH_UNIX_MS + ms));
                assert_eq!(next, model(last, ms << 12), "last {last}, {ms} ms");
                assert_eq!(ids.high_water(), next);
            }
        }
    }

    proptest! {
        #[test]
        fn any_clock_follows_the_model(start in 0_u64..1 << 53, clock in prop::collection::vec(0_u64..1 << 42, 1..50)) {
            let ids = IdGenerator::resume(generator().node(), start);
            let mut last = start;
            for ms in clock {
                let next = word(ids.next_at(EPOCH_UNIX_MS + ms));
                let expected = model(last, clock_word(EPOCH_UNIX_MS + ms));
                prop_assert_eq!(next, expected);
                prop_assert!(next > last || last == WORD_MAX);
                last = next;
            }
        }
    }

    impl IdBlock {
        fn last_of(mut self, count: u32) -> Vec<EventId> {
            self.first += u64::from(self.len - count);
            self.len = count;
            self.collect()
        }
    }
}
