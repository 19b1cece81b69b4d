//! What readers see, and how much that is: nobody sees the one without the other.

use std::sync::{Arc, atomic::Ordering};

use super::{super::segment::Segment, Log};

impl Log {
    /// Lets readers see the first rows of a segment.
    pub(super) fn show(&self, segment: &Segment, rows: u32) {
        let _counting = self.counting.lock();
        self.count_shown(segment.publish(rows));
    }

    pub(super) fn count_shown(&self, shown: u64) {
        self.news.notify_waiters();
        self.facts.shown.fetch_add(shown, Ordering::Relaxed);
        self.facts.stored.fetch_add(shown, Ordering::Relaxed);
    }

    /// Every segment with the rows that readers may see now, all of which are counted.
    pub(super) fn shown(&self) -> Vec<(Arc<Segment>, u32)> {
        let segments = self.segments();
        let _counting = self.counting.lock();
        let with_rows = |segment: &Arc<Segment>| (segment.clone(), segment.published());
        segments.iter().map(with_rows).collect()
    }

    pub(super) fn keep_count(&self) {
        let max = self.max_events.load(Ordering::Relaxed);
        if self.facts.shown.load(Ordering::Relaxed) > max
            // Whoever prunes now takes from the same events; the next batch looks again.
            && let Some(_pruning) = self.pruning.try_lock()
        {
            self.hide_down_to(max);
        }
    }

    pub(super) fn hide_down_to(&self, count: u64) -> u64 {
        let mut pruned = 0;
        for (segment, rows) in self.shown() {
            let excess = self
                .facts
                .shown
                .load(Ordering::Relaxed)
                .saturating_sub(count);
            if excess == 0 {
                break;
            }
            pruned += self.count_hidden(segment.hide_oldest(excess, rows));
        }
        pruned
    }

    pub(super) fn count_hidden(&self, hidden: u64) -> u64 {
        self.facts.shown.fetch_sub(hidden, Ordering::Relaxed);
        self.facts.pruned.fetch_add(hidden, Ordering::Relaxed);
        hidden
    }
}
