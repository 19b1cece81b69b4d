//! Metrics over executed events: the handler that feeds them.

use std::{
    cell::Cell,
    io::Write as _,
    sync::{Arc, OnceLock},
};

use super::{
    Counter, DefineError, Definition, Description, Emission, EventName, Gauge, Histogram, Kind,
    MetricError, MetricName,
    counter::CounterCells,
    definition::What,
    families::Reserved,
    gauge::GaugeCell,
    histogram::HistogramCells,
    registry::{Found, Registry},
    remembered::{Forgetful, Remembered},
    storage::{Cells, Shape},
    sum::{Sum, SumCells},
    summary::{Summary, SummaryCells},
};

/// What was defined together, and where it is counted.
#[derive(Debug)]
pub(super) struct Aggregates {
    registry: Arc<Registry>,
    all: Vec<Aggregate>,
    /// Kept as long as this is there.
    names: Vec<Reserved>,
}

impl Drop for Aggregates {
    fn drop(&mut self) {
        self.registry.give_back(&self.names);
    }
}

/// One defined metric.
#[derive(Debug)]
struct Aggregate {
    definition: Definition,
    /// Without tags there is one series.
    single: OnceLock<Target>,
    /// With tags there are many: by the values of all tags, each followed by its length.
    known: Remembered<Box<[u8]>, Target>,
}

/// A series, as the kind of metric that it is.
#[derive(Debug, Clone)]
enum Target {
    Counter(Counter),
    Sum(Sum),
    LastValue(Gauge),
    Summary(Summary),
    Distribution(Histogram),
}

thread_local! {
    /// The key of the emission under way. Taken while it is in use: the values may be made by code that executes events too.
    static KEY: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl Aggregates {
    /// Has all names kept; refuses all if one cannot be had.
    pub(super) fn new(
        registry: &Arc<Registry>,
        definitions: Vec<Definition>,
    ) -> Result<Self, DefineError> {
        let names: Result<Vec<Reserved>, MetricError> = definitions.iter().map(check).collect();
        let names = names?;
        registry.reserve(&names)?;
        let aggregates = definitions.into_iter().map(|definition| Aggregate {
            definition,
            single: OnceLock::new(),
            known: Remembered::new(),
        });
        Ok(Self {
            all: aggregates.collect(),
            registry: Arc::clone(registry),
            names,
        })
    }

    pub(super) fn events(&self) -> Vec<EventName> {
        let events = self.all.iter().map(|one| one.definition.event.clone());
        events.collect()
    }

    /// Takes an emission into all metrics that are defined over its event.
    pub(super) fn take(&self, emission: &Emission<'_>) {
        for aggregate in &self.all {
            if aggregate.definition.event == *emission.name {
                aggregate.take(emission, &self.registry);
            }
        }
    }
}

impl Forgetful for Aggregates {
    fn forget(&self) {
        for aggregate in &self.all {
            aggregate.known.forget();
        }
    }
}

impl Aggregate {
    fn take(&self, emission: &Emission<'_>, registry: &Registry) {
        let definition = &self.definition;
        if definition.keep.as_ref().is_some_and(|keep| !keep(emission)) {
            return;
        }
        let value = match definition.what.measurement() {
            None => 1.0,
            Some(name) => match emission.measurements.get(name) {
                None => return,
                Some(number) => {
                    let value = number.as_f64();
                    definition.unit.map_or(value, |unit| unit.to_base(value))
                }
            },
        };
        let weight = emission.weight;
        if definition.tags.is_empty() {
            if let Some(target) = self.single.get() {
                return target.record(value, weight, registry);
            }
            // What counts in an overflow series is looked up each time.
            match registry.lookup(&definition.what, &definition.name, &[]) {
                Found::Overflow(target) => return target.record(value, weight, registry),
                Found::Own(target) => {
                    let target = self.single.get_or_init(|| target);
                    return target.record(value, weight, registry);
                }
            }
        }
        let mut key = KEY.try_with(Cell::take).unwrap_or_default();
        key.clear();
        self.write_key(emission, &mut key);
        self.record(&key, value, weight, registry);
        // Not there any more while the thread ends.
        let _ = KEY.try_with(|kept| kept.set(key));
    }

    /// The values of all tags.
    fn write_key(&self, emission: &Emission<'_>, key: &mut Vec<u8>) {
        for tag in &self.definition.tags {
            let start = key.len();
            match (&tag.value, emission.metadata.get(&tag.name)) {
                (Some(value), _) => key.extend_from_slice(value(emission).as_bytes()),
                (None, Some(super::Field::Text(text))) => key.extend_from_slice(text.as_bytes()),
                // Writing to memory cannot fail.
                (None, Some(field)) => _ = write!(key, "{field}"),
                (None, None) => {}
            }
            let length = u32::try_from(key.len() - start).unwrap_or(u32::MAX);
            key.extend_from_slice(&length.to_ne_bytes());
        }
    }

    fn record(&self, key: &[u8], value: f64, weight: u32, registry: &Registry) {
        let find = || {
            let values = values(key);
            let names = self.definition.tags.iter().map(|tag| tag.name.as_str());
            let labels: Vec<(&str, &str)> = names
                .zip(values.iter().rev().map(|value| &**value))
                .collect();
            registry.lookup(&self.definition.what, &self.definition.name, &labels)
        };
        let record = |target: &Target| target.record(value, weight, registry);
        self.known.with(key, find, record);
    }
}

/// The values in a key, the last one first.
fn values(mut key: &[u8]) -> Vec<std::borrow::Cow<'_, str>> {
    let mut values = Vec::new();
    while let Some((rest, length)) = key.split_last_chunk::<4>() {
        let length = u32::from_ne_bytes(*length) as usize;
        let (rest, value) = rest.split_at(rest.len().saturating_sub(length));
        values.push(String::from_utf8_lossy(value));
        key = rest;
    }
    values
}

impl Target {
    fn record(&self, value: f64, weight: u32, registry: &Registry) {
        match self {
            Self::Counter(counter) => counter.add(weight.into()),
            Self::Sum(sum) => {
                if !sum.add(value * f64::from(weight)) {
                    registry.refuse_value(weight.into());
                }
            }
            Self::LastValue(gauge) => gauge.set(value),
            Self::Summary(summary) => summary.record_many(value, weight.into()),
            Self::Distribution(histogram) if weight == 1 => histogram.record(value),
            Self::Distribution(histogram) => histogram.record_many(value, weight.into()),
        }
    }
}

impl Registry {
    /// A series for a definition; one that is shown nowhere if it cannot be had.
    fn lookup(&self, what: &What, name: &str, labels: &[(&str, &str)]) -> Found<Target> {
        fn found<C: Cells>(
            registry: &Registry,
            name: &str,
            labels: &[(&str, &str)],
            target: fn(C::Handle) -> Target,
        ) -> Found<Target> {
            match registry.series::<C>(name, labels) {
                Ok(Found::Own(handle)) => Found::Own(target(handle)),
                Ok(Found::Overflow(handle)) => Found::Overflow(target(handle)),
                Err(refused) => {
                    registry.refuse(&refused);
                    Found::Overflow(target(registry.lost::<C>()))
                }
            }
        }
        match what {
            What::Counter => found::<CounterCells>(self, name, labels, Target::Counter),
            What::Sum(_) => found::<SumCells>(self, name, labels, Target::Sum),
            What::LastValue(_) => found::<GaugeCell>(self, name, labels, Target::LastValue),
            What::Summary(_) => found::<SummaryCells>(self, name, labels, Target::Summary),
            What::Distribution(_) => {
                found::<HistogramCells>(self, name, labels, Target::Distribution)
            }
        }
    }
}

/// What a definition makes.
fn shape(what: &What) -> Shape {
    let (kind, whole) = match what {
        What::Counter => (Kind::Counter, true),
        What::Sum(_) => (Kind::Counter, false),
        What::LastValue(_) => (Kind::Gauge, true),
        What::Summary(_) => (Kind::Summary, true),
        What::Distribution(_) => (Kind::Histogram, true),
    };
    Shape { kind, whole }
}

/// The metric of a definition that makes sense by itself.
fn check(definition: &Definition) -> Result<Reserved, MetricError> {
    let name = &definition.name;
    let shape = shape(&definition.what);
    let metric = MetricName::new(name, shape.kind)?;
    let tags = definition.tags.iter().map(|tag| tag.name.as_str());
    let labels: Vec<(&str, &str)> = tags.clone().map(|tag| (tag, "")).collect();
    super::Labels::new(name, &labels)?;
    check_unit(&metric, definition)?;
    let said = definition.help.as_ref().map(|help| {
        let labels: Vec<&str> = tags.collect();
        Description::new(shape.kind, name, &labels, help)
    });
    Ok(Reserved {
        metric,
        shape,
        said: said.transpose()?.map(Arc::new),
    })
}

fn check_unit(metric: &MetricName, definition: &Definition) -> Result<(), MetricError> {
    let measured = definition.what != What::Counter;
    match definition.unit {
        Some(unit) if measured && metric.unit() != Some(unit.base()) => Err(MetricError::Unit {
            name: metric.as_str().to_owned(),
            unit: unit.base(),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_key_gives_its_values_back(all in prop::collection::vec(".{0,12}", 0..5)) {
            let mut key = Vec::new();
            for value in &all {
                key.extend_from_slice(value.as_bytes());
                key.extend_from_slice(&u32::try_from(value.len()).expect("short").to_ne_bytes());
            }
            let mut read: Vec<_> = values(&key).into_iter().map(std::borrow::Cow::into_owned).collect();
            read.reverse();
            prop_assert_eq!(read, all);
        }
    }
}
