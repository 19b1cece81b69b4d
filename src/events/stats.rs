//! What a store says about itself.

use std::time::Duration;

use serde::Serialize;

/// Figures of a store at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Default)]
pub struct EventStats {
    /// Events that can be found.
    pub events: u64,
    /// Events stored since this program made its handle of the store, whatever became of them; restarts of the store do not begin anew.
    pub stored: u64,
    /// Events that were stored again under their own id, and were there already.
    pub duplicates: u64,
    /// Events refused because the store had its hands full or was down.
    pub refused: u64,
    /// Events pruned since then, by hand or by retention.
    pub pruned: u64,
    /// Stored events that could not be read back: their bytes no longer fit their checksum.
    pub unreadable: u64,
    /// Indexes of sealed segments that were found damaged while the store ran, and were made anew. Those that an opening found are in
    /// [`Opened::rebuilt`].
    pub rebuilt: u64,
    /// Segments of the log.
    pub segments: u64,
    /// Segments that are sealed: compressed, with an index of their own.
    pub sealed: u64,
    /// Bytes of all segments' files; in memory mode of all events.
    pub log_bytes: u64,
    /// Bytes of events in memory.
    pub hot_bytes: u64,
    /// Bytes of the index in memory.
    pub index_bytes: u64,
    /// Bytes of decoded parts of sealed segments in memory.
    pub cache_bytes: u64,
    /// The highest sequence number of the log that is known to be synced.
    pub synced_sequence: u64,
    /// Writes to the log, each for all callers that waited.
    pub commits: u64,
    /// What the last opening found.
    pub opened: Opened,
    /// How often the store was opened.
    pub openings: u64,
    /// Time since the store was last opened.
    pub uptime: Duration,
}

/// What an opening found in the folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Opened {
    /// Parts of the log that are missing.
    pub gaps: Vec<Gap>,
    /// The end of the log was cut off: a write that a crash had interrupted.
    pub torn: Option<Torn>,
    /// Damaged places; their bytes were copied to side files named `*.damaged`.
    pub quarantined: usize,
    /// Indexes of sealed segments that were damaged or missing, and were made anew.
    pub rebuilt: usize,
    /// Segments of other logs than the newest segment's. Somebody copied them here, or that one; what is in them is found as well.
    pub foreign: usize,
    /// How long it took.
    pub took: Duration,
}

/// Frames of the log that were stored and are missing or damaged: their first and last sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// First missing sequence number.
    pub first: u64,
    /// Last missing sequence number.
    pub last: u64,
}

/// An interrupted write at the end of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Torn {
    /// The segment file.
    pub file: String,
    /// Where it was cut.
    pub offset: u64,
    /// How many bytes were cut off.
    pub bytes: u64,
    /// Whole frames among them: they stood behind the torn one, and nobody had been told that they were stored.
    pub whole_frames: usize,
}

/// How far an opening has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
pub struct Progress {
    /// Segments that were read.
    pub segments_read: usize,
    /// Segments in the folder.
    pub segments_total: usize,
    /// Bytes that were read.
    pub bytes_read: u64,
    /// Bytes in the folder.
    pub bytes_total: u64,
}

/// How a store is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventsHealth {
    /// It takes events and answers, and the log is whole.
    Healthy,
    /// It takes events and answers, and something is wrong: each reason in a sentence.
    Degraded {
        /// What is wrong.
        reasons: Vec<String>,
    },
    /// It is being opened; reads answer from before if there was a before.
    Opening {
        /// How far it has come.
        progress: Progress,
    },
    /// It takes no events; reads answer from before if there was a before.
    Down {
        /// Why.
        reason: String,
    },
}
