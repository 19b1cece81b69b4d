//! JSON in and out, and the two kinds of value that JSON lacks.
//!
//! Bytes are written as `{"$bytes": "<base64>"}`, non-finite floats as `{"$float": "NaN" | "Infinity" | "-Infinity"}`. A map that
//! would look like one of these has a `$` put before its name, which reading takes away again: `{"$$bytes": 1}`.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::de::DeserializeSeed;

use super::{Limits, Map, Value, ValueError, deserialize::Seed, limits::Budget, map::Entry};

pub(super) const BYTES: &str = "$bytes";
pub(super) const FLOAT: &str = "$float";

impl Value {
    /// Reads JSON, within `limits` while it reads.
    ///
    /// Whole numbers that fit 64 bits stay integers; larger ones become floats, as everywhere in JSON. Of several members with one
    /// name the last one stays. `{"$bytes": "<base64>"}` and `{"$float": "NaN"}` become bytes and floats; an object that only looks
    /// similar stays a map.
    ///
    /// # Errors
    ///
    /// [`ValueError::Json`] with line and column, [`ValueError::TooDeep`], [`ValueError::TooManyNodes`].
    pub fn from_json(json: impl AsRef<[u8]>, limits: Limits) -> Result<Self, ValueError> {
        let mut budget = Budget::new(limits);
        let mut reader = serde_json::Deserializer::from_slice(json.as_ref());
        let value = Seed::new(&mut budget)
            .deserialize(&mut reader)
            .and_then(|value| reader.end().map(|()| value));
        value.map_err(|error| budget.error().unwrap_or_else(|| describe(&error)))
    }

    /// This value as JSON on one line, names sorted. [`Value::from_json`] reads an equal value back.
    ///
    /// Bytes are written as `{"$bytes": "<base64>"}` and non-finite floats as `{"$float": "NaN"}`; the sign and payload of a NaN are
    /// not kept.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| {
            unreachable!("text keys and finite numbers have a JSON form: {error}")
        })
    }
}

/// Whether a map with only this name could be taken for a tagged scalar, or for the escaped form of such a map.
pub(super) fn is_tag(name: &str) -> bool {
    let bare = name.trim_start_matches('$');
    matches!(name.len() - bare.len(), 1..) && matches!(bare, "bytes" | "float")
}

/// What a map with this one tag-like name means.
pub(super) fn untag((name, value): Entry) -> Value {
    if let Some(scalar) = value.as_str().and_then(|text| read_scalar(&name, text)) {
        return scalar;
    }
    let name = match name.strip_prefix('$') {
        Some(unescaped) if unescaped.starts_with('$') => unescaped.into(),
        _ => name,
    };
    Value::Map(Map::from_sorted(vec![(name, value)]))
}

pub(super) fn bytes_text(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub(super) fn float_text(float: f64) -> &'static str {
    match float {
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ => "NaN",
    }
}

fn read_scalar(name: &str, text: &str) -> Option<Value> {
    match (name, text) {
        (BYTES, _) => Some(Value::Bytes(STANDARD.decode(text).ok()?.into())),
        (FLOAT, "NaN") => Some(Value::Float(f64::NAN)),
        (FLOAT, "Infinity") => Some(Value::Float(f64::INFINITY)),
        (FLOAT, "-Infinity") => Some(Value::Float(f64::NEG_INFINITY)),
        _ => None,
    }
}

fn describe(error: &serde_json::Error) -> ValueError {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or_default();
    ValueError::Json {
        line: error.line(),
        column: error.column(),
        what: what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::arbitrary, *};

    fn read(json: &str) -> Value {
        Value::from_json(json, Limits::DEFAULT).expect("test JSON is valid")
    }

    fn nested(depth: usize, innermost: &str) -> String {
        format!("{}{innermost}{}", "[".repeat(depth), "]".repeat(depth))
    }

    #[test]
    fn numbers_keep_their_kind() {
        let numbers = read(
            "[1, -9223372036854775808, 9223372036854775808, 18446744073709551615, 1.0, 1e2, -0.0]",
        );

        assert_eq!(
            numbers.to_json(),
            "[1,-9223372036854775808,9223372036854775808,18446744073709551615,1.0,100.0,-0.0]"
        );
        assert!(matches!(
            numbers.as_list(),
            Some([
                Value::Int(1),
                Value::Int(i64::MIN),
                Value::UInt(0x8000_0000_0000_0000),
                Value::UInt(u64::MAX),
                Value::Float(_),
                Value::Float(_),
                Value::Float(_)
            ])
        ));
    }

    #[test]
    fn bytes_and_non_finite_floats_have_a_form_of_their_own() {
        let value = Value::from(vec![
            Value::from(&[0u8, 255][..]),
            f64::NAN.into(),
            f64::NEG_INFINITY.into(),
        ]);

        let json = value.to_json();

        assert_eq!(
            json,
            r#"[{"$bytes":"AP8="},{"$float":"NaN"},{"$float":"-Infinity"}]"#
        );
        assert_eq!(read(&json), value);
    }

    #[test]
    fn a_map_that_looks_like_bytes_stays_a_map() {
        let lookalike = Value::from([("$bytes", "AP8=")]);

        assert_eq!(lookalike.to_json(), r#"{"$$bytes":"AP8="}"#);
        assert_eq!(read(&lookalike.to_json()), lookalike);
        for foreign in [
            r#"{"$bytes":5}"#,
            r#"{"$bytes":"not base64!"}"#,
            r#"{"$bytes":"AP8=","x":1}"#,
            r#"{"$ref":"AP8="}"#,
            r#"{"$float":{"$bytes":[]}}"#,
        ] {
            let value = read(foreign);
            assert!(value.as_map().is_some(), "{foreign}");
            assert_eq!(read(&value.to_json()), value);
        }
    }

    #[test]
    fn limits_hold_while_reading() {
        assert!(Value::from_json(nested(64, ""), Limits::DEFAULT).is_ok());
        assert_eq!(
            Value::from_json(nested(65, ""), Limits::DEFAULT),
            Err(ValueError::TooDeep { limit: 64 })
        );
        assert_eq!(
            Value::from_json("[".repeat(10_000_000), Limits::CONFIG),
            Err(ValueError::TooDeep { limit: 20 })
        );
        let few = Limits { depth: 1, nodes: 3 };
        assert!(Value::from_json("[1,2]", few).is_ok());
        assert_eq!(
            Value::from_json("[1,2,3]", few),
            Err(ValueError::TooManyNodes { limit: 3 })
        );
    }

    #[test]
    fn tagged_scalars_count_as_scalars() {
        let tight = Limits { depth: 2, nodes: 3 };
        assert!(Value::from_json(nested(2, r#"{"$bytes":"AP8="}"#), tight).is_ok());
        assert_eq!(
            Value::from_json(nested(2, r#"{"$bytes":"?"}"#), tight),
            Err(ValueError::TooManyNodes { limit: 3 })
        );
        assert_eq!(
            Value::from_json(
                nested(2, r#"{"$bytes":"?"}"#),
                Limits { depth: 2, nodes: 9 }
            ),
            Err(ValueError::TooDeep { limit: 2 })
        );
    }

    #[test]
    fn the_last_of_equal_names_stays() {
        assert_eq!(read(r#"{"b":1,"a":2,"b":3}"#).to_json(), r#"{"a":2,"b":3}"#);
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_place() {
        assert_eq!(
            Value::from_json("{\"a\":\n nul}", Limits::DEFAULT)
                .expect_err("not JSON")
                .to_string(),
            "not JSON at line 2, column 5: expected ident"
        );
        for bad in ["", "{", "1 2", "[1,]", "\"\\ud800\"", "1e999", "\u{0}"] {
            assert!(
                matches!(
                    Value::from_json(bad, Limits::DEFAULT),
                    Err(ValueError::Json { .. })
                ),
                "{bad}"
            );
        }
        assert!(Value::from_json([b'"', 0xff, b'"'], Limits::DEFAULT).is_err());
    }

    proptest! {
        #[test]
        fn every_value_comes_back_from_json(value in arbitrary::value()) {
            prop_assert_eq!(Value::from_json(value.to_json(), Limits::DEFAULT), Ok(value));
        }

        #[test]
        fn every_cut_of_json_is_an_error_or_a_value(value in arbitrary::value()) {
            let json = value.to_json();
            for cut in 0..json.len() {
                let _ = Value::from_json(&json.as_bytes()[..cut], Limits::DEFAULT);
            }
        }
    }
}
