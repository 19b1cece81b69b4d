//! Results on stdout.

use std::{
    fmt,
    io::{self, BufWriter, StdoutLock, Write},
};

use super::failure::Failure;

/// Stdout, buffered. Lines appear at [`Output::flush`] or when the buffer is full.
#[derive(Debug)]
pub(super) struct Output {
    stdout: BufWriter<StdoutLock<'static>>,
}

impl Output {
    pub(super) fn stdout() -> Self {
        Self {
            stdout: BufWriter::with_capacity(64 * 1024, io::stdout().lock()),
        }
    }

    /// A text and the end of its line. Nothing in it drives the reader's terminal: JSON stays the same when it is read.
    pub(super) fn line(&mut self, line: impl fmt::Display) -> Result<(), Failure> {
        Ok(writeln!(self.stdout, "{}", harmless(&line.to_string()))?)
    }

    /// Lines, each of which stays one line, whatever others wrote into it.
    pub(super) fn lines(&mut self, lines: impl IntoIterator<Item = String>) -> Result<(), Failure> {
        for line in lines {
            writeln!(self.stdout, "{}", escaped(&line, |_| false))?;
        }
        Ok(())
    }

    /// Text as it is.
    pub(super) fn text(&mut self, text: &str) -> Result<(), Failure> {
        Ok(self.stdout.write_all(text.as_bytes())?)
    }

    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.stdout.flush()?)
    }
}

/// A text of many lines, in which nothing drives the reader's terminal.
pub(super) fn harmless(text: &str) -> String {
    escaped(text, |c| matches!(c, '\n' | '\t'))
}

/// `text` with its control characters escaped but for those that are told to be kept: what somebody else wrote must not drive the
/// reader's terminal. Written as JSON writes them, so that JSON stays what it is.
pub(super) fn escaped(text: &str, is_kept: impl Fn(char) -> bool) -> String {
    let is_escaped = |c: char| c.is_control() && !is_kept(c);
    if !text.contains(is_escaped) {
        return text.to_owned();
    }
    text.chars()
        .map(|c| match c {
            '\n' | '\r' | '\t' if is_escaped(c) => c.escape_default().to_string(),
            c if is_escaped(c) => format!("\\u{:04x}", u32::from(c)),
            c => c.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_keeps_its_lines_and_drives_nothing() {
        let text = "-----BEGIN\n\tred \u{1b}[31m\r\u{9b}2J\u{7f}";

        assert_eq!(
            harmless(text),
            "-----BEGIN\n\tred \\u001b[31m\\r\\u009b2J\\u007f"
        );
    }

    #[test]
    fn json_is_the_same_without_what_drives_a_terminal() {
        let json = serde_json::json!({"tags": ["\u{9b}2J", "\u{7f}", "\u{1b}\n\t\r"]});

        let shown = harmless(&json.to_string());

        assert!(!shown.contains(char::is_control), "{shown}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&shown).ok(),
            Some(json)
        );
    }
}
