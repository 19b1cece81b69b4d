//! What is kept over a restart, on disks good and bad.

use std::{
    collections::BTreeMap,
    fs, io,
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use underpin::{
    config::{
        AlarmKind, BrokenFiles, Configuration, Disk, FreeTable, Invalid, Kind, Loaded, Options,
        Origin, Revision, Rules, Schema, Sources, UpdateError, load,
    },
    otp::{Intensity, Supervisor, SupervisorSpec},
    telemetry::{self, Telemetry},
    value::Value,
};

use super::foundation::{Foundation, Node, sources};

/// A disk in memory that can fail, hang, and be looked at after each step.
#[derive(Default)]
pub(crate) struct TestDisk {
    platter: Mutex<Platter>,
    moved: Condvar,
}

#[derive(Default)]
struct Platter {
    files: BTreeMap<String, Vec<u8>>,
    /// Steps that still work; none means all.
    steps_left: Option<usize>,
    /// A file that is there and cannot be read.
    unreadable: Option<String>,
    stuck: bool,
    waiting: usize,
    /// The files after each step.
    seen: Vec<BTreeMap<String, Vec<u8>>>,
}

impl TestDisk {
    /// After `steps` more steps each one fails, until this is called again.
    pub(crate) fn fail_after(&self, steps: Option<usize>) {
        self.with(|platter| platter.steps_left = steps);
    }

    pub(crate) fn stick(&self, stuck: bool) {
        self.with(|platter| platter.stuck = stuck);
        self.moved.notify_all();
    }

    /// Waits until somebody hangs at the disk.
    pub(crate) fn wait_until_somebody_waits(&self) {
        let mut platter = self.platter.lock().unwrap_or_else(PoisonError::into_inner);
        while platter.waiting == 0 {
            platter = self
                .moved
                .wait(platter)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The files after each step.
    pub(crate) fn seen(&self) -> Vec<BTreeMap<String, Vec<u8>>> {
        self.with(|platter| platter.seen.clone())
    }

    /// The files as they stand.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        self.with(|platter| platter.files.clone())
    }

    pub(crate) fn holding(files: BTreeMap<String, Vec<u8>>) -> Self {
        let disk = Self::default();
        disk.with(|platter| platter.files = files);
        disk
    }

    fn with<T>(&self, work: impl FnOnce(&mut Platter) -> T) -> T {
        work(&mut self.platter.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn step(&self, work: impl FnOnce(&mut BTreeMap<String, Vec<u8>>)) -> io::Result<()> {
        let mut platter = self.platter.lock().unwrap_or_else(PoisonError::into_inner);
        platter.waiting += 1;
        self.moved.notify_all();
        while platter.stuck {
            platter = self
                .moved
                .wait(platter)
                .unwrap_or_else(PoisonError::into_inner);
        }
        platter.waiting -= 1;
        if platter.steps_left == Some(0) {
            return Err(io::Error::other("the disk is full"));
        }
        platter.steps_left = platter.steps_left.map(|left| left - 1);
        work(&mut platter.files);
        let now = platter.files.clone();
        platter.seen.push(now);
        Ok(())
    }
}

impl Disk for TestDisk {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.with(|platter| match &platter.unreadable {
            Some(unreadable) if unreadable == name => Err(io::Error::other("no answer")),
            _ => Ok(platter.files.get(name).cloned()),
        })
    }

    fn write_synced(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        // What a crash in the middle of a write leaves: a part of it.
        self.step(|files| drop(files.insert(name.to_owned(), bytes[..bytes.len() / 2].to_vec())))?;
        self.step(|files| drop(files.insert(name.to_owned(), bytes.to_vec())))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.step(|files| {
            if let Some(bytes) = files.remove(from) {
                files.insert(to.to_owned(), bytes);
            }
        })
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.step(|_| ())
    }
}

async fn on(disk: &Arc<TestDisk>) -> Node {
    Node::start_with(sources().keep_on(disk.clone()), Options::default()).await
}

fn kinds(node: &Node) -> Vec<AlarmKind> {
    node.document
        .status()
        .alarms
        .iter()
        .map(|alarm| alarm.kind)
        .collect()
}

#[tokio::test]
async fn changes_history_and_revision_are_there_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let kept = || sources().keep_in(folder.path().join("config"));
    let node = Node::start_with(kept(), Options::default()).await;
    let change = node
        .config
        .propose()
        .set("interface.max_results", 7)
        .by("ann")
        .because("less");
    let record = change.apply().await.expect("it is valid");
    let first = node.document.history(1);
    node.tree.stop().await;
    drop(node);

    let again = Node::start_with(kept(), Options::default()).await;

    assert_eq!(again.config.load().interface.max_results, 7);
    assert_eq!(again.document.revision(), record.revision);
    assert_eq!(again.document.history(1), first);
    let origin = again
        .document
        .origin("app.interface.max_results")
        .expect("it is there");
    assert!(
        matches!(&origin, Origin::Change { author, .. } if &*author.by == "ann"),
        "{origin}"
    );
    assert!(again.document.status().is_healthy());
    again
        .document
        .rollback(Revision(0))
        .await
        .expect("it is in the history");
    assert_eq!(*again.config.load(), Foundation::default());
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_can_read_what_is_kept() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::start_with(sources().keep_in(folder.path()), Options::default()).await;
    node.config
        .update("dev.debug_mode", true)
        .await
        .expect("it is valid");
    node.config
        .update("dev.debug_mode", false)
        .await
        .expect("it is valid");

    let mut names = Vec::new();
    for entry in fs::read_dir(folder.path()).expect("the folder is readable") {
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("its data").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", entry.path().display());
        names.push(entry.file_name().into_string().expect("plain names"));
    }
    assert!(names.iter().any(|name| name == "overlay"), "{names:?}");
}

#[tokio::test]
async fn a_full_disk_refuses_changes_and_changes_nothing_until_it_is_mended() {
    let disk = Arc::new(TestDisk::default());
    let node = on(&disk).await;
    node.config
        .update("interface.max_results", 7)
        .await
        .expect("the disk is well");
    let revision = node.document.revision();

    disk.fail_after(Some(0));
    let refused = node.config.update("interface.max_results", 8).await;

    assert!(
        matches!(refused, Err(UpdateError::NotPersisted { .. })),
        "{refused:?}"
    );
    assert_eq!(node.config.load().interface.max_results, 7);
    assert_eq!(node.document.revision(), revision);
    assert_eq!(kinds(&node), [AlarmKind::NotPersisting]);
    disk.fail_after(None);
    node.config
        .update("interface.max_results", 8)
        .await
        .expect("the disk is mended");
    assert!(kinds(&node).is_empty());
}

/// Lets the time pass that a change waits for a disk that hangs.
async fn given_up(
    update: impl Future<Output = Result<Revision, UpdateError>> + Send + 'static,
) -> Result<Revision, UpdateError> {
    let update = tokio::spawn(update);
    while !update.is_finished() {
        tokio::time::advance(Duration::from_millis(100)).await;
    }
    update.await.expect("no panic")
}

#[tokio::test(start_paused = true)]
async fn a_stuck_disk_leaves_readers_alone_and_its_late_write_is_taken_back() {
    let disk = Arc::new(TestDisk::default());
    let node = on(&disk).await;
    node.config
        .update("interface.max_results", 7)
        .await
        .expect("the disk is well");
    let write = |value: i64| {
        let config = node.config.clone();
        async move { config.update("interface.max_results", value).await }
    };

    disk.stick(true);
    let refused = given_up(write(8)).await;
    let again = given_up(write(9)).await;

    assert!(
        matches!(refused, Err(UpdateError::DiskStuck { .. })),
        "{refused:?}"
    );
    assert!(again.is_err(), "{again:?}");
    assert_eq!(node.config.load().interface.max_results, 7);
    assert_eq!(kinds(&node), [AlarmKind::NotPersisting]);
    disk.stick(false);
    node.config
        .update("dev.debug_mode", true)
        .await
        .expect("the disk is mended");
    let restarted = on(&disk).await;
    assert_eq!(restarted.config.load().interface.max_results, 7);
    assert!(restarted.config.load().dev.debug_mode);
}

#[tokio::test]
async fn changes_that_cannot_be_read_for_a_moment_are_there_again_at_the_next_start() {
    let disk = Arc::new(TestDisk::default());
    let node = on(&disk).await;
    for wanted in [7, 8] {
        node.config
            .update("interface.max_results", wanted)
            .await
            .expect("the disk is well");
    }
    drop(node);
    let intact = disk.files();

    disk.with(|platter| platter.unreadable = Some("overlay".into()));
    let node = on(&disk).await;
    let refused = node.config.update("dev.debug_mode", true).await;

    assert_eq!(
        node.config.load().interface.max_results,
        7,
        "the state before the last change is used"
    );
    assert!(
        matches!(&refused, Err(UpdateError::NotPersisted { reason }) if reason.contains("start again")),
        "{refused:?}"
    );
    assert_eq!(
        kinds(&node),
        [AlarmKind::ChangesLost, AlarmKind::NotPersisting]
    );
    let told = &node.document.status().alarms[0].message;
    assert!(told.contains("`overlay` stays as it is"), "{told}");
    drop(node);
    assert_eq!(disk.files(), intact, "nothing was written over it");
    disk.with(|platter| platter.unreadable = None);
    let again = on(&disk).await;
    assert_eq!(again.config.load().interface.max_results, 8);
    assert!(kinds(&again).is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_the_disk_may_hold_of_a_refused_change_is_taken_back_when_it_works_again() {
    let disk = Arc::new(TestDisk::default());
    let node = on(&disk).await;
    node.config
        .update("interface.max_results", 7)
        .await
        .expect("the disk is well");

    // The new content is in its place, and then the disk fails for good.
    disk.fail_after(Some(6));
    let refused = node.config.update("interface.max_results", 8).await;
    let left_behind = disk.files();
    disk.fail_after(None);

    assert!(
        matches!(refused, Err(UpdateError::MayBeKept { .. })),
        "{refused:?}"
    );
    assert_eq!(node.config.load().interface.max_results, 7);
    let crashed = on(&Arc::new(TestDisk::holding(left_behind))).await;
    assert_eq!(
        crashed.config.load().interface.max_results,
        8,
        "the error did not say too much"
    );
    while !node.document.status().is_healthy() {
        tokio::time::advance(Duration::from_millis(100)).await;
    }
    let after = on(&Arc::new(TestDisk::holding(disk.files()))).await;
    assert_eq!(after.config.load().interface.max_results, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn f104_a_server_killed_while_it_writes_leaves_the_old_state_everywhere() {
    let disk = Arc::new(TestDisk::default());
    let node = on(&disk).await;
    node.config
        .update("interface.max_results", 7)
        .await
        .expect("the disk is well");
    disk.stick(true);
    let hanging = tokio::spawn({
        let config = node.config.clone();
        async move { config.update("interface.max_results", 8).await }
    });
    let waited = disk.clone();
    tokio::task::spawn_blocking(move || waited.wait_until_somebody_waits())
        .await
        .expect("somebody waits");

    node.kill_server();
    let outcome = hanging.await.expect("no panic");
    disk.stick(false);
    while node.config.update("dev.debug_mode", true).await.is_err() {}

    assert!(matches!(outcome, Err(UpdateError::Call(_))), "{outcome:?}");
    assert_eq!(node.config.load().interface.max_results, 7);
    let restarted = on(&disk).await;
    assert_eq!(*restarted.config.load(), *node.config.load());
}

/// It was an alarm at once, which stood until the next change.
#[tokio::test(start_paused = true)]
async fn a_write_that_outlives_the_server_is_an_alarm_only_while_it_takes_too_long() {
    let disk = Arc::new(TestDisk::default());
    let node = on(&disk).await;
    disk.stick(true);
    let hanging = tokio::spawn({
        let config = node.config.clone();
        async move { config.update("interface.max_results", 8).await }
    });
    let waited = disk.clone();
    tokio::task::spawn_blocking(move || waited.wait_until_somebody_waits())
        .await
        .expect("somebody waits");
    node.kill_server();
    assert!(hanging.await.expect("no panic").is_err());
    // It answers when it has looked at the disk.
    let answer = || async {
        let change = node.config.propose().set("interface.max_results", 9);
        change.dry_run().await.expect("it is looked at");
    };

    answer().await;
    assert!(kinds(&node).is_empty(), "a write may take a while");

    let (mut waited, step) = (Duration::ZERO, Duration::from_millis(500));
    while kinds(&node).is_empty() && waited < Duration::from_mins(1) {
        // The clock stands while a thread is at the disk.
        tokio::time::advance(step).await;
        waited += step;
        answer().await;
    }
    assert!(waited >= Options::default().persist_timeout);
    assert_eq!(kinds(&node), [AlarmKind::NotPersisting]);

    disk.stick(false);
    let cleared = async {
        while !kinds(&node).is_empty() {
            tokio::time::sleep(step).await;
        }
    };
    let cleared = tokio::time::timeout(Duration::from_mins(1), cleared).await;
    cleared.expect("the disk is in step again");
}

#[tokio::test]
async fn a_crash_at_any_step_of_a_write_leaves_the_old_or_the_new_state() {
    let disk = Arc::new(TestDisk::default());
    let node = on(&disk).await;
    node.config
        .update("interface.max_results", 1)
        .await
        .expect("it is valid");
    node.config
        .update("interface.max_results", 2)
        .await
        .expect("it is valid");
    disk.with(|platter| platter.seen.clear());
    node.config
        .update("interface.max_results", 3)
        .await
        .expect("it is valid");
    let crashes = disk.with(|platter| platter.seen.clone());
    assert!(crashes.len() >= 6, "each step is a crash");

    let mut found = Vec::new();
    for files in crashes {
        let after = on(&Arc::new(TestDisk::holding(files))).await;
        assert!(kinds(&after).is_empty(), "a crash breaks nothing");
        found.push(after.config.load().interface.max_results);
    }

    assert!(found.iter().all(|max| [2, 3].contains(max)), "{found:?}");
    assert_eq!((found.first(), found.last()), (Some(&2), Some(&3)));
}

#[tokio::test]
async fn a_damaged_file_of_changes_is_replaced_by_the_one_before_and_said_so() {
    let disk = Arc::new(TestDisk::default());
    let node = on(&disk).await;
    node.config
        .update("interface.max_results", 7)
        .await
        .expect("it is valid");
    node.config
        .update("interface.max_results", 8)
        .await
        .expect("it is valid");
    let lost = node.document.revision();
    drop(node);
    disk.with(|platter| {
        let overlay = platter.files.get_mut("overlay").expect("it was written");
        let middle = overlay.len() / 2;
        overlay[middle] ^= 1;
    });

    let again = on(&disk).await;

    assert_eq!(again.config.load().interface.max_results, 7);
    assert_eq!(kinds(&again), [AlarmKind::ChangesLost]);
    assert!(
        again.document.revision() > lost,
        "no revision is given twice"
    );
    again
        .config
        .update("interface.max_results", 9)
        .await
        .expect("changes can be made");
    assert!(disk.with(|platter| platter.files.contains_key("overlay.broken")));
    let third = on(&disk).await;
    assert_eq!(third.config.load().interface.max_results, 9);
    assert!(kinds(&third).is_empty());
}

/// The settings after a software change: a limit that was not there before, and a path that is gone.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Newer {
    interface: NewerInterface,
    token: Option<String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct NewerInterface {
    max_results: i64,
    query_timeout: i64,
}

impl Default for NewerInterface {
    fn default() -> Self {
        Self {
            max_results: 100,
            query_timeout: 10_000,
        }
    }
}

impl Schema for Newer {
    fn validate(&self) -> Result<(), Invalid> {
        if self.interface.max_results > 500 {
            return Err(Invalid::range(
                "interface.max_results",
                "at most 500 are possible",
            ));
        }
        Ok(())
    }

    fn rules() -> Rules {
        Rules::live().secret("token")
    }
}

fn taken_over(loaded: Loaded) -> Configuration {
    Configuration::new(
        loaded,
        Options::default(),
        &Telemetry::new(telemetry::Options::default()),
    )
}

#[tokio::test]
async fn a_change_that_new_software_does_not_accept_is_set_aside() {
    let disk = Arc::new(TestDisk::default());
    let node = on(&disk).await;
    node.config
        .update("interface.max_results", 900)
        .await
        .expect("it is valid");
    node.config
        .update("interface.query_timeout", 77)
        .await
        .expect("it is valid");
    node.config
        .update("dev.debug_mode", true)
        .await
        .expect("it is valid");
    drop(node);

    let newer = || Sources::new::<FreeTable, Newer>().keep_on(disk.clone());
    let loaded = load(newer()).expect("the node starts all the same");

    let config = taken_over(loaded);
    let settings = config.app::<Newer>().expect("the table has this type");
    assert_eq!(
        settings.load().interface,
        NewerInterface {
            max_results: 100,
            query_timeout: 77
        }
    );
    let alarms = config.status().alarms;
    assert_eq!(alarms[0].kind, AlarmKind::SetAside);
    assert!(
        alarms[0]
            .message
            .contains("`app.interface.max_results`, `app.dev.debug_mode`"),
        "{}",
        alarms[0].message
    );
    assert_eq!(config.history(1)[0].kind, Kind::Load);
    let older = on(&disk).await;
    assert_eq!(
        older.config.load().interface.max_results,
        900,
        "the older software finds it again"
    );
}

#[tokio::test]
async fn what_was_set_aside_is_forgotten_when_it_is_written_or_reset() {
    let disk = Arc::new(TestDisk::default());
    let node = on(&disk).await;
    node.config
        .update("interface.max_results", 900)
        .await
        .expect("it is valid");
    node.config
        .update("dev.debug_mode", true)
        .await
        .expect("it is valid");
    drop(node);
    let newer = Sources::new::<FreeTable, Newer>().keep_on(disk.clone());
    let config = taken_over(load(newer).expect("the node starts all the same"));
    let spec = SupervisorSpec::new("tree", Intensity::new(3, Duration::from_secs(5)));
    let tree = Supervisor::start(spec.child(config.child_spec()))
        .await
        .expect("it starts");

    config
        .update("app.interface.max_results", 400)
        .await
        .expect("it is valid");
    let after_one = config.status().alarms.len();
    config.reset().await.expect("it can be reset");

    assert_eq!((after_one, config.status().alarms.len()), (1, 0));
    tree.stop().await;
    assert_eq!(*on(&disk).await.config.load(), Foundation::default());
}

#[tokio::test]
async fn what_new_software_does_not_know_any_more_can_be_reset_alone() {
    let disk = Arc::new(TestDisk::default());
    let node = on(&disk).await;
    let first = node.config.update("interface.max_results", 900).await;
    node.config
        .update("dev.debug_mode", true)
        .await
        .expect("it is valid");
    drop(node);
    let newer = || Sources::new::<FreeTable, Newer>().keep_on(disk.clone());
    let aside = |config: &Configuration| -> Vec<String> {
        let alarms = config.status().alarms.into_iter();
        alarms.map(|alarm| alarm.message).collect()
    };
    let start = async |config: &Configuration| {
        let spec = SupervisorSpec::new("tree", Intensity::new(3, Duration::from_secs(5)));
        let tree = Supervisor::start(spec.child(config.child_spec())).await;
        tree.expect("it starts")
    };
    let config = taken_over(load(newer()).expect("the node starts all the same"));
    let tree = start(&config).await;
    assert!(aside(&config)[0].contains("`app.dev.debug_mode`"));

    config
        .propose_reset("app.dev.debug_mode")
        .apply()
        .await
        .expect("it is what the alarm says to do");

    tree.stop().await;
    let again = taken_over(load(newer()).expect("it is valid"));
    let told = aside(&again);
    assert!(
        told[0].contains("aside: `app.interface.max_results`;"),
        "{told:?}"
    );
    let tree = start(&again).await;
    let first = first.expect("it is valid");
    again
        .rollback(Revision(first.0 - 1))
        .await
        .expect("it is in the history");
    assert!(aside(&again).is_empty(), "it had not been written then");
    tree.stop().await;
}

#[tokio::test]
async fn a_setting_that_takes_a_restart_is_in_effect_after_it() {
    let disk = Arc::new(TestDisk::default());
    let node = on(&disk).await;
    node.config
        .update("ai.model", "other")
        .await
        .expect("it may be written");
    assert_eq!(node.document.status().restart_needed.len(), 1);
    drop(node);

    let again = on(&disk).await;

    assert_eq!(again.config.load().ai.model, "other");
    assert_eq!(again.document.status().restart_needed, []);
    again.config.reset().await.expect("it can be reset");
    assert_eq!(again.document.status().restart_needed.len(), 1);
}

#[tokio::test]
async fn a_revision_that_never_was_cannot_be_gone_back_to() {
    let disk = Arc::new(TestDisk::default());
    let node = on(&disk).await;
    for wanted in [7, 8] {
        node.config
            .update("interface.max_results", wanted)
            .await
            .expect("it is valid");
    }
    let lost = node.document.revision();
    drop(node);
    disk.with(|platter| drop(platter.files.insert("overlay".into(), b"damaged".into())));
    let again = on(&disk).await;

    let never = again.document.rollback(Revision(lost.0 + 500)).await;
    let before = again.document.rollback(Revision(lost.0 - 1)).await;

    assert!(
        matches!(never, Err(UpdateError::NoSuchRevision { .. })),
        "{never:?}"
    );
    assert!(before.is_ok(), "{before:?}");
}

/// The settings before anybody thought of hiding the token.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Unwary {
    token: Option<String>,
}

impl Schema for Unwary {}

#[tokio::test]
async fn what_is_secret_by_now_is_hidden_in_the_history_too() {
    let disk = Arc::new(TestDisk::default());
    let unwary = Sources::new::<FreeTable, Unwary>().keep_on(disk.clone());
    let config = taken_over(load(unwary).expect("it is valid"));
    let spec = SupervisorSpec::new("tree", Intensity::new(3, Duration::from_secs(5)));
    let tree = Supervisor::start(spec.child(config.child_spec()))
        .await
        .expect("it starts");
    config
        .update("app.token", "hunter2")
        .await
        .expect("it is valid");
    tree.stop().await;

    let newer = Sources::new::<FreeTable, Newer>().keep_on(disk.clone());
    let again = taken_over(load(newer).expect("it is valid"));

    let told = format!("{:?}", again.history(9));
    assert!(
        told.contains("[secret]") && !told.contains("hunter2"),
        "{told}"
    );
    assert_eq!(
        again.get::<String>("app.token").as_deref(),
        Ok("hunter2"),
        "the program itself reads it"
    );
}

#[tokio::test]
async fn a_broken_settings_file_is_refused_or_replaced_by_its_last_good_state() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("node.toml");
    let from = |file: &std::path::Path| sources().file(file).keep_in(folder.path().join("config"));
    fs::write(&file, "[app.interface]\nmax_results = 5\n").expect("it is written");
    let node = Node::start_with(from(&file), Options::default()).await;
    node.config
        .update("dev.debug_mode", true)
        .await
        .expect("it is valid");
    drop(node);
    fs::write(&file, "[app.interface]\nmax_results = \n").expect("it is written");

    let refused = load(from(&file)).expect_err("it is broken");
    let degraded = from(&file).broken_files(BrokenFiles::UseLastGood);
    let node = Node::start_with(degraded, Options::default()).await;

    assert!(
        refused.to_string().contains("node.toml, line 2"),
        "{refused}"
    );
    assert_eq!(node.config.load().interface.max_results, 5);
    assert!(node.config.load().dev.debug_mode);
    assert_eq!(kinds(&node), [AlarmKind::FilesBroken]);
    assert!(node.document.status().alarms[0].message.contains("line 2"));
    assert_eq!(
        node.document.origin("app.interface.max_results"),
        Ok(Origin::LastGood)
    );
    node.config
        .update("interface.query_timeout", 9)
        .await
        .expect("changes can be made");
}

#[tokio::test]
async fn without_a_last_good_state_a_broken_file_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("node.toml");
    fs::write(&file, "this is not toml").expect("it is written");

    let sources = sources().file(&file).keep_in(folder.path().join("config"));

    load(sources.broken_files(BrokenFiles::UseLastGood)).expect_err("nothing good is known");
}

#[tokio::test]
async fn a_changed_settings_file_makes_a_new_revision() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("node.toml");
    let from = || sources().file(&file).keep_in(folder.path().join("config"));
    fs::write(&file, "[app.interface]\nmax_results = 5\n").expect("it is written");
    let node = Node::start_with(from(), Options::default()).await;
    let before = node
        .config
        .update("dev.debug_mode", true)
        .await
        .expect("it is valid");
    drop(node);

    fs::write(&file, "[app.interface]\nmax_results = 6\n").expect("it is written");
    let node = Node::start_with(from(), Options::default()).await;

    let stale = node
        .config
        .propose()
        .set("dev.debug_mode", false)
        .expect_revision(before)
        .apply()
        .await;
    assert!(matches!(stale, Err(UpdateError::Stale { .. })), "{stale:?}");
}

/// The document as somebody takes it to be.
#[derive(Debug, Deserialize)]
struct Rooted {
    #[expect(dead_code, reason = "it is never read")]
    app: BTreeMap<String, BTreeMap<String, i64>>,
}

#[tokio::test]
async fn a_secret_is_shown_nowhere() {
    const SECRET: &str = "hunter2";
    let sources =
        Sources::new::<FreeTable, Newer>().environment([("UNDERPIN__APP__TOKEN", SECRET)]);
    let config = taken_over(load(sources).expect("it is valid"));
    let spec = SupervisorSpec::new("tree", Intensity::new(3, Duration::from_secs(5)));
    let tree = Supervisor::start(spec.child(config.child_spec()))
        .await
        .expect("it starts");
    let mut subscriber = config.subscribe("app").expect("a path");
    let mut books = config.audit(config.revision());
    let first = subscriber.recv().await;

    let table = Value::from([
        ("token", Value::from(SECRET)),
        ("interface", Value::from([("max_results", 1)])),
    ]);
    let change = config.propose().set("app", table).set("app.token", SECRET);
    let proposed = format!("{change:?}");
    let record = change.apply().await.expect("it is valid");
    let mistyped = config
        .update("app.token", Value::from(vec![SECRET]))
        .await
        .expect_err("it is no text");
    let misread = [
        config.get::<bool>("app.token").expect_err("it is no bool"),
        config.get::<Rooted>("").expect_err("it is no bool"),
    ];
    let (notice, audit) = (subscriber.recv().await, books.recv().await);

    let shown = [
        proposed,
        format!(
            "{record:?} {mistyped} {mistyped:?} {} {} {misread:?} {first:?} {notice:?} {audit:?}",
            misread[0], misread[1]
        ),
        format!(
            "{:?} {:?} {config:?} {subscriber:?} {books:?}",
            config.history(9),
            config.status()
        ),
        format!(
            "{:?} {:?} {:?}",
            config.shown("app"),
            config.shown("app.token"),
            config.shown("")
        ),
        format!("{:?}", config.origin("app.token")),
    ]
    .join(" ");
    assert!(!shown.contains(SECRET), "{shown}");
    assert!(shown.contains("[secret]"));
    assert_eq!(
        config.get::<String>("app.token").as_deref(),
        Ok(SECRET),
        "the program itself reads it"
    );
    tree.stop().await;
}
