//! The shape of a typed table: its keys, and where it has secrets, without its values. Pure.

use std::fmt;

use serde::{Serialize, Serializer, ser};

use super::secret;

/// A number that tells one shape from another: two tables of one type with the same number have the same keys, and their secrets in
/// the same places. `None` for what cannot be serialized.
///
/// Far cheaper than to look at the keys themselves: names of fields are told apart by where the program has them, and their
/// values are not looked at.
pub(super) fn of(data: &impl Serialize) -> Option<u64> {
    let mut shape = Shape::default();
    secret::marked(|| data.serialize(&mut shape)).ok()?;
    Some(shape.hash)
}

#[derive(Default)]
struct Shape {
    hash: u64,
    /// In a key of a map, what is serialized counts; elsewhere it is a value.
    is_key: bool,
}

/// What stands at the end of a table or list, and for a secret.
const END: u64 = 1;
const SECRET: u64 = 2;

impl Shape {
    /// As rustc's own hash of the same need: fast, and good enough where nobody chooses the keys to do harm.
    fn add(&mut self, word: u64) {
        const FACTOR: u64 = 0x517c_c1b7_2722_0a95;
        self.hash = (self.hash.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    }

    /// A name that the program has: the same one has the same place.
    fn name(&mut self, name: &'static str) {
        self.add(name.as_ptr() as u64);
        self.add(name.len() as u64);
    }

    fn text(&mut self, text: &[u8]) {
        for part in text.chunks(8) {
            let word = part
                .iter()
                .fold(0, |word, byte| word << 8 | u64::from(*byte));
            self.add(word);
        }
        self.add(text.len() as u64);
    }

    fn scalar(&mut self, value: u64) {
        if self.is_key {
            self.add(value);
        }
    }
}

/// The entries of a map: in whatever order they come, the shape is the same.
struct Entries<'a> {
    shape: &'a mut Shape,
    sum: u64,
    entry: Shape,
}

type Done = Result<(), fmt::Error>;

macro_rules! scalars {
    ($($method:ident: $type:ty),+) => {
        $(fn $method(self, value: $type) -> Done {
            self.scalar(value as u64);
            Ok(())
        })+
    };
}

#[expect(
    clippy::cast_sign_loss,
    clippy::cast_possible_truncation,
    clippy::cast_lossless,
    reason = "only tells one key from another"
)]
impl<'a> Serializer for &'a mut Shape {
    type Ok = ();
    type Error = fmt::Error;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Entries<'a>;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    scalars!(
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_u8: u8,
        serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_i128: i128, serialize_u128: u128, serialize_char: char
    );

    fn serialize_f32(self, value: f32) -> Done {
        self.scalar(u64::from(value.to_bits()));
        Ok(())
    }

    fn serialize_f64(self, value: f64) -> Done {
        self.scalar(value.to_bits());
        Ok(())
    }

    fn serialize_str(self, text: &str) -> Done {
        if self.is_key {
            self.text(text.as_bytes());
        } else if secret::is_mark(text) {
            self.add(SECRET);
        }
        Ok(())
    }

    /// Without making a text of it, where nobody looks at the text.
    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Done {
        if self.is_key {
            self.text(value.to_string().as_bytes());
        }
        Ok(())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Done {
        if self.is_key {
            self.text(bytes);
        }
        Ok(())
    }

    fn serialize_none(self) -> Done {
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Done {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Done {
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Done {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, name: &'static str) -> Done {
        if self.is_key {
            self.text(name.as_bytes());
        }
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Done {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        value: &T,
    ) -> Done {
        self.name(name);
        value.serialize(&mut *self)?;
        self.add(END);
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, fmt::Error> {
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, fmt::Error> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, fmt::Error> {
        Ok(self)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Self, fmt::Error> {
        self.name(name);
        Ok(self)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Entries<'a>, fmt::Error> {
        Ok(Entries {
            shape: self,
            sum: 0,
            entry: Shape::default(),
        })
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, fmt::Error> {
        Ok(self)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Self, fmt::Error> {
        self.name(name);
        Ok(self)
    }
}

macro_rules! lists {
    ($($kind:ident: $method:ident),+) => {
        $(impl ser::$kind for &mut Shape {
            type Ok = ();
            type Error = fmt::Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
                value.serialize(&mut **self)
            }

            fn end(self) -> Done {
                self.add(END);
                Ok(())
            }
        })+
    };
}

lists!(
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field
);

macro_rules! tables {
    ($($kind:ident),+) => {
        $(impl ser::$kind for &mut Shape {
            type Ok = ();
            type Error = fmt::Error;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Done {
                self.name(name);
                value.serialize(&mut **self)
            }

            fn end(self) -> Done {
                self.add(END);
                Ok(())
            }
        })+
    };
}

tables!(SerializeStruct, SerializeStructVariant);

impl ser::SerializeMap for Entries<'_> {
    type Ok = ();
    type Error = fmt::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Done {
        self.entry = Shape {
            hash: END,
            is_key: true,
        };
        key.serialize(&mut self.entry)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Done {
        self.entry.is_key = false;
        value.serialize(&mut self.entry)?;
        self.sum = self.sum.wrapping_add(self.entry.hash);
        Ok(())
    }

    fn end(self) -> Done {
        self.shape.add(self.sum);
        self.shape.add(END);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::config::Secret;

    #[derive(Serialize)]
    #[serde(untagged)]
    enum Auth {
        Off(bool),
        Token(Secret<String>),
    }

    #[derive(Serialize)]
    #[serde(tag = "kind")]
    enum Backend {
        Memory { limit: u32 },
        Disk { path: &'static str },
    }

    #[derive(Serialize)]
    struct Table {
        auth: Auth,
        backend: Backend,
        spare: Auth,
        by_name: HashMap<String, Option<u32>>,
    }

    fn table(auth: Auth, backend: Backend, spare: Auth, names: [&str; 3]) -> Option<u64> {
        let by_name = names.map(|name| (name.to_owned(), Some(1)));
        of(&Table {
            auth,
            backend,
            spare,
            by_name: by_name.into(),
        })
    }

    #[test]
    fn a_shape_is_the_keys_and_the_places_of_secrets_and_no_values() {
        let off = || Auth::Off(false);
        let token = || Auth::Token(Secret::new("hunter2".to_owned()));
        let memory = |limit| Backend::Memory { limit };
        let names = ["a", "b", "c"];
        let shape = table(off(), memory(1), off(), names);

        assert!(shape.is_some());
        assert_eq!(
            table(Auth::Off(true), memory(2), off(), ["c", "b", "a"]),
            shape
        );
        let others = [
            table(token(), memory(1), off(), names),
            table(off(), memory(1), token(), names),
            table(off(), Backend::Disk { path: "x" }, off(), names),
            table(off(), memory(1), off(), ["a", "b", "d"]),
        ];
        for (at, other) in others.iter().enumerate() {
            assert_ne!(*other, shape, "{at}");
            assert!(!others[..at].contains(other), "{at}");
        }
    }
}
