//! What callers and writer share under one lock: where the log stands, and the batch that grows.

use std::sync::Arc;

use super::{
    super::{
        commit::{Commit, Failure},
        notes::{Checkpoints, LowWater},
        segment::Segment,
    },
    batch::{Batch, Part},
};

/// What callers and writer share under one lock.
#[derive(Debug)]
pub(super) struct Intake {
    pub(super) state: State,
    pub(super) next_sequence: u64,
    /// No stored event has a higher id.
    pub(super) highest: u64,
    pub(super) active: Option<Arc<Segment>>,
    /// Bytes of the active segment.
    pub(super) end: u32,
    /// Its rows, also those that are still to be indexed.
    pub(super) rows: u32,
    pub(super) batch: Batch,
    /// What the batch before this one waits for; settled when nothing is being written.
    pub(super) latest: Arc<Commit>,
    pub(super) writer_asleep: bool,
    pub(super) low: LowWater,
    /// As they will be once the batch is stored.
    pub(super) checkpoints: Checkpoints,
    pub(super) newest_is_mark: bool,
}

#[derive(Debug, Clone)]
pub(super) enum State {
    Open,
    Failed(Failure),
    Closed,
}

/// A fully pruned active segment below this size is not worth a new file.
const WORTH_DROPPING_BYTES: u32 = 64 << 10;

impl Intake {
    /// Whether dropping the active segment gives enough space back.
    pub(super) fn active_is_pruned(&self) -> bool {
        let pruned = self
            .active
            .as_ref()
            .is_some_and(|active| active.is_pruned());
        pruned && self.end >= WORTH_DROPPING_BYTES
    }

    pub(super) fn refusal(&self) -> Option<Failure> {
        match &self.state {
            State::Open => None,
            State::Failed(failure) => Some(failure.clone()),
            State::Closed => Some(Failure::new("it was stopped")),
        }
    }

    /// What the newest frame waits for.
    pub(super) fn newest_commit(&self) -> Arc<Commit> {
        if self.batch.parts.is_empty() {
            self.latest.clone()
        } else {
            self.batch.commit.clone()
        }
    }

    /// The part of the batch for `segment`, which is the active one or the one that is being sealed.
    pub(super) fn part(&mut self, segment: Arc<Segment>) -> &mut Part {
        let last = self.batch.parts.last();
        if last.is_none_or(|part| part.segment.base != segment.base) {
            self.batch.parts.push(Part {
                rows: self.rows,
                segment,
                create: false,
                seal: false,
                offset: self.end,
                bytes: Vec::new(),
                frames: Vec::new(),
            });
        }
        let last = self.batch.parts.len() - 1;
        &mut self.batch.parts[last]
    }
}
