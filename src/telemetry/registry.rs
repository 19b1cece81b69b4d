//! All metrics of a node: who may have which name, which series exist, which of them are idle.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use parking_lot::RwLock;

use super::{
    Counter, FamilySnapshot, Kind, Labels, MetricError, MetricName, Reading, SeriesSnapshot,
    counter::CounterCells,
    gauge::{GaugeCell, SumCell},
    histogram::HistogramCells,
    history::Part,
};

/// Cells of one kind of metric, so that one lookup serves all kinds.
pub(super) trait Cells: Sized {
    const KIND: Kind;
    fn new(refused_values: &Counter) -> Self;
    fn into_storage(self: Arc<Self>) -> Storage;
    fn from_storage(storage: &Storage) -> Option<&Arc<Self>>;
}

/// The cells of one series.
#[derive(Debug)]
pub(super) enum Storage {
    Counter(Arc<CounterCells>),
    Sum(Arc<SumCell>),
    Gauge(Arc<GaugeCell>),
    Histogram(Arc<HistogramCells>),
}

/// Names, series and their limits. Locked when a series is looked up, read or swept; never when one is written to.
#[derive(Debug)]
pub(super) struct Registry {
    metrics: RwLock<Metrics>,
    limits: Limits,
    refused_values: Counter,
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

#[derive(Debug, Default)]
struct Metrics {
    families: BTreeMap<MetricName, Family>,
    /// Which metric writes a line of which name.
    lines: HashMap<String, MetricName>,
    help: HashMap<MetricName, Arc<str>>,
}

#[derive(Debug)]
struct Family {
    kind: Kind,
    series: BTreeMap<Labels, Series>,
}

#[derive(Debug)]
struct Series {
    storage: Storage,
    activity: Activity,
}

/// What the sweeps saw of a gauge or histogram.
#[derive(Debug, Clone, Copy)]
enum Activity {
    /// Not seen by a sweep yet.
    New,
    /// Written to before the sweep at this time; a histogram then held so many values.
    Seen { at: Duration, count: u64 },
    /// Idle for longer than the retention, kept for the handles that exist, and not shown until written to.
    Hidden { count: u64 },
}

impl<C> Found<C> {
    pub(super) fn into_cells(self) -> C {
        match self {
            Self::Own(cells) | Self::Overflow(cells) => cells,
        }
    }
}

impl Registry {
    pub(super) fn new(limits: Limits, refused_values: Counter) -> Self {
        Self {
            metrics: RwLock::default(),
            limits,
            refused_values,
        }
    }

    /// The cells of a series, made if they do not exist.
    pub(super) fn series<C: Cells>(
        &self,
        name: &str,
        labels: &[(&str, &str)],
    ) -> Result<Found<Arc<C>>, MetricError> {
        let metric = MetricName::new(name, C::KIND)?;
        let labels = Labels::new(name, labels)?;
        let found = self.metrics.read().find(&metric, &labels)?;
        if let Some(cells) = found {
            return Ok(Found::Own(cells));
        }
        let mut metrics = self.metrics.write();
        // Another thread may have made it between the two locks.
        if let Some(cells) = metrics.find(&metric, &labels)? {
            return Ok(Found::Own(cells));
        }
        let family = metrics.family(&metric, C::KIND, self.limits.names)?;
        if family.has_room(self.limits.series) && !labels.is_oversized() {
            return Ok(Found::Own(family.make(labels, &self.refused_values)));
        }
        Ok(Found::Overflow(
            family.make(Labels::overflow(), &self.refused_values),
        ))
    }

    /// Puts existing cells under a name; for the registry's own metrics, whose cells are there first.
    pub(super) fn adopt<C: Cells>(&self, name: &str, cells: Arc<C>) -> Result<(), MetricError> {
        let metric = MetricName::new(name, C::KIND)?;
        let mut metrics = self.metrics.write();
        let family = metrics.family(&metric, C::KIND, self.limits.names)?;
        family.series.insert(Labels::default(), Series::new(cells));
        Ok(())
    }

    /// Says what a metric means, whether or not it exists yet.
    pub(super) fn describe(&self, name: &str, help: &str) -> Result<(), MetricError> {
        // Whatever its kind will be: a counter's name is looked up with and without `_total`.
        let metric = MetricName::new(name, Kind::Counter)?;
        let mut metrics = self.metrics.write();
        let fits = metrics.help.len() < self.limits.names || metrics.help.contains_key(&metric);
        if !fits {
            return Err(MetricError::TooManyNames {
                name: name.to_owned(),
                max: self.limits.names,
            });
        }
        metrics.help.insert(metric, help.into());
        Ok(())
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
            kind: family.kind,
            help: metrics.help_for(name),
            series: family.read(),
        });
        shown.filter(|family| !family.series.is_empty()).collect()
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
        let mut metrics = self.metrics.write();
        let mut expired = 0;
        for family in metrics.families.values_mut() {
            family.series.retain(|_, series| {
                let before = series.activity;
                series.observe(now, retention);
                let hidden = matches!(series.activity, Activity::Hidden { .. });
                expired += usize::from(hidden && !matches!(before, Activity::Hidden { .. }));
                !hidden || series.storage.has_handles()
            });
        }
        metrics.drop_empty_families();
        expired
    }
}

impl Metrics {
    fn find<C: Cells>(
        &self,
        name: &MetricName,
        labels: &Labels,
    ) -> Result<Option<Arc<C>>, MetricError> {
        let Some(family) = self.families.get(name) else {
            return Ok(None);
        };
        family.must_be(name, C::KIND)?;
        let series = family.series.get(labels);
        Ok(series.and_then(|series| C::from_storage(&series.storage).cloned()))
    }

    fn family(
        &mut self,
        name: &MetricName,
        kind: Kind,
        names_max: usize,
    ) -> Result<&mut Family, MetricError> {
        if !self.families.contains_key(name) {
            self.claim(name, kind, names_max)?;
        }
        let family = self.families.entry(name.clone()).or_insert_with(|| Family {
            kind,
            series: BTreeMap::new(),
        });
        family.must_be(name, kind)?;
        Ok(family)
    }

    /// Takes all lines that a new metric may write, or none.
    fn claim(
        &mut self,
        name: &MetricName,
        kind: Kind,
        names_max: usize,
    ) -> Result<(), MetricError> {
        let taken = name
            .lines(kind)
            .find_map(|line| Some((self.lines.get(&line)?.clone(), line)));
        if let Some((other, line)) = taken {
            return Err(MetricError::Clash {
                name: name.as_str().to_owned(),
                line,
                other: other.as_str().to_owned(),
            });
        }
        if self.families.len() >= names_max {
            return Err(MetricError::TooManyNames {
                name: name.as_str().to_owned(),
                max: names_max,
            });
        }
        self.lines
            .extend(name.lines(kind).map(|line| (line, name.clone())));
        Ok(())
    }

    fn help_for(&self, name: &MetricName) -> Option<Arc<str>> {
        self.help.get(&name.without_total()).cloned()
    }

    fn drop_empty_families(&mut self) {
        self.families.retain(|_, family| !family.series.is_empty());
        let Self {
            families, lines, ..
        } = self;
        lines.retain(|_, name| families.contains_key(name));
    }
}

impl Family {
    fn must_be(&self, name: &MetricName, wanted: Kind) -> Result<(), MetricError> {
        if self.kind == wanted {
            return Ok(());
        }
        Err(MetricError::OtherKind {
            name: name.as_str().to_owned(),
            is: self.kind,
            wanted,
        })
    }

    /// The overflow series comes on top of the limit.
    fn has_room(&self, series_max: usize) -> bool {
        let overflow = self.series.contains_key(&Labels::overflow());
        self.series.len() - usize::from(overflow) < series_max
    }

    fn make<C: Cells>(&mut self, labels: Labels, refused_values: &Counter) -> Arc<C> {
        let existing = self
            .series
            .get(&labels)
            .and_then(|series| C::from_storage(&series.storage).cloned());
        existing.unwrap_or_else(|| {
            let cells = Arc::new(C::new(refused_values));
            self.series.insert(labels, Series::new(Arc::clone(&cells)));
            cells
        })
    }

    fn read(&self) -> Vec<SeriesSnapshot> {
        let shown = self.series.iter().filter(|(_, series)| series.is_shown());
        shown
            .map(|(labels, series)| SeriesSnapshot {
                labels: labels.clone(),
                reading: series.storage.read(),
            })
            .collect()
    }
}

impl Series {
    fn new<C: Cells>(cells: Arc<C>) -> Self {
        Self {
            storage: cells.into_storage(),
            activity: Activity::New,
        }
    }

    fn observe(&mut self, now: Duration, retention: Duration) {
        let count = self.storage.count();
        let wrote = self.storage.take_touched();
        self.activity = match self.activity {
            Activity::Hidden { count: was } if !wrote && count == was => Activity::Hidden { count },
            Activity::Seen { at, count: was } if !wrote && count == was => {
                if self.storage.can_expire() && now.saturating_sub(at) > retention {
                    Activity::Hidden { count }
                } else {
                    Activity::Seen { at, count }
                }
            }
            Activity::New | Activity::Seen { .. } | Activity::Hidden { .. } => {
                Activity::Seen { at: now, count }
            }
        };
    }

    fn is_shown(&self) -> bool {
        match self.activity {
            Activity::New | Activity::Seen { .. } => true,
            Activity::Hidden { count } => {
                self.storage.is_touched() || self.storage.count() != count
            }
        }
    }
}

impl Storage {
    fn read(&self) -> Reading {
        match self {
            Self::Counter(cells) => Reading::Counter(cells.value()),
            Self::Sum(cell) => Reading::Sum(cell.value()),
            Self::Gauge(cell) => Reading::Gauge(cell.value()),
            Self::Histogram(cells) => Reading::Histogram(cells.distribution()),
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a chart does not show what is beyond 2^53"
    )]
    fn sample(&self, mut see: impl FnMut(Part, f64)) {
        match self {
            Self::Counter(cells) => see(Part::Value, cells.value() as f64),
            Self::Sum(cell) => see(Part::Value, cell.value()),
            Self::Gauge(cell) => see(Part::Value, cell.value()),
            Self::Histogram(cells) => {
                see(Part::Count, cells.count() as f64);
                see(Part::Sum, cells.sum());
            }
        }
    }

    /// Counters never expire: a total that vanished and came back at zero would be a lie.
    fn can_expire(&self) -> bool {
        !matches!(self, Self::Counter(_) | Self::Sum(_))
    }

    /// Whether somebody outside the registry could still write. A new handle is only made from an existing one or under
    /// the registry's lock, so that under that lock `false` stays true.
    fn has_handles(&self) -> bool {
        match self {
            Self::Counter(cells) => Arc::strong_count(cells) > 1,
            Self::Sum(cell) => Arc::strong_count(cell) > 1,
            Self::Gauge(cell) => Arc::strong_count(cell) > 1,
            Self::Histogram(cells) => Arc::strong_count(cells) > 1,
        }
    }

    /// How many values a histogram holds. 0 for others: gauges say themselves whether they were touched.
    fn count(&self) -> u64 {
        match self {
            Self::Histogram(cells) => cells.count(),
            Self::Counter(_) | Self::Sum(_) | Self::Gauge(_) => 0,
        }
    }

    fn is_touched(&self) -> bool {
        matches!(self, Self::Gauge(cell) if cell.is_touched())
    }

    fn take_touched(&self) -> bool {
        matches!(self, Self::Gauge(cell) if cell.take_touched())
    }
}

impl Cells for CounterCells {
    const KIND: Kind = Kind::Counter;

    fn new(_: &Counter) -> Self {
        Self::new()
    }

    fn into_storage(self: Arc<Self>) -> Storage {
        Storage::Counter(self)
    }

    fn from_storage(storage: &Storage) -> Option<&Arc<Self>> {
        match storage {
            Storage::Counter(cells) => Some(cells),
            _ => None,
        }
    }
}

impl Cells for GaugeCell {
    const KIND: Kind = Kind::Gauge;

    fn new(_: &Counter) -> Self {
        Self::default()
    }

    fn into_storage(self: Arc<Self>) -> Storage {
        Storage::Gauge(self)
    }

    fn from_storage(storage: &Storage) -> Option<&Arc<Self>> {
        match storage {
            Storage::Gauge(cell) => Some(cell),
            _ => None,
        }
    }
}

impl Cells for SumCell {
    const KIND: Kind = Kind::Counter;

    fn new(_: &Counter) -> Self {
        Self::default()
    }

    fn into_storage(self: Arc<Self>) -> Storage {
        Storage::Sum(self)
    }

    fn from_storage(storage: &Storage) -> Option<&Arc<Self>> {
        match storage {
            Storage::Sum(cell) => Some(cell),
            _ => None,
        }
    }
}

impl Cells for HistogramCells {
    const KIND: Kind = Kind::Histogram;

    fn new(refused_values: &Counter) -> Self {
        Self::new(refused_values.clone())
    }

    fn into_storage(self: Arc<Self>) -> Storage {
        Storage::Histogram(self)
    }

    fn from_storage(storage: &Storage) -> Option<&Arc<Self>> {
        match storage {
            Storage::Histogram(cells) => Some(cells),
            _ => None,
        }
    }
}
