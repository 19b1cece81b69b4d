//! Whether the node will take an event's data, known before it is sent.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use underpin::{
    events::DATA_BYTES_MAX,
    value::{Limits, Value, codec},
};

/// JSON shorter than this cannot encode above the limit: the widest growth is `0e0,`, four bytes, into nine.
const SURELY_SMALL: usize = 400_000;
const DEPTH_MAX: u32 = Limits::DEFAULT.depth as u32;

/// Checks data of which only the size is in doubt.
pub(super) fn check_size(json: &[u8]) -> Result<(), String> {
    if json.len() < SURELY_SMALL {
        return Ok(());
    }
    check_exactly(json)
}

/// Checks data that came from outside: what it holds, how deep, how much.
pub(super) fn check(json: &[u8]) -> Result<(), String> {
    let mut shape = Shape { depth: 0, nodes: 0 };
    let mut reader = serde_json::Deserializer::from_slice(json);
    let read = (&mut shape).deserialize(&mut reader);
    // `{"$bytes": ".."}` counts as one scalar, which is not seen here: at the limit the exact count decides.
    let doubtful = shape.depth > DEPTH_MAX || shape.nodes > Limits::DEFAULT.nodes;
    if doubtful || json.len() >= SURELY_SMALL {
        return check_exactly(json);
    }
    read.map_err(|error| format!("data: {}", super::ndjson::why(&error)))
}

fn check_exactly(json: &[u8]) -> Result<(), String> {
    let value =
        Value::from_json(json, Limits::DEFAULT).map_err(|error| format!("data: {error}"))?;
    let mut encoded = Vec::new();
    codec::encode_value(&value, &mut encoded).map_err(|error| format!("data: {error}"))?;
    if encoded.len() > DATA_BYTES_MAX {
        return Err(format!(
            "data is {} bytes encoded; at most {DATA_BYTES_MAX} are stored",
            encoded.len()
        ));
    }
    Ok(())
}

/// Reads everything, keeps nothing but a count. Numbers out of range and broken escapes are errors on the way.
struct Shape {
    depth: u32,
    nodes: u32,
}

impl Shape {
    /// Counts a container that begins.
    fn enter<E: serde::de::Error>(&mut self) -> Result<(), E> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(E::custom("too deep"));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for &mut Shape {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.nodes = self.nodes.saturating_add(1);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Shape {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.enter()?;
        while items.next_element_seed(&mut *self)?.is_some() {}
        self.depth -= 1;
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        self.enter()?;
        while members.next_key::<Key>()?.is_some() {
            members.next_value_seed(&mut *self)?;
        }
        self.depth -= 1;
        Ok(())
    }
}

/// A member's name, read and forgotten.
struct Key;

impl<'de> serde::Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(KeyVisitor)
    }
}

struct KeyVisitor;

impl Visitor<'_> for KeyVisitor {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, _: &str) -> Result<Key, E> {
        Ok(Key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(depth: usize) -> String {
        format!("{}{}", "[".repeat(depth), "]".repeat(depth))
    }

    #[test]
    fn depth_and_count_are_held_to_the_limit() {
        assert_eq!(check(nested(64).as_bytes()), Ok(()));
        assert!(check(nested(65).as_bytes()).is_err());
        let list = |items: usize| format!("[{}0]", "0,".repeat(items - 1));
        assert_eq!(check(list(65_535).as_bytes()), Ok(()));
        assert!(check(list(65_536).as_bytes()).is_err());
    }

    #[test]
    fn size_is_held_to_the_limit_exactly() {
        let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes));
        // A text costs its tag, and its length in five bytes, beside its bytes.
        let largest = DATA_BYTES_MAX - 6;
        for check in [check, check_size] {
            assert_eq!(check(text(largest).as_bytes()), Ok(()));
            let refused = check(text(largest + 1).as_bytes()).expect_err("too large");
            assert!(refused.contains("1000001 bytes encoded"), "{refused}");
        }
    }

    #[test]
    fn what_the_node_could_not_read_is_refused_here() {
        for bad in ["1e999", r#""\ud800""#, "[1,]", "", r#"{"a"}"#] {
            assert!(check(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
