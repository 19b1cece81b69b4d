//! Damaged files: what is wrong with them is copied to side files, and indexes are made anew from their blocks. Nothing goes that was not
//! copied.

use std::io;

use super::{
    blocks,
    disk::Disk,
    error::OpenError,
    index::Layout,
    naming::{parse_segment_name, sealed_names, segments_of},
    recovery::{self, Damage},
    sealing::{self, read_whole},
    wire::len32,
};

/// Copies damaged bytes, which stand at `offset` of a file, to a side file. What is there from an earlier time stays: other bytes go to a
/// file of another name.
pub(super) fn quarantine(disk: &dyn Disk, file: &str, offset: u32, bytes: &[u8]) -> io::Result<()> {
    let mut name = format!("{file}.{offset}.damaged");
    let mut again = 0;
    loop {
        match sealing::write_new(disk, &name, bytes) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if read_file(disk, &name)? == bytes {
                    return Ok(());
                }
            }
            done => return done,
        }
        again += 1;
        name = format!("{file}.{offset}.{again}.damaged");
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
        layout: Layout,
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
            layout,
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
/// sealing was finished, and the first file is the truth. Where that is whole, what was made of it goes unread. Only where it was damaged
/// since, it is the first file that goes to a side file, or what was made of it if that is not whole either; answers how many files did.
pub(super) fn settle(disk: &dyn Disk, name: &str) -> Result<usize, OpenError> {
    let Some((base, log)) = parse_segment_name(name) else {
        return Ok(0);
    };
    let bytes = read_file(disk, name).map_err(|error| failed(name, error))?;
    let unknown = |unknown: recovery::Unknown| OpenError::Unknown {
        file: name.to_owned(),
        version: unknown.version,
        codec: unknown.codec,
    };
    let scan = recovery::scan_growing(&bytes, log, base).map_err(unknown)?;
    let summary = scan.summary(base);
    let is_sound = summary.damage.is_empty() && summary.holes.is_empty();
    let next = base_after(disk, (base, log))?;
    // Where no segment follows, only what was made of it says whether its end is missing.
    if is_sound && next == Some(summary.last + 1) {
        sealing::remove_sealed(disk, name);
        return Ok(0);
    }
    let is_truth = is_sound && next.is_none();
    let (blocks, index) = sealed_names(name);
    match len_if_whole(disk, name, (base, log)) {
        Ok(Some(len)) if !is_sound || scan.end() < len => put_all_aside(disk, &[name]),
        Ok(None) if !is_truth => put_all_aside(disk, &[&index, &blocks]),
        Err(error) if !is_truth => Err(error),
        _ => {
            sealing::remove_sealed(disk, name);
            Ok(0)
        }
    }
}

/// The first sequence number of the segment that follows in the same log.
fn base_after(disk: &dyn Disk, (base, log): (u64, u64)) -> Result<Option<u64>, OpenError> {
    let files = disk.list().map_err(OpenError::Folder)?;
    let all = segments_of(&files).into_iter();
    let mut later = all.filter(|named| named.log == log && named.base > base);
    Ok(later.next().map(|named| named.base))
}

/// How long a segment was before it was sealed, where its blocks and its index are whole.
fn len_if_whole(disk: &dyn Disk, name: &str, place: (u64, u64)) -> Result<Option<u32>, OpenError> {
    let (_, index) = sealed_names(name);
    let made = match read_file(disk, &index) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        made => made.map_err(|error| failed(&index, error))?,
    };
    let remade = Remade::of(disk, name, place, Layout::of_file(&made))?;
    let is_whole = remade.damage.is_empty() && remade.index == made;
    Ok(is_whole.then_some(remade.len))
}

fn put_all_aside(disk: &dyn Disk, names: &[&str]) -> Result<usize, OpenError> {
    let mut aside = 0;
    for name in names {
        aside += usize::from(put_aside(disk, name).map_err(|error| failed(name, error))?);
    }
    Ok(aside)
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
    let remade = Remade::of(disk, name, place, Layout::default())?;
    for damage in &remade.damage {
        quarantine(disk, &blocks, damage.offset, damage.of(&remade.blocks))
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
    quarantine(disk, name, 0, &bytes)?;
    // The copy is there for good before the file is not.
    disk.sync_folder()?;
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

#[cfg(test)]
mod tests {
    use super::{super::simulated::SimulatedDisk, *};

    #[test]
    fn what_was_put_aside_earlier_stays_beside_what_is_put_aside_now() {
        let disk = SimulatedDisk::new(1);
        for bytes in [b"one", b"two", b"two"] {
            disk.put("a.seg", bytes);
            assert!(put_aside(&disk, "a.seg").expect("a healthy disk"));
        }

        let mut kept = disk.names();
        kept.sort();
        assert_eq!(kept, ["a.seg.0.1.damaged", "a.seg.0.damaged"]);
        assert_eq!(disk.bytes(&kept[1]).as_deref(), Some(&b"one"[..]));
    }
}
