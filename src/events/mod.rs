//! An event store: an append-only log on disk, an index and the newest events in memory.
//!
//! Guarantees:
//! * What is acknowledged is there after a crash, as [`Durability`] says; with [`Durability::Always`], the default, also after a power cut.
//! * A batch is there whole or not at all, and so are an import's events and its [`Checkpoint`].
//! * An event is what was stored or an error, never something else: every read from disk verifies a checksum.
//! * What is missing is reported: in [`EventStats::opened`], and by [`Events::health`] until the segment is pruned.
//! * Queries run beside the writer; a long one delays no `store` by more than a few microseconds.
//! * Everything is bounded: events, batches, bytes in flight, answers, memory.
//!
//! Not offered: a second writer (one writer thread shares each sync among all callers; a disk on which it saturates its core before the
//! disk would change that), changes to stored events, encryption. The newest writes have no later one that vouches for them until the log
//! was idle for [`Options::idle_mark`]: damage of the disk in just these cannot be told from a torn write after a crash, and is cut as one.
//!
//! Memory: [`Options::hot_bytes`], and an index of 47 to 75 bytes an event, the more the fewer events share a
//! correlation: 5 million events need some 300 MB beside the hot bytes. The index is rebuilt from the log when it is opened.
//!
//! # Files
//!
//! A folder holds segments, `<first sequence number>-<log id>.seg` (16 hexadecimal digits each), side files with damaged bytes,
//! `<segment>.<offset>.damaged`, and the file `lock`, which is locked while a store has the folder open. A segment is a row of *frames*
//! and nothing else. All numbers are little-endian, every checksum is CRC-32C (RFC 3720, appendix B.4).
//!
//! *Frame*: a header of 52 bytes, then the body.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic `UPLG` |
//! | 4 | 1 | format version: 1 |
//! | 5 | 1 | codec of the values inside: 1, which is [`crate::value::codec`] |
//! | 6 | 1 | kind: 1 head, 2 events, 3 low water, 4 mark |
//! | 7 | 1 | zero |
//! | 8 | 8 | log id, as in the file's name |
//! | 16 | 8 | sequence number: 1 for a log's first frame, one more for each |
//! | 24 | 8 | last-synced mark: all frames up to this one were synced when the frame was written |
//! | 32 | 4 | number of events |
//! | 36 | 4 | length of the front, the part of the body before the events |
//! | 40 | 4 | length of the body |
//! | 44 | 4 | checksum of the body |
//! | 48 | 4 | checksum of the header's first 48 bytes |
//!
//! *Front*, by the frame's kind. Head (the first frame of every segment): low water, then all checkpoints. Events: the checkpoints that
//! these events move, or nothing. Low water: the low water. Mark: nothing.
//!
//! *Record*, one for each event:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | length, these bytes included |
//! | 4 | 4 | checksum of the record from byte 8 on |
//! | 8 | 8 | id |
//! | 16 | 8 | time: signed nanoseconds since 1970-01-01T00:00:00Z |
//! | 24 | 1 | flags: 1 has a correlation, 2 has a parent |
//! | 25 | 1 | zero |
//! | 26, 28, 30 | 2 each | lengths of kind, source and correlation |
//! | 32 | 8 | parent, only with flag 2 |
//! | | | kind, source, correlation in UTF-8; then the data to the record's end |
//!
//! *Low water*, what was pruned: a 4-byte count and that many pairs of 8-byte sequence numbers, first and last of frames dropped with their
//! segments; a position before which every event is hidden; a 4-byte count and that many pairs of an 8-byte time and a position: events
//! before the position that are earlier than the time are hidden. A *position* is the first sequence number of a segment, 8 bytes, and an
//! offset in it, 4 bytes. The newest low water counts.
//!
//! *Checkpoints*: a 4-byte count; for each a 2-byte length and the key, a 4-byte length and the encoded value. Length 0 removes it.
//!
//! *Reading a segment*: frame after frame. Where none is whole, look for the next whole frame with this log id and a sequence number at
//! least as high as the expected one. In the newest segment, damage where the expected sequence number is above every last-synced mark is
//! a torn tail, and the log ends there. Any other damage is a gap: the sequence numbers that are missing.
//!
//! # Example
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use underpin::{
//!     events::{Events, Folder, Options, Query},
//!     ids::{IdGenerator, NodeId},
//!     otp::{Intensity, Supervisor, SupervisorSpec},
//!     telemetry::{self, Telemetry},
//! };
//!
//! # async fn story(folder: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
//! let ids = Arc::new(IdGenerator::new(NodeId::new(7)?));
//! let telemetry = Telemetry::new(telemetry::Options::default());
//! let events = Events::new(Options::default(), Arc::new(Folder::new(folder)), ids, &telemetry);
//! let root = SupervisorSpec::new("root", Intensity::new(3, Duration::from_secs(5)));
//! let root = Supervisor::start(root.child(events.child_spec())).await?;
//!
//! let paid = events.event("order.paid").source("till/1").data(42).build()?;
//! let id = events.store(paid).await?;
//!
//! assert!(events.get(id).await?.is_some());
//! assert_eq!(events.count(Query::new().kind("order.paid")).await?, 1);
//! root.stop().await;
//! # Ok(())
//! # }
//! # let folder = tempfile::tempdir().unwrap();
//! # tokio::runtime::Runtime::new().unwrap().block_on(story(folder.path())).unwrap();
//! ```

mod actor;
mod candidates;
mod columns;
mod commit;
mod comparison;
mod constructors;
mod disk;
mod error;
mod event;
mod explanation;
mod filter;
mod finding;
mod frame;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod growing;
mod handle;
#[cfg(test)]
mod healing;
mod language;
mod lineage;
mod log;
mod message;
mod notes;
mod opening;
mod options;
mod plan;
mod portable;
mod query;
mod record;
mod recovery;
mod search;
mod segment;
mod shared;
#[cfg(any(test, feature = "testing"))]
mod simulated;
mod stats;
mod subscription;
mod table;
mod time;
mod timeline;
#[cfg(test)]
mod trust;
mod view;
mod when;
mod wire;
mod writer;

pub use comparison::{Comparison, Operator};
pub use constructors::{
    FUNCTION_ENTRY, FUNCTION_EXIT, Function, FunctionExit, STATE_CHANGE, StateChange,
    TRUNCATE_BYTES,
};
pub use disk::{Disk, DiskFile, DiskLock, Folder};
pub use error::{EventError, OpenError, QueryError, StoreError};
pub use event::{
    DATA_BYTES_MAX, Event, EventBuilder, EventDraft, KIND_BYTES_MAX, SOURCE_BYTES_MAX,
};
pub use explanation::{Explanation, SegmentPlan};
pub use finding::Pages;
pub use handle::{Checkpoint, Events, ImportOutcome};
pub use language::{Misread, QueryReader};
pub use lineage::{Causes, Effect, Effects, End};
pub use options::{Admission, Durability, Options, Retention};
pub use plan::{Index, Plan};
pub use portable::BytesError;
pub use query::{Cursor, Order, Page, Query};
#[cfg(any(test, feature = "testing"))]
pub use simulated::SimulatedDisk;
pub use stats::{EventStats, EventsHealth, Gap, Opened, Progress, Torn};
pub use subscription::{Bookmark, Credit, Start, Subscription};
pub use time::Timestamp;
pub use timeline::{Change, Difference, Timeline};
pub use when::{Edge, When};
