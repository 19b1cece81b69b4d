//! Lines that `tracing-subscriber`'s JSON formatter wrote, plain or flattened.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;
use underpin::ids::EventId;

use super::{
    correlation, data,
    format::{Context, Refused},
    members::Members,
    ndjson::{self, Text},
};

/// The members of an object in their order, unread.
#[derive(Default)]
struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

/// One line, sorted into its parts.
#[derive(Default)]
struct Line<'a> {
    timestamp: Option<Cow<'a, str>>,
    level: Option<Cow<'a, str>>,
    target: Option<Cow<'a, str>>,
    /// What the program said, with `message` among it.
    fields: Vec<(Cow<'a, str>, &'a RawValue)>,
    /// The innermost span.
    span: Option<Object<'a>>,
    /// From the root to the innermost span.
    spans: Vec<Object<'a>>,
    spans_json: Option<&'a RawValue>,
    span_json: Option<&'a RawValue>,
    /// File, line, thread.
    place: Vec<(&'static str, &'a RawValue)>,
}

/// Whether this looks like a line of the formatter, and not like an event of ours.
pub(super) fn fits(line: &str) -> bool {
    let Ok(Object(members)) = serde_json::from_str(line) else {
        return false;
    };
    let has = |name: &str| members.iter().any(|(member, _)| member == name);
    has("level") && !has("kind") && (has("fields") || has("target") || has("timestamp"))
}

/// Writes the members of the line's event, all but its id.
pub(super) fn read(
    line: &str,
    context: &Context,
    out: &mut Vec<u8>,
) -> Result<Option<EventId>, Refused> {
    let object: Object<'_> = serde_json::from_str(line).map_err(|error| ndjson::why(&error))?;
    let line = Line::sort(object)?;
    let level = line.level.as_deref().ok_or(
        "`level` is missing: not a line of tracing-subscriber; say --format ndjson or text",
    )?;
    let source = line.target.as_deref().unwrap_or(&context.source);
    ndjson::check_name("target", source)?;
    let time = line
        .timestamp
        .as_deref()
        .and_then(|text| context.calendar.exact(text));

    let mut members = Members::following(out);
    match &context.kind {
        Some(kind) => members.text("kind", kind),
        None => members.text("kind", &kind(level)),
    }
    members.plain("time", time.unwrap_or(context.now_ns));
    members.text("source", source);
    if let Some(id) = line.correlation() {
        members.text("correlation", &id);
    }
    let start = members.object("data", |data| {
        for (name, value) in &line.fields {
            data.raw(name, value.get());
        }
        line.surroundings(data, level, time.is_none());
    });
    data::check(&out[start..])?;
    Ok(None)
}

impl<'a> Line<'a> {
    fn sort(object: Object<'a>) -> Result<Self, Refused> {
        let mut line = Self::default();
        let mut flat = Vec::new();
        for (name, value) in object.0 {
            match &*name {
                "timestamp" => line.timestamp = Some(text("timestamp", value)?),
                "level" => line.level = Some(text("level", value)?),
                "target" => line.target = Some(text("target", value)?),
                "fields" if value.get().starts_with('{') => {
                    line.fields = members("fields", value)?.0;
                }
                "span" if value.get().starts_with('{') => {
                    line.span = Some(members("span", value)?);
                    line.span_json = Some(value);
                }
                "spans" if value.get().starts_with('[') => {
                    line.spans = read_as("spans", value)?;
                    line.spans_json = Some(value);
                }
                "filename" => line.place.push(("file", value)),
                "line_number" => line.place.push(("line", value)),
                "threadName" => line.place.push(("thread", value)),
                "threadId" => line.place.push(("thread_id", value)),
                _ => flat.push((name, value)),
            }
        }
        line.fields.append(&mut flat);
        Ok(line)
    }

    /// Level, spans and place, under names that the program's own fields have not taken.
    fn surroundings(&self, data: &mut Members<'_>, level: &str, keep_timestamp: bool) {
        let free = |name: &str| !self.fields.iter().any(|(field, _)| field == name);
        if free("level") {
            data.text("level", level);
        }
        match (self.spans_json, self.span_json) {
            (Some(spans), _) if free("spans") => data.raw("spans", spans.get()),
            (None, Some(span)) if free("span") => data.raw("span", span.get()),
            _ => {}
        }
        for (name, value) in &self.place {
            if free(name) {
                data.raw(name, value.get());
            }
        }
        if let Some(timestamp) = &self.timestamp
            && keep_timestamp
            && free("timestamp")
        {
            data.text("timestamp", timestamp);
        }
    }

    /// From the fields, else from the innermost span that has one.
    fn correlation(&self) -> Option<String> {
        named_in(&self.fields).or_else(|| {
            self.span
                .iter()
                .chain(self.spans.iter().rev())
                .find_map(|span| named_in(&span.0))
        })
    }
}

/// `tracing.error`; a level of an unknown kind stays out of the name.
fn kind(level: &str) -> Cow<'static, str> {
    match level {
        "ERROR" => "tracing.error".into(),
        "WARN" => "tracing.warn".into(),
        "INFO" => "tracing.info".into(),
        "DEBUG" => "tracing.debug".into(),
        "TRACE" => "tracing.trace".into(),
        other if other.len() <= 16 && other.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
            format!("tracing.{}", other.to_ascii_lowercase()).into()
        }
        _ => "tracing.event".into(),
    }
}

fn named_in(members: &[(Cow<'_, str>, &RawValue)]) -> Option<String> {
    correlation::NAMES
        .into_iter()
        .chain([correlation::TRACEPARENT])
        .find_map(|name| {
            let (_, value) = members.iter().find(|(member, _)| member == name)?;
            correlation::usable(name, &scalar(value)?)
        })
}

/// Text, or a number as text.
fn scalar<'a>(value: &'a RawValue) -> Option<Cow<'a, str>> {
    match value.get().as_bytes().first()? {
        b'"' => serde_json::from_str::<Text<'a>>(value.get())
            .ok()
            .map(|text| text.0),
        b'-' | b'0'..=b'9' => Some(value.get().into()),
        _ => None,
    }
}

fn text<'a>(name: &str, value: &'a RawValue) -> Result<Cow<'a, str>, Refused> {
    read_as::<Text<'a>>(name, value).map(|text| text.0)
}

fn members<'a>(name: &str, value: &'a RawValue) -> Result<Object<'a>, Refused> {
    read_as(name, value)
}

fn read_as<'a, T: Deserialize<'a>>(name: &str, value: &'a RawValue) -> Result<T, Refused> {
    serde_json::from_str(value.get()).map_err(|error| format!("`{name}`: {}", ndjson::why(&error)))
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Object<'de>, A::Error> {
        let mut object = Vec::with_capacity(8);
        while let Some(name) = members.next_key::<Text<'de>>()? {
            object.push((name.0, members.next_value()?));
        }
        Ok(Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::format::tests::context, *};

    fn event(line: &str) -> Result<String, String> {
        let mut out = Vec::new();
        read(line, &context(None), &mut out)?;
        Ok(String::from_utf8(out).expect("UTF-8"))
    }

    const NESTED: &str = r#"{"timestamp":"2026-11-23T10:00:00.000001Z","level":"INFO","fields":{"message":"took it","ms":5},
        "target":"shop::orders","filename":"src/orders.rs","line_number":7,"span":{"order":3,"name":"place"},
        "spans":[{"request_id":"req-1","name":"request"},{"order":3,"name":"place"}],"threadId":"ThreadId(1)"}"#;

    #[test]
    fn fields_become_data_and_the_outer_span_gives_the_correlation() {
        assert_eq!(
            event(NESTED).as_deref(),
            Ok(concat!(
                r#","kind":"tracing.info","time":1795428000000001000,"source":"shop::orders","correlation":"req-1","#,
                r#""data":{"message":"took it","ms":5,"level":"INFO","#,
                r#""spans":[{"request_id":"req-1","name":"request"},{"order":3,"name":"place"}],"#,
                r#""file":"src/orders.rs","line":7,"thread_id":"ThreadId(1)"}"#
            ))
        );
    }

    #[test]
    fn flattened_lines_say_the_same() {
        let flat = r#"{"timestamp":"2026-11-23T10:00:00Z","level":"WARN","message":"slow","ms":5,"target":"a"}"#;

        assert_eq!(
            event(flat).as_deref(),
            Ok(
                r#","kind":"tracing.warn","time":1795428000000000000,"source":"a","data":{"message":"slow","ms":5,"level":"WARN"}"#
            )
        );
    }

    #[test]
    fn the_innermost_place_that_names_a_correlation_wins() {
        let id = |fields: &str, spans: &str| {
            let line = format!(
                r#"{{"level":"INFO","fields":{{{fields}}},"target":"a","spans":[{spans}]}}"#
            );
            let text = event(&line).expect("an event");
            text.split_once(r#""correlation":""#)
                .and_then(|(_, rest)| rest.split('"').next())
                .map(str::to_owned)
        };
        let outer = r#"{"trace_id":"outer","name":"a"}"#;
        let inner = r#"{"request_id":"inner","name":"b"}"#;

        assert_eq!(id(r#""req_id":5"#, outer).as_deref(), Some("5"));
        assert_eq!(
            id("", &format!("{outer},{inner}")).as_deref(),
            Some("inner")
        );
        assert_eq!(id("", outer).as_deref(), Some("outer"));
        assert_eq!(
            id(r#""request_id":"r","trace_id":"t""#, "").as_deref(),
            Some("t")
        );
        assert_eq!(id(r#""trace_id":"","message":"x""#, ""), None);
        assert_eq!(id(r#""trace_id":{"a":1}"#, ""), None);
        assert_eq!(
            id(
                r#""traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01""#,
                ""
            )
            .as_deref(),
            Some("4bf92f3577b34da6a3ce929d0e0e4736")
        );
    }

    #[test]
    fn a_field_that_has_the_name_of_a_surrounding_keeps_it() {
        let line =
            r#"{"level":"INFO","fields":{"level":5,"line":"x"},"target":"a","line_number":7}"#;

        assert!(
            event(line)
                .expect("an event")
                .ends_with(r#""data":{"level":5,"line":"x"}"#)
        );
    }

    #[test]
    fn a_timestamp_of_an_own_format_is_kept_in_the_data() {
        let line =
            r#"{"timestamp":"  0.0123s","level":"INFO","fields":{"message":"m"},"target":"a"}"#;

        let event = event(line).expect("an event");

        assert!(event.contains(r#""time":1000"#) && event.contains(r#""timestamp":"  0.0123s""#));
    }

    #[test]
    fn the_formatter_is_told_from_events_of_ours() {
        assert!(fits(NESTED));
        assert!(fits(r#"{"level":"INFO","message":"m","target":"a"}"#));
        for other in [
            r#"{"kind":"a","time":"2026-11-23T10:00:00Z"}"#,
            r#"{"level":"INFO"}"#,
            "[]",
            "hello",
            "",
        ] {
            assert!(!fits(other), "{other}");
        }
    }

    #[test]
    fn other_lines_are_refused_with_the_reason() {
        for (line, reason) in [
            ("plain text", "not JSON"),
            (r#"{"fields":{}}"#, "`level` is missing"),
            (r#"{"level":5}"#, "`level`: "),
            (r#"{"level":"INFO","target":""}"#, "target is 0 bytes"),
            (r#"{"level":"INFO","spans":[5]}"#, "`spans`: "),
            (r#"{"level":"INFO","fields":{"x":1e999}}"#, "out of range"),
        ] {
            let why = event(line).expect_err(line);
            assert!(why.contains(reason), "{line}: {why}");
        }
    }
}
