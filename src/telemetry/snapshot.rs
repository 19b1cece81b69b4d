use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Distribution, Kind, Labels, MetricName, floats};

/// All metrics as they were at one moment, by name. It is plain data: serialize it, send it, compare it. In JSON a number that is not
/// finite is a word: `"NaN"`, `"+Inf"`, `"-Inf"`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// When it was taken, in milliseconds since 1970.
    pub unix_ms: u64,
    /// The metrics, sorted by name.
    pub families: Vec<FamilySnapshot>,
}

/// One metric: all series of one name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FamilySnapshot {
    /// The name, a counter's without `_total`.
    pub name: MetricName,
    /// What it is.
    pub kind: Kind,
    /// What it means, where that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<Arc<str>>,
    /// The series, sorted by labels.
    pub series: Vec<SeriesSnapshot>,
}

/// One set of labels and its value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeriesSnapshot {
    /// The labels.
    pub labels: Labels,
    /// The value.
    #[serde(flatten)]
    pub reading: Reading,
}

/// The value of a series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reading {
    /// What a counter counted.
    Counter(u64),
    /// A counter of something that does not come in whole numbers, such as seconds.
    Sum(#[serde(with = "floats")] f64),
    /// What a gauge shows.
    Gauge(#[serde(with = "floats")] f64),
    /// What a histogram recorded.
    Histogram(Distribution),
    /// What a summary recorded.
    Summary(Distribution),
}

impl Snapshot {
    /// Only the metrics whose name is `prefix` or begins with it as whole words: `events` finds `events_stored`, not
    /// `eventually`. Dots and underscores are the same; an empty prefix finds all.
    #[must_use]
    pub fn metrics_for(&self, prefix: &str) -> Self {
        let families = self
            .families
            .iter()
            .filter(|family| family.name.starts_with(prefix));
        Self {
            unix_ms: self.unix_ms,
            families: families.cloned().collect(),
        }
    }

    /// The value of one series; labels in any order.
    #[must_use]
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<&Reading> {
        let family = self.families.iter().find(|family| {
            MetricName::new(name, family.kind).is_ok_and(|name| name == family.name)
        })?;
        let series = family
            .series
            .iter()
            .find(|series| series.labels.are(labels));
        series.map(|series| &series.reading)
    }

    /// A counter's value; 0 if it does not exist.
    #[must_use]
    pub fn counter(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        match self.get(name, labels) {
            Some(Reading::Counter(count)) => *count,
            _ => 0,
        }
    }

    /// The value of a counter of what does not come in whole numbers, such as seconds; 0 if it does not exist.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        match self.get(name, labels) {
            Some(Reading::Sum(sum)) => *sum,
            _ => 0.0,
        }
    }

    /// A gauge's value.
    #[must_use]
    pub fn gauge(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        match self.get(name, labels)? {
            Reading::Gauge(value) => Some(*value),
            _ => None,
        }
    }

    /// A histogram's or summary's values.
    #[must_use]
    pub fn histogram(&self, name: &str, labels: &[(&str, &str)]) -> Option<&Distribution> {
        match self.get(name, labels)? {
            Reading::Histogram(distribution) | Reading::Summary(distribution) => Some(distribution),
            Reading::Counter(_) | Reading::Sum(_) | Reading::Gauge(_) => None,
        }
    }
}
