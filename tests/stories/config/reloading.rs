//! Settings files and the environment that change while the program runs.

use std::{
    ffi::OsString,
    fs,
    path::{Path as FilePath, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use tempfile::TempDir;
use underpin::{
    config::{
        Alarm, AlarmKind, FreeTable, Kind, Options, Origin, Problem, ReloadError, Secret, Sources,
        UpdateError,
    },
    otp::{Intensity, Supervisor, SupervisorSpec},
    value::{Path, Value},
};

use super::{
    foundation::{Foundation, Node, sources},
    keeping::TestDisk,
};

/// A settings file in a folder of its own.
pub(crate) struct Stage {
    folder: TempDir,
    pub(crate) file: PathBuf,
}

impl Stage {
    pub(crate) fn with(text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let stage = Self {
            file: folder.path().join("node.toml"),
            folder,
        };
        stage.write(text);
        stage
    }

    /// As a careful program does: beside the file, then in its place.
    pub(crate) fn write(&self, text: &str) {
        let fresh = self.file.with_extension("new");
        fs::write(&fresh, text).expect("it is written");
        fs::rename(fresh, &self.file).expect("it is put in place");
    }

    fn sources(&self) -> Sources {
        sources().file(&self.file)
    }

    async fn node(&self) -> Node {
        Node::start_with(self.sources(), Options::default()).await
    }
}

fn alarms(node: &Node) -> Vec<Alarm> {
    node.document.status().alarms
}

fn path(text: &str) -> Path {
    Path::parse(text).expect("test path is valid")
}

#[tokio::test]
async fn a_changed_file_is_taken_over_and_everybody_is_told() {
    let stage = Stage::with("[app.interface]\nmax_results = 5\n");
    let node = stage.node().await;
    let mut subscriber = node
        .config
        .subscribe("interface.max_results")
        .expect("a path");
    subscriber.try_recv().expect("the current value");
    let before = node.document.revision();

    stage.write("# moved\n\n[app.interface]\nmax_results = 6\n");
    let done = node.document.reload("ann").await.expect("it is valid");

    let record = done.record.expect("something changed");
    assert_eq!(record.revision.0, before.0 + 1);
    assert_eq!((record.kind, &*record.author.by), (Kind::Load, "ann"));
    assert_eq!(record.changes[0].path, path("app.interface.max_results"));
    assert_eq!(record.changes[0].before, Some(Value::from(5)));
    assert_eq!(record.changes[0].after, Some(Value::from(6)));
    assert!(done.held.is_empty());
    assert_eq!(node.config.load().interface.max_results, 6);
    let notice = subscriber.recv().await.expect("the node is there");
    assert_eq!((notice.value, notice.missed), (Some(Value::from(6)), 0));
    assert_eq!(node.document.history(1), [record]);
    let origin = node.document.origin("app.interface.max_results");
    assert!(
        matches!(origin, Ok(Origin::File { line: 4, .. })),
        "{origin:?}"
    );
    assert_eq!(node.counted("reloads"), 1);
}

#[tokio::test]
async fn a_reload_that_changes_nothing_makes_no_revision_and_knows_the_new_lines() {
    let stage = Stage::with("[app.interface]\nmax_results = 5\n");
    let node = stage.node().await;
    let before = node.document.revision();

    stage.write("# a line more\n[app.interface]\nmax_results = 5\n");
    let done = node.document.reload("").await.expect("it is valid");

    assert_eq!(done.record, None);
    assert_eq!(node.document.revision(), before);
    let origin = node.document.origin("app.interface.max_results");
    assert!(
        matches!(origin, Ok(Origin::File { line: 3, .. })),
        "{origin:?}"
    );
}

#[tokio::test]
async fn a_broken_file_keeps_the_old_values_and_says_where_it_is_wrong() {
    let stage = Stage::with("[app.interface]\nmax_results = 5\n");
    let node = stage.node().await;
    let mut books = node.document.audit(node.document.revision());

    for (text, words) in [
        ("[app.interface]\nmax_results = 0\n", "line 2"),
        ("[app.interface]\nmax_result = 6\n", "did you mean"),
        ("[app.interface\n", "line 1"),
    ] {
        stage.write(text);
        let refused = node.document.reload("").await.expect_err("it is broken");

        assert!(matches!(refused, ReloadError::Sources(_)), "{refused:?}");
        assert!(refused.to_string().contains(words), "{refused}");
        assert_eq!(node.config.load().interface.max_results, 5);
        let alarm = &alarms(&node)[0];
        assert_eq!(alarm.kind, AlarmKind::FilesBroken);
        assert_eq!(alarm.message, refused.to_string());
        assert!(!node.document.status().is_healthy());
    }
    fs::remove_file(&stage.file).expect("it is there");
    let gone = node.document.reload("").await.expect_err("it is gone");
    let ReloadError::Sources(gone) = gone else {
        panic!("{gone}")
    };
    assert!(matches!(gone.problems(), [Problem::Unreadable { .. }]));

    assert!(books.try_recv().is_none(), "nobody was told of anything");
    assert_eq!(node.counted("failed_reloads"), 4);
    stage.write("[app.interface]\nmax_results = 7\n");
    node.document.reload("").await.expect("it is mended");
    assert_eq!(node.config.load().interface.max_results, 7);
    assert!(node.document.status().is_healthy());
}

#[cfg(unix)]
#[tokio::test]
async fn files_that_do_not_answer_are_given_up_and_looked_at_again() {
    let stage = Stage::with("[app.interface]\nmax_results = 1\n");
    let options = Options {
        read_timeout: Duration::from_millis(20),
        ..Options::default()
    };
    let node = Node::start_with(stage.sources(), options).await;
    fs::remove_file(&stage.file).expect("it is there");
    // A pipe without a writer answers as a network folder without its server.
    let made = std::process::Command::new("mkfifo")
        .arg(&stage.file)
        .status();
    assert!(made.expect("the system has pipes").success());

    let stuck = [
        node.document.reload("ann").await,
        node.document.reload("ann").await,
    ];

    for outcome in stuck {
        assert!(
            matches!(outcome, Err(ReloadError::Stuck { .. })),
            "{outcome:?}"
        );
    }
    assert_eq!(alarms(&node)[0].kind, AlarmKind::FilesStuck);
    assert_eq!(node.config.get::<i64>("interface.max_results"), Ok(1));
    assert!(
        node.config.update("dev.debug_mode", true).await.is_ok(),
        "and changes are made"
    );

    let mut pipe = fs::OpenOptions::new()
        .write(true)
        .open(&stage.file)
        .expect("somebody reads");
    std::io::Write::write_all(&mut pipe, b"[app.interface]\nmax_results = 2\n")
        .expect("it is read");
    stage.write("[app.interface]\nmax_results = 3\n");
    drop(pipe);
    while node.document.reload("ann").await.is_err() {}

    assert_eq!(node.config.get::<i64>("interface.max_results"), Ok(3));
    assert_eq!(alarms(&node), []);
}

#[tokio::test]
async fn what_may_not_change_is_held_back_until_the_next_start_and_said_so() {
    let stage = Stage::with("[app.ai]\nprovider = \"mock\"\n");
    let kept = stage.folder.path().join("kept");
    let from = || stage.sources().keep_in(&kept);
    let node = Node::start_with(from(), Options::default()).await;

    stage.write(
        "# new\n[app.ai]\nprovider = \"openai\"\nmodel = \"m\"\n[app.dev]\ndebug_mode = true\n",
    );
    let done = node.document.reload("").await.expect("it is valid");

    let record = done.record.expect("something changed");
    let changed: Vec<String> = record.changes.iter().map(|c| c.path.to_string()).collect();
    assert_eq!(changed, ["app.ai.model", "app.dev.debug_mode"]);
    assert_eq!(record.needs_restart, [path("app.ai.model")]);
    assert_eq!(done.held, [path("app.ai.provider")]);
    let settings = node.config.load_full();
    assert_eq!(
        (&*settings.ai.provider, settings.dev.debug_mode),
        ("mock", true)
    );
    let needed = node.document.status().restart_needed;
    assert_eq!(needed, [path("app.ai.model"), path("app.ai.provider")]);
    let explained = node
        .document
        .explain("app.ai.provider")
        .expect("it is there");
    assert!(explained.held);
    assert!(
        explained.origin.to_string().ends_with("line 2"),
        "where what holds came from: {}",
        explained.origin
    );
    node.tree.stop().await;
    drop(node);

    let again = Node::start_with(from(), Options::default()).await;
    assert_eq!(again.config.load().ai.provider, "openai");
    assert!(again.document.status().restart_needed.is_empty());
    let start = &again.document.history(1)[0];
    assert_eq!(
        start.changes.len(),
        1,
        "the start says what it brought: {start:?}"
    );
    assert_eq!(start.changes[0].path, path("app.ai.provider"));
}

#[tokio::test]
async fn a_file_that_goes_back_is_held_back_no_more() {
    let stage = Stage::with("[app.ai]\nprovider = \"mock\"\n");
    let node = stage.node().await;
    stage.write("[app.ai]\nprovider = \"openai\"\n");
    let held = node.document.reload("").await.expect("it is valid").held;
    assert_eq!(held, [path("app.ai.provider")]);

    stage.write("[app.ai]\nprovider = \"mock\"\n");
    let done = node.document.reload("").await.expect("it is valid");

    assert!(done.held.is_empty());
    assert!(node.document.status().restart_needed.is_empty());
}

#[tokio::test]
async fn what_was_changed_while_running_stays_over_a_reload() {
    let stage = Stage::with("[app.interface]\nmax_results = 5\n");
    let node = stage.node().await;
    node.config
        .update("interface.max_results", 50)
        .await
        .expect("it is valid");

    stage.write("[app.interface]\nmax_results = 6\nquery_timeout = 7\n");
    node.document.reload("").await.expect("it is valid");

    let settings = node.config.load_full();
    assert_eq!(settings.interface.max_results, 50);
    assert_eq!(settings.interface.query_timeout, 7);
    node.config.reset().await.expect("it can be reset");
    assert_eq!(node.config.load().interface.max_results, 6);
}

#[tokio::test]
async fn the_environment_is_looked_at_anew() {
    let environment = Arc::new(Mutex::new(vec![(
        "UNDERPIN__APP__INTERFACE__MAX_RESULTS",
        "8",
    )]));
    let look = Arc::clone(&environment);
    let from = sources().environment_from(move || {
        let now = look.lock().expect("no panic").clone();
        now.into_iter()
            .map(|(name, value)| (OsString::from(name), OsString::from(value)))
    });
    let node = Node::start_with(from, Options::default()).await;
    assert_eq!(node.config.load().interface.max_results, 8);

    environment.lock().expect("no panic")[0].1 = "9";
    node.document.reload("").await.expect("it is valid");

    assert_eq!(node.config.load().interface.max_results, 9);
    environment.lock().expect("no panic")[0].1 = "none";
    let refused = node.document.reload("").await.expect_err("no number");
    let words = refused.to_string();
    assert!(
        words.contains("UNDERPIN__APP__INTERFACE__MAX_RESULTS"),
        "{words}"
    );
}

#[tokio::test]
async fn a_reload_that_cannot_be_kept_is_not_made() {
    let stage = Stage::with("[app.interface]\nmax_results = 5\n");
    let disk = Arc::new(TestDisk::default());
    let from = stage.sources().keep_on(disk.clone());
    let node = Node::start_with(from, Options::default()).await;
    let before = node.document.get_value("").expect("the document");
    // The first change waits for what the start writes.
    node.config
        .update("dev.debug_mode", false)
        .await
        .expect("it is kept");

    stage.write("[app.interface]\nmax_results = 6\n");
    disk.fail_after(Some(0));
    let refused = node
        .document
        .reload("")
        .await
        .expect_err("the disk is full");

    assert!(
        matches!(
            refused,
            ReloadError::Refused(UpdateError::NotPersisted { .. })
        ),
        "{refused:?}"
    );
    assert_eq!(node.document.get_value(""), Ok(before));
    disk.fail_after(None);
    node.document.reload("").await.expect("it is mended");
    assert_eq!(node.config.load().interface.max_results, 6);
    assert!(node.document.status().is_healthy());
}

#[tokio::test]
async fn a_crash_at_any_step_of_a_reload_leaves_what_can_be_started_from() {
    let stage = Stage::with("[app.interface]\nmax_results = 5\n");
    let disk = Arc::new(TestDisk::default());
    let from = stage.sources().keep_on(disk.clone());
    let node = Node::start_with(from, Options::default()).await;
    node.config
        .update("dev.debug_mode", true)
        .await
        .expect("it is kept");
    let steps_before = disk.seen().len();
    stage.write("[app.interface]\nmax_results = 6\n");
    node.document.reload("").await.expect("it is valid");

    for files in disk.seen().into_iter().skip(steps_before) {
        let disk = Arc::new(TestDisk::holding(files));
        let again = Node::start_with(stage.sources().keep_on(disk), Options::default()).await;
        let settings = again.config.load_full();
        assert_eq!(
            (settings.interface.max_results, settings.dev.debug_mode),
            (6, true)
        );
        assert!(alarms(&again).is_empty());
        let reload = again.document.history(1)[0].clone();
        assert_eq!(
            reload.kind,
            Kind::Load,
            "what the file changed is in the history"
        );
    }
}

#[tokio::test]
async fn a_start_tells_what_the_files_changed_and_makes_no_revision_when_nothing_is_seen_of_it() {
    let stage = Stage::with("[app.interface]\nmax_results = 5\n");
    let kept = stage.folder.path().join("kept");
    let from = || stage.sources().keep_in(&kept);
    let node = Node::start_with(from(), Options::default()).await;
    node.config
        .update("interface.max_results", 50)
        .await
        .expect("it is valid");
    let revision = node.document.revision();
    node.tree.stop().await;
    drop(node);

    stage.write("[app.interface]\nmax_results = 6\n");
    let node = Node::start_with(from(), Options::default()).await;
    assert_eq!(
        node.document.revision(),
        revision,
        "the change lies over the file"
    );
    // What the start writes is there before this is answered.
    node.config
        .update("dev.debug_mode", true)
        .await
        .expect("it is valid");
    node.tree.stop().await;
    drop(node);

    stage.write("[app.interface]\nmax_results = 6\nquery_timeout = 7\n");
    let node = Node::start_with(from(), Options::default()).await;
    let start = &node.document.history(1)[0];
    assert_eq!(start.kind, Kind::Load);
    assert_eq!(start.changes.len(), 1, "{start:?}");
    assert_eq!(start.changes[0].path, path("app.interface.query_timeout"));
    assert_eq!(start.changes[0].after, Some(Value::from(7)));
}

/// The node's tree with the one who follows the files.
async fn watching(node: &Node) -> Supervisor {
    let spec = SupervisorSpec::new("watching", Intensity::new(3, Duration::from_secs(5)));
    let spec = spec.child(node.document.watch_spec());
    Supervisor::start(spec).await.expect("it starts")
}

async fn until_it_is(node: &Node, wanted: i64) {
    let mut subscriber = node
        .config
        .subscribe("interface.max_results")
        .expect("a path");
    loop {
        let notice = subscriber.recv().await.expect("the node is there");
        if notice.value == Some(Value::from(wanted)) {
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_watched_file_is_taken_over_when_it_has_come_to_rest() {
    let stage = Stage::with("[app.interface]\nmax_results = 5\n");
    let node = stage.node().await;
    let _watching = watching(&node).await;

    stage.write("[app.interface]\nmax_results = 6\n");
    until_it_is(&node, 6).await;
    // Also one that is written in place.
    fs::write(&stage.file, "[app.interface]\nmax_results = 70\n").expect("it is written");
    until_it_is(&node, 70).await;

    assert_eq!(&*node.document.history(1)[0].author.by, "files");
    assert_eq!(node.counted("reloads"), 2);
}

#[tokio::test(start_paused = true)]
async fn files_that_come_and_go_in_a_watched_folder_are_taken_over() {
    let stage = Stage::with("[app.interface]\nmax_results = 5\n");
    let conf_d = stage.folder.path().join("conf.d");
    let from = stage.sources().conf_d(&conf_d);
    let node = Node::start_with(from, Options::default()).await;
    let _watching = watching(&node).await;

    fs::create_dir(&conf_d).expect("it is made");
    fs::write(conf_d.join("10.toml"), "[app.interface]\nmax_results = 6\n").expect("written");
    until_it_is(&node, 6).await;
    fs::remove_file(conf_d.join("10.toml")).expect("it is there");
    until_it_is(&node, 5).await;
}

/// An editor that is open holds a lock that leads nowhere, and another system leaves its own notes.
#[cfg(unix)]
#[tokio::test]
async fn what_is_hidden_in_the_folder_is_no_settings_file() {
    let stage = Stage::with("");
    let conf_d = stage.folder.path().join("conf.d");
    fs::create_dir(&conf_d).expect("it is made");
    fs::write(conf_d.join("10.toml"), "[app.interface]\nmax_results = 6\n").expect("written");
    std::os::unix::fs::symlink("ann@host.4711", conf_d.join(".#10.toml")).expect("it is linked");
    fs::write(conf_d.join("._10.toml"), b"\0\x05\x16\x07").expect("written");

    let from = stage.sources().conf_d(&conf_d);
    let node = Node::start_with(from, Options::default()).await;
    let reloaded = node.document.reload("a story").await;

    assert_eq!(node.config.load().interface.max_results, 6);
    assert_eq!(reloaded.map(|done| done.record), Ok(None));
}

/// Files that could not be taken over are read again after a change, which may have been what was against it. Where they were taken
/// over, that would be work for nothing at each change, for as long as any alarm stands.
#[tokio::test(start_paused = true)]
async fn an_alarm_that_is_not_about_the_files_has_them_read_no_more_often() {
    let stage = Stage::with("[app.interface]\nmax_results = 5\n");
    let damaged = std::iter::once(("overlay".to_owned(), b"damaged".to_vec()));
    let disk = Arc::new(TestDisk::holding(damaged.collect()));
    let node = Node::start_with(stage.sources().keep_on(disk), Options::default()).await;
    let is_lost = |alarm: &Alarm| alarm.kind == AlarmKind::ChangesLost;
    assert!(alarms(&node).iter().any(is_lost));
    let _watching = watching(&node).await;

    let change = node.config.update("interface.max_results", 6).await;
    change.expect("it is valid");
    tokio::time::sleep(Options::default().watch_every * 10).await; // the clock is paused

    assert_eq!(node.counted("reloads"), 0);
    // Of another length, since it may have the same time.
    stage.write("[app.interface]\nmax_results = 70\n");
    let reloaded = async {
        while node.counted("reloads") == 0 {
            tokio::time::sleep(Options::default().watch_every).await;
        }
    };
    let soon = Options::default().watch_every * 100;
    let reloaded = tokio::time::timeout(soon, reloaded).await;
    reloaded.expect("the files are watched");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_changed_while_the_server_was_down_is_taken_over_when_it_is_back() {
    let stage = Stage::with("[app.interface]\nmax_results = 5\n");
    let node = stage.node().await;
    let _watching = watching(&node).await;
    node.stop_server().await;

    stage.write("[app.interface]\nmax_results = 6\n");
    while alarms(&node).is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(node.config.load().interface.max_results, 5);
    node.start_server().await;

    until_it_is(&node, 6).await;
    assert!(node.document.status().is_healthy());
}

#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
struct Account {
    token: Secret<Option<String>>,
    spare: Option<Secret<String>>,
}

impl underpin::config::Schema for Account {}

fn account(file: &FilePath) -> Sources {
    Sources::new::<FreeTable, Account>().file(file)
}

#[test]
fn a_secret_is_hidden_by_its_type_alone() {
    let stage = Stage::with("[app]\ntoken = \"hunter2\"\n");

    let loaded = underpin::config::load(account(&stage.file)).expect("it is valid");
    let telemetry = underpin::telemetry::Telemetry::new(underpin::telemetry::Options::default());
    let config = underpin::config::Configuration::new(loaded, Options::default(), &telemetry);

    let typed = config.app::<Account>().expect("the table has this type");
    let token = typed.load().token.clone();
    assert_eq!(token.expose().as_deref(), Some("hunter2"));
    let shown = [
        format!("{:?}", typed.load_full()),
        format!("{:?}", config.shown("")),
        format!("{:?}", config.explain("app.token")),
        format!("{:?}", config.explain("app")),
        format!("{:?}", config.differences(None)),
    ];
    for words in shown {
        assert!(!words.contains("hunter2"), "{words}");
    }
}

#[test]
fn a_secret_that_no_rule_hides_is_refused_before_it_is_shown() {
    let stage = Stage::with("[app]\nspare = \"hunter2\"\n");

    let refused = underpin::config::load(account(&stage.file)).expect_err("no rule hides it");

    let words = refused.to_string();
    assert!(words.contains(".secret(\"spare\")"), "{words}");
    assert!(!words.contains("hunter2"), "{words}");
}

#[test]
fn a_template_is_a_valid_file_that_changes_nothing() {
    let sources = Sources::new::<underpin::node::Settings, Foundation>();
    let text = underpin::config::template(&sources).expect("the defaults are good");
    let stage = Stage::with(&text);
    let of = |file: &FilePath| {
        let sources = Sources::new::<underpin::node::Settings, Foundation>().file(file);
        let loaded = underpin::config::load(sources).expect("it is valid");
        loaded.value("").expect("the document")
    };
    let as_it_is = of(&stage.file);

    // Every line of a setting taken out of its comment, as a person would.
    let set: Vec<String> = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.starts_with(' ') => setting.to_owned(),
            _ => line.to_owned(),
        })
        .collect();
    assert!(
        set.iter().any(|line| line == "durability = \"always\""),
        "{text}"
    );
    assert!(text.contains("# api_key = … (secret)"), "{text}");
    stage.write(&set.join("\n"));

    assert_eq!(of(&stage.file), as_it_is);
}
