//! Opening a folder: reads what is there, decides what it means, and makes it whole again.

use std::{io, sync::Arc};

use super::{
    disk::{Disk, DiskFile, DiskLock},
    error::OpenError,
    frame::{HEADER_BYTES, Header, Kind},
    log::{Found, Log, parse_segment_name},
    notes::{self, LowWater, Position},
    options::Options,
    recovery::{self, Damage, Scan, Summary},
    segment::Segment,
    stats::{Gap, Opened, Progress, Torn},
    wire::{Reader, len32},
    writer::Writer,
};

/// Opens the folder for one store: its log, its writer, and what was found.
///
/// Sealed segments of `previous`, the log of the same folder before it failed or was stopped, are taken over as they are.
pub(super) fn open(
    disk: &Arc<dyn Disk>,
    options: &Options,
    previous: Option<&Log>,
    draw: u64,
    progress: &dyn Fn(Progress),
) -> Result<(Arc<Log>, Writer, Opened), OpenError> {
    let lock = lock(disk.as_ref())?;
    let mut opening = Opening::new(disk.as_ref(), previous)?;
    opening.read_all(progress)?;
    if !opening.knows_its_notes() {
        opening = Opening::new(disk.as_ref(), None)?;
        opening.read_all(progress)?;
    }
    let (found, opened) = opening.finish(draw)?;
    let log = Arc::new(Log::new(options, found));
    let writer = Writer::new(
        log.clone(),
        disk.clone(),
        lock,
        options.durability,
        options.idle_mark,
    );
    Ok((log, writer, opened))
}

fn lock(disk: &dyn Disk) -> Result<Box<dyn DiskLock>, OpenError> {
    disk.lock().map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => OpenError::InUse,
        _ => OpenError::Folder(error),
    })
}

/// A segment file by its name.
#[derive(Debug, Clone)]
struct Named {
    base: u64,
    log: u64,
    name: String,
    bytes: u64,
}

struct Opening<'a> {
    disk: &'a dyn Disk,
    names: Vec<Named>,
    /// Segments that need no second look.
    known: Vec<Arc<Segment>>,
    found: Found,
    summaries: Vec<Summary>,
    opened: Opened,
    quarantined: usize,
    took_over: bool,
    has_read: bool,
    first_read_has_head: bool,
}

impl<'a> Opening<'a> {
    fn new(disk: &'a dyn Disk, previous: Option<&Log>) -> Result<Self, OpenError> {
        let mut names: Vec<_> = disk
            .list()
            .map_err(OpenError::Folder)?
            .into_iter()
            .filter_map(|(name, bytes)| {
                let (base, log) = parse_segment_name(&name)?;
                Some(Named {
                    base,
                    log,
                    name,
                    bytes,
                })
            })
            .collect();
        names.sort_by_key(|named| named.base);
        let known = previous.map_or_else(Vec::new, |previous| previous.segments().to_vec());
        Ok(Self {
            disk,
            names,
            known,
            found: Found::default(),
            summaries: Vec::new(),
            opened: Opened::default(),
            quarantined: 0,
            took_over: false,
            has_read: false,
            first_read_has_head: false,
        })
    }

    fn read_all(&mut self, progress: &dyn Fn(Progress)) -> Result<(), OpenError> {
        let names = std::mem::take(&mut self.names);
        let bytes_total = names.iter().map(|named| named.bytes).sum();
        let mut bytes_read = 0;
        for (n, named) in names.iter().enumerate() {
            progress(Progress {
                segments_read: n,
                segments_total: names.len(),
                bytes_read,
                bytes_total,
            });
            let is_last = n + 1 == names.len();
            let known = self
                .known
                .iter()
                .find(|known| known.name == named.name)
                .cloned();
            let unchanged = |known: &Arc<Segment>| {
                !is_last
                    && u64::from(known.written()) == named.bytes
                    && known.sealed.get().is_some()
            };
            match known.filter(unchanged) {
                // A segment that is read tells its checkpoints anew, and so must all that follow.
                Some(known) if !self.has_read => self.take_over(known),
                _ => self.read(named, is_last)?,
            }
            bytes_read += named.bytes;
        }
        self.names = names;
        Ok(())
    }

    /// Low water and checkpoints come from the head of the first segment that is read; without it only the whole log can tell.
    fn knows_its_notes(&self) -> bool {
        !self.took_over || self.first_read_has_head
    }

    fn take_over(&mut self, segment: Arc<Segment>) {
        self.took_over = true;
        self.summaries.extend(segment.sealed.get().cloned());
        self.found.segments.push(segment);
    }

    fn read(&mut self, named: &Named, is_last: bool) -> Result<(), OpenError> {
        let failed = |error| OpenError::Read {
            file: named.name.clone(),
            error,
        };
        let file = self.disk.open(&named.name).map_err(failed)?;
        let mut bytes = read_whole(file.as_ref(), named.bytes).map_err(failed)?;
        let mut scan = recovery::scan(&bytes, named.log, named.base).map_err(|unknown| {
            OpenError::Unknown {
                file: named.name.clone(),
                version: unknown.version,
                codec: unknown.codec,
            }
        })?;
        if is_last {
            self.cut_torn_tail(named, file.as_ref(), &mut bytes, &mut scan)
                .map_err(failed)?;
        }
        for damage in &scan.damage {
            self.quarantine(named, &bytes, damage);
        }
        let summary = scan.summary(named.base);
        if !self.has_read {
            self.first_read_has_head = summary.has_head;
        }
        self.has_read = true;
        self.summaries.push(summary);
        self.index(named, file, &bytes, &scan, is_last);
        Ok(())
    }

    /// Makes the end of the newest segment certain: what is torn goes, and what may only be in the system's memory is written again.
    fn cut_torn_tail(
        &mut self,
        named: &Named,
        file: &dyn DiskFile,
        bytes: &mut Vec<u8>,
        scan: &mut Scan,
    ) -> io::Result<()> {
        let synced = self
            .synced_before(named.base)
            .max(scan.summary(named.base).synced);
        if let Some(end) = scan.torn_at(synced) {
            let frames = scan.cut(end);
            self.opened.torn = Some(Torn {
                file: named.name.clone(),
                offset: end.into(),
                bytes: bytes.len() as u64 - u64::from(end),
                whole_frames: frames,
            });
            bytes.truncate(end as usize);
            file.truncate(end.into())?;
            file.sync()?;
        }
        // After a failed sync the system may hold pages as clean that never reached the disk: only writing them again can tell.
        let unproven = scan
            .frames
            .iter()
            .find(|(_, header)| header.sequence > synced);
        if let Some((start, _)) = unproven {
            file.write_at(&bytes[*start as usize..], (*start).into())?;
            file.sync()?;
        }
        Ok(())
    }

    /// A segment is created only after everything before it was synced.
    fn synced_before(&self, base: u64) -> u64 {
        if self.summaries.is_empty() {
            0
        } else {
            base - 1
        }
    }

    /// Copies damaged bytes to a side file; they also stay where they are, so that every opening sees them.
    fn quarantine(&mut self, named: &Named, bytes: &[u8], damage: &Damage) {
        let name = format!("{}.{}.damaged", named.name, damage.offset);
        let range = damage.offset as usize..(damage.offset + damage.bytes) as usize;
        let copied = match self.disk.create(&name) {
            Ok(file) => file.write_at(&bytes[range], 0).and_then(|()| file.sync()),
            // Copied by an earlier opening.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = copied {
            tracing::warn!(file = name, %error, "damaged bytes were not copied to a side file");
        }
        self.quarantined += 1;
    }

    fn index(
        &mut self,
        named: &Named,
        file: Arc<dyn DiskFile>,
        bytes: &[u8],
        scan: &Scan,
        is_last: bool,
    ) {
        let segment = Segment::new(named.base, named.name.clone());
        segment.set_file(file);
        segment.set_written(len32(bytes.len()));
        let rows = {
            let mut inner = segment.inner.write();
            for (offset, header) in &scan.frames {
                let start = *offset as usize + HEADER_BYTES;
                let body = &bytes[start..start + header.body as usize];
                self.learn(header, &body[..header.front as usize]);
                if header.kind == Kind::Events {
                    inner.push(*offset, HEADER_BYTES, body, header.front as usize);
                }
            }
            inner.columns.rows()
        };
        segment.publish(rows);
        let summary = scan.summary(named.base);
        // A damaged segment is not written on: the next one starts with a whole head.
        let go_on = is_last && summary.has_head && summary.damage.is_empty();
        if !go_on {
            segment.inner.write().columns.seal();
        }
        // Both are set once, here.
        let _ = segment.found.set(summary.clone());
        let segment = Arc::new(segment);
        if go_on {
            self.found.active = Some((segment.clone(), len32(bytes.len())));
        } else if !is_last {
            let _ = segment.sealed.set(summary);
        }
        self.found.segments.push(segment);
    }

    fn learn(&mut self, header: &Header, front: &[u8]) {
        let mut reader = Reader::new(front);
        match header.kind {
            Kind::Head => {
                self.learn_low_water(&mut reader);
                let checkpoints = notes::read_checkpoints(&mut reader).unwrap_or_default();
                self.found.checkpoints = checkpoints.into_iter().collect();
            }
            Kind::LowWater => self.learn_low_water(&mut reader),
            Kind::Events if !reader.is_empty() => {
                for (key, value) in notes::read_checkpoints(&mut reader).unwrap_or_default() {
                    notes::apply(&mut self.found.checkpoints, key, value);
                }
            }
            Kind::Events | Kind::Mark => {}
        }
    }

    fn learn_low_water(&mut self, reader: &mut Reader<'_>) {
        if let Some(low) = LowWater::read(reader) {
            self.found.low = low;
        }
    }

    fn finish(mut self, draw: u64) -> Result<(Found, Opened), OpenError> {
        self.remove_dropped();
        self.remove_empty_newest();
        let last = self.summaries.iter().map(|summary| summary.last).max();
        self.found.next_sequence = last.unwrap_or(0) + 1;
        self.found.id = self.names.last().map_or(draw, |named| named.log);
        self.disk.sync_folder().map_err(OpenError::Folder)?;
        let low = self.found.low.clone();
        for segment in &self.found.segments {
            hide(segment, &low);
        }
        let gaps = recovery::gaps(&self.summaries, &low.dropped);
        self.opened.gaps = gaps
            .into_iter()
            .map(|(first, last)| Gap { first, last })
            .collect();
        self.opened.quarantined = self.quarantined;
        Ok((self.found, self.opened))
    }

    /// Goes on with a prune that a crash cut short.
    fn remove_dropped(&mut self) {
        let low = &self.found.low;
        self.found.segments.retain(|segment| {
            let dropped = low.was_dropped(segment.base);
            if dropped && let Err(error) = self.disk.remove(&segment.name) {
                tracing::warn!(segment = segment.name, %error, "a pruned segment was not removed");
            }
            !dropped
        });
    }

    /// A newest segment of which nothing is whole gives its name back: its number is the next one.
    fn remove_empty_newest(&mut self) {
        let Some(newest) = self.summaries.last() else {
            return;
        };
        if newest.last >= newest.base || !newest.damage.is_empty() {
            return;
        }
        if let Some(segment) = self
            .found
            .segments
            .pop_if(|segment| segment.base == newest.base)
            && let Err(error) = self.disk.remove(&segment.name)
        {
            tracing::warn!(segment = segment.name, %error, "an empty segment was not removed");
        }
        self.found.active = None;
    }
}

fn hide(segment: &Segment, low: &LowWater) {
    let mut inner = segment.inner.write();
    let columns = &mut inner.columns;
    // A segment taken over may have hidden what a prune hid that was never written down.
    columns.show_all();
    let rows_before = |columns: &super::columns::Columns, position: Position| match segment
        .base
        .cmp(&position.segment)
    {
        std::cmp::Ordering::Less => columns.rows(),
        std::cmp::Ordering::Equal => columns.rows_before(position.offset),
        std::cmp::Ordering::Greater => 0,
    };
    let through = rows_before(columns, low.through);
    columns.hide_oldest(u64::MAX, through);
    for (time, position) in &low.before {
        let rows = rows_before(columns, *position);
        columns.hide_before(*time, rows);
    }
}

fn read_whole(file: &dyn DiskFile, len: u64) -> io::Result<Vec<u8>> {
    let len = usize::try_from(len).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}
