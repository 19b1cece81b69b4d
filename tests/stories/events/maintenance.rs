//! Folders that are looked at, mended, copied and written out.

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tempfile::TempDir;
use underpin::events::{
    self, Disk, DiskFile, DiskLock, Event, EventBuilder, EventsHealth, Fault, Folder, OpenError,
    Options, Query, Timestamp, Verified,
};

use super::support::{Store, id, ids_of, is_healthy, until};

/// More than a few segments of this size are sealed.
const EVENTS: u64 = 300;

fn options() -> Options {
    Options {
        segment_bytes: 10_000,
        ..Options::default()
    }
}

/// Not two are alike, so that they do not compress to nothing.
fn event(number: u64) -> Event {
    let words: String = (0..20)
        .map(|n| format!("{:x} ", (number * 7919 + n).pow(3)))
        .collect();
    let nanos = i64::try_from(number).expect("small");
    EventBuilder::new(id(number), "order.paid")
        .time(Timestamp::from_nanos(nanos))
        .source("till/1")
        .data(words)
        .build()
        .expect("valid")
}

/// A store of [`EVENTS`] events of which all segments but the newest are sealed.
async fn sealed_store() -> Store {
    let store = Store::with(options()).await;
    for number in 1..=EVENTS {
        store.events.store(event(number)).await.expect("stored");
    }
    until("sealing", || {
        let stats = store.events.stats();
        stats.segments > 3 && stats.sealed + 1 == stats.segments
    })
    .await;
    store
}

/// The same, stopped.
async fn sealed_folder() -> Arc<TempDir> {
    let store = sealed_store().await;
    store.supervisor.stop().await;
    store.folder
}

fn verify(folder: &Path) -> (Verified, Vec<Fault>) {
    let mut faults = Vec::new();
    let disk = Folder::new(folder);
    let verified = events::verify(&disk, &|_| (), &mut |fault| faults.push(fault));
    let verified = verified.expect("it can be looked at");
    assert_eq!(verified.faults, faults.len() as u64);
    (verified, faults)
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(folder).expect("readable").flatten();
    let mut files: Vec<_> = all
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .collect();
    files.sort();
    files
}

fn flip(file: &Path, at: usize) -> u8 {
    let mut bytes = fs::read(file).expect("readable");
    let before = bytes[at];
    bytes[at] ^= 4;
    fs::write(file, bytes).expect("writable");
    before
}

async fn numbers_in(folder: &Arc<TempDir>) -> (Store, Vec<u64>) {
    let store = Store::open(Arc::clone(folder), options()).await;
    let page = store.events.query(Query::new().limit(10_000)).await;
    let numbers = ids_of(&page.expect("answered"));
    (store, numbers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_folder_is_whole_also_while_its_store_runs() {
    let store = sealed_store().await;

    let told = AtomicU64::new(0);
    let disk = Folder::new(store.folder.path());
    let progress = |progress: events::Progress| {
        told.fetch_max(progress.bytes_read, Ordering::Relaxed);
    };
    let live = events::verify(&disk, &progress, &mut |fault| panic!("{fault:?}"));
    let live = live.expect("it can be looked at");

    assert!(live.is_whole() && live.live, "{live:?}");
    assert_eq!((live.events, live.torn), (EVENTS, None));
    assert_eq!(live.sealed + 1, live.segments);
    assert!(told.load(Ordering::Relaxed) > 10_000);

    store.supervisor.stop().await;
    let (stopped, _) = verify(store.folder.path());
    assert!(stopped.is_whole() && !stopped.live);
    assert_eq!(stopped.events, EVENTS);
}

/// A folder that may only be read.
#[derive(Debug)]
struct ReadOnly(Folder);

impl Disk for ReadOnly {
    fn lock(&self) -> io::Result<Box<dyn DiskLock>> {
        Err(ErrorKind::PermissionDenied.into())
    }
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        self.0.list()
    }
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.0.open(name)
    }
    fn create(&self, _: &str) -> io::Result<Arc<dyn DiskFile>> {
        Err(ErrorKind::PermissionDenied.into())
    }
    fn remove(&self, _: &str) -> io::Result<()> {
        Err(ErrorKind::PermissionDenied.into())
    }
    fn sync_folder(&self) -> io::Result<()> {
        Err(ErrorKind::PermissionDenied.into())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_right_to_read_is_enough_to_verify_and_to_export() {
    let folder = sealed_folder().await;
    for file in fs::read_dir(folder.path()).expect("readable").flatten() {
        let mut rights = file.metadata().expect("readable").permissions();
        rights.set_readonly(true);
        fs::set_permissions(file.path(), rights).expect("they are ours");
    }
    let disk = ReadOnly(Folder::new(folder.path()));

    let verified = events::verify(&disk, &|_| (), &mut |fault| panic!("{fault:?}"));
    let exported = events::export(&disk, &|_| (), &mut |_| Ok(()));

    let verified = verified.expect("it can be looked at");
    assert_eq!((verified.events, verified.is_whole()), (EVENTS, true));
    assert!(verified.live, "nobody can tell");
    assert_eq!(exported.expect("readable").events, EVENTS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_damaged_place_is_told_with_file_and_offset_and_repair_keeps_what_it_takes_out() {
    let folder = sealed_folder().await;
    let path = folder.path();
    let blocks = files(path, "blocks").remove(1);
    let index = files(path, "index").remove(2);
    let middle = fs::read(&blocks).expect("readable").len() / 2;
    let before = flip(&blocks, middle);
    flip(&index, 60);

    let (verified, faults) = verify(path);

    let at = |file: &Path, byte: u64| {
        let name = file.file_name().expect("a name").to_string_lossy();
        let holds = |fault: &&Fault| {
            fault.file == name && (fault.offset..fault.offset + fault.bytes).contains(&byte)
        };
        faults.iter().find(holds).cloned()
    };
    let lost = at(&blocks, middle as u64).expect("the block is told");
    assert!(at(&index, 60).is_some(), "{faults:?}");
    assert!(!verified.is_whole());
    assert_eq!(verified.gaps.len(), 1, "what stood in the block");

    let disk: Arc<dyn Disk> = Arc::new(Folder::new(path));
    let repaired = events::repair(&disk, &|_| (), &mut |_| ()).expect("mended");

    assert_eq!(repaired.before, verified);
    assert_eq!(
        (repaired.after.faults, &repaired.after.gaps),
        (0, &verified.gaps)
    );
    assert_eq!(repaired.after.events, verified.events);
    let side = path.join(format!("{}.{}.damaged", lost.file, lost.offset));
    let kept = fs::read(side).expect("what was damaged is kept");
    let flipped = middle - usize::try_from(lost.offset).expect("small");
    assert_eq!((kept.len() as u64, kept[flipped]), (lost.bytes, before ^ 4));

    let (store, numbers) = numbers_in(&folder).await;
    assert_eq!(numbers.len() as u64, verified.events);
    assert!(numbers.iter().all(|number| (1..=EVENTS).contains(number)));
    assert_eq!(store.events.stats().opened.gaps, verified.gaps);
    assert!(matches!(
        store.events.health(),
        EventsHealth::Degraded { .. }
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_index_is_a_fault_and_repair_costs_nothing() {
    let folder = sealed_folder().await;
    let index = files(folder.path(), "index").remove(0);
    let bytes = fs::read(&index).expect("readable");
    fs::remove_file(&index).expect("removed");

    let (verified, faults) = verify(folder.path());
    assert_eq!((faults.len(), verified.gaps.len()), (1, 0), "{faults:?}");

    let disk: Arc<dyn Disk> = Arc::new(Folder::new(folder.path()));
    let repaired = events::repair(&disk, &|_| (), &mut |_| ()).expect("mended");
    assert!(repaired.after.is_whole());
    assert_eq!(fs::read(&index).expect("it is back"), bytes);
    let (store, numbers) = numbers_in(&folder).await;
    assert_eq!(numbers.len() as u64, EVENTS);
    assert!(is_healthy(&store.events));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_before_sealing_is_mended_by_sealing_without_it() {
    let folder = sealed_folder().await;
    let active = files(folder.path(), "seg").remove(0);
    // Behind the head: the first frame with an event, which later ones say was synced.
    let at = 300;
    flip(&active, at);

    let (verified, faults) = verify(folder.path());
    assert_eq!((faults.len(), verified.gaps.len()), (1, 1), "{faults:?}");
    let disk: Arc<dyn Disk> = Arc::new(Folder::new(folder.path()));
    let repaired = events::repair(&disk, &|_| (), &mut |_| ()).expect("mended");

    assert_eq!(repaired.after.faults, 0);
    assert_eq!(repaired.after.gaps, verified.gaps);
    assert_eq!(repaired.quarantined.len(), 1, "{repaired:?}");
    let (_store, numbers) = numbers_in(&folder).await;
    assert_eq!(numbers.len() as u64, verified.events);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_write_is_no_fault_and_repair_keeps_its_bytes() {
    let folder = sealed_folder().await;
    let active = files(folder.path(), "seg").remove(0);
    let mut bytes = fs::read(&active).expect("readable");
    bytes.extend(b"UPLG and then the power went");
    fs::write(&active, &bytes).expect("writable");

    let (verified, faults) = verify(folder.path());
    assert!(verified.is_whole(), "{faults:?}");
    let torn = verified.torn.expect("it is told");
    assert_eq!(torn.bytes, 28);
    let disk: Arc<dyn Disk> = Arc::new(Folder::new(folder.path()));
    let repaired = events::repair(&disk, &|_| (), &mut |_| ()).expect("mended");

    assert_eq!((repaired.after.torn, repaired.quarantined.len()), (None, 1));
    let side = files(folder.path(), "damaged").remove(0);
    assert_eq!(
        fs::read(side).expect("kept"),
        b"UPLG and then the power went"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_repaired_under_a_running_store() {
    let store = sealed_store().await;
    let disk: Arc<dyn Disk> = Arc::new(Folder::new(store.folder.path()));

    let refused = events::repair(&disk, &|_| (), &mut |_| ());

    assert!(matches!(refused, Err(OpenError::InUse)), "{refused:?}");
    assert!(is_healthy(&store.events));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_is_what_a_query_finds_in_the_order_in_which_it_was_stored() {
    let store = sealed_store().await;
    store
        .events
        .prune_before(Timestamp::from_nanos(31))
        .await
        .expect("pruned");
    store.events.store(event(EVENTS + 2)).await.expect("stored");
    store.events.store(event(EVENTS + 1)).await.expect("stored");
    let disk = Folder::new(store.folder.path());

    let mut exported = Vec::new();
    let told = events::export(&disk, &|_| (), &mut |event| {
        exported.push(event.clone());
        Ok(())
    });

    let told = told.expect("written");
    let expected: Vec<_> = (31..=EVENTS)
        .chain([EVENTS + 2, EVENTS + 1])
        .map(event)
        .collect();
    assert_eq!(exported, expected);
    assert_eq!((told.events, told.unreadable), (expected.len() as u64, 0));
    assert!(told.gaps.is_empty());

    let full = events::export(&disk, &|_| (), &mut |_| Err(ErrorKind::StorageFull.into()));
    assert!(matches!(full, Err(OpenError::Stopped(_))), "{full:?}");
}

/// What went while the export was at its first events was called a gap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_pruned_while_it_is_exported_is_no_gap() {
    let store = sealed_store().await;
    let disk = Folder::new(store.folder.path());
    let blocks = || files(store.folder.path(), "blocks").len();
    let before = blocks();
    let prune = async || {
        let middle = Timestamp::from_nanos(150);
        store.events.prune_before(middle).await.expect("pruned");
        until("the files to go", || blocks() < before).await;
    };

    let mut pruned = false;
    let told = events::export(&disk, &|_| (), &mut |_| {
        if !std::mem::replace(&mut pruned, true) {
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(prune()));
        }
        Ok(())
    });

    let told = told.expect("written");
    assert!(told.events > 150, "{told:?}");
    assert!(told.events < EVENTS, "{told:?}");
    assert_eq!(told.gaps, []);
}

/// A folder of which the first list is not what there is from then on, as where files come and go behind the back of whoever lists them.
#[derive(Debug)]
struct Changing(ReadOnly, AtomicU64, fn(&mut Vec<(String, u64)>));

impl Disk for Changing {
    fn lock(&self) -> io::Result<Box<dyn DiskLock>> {
        self.0.lock()
    }
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut files = self.0.list()?;
        if self.1.fetch_add(1, Ordering::Relaxed) == 0 {
            (self.2)(&mut files);
        }
        Ok(files)
    }
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.0.open(name)
    }
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.0.create(name)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }
    fn sync_folder(&self) -> io::Result<()> {
        self.0.sync_folder()
    }
}

/// An index that was still listed when its blocks were not was called one without a segment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_pruned_or_sealed_while_the_folder_is_listed_is_no_fault() {
    let folder = sealed_folder().await;
    let pruned: fn(&mut Vec<(String, u64)>) =
        |files| files.push((format!("{:016x}-{:016x}.index", 1, 7), 100));
    // The blocks came when the list was behind their name, the first file went when it was before its own.
    let sealed: fn(&mut Vec<(String, u64)>) = |files| {
        let blocks = files.iter().position(|(name, _)| name.ends_with("blocks"));
        files.remove(blocks.expect("some are sealed"));
    };
    for meanwhile in [pruned, sealed] {
        let folder = ReadOnly(Folder::new(folder.path()));
        let disk = Changing(folder, AtomicU64::new(0), meanwhile);

        let verified = events::verify(&disk, &|_| (), &mut |fault| panic!("{fault:?}"));

        assert!(verified.expect("readable").is_whole());
    }
}

/// Its index was called missing, also where a crash had left the blocks alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pruned_segment_that_has_lost_its_index_first_is_no_fault() {
    let store = sealed_store().await;
    let first = files(store.folder.path(), "blocks").remove(0);
    let blocks = fs::read(&first).expect("readable");
    let middle = Timestamp::from_nanos(150);
    store.events.prune_before(middle).await.expect("pruned");
    until("the files to go", || !first.exists()).await;
    fs::write(&first, blocks).expect("writable");

    let running = verify(store.folder.path());
    store.supervisor.stop().await;
    let stopped = verify(store.folder.path());

    for (verified, faults) in [running, stopped] {
        assert!(verified.is_whole(), "{faults:?} {verified:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_fails_leaves_nothing_behind_and_can_be_taken_again() {
    let folder = sealed_folder().await;
    let newest = files(folder.path(), "seg").pop().expect("a segment");
    let name = newest.file_name().expect("a name").to_string_lossy();
    // Longer than any segment: the copy has linked all others by then.
    let later = newest.with_file_name(format!("00000000000fffff{}", &name[16..]));
    let file = fs::File::create_new(&later).expect("writable");
    file.set_len(1 << 40).expect("a hole takes no room");
    let copy = tempfile::tempdir().expect("folder for the test");

    let failed = events::backup(folder.path(), copy.path(), &|_| ());
    let left = fs::read_dir(copy.path()).expect("readable").count();
    fs::remove_file(&later).expect("it is there");
    let copied = events::backup(folder.path(), copy.path(), &|_| ());

    assert!(matches!(failed, Err(OpenError::Read { .. })), "{failed:?}");
    assert_eq!(left, 0);
    copied.expect("the folder is empty, and the disk is well");
    assert!(verify(copy.path()).0.is_whole());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_meets_the_file_of_somebody_else_leaves_it_as_it_is_and_takes_its_own_back() {
    let folder = sealed_folder().await;
    let newest = files(folder.path(), "seg").pop().expect("a segment");
    let blocks = files(folder.path(), "blocks").pop().expect("blocks");
    // What is copied, and what is linked, as by a second backup into the same folder.
    for met in [newest, blocks] {
        let copy = tempfile::tempdir().expect("folder for the test");
        let theirs = copy.path().join(met.file_name().expect("a name"));
        let put = |_: events::Progress| fs::write(&theirs, "theirs").expect("writable");

        let failed = events::backup(folder.path(), copy.path(), &put);

        assert!(matches!(failed, Err(OpenError::NotEmpty(_))), "{failed:?}");
        assert_eq!(fs::read_to_string(&theirs).expect("it stays"), "theirs");
        assert_eq!(fs::read_dir(copy.path()).expect("readable").count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_of_another_store_are_told_and_cost_nothing() {
    let (folder, other) = (sealed_folder().await, sealed_folder().await);
    let blocks = files(other.path(), "blocks").remove(0);
    for file in [blocks.with_extension("index"), blocks] {
        let name = file.file_name().expect("a name");
        fs::copy(&file, folder.path().join(name)).expect("copied");
    }

    let newest = files(folder.path(), "seg").pop().expect("a segment");
    let newest = newest.file_name().expect("a name").to_string_lossy();

    let (verified, _) = verify(folder.path());
    let (store, numbers) = numbers_in(&folder).await;

    assert_eq!((verified.is_whole(), verified.foreign), (true, 1));
    assert_eq!(store.events.stats().opened.foreign, 1);
    assert!(matches!(
        store.events.health(),
        EventsHealth::Degraded { reasons } if reasons[0].contains(&format!("the newest segment, {newest}"))
    ));
    for number in 1..=EVENTS {
        assert!(numbers.contains(&number), "{number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_not_of_the_log_are_left_alone() {
    let folder = sealed_folder().await;
    let foreign = ["README.txt", "notes.index", "x.seg", "7-7.blocks"];
    for name in foreign {
        fs::write(folder.path().join(name), "mine").expect("writable");
    }
    fs::create_dir(folder.path().join("lost+found")).expect("writable");

    let disk: Arc<dyn events::Disk> = Arc::new(Folder::new(folder.path()));
    let repaired = events::repair(&disk, &|_| (), &mut |fault| panic!("{fault:?}"));
    let (store, numbers) = numbers_in(&folder).await;

    assert!(repaired.expect("repaired").quarantined.is_empty());
    assert_eq!(numbers.len() as u64, EVENTS);
    assert!(is_healthy(&store.events));
    for name in foreign {
        let text = fs::read_to_string(folder.path().join(name));
        assert_eq!(text.expect("it is still there"), "mine");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_running_store_holds_all_that_was_acknowledged_before_it() {
    let store = sealed_store().await;
    let stored = Arc::new(AtomicU64::new(EVENTS));
    let writing = tokio::spawn({
        let (events, stored) = (store.events.clone(), Arc::clone(&stored));
        async move {
            for number in EVENTS + 1.. {
                if events.store(event(number)).await.is_err() {
                    return;
                }
                stored.store(number, Ordering::SeqCst);
            }
        }
    });

    for _ in 0..5 {
        let copy = Arc::new(tempfile::tempdir().expect("folder for the test"));
        let acknowledged = stored.load(Ordering::SeqCst);
        let (from, to) = (store.folder.path().to_owned(), copy.path().to_owned());
        let copied = tokio::task::spawn_blocking(move || events::backup(&from, &to, &|_| ()));
        let copied = copied.await.expect("no panic").expect("copied");
        assert!(copied.linked >= 4 && copied.copied >= 1, "{copied:?}");
        let again = events::backup(store.folder.path(), copy.path(), &|_| ());
        assert!(matches!(again, Err(OpenError::NotEmpty(_))), "{again:?}");

        let (verified, faults) = verify(copy.path());
        assert!(verified.is_whole(), "{faults:?} {verified:?}");
        let (restored, mut numbers) = numbers_in(&copy).await;
        numbers.sort_unstable();
        assert!(numbers.len() as u64 >= acknowledged);
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
        assert!(is_healthy(&restored.events));
        restored.supervisor.stop().await;
    }
    writing.abort();
    assert!(is_healthy(&store.events));
}
