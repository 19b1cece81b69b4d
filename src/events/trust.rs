//! The log over a disk that fails, beside a plain model.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    cache::Cache,
    commit::{Commit, Failure},
    disk::Disk,
    error::OpenError,
    handle::look_up,
    log::{Appended, Log, Prepared, Work},
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

/// Seeds of the default run; `UNDERPIN_SEEDS=100000` asks for more, `UNDERPIN_SEED=n` for one alone.
const SEEDS: u64 = 400;

fn seeds() -> std::ops::Range<u64> {
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

/// What the test knows of the store.
#[derive(Default)]
struct Model {
    /// Everything that was ever handed in: time and data.
    given: BTreeMap<u64, (i64, Vec<u8>)>,
    /// Must show.
    stored: BTreeSet<u64>,
    /// Handed in one frame each, outcome unknown.
    unknown: Vec<(Vec<u64>, Option<u8>)>,
    /// May be hidden: a prune of which the outcome is unknown.
    maybe_pruned: BTreeSet<u64>,
    checkpoint: Option<u8>,
    next_id: u64,
}

struct Story {
    seed: u64,
    random: Random,
    rig: Rig,
    model: Model,
}

impl Story {
    fn new(seed: u64, durability: Durability) -> Self {
        let disk = SimulatedDisk::new(seed);
        Self {
            seed,
            random: Random(seed),
            rig: Rig::open(&disk, &options(durability), None),
            model: Model::default(),
        }
    }

    fn play(&mut self) {
        for _ in 0..30 {
            self.step();
            if self.rig.writer.is_none() {
                self.crash();
            }
        }
        self.crash();
    }

    fn step(&mut self) {
        match self.random.below(23) {
            20..=22 => self.seal(),
            0..=10 => self.store(),
            11 => self.store_twice(),
            12 => self.rig.idle(),
            13 => self.prune_before(),
            14 => self.prune_to(),
            15 => self.rig.disk.fail_syncs(1),
            16 => {
                let room = usize::try_from(self.random.below(3000)).expect("small");
                self.rig.disk.leave_room(Some(room));
            }
            17 => {
                let calls = self.random.below(12);
                self.rig.disk.cut_power_after(calls);
            }
            18 => self.crash(),
            _ => self.heal(),
        }
    }

    fn store(&mut self) {
        let frames = 1 + self.random.below(3);
        let mut waiting = Vec::new();
        for _ in 0..frames {
            let events = self.make_events();
            let checkpoint = (self.random.below(4) == 0)
                .then(|| u8::try_from(1 + self.random.below(250)).expect("small"));
            let prepared = prepare(&events, checkpoint.map(|value| ("file", value)));
            let ids: Vec<_> = events.iter().map(|(id, ..)| *id).collect();
            match self.rig.log.append(&prepared) {
                Appended::Waiting(commit) => waiting.push((commit, ids, checkpoint)),
                Appended::Refused(_) => {}
                other => panic!(
                    "seed {}: new events were answered with {other:?}",
                    self.seed
                ),
            }
        }
        self.rig.turn();
        for (commit, ids, checkpoint) in waiting {
            match settled(&commit) {
                Ok(()) => {
                    self.model.stored.extend(ids);
                    self.model.checkpoint = checkpoint.or(self.model.checkpoint);
                }
                Err(_) => self.model.unknown.push((ids, checkpoint)),
            }
        }
    }

    fn make_events(&mut self) -> Vec<(u64, i64, Vec<u8>)> {
        let count = 1 + self.random.below(4);
        (0..count)
            .map(|_| {
                self.model.next_id += 1 + self.random.below(2);
                let id = self.model.next_id;
                let time = i64::try_from(self.random.below(1000)).expect("small");
                let len = usize::try_from(self.random.below(700)).expect("small");
                let data = vec![u8::try_from(id % 251).expect("small"); len];
                self.model.given.insert(id, (time, data.clone()));
                (id, time, data)
            })
            .collect()
    }

    /// An id that is there is known; never a second event.
    fn store_twice(&mut self) {
        let Some(id) = self.model.stored.first().copied() else {
            return;
        };
        let (time, data) = self.model.given[&id].clone();
        let mut prepared = prepare(&[(id, time, data)], None);
        let mut answer = self.rig.log.append(&prepared);
        if let Appended::Unsure(unsure) = &answer {
            let Ok(looked_up) = look_up(unsure) else {
                assert!(self.rig.disk.has_no_power(), "seed {}: {id}", self.seed);
                return;
            };
            prepared.looked_up = looked_up;
            answer = self.rig.log.append(&prepared);
        }
        match answer {
            Appended::Known(known, _) => assert_eq!(known.len(), 1, "seed {}", self.seed),
            Appended::Refused(_) => {}
            other => panic!(
                "seed {}: a known event was answered with {other:?}",
                self.seed
            ),
        }
    }

    fn prune_before(&mut self) {
        let time = i64::try_from(self.random.below(400)).expect("small");
        let hidden: Vec<_> = self
            .model
            .stored
            .iter()
            .copied()
            .filter(|id| self.model.given[id].0 < time)
            .collect();
        if let Some((_, commit)) = self.rig.log.prune_before(time) {
            self.pruned(&hidden, &commit);
        }
    }

    fn prune_to(&mut self) {
        let count = self.random.below(40);
        let shown: Vec<_> = self.rig.rows().into_iter().map(|(.., id)| id).collect();
        let keep = usize::try_from(count).expect("small").min(shown.len());
        let hidden = shown[..shown.len() - keep].to_vec();
        let (_, commit) = self.rig.log.prune_to(count);
        self.pruned(&hidden, &commit);
    }

    fn pruned(&mut self, hidden: &[u64], commit: &Commit) {
        self.rig.turn();
        for id in hidden {
            let certain =
                settled(commit).is_ok() && self.rig.options.durability == Durability::Always;
            if self.model.stored.remove(id) && !certain {
                self.model.maybe_pruned.insert(*id);
            }
        }
    }

    /// Beside the writer, on whatever disk there is: nothing that shows may change.
    fn seal(&mut self) {
        let before = (!self.rig.disk.will_fail()).then(|| self.rig.read());
        let sealed = self.rig.seal();
        if let Some(before) = before.filter(|_| !self.rig.disk.will_fail()) {
            assert!(sealed.is_ok(), "seed {}: {sealed:?}", self.seed);
            assert!(
                self.rig.read() == before,
                "seed {}: sealing changed what shows",
                self.seed
            );
        }
    }

    fn heal(&mut self) {
        self.rig.disk.leave_room(None);
        self.rig.disk.fail_syncs(0);
    }

    /// The process dies, sometimes the power too, and the folder is opened again.
    fn crash(&mut self) {
        let mut power = self.random.below(2) == 0 || self.rig.disk.has_no_power();
        if power {
            self.rig.disk.restore_power();
        }
        self.heal();
        let keep = !power && self.random.below(2) == 0;
        if self.random.below(3) == 0 {
            let calls = self.random.below(12);
            self.rig.disk.cut_power_after(calls);
        }
        while self.rig.reopen(keep).is_err() || self.rig.disk.has_no_power() {
            power = true;
            self.rig.disk.restore_power();
        }
        self.rig.disk.keep_power();
        self.look(power);
    }

    fn look(&mut self, power: bool) {
        let seed = self.seed;
        assert_eq!(
            self.rig.opened.gaps,
            [],
            "seed {seed}: nothing that was stored is missing"
        );
        assert_eq!(
            self.rig.opened.quarantined, 0,
            "seed {seed}: the disk damaged nothing"
        );
        let found = self.rig.read();
        let mut shown = BTreeSet::new();
        for (id, data) in found {
            assert!(shown.insert(id), "seed {seed}: {id} is there twice");
            assert_eq!(
                data, self.model.given[&id].1,
                "seed {seed}: {id} has its own data"
            );
        }
        if self.rig.options.durability == Durability::Always || !power {
            let lost: Vec<_> = self.model.stored.difference(&shown).collect();
            assert!(lost.is_empty(), "seed {seed}: {lost:?} had been stored");
        }
        let mut allowed = self.model.stored.clone();
        allowed.extend(&self.model.maybe_pruned);
        for (ids, checkpoint) in std::mem::take(&mut self.model.unknown) {
            let there = ids.iter().filter(|id| shown.contains(id)).count();
            assert!(
                there == 0 || there == ids.len(),
                "seed {seed}: {ids:?} is there in part"
            );
            allowed.extend(&ids);
            if there > 0 {
                self.model.checkpoint = checkpoint.or(self.model.checkpoint);
            }
        }
        let strange: Vec<_> = shown.difference(&allowed).collect();
        assert!(
            strange.is_empty(),
            "seed {seed}: {strange:?} should not be there"
        );
        if self.rig.options.durability == Durability::Always {
            let checkpoint = self.rig.log.checkpoint("file").map(|value| value[0]);
            assert_eq!(
                checkpoint, self.model.checkpoint,
                "seed {seed}: the checkpoint moves with its events"
            );
        } else {
            self.model.checkpoint = self.rig.log.checkpoint("file").map(|value| value[0]);
        }
        self.model.maybe_pruned.clear();
        self.model.stored = shown;
    }
}

fn settled(commit: &Commit) -> Result<(), Failure> {
    commit.outcome().expect("the writer answered")
}

#[test]
fn what_was_acknowledged_is_there_after_every_crash() {
    for seed in seeds() {
        Story::new(seed, Durability::Always).play();
    }
}

#[test]
fn what_was_written_is_there_after_a_kill_and_nothing_false_after_a_power_cut() {
    for seed in seeds() {
        Story::new(seed, Durability::Interval(Duration::from_millis(1))).play();
    }
}

#[test]
fn a_bit_that_flips_at_rest_never_makes_a_false_event_and_never_goes_unnoticed() {
    for seed in seeds() {
        let mut story = Story::new(seed, Durability::Always);
        for _ in 0..12 {
            story.store();
        }
        let Story { rig, model, .. } = story;
        let options = rig.options.clone();
        let disk = rig.stop();
        let flipped = disk.flip_a_bit(".seg").expect("something was stored");

        let rig = Rig::open(&disk, &options, None);

        let opened = &rig.opened;
        let reported = !opened.gaps.is_empty() || opened.torn.is_some() || opened.quarantined > 0;
        assert!(reported, "seed {seed}: {flipped:?} was not noticed");
        let found = rig.read();
        for (id, data) in &found {
            assert_eq!(
                data, &model.given[id].1,
                "seed {seed}: {id} has its own data"
            );
        }
        // A frame holds at most four of the test's events.
        assert!(
            found.len() + 4 >= model.stored.len(),
            "seed {seed}: one bit cost more than its frame"
        );
    }
}

/// A small store with every kind of frame, cleanly stopped: its disk, and what it holds.
fn small_store() -> (SimulatedDisk, Vec<(u64, Vec<u8>)>) {
    let disk = SimulatedDisk::new(5);
    let mut rig = Rig::open(&disk, &options(Durability::Always), None);
    for id in 1..=6 {
        let data = vec![u8::try_from(id).expect("small"); 20];
        let checkpoint = (id % 2 == 0).then_some(("file", 7));
        let prepared = prepare(
            &[(id * 10, 0, data.clone()), (id * 10 + 1, 0, data)],
            checkpoint,
        );
        assert!(matches!(rig.log.append(&prepared), Appended::Waiting(_)));
        rig.turn();
    }
    let (pruned, _) = rig.log.prune_to(10);
    assert_eq!(pruned, 2);
    rig.turn();
    let events = rig.read();
    assert_eq!(events.len(), 10);
    (rig.stop(), events)
}

fn segment_of(disk: &SimulatedDisk) -> (String, Vec<u8>) {
    let name = disk.names().pop().expect("one segment");
    let bytes = disk.bytes(&name).expect("segment is there");
    (name, bytes)
}

/// Opens a folder that holds this one segment; answers what it finds, and whether anything was reported.
fn open_with(name: &str, bytes: &[u8]) -> (Vec<(u64, Vec<u8>)>, bool) {
    let disk = SimulatedDisk::new(0);
    disk.put(name, bytes);
    let rig = Rig::open(&disk, &options(Durability::Always), None);
    let opened = &rig.opened;
    let reported = !opened.gaps.is_empty() || opened.torn.is_some() || opened.quarantined > 0;
    (rig.read(), reported)
}

#[test]
fn a_store_with_any_bit_flipped_is_right_or_says_what_is_missing() {
    let (disk, events) = small_store();
    let (name, bytes) = segment_of(&disk);
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);

        let (found, reported) = open_with(&name, &damaged);

        assert!(reported, "bit {bit} was not noticed");
        // A damaged low water may show what was pruned; nothing else may appear.
        let pruned = |id: u64| id == 10 || id == 11;
        let false_ones = found
            .iter()
            .filter(|event| !events.contains(event) && !pruned(event.0));
        assert_eq!(
            false_ones.count(),
            0,
            "bit {bit} brought forth a false event"
        );
        assert!(
            found.len() >= events.len() - 2,
            "bit {bit} took more than its frame: {}",
            found.len()
        );
    }
}

#[test]
fn a_store_cut_at_any_byte_keeps_every_frame_before_the_cut() {
    let (disk, _) = small_store();
    let (name, bytes) = segment_of(&disk);
    let mut whole_before = 0;
    for cut in 0..bytes.len() {
        let (found, reported) = open_with(&name, &bytes[..cut]);

        assert!(
            found.len() >= whole_before || found.len() == 10,
            "cut at {cut} took an earlier frame"
        );
        let at_an_end = !reported;
        if at_an_end {
            whole_before = whole_before.max(found.len().min(10));
        }
    }
}

#[test]
fn damage_in_a_sealed_segment_costs_one_frame_and_is_reported_at_every_opening() {
    let disk = SimulatedDisk::new(9);
    let mut rig = Rig::open(&disk, &options(Durability::Always), None);
    for id in 1..=40 {
        let prepared = prepare(&[(id, 0, vec![7; 300])], None);
        assert!(matches!(rig.log.append(&prepared), Appended::Waiting(_)));
        rig.turn();
    }
    let disk = rig.stop();
    let first = disk.names().remove(0);
    let mut bytes = disk.bytes(&first).expect("segment is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    disk.put(&first, &bytes);

    for _ in 0..2 {
        let rig = Rig::open(&disk, &options(Durability::Always), None);

        assert_eq!(rig.read().len(), 39);
        assert_eq!(rig.opened.gaps.len(), 1);
        assert_eq!(rig.opened.torn, None);
        let side_files = disk
            .names()
            .iter()
            .filter(|name| name.ends_with(".damaged"))
            .count();
        assert_eq!(side_files, 1);
        rig.stop();
    }
}

#[test]
fn a_missing_segment_is_a_gap_and_a_pruned_one_is_not() {
    let disk = SimulatedDisk::new(9);
    let mut rig = Rig::open(&disk, &options(Durability::Always), None);
    for id in 1..=80 {
        let prepared = prepare(&[(id, 0, vec![7; 300])], None);
        assert!(matches!(rig.log.append(&prepared), Appended::Waiting(_)));
        rig.turn();
    }
    let files = disk.names().len();
    rig.log.prune_to(30);
    rig.turn();
    assert!(
        disk.names().len() < files,
        "pruned segments give their space back"
    );
    let disk = rig.stop();

    let rig = Rig::open(&disk, &options(Durability::Always), None);
    assert_eq!((rig.read().len(), rig.opened.gaps.len()), (30, 0));
    rig.stop();

    let names = disk.names();
    disk.remove(&names[1]).expect("file is there");
    let rig = Rig::open(&disk, &options(Durability::Always), None);
    assert_eq!(rig.opened.gaps.len(), 1);
}
