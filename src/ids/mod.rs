//! Names for things: events, nodes, traces.
//!
//! | type | is |
//! |---|---|
//! | [`EventId`] | 63 bits: milliseconds since 2024, node, sequence; rises strictly on one node |
//! | [`IdGenerator`] | makes them; never waits, never panics |
//! | [`NodeId`], [`NodeName`] | a node's number in its ids, and its name for people |
//! | [`Identity`] | what a node keeps about itself in its data folder, so that its ids stay its own across restarts |
//! | [`CorrelationId`], [`TraceId`] | what belongs together: a W3C trace id, or any text that a program already uses |
//! | [`TraceParent`] | the W3C header by which a trace goes from one program to the next |
//!
//! What it does not do: agree on node ids between nodes. Two nodes with one [`NodeId`] make equal ids.
//!
//! ```
//! use underpin::ids::{IdGenerator, NodeId};
//!
//! # fn main() -> Result<(), underpin::ids::IdError> {
//! let ids = IdGenerator::new(NodeId::new(7)?);
//! let (first, second) = (ids.next(), ids.next());
//! assert!(first < second);
//! assert_eq!(first.node().get(), 7);
//! # Ok(())
//! # }
//! ```

mod correlation;
mod error;
mod event_id;
mod fnv;
mod generator;
mod held;
mod identity;
mod node_id;
mod random;
mod storage;
mod trace;

pub use correlation::CorrelationId;
pub use error::{IdError, IdentityError};
pub use event_id::EventId;
pub(crate) use fnv::Fnv;
pub use generator::{IdBlock, IdGenerator};
pub(crate) use held::HeldFolder;
pub use identity::{Identity, Incarnation};
pub use node_id::{NodeId, NodeName};
#[cfg(feature = "testing")]
pub(crate) use random::seeded::seed;
pub use trace::{SpanId, TraceId, TraceParent};
