//! The newest bytes of a segment, in memory. Pure.

use std::collections::VecDeque;

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

    #[cfg(test)]
    pub(super) fn chunks(&self) -> usize {
        self.chunks.len()
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
    use super::{super::wire::len32, *};

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
