use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::Mutex;
use ractor::ActorCell;

use super::{
    Counter, Emission, EventName, Field, Format, Gauge, HandlerError, HandlerInfo, Histogram,
    Measurements, Metadata, MetricError, Number, Options, Snapshot, SpanEnd, SpanName, Track,
    actor::TelemetryActor,
    clock::Clock,
    counter::CounterCells,
    gauge::GaugeCell,
    handlers::Handlers,
    histogram::HistogramCells,
    history::History,
    message::Message,
    process::{Figures, ProcessMetrics},
    registry::{Cells, Found, Limits, Registry},
    span::Span,
    text,
};
use crate::otp::{Address, AddressStatus, CallError, ChildSpec};

/// A node's telemetry. Cheap to clone; every clone counts into and reads from the same metrics.
///
/// Nothing here asks the service's actor or waits for it, except where a function is `async`.
#[derive(Debug, Clone)]
pub struct Telemetry {
    shared: Arc<Shared>,
    service: Address<Message>,
}

/// Everything that outlives the service's actor.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) clock: Clock,
    registry: Registry,
    handlers: Handlers,
    history: Mutex<History>,
    own: OwnMetrics,
    /// Made with the first figures: a process that was never looked at does not use nothing.
    process: OnceLock<Option<ProcessMetrics>>,
}

/// What telemetry says about itself.
#[derive(Debug)]
struct OwnMetrics {
    refused_metrics: Counter,
    overflowed: Counter,
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
        self.try_counter(name, labels).unwrap_or_else(|refused| {
            self.shared.refuse(&refused);
            Counter::over(Arc::new(CounterCells::new()))
        })
    }

    /// As [`counter`](Self::counter), with the refusal as an error.
    ///
    /// # Errors
    ///
    /// [`MetricError`] if the name or a label is not usable, or the name is another kind of metric's.
    pub fn try_counter(&self, name: &str, labels: &[(&str, &str)]) -> Result<Counter, MetricError> {
        self.shared.series(name, labels).map(Counter::over)
    }

    /// A handle to the gauge of this name and these labels; everything else as with [`counter`](Self::counter). A gauge
    /// that nobody wrote to for [`Options::retention`] is not shown until it is written to again.
    #[must_use]
    pub fn gauge(&self, name: &str, labels: &[(&str, &str)]) -> Gauge {
        self.try_gauge(name, labels).unwrap_or_else(|refused| {
            self.shared.refuse(&refused);
            Gauge::over(Arc::default())
        })
    }

    /// As [`gauge`](Self::gauge), with the refusal as an error.
    ///
    /// # Errors
    ///
    /// As [`try_counter`](Self::try_counter).
    pub fn try_gauge(&self, name: &str, labels: &[(&str, &str)]) -> Result<Gauge, MetricError> {
        self.shared
            .series::<GaugeCell>(name, labels)
            .map(Gauge::over)
    }

    /// A handle to the histogram of this name and these labels; everything else as with [`gauge`](Self::gauge).
    #[must_use]
    pub fn histogram(&self, name: &str, labels: &[(&str, &str)]) -> Histogram {
        self.try_histogram(name, labels).unwrap_or_else(|refused| {
            self.shared.refuse(&refused);
            Histogram::over(Arc::new(HistogramCells::new(Counter::over(Arc::new(
                CounterCells::new(),
            )))))
        })
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
        self.shared.series(name, labels).map(Histogram::over)
    }

    /// Says what a metric means, for those who read it; before or after it is first used.
    ///
    /// # Errors
    ///
    /// [`MetricError::Name`] if no metric can have this name, [`MetricError::TooManyNames`] if there are too many.
    pub fn describe(&self, name: &str, help: &str) -> Result<(), MetricError> {
        self.shared.registry.describe(name, help)
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
        text::render(&self.shared.registry.read(""), format)
    }

    /// The last minutes of the metrics whose name begins with `prefix`, as the service kept them.
    #[must_use]
    pub fn history(&self, prefix: &str) -> Vec<Track> {
        self.shared.history.lock().tracks(prefix)
    }

    /// Runs the handlers of an event, here and now, one after the other. An event is handled if its name is exactly the
    /// one that a handler was attached to; without handlers this costs some nanoseconds.
    ///
    /// A handler that panics is detached from all its events, and [`HANDLER_FAILURE`](super::HANDLER_FAILURE) is
    /// executed; the other handlers still run, and the emitter goes on.
    ///
    /// ```
    /// use underpin::telemetry::{EventName, Options, Telemetry};
    ///
    /// static SOLD: EventName = EventName::from_static(&["shop", "sold"]);
    ///
    /// let telemetry = Telemetry::new(Options::default());
    /// let pieces = telemetry.counter("shop_pieces", &[]);
    /// telemetry.attach("count-pieces", &SOLD, pieces.clone(), |sold, pieces| {
    ///     if let Some(n) = sold.measurements.get("pieces") {
    ///         pieces.add(n.as_f64() as u64);
    ///     }
    /// })?;
    ///
    /// telemetry.execute(&SOLD, &[("pieces", 3.into())], &[("article", "tea".into())]);
    ///
    /// assert_eq!(pieces.value(), 3);
    /// # Ok::<(), underpin::telemetry::HandlerError>(())
    /// ```
    #[inline]
    pub fn execute(
        &self,
        name: &EventName,
        measurements: &[(&str, Number)],
        metadata: &[(&str, Field<'_>)],
    ) {
        self.shared.handlers.execute(&Emission {
            name,
            measurements: Measurements::new(measurements, &[]),
            metadata: Metadata::new(metadata, &[]),
        });
    }

    /// Attaches a handler to one event. It runs in whoever executes the event and should be quick; `config` is handed to
    /// it each time. An emission that is under way may miss it.
    ///
    /// # Errors
    ///
    /// [`HandlerError::AlreadyExists`] if the id is taken, whatever its events.
    pub fn attach<C, F>(
        &self,
        id: &str,
        event: &EventName,
        config: C,
        handler: F,
    ) -> Result<(), HandlerError>
    where
        C: fmt::Debug + Send + Sync + 'static,
        F: Fn(&Emission<'_>, &C) + Send + Sync + 'static,
    {
        self.attach_many(id, std::slice::from_ref(event), config, handler)
    }

    /// Attaches one handler to several events, all or none.
    ///
    /// # Errors
    ///
    /// As [`attach`](Self::attach), and [`HandlerError::NoEvent`] if there is no event.
    pub fn attach_many<C, F>(
        &self,
        id: &str,
        events: &[EventName],
        config: C,
        handler: F,
    ) -> Result<(), HandlerError>
    where
        C: fmt::Debug + Send + Sync + 'static,
        F: Fn(&Emission<'_>, &C) + Send + Sync + 'static,
    {
        self.shared.handlers.attach(id, events, config, handler)
    }

    /// Detaches a handler from all its events. An emission that is under way may still run it.
    ///
    /// # Errors
    ///
    /// [`HandlerError::NotFound`] if no handler has this id.
    pub fn detach(&self, id: &str) -> Result<(), HandlerError> {
        self.shared.handlers.detach(id)
    }

    /// The handlers of all events that begin with these parts; with none, all handlers. One that listens to several
    /// events is listed with each.
    #[must_use]
    pub fn list_handlers(&self, prefix: &[&str]) -> Vec<HandlerInfo> {
        self.shared.handlers.list(prefix)
    }

    /// Runs `work` between a `start` and a `stop` event; if it panics, between `start` and `exception`, and the panic goes
    /// on. All three carry the same `telemetry_span_context`, one that no other span has unless the metadata brings its own.
    ///
    /// `start` and `exception` have the metadata given; `stop` has what the work noted.
    ///
    /// ```
    /// use underpin::telemetry::{Options, SpanName, Telemetry};
    ///
    /// static QUERY: SpanName = SpanName::from_static(&["db", "query"]);
    ///
    /// let telemetry = Telemetry::new(Options::default());
    /// let rows = telemetry.span(&QUERY, &[("table", "users".into())], |end| {
    ///     end.measure("rows", 17);
    ///     vec![0; 17]
    /// });
    /// assert_eq!(rows.len(), 17);
    /// ```
    ///
    /// # Panics
    ///
    /// If `work` does.
    pub fn span<T>(
        &self,
        name: &SpanName,
        metadata: &[(&str, Field<'_>)],
        work: impl FnOnce(&mut SpanEnd) -> T,
    ) -> T {
        Span::start(&self.shared.handlers, &self.shared.clock, name, metadata).run(work)
    }
}

impl Shared {
    fn new(options: Options) -> Self {
        let clock = Clock::start();
        let new_counter = || Arc::new(CounterCells::new());
        let [refused_metrics, overflowed, refused_values, failures] =
            std::array::from_fn(|_| new_counter());
        let limits = Limits {
            names: options.names_max,
            series: options.series_max,
        };
        let registry = Registry::new(limits, Counter::over(Arc::clone(&refused_values)));
        for (name, help, cells) in [
            (
                "refused_metrics",
                "Lookups of metrics with a name or labels that cannot be had.",
                &refused_metrics,
            ),
            (
                "overflowed",
                "Lookups that were given a metric's overflow series.",
                &overflowed,
            ),
            (
                "refused_values",
                "Values recorded in histograms that are no finite number.",
                &refused_values,
            ),
            (
                "handler_failures",
                "Event handlers that panicked and were detached.",
                &failures,
            ),
        ] {
            let name = format!("underpin_telemetry_{name}");
            let adopted = registry
                .adopt(&name, Arc::clone(cells))
                .and_then(|()| registry.describe(&name, help));
            report(adopted);
        }
        Self {
            clock,
            handlers: Handlers::new(Counter::over(failures), clock),
            history: Mutex::new(History::new(options.history_points, options.history_tracks)),
            own: OwnMetrics {
                refused_metrics: Counter::over(refused_metrics),
                overflowed: Counter::over(overflowed),
            },
            process: OnceLock::new(),
            registry,
            options,
        }
    }

    fn series<C: Cells>(&self, name: &str, labels: &[(&str, &str)]) -> Result<Arc<C>, MetricError> {
        let found = self.registry.series(name, labels)?;
        if matches!(found, Found::Overflow(_)) {
            self.own.overflowed.inc();
        }
        Ok(found.into_cells())
    }

    /// Logs the first, second, fourth, eighth and so on: a bad name in a loop must not fill a disk.
    fn refuse(&self, refused: &MetricError) {
        self.own.refused_metrics.inc();
        let so_far = self.own.refused_metrics.value();
        if so_far.is_power_of_two() {
            tracing::error!(so_far, "metric not shown: {refused}");
        }
    }

    /// Adds a point to the history.
    pub(super) fn remember(&self) {
        let mut history = self.history.lock();
        history.begin(self.clock.unix_ms());
        self.registry
            .sample(|name, labels, part, number| history.put(name, labels, part, number));
    }

    /// Forgets or hides idle series; returns how many.
    pub(super) fn sweep(&self) -> usize {
        self.registry
            .sweep(self.clock.now(), self.options.retention)
    }

    pub(super) fn show_process(&self, figures: &Figures) {
        let metrics = self
            .process
            .get_or_init(|| report(ProcessMetrics::new(&self.registry)));
        if let Some(metrics) = metrics {
            metrics.show(figures);
        }
    }
}

/// Telemetry's own metrics can only be refused where the limits leave no room for them.
fn report<T>(own: Result<T, MetricError>) -> Option<T> {
    own.inspect_err(|refused| tracing::error!("telemetry's own metric not shown: {refused}"))
        .ok()
}
