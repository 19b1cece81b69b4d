//! The limit in memory: what has to be done for an event, in one loop and without anything around it.
//!
//! The event is encoded with a checksum and found again by id, correlation, kind, source and time. No admission, no
//! duplicates refused, no pruning, no readers beside it.

use std::{io::Write, sync::Arc};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use underpin::{events::Event, ids::CorrelationId, value::codec};

use super::material::Decoded;

/// An encoded, indexed store that only grows.
#[derive(Debug, Default)]
pub(super) struct Inline {
    chunks: Vec<Vec<u8>>,
    places: Vec<(u32, u32)>,
    times: Vec<i64>,
    ids: HashMap<u64, u32, FixedState>,
    correlations: HashMap<u64, u32, FixedState>,
    correlation_before: Vec<u32>,
    kinds: Chains,
    sources: Chains,
}

/// Rows with the same text, each leading to the one before it.
#[derive(Debug, Default)]
struct Chains {
    newest: HashMap<Arc<str>, u32, FixedState>,
    before: Vec<u32>,
}

const CHUNK_BYTES: usize = 256 * 1024;
/// Longest record that is written here, so that a chunk never grows.
const RECORD_BYTES: usize = 1024;
const NONE: u32 = u32::MAX;

impl Inline {
    pub(super) fn push(&mut self, event: &Event) {
        let row = len32(self.places.len());
        self.append(event);
        self.times.push(event.time().as_nanos());
        self.ids.insert(event.id().get(), row);
        let before = self.correlations.insert(correlation(event), row);
        self.correlation_before.push(before.unwrap_or(NONE));
        self.kinds.push(event.kind(), row);
        self.sources.push(event.source(), row);
    }

    /// Indexes an event from its record, as a log has it.
    pub(super) fn take(&mut self, record: &[u8]) {
        let row = len32(self.places.len());
        let eight = |at: usize| record[at..at + 8].try_into().expect("eight bytes");
        let len = |at: usize| usize::from(u16::from_le_bytes([record[at], record[at + 1]]));
        let mut texts = &record[if record[24] & 2 == 0 { 32 } else { 40 }..];
        let mut text = |len: usize| {
            let (text, rest) = texts.split_at(len);
            texts = rest;
            std::str::from_utf8(text).expect("texts are UTF-8")
        };
        let (kind, source, correlation) = (text(len(26)), text(len(28)), text(len(30)));
        self.places.push((0, row));
        self.times.push(i64::from_le_bytes(eight(16)));
        self.ids.insert(u64::from_le_bytes(eight(8)), row);
        let hash = CorrelationId::new(correlation).map_or(0, |id| id.hash64());
        let before = self.correlations.insert(hash, row);
        self.correlation_before.push(before.unwrap_or(NONE));
        self.kinds.push(kind, row);
        self.sources.push(source, row);
    }

    /// The events of a correlation, decoded, the oldest first.
    pub(super) fn correlation(&self, hash: u64) -> Vec<Decoded> {
        let mut found = Vec::new();
        let mut row = self.correlations.get(&hash).copied().unwrap_or(NONE);
        while row != NONE {
            let (chunk, start) = self.places[row as usize];
            found.push(Decoded::of(&self.chunks[chunk as usize][start as usize..]));
            row = self.correlation_before[row as usize];
        }
        found.reverse();
        found
    }

    #[cfg(test)]
    fn get(&self, id: u64) -> Option<&[u8]> {
        let (chunk, start) = self.places[*self.ids.get(&id)? as usize];
        let bytes = self.chunks[chunk as usize].get(start as usize..)?;
        let len = u32::from_le_bytes(bytes[..4].try_into().ok()?);
        bytes.get(..len as usize)
    }

    fn append(&mut self, event: &Event) {
        let room = |chunk: &Vec<u8>| chunk.len() + RECORD_BYTES <= CHUNK_BYTES;
        if !self.chunks.last().is_some_and(room) {
            self.chunks.push(Vec::with_capacity(CHUNK_BYTES));
        }
        let number = len32(self.chunks.len() - 1);
        let chunk = &mut self.chunks[number as usize];
        self.places.push((number, len32(chunk.len())));
        encode(event, chunk);
    }
}

impl Chains {
    fn push(&mut self, text: &str, row: u32) {
        let before = if let Some(newest) = self.newest.get_mut(text) {
            std::mem::replace(newest, row)
        } else {
            self.newest.insert(text.into(), row);
            NONE
        };
        self.before.push(before);
    }
}

/// What the correlation is indexed by.
pub(super) fn correlation(event: &Event) -> u64 {
    event.correlation().map_or(0, CorrelationId::hash64)
}

/// A record as underpin's log has it: length, checksum, id, time, lengths, texts, data.
pub(super) fn encode(event: &Event, out: &mut Vec<u8>) {
    const FIXED_BYTES: usize = 32;
    const UNCHECKED_BYTES: usize = 8;
    let start = out.len();
    let mut fixed = [0; FIXED_BYTES];
    fixed[8..16].copy_from_slice(&event.id().get().to_le_bytes());
    fixed[16..24].copy_from_slice(&event.time().as_nanos().to_le_bytes());
    fixed[26..28].copy_from_slice(&len16(event.kind().len()).to_le_bytes());
    fixed[28..30].copy_from_slice(&len16(event.source().len()).to_le_bytes());
    out.extend_from_slice(&fixed);
    out.extend_from_slice(event.kind().as_bytes());
    out.extend_from_slice(event.source().as_bytes());
    if let Some(correlation) = event.correlation() {
        let before = out.len();
        let _ = write!(out, "{correlation}");
        let len = len16(out.len() - before);
        out[start + 30..start + 32].copy_from_slice(&len.to_le_bytes());
    }
    codec::encode_value(event.data(), out).expect("the data is within its limits");
    let len = len32(out.len() - start);
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    let sum = crc32c::crc32c(&out[start + UNCHECKED_BYTES..]);
    out[start + 4..start + 8].copy_from_slice(&sum.to_le_bytes());
}

fn len32(len: usize) -> u32 {
    u32::try_from(len).expect("a round stores less than 4 GiB")
}

fn len16(len: usize) -> u16 {
    u16::try_from(len).expect("texts are short")
}

#[cfg(test)]
mod tests {
    use super::{super::material::Material, *};

    #[test]
    fn every_event_is_found_again_as_it_was_encoded() {
        let mut store = Inline::default();
        let events = Material::new().events(3000);
        for event in &events {
            store.push(event);
        }
        for event in &events {
            let mut bytes = Vec::new();
            encode(event, &mut bytes);
            assert_eq!(store.get(event.id().get()), Some(&bytes[..]));
            assert!(bytes.len() <= RECORD_BYTES);
        }
    }
}
