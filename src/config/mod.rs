//! Settings that are typed, layered, validated, and can change while the program runs.
//!
//! The settings of a node are one document with two tables: `underpin`, the node's own, and `app`, the program's, each the
//! serialized form of a struct with a [`Schema`]. [`load`] lays the sources over one another ([`Sources`] says which and in
//! what order) before any actor runs; [`Configuration`] takes the result over and is what everybody holds: the whole document
//! by path, or as [`Config`] one table in its type.
//!
//! # Guarantees
//!
//! * Reads never wait, never ask the server and never fail because it is down: they look at an immutable published state.
//! * Only states that are valid as a whole are ever published. A change is checked, kept on disk, published and answered, in this
//!   order; on any error nothing changed and nobody was told.
//! * A change that was answered is on disk, when the settings are kept at all ([`Sources::keep_in`]); a crash at any point leaves
//!   the old or the new state. What the disk holds and readers do not see is written over as soon as the disk works.
//! * A subscriber gets the current value first and then every change in order, or the newest state and how many it missed. It costs
//!   the writer nothing, and sleeps while nothing changes at its path.
//! * One change is made at a time: by the server where changes are kept on disk, and otherwise on the spot, by whoever asks for it,
//!   with the server's right to write and only while the server is up.
//! * Secrets are not in errors, history, audit or Debug. They are in the files of the folder that keeps the changes, which only its
//!   owner can read, and in what the program itself reads and is notified of.
//!
//! # What it does not do
//!
//! Queue changes while the server is down (the caller gets a typed error), or merge lists.
//!
//! ```
//! use underpin::{
//!     config::{Configuration, FreeTable, Options, Sources, load},
//!     otp::{Intensity, Supervisor, SupervisorSpec},
//!     telemetry::Telemetry,
//! };
//!
//! # async fn story() -> Result<(), Box<dyn std::error::Error>> {
//! let loaded = load(Sources::new::<FreeTable, FreeTable>().set("app.workers=4"))?;
//! let telemetry = Telemetry::new(underpin::telemetry::Options::default());
//! let config = Configuration::new(loaded, Options::default(), &telemetry);
//! assert_eq!(config.get::<u32>("app.workers")?, 4);
//!
//! let mut workers = config.subscribe("app.workers")?;
//! let tree = SupervisorSpec::new("tree", Intensity::new(3, std::time::Duration::from_secs(5))).child(config.child_spec());
//! let tree = Supervisor::start(tree).await?;
//! config.update("app.workers", 8).await?;
//!
//! assert_eq!(workers.recv().await.and_then(|notice| notice.value), Some(8.into()));
//! tree.stop().await;
//! # Ok(())
//! # }
//! # tokio::runtime::Runtime::new().expect("a runtime").block_on(story()).expect("the story holds");
//! ```

mod actor;
mod error;
mod explain;
mod files;
mod followers;
mod following;
mod handle;
mod keeper;
mod layering;
mod load;
mod message;
mod misnamed;
mod numbered;
mod options;
mod origin;
mod overlay;
mod permission;
mod preview;
mod proposal;
mod read;
mod reading;
mod record;
mod reload;
mod reloading;
mod restoring;
mod saved;
mod schema;
mod secret;
mod settling;
mod shape;
mod shared;
mod source;
mod sources;
mod state;
mod status;
mod storage;
mod subscription;
mod table;
mod template;
mod told;
mod toml_file;
mod tree;
mod turn;
mod view;
mod watching;
mod writing;

pub use error::{ConfigError, Problem, ReadError, ReloadError, UpdateError};
pub use explain::Explanation;
pub use handle::Configuration;
pub use load::{Loaded, load};
pub use options::Options;
pub use origin::{Author, Origin};
pub use preview::Preview;
pub use proposal::Proposal;
pub use read::AsPath;
pub use record::{Change, Kind, Record, Revision};
pub use reload::Reloaded;
pub use schema::{FreeTable, Invalid, InvalidKind, Mutability, Rules, Schema};
pub use secret::Secret;
pub use sources::{BrokenFiles, Sources};
pub use state::{CHANGES_MAX, VALUE_BYTES_MAX};
pub use status::{Alarm, AlarmKind, Serving, Status};
pub use storage::{Disk, Folder};
pub use subscription::{Audit, AuditFeed, Notice, Subscription};
pub use template::template;
pub use tree::{Difference, diff};
pub use view::{Config, Reader, Snapshot};
