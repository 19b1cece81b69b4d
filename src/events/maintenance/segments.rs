//! The segments of a folder one after the other, whatever form each has, also while a store works on them.

use std::io;

use super::super::{
    Disk, OpenError, Progress, blocks,
    frame::{HEADER_BYTES, Kind},
    mending::read_file,
    naming::{self, Named, sealed_names, segments_of},
    notes::LowWater,
    recovery::{self, Scan, Unknown},
    wire::Reader,
};

/// All segments of a folder, oldest first.
pub(super) fn list(disk: &dyn Disk) -> Result<Vec<Named>, OpenError> {
    let files = disk.list().map_err(OpenError::Folder)?;
    Ok(segments_of(&files))
}

/// The segments that have their first file beside what was made of it.
pub(super) fn unfinished(disk: &dyn Disk) -> Result<Vec<String>, OpenError> {
    let files = disk.list().map_err(OpenError::Folder)?;
    Ok(naming::unfinished(&files))
}

/// Does `work` on every segment, oldest first, and says how far it is. One that is sealed meanwhile is taken in its new form; one that is
/// pruned meanwhile is left out; answers how many were.
pub(super) fn each(
    disk: &dyn Disk,
    progress: &dyn Fn(Progress),
    mut work: impl FnMut(&Named, bool) -> Result<(), OpenError>,
) -> Result<usize, OpenError> {
    let names = list(disk)?;
    let mut left_out = 0;
    let mut told = Progress {
        segments_total: names.len(),
        bytes_total: names.iter().map(|named| named.bytes).sum(),
        ..Progress::default()
    };
    for (n, named) in names.iter().enumerate() {
        progress(told);
        let is_last = n + 1 == names.len();
        let mut now = Some(named.clone());
        while let Some(named) = now.take() {
            match work(&named, is_last) {
                Err(OpenError::Read { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                    let other = |again: &Named| {
                        again.base == named.base && again.is_sealed != named.is_sealed
                    };
                    now = list(disk)?.into_iter().find(other);
                    left_out += usize::from(now.is_none());
                }
                done => done?,
            }
        }
        told.segments_read += 1;
        told.bytes_read += named.bytes;
    }
    progress(told);
    Ok(left_out)
}

/// All bytes of one of a segment's files.
pub(super) fn read(disk: &dyn Disk, name: &str) -> Result<Vec<u8>, OpenError> {
    read_file(disk, name).map_err(|error| OpenError::Read {
        file: name.to_owned(),
        error,
    })
}

/// The bytes of a segment that is not sealed. A store may be writing into the room that it made ahead: one that reads on while that happens
/// could find a frame behind room in which there was none yet. So what is there is read once more up to the end that was seen, since all
/// before it was written by then, and the rest is room.
pub(super) fn read_growing(disk: &dyn Disk, name: &str) -> Result<Vec<u8>, OpenError> {
    let seen = read(disk, name)?;
    let end = seen
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |at| at + 1);
    drop(seen);
    let mut bytes = read(disk, name)?;
    if let Some(room) = bytes.get_mut(end..) {
        room.fill(0);
    }
    Ok(bytes)
}

/// The whole frames of a file, of which the first has number `first`.
pub(super) fn scan(name: &str, bytes: &[u8], log: u64, first: u64) -> Result<Scan, OpenError> {
    known(name, recovery::scan(bytes, log, first))
}

/// The whole frames of a segment that is not sealed.
pub(super) fn scan_growing(named: &Named, bytes: &[u8]) -> Result<Scan, OpenError> {
    let scanned = recovery::scan_growing(bytes, named.log, named.base);
    known(&named.name, scanned)
}

fn known(name: &str, scanned: Result<Scan, Unknown>) -> Result<Scan, OpenError> {
    scanned.map_err(|unknown| OpenError::Unknown {
        file: name.to_owned(),
        version: unknown.version,
        codec: unknown.codec,
    })
}

/// A segment's bytes as they were before it was sealed, and the frames in them that count.
pub(super) fn load(
    disk: &dyn Disk,
    named: &Named,
    is_last: bool,
) -> Result<(Vec<u8>, Scan), OpenError> {
    if named.is_sealed {
        let (name, _) = sealed_names(&named.name);
        let file = read(disk, &name)?;
        let outer = scan(&name, &file, named.log, 1)?;
        let (_, bytes) = blocks::expand_all(&file, &outer);
        let inner = scan(&name, &bytes, named.log, named.base)?;
        return Ok((bytes, inner));
    }
    let bytes = read_growing(disk, &named.name)?;
    let mut scan = scan_growing(named, &bytes)?;
    let synced = scan.summary(named.base).synced.max(named.base - 1);
    if let Some(end) = scan.torn_at(synced).filter(|_| is_last) {
        scan.cut(end);
    }
    Ok((bytes, scan))
}

/// What was pruned, by the newest frame that says so.
pub(super) fn low_water(disk: &dyn Disk) -> Result<LowWater, OpenError> {
    for (n, named) in list(disk)?.iter().rev().enumerate() {
        let (bytes, scan) = match load(disk, named, n == 0) {
            Err(OpenError::Read { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                continue;
            }
            loaded => loaded?,
        };
        let mut frames = scan.frames.iter().rev();
        let told = frames.find_map(|(at, header)| {
            let body = *at as usize + HEADER_BYTES;
            let front = bytes.get(body..body + header.front as usize)?;
            match header.kind {
                Kind::Head | Kind::LowWater => LowWater::read(&mut Reader::new(front)),
                _ => None,
            }
        });
        if let Some(low) = told {
            return Ok(low);
        }
    }
    Ok(LowWater::default())
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    };

    use super::{
        super::super::{DiskFile, DiskLock},
        *,
    };

    /// A file that a store writes to while it is read: the second of two pages appears before the reader comes to it, and after the reader
    /// has passed the first one, which is written before.
    #[derive(Debug, Default)]
    struct Growing(Arc<AtomicU64>);

    const PAGE: usize = 4;

    impl Disk for Growing {
        fn lock(&self) -> io::Result<Box<dyn DiskLock>> {
            Err(io::ErrorKind::WouldBlock.into())
        }
        fn list(&self) -> io::Result<Vec<(String, u64)>> {
            Ok(vec![("one".to_owned(), 3 * PAGE as u64)])
        }
        fn open(&self, _: &str) -> io::Result<Arc<dyn DiskFile>> {
            Ok(Arc::new(Self(Arc::clone(&self.0))))
        }
        fn create(&self, _: &str) -> io::Result<Arc<dyn DiskFile>> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn remove(&self, _: &str) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn sync_folder(&self) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    impl DiskFile for Growing {
        fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            let page = usize::try_from(offset).expect("short") / PAGE;
            if page > 2 || buffer.is_empty() {
                return Ok(0);
            }
            // Pages are written one after the other; the first one only once it was read, the last one during the second reading.
            let reads = self.0.fetch_add(1, SeqCst);
            let is_there = match page {
                0 => reads >= 1,
                1 => true,
                _ => reads >= 5,
            };
            let len = buffer.len().min(PAGE);
            buffer[..len].fill(if is_there { 7 } else { 0 });
            Ok(len)
        }
        fn sync(&self) -> io::Result<()> {
            Ok(())
        }
        fn truncate(&self, _: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    #[test]
    fn no_frame_is_missing_before_one_that_was_written_while_its_file_was_read() {
        let disk = Growing::default();

        let bytes = read_growing(&disk, "one").expect("readable");

        assert_eq!(bytes, [7, 7, 7, 7, 7, 7, 7, 7, 0, 0, 0, 0]);
    }
}
