//! What queries, retention and subscriptions see of a segment, wherever it is kept: growing in memory, sealed in files.

use std::{fmt, io, ops::Range, sync::Arc};

use crate::ids::CorrelationId;

use super::columns::Zone;

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
pub(super) enum Access {
    /// What needs the disk is answered with [`io::ErrorKind::WouldBlock`].
    Memory,
    /// The reader may block.
    Disk,
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
    fn kinds(&self, prefix: &str, access: Access, out: &mut Vec<(Arc<str>, u32)>)
    -> io::Result<()>;

    /// How many rows have the term, at the most.
    fn count(&self, term: Term<'_>, access: Access) -> io::Result<u32>;

    /// The rows in a range that have the term, added to `out` as they rise.
    fn rows_with(
        &self,
        term: Term<'_>,
        within: Range<u32>,
        access: Access,
        out: &mut Vec<u32>,
    ) -> io::Result<()>;

    /// The keys of rows, added to `out` in the same order.
    fn keys(&self, rows: &[u32], access: Access, out: &mut Vec<Key>) -> io::Result<()>;

    /// The row of an event that is not pruned.
    fn find(&self, id: u64, access: Access) -> io::Result<Option<u32>>;

    /// Hands a row's record to `work`. From a file, its checksum has been verified.
    fn read(&self, row: u32, access: Access, work: &mut dyn FnMut(&[u8])) -> io::Result<()>;
}
