//! What was changed while running, over files that change beneath it and restarts in between: beside a plain document.

use std::{collections::BTreeMap, fs, sync::Arc};

use proptest::{collection::vec, prelude::*};
use serde::{Deserialize, Deserializer, Serialize};
use underpin::{
    config::{
        Change, Config, Configuration, FreeTable, Options, Record, Revision, Schema, Sources,
        UpdateError, diff, load,
    },
    otp::{Intensity, Supervisor, SupervisorSpec},
    telemetry::{self, Telemetry},
    value::{Limits, Path, Value},
};

use super::keeping::TestDisk;

fn json(text: &str) -> Value {
    Value::from_json(text, Limits::CONFIG).expect("test document is valid")
}

fn path(text: &str) -> Path {
    Path::parse(text).expect("test path is valid")
}

async fn start(sources: Sources) -> (Configuration, Supervisor) {
    let telemetry = Telemetry::new(telemetry::Options::default());
    let loaded = load(sources).expect("the sources are valid");
    let config = Configuration::new(loaded, Options::default(), &telemetry);
    let intensity = Intensity::new(3, std::time::Duration::from_secs(5));
    let spec = SupervisorSpec::new("tree", intensity).child(config.child_spec());
    (config, Supervisor::start(spec).await.expect("it starts"))
}

fn told(changes: &[Change]) -> Vec<String> {
    let side = |value: &Option<Value>| value.as_ref().map_or("-".to_owned(), Value::to_json);
    let line = |change: &Change| {
        format!(
            "{} {} {}",
            change.path,
            side(&change.before),
            side(&change.after)
        )
    };
    changes.iter().map(line).collect()
}

/// Each part of a change told what it would have done alone: the same value as what stood there before, twice, and in between one
/// that nobody ever saw.
#[tokio::test]
async fn a_change_that_writes_a_place_twice_is_told_as_what_it_came_to() {
    let (config, _tree) = start(Sources::new::<FreeTable, FreeTable>().set("app.x=1")).await;

    let twice = config.propose().set("app.x", 2).set("app.x", 3);
    let twice = twice.apply().await.expect("it is valid");
    let table = json(r#"{"b": 1}"#);
    let in_parts = config.propose().set("app.t", table).set("app.t.b", 2);
    let in_parts = in_parts.apply().await.expect("it is valid");
    let table = json(r#"{"c": 1}"#);
    let over = config.propose().set("app.t.b", 5).set("app.t", table);
    let over = over.apply().await.expect("it is valid");

    assert_eq!(told(&twice.changes), ["app.x 1 3"]);
    assert_eq!(told(&in_parts.changes), [r#"app.t - {"b":2}"#]);
    assert_eq!(told(&over.changes), [r#"app.t {"b":2} {"c":1}"#]);
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Sparse {
    workers: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy: Option<String>,
    names: BTreeMap<String, u32>,
}

impl Schema for Sparse {}

/// Its field bears everything but a null.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Fussy {
    workers: u32,
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "never_null"
    )]
    proxy: Option<String>,
}

impl Schema for Fussy {}

fn never_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let read = Option::deserialize(deserializer)?;
    assert!(read.is_some(), "a null");
    Ok(read)
}

#[tokio::test]
async fn a_type_that_panics_over_what_an_edit_makes_of_it_is_answered_and_harms_nobody() {
    let (config, _tree) = start(Sources::new::<FreeTable, Fussy>()).await;
    let app: Config<Fussy> = config.app().expect("the table has this type");
    app.update("proxy", "p").await.expect("it is valid");
    let server = config.actor().expect("it runs").get_id();

    let edit = app.update_with(|app| app.proxy = None).await;

    assert!(
        matches!(edit, Err(UpdateError::Panicked { .. })),
        "{edit:?}"
    );
    app.update("workers", 2).await.expect("the server lives");
    assert_eq!(config.actor().map(|actor| actor.get_id()), Some(server));
    assert_eq!(app.get("proxy"), Ok("p".to_owned()));
}

/// Where a type leaves out what is `None`, an edit that took one setting away wrote the whole table: from then on nothing of it
/// followed the files any more.
#[tokio::test]
async fn an_edit_that_takes_a_setting_away_leaves_its_neighbours_to_the_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("node.toml");
    let say = |workers: u32| {
        let text = format!("[app]\nworkers = {workers}\nproxy = 'p'\nnames = {{a = 1, b = 2}}\n");
        fs::write(&file, text).expect("it is written");
    };
    say(1);
    let disk = Arc::new(TestDisk::default());
    let sources = || {
        let sources = Sources::new::<FreeTable, Sparse>().file(&file);
        sources.keep_on(disk.clone())
    };
    let (config, tree) = start(sources()).await;
    let app: Config<Sparse> = config.app().expect("the table has this type");

    let edit = app.update_with(|app| {
        app.proxy = None;
        app.names.remove("a");
    });
    edit.await.expect("it is valid");
    say(22);
    config.reload("a story").await.expect("it is valid");

    let is_right = |app: &Sparse| {
        let left: Vec<_> = app.names.keys().map(String::as_str).collect();
        assert_eq!(
            (app.workers, app.proxy.as_deref(), &*left),
            (22, None, &["b"][..])
        );
    };
    is_right(&app.load());
    tree.stop().await;
    let (config, _tree) = start(sources()).await;
    is_right(
        &config
            .app::<Sparse>()
            .expect("the table has this type")
            .load(),
    );
}

fn names() -> impl Strategy<Value = String> {
    vec("[ab]", 1..4).prop_map(|names| names.join("."))
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![Just(Value::Null), (0..3i64).prop_map(Value::from)];
    leaf.prop_recursive(2, 6, 2, |inner| {
        let table = proptest::collection::btree_map("[ab]", inner, 0..3);
        table.prop_map(|table| Value::Map(table.into_iter().collect()))
    })
}

#[derive(Debug, Clone)]
enum Step {
    Set(Vec<(String, Value)>),
    Reset(String),
    Rollback(u64),
    Remove(String),
    File(Vec<(String, i64)>),
    Restart,
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => vec((names(), values()), 1..4).prop_map(Step::Set),
        1 => names().prop_map(Step::Reset),
        1 => (0..6u64).prop_map(Step::Rollback),
        1 => names().prop_map(Step::Remove),
        2 => vec(("[ab]\\.[ab]", 0..3i64), 0..3).prop_map(Step::File),
        1 => Just(Step::Restart),
    ]
}

/// The settings, and beside them what they were at each revision.
struct Story {
    file: tempfile::NamedTempFile,
    disk: Arc<TestDisk>,
    config: Configuration,
    tree: Supervisor,
    documents: BTreeMap<Revision, Value>,
}

impl Story {
    async fn begin() -> Self {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let disk = Arc::new(TestDisk::default());
        let (config, tree) = start(Self::sources(&file, &disk)).await;
        let documents =
            BTreeMap::from([(config.revision(), config.get_value("app").expect("it is"))]);
        Self {
            file,
            disk,
            config,
            tree,
            documents,
        }
    }

    fn sources(file: &tempfile::NamedTempFile, disk: &Arc<TestDisk>) -> Sources {
        let sources = Sources::new::<FreeTable, FreeTable>().file(file.path());
        sources.keep_on(disk.clone())
    }

    fn document(&self) -> Value {
        self.config.get_value("app").expect("the table is there")
    }

    /// Takes the step; gives the change when it made one.
    async fn take(&mut self, step: &Step) -> Option<Arc<Record>> {
        let proposal = match step {
            Step::Set(writes) => {
                let set = |proposal: underpin::config::Proposal, (at, value): &(String, Value)| {
                    proposal.set(format!("app.{at}"), value.clone())
                };
                writes.iter().fold(self.config.propose(), set)
            }
            Step::Reset(at) => self.config.propose_reset(format!("app.{at}")),
            Step::Rollback(back) => {
                let to = self.config.revision().0.saturating_sub(*back);
                self.config.propose_rollback(Revision(to))
            }
            Step::Remove(at) => {
                let app: Config<FreeTable> = self.config.app().expect("it has this type");
                let at = path(at);
                app.propose_edit(move |app| app.0 = app.0.without(&at))
            }
            Step::File(says) => {
                let says: BTreeMap<_, _> = says.iter().cloned().collect();
                let lines = says
                    .iter()
                    .map(|(at, value)| format!("app.{at} = {value}\n"));
                fs::write(self.file.path(), lines.collect::<String>()).expect("it is written");
                // Rollbacks go back over what the file says now.
                self.documents.clear();
                let done = self.config.reload("a story").await.expect("it is valid");
                return done.record;
            }
            Step::Restart => {
                self.tree.stop().await;
                let (config, tree) = start(Self::sources(&self.file, &self.disk)).await;
                (self.config, self.tree) = (config, tree);
                return None;
            }
        };
        proposal.apply().await.ok()
    }
}

/// What is there after a change that only says what to write.
fn written(before: &Value, writes: &[(String, Value)]) -> Value {
    writes.iter().fold(before.clone(), |document, (at, value)| {
        document
            .with(&path(at), value.clone())
            .expect("it was accepted")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_changes_over_any_files_with_restarts_between_are_what_a_document_says(steps in vec(steps(), 1..12)) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let mut story = Story::begin().await;
            for step in &steps {
                let (before, revision) = (story.document(), story.config.revision());
                let change = story.take(step).await;
                let now = story.document();

                let Some(change) = change else {
                    prop_assert_eq!((now, story.config.revision()), (before, revision), "nothing was made of it");
                    continue;
                };
                if let Step::Set(writes) = step {
                    prop_assert_eq!(&now, &written(&before, writes));
                }
                if let Step::Rollback(back) = step
                    && let Some(then) = story.documents.get(&Revision(revision.0.saturating_sub(*back)))
                {
                    prop_assert_eq!(&now, then);
                }
                let inside = |at: &Path| Path::from_components(at.components().skip(1)).unwrap_or_default();
                for told in &change.changes {
                    let at = inside(&told.path);
                    prop_assert_eq!(told.before.as_ref(), before.get(&at), "before at {}", told.path);
                    prop_assert_eq!(told.after.as_ref(), now.get(&at), "after at {}", told.path);
                }
                for found in diff(&before, &now) {
                    let is_told = change.changes.iter().any(|told| {
                        let at = inside(&told.path);
                        found.path.starts_with(&at) || at.starts_with(&found.path)
                    });
                    prop_assert!(is_told, "{} is not told", found.path);
                }
                story.documents.insert(change.revision, now);
            }
            prop_assert!(story.config.status().alarms.is_empty());
            story.config.reset().await.expect("it is always possible");
            let fresh = load(Sources::new::<FreeTable, FreeTable>().file(story.file.path()));
            prop_assert_eq!(fresh.expect("it is valid").value("app"), Ok(story.document()));
            Ok(())
        })?;
    }
}
