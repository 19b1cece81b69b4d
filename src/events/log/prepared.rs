//! What a caller hands in, and what becomes of it.

use std::sync::Arc;

use super::super::{
    commit::{Commit, Failure},
    record,
    segment::Segment,
};

/// Events encoded by their caller, ready to be appended in one frame.
#[derive(Debug, Clone, Default)]
pub(in crate::events) struct Prepared {
    /// Front and records.
    pub(in crate::events) body: Vec<u8>,
    pub(in crate::events) front: usize,
    pub(in crate::events) events: u32,
    pub(in crate::events) lowest: u64,
    pub(in crate::events) highest: u64,
    pub(in crate::events) checkpoint: Option<(Arc<str>, Arc<[u8]>)>,
    /// Bytes to give back when the batch is done.
    pub(in crate::events) admitted: u32,
    /// What was looked up on the disk: id, segment, and its row there.
    pub(in crate::events) looked_up: Vec<(u64, u64, Option<u32>)>,
}

/// What became of an append.
#[derive(Debug)]
pub(in crate::events) enum Appended {
    /// Done; nothing to wait for.
    Stored,
    /// Stored once the batch is.
    Waiting(Arc<Commit>),
    /// Nothing was appended: some ids are there already.
    Known(Vec<Known>, Arc<Commit>),
    /// Nothing was appended: whether these ids are there only the disk can tell.
    Unsure(Vec<(u64, Arc<Segment>)>),
    /// Nothing was appended: the store has as many checkpoints as it keeps.
    TooManyCheckpoints,
    /// Nothing was appended: the log takes nothing any more.
    Refused(Failure),
}

/// An id that is in the log already.
#[derive(Debug, Clone)]
pub(in crate::events) struct Known {
    pub(in crate::events) id: u64,
    /// Where its record starts in the body.
    pub(in crate::events) at: usize,
    pub(in crate::events) segment: Arc<Segment>,
    pub(in crate::events) row: u32,
}

impl Prepared {
    /// What is left without the records that start at `known`.
    pub(in crate::events) fn without(&self, known: &[usize]) -> Self {
        let mut left = Self {
            body: self.body[..self.front].to_vec(),
            front: self.front,
            lowest: u64::MAX,
            checkpoint: self.checkpoint.clone(),
            admitted: self.admitted,
            looked_up: self.looked_up.clone(),
            ..Self::default()
        };
        for (at, record) in record::all(&self.body[self.front..]) {
            if !known.contains(&(self.front + at)) {
                left.count(record.id);
                left.body.extend_from_slice(record.bytes);
            }
        }
        left
    }

    /// What the disk said of an id in a segment, if it was asked.
    #[expect(clippy::option_option, reason = "not asked, not there, there")]
    pub(super) fn looked_up(&self, id: u64, base: u64) -> Option<Option<u32>> {
        let asked = |(of, segment, _): &&(u64, u64, Option<u32>)| (*of, *segment) == (id, base);
        self.looked_up.iter().find(asked).map(|(.., row)| *row)
    }

    /// Counts one more event.
    pub(in crate::events) fn count(&mut self, id: u64) {
        self.events += 1;
        self.lowest = self.lowest.min(id);
        self.highest = self.highest.max(id);
    }
}
