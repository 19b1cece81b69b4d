//! From a program's types to values, and values to other formats.

use std::{fmt::Display, sync::Arc};

use serde::ser::{self, Error as _, Impossible, Serialize, Serializer};

use super::{
    Limits, Map, Value, ValueError,
    json::{self, BYTES, FLOAT},
    limits::{Budget, Exceeded},
    map::Entry,
};

/// The name under which a [`Value`] passes through serde, by which our own serializer and deserializer know it and keep it exact.
pub(super) const VALUE: &str = "$underpin::Value";

/// Turns a program's own data into a value, within [`Limits::DEFAULT`].
///
/// Structs and maps become maps, enums a text (no fields) or a map with the variant's name, `None` and `()` null. Keys that are
/// integers, bools or chars become text. Formats that look at it are told that this one is for people (as JSON).
///
/// # Errors
///
/// [`ValueError::Mismatch`] with the place, for integers beyond 64 bits and keys that are no text; the limits' errors.
pub fn to_value<T: Serialize + ?Sized>(data: &T) -> Result<Value, ValueError> {
    let mut budget = Budget::new(Limits::DEFAULT);
    data.serialize(Writer::new(&mut budget))
        .map_err(|error| budget.error().unwrap_or(error))
}

/// In formats for people, bytes and non-finite floats take their tagged forms (see [`Value::to_json`]).
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(VALUE, &Untold(self))
    }
}

/// The map as a map of any other serde format.
impl Serialize for Map {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

/// A value without its name.
struct Untold<'a>(&'a Value);

impl Serialize for Untold<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tagged = serializer.is_human_readable();
        match self.0 {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Int(value) => serializer.serialize_i64(*value),
            Value::UInt(value) => serializer.serialize_u64(*value),
            Value::Float(value) if tagged && !value.is_finite() => {
                serializer.collect_map([(FLOAT, json::float_text(*value))])
            }
            Value::Float(value) => serializer.serialize_f64(*value),
            Value::Text(text) => serializer.serialize_str(text),
            Value::Bytes(bytes) if tagged => {
                serializer.collect_map([(BYTES, json::bytes_text(bytes))])
            }
            Value::Bytes(bytes) => serializer.serialize_bytes(bytes),
            Value::List(items) => serializer.collect_seq(items.iter()),
            Value::Map(map) => match map.entries() {
                [(name, value)] if tagged && json::is_tag(name) => {
                    serializer.collect_map([(format!("${name}"), value)])
                }
                _ => map.serialize(serializer),
            },
        }
    }
}

/// Writes one node of a value.
struct Writer<'b> {
    budget: &'b mut Budget,
    for_people: bool,
}

struct ListWriter<'b> {
    budget: &'b mut Budget,
    variant: Option<&'static str>,
    items: Vec<Value>,
}

struct MapWriter<'b> {
    budget: &'b mut Budget,
    variant: Option<&'static str>,
    entries: Vec<Entry>,
    key: Option<Arc<str>>,
}

impl<'b> Writer<'b> {
    fn new(budget: &'b mut Budget) -> Self {
        Self {
            budget,
            for_people: true,
        }
    }

    fn scalar(self, value: impl Into<Value>) -> Result<Value, ValueError> {
        self.budget.take(1).map_err(limit)?;
        Ok(value.into())
    }

    /// Pays for a container, and for the map around it that names an enum's variant.
    fn open(self, variant: Option<&'static str>) -> Result<&'b mut Budget, ValueError> {
        for _ in 0..=usize::from(variant.is_some()) {
            self.budget.take(1).map_err(limit)?;
            self.budget.enter().map_err(limit)?;
        }
        Ok(self.budget)
    }

    fn list(self, variant: Option<&'static str>) -> Result<ListWriter<'b>, ValueError> {
        Ok(ListWriter {
            budget: self.open(variant)?,
            variant,
            items: Vec::new(),
        })
    }

    fn map(self, variant: Option<&'static str>) -> Result<MapWriter<'b>, ValueError> {
        Ok(MapWriter {
            budget: self.open(variant)?,
            variant,
            entries: Vec::new(),
            key: None,
        })
    }
}

fn close(budget: &mut Budget, variant: Option<&'static str>, value: Value) -> Value {
    budget.leave();
    match variant {
        None => value,
        Some(variant) => {
            budget.leave();
            Value::from([(variant, value)])
        }
    }
}

/// Carries no detail: [`to_value`] shows what the budget noted.
fn limit(exceeded: Exceeded) -> ValueError {
    Limits::DEFAULT.error(exceeded)
}

impl<'b> Serializer for Writer<'b> {
    type Ok = Value;
    type Error = ValueError;
    type SerializeSeq = ListWriter<'b>;
    type SerializeTuple = ListWriter<'b>;
    type SerializeTupleStruct = ListWriter<'b>;
    type SerializeTupleVariant = ListWriter<'b>;
    type SerializeMap = MapWriter<'b>;
    type SerializeStruct = MapWriter<'b>;
    type SerializeStructVariant = MapWriter<'b>;

    fn is_human_readable(&self) -> bool {
        self.for_people
    }

    fn serialize_bool(self, value: bool) -> Result<Value, ValueError> {
        self.scalar(value)
    }
    fn serialize_i8(self, value: i8) -> Result<Value, ValueError> {
        self.scalar(value)
    }
    fn serialize_i16(self, value: i16) -> Result<Value, ValueError> {
        self.scalar(value)
    }
    fn serialize_i32(self, value: i32) -> Result<Value, ValueError> {
        self.scalar(value)
    }
    fn serialize_i64(self, value: i64) -> Result<Value, ValueError> {
        self.scalar(value)
    }
    fn serialize_i128(self, value: i128) -> Result<Value, ValueError> {
        match (i64::try_from(value), u64::try_from(value)) {
            (Ok(value), _) => self.scalar(value),
            (_, Ok(value)) => self.scalar(value),
            _ => Err(too_big(value)),
        }
    }
    fn serialize_u8(self, value: u8) -> Result<Value, ValueError> {
        self.scalar(value)
    }
    fn serialize_u16(self, value: u16) -> Result<Value, ValueError> {
        self.scalar(value)
    }
    fn serialize_u32(self, value: u32) -> Result<Value, ValueError> {
        self.scalar(value)
    }
    fn serialize_u64(self, value: u64) -> Result<Value, ValueError> {
        self.scalar(value)
    }
    fn serialize_u128(self, value: u128) -> Result<Value, ValueError> {
        match u64::try_from(value) {
            Ok(value) => self.scalar(value),
            Err(_) => Err(too_big(value)),
        }
    }
    fn serialize_f32(self, value: f32) -> Result<Value, ValueError> {
        self.scalar(f64::from(value))
    }
    fn serialize_f64(self, value: f64) -> Result<Value, ValueError> {
        self.scalar(value)
    }
    fn serialize_char(self, value: char) -> Result<Value, ValueError> {
        self.scalar(&*value.encode_utf8(&mut [0; 4]))
    }
    fn serialize_str(self, value: &str) -> Result<Value, ValueError> {
        self.scalar(value)
    }
    fn serialize_bytes(self, value: &[u8]) -> Result<Value, ValueError> {
        self.scalar(value)
    }
    fn serialize_none(self) -> Result<Value, ValueError> {
        self.serialize_unit()
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Value, ValueError> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<Value, ValueError> {
        self.scalar(Value::Null)
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<Value, ValueError> {
        self.serialize_unit()
    }
    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<Value, ValueError> {
        self.scalar(variant)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<Value, ValueError> {
        value.serialize(Writer {
            budget: self.budget,
            for_people: name != VALUE,
        })
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Value, ValueError> {
        let budget = self.open(None)?;
        let inner = value
            .serialize(Writer::new(budget))
            .map_err(|error| error.under_key(variant))?;
        Ok(close(budget, None, Value::from([(variant, inner)])))
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<ListWriter<'b>, ValueError> {
        self.list(None)
    }
    fn serialize_tuple(self, _: usize) -> Result<ListWriter<'b>, ValueError> {
        self.list(None)
    }
    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<ListWriter<'b>, ValueError> {
        self.list(None)
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<ListWriter<'b>, ValueError> {
        self.list(Some(variant))
    }
    fn serialize_map(self, _: Option<usize>) -> Result<MapWriter<'b>, ValueError> {
        self.map(None)
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<MapWriter<'b>, ValueError> {
        self.map(None)
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<MapWriter<'b>, ValueError> {
        self.map(Some(variant))
    }
}

impl ListWriter<'_> {
    fn push<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), ValueError> {
        let item = item
            .serialize(Writer::new(self.budget))
            .map_err(|error| error.under_index(self.items.len()))?;
        self.items.push(item);
        Ok(())
    }

    fn close(self) -> Value {
        close(self.budget, self.variant, Value::List(self.items.into()))
    }
}

impl MapWriter<'_> {
    fn insert<T: Serialize + ?Sized>(
        &mut self,
        key: Arc<str>,
        value: &T,
    ) -> Result<(), ValueError> {
        let value = value
            .serialize(Writer::new(self.budget))
            .map_err(|error| error.under_key(&key))?;
        self.entries.push((key, value));
        Ok(())
    }

    fn close(self) -> Value {
        close(self.budget, self.variant, Value::Map(self.entries.into()))
    }
}

macro_rules! list_writer {
    ($($writes:ident :: $element:ident),*) => {$(
        impl ser::$writes for ListWriter<'_> {
            type Ok = Value;
            type Error = ValueError;

            fn $element<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), ValueError> {
                self.push(item)
            }
            fn end(self) -> Result<Value, ValueError> {
                Ok(self.close())
            }
        }
    )*};
}
list_writer!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);

macro_rules! struct_writer {
    ($($writes:ident),*) => {$(
        impl ser::$writes for MapWriter<'_> {
            type Ok = Value;
            type Error = ValueError;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), ValueError> {
                self.insert(key.into(), value)
            }
            fn end(self) -> Result<Value, ValueError> {
                Ok(self.close())
            }
        }
    )*};
}
struct_writer!(SerializeStruct, SerializeStructVariant);

impl ser::SerializeMap for MapWriter<'_> {
    type Ok = Value;
    type Error = ValueError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), ValueError> {
        self.key = Some(key.serialize(KeyWriter)?);
        Ok(())
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ValueError> {
        match self.key.take() {
            Some(key) => self.insert(key, value),
            None => Err(ValueError::custom(
                "a map's value came before its key; serialize the key first",
            )),
        }
    }
    fn end(self) -> Result<Value, ValueError> {
        Ok(self.close())
    }
}

/// Writes a map's key as text.
struct KeyWriter;

macro_rules! keys_from {
    ($($method:ident($key:ty)),*) => {$(
        fn $method(self, key: $key) -> Result<Arc<str>, ValueError> {
            Ok(key.to_string().into())
        }
    )*};
}

macro_rules! keys_refused {
    ($($method:ident($($argument:ty),*) -> $ok:ty, $kind:literal;)*) => {$(
        fn $method(self, $(_: $argument),*) -> Result<$ok, ValueError> {
            Err(refused_key($kind))
        }
    )*};
}

impl Serializer for KeyWriter {
    type Ok = Arc<str>;
    type Error = ValueError;
    type SerializeSeq = Impossible<Arc<str>, ValueError>;
    type SerializeTuple = Impossible<Arc<str>, ValueError>;
    type SerializeTupleStruct = Impossible<Arc<str>, ValueError>;
    type SerializeTupleVariant = Impossible<Arc<str>, ValueError>;
    type SerializeMap = Impossible<Arc<str>, ValueError>;
    type SerializeStruct = Impossible<Arc<str>, ValueError>;
    type SerializeStructVariant = Impossible<Arc<str>, ValueError>;

    keys_from!(
        serialize_bool(bool),
        serialize_i8(i8),
        serialize_i16(i16),
        serialize_i32(i32),
        serialize_i64(i64),
        serialize_i128(i128),
        serialize_u8(u8),
        serialize_u16(u16),
        serialize_u32(u32),
        serialize_u64(u64),
        serialize_u128(u128),
        serialize_char(char)
    );
    keys_refused! {
        serialize_f32(f32) -> Arc<str>, "a float";
        serialize_f64(f64) -> Arc<str>, "a float";
        serialize_bytes(&[u8]) -> Arc<str>, "bytes";
        serialize_none() -> Arc<str>, "none";
        serialize_unit() -> Arc<str>, "a unit";
        serialize_unit_struct(&'static str) -> Arc<str>, "a unit";
        serialize_seq(Option<usize>) -> Self::SerializeSeq, "a list";
        serialize_tuple(usize) -> Self::SerializeTuple, "a tuple";
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct, "a tuple";
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant, "an enum with fields";
        serialize_map(Option<usize>) -> Self::SerializeMap, "a map";
        serialize_struct(&'static str, usize) -> Self::SerializeStruct, "a struct";
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant, "an enum with fields";
    }

    fn serialize_str(self, key: &str) -> Result<Arc<str>, ValueError> {
        Ok(key.into())
    }
    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<Arc<str>, ValueError> {
        Ok(variant.into())
    }
    fn serialize_some<T: Serialize + ?Sized>(self, key: &T) -> Result<Arc<str>, ValueError> {
        key.serialize(self)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        key: &T,
    ) -> Result<Arc<str>, ValueError> {
        key.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<Arc<str>, ValueError> {
        Err(refused_key("an enum with fields"))
    }
}

fn refused_key(kind: &str) -> ValueError {
    ValueError::custom(format_args!(
        "a map's key is {kind}; use text, an integer, a bool or a char"
    ))
}

fn too_big(number: impl Display) -> ValueError {
    ValueError::custom(format_args!("{number} does not fit 64 bits; use text"))
}
