//! What a metric is to be made of executed events.

use std::{borrow::Cow, fmt};

use super::{Emission, EventName, Unit};

/// A metric over executed events, for [`Telemetry::define`](super::Telemetry::define).
///
/// Measurements become base units where a [`unit`](Self::unit) is said; tags become labels. Where an event is sampled, counts,
/// sums and distributions are scaled by its rate.
///
/// ```
/// use underpin::telemetry::{Definition, EventName, Options, Telemetry, Unit};
///
/// static STOP: EventName = EventName::from_static(&["http", "request", "stop"]);
///
/// let telemetry = Telemetry::new(Options::default());
/// telemetry.define("http", [
///     Definition::counter("http_requests", &STOP).tags(["method"]),
///     Definition::distribution("http_request_seconds", &STOP, "duration")
///         .unit(Unit::Nanoseconds)
///         .tag_value("class", |stop| match stop.metadata.get("status") {
///             Some(status) if status.to_string() < "400".to_owned() => "good",
///             _ => "bad",
///         })
///         .keep(|stop| stop.metadata.text("method") != Some("options")),
/// ])?;
///
/// telemetry.execute(&STOP, &[("duration", 250_000_000.into())], &[("method", "get".into()), ("status", 200.into())]);
///
/// let snapshot = telemetry.snapshot();
/// assert_eq!(snapshot.counter("http_requests", &[("method", "get")]), 1);
/// let seconds = snapshot.histogram("http_request_seconds", &[("class", "good")]).expect("is there");
/// assert_eq!(seconds.sum(), 0.25);
/// # Ok::<(), underpin::telemetry::DefineError>(())
/// ```
pub struct Definition {
    pub(super) name: String,
    pub(super) event: EventName,
    pub(super) what: What,
    pub(super) unit: Option<Unit>,
    pub(super) tags: Vec<Tag>,
    pub(super) keep: Option<Keep>,
    pub(super) help: Option<String>,
}

/// What is made of an event, and of which measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    Counter,
    Sum(String),
    LastValue(String),
    Summary(String),
    Distribution(String),
}

/// A label and where its value comes from.
pub(super) struct Tag {
    pub(super) name: String,
    pub(super) value: Option<TagValue>,
}

pub(super) type Keep = Box<dyn Fn(&Emission<'_>) -> bool + Send + Sync>;
pub(super) type TagValue = Box<dyn Fn(&Emission<'_>) -> Cow<'static, str> + Send + Sync>;

impl Definition {
    /// Counts the emissions of an event.
    #[must_use]
    pub fn counter(name: impl Into<String>, event: &EventName) -> Self {
        Self::new(name, event, What::Counter)
    }

    /// Adds up a measurement, as a counter of fractions. It must not be negative: amounts that are, are left out and counted as
    /// `underpin_telemetry_refused_values`.
    #[must_use]
    pub fn sum(name: impl Into<String>, event: &EventName, measurement: impl Into<String>) -> Self {
        Self::new(name, event, What::Sum(measurement.into()))
    }

    /// Shows the last value of a measurement, as a gauge.
    #[must_use]
    pub fn last_value(
        name: impl Into<String>,
        event: &EventName,
        measurement: impl Into<String>,
    ) -> Self {
        Self::new(name, event, What::LastValue(measurement.into()))
    }

    /// Shows quantiles of a measurement, with count and sum.
    #[must_use]
    pub fn summary(
        name: impl Into<String>,
        event: &EventName,
        measurement: impl Into<String>,
    ) -> Self {
        Self::new(name, event, What::Summary(measurement.into()))
    }

    /// Shows how a measurement is distributed, as a histogram.
    #[must_use]
    pub fn distribution(
        name: impl Into<String>,
        event: &EventName,
        measurement: impl Into<String>,
    ) -> Self {
        Self::new(name, event, What::Distribution(measurement.into()))
    }

    /// What the measurement is counted in. The metric is in the base unit, and its name has to end in it: `_seconds`,
    /// `_bytes`, `_ratio`. A counter has no measurement and takes no heed of this.
    #[must_use]
    pub fn unit(mut self, unit: Unit) -> Self {
        self.unit = Some(unit);
        self
    }

    /// Labels whose values are the metadata of the same names; what an emission does not have is empty.
    #[must_use]
    pub fn tags<I>(mut self, names: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let tags = names.into_iter().map(|name| Tag {
            name: name.into(),
            value: None,
        });
        self.tags.extend(tags);
        self
    }

    /// A label whose value is made of the emission: a status' class, a path without its numbers.
    #[must_use]
    pub fn tag_value<V, F>(mut self, name: impl Into<String>, value: F) -> Self
    where
        V: Into<Cow<'static, str>>,
        F: Fn(&Emission<'_>) -> V + Send + Sync + 'static,
    {
        self.tags.push(Tag {
            name: name.into(),
            value: Some(Box::new(move |emission| value(emission).into())),
        });
        self
    }

    /// Only emissions for which this holds.
    #[must_use]
    pub fn keep(mut self, keep: impl Fn(&Emission<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.keep = Some(Box::new(keep));
        self
    }

    /// What the metric means, for those who read it.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }

    fn new(name: impl Into<String>, event: &EventName, what: What) -> Self {
        Self {
            name: name.into(),
            event: event.clone(),
            what,
            unit: None,
            tags: Vec::new(),
            keep: None,
            help: None,
        }
    }
}

impl What {
    /// The measurement that is read; a counter reads none.
    pub(super) fn measurement(&self) -> Option<&str> {
        match self {
            Self::Counter => None,
            Self::Sum(name)
            | Self::LastValue(name)
            | Self::Summary(name)
            | Self::Distribution(name) => Some(name),
        }
    }
}

impl fmt::Debug for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tags: Vec<&str> = self.tags.iter().map(|tag| tag.name.as_str()).collect();
        f.debug_struct("Definition")
            .field("name", &self.name)
            .field("event", &self.event)
            .field("what", &self.what)
            .field("unit", &self.unit)
            .field("tags", &tags)
            .finish_non_exhaustive()
    }
}
