//! One segment of the log: its file, its index, and the part of it that is still in memory.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use parking_lot::RwLock;

use super::{
    columns::Columns,
    disk::DiskFile,
    record::{self, Record},
    recovery::Summary,
    wire::len32,
};

/// A segment. Rows are added by whoever holds the log's intake and show once they are published; nothing is ever changed.
#[derive(Debug)]
pub(super) struct Segment {
    /// Sequence number of its first frame.
    pub(super) base: u64,
    /// Name of its file.
    pub(super) name: String,
    pub(super) inner: RwLock<Inner>,
    /// Rows that readers may see.
    published: AtomicU32,
    /// Bytes of the file that were written.
    written: AtomicU32,
    file: OnceLock<Arc<dyn DiskFile>>,
    /// What was found when it was opened.
    pub(super) found: OnceLock<Summary>,
    /// What a later opening need not scan again; set when no more will be written.
    pub(super) sealed: OnceLock<Summary>,
}

/// What grows with the segment.
#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) columns: Columns,
    pub(super) hot: Hot,
}

/// The newest bytes of a segment, in memory.
#[derive(Debug, Default)]
pub(super) struct Hot {
    chunks: VecDeque<Chunk>,
    bytes: usize,
}

#[derive(Debug)]
struct Chunk {
    /// Offset of its first byte in the segment.
    start: u32,
    bytes: Vec<u8>,
}

/// Bytes of a chunk: what is let go at a time.
const CHUNK_BYTES: usize = 256 * 1024;

/// Where the bytes of a row are.
pub(super) enum Place<T> {
    Hot(T),
    /// In the file, between two offsets.
    Cold(u32, u32),
}

impl Segment {
    pub(super) fn new(base: u64, name: String) -> Self {
        Self {
            base,
            name,
            inner: RwLock::default(),
            published: AtomicU32::new(0),
            written: AtomicU32::new(0),
            file: OnceLock::new(),
            found: OnceLock::new(),
            sealed: OnceLock::new(),
        }
    }

    /// Rows that readers may see. They never become fewer.
    pub(super) fn published(&self) -> u32 {
        self.published.load(Ordering::Acquire)
    }

    /// Lets readers see the first `rows` rows; answers how many more that shows.
    pub(super) fn publish(&self, rows: u32) -> u64 {
        let before = self.published.swap(rows, Ordering::AcqRel);
        self.inner.read().columns.shown_between(before, rows)
    }

    pub(super) fn written(&self) -> u32 {
        self.written.load(Ordering::Relaxed)
    }

    pub(super) fn set_written(&self, bytes: u32) {
        self.written.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn file(&self) -> Option<&Arc<dyn DiskFile>> {
        self.file.get()
    }

    pub(super) fn set_file(&self, file: Arc<dyn DiskFile>) {
        // A segment gets its file once, when it is created or opened.
        let first = self.file.set(file).is_ok();
        debug_assert!(first, "{} has a file", self.name);
    }

    pub(super) fn id(&self, row: u32) -> u64 {
        self.inner.read().columns.ids[row as usize]
    }

    /// Runs `work` on the record of `row` in memory, or says where it is in the file.
    pub(super) fn look<T>(&self, row: u32, work: impl FnOnce(&[u8]) -> T) -> Place<T> {
        let inner = self.inner.read();
        let (start, end) = inner.columns.extent(row);
        match inner.hot.get(start, end) {
            Some(bytes) => Place::Hot(work(bytes)),
            None => Place::Cold(start, end),
        }
    }

    /// The bytes of a record in the file, with their checksum verified.
    pub(super) fn read_file(&self, start: u32, end: u32) -> io::Result<Vec<u8>> {
        let file = self.file().ok_or(io::ErrorKind::NotFound)?;
        let mut bytes = vec![0; (end - start) as usize];
        let read = file.read_at(&mut bytes, u64::from(start))?;
        bytes.truncate(read);
        let len = Record::read_checked(&bytes)
            .ok_or_else(damaged)?
            .bytes
            .len();
        bytes.truncate(len);
        Ok(bytes)
    }
}

fn damaged() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "checksum of the stored event does not fit",
    )
}

impl Inner {
    /// Adds one frame's events: `header` bytes, then `body`, of which the records start at `front`.
    pub(super) fn push(&mut self, offset: u32, header: usize, body: &[u8], front: usize) {
        self.hot.push(offset, header, body);
        let records = offset + len32(header + front);
        for (at, record) in record::all(&body[front..]) {
            self.columns.push(&record, records + len32(at));
        }
    }
}

impl Hot {
    /// Adds a frame that starts at `offset`: room for `header` bytes that nobody reads here, and `body`.
    pub(super) fn push(&mut self, offset: u32, header: usize, body: &[u8]) {
        let len = header + body.len();
        let chunk = match self.chunks.back_mut() {
            Some(chunk) if chunk.takes(offset, len) => chunk,
            _ => {
                self.chunks.push_back(Chunk {
                    start: offset,
                    bytes: Vec::with_capacity(len.max(CHUNK_BYTES)),
                });
                let Some(chunk) = self.chunks.back_mut() else {
                    return;
                };
                chunk
            }
        };
        chunk.bytes.resize(chunk.bytes.len() + header, 0);
        chunk.bytes.extend_from_slice(body);
        self.bytes += len;
    }

    /// Lets the oldest chunk go if it ends at or before `written`; answers how many bytes that freed.
    pub(super) fn let_go(&mut self, written: u32) -> usize {
        let free = self
            .chunks
            .front()
            .is_some_and(|chunk| chunk.start as usize + chunk.bytes.len() <= written as usize);
        if !free {
            return 0;
        }
        let len = self.chunks.pop_front().map_or(0, |chunk| chunk.bytes.len());
        self.bytes -= len;
        len
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Lets everything go; answers how many bytes that frees.
    pub(super) fn clear(&mut self) -> usize {
        self.chunks = VecDeque::new();
        std::mem::take(&mut self.bytes)
    }

    pub(super) fn get(&self, start: u32, end: u32) -> Option<&[u8]> {
        let behind = self.chunks.partition_point(|chunk| chunk.start <= start);
        let chunk = self.chunks.get(behind.checked_sub(1)?)?;
        let from = (start - chunk.start) as usize;
        let to = (end - chunk.start) as usize;
        // The last row of a chunk reaches to the next row, beyond the chunk's end.
        chunk
            .bytes
            .get(from..to.min(chunk.bytes.len()))
            .filter(|bytes| !bytes.is_empty())
    }
}

impl Chunk {
    fn takes(&self, offset: u32, len: usize) -> bool {
        self.start as usize + self.bytes.len() == offset as usize
            && self.bytes.len() + len <= self.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hot_bytes_are_found_by_their_offset_until_they_are_let_go() {
        let mut hot = Hot::default();
        let body = vec![7; CHUNK_BYTES / 2];
        let step = len32(10 + body.len());
        for frame in 0..4 {
            hot.push(frame * step, 10, &body);
        }

        assert_eq!(hot.get(10, step), Some(&body[..]));
        assert_eq!(hot.get(3 * step + 10, 4 * step), Some(&body[..]));
        assert_eq!(hot.let_go(step - 1), 0);
        assert_eq!(hot.let_go(4 * step), step as usize);
        assert_eq!(hot.get(10, step), None);
        assert_eq!(hot.get(step + 10, 2 * step), Some(&body[..]));
    }
}
