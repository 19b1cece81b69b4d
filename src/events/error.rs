use std::{io, time::Duration};

use crate::ids::EventId;

use super::{
    event::{DATA_BYTES_MAX, KIND_BYTES_MAX, SOURCE_BYTES_MAX},
    log::CHECKPOINTS_MAX,
    notes::PRUNES_MAX,
};

/// Why something is not an event.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventError {
    /// The kind is empty or too long.
    #[error("kind is {bytes} bytes; use 1 to {KIND_BYTES_MAX}")]
    Kind {
        /// Length of the refused kind.
        bytes: usize,
    },
    /// The source is too long.
    #[error("source is {bytes} bytes; use at most {SOURCE_BYTES_MAX}")]
    Source {
        /// Length of the refused source.
        bytes: usize,
    },
    /// The data is too large.
    #[error(
        "data is {bytes} bytes encoded; keep it to {DATA_BYTES_MAX} and store larger things elsewhere"
    )]
    DataTooLarge {
        /// Length of the refused data, encoded.
        bytes: usize,
    },
    /// The data is nested too deeply or has too many parts.
    #[error("data: {0}")]
    Data(String),
    /// The time is neither RFC 3339 nor nanoseconds, or beyond the years 1677 to 2262.
    #[error(
        "time `{0}` is not understood; write it as 2026-01-31T12:00:00Z or as nanoseconds since 1970"
    )]
    Time(String),
    /// The node of an event is part of its id, and another one was given.
    #[error("event {id} was made on node {of_id}, not on {given}; leave the node out")]
    Node {
        /// The event's id.
        id: EventId,
        /// The node that made the id.
        of_id: u16,
        /// The node that was given.
        given: u16,
    },
    /// It is written in a form that this version does not know.
    #[error(
        "the event says that it has version {version}; this is version {}",
        super::EventDraft::VERSION
    )]
    Version {
        /// What it says.
        version: u32,
    },
}

/// Why events were not stored, found or pruned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It is not an event that can be stored. Nothing was stored.
    #[error("{0}")]
    Event(#[from] EventError),
    /// Another event has this id. Nothing was stored.
    #[error("event {id} is already stored and differs; give the new one its own id")]
    Conflict {
        /// The id.
        id: EventId,
    },
    /// The batch is too large. Nothing was stored.
    #[error("batch is {bytes} bytes encoded; split it below {max}")]
    BatchTooLarge {
        /// Length of the refused batch.
        bytes: usize,
        /// The longest batch.
        max: usize,
    },
    /// The checkpoint's key or value is too long. Nothing was stored.
    #[error(
        "checkpoint of {bytes} bytes; a key has 1 to {key_max} bytes, a value at most {value_max}"
    )]
    Checkpoint {
        /// Length of what was refused.
        bytes: usize,
        /// The longest key.
        key_max: usize,
        /// The longest value, encoded.
        value_max: usize,
    },
    /// The store keeps no more checkpoints. Nothing was stored.
    #[error("the store has {CHECKPOINTS_MAX} checkpoints; remove one by setting it to null")]
    TooManyCheckpoints,
    /// The store has its hands full. Nothing was stored; retry later.
    #[error("event store has its hands full; retry later")]
    Full,
    /// The store is not there. Nothing was stored; retry once its supervisor has reopened it.
    #[error("event store is down: {reason}; retry once it is back")]
    Down {
        /// Why.
        reason: String,
    },
    /// Writing failed. The events may or may not be found later; storing the same events again is safe.
    #[error("event store could not write: {reason}; store the same events again once it is back")]
    Failed {
        /// Why.
        reason: String,
    },
    /// The disk did not answer in time. The events may yet be stored; storing the same events again is safe.
    #[error(
        "event store did not answer within {waited:?}; the events may be stored, and storing them again is safe"
    )]
    Unanswered {
        /// How long the caller waited.
        waited: Duration,
    },
    /// The stored bytes of an event no longer fit their checksum.
    #[error("event {id} is damaged on disk; restore it from a backup")]
    Damaged {
        /// The event.
        id: EventId,
    },
    /// An event could not be read.
    #[error("event {id} could not be read: {error}")]
    Read {
        /// The event.
        id: EventId,
        /// What the disk said.
        error: io::Error,
    },
    /// An index of the store could not be read. Where it is damaged it is made anew at once, and a retry a moment later is answered; one
    /// of a later version ([`io::ErrorKind::Unsupported`]) is left for a program that knows it.
    #[error("an index of the event store cannot be read: {error}{advice}", error = .0, advice = about_index(.0))]
    Index(io::Error),
    /// There is no such event to go on after.
    #[error(
        "there is no event {id} to go on after, it was pruned or never stored; start from now or from the beginning"
    )]
    Unknown {
        /// The event that was named.
        id: EventId,
    },
    /// A bookmark is of another log: the folder was emptied or replaced since, or the store keeps nothing and began anew.
    #[error(
        "the bookmark is of another log than the one that is here now; start from the beginning or from now"
    )]
    OtherLog,
    /// The query cannot be answered.
    #[error("{0}")]
    Query(#[from] QueryError),
    /// A read panicked; the store is as it was.
    #[error("reading events failed inside: {0}; please report it")]
    Panicked(String),
    /// Too many prunes of falling times are remembered at once.
    #[error("{PRUNES_MAX} prunes of ever earlier times are remembered; prune a later time first")]
    TooManyPrunes,
}

/// What to do about an index that cannot be read.
fn about_index(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::Unsupported => "",
        _ => "; one that is damaged is made anew, so retry, and check the disk",
    }
}

impl StoreError {
    /// Whether an event was refused for what it is, or for what could not be read: nobody has counted it, and it is not stored.
    pub(super) fn is_uncounted_refusal(&self) -> bool {
        !matches!(
            self,
            Self::Full | Self::Down { .. } | Self::Failed { .. } | Self::Unanswered { .. }
        )
    }

    /// Whether trying the same again is of no use.
    pub(crate) fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Event(_) | Self::Conflict { .. } | Self::BatchTooLarge { .. }
        )
    }
}

/// Why a query is refused.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueryError {
    /// More events are asked for than one answer holds.
    #[error("limit {limit} is above {max}; read pages with `after`")]
    Limit {
        /// What was asked for.
        limit: usize,
        /// The most.
        max: usize,
    },
    /// The range ends before it starts.
    #[error("`since` is later than `until`; swap them")]
    Range,
    /// The range of ids ends before it starts.
    #[error("the last id is below the first; swap them")]
    IdRange,
    /// No event has a kind that is empty or so long.
    #[error("no kind is {bytes} bytes; use 1 to {KIND_BYTES_MAX}, or leave it out for every kind")]
    Kind {
        /// Length of the refused kind or beginning of one.
        bytes: usize,
    },
    /// No event has a source that is so long.
    #[error("no source is {bytes} bytes; use at most {SOURCE_BYTES_MAX}")]
    Source {
        /// Length of the refused source.
        bytes: usize,
    },
    /// More comparisons of data than one query may have.
    #[error(
        "{given} comparisons of data; use at most {}",
        super::Query::COMPARISONS_MAX
    )]
    Comparisons {
        /// How many there were.
        given: usize,
    },
    /// The text of a query is not understood.
    #[error("{0}")]
    Text(#[from] super::Misread),
    /// A subscription and a timeline have an order, an end and a place of their own.
    #[error("only a filter is taken here, neither order, limit, skip nor cursor; leave them out")]
    NotAFilter,
    /// There are more changes of state than one timeline holds, in number or in bytes.
    #[error(
        "there are more than {max} changes of state, or 32 MiB of them; narrow them with since and until"
    )]
    TimelineTooLong {
        /// The most.
        max: usize,
    },
    /// A timeline is of changes of state.
    #[error("a timeline is made of state_change events; leave the kind out")]
    TimelineKind,
    /// A place in the log is none of ours.
    #[error("bookmark `{0}` is not understood; take it from a subscription")]
    Bookmark(String),
    /// The cursor is none of ours.
    #[error("cursor `{0}` is not understood; take it from a page")]
    Cursor(String),
    /// There is no such order.
    #[error("order `{0}` is not known; use time, -time, id or -id")]
    Order(String),
    /// The cursor comes from a query in another order.
    #[error("the cursor belongs to the other order; query in the order that gave it")]
    CursorOrder,
}

/// Why a folder cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another store has it.
    #[error(
        "the event folder is in use by another node; stop that node or use another data folder"
    )]
    InUse,
    /// The folder cannot be used.
    #[error("the event folder cannot be used: {0}; check that it exists and may be written")]
    Folder(io::Error),
    /// A segment file cannot be read or made whole.
    #[error(
        "event file {file} cannot be read or written: {error}; check the disk, its room and the file's rights"
    )]
    Read {
        /// The file.
        file: String,
        /// What the disk said.
        error: io::Error,
    },
    /// A segment was written by a version that this one does not know.
    #[error(
        "event file {file} has format {version}, codec {codec}; open it with the version of underpin that wrote it"
    )]
    Unknown {
        /// The file.
        file: String,
        /// Its format version.
        version: u8,
        /// Its codec id.
        codec: u8,
    },
    /// It was stopped while it was opened.
    #[error("the store was stopped while it was opened; start it again")]
    Unwanted,
    /// The folder for a copy has something in it.
    #[error("{} is not empty; give a new folder for the copy", .0.display())]
    NotEmpty(std::path::PathBuf),
    /// What exported events were handed to failed.
    #[error("the events cannot be handed on: {0}")]
    Stopped(io::Error),
    /// The threads that work on its log did not start.
    #[error("the threads of the event store cannot be started: {0}; it is tried again")]
    Threads(io::Error),
    /// The writer of an earlier start still waits for the disk.
    #[error("an earlier write still waits for the disk; it is reopened once the disk answers")]
    Busy,
}
