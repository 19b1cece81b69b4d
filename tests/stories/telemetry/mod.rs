//! What users of telemetry can rely on: events and handlers, metrics, their text, the service beside them.

#[cfg(feature = "metrics")]
mod bridge;
mod definitions;
mod events;
mod handlers;
mod metrics;
mod polls;
mod service;
mod text;

use underpin::telemetry::{Options, Telemetry};

fn telemetry() -> Telemetry {
    Telemetry::new(Options::default())
}
