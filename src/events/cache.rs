//! Decoded blocks and index pages of sealed segments, as many as fit into a budget; and who is told where an index turns out damaged.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use quick_cache::{Weighter, sync};

/// Shared by all segments of a store.
pub(super) struct Cache {
    parts: sync::Cache<(u64, Part), Arc<[u8]>, Bytes>,
    next_owner: AtomicU64,
    alarm: Mutex<Option<Alarm>>,
}

/// Tells whoever makes indexes anew to look for a damaged one.
type Alarm = Box<dyn Fn() + Send>;

/// A part of a sealed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Part {
    Block(u32),
    Page(u32),
}

#[derive(Debug, Clone)]
struct Bytes;

impl Weighter<(u64, Part), Arc<[u8]>> for Bytes {
    fn weight(&self, _: &(u64, Part), bytes: &Arc<[u8]>) -> u64 {
        /// Key, pointers and counters of an entry.
        const ENTRY_BYTES: u64 = 96;
        bytes.len() as u64 + ENTRY_BYTES
    }
}

impl Cache {
    /// A cache of at most `bytes` bytes.
    pub(super) fn new(bytes: usize) -> Self {
        /// Between a page and a block.
        const PART_BYTES: usize = 8 << 10;
        Self {
            parts: sync::Cache::with_weighter(bytes / PART_BYTES, bytes as u64, Bytes),
            next_owner: AtomicU64::new(0),
            alarm: Mutex::default(),
        }
    }

    /// Who is told from now on.
    pub(super) fn set_alarm(&self, alarm: impl Fn() + Send + 'static) {
        *self.alarm.lock() = Some(Box::new(alarm));
    }

    /// An index was found damaged.
    pub(super) fn raise_alarm(&self) {
        if let Some(alarm) = &*self.alarm.lock() {
            alarm();
        }
    }

    /// A number under which a segment keeps its parts.
    pub(super) fn owner(&self) -> u64 {
        self.next_owner.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn get(&self, owner: u64, part: Part) -> Option<Arc<[u8]>> {
        self.parts.get(&(owner, part))
    }

    pub(super) fn keep(&self, owner: u64, part: Part, bytes: &Arc<[u8]>) {
        self.parts.insert((owner, part), bytes.clone());
    }

    pub(super) fn bytes(&self) -> u64 {
        self.parts.weight()
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_holds_more_than_its_budget() {
        let cache = Cache::new(1 << 20);
        let owner = cache.owner();
        let block: Arc<[u8]> = vec![7; 16 << 10].into();
        for n in 0..1000 {
            cache.keep(owner, Part::Block(n), &block);
        }

        assert!(cache.bytes() <= 1 << 20, "{} bytes", cache.bytes());
        let kept = (0..1000).filter(|n| cache.get(owner, Part::Block(*n)).is_some());
        assert!(kept.count() > 30);
        assert_eq!(cache.get(cache.owner(), Part::Block(999)), None);
    }
}
