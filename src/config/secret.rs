//! A value that does not show itself.

use std::{cell::Cell, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::tree::REDACTED;
use crate::value::{Path, Value, ValueError, to_value};

/// A setting that never prints: neither `Debug` nor `Display` nor an error shows it. [`expose`](Self::expose) gives it to the
/// program.
///
/// In a settings struct it also makes its path secret by itself, wherever the struct's default has one; where the default has none
/// (inside an `Option`, a list or a map) the path has to be named with [`Rules::secret`](super::Rules::secret), and settings that
/// put a secret where no rule is are refused. `Secret<Option<String>>` needs no rule.
///
/// ```
/// use underpin::config::Secret;
///
/// let token = Secret::new("hunter2".to_owned());
///
/// assert_eq!(format!("{token:?} {token}"), "[secret] [secret]");
/// assert_eq!(token.expose(), "hunter2");
/// ```
///
/// It is serialized as what it holds: it has to be kept and read back. Serialize it to nobody but the settings.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret<T>(T);

/// What a secret is serialized as while the secrets of a type are looked for: no setting holds this.
const MARK: &str = "\u{0}underpin secret\u{0}";

thread_local! {
    static MARKING: Cell<bool> = const { Cell::new(false) };
}

impl<T> Secret<T> {
    /// Keeps `value` from being shown.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// What it holds.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T: Serialize> Serialize for Secret<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if MARKING.get() {
            return serializer.serialize_str(MARK);
        }
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Secret<T> {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let read = T::deserialize(source).map(Self);
        read.map_err(|_| de::Error::custom("the secret has another type"))
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl<T> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// Where `data` has secrets. Those in lists are told at their list.
pub(super) fn places(data: &impl Serialize) -> Result<Vec<Path>, ValueError> {
    let marked = marked(|| to_value(data))?;
    let mut found = Vec::new();
    search(&Path::root(), &marked, &mut found);
    Ok(found)
}

/// Serializes with a mark in the place of each secret.
pub(super) fn marked<R>(serialize: impl FnOnce() -> R) -> R {
    /// Ends it also when serializing panics.
    struct Marking;
    impl Drop for Marking {
        fn drop(&mut self) {
            MARKING.set(false);
        }
    }
    MARKING.set(true);
    let _marking = Marking;
    serialize()
}

pub(super) fn is_mark(text: &str) -> bool {
    text == MARK
}

fn search(at: &Path, value: &Value, found: &mut Vec<Path>) {
    match value {
        Value::Text(text) if is_mark(text) => found.push(at.clone()),
        Value::List(items) => {
            let mut inside = Vec::new();
            items.iter().for_each(|item| search(at, item, &mut inside));
            found.extend(inside.into_iter().next().map(|_| at.clone()));
        }
        Value::Map(map) => {
            for (key, value) in map.iter() {
                // A key that no path can name is told at its table.
                search(&at.child(key).unwrap_or_else(|_| at.clone()), value, found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Serialize)]
    struct Account {
        name: &'static str,
        key: Secret<u32>,
        old: Vec<Secret<u32>>,
        more: BTreeMap<&'static str, Secret<Option<u32>>>,
    }

    fn account() -> Account {
        Account {
            name: "ann",
            key: Secret::new(1),
            old: vec![Secret::new(2), Secret::new(3)],
            more: BTreeMap::from([("token", Secret::new(None))]),
        }
    }

    #[test]
    fn the_places_of_secrets_are_found_and_nothing_else() {
        let found = places(&account()).expect("it can be serialized");

        let found: Vec<String> = found.iter().map(Path::to_string).collect();
        assert_eq!(found, ["key", "more.token", "old"]);
    }

    #[test]
    fn a_secret_is_kept_as_what_it_is() {
        let kept = to_value(&account()).expect("it can be serialized");
        let at = Path::parse("key").expect("test path is valid");

        assert_eq!(kept.get(&at), Some(&Value::from(1)));
        assert_eq!(account().name, "ann");
    }

    #[test]
    fn an_error_does_not_show_what_was_there() {
        let refused = crate::value::from_value::<Secret<u32>>(&Value::from("hunter2"));

        let words = refused.expect_err("it is no number").to_string();
        assert!(!words.contains("hunter2"), "{words}");
    }
}
