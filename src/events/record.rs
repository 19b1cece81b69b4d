//! One event as bytes, laid out so that what is searched for is read without decoding the data. Pure.
//!
//! All numbers are little-endian.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | length of the record, these four bytes included |
//! | 4 | 4 | CRC-32C of the record from byte 8 on |
//! | 8 | 8 | id |
//! | 16 | 8 | time, signed nanoseconds since 1970-01-01T00:00:00Z |
//! | 24 | 1 | flags: 1 has a correlation, 2 has a parent |
//! | 25 | 1 | zero |
//! | 26 | 2 | length of the kind |
//! | 28 | 2 | length of the source; 0 where there is none |
//! | 30 | 2 | length of the correlation |
//! | 32 | 8 | parent; only with flag 2 |
//! | | | kind, source and correlation in UTF-8, then the data as `value::codec` writes it, to the end |

use super::wire::{Reader, len16, len32};

/// Bytes of a record before its parent or its texts.
const FIXED_BYTES: usize = 32;
const UNCHECKED_BYTES: usize = 8;
const HAS_CORRELATION: u8 = 1;
const HAS_PARENT: u8 = 2;

/// An event's fields as they stand in the bytes of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) id: u64,
    pub(super) time: i64,
    pub(super) parent: Option<u64>,
    pub(super) kind: &'a [u8],
    pub(super) source: &'a [u8],
    pub(super) correlation: Option<&'a [u8]>,
    pub(super) data: &'a [u8],
    /// All of it.
    pub(super) bytes: &'a [u8],
}

/// What a record holds before its data.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head<'a> {
    pub(super) id: u64,
    pub(super) time: i64,
    pub(super) parent: Option<u64>,
    pub(super) kind: &'a str,
    pub(super) source: &'a str,
    pub(super) correlation: Option<&'a str>,
}

/// Writes one record at the end of `out`; `data` writes the last part. On its error `out` is as before.
pub(super) fn write<E>(
    out: &mut Vec<u8>,
    head: &Head<'_>,
    data: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let start = out.len();
    write_head(out, head);
    if let Err(refused) = data(out) {
        out.truncate(start);
        return Err(refused);
    }
    let len = len32(out.len() - start);
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    let sum = crc32c::crc32c(&out[start + UNCHECKED_BYTES..]);
    out[start + 4..start + 8].copy_from_slice(&sum.to_le_bytes());
    Ok(())
}

fn write_head(out: &mut Vec<u8>, head: &Head<'_>) {
    let correlation = head.correlation.unwrap_or_default();
    let mut flags = 0;
    if head.correlation.is_some() {
        flags |= HAS_CORRELATION;
    }
    if head.parent.is_some() {
        flags |= HAS_PARENT;
    }
    let mut fixed = [0; FIXED_BYTES];
    fixed[8..16].copy_from_slice(&head.id.to_le_bytes());
    fixed[16..24].copy_from_slice(&head.time.to_le_bytes());
    fixed[24] = flags;
    fixed[26..28].copy_from_slice(&len16(head.kind.len()).to_le_bytes());
    fixed[28..30].copy_from_slice(&len16(head.source.len()).to_le_bytes());
    fixed[30..32].copy_from_slice(&len16(correlation.len()).to_le_bytes());
    out.extend_from_slice(&fixed);
    if let Some(parent) = head.parent {
        out.extend_from_slice(&parent.to_le_bytes());
    }
    out.extend_from_slice(head.kind.as_bytes());
    out.extend_from_slice(head.source.as_bytes());
    out.extend_from_slice(correlation.as_bytes());
}

impl<'a> Record<'a> {
    /// The record at the front of `bytes`, without looking at its checksum.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let len = Reader::new(bytes).u32()? as usize;
        let bytes = bytes.get(..len)?;
        let mut reader = Reader::new(bytes.get(UNCHECKED_BYTES..)?);
        let id = reader.u64()?;
        let time = reader.i64()?;
        let flags = reader.u8()?;
        reader.u8()?;
        let kind = usize::from(reader.u16()?);
        let source = usize::from(reader.u16()?);
        let correlation = usize::from(reader.u16()?);
        let parent = match flags & HAS_PARENT {
            0 => None,
            _ => Some(reader.u64()?),
        };
        let kind = reader.take(kind)?;
        let source = reader.take(source)?;
        let correlation = reader.take(correlation)?;
        Some(Self {
            id,
            time,
            parent,
            kind,
            source,
            correlation: (flags & HAS_CORRELATION != 0).then_some(correlation),
            data: reader.rest(),
            bytes,
        })
    }

    /// The record at the front of `bytes` if its checksum fits.
    pub(super) fn read_checked(bytes: &'a [u8]) -> Option<Self> {
        let record = Self::read(bytes)?;
        let sum = Reader::new(record.bytes.get(4..)?).u32()?;
        (sum == crc32c::crc32c(record.bytes.get(UNCHECKED_BYTES..)?)).then_some(record)
    }
}

/// Each record in `bytes` with its offset; ends early, with [`Records::rest`] left over, where one does not fit.
#[derive(Debug, Clone)]
pub(super) struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
}

pub(super) fn all(bytes: &[u8]) -> Records<'_> {
    Records { bytes, at: 0 }
}

impl<'a> Iterator for Records<'a> {
    type Item = (usize, Record<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let record = Record::read(self.bytes.get(self.at..)?)?;
        let at = self.at;
        self.at += record.bytes.len();
        Some((at, record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head<'static> {
        Head {
            id: 7,
            time: -3,
            parent: Some(5),
            kind: "order.paid",
            source: "till/1",
            correlation: Some("req-abc"),
        }
    }

    fn record(head: &Head<'_>, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, head, |out| {
            out.extend_from_slice(data);
            Ok::<_, ()>(())
        })
        .expect("data is written");
        out
    }

    #[test]
    fn fields_are_read_back_without_the_data_being_decoded() {
        let bytes = record(&head(), b"data");

        let read = Record::read_checked(&bytes).expect("record is whole");

        assert_eq!((read.id, read.time, read.parent), (7, -3, Some(5)));
        assert_eq!(
            (read.kind, read.source),
            (&b"order.paid"[..], &b"till/1"[..])
        );
        assert_eq!(read.correlation, Some(&b"req-abc"[..]));
        assert_eq!(read.data, b"data");
    }

    #[test]
    fn an_empty_correlation_is_not_a_missing_one() {
        let empty = Head {
            correlation: Some(""),
            ..head()
        };
        let none = Head {
            correlation: None,
            ..head()
        };

        let (empty, none) = (record(&empty, b""), record(&none, b""));

        let read = |bytes| {
            Record::read_checked(bytes)
                .expect("record is whole")
                .correlation
                .map(<[u8]>::len)
        };
        assert_eq!((read(&empty), read(&none)), (Some(0), None));
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_seen() {
        let whole = record(&head(), b"data");
        for cut in 0..whole.len() {
            assert_eq!(Record::read_checked(&whole[..cut]), None, "cut at {cut}");
        }
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Record::read_checked(&damaged), None, "bit {bit}");
        }
    }

    #[test]
    fn refused_data_leaves_no_trace() {
        let mut out = record(&head(), b"first");
        let before = out.clone();

        let refused = write(&mut out, &head(), |out| {
            out.push(1);
            Err("too large")
        });

        assert_eq!(refused, Err("too large"));
        assert_eq!(out, before);
    }

    #[test]
    fn records_stand_one_after_the_other() {
        let bytes = [record(&head(), b"1"), record(&head(), b"22")].concat();

        let data: Vec<_> = all(&bytes).map(|(_, record)| record.data).collect();

        assert_eq!(data, [&b"1"[..], &b"22"[..]]);
    }
}
