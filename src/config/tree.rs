//! Walks over a document: merge, fill, differences, weight, redaction, suggestions. Pure.

use super::Rules;
use crate::value::{Map, Path, Value};

/// What stands in the place of a secret.
pub(super) const REDACTED: &str = "[secret]";

/// One leaf that is not the same in two documents. Lists are leaves.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Where.
    pub path: Path,
    /// The value in the first document; `None` when it was not there.
    pub before: Option<Value>,
    /// The value in the second document; `None` when it is gone.
    pub after: Option<Value>,
}

/// What is not the same in two documents, leaf by leaf, in the order of the keys; empty when they are equal.
///
/// ```
/// use underpin::{config::diff, value::{Limits, Value}};
///
/// let old = Value::from_json(r#"{"a": 1, "b": {"c": 2}}"#, Limits::CONFIG)?;
/// let new = Value::from_json(r#"{"a": 1, "b": {"c": 3}}"#, Limits::CONFIG)?;
///
/// assert!(diff(&old, &old).is_empty());
/// assert_eq!(diff(&old, &new)[0].path.to_string(), "b.c");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn diff(before: &Value, after: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    differences(&Path::root(), Some(before), Some(after), &mut found);
    found
}

impl Difference {
    /// The settings that it changes, each with what stands there afterwards: its own place, and where a table came or went also all
    /// that was or is in it.
    pub(super) fn settings(&self) -> Vec<(Path, Option<&Value>)> {
        let mut found = vec![(self.path.clone(), self.after.as_ref())];
        match (&self.before, &self.after) {
            (_, Some(Value::Map(map))) => inside(&self.path, map, &mut |path, value| {
                found.push((path, Some(value)));
            }),
            (Some(Value::Map(map)), _) => inside(&self.path, map, &mut |path, _| {
                found.push((path, None));
            }),
            _ => {}
        }
        found
    }
}

/// Everything in a table, at every level.
fn inside<'a>(at: &Path, map: &'a Map, found: &mut impl FnMut(Path, &'a Value)) {
    for (key, value) in map.iter() {
        // A key that no path can name is told at its table.
        let Ok(path) = at.child(key) else { continue };
        if let Value::Map(map) = value {
            inside(&path, map, found);
        }
        found(path, value);
    }
}

pub(super) fn differences(
    at: &Path,
    before: Option<&Value>,
    after: Option<&Value>,
    found: &mut Vec<Difference>,
) {
    if before == after {
        return;
    }
    let (Some(Value::Map(old)), Some(Value::Map(new))) = (before, after) else {
        found.push(Difference {
            path: at.clone(),
            before: before.cloned(),
            after: after.cloned(),
        });
        return;
    };
    for key in keys_of_both(old, new) {
        match at.child(key) {
            Ok(path) => differences(&path, old.get(key), new.get(key), found),
            // A key that no path can name is told at the level above it.
            Err(_) => found.push(Difference {
                path: at.clone(),
                before: before.cloned(),
                after: after.cloned(),
            }),
        }
    }
}

/// The writes that turn `before` into `after`: the changed leaves. Where a key has gone it is a null there when `is_none` says that
/// this means the same, and otherwise the whole table.
pub(super) fn writes(
    at: &Path,
    before: &Value,
    after: &Value,
    is_none: &impl Fn(&Path) -> bool,
    found: &mut Vec<(Path, Value)>,
) {
    if before == after {
        return;
    }
    if let (Value::Map(old), Value::Map(new)) = (before, after)
        && let Some(beneath) = writes_beneath(at, old, new, is_none)
    {
        found.extend(beneath);
        return;
    }
    found.push((at.clone(), after.clone()));
}

/// `None` when only the whole table can be written, as also where a key cannot be named by a path.
fn writes_beneath(
    at: &Path,
    old: &Map,
    new: &Map,
    is_none: &impl Fn(&Path) -> bool,
) -> Option<Vec<(Path, Value)>> {
    let mut found = Vec::new();
    for key in keys_of_both(old, new) {
        match (old.get(key), new.get(key)) {
            (Some(before), Some(after)) if before == after => {}
            (Some(before), Some(after)) => {
                writes(&at.child(key).ok()?, before, after, is_none, &mut found);
            }
            (_, Some(after)) => found.push((at.child(key).ok()?, after.clone())),
            (_, None) => {
                let gone = at.child(key).ok().filter(is_none)?;
                found.push((gone, Value::Null));
            }
        }
    }
    Some(found)
}

fn keys_of_both<'a>(old: &'a Map, new: &'a Map) -> Vec<&'a str> {
    let mut keys: Vec<&str> = old.iter().chain(new.iter()).map(|(key, _)| key).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// `value` with the keys that only `complete` has; what `value` has stays as it is.
pub(super) fn fill(value: &Value, complete: &Value) -> Value {
    let (Value::Map(mine), Value::Map(all)) = (value, complete) else {
        return value.clone();
    };
    let filled = all.iter().map(|(key, whole)| {
        let part = mine
            .get(key)
            .map_or_else(|| whole.clone(), |part| fill(part, whole));
        (key, part)
    });
    let extra = mine.iter().filter(|(key, _)| all.get(key).is_none());
    let extra = extra.map(|(key, value)| (key, value.clone()));
    Value::Map(filled.chain(extra).collect())
}

/// About how many bytes a value holds: what its text form would take, give or take.
pub(super) fn weight(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 1,
        Value::Int(_) | Value::UInt(_) | Value::Float(_) => 8,
        Value::Text(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::List(items) => 1 + items.iter().map(weight).sum::<usize>(),
        Value::Map(map) => {
            1 + map
                .iter()
                .map(|(key, value)| key.len() + weight(value))
                .sum::<usize>()
        }
    }
}

/// `value` (which lives at `at`, relative to its table) as it may be shown.
pub(super) fn redact(rules: &Rules, at: &Path, value: &Value) -> Value {
    if rules.is_secret(at) {
        return Value::from(REDACTED);
    }
    if !rules.touches_secret(&at.components()) {
        return value.clone();
    }
    let map = match value {
        Value::Map(map) => map,
        Value::Null => return Value::Null,
        // A rule hides something inside of what should be a table here, and cannot say where in a list that is.
        _ => return Value::from(REDACTED),
    };
    map.iter()
        .map(|(key, value)| {
            let shown = at.child(key).map_or_else(
                |_| Value::from(REDACTED),
                |path| redact(rules, &path, value),
            );
            (key, shown)
        })
        .collect::<Map>()
        .into()
}

/// The known path that `wanted` was most likely meant to be.
pub(super) fn did_you_mean(document: &Value, wanted: &Path) -> Option<String> {
    misspelt(document, wanted).or_else(|| elsewhere(document, wanted))
}

/// The first component that is not there, replaced by the nearest key at its level; or the list that the path leads into, whose items
/// have no paths.
fn misspelt(document: &Value, wanted: &Path) -> Option<String> {
    let mut known = Vec::new();
    let mut here = document;
    for part in wanted.components() {
        let map = match here {
            Value::Map(map) => map,
            Value::List(_) => return printed(&known),
            _ => return None,
        };
        if let Some(next) = map.get(part) {
            known.push(part);
            here = next;
            continue;
        }
        let (near, _) = map
            .iter()
            .map(|(key, _)| {
                (
                    key,
                    strsim::jaro_winkler(&key.to_lowercase(), &part.to_lowercase()),
                )
            })
            .filter(|(_, likeness)| *likeness >= 0.8)
            .max_by(|a, b| a.1.total_cmp(&b.1))?;
        known.push(near);
        // The rest may be spelt well.
        let rest: Vec<&str> = wanted.components().skip(known.len()).collect();
        let whole = Path::from_components(rest.iter().copied());
        if whole.is_ok_and(|whole| {
            map.get(near)
                .is_some_and(|inner| inner.get(&whole).is_some())
        }) {
            known.extend(rest);
        }
        return printed(&known);
    }
    None
}

fn printed(names: &[&str]) -> Option<String> {
    let path = Path::from_components(names.iter().copied()).ok()?;
    Some(path.to_string())
}

/// A path of the document that ends like `wanted`: the table's name was left out.
fn elsewhere(document: &Value, wanted: &Path) -> Option<String> {
    let Value::Map(tables) = document else {
        return None;
    };
    tables
        .iter()
        .find(|(_, table)| table.get(wanted).is_some())
        .map(|(name, _)| format!("{name}.{wanted}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::value::Limits;

    fn json(text: &str) -> Value {
        Value::from_json(text, Limits::CONFIG).expect("test document is valid")
    }

    fn path(text: &str) -> Path {
        Path::parse(text).expect("test path is valid")
    }

    #[test]
    fn f95_merge_goes_into_tables_and_the_right_one_wins() {
        let low = json(r#"{"a": {"b": 1, "c": 2}, "d": 3}"#);
        let high = json(r#"{"a": {"c": 3, "e": 4}, "f": 5}"#);

        let merged = low.merge(&high);

        assert_eq!(
            merged,
            json(r#"{"a": {"b": 1, "c": 3, "e": 4}, "d": 3, "f": 5}"#)
        );
    }

    #[test]
    fn fill_adds_what_is_missing_and_keeps_the_rest() {
        let partial = json(r#"{"a": {"b": 1}, "x": 9}"#);

        let filled = fill(&partial, &json(r#"{"a": {"b": 0, "c": 2}, "d": 3}"#));

        assert_eq!(filled, json(r#"{"a": {"b": 1, "c": 2}, "d": 3, "x": 9}"#));
    }

    #[test]
    fn a_secret_is_hidden_wherever_its_table_is_shown() {
        let rules = Rules::live().secret("ai.key");

        let shown = redact(
            &rules,
            &Path::root(),
            &json(r#"{"ai": {"key": "hunter2", "model": "m"}}"#),
        );

        assert_eq!(shown, json(r#"{"ai": {"key": "[secret]", "model": "m"}}"#));
    }

    #[test]
    fn what_stands_in_the_place_of_a_table_with_secrets_is_hidden_as_a_whole() {
        let rules = Rules::live().secret("accounts.*.key").secret("ai.key");
        let document = json(r#"{"accounts": [{"key": "hunter2"}], "ai": "hunter2", "x": null}"#);

        let shown = redact(&rules, &Path::root(), &document);

        assert_eq!(
            shown,
            json(r#"{"accounts": "[secret]", "ai": "[secret]", "x": null}"#)
        );
    }

    #[test]
    fn suggestions_can_be_read_back_and_name_the_list_that_a_path_leads_into() {
        let document = json(r#"{"app": {"a.b": {"port": 1}, "servers": [{"port": 1}]}}"#);
        let suggest = |text: &str| did_you_mean(&document, &path(text));

        assert_eq!(
            suggest(r#"app."a.c".port"#).as_deref(),
            Some(r#"app."a.b".port"#)
        );
        assert_eq!(
            suggest("app.servers.0.port").as_deref(),
            Some("app.servers")
        );
        assert_eq!(suggest(r#"app."a.b".port.x"#), None);
    }

    #[test]
    fn suggestions_mend_spelling_and_a_missing_table_name() {
        let document =
            json(r#"{"app": {"workers": 1}, "underpin": {"events": {"durability": "always"}}}"#);

        assert_eq!(
            did_you_mean(&document, &path("app.wrokers")).as_deref(),
            Some("app.workers")
        );
        assert_eq!(
            did_you_mean(&document, &path("events.durability")).as_deref(),
            Some("underpin.events.durability")
        );
        assert_eq!(
            did_you_mean(&document, &path("underpin.event.durability")).as_deref(),
            Some("underpin.events.durability")
        );
        assert_eq!(did_you_mean(&document, &path("app.zzz")), None);
    }

    fn documents() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            proptest::collection::btree_map("[a-d]", inner, 0..4)
                .prop_map(|map| map.into_iter().collect::<Map>().into())
        })
    }

    proptest! {
        #[test]
        fn the_writes_between_two_documents_turn_one_into_the_other(old in documents(), new in documents()) {
            let mut found = Vec::new();
            writes(&Path::root(), &old, &new, &|_: &Path| false, &mut found);

            let mut result = old;
            for (path, value) in found {
                result = result.with(&path, value).expect("a path of the document");
            }

            prop_assert_eq!(result, new);
        }

        #[test]
        fn f12_equal_documents_do_not_differ(document in documents()) {
            prop_assert!(diff(&document, &document).is_empty());
        }
    }
}
