//! Lines that are events in our own JSON.

use std::{borrow::Cow, fmt};

use jiff::Timestamp;
use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};
use serde_json::value::RawValue;
use underpin::ids::{CorrelationId, EventId};

use super::{
    NAME_BYTES_MAX, data,
    format::{Context, Refused},
    members::Members,
    stamp,
};

/// An event as it is written in a file, also as `events query --json` writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(default)]
    version: Option<u32>,
    #[serde(default)]
    id: Option<EventId>,
    #[serde(borrow, default)]
    kind: Option<Text<'a>>,
    #[serde(default)]
    time: Option<Time>,
    /// Part of the id; written by a query, and not needed again.
    #[serde(default, rename = "node")]
    _node: Option<u16>,
    #[serde(borrow, default)]
    source: Option<Text<'a>>,
    #[serde(borrow, default)]
    correlation: Option<Text<'a>>,
    #[serde(default)]
    parent: Option<EventId>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

/// Text that stays in the line when it has no escapes.
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

/// Nanoseconds since 1970.
struct Time(i64);

/// Writes the members of the line's event, all but its id; gives back the id that the line states.
pub(super) fn read(
    line: &str,
    context: &Context,
    out: &mut Vec<u8>,
) -> Result<Option<EventId>, Refused> {
    // An array would be taken for the members in their order.
    if !line.trim_start().starts_with('{') {
        return Err("not a JSON object".into());
    }
    let line: Line<'_> = serde_json::from_str(line).map_err(|error| why(&error))?;
    if let Some(version) = line.version.filter(|version| *version != 1) {
        return Err(format!(
            "written by version {version} of the format; this is version 1"
        ));
    }
    let kind = line
        .kind
        .as_ref()
        .map(|kind| &*kind.0)
        .or(context.kind.as_deref())
        .ok_or(
            "`kind` is missing; write one in the line, or say --kind K for all that have none",
        )?;
    // What has an id is an event already: nothing is added to it, or it would be another one each time.
    let is_new = line.id.is_none();
    let source = line.source.as_ref().map(|text| &*text.0);
    let source = source.or(is_new.then_some(&*context.source));
    let time = line.time.map(|time| time.0);
    let time = time.or(is_new.then_some(context.now_ns));
    check_name("kind", kind)?;
    // An empty one is that of events without.
    let source = source.filter(|source| !source.is_empty());
    source.map_or(Ok(()), |source| check_name("source", source))?;

    let mut members = Members::following(out);
    members.text("kind", kind);
    if let Some(time) = time {
        members.plain("time", time);
    }
    if let Some(source) = source {
        members.text("source", source);
    }
    if let Some(correlation) = &line.correlation {
        CorrelationId::new(&correlation.0).map_err(|error| error.to_string())?;
        members.text("correlation", &correlation.0);
    }
    if let Some(parent) = line.parent {
        members.text("parent", &parent.to_string());
    }
    if let Some(json) = line.data {
        data::check(json.get().as_bytes())?;
        members.raw("data", json.get());
    }
    Ok(line.id)
}

/// A JSON error without the line number, which is always 1.
pub(super) fn why(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((what, _)) if error.is_data() => what.to_owned(),
        Some((what, _)) => format!("not JSON at column {}: {what}", error.column()),
        None => text,
    }
}

pub(super) fn check_name(what: &str, name: &str) -> Result<(), Refused> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(format!(
            "{what} is {} bytes; use 1 to {NAME_BYTES_MAX}",
            name.len()
        ));
    }
    Ok(())
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TimeVisitor)
    }
}

struct TimeVisitor;

impl Visitor<'_> for TimeVisitor {
    type Value = Time;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time (2026-11-23T10:00:00Z, or nanoseconds since 1970)")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Time, E> {
        text.parse::<Timestamp>()
            .ok()
            .and_then(stamp::nanoseconds)
            .map(Time)
            .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }

    fn visit_i64<E: de::Error>(self, ns: i64) -> Result<Time, E> {
        Ok(Time(ns))
    }

    fn visit_u64<E: de::Error>(self, ns: u64) -> Result<Time, E> {
        i64::try_from(ns)
            .map(Time)
            .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(ns), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::format::tests::context, *};

    fn event(line: &str) -> Result<String, String> {
        let mut out = Vec::new();
        let id = read(line, &context(None), &mut out)?;
        let id = id.map_or("none".into(), |id| id.to_string());
        Ok(format!("{id}{}", String::from_utf8(out).expect("UTF-8")))
    }

    #[test]
    fn every_member_of_an_event_is_taken() {
        let line = r#"{"version":1,"id":"42","kind":"a.b","time":"2026-11-23T10:00:00.000000001Z","node":7,"source":"s\n",
            "correlation":"req-1","parent":41,"data":{"x":[1,2.5,null]}}"#;

        assert_eq!(
            event(line).as_deref(),
            Ok(
                r#"42,"kind":"a.b","time":1795428000000000001,"source":"s\n","correlation":"req-1","parent":"41","data":{"x":[1,2.5,null]}"#
            )
        );
    }

    #[test]
    fn time_source_and_the_rest_may_be_missing() {
        assert_eq!(
            event(r#"{"kind":"a"}"#).as_deref(),
            Ok(r#"none,"kind":"a","time":1000,"source":"app.log""#)
        );
    }

    /// They were given the time of the import and the name of the file: another event under the id of the first, which was refused.
    #[test]
    fn an_event_with_an_id_is_given_nothing_that_it_does_not_say() {
        assert_eq!(
            event(r#"{"id":"42","kind":"a"}"#).as_deref(),
            Ok(r#"42,"kind":"a""#)
        );
        assert_eq!(
            event(r#"{"kind":"a","source":"","time":5}"#).as_deref(),
            Ok(r#"none,"kind":"a","time":5"#)
        );
    }

    #[test]
    fn a_kind_of_ones_own_is_stronger_than_the_one_said() {
        let mut out = Vec::new();
        for line in [r#"{"kind":"own"}"#, r#"{"data":1}"#] {
            read(line, &context(Some("said")), &mut out).expect("an event");
        }
        let text = String::from_utf8(out).expect("UTF-8");
        assert!(text.contains(r#""kind":"own""#) && text.contains(r#""kind":"said""#));
    }

    #[test]
    fn each_refusal_says_what_is_wrong() {
        for (line, reason) in [
            ("", "not a JSON object"),
            ("{\"kind\":\"a\"", "not JSON at column 11"),
            (r#"[1,"7","a"]"#, "not a JSON object"),
            (r#"{"data":1}"#, "`kind` is missing"),
            (r#"{"kind":""}"#, "kind is 0 bytes"),
            (r#"{"kind":5}"#, "expected text"),
            (
                r#"{"kind":"a","colour":"red"}"#,
                "unknown field `colour`, expected one of",
            ),
            (r#"{"kind":"a","time":"soon"}"#, "expected a time"),
            (
                r#"{"kind":"a","time":18446744073709551615}"#,
                "expected a time",
            ),
            (r#"{"kind":"a","id":"0"}"#, "0"),
            (r#"{"kind":"a","correlation":""}"#, "correlation"),
            (r#"{"kind":"a","version":2}"#, "version 2"),
            (r#"{"kind":"a","data":"\ud800"}"#, "data: not JSON"),
            (r#"{"kind":"a","kind":"b"}"#, "duplicate field `kind`"),
        ] {
            let why = event(line).expect_err(line);
            assert!(why.contains(reason), "{line}: {why}");
        }
        let long = format!(r#"{{"kind":"{}"}}"#, "k".repeat(257));
        assert!(event(&long).expect_err("too long").contains("257 bytes"));
    }
}
