//! What comes while a segment is being sealed, or its index made anew: the log ends, or the segment is pruned.

use std::{io, sync::Arc};

use parking_lot::Mutex;

use super::{
    super::{
        cache::Cache,
        disk::{Disk, DiskFile, DiskLock},
        log::{Log, Work},
        opening,
        options::{Durability, Options},
        sealing::Sealer,
        simulated::SimulatedDisk,
        view::{Access, View as _},
        writer::Writer,
    },
    Rig, Silent, options, prepare,
};

/// A call of the disk.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Call {
    /// Of a file whose name ends so.
    Create(&'static str),
    Open(&'static str),
    SyncFolder,
}

type Interruption = Box<dyn FnOnce() + Send>;

/// A disk on which something else comes before a call, once.
struct Interrupted {
    disk: SimulatedDisk,
    at: Mutex<Option<(Call, Interruption)>>,
}

impl std::fmt::Debug for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.disk.fmt(f)
    }
}

impl Interrupted {
    fn is_called(&self, is: impl Fn(Call) -> bool) {
        let here = self.at.lock().take_if(|(call, _)| is(*call));
        if let Some((_, work)) = here {
            work();
        }
    }

    fn next(&self, call: Call, work: impl FnOnce() + Send + 'static) {
        *self.at.lock() = Some((call, Box::new(work)));
    }
}

impl Disk for Interrupted {
    fn lock(&self) -> io::Result<Box<dyn DiskLock>> {
        self.disk.lock()
    }
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        self.disk.list()
    }
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.is_called(|call| matches!(call, Call::Open(ending) if name.ends_with(ending)));
        self.disk.open(name)
    }
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.is_called(|call| matches!(call, Call::Create(ending) if name.ends_with(ending)));
        self.disk.create(name)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }
    fn sync_folder(&self) -> io::Result<()> {
        self.is_called(|call| call == Call::SyncFolder);
        self.disk.sync_folder()
    }
}

/// A log of some segments, and who works on it.
struct Workshop {
    disk: Arc<Interrupted>,
    log: Arc<Log>,
    writer: Arc<Mutex<Writer>>,
    sealer: Sealer,
}

const EVENTS: u64 = 20;

fn cold() -> Options {
    Options {
        hot_bytes: 0,
        cache_bytes: 0,
        ..options(Durability::Always)
    }
}

impl Workshop {
    fn new() -> Self {
        let disk = Arc::new(Interrupted {
            disk: SimulatedDisk::new(1),
            at: Mutex::new(None),
        });
        let shared: Arc<dyn Disk> = disk.clone();
        let cache = Arc::new(Cache::new(0));
        let opening = opening::open(&shared, &cold(), &cache, None, 77, &|_| true);
        let opening = opening.expect("an empty folder");
        let workshop = Self {
            disk,
            log: opening.log,
            writer: Arc::new(Mutex::new(opening.writer)),
            sealer: opening.sealer,
        };
        for id in 1..=EVENTS {
            let event = (id, 0, vec![u8::try_from(id).expect("small"); 400]);
            workshop.log.append(&prepare(&[event], None));
            turn(&workshop.log, &workshop.writer);
        }
        assert!(workshop.log.segments().len() >= 3, "one to seal, and more");
        workshop
    }

    /// Prunes all but the newest event before the next such call; where `written`, that is durable by then.
    fn prune_at(&self, call: Call, written: bool) {
        let (log, writer) = (self.log.clone(), self.writer.clone());
        self.disk.next(call, move || {
            let (pruned, _) = log.prune_to(1);
            assert_eq!(pruned, EVENTS - 1);
            if written {
                turn(&log, &writer);
            }
        });
    }

    fn files(&self, ending: &str) -> Vec<String> {
        let mut names = self.disk.disk.names();
        names.retain(|name| name.ends_with(ending));
        names
    }

    /// What a later opening of the folder finds.
    fn reopened(self) -> Rig {
        let disk = self.disk.disk.clone();
        self.log.close();
        drop(self);
        Rig::open(&disk, &cold(), None)
    }
}

fn turn(log: &Log, writer: &Mutex<Writer>) {
    while let Work::Batch(batch) = log.take(Some(std::time::Duration::ZERO)) {
        let done = writer.lock().turn(Work::Batch(batch), &Silent);
        done.expect("a healthy disk");
    }
}

#[test]
fn sealing_ends_with_the_log_and_leaves_nothing_half_done() {
    let mut workshop = Workshop::new();
    let log = workshop.log.clone();
    workshop
        .disk
        .next(Call::Create(".blocks"), move || log.close());

    let sealed = workshop.sealer.turn();

    sealed.expect("that a log ends is no failure");
    assert!(!workshop.log.segments()[0].is_sealed());
    assert_eq!(workshop.files(".blocks"), [] as [&str; 0]);
    let rig = workshop.reopened();
    assert_eq!((rig.read().len() as u64, rig.reported()), (EVENTS, false));
}

#[test]
fn a_segment_that_is_pruned_while_it_is_sealed_goes_once_that_is_durable_and_not_before() {
    for call in [
        Call::Create(".blocks"),
        Call::Create(".index"),
        Call::SyncFolder,
        Call::Open(".index"),
    ] {
        let mut workshop = Workshop::new();
        let segments = workshop.files(".seg");
        workshop.prune_at(call, false);

        workshop.sealer.turn().expect("a healthy disk");

        assert_eq!(workshop.files(".blocks"), [] as [&str; 0], "{call:?}");
        assert_eq!(workshop.files(".index"), [] as [&str; 0], "{call:?}");
        assert_eq!(workshop.files(".seg"), segments, "{call:?}");
        turn(&workshop.log, &workshop.writer);
        assert_eq!(workshop.files(".seg").len(), 1, "{call:?}");
        let rig = workshop.reopened();
        assert_eq!((rig.read().len(), rig.reported()), (1, false), "{call:?}");
    }
}

#[test]
fn the_index_of_a_segment_that_is_pruned_while_it_is_made_anew_does_not_stay() {
    let mut workshop = Workshop::new();
    workshop.sealer.turn().expect("a healthy disk");
    for name in workshop.files(".index") {
        damage_the_pages(&workshop.disk.disk, &name);
    }
    let first = workshop.log.segments()[0].clone();
    let read = first.keys(&[0], Access::Disk, &mut Vec::new());
    read.expect_err("it is damaged");
    workshop.prune_at(Call::Create(".index"), true);

    workshop.sealer.turn().expect("a healthy disk");

    assert_eq!(workshop.files(".blocks"), [] as [&str; 0]);
    assert_eq!(workshop.files(".index"), [] as [&str; 0]);
    let rig = workshop.reopened();
    assert_eq!((rig.read().len(), rig.reported()), (1, false));
}

/// Zeros behind the directory of an index.
fn damage_the_pages(disk: &SimulatedDisk, name: &str) {
    let bytes = disk.bytes(name).expect("it is there");
    let body = u32::from_le_bytes(bytes[40..44].try_into().expect("four bytes"));
    let directory = 52 + body as usize;
    let file = disk.open(name).expect("it is there");
    file.write_at(&vec![0; bytes.len() - directory], directory as u64)
        .expect("room");
}
