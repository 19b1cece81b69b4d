//! Decoded blocks and index pages of sealed segments, as many as fit into a budget; and who is told where an index turns out damaged.
//!
//! A part is kept when it is asked for the second time within a while. Most are asked for once: to keep those, and to let others go for
//! them, takes longer than to read one.

use std::{
    fmt,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use quick_cache::{
    Weighter,
    sync::{self, DefaultLifecycle},
};

use super::{bloom::spread, own::Own};

/// Shared by all segments of a store.
pub(super) struct Cache {
    parts: sync::Cache<Key, Arc<[u8]>, Bytes, RandomState>,
    asked: Asked,
    alarm: Mutex<Option<Alarm>>,
}

/// A part of a segment, which is known by a number of its own.
pub(super) type Key = (u64, Part);

/// What was asked for and not found, of late: some bits of each, a later one in the place of an earlier one.
struct Asked(Box<[AtomicU32]>);

/// A part's bytes: kept for all, or read by this thread.
#[derive(Debug)]
pub(super) enum Found {
    Kept(Arc<[u8]>),
    Read(Own),
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

impl Weighter<Key, Arc<[u8]>> for Bytes {
    fn weight(&self, _: &Key, bytes: &Arc<[u8]>) -> u64 {
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
            parts: sync::Cache::with(
                bytes / PART_BYTES,
                bytes as u64,
                Bytes,
                RandomState::default(),
                DefaultLifecycle::default(),
            ),
            asked: Asked::of(bytes),
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

    /// A number under which a segment keeps its parts: no other of the process has it.
    pub(super) fn owner() -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    /// A part that is at hand, or as it is read.
    pub(super) fn get<E>(
        &self,
        key: Key,
        read: impl FnOnce(Option<Key>) -> Result<Own, E>,
    ) -> Result<Found, E> {
        if self.asked.0.is_empty() {
            return read(None).map(Found::Read);
        }
        if let Some(own) = Own::last(key) {
            return Ok(Found::Read(own));
        }
        if let Some(kept) = self.parts.get(&key) {
            return Ok(Found::Kept(kept));
        }
        let own = read(Some(key))?;
        if self.asked.again(key) {
            self.parts.insert(key, Arc::from(&own[..]));
        }
        Ok(Found::Read(own))
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

impl Asked {
    /// For a cache of so many bytes; none for one that keeps nothing.
    fn of(bytes: usize) -> Self {
        /// So few that what would find room is not forgotten before it is asked for again.
        const BYTES_EACH: usize = 2 << 10;
        /// 16 MiB, enough for a cache of 8 GiB; a larger one forgets some before they are asked for again.
        const PLACES_MAX: usize = 4 << 20;
        let places = (bytes / BYTES_EACH).min(PLACES_MAX).next_power_of_two();
        Self(
            (0..if bytes == 0 { 0 } else { places })
                .map(|_| AtomicU32::new(0))
                .collect(),
        )
    }

    /// Notes it; answers whether it was noted.
    fn again(&self, (owner, part): Key) -> bool {
        let number = match part {
            Part::Block(number) => u64::from(number) << 1,
            Part::Page(number) => u64::from(number) << 1 | 1,
        };
        let mixed = spread(owner << 33 ^ number);
        let [a, b, c, d, rest @ ..] = mixed.to_le_bytes();
        let (place, bits) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes(rest));
        // Never zero, which is nothing.
        let bits = bits | 1;
        let place = self.0.get(place as usize & (self.0.len().wrapping_sub(1)));
        place.is_some_and(|place| place.swap(bits, Ordering::Relaxed) == bits)
    }
}

impl Deref for Found {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Kept(bytes) => bytes,
            Self::Read(own) => own,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// Asks for a block; answers whether it had to be read.
    fn ask(cache: &Cache, owner: u64, number: u32) -> bool {
        let mut read = false;
        let found = cache.get((owner, Part::Block(number)), |key| {
            read = true;
            let own = Own::filled(key, |bytes| {
                bytes.clear();
                bytes.resize(16 << 10, number.to_le_bytes()[0]);
                Ok(0..16 << 10)
            });
            Ok::<_, Infallible>(own.expect("it is filled"))
        });
        let Ok(found) = found;
        assert!(found.len() == 16 << 10 && found[0] == number.to_le_bytes()[0]);
        read
    }

    #[test]
    fn it_never_holds_more_than_its_budget() {
        let cache = Cache::new(1 << 20);
        let owner = Cache::owner();
        for first in (0..1000).step_by(20) {
            for number in (first..first + 20).chain(first..first + 20) {
                ask(&cache, owner, number);
            }
        }

        assert!(cache.bytes() <= 1 << 20, "{} bytes", cache.bytes());
        let newest_first = (0..1000).rev();
        let kept = newest_first.filter(|number| !ask(&cache, owner, *number));
        assert!(kept.count() > 30);
        assert!(ask(&cache, Cache::owner(), 999), "that is another's");
    }

    #[test]
    fn what_is_asked_for_once_is_not_kept_and_what_is_asked_for_again_is() {
        let cache = Cache::new(4 << 20);
        let owner = Cache::owner();
        for number in 0..100 {
            assert!(ask(&cache, owner, number));
        }
        assert_eq!(cache.bytes(), 0);

        for number in 0..100 {
            ask(&cache, owner, number);
        }
        let kept = (0..100).filter(|number| !ask(&cache, owner, *number));
        // A few were forgotten for others that have their place.
        assert!(kept.count() > 80);
    }

    #[test]
    fn a_cache_of_nothing_has_all_read_anew() {
        let cache = Cache::new(0);
        let owner = Cache::owner();
        assert!((0..9).all(|number| ask(&cache, owner, number % 2)));
    }
}
