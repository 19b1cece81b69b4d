//! Every frame, record, block and index of a folder is looked at.

use std::io;

use serde::Serialize;

use super::{
    super::{
        Disk, DiskLock, Event, Gap, OpenError, Progress, Torn, blocks,
        frame::{HEADER_BYTES, Header, Kind},
        index::Layout,
        naming::{Named, parse_segment_name, sealed_names, segments_of},
        record::{self, Record},
        recovery::{self, Damage, Scan, Summary},
        sealing,
        wire::len32,
    },
    segments::{self, read, scan},
};

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The file.
    pub file: String,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// How long it is, in bytes.
    pub bytes: u64,
    /// What is wrong, in words.
    pub what: String,
}

/// What [`verify`] found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Verified {
    /// A store has the folder open, or may have, since it may only be read: the end of the newest segment may be half written.
    pub live: bool,
    /// Segments of the log.
    pub segments: u64,
    /// Segments that are sealed.
    pub sealed: u64,
    /// Events that are whole, also pruned ones whose segment is still there.
    pub events: u64,
    /// Bytes that were looked at.
    pub bytes: u64,
    /// How many things are not as they were written.
    pub faults: u64,
    /// Segments of other logs than the newest segment's, as [`Opened::foreign`](super::super::Opened::foreign). No fault: they are whole.
    pub foreign: u64,
    /// Parts of the log that are missing, also where an earlier repair left them out.
    pub gaps: Vec<Gap>,
    /// An interrupted write at the end, which the next opening cuts off. No fault: nobody was told that it was stored.
    pub torn: Option<Torn>,
}

impl Verified {
    /// Everything that was ever stored and not pruned is there, as it was written.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.faults == 0 && self.gaps.is_empty()
    }
}

/// Looks at every byte of a folder, and hands each fault to `each`. Changes nothing, and may run beside a store; a store that is not running
/// cannot start before it is done. The right to read is enough; then it keeps no store from starting.
///
/// # Errors
///
/// [`OpenError::Folder`], [`OpenError::Read`] where the disk fails, [`OpenError::Unknown`] for a file of a later version. Verifying again is
/// safe.
pub fn verify(
    disk: &dyn Disk,
    progress: &dyn Fn(Progress),
    each: &mut dyn FnMut(Fault),
) -> Result<Verified, OpenError> {
    let lock: Option<Box<dyn DiskLock>> = match disk.lock() {
        Ok(lock) => Some(lock),
        Err(error) if cannot_be_taken(&error) => None,
        Err(error) => return Err(OpenError::Folder(error)),
    };
    look_at_all(disk, lock.is_none(), progress, each)
}

/// A store has the folder, or it may only be read, and then nobody can tell.
fn cannot_be_taken(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem, WouldBlock};
    matches!(
        error.kind(),
        WouldBlock | PermissionDenied | ReadOnlyFilesystem
    )
}

pub(super) fn look_at_all(
    disk: &dyn Disk,
    live: bool,
    progress: &dyn Fn(Progress),
    each: &mut dyn FnMut(Fault),
) -> Result<Verified, OpenError> {
    let mut look = Look {
        disk,
        verified: Verified {
            live,
            ..Verified::default()
        },
        summaries: Vec::new(),
        each,
    };
    look.orphans()?;
    let names = segments::list(disk)?;
    if let Some(newest) = names.last() {
        let others = names.iter().filter(|named| named.log != newest.log);
        look.verified.foreign = others.count() as u64;
    }
    segments::each(disk, progress, |named, is_last| {
        if named.is_sealed {
            look.sealed(named)
        } else {
            look.growing(named, is_last)
        }
    })?;
    let dropped = segments::low_water(disk)?.dropped;
    let gaps = recovery::gaps(&look.summaries, &dropped).into_iter();
    look.verified.gaps = gaps.map(|(first, last)| Gap { first, last }).collect();
    Ok(look.verified)
}

struct Look<'a> {
    disk: &'a dyn Disk,
    verified: Verified,
    summaries: Vec<Summary>,
    each: &'a mut dyn FnMut(Fault),
}

/// The indexes whose segment has no other file.
pub(super) fn orphans(disk: &dyn Disk) -> Result<Vec<(String, u64)>, OpenError> {
    let mut files = disk.list().map_err(OpenError::Folder)?;
    let known = indexes_of(&files);
    files.retain(|(name, _)| is_index(name) && !known.contains(name));
    if !files.is_empty() {
        // Of a segment that is pruned meanwhile the index goes before the blocks; of one that is sealed meanwhile the first look may have
        // missed both files that make it one.
        let now = disk.list().map_err(OpenError::Folder)?;
        let known = indexes_of(&now);
        files.retain(|(name, _)| {
            now.iter().any(|(other, _)| other == name) && !known.contains(name)
        });
    }
    Ok(files)
}

/// What the index of each segment is named, whether it has one or not.
fn indexes_of(files: &[(String, u64)]) -> Vec<String> {
    let segments = segments_of(files).into_iter();
    segments.map(|named| sealed_names(&named.name).1).collect()
}

/// A file of another name is somebody else's.
fn is_index(name: &str) -> bool {
    let stem = name.strip_suffix(".index");
    stem.is_some_and(|stem| parse_segment_name(&format!("{stem}.seg")).is_some())
}

impl Look<'_> {
    fn fault(&mut self, file: &str, damage: &Damage, what: impl Into<String>) {
        self.verified.faults += 1;
        (self.each)(Fault {
            file: file.to_owned(),
            offset: damage.offset.into(),
            bytes: damage.bytes.into(),
            what: what.into(),
        });
    }

    fn orphans(&mut self) -> Result<(), OpenError> {
        for (name, bytes) in orphans(self.disk)? {
            let whole = whole_file(usize::try_from(bytes).unwrap_or(usize::MAX));
            self.fault(&name, &whole, "the file that it is an index of is missing");
        }
        Ok(())
    }

    fn growing(&mut self, named: &Named, is_last: bool) -> Result<(), OpenError> {
        let bytes = segments::read_growing(self.disk, &named.name)?;
        let mut scan = segments::scan_growing(named, &bytes)?;
        self.verified.segments += 1;
        self.verified.bytes += bytes.len() as u64;
        let synced = scan.summary(named.base).synced.max(named.base - 1);
        if let Some(end) = scan.torn_at(synced).filter(|_| is_last) {
            self.verified.torn = Some(Torn {
                file: named.name.clone(),
                offset: end.into(),
                bytes: bytes.len() as u64 - u64::from(end),
                whole_frames: scan.cut(end),
            });
        }
        for damage in &scan.damage {
            self.fault(&named.name, damage, "no whole frame");
        }
        self.frames(&named.name, &bytes, &scan);
        self.summaries.push(scan.summary(named.base));
        Ok(())
    }

    fn sealed(&mut self, named: &Named) -> Result<(), OpenError> {
        let (blocks, index) = sealed_names(&named.name);
        let bytes = read(self.disk, &blocks)?;
        let outer = scan(&blocks, &bytes, named.log, 1)?;
        let (places, segment) = blocks::expand_all(&bytes, &outer);
        let inner = scan(&blocks, &segment, named.log, named.base)?;
        let found = match read(self.disk, &index) {
            Err(OpenError::Read { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                // Of a segment that is pruned the index goes first, and only once it is written down that the segment goes.
                if segments::low_water(self.disk)?.was_dropped(named.base) {
                    return Ok(());
                }
                Vec::new()
            }
            found => found?,
        };
        self.verified.segments += 1;
        self.verified.sealed += 1;
        self.verified.bytes += (bytes.len() + found.len()) as u64;
        self.frames(&blocks, &segment, &inner);
        let summary = inner.summary(named.base);
        let expected = sealing::index_of(&segment, &inner).finish(
            Layout::of_file(&found),
            named.log,
            &summary,
            len32(segment.len()),
            &places,
            len32(bytes.len()),
        );
        self.summaries.push(summary);
        if found == expected {
            // What is damaged in the blocks is known and left out of the index: it is among the gaps.
            return Ok(());
        }
        for damage in &outer.damage {
            self.fault(&blocks, damage, "no whole block");
        }
        let pages = scan(&index, &found, named.log, 1)?;
        for damage in &pages.damage {
            self.fault(&index, damage, "no whole page");
        }
        if pages.damage.is_empty() && outer.damage.is_empty() {
            let what = if found.is_empty() {
                "the index is missing"
            } else {
                "the index does not say what the blocks hold"
            };
            self.fault(&index, &whole_file(found.len()), what);
        }
        Ok(())
    }

    /// Whether what is inside of whole frames are events.
    fn frames(&mut self, file: &str, bytes: &[u8], scan: &Scan) {
        for (offset, header) in &scan.frames {
            if header.kind == Kind::Events {
                let start = *offset as usize + HEADER_BYTES + header.front as usize;
                let end = *offset as usize + header.frame_bytes();
                self.events(file, (*offset, header), &bytes[start..end]);
            }
        }
    }

    fn events(&mut self, file: &str, (offset, header): (u32, &Header), records: &[u8]) {
        let mut count = 0;
        for (at, record) in record::all(records) {
            count += 1;
            let whole = Record::read_checked(record.bytes);
            if whole.as_ref().and_then(Event::decode).is_some() {
                self.verified.events += 1;
                continue;
            }
            let place = Damage {
                offset: offset + len32(HEADER_BYTES + at) + header.front,
                bytes: len32(record.bytes.len()),
                sequence: header.sequence,
            };
            self.fault(file, &place, format!("record {} is no event", record.id));
        }
        if count != header.events {
            let place = Damage {
                offset,
                bytes: len32(header.frame_bytes()),
                sequence: header.sequence,
            };
            let what = format!("the frame has {count} events and says {}", header.events);
            self.fault(file, &place, what);
        }
    }
}

pub(super) fn whole_file(len: usize) -> Damage {
    Damage {
        offset: 0,
        bytes: u32::try_from(len).unwrap_or(u32::MAX),
        sequence: 0,
    }
}
