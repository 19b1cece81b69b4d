//! Lines of an input, one at a time, with a bound on their length.

use std::io::{self, BufRead, BufReader, Read};

use underpin::events::DATA_BYTES_MAX;

use super::checkpoint::Print;

/// Longer lines are refused: an event takes no more as JSON. Six bytes for each of its data where all are control characters, and its
/// names. In bytes, without the end of line.
pub(super) const LINE_BYTES_MAX: usize = 6 * DATA_BYTES_MAX + 16 * 1024;
const BUFFER_BYTES: usize = 256 * 1024;

/// An input, read line by line. Memory stays below the limit of a line plus one buffer.
#[derive(Debug)]
pub(super) struct Lines<R> {
    input: BufReader<R>,
    line: Vec<u8>,
}

/// What was found at the place of the next line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// Bytes that it takes in the input, with its end.
    pub(super) bytes: u64,
    /// Whether it ends with a newline; only the last line may not.
    pub(super) ended: bool,
    /// Whether it is too long, and was not kept.
    pub(super) too_long: bool,
    /// Checksum of its bytes, when it did not end.
    pub(super) open_crc: u32,
}

impl Found {
    /// Of a line that did not end.
    pub(super) fn print(&self) -> Print {
        Print {
            bytes: self.bytes,
            crc32c: self.open_crc,
        }
    }
}

impl<R: Read> Lines<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input: BufReader::with_capacity(BUFFER_BYTES, input),
            line: Vec::new(),
        }
    }

    /// Reads the next line; `None` at the end of the input.
    pub(super) fn advance(&mut self) -> io::Result<Option<Found>> {
        self.line.clear();
        let limit = LINE_BYTES_MAX as u64 + 1;
        let read = (&mut self.input)
            .take(limit)
            .read_until(b'\n', &mut self.line)?;
        if read == 0 {
            return Ok(None);
        }
        let ended = self.line.last() == Some(&b'\n');
        if ended || read <= LINE_BYTES_MAX {
            return Ok(Some(Found {
                bytes: read as u64,
                ended,
                too_long: false,
                open_crc: if ended { 0 } else { crc32c::crc32c(&self.line) },
            }));
        }
        self.skip_rest().map(Some)
    }

    /// The line that was read, without its end (`\n` or `\r\n`).
    pub(super) fn line(&self) -> &[u8] {
        let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        line.strip_suffix(b"\r").unwrap_or(line)
    }

    /// The line that was read, as it stands there.
    pub(super) fn line_bytes(&self) -> &[u8] {
        &self.line
    }

    /// The line that was read, without its newline.
    pub(super) fn raw_without_newline(&self) -> &[u8] {
        self.line.strip_suffix(b"\n").unwrap_or(&self.line)
    }

    /// Whether a whole line is there without asking the input, which may let us wait.
    pub(super) fn has_line_at_hand(&self) -> bool {
        self.input.buffer().contains(&b'\n')
    }

    pub(super) fn input(&self) -> &R {
        self.input.get_ref()
    }

    /// Reads on to the end of a line that is too long, and forgets it.
    fn skip_rest(&mut self) -> io::Result<Found> {
        let mut bytes = self.line.len() as u64;
        let mut crc = crc32c::crc32c(&self.line);
        self.line.clear();
        let ended = loop {
            let buffer = self.input.fill_buf()?;
            if buffer.is_empty() {
                break false;
            }
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(buffer.len(), |end| end + 1);
            crc = crc32c::crc32c_append(crc, &buffer[..taken]);
            bytes += taken as u64;
            self.input.consume(taken);
            if end.is_some() {
                break true;
            }
        };
        Ok(Found {
            bytes,
            ended,
            too_long: true,
            open_crc: if ended { 0 } else { crc },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Length, ended, too long and text of each line.
    fn read(input: &[u8]) -> Vec<(u64, bool, bool, Vec<u8>)> {
        let mut lines = Lines::new(input);
        let mut all = Vec::new();
        while let Some(found) = lines.advance().expect("memory is readable") {
            all.push((
                found.bytes,
                found.ended,
                found.too_long,
                lines.line().to_vec(),
            ));
        }
        all
    }

    #[test]
    fn lines_come_without_their_end() {
        assert_eq!(
            read(b"a\r\n\nbc\nd"),
            [
                (3, true, false, b"a".to_vec()),
                (1, true, false, b"".to_vec()),
                (3, true, false, b"bc".to_vec()),
                (1, false, false, b"d".to_vec()),
            ]
        );
        assert_eq!(read(b""), []);
    }

    #[test]
    fn a_line_at_the_limit_is_kept_and_one_above_is_not() {
        for (length, too_long) in [
            (LINE_BYTES_MAX, false),
            (LINE_BYTES_MAX + 1, true),
            (LINE_BYTES_MAX + 2, true),
            (3 * LINE_BYTES_MAX, true),
        ] {
            let mut input = vec![b'x'; length];
            let open = read(&input);
            input.extend(b"\nnext\n");
            let ended = read(&input);

            assert_eq!((open.len(), ended.len()), (1, 2), "{length}");
            assert_eq!(
                (open[0].0, open[0].1, open[0].2),
                (length as u64, false, too_long)
            );
            assert_eq!(
                (ended[0].0, ended[0].1, ended[0].2),
                (length as u64 + 1, true, too_long)
            );
            assert_eq!(ended[1].3, b"next");
        }
    }

    #[test]
    fn a_line_that_did_not_end_has_the_checksum_of_its_bytes() {
        for length in [1, LINE_BYTES_MAX, LINE_BYTES_MAX + 7, 2 * LINE_BYTES_MAX] {
            let input = vec![b'y'; length];

            let found = Lines::new(&*input).advance().expect("readable");

            assert_eq!(
                found.map(|found| found.open_crc),
                Some(crc32c::crc32c(&input))
            );
        }
    }
}
