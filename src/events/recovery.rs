//! What a segment's bytes say after a crash: whole frames, torn tail, damage. Pure.
//!
//! A crash leaves at most a torn tail: frames above the last-synced mark, none of which was acknowledged as synced. They are cut.
//! Damage at or below the mark is a fault of the disk: the frame is set aside, everything after it is kept, and its sequence numbers are
//! reported as a gap. The newest frames of a log have no successor that carries a mark above them (a mark is written when the log is idle,
//! when a segment is sealed and at a clean stop): until then damage in them cannot be told from a torn write, and is cut as one.

use super::frame::{self, Fault, Header, Kind};
use super::wire::len32;

/// What was found in one segment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Scan {
    /// Whole frames in order: where they start, and their headers.
    pub(super) frames: Vec<(u32, Header)>,
    /// Bytes that belong to no whole frame.
    pub(super) damage: Vec<Damage>,
}

/// Bytes that belong to no whole frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Damage {
    pub(super) offset: u32,
    pub(super) bytes: u32,
    /// The sequence number that should have stood here.
    pub(super) sequence: u64,
}

/// What one segment contributes to the judgement of the whole log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Summary {
    /// Sequence number of its first frame, found or not.
    pub(super) base: u64,
    /// The highest sequence number found; `base - 1` if none.
    pub(super) last: u64,
    /// The highest last-synced mark found.
    pub(super) synced: u64,
    /// Missing sequence numbers between found ones, first and last.
    pub(super) holes: Vec<(u64, u64)>,
    pub(super) damage: Vec<Damage>,
    pub(super) has_head: bool,
}

/// A frame of a version that this reader does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unknown {
    pub(super) version: u8,
    pub(super) codec: u8,
}

/// No log lives long enough to come near: beyond it nothing is a sequence number, and there is always a next one.
pub(super) const SEQUENCE_MAX: u64 = u64::MAX >> 1;

/// Finds all whole frames of log `log` in a segment whose first frame has sequence number `base`.
pub(super) fn scan(bytes: &[u8], log: u64, base: u64) -> Result<Scan, Unknown> {
    let mut scan = Scan::default();
    find(&mut scan, bytes, (log, base), |_| false)?;
    Ok(scan)
}

/// As [`scan`], in the file of a segment that is not sealed: zeros up to its end are room that was made for what comes, and no damage.
pub(super) fn scan_growing(bytes: &[u8], log: u64, base: u64) -> Result<Scan, Unknown> {
    let mut scan = Scan::default();
    scan_rest(&mut scan, bytes, log, base)?;
    Ok(scan)
}

/// As [`scan_growing`], behind what was found before: `bytes` stand there, up to the end of the file.
pub(super) fn scan_rest(scan: &mut Scan, bytes: &[u8], log: u64, base: u64) -> Result<(), Unknown> {
    let is_room = |rest: &[u8]| rest.iter().all(|byte| *byte == 0);
    find(scan, bytes, (log, base), is_room)
}

/// Finds the whole frames at the front of `bytes`, which stand behind what was found before, up to where none is, be it only for want of
/// more bytes; answers how many bytes these frames have.
pub(super) fn scan_front(
    scan: &mut Scan,
    bytes: &[u8],
    (log, base): (u64, u64),
) -> Result<usize, Unknown> {
    let (start, mut at) = (scan.end(), 0);
    while let Some(header) = whole_frame(&bytes[at..], log, scan.next_sequence(base))? {
        scan.frames.push((start + len32(at), header));
        at += header.frame_bytes();
    }
    Ok(at)
}

fn find(
    scan: &mut Scan,
    bytes: &[u8],
    (log, base): (u64, u64),
    is_room: impl Fn(&[u8]) -> bool,
) -> Result<(), Unknown> {
    let mut at = 0;
    loop {
        at += scan_front(scan, &bytes[at..], (log, base))?;
        if at == bytes.len() || is_room(&bytes[at..]) {
            return Ok(());
        }
        let sequence = scan.next_sequence(base);
        let next = next_frame(bytes, at, log, sequence)?;
        scan.damage.push(Damage {
            offset: scan.end(),
            bytes: len32(next - at),
            sequence,
        });
        at = next;
    }
}

impl Damage {
    /// Its bytes out of those of the whole segment.
    pub(super) fn of<'a>(&self, segment: &'a [u8]) -> &'a [u8] {
        let start = self.offset as usize;
        &segment[start..start + self.bytes as usize]
    }
}

impl Scan {
    /// The summary of the segment as far as byte `end`.
    pub(super) fn summary(&self, base: u64) -> Summary {
        let mut summary = Summary {
            base,
            last: base.saturating_sub(1),
            damage: self.damage.clone(),
            has_head: self
                .frames
                .first()
                .is_some_and(|(_, header)| header.kind == Kind::Head),
            ..Summary::default()
        };
        for (_, header) in &self.frames {
            if header.sequence > summary.last + 1 {
                summary.holes.push((summary.last + 1, header.sequence - 1));
            }
            summary.last = header.sequence;
            summary.synced = summary.synced.max(header.synced);
        }
        summary
    }

    /// Where all ends that is a frame or damage.
    pub(super) fn end(&self) -> u32 {
        let frame = self.frames.last();
        let frame = frame.map_or(0, |(at, header)| at + len32(header.frame_bytes()));
        let damage = self.damage.last();
        frame.max(damage.map_or(0, |damage| damage.offset + damage.bytes))
    }

    /// Where the torn tail starts: the first damage above the last-synced mark.
    pub(super) fn torn_at(&self, synced: u64) -> Option<u32> {
        self.damage
            .iter()
            .find(|damage| damage.sequence > synced)
            .map(|damage| damage.offset)
    }

    /// Forgets everything from byte `end` on; answers how many whole frames went with it.
    pub(super) fn cut(&mut self, end: u32) -> usize {
        let before = self.frames.len();
        self.frames.retain(|(offset, _)| *offset < end);
        self.damage.retain(|damage| damage.offset < end);
        before - self.frames.len()
    }

    fn next_sequence(&self, base: u64) -> u64 {
        self.frames
            .last()
            .map_or(base, |(_, header)| header.sequence + 1)
    }
}

/// The sequence numbers that are in no segment, though the log had them and did not drop them: first and last of each gap.
pub(super) fn gaps(segments: &[Summary], dropped: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut gaps = Vec::new();
    let mut expected = 1;
    for segment in segments {
        if segment.base > expected {
            gaps.extend(without(dropped, (expected, segment.base - 1)));
        }
        gaps.extend(&segment.holes);
        expected = segment.last + 1;
    }
    gaps
}

/// What is left of a range without the `dropped` ones, which rise.
fn without(dropped: &[(u64, u64)], (mut first, last): (u64, u64)) -> Vec<(u64, u64)> {
    let mut left = Vec::new();
    for (start, end) in dropped {
        if *end < first || *start > last {
            continue;
        }
        if *start > first {
            left.push((first, start - 1));
        }
        first = end.saturating_add(1);
    }
    if first <= last {
        left.push((first, last));
    }
    left
}

fn whole_frame(bytes: &[u8], log: u64, expected: u64) -> Result<Option<Header>, Unknown> {
    // The header alone first: a body is long.
    match Header::decode(bytes).and_then(|header| {
        ours(&header, log, expected)
            .then(|| frame::decode(bytes).map(|_| header))
            .transpose()
    }) {
        Ok(header) => Ok(header),
        Err(Fault::Broken) => Ok(None),
        Err(Fault::Unknown { version, codec }) => Err(Unknown { version, codec }),
    }
}

/// Not a frame of another log, not an older one where a newer one should be, and none that vouches for itself.
fn ours(header: &Header, log: u64, expected: u64) -> bool {
    header.log == log
        && header.sequence >= expected
        && header.synced < header.sequence
        && header.sequence <= SEQUENCE_MAX
}

/// Where the next whole frame behind the damage at `at` starts; the end if there is none.
fn next_frame(bytes: &[u8], at: usize, log: u64, expected: u64) -> Result<usize, Unknown> {
    // An intact header with a damaged body says where it ends; only this way is a body never read as frames.
    if let Ok(header) = Header::decode(&bytes[at..])
        && ours(&header, log, expected)
    {
        let next = at + header.frame_bytes();
        let follows = next == bytes.len()
            || (next < bytes.len() && whole_frame(&bytes[next..], log, expected)?.is_some());
        if follows {
            return Ok(next);
        }
    }
    let mut from = at + 1;
    while let Some(found) = bytes.get(from..).and_then(frame::next_magic) {
        let candidate = from + found;
        // What looks like a frame of an unknown version is an event's data here: only where a frame has to be is it believed.
        if let Ok(Some(_)) = whole_frame(&bytes[candidate..], log, expected) {
            return Ok(candidate);
        }
        from = candidate + 1;
    }
    Ok(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: u64 = 0x1234_5678_9abc_def0;

    fn frame(sequence: u64, synced: u64, body: &[u8]) -> Vec<u8> {
        let kind = if sequence == 1 {
            Kind::Head
        } else {
            Kind::Events
        };
        let mut header = Header::of(kind, LOG, 0, len32(body.len()), body);
        header.sequence = sequence;
        header.synced = synced;
        [&header.encode()[..], body].concat()
    }

    fn sequences(scan: &Scan) -> Vec<u64> {
        scan.frames
            .iter()
            .map(|(_, header)| header.sequence)
            .collect()
    }

    #[test]
    fn a_flipped_bit_in_the_middle_loses_one_frame_and_is_reported() {
        let mut bytes = [
            frame(1, 0, b"one"),
            frame(2, 1, b"two"),
            frame(3, 2, b"three"),
        ]
        .concat();
        let second = frame(1, 0, b"one").len();
        for bit in 0..frame(2, 1, b"two").len() * 8 {
            bytes[second + bit / 8] ^= 1 << (bit % 8);

            let scan = scan(&bytes, LOG, 1).expect("same version");
            let summary = scan.summary(1);

            assert_eq!(sequences(&scan), [1, 3], "bit {bit}");
            assert_eq!(gaps(&[summary], &[]), [(2, 2)]);
            assert_eq!(scan.torn_at(2), None);
            bytes[second + bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn damage_above_the_mark_is_a_torn_tail_with_all_that_follows() {
        let mut bytes = [
            frame(1, 0, b"one"),
            frame(2, 0, b"two"),
            frame(3, 0, b"three"),
        ]
        .concat();
        let second = frame(1, 0, b"one").len();
        bytes[second + 52] ^= 1;
        let mut scan = scan(&bytes[..bytes.len()], LOG, 1).expect("same version");

        let torn = scan.torn_at(0).expect("tail is torn");
        let lost = scan.cut(torn);

        assert_eq!((torn as usize, lost), (second, 1));
        assert_eq!(sequences(&scan), [1]);
    }

    #[test]
    fn a_frame_of_the_log_inside_damaged_data_of_another_log_is_not_believed() {
        let mut forged = Header::of(Kind::Events, LOG ^ 1, 0, 0, b"");
        // What should stand here: believed, it would be one frame more.
        forged.sequence = 2;
        let mut bytes = [
            frame(1, 0, b"one"),
            frame(2, 1, &forged.encode()),
            frame(3, 2, b"3"),
        ]
        .concat();
        let second = frame(1, 0, b"one").len();
        bytes[second] ^= 1;

        let scan = scan(&bytes, LOG, 1).expect("same version");

        assert_eq!(sequences(&scan), [1, 3]);
    }

    #[test]
    fn what_an_events_data_says_of_another_version_or_of_itself_is_not_believed() {
        let mut unknown = Header::of(Kind::Events, LOG, 0, 0, b"").encode();
        unknown[4] = 9;
        let sum = crc32c::crc32c(&unknown[..48]);
        unknown[48..].copy_from_slice(&sum.to_le_bytes());
        let mut vouching = Header::of(Kind::Events, LOG, 0, 0, b"");
        vouching.sequence = 2;
        vouching.synced = 1_000_000;
        for data in [unknown, vouching.encode()] {
            // The write of its frame ended short.
            let whole = [
                frame(1, 0, b"one"),
                frame(2, 1, &[&data[..], b"..."].concat()),
            ]
            .concat();
            let torn = &whole[..whole.len() - 1];

            let scan = scan(torn, LOG, 1).expect("no other version");

            assert_eq!(sequences(&scan), [1]);
            assert_eq!(
                scan.torn_at(scan.summary(1).synced),
                Some(len32(frame(1, 0, b"one").len()))
            );
        }
    }

    #[test]
    fn missing_segments_are_gaps_unless_they_were_dropped() {
        let segment = |base, last| Summary {
            base,
            last,
            ..Summary::default()
        };
        let found = [segment(5, 9), segment(20, 29)];

        assert_eq!(gaps(&found, &[]), [(1, 4), (10, 19)]);
        assert_eq!(gaps(&found, &[(1, 4)]), [(10, 19)]);
        assert_eq!(
            gaps(&found, &[(2, 3), (8, 12), (19, 30)]),
            [(1, 1), (4, 4), (13, 18)]
        );
    }

    #[test]
    fn zeros_behind_the_frames_of_a_growing_segment_are_room_and_behind_damage_they_are_damage() {
        let room = vec![0; 4096];
        let whole = frame(1, 0, b"one");
        let (ends_in_zeros, torn) = (frame(2, 1, b"two\0\0\0"), &frame(3, 2, b"three")[..50]);
        let bytes = [&whole[..], &ends_in_zeros, &room].concat();
        let damaged = [&whole[..], &ends_in_zeros, torn, &room].concat();
        let end = len32(whole.len() + ends_in_zeros.len());

        let grown = scan_growing(&bytes, LOG, 1).expect("same version");
        let cut = scan_growing(&damaged, LOG, 1).expect("same version");

        assert_eq!((sequences(&grown), grown.end()), (vec![1, 2], end));
        assert_eq!(grown.damage, []);
        assert_eq!(cut.torn_at(1), Some(end));
        assert_eq!(cut.end() as usize, damaged.len());
        let empty = scan_growing(&room, LOG, 1).expect("same version");
        assert_eq!((empty.end(), empty.summary(1).last), (0, 0));
    }

    #[test]
    fn a_sequence_number_after_which_none_could_come_is_not_believed() {
        let bytes = [frame(1, 0, b"one"), frame(u64::MAX, 1, b"last")].concat();

        let scan = scan(&bytes, LOG, 1).expect("same version");

        assert_eq!(sequences(&scan), [1]);
        assert_eq!(scan.damage.len(), 1);
        assert_eq!(gaps(&[scan.summary(1)], &[(2, u64::MAX)]), []);
    }

    #[test]
    fn a_tail_of_zeros_is_damage_to_the_end() {
        let bytes = [frame(1, 0, b"one"), vec![0; 4096]].concat();

        let scan = scan(&bytes, LOG, 1).expect("same version");

        assert_eq!(scan.damage.len(), 1);
        assert_eq!(scan.damage[0].bytes, 4096);
        assert_eq!(scan.torn_at(0), Some(scan.damage[0].offset));
    }
}
