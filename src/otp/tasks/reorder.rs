//! Results that come in any order, handed out in theirs.

use std::collections::VecDeque;

/// Holds what came early until its turn comes. Indices begin with 0, and each comes once.
#[derive(Debug)]
pub(super) struct Reorder<T> {
    /// The index whose turn it is.
    next: u64,
    /// From `next` on.
    early: VecDeque<Option<T>>,
    held: usize,
}

impl<T> Reorder<T> {
    pub(super) fn new() -> Self {
        Self {
            next: 0,
            early: VecDeque::new(),
            held: 0,
        }
    }

    /// How many results wait.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Takes in the result with this index. One whose turn is over already is dropped.
    pub(super) fn put(&mut self, index: u64, result: T) {
        let Some(at) = index
            .checked_sub(self.next)
            .and_then(|at| usize::try_from(at).ok())
        else {
            return;
        };
        if self.early.len() <= at {
            self.early.resize_with(at + 1, || None);
        }
        if self.early[at].replace(result).is_none() {
            self.held += 1;
        }
    }

    /// Hands out the result whose turn it is, if it is there.
    pub(super) fn take(&mut self) -> Option<T> {
        let first = self.early.front_mut()?.take()?;
        self.early.pop_front();
        self.next += 1;
        self.held -= 1;
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_is_handed_out_before_its_turn() {
        let mut order = Reorder::new();
        order.put(1, "second");
        assert_eq!((order.take(), order.held()), (None, 1));
        order.put(0, "first");
        assert_eq!(
            [order.take(), order.take(), order.take()],
            [Some("first"), Some("second"), None]
        );
        order.put(0, "late");
        assert_eq!((order.take(), order.held()), (None, 0));
    }

    proptest! {
        #[test]
        fn whatever_order_they_come_in_they_go_out_in_theirs(
            order in Just((0_u64..40).collect::<Vec<_>>()).prop_shuffle(),
            takes in proptest::collection::vec(0_usize..4, 40),
        ) {
            let mut reorder = Reorder::new();
            let mut out = Vec::new();
            for (put, (index, takes)) in order.iter().zip(takes).enumerate() {
                reorder.put(*index, *index);
                out.extend((0..takes).map_while(|_| reorder.take()));
                prop_assert_eq!(reorder.held(), put + 1 - out.len());
            }
            out.extend(std::iter::from_fn(|| reorder.take()));
            prop_assert_eq!(out, (0..40).collect::<Vec<_>>());
        }
    }
}
