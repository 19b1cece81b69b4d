//! Metric and label names: what is allowed, how it is written, what it would clash with.

use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};

use super::MetricError;

/// The longest metric or label name, in bytes. Prometheus has no limit; beyond this it is data, not a name.
pub(super) const NAME_BYTES_MAX: usize = 200;
/// The most labels a series may have. Prometheus servers are commonly limited to 30.
pub(super) const LABELS_MAX: usize = 24;
/// The longest label value that is kept, in bytes; a series with a longer one is counted in the overflow series.
pub(super) const VALUE_BYTES_MAX: usize = 1024;
/// OpenTelemetry's name for the label of the series that takes what does not fit any more (SDK specification, metrics,
/// cardinality limits).
pub(super) const OVERFLOW: &str = "otel_metric_overflow";

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution of values.
    Histogram,
    /// A distribution of values that is shown by its quantiles.
    Summary,
}

/// A checked metric name as it is written: dots are underscores, and a counter's `_total` is left off.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MetricName(Arc<str>);

/// The labels of a series, by name, each name once.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Labels(Arc<[(Arc<str>, Arc<str>)]>);

impl Kind {
    /// The word that OpenMetrics uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        }
    }

    /// What this kind's lines add to the name, those that it writes and those that OpenMetrics keeps for it.
    fn suffixes(self) -> &'static [&'static str] {
        match self {
            Self::Counter => &["", "_total", "_created"],
            Self::Gauge => &[""],
            Self::Histogram => &["", "_bucket", "_count", "_sum", "_created"],
            Self::Summary => &["", "_count", "_sum", "_created"],
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl MetricName {
    pub(super) fn new(name: &str, kind: Kind) -> Result<Self, MetricError> {
        let refused = || MetricError::Name {
            name: shorten(name),
        };
        let written = normalise(name).ok_or_else(refused)?;
        let written = match kind {
            Kind::Counter => written.strip_suffix("_total").unwrap_or(&written),
            Kind::Gauge | Kind::Histogram | Kind::Summary => &written,
        };
        if written.is_empty() {
            return Err(refused());
        }
        Ok(Self(written.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names of all lines that a metric of this kind may write.
    pub(super) fn lines(&self, kind: Kind) -> impl Iterator<Item = String> {
        kind.suffixes()
            .iter()
            .map(|suffix| format!("{}{suffix}", self.0))
    }

    /// Whether the name is `prefix` or goes on after it at a word's end. An empty prefix begins every name.
    pub(super) fn starts_with(&self, prefix: &str) -> bool {
        let prefix = prefix.replace('.', "_");
        let prefix = prefix.trim_end_matches('_');
        let rest = self.0.strip_prefix(prefix);
        rest.is_some_and(|rest| prefix.is_empty() || rest.is_empty() || rest.starts_with('_'))
    }

    /// The unit that the name ends in, if it is one that OpenMetrics knows as a base unit.
    #[must_use]
    pub fn unit(&self) -> Option<&'static str> {
        const UNITS: [&str; 9] = [
            "seconds", "bytes", "ratio", "celsius", "meters", "volts", "amperes", "joules", "grams",
        ];
        let last = self.0.rsplit_once('_')?.1;
        UNITS.into_iter().find(|unit| *unit == last)
    }
}

impl Labels {
    pub(super) fn new(name: &str, labels: &[(&str, &str)]) -> Result<Self, MetricError> {
        if labels.len() > LABELS_MAX {
            let (name, count) = (name.to_owned(), labels.len());
            return Err(MetricError::Labels { name, count });
        }
        let checked = labels.iter().map(|(label, value)| {
            let label = label_name(label).ok_or_else(|| MetricError::Label {
                name: name.to_owned(),
                label: shorten(label),
            })?;
            Ok((Arc::from(label), Arc::from(*value)))
        });
        let mut checked = checked.collect::<Result<Vec<(Arc<str>, Arc<str>)>, _>>()?;
        checked.sort_unstable();
        match checked.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(MetricError::LabelTwice {
                name: name.to_owned(),
                label: pair[0].0.to_string(),
            }),
            None => Ok(Self(checked.into())),
        }
    }

    /// The labels of the series that takes what does not fit.
    pub(super) fn overflow() -> Self {
        static OVERFLOWED: LazyLock<Labels> =
            LazyLock::new(|| Labels([(OVERFLOW.into(), "true".into())].into()));
        OVERFLOWED.clone()
    }

    /// Whether a value is too long to be kept.
    pub(super) fn is_oversized(&self) -> bool {
        self.iter().any(|(_, value)| value.len() > VALUE_BYTES_MAX)
    }

    /// Name and value of each label, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The value of a label.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find(|(label, _)| *label == name)
            .map(|(_, value)| value)
    }

    /// Whether there are no labels.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether these are the labels given, in any order, with dots or underscores in their names.
    #[must_use]
    pub fn are(&self, labels: &[(&str, &str)]) -> bool {
        self.0.len() == labels.len()
            && labels.iter().all(|(name, value)| {
                normalise(name).is_some_and(|name| self.get(&name) == Some(value))
            })
    }
}

/// A label's name as it is written, if labels can have it.
pub(super) fn label_name(name: &str) -> Option<String> {
    let reserved =
        |name: &str| name.starts_with("__") || ["le", "quantile", OVERFLOW].contains(&name);
    normalise(name).filter(|name| !reserved(name))
}

/// The name with dots as underscores, if it is made of what names are made of.
fn normalise(name: &str) -> Option<String> {
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(&byte))
        && !name.starts_with(|first: char| first.is_ascii_digit());
    fits.then(|| name.replace('.', "_"))
}

/// As much of a refused name as an error message should carry.
pub(super) fn shorten(name: &str) -> String {
    let mut end = name.len().min(80);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str, kind: Kind) -> MetricName {
        MetricName::new(text, kind).expect("test name is usable")
    }

    #[test]
    fn f84_a_name_that_is_none_is_refused_with_what_to_do() {
        let long = "n".repeat(NAME_BYTES_MAX + 1);
        for bad in ["", "1st", "a b", "a-b", "ä", "a\nb", &long] {
            let refused = MetricName::new(bad, Kind::Gauge).expect_err("bad name");
            assert!(
                refused.to_string().contains("use 1 to 200 letters"),
                "{refused}"
            );
        }
        assert!(MetricName::new(&long[1..], Kind::Gauge).is_ok());
        assert!(MetricName::new("_total", Kind::Counter).is_err());
    }

    #[test]
    fn dots_and_a_counters_total_are_ways_of_writing() {
        assert_eq!(
            name("http.requests_total", Kind::Counter),
            name("http_requests", Kind::Counter)
        );
        assert_eq!(name("jobs_total", Kind::Gauge).as_str(), "jobs_total");
    }

    #[test]
    fn a_prefix_ends_where_a_word_ends() {
        let stored = name("events_stored", Kind::Counter);
        for prefix in [
            "",
            "events",
            "events_",
            "events.",
            "events.stored",
            "events_stored",
        ] {
            assert!(stored.starts_with(prefix), "{prefix}");
        }
        for prefix in ["event", "events_store", "stored", "events_stored_twice"] {
            assert!(!stored.starts_with(prefix), "{prefix}");
        }
    }

    #[test]
    fn the_unit_is_the_names_last_word() {
        assert_eq!(
            name("wait_seconds", Kind::Histogram).unit(),
            Some("seconds")
        );
        assert_eq!(
            name("read_bytes_total", Kind::Counter).unit(),
            Some("bytes")
        );
        assert_eq!(name("requests", Kind::Counter).unit(), None);
        assert_eq!(name("seconds", Kind::Gauge).unit(), None);
    }

    #[test]
    fn bad_labels_are_refused_and_good_ones_sorted() {
        for bad in [
            "",
            "9",
            "le",
            "quantile",
            "__name__",
            OVERFLOW,
            "otel.metric.overflow",
            "_.a",
            "a-b",
            "a\"b",
        ] {
            let refused = Labels::new("m", &[(bad, "v")]);
            assert!(matches!(refused, Err(MetricError::Label { .. })), "{bad}");
        }
        let twice = Labels::new("m", &[("a.b", "1"), ("a_b", "2")]);
        assert!(matches!(twice, Err(MetricError::LabelTwice { .. })));
        let many: Vec<String> = (0..=LABELS_MAX).map(|n| format!("l{n}")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|label| (label.as_str(), "")).collect();
        assert!(matches!(
            Labels::new("m", &many),
            Err(MetricError::Labels { .. })
        ));
        assert!(Labels::new("m", &many[1..]).is_ok());

        let good = Labels::new("m", &[("b", "2"), ("a", "1")]).expect("good labels");
        assert_eq!(good.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "2")]);
        assert!(good.are(&[("b", "2"), ("a", "1")]));
        assert!(!good.are(&[("b", "2")]));
    }
}
