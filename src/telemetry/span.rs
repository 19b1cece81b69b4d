//! The measuring of a piece of work: an event when it starts, one when it stops or fails.

use std::{
    backtrace::Backtrace,
    panic::{self, AssertUnwindSafe},
    sync::atomic::{AtomicU64, Ordering},
};

use super::{
    Emission, EventName, EventNameError, Field, Measurements, Metadata, Number,
    clock::Clock,
    handlers::{self, Handlers},
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
    metadata: Vec<(&'static str, Owned)>,
}

/// A metadata value that outlives the work it came from.
#[derive(Debug)]
enum Owned {
    Bool(bool),
    Number(Number),
    Text(String),
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

    /// The event that is executed when the work panicked: `duration` and `monotonic_time`, in ns.
    #[must_use]
    pub fn exception(&self) -> &EventName {
        &self.exception
    }
}

impl SpanEnd {
    /// Adds a measurement to the `stop` event; `duration` and `monotonic_time` stay what they are.
    pub fn measure(&mut self, name: &'static str, number: impl Into<Number>) {
        self.measurements.push((name, number.into()));
    }

    /// Adds metadata to the `stop` event, which does not repeat that of `start`. What is not a bool or a number is kept
    /// as its text.
    pub fn note<'f>(&mut self, name: &'static str, field: impl Into<Field<'f>>) {
        let owned = match field.into() {
            Field::Bool(field) => Owned::Bool(field),
            Field::Number(field) => Owned::Number(field),
            other => Owned::Text(other.to_string()),
        };
        self.metadata.push((name, owned));
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
                self.exception("panic", &handlers::describe(&*panic));
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
        let more = [
            ("kind", Field::Text(kind)),
            ("reason", Field::Text(reason)),
            ("stacktrace", Field::Debug(&stacktrace)),
            self.context(),
        ];
        self.execute(
            &self.name.exception,
            &[],
            &self.duration(),
            self.metadata,
            &more,
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

    /// `added` ends with the span's context, which is left out where the metadata has one.
    fn execute(
        &self,
        name: &EventName,
        measurements: &[(&str, Number)],
        standard: &[(&str, Number)],
        metadata: &[(&str, Field<'_>)],
        added: &[(&str, Field<'_>)],
    ) {
        let has_context = metadata.iter().any(|(name, _)| *name == CONTEXT);
        let added = &added[..added.len() - usize::from(has_context)];
        self.handlers.execute(&Emission {
            name,
            measurements: Measurements::new(measurements, standard),
            metadata: Metadata::new(metadata, added),
        });
    }
}

impl Owned {
    fn borrow(&self) -> Field<'_> {
        match self {
            Self::Bool(field) => Field::Bool(*field),
            Self::Number(field) => Field::Number(*field),
            Self::Text(field) => Field::Text(field),
        }
    }
}
