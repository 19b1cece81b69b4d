//! One write to the log as bytes: a header of 52 bytes and a body. Pure; knows nothing of files.
//!
//! All numbers are little-endian. Every checksum is CRC-32C (Castagnoli, RFC 3720 appendix B.4).
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic, the ASCII letters `UPLG` |
//! | 4 | 1 | format version, now 3 of a directory and 2 of all others; earlier ones are read as well |
//! | 5 | 1 | codec id of the values inside, now 1: bincode 2 in its standard configuration, as [`crate::value::codec`] |
//! | 6 | 1 | kind: 1 head, 2 events, 3 low water, 4 mark, 5 block, 6 directory, 7 page |
//! | 7 | 1 | zero |
//! | 8 | 8 | log id: random, drawn once for a folder; also in the name of the segment file |
//! | 16 | 8 | sequence number: 1 for the first frame of a log, then one more for each frame |
//! | 24 | 8 | last-synced mark: every frame up to this sequence number was synced when this one was written |
//! | 32 | 4 | number of events in the body |
//! | 36 | 4 | length of the front: the bytes of the body before the first event |
//! | 40 | 4 | length of the body |
//! | 44 | 4 | checksum of the body |
//! | 48 | 4 | checksum of the header's first 48 bytes |
//!
//! The body is the front, then the events, one record after the other (`record`). What the front holds goes by the kind (`notes`):
//! *head*, the first frame of every segment: the low water and all live checkpoints; *events*: the checkpoints that these events move;
//! *low water*: the low water; *mark*: nothing, the frame only carries its last-synced mark.
//!
//! The log id stands in every frame so that a frame copied into an event's data is never taken for one when a reader looks for the next
//! whole frame behind damage. Magic, version and the place of the header's checksum stay in all later versions.

use super::wire::{Reader, len32};

pub(super) const HEADER_BYTES: usize = 52;
const CHECKED_BYTES: usize = HEADER_BYTES - 4;
const MAGIC: [u8; 4] = *b"UPLG";
const CODEC: u8 = 1;

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// First of its segment: the state that must outlive older segments.
    Head,
    /// Events, and the checkpoints that move with them.
    Events,
    /// A new low water.
    LowWater,
    /// Nothing but the last-synced mark.
    Mark,
    /// Compressed bytes of a segment.
    Block,
    /// What an index holds, and where.
    Directory,
    /// A part of an index.
    Page,
}

/// The front part of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: u8,
    pub(super) kind: Kind,
    pub(super) log: u64,
    pub(super) sequence: u64,
    pub(super) synced: u64,
    pub(super) events: u32,
    pub(super) front: u32,
    pub(super) body: u32,
    pub(super) checksum: u32,
}

/// Why bytes are not a header or not a whole frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Too short, wrong magic, or a checksum that does not fit.
    Broken,
    /// Intact, and written by a version that this one does not know.
    Unknown { version: u8, codec: u8 },
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Head),
            2 => Some(Self::Events),
            3 => Some(Self::LowWater),
            4 => Some(Self::Mark),
            5 => Some(Self::Block),
            6 => Some(Self::Directory),
            7 => Some(Self::Page),
            _ => None,
        }
    }

    /// The version that is written. Version 1 had no sealed files: whoever only knows it must not open a folder that has them. A directory of
    /// version 2 had one filter for all keys.
    fn version(self) -> u8 {
        match self {
            Self::Directory => 3,
            _ => 2,
        }
    }

    fn byte(self) -> u8 {
        match self {
            Self::Head => 1,
            Self::Events => 2,
            Self::LowWater => 3,
            Self::Mark => 4,
            Self::Block => 5,
            Self::Directory => 6,
            Self::Page => 7,
        }
    }
}

impl Header {
    /// The header of `body`, of which the first `front` bytes stand before the events.
    pub(super) fn of(kind: Kind, log: u64, events: u32, front: u32, body: &[u8]) -> Self {
        Self {
            version: kind.version(),
            kind,
            log,
            sequence: 0,
            synced: 0,
            events,
            front,
            body: len32(body.len()),
            checksum: crc32c::crc32c(body),
        }
    }

    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&[self.version, CODEC, self.kind.byte(), 0]);
        bytes[8..16].copy_from_slice(&self.log.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.synced.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.events.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.front.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.body.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.checksum.to_le_bytes());
        let sum = crc32c::crc32c(&bytes[..CHECKED_BYTES]);
        bytes[CHECKED_BYTES..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads the header at the front of `bytes`; its body is not looked at.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let mut reader = Reader::new(bytes);
        if reader.take(4) != Some(&MAGIC) || !sound(bytes) {
            return Err(Fault::Broken);
        }
        let version = reader.u8().ok_or(Fault::Broken)?;
        let codec = reader.u8().ok_or(Fault::Broken)?;
        let kind = reader.u8().and_then(Kind::from_byte);
        let newest = kind.map_or(Kind::Directory.version(), Kind::version);
        if !(1..=newest).contains(&version) || codec != CODEC {
            return Err(Fault::Unknown { version, codec });
        }
        let header = kind.and_then(|kind| Self::fields(version, kind, &mut reader));
        header.ok_or(Fault::Broken)
    }

    fn fields(version: u8, kind: Kind, reader: &mut Reader<'_>) -> Option<Self> {
        reader.u8()?;
        let header = Self {
            version,
            kind,
            log: reader.u64()?,
            sequence: reader.u64()?,
            synced: reader.u64()?,
            events: reader.u32()?,
            front: reader.u32()?,
            body: reader.u32()?,
            checksum: reader.u32()?,
        };
        (header.front <= header.body).then_some(header)
    }

    /// Bytes of the whole frame.
    pub(super) fn frame_bytes(&self) -> usize {
        HEADER_BYTES + self.body as usize
    }
}

fn sound(bytes: &[u8]) -> bool {
    let Some((checked, rest)) = bytes.split_at_checked(CHECKED_BYTES) else {
        return false;
    };
    Reader::new(rest).u32() == Some(crc32c::crc32c(checked))
}

/// The whole, intact frame at the front of `bytes`: its header and its body.
pub(super) fn decode(bytes: &[u8]) -> Result<(Header, &[u8]), Fault> {
    let header = Header::decode(bytes)?;
    let body = bytes
        .get(HEADER_BYTES..header.frame_bytes())
        .filter(|body| crc32c::crc32c(body) == header.checksum)
        .ok_or(Fault::Broken)?;
    Ok((header, body))
}

/// Where the next magic stands in `bytes`.
pub(super) fn next_magic(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(MAGIC.len())
        .position(|window| window == MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(body: &[u8]) -> Vec<u8> {
        let mut header = Header::of(Kind::Events, 7, 1, 0, body);
        header.sequence = 3;
        header.synced = 2;
        [&header.encode()[..], body].concat()
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        let bytes = [frame(b"one"), frame(b"")].concat();

        let (header, body) = decode(&bytes).expect("first frame is whole");
        let (next, empty) = decode(&bytes[header.frame_bytes()..]).expect("second frame is whole");

        assert_eq!(
            (header.log, header.sequence, header.synced, body),
            (7, 3, 2, &b"one"[..])
        );
        assert_eq!((next.body, empty), (0, &b""[..]));
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_seen() {
        let whole = frame(b"event");
        for cut in 0..whole.len() {
            assert_eq!(decode(&whole[..cut]), Err(Fault::Broken), "cut at {cut}");
        }
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&damaged), Err(Fault::Broken), "bit {bit}");
        }
    }

    #[test]
    fn an_intact_header_of_another_version_is_not_called_damage() {
        let mut bytes = frame(b"event");
        let version = Kind::Events.version() + 1;
        bytes[4] = version;
        let sum = crc32c::crc32c(&bytes[..CHECKED_BYTES]);
        bytes[CHECKED_BYTES..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());

        assert_eq!(decode(&bytes), Err(Fault::Unknown { version, codec: 1 }));
    }

    /// Every later version reads these bytes, and writes the same checksum.
    #[test]
    fn a_frame_of_version_1_still_reads() {
        let mut bytes = frame(b"event");
        bytes[4] = 1;
        let sum = crc32c::crc32c(&bytes[..CHECKED_BYTES]);
        bytes[CHECKED_BYTES..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());

        let (header, body) = decode(&bytes).expect("version 1 is read");

        assert_eq!(
            (header.sequence, header.synced, body),
            (3, 2, &b"event"[..])
        );
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    }
}
