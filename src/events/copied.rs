//! Records that are looked at: copied, so that no lock is held while they are decoded.

use std::{io, ops::Range};

use super::view::{Access, View};

/// Records of some rows of a segment.
#[derive(Debug, Default)]
pub(super) struct Copied {
    bytes: Vec<u8>,
    /// Where each is.
    records: Vec<io::Result<Range<usize>>>,
}

impl Copied {
    /// Records that are copied at a time: for so many a segment is asked, and locked, once.
    pub(super) const RECORDS_MAX: usize = 32;
    /// Bytes of most records and more: for them room is made at once.
    const USUAL_BYTES: usize = 512;
    /// Bytes of records after which no more are copied at a time: what a reader holds beside its answer.
    const BYTES_MAX: usize = 256 << 10;

    /// Copies the records of these rows in place of those before: of all, or of as many as are copied at a time, at least of one. A record
    /// that cannot be read has its error in its place.
    ///
    /// # Errors
    ///
    /// Where it would block.
    pub(super) fn fill(
        &mut self,
        view: &dyn View,
        rows: &[u32],
        access: Access<'_>,
    ) -> io::Result<()> {
        self.clear();
        let Self { bytes, records } = self;
        records.reserve(rows.len().min(Self::RECORDS_MAX));
        bytes.reserve(rows.len().min(Self::RECORDS_MAX) * Self::USUAL_BYTES);
        let read = view.read_while(rows, access, &mut |record| {
            records.push(record.map(|record| {
                let start = bytes.len();
                bytes.extend_from_slice(record);
                start..bytes.len()
            }));
            bytes.len() < Self::BYTES_MAX
        });
        match read {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
            Err(error) => records.push(Err(error)),
            Ok(()) if records.is_empty() && !rows.is_empty() => {
                records.push(Err(io::ErrorKind::NotFound.into()));
            }
            Ok(()) => {}
        }
        // Never more than was asked for, whatever a segment answers.
        records.truncate(rows.len());
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
    }

    /// How many there are, those that cannot be read included.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// Bytes of all.
    pub(super) fn all_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The record at a place; `None` if it cannot be read.
    pub(super) fn bytes(&self, place: usize) -> Option<&[u8]> {
        let range = self.records.get(place)?.as_ref().ok()?;
        self.bytes.get(range.clone())
    }

    /// The record at a place, or its error, which is taken out.
    pub(super) fn take(&mut self, place: usize) -> io::Result<&[u8]> {
        let gone = || Err(io::ErrorKind::NotFound.into());
        let record = self.records.get_mut(place);
        let range = record.map_or_else(gone, |record| std::mem::replace(record, gone()))?;
        self.bytes
            .get(range)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}
