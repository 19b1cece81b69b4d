//! What telemetry tells of its own troubles, as events that a handler can be attached to.

use super::{
    EventName, Field, Measurements, Metadata, MetricName, Number, clock::Clock, handlers::Handlers,
};
use crate::otp::Context;

/// Executed by the service when label sets of a metric begin to share its overflow series, because it has as many series as it may have or
/// a label's value was too long: measurements `series` (how many it may have), `monotonic_time` and `system_time` (ns), metadata `metric`.
/// Once for each metric, in the [`Context`] of the lookup that was the first one.
pub static METRIC_OVERFLOW: EventName =
    EventName::from_static(&["telemetry", "metric", "overflow"]);

/// Executed when a poll panicked and was removed, or was not done in time (then the first, second, fourth, eighth time and
/// so on): measurements `monotonic_time` and `system_time` (ns), metadata `poll` and `kind` (`panic` or `overdue`).
pub static POLL_FAILURE: EventName = EventName::from_static(&["telemetry", "poll", "failure"]);

/// A metric that got its overflow series, and in which context.
#[derive(Debug)]
pub(super) struct Overflow {
    pub(super) metric: MetricName,
    pub(super) context: Context,
}

pub(super) fn tell_overflow(handlers: &Handlers, clock: &Clock, overflow: &Overflow, max: usize) {
    let [monotonic, system] = times(clock);
    overflow.context.enter(|| {
        handlers.execute(
            &METRIC_OVERFLOW,
            Measurements::new(&[("series", Number::from(max)), monotonic, system], &[]),
            Metadata::new(&[("metric", Field::Text(overflow.metric.as_str()))], &[]),
        );
    });
}

pub(super) fn tell_poll(handlers: &Handlers, clock: &Clock, poll: &str, kind: &str) {
    handlers.execute(
        &POLL_FAILURE,
        Measurements::new(&times(clock), &[]),
        Metadata::new(
            &[("poll", Field::Text(poll)), ("kind", Field::Text(kind))],
            &[],
        ),
    );
}

/// The two times that each of these events has.
pub(super) fn times(clock: &Clock) -> [(&'static str, Number); 2] {
    [
        ("monotonic_time", Number::UInt(clock.monotonic_ns())),
        ("system_time", Number::UInt(clock.unix_ns())),
    ]
}
