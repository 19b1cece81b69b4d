//! From text to layers: variables, flags, and how layers lie over one another. Pure.

use std::collections::{HashMap, VecDeque};

use toml::de::DeValue;

use super::{
    Origin, Problem,
    numbered::{self, Part},
    reading::Meaning,
    sources::Variable,
    toml_file::plain_value,
};
use crate::value::{Limits, Path, Value, ValueError};

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

/// A reading of a given text, and the others that are tried in turn when the first does not fit the type.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reading {
    pub(super) first: Value,
    pub(super) others: VecDeque<Value>,
}

impl Reading {
    pub(super) fn new(first: Value, others: impl IntoIterator<Item = Value>) -> Self {
        let others = others.into_iter().collect();
        Self { first, others }
    }
}

impl Said {
    /// What it means where `like` stands now.
    pub(super) fn read(&self, like: Option<&Value>) -> Meaning {
        match self {
            Self::Text(text) => Meaning::Text(read_value(text, like), None),
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

    pub(super) fn says_anything(&self) -> bool {
        self.values
            .as_map()
            .is_some_and(|values| !values.is_empty())
    }

    /// Where this layer's value at `path` comes from; `None` when it has none. Items of a list are named by their number.
    pub(super) fn origin(&self, path: &Path) -> Option<Origin> {
        said(&self.values, path)?;
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

    pub(super) fn with_origins(
        values: Value,
        origins: HashMap<Path, Origin>,
        otherwise: Origin,
    ) -> Self {
        Self {
            values,
            origins,
            otherwise,
        }
    }

    /// Lays one more value over this layer.
    pub(super) fn put(
        self,
        path: &Path,
        value: Value,
        origins: HashMap<Path, Origin>,
    ) -> Result<Self, ValueError> {
        let values = Value::map().with(path, value)?;
        let otherwise = self.otherwise.clone();
        Ok(self.merge(Self::with_origins(values, origins, otherwise)))
    }

    /// This layer with another laid over it: tables are merged, and all else is replaced.
    pub(super) fn merge(mut self, over: Self) -> Self {
        let merged = self.values.merge(&over.values);
        let below = std::mem::replace(&mut self.values, merged);
        let is_table = |value: Option<&Value>| value.is_some_and(|value| value.as_map().is_some());
        // What is replaced does not come from where it came from.
        self.origins
            .retain(|path, _| match said(&over.values, path) {
                None => said(&self.values, path).is_some(),
                anew => is_table(anew) && is_table(said(&below, path)),
            });
        self.origins.extend(over.origins);
        self
    }
}

/// What stands at `path`; a list for what would be in it.
fn said<'a>(values: &'a Value, path: &Path) -> Option<&'a Value> {
    path.components().try_fold(values, |here, name| match here {
        Value::Map(map) => map.get(name),
        Value::List(_) => Some(here),
        _ => None,
    })
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

/// The variables that name settings. `prefix__SECTION__KEY` is `underpin.section.key`, `prefix__APP__KEY` is `app.key` and
/// `prefix__APP` all of `app`; with an `app_prefix`, `app_prefix__KEY` is `app.key` too. Two that say something else of the same
/// setting are told. Names are matched without regard to case, `_` stands for `-` as well.
pub(super) fn read_environment(
    variables: &[Variable],
    prefix: &str,
    app_prefix: Option<&str>,
    known: &Value,
) -> (Vec<Given>, Vec<Problem>) {
    let mut given = Vec::new();
    let mut problems = Vec::new();
    let mut environment = (0, 0);
    for variable in variables {
        let Some(parts) = parts_of(&variable.name, prefix, app_prefix) else {
            continue;
        };
        if variable.environment != environment.0 {
            environment = (variable.environment, given.len());
        }
        let origin = Origin::Environment {
            variable: variable.name.as_str().into(),
        };
        match Path::from_components(spelt_as_known(known, &parts).iter().map(String::as_str)) {
            Ok(path) => {
                let said = Said::Text(variable.text.clone());
                let one = Given { path, said, origin };
                // What an environment lies over may say something else.
                let mut others = given[environment.1..].iter();
                problems.extend(others.find_map(|other| contradiction(other, &one)));
                given.push(one);
            }
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

/// Which of two variables would hold depends on the order of the environment, which nobody chose.
fn contradiction(a: &Given, b: &Given) -> Option<Problem> {
    let is_one = a.path == b.path && a.said != b.said;
    is_one.then(|| Problem::Refused {
        path: b.path.to_string(),
        origin: b.origin.clone(),
        kind: None,
        reason: format!("{} says something else; unset one of the two", a.origin),
    })
}

fn parts_of(name: &str, prefix: &str, app_prefix: Option<&str>) -> Option<Vec<String>> {
    let after = |prefix: &str| name.strip_prefix(prefix)?.strip_prefix("__");
    let in_app = app_prefix.and_then(after);
    let (table, rest) = match (in_app, after(prefix)) {
        (Some(rest), _) => ("app", rest),
        (None, Some(rest)) => match rest.split_once("__") {
            Some((table, rest)) if table.eq_ignore_ascii_case("app") => ("app", rest),
            None if rest.eq_ignore_ascii_case("app") => return Some(vec!["app".to_owned()]),
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
    // Who puts a space before the `=` does not mean the one after it.
    let is_spaced = path.trim_end() != path;
    let value = if is_spaced { value.trim() } else { value };
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

/// What a text means where `like` stands now: text where text stands, the items of `a, b` or the only one where a list stands,
/// otherwise a TOML value (`true`, `12`, `[1, 2]`, `{a = 1}`) or a list or table in JSON, otherwise text.
pub(super) fn read_value(text: &str, like: Option<&Value>) -> Reading {
    let plain = Value::from(text);
    match (parsed(text.trim()), like) {
        (None, Some(Value::List(_))) => {
            let (first, texts) = (items(text, parsed), items(text, |_| None));
            let other = if texts == first { plain } else { texts };
            Reading::new(first, [other])
        }
        (Some(value), Some(Value::List(_)))
            if value.as_list().is_none() && value.as_map().is_none() =>
        {
            // As it is before it is taken for a text: `false` in place of a list may switch it off.
            let texts = Value::from(vec![plain]);
            Reading::new(Value::from(vec![value.clone()]), [value, texts])
        }
        // For an `Option` of what no empty text can be, it is that there is none.
        (None, _) if text.trim().is_empty() => Reading::new(plain, [Value::Null]),
        // Where nothing stands, there may be place for a list all the same.
        (None, None | Some(Value::Null)) => {
            let (mixed, texts) = (items(text, parsed), items(text, |_| None));
            let texts = (texts != mixed).then_some(texts);
            Reading::new(plain, std::iter::once(mixed).chain(texts))
        }
        (Some(value), None | Some(Value::Null)) if value.is_scalar() => {
            let [one, texts] = [&value, &plain].map(|item| Value::from(vec![item.clone()]));
            Reading::new(value, [plain, one, texts])
        }
        (None, _) => Reading::new(plain, []),
        (Some(value), Some(Value::Text(_))) => Reading::new(plain, [value]),
        (Some(value), _) => Reading::new(value, [plain]),
    }
}

fn parsed(text: &str) -> Option<Value> {
    let value = DeValue::parse(text).ok();
    let value = value.and_then(|value| plain_value(value.get_ref()));
    value.or_else(|| json(text))
}

/// A list or a table as programs write it in a variable.
fn json(text: &str) -> Option<Value> {
    let may_be = text.starts_with(['[', '{']);
    may_be
        .then(|| Value::from_json(text, Limits::CONFIG).ok())
        .flatten()
}

/// A list as people write it in a variable: `a, b, c`; nothing is an empty list. What is not `typed` is text.
fn items(text: &str, typed: impl Fn(&str) -> Option<Value>) -> Value {
    let items = text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty());
    let items = items.map(|item| typed(item).unwrap_or_else(|| Value::from(item)));
    Value::from(items.collect::<Vec<Value>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Value {
        Value::from_json(text, Limits::CONFIG).expect("test document is valid")
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
        let variables = variables.map(|(name, text)| Variable {
            name: name.to_owned(),
            text: text.to_owned(),
            environment: 0,
        });

        let (given, problems) = read_environment(&variables, "UNDERPIN", Some("SHOP"), &known);

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
        let spaced = read_set("app.x = a b ").map(|given| given.said);
        assert_eq!(spaced, Ok(Said::Text("a b".to_owned())));
        let text = read_set("app.x= a").map(|given| given.said);
        assert_eq!(text, Ok(Said::Text(" a".to_owned())));
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
        assert_eq!(read_value("3", Some(&list)).first, json("[3]"));
        assert_eq!(
            read_value("3", Some(&list)).others,
            [json("3"), json(r#"["3"]"#)]
        );
        assert_eq!(
            read_value("1, 2", Some(&list)).others,
            [json(r#"["1", "2"]"#)]
        );
        assert_eq!(
            read_value("{a = 1}", Some(&list)).first,
            json(r#"{"a": 1}"#)
        );
    }
}
