//! Opening a folder: reads what is there, decides what it means, and makes it whole again.

mod concluding;
mod growing;

use std::{
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{
    cache::Cache,
    disk::{Disk, DiskLock},
    error::OpenError,
    frame::{HEADER_BYTES, Header, Kind},
    log::{Found, Log},
    mending,
    naming::{Named, parse_segment_name, sealed_names, segments_of, unfinished},
    notes::{self, LowWater},
    options::Options,
    recovery::{self, Summary},
    sealed::{IndexFault, Sealed},
    sealing::Sealer,
    segment::Segment,
    stats::{Opened, Progress},
    wire::Reader,
    writer::Writer,
};

/// An opened folder.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) log: Arc<Log>,
    pub(super) writer: Writer,
    pub(super) sealer: Sealer,
    pub(super) opened: Opened,
}

/// Opens the folder for one store: its log, who works on it, and what was found.
///
/// Segments of `previous`, the log of the same folder before it failed or was stopped, are taken over as they are. Where `progress` answers
/// false nobody waits for the store any more: the opening ends, and the folder is free.
pub(super) fn open(
    disk: &Arc<dyn Disk>,
    options: &Options,
    cache: &Arc<Cache>,
    previous: Option<&Log>,
    draw: u64,
    progress: &dyn Fn(Progress) -> bool,
) -> Result<Opening, OpenError> {
    let lock: Arc<dyn DiskLock> = Arc::from(lock(disk.as_ref(), options.down_wait)?);
    let mut folder = FolderReader::new(disk.as_ref(), cache, previous)?;
    folder.read_all(progress)?;
    folder.be_certain_of_notes()?;
    let (found, opened) = folder.finish(draw)?;
    let log = Arc::new(Log::new(options, found));
    let writer = Writer::new(
        log.clone(),
        disk.clone(),
        lock.clone(),
        options.durability,
        options.idle_mark,
    );
    let sealer = Sealer::new(log.clone(), disk.clone(), cache.clone(), lock);
    Ok(Opening {
        log,
        writer,
        sealer,
        opened,
    })
}

/// Waits a moment for a store that is just leaving the folder: one that was stopped while it was opened does so at its next step.
pub(super) fn lock(disk: &dyn Disk, patience: Duration) -> Result<Box<dyn DiskLock>, OpenError> {
    const AGAIN: Duration = Duration::from_millis(5);
    let begin = Instant::now();
    loop {
        match disk.lock() {
            Ok(lock) => return Ok(lock),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                return Err(OpenError::Folder(error));
            }
            Err(_) if begin.elapsed() >= patience => return Err(OpenError::InUse),
            Err(_) => thread::sleep(AGAIN),
        }
    }
}

struct FolderReader<'a> {
    disk: &'a dyn Disk,
    cache: &'a Arc<Cache>,
    names: Vec<Named>,
    /// Segments that need no second look.
    known: Vec<Arc<Segment>>,
    found: Found,
    summaries: Vec<Summary>,
    opened: Opened,
    /// Segments whose index was made anew, and what was damaged in each.
    damaged: Vec<(u64, usize)>,
    /// The newest segment was read, and has its head: then low water and checkpoints are known.
    knows_notes: bool,
}

impl<'a> FolderReader<'a> {
    fn new(
        disk: &'a dyn Disk,
        cache: &'a Arc<Cache>,
        previous: Option<&Log>,
    ) -> Result<Self, OpenError> {
        let mut files = disk.list().map_err(OpenError::Folder)?;
        let mut opened = Opened::default();
        let unfinished = unfinished(&files);
        for name in &unfinished {
            opened.quarantined += mending::settle(disk, name)?;
        }
        if !unfinished.is_empty() {
            files = disk.list().map_err(OpenError::Folder)?;
        }
        let known = previous.map_or_else(Vec::new, |previous| previous.segments().to_vec());
        Ok(Self {
            disk,
            cache,
            names: segments_of(&files),
            known,
            found: Found::default(),
            summaries: Vec::new(),
            opened,
            damaged: Vec::new(),
            knows_notes: false,
        })
    }

    fn read_all(&mut self, progress: &dyn Fn(Progress) -> bool) -> Result<(), OpenError> {
        let names = std::mem::take(&mut self.names);
        let bytes_total = names.iter().map(|named| named.bytes).sum();
        let mut bytes_read = 0;
        for (n, named) in names.iter().enumerate() {
            let wanted = progress(Progress {
                segments_read: n,
                segments_total: names.len(),
                bytes_read,
                bytes_total,
            });
            if !wanted {
                return Err(OpenError::Unwanted);
            }
            let is_last = n + 1 == names.len();
            let same = |known: &&Arc<Segment>| known.name == named.name;
            let known = self.known.iter().find(same).cloned();
            match known.filter(|known| is_unchanged(known, named, is_last)) {
                Some(known) => self.take_over(known),
                None if named.is_sealed => self.read_sealed(named)?,
                None => self.read(named, is_last)?,
            }
            bytes_read += named.bytes;
        }
        self.names = names;
        Ok(())
    }

    fn take_over(&mut self, segment: Arc<Segment>) {
        self.knows_notes = false;
        self.summaries.extend(segment.rolled.get().cloned());
        self.found.segments.push(segment);
    }

    /// Of a sealed segment only the directory of its index is read.
    fn read_sealed(&mut self, named: &Named) -> Result<(), OpenError> {
        self.knows_notes = false;
        let (blocks, index) = sealed_names(&named.name);
        let fits = |sealed: &Sealed| {
            let directory = &sealed.directory;
            directory.summary.base == named.base && u64::from(directory.blocks_bytes) == named.bytes
        };
        let sealed = match Sealed::open(self.disk, (&blocks, &index), self.cache) {
            Ok(sealed) if fits(&sealed) => sealed,
            Ok(_) | Err(IndexFault::Damaged) => self.rebuild(named, &blocks, &index)?,
            Err(fault) => return Err(fault.into_open_error(index)),
        };
        self.summaries.push(sealed.directory.summary.clone());
        let segment = Segment::sealed(named.name.clone(), sealed);
        self.found.segments.push(Arc::new(segment));
        Ok(())
    }

    fn rebuild(&mut self, named: &Named, blocks: &str, index: &str) -> Result<Sealed, OpenError> {
        let place = (named.base, named.log);
        let rebuilt = mending::rebuild_index(self.disk, &named.name, place)?;
        self.opened.quarantined += rebuilt.quarantined;
        self.damaged.push((named.base, rebuilt.quarantined));
        self.opened.rebuilt += 1;
        Sealed::open(self.disk, (blocks, index), self.cache)
            .map_err(|fault| fault.into_open_error(index.to_owned()))
    }

    /// Low water and checkpoints come from the newest segment; where that was not read or has no head, from the newest one with a head
    /// and all behind it.
    fn be_certain_of_notes(&mut self) -> Result<(), OpenError> {
        if self.knows_notes || self.found.segments.is_empty() {
            return Ok(());
        }
        let mut newest_first = Vec::new();
        for segment in self.found.segments.iter().rev() {
            let failed = |error| OpenError::Read {
                file: segment.name.clone(),
                error,
            };
            let bytes = segment.load().map_err(failed)?;
            let log = parse_segment_name(&segment.name).map_or(0, |(_, log)| log);
            let scan = recovery::scan(&bytes, log, segment.base).unwrap_or_default();
            let has_head = scan.summary(segment.base).has_head;
            newest_first.push((bytes, scan));
            if has_head {
                break;
            }
        }
        for (bytes, scan) in newest_first.iter().rev() {
            for (offset, header) in &scan.frames {
                let front = *offset as usize + HEADER_BYTES;
                self.learn(header, &bytes[front..front + header.front as usize]);
            }
        }
        Ok(())
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
            Kind::Events | Kind::Mark | Kind::Block | Kind::Directory | Kind::Page => {}
        }
    }

    fn learn_low_water(&mut self, reader: &mut Reader<'_>) {
        if let Some(low) = LowWater::read(reader) {
            self.found.low = low;
        }
    }
}

/// Whether a segment is as an earlier log of the same process knew it.
fn is_unchanged(known: &Segment, named: &Named, is_last: bool) -> bool {
    !is_last
        && known.rolled.get().is_some()
        && !known.has_damaged_index()
        && known.is_sealed() == named.is_sealed
        && known.file_bytes() == named.bytes
}

impl IndexFault {
    fn into_open_error(self, file: String) -> OpenError {
        match self {
            Self::Damaged => OpenError::Read {
                file,
                error: super::sealed::damaged(),
            },
            Self::Unknown { version, codec } => OpenError::Unknown {
                file,
                version,
                codec,
            },
            Self::Disk(error) => OpenError::Read { file, error },
        }
    }
}
