//! From text to layers: files, variables, flags. Pure.

use std::{
    collections::HashMap,
    path::{Path as FilePath, PathBuf},
    sync::Arc,
};

use toml::de::{DeTable, DeValue};

use super::{
    Origin, Problem,
    numbered::{self, Part},
};
use crate::value::{Limits, Map, Path, Value, ValueError};

/// One source's part of the document, and where each value in it stands.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub(super) values: Value,
    origins: HashMap<Path, Origin>,
    otherwise: Origin,
}

/// A setting given as text: its type is found by what stands there in the layers below.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Given {
    pub(super) path: Path,
    pub(super) said: Said,
    pub(super) origin: Origin,
}

/// What is given for a setting.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    Text(String),
    /// The parts of a list, each by its own variable.
    Parts(Vec<Part>),
}

/// A reading of a given text, and the other reading that is tried when the first does not fit the type.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reading {
    pub(super) first: Value,
    pub(super) second: Option<Value>,
}

impl Said {
    /// What it means where `like` stands now.
    pub(super) fn read(&self, like: Option<&Value>) -> Reading {
        match self {
            Self::Text(text) => read_value(text, like),
            Self::Parts(parts) => numbered::read_parts(parts, like),
        }
    }
}

impl Layer {
    pub(super) fn new(values: Value, otherwise: Origin) -> Self {
        Self {
            values,
            origins: HashMap::new(),
            otherwise,
        }
    }

    /// Where this layer's value at `path` comes from; `None` when it has none.
    pub(super) fn origin(&self, path: &Path) -> Option<Origin> {
        self.values.get(path)?;
        let above = || {
            std::iter::successors(Some(path.clone()), Path::parent)
                .find_map(|at| self.origins.get(&at))
        };
        let beneath = || {
            let inside = self.origins.iter().filter(|(at, _)| at.starts_with(path));
            inside.min_by(|a, b| a.0.cmp(b.0)).map(|(_, origin)| origin)
        };
        Some(above().or_else(beneath).unwrap_or(&self.otherwise).clone())
    }

    /// Lays one more value over this layer.
    pub(super) fn put(
        &mut self,
        path: &Path,
        value: Value,
        origin: Origin,
    ) -> Result<(), ValueError> {
        self.values = with_tables(&self.values, path, value)?;
        self.origins.insert(path.clone(), origin);
        Ok(())
    }

    /// This layer with another laid over it.
    pub(super) fn merge(mut self, over: Self) -> Self {
        self.values = self.values.merge(&over.values);
        self.origins.extend(over.origins);
        self
    }
}

/// `document` with `value` at `path`; what is not a table on the way there becomes one.
pub(super) fn with_tables(
    document: &Value,
    path: &Path,
    value: Value,
) -> Result<Value, ValueError> {
    let mut document = document.clone();
    let mut above = path.parent();
    let mut obstacle = None;
    while let Some(at) = above.filter(|at| !at.is_empty()) {
        if document
            .get(&at)
            .is_some_and(|found| found.as_map().is_none())
        {
            obstacle = Some(at.clone());
        }
        above = at.parent();
    }
    if let Some(at) = obstacle {
        document = document.with(&at, Value::Null)?;
    }
    document.with(path, value)
}

/// Reads a settings file.
pub(super) fn read_toml(file: &FilePath, text: &str) -> Result<Layer, Problem> {
    let lines = Lines::of(text);
    let parsed = DeTable::parse(text).map_err(|error| {
        let (line, column) = lines.place(error.span().map_or(0, |span| span.start));
        Problem::Syntax {
            file: file.to_owned(),
            line,
            column,
            reason: error.message().to_owned(),
        }
    })?;
    let mut reader = TomlReader {
        file: Arc::new(file.to_owned()),
        lines,
        origins: HashMap::new(),
    };
    let values = reader.table(&Path::root(), parsed.get_ref())?;
    Ok(Layer {
        values,
        origins: reader.origins,
        otherwise: Origin::File {
            file: reader.file,
            line: 1,
        },
    })
}

/// The variables that name settings. `prefix__SECTION__KEY` is `underpin.section.key`, `prefix__APP__KEY` is `app.key`; with an
/// `app_prefix`, `app_prefix__KEY` is `app.key` too. Names are matched without regard to case, `_` stands for `-` as well.
pub(super) fn read_environment<'a>(
    variables: impl Iterator<Item = (&'a str, &'a str)>,
    prefix: &str,
    app_prefix: Option<&str>,
    known: &Value,
) -> (Vec<Given>, Vec<Problem>) {
    let mut given = Vec::new();
    let mut problems = Vec::new();
    for (name, text) in variables {
        let Some(parts) = parts_of(name, prefix, app_prefix) else {
            continue;
        };
        let origin = Origin::Environment {
            variable: name.into(),
        };
        match Path::from_components(spelt_as_known(known, &parts).iter().map(String::as_str)) {
            Ok(path) => given.push(Given {
                path,
                said: Said::Text(text.to_owned()),
                origin,
            }),
            Err(error) => problems.push(Problem::Unnamed {
                origin,
                reason: error.to_string(),
            }),
        }
    }
    let (given, gaps) = numbered::gathered(given, known);
    problems.extend(gaps);
    (given, problems)
}

fn parts_of(name: &str, prefix: &str, app_prefix: Option<&str>) -> Option<Vec<String>> {
    let after = |prefix: &str| name.strip_prefix(prefix)?.strip_prefix("__");
    let in_app = app_prefix.and_then(after);
    let (table, rest) = match (in_app, after(prefix)) {
        (Some(rest), _) => ("app", rest),
        (None, Some(rest)) => match rest.split_once("__") {
            Some((table, rest)) if table.eq_ignore_ascii_case("app") => ("app", rest),
            _ => ("underpin", rest),
        },
        (None, None) => return None,
    };
    Some(
        std::iter::once(table)
            .chain(rest.split("__"))
            .map(str::to_lowercase)
            .collect(),
    )
}

/// The names as the document spells them, level by level, where it knows them.
fn spelt_as_known(known: &Value, parts: &[String]) -> Vec<String> {
    let mut here = Some(known);
    parts
        .iter()
        .map(|part| {
            let level = here.and_then(Value::as_map);
            let found = level.and_then(|map| map.iter().find(|(key, _)| plain_name(key) == *part));
            here = found.map(|(_, value)| value);
            found.map_or_else(|| part.clone(), |(key, _)| key.to_owned())
        })
        .collect()
}

/// A key as a variable can spell it.
pub(super) fn plain_name(key: &str) -> String {
    key.to_lowercase().replace('-', "_")
}

/// Reads `a.b=c` as `--set` takes it.
pub(super) fn read_set(text: &str) -> Result<Given, Problem> {
    // Without a `=`, some of it may be a value, which may be a secret.
    let untold = || (text.split([':', ' ']).next().unwrap_or_default(), "");
    let (path, value) = text.split_once('=').unwrap_or_else(untold);
    let origin = Origin::Flag { path: path.into() };
    if !text.contains('=') {
        return Err(Problem::Unnamed {
            origin,
            reason: "there is no `=`; write it as --set section.key=value".to_owned(),
        });
    }
    match Path::parse(path.trim()) {
        Ok(path) => Ok(Given {
            path,
            said: Said::Text(value.to_owned()),
            origin,
        }),
        Err(error) => Err(Problem::Unnamed {
            origin,
            reason: error.to_string(),
        }),
    }
}

/// What a text means where `like` stands now: text where text stands, otherwise a TOML value (`true`, `12`, `[1, 2]`, `{a = 1}`) or a
/// list or table in JSON, otherwise the items of `a, b` where a list stands, otherwise text.
pub(super) fn read_value(text: &str, like: Option<&Value>) -> Reading {
    let plain = Value::from(text);
    let parsed = DeValue::parse(text.trim()).ok();
    let parsed = parsed.and_then(|value| plain_value(value.get_ref()));
    let parsed = parsed.or_else(|| json(text.trim()));
    match (parsed, like) {
        (None, Some(Value::List(_))) => Reading {
            first: items(text),
            second: Some(plain),
        },
        (None, _) => Reading {
            first: plain,
            second: None,
        },
        (Some(value), Some(Value::Text(_))) => Reading {
            first: plain,
            second: Some(value),
        },
        (Some(value), _) => Reading {
            first: value,
            second: Some(plain),
        },
    }
}

/// A list or a table as programs write it in a variable.
fn json(text: &str) -> Option<Value> {
    let may_be = text.starts_with(['[', '{']);
    may_be
        .then(|| Value::from_json(text, Limits::CONFIG).ok())
        .flatten()
}

/// A list as people write it in a variable: `a, b, c`; nothing is an empty list.
fn items(text: &str) -> Value {
    let items = text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty());
    let items: Vec<Value> = items.map(|item| read_value(item, None).first).collect();
    Value::from(items)
}

fn plain_value(value: &DeValue<'_>) -> Option<Value> {
    let mut reader = TomlReader {
        file: Arc::new(PathBuf::new()),
        lines: Lines::of(""),
        origins: HashMap::new(),
    };
    reader.value(&Path::root(), value, 0).ok()
}

struct TomlReader {
    file: Arc<PathBuf>,
    lines: Lines,
    origins: HashMap<Path, Origin>,
}

impl TomlReader {
    fn table(&mut self, at: &Path, table: &DeTable<'_>) -> Result<Value, Problem> {
        let mut entries = Vec::with_capacity(table.len());
        for (key, value) in table {
            let start = key.span().start;
            let path = at
                .child(key.get_ref())
                .map_err(|error| self.refuse(start, error.to_string()))?;
            let (line, _) = self.lines.place(start);
            let origin = Origin::File {
                file: Arc::clone(&self.file),
                line,
            };
            self.origins.insert(path.clone(), origin);
            entries.push((
                key.get_ref().as_ref(),
                self.value(&path, value.get_ref(), start)?,
            ));
        }
        Ok(entries.into_iter().collect::<Map>().into())
    }

    fn value(&mut self, at: &Path, value: &DeValue<'_>, start: usize) -> Result<Value, Problem> {
        match value {
            DeValue::String(text) => Ok(Value::from(text.as_ref())),
            DeValue::Boolean(flag) => Ok(Value::Bool(*flag)),
            DeValue::Datetime(time) => Ok(Value::from(time.to_string())),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map(Value::Int)
                .or_else(|_| u64::from_str_radix(number.as_str(), number.radix()).map(Value::from))
                .map_err(|_| {
                    self.refuse(
                        start,
                        "the number is beyond 64 bits; use a smaller one".to_owned(),
                    )
                }),
            DeValue::Float(number) => number
                .as_str()
                .parse()
                .map(Value::Float)
                .map_err(|_| self.refuse(start, "the number cannot be read".to_owned())),
            DeValue::Array(items) => items
                .iter()
                .map(|item| self.list_item(item.get_ref(), start))
                .collect::<Result<Vec<Value>, Problem>>()
                .map(Value::from),
            DeValue::Table(table) => self.table(at, table),
        }
    }

    /// A list is one value: what stands inside has no origin of its own.
    fn list_item(&mut self, item: &DeValue<'_>, start: usize) -> Result<Value, Problem> {
        let kept = std::mem::take(&mut self.origins);
        let value = self.value(&Path::root(), item, start);
        self.origins = kept;
        value
    }

    fn refuse(&self, start: usize, reason: String) -> Problem {
        let (line, column) = self.lines.place(start);
        Problem::Syntax {
            file: self.file.as_ref().clone(),
            line,
            column,
            reason,
        }
    }
}

/// Where each line of a text starts.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        Self(std::iter::once(0).chain(ends).collect())
    }

    /// Line and column, from 1, of a byte.
    fn place(&self, byte: usize) -> (usize, usize) {
        let line = self.0.partition_point(|start| *start <= byte).max(1);
        (line, byte - self.0[line - 1] + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Value {
        Value::from_json(text, Limits::CONFIG).expect("test document is valid")
    }

    fn path(text: &str) -> Path {
        Path::parse(text).expect("test path is valid")
    }

    fn layer(text: &str) -> Layer {
        read_toml(FilePath::new("a.toml"), text).expect("test file is valid")
    }

    #[test]
    fn every_value_of_a_file_knows_its_line() {
        let layer = layer(
            "# first\n[app]\nname = \"x\"\n\n[app.http]\nport = 0x50\ntags = [\"a\", { b = 1 }]\n",
        );

        assert_eq!(
            layer.values,
            json(r#"{"app": {"name": "x", "http": {"port": 80, "tags": ["a", {"b": 1}]}}}"#)
        );
        let port = layer
            .origin(&path("app.http.port"))
            .expect("the port is there");
        assert_eq!(port.to_string(), "a.toml, line 6");
        assert_eq!(layer.origin(&path("app.http.host")), None);
    }

    #[test]
    fn a_file_that_is_not_toml_names_the_place_and_shows_nothing_of_it() {
        let refused = read_toml(FilePath::new("a.toml"), "[app]\ntoken = \"hunter2\nx = 1\n")
            .expect_err("a string is open");

        let Problem::Syntax { line, .. } = &refused else {
            panic!("not a syntax problem: {refused}");
        };
        assert_eq!(*line, 2);
        assert!(!refused.to_string().contains("hunter2"));
    }

    #[test]
    fn variables_name_settings_of_both_tables() {
        let known = json(
            r#"{"app": {"maxItems": 1, "rate-limit": {"burst": 2}}, "underpin": {"events": {}}}"#,
        );
        let variables = [
            ("UNDERPIN__EVENTS__DURABILITY", "always"),
            ("UNDERPIN__APP__MAXITEMS", "3"),
            ("UNDERPIN__APP__RATE_LIMIT__BURST", "4"),
            ("SHOP__NAME", "x"),
            ("UNDERPIN_NODE", "http://127.0.0.1"),
            ("PATH", "/bin"),
        ];

        let (given, problems) =
            read_environment(variables.into_iter(), "UNDERPIN", Some("SHOP"), &known);

        let paths: Vec<String> = given.iter().map(|given| given.path.to_string()).collect();
        assert_eq!(
            paths,
            [
                "app.maxItems",
                "app.name",
                "app.rate-limit.burst",
                "underpin.events.durability"
            ]
        );
        assert!(problems.is_empty());
    }

    #[test]
    fn a_flag_needs_a_path_and_an_equals_sign() {
        assert_eq!(
            read_set("app.x=a=b").map(|given| given.said),
            Ok(Said::Text("a=b".to_owned()))
        );
        let mistyped = read_set("app.x: hunter2").expect_err("there is no `=`");
        assert!(matches!(&mistyped, Problem::Unnamed { .. }));
        assert!(!mistyped.to_string().contains("hunter2"), "{mistyped}");
        assert!(matches!(read_set("=1"), Err(Problem::Unnamed { .. })));
    }

    #[test]
    fn a_text_is_read_by_what_stands_there() {
        assert_eq!(read_value("12", None).first, Value::Int(12));
        assert_eq!(
            read_value("12", Some(&Value::from("text"))).first,
            Value::from("12")
        );
        assert_eq!(read_value("[1, 2]", None).first, Value::from(vec![1, 2]));
        assert_eq!(read_value("{ a = 1.5 }", None).first, json(r#"{"a": 1.5}"#));
        assert_eq!(
            read_value(r#"[{"a": null}]"#, None).first,
            json(r#"[{"a": null}]"#)
        );
        assert_eq!(
            read_value("just words", None).first,
            Value::from("just words")
        );
        assert_eq!(read_value("", None).first, Value::from(""));
        let list = Value::from(vec!["x"]);
        assert_eq!(read_value("a, 2", Some(&list)).first, json(r#"["a", 2]"#));
        assert_eq!(read_value("[3]", Some(&list)).first, json("[3]"));
        assert_eq!(read_value("", Some(&list)).first, json("[]"));
    }
}
