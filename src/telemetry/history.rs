//! The last minutes of every series in memory, so that a chart is never empty.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::{Labels, MetricName, floats};

/// Which number of a series a track follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// A counter's or gauge's value.
    Value,
    /// How many values a histogram holds.
    Count,
    /// The sum of a histogram's values.
    Sum,
}

/// One number of one series over the last minutes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Track {
    /// The metric.
    pub name: MetricName,
    /// The series.
    pub labels: Labels,
    /// Which of its numbers.
    pub part: Part,
    /// Milliseconds since 1970 and the number then, oldest first. Times at which the series did not exist are left out.
    #[serde(with = "floats::points")]
    pub points: Vec<(u64, f64)>,
}

/// A ring of moments, each with the numbers of all followed series.
#[derive(Debug)]
pub(super) struct History {
    moments_max: usize,
    tracks_max: usize,
    /// How many moments there ever were.
    moments: u64,
    times: VecDeque<u64>,
    columns: HashMap<Key, Column>,
}

type Key = (MetricName, Labels, Part);

/// The numbers of one track; the last one belongs to moment `until`, gaps are NaN.
#[derive(Debug)]
struct Column {
    until: u64,
    numbers: VecDeque<f64>,
}

impl History {
    pub(super) fn new(moments_max: usize, tracks_max: usize) -> Self {
        Self {
            moments_max,
            tracks_max,
            moments: 0,
            times: VecDeque::new(),
            columns: HashMap::new(),
        }
    }

    /// Begins a moment; the oldest one falls out when the ring is full, and tracks that have no number left with it.
    pub(super) fn begin(&mut self, unix_ms: u64) {
        self.moments += 1;
        self.times.push_back(unix_ms);
        if self.times.len() > self.moments_max {
            self.times.pop_front();
        }
        let oldest = self.oldest();
        self.columns.retain(|_, column| column.until >= oldest);
    }

    /// Adds a number to the moment that began last. A track that would be one too many is not followed.
    pub(super) fn put(&mut self, name: &MetricName, labels: &Labels, part: Part, number: f64) {
        let key = (name.clone(), labels.clone(), part);
        let full = self.columns.len() >= self.tracks_max;
        if full && !self.columns.contains_key(&key) {
            return;
        }
        let moment = self.moments;
        let column = self.columns.entry(key).or_insert_with(|| Column {
            until: moment - 1,
            numbers: VecDeque::new(),
        });
        column.put(moment, number, self.moments_max);
    }

    /// The tracks of all metrics whose name begins with `prefix`, sorted.
    pub(super) fn tracks(&self, prefix: &str) -> Vec<Track> {
        let mut found: Vec<(&Key, &Column)> = self
            .columns
            .iter()
            .filter(|((name, ..), _)| name.starts_with(prefix))
            .collect();
        found.sort_unstable_by_key(|(key, _)| *key);
        let tracks = found
            .into_iter()
            .map(|((name, labels, part), column)| Track {
                name: name.clone(),
                labels: labels.clone(),
                part: *part,
                points: self.points(column),
            });
        tracks.collect()
    }

    fn points(&self, column: &Column) -> Vec<(u64, f64)> {
        let timed = (column.first()..=column.until).zip(&column.numbers);
        let oldest = self.oldest();
        let known = timed.filter(|(moment, number)| *moment >= oldest && !number.is_nan());
        known
            .filter_map(|(moment, number)| {
                let at = usize::try_from(moment - oldest).ok()?;
                Some((*self.times.get(at)?, *number))
            })
            .collect()
    }

    /// The number of the oldest moment in the ring; moments count from 1.
    fn oldest(&self) -> u64 {
        self.moments + 1 - self.times.len() as u64
    }
}

impl Column {
    fn put(&mut self, moment: u64, number: f64, moments_max: usize) {
        let gap = moment.saturating_sub(self.until + 1);
        self.numbers.extend((0..gap).map(|_| f64::NAN));
        self.numbers.push_back(number);
        self.until = moment;
        while self.numbers.len() > moments_max {
            self.numbers.pop_front();
        }
    }

    fn first(&self) -> u64 {
        self.until + 1 - self.numbers.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::telemetry::Kind;

    fn name(text: &str) -> MetricName {
        MetricName::new(text, Kind::Gauge).expect("test name is usable")
    }

    fn put(history: &mut History, metric: &str, number: f64) {
        history.put(&name(metric), &Labels::default(), Part::Value, number);
    }

    #[test]
    fn the_ring_keeps_the_newest_moments() {
        let mut history = History::new(3, 10);
        for moment in 1..=5_u32 {
            history.begin(u64::from(moment) * 1000);
            put(&mut history, "queue", f64::from(moment));
        }
        assert_eq!(
            history.tracks("")[0].points,
            [(3000, 3.0), (4000, 4.0), (5000, 5.0)]
        );
    }

    #[test]
    fn a_series_that_vanished_leaves_the_ring_with_its_last_point() {
        let mut history = History::new(2, 10);
        history.begin(1);
        put(&mut history, "queue", 1.0);
        history.begin(2);
        assert_eq!(history.tracks("queue")[0].points, [(1, 1.0)]);
        history.begin(3);
        assert_eq!(history.tracks("queue"), []);
    }

    #[test]
    fn tracks_beyond_the_limit_are_not_followed() {
        let mut history = History::new(2, 2);
        history.begin(1);
        for metric in ["a", "b", "c"] {
            put(&mut history, metric, 1.0);
        }
        history.begin(2);
        put(&mut history, "b", 2.0);
        let followed: Vec<String> = history
            .tracks("")
            .iter()
            .map(|track| track.name.as_str().to_owned())
            .collect();
        assert_eq!(followed, ["a", "b"]);
    }

    proptest! {
        #[test]
        fn gaps_stay_gaps(present in prop::collection::vec(prop::bool::ANY, 0..30)) {
            let mut history = History::new(8, 1);
            let mut model = Vec::new();
            for (at, present) in (1_u32..).zip(&present) {
                history.begin(u64::from(at));
                if *present {
                    put(&mut history, "queue", f64::from(at));
                }
                model.push(present.then_some((u64::from(at), f64::from(at))));
            }
            let newest = &model[model.len().saturating_sub(8)..];
            let model: Vec<(u64, f64)> = newest.iter().flatten().copied().collect();
            let points = history.tracks("").pop().map(|track| track.points).unwrap_or_default();
            prop_assert_eq!(points, model);
        }
    }
}
