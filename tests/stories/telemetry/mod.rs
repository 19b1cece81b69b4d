//! What users of telemetry can rely on: events and handlers, metrics, their text, the service beside them.

mod events;
mod metrics;
mod service;
mod text;

use underpin::telemetry::{Options, Telemetry};

fn telemetry() -> Telemetry {
    Telemetry::new(Options::default())
}
