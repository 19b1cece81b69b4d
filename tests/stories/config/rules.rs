//! What rules forbid, hide and hold back, also where a table comes or goes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use underpin::{
    config::{
        AlarmKind, Configuration, FreeTable, Invalid, Options, Rules, Schema, Secret, Sources,
        UpdateError, load, template,
    },
    otp::{Intensity, Supervisor, SupervisorSpec},
    telemetry::{self, Telemetry},
    value::{Limits, Path, Value},
};

use super::reloading::Stage;

fn json(text: &str) -> Value {
    Value::from_json(text, Limits::CONFIG).expect("test document is valid")
}

fn path(text: &str) -> Path {
    Path::parse(text).expect("test path is valid")
}

/// The service with a table of its own.
struct Service {
    config: Configuration,
    _tree: Supervisor,
}

impl Service {
    async fn of<T: Schema>() -> Self {
        Self::with(Sources::new::<FreeTable, T>()).await
    }

    async fn with(sources: Sources) -> Self {
        let telemetry = Telemetry::new(telemetry::Options::default());
        let loaded = load(sources).expect("the sources are valid");
        let config = Configuration::new(loaded, Options::default(), &telemetry);
        let intensity = Intensity::new(3, std::time::Duration::from_secs(5));
        let spec = SupervisorSpec::new("tree", intensity)
            .child(config.child_spec())
            .child(config.watch_spec());
        Self {
            _tree: Supervisor::start(spec).await.expect("the tree starts"),
            config,
        }
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Optional {
    db: Option<Db>,
    name: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Db {
    url: String,
    pool: u32,
    level: u32,
}

impl Schema for Optional {
    fn rules() -> Rules {
        Rules::live().fix("db.url").restart("db.pool")
    }
}

#[tokio::test]
async fn a_setting_that_may_not_change_is_not_changed_through_the_table_around_it() {
    let sources = Sources::new::<FreeTable, Optional>().set("app.db={url = 'one', pool = 1}");
    let service = Service::with(sources).await;
    let config = &service.config;

    let gone = config.update("app.db", Value::Null).await;
    let other = config
        .update("app.db", json(r#"{"url": "other", "pool": 1}"#))
        .await;
    let same = config
        .propose()
        .set("app.db", json(r#"{"url": "one", "pool": 1, "level": 2}"#))
        .apply()
        .await;

    let fixed = Err(UpdateError::Fixed {
        path: path("app.db.url"),
    });
    assert_eq!((gone, other), (fixed.clone(), fixed));
    assert_eq!(same.expect("nothing fixed changes").needs_restart, []);
    assert_eq!(config.get::<String>("app.db.url").as_deref(), Ok("one"));
}

#[tokio::test]
async fn a_table_that_comes_brings_nothing_fixed_and_tells_what_takes_a_restart() {
    #[derive(Debug, Default, Serialize, Deserialize)]
    #[serde(default)]
    struct Restarting {
        db: Option<Db>,
    }
    impl Schema for Restarting {
        fn rules() -> Rules {
            Rules::live().restart("db.pool")
        }
    }
    let fixed = Service::of::<Optional>().await.config;
    let restarting = Service::of::<Restarting>().await;

    let refused = fixed.update("app.db", json(r#"{"url": "one"}"#)).await;
    let change = restarting
        .config
        .propose()
        .set("app.db", json(r#"{"pool": 4}"#));
    let change = change.apply().await.expect("it may be written");

    assert!(
        matches!(&refused, Err(UpdateError::Fixed { path }) if path.to_string() == "app.db.url"),
        "{refused:?}"
    );
    assert_eq!(change.needs_restart, [path("app.db.pool")]);
    assert_eq!(
        restarting.config.status().restart_needed,
        [path("app.db.pool")]
    );
}

#[tokio::test]
async fn a_table_with_something_fixed_that_goes_from_a_file_is_held_as_a_whole() {
    let stage = Stage::with("[app.db]\nurl = \"one\"\npool = 1\n");
    let service = Service::with(Sources::new::<FreeTable, Optional>().file(&stage.file)).await;
    let config = &service.config;

    stage.write("[app]\nname = \"x\"\n");
    let done = config.reload("").await.expect("it is valid");

    assert_eq!(done.held, [path("app.db")]);
    assert_eq!(config.get::<String>("app.db.url").as_deref(), Ok("one"));
    assert_eq!(config.get::<String>("app.name").as_deref(), Ok("x"));
    let origin = config.origin("app.db.url").expect("it is there");
    assert!(
        origin.to_string().ends_with("node.toml, line 1"),
        "where what holds came from: {origin}"
    );
    // It was told of the table, and not of what is in it.
    let is_held = |at: &str| config.explain(at).map(|found| found.held);
    assert_eq!(
        (is_held("app.db"), is_held("app.db.url")),
        (Ok(true), Ok(true))
    );
    assert_eq!(is_held("app.name"), Ok(false));
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Auth {
    Off(bool),
    Token(Secret<String>),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Backend {
    Memory,
    Disk {
        #[serde(default)]
        folder: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default)]
struct Shifting {
    auth: Auth,
    backend: Backend,
}

impl Default for Shifting {
    fn default() -> Self {
        Self {
            auth: Auth::Off(false),
            backend: Backend::Memory,
        }
    }
}

impl Schema for Shifting {}

#[tokio::test]
async fn a_scalar_that_its_type_makes_a_secret_of_is_refused() {
    let service = Service::of::<Shifting>().await;

    let refused = service.config.update("app.auth", "hunter2").await;

    let told = refused.expect_err("no rule hides it").to_string();
    assert!(told.contains(".secret(\"auth\")"), "{told}");
    assert_eq!(service.config.get_value("app.auth"), Ok(Value::from(false)));
}

#[tokio::test]
async fn a_scalar_that_gives_its_table_other_keys_brings_them_all() {
    let service = Service::of::<Shifting>().await;

    service
        .config
        .update("app.backend.kind", "disk")
        .await
        .expect("it is valid");

    assert_eq!(
        service.config.get_value("app.backend"),
        Ok(json(r#"{"folder": "", "kind": "disk"}"#))
    );
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default)]
struct Keyring {
    accounts: Vec<BTreeMap<String, u32>>,
    tokens: Vec<Secret<String>>,
    token: String,
}

impl Default for Keyring {
    fn default() -> Self {
        Self {
            accounts: vec![BTreeMap::from([("key".to_owned(), 4711)])],
            tokens: vec![Secret::new("hunter2".to_owned())],
            token: "hunter2".to_owned(),
        }
    }
}

impl Schema for Keyring {
    fn rules() -> Rules {
        Rules::live().secret("accounts.*.key").secret("token")
    }
}

#[tokio::test]
async fn what_does_not_fit_in_a_list_with_secrets_is_not_shown() {
    let service = Service::of::<Keyring>().await;

    let refused = service
        .config
        .update("app.accounts", json(r#"[{"key": 1}, {"key": "hunter2"}]"#))
        .await;

    let told = format!("{refused:?} {}", refused.as_ref().expect_err("no number"));
    assert!(told.contains("it is secret"), "{told}");
    assert!(told.contains("accounts[1].key"), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
}

#[tokio::test]
async fn what_does_not_fit_in_the_whole_document_is_not_shown_where_it_is_secret() {
    #[derive(Debug, Deserialize)]
    struct Root<T> {
        #[expect(dead_code, reason = "it is never read")]
        app: T,
    }
    #[derive(Debug, Deserialize)]
    struct Mistyped {
        #[expect(dead_code, reason = "it is never read")]
        token: bool,
    }
    #[derive(Debug, Deserialize)]
    struct Named {
        #[expect(dead_code, reason = "it is never read")]
        tokens: Vec<String>,
        #[expect(dead_code, reason = "it is never read")]
        name: bool,
    }
    let service = Service::of::<Keyring>().await;
    let config = &service.config;

    let told = [
        config.get::<Root<Mistyped>>("").expect_err("it is no bool"),
        config.get::<Mistyped>("app").expect_err("it is no bool"),
        config.get::<bool>("").expect_err("it is no bool"),
        config.get::<Named>("app").expect_err("there is no name"),
    ];

    for told in &told {
        assert!(!format!("{told:?} {told}").contains("hunter2"), "{told:?}");
    }
    assert!(told[0].to_string().contains("it is secret"), "{}", told[0]);
}

#[test]
fn a_template_shows_no_secret_in_a_list() {
    let text = template(&Sources::new::<FreeTable, Keyring>()).expect("the defaults are good");

    assert!(
        !text.contains("hunter2") && !text.contains("4711"),
        "{text}"
    );
    for name in ["accounts", "tokens", "token"] {
        assert!(text.contains(&format!("# {name} = … (secret)\n")), "{text}");
    }
}

/// Two limits, of which one may not be above the other.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default)]
struct Limited {
    low: u32,
    high: u32,
}

impl Default for Limited {
    fn default() -> Self {
        Self { low: 1, high: 10 }
    }
}

impl Schema for Limited {
    fn validate(&self) -> Result<(), Invalid> {
        if self.low > self.high {
            return Err(Invalid::constraint("low", "it is above `high`"));
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn files_that_were_refused_are_taken_over_when_what_was_against_it_has_gone() {
    let stage = Stage::with("[app]\nhigh = 10\n");
    let service = Service::with(Sources::new::<FreeTable, Limited>().file(&stage.file)).await;
    let config = &service.config;
    let is_raised = || {
        config
            .status()
            .alarms
            .iter()
            .any(|alarm| alarm.kind == AlarmKind::FilesBroken)
    };
    config.update("app.low", 9).await.expect("it is valid");
    stage.write("[app]\nhigh = 5\n");
    while !is_raised() {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }

    config.reset().await.expect("it can be reset");

    let mut high = config.subscribe("app.high").expect("a path");
    while high.recv().await.and_then(|notice| notice.value) != Some(5.into()) {}
    assert!(config.status().is_healthy());
}
