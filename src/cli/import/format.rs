//! Which form the lines of an input have, and how to read one of them.

use std::borrow::Cow;

use underpin::ids::EventId;

use super::{ndjson, stamp::Calendar, text, tracing_json};
use crate::cli::arguments::FormatChoice;

/// Why a line is not stored.
pub(super) type Refused = String;

/// The form of all lines of one input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Ndjson,
    Tracing,
    Text,
}

/// What a line does not say of itself.
#[derive(Debug)]
pub(super) struct Context {
    /// The kind given on the command line.
    pub(super) kind: Option<String>,
    /// The name of the input.
    pub(super) source: String,
    /// When the batch was begun, for lines without a time.
    pub(super) now_ns: i64,
    pub(super) calendar: Calendar,
}

/// How many lines decide; a banner or a stray line in front does not.
pub(super) const LINES_LOOKED_AT: usize = 32;

impl Format {
    /// The form asked for, or the one that most of the first lines have.
    pub(super) fn choose(choice: FormatChoice, head: &[u8]) -> Self {
        match choice {
            FormatChoice::Ndjson => Self::Ndjson,
            FormatChoice::Tracing => Self::Tracing,
            FormatChoice::Text => Self::Text,
            FormatChoice::Auto => Self::detect(head),
        }
    }

    fn detect(head: &[u8]) -> Self {
        let (mut ndjson, mut tracing, mut text) = (0, 0, 0);
        let head = head.strip_prefix(BOM).unwrap_or(head);
        let mut lines = head.split_inclusive(|byte| *byte == b'\n').peekable();
        while let Some(line) = lines.next() {
            let trimmed = line.trim_ascii();
            let cut = lines.peek().is_none() && !line.ends_with(b"\n");
            match std::str::from_utf8(trimmed) {
                _ if trimmed.is_empty() => {}
                Ok(line) if tracing_json::fits(line) => tracing += 1,
                // The last line may have been cut by the end of what was looked at.
                Ok(line) if line.starts_with('{') && (cut || is_json(line)) => ndjson += 1,
                _ => text += 1,
            }
            if ndjson + tracing + text == LINES_LOOKED_AT {
                break;
            }
        }
        if text > ndjson + tracing {
            Self::Text
        } else if tracing > 0 && tracing >= ndjson {
            Self::Tracing
        } else if ndjson > 0 {
            Self::Ndjson
        } else {
            Self::Text
        }
    }

    /// Writes the members of the line's event (all but its id) to `out`, or nothing when it is refused. Gives back the id that the
    /// line states.
    pub(super) fn read(
        self,
        line: &[u8],
        context: &Context,
        out: &mut Vec<u8>,
    ) -> Result<Option<EventId>, Refused> {
        let start = out.len();
        let read = match self {
            Self::Text => {
                let text = String::from_utf8_lossy(line);
                let lossy = matches!(text, Cow::Owned(_));
                text::read(&text, lossy, context, out).map(|()| None)
            }
            Self::Ndjson => utf8(line).and_then(|line| ndjson::read(line, context, out)),
            Self::Tracing => utf8(line).and_then(|line| tracing_json::read(line, context, out)),
        };
        if read.is_err() {
            out.truncate(start);
        }
        read
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Tracing => "tracing",
            Self::Text => "text",
        }
    }
}

/// What some editors put in front of a file.
pub(super) const BOM: &[u8] = b"\xEF\xBB\xBF";

fn utf8(line: &[u8]) -> Result<&str, Refused> {
    std::str::from_utf8(line)
        .map_err(|error| format!("not UTF-8 at column {}", error.valid_up_to() + 1))
}

fn is_json(line: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(line).is_ok()
}

#[cfg(test)]
pub(super) mod tests {
    use jiff::{Timestamp, tz::TimeZone};

    use super::*;

    pub(in crate::cli::import) fn context(kind: Option<&str>) -> Context {
        Context {
            kind: kind.map(str::to_owned),
            source: "app.log".into(),
            now_ns: 1000,
            calendar: Calendar {
                zone: TimeZone::UTC,
                latest: "2026-11-23T12:00:00Z".parse::<Timestamp>().expect("a time"),
            },
        }
    }

    const OURS: &str = "{\"kind\":\"a\"}\n";
    const TRACING: &str = "{\"level\":\"INFO\",\"fields\":{},\"target\":\"a\"}\n";
    const TEXT: &str = "2026-11-23 10:00:00 install foo:amd64 <none> 1.0\n";

    #[test]
    fn most_of_the_first_lines_decide() {
        for (head, format) in [
            (String::new(), Format::Text),
            (OURS.into(), Format::Ndjson),
            (OURS.trim().into(), Format::Ndjson),
            (format!("\u{feff}\n\n{OURS}"), Format::Ndjson),
            (TRACING.into(), Format::Tracing),
            (TEXT.into(), Format::Text),
            (format!("Starting up\n{TRACING}{TRACING}"), Format::Tracing),
            (format!("{{not json\n{TEXT}"), Format::Text),
            (
                format!("{}{OURS}", TEXT.repeat(LINES_LOOKED_AT)),
                Format::Text,
            ),
            (
                format!("{OURS}{{\"kind\":\"b\",\"data\":\"cut of"),
                Format::Ndjson,
            ),
            ("\n\n".into(), Format::Text),
        ] {
            assert_eq!(
                Format::choose(FormatChoice::Auto, head.as_bytes()),
                format,
                "{head}"
            );
        }
    }

    #[test]
    fn a_form_that_was_asked_for_is_not_questioned() {
        for (choice, format) in [
            (FormatChoice::Ndjson, Format::Ndjson),
            (FormatChoice::Tracing, Format::Tracing),
            (FormatChoice::Text, Format::Text),
        ] {
            assert_eq!(Format::choose(choice, OURS.as_bytes()), format);
        }
    }

    #[test]
    fn a_refused_line_leaves_nothing_behind() {
        let mut out = b"before".to_vec();

        let refused = Format::Tracing.read(
            br#"{"level":"INFO","fields":{"x":1e999},"target":"a"}"#,
            &context(None),
            &mut out,
        );

        assert!(refused.is_err());
        assert_eq!(out, b"before");
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_in_json_and_replaced_in_text() {
        let line = b"{\"kind\":\"caf\xe9\"}";
        let mut out = Vec::new();

        assert_eq!(
            Format::Ndjson.read(line, &context(None), &mut out),
            Err("not UTF-8 at column 13".into())
        );
        assert_eq!(Format::Text.read(line, &context(None), &mut out), Ok(None));
        assert!(
            String::from_utf8(out)
                .expect("UTF-8")
                .contains(r#""lossy":true"#)
        );
    }
}
