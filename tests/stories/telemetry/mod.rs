//! What users of telemetry can rely on: events and handlers, metrics, their text, the service beside them.

mod alarms;
#[cfg(feature = "metrics")]
mod bridge;
mod definitions;
mod events;
mod flat;
mod handlers;
mod metrics;
mod overhead;
mod polls;
mod python;
mod service;
#[cfg(all(feature = "capture", feature = "cluster", feature = "web"))]
mod table;
mod text;

use underpin::telemetry::{Options, Telemetry};

fn telemetry() -> Telemetry {
    Telemetry::new(Options::default())
}
