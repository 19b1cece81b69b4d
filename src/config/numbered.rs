//! Lists from numbered variables: `…__SERVERS__0__HOST` and `…__SERVERS__1__HOST` are the first two items of `servers`. Pure.

use std::collections::BTreeMap;

use super::{
    Origin, Problem,
    reading::Meaning,
    source::{Given, Said, plain_name, read_value},
};
use crate::value::{Path, Value};

/// One text for a place in a list.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    /// The number of the item first.
    at: Vec<String>,
    text: String,
    origin: Origin,
}

/// Puts the numbered variables of each list together. A number is the place in a list where a list stands; where nothing stands yet,
/// it is one when all of them together number the items from 0 without a gap, and otherwise a key.
pub(super) fn gathered(given: Vec<Given>, known: &Value) -> (Vec<Given>, Vec<Problem>) {
    let (mut rest, mut problems) = (Vec::new(), Vec::new());
    let mut lists: BTreeMap<Path, Vec<Given>> = BTreeMap::new();
    for one in given {
        match list_around(&one.path, known) {
            Some(list) => lists.entry(list).or_default().push(one),
            None => rest.push(one),
        }
    }
    for (list, parts) in lists {
        match (first_gap(&list, &parts), known.get(&list)) {
            (None, _) => rest.extend(one_list(&list, parts)),
            (Some(gap), Some(Value::List(_))) => problems.push(Problem::Unnamed {
                origin: after_gap(&list, &parts, gap).clone(),
                reason: format!(
                    "the items of the list `{list}` are numbered from 0 without a gap, and number {gap} is not there"
                ),
            }),
            (Some(_), _) => rest.extend(parts),
        }
    }
    // Stable: a list that is also given as a whole comes after that.
    rest.sort_by(|a, b| a.path.cmp(&b.path));
    (rest, problems)
}

/// What the parts of a list come to; `like` is what stands in its place.
pub(super) fn read_parts(parts: &[Part], like: Option<&Value>) -> Meaning {
    let parts: Vec<_> = parts.iter().map(|part| (&*part.at, part)).collect();
    read_list(&parts, like)
}

/// Where the list would be of which the path names a part.
fn list_around(path: &Path, known: &Value) -> Option<Path> {
    let parts: Vec<&str> = path.components().collect();
    let numbered = (1..parts.len()).filter(|at| number(parts[*at]).is_some());
    let mut lists =
        numbered.filter_map(|at| Path::from_components(parts[..at].iter().copied()).ok());
    lists.find(|list| matches!(known.get(list), None | Some(Value::Null | Value::List(_))))
}

fn first_gap(list: &Path, parts: &[Given]) -> Option<usize> {
    let numbers = parts.iter().filter_map(|part| number_in(list, part));
    gap(numbers.collect())
}

/// Where the first item behind the gap comes from: its number is the one to mend.
fn after_gap<'a>(list: &Path, parts: &'a [Given], gap: usize) -> &'a Origin {
    let behind = parts
        .iter()
        .filter(|part| number_in(list, part) > Some(gap));
    let first = behind.min_by_key(|part| number_in(list, part));
    &first.unwrap_or(&parts[0]).origin
}

fn number_in(list: &Path, part: &Given) -> Option<usize> {
    number(part.path.components().nth(list.len())?)
}

fn one_list(list: &Path, parts: Vec<Given>) -> Option<Given> {
    let origin = parts.first()?.origin.clone();
    let parts = parts.into_iter().filter_map(|given| {
        let at = given.path.components().skip(list.len());
        let at = at.map(str::to_owned).collect();
        let origin = given.origin;
        match given.said {
            Said::Text(text) => Some(Part { at, text, origin }),
            Said::Parts(_) => None,
        }
    });
    Some(Given {
        path: list.clone(),
        said: Said::Parts(parts.collect()),
        origin,
    })
}

/// A number as it is written: no sign, no leading zeros.
fn number(text: &str) -> Option<usize> {
    let number: usize = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// Texts, each with what is left of its place.
type Texts<'a> = [(&'a [String], &'a Part)];

fn read(parts: &Texts<'_>, like: Option<&Value>) -> Meaning {
    let deeper = parts.iter().any(|(at, _)| !at.is_empty());
    match parts {
        [.., (_, part)] if !deeper => {
            Meaning::Text(read_value(&part.text, like), Some(part.origin.clone()))
        }
        _ if !matches!(like, Some(Value::Map(_))) && is_numbered(parts) => read_list(parts, like),
        _ => read_table(parts, like),
    }
}

/// Whether the parts number the items of a list, from 0 without a gap.
fn is_numbered(parts: &Texts<'_>) -> bool {
    let keys = parts.iter().filter_map(|(at, _)| at.first());
    let numbers: Option<Vec<usize>> = keys.map(|key| number(key)).collect();
    numbers.is_some_and(|numbers| gap(numbers).is_none())
}

fn gap(mut numbers: Vec<usize>) -> Option<usize> {
    numbers.sort_unstable();
    numbers.dedup();
    let mut counted = (0..).zip(numbers);
    counted.find(|(at, number)| at != number).map(|(at, _)| at)
}

fn read_list(parts: &Texts<'_>, like: Option<&Value>) -> Meaning {
    let like = like
        .and_then(Value::as_list)
        .and_then(|items| items.first());
    let items = inside(parts, |key| number(key).unwrap_or(usize::MAX));
    let items = items.into_values().map(|parts| read(&parts, like));
    Meaning::List(items.collect())
}

fn read_table(parts: &Texts<'_>, like: Option<&Value>) -> Meaning {
    let known = |key: &str| {
        let known = like.and_then(Value::as_map)?;
        known.iter().find(|(name, _)| plain_name(name) == key)
    };
    let inside = inside(parts, |key| {
        known(key).map_or_else(|| key.to_owned(), |(name, _)| name.to_owned())
    });
    let entries = inside.into_iter().map(|(key, parts)| {
        let like = like.and_then(|like| like.as_map()?.get(&key));
        let meaning = read(&parts, like);
        (key, meaning)
    });
    Meaning::Table(entries.collect())
}

/// The parts by what they are inside of.
fn inside<'a, K: Ord>(
    parts: &Texts<'a>,
    key: impl Fn(&str) -> K,
) -> BTreeMap<K, Vec<(&'a [String], &'a Part)>> {
    let mut found: BTreeMap<K, Vec<_>> = BTreeMap::new();
    for (at, part) in parts {
        if let Some((first, rest)) = at.split_first() {
            found.entry(key(first)).or_default().push((rest, *part));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Origin, value::Limits};

    fn json(text: &str) -> Value {
        Value::from_json(text, Limits::CONFIG).expect("test document is valid")
    }

    fn given(path: &str, text: &str) -> Given {
        Given {
            path: Path::parse(path).expect("test path is valid"),
            said: Said::Text(text.to_owned()),
            origin: Origin::Environment {
                variable: path.into(),
            },
        }
    }

    /// Lays what is given over an empty document.
    fn read_all(given: Vec<Given>, known: &Value) -> Value {
        let (given, problems) = gathered(given, known);
        assert_eq!(problems, []);
        given.into_iter().fold(Value::map(), |document, one| {
            let meaning = one.said.read(known.get(&one.path));
            document
                .with(&one.path, meaning.value())
                .expect("the path is free")
        })
    }

    #[test]
    fn numbered_texts_are_the_items_of_a_list_in_their_order() {
        let texts = (0..12)
            .rev()
            .map(|n| given(&format!("app.tags.{n}"), &n.to_string()));

        let read = read_all(texts.collect(), &json(r#"{"app": {"tags": []}}"#));

        let expected: Vec<i64> = (0..12).collect();
        assert_eq!(
            read.get(&Path::parse("app.tags").expect("a path")),
            Some(&Value::from(expected))
        );
    }

    #[test]
    fn tables_in_a_list_are_spelt_and_typed_as_those_that_stand_there() {
        let known = json(r#"{"app": {"servers": [{"maxConn": 1, "name": "a", "ports": [1]}]}}"#);
        let texts = vec![
            given("app.servers.0.maxconn", "7"),
            given("app.servers.0.name", "80"),
            given("app.servers.0.ports.0", "1"),
            given("app.servers.0.ports.1", "2"),
            given("app.servers.1.name", "b"),
        ];

        let read = read_all(texts, &known);

        assert_eq!(
            read,
            json(
                r#"{"app": {"servers": [{"maxConn": 7, "name": "80", "ports": [1, 2]}, {"name": "b"}]}}"#
            )
        );
    }

    #[test]
    fn a_gap_is_told_where_a_list_stands_and_a_key_where_nothing_does() {
        let texts = || vec![given("app.ports.0", "a"), given("app.ports.2", "c")];

        let (_, problems) = gathered(texts(), &json(r#"{"app": {"ports": [1]}}"#));
        assert!(
            problems[0].to_string().contains("number 1 is not there"),
            "{problems:?}"
        );

        let read = read_all(texts(), &json(r#"{"app": {}}"#));
        assert_eq!(read, json(r#"{"app": {"ports": {"0": "a", "2": "c"}}}"#));
    }

    #[test]
    fn numbers_are_keys_where_a_table_stands() {
        let texts = vec![given("app.ports.0", "a"), given("app.ports.1", "b")];

        let read = read_all(texts, &json(r#"{"app": {"ports": {}}}"#));

        assert_eq!(read, json(r#"{"app": {"ports": {"0": "a", "1": "b"}}}"#));
    }
}
