//! A `tracing` layer that turns what a program does into stored, correlated events.
//!
//! ```text
//! span or event ─▶ layer ─▶ queue (bounded, a shard a thread) ─▶ drain (a thread) ─▶ Events::store_batch
//! ```
//!
//! Guarantees:
//! * Written at once: nothing waits for a span to close, and what is in the queue when a program panics reaches the disk
//!   ([`Capture::install_panic_hook`]).
//! * The program is never held up: a full queue drops and counts ([`CaptureStats::dropped`]); a store that is down or stuck is
//!   tried again with the same event ids, so that nothing is stored twice.
//! * Everything is bounded: queue, fields, texts ([`Options`]).
//! * Nothing of underpin's own is captured, for it stores its own events; and fields whose names look secret never leave the queue
//!   ([`Options::redact`]).
//!
//! Several captures may see the same spans: they agree on the trace, and each names causes among its own events. What is handled for
//! a message names the one that the last layer knows.
//!
//! Not offered: a span that is filtered out carries no correlation to what happens inside it; [`Context::scope`] does. `tracestate` is
//! not read and not handed on, and whether a caller sampled its trace is not heeded: [`Options::share`] decides here.
//!
//! # What is stored
//!
//! | kind | when | parent | data |
//! |---|---|---|---|
//! | `tracing.error` … `tracing.trace` | an event | the `span.opened` it happened in | its fields, `level`, `at` (file and line) |
//! | `span.opened` | a new span | the `span.opened` around it, or the event that caused the request | its fields, `name`, `level`, `at` |
//! | `span.recorded` | fields recorded later | its `span.opened` | these fields |
//! | `span.linked` | `follows_from` | its `span.opened` | `to`: the id of the other's `span.opened` |
//! | `span.closed` | the span is closed | its `span.opened` | `name`, `busy_ns`, `idle_ns` |
//! | `panic` | with the panic hook | the `span.opened` it happened in | `message`, `at`, `thread` |
//!
//! The source is the `tracing` target; of a record of the facade `log` that comes through the crate `tracing-log`, the record's own
//! target. A field called as one of ours is kept as `fields.<name>`.
//!
//! # Correlation
//!
//! The correlation is a W3C trace id: that of the surrounding span, or of the [`Context`] around it, or, for a root span, the one in its
//! field `traceparent`, or a fresh one. The layer keeps [`Context::current`] right while a span is entered, so the correlation follows
//! `.await`, tasks that carry their span, and underpin's calls and casts, whose handlers enter [`Reply::context`](crate::otp::Reply::context).
//! [`traceparent`] gives the header for requests to others, [`context_of`] reads theirs.
//!
//! ```
//! use tracing_subscriber::prelude::*;
//! use underpin::{capture::Capture, node::Node};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let node = Node::builder().memory().start().await?;
//! let capture = Capture::of(node.events());
//! let subscriber = tracing_subscriber::registry().with(capture.layer());
//!
//! tracing::subscriber::with_default(subscriber, || {
//!     let _request = tracing::info_span!("request", path = "/orders").entered();
//!     tracing::warn!(left = 3, "stock is low");
//! });
//!
//! capture.flush(std::time::Duration::from_secs(1)).await?;
//! let warnings = node.events().query(underpin::events::Query::new().kind("tracing.warn")).await?;
//! assert_eq!(warnings.events[0].data().as_map().and_then(|data| data.get("left")), Some(&3.into()));
//! # node.shutdown().await;
//! # Ok(()) }
//! ```

mod chrome;
mod drain;
mod entered;
mod error;
mod fields;
mod handle;
#[cfg(feature = "web")]
pub mod http;
mod layer;
mod logged;
mod making;
mod options;
mod propagation;
mod queue;
mod rules;
mod stats;

pub use chrome::chrome_trace;
pub use error::{CaptureError, FlushError};
pub use handle::{Capture, layer};
pub use options::Options;
pub use propagation::{context_of, traceparent};
pub use stats::CaptureStats;

#[doc(no_inline)]
pub use crate::otp::Context;
