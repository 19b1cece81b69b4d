use std::{sync::Arc, time::Duration};

use ractor::ActorCell;

use super::{
    Counter, DefineError, Definition, Description, Format, Gauge, HandlerError, Histogram, Kind,
    MetricError, Options, PollError, Snapshot, Track,
    actor::TelemetryActor,
    aggregate::Aggregates,
    counter::CounterCells,
    gauge::GaugeCell,
    histogram::HistogramCells,
    message::Message,
    registry::{Found, report},
    shared::Shared,
    text::Text,
};
use crate::otp::{Address, AddressStatus, CallError, ChildSpec};

/// A node's telemetry. Cheap to clone; every clone counts into and reads from the same metrics.
///
/// Nothing here asks the service's actor or waits for it, except where a function is `async`.
#[derive(Debug, Clone)]
pub struct Telemetry {
    pub(super) shared: Arc<Shared>,
    service: Address<Message>,
}

impl Telemetry {
    /// Telemetry without any metric but its own. Counting and executing work at once; ask for a
    /// [`child_spec`](Self::child_spec) to have idle series forgotten, the process watched and history kept.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            shared: Arc::new(Shared::new(options)),
            service: Address::new(),
        }
    }

    /// The service as a child for a supervisor, with the id `telemetry`. Supervise it once.
    ///
    /// When it is restarted it goes on with the same metrics, handlers and history: they are not its own.
    #[must_use]
    pub fn child_spec(&self) -> ChildSpec {
        let shared = Arc::clone(&self.shared);
        ChildSpec::actor("telemetry", &self.service, move |_| {
            (TelemetryActor, Arc::clone(&shared))
        })
    }

    /// Has the service look at the process, forget idle series and add to the history now.
    ///
    /// # Errors
    ///
    /// [`CallError`] if the service is down or slow. Nothing depends on it being done once, so retry freely.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses the answer; the work is skipped if it has not begun.
    pub async fn refresh(&self, timeout: Duration) -> Result<(), CallError> {
        self.service
            .call(|reply| Message::Refresh { reply }, timeout)
            .await
    }

    /// Whether the service runs. Metrics and events work either way.
    #[must_use]
    pub fn status(&self) -> AddressStatus {
        self.service.status()
    }

    /// The actor that is the service now, to watch it or to test what happens without it.
    #[must_use]
    pub fn actor(&self) -> Option<ActorCell> {
        self.service.actor()
    }

    /// A handle to the counter of this name and these labels, in any order. Keep it: the lookup costs some hundred
    /// nanoseconds, counting a few.
    ///
    /// Names and labels are letters, digits and `_`; a dot is the same as `_`, and `_total` at a counter's end is
    /// understood. A name that ends in a unit (`_seconds`, `_bytes`, `_ratio`) has that unit. Beyond
    /// [`Options::series_max`] label sets, or with a label value above 1024 bytes, the handle counts into the metric's
    /// overflow series.
    ///
    /// A name that cannot be had (see [`try_counter`](Self::try_counter)) gives a handle that counts and is shown
    /// nowhere; this is logged and counted as `underpin_telemetry_refused_metrics_total`.
    ///
    /// ```
    /// use underpin::telemetry::{Options, Telemetry};
    ///
    /// let telemetry = Telemetry::new(Options::default());
    /// let served = telemetry.counter("http.requests", &[("method", "get")]);
    /// served.inc();
    /// served.add(2);
    /// assert_eq!(telemetry.snapshot().counter("http.requests", &[("method", "get")]), 3);
    /// ```
    #[must_use]
    pub fn counter(&self, name: &str, labels: &[(&str, &str)]) -> Counter {
        let registry = &self.shared.registry;
        registry.series_or_lost::<CounterCells>(name, labels)
    }

    /// As [`counter`](Self::counter), with the refusal as an error.
    ///
    /// # Errors
    ///
    /// [`MetricError`] if the name or a label is not usable, or the name is another kind of metric's.
    pub fn try_counter(&self, name: &str, labels: &[(&str, &str)]) -> Result<Counter, MetricError> {
        let found = self.shared.registry.series::<CounterCells>(name, labels);
        found.map(Found::into_inner)
    }

    /// A handle to the gauge of this name and these labels; everything else as with [`counter`](Self::counter). A gauge
    /// that nobody wrote to for [`Options::retention`] is not shown until it is written to again.
    #[must_use]
    pub fn gauge(&self, name: &str, labels: &[(&str, &str)]) -> Gauge {
        let registry = &self.shared.registry;
        registry.series_or_lost::<GaugeCell>(name, labels)
    }

    /// As [`gauge`](Self::gauge), with the refusal as an error.
    ///
    /// # Errors
    ///
    /// As [`try_counter`](Self::try_counter).
    pub fn try_gauge(&self, name: &str, labels: &[(&str, &str)]) -> Result<Gauge, MetricError> {
        let found = self.shared.registry.series::<GaugeCell>(name, labels);
        found.map(Found::into_inner)
    }

    /// A handle to the histogram of this name and these labels; everything else as with [`gauge`](Self::gauge).
    #[must_use]
    pub fn histogram(&self, name: &str, labels: &[(&str, &str)]) -> Histogram {
        let registry = &self.shared.registry;
        registry.series_or_lost::<HistogramCells>(name, labels)
    }

    /// As [`histogram`](Self::histogram), with the refusal as an error.
    ///
    /// # Errors
    ///
    /// As [`try_counter`](Self::try_counter).
    pub fn try_histogram(
        &self,
        name: &str,
        labels: &[(&str, &str)],
    ) -> Result<Histogram, MetricError> {
        let registry = &self.shared.registry;
        let found = registry.series::<HistogramCells>(name, labels);
        found.map(Found::into_inner)
    }

    /// Says what a metric is and means, for those who read it: before or after it is first used, also if it never is. The
    /// labels are the names of those that its series have.
    ///
    /// # Errors
    ///
    /// [`MetricError::Name`] or [`MetricError::Label`] if there can be no such name, [`MetricError::TooManyNames`] if there
    /// are too many.
    pub fn describe(
        &self,
        kind: Kind,
        name: &str,
        labels: &[&str],
        help: &str,
    ) -> Result<(), MetricError> {
        self.shared.registry.describe(kind, name, labels, help)
    }

    /// [`describe`](Self::describe)s the metrics of one of our own rooms.
    pub(crate) fn declare(&self, metrics: &[(Kind, &str, &[&str], &str)]) {
        for (kind, name, labels, help) in metrics {
            report(self.describe(*kind, name, labels, help));
        }
    }

    /// What was described of the metrics whose name is `prefix` or begins with it as whole words, by name.
    #[must_use]
    pub fn descriptions(&self, prefix: &str) -> Vec<Description> {
        self.shared.registry.descriptions(prefix)
    }

    /// Makes metrics of executed events from now on, until [`undefine`](Self::undefine) is told the same id. The definitions
    /// are one handler, attached under this id; if code of theirs panics, all are undefined, as a handler is detached. Their names are
    /// theirs from now on, also before the first emission and while they are idle; so is what they say of them
    /// ([`Definition::help`]), in place of what [`describe`](Self::describe) said.
    ///
    /// # Errors
    ///
    /// [`DefineError`] if one of the metrics cannot be had, beside the others or at all, or the id is taken; then nothing is defined.
    pub fn define(
        &self,
        id: &str,
        definitions: impl IntoIterator<Item = Definition>,
    ) -> Result<(), DefineError> {
        let registry = &self.shared.registry;
        let aggregates = Aggregates::new(registry, definitions.into_iter().collect())?;
        let aggregates = Arc::new(aggregates);
        let (events, known) = (aggregates.events(), Arc::downgrade(&aggregates));
        self.attach_many(id, &events, aggregates, |emission, aggregates| {
            aggregates.take(emission);
        })?;
        self.shared.remind(known);
        Ok(())
    }

    /// Makes no more of what was defined under this id, and takes back what was said of it; what was counted stays.
    ///
    /// # Errors
    ///
    /// [`HandlerError::NotFound`] if nothing is defined under this id (any more).
    pub fn undefine(&self, id: &str) -> Result<(), HandlerError> {
        self.detach(id)
    }

    /// Has the service call `measure` at once and then at each interval, off the runtime's workers: for figures that
    /// nobody tells, such as the length of a queue. Intervals are rounded up to [`Options::history_every`].
    ///
    /// It should be done within a second; while one is not, it has no further turn, and
    /// `underpin_telemetry_overdue_polls` counts. One that panics is removed, and `underpin_telemetry_failed_polls` counts.
    /// What it captures should not hold this telemetry, which holds it.
    ///
    /// # Errors
    ///
    /// [`PollError::AlreadyExists`] if the id is taken.
    pub fn poll(
        &self,
        id: &str,
        every: Duration,
        measure: impl Fn() + Send + Sync + 'static,
    ) -> Result<(), PollError> {
        self.shared.polls.add(id, every, Box::new(measure))
    }

    /// Ends what [`poll`](Self::poll) began; a turn that is under way goes on to its end.
    ///
    /// # Errors
    ///
    /// [`PollError::NotFound`] if there is no such poll (any more).
    pub fn remove_poll(&self, id: &str) -> Result<(), PollError> {
        self.shared.polls.remove(id)
    }

    /// Counts what other crates count through the facade [`metrics`] here, once it is installed there: see
    /// [`MetricsRecorder`](super::MetricsRecorder).
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn metrics_recorder(&self) -> super::MetricsRecorder {
        let recorder = super::MetricsRecorder::new(&self.shared.registry);
        let inner = Arc::downgrade(recorder.inner());
        self.shared.remind(inner);
        recorder
    }

    /// All metrics as they are now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.metrics_for("")
    }

    /// The metrics whose name is `prefix` or begins with it as whole words; see [`Snapshot::metrics_for`].
    #[must_use]
    pub fn metrics_for(&self, prefix: &str) -> Snapshot {
        Snapshot {
            unix_ms: self.shared.clock.unix_ms(),
            families: self.shared.registry.read(prefix),
        }
    }

    /// All metrics as text; send it with [`Format::content_type`].
    #[must_use]
    pub fn render(&self, format: Format) -> String {
        let mut text = Text::new(format);
        self.shared.registry.write(&mut text);
        text.finish()
    }

    /// The last minutes of the metrics whose name begins with `prefix`, as the service kept them.
    #[must_use]
    pub fn history(&self, prefix: &str) -> Vec<Track> {
        self.shared.history.lock().tracks(prefix)
    }
}
