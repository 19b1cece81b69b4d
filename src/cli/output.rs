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

    /// One line.
    pub(super) fn line(&mut self, line: impl fmt::Display) -> Result<(), Failure> {
        Ok(writeln!(self.stdout, "{line}")?)
    }

    /// Text as it is.
    pub(super) fn text(&mut self, text: &str) -> Result<(), Failure> {
        Ok(self.stdout.write_all(text.as_bytes())?)
    }

    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.stdout.flush()?)
    }
}

/// `text` with its control characters escaped but for those that are told to be kept: what somebody else wrote must not drive the
/// reader's terminal.
pub(super) fn escaped(text: &str, is_kept: impl Fn(char) -> bool) -> String {
    let is_escaped = |c: char| c.is_control() && !is_kept(c);
    if !text.contains(is_escaped) {
        return text.to_owned();
    }
    text.chars()
        .map(|c| match c {
            c if is_escaped(c) => c.escape_default().to_string(),
            c => c.to_string(),
        })
        .collect()
}
