//! Damaged files: what is wrong with them is copied to side files, and indexes are made anew from their blocks. Nothing goes that was not
//! copied.

use std::io;

use super::{
    blocks,
    disk::Disk,
    error::OpenError,
    recovery::{self, Damage},
    sealing::{self, read_whole},
    segment::sealed_names,
    wire::len32,
};

/// Copies damaged bytes to a side file. What is there from an earlier time stays.
pub(super) fn quarantine(
    disk: &dyn Disk,
    file: &str,
    bytes: &[u8],
    damage: &Damage,
) -> io::Result<()> {
    let name = format!("{file}.{}.damaged", damage.offset);
    let range = damage.offset as usize..(damage.offset + damage.bytes) as usize;
    match sealing::write_new(disk, &name, &bytes[range]) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

/// An index that was made anew.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rebuilt {
    /// Damaged places that are kept in side files now: the old index, and blocks.
    pub(super) quarantined: usize,
}

/// Makes the index of a sealed segment anew from its blocks, and keeps the old one and damaged blocks beside. `name` is that of the
/// segment's file before it was sealed.
pub(super) fn rebuild_index(
    disk: &dyn Disk,
    name: &str,
    (base, log): (u64, u64),
) -> Result<Rebuilt, OpenError> {
    let (blocks, index) = sealed_names(name);
    tracing::warn!(file = index, "the index is made anew from its blocks");
    let failed = |error| OpenError::Read {
        file: blocks.clone(),
        error,
    };
    let unknown = |unknown: recovery::Unknown| OpenError::Unknown {
        file: blocks.clone(),
        version: unknown.version,
        codec: unknown.codec,
    };
    let bytes = read_file(disk, &blocks).map_err(failed)?;
    let scan = recovery::scan(&bytes, log, 1).map_err(unknown)?;
    for damage in &scan.damage {
        quarantine(disk, &blocks, &bytes, damage).map_err(failed)?;
    }
    let (placed, segment) = blocks::expand_all(&bytes, &scan);
    let inner = recovery::scan(&segment, log, base).map_err(unknown)?;
    let made = sealing::index_of(&segment, &inner).finish(
        log,
        &inner.summary(base),
        len32(segment.len()),
        &placed,
        len32(bytes.len()),
    );
    let had_one = put_aside(disk, &index).map_err(failed)?;
    sealing::write_new(disk, &index, &made).map_err(failed)?;
    disk.sync_folder().map_err(failed)?;
    Ok(Rebuilt {
        quarantined: scan.damage.len() + usize::from(had_one),
    })
}

/// Keeps a damaged file beside, for whoever looks into it; answers whether there was one.
pub(super) fn put_aside(disk: &dyn Disk, name: &str) -> io::Result<bool> {
    let bytes = match read_file(disk, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        bytes => bytes?,
    };
    let whole = Damage {
        offset: 0,
        bytes: len32(bytes.len()),
        sequence: 0,
    };
    quarantine(disk, name, &bytes, &whole)?;
    disk.remove(name)?;
    Ok(true)
}

/// All bytes of a file.
pub(super) fn read_file(disk: &dyn Disk, name: &str) -> io::Result<Vec<u8>> {
    let files = disk.list()?;
    let file = files.into_iter().find(|(file, _)| file == name);
    let (_, len) = file.ok_or(io::ErrorKind::NotFound)?;
    read_whole(disk.open(name)?.as_ref(), len)
}
