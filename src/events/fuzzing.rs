//! What fuzz targets ask of the readers of bytes; `fuzz/` calls it with anything, the tests here with the corpus.

use crate::value::{Limits, codec};

use super::{
    blocks,
    event::Event,
    frame::{Header, Kind},
    index::{self, Directory, Field, Keys, PAGE_ROWS},
    notes::{self, LowWater},
    record::{self, Record},
    recovery,
    wire::{Reader, len32},
};

/// The log to which the frames of the corpus belong.
const LOG: u64 = 77;

/// Any bytes as a segment: read to the end, every byte in a whole frame or reported, sequence numbers that only rise.
///
/// # Panics
///
/// Where that does not hold.
pub fn frames(bytes: &[u8]) {
    let Ok(scan) = recovery::scan(bytes, LOG, 1) else {
        return;
    };
    let mut parts: Vec<(usize, usize)> = scan
        .frames
        .iter()
        .map(|(at, header)| (*at as usize, header.frame_bytes()))
        .chain(
            scan.damage
                .iter()
                .map(|damage| (damage.offset as usize, damage.bytes as usize)),
        )
        .collect();
    parts.sort_unstable();
    let end = parts.iter().fold(0, |end, (at, len)| {
        assert_eq!(*at, end, "bytes are left out or read twice");
        at + len
    });
    assert_eq!(end, bytes.len(), "not all was looked at");
    let rising = |one: &(u32, Header), next: &(u32, Header)| one.1.sequence < next.1.sequence;
    assert!(scan.frames.is_sorted_by(rising));
    for (at, header) in &scan.frames {
        let whole = &bytes[*at as usize..][..header.frame_bytes()];
        body(&whole[whole.len() - header.body as usize..], header.front);
    }
}

/// Any bytes as the body of a frame, as if its checksum were right: a length, and then that many bytes of front.
///
/// # Panics
///
/// Where an event is read that cannot be written and read the same again.
pub fn bodies(bytes: &[u8]) {
    let Some((front, bytes)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    let front = usize::from(u16::from_le_bytes(*front)).min(bytes.len());
    body(bytes, len32(front));
    let mut header = Header::of(Kind::Events, LOG, 0, len32(front), bytes);
    header.sequence = 1;
    let frame = [&header.encode()[..], bytes].concat();
    frames(&[&frame[..], bytes].concat());
}

fn body(body: &[u8], front: u32) {
    let (front, records) = body.split_at(front as usize);
    let mut reader = Reader::new(front);
    if let Some(low) = LowWater::read(&mut reader) {
        let mut written = Vec::new();
        low.write(&mut written);
        assert!(front.starts_with(&written), "low water reads otherwise");
    }
    // Both are read from what the other left, and from the front alone.
    for mut reader in [reader, Reader::new(front)] {
        let checkpoints = notes::read_checkpoints(&mut reader).unwrap_or_default();
        let mut written = Vec::new();
        notes::write_checkpoints(
            &mut written,
            checkpoints.iter().map(|(key, value)| (key, value)),
        );
    }
    let mut end = 0;
    for (at, record) in record::all(records) {
        assert_eq!(at, end);
        end += record.bytes.len();
        assert!(end <= records.len());
        if let Some(event) = Event::decode(&record) {
            let mut written = Vec::new();
            // More data than an event may have is read and not written.
            if event.encode(&mut written).is_err() {
                continue;
            }
            let again = Record::read_checked(&written).and_then(|record| Event::decode(&record));
            assert_eq!(again.as_ref(), Some(&event), "an event changes");
        }
    }
}

/// Any bytes as a value: refused, or read so that it is written and read the same again.
///
/// # Panics
///
/// Where that does not hold.
pub fn values(bytes: &[u8]) {
    let Ok((value, read)) = codec::decode_value(bytes, Limits::DEFAULT) else {
        return;
    };
    assert!(read <= bytes.len());
    let mut written = Vec::new();
    codec::encode_value(&value, &mut written).expect("what was read is within the limits");
    let again = codec::decode_value(&written, Limits::DEFAULT);
    assert_eq!(again, Ok((value, written.len())));
}

/// Any bytes as a directory, a page and a block, as if their checksums were right: refused or read, never beyond what is there.
///
/// # Panics
///
/// Where that does not hold.
pub fn indexes(bytes: &[u8]) {
    let header = |kind| Header::of(kind, LOG, 0, 0, bytes);
    for version in [2, 3] {
        let mut header = header(Kind::Directory);
        header.version = version;
        if let Some(directory) = Directory::decode(&header, bytes) {
            look_into(&directory);
        }
    }
    if let Some(keys) = Keys::read(bytes) {
        for at in 0..=PAGE_ROWS {
            if let Some((id, _)) = keys.get(at) {
                keys.find(id);
            }
            keys.offset(at);
        }
        assert!(keys.below(u32::MAX) <= PAGE_ROWS);
    }
    index::rows_of_id(bytes, 7);
    for (key, count) in index::terms(bytes).unwrap_or_default() {
        if let Some(Some(found)) = index::find_term(bytes, key) {
            // A forged page may name a key twice, with another list.
            let _ = found.count() == count;
        }
    }
    if let Some(rows) = index::list_page(bytes) {
        for at in 0..rows.len() {
            rows.get(at);
        }
    }
    let mut out = Vec::new();
    if let Some((_, len)) = blocks::expand(&header(Kind::Block), bytes, &mut out) {
        // Each byte of an LZ4 block stands for 255 at the most.
        assert!(len <= 255 * bytes.len());
    }
}

fn look_into(directory: &Directory) {
    for number in [0, 1, 7, u32::MAX] {
        if let Some((from, to)) = directory.page(number) {
            assert!(from <= to);
        }
        directory.block_at(number);
    }
    for id in [0, 1, u64::MAX] {
        let _ = directory.pages_of_id(id);
    }
    for field in [
        Field::Kind,
        Field::Source,
        Field::Correlation,
        Field::Parent,
    ] {
        for key in [&b""[..], b"order", &[255; 9]] {
            directory.page_of_term(field, key);
            assert!(directory.pages_from(field, key).count() <= directory.memory());
        }
    }
    directory.disk_bytes();
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// Every file of a target's corpus.
    fn corpus(target: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz/corpus")
            .join(target);
        let files = fs::read_dir(folder).expect("the corpus is here").flatten();
        let all: Vec<_> = files
            .map(|file| fs::read(file.path()).expect("readable"))
            .collect();
        assert!(
            all.len() >= 5,
            "the corpus of {target} is too small to tell anything"
        );
        all
    }

    #[test]
    fn the_corpus_of_frames_is_read_to_the_end_or_reported() {
        let corpus = corpus("frame");
        let whole = |bytes: &&Vec<u8>| {
            recovery::scan(bytes, LOG, 1).is_ok_and(|scan| scan.frames.len() > 1)
        };
        assert!(
            corpus.iter().any(|bytes| whole(&bytes)),
            "nothing whole in it"
        );
        for bytes in corpus {
            frames(&bytes);
            bodies(&bytes);
        }
    }

    #[test]
    fn the_corpus_of_values_is_refused_or_read_as_it_is_written() {
        let corpus = corpus("value");
        let read = |bytes: &&Vec<u8>| codec::decode_value(bytes, Limits::DEFAULT).is_ok();
        let good = corpus.iter().filter(read).count();
        assert!(
            good > 0 && good < corpus.len(),
            "of {} files {good} are values",
            corpus.len()
        );
        for bytes in corpus {
            values(&bytes);
        }
    }

    #[test]
    fn the_corpus_of_indexes_is_refused_or_read() {
        let corpus = corpus("index");
        for version in [2, 3] {
            let directory = |bytes: &Vec<u8>| {
                let mut header = Header::of(Kind::Directory, LOG, 0, 0, bytes);
                header.version = version;
                Directory::decode(&header, bytes).is_some()
            };
            assert!(corpus.iter().any(directory), "version {version}");
        }
        assert!(corpus.iter().any(|bytes| Keys::read(bytes).is_some()));
        for bytes in corpus {
            indexes(&bytes);
            for at in 0..bytes.len() {
                indexes(&bytes[..at]);
                let mut changed = bytes.clone();
                changed[at] ^= 1 << (at % 8);
                indexes(&changed);
            }
        }
    }
}
