use std::time::Duration;

/// What an event store needs to start. Every limit has a unit and a reason. While it runs [`Events::set_retention`],
/// [`Events::set_hot_bytes`] and [`Events::set_segment_bytes`] change what may change.
///
/// [`Events::set_retention`]: super::Events::set_retention
/// [`Events::set_hot_bytes`]: super::Events::set_hot_bytes
/// [`Events::set_segment_bytes`]: super::Events::set_segment_bytes
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// When an event counts as stored. Default [`Durability::Always`].
    pub durability: Durability,
    /// How many bytes of the newest events stay in memory. Default 64 MiB: about 200,000 events of 300 bytes. Under
    /// [`Durability::Memory`] it bounds the store itself: the oldest events go, and are counted as pruned.
    pub hot_bytes: usize,
    /// Bytes after which a new segment starts, 4 KiB to 256 MiB. Default 64 MiB: one is read in a tenth of a second, and a
    /// terabyte has few enough of them.
    pub segment_bytes: u32,
    /// How many bytes of sealed segments stay in memory once they were read. Default 32 MiB: some two thousand blocks.
    pub cache_bytes: usize,
    /// How many bytes may wait for the disk at once. Default 64 MiB: a second of a slow disk.
    pub in_flight_bytes: u32,
    /// What a `store` does when [`Options::in_flight_bytes`] are waiting. Default [`Admission::Wait`].
    pub admission: Admission,
    /// What is pruned by itself. Default: nothing.
    pub retention: Retention,
    /// How often [`Retention::max_age`] and [`Retention::max_bytes`] are looked at. Default 60 s.
    pub retention_interval: Duration,
    /// After how long without a write the log notes that everything is synced. Default 1 s: damage found later in the newest
    /// events is then known as damage and not taken for a torn write.
    pub idle_mark: Duration,
    /// How long a call waits for a store that is down to come back, and an opening for a store that is just leaving the folder. Default
    /// 1 s: a restart takes a few milliseconds.
    pub down_wait: Duration,
    /// How long a caller waits for the disk. Default 30 s: a disk that needs longer is stuck.
    pub answer_wait: Duration,
}

/// When an event counts as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Once it is in memory. There is no folder; events end with the process.
    Memory,
    /// Once the system has it, which survives a killed process; it is synced within the given time, so that a power cut loses
    /// at most that.
    Interval(Duration),
    /// Once it is synced to the disk.
    Always,
}

/// What happens to a caller when the store has its hands full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It waits its turn.
    Wait,
    /// It is refused at once with [`StoreError::Full`](super::StoreError::Full).
    Refuse,
}

/// What is pruned by itself; each limit is off when `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retention {
    /// The most events; the oldest stored go first, as soon as there is one more.
    pub max_events: Option<u64>,
    /// The age by their own time above which events go, at the next look.
    pub max_age: Option<Duration>,
    /// The most bytes on disk, in whole segments, at the next look.
    pub max_bytes: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: Durability::Always,
            hot_bytes: 64 << 20,
            segment_bytes: 64 << 20,
            cache_bytes: 32 << 20,
            in_flight_bytes: 64 << 20,
            admission: Admission::Wait,
            retention: Retention::default(),
            retention_interval: Duration::from_mins(1),
            idle_mark: Duration::from_secs(1),
            down_wait: Duration::from_secs(1),
            answer_wait: Duration::from_secs(30),
        }
    }
}

impl Options {
    /// Everything in memory, nothing on disk.
    #[must_use]
    pub fn memory() -> Self {
        Self {
            durability: Durability::Memory,
            ..Self::default()
        }
    }

    /// Bytes of a segment within its bounds. In memory segments are small, so that little goes at once when the budget is full.
    pub(super) fn segment_limit(&self) -> u32 {
        const MIN: u32 = 4 << 10;
        const MAX: u32 = 256 << 20;
        let wanted = match self.durability {
            Durability::Memory => super::wire::len32((self.hot_bytes / 16).min(MAX as usize)),
            Durability::Interval(_) | Durability::Always => self.segment_bytes,
        };
        wanted.clamp(MIN, MAX)
    }
}
