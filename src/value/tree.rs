use std::{convert::Infallible, sync::Arc};

use super::{
    Limits, Map, Path, ValueError,
    codec::encoded_len,
    limits::{Budget, Exceeded},
};

/// A piece of data that says what it is.
///
/// A clone costs at most a counter. Two values are equal when they mean the same: `Int(5)` equals `UInt(5)`, and a NaN equals a NaN,
/// so that a stored value equals itself; `Int(1)` does not equal `Float(1.0)`.
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// Nothing.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number above `i64::MAX`. Smaller ones are [`Value::Int`]; [`Value::from`] chooses.
    UInt(u64),
    /// A number with a fraction, an infinity or not a number.
    Float(f64),
    /// Text.
    Text(Arc<str>),
    /// Bytes that are no text.
    Bytes(Arc<[u8]>),
    /// Values in order.
    List(Arc<[Value]>),
    /// Values by name.
    Map(Map),
}

impl Value {
    /// How much of a value [`Value::shortened`] shows, in characters.
    pub const PREVIEW_CHARS: usize = 100;

    /// An empty map.
    #[must_use]
    pub fn map() -> Self {
        Self::Map(Map::default())
    }

    /// The value at `path`; the root path is the value itself. A path that leads through anything but maps finds nothing.
    #[must_use]
    #[inline]
    pub fn get(&self, path: &Path) -> Option<&Self> {
        let (mut value, mut left) = (self, path.parts());
        while !left.is_over() {
            (value, left) = value.as_map()?.step(left)?;
        }
        Some(value)
    }

    /// A copy in which `path` holds `value`. The maps along the path are copied, missing ones made; all else is shared.
    ///
    /// # Errors
    ///
    /// [`ValueError::NotAMap`] when the path leads through a scalar or a list (a null counts as missing);
    /// [`ValueError::TooDeep`] or [`ValueError::TooManyNodes`] when the result would exceed [`Limits::DEFAULT`].
    pub fn with(&self, path: &Path, value: Self) -> Result<Self, ValueError> {
        let mut grows = true;
        let changed = Self::replace(Some(self), path.components(), value, &mut grows);
        let changed = changed.map_err(|(left, found)| ValueError::NotAMap {
            at: path.prefix(path.len() - left),
            found,
        })?;
        if grows {
            changed.check(Limits::DEFAULT)?;
        }
        Ok(changed)
    }

    /// A copy without what stands at `path`; unchanged when nothing does, null for the root path.
    #[must_use]
    pub fn without(&self, path: &Path) -> Self {
        fn remove<'a>(
            value: &Value,
            mut names: impl Iterator<Item = &'a str>,
            last: &str,
        ) -> Value {
            let Value::Map(map) = value else {
                return value.clone();
            };
            let Some(name) = names.next() else {
                return Value::Map(map.without(last));
            };
            let changed = map.with_changed(name, |inner| {
                Ok(inner.map_or(Value::Null, |inner| remove(inner, names, last)))
            });
            Value::Map(changed.unwrap_or_else(|never: Infallible| match never {}))
        }
        let Some(last) = path.components().next_back() else {
            return Self::Null;
        };
        if self.get(path).is_none() {
            return self.clone();
        }
        remove(self, path.components().take(path.len() - 1), last)
    }

    /// `over` laid on top of this value: maps merge name by name, in all else `over` wins. Untouched sections are shared.
    #[must_use]
    pub fn merge(&self, over: &Self) -> Self {
        let (Self::Map(under), Self::Map(upper)) = (self, over) else {
            return over.clone();
        };
        let merged = upper.iter().map(|(name, value)| {
            let value = match under.get(name) {
                Some(below) => below.merge(value),
                None => value.clone(),
            };
            (Arc::from(name), value)
        });
        let kept = under
            .entries()
            .iter()
            .filter(|(name, _)| upper.get(name).is_none())
            .cloned();
        Self::Map(kept.chain(merged).collect())
    }

    /// Whether this value keeps to `limits`.
    ///
    /// # Errors
    ///
    /// [`ValueError::TooDeep`] or [`ValueError::TooManyNodes`].
    pub fn check(&self, limits: Limits) -> Result<(), ValueError> {
        fn walk(value: &Value, budget: &mut Budget) -> Result<(), Exceeded> {
            match value {
                Value::List(items) => {
                    budget.take(items.len())?;
                    budget.enter()?;
                    items.iter().try_for_each(|item| walk(item, budget))?;
                }
                Value::Map(map) => {
                    budget.take(map.len())?;
                    budget.enter()?;
                    map.iter().try_for_each(|(_, value)| walk(value, budget))?;
                }
                _ => return Ok(()),
            }
            budget.leave();
            Ok(())
        }
        let mut budget = Budget::new(limits);
        budget
            .take(1)
            .and_then(|()| walk(self, &mut budget))
            .map_err(|exceeded| limits.error(exceeded))
    }

    /// This value, or what tells about it when it is longer than `bytes_max` encoded: a map with `truncated` (true), `original_size` in
    /// bytes, and `preview`, the first [`Value::PREVIEW_CHARS`] characters of its text or JSON. For metadata and arguments that nobody
    /// limits at their source.
    #[must_use]
    pub fn shortened(&self, bytes_max: usize) -> Self {
        // What exceeds the limits has no length; it is certainly too long.
        let size = encoded_len(self).ok();
        if size.is_some_and(|size| size <= bytes_max) {
            return self.clone();
        }
        let preview = match (self, size) {
            (Self::Text(text), _) => cut(text),
            (_, Some(_)) => cut(&self.to_json()),
            (_, None) => self.kind().to_owned(),
        };
        Self::from([
            ("truncated", Self::Bool(true)),
            ("original_size", size.into()),
            ("preview", preview.into()),
        ])
    }

    /// What kind of value this is, in a word for messages: `null`, `bool`, `integer`, `float`, `text`, `bytes`, `list` or `map`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Int(_) | Self::UInt(_) => "integer",
            Self::Float(_) => "float",
            Self::Text(_) => "text",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Map(_) => "map",
        }
    }

    /// Whether this is null.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The truth value, when this is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The integer, when this is one that fits.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            Self::UInt(value) => i64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// The integer, when this is one that is not negative.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Int(value) => u64::try_from(*value).ok(),
            Self::UInt(value) => Some(*value),
            _ => None,
        }
    }

    /// The number as a float, when this is a number. Integers beyond 2^53 are rounded.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "said in the documentation; whoever needs the exact integer has as_i64 and as_u64"
    )]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Int(value) => Some(*value as f64),
            Self::UInt(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// The text, when this is text.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The bytes, when this is bytes.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The items, when this is a list.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Self]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    /// The map, when this is one.
    #[must_use]
    #[inline]
    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Self::Map(map) => Some(map),
            _ => None,
        }
    }

    /// As [`Value::with`], without a look at the limits. On an error: how many names are left where no map stands, and what does.
    fn replace<'a>(
        old: Option<&Self>,
        mut names: impl ExactSizeIterator<Item = &'a str>,
        value: Self,
        grows: &mut bool,
    ) -> Result<Self, (usize, &'static str)> {
        let Some(name) = names.next() else {
            // A scalar in the place of another one neither adds a part nor a level.
            *grows = !(value.is_scalar() && old.is_some_and(Self::is_scalar));
            return Ok(value);
        };
        let empty = Map::default();
        let map = match old {
            Some(Self::Map(map)) => map,
            None | Some(Self::Null) => &empty,
            Some(other) => return Err((names.len() + 1, other.kind())),
        };
        map.with_changed(name, |inner| Self::replace(inner, names, value, grows))
            .map(Self::Map)
    }

    /// Whether this is neither a list nor a map.
    pub(crate) fn is_scalar(&self) -> bool {
        !matches!(self, Self::Map(_) | Self::List(_))
    }
}

fn cut(text: &str) -> String {
    text.chars().take(Value::PREVIEW_CHARS).collect()
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::UInt(a), Self::UInt(b)) => a == b,
            (Self::Int(a), Self::UInt(b)) | (Self::UInt(b), Self::Int(a)) => {
                u64::try_from(*a) == Ok(*b)
            }
            (Self::Float(a), Self::Float(b)) => a == b || (a.is_nan() && b.is_nan()),
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::List(a), Self::List(b)) => a == b,
            (Self::Map(a), Self::Map(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Value {}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        i64::try_from(value).map_or(Self::UInt(value), Self::Int)
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::from(value as u64)
    }
}

macro_rules! from_small_integers {
    ($($integer:ty),*) => {$(
        impl From<$integer> for Value {
            fn from(value: $integer) -> Self {
                Self::Int(i64::from(value))
            }
        }
    )*};
}
from_small_integers!(i8, i16, i32, i64, u8, u16, u32);

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.into())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value.into())
    }
}

impl From<Arc<str>> for Value {
    fn from(value: Arc<str>) -> Self {
        Self::Text(value)
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Bytes(value.into())
    }
}

impl From<Map> for Value {
    fn from(value: Map) -> Self {
        Self::Map(value)
    }
}

/// A list, also of small integers; bytes come from `&[u8]`.
impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Self {
        items.into_iter().collect()
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A list of these.
impl<T: Into<Value>> FromIterator<T> for Value {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }
}

/// A map of these; the short way to write one down: `Value::from([("port", 80)])`.
impl<K: Into<Arc<str>>, V: Into<Value>, const N: usize> From<[(K, V); N]> for Value {
    fn from(entries: [(K, V); N]) -> Self {
        Self::Map(entries.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::arbitrary, *};

    fn path(text: &str) -> Path {
        Path::parse(text).expect("test path is valid")
    }

    fn config() -> Value {
        Value::from([
            ("http", Value::from([("port", 80)])),
            ("log", Value::from([("level", "info")])),
        ])
    }

    #[test]
    fn changing_one_path_copies_one_path() {
        let before = config();

        let after = before
            .with(&path("http.port"), 81.into())
            .expect("a map all the way");

        let section = |value: &Value, name| {
            value
                .as_map()
                .and_then(|map| map.get(name)?.as_map().cloned())
        };
        let same = |name| {
            section(&before, name)
                .zip(section(&after, name))
                .map(|(a, b)| a.is_same(&b))
        };
        assert_eq!(same("log"), Some(true));
        assert_eq!(same("http"), Some(false));
        assert_eq!(before, config());
    }

    #[test]
    fn a_path_through_a_scalar_is_refused_and_named() {
        let refused = config()
            .with(&path("http.port.low"), 1.into())
            .expect_err("80 is no map");
        assert_eq!(
            refused.to_string(),
            "http.port is integer, not a map; replace http.port as a whole or choose another path"
        );
        assert_eq!(config().get(&path("http.port.low")), None);
    }

    #[test]
    fn taking_away_what_is_not_there_changes_nothing() {
        assert_eq!(config().without(&path("http.port.low")), config());
        assert_eq!(config().without(&path("x.y")), config());
        assert_eq!(
            config().without(&path("log.level")).to_json(),
            r#"{"http":{"port":80},"log":{}}"#
        );
        assert_eq!(config().without(&Path::root()), Value::Null);
    }

    #[test]
    fn a_change_keeps_to_the_limits() {
        let names = vec!["n"; 50];
        let deep = Path::from_components(names).expect("50 components");
        let at_fifty = Value::map().with(&deep, Value::map()).expect("51 levels");
        let fourteen = (0..14).fold(Value::Null, |inner, _| Value::from([("n", inner)]));

        assert!(at_fifty.with(&deep, fourteen.clone()).is_ok());
        assert_eq!(
            at_fifty.with(&deep, Value::from([("n", fourteen)])),
            Err(ValueError::TooDeep { limit: 64 })
        );
    }

    #[test]
    fn equal_means_the_same() {
        assert_eq!(Value::UInt(5), Value::Int(5));
        assert_ne!(Value::UInt(u64::MAX), Value::Int(-1));
        assert_eq!(Value::Float(f64::NAN), Value::Float(-f64::NAN));
        assert_ne!(Value::Float(1.0), Value::Int(1));
        assert_ne!(Value::from("a"), Value::from(&b"a"[..]));
    }

    #[test]
    fn a_section_shared_a_million_million_times_is_refused_quickly() {
        let bomb = (0..60).fold(Value::Null, |inner, _| {
            Value::from(vec![inner.clone(), inner])
        });
        assert_eq!(
            bomb.check(Limits::DEFAULT),
            Err(ValueError::TooManyNodes { limit: 65_536 })
        );
        assert!(encoded_len(&bomb).is_err());
        assert!(bomb.shortened(10_000).as_map().is_some());
    }

    #[test]
    fn a_name_that_holds_what_stands_between_components_is_no_two_of_them() {
        for one in ["a", "abcd", "abcdefgh", "abcdefghijklmnopq"] {
            let path = Path::from_components([one, "b"]).expect("short names");
            let value = Value::Map([(format!("{one}\0b"), 1)].into_iter().collect());
            assert_eq!(value.get(&path), None);
            let inner = Value::Map([("b", 1)].into_iter().collect());
            let value = Value::Map([(one, inner)].into_iter().collect());
            assert_eq!(value.get(&path), Some(&Value::Int(1)));
        }
    }

    proptest! {
        /// Names of each length beside each other that begin and end alike, in few and in many.
        #[test]
        fn a_path_leads_where_its_components_lead_one_by_one(
            names in prop::collection::vec("[ab]{0,2}[ab\0]{0,1}c{0,15}[ab]{1,2}", 0..14), at in prop::collection::vec("[ab]{0,3}c{0,15}[ab]{1,2}", 1..3)
        ) {
            let level = |value: Value| Value::Map(names.iter().chain(&at[..1]).map(|name| (name.as_str(), value.clone())).collect());
            let value = level(level(1.into()));
            let path = Path::from_components(at.iter().map(String::as_str)).expect("short names");
            let one_by_one = at.iter().try_fold(&value, |value, name| value.as_map()?.get(name));
            prop_assert_eq!(value.get(&path), one_by_one);
        }

        #[test]
        fn what_was_put_is_found_and_all_else_is_as_before(
            value in arbitrary::value(), new in arbitrary::value(), names in prop::collection::vec("[a-c]{1,2}", 1..4)
        ) {
            let path = Path::from_components(names.iter().map(String::as_str)).expect("short names");
            if let Ok(changed) = value.with(&path, new.clone()) {
                prop_assert_eq!(changed.get(&path), Some(&new));
                if let Some(old) = value.get(&path) {
                    prop_assert_eq!(changed.with(&path, old.clone()), Ok(value));
                } else {
                    prop_assert!(changed.without(&path).get(&path).is_none());
                }
            } else {
                prop_assert_eq!(value.get(&path), None);
            }
        }

        #[test]
        fn merging_a_value_over_itself_or_over_nothing_gives_it_back(value in arbitrary::value()) {
            prop_assert_eq!(value.merge(&value), value.clone());
            prop_assert_eq!(Value::map().merge(&value), value);
        }

        #[test]
        fn in_a_merge_every_leaf_of_the_upper_value_wins(under in arbitrary::value(), over in arbitrary::value()) {
            let merged = under.merge(&over);
            prop_assert_eq!(merged.merge(&over), merged);
        }
    }
}
