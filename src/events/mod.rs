//! (being built)
mod actor;
mod columns;
mod commit;
mod disk;
mod error;
mod event;
mod frame;
mod handle;
mod log;
mod message;
mod notes;
mod opening;
mod options;
mod query;
mod record;
mod recovery;
mod search;
mod segment;
mod shared;
#[cfg(any(test, feature = "testing"))]
mod simulated;
mod stats;
mod table;
mod time;
#[cfg(test)]
mod trust;
mod wire;
mod writer;

pub use disk::{Disk, DiskFile, DiskLock, Folder};
pub use error::{EventError, OpenError, QueryError, StoreError};
pub use event::{
    DATA_BYTES_MAX, Event, EventBuilder, EventDraft, KIND_BYTES_MAX, SOURCE_BYTES_MAX,
};
pub use handle::{Checkpoint, Events, ImportOutcome};
pub use options::{Admission, Durability, Options, Retention};
pub use query::{Cursor, Order, Page, Query};
pub use stats::{EventStats, EventsHealth, Gap, Opened, Progress, Torn};
pub use time::Timestamp;
