//! The log over a disk that fails, beside a plain model.
//!
//! Each story follows from a seed. `UNDERPIN_SEEDS=100000 cargo test --release --lib events::trust` plays a hundred thousand of each, the
//! project's own check two thousand; a story that fails says how it is played again alone.

mod pausing;
mod sealed;
mod small;
mod story;
mod unsound;

use std::{
    num::NonZero,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use super::{
    cache::Cache,
    commit::{Commit, Failure},
    disk::Disk,
    error::OpenError,
    log::{Log, Prepared, Work},
    opening,
    options::{Durability, Options},
    record::{self, Record},
    sealing::Sealer,
    segment::Segment,
    simulated::SimulatedDisk,
    stats::Opened,
    view::{Access, Key, View},
    writer::{Witness, Writer},
};

/// Seeds of each story in the default run; `UNDERPIN_SEEDS=100000` asks for more, `UNDERPIN_SEED=n` for one alone.
const SEEDS: u64 = 500;

fn seeds() -> Range<u64> {
    let number = |name| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    match number("UNDERPIN_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("UNDERPIN_SEEDS").unwrap_or(SEEDS),
    }
}

/// Plays a story of the test `name` with every seed.
fn for_each_seed(name: &str, story: impl Fn(u64) + Sync) {
    on_all_processors(seeds(), |seed| {
        let _told = Told { name, seed };
        story(seed);
    });
}

/// Does `work` for every number; what fails ends it.
fn on_all_processors(numbers: Range<u64>, work: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(numbers.start);
    let worker = || {
        let _end = EndsAll(&next, numbers.end);
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= numbers.end {
                return;
            }
            work(number);
        }
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(worker);
        }
        worker();
    });
}

struct EndsAll<'a>(&'a AtomicU64, u64);

impl Drop for EndsAll<'_> {
    fn drop(&mut self) {
        self.0.fetch_max(self.1, Ordering::Relaxed);
    }
}

/// Says of a story that fails how it is played again.
struct Told<'a> {
    name: &'a str,
    seed: u64,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let Self { name, seed } = self;
            eprintln!(
                "seed {seed} fails; again, alone: UNDERPIN_SEED={seed} cargo test --lib {name}"
            );
        }
    }
}

struct Silent;

impl Witness for Silent {
    fn stored(&self, _: Duration) {}
    fn failed(&self, _: &Failure) {}
}

fn options(durability: Durability) -> Options {
    Options {
        durability,
        segment_bytes: 4096,
        hot_bytes: 20_000,
        ..Options::default()
    }
}

/// An opened log without a thread: the test turns the writer itself.
struct Rig {
    disk: SimulatedDisk,
    options: Options,
    log: Arc<Log>,
    writer: Option<Writer>,
    sealer: Option<Sealer>,
    opened: Opened,
}

impl Rig {
    fn open(disk: &SimulatedDisk, options: &Options, previous: Option<&Log>) -> Self {
        Self::try_open(disk, options, previous).expect("disk is readable")
    }

    fn try_open(
        disk: &SimulatedDisk,
        options: &Options,
        previous: Option<&Log>,
    ) -> Result<Self, OpenError> {
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let cache = Arc::new(Cache::new(options.cache_bytes));
        let opening = opening::open(&shared, options, &cache, previous, 77, &|_| true)?;
        Ok(Self {
            disk: disk.clone(),
            options: options.clone(),
            log: opening.log,
            writer: Some(opening.writer),
            sealer: Some(opening.sealer),
            opened: opening.opened,
        })
    }

    /// Writes what waits. The writer of a failed log is gone, as its thread would be.
    fn turn(&mut self) {
        if let Work::Batch(batch) = self.log.take(Some(Duration::ZERO)) {
            self.work(Work::Batch(batch));
        }
    }

    fn idle(&mut self) {
        self.work(Work::Idle);
        self.turn();
    }

    fn work(&mut self, work: Work) {
        let Some(writer) = &mut self.writer else {
            return;
        };
        if let Err(failure) = writer.turn(work, &Silent) {
            self.log.fail(&failure);
            self.writer = None;
        }
    }

    fn stop(mut self) -> SimulatedDisk {
        self.log.close();
        self.turn();
        self.work(Work::Closed);
        self.disk.clone()
    }

    /// Opens the folder again; the power may go while it does.
    fn reopen(&mut self, keep: bool) -> Result<(), OpenError> {
        self.writer = None;
        self.sealer = None;
        let previous = keep.then(|| self.log.clone());
        *self = Self::try_open(&self.disk, &self.options, previous.as_deref())?;
        Ok(())
    }

    /// Seals what waits to be sealed, as far as the disk lets it.
    fn seal(&mut self) -> std::io::Result<()> {
        self.sealer.as_mut().map_or(Ok(()), Sealer::turn)
    }

    /// Whether the opening said that something is not as it was written.
    fn reported(&self) -> bool {
        let Opened {
            gaps,
            torn,
            quarantined,
            rebuilt,
            ..
        } = &self.opened;
        !gaps.is_empty() || torn.is_some() || *quarantined > 0 || *rebuilt > 0
    }

    /// Every event that shows, in the order in which they were stored.
    fn rows(&self) -> Vec<(Arc<Segment>, u32, u64)> {
        self.disk.looked_at(|| self.rows_now())
    }

    fn rows_now(&self) -> Vec<(Arc<Segment>, u32, u64)> {
        let mut seen = Vec::new();
        for segment in self.log.segments().iter() {
            let rows: Vec<u32> = (0..segment.published()).collect();
            let mut keys = Vec::new();
            let read = segment.keys(&rows, Access::Disk, &mut keys);
            read.expect("keys can be read");
            let rest = rows.into_iter().zip(keys).filter(|(_, key)| !key.hidden);
            seen.extend(rest.map(|(row, Key { id, .. })| (segment.clone(), row, id)));
        }
        seen
    }

    /// Id and data of every event that shows.
    fn read(&self) -> Vec<(u64, Vec<u8>)> {
        let read = |(segment, row, id): (Arc<Segment>, u32, u64)| {
            let mut data = Vec::new();
            let done = segment.read(row, Access::Disk, &mut |bytes| {
                let record = Record::read_checked(bytes).expect("what is read is whole");
                assert_eq!(record.id, id, "the row has its own record");
                data = record.data.to_vec();
            });
            done.expect("what shows can be read");
            (id, data)
        };
        let rows = self.rows();
        self.disk.looked_at(|| rows.into_iter().map(read).collect())
    }

    /// Id and data of every event that shows and can be read; how many cannot.
    fn read_what_can_be_read(&self) -> (Vec<(u64, Vec<u8>)>, usize) {
        self.disk.looked_at(|| {
            let (mut found, mut unreadable) = (Vec::new(), 0);
            for segment in self.log.segments().iter() {
                for row in 0..segment.published() {
                    let mut keys = Vec::new();
                    if segment.keys(&[row], Access::Disk, &mut keys).is_err() {
                        unreadable += 1;
                        continue;
                    }
                    let mut read = None;
                    let done = segment.read(row, Access::Disk, &mut |bytes| {
                        let record = Record::read_checked(bytes).expect("what is read is whole");
                        read = Some((record.id, record.data.to_vec()));
                    });
                    match read.filter(|_| done.is_ok()) {
                        _ if keys[0].hidden => {}
                        Some(event) => {
                            assert_eq!(event.0, keys[0].id, "the row has its own record");
                            found.push(event);
                        }
                        None => unreadable += 1,
                    }
                }
            }
            (found, unreadable)
        })
    }
}

fn prepare(events: &[(u64, i64, Vec<u8>)], checkpoint: Option<(&str, u8)>) -> Prepared {
    let mut prepared = Prepared {
        lowest: u64::MAX,
        ..Prepared::default()
    };
    if let Some((key, value)) = checkpoint {
        let (key, value): (Arc<str>, Arc<[u8]>) = (key.into(), [value].into());
        super::notes::write_checkpoints(&mut prepared.body, [(&key, &value)].into_iter());
        prepared.front = prepared.body.len();
        prepared.checkpoint = Some((key, value));
    }
    for (id, time, data) in events {
        let head = record::Head {
            id: *id,
            time: *time,
            parent: None,
            kind: "kind",
            source: "source",
            correlation: Some("correlation"),
        };
        record::write(&mut prepared.body, &head, |out| {
            out.extend_from_slice(data);
            Ok::<_, ()>(())
        })
        .expect("data is written");
        prepared.count(*id);
    }
    prepared
}

#[derive(Clone)]
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % n
    }
}

fn settled(commit: &Commit) -> Result<(), Failure> {
    commit.outcome().expect("the writer answered")
}
