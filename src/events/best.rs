//! The best of what a search finds, as many as are wanted. Pure.

use std::{cmp::Ordering, collections::BinaryHeap};

use super::{Event, query::Rank};

/// The best so far.
#[derive(Debug)]
pub(super) struct Best {
    wanted: usize,
    kept: Kept,
}

#[derive(Debug)]
enum Kept {
    /// All that was found, in the order in which it was: mostly in the order that is wanted.
    Few(Vec<Found>),
    /// As many as are wanted, the worst on top.
    Enough(BinaryHeap<Found>),
}

/// An event that may be part of the answer.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) rank: Rank,
    pub(super) segment: usize,
    pub(super) row: u32,
    pub(super) key: (i64, u64),
    /// The event and its length as encoded, if it had to be looked at.
    pub(super) event: Option<(Box<Event>, usize)>,
}

impl Best {
    /// Of `wanted`, which is not 0.
    pub(super) fn of(wanted: usize) -> Self {
        Self {
            wanted,
            kept: Kept::Few(Vec::new()),
        }
    }

    /// Whether nothing has to go for one that comes.
    pub(super) fn has_room(&self) -> bool {
        matches!(self.kept, Kept::Few(_))
    }

    /// Whether there are better ones enough.
    pub(super) fn excludes(&self, rank: Rank) -> bool {
        match &self.kept {
            Kept::Few(_) => false,
            Kept::Enough(heap) => heap.peek().is_some_and(|worst| rank >= worst.rank),
        }
    }

    /// Keeps one that it does not exclude; answers the one that has to go for it.
    pub(super) fn keep(&mut self, found: Found) -> Option<Found> {
        match &mut self.kept {
            Kept::Few(few) => {
                few.push(found);
                if few.len() == self.wanted {
                    self.kept = Kept::Enough(std::mem::take(few).into());
                }
                None
            }
            Kept::Enough(heap) => {
                let worst = heap.pop();
                heap.push(found);
                worst
            }
        }
    }

    pub(super) fn into_sorted(self) -> Vec<Found> {
        match self.kept {
            Kept::Few(mut few) => {
                few.sort_unstable();
                few
            }
            Kept::Enough(heap) => heap.into_sorted_vec(),
        }
    }
}

impl Found {
    fn place(&self) -> (Rank, usize, u32) {
        (self.rank, self.segment, self.row)
    }

    pub(super) fn kept_bytes(&self) -> usize {
        self.event.as_ref().map_or(0, |(_, bytes)| *bytes)
    }
}

impl PartialEq for Found {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for Found {}

impl PartialOrd for Found {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Found {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_keeps_what_a_sorted_list_begins_with(ranks in prop::collection::vec(0_u64..40, 0..60), wanted in 1_usize..50) {
            let mut best = Best::of(wanted);
            for (row, rank) in (0..).zip(&ranks) {
                let rank = (*rank, 0);
                if best.excludes(rank) {
                    continue;
                }
                let has_room = best.has_room();
                let gone = best.keep(Found { rank, segment: 0, row, key: (0, 1), event: None });
                prop_assert_eq!(gone.is_none(), has_room);
            }

            let mut sorted = ranks.clone();
            sorted.sort_unstable();
            sorted.truncate(wanted);
            let kept: Vec<_> = best.into_sorted().iter().map(|found| found.rank.0).collect();
            prop_assert_eq!(kept, sorted);
        }
    }
}
