//! What the store counts in telemetry.

use crate::telemetry::{Counter, Histogram, Telemetry};

/// What the store counts in telemetry.
#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) stored: Counter,
    pub(super) duplicates: Counter,
    pub(super) refused: Counter,
    pub(super) pruned: Counter,
    pub(super) queries: Counter,
    pub(super) queries_cancelled: Counter,
    pub(super) failures: Counter,
    pub(super) rebuilt: Counter,
    pub(super) commit: Histogram,
}

impl Metrics {
    pub(super) fn new(telemetry: &Telemetry) -> Self {
        use crate::telemetry::Kind::{Counter, Histogram};
        telemetry.declare(&[
            (Counter, "underpin_events_stored", &[], "Events stored."),
            (
                Counter,
                "underpin_events_duplicates",
                &[],
                "Events sent again that were stored already.",
            ),
            (
                Counter,
                "underpin_events_refused",
                &[],
                "Events that were not stored because there was no room or no store.",
            ),
            (
                Counter,
                "underpin_events_pruned",
                &[],
                "Events that retention dropped.",
            ),
            (Counter, "underpin_events_queries", &[], "Queries."),
            (
                Counter,
                "underpin_events_queries_cancelled",
                &[],
                "Queries whose callers left before they were answered.",
            ),
            (
                Counter,
                "underpin_events_write_failures",
                &[],
                "Writes or syncs of the log that failed.",
            ),
            (
                Counter,
                "underpin_events_indexes_rebuilt",
                &[],
                "Indexes of events that were found damaged and made anew.",
            ),
            (
                Histogram,
                "underpin_events_commit_seconds",
                &[],
                "How long commits of the log took, sync included.",
            ),
        ]);
        Self {
            stored: telemetry.counter("underpin_events_stored", &[]),
            duplicates: telemetry.counter("underpin_events_duplicates", &[]),
            refused: telemetry.counter("underpin_events_refused", &[]),
            pruned: telemetry.counter("underpin_events_pruned", &[]),
            queries: telemetry.counter("underpin_events_queries", &[]),
            queries_cancelled: telemetry.counter("underpin_events_queries_cancelled", &[]),
            failures: telemetry.counter("underpin_events_write_failures", &[]),
            rebuilt: telemetry.counter("underpin_events_indexes_rebuilt", &[]),
            commit: telemetry.histogram("underpin_events_commit_seconds", &[]),
        }
    }
}
