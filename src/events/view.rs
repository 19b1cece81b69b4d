//! What queries, retention and subscriptions see of a segment, wherever it is kept: growing in memory, sealed in files.

use std::{cell::Cell, fmt, io, ops::Range, sync::Arc};

use crate::ids::CorrelationId;

use super::{bloom::Membership, columns::Zone, disk::DiskFile};

/// What rows are listed by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Term<'a> {
    /// Exactly this kind.
    Kind(&'a str),
    /// Exactly this source.
    Source(&'a str),
    /// A correlation, by its hash: rows of another one may be among them, their records tell.
    Correlation(&'a CorrelationId),
    /// A parent's id, by its hash: rows of another one may be among them, their records tell.
    Parent(u64),
}

/// How far a reader may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access<'a> {
    /// No file is read: what would need one is answered with [`io::ErrorKind::WouldBlock`].
    Memory,
    /// What the system has of a file in memory is read, so many parts of files at most; the rest is answered as above.
    AtHand(&'a Cell<u32>),
    /// The reader may block.
    Disk,
}

impl Access<'_> {
    /// Reads from a file, as far as that is allowed.
    pub(super) fn read_at(
        self,
        file: &dyn DiskFile,
        buffer: &mut [u8],
        offset: u64,
    ) -> io::Result<usize> {
        let would_block = || Err(io::ErrorKind::WouldBlock.into());
        match self {
            Self::Memory => would_block(),
            Self::AtHand(left) => {
                let Some(rest) = left.get().checked_sub(1) else {
                    return would_block();
                };
                left.set(rest);
                match file.read_cached_at(buffer, offset)? {
                    read if read == buffer.len() => Ok(read),
                    _ => would_block(),
                }
            }
            Self::Disk => file.fill_from(buffer, offset),
        }
    }

    /// Whether the reader works beside the runtime, and may take its time.
    pub(super) fn is_patient(self) -> bool {
        matches!(self, Self::Disk)
    }
}

/// What a row is sorted and hidden by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) id: u64,
    pub(super) time: i64,
    /// It was pruned.
    pub(super) hidden: bool,
}

/// A segment as its readers see it: rows, numbered in the order in which they were stored. Rows are only ever added, and never change.
///
/// Every call that may meet a file answers with its errors: [`io::ErrorKind::InvalidData`] where a checksum does not fit.
pub(super) trait View: fmt::Debug + Send + Sync {
    /// Sequence number of the first frame. Segments are in this order, and a row keeps its number for ever: `(base, row)` is a place
    /// in the log.
    fn base(&self) -> u64;

    /// Rows that readers may see at this moment.
    fn rows(&self) -> u32;

    /// Smallest and largest keys of all rows, also of those not shown yet; `None` where there are none.
    fn span(&self) -> Option<Zone>;

    /// Smallest and largest keys of each [`ZONE_ROWS`](super::columns::ZONE_ROWS) rows, added to `out`. Always in memory.
    fn zones(&self, zones: Range<u32>, out: &mut Vec<Zone>);

    /// The kinds that begin with `prefix` and how many rows have them, added to `out`.
    fn kinds(
        &self,
        prefix: &str,
        access: Access<'_>,
        out: &mut Vec<(Arc<str>, u32)>,
    ) -> io::Result<()>;

    /// Tells of correlations and parents that they are certainly not here; `None` where only the index can.
    fn links(&self) -> Option<&Membership>;

    /// How many rows have the term, at the most. Where they are few and had to be listed to be counted they are added to `few`, as they
    /// rise: all of them, or none.
    fn count(&self, term: Term<'_>, access: Access<'_>, few: &mut Vec<u32>) -> io::Result<u32>;

    /// The rows in a range that have the term, added to `out` as they rise.
    fn rows_with(
        &self,
        term: Term<'_>,
        within: Range<u32>,
        access: Access<'_>,
        out: &mut Vec<u32>,
    ) -> io::Result<()>;

    /// The keys of rows, added to `out` in the same order.
    fn keys(&self, rows: &[u32], access: Access<'_>, out: &mut Vec<Key>) -> io::Result<()>;

    /// The row of an event that is not pruned.
    fn find(&self, id: u64, access: Access<'_>) -> io::Result<Option<u32>>;

    /// Hands the records of some rows to `work`, one after the other, until it says that it has enough. From a file, a record's checksum has
    /// been verified; what cannot be read is handed on as its error, except for what would block, which ends it.
    ///
    /// `work` may be called while a lock is held: it copies what it needs, and does no more.
    fn read_while(
        &self,
        rows: &[u32],
        access: Access<'_>,
        work: &mut dyn FnMut(io::Result<&[u8]>) -> bool,
    ) -> io::Result<()>;

    /// Hands a row's record to `work`, as [`View::read_while`].
    fn read(&self, row: u32, access: Access<'_>, work: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let mut read = Ok(());
        self.read_while(&[row], access, &mut |record| {
            read = record.map(&mut *work);
            false
        })?;
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of which the system has the first bytes in memory.
    #[derive(Debug)]
    struct PartlyAtHand {
        bytes: Vec<u8>,
        at_hand: usize,
    }

    impl DiskFile for PartlyAtHand {
        fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            let from = usize::try_from(offset).map_err(io::Error::other)?;
            let found = self.bytes.get(from..).unwrap_or_default();
            let len = found.len().min(buffer.len());
            buffer[..len].copy_from_slice(&found[..len]);
            Ok(len)
        }

        fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            let left = (self.at_hand as u64).saturating_sub(offset);
            let len = buffer.len().min(usize::try_from(left).unwrap_or(0));
            self.read_at(&mut buffer[..len], offset)
        }

        fn sync(&self) -> io::Result<()> {
            Ok(())
        }

        fn truncate(&self, _: u64) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_at_hand_is_read_so_many_times_and_nothing_is_waited_for() {
        let file = PartlyAtHand {
            bytes: (0..100).collect(),
            at_hand: 50,
        };
        let left = Cell::new(3);
        let read = |access: Access<'_>, offset| {
            let mut buffer = [0; 10];
            let read = access.read_at(&file, &mut buffer, offset);
            read.map(|len| buffer[..len].to_vec())
                .map_err(|error| error.kind())
        };
        let would_block = Err(io::ErrorKind::WouldBlock);

        assert_eq!(read(Access::AtHand(&left), 40), Ok((40..50).collect()));
        // Half of it would have to be fetched.
        assert_eq!(read(Access::AtHand(&left), 45), would_block);
        assert_eq!(read(Access::AtHand(&left), 0), Ok((0..10).collect()));
        assert_eq!(
            (left.get(), read(Access::AtHand(&left), 0)),
            (0, would_block)
        );
        assert_eq!(read(Access::Memory, 0), Err(io::ErrorKind::WouldBlock));
        assert_eq!(read(Access::Disk, 95), Ok((95..100).collect()));
    }
}
