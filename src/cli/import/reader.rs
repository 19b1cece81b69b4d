//! From lines to batches.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    time::SystemTime,
};

use jiff::Timestamp;

use super::{
    batch::Batch,
    checkpoint::{Checkpoint, Place, Print},
    format::{BOM, Context, Format},
    lines::{Found, LINE_BYTES_MAX, Lines},
    stamp,
};

/// An input that may know how to recognise itself.
pub(super) trait Source: Read {
    /// The mark at this place; none for an input that cannot be read twice.
    fn mark(&self, at: Place, open: Option<Print>) -> io::Result<Option<Checkpoint>>;
    /// Whether reading may wait for somebody to write.
    fn is_live(&self) -> bool;
}

/// Reads batches from an input.
#[derive(Debug)]
pub(super) struct Reader<S> {
    lines: Lines<S>,
    format: Format,
    context: Context,
    place: Place,
    /// The line at the start, when it was done before it had an end.
    done_open: Option<Print>,
    /// Lines found to be done already.
    skipped: u64,
    /// A last line without its end is left until it has one.
    whole_lines: bool,
    /// The first line, as far as it had been written when it was left.
    unfinished: Option<Unfinished>,
}

/// A last line that is left until it has an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unfinished {
    /// Where it begins.
    at: Place,
    line: Vec<u8>,
}

/// A pipe: read once, as it comes.
#[derive(Debug)]
pub(super) struct Pipe<R>(pub(super) R);

impl<S: Source> Reader<S> {
    pub(super) fn new(
        input: S,
        format: Format,
        context: Context,
        place: Place,
        done_open: Option<Print>,
    ) -> Self {
        Self {
            lines: Lines::new(input),
            format,
            context,
            place,
            done_open,
            skipped: 0,
            whole_lines: false,
            unfinished: None,
        }
    }

    /// The first line should go on with one that was left. If it does not, the file was cut meanwhile, and that one gets no end any
    /// more: it is done as it was.
    pub(super) fn going_on_with(mut self, line: Unfinished) -> Self {
        self.unfinished = Some(line);
        self
    }

    /// Leaves a last line that has no end yet: more of it will come.
    pub(super) fn only_whole_lines(mut self) -> Self {
        self.whole_lines = true;
        self
    }

    /// The next batch; the one that reaches the end of the input says so, and is empty when there was nothing more.
    pub(super) fn next_batch(&mut self) -> io::Result<Batch> {
        let mut batch = Batch::default();
        self.context.now_ns = stamp::nanoseconds(Timestamp::now()).unwrap_or_default();
        let mut open = None;
        loop {
            if batch.is_full() || self.should_not_wait(&batch) {
                break;
            }
            let found = self.lines.advance()?;
            if let Some(line) = self.unfinished.take()
                && !self.goes_on_with(&line, found.as_ref())
            {
                let (number, line) = (line.at.lines + 1, without_bom(line.at, line.text()));
                batch.add(number, |out| self.format.read(line, &self.context, out));
            }
            let Some(found) = found else {
                batch.last = true;
                break;
            };
            if !found.ended && self.whole_lines {
                // As it was done by an import that did not wait for its end, if one did.
                open = self.done_open;
                batch.unfinished = self.unfinished(&found);
                batch.last = true;
                break;
            }
            if !found.ended {
                open = Some(found.print());
                self.take_open(&found, &mut batch);
                batch.last = true;
                break;
            }
            self.take(&found, &mut batch);
        }
        batch.position = self.place.offset + open.map_or(0, |open| open.bytes);
        batch.mark = self.lines.input().mark(self.place, open)?;
        Ok(batch)
    }

    fn goes_on_with(&self, line: &Unfinished, found: Option<&Found>) -> bool {
        line.at == self.place
            && found.is_some_and(|found| {
                found.too_long || self.lines.line_bytes().starts_with(&line.line)
            })
    }

    /// The line that was found, if it would be missed.
    fn unfinished(&self, found: &Found) -> Option<Unfinished> {
        let is_done = self.done_open == Some(found.print());
        let is_missed = !is_done && !found.too_long && !self.line().trim_ascii().is_empty();
        is_missed.then(|| Unfinished {
            at: self.place,
            line: self.lines.line_bytes().to_vec(),
        })
    }

    /// Lines that turned out to be done already, since last asked.
    pub(super) fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }

    /// What a live input has given so far is sent before we wait for more.
    fn should_not_wait(&self, batch: &Batch) -> bool {
        let holds_something = batch.events() + batch.refused.len() > 0;
        holds_something && self.lines.input().is_live() && !self.lines.has_line_at_hand()
    }

    fn take(&mut self, found: &Found, batch: &mut Batch) {
        let blank = !found.too_long && self.line().trim_ascii().is_empty();
        let known = self.done_open.take().is_some_and(|open| {
            // It has got its end since, and nothing else.
            open.bytes + 1 == found.bytes && open == Print::of(self.lines.raw_without_newline())
        });
        if known {
            self.skipped += 1;
        } else if !blank {
            self.read(found, batch);
        }
        self.place.offset += found.bytes;
        self.place.lines += 1;
        self.place.done += u64::from(!blank);
    }

    /// The last line, which has no end yet: it is done now, and stays where it is in case it grows.
    fn take_open(&mut self, found: &Found, batch: &mut Batch) {
        if self.done_open.take() == Some(found.print()) {
            self.skipped += 1;
        } else if found.too_long || !self.line().trim_ascii().is_empty() {
            self.read(found, batch);
        }
    }

    fn read(&self, found: &Found, batch: &mut Batch) {
        let number = self.place.lines + 1;
        if found.too_long {
            let why = format!(
                "{} bytes long; lines up to {LINE_BYTES_MAX} bytes are read",
                found.bytes - u64::from(found.ended)
            );
            return batch.refuse(number, &why);
        }
        batch.add(number, |out| {
            self.format.read(self.line(), &self.context, out)
        });
    }

    fn line(&self) -> &[u8] {
        without_bom(self.place, self.lines.line())
    }
}

impl Unfinished {
    fn text(&self) -> &[u8] {
        self.line.strip_suffix(b"\r").unwrap_or(&self.line)
    }
}

fn without_bom(at: Place, line: &[u8]) -> &[u8] {
    match at.offset {
        0 => line.strip_prefix(BOM).unwrap_or(line),
        _ => line,
    }
}

impl Source for File {
    fn mark(&self, at: Place, open: Option<Print>) -> io::Result<Option<Checkpoint>> {
        Checkpoint::mark(at, open, |start, bytes| print(self, start, bytes)).map(Some)
    }

    fn is_live(&self) -> bool {
        false
    }
}

impl<R: Read> Read for Pipe<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read> Source for Pipe<R> {
    fn mark(&self, _: Place, _: Option<Print>) -> io::Result<Option<Checkpoint>> {
        Ok(None)
    }

    fn is_live(&self) -> bool {
        true
    }
}

/// The print of so many bytes from a place on; the file's own place stays where it is.
pub(super) fn print(mut file: &File, start: u64, bytes: u64) -> io::Result<Print> {
    let here = file.stream_position()?;
    file.seek(SeekFrom::Start(start))?;
    let mut read = Vec::new();
    file.take(bytes).read_to_end(&mut read)?;
    file.seek(SeekFrom::Start(here))?;
    Ok(Print::of(&read))
}

/// When the file was last written, as far as the machine knows.
pub(super) fn last_change(file: &File) -> Timestamp {
    file.metadata()
        .and_then(|metadata| metadata.modified())
        .ok()
        .or_else(|| Some(SystemTime::now()))
        .and_then(|time| Timestamp::try_from(time).ok())
        .unwrap_or_else(Timestamp::now)
}
