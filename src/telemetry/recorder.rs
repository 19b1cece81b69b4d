//! The bridge from the `metrics` facade: what other crates count through it is counted here.

use std::{borrow::Cow, sync::Arc};

use metrics::{CounterFn, GaugeFn, HistogramFn, Key, KeyName, Metadata, SharedString};
use parking_lot::Mutex;

use super::{
    Counter, Gauge, Histogram, Kind,
    counter::CounterCells,
    gauge::GaugeCell,
    histogram::HistogramCells,
    registry::{Found, Registry},
    remembered::{Forgetful, Remembered},
    storage::Cells,
};

/// Counts what is counted through the crate [`metrics`] as metrics of a [`Telemetry`](super::Telemetry), whose
/// [`metrics_recorder`](super::Telemetry::metrics_recorder) makes it. Cheap to clone.
///
/// Characters that names here cannot have are written as `_`; so are dots. A label that is reserved here (`le`, `quantile`)
/// gets a `_` at its end. The macros look a handle up in a few dozen nanoseconds; one that is kept counts as fast as ours.
///
/// Nothing is installed by itself:
///
/// ```
/// use underpin::telemetry::{Options, Telemetry};
///
/// let telemetry = Telemetry::new(Options::default());
/// // In a program: metrics::set_global_recorder(telemetry.metrics_recorder())?;
/// metrics::with_local_recorder(&telemetry.metrics_recorder(), || {
///     metrics::counter!("requests", "method" => "get").increment(2);
///     metrics::histogram!("http.wait_seconds").record(0.25);
/// });
///
/// let snapshot = telemetry.snapshot();
/// assert_eq!(snapshot.counter("requests", &[("method", "get")]), 2);
/// assert!(snapshot.histogram("http_wait_seconds", &[]).is_some());
/// ```
#[derive(Debug, Clone)]
pub struct MetricsRecorder(Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    registry: Arc<Registry>,
    counters: Remembered<Name, metrics::Counter>,
    gauges: Remembered<Name, metrics::Gauge>,
    histograms: Remembered<Name, metrics::Histogram>,
    /// Held while a counter is set.
    setting: Arc<Mutex<()>>,
}

/// A key that is compared with those of callers.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Name(Key);

struct BridgedCounter {
    counter: Counter,
    setting: Arc<Mutex<()>>,
}

struct BridgedGauge(Gauge);

struct BridgedHistogram(Histogram);

impl MetricsRecorder {
    pub(super) fn new(registry: &Arc<Registry>) -> Self {
        Self(Arc::new(Inner {
            registry: Arc::clone(registry),
            counters: Remembered::new(),
            gauges: Remembered::new(),
            histograms: Remembered::new(),
            setting: Arc::default(),
        }))
    }

    pub(super) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }

    fn describe(&self, kind: Kind, key: &KeyName, help: &SharedString) {
        let registry = &self.0.registry;
        if let Err(refused) = registry.describe(kind, &name(key.as_str()), &[], help) {
            registry.refuse(&refused);
        }
    }
}

impl Inner {
    fn find<C: Cells, T>(&self, key: &Key, bridged: impl FnOnce(C::Handle) -> T) -> Found<T> {
        let labels: Vec<(Cow<'_, str>, &str)> = key
            .labels()
            .map(|label| (label_name(label.key()), label.value()))
            .collect();
        let labels: Vec<(&str, &str)> = labels
            .iter()
            .map(|(name, value)| (&**name, *value))
            .collect();
        match self.registry.series::<C>(&name(key.name()), &labels) {
            Ok(Found::Own(handle)) => Found::Own(bridged(handle)),
            Ok(Found::Overflow(handle)) => Found::Overflow(bridged(handle)),
            Err(refused) => {
                self.registry.refuse(&refused);
                Found::Overflow(bridged(self.registry.lost::<C>()))
            }
        }
    }
}

impl Forgetful for Inner {
    fn forget(&self) {
        self.counters.forget();
        self.gauges.forget();
        self.histograms.forget();
    }
}

impl metrics::Recorder for MetricsRecorder {
    fn describe_counter(&self, key: KeyName, _: Option<metrics::Unit>, help: SharedString) {
        self.describe(Kind::Counter, &key, &help);
    }

    fn describe_gauge(&self, key: KeyName, _: Option<metrics::Unit>, help: SharedString) {
        self.describe(Kind::Gauge, &key, &help);
    }

    fn describe_histogram(&self, key: KeyName, _: Option<metrics::Unit>, help: SharedString) {
        self.describe(Kind::Histogram, &key, &help);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> metrics::Counter {
        let find = || {
            self.0.find::<CounterCells, _>(key, |counter| {
                let setting = Arc::clone(&self.0.setting);
                metrics::Counter::from_arc(Arc::new(BridgedCounter { counter, setting }))
            })
        };
        self.0.counters.with(key, find, Clone::clone)
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> metrics::Gauge {
        let find = || {
            self.0.find::<GaugeCell, _>(key, |gauge| {
                metrics::Gauge::from_arc(Arc::new(BridgedGauge(gauge)))
            })
        };
        self.0.gauges.with(key, find, Clone::clone)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> metrics::Histogram {
        let find = || {
            self.0.find::<HistogramCells, _>(key, |histogram| {
                metrics::Histogram::from_arc(Arc::new(BridgedHistogram(histogram)))
            })
        };
        self.0.histograms.with(key, find, Clone::clone)
    }
}

impl CounterFn for BridgedCounter {
    fn increment(&self, value: u64) {
        self.counter.add(value);
    }

    /// One after the other, so that two that set the same total do not both add what is missing.
    fn absolute(&self, value: u64) {
        let _turn = self.setting.lock();
        self.counter.add(value.saturating_sub(self.counter.value()));
    }
}

impl GaugeFn for BridgedGauge {
    fn increment(&self, value: f64) {
        self.0.add(value);
    }

    fn decrement(&self, value: f64) {
        self.0.add(-value);
    }

    fn set(&self, value: f64) {
        self.0.set(value);
    }
}

impl HistogramFn for BridgedHistogram {
    fn record(&self, value: f64) {
        self.0.record(value);
    }

    fn record_many(&self, value: f64, count: usize) {
        self.0.record_many(value, count as u64);
    }
}

impl From<&Key> for Name {
    fn from(key: &Key) -> Self {
        Self(key.to_retained())
    }
}

impl std::borrow::Borrow<Key> for Name {
    fn borrow(&self) -> &Key {
        &self.0
    }
}

/// The name as it can be had here.
fn name(given: &str) -> Cow<'_, str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let written = if given.chars().all(fits) {
        Cow::Borrowed(given)
    } else {
        let written = given.chars().map(|c| if fits(c) { c } else { '_' });
        Cow::Owned(written.collect())
    };
    if written.starts_with(|first: char| first.is_ascii_digit()) {
        Cow::Owned(format!("_{written}"))
    } else {
        written
    }
}

fn label_name(given: &str) -> Cow<'_, str> {
    let written = name(given);
    if written.starts_with("__") {
        return Cow::Owned(format!("label{written}"));
    }
    match &*written {
        "le" | "quantile" => Cow::Owned(format!("{written}_")),
        _ => written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_others_are_written_as_they_can_be_had_here() {
        for (given, written) in [
            ("requests", "requests"),
            ("http.requests", "http.requests"),
            ("a-b/c d", "a_b_c_d"),
            ("größe", "gr__e"),
            ("9lives", "_9lives"),
        ] {
            assert_eq!(name(given), written);
        }
        for (given, written) in [
            ("le", "le_"),
            ("quantile", "quantile_"),
            ("__x", "label__x"),
            ("a-b", "a_b"),
        ] {
            assert_eq!(label_name(given), written);
        }
    }
}
