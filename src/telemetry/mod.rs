//! Telemetry: metrics that cost nanoseconds, events that handlers attach to, and the text that Prometheus reads.
//!
//! * [`Telemetry::counter`], [`gauge`](Telemetry::gauge) and [`histogram`](Telemetry::histogram) give handles to keep;
//! * [`Telemetry::execute`] runs the handlers that were attached to an event, [`Telemetry::span`] measures work,
//!   [`Telemetry::define`] makes metrics of events;
//! * [`Telemetry::poll`] looks at what nobody tells; the process and the tokio runtime are looked at anyway;
//! * [`Telemetry::snapshot`] and [`Telemetry::render`] read all metrics, [`Telemetry::history`] their last minutes.
//!
//! Its own troubles are events too: [`HANDLER_FAILURE`], [`METRIC_OVERFLOW`], [`POLL_FAILURE`].
//!
//! Guarantees: nothing that is counted is lost, whatever the number of threads, and whether or not the service runs; a
//! read holds at least what was counted before it began. Memory is bounded: series by [`Options::series_max`] a metric,
//! with an overflow series that keeps totals right; history by its options; a histogram's memory is constant. Counters
//! never expire; gauges and histograms do after [`Options::retention`], and come back when they are written to.
//!
//! Not guaranteed: metrics do not outlive the program; values of different series are not read at the same instant.
//!
//! ```
//! use underpin::telemetry::{Format, Options, Telemetry};
//!
//! let telemetry = Telemetry::new(Options::default());
//! telemetry.counter("jobs_done", &[("queue", "mail")]).add(3);
//! telemetry.histogram("job_wait_seconds", &[]).record(0.25);
//!
//! let text = telemetry.render(Format::OpenMetrics);
//! assert!(text.contains("jobs_done_total{queue=\"mail\"} 3\n"));
//! ```

mod actor;
mod aggregate;
mod alarms;
mod buckets;
mod clock;
mod counter;
mod definition;
mod description;
mod distribution;
mod error;
mod event;
mod executing;
mod families;
mod floats;
mod gauge;
mod handle;
mod handler;
mod handlers;
mod histogram;
mod history;
mod leases;
mod message;
mod names;
mod options;
mod owned;
mod polls;
mod process;
#[cfg(feature = "metrics")]
mod recorder;
mod registry;
mod remembered;
mod series;
mod shard;
mod sharded;
mod shared;
mod slots;
mod snapshot;
mod span;
mod state;
mod storage;
mod sum;
mod summary;
mod sync;
mod text;
mod total;
mod unit;
mod workers;

pub use alarms::{METRIC_OVERFLOW, POLL_FAILURE};
pub use buckets::RELATIVE_ERROR;
pub use counter::Counter;
pub use definition::Definition;
pub use description::Description;
pub use distribution::Distribution;
pub use error::{DefineError, EventNameError, HandlerError, MetricError, PollError};
pub use event::{Emission, EventName, Field, Measurements, Metadata, Number};
pub use gauge::Gauge;
pub use handle::Telemetry;
pub use handler::{HandlerOptions, OnFailure, Runs};
pub use handlers::{HANDLER_FAILURE, HandlerInfo};
pub use histogram::Histogram;
pub use history::{Part, Track};
pub use names::{Kind, Labels, MetricName};
pub use options::Options;
pub use owned::{OwnedEmission, OwnedField};
#[cfg(feature = "metrics")]
pub use recorder::MetricsRecorder;
pub use snapshot::{FamilySnapshot, Reading, SeriesSnapshot, Snapshot};
pub use span::{SpanEnd, SpanName};
pub use text::Format;
pub use unit::Unit;
