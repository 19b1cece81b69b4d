use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a capture has done so far. `captured` is what was stored, is in the queue, was dropped or was refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct CaptureStats {
    /// Events that were made and not sampled away.
    pub captured: u64,
    /// Those that the store has.
    pub stored: u64,
    /// Those for which the queue had no room, or that came after its end.
    pub dropped: u64,
    /// Those that the store refuses for ever.
    pub refused: u64,
    /// Texts that were cut, fields left out, and fields that panicked when they were written down.
    pub shortened: u64,
    /// Bytes that wait for the store.
    pub queued_bytes: u64,
}

/// The same while it is counted.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) stored: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) shortened: AtomicU64,
}

impl Counts {
    /// `waiting`: events that are in the queue.
    pub(super) fn read(&self, waiting: u64, queued_bytes: u64) -> CaptureStats {
        let [stored, dropped, refused, shortened] =
            [&self.stored, &self.dropped, &self.refused, &self.shortened]
                .map(|count| count.load(Relaxed));
        CaptureStats {
            captured: stored + dropped + refused + waiting,
            stored,
            dropped,
            refused,
            shortened,
            queued_bytes,
        }
    }
}
