//! Events for people.

use jiff::{Timestamp, tz::TimeZone};
use serde_json::Value as Json;

use super::tree::{Row, duration};
use crate::cli::output::escaped;

/// Data longer than this is cut in a line; `events get` shows all of it.
const DATA_CHARS_MAX: usize = 160;

/// Levels that are indented; deeper ones stand below one another.
const DEPTH_SHOWN: usize = 40;

/// `2026-11-23 10:00:00.123  dpkg.install  dpkg  7130..  data`.
pub(super) fn in_one_line(event: &Json, zone: &TimeZone) -> String {
    let text = |name: &str| printable(event[name].as_str().unwrap_or_default());
    let mut line = format!(
        "{}  {:<16}  {:<16}  {}",
        local(event["time"].as_str().unwrap_or_default(), zone),
        text("kind"),
        text("source"),
        text("id"),
    );
    if event["correlation"].is_string() {
        line.push_str("  ");
        line.push_str(&text("correlation"));
    }
    let data = data(&event["data"]);
    if !data.is_empty() {
        line.push_str("  ");
        line.push_str(&cut(&data));
    }
    line
}

/// The same with its depth, how long after its cause it came, and how long it took.
pub(super) fn in_a_tree(row: &Row<'_>, zone: &TimeZone) -> String {
    let event = row.event;
    let text = |name: &str| printable(event[name].as_str().unwrap_or_default());
    let mut line = local(event["time"].as_str().unwrap_or_default(), zone);
    line.push_str("  ");
    line.push_str(&"  ".repeat(row.depth.min(DEPTH_SHOWN)));
    line.push_str(&text("kind"));
    if let Some(after) = row.after {
        line.push_str(&format!("  +{}", duration(after)));
    }
    if let Some(took) = row.took {
        line.push_str(&format!("  took {}", duration(took)));
    }
    line.push_str(&format!("  {}  {}", text("source"), text("id")));
    let data = data(&event["data"]);
    if !data.is_empty() {
        line.push_str("  ");
        line.push_str(&cut(&data));
    }
    line
}

/// The event with its depth, and in nanoseconds how long after its cause it came and how long it took, where that is known.
pub(super) fn in_a_tree_as_json(row: &Row<'_>) -> Json {
    let mut line = row.event.clone();
    line["depth"] = row.depth.into();
    for (name, nanos) in [("after_ns", row.after), ("took_ns", row.took)] {
        if let Some(nanos) = nanos.and_then(|nanos| i64::try_from(nanos).ok()) {
            line[name] = nanos.into();
        }
    }
    line
}

/// Whose state, since when, and the state.
pub(super) fn state(state: &Json, zone: &TimeZone) -> Vec<String> {
    let text = |name: &str| printable(state[name].as_str().unwrap_or_default());
    let since = local(state["since"].as_str().unwrap_or_default(), zone);
    let cut = match state["truncated"].as_bool() {
        Some(true) => ", too long to be kept",
        _ => "",
    };
    let head = format!(
        "{}  since {since}, event {}{cut}",
        text("source"),
        text("event")
    );
    let pretty = format!("{:#}", state["state"]);
    let lines = pretty.lines().map(|line| format!("  {}", printable(line)));
    std::iter::once(head).chain(lines).collect()
}

/// `source  path: before -> after`.
pub(super) fn difference(difference: &Json) -> String {
    let text = |name: &str| printable(difference[name].as_str().unwrap_or_default());
    let value = |name: &str| match &difference[name] {
        Json::Null => "nothing".into(),
        value => printable(&value.to_string()),
    };
    let (source, path) = (text("source"), text("path"));
    let path = if path.is_empty() { "(all)" } else { &path };
    format!(
        "{source}  {path}: {} -> {}",
        value("before"),
        value("after")
    )
}

/// A line for each part that is there, data indented below.
pub(super) fn in_full(event: &Json) -> Vec<String> {
    let mut lines: Vec<String> = [
        "id",
        "kind",
        "time",
        "source",
        "node",
        "correlation",
        "parent",
    ]
    .into_iter()
    .filter_map(|name| Some(format!("{name:<12} {}", plain(event.get(name)?)?)))
    .collect();
    match event.get("data") {
        None | Some(Json::Null) => {}
        Some(data) => {
            lines.push("data".into());
            let pretty = format!("{data:#}");
            lines.extend(pretty.lines().map(|line| format!("  {}", printable(line))));
        }
    }
    lines
}

/// The message first, then what it does not say as `name=value`.
fn data(data: &Json) -> String {
    let Json::Object(members) = data else {
        return match data {
            Json::Null => String::new(),
            other => in_words(other),
        };
    };
    let message = members.get("message").and_then(Json::as_str).map(printable);
    let rest = members
        .iter()
        .filter(|(_, value)| !is_said(value, message.as_deref()))
        .map(|(name, value)| format!("{}={}", printable(name), in_words(value)));
    message
        .clone()
        .into_iter()
        .chain(rest)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Whether the message holds this text already, or is it.
fn is_said(value: &Json, message: Option<&str>) -> bool {
    value
        .as_str()
        .zip(message)
        .is_some_and(|(text, message)| message.contains(&printable(text)))
}

fn in_words(value: &Json) -> String {
    plain(value).unwrap_or_else(|| printable(&value.to_string()))
}

fn plain(value: &Json) -> Option<String> {
    match value {
        Json::Null | Json::Array(_) | Json::Object(_) => None,
        Json::String(text) => Some(printable(text)),
        other => Some(other.to_string()),
    }
}

/// In one line.
fn printable(text: &str) -> String {
    escaped(&text.replace('\t', " "), |_| false)
}

fn local(time: &str, zone: &TimeZone) -> String {
    time.parse::<Timestamp>().map_or_else(
        |_| printable(time),
        |time| {
            time.to_zoned(zone.clone())
                .strftime("%Y-%m-%d %H:%M:%S.%3f")
                .to_string()
        },
    )
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(DATA_CHARS_MAX) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_shows_time_kind_source_id_correlation_and_data() {
        let event = json!({
            "version": 1, "id": "42", "kind": "dpkg.install", "time": "2026-11-23T10:00:00.123456789Z", "node": 7,
            "source": "dpkg", "correlation": "req-1", "data": {"message": "install foo", "package": "foo", "to": "1.0", "tags": [1]}
        });

        assert_eq!(
            in_one_line(&event, &TimeZone::UTC),
            "2026-11-23 10:00:00.123  dpkg.install      dpkg              42  req-1  install foo tags=[1] to=1.0"
        );
    }

    #[test]
    fn data_is_cut_between_characters() {
        let event = json!({"id": "1", "data": "ä".repeat(500)});

        let line = in_one_line(&event, &TimeZone::UTC);

        assert!(line.ends_with(&format!("{}..", "ä".repeat(DATA_CHARS_MAX))));
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let event = json!({"id": "1", "kind": "a", "data": {"message": "red \u{1b}[31m\nalert"}});

        let line = in_one_line(&event, &TimeZone::UTC);

        assert!(line.ends_with("red \\u001b[31m\\nalert"), "{line}");
    }

    /// JSON lets some of them stand as they are: `events get` and lists in a line handed them on.
    #[test]
    fn control_characters_that_json_does_not_escape_do_not_reach_the_terminal_either() {
        let event = json!({"id": "1", "data": {"tags": ["\u{9b}2J", "\u{7f}"], "a\u{9b}": {"b": "\u{9b}c"}}});

        let lines = [vec![in_one_line(&event, &TimeZone::UTC)], in_full(&event)].concat();

        assert!(
            lines.iter().all(|line| !line.contains(char::is_control)),
            "{lines:?}"
        );
    }

    #[test]
    fn in_full_each_part_that_is_there_has_a_line() {
        let event =
            json!({"version": 1, "id": "42", "kind": "a", "parent": null, "data": {"n": [1]}});

        assert_eq!(
            in_full(&event),
            [
                "id           42",
                "kind         a",
                "data",
                "  {",
                "    \"n\": [",
                "      1",
                "    ]",
                "  }"
            ]
        );
    }
}
