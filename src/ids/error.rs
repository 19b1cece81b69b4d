use std::{io, path::PathBuf};

use super::{CorrelationId, EventId, NodeId, NodeName};

/// Why something is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// Not an event id.
    #[error(
        "{given:?} is not an event id; give a whole number from 1 to {}",
        EventId::MAX
    )]
    EventId {
        /// What was given; cut when it is long.
        given: String,
    },
    /// A time that no event id can hold.
    #[error(
        "time {unix_ms} ms since 1970 does not fit an event id; give one from 2024-01-01 to 2093-09-06"
    )]
    Time {
        /// The time, in milliseconds since 1970-01-01T00:00:00Z.
        unix_ms: u64,
    },
    /// A sequence number that no event id can hold.
    #[error(
        "sequence {given} does not fit an event id; give one from 0 to {}",
        EventId::SEQUENCE_MAX
    )]
    Sequence {
        /// What was given.
        given: u16,
    },
    /// Not a node id.
    #[error("{given} is not a node id; give one from 0 to {}", NodeId::MAX)]
    NodeId {
        /// What was given.
        given: u64,
    },
    /// Not a node name.
    #[error(
        "{given:?} is not a node name; use 1 to {} letters, digits, `-`, `_` or `.`, with a letter or digit first",
        NodeName::BYTES_MAX
    )]
    NodeName {
        /// What was given; cut when it is long.
        given: String,
    },
    /// Not a correlation id.
    #[error(
        "correlation id is {bytes} bytes; use 1 to {}",
        CorrelationId::BYTES_MAX
    )]
    Correlation {
        /// Length of what was given.
        bytes: usize,
    },
    /// Not a trace id.
    #[error("{given:?} is not a trace id; give 32 hex digits or a UUID, not all zero")]
    TraceId {
        /// What was given; cut when it is long.
        given: String,
    },
    /// Not a span id.
    #[error("{given:?} is not a span id; give 16 hex digits, not all zero")]
    SpanId {
        /// What was given; cut when it is long.
        given: String,
    },
    /// Not a `traceparent` header.
    #[error("traceparent {given:?} {fault}; start a new trace")]
    TraceParent {
        /// What was given; cut when it is long.
        given: String,
        /// What is wrong with it.
        fault: &'static str,
    },
}

/// Why a node's identity could not be read or kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// Another process has the folder.
    #[error("data folder {} is in use by another node; stop that node or choose another folder", .folder.display())]
    InUse {
        /// The data folder.
        folder: PathBuf,
    },
    /// The file is not as it was written.
    #[error(
        "identity file {} is damaged: {what}; restore it from a backup, or delete it and the node draws a new node id (stored events keep theirs)",
        .file.display()
    )]
    Damaged {
        /// The identity file.
        file: PathBuf,
        /// What was found.
        what: &'static str,
    },
    /// A later version wrote the file.
    #[error("identity file {} was written by a later version of underpin; run that version or a later one", .file.display())]
    TooNew {
        /// The identity file.
        file: PathBuf,
    },
    /// The file system refused.
    #[error("could not {action} {}: {source}; check that the folder is there, writable and not full", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
}

/// Enough of what was given to recognise it.
pub(super) fn shown(given: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 80;
    given.chars().take(SHOWN_CHARS_MAX).collect()
}
