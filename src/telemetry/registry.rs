//! All metrics of a node: who may have which name, which series exist, which of them are idle.

use std::{sync::Arc, time::Duration};

use parking_lot::{Mutex, RwLock};

use super::{
    Counter, Description, FamilySnapshot, Kind, Labels, MetricError, MetricName,
    alarms::Overflow,
    counter::CounterCells,
    families::{Metrics, Reserved},
    history::Part,
    series::Series,
    storage::{Cells, shape},
    text::Text,
};
use crate::otp::Context;

/// Names, series and their limits. Locked when a series is looked up, read or swept; never when one is written to.
#[derive(Debug)]
pub(super) struct Registry {
    metrics: RwLock<Metrics>,
    limits: Limits,
    own: OwnMetrics,
    /// Metrics that got their overflow series, until the service tells of them; at most as many as there may be metrics. Handlers are not
    /// run where a series is looked up: there may be locks.
    overflows: Mutex<Vec<Overflow>>,
}

/// What the registry counts about itself.
#[derive(Debug)]
struct OwnMetrics {
    refused_metrics: Counter,
    refused_values: Counter,
    overflowed: Counter,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) names: usize,
    pub(super) series: usize,
}

/// A series, and whether it is the one that takes what does not fit.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<C> {
    Own(C),
    Overflow(C),
}

impl<C> Found<C> {
    pub(super) fn into_inner(self) -> C {
        match self {
            Self::Own(found) | Self::Overflow(found) => found,
        }
    }
}

impl Registry {
    /// A registry with nothing in it but what it counts about itself.
    pub(super) fn new(limits: Limits) -> Self {
        let new_counter = || Arc::new(CounterCells::new());
        let cells: [Arc<CounterCells>; 3] = std::array::from_fn(|_| new_counter());
        let [refused_metrics, refused_values, overflowed] = cells.clone().map(Counter::over);
        let registry = Self {
            metrics: RwLock::default(),
            limits,
            own: OwnMetrics {
                refused_metrics,
                refused_values,
                overflowed,
            },
            overflows: Mutex::default(),
        };
        for ((name, help), cells) in OWN.into_iter().zip(cells) {
            let adopted = registry
                .adopt(name, cells)
                .and_then(|()| registry.describe(Kind::Counter, name, &[], help));
            report(adopted);
        }
        registry
    }

    /// A handle to a series, made if it does not exist. `Overflow` where it counts in the series that takes what does not fit.
    pub(super) fn series<C: Cells>(
        &self,
        name: &str,
        labels: &[(&str, &str)],
    ) -> Result<Found<C::Handle>, MetricError> {
        let metric = MetricName::new(name, C::KIND)?;
        let labels = Labels::new(name, labels)?;
        let found = self
            .metrics
            .read()
            .find::<C>(&metric, &labels, &self.limits)?;
        let found = match found {
            Some(found) => found,
            None => self.make::<C>(&metric, labels)?,
        };
        Ok(match found {
            Found::Own(cells) => Found::Own(cells.handle()),
            Found::Overflow(cells) => {
                self.own.overflowed.inc();
                Found::Overflow(cells.handle())
            }
        })
    }

    fn make<C: Cells>(
        &self,
        metric: &MetricName,
        labels: Labels,
    ) -> Result<Found<Arc<C>>, MetricError> {
        let mut metrics = self.metrics.write();
        // Another thread may have made it between the two locks.
        if let Some(found) = metrics.find(metric, &labels, &self.limits)? {
            return Ok(found);
        }
        let family = metrics.family(metric, shape::<C>(), self.limits.names)?;
        let refused_values = &self.own.refused_values;
        if family.has_room(self.limits.series) && !labels.is_oversized() {
            return Ok(Found::Own(family.make(labels, refused_values)));
        }
        if !family.series.contains_key(&Labels::overflow()) {
            self.note_overflow(metric);
        }
        Ok(Found::Overflow(
            family.make(Labels::overflow(), refused_values),
        ))
    }

    fn note_overflow(&self, metric: &MetricName) {
        let mut overflows = self.overflows.lock();
        if overflows.len() < self.limits.names {
            overflows.push(Overflow {
                metric: metric.clone(),
                context: Context::current(),
            });
        }
    }

    /// The metrics that got their overflow series since this was last asked.
    pub(super) fn take_overflows(&self) -> Vec<Overflow> {
        std::mem::take(&mut *self.overflows.lock())
    }

    /// A handle in any case: one that counts and is shown nowhere if the series cannot be had.
    pub(super) fn series_or_lost<C: Cells>(
        &self,
        name: &str,
        labels: &[(&str, &str)],
    ) -> C::Handle {
        let found = self.series::<C>(name, labels).map(Found::into_inner);
        found.unwrap_or_else(|refused| {
            self.refuse(&refused);
            self.lost::<C>()
        })
    }

    /// A handle that counts and is shown nowhere.
    pub(super) fn lost<C: Cells>(&self) -> C::Handle {
        Arc::new(C::new(&self.own.refused_values)).handle()
    }

    /// Counts a refusal, and logs the first, second, fourth, eighth and so on: a bad name in a loop must not fill a disk.
    pub(super) fn refuse(&self, refused: &MetricError) {
        self.own.refused_metrics.inc();
        let so_far = self.own.refused_metrics.value();
        if so_far.is_power_of_two() {
            tracing::error!(so_far, "metric not shown: {refused}");
        }
    }

    pub(super) fn refuse_value(&self, times: u64) {
        self.own.refused_values.add(times);
    }

    /// Keeps metrics and what is said of them, all or none, whatever becomes of their series, until they are given back as often.
    pub(super) fn reserve(&self, metrics: &[Reserved]) -> Result<(), MetricError> {
        self.metrics.write().reserve(metrics, self.limits.names)
    }

    pub(super) fn give_back(&self, metrics: &[Reserved]) {
        self.metrics.write().give_back(metrics);
    }

    /// Puts existing cells under a name; for the registry's own metrics, whose cells are there first.
    fn adopt(&self, name: &str, cells: Arc<CounterCells>) -> Result<(), MetricError> {
        let metric = MetricName::new(name, Kind::Counter)?;
        let mut metrics = self.metrics.write();
        let family = metrics.family(&metric, shape::<CounterCells>(), self.limits.names)?;
        let labels = Labels::default();
        family
            .series
            .insert(labels.clone(), Series::new(&labels, cells));
        Ok(())
    }

    /// Says what a metric means, whether or not it exists yet.
    pub(super) fn describe(
        &self,
        kind: Kind,
        name: &str,
        labels: &[&str],
        help: &str,
    ) -> Result<(), MetricError> {
        let description = Description::new(kind, name, labels, help)?;
        self.metrics
            .write()
            .describe(description, self.limits.names)
    }

    /// What was said of metrics, by name.
    pub(super) fn descriptions(&self, prefix: &str) -> Vec<Description> {
        self.metrics.read().descriptions(prefix)
    }

    /// All metrics whose name begins with `prefix`, idle ones left out.
    pub(super) fn read(&self, prefix: &str) -> Vec<FamilySnapshot> {
        let metrics = self.metrics.read();
        let families = metrics
            .families
            .iter()
            .filter(|(name, _)| name.starts_with(prefix));
        let shown = families.map(|(name, family)| FamilySnapshot {
            name: name.clone(),
            kind: family.shape.kind,
            help: metrics.help_for(name, family).cloned(),
            series: family.read(),
        });
        shown.filter(|family| !family.series.is_empty()).collect()
    }

    /// Writes all metrics, idle ones left out, without making a copy of them first. No new series is made meanwhile.
    pub(super) fn write(&self, text: &mut Text) {
        let metrics = self.metrics.read();
        let series = metrics.families.values().map(|family| family.series.len());
        text.expect_series(series.sum());
        for (name, family) in &metrics.families {
            let kind = family.shape.kind;
            let mut series = family.series.values().filter(|series| series.is_shown());
            let Some(first) = series.next() else {
                continue;
            };
            text.family(
                name,
                kind,
                metrics.help_for(name, family).map(AsRef::as_ref),
            );
            for series in [first].into_iter().chain(series) {
                text.series(&series.written, &series.storage.read());
            }
        }
    }

    /// Shows the numbers of every series that is not idle to `see`, cheaper than reading them whole.
    pub(super) fn sample(&self, mut see: impl FnMut(&MetricName, &Labels, Part, f64)) {
        for (name, family) in &self.metrics.read().families {
            for (labels, series) in family.series.iter().filter(|(_, series)| series.is_shown()) {
                series
                    .storage
                    .sample(|part, number| see(name, labels, part, number));
            }
        }
    }

    /// Forgets gauges and histograms that nobody wrote to for longer than `retention`. One that somebody still has a
    /// handle to is hidden until it is written to again. Returns how many were forgotten or hidden.
    pub(super) fn sweep(&self, now: Duration, retention: Duration) -> usize {
        self.metrics.write().sweep(now, retention)
    }
}

/// Names of what the registry counts about itself, in the order of its fields.
const OWN: [(&str, &str); 3] = [
    (
        "underpin_telemetry_refused_metrics",
        "Lookups of metrics with a name or labels that cannot be had.",
    ),
    (
        "underpin_telemetry_refused_values",
        "Values recorded in histograms that are no finite number, and amounts added to sums that are negative.",
    ),
    (
        "underpin_telemetry_overflowed",
        "Lookups that were given a metric's overflow series.",
    ),
];

/// Our own metrics can only be refused where the limits leave no room for them.
pub(super) fn report<T>(own: Result<T, MetricError>) -> Option<T> {
    own.inspect_err(|refused| tracing::error!("telemetry's own metric not shown: {refused}"))
        .ok()
}
