//! Where settings come from, and what is wrong with them.

use std::{collections::BTreeMap, fs};

use serde::{Deserialize, Serialize};
use underpin::{
    config::{
        ConfigError, Configuration, FreeTable, Invalid, Loaded, Options, Origin, Problem, Rules,
        Schema, Sources, diff, load,
    },
    telemetry::{self, Telemetry},
    value::Value,
};

use super::foundation::{Foundation, sources};

fn loaded(sources: Sources) -> Loaded {
    load(sources).expect("the sources are valid")
}

fn refused(sources: Sources) -> ConfigError {
    load(sources).expect_err("the sources are not valid")
}

#[test]
fn each_layer_wins_over_the_one_below_and_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let conf_d = folder.path().join("conf.d");
    let file = folder.path().join("node.toml");
    fs::create_dir(&conf_d).expect("it is made");
    fs::write(
        &file,
        "[app.interface]\nmax_results = 1\nquery_timeout = 1\n[app.dev]\ndebug_mode = true\n",
    )
    .expect("written");
    fs::write(
        conf_d.join("10-a.toml"),
        "[app.interface]\nquery_timeout = 2\nenable_streaming = false\n",
    )
    .expect("written");
    fs::write(
        conf_d.join("20-b.toml"),
        "\n[app.interface]\nquery_timeout = 3\n",
    )
    .expect("written");
    fs::write(conf_d.join("notes.txt"), "not toml").expect("written");

    let loaded = loaded(
        sources()
            .file(&file)
            .conf_d(&conf_d)
            .environment([
                ("UNDERPIN__APP__DEV__DEBUG_MODE", "false"),
                ("UNDERPIN__APP__AI__MODEL", "from-env"),
            ])
            .set("app.ai.model=from-flag"),
    );

    let at = |path: &str| {
        let origin = loaded.origin(path).expect("it is there").to_string();
        let folder = folder.path().display().to_string() + "/";
        (
            loaded.value(path).expect("it is there"),
            origin.replace(&folder, ""),
        )
    };
    assert_eq!(
        at("app.interface.max_results"),
        (1.into(), "node.toml, line 2".into())
    );
    assert_eq!(
        at("app.interface.enable_streaming"),
        (false.into(), "conf.d/10-a.toml, line 3".into())
    );
    assert_eq!(
        at("app.interface.query_timeout"),
        (3.into(), "conf.d/20-b.toml, line 3".into())
    );
    assert_eq!(
        at("app.dev.debug_mode"),
        (
            false.into(),
            "the environment variable UNDERPIN__APP__DEV__DEBUG_MODE".into()
        )
    );
    assert_eq!(
        at("app.ai.model"),
        ("from-flag".into(), "--set app.ai.model=…".into())
    );
    assert_eq!(at("app.ai.provider"), ("mock".into(), "the default".into()));
}

#[test]
fn a_flag_that_sets_a_table_leaves_what_variables_say_of_the_rest_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("node.toml");
    fs::write(&file, "[app.db]\na = 1\nb = 1\nc = 1\n").expect("written");
    let sources = Sources::new::<FreeTable, FreeTable>()
        .file(&file)
        .environment([("UNDERPIN__APP__DB__B", "2"), ("UNDERPIN__APP__DB__C", "2")])
        .set("app.db={c = 3}");

    let loaded = loaded(sources);

    let values = ["a", "b", "c"].map(|key| loaded.value(format!("app.db.{key}")));
    assert_eq!(values, [1, 2, 3].map(|value| Ok(Value::from(value))));
    let telemetry = Telemetry::new(telemetry::Options::default());
    let config = Configuration::new(loaded, Options::default(), &telemetry);
    let explained = config.explain("app.db.c").expect("it is there");
    let said: Vec<_> = explained
        .layers
        .iter()
        .map(|(origin, value)| (origin.to_string(), value.as_i64()))
        .collect();
    assert_eq!(
        said,
        [
            ("--set app.db=…".to_owned(), Some(3)),
            (
                "the environment variable UNDERPIN__APP__DB__C".to_owned(),
                Some(2)
            ),
            (format!("{}, line 4", file.display()), Some(1)),
        ]
    );
}

/// Files and variables that say nothing were shown as another default each.
#[test]
fn the_document_is_explained_by_the_layers_that_say_something() {
    let loaded = loaded(Sources::new::<FreeTable, FreeTable>().set("app.x=1"));
    let telemetry = Telemetry::new(telemetry::Options::default());
    let config = Configuration::new(loaded, Options::default(), &telemetry);

    let explained = config.explain("").expect("it is there");

    let said: Vec<_> = explained
        .layers
        .iter()
        .map(|(origin, _)| origin.to_string())
        .collect();
    assert_eq!(said, ["--set app.x=…", "the default"]);
}

#[test]
fn what_a_later_flag_replaces_does_not_come_from_the_earlier_one() {
    let flags = Sources::new::<FreeTable, FreeTable>()
        .set("app.db.a=1")
        .set("app.db.b=1")
        .set("app.db={a = 2}");

    let loaded = loaded(flags);

    let said = ["app.db.a", "app.db.b"].map(|path| {
        let origin = loaded.origin(path).expect("it is there");
        (loaded.value(path), origin.to_string())
    });
    assert_eq!(
        said,
        [
            (Ok(Value::from(2)), "--set app.db=…".to_owned()),
            (Ok(Value::from(1)), "--set app.db.b=…".to_owned()),
        ]
    );
}

#[test]
fn f12_what_a_layer_does_not_say_stays_as_it_was() {
    let before = loaded(sources());
    let after = loaded(sources().environment([
        ("UNDERPIN__APP__AI__PROVIDER", "openai"),
        ("UNDERPIN__APP__DEV__DEBUG_MODE", "true"),
    ]));

    let (before, after) = (
        before.value("").expect("a document"),
        after.value("").expect("a document"),
    );

    let changed: Vec<String> = diff(&before, &after)
        .iter()
        .map(|found| found.path.to_string())
        .collect();
    assert_eq!(changed, ["app.ai.provider", "app.dev.debug_mode"]);
    assert!(diff(&before, &before).is_empty());
}

#[test]
fn everything_that_is_wrong_is_told_at_once_with_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("node.toml");
    fs::write(&file, "[app.interface]\nmax_result = 5\n[aps]\nx = 1\n").expect("written");

    let refused = refused(
        sources()
            .file(&file)
            .environment([("UNDERPIN__APP__DEV__DEBUG_MODE", "maybe")])
            .set("app.ai.provider"),
    );

    let said = refused
        .to_string()
        .replace(&folder.path().display().to_string(), "");
    assert_eq!(refused.problems().len(), 4, "{said}");
    assert!(said.contains("`app.interface.max_result` (from /node.toml, line 2) is not a setting; did you mean `app.interface.max_results`?"), "{said}");
    assert!(
        said.contains("`aps` (from /node.toml, line 3) is not a setting; did you mean `app`?"),
        "{said}"
    );
    assert!(
        said.contains(
            "`app.dev.debug_mode` (from the environment variable UNDERPIN__APP__DEV__DEBUG_MODE): "
        ),
        "{said}"
    );
    assert!(
        said.contains("write it as --set section.key=value"),
        "{said}"
    );
}

#[test]
fn a_value_that_breaks_a_rule_names_its_source() {
    let refused = refused(sources().set("app.ai.planning.sampling_rate=2.0"));

    assert_eq!(
        refused.to_string(),
        "`app.ai.planning.sampling_rate` (from --set app.ai.planning.sampling_rate=…): it must be from 0 to 1"
    );
}

#[test]
fn a_path_without_its_table_is_mended_in_the_error() {
    let refused = refused(sources().set("dev.debug_mode=true"));

    assert!(
        refused.to_string().contains("did you mean `app.dev`?"),
        "{refused}"
    );
}

#[test]
fn a_file_that_is_not_there_is_an_error_only_when_it_must_be() {
    let missing = "/no/such/file.toml";

    assert!(matches!(
        refused(sources().file(missing)).problems(),
        [Problem::Unreadable { .. }]
    ));
    loaded(sources().file_if_present(missing).conf_d("/no/such/folder"));
}

#[test]
fn text_is_read_by_the_type_that_it_meets() {
    let loaded = loaded(
        sources()
            .set("app.ai.model=12")
            .set("app.ai.api_key=12345")
            .set("app.ai.planning.sampling_rate=1")
            .set("app.infrastructure.rate_limiting.default_rules={ mail = { limit = 1, scale = 2 } }"),
    );

    assert_eq!(loaded.value("app.ai.model"), Ok("12".into()));
    assert_eq!(
        loaded.value("app.ai.api_key"),
        Ok("12345".into()),
        "an empty text setting takes digits"
    );
    assert_eq!(loaded.value("app.ai.planning.sampling_rate"), Ok(1.into()));
    assert_eq!(
        loaded.value("app.infrastructure.rate_limiting.default_rules.mail.limit"),
        Ok(1.into())
    );
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Optional {
    level: Option<u32>,
    name: Option<String>,
    workers: u32,
}

impl Schema for Optional {}

#[test]
fn an_empty_variable_is_nothing_where_a_number_need_not_be_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("node.toml");
    fs::write(&file, "[app]\nlevel = 3\nname = 'x'\n").expect("the file is written");
    let given = |variable: &str| {
        let sources = Sources::new::<FreeTable, Optional>().file(&file);
        load(sources.environment([(variable, "")]))
    };
    let value = |variable: &str, path: &str| {
        let loaded = given(variable).expect("an empty variable is accepted");
        loaded.value(path).expect("it is there")
    };

    assert_eq!(value("UNDERPIN__APP__LEVEL", "app.level"), Value::Null);
    assert_eq!(value("UNDERPIN__APP__NAME", "app.name"), Value::from(""));
    assert_eq!(value("OTHER", "app.level"), Value::from(3));
    let refused = given("UNDERPIN__APP__WORKERS").expect_err("a number has to be there");
    let refused = refused.to_string();
    assert!(refused.contains("UNDERPIN__APP__WORKERS"), "{refused}");
    assert!(refused.contains("string \"\""), "{refused}");
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Server {
    host: String,
    port: u16,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default)]
struct Cluster {
    servers: Vec<Server>,
    tags: Vec<String>,
    backup: Option<Vec<Server>>,
    limits: BTreeMap<String, u32>,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            servers: vec![Server::default()],
            tags: Vec::new(),
            backup: None,
            limits: BTreeMap::new(),
        }
    }
}

impl Schema for Cluster {}

#[test]
fn a_list_of_texts_takes_numbers_and_a_single_item() {
    let of = |text: &str| {
        let sources = Sources::new::<FreeTable, Cluster>();
        let loaded = load(sources.environment([("UNDERPIN__APP__TAGS", text)]));
        loaded.map(|loaded| loaded.value("app.tags").map(|tags| tags.to_json()))
    };

    assert_eq!(of("80, 443"), Ok(Ok(r#"["80","443"]"#.to_owned())));
    assert_eq!(of("80"), Ok(Ok(r#"["80"]"#.to_owned())));
    assert_eq!(of("blue"), Ok(Ok(r#"["blue"]"#.to_owned())));
    assert_eq!(of(""), Ok(Ok("[]".to_owned())));
}

#[test]
fn what_is_wrong_in_a_list_is_told_with_its_own_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("node.toml");
    let told = |text: &str| {
        fs::write(&file, text).expect("it is written");
        let refused = load(Sources::new::<FreeTable, Cluster>().file(&file));
        refused.expect_err("the port is too large").to_string()
    };

    let tables = "[[app.servers]]\nhost = \"a\"\n\n[[app.servers]]\nhost = \"b\"\nport = 99999\n";
    let words = told(tables);
    assert!(words.contains("`app.servers[1].port`"), "{words}");
    assert!(words.contains("node.toml, line 6"), "{words}");

    let list = "[app]\nservers = [\n  { host = \"a\" },\n  { prot = 1 },\n]\n";
    let words = told(list);
    assert!(words.contains("node.toml, line 4"), "{words}");
}

#[test]
fn a_key_that_looks_like_an_item_of_a_list_is_told_with_its_own_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("node.toml");
    fs::write(&file, "[app.limits]\nx = 1\n\"x[1]\" = -1\n").expect("it is written");

    let refused = refused(Sources::new::<FreeTable, Cluster>().file(&file)).to_string();

    assert!(refused.contains("`app.limits.x[1]`"), "{refused}");
    assert!(refused.contains("node.toml, line 3"), "{refused}");
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Watched {
    All(bool),
    Only(Vec<String>),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default)]
struct Watching {
    tables: Watched,
}

impl Default for Watching {
    fn default() -> Self {
        Self {
            tables: Watched::Only(vec!["orders".to_owned()]),
        }
    }
}

impl Schema for Watching {}

#[test]
fn a_switch_that_may_be_a_list_as_well_is_no_list_of_its_words() {
    let of = |text: &str| {
        let sources = Sources::new::<FreeTable, Watching>();
        let loaded = loaded(sources.environment([("UNDERPIN__APP__TABLES", text)]));
        loaded.value("app.tables").map(|tables| tables.to_json())
    };

    assert_eq!(of("false"), Ok("false".to_owned()));
    assert_eq!(of("carts"), Ok(r#"["carts"]"#.to_owned()));
    assert_eq!(of("80"), Ok(r#"["80"]"#.to_owned()));
}

#[test]
fn numbered_variables_are_the_items_of_a_list() {
    let loaded = load(Sources::new::<FreeTable, Cluster>().environment([
        ("UNDERPIN__APP__SERVERS__1__HOST", "b"),
        ("UNDERPIN__APP__SERVERS__0__HOST", "10"),
        ("UNDERPIN__APP__SERVERS__0__PORT", "80"),
        ("UNDERPIN__APP__TAGS__0", "x"),
        ("UNDERPIN__APP__TAGS__1", "443"),
        ("UNDERPIN__APP__BACKUP__0__PORT", "81"),
        ("UNDERPIN__APP__LIMITS__7", "9"),
    ]));

    let loaded = loaded.expect("all of it is valid");
    let read = |path: &str| loaded.value(path).expect("it is there").to_json();
    assert_eq!(
        read("app.servers"),
        r#"[{"host":"10","port":80},{"host":"b"}]"#
    );
    assert_eq!(read("app.tags"), r#"["x","443"]"#);
    assert_eq!(read("app.backup"), r#"[{"port":81}]"#);
    assert_eq!(read("app.limits"), r#"{"7":9}"#);
    let origin = loaded.origin("app.tags").expect("it is there").to_string();
    assert_eq!(origin, "the environment variable UNDERPIN__APP__TAGS__0");
}

#[test]
fn a_list_with_a_gap_or_a_wrong_item_names_its_variable() {
    let with = |name: &str, text: &str| {
        let refused = load(Sources::new::<FreeTable, Cluster>().environment([(name, text)]));
        refused.expect_err("it is wrong").to_string()
    };

    let gap = with("UNDERPIN__APP__SERVERS__1__HOST", "b");
    assert!(gap.contains("UNDERPIN__APP__SERVERS__1__HOST"), "{gap}");
    assert!(gap.contains("number 0 is not there"), "{gap}");

    let mistyped = with("UNDERPIN__APP__SERVERS__0__PORT", "eighty");
    assert!(mistyped.contains("app.servers[0].port"), "{mistyped}");
    assert!(
        mistyped.contains("UNDERPIN__APP__SERVERS__0__PORT"),
        "{mistyped}"
    );
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Peer {
    name: String,
    note: String,
    port: u16,
    weight: Option<u32>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Peers {
    peers: Vec<Peer>,
    tags: Vec<String>,
}

impl Schema for Peers {}

/// An empty text beside a number that had to be read as text was taken for nothing, and a valid list was refused.
#[test]
fn each_part_of_a_list_is_read_by_the_type_that_it_meets() {
    let read = |variables: &[(&str, &str)], path: &str| {
        let sources = Sources::new::<FreeTable, Peers>().environment(variables.iter().copied());
        loaded(sources).value(path).expect("it is there").to_json()
    };

    let tags = [
        ("UNDERPIN__APP__TAGS__0", "443"),
        ("UNDERPIN__APP__TAGS__1", ""),
    ];
    assert_eq!(read(&tags, "app.tags"), r#"["443",""]"#);
    let peer = [
        ("UNDERPIN__APP__PEERS__0__NAME", "12"),
        ("UNDERPIN__APP__PEERS__0__NOTE", ""),
    ];
    assert_eq!(read(&peer, "app.peers"), r#"[{"name":"12","note":""}]"#);
    let all = [
        ("UNDERPIN__APP__PEERS__0__NAME", "12"),
        ("UNDERPIN__APP__PEERS__0__NOTE", ""),
        ("UNDERPIN__APP__PEERS__0__PORT", "80"),
        ("UNDERPIN__APP__PEERS__0__WEIGHT", ""),
        ("UNDERPIN__APP__PEERS__1__NAME", "b"),
        ("UNDERPIN__APP__PEERS__1__WEIGHT", ""),
    ];
    assert_eq!(
        read(&all, "app.peers"),
        r#"[{"name":"12","note":"","port":80,"weight":null},{"name":"b","weight":null}]"#
    );
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String")]
struct ApiKey(String);

impl TryFrom<String> for ApiKey {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.is_empty() {
            return Err("a key has at least one character");
        }
        Ok(Self(text))
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Guarded {
    key: Option<ApiKey>,
    other: Option<ApiKey>,
}

impl Schema for Guarded {
    fn rules() -> Rules {
        Rules::live().secret("key")
    }
}

#[test]
fn an_empty_variable_takes_no_secret_away() {
    let given = |variable: &str| {
        let sources = Sources::new::<FreeTable, Guarded>();
        load(sources.environment([(variable, "")]))
    };

    let refused = given("UNDERPIN__APP__KEY").expect_err("the key is not accepted");
    assert!(
        refused.to_string().contains("UNDERPIN__APP__KEY"),
        "{refused}"
    );
    let other = given("UNDERPIN__APP__OTHER").expect("there is none");
    assert_eq!(other.value("app.other"), Ok(Value::Null));
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Demanding {
    token: Option<String>,
}

impl Schema for Demanding {
    fn validate(&self) -> Result<(), Invalid> {
        match self.token {
            Some(_) => Ok(()),
            None => Err(Invalid::failed("token", "a token is needed")),
        }
    }
}

/// Who had misspelt the variable of what a program demands was told only that it is missing.
#[test]
fn what_is_missing_is_told_with_the_variable_that_was_meant_for_it() {
    let sources = Sources::new::<FreeTable, Demanding>();

    let refused = refused(sources.environment([("UNDERPIN_APP_TOKEN", "hunter2")]));

    let said = refused.to_string();
    assert_eq!(refused.problems().len(), 1, "{said}");
    assert_eq!(refused.misnamed().len(), 1, "{said}");
    assert!(said.contains("a token is needed"), "{said}");
    assert!(
        said.contains("did you mean UNDERPIN__APP__TOKEN?"),
        "{said}"
    );
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn programs_have_prefixes_of_their_own() {
    let loaded = loaded(
        Sources::new::<FreeTable, FreeTable>()
            .prefix("SHOP_NODE")
            .app_prefix("SHOP")
            .environment([
                ("SHOP__HTTP__PORT", "80"),
                ("SHOP_NODE__EVENTS__KEEP", "5"),
                ("UNDERPIN__X", "1"),
            ]),
    );

    assert_eq!(loaded.value("app.http.port"), Ok(80.into()));
    assert_eq!(loaded.value("underpin.events.keep"), Ok(5.into()));
    assert!(loaded.value("underpin.x").is_err());
}

#[test]
fn a_free_table_takes_anything() {
    let loaded = loaded(Sources::new::<FreeTable, FreeTable>().set("app.any.thing=[1, 2]"));

    assert_eq!(loaded.value("app.any.thing"), Ok(Value::from(vec![1, 2])));
    assert!(matches!(loaded.origin("app.any"), Ok(Origin::Flag { .. })));
}

#[derive(Default, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Strict {
    workers: u32,
}

impl Schema for Strict {
    fn validate(&self) -> Result<(), Invalid> {
        assert!(self.workers != 13, "a defect of the program");
        Ok(())
    }
}

#[test]
fn a_strict_type_gets_the_same_help() {
    let refused = refused(Sources::new::<FreeTable, Strict>().set("app.wrokers=1"));

    assert_eq!(
        refused.to_string(),
        "`app.wrokers` (from --set app.wrokers=…) is not a setting; did you mean `app.workers`?"
    );
}

#[test]
fn a_validation_that_panics_is_an_error() {
    let refused = refused(Sources::new::<FreeTable, Strict>().set("app.workers=13"));

    assert!(refused.to_string().contains("panicked"), "{refused}");
}

#[test]
fn the_defaults_of_a_type_need_no_source() {
    let loaded = loaded(sources());

    assert_eq!(
        loaded.value("app"),
        underpin::value::to_value(&Foundation::default()).map_err(|error| panic!("{error}"))
    );
}
