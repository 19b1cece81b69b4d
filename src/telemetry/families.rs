//! Which metrics there are, and who keeps them. Pure but for the cells.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use super::{
    Counter, Description, Kind, Labels, MetricError, MetricName, SeriesSnapshot,
    registry::{Found, Limits},
    series::Series,
    storage::{Cells, Shape, shape},
};

#[derive(Debug, Default)]
pub(super) struct Metrics {
    pub(super) families: BTreeMap<MetricName, Family>,
    /// Which metric writes a line of which name.
    lines: HashMap<String, MetricName>,
    /// What was said of metrics for good, whether they exist or not.
    described: BTreeMap<MetricName, Description>,
}

#[derive(Debug)]
pub(super) struct Family {
    pub(super) shape: Shape,
    pub(super) series: BTreeMap<Labels, Series>,
    /// For whom it is kept, with or without series, and what they say of it: the last one's word counts.
    kept: Vec<Option<Arc<Description>>>,
}

/// A metric that is kept for somebody, and described by them as long as it is.
#[derive(Debug, Clone)]
pub(super) struct Reserved {
    pub(super) metric: MetricName,
    pub(super) shape: Shape,
    pub(super) said: Option<Arc<Description>>,
}

impl Metrics {
    /// The series if it is there, or the one that takes what does not fit if it is there and this one would not fit.
    pub(super) fn find<C: Cells>(
        &self,
        name: &MetricName,
        labels: &Labels,
        limits: &Limits,
    ) -> Result<Option<Found<Arc<C>>>, MetricError> {
        let Some(family) = self.families.get(name) else {
            return Ok(None);
        };
        family.must_be(shape::<C>(), name)?;
        if let Some(cells) = family.get(labels) {
            return Ok(Some(Found::Own(cells)));
        }
        if family.has_room(limits.series) {
            return Ok(None);
        }
        Ok(family.get(&Labels::overflow()).map(Found::Overflow))
    }

    pub(super) fn family(
        &mut self,
        name: &MetricName,
        shape: Shape,
        names_max: usize,
    ) -> Result<&mut Family, MetricError> {
        if !self.families.contains_key(name) {
            self.must_be_free(name, shape.kind, names_max)?;
            self.lines
                .extend(name.lines(shape.kind).map(|line| (line, name.clone())));
        }
        let family = self.families.entry(name.clone()).or_insert_with(|| Family {
            shape,
            series: BTreeMap::new(),
            kept: Vec::new(),
        });
        family.must_be(shape, name)?;
        Ok(family)
    }

    /// Keeps metrics, all or none.
    pub(super) fn reserve(
        &mut self,
        metrics: &[Reserved],
        names_max: usize,
    ) -> Result<(), MetricError> {
        for (at, metric) in metrics.iter().enumerate() {
            match self.family(&metric.metric, metric.shape, names_max) {
                Ok(family) => family.kept.push(metric.said.clone()),
                Err(refused) => {
                    self.give_back(&metrics[..at]);
                    return Err(refused);
                }
            }
        }
        Ok(())
    }

    /// Keeps metrics no more for those for whom they were reserved, nor what they said.
    pub(super) fn give_back(&mut self, metrics: &[Reserved]) {
        for metric in metrics {
            let Some(family) = self.families.get_mut(&metric.metric) else {
                continue;
            };
            let own = |kept: &Option<Arc<Description>>| match (kept, &metric.said) {
                (Some(kept), Some(said)) => Arc::ptr_eq(kept, said),
                (kept, said) => kept.is_none() && said.is_none(),
            };
            if let Some(at) = family.kept.iter().position(own) {
                family.kept.remove(at);
            }
        }
        self.drop_empty_families();
    }

    /// Says what a metric means, whether or not it exists yet.
    pub(super) fn describe(
        &mut self,
        description: Description,
        names_max: usize,
    ) -> Result<(), MetricError> {
        let name = &description.name;
        if !self.described.contains_key(name) && self.described.len() >= names_max {
            return Err(MetricError::TooManyNames {
                name: name.as_str().to_owned(),
                max: names_max,
            });
        }
        self.described.insert(name.clone(), description);
        Ok(())
    }

    /// What was said of metrics, by name.
    pub(super) fn descriptions(&self, prefix: &str) -> Vec<Description> {
        let kept = self
            .families
            .iter()
            .filter_map(|(name, family)| Some((name, family.said()?)));
        let all: BTreeMap<&MetricName, &Description> = self.described.iter().chain(kept).collect();
        let wanted = all.into_iter().filter(|(name, _)| name.starts_with(prefix));
        wanted.map(|(_, said)| said.clone()).collect()
    }

    /// Forgets or hides the series that were idle for longer than `retention`; answers how many.
    pub(super) fn sweep(&mut self, now: Duration, retention: Duration) -> usize {
        let mut expired = 0;
        for family in self.families.values_mut() {
            family.series.retain(|_, series| {
                expired += usize::from(series.expires(now, retention));
                series.stays()
            });
        }
        self.drop_empty_families();
        expired
    }

    /// Whether a new metric may have all lines that it may write.
    fn must_be_free(
        &self,
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
        Ok(())
    }

    pub(super) fn help_for<'a>(
        &'a self,
        name: &MetricName,
        family: &'a Family,
    ) -> Option<&'a Arc<str>> {
        let described = || {
            let described = self.described.get(name)?;
            (described.kind == family.shape.kind).then_some(&described.help)
        };
        let Some(said) = family.said() else {
            return described();
        };
        Some(&said.help)
    }

    fn drop_empty_families(&mut self) {
        self.families
            .retain(|_, family| !family.series.is_empty() || !family.kept.is_empty());
        let Self {
            families, lines, ..
        } = self;
        lines.retain(|_, name| families.contains_key(name));
    }
}

impl Family {
    /// What those say of it for whom it is kept.
    fn said(&self) -> Option<&Description> {
        self.kept.iter().rev().find_map(Option::as_deref)
    }

    fn must_be(&self, wanted: Shape, name: &MetricName) -> Result<(), MetricError> {
        let name = || name.as_str().to_owned();
        if self.shape.kind != wanted.kind {
            return Err(MetricError::OtherKind {
                name: name(),
                is: self.shape.kind,
                wanted: wanted.kind,
            });
        }
        if self.shape.whole != wanted.whole {
            return Err(MetricError::OtherNumbers { name: name() });
        }
        Ok(())
    }

    /// The overflow series comes on top of the limit.
    pub(super) fn has_room(&self, series_max: usize) -> bool {
        let overflow = self.series.contains_key(&Labels::overflow());
        self.series.len() - usize::from(overflow) < series_max
    }

    fn get<C: Cells>(&self, labels: &Labels) -> Option<Arc<C>> {
        let series = self.series.get(labels)?;
        C::from_storage(&series.storage).cloned()
    }

    pub(super) fn make<C: Cells>(&mut self, labels: Labels, refused_values: &Counter) -> Arc<C> {
        self.get(&labels).unwrap_or_else(|| {
            let cells = Arc::new(C::new(refused_values));
            let series = Series::new(&labels, Arc::clone(&cells));
            self.series.insert(labels, series);
            cells
        })
    }

    pub(super) fn read(&self) -> Vec<SeriesSnapshot> {
        let shown = self.series.iter().filter(|(_, series)| series.is_shown());
        shown
            .map(|(labels, series)| SeriesSnapshot {
                labels: labels.clone(),
                reading: series.storage.read(),
            })
            .collect()
    }
}
