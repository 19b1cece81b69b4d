//! Floats as data. Formats for people, such as JSON, have no number for infinity and for what is none, and would write nothing in their
//! place: there they are the words that OpenMetrics has for them.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// For `#[serde(with)]`.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference"
)]
pub(super) fn serialize<S: Serializer>(float: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    let word = match *float {
        f64::INFINITY => "+Inf",
        f64::NEG_INFINITY => "-Inf",
        float if float.is_nan() => "NaN",
        float => return serializer.serialize_f64(float),
    };
    if serializer.is_human_readable() {
        serializer.serialize_str(word)
    } else {
        serializer.serialize_f64(*float)
    }
}

/// For `#[serde(with)]`.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    if deserializer.is_human_readable() {
        deserializer.deserialize_any(NumberOrWord)
    } else {
        f64::deserialize(deserializer)
    }
}

/// Times and numbers, one after the other; for `#[serde(with)]`.
pub(super) mod points {
    use super::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Point(u64, #[serde(with = "super")] f64);

    pub(in super::super) fn serialize<S: Serializer>(
        points: &[(u64, f64)],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(points.iter().map(|(at, number)| Point(*at, *number)))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<(u64, f64)>, D::Error> {
        let points = Vec::<Point>::deserialize(deserializer)?;
        Ok(points
            .into_iter()
            .map(|Point(at, number)| (at, number))
            .collect())
    }
}

struct NumberOrWord;

impl de::Visitor<'_> for NumberOrWord {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, `NaN`, `+Inf` or `-Inf`")
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<f64, E> {
        Ok(number)
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "what was written as a float has one"
    )]
    fn visit_u64<E: de::Error>(self, number: u64) -> Result<f64, E> {
        Ok(number as f64)
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "what was written as a float has one"
    )]
    fn visit_i64<E: de::Error>(self, number: i64) -> Result<f64, E> {
        Ok(number as f64)
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<f64, E> {
        match word {
            "+Inf" => Ok(f64::INFINITY),
            "-Inf" => Ok(f64::NEG_INFINITY),
            "NaN" => Ok(f64::NAN),
            other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
        }
    }
}
