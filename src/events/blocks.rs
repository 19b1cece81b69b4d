//! The log's bytes, compressed: a file of blocks, each a frame. Pure.
//!
//! A block holds some of a segment's bytes as they were: whole records, with what stands between them. It ends where a record ends, so
//! that each record lies in one block. Its frame's number is 1 for the first block of a file, one more for each. The front holds the
//! offset in the segment of the first of these bytes and their number, 4 bytes each; the rest is an LZ4 block (`lz4_Block_format.md`).

use super::{
    event::DATA_BYTES_MAX,
    frame::{HEADER_BYTES, Header, Kind},
    record,
    recovery::Scan,
    wire::{Reader, len32},
};

/// Bytes after which a block ends with the next record: a read costs some microseconds, and small events still compress well.
pub(super) const BLOCK_BYTES: usize = 8 << 10;
/// The most bytes a block expands to: less than a block, which were longer in earlier versions, and the largest record.
const EXPANDED_BYTES_MAX: usize = (16 << 10) + DATA_BYTES_MAX + (64 << 10);
const FRONT_BYTES: usize = 8;
/// A segment of the largest size and the largest batch behind it.
pub(super) const SEGMENT_BYTES_MAX: u32 = (256 + 64) << 20;

/// Where a block starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    /// In the segment.
    pub(super) start: u32,
    /// In the file of blocks.
    pub(super) at: u32,
}

/// A file of blocks being made.
#[derive(Debug)]
pub(super) struct Blocks {
    log: u64,
    pub(super) places: Vec<Block>,
    /// Bytes of the file so far.
    pub(super) len: u32,
}

impl Blocks {
    pub(super) fn new(log: u64) -> Self {
        Self {
            log,
            places: Vec::new(),
            len: 0,
        }
    }

    /// Adds the block with these bytes of the segment, from offset `start` on, to the end of `out`.
    pub(super) fn push(&mut self, start: u32, bytes: &[u8], out: &mut Vec<u8>) {
        let mut body = Vec::with_capacity(bytes.len() / 2);
        body.extend_from_slice(&start.to_le_bytes());
        body.extend_from_slice(&len32(bytes.len()).to_le_bytes());
        body.extend_from_slice(&lz4_flex::block::compress(bytes));
        let mut header = Header::of(Kind::Block, self.log, 0, len32(FRONT_BYTES), &body);
        self.places.push(Block {
            start,
            at: self.len,
        });
        header.sequence = self.places.len() as u64;
        out.extend_from_slice(&header.encode());
        out.extend_from_slice(&body);
        self.len = self.len.saturating_add(len32(header.frame_bytes()));
    }
}

/// Where the segment's bytes are cut into blocks: behind records, given where each starts; the last cut is the end.
pub(super) fn cuts(bytes: &[u8], records: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut cuts = Vec::new();
    let mut start = 0;
    for at in records {
        let Some(record) = bytes.get(at as usize..).and_then(record::Record::read) else {
            continue;
        };
        let end = at + len32(record.bytes.len());
        // Only what is no record is that long: a record's end would have been a cut.
        while (at - start) as usize > BLOCK_BYTES {
            start += len32(BLOCK_BYTES);
            cuts.push(start);
        }
        if (end - start) as usize >= BLOCK_BYTES {
            cuts.push(end);
            start = end;
        }
    }
    while bytes.len() - start as usize > BLOCK_BYTES * 2 {
        start += len32(BLOCK_BYTES);
        cuts.push(start);
    }
    if (start as usize) < bytes.len() {
        cuts.push(len32(bytes.len()));
    }
    cuts
}

/// Expands a block into the front of `out`, from its frame's body; answers its offset and how many bytes it has, `None` if they are not
/// what they should be.
pub(super) fn expand(header: &Header, body: &[u8], out: &mut Vec<u8>) -> Option<(u32, usize)> {
    if header.kind != Kind::Block {
        return None;
    }
    let mut reader = Reader::new(body);
    let start = reader.u32()?;
    let len = reader.u32().map(|len| len as usize)?;
    // Before any memory is taken: a forged length must not cost more than a block may.
    if len > EXPANDED_BYTES_MAX {
        return None;
    }
    if out.len() < len {
        out.resize(len, 0);
    }
    let expanded = lz4_flex::block::decompress_into(reader.rest(), &mut out[..len]);
    (expanded.ok()? == len).then_some((start, len))
}

/// Where the whole blocks of a file are, and the segment that they expand to, with zeros where a block is missing.
pub(super) fn expand_all(file: &[u8], scan: &Scan) -> (Vec<Block>, Vec<u8>) {
    let (mut blocks, mut segment, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    for (at, header) in &scan.frames {
        let from = *at as usize + HEADER_BYTES;
        let body = file.get(from..*at as usize + header.frame_bytes());
        let expanded = body.and_then(|body| expand(header, body, &mut bytes));
        let Some((start, len)) = expanded else {
            continue;
        };
        // Blocks stand in the order of the segment; whatever says otherwise is none of ours.
        if (start as usize) < segment.len() || start > SEGMENT_BYTES_MAX {
            continue;
        }
        segment.resize(start as usize, 0);
        segment.extend_from_slice(&bytes[..len]);
        blocks.push(Block { start, at: *at });
    }
    (blocks, segment)
}

#[cfg(test)]
mod tests {
    use super::{super::frame, *};

    fn record(id: u64, data: usize) -> Vec<u8> {
        let head = record::Head {
            id,
            time: 0,
            parent: None,
            kind: "kind",
            source: "",
            correlation: None,
        };
        let mut out = Vec::new();
        record::write(&mut out, &head, |out| {
            out.resize(out.len() + data, 7);
            Ok::<_, ()>(())
        })
        .expect("data is written");
        out
    }

    #[test]
    fn every_record_lies_in_one_block_and_the_blocks_are_the_segment() {
        let mut bytes = vec![1; 100_000];
        let mut records = Vec::new();
        for (id, data) in (0..500).zip((0..90).cycle()) {
            bytes.extend(vec![2; 52]);
            records.push((len32(bytes.len()), record(id, 1 + 37 * data)));
            bytes.extend(&records[records.len() - 1].1);
        }
        bytes.extend(vec![3; 70_000]);

        let mut blocks = Blocks::new(7);
        let mut file = Vec::new();
        let mut start = 0;
        for end in cuts(&bytes, records.iter().map(|(at, _)| *at)) {
            blocks.push(start, &bytes[start as usize..end as usize], &mut file);
            start = end;
        }

        assert_eq!(blocks.len as usize, file.len());
        let (mut whole, mut at) = (Vec::<u8>::new(), 0);
        let mut expanded = Vec::new();
        for block in &blocks.places {
            assert_eq!(block.at as usize, at);
            let (header, body) = frame::decode(&file[at..]).expect("whole");
            let mut part = Vec::new();
            let (start, len) = expand(&header, body, &mut part).expect("a block");
            assert_eq!((start, start as usize), (block.start, whole.len()));
            assert_eq!(part.len(), len);
            whole.extend_from_slice(&part);
            expanded.push((start as usize, part));
            at += header.frame_bytes();
        }
        assert!(whole == bytes);
        for (at, record) in &records {
            let at = *at as usize;
            let holds =
                |(start, part): &&(usize, Vec<u8>)| (*start..start + part.len()).contains(&at);
            let (start, part) = expanded.iter().find(holds).expect("in a block");
            assert!(part[at - start..].starts_with(record));
        }
        assert!(file.len() * 4 < bytes.len());
    }

    #[test]
    fn a_length_that_no_block_has_is_refused_before_memory_is_taken() {
        let mut body = [0_u32.to_le_bytes(), u32::MAX.to_le_bytes()].concat();
        body.extend(lz4_flex::block::compress(b"small"));
        let header = Header::of(Kind::Block, 7, 0, 8, &body);

        let mut out = Vec::new();
        assert_eq!(expand(&header, &body, &mut out), None);
        assert_eq!(out.capacity(), 0);
    }
}
