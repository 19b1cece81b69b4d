//! Damaged files: what is wrong with them is copied to side files, and indexes are made anew from their blocks. Nothing goes that was not
//! copied.

use std::io;

use super::{
    blocks,
    disk::Disk,
    error::OpenError,
    naming::{parse_segment_name, sealed_names},
    recovery::{self, Damage},
    sealing::{self, read_whole},
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

/// What a segment's blocks say: the index that they should have.
#[derive(Debug)]
pub(super) struct Remade {
    index: Vec<u8>,
    rows: u32,
    /// How long the segment was before it was sealed.
    len: u32,
    blocks: Vec<u8>,
    damage: Vec<Damage>,
}

impl Remade {
    /// Reads the blocks of a segment. `name` is that of its file before it was sealed, `base` its first sequence number.
    pub(super) fn of(
        disk: &dyn Disk,
        name: &str,
        (base, log): (u64, u64),
    ) -> Result<Self, OpenError> {
        let (file, _) = sealed_names(name);
        let unknown = |unknown: recovery::Unknown| OpenError::Unknown {
            file: file.clone(),
            version: unknown.version,
            codec: unknown.codec,
        };
        let blocks = read_file(disk, &file).map_err(|error| failed(&file, error))?;
        let scan = recovery::scan(&blocks, log, 1).map_err(unknown)?;
        let (placed, segment) = blocks::expand_all(&blocks, &scan);
        let inner = recovery::scan(&segment, log, base).map_err(unknown)?;
        let index = sealing::index_of(&segment, &inner);
        let rows = index.rows();
        let index = index.finish(
            log,
            &inner.summary(base),
            len32(segment.len()),
            &placed,
            len32(blocks.len()),
        );
        Ok(Self {
            index,
            rows,
            len: len32(segment.len()),
            blocks,
            damage: scan.damage,
        })
    }

    /// Whether all `rows` events of the segment are there, in whole blocks.
    pub(super) fn is_whole(&self, rows: u32) -> bool {
        self.damage.is_empty() && self.rows == rows
    }

    /// Puts the index in place of the old one, durably; answers whether there was one.
    pub(super) fn put_in_place(&self, disk: &dyn Disk, name: &str) -> Result<bool, OpenError> {
        let (_, index) = sealed_names(name);
        let put = || {
            let had_one = put_aside(disk, &index)?;
            sealing::write_new(disk, &index, &self.index)?;
            disk.sync_folder()?;
            Ok(had_one)
        };
        put().map_err(|error| failed(&index, error))
    }
}

/// Decides between a segment's first file and what was made of it, where both are there, and lets the other go: a crash came before its
/// sealing was finished, and the first file is the truth. Only where that was damaged since and what was made of it is whole, it is the
/// first file that goes, to a side file; answers whether it did.
pub(super) fn settle(disk: &dyn Disk, name: &str) -> Result<bool, OpenError> {
    let (_, index) = sealed_names(name);
    let made = match read_file(disk, &index) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        found => Some(found.map_err(|error| failed(&index, error))?),
    };
    if let Some(made) = made
        && !first_is_whole(disk, name, &made)?
    {
        put_aside(disk, name).map_err(|error| failed(name, error))?;
        return Ok(true);
    }
    sealing::remove_sealed(disk, name);
    Ok(false)
}

/// Whether the first file of a segment is as good as its blocks and this index.
fn first_is_whole(disk: &dyn Disk, name: &str, index: &[u8]) -> Result<bool, OpenError> {
    let Some((base, log)) = parse_segment_name(name) else {
        return Ok(true);
    };
    let remade = Remade::of(disk, name, (base, log))?;
    if !remade.damage.is_empty() || remade.index != index {
        return Ok(true);
    }
    let bytes = read_file(disk, name).map_err(|error| failed(name, error))?;
    let unknown = |unknown: recovery::Unknown| OpenError::Unknown {
        file: name.to_owned(),
        version: unknown.version,
        codec: unknown.codec,
    };
    let scan = recovery::scan_growing(&bytes, log, base).map_err(unknown)?;
    Ok(scan.damage.is_empty() && scan.end() >= remade.len)
}

fn failed(file: &str, error: io::Error) -> OpenError {
    OpenError::Read {
        file: file.to_owned(),
        error,
    }
}

/// Makes the index of a sealed segment anew from its blocks, and keeps the old one and damaged blocks beside. `name` is that of the
/// segment's file before it was sealed.
pub(super) fn rebuild_index(
    disk: &dyn Disk,
    name: &str,
    place: (u64, u64),
) -> Result<Rebuilt, OpenError> {
    let (blocks, index) = sealed_names(name);
    tracing::warn!(file = index, "the index is made anew from its blocks");
    let remade = Remade::of(disk, name, place)?;
    for damage in &remade.damage {
        quarantine(disk, &blocks, &remade.blocks, damage)
            .map_err(|error| failed(&blocks, error))?;
    }
    let had_one = remade.put_in_place(disk, name)?;
    Ok(Rebuilt {
        quarantined: remade.damage.len() + usize::from(had_one),
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
