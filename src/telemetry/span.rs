//! The measuring of a piece of work: an event when it starts, one when it stops or fails.

use std::{
    backtrace::Backtrace,
    panic::{self, AssertUnwindSafe},
    sync::atomic::{AtomicU64, Ordering},
};

use futures_util::FutureExt as _;

use super::{
    EventName, EventNameError, Field, Measurements, Metadata, Number, OwnedField, clock::Clock,
    handler, handlers::Handlers,
};

/// The three event names of a span: the prefix followed by `start`, `stop` and `exception`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpanName {
    start: EventName,
    stop: EventName,
    exception: EventName,
}

/// What the work may add to its span's `stop` event.
#[derive(Debug, Default)]
pub struct SpanEnd {
    measurements: Vec<(&'static str, Number)>,
    metadata: Vec<(&'static str, OwnedField)>,
}

/// A span that has started.
pub(super) struct Span<'a> {
    handlers: &'a Handlers,
    clock: &'a Clock,
    name: &'a SpanName,
    metadata: &'a [(&'a str, Field<'a>)],
    context: Field<'a>,
    started: u64,
}

/// A span whose work is under way. Dropped as it is, the work was not brought to its end.
struct Unfinished<'s, 'a>(Option<&'s Span<'a>>);

const CONTEXT: &str = "telemetry_span_context";
static CONTEXTS: AtomicU64 = AtomicU64::new(1);

impl SpanName {
    /// A name known when the program is compiled.
    ///
    /// # Panics
    ///
    /// As [`EventName::from_static`].
    #[must_use]
    pub const fn from_static(prefix: &'static [&'static str]) -> Self {
        Self {
            start: EventName::static_with(prefix, Some("start")),
            stop: EventName::static_with(prefix, Some("stop")),
            exception: EventName::static_with(prefix, Some("exception")),
        }
    }

    /// A name made at run time.
    ///
    /// # Errors
    ///
    /// As [`EventName::new`].
    pub fn new<I>(prefix: I) -> Result<Self, EventNameError>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let prefix = EventName::new(prefix)?;
        Ok(Self {
            start: prefix.followed_by("start"),
            stop: prefix.followed_by("stop"),
            exception: prefix.followed_by("exception"),
        })
    }

    /// The event that is executed before the work: `system_time` and `monotonic_time`, in ns.
    #[must_use]
    pub fn start(&self) -> &EventName {
        &self.start
    }

    /// The event that is executed after the work: `duration` and `monotonic_time`, in ns.
    #[must_use]
    pub fn stop(&self) -> &EventName {
        &self.stop
    }

    /// The event that is executed when the work panicked or its future was dropped: `duration` and `monotonic_time`, in ns.
    #[must_use]
    pub fn exception(&self) -> &EventName {
        &self.exception
    }
}

impl SpanEnd {
    /// Adds a measurement to the `stop` event, in place of an earlier one of its name; `duration` and `monotonic_time` stay what they
    /// are.
    pub fn measure(&mut self, name: &'static str, number: impl Into<Number>) {
        self.measurements.retain(|(other, _)| *other != name);
        self.measurements.push((name, number.into()));
    }

    /// Adds metadata to the `stop` event, in place of what was noted under its name before. It does not repeat that of `start`.
    pub fn note<'f>(&mut self, name: &'static str, field: impl Into<Field<'f>>) {
        self.metadata.retain(|(other, _)| *other != name);
        self.metadata.push((name, OwnedField::of(field.into())));
    }
}

impl<'a> Span<'a> {
    pub(super) fn start(
        handlers: &'a Handlers,
        clock: &'a Clock,
        name: &'a SpanName,
        metadata: &'a [(&'a str, Field<'a>)],
    ) -> Self {
        let given = Metadata::new(metadata, &[]).get(CONTEXT);
        let span = Self {
            handlers,
            clock,
            name,
            metadata,
            context: given
                .unwrap_or_else(|| Number::UInt(CONTEXTS.fetch_add(1, Ordering::Relaxed)).into()),
            started: clock.monotonic_ns(),
        };
        let measurements = [
            ("system_time", Number::UInt(clock.unix_ns())),
            ("monotonic_time", Number::UInt(span.started)),
        ];
        span.execute(&name.start, &[], &measurements, metadata, &[span.context()]);
        span
    }

    /// Runs the work and says how it ended; a panic goes on after that.
    pub(super) fn run<T>(self, work: impl FnOnce(&mut SpanEnd) -> T) -> T {
        let mut end = SpanEnd::default();
        match panic::catch_unwind(AssertUnwindSafe(|| work(&mut end))) {
            Ok(result) => {
                self.stop(&end);
                result
            }
            Err(panic) => {
                self.exception("panic", &handler::describe(&*panic));
                panic::resume_unwind(panic)
            }
        }
    }

    /// The same for a future, which may also be dropped before it is done.
    pub(super) async fn run_async<T>(self, work: impl AsyncFnOnce(&mut SpanEnd) -> T) -> T {
        let mut end = SpanEnd::default();
        let mut unfinished = Unfinished(Some(&self));
        let work = AssertUnwindSafe(async { work(&mut end).await });
        let outcome = work.catch_unwind().await;
        unfinished.0 = None;
        match outcome {
            Ok(result) => {
                self.stop(&end);
                result
            }
            Err(panic) => {
                self.exception("panic", &handler::describe(&*panic));
                panic::resume_unwind(panic)
            }
        }
    }

    fn stop(&self, end: &SpanEnd) {
        let noted = end
            .metadata
            .iter()
            .map(|(name, field)| (*name, field.borrow()));
        let metadata: Vec<(&str, Field<'_>)> = noted.collect();
        self.execute(
            &self.name.stop,
            &end.measurements,
            &self.duration(),
            &metadata,
            &[self.context()],
        );
    }

    fn exception(&self, kind: &str, reason: &str) {
        let stacktrace = Backtrace::capture();
        let own = [
            ("kind", Field::Text(kind)),
            ("reason", Field::Text(reason)),
            ("stacktrace", Field::Debug(&stacktrace)),
            self.context(),
        ];
        self.execute(
            &self.name.exception,
            &[],
            &self.duration(),
            &own,
            self.metadata,
        );
    }

    fn context(&self) -> (&'static str, Field<'a>) {
        (CONTEXT, self.context)
    }

    fn duration(&self) -> [(&'static str, Number); 2] {
        let now = self.clock.monotonic_ns();
        [
            ("duration", Number::UInt(now.saturating_sub(self.started))),
            ("monotonic_time", Number::UInt(now)),
        ]
    }

    /// What is named in both is what the first says.
    fn execute(
        &self,
        name: &EventName,
        measurements: &[(&str, Number)],
        standard: &[(&str, Number)],
        metadata: &[(&str, Field<'_>)],
        added: &[(&str, Field<'_>)],
    ) {
        self.handlers.execute(
            name,
            Measurements::new(measurements, standard),
            Metadata::new(metadata, added),
        );
    }
}

impl Drop for Unfinished<'_, '_> {
    fn drop(&mut self) {
        if let Some(span) = self.0 {
            span.exception("cancelled", "its future was dropped before it was done");
        }
    }
}
