//! Lists and tables from variables, and what is wrong with them.

use serde::{Deserialize, Serialize};
use underpin::config::{ConfigError, FreeTable, Loaded, Schema, Sources, load};

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Server {
    host: String,
    port: u16,
    tags: Vec<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Fleet {
    servers: Vec<Server>,
    ports: Option<Vec<u16>>,
    names: Option<Vec<String>>,
    limit: Option<u16>,
    spare: Server,
}

impl Schema for Fleet {}

fn with(variables: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let sources = Sources::new::<FreeTable, Fleet>().app_prefix("FLEET");
    let variables = variables.iter();
    let full = |(name, text): &(&str, &str)| (format!("FLEET__{name}"), (*text).to_owned());
    load(sources.environment(variables.map(full)))
}

fn read(variables: &[(&str, &str)], path: &str) -> String {
    let loaded = with(variables).unwrap_or_else(|error| panic!("{error}"));
    loaded.value(path).expect("it is there").to_json()
}

fn refused(variables: &[(&str, &str)]) -> String {
    with(variables).expect_err("it is wrong").to_string()
}

/// Whoever gave many variables was sent to the first of their list, whichever was at fault.
#[test]
fn what_is_wrong_in_a_list_names_its_own_variable() {
    let first = ("SERVERS__0__PORT", "80");

    let mistyped = refused(&[first, ("SERVERS__1__PORT", "eighty")]);
    let unknown = refused(&[first, ("SERVERS__1__HOTS", "b")]);
    let gap = refused(&[first, ("SERVERS__2__HOST", "b"), ("SERVERS__3__HOST", "c")]);
    let scalar = refused(&[first, ("PORTS__0", "80"), ("PORTS__1", "x")]);

    for (said, name, place) in [
        (mistyped, "FLEET__SERVERS__1__PORT", "app.servers[1].port"),
        (unknown, "FLEET__SERVERS__1__HOTS", "app.servers.1.hots"),
        (gap, "FLEET__SERVERS__2__HOST", "number 1 is not there"),
        (scalar, "FLEET__PORTS__1", "app.ports[1]"),
    ] {
        assert!(said.contains(name) && said.contains(place), "{said}");
        assert!(!said.contains("FLEET__SERVERS__0__PORT"), "{said}");
    }
}

/// `80, 443` was no list where the default is that there is none.
#[test]
fn a_list_that_is_not_there_yet_is_given_as_any_other() {
    assert_eq!(read(&[("PORTS", "80, 443")], "app.ports"), "[80,443]");
    assert_eq!(read(&[("PORTS", "80")], "app.ports"), "[80]");
    assert_eq!(read(&[("PORTS", "[80]")], "app.ports"), "[80]");
    assert_eq!(read(&[("PORTS", "")], "app.ports"), "null");
    assert_eq!(read(&[("NAMES", "a, 2")], "app.names"), r#"["a","2"]"#);
    let tags = read(&[("SERVERS__0__TAGS", "1, b")], "app.servers");
    assert_eq!(tags, r#"[{"tags":["1","b"]}]"#);

    let text = refused(&[("LIMIT", "a, b")]);
    assert!(text.contains("app.limit") && text.contains("u16"), "{text}");
}

/// A list was read by the order of the fields, and no setting was at its path any more.
#[test]
fn a_list_is_no_table() {
    let list = refused(&[("SPARE", r#"["a", 80, []]"#)]);
    let numbered = refused(&[("SERVERS__0__HOST", "a"), ("SERVERS__1", r#"["b"]"#)]);

    assert!(
        list.contains("app.spare") && list.contains("FLEET__SPARE"),
        "{list}"
    );
    assert!(numbered.contains("app.servers[1]"), "{numbered}");
    assert!(numbered.contains("FLEET__SERVERS__1"), "{numbered}");
}

#[test]
fn a_whole_table_can_be_given_and_parts_of_it_over_that() {
    let sources = Sources::new::<FreeTable, Fleet>().environment([
        ("UNDERPIN__APP__LIMIT", "8"),
        ("UNDERPIN__APP", r#"{"limit": 7, "names": ["a"]}"#),
    ]);

    let loaded = load(sources).expect("it is valid");

    assert_eq!(loaded.value("app.limit"), Ok(8.into()));
    assert_eq!(loaded.value("app.names"), Ok(vec!["a"].into()));
}

#[test]
fn an_environment_may_say_something_else_than_the_one_that_it_lies_over() {
    let limit = |now: &'static [(&'static str, &'static str)]| {
        let given = [("UNDERPIN__APP__LIMIT", "7")];
        let now = move || now.iter().map(|(name, text)| (name.into(), text.into()));
        let sources = Sources::new::<FreeTable, Fleet>().app_prefix("FLEET");
        let loaded = load(sources.environment(given).environment_from(now));
        loaded.expect("it is valid").value("app.limit")
    };

    assert_eq!(limit(&[("FLEET__LIMIT", "8")]), Ok(8.into()));
    let both = [("FLEET__LIMIT", "8"), ("UNDERPIN__APP__LIMIT", "8")];
    assert_eq!(limit(Box::leak(Box::new(both))), Ok(8.into()));
}

#[cfg(unix)]
#[test]
fn what_cannot_be_read_in_an_environment_may_be_set_right_by_the_one_that_lies_over_it() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    let broken = [("UNDERPIN__APP__LIMIT", OsStr::from_bytes(b"\xff"))];
    let now = || [("UNDERPIN__APP__LIMIT".into(), "8".into())];
    let sources = Sources::new::<FreeTable, Fleet>();

    let loaded = load(sources.environment(broken).environment_from(now));

    assert_eq!(
        loaded.expect("it is valid").value("app.limit"),
        Ok(8.into())
    );
}

/// Which of them held was left to the order of the environment.
#[test]
fn two_variables_that_contradict_one_another_are_told() {
    let both = |text: &str| {
        let sources = Sources::new::<FreeTable, Fleet>().app_prefix("FLEET");
        load(sources.environment([("FLEET__LIMIT", "7"), ("UNDERPIN__APP__LIMIT", text)]))
    };

    let refused = both("8").expect_err("one of them is wrong").to_string();

    assert_eq!(
        refused,
        "`app.limit` (from the environment variable UNDERPIN__APP__LIMIT): the environment variable FLEET__LIMIT says something \
         else; unset one of the two"
    );
    assert_eq!(
        both("7").expect("they agree").value("app.limit"),
        Ok(7.into())
    );
    // The environment of the moment is laid over the one that was given.
    let twice = [("FLEET__LIMIT", "7"), ("FLEET__LIMIT", "8")];
    let later = load(
        Sources::new::<FreeTable, Fleet>()
            .app_prefix("FLEET")
            .environment(twice),
    );
    assert_eq!(later.expect("it is valid").value("app.limit"), Ok(8.into()));
}
