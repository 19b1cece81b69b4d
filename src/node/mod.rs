//! The assembled node: the three services under one supervisor, the program's children beside them.
//!
//! ```text
//! node          one_for_one; every child is restarted with backoff and tried slowly for ever
//! ├─ telemetry  metrics and telemetry events
//! ├─ events     the event store
//! ├─ config     settings
//! ├─ tasks      one-off work
//! ├─ wiring     what goes from one part to another, without being waited for
//! ├─ cluster    connections to other nodes, when it is in a cluster
//! ├─ web        the HTTP interface, when it is on
//! └─ app        the program's own children, with a budget of their own
//! ```
//!
//! Guarantees: each part starts when the one before it is ready, and stops before it; a part that fails is restarted alone
//! and the others neither notice nor wait; whatever fails, the node stays up, degraded, and [`Node::health`] says what and
//! since when. Two nodes in one process share nothing.
//! Not offered: a global subscriber, panic hook or signal handler, unless [`Node::run_until_signal`] is called.

mod boot;
mod builder;
mod error;
mod figures;
mod handle;
mod health;
#[cfg(feature = "cluster")]
mod joining;
mod journal;
mod keeper;
mod observer;
mod settings;
mod tally;
#[cfg(feature = "web")]
mod view;
mod watch;
mod wiring;

pub use builder::{NodeBuilder, Services};
pub use error::NodeError;
pub use handle::Node;
pub use health::{Health, HealthStatus, Reason};
pub use settings::{
    Durability, EventSettings, HealthSettings, HttpSettings, Settings, TelemetrySettings,
};
