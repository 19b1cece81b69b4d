//! An event store: an append-only log on disk, an index and the newest events in memory.
//!
//! Guarantees:
//! * What is acknowledged is there after a crash, as [`Durability`] says; with [`Durability::Always`], the default, also after a power cut.
//! * A batch is there whole or not at all, and so are an import's events and its [`Checkpoint`].
//! * An event is what was stored or an error, never something else: every read from disk verifies a checksum.
//! * Damage costs what it hits: one write of a segment that grows, the events of one block (8 KiB and a record at the most) of a sealed one. A
//!   damaged index is made anew from its blocks: when the store is opened, or as soon as a query meets the damage.
//! * What is missing is reported: in [`EventStats::opened`], and by [`Events::health`] until the segment is pruned.
//! * Queries run beside the writer; a long one delays no `store` by more than a few microseconds.
//! * Everything is bounded: events, batches, bytes in flight, answers, memory.
//!
//! One writer, by decision: it shares each sync among all callers, and does little else. While `examples/many_events.rs` stores 3,000,000
//! events in batches, its thread, `underpin-events`, takes 0.75 s of a core, nearly all of it in the system's calls, and the thread that makes,
//! encodes and indexes them 6 s (`top -H` shows both). What would change that is a measurement: it takes a whole core while the disk could
//! take more.
//!
//! Not offered: a second writer, changes to stored events, encryption. The newest writes have no later one that vouches for them until the log
//! was idle for [`Options::idle_mark`]: damage of the disk in just these cannot be told from a torn write after a crash, and is cut as one.
//!
//! Memory: [`Options::hot_bytes`], with an index of about 40 bytes for each event among them (55 in the newest segment; 10 to 22 more for
//! each whose id comes late, as when events are imported in any order); a directory for each sealed segment; [`Options::cache_bytes`] of what
//! was read from them, and up to 96 KiB for each thread that reads. An opening reads the segments that are not sealed, usually the newest alone, and the directories of the others.
//!
//! # Files
//!
//! A folder holds segments, `<first sequence number>-<log id>.seg` (16 hexadecimal digits each), or instead of one, once it is sealed, its
//! blocks and their index under the same name with `.blocks` and `.index`; side files with damaged bytes, `<file>.<offset>.damaged`; for a
//! moment `<log id>.room`, zeros that tell whether a full disk has room again; and the file `lock`, which is locked while a store has the
//! folder open. While a `.seg` is there it is the truth, and what was made of it counts for nothing, unless the former is damaged and the
//! latter whole. Segments, blocks and indexes are rows of *frames* and nothing else. All numbers are little-endian, every checksum is CRC-32C (RFC 3720, appendix B.4).
//!
//! *Frame*: a header of 52 bytes, then the body.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic `UPLG` |
//! | 4 | 1 | format version: 3 of a directory, else 2; earlier ones are read as well: version 1 had no sealed segments |
//! | 5 | 1 | codec of the values inside: 1, which is [`crate::value::codec`] |
//! | 6 | 1 | kind: 1 head, 2 events, 3 low water, 4 mark; 5 block; 6 directory, 7 page |
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
//! a torn tail, and the log ends there. Any other damage is a gap: the sequence numbers that are missing. Where nothing but zeros follows to
//! the end of a `.seg`, that is room that was made ahead, and the segment ends before it: a sync is quicker where the file does not grow.
//! Only a crash leaves any, in the newest segment; readers that know no room cut it off as a torn tail, so the version stayed the same.
//!
//! *Sealed segment*: its bytes as they were, in compressed blocks. Offsets, sequence numbers and the order of the events stay. A `.blocks`
//! file holds block frames, numbered from 1; the front is the offset in the segment of the block's first byte and the number of its bytes,
//! 4 bytes each, and the rest of the body an LZ4 block. A block ends where a record ends.
//!
//! An `.index` file begins with a directory frame, number 1, and goes on with page frames, numbered from 2. The *directory*: first and last
//! sequence number of the segment (8 bytes each); a 4-byte count and that many missing ranges (8 bytes first, 8 last); bytes of the segment
//! and of the blocks (4 each); a count and for each block its offset in the segment and in its file (4 each); the number of events (4); for
//! each 256 of them lowest and highest time (8 each, with the sign bit flipped) and lowest and highest id; two membership filters, of ids, and
//! of parents and correlations (version 2 had one, of all of them): each a count of 32-byte blocks as Apache Parquet's split block Bloom filter
//! has them, with keys by their hashes; a count and the lowest id of each page of ids in their order (none where ids rise); four tables, of
//! kinds, sources, hashes of correlations and parents: a count and for each page of terms its first key (2-byte length, bytes) and its number
//! from 0 (4); a count and where each page's frame starts behind the directory, and last where they end (4 each).
//!
//! Pages, in this order: *keys* of each 1024 events: a 4-byte count, then packed ids, times (sign bit flipped) and offsets of the records in
//! the segment; *ids in their order*: a count, packed ids, packed event numbers; *terms* and *lists*, as they come: a term is its key (2-byte
//! length, bytes; numbers with the highest byte first), a 4-byte count, and up to 128 event numbers as distances in seven bits a byte, or
//! for each 1024 of them the first one and the number of the page that has them (4 each); a list is a count and packed event numbers.
//! *Hashes*, with *m* the finalizer of MurmurHash3 and *s* that of splitmix64, both for 64 bits. Of a correlation
//! ([`CorrelationId::hash64`](crate::ids::CorrelationId::hash64)): where it is a trace id or a UUID `m(high ^ m(low))` of its 128 bits, else *m* of
//! the text's FNV-1a. In the filter, of an id `s(id ^ 0x6964)`, of a parent `s(parent ^ 0x706172656e740000)`.
//!
//! *Packed numbers*: the lowest (8 bytes), a width in bits (1), and each one's distance from the lowest, from the lowest bit on.
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
mod best;
mod blocks;
mod bloom;
mod by_id;
mod cache;
mod candidates;
mod columns;
mod commit;
mod comparison;
mod constructors;
mod copied;
mod disk;
mod draft;
mod error;
mod event;
mod explanation;
mod filter;
mod finding;
mod frame;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
#[cfg(test)]
mod handing_over;
mod handle;
#[cfg(test)]
mod healing;
mod hidden;
mod hot;
mod index;
mod language;
mod lineage;
mod log;
mod maintenance;
mod mending;
mod message;
mod metrics;
mod naming;
mod notes;
mod opening;
mod options;
mod own;
mod packed;
mod plan;
mod portable;
mod preparing;
mod query;
#[cfg(test)]
mod reading;
mod record;
mod recovery;
mod sealed;
mod sealing;
mod search;
mod segment;
mod shared;
#[cfg(any(test, feature = "testing"))]
mod simulated;
mod stats;
mod storing;
mod subscription;
mod table;
mod texts;
mod time;
mod timeline;
#[cfg(test)]
mod trust;
mod view;
mod when;
mod wire;
mod workers;
mod writer;

pub use comparison::{Comparison, Operator};
pub use constructors::{
    FUNCTION_ENTRY, FUNCTION_EXIT, Function, FunctionExit, STATE_CHANGE, StateChange,
    TRUNCATE_BYTES,
};
pub use disk::{Disk, DiskFile, DiskLock, Folder};
pub use draft::EventDraft;
pub use error::{EventError, OpenError, QueryError, StoreError};
pub use event::{DATA_BYTES_MAX, Event, EventBuilder, KIND_BYTES_MAX, SOURCE_BYTES_MAX};
pub use explanation::{Explanation, SegmentPlan};
pub use finding::Pages;
pub use handle::Events;
pub use language::{Misread, QueryReader};
pub use lineage::{Causes, Effect, Effects, End};
pub use maintenance::{
    BackedUp, Exported, Fault, Repaired, Verified, backup, export, repair, verify,
};
pub use options::{Admission, Durability, Options, Retention};
pub use plan::{Index, Plan};
pub use portable::BytesError;
pub use preparing::Checkpoint;
pub use query::{Cursor, Order, Page, Query};
#[cfg(any(test, feature = "testing"))]
pub use simulated::SimulatedDisk;
pub use stats::{EventStats, EventsHealth, Gap, Opened, Progress, Torn};
pub use storing::ImportOutcome;
pub use subscription::{Bookmark, Credit, Start, Subscription};
pub use time::Timestamp;
pub use timeline::{Change, Difference, Timeline};
pub use when::{Edge, When};
