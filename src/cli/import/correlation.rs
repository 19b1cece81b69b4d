//! Where logs say what belongs together.

use underpin::ids::{CorrelationId, TraceParent};

/// Names under which programs write it, the most telling first.
pub(super) const NAMES: [&str; 5] = [
    "trace_id",
    "correlation_id",
    "correlation",
    "request_id",
    "req_id",
];
/// W3C trace context: the trace id is a part of it.
pub(super) const TRACEPARENT: &str = "traceparent";

/// The id in `text`, if it can be one.
pub(super) fn usable(name: &str, text: &str) -> Option<String> {
    if name == TRACEPARENT {
        let header: TraceParent = text.parse().ok()?;
        return Some(header.trace().to_string());
    }
    CorrelationId::new(text).ok().map(|_| text.to_owned())
}

/// The first `request_id=..` (or any of the names) in a line of text.
pub(super) fn in_text(line: &str) -> Option<String> {
    line.match_indices('=').find_map(|(at, _)| {
        let name = name_before(&line[..at])?;
        usable(name, value_after(&line[at + 1..]))
    })
}

/// The name that `text` ends with, at the start of a word.
fn name_before(text: &str) -> Option<&'static str> {
    NAMES.into_iter().chain([TRACEPARENT]).find(|name| {
        text.strip_suffix(name)
            .is_some_and(|before| !before.ends_with(|c: char| c.is_alphanumeric() || c == '_'))
    })
}

/// Up to the closing quote, or to whatever ends a word.
fn value_after(text: &str) -> &str {
    match text.strip_prefix(['"', '\'']) {
        Some(quoted) => quoted.split(['"', '\'']).next().unwrap_or_default(),
        None => text
            .split(|c: char| c.is_whitespace() || ",;)]}\"'&|".contains(c))
            .next()
            .unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_found_where_a_line_names_it() {
        for (line, id) in [
            ("took 5 ms request_id=req-7 status=200", "req-7"),
            (
                "trace_id=4bf92f3577b34da6a3ce929d0e0e4736",
                "4bf92f3577b34da6a3ce929d0e0e4736",
            ),
            ("[correlation_id=\"a b\"] x", "a b"),
            ("(req_id=9)", "9"),
            ("a=b, correlation='c', d", "c"),
            ("GET /?request_id=5&x=1", "5"),
            (
                "traceparent=00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                "4bf92f3577b34da6a3ce929d0e0e4736",
            ),
            ("trace_id= request_id=2", "2"),
        ] {
            assert_eq!(in_text(line).as_deref(), Some(id), "{line}");
        }
    }

    #[test]
    fn nothing_else_is_taken_for_one() {
        let long = format!("request_id={}", "x".repeat(257));
        for line in [
            "",
            "=",
            "id=5",
            "my_request_id=5",
            "request_id",
            "request_id=",
            "traceparent=hello",
            &long,
        ] {
            assert_eq!(in_text(line), None, "{line}");
        }
    }
}
