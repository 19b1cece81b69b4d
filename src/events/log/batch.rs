//! What the writer is given: the frames of a batch, by the segment that they go to.

use std::sync::Arc;

use super::super::{commit::Commit, frame::Header, segment::Segment};

/// What the writer makes durable at once.
#[derive(Debug, Default)]
pub(in crate::events) struct Batch {
    pub(in crate::events) parts: Vec<Part>,
    pub(in crate::events) commit: Arc<Commit>,
    pub(in crate::events) checkpoints: Vec<(Arc<str>, Arc<[u8]>)>,
    /// Segments whose files go once this batch is durable.
    pub(in crate::events) dropped: Vec<Arc<Segment>>,
    /// Bytes that callers were admitted for.
    pub(in crate::events) admitted: u32,
}

/// The frames of a batch that go to one segment.
#[derive(Debug)]
pub(in crate::events) struct Part {
    pub(in crate::events) segment: Arc<Segment>,
    /// The file does not exist yet.
    pub(in crate::events) create: bool,
    /// The segment gets no more frames after these.
    pub(in crate::events) seal: bool,
    pub(in crate::events) offset: u32,
    pub(in crate::events) bytes: Vec<u8>,
    /// Where each frame starts in `bytes`, and its header.
    pub(in crate::events) frames: Vec<(usize, Header)>,
    /// Rows of the segment after these frames.
    pub(in crate::events) rows: u32,
}

/// What the writer finds to do.
#[derive(Debug)]
pub(in crate::events) enum Work {
    Batch(Batch),
    /// Nothing came in time.
    Idle,
    /// The log is closed and everything is taken.
    Closed,
}
