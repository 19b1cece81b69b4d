//! What a log remembers beside events: the low water and the checkpoints; the front of a frame's body. Pure.
//!
//! All numbers are little-endian.
//!
//! *Low water*: `u32` n and n times the first and last sequence number (`u64` each) of frames that were dropped with their segments;
//! a position (below) before which everything is hidden; `u32` n and n times (`i64` time, position): events before that position with an
//! earlier time are hidden. A *position* is the first sequence number of a segment (`u64`) and a byte offset in it (`u32`).
//!
//! *Checkpoints*: `u32` n and n times `u16` length and bytes of the key, `u32` length and bytes of the value (as `value::codec` writes it;
//! length 0: the checkpoint is removed).
//!
//! The front of a *head* is the low water and then all checkpoints, of a *low water* frame the low water, of an *events* frame the
//! checkpoints that changed (or nothing).

use std::{collections::BTreeMap, sync::Arc};

use super::wire::{Reader, len16, len32};

/// A place in the log: everything before it was stored earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Position {
    /// First sequence number of the segment.
    pub(super) segment: u64,
    /// Bytes from its start.
    pub(super) offset: u32,
}

/// What was pruned, so that it stays away.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct LowWater {
    /// Sequence numbers that went with their segments: first and last, rising, with room between.
    pub(super) dropped: Vec<(u64, u64)>,
    /// Everything before it is hidden.
    pub(super) through: Position,
    /// Times and positions: events before the position and earlier than the time are hidden. Positions rise, times fall.
    pub(super) before: Vec<(i64, Position)>,
}

/// How many falling prune times are remembered at once.
pub(super) const PRUNES_MAX: usize = 1024;

/// Key and encoded value of every live checkpoint.
pub(super) type Checkpoints = BTreeMap<Arc<str>, Arc<[u8]>>;

/// Key and encoded value of one checkpoint.
pub(super) type Entry = (Arc<str>, Arc<[u8]>);

impl LowWater {
    /// Adds the sequence numbers of a dropped segment.
    pub(super) fn drop_range(&mut self, first: u64, last: u64) {
        self.dropped.push((first, last));
        self.dropped.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(self.dropped.len());
        for (first, last) in self.dropped.drain(..) {
            match merged.last_mut() {
                Some(open) if first <= open.1.saturating_add(1) => open.1 = open.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        self.dropped = merged;
    }

    pub(super) fn was_dropped(&self, sequence: u64) -> bool {
        self.dropped
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&sequence))
    }

    /// Hides what is earlier than `time` and stored before `position`; false if too many prunes are remembered.
    pub(super) fn hide_before(&mut self, time: i64, position: Position) -> bool {
        // A later prune of a later time says all that the earlier ones said.
        let kept = self.before.partition_point(|(earlier, _)| *earlier > time);
        if kept >= PRUNES_MAX {
            return false;
        }
        self.before.truncate(kept);
        self.before.push((time, position));
        true
    }

    /// Forgets what only concerns segments before `oldest`.
    pub(super) fn forget_before(&mut self, oldest: u64) {
        let start = Position {
            segment: oldest,
            offset: 0,
        };
        self.before.retain(|(_, position)| *position > start);
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&len32(self.dropped.len()).to_le_bytes());
        for (first, last) in &self.dropped {
            out.extend_from_slice(&first.to_le_bytes());
            out.extend_from_slice(&last.to_le_bytes());
        }
        self.through.write(out);
        out.extend_from_slice(&len32(self.before.len()).to_le_bytes());
        for (time, position) in &self.before {
            out.extend_from_slice(&time.to_le_bytes());
            position.write(out);
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let mut low = Self::default();
        for _ in 0..reader.u32()? {
            low.dropped.push((reader.u64()?, reader.u64()?));
        }
        low.through = Position::read(reader)?;
        for _ in 0..reader.u32()? {
            low.before.push((reader.i64()?, Position::read(reader)?));
        }
        Some(low)
    }
}

impl Position {
    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.segment.to_le_bytes());
        out.extend_from_slice(&self.offset.to_le_bytes());
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            segment: reader.u64()?,
            offset: reader.u32()?,
        })
    }
}

pub(super) fn write_checkpoints<'a>(
    out: &mut Vec<u8>,
    checkpoints: impl ExactSizeIterator<Item = (&'a Arc<str>, &'a Arc<[u8]>)>,
) {
    out.extend_from_slice(&len32(checkpoints.len()).to_le_bytes());
    for (key, value) in checkpoints {
        out.extend_from_slice(&len16(key.len()).to_le_bytes());
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(&len32(value.len()).to_le_bytes());
        out.extend_from_slice(value);
    }
}

pub(super) fn read_checkpoints(reader: &mut Reader<'_>) -> Option<Vec<Entry>> {
    let mut checkpoints = Vec::new();
    for _ in 0..reader.u32()? {
        let len = usize::from(reader.u16()?);
        let key = str::from_utf8(reader.take(len)?).ok()?;
        let len = reader.u32()? as usize;
        checkpoints.push((Arc::from(key), Arc::from(reader.take(len)?)));
    }
    Some(checkpoints)
}

/// Sets a checkpoint; an empty value removes it.
pub(super) fn apply(checkpoints: &mut Checkpoints, key: Arc<str>, value: Arc<[u8]>) {
    if value.is_empty() {
        checkpoints.remove(&key);
    } else {
        checkpoints.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(segment: u64, offset: u32) -> Position {
        Position { segment, offset }
    }

    #[test]
    fn the_low_water_survives_its_encoding() {
        let mut low = LowWater::default();
        low.drop_range(1, 9);
        low.drop_range(20, 29);
        low.through = at(10, 77);
        assert!(low.hide_before(500, at(30, 5)));
        assert!(low.hide_before(400, at(31, 6)));
        let mut bytes = Vec::new();

        low.write(&mut bytes);

        assert_eq!(LowWater::read(&mut Reader::new(&bytes)), Some(low));
        for cut in 0..bytes.len() {
            assert_eq!(LowWater::read(&mut Reader::new(&bytes[..cut])), None);
        }
    }

    #[test]
    fn dropped_neighbours_become_one_range() {
        let mut low = LowWater::default();
        low.drop_range(11, 20);
        low.drop_range(31, 40);
        low.drop_range(21, 30);

        assert_eq!(low.dropped, [(11, 40)]);
        assert!(low.was_dropped(11) && low.was_dropped(40));
        assert!(!low.was_dropped(10) && !low.was_dropped(41));
    }

    #[test]
    fn a_later_prune_of_a_later_time_replaces_earlier_ones() {
        let mut low = LowWater::default();
        assert!(low.hide_before(300, at(1, 1)));
        assert!(low.hide_before(200, at(1, 2)));
        assert!(low.hide_before(100, at(1, 3)));
        assert!(low.hide_before(200, at(1, 4)));

        assert_eq!(low.before, [(300, at(1, 1)), (200, at(1, 4))]);
    }

    #[test]
    fn remembered_prunes_are_bounded() {
        let mut low = LowWater::default();
        let max = i64::try_from(PRUNES_MAX).expect("small");
        for n in 0..max {
            assert!(low.hide_before(-n, at(1, 0)));
        }

        assert!(!low.hide_before(-max, at(1, 0)));
        assert!(low.hide_before(1, at(1, 0)));
        assert_eq!(low.before.len(), 1);
    }

    #[test]
    fn checkpoints_survive_their_encoding() {
        let mut checkpoints = Checkpoints::new();
        apply(&mut checkpoints, "a".into(), [1, 2].into());
        apply(&mut checkpoints, "b".into(), [3].into());
        apply(&mut checkpoints, "b".into(), [].into());
        let mut bytes = Vec::new();

        write_checkpoints(&mut bytes, checkpoints.iter());

        let read = read_checkpoints(&mut Reader::new(&bytes)).expect("whole");
        assert_eq!(read, [(Arc::from("a"), Arc::from([1, 2]))]);
    }
}
