//! Every event of a folder, one after the other.

use std::io;

use serde::Serialize;

use super::{
    super::{
        Disk, Event, Gap, OpenError, Progress,
        frame::{HEADER_BYTES, Kind},
        notes::{LowWater, Position},
        record::{self, Record},
        recovery,
        wire::len32,
    },
    segments,
};

/// What [`export`] handed out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Exported {
    /// Events that were handed out.
    pub events: u64,
    /// Events that are there and could not be read.
    pub unreadable: u64,
    /// Parts of the log that are missing.
    pub gaps: Vec<Gap>,
}

/// Hands every event that was stored and not pruned to `each`, in the order in which they were stored. Changes nothing, and may run beside
/// a store: what that stores meanwhile may be missing.
///
/// # Errors
///
/// [`OpenError::Folder`], [`OpenError::Read`] where the disk fails, [`OpenError::Unknown`] for a file of a later version; what `each`
/// answers ends it as [`OpenError::Stopped`]. Exporting again is safe.
pub fn export(
    disk: &dyn Disk,
    progress: &dyn Fn(Progress),
    each: &mut dyn FnMut(&Event) -> io::Result<()>,
) -> Result<Exported, OpenError> {
    let low = segments::low_water(disk)?;
    let mut exported = Exported::default();
    let mut summaries = Vec::new();
    segments::each(disk, progress, |named, is_last| {
        let (bytes, scan) = segments::load(disk, named, is_last)?;
        summaries.push(scan.summary(named.base));
        if low.was_dropped(named.base) {
            return Ok(());
        }
        for (at, header) in &scan.frames {
            if header.kind != Kind::Events {
                continue;
            }
            let start = *at as usize + HEADER_BYTES + header.front as usize;
            let end = *at as usize + header.frame_bytes();
            for (offset, record) in record::all(&bytes[start..end]) {
                let position = Position {
                    segment: named.base,
                    offset: len32(start + offset),
                };
                if shows(&low, position, record.time) {
                    exported.hand_out(&record, each)?;
                }
            }
        }
        Ok(())
    })?;
    // Also what was pruned since: that is written down before its files go.
    let dropped = segments::low_water(disk)?.dropped;
    let gaps = recovery::gaps(&summaries, &dropped).into_iter();
    exported.gaps = gaps.map(|(first, last)| Gap { first, last }).collect();
    Ok(exported)
}

fn shows(low: &LowWater, position: Position, time: i64) -> bool {
    let hides = |(before, end): &(i64, Position)| position < *end && time < *before;
    position >= low.through && !low.before.iter().any(hides)
}

impl Exported {
    fn hand_out(
        &mut self,
        record: &Record<'_>,
        each: &mut dyn FnMut(&Event) -> io::Result<()>,
    ) -> Result<(), OpenError> {
        let whole = Record::read_checked(record.bytes);
        match whole.as_ref().and_then(Event::decode) {
            Some(event) => {
                each(&event).map_err(OpenError::Stopped)?;
                self.events += 1;
            }
            None => self.unreadable += 1,
        }
        Ok(())
    }
}
