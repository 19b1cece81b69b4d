//! From values to a program's types, and from other formats to values.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{
    Deserialize, Deserializer,
    de::{
        self, DeserializeOwned, DeserializeSeed, EnumAccess, Error as _, IntoDeserializer,
        MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
        value::{BorrowedStrDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};

use super::{
    Limits, Map, Value, ValueError, json,
    limits::{Budget, Exceeded},
    map::Entry,
    serialize::VALUE,
};

/// Reads a program's own type out of a value. `T::deserialize(&value)` does the same and may borrow text from it. A struct is read from a
/// map by the names of its fields, never from a list by their order.
///
/// # Errors
///
/// [`ValueError::Mismatch`], with the place where the value does not fit.
pub fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T, ValueError> {
    T::deserialize(value)
}

/// From any self-describing format, within [`Limits::DEFAULT`] while it reads.
impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Seed::new(&mut Budget::new(Limits::DEFAULT)).deserialize(deserializer)
    }
}

impl<'de> Deserialize<'de> for Map {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Map(map) => Ok(map),
            other => Err(D::Error::invalid_type(unexpected(&other), &"a map")),
        }
    }
}

/// Reads one value at the expense of a budget.
pub(super) struct Seed<'b> {
    budget: &'b mut Budget,
    tagged: bool,
}

impl<'b> Seed<'b> {
    pub(super) fn new(budget: &'b mut Budget) -> Self {
        Self {
            budget,
            tagged: false,
        }
    }

    fn scalar<E: de::Error>(self, value: impl Into<Value>) -> Result<Value, E> {
        self.budget.take(1).map_err(limit)?;
        Ok(value.into())
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    /// Goes through a named newtype, which every format passes through to the visitor and ours recognises.
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_newtype_struct(VALUE, self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        mut self,
        deserializer: D,
    ) -> Result<Value, D::Error> {
        self.tagged = deserializer.is_human_readable();
        deserializer.deserialize_any(self)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.visit_newtype_struct(deserializer)
    }
    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        self.scalar(Value::Null)
    }
    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        self.scalar(Value::Null)
    }
    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        self.scalar(value)
    }
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        self.scalar(value)
    }
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        self.scalar(value)
    }
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        self.scalar(value)
    }
    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        self.scalar(value)
    }
    fn visit_bytes<E: de::Error>(self, value: &[u8]) -> Result<Value, E> {
        self.scalar(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let budget = self.budget;
        budget
            .take(1)
            .and_then(|()| budget.enter())
            .map_err(limit)?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Seed::new(budget))? {
            list.push(item);
        }
        budget.leave();
        Ok(Value::List(list.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let Self { budget, tagged } = self;
        let first = members.next_key()?;
        budget.descend();
        let value = match first {
            Some(Key(name)) if tagged && json::is_tag(&name) => read_tagged(name, members, budget)?,
            first => {
                open_map(budget)?;
                read_map(Vec::new(), first, members, budget)?
            }
        };
        budget.leave();
        Ok(value)
    }
}

/// Reads what may turn out to be a tagged scalar, which is neither a level nor a node of its own.
fn read_tagged<'de, A: MapAccess<'de>>(
    name: Arc<str>,
    mut members: A,
    budget: &mut Budget,
) -> Result<Value, A::Error> {
    let entry = (name, members.next_value_seed(Seed::new(budget))?);
    let next = members.next_key()?;
    if next.is_some() {
        open_map(budget)?;
        return read_map(vec![entry], next, members, budget);
    }
    let value = json::untag(entry);
    if value.as_map().is_some() {
        open_map(budget)?;
    }
    Ok(value)
}

fn read_map<'de, A: MapAccess<'de>>(
    mut entries: Vec<Entry>,
    mut next: Option<Key>,
    mut members: A,
    budget: &mut Budget,
) -> Result<Value, A::Error> {
    while let Some(Key(name)) = next {
        entries.push((name, members.next_value_seed(Seed::new(budget))?));
        next = members.next_key()?;
    }
    Ok(Value::Map(entries.into()))
}

/// Pays for a map into which the budget has already descended.
fn open_map<E: de::Error>(budget: &mut Budget) -> Result<(), E> {
    budget
        .take(1)
        .and_then(|()| budget.check_depth())
        .map_err(limit)
}

/// Whoever brought the budget can ask it for the exact error.
fn limit<E: de::Error>(exceeded: Exceeded) -> E {
    E::custom(Limits::DEFAULT.error(exceeded))
}

/// A map's key as text, also where the format has other keys.
struct Key(Arc<str>);

struct KeyVisitor;

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KeyVisitor)
    }
}

impl Visitor<'_> for KeyVisitor {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map's key: text, an integer or a bool")
    }
    fn visit_str<E: de::Error>(self, key: &str) -> Result<Key, E> {
        Ok(Key(key.into()))
    }
    fn visit_i64<E: de::Error>(self, key: i64) -> Result<Key, E> {
        Ok(Key(key.to_string().into()))
    }
    fn visit_u64<E: de::Error>(self, key: u64) -> Result<Key, E> {
        Ok(Key(key.to_string().into()))
    }
    fn visit_bool<E: de::Error>(self, key: bool) -> Result<Key, E> {
        Ok(Key(key.to_string().into()))
    }
}

/// Reads by reference: text and bytes can be borrowed from the value. Formats that look at it are told that it is for people.
impl<'de> Deserializer<'de> for &'de Value {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Int(value) => visitor.visit_i64(*value),
            Value::UInt(value) => visitor.visit_u64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::Bytes(bytes) => visitor.visit_borrowed_bytes(bytes),
            Value::List(items) => read_all_items(items, visitor),
            Value::Map(map) => read_all_members(map, visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self {
            Value::Null => visitor.visit_none(),
            some => visitor.visit_some(some),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        match name {
            VALUE => visitor.visit_newtype_struct(Exact(self)),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        match self {
            Value::Text(variant) => visitor.visit_enum(Variant {
                name: variant,
                content: None,
            }),
            Value::Map(map) => match map.entries() {
                [(variant, content)] => visitor.visit_enum(Variant {
                    name: variant,
                    content: Some(content),
                }),
                entries => Err(ValueError::custom(format_args!(
                    "expected a variant's name or a map with one, found a map with {} entries",
                    entries.len()
                ))),
            },
            other => Err(ValueError::invalid_type(
                unexpected(other),
                &"a variant's name or a map with one",
            )),
        }
    }

    /// Bytes may be read as a list of small integers, as serde's own `Vec<u8>` does.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self {
            Value::Bytes(bytes) => visitor.visit_seq(SeqDeserializer::new(bytes.iter().copied())),
            other => other.deserialize_any(visitor),
        }
    }

    /// Only from a map: serde would read a list by the order of the fields, and what is at a path would not be at it any more.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        match self {
            Value::List(_) => Err(ValueError::invalid_type(Unexpected::Seq, &"a map")),
            other => other.deserialize_any(visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct tuple tuple_struct map
        identifier
    }
}

/// So that a value can stand in where a deserializer is asked for.
impl<'de> IntoDeserializer<'de, ValueError> for &'de Value {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// A value on its way into a [`Value`]: nothing in it is to be taken for a tag.
struct Exact<'de>(&'de Value);

impl<'de> Deserializer<'de> for Exact<'de> {
    type Error = ValueError;

    fn is_human_readable(&self) -> bool {
        false
    }
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.0.deserialize_any(visitor)
    }
    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct seq tuple
        tuple_struct map struct enum identifier ignored_any
    }
}

fn read_all_items<'de, V: Visitor<'de>>(
    items: &'de [Value],
    visitor: V,
) -> Result<V::Value, ValueError> {
    let mut reader = Items { items, next: 0 };
    let read = visitor.visit_seq(&mut reader)?;
    match items.len() - reader.next {
        0 => Ok(read),
        _ => Err(ValueError::invalid_length(
            items.len(),
            &&*format!("a list of {}", reader.next),
        )),
    }
}

fn read_all_members<'de, V: Visitor<'de>>(
    map: &'de Map,
    visitor: V,
) -> Result<V::Value, ValueError> {
    let mut reader = Members {
        entries: map.entries(),
        value: None,
    };
    let read = visitor.visit_map(&mut reader)?;
    match reader.entries {
        [] => Ok(read),
        _ => Err(ValueError::invalid_length(
            map.len(),
            &"a map with fewer entries",
        )),
    }
}

struct Items<'de> {
    items: &'de [Value],
    next: usize,
}

impl<'de> SeqAccess<'de> for &mut Items<'de> {
    type Error = ValueError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, ValueError> {
        let Some(item) = self.items.get(self.next) else {
            return Ok(None);
        };
        let read = seed
            .deserialize(item)
            .map_err(|error| error.under_index(self.next))?;
        self.next += 1;
        Ok(Some(read))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len() - self.next)
    }
}

struct Members<'de> {
    entries: &'de [Entry],
    value: Option<&'de Entry>,
}

impl<'de> MapAccess<'de> for &mut Members<'de> {
    type Error = ValueError;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, ValueError> {
        let Some((entry, rest)) = self.entries.split_first() else {
            return Ok(None);
        };
        self.entries = rest;
        self.value = Some(entry);
        seed.deserialize(KeyReader(&entry.0)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<S::Value, ValueError> {
        match self.value.take() {
            Some((key, value)) => seed
                .deserialize(value)
                .map_err(|error| error.under_key(key)),
            None => Err(ValueError::custom(
                "a map's value was asked for before its key; read the key first",
            )),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}

/// Reads a key as text or, where the program's type asks for it, as the number or truth value that the text spells.
struct KeyReader<'de>(&'de str);

impl<'de> KeyReader<'de> {
    fn spelled<T: FromStr>(&self, expected: &'static str) -> Result<T, ValueError> {
        self.0
            .parse()
            .map_err(|_| ValueError::invalid_value(Unexpected::Str(self.0), &expected))
    }

    fn text(self) -> BorrowedStrDeserializer<'de, ValueError> {
        BorrowedStrDeserializer::new(self.0)
    }
}

macro_rules! spelled_keys {
    ($($method:ident => $visit:ident, $kind:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
            visitor.$visit(self.spelled($kind)?)
        }
    )*};
}

impl<'de> Deserializer<'de> for KeyReader<'de> {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_borrowed_str(self.0)
    }
    spelled_keys! {
        deserialize_bool => visit_bool, "`true` or `false`";
        deserialize_i8 => visit_i8, "an 8-bit integer";
        deserialize_i16 => visit_i16, "a 16-bit integer";
        deserialize_i32 => visit_i32, "a 32-bit integer";
        deserialize_i64 => visit_i64, "a 64-bit integer";
        deserialize_i128 => visit_i128, "a 128-bit integer";
        deserialize_u8 => visit_u8, "an 8-bit integer from 0";
        deserialize_u16 => visit_u16, "a 16-bit integer from 0";
        deserialize_u32 => visit_u32, "a 32-bit integer from 0";
        deserialize_u64 => visit_u64, "a 64-bit integer from 0";
        deserialize_u128 => visit_u128, "a 128-bit integer from 0";
    }
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_some(self)
    }
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        visitor.visit_newtype_struct(self)
    }
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.text().deserialize_enum(name, variants, visitor)
    }
    forward_to_deserialize_any! {
        f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// An enum's variant: its name, and what it holds.
struct Variant<'de> {
    name: &'de str,
    content: Option<&'de Value>,
}

struct VariantContent<'de> {
    name: &'de str,
    content: Option<&'de Value>,
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = ValueError;
    type Variant = VariantContent<'de>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, VariantContent<'de>), ValueError> {
        let variant = seed.deserialize(BorrowedStrDeserializer::<ValueError>::new(self.name))?;
        let content = VariantContent {
            name: self.name,
            content: self.content,
        };
        Ok((variant, content))
    }
}

impl<'de> VariantContent<'de> {
    fn read<T>(
        self,
        kind: &str,
        read: impl FnOnce(&'de Value) -> Result<T, ValueError>,
    ) -> Result<T, ValueError> {
        let Self { name, content } = self;
        match content {
            Some(content) => read(content).map_err(|error| error.under_key(name)),
            None => Err(ValueError::custom(format_args!(
                "variant {name} stands alone, expected a map with {name} as the name of {kind}"
            ))),
        }
    }
}

impl<'de> VariantAccess<'de> for VariantContent<'de> {
    type Error = ValueError;

    fn unit_variant(self) -> Result<(), ValueError> {
        match self.content {
            None | Some(Value::Null) => Ok(()),
            Some(content) => Err(ValueError::invalid_type(
                unexpected(content),
                &"nothing, since this variant has no content",
            )
            .under_key(self.name)),
        }
    }
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<S::Value, ValueError> {
        self.read("its content", |content| seed.deserialize(content))
    }
    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, ValueError> {
        self.read("a list", |content| match content {
            Value::List(items) => read_all_items(items, visitor),
            other => Err(ValueError::invalid_type(unexpected(other), &"a list")),
        })
    }
    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        self.read("a map", |content| match content {
            Value::Map(map) => read_all_members(map, visitor),
            other => Err(ValueError::invalid_type(unexpected(other), &"a map")),
        })
    }
}

fn unexpected(value: &Value) -> Unexpected<'_> {
    match value {
        Value::Null => Unexpected::Unit,
        Value::Bool(value) => Unexpected::Bool(*value),
        Value::Int(value) => Unexpected::Signed(*value),
        Value::UInt(value) => Unexpected::Unsigned(*value),
        Value::Float(value) => Unexpected::Float(*value),
        Value::Text(text) => Unexpected::Str(text),
        Value::Bytes(bytes) => Unexpected::Bytes(bytes),
        Value::List(_) => Unexpected::Seq,
        Value::Map(_) => Unexpected::Map,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use proptest::prelude::*;
    use serde::Serialize;

    use super::{
        super::{arbitrary, to_value},
        *,
    };

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Everything {
        flag: bool,
        small: i8,
        large: u64,
        share: f32,
        letter: char,
        name: String,
        nothing: Option<u8>,
        something: Option<u8>,
        unit: (),
        pair: (u8, String),
        raw: Vec<u8>,
        wrapped: Wrapped,
        by_number: BTreeMap<u32, Shape>,
        by_shape: HashMap<Key, bool>,
        shapes: Vec<Shape>,
        free: Value,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Wrapped(u16);

    #[derive(Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Key {
        Left,
        Right,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Shape {
        Point,
        Circle(f64),
        Line(i32, i32),
        Box { wide: u8, high: u8 },
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict<'a> {
        #[serde(borrow)]
        name: &'a str,
        #[expect(dead_code, reason = "only its type matters")]
        ports: Vec<u16>,
    }

    fn everything() -> Everything {
        Everything {
            flag: true,
            small: -1,
            large: u64::MAX,
            share: 0.5,
            letter: 'é',
            name: "n".into(),
            nothing: None,
            something: Some(3),
            unit: (),
            pair: (1, "two".into()),
            raw: vec![0, 255],
            wrapped: Wrapped(7),
            by_number: [(1, Shape::Point), (20, Shape::Circle(1.5))].into(),
            by_shape: [(Key::Left, true), (Key::Right, false)].into(),
            shapes: vec![Shape::Line(-1, 1), Shape::Box { wide: 1, high: 2 }],
            free: Value::from([
                ("$bytes", Value::from("AAAA")),
                ("b", Value::from(&b"raw"[..])),
            ]),
        }
    }

    fn value(json: &str) -> Value {
        Value::from_json(json, Limits::DEFAULT).expect("test JSON is valid")
    }

    fn refusal<'de, T: Deserialize<'de> + fmt::Debug>(value: &'de Value) -> String {
        T::deserialize(value).expect_err("does not fit").to_string()
    }

    #[test]
    fn a_programs_types_go_in_and_come_out() {
        let value = to_value(&everything()).expect("all of it has a value");
        assert_eq!(from_value(&value), Ok(everything()));
        // And the same through JSON.
        let json = Value::from_json(value.to_json(), Limits::DEFAULT);
        assert_eq!(json.and_then(|value| from_value(&value)), Ok(everything()));
    }

    #[test]
    fn what_serde_json_writes_is_what_we_hold() {
        let ours = to_value(&everything()).expect("all of it has a value");
        let theirs = serde_json::to_string(&everything()).expect("all of it has JSON");
        assert_eq!(Value::from_json(theirs, Limits::DEFAULT), Ok(ours));
    }

    #[test]
    fn text_is_borrowed_from_the_value() {
        let value = value(r#"{"name": "a", "ports": [1, 2]}"#);
        let strict = Strict::deserialize(&value).expect("fits");
        assert!(std::ptr::eq(
            strict.name,
            value
                .as_map()
                .and_then(|map| map.get("name")?.as_str())
                .expect("is text")
        ));
    }

    #[test]
    fn a_misfit_names_its_place() {
        assert_eq!(
            refusal::<Strict>(&value(r#"{"name": "a", "ports": [1, 65536]}"#)),
            "ports[1]: invalid value: integer `65536`, expected u16"
        );
        assert_eq!(
            refusal::<HashMap<String, Strict>>(&value(r#"{"x": {"name": 1, "ports": []}}"#)),
            "x.name: invalid type: integer `1`, expected a borrowed string"
        );
        assert_eq!(
            refusal::<Strict>(&value(r#"{"name": "a", "prots": []}"#)),
            "unknown field `prots`, expected `name` or `ports`"
        );
        assert_eq!(
            refusal::<Vec<Shape>>(&value(r#"["Point", {"Box": {"wide": 1, "high": "x"}}]"#)),
            "[1].Box.high: invalid type: string \"x\", expected u8"
        );
        assert_eq!(
            refusal::<BTreeMap<u32, u8>>(&value(r#"{"one": 1}"#)),
            "invalid value: string \"one\", expected a 32-bit integer from 0"
        );
    }

    #[test]
    fn variants_in_the_wrong_form_are_refused() {
        for bad in [
            r#""Circle""#,
            r#"{"Point": 1}"#,
            r#"{"Line": [1]}"#,
            r#"{"Line": [1, 2, 3]}"#,
            r#"{"Box": [1, 2, 3]}"#,
            "{}",
            "7",
            r#""Other""#,
        ] {
            refusal::<Shape>(&value(bad));
        }
        assert_eq!(from_value(&value(r#"{"Point": null}"#)), Ok(Shape::Point));
    }

    #[test]
    fn integers_and_floats_do_not_pass_for_each_other() {
        assert!(from_value::<i64>(&Value::Float(3.0)).is_err());
        assert_eq!(from_value::<f64>(&Value::Int(3)), Ok(3.0));
        assert_eq!(
            from_value::<Vec<u8>>(&Value::from(&[1u8, 2][..])),
            Ok(vec![1, 2])
        );
    }

    #[test]
    fn what_has_no_value_is_refused_with_its_place() {
        let big: HashMap<&str, Vec<u128>> = [("n", vec![0, u128::MAX])].into();
        assert!(
            to_value(&big)
                .expect_err("beyond 64 bits")
                .to_string()
                .starts_with("n[1]: ")
        );
        let odd: Vec<BTreeMap<(u8, u8), u8>> = vec![[((1, 2), 3)].into()];
        assert_eq!(
            to_value(&odd).expect_err("a tuple is no name").to_string(),
            "[0]: a map's key is a tuple; use text, an integer, a bool or a char"
        );
    }

    #[test]
    fn a_programs_own_recursion_is_stopped_at_the_limit() {
        #[derive(Serialize)]
        struct Chain(Option<Box<Chain>>, u8);
        let chain =
            |links| (0..links).fold(Chain(None, 0), |inner, _| Chain(Some(Box::new(inner)), 0));

        assert!(to_value(&chain(63)).is_ok());
        assert_eq!(to_value(&chain(64)), Err(ValueError::TooDeep { limit: 64 }));
        assert_eq!(
            to_value(&vec![0; 65_536]),
            Err(ValueError::TooManyNodes { limit: 65_536 })
        );
    }

    #[test]
    fn other_formats_are_read_within_the_limits_too() {
        let deep = "[".repeat(65) + &"]".repeat(65);
        let refused = serde_json::from_str::<Value>(&deep).expect_err("65 levels");
        assert!(
            refused
                .to_string()
                .starts_with("value is nested more than 64 levels deep")
        );
        assert!(serde_json::from_str::<Map>("[]").is_err());
        let toml: Value = toml::from_str("a = 1\n[b]\nc = [1.5, 'x']").expect("valid TOML");
        assert_eq!(toml.to_json(), r#"{"a":1,"b":{"c":[1.5,"x"]}}"#);
    }

    proptest! {
        #[test]
        fn every_value_passes_through_serde_unchanged(value in arbitrary::value()) {
            prop_assert_eq!(to_value(&value), Ok(value.clone()));
            prop_assert_eq!(from_value::<Value>(&value), Ok(value.clone()));
            prop_assert_eq!(to_value(&Some(&value)).and_then(|value| from_value::<Value>(&value)), Ok(value.clone()));
            let json = serde_json::to_string(&value).expect("every value has JSON");
            prop_assert_eq!(serde_json::from_str::<Value>(&json).ok(), Some(value));
        }
    }
}
