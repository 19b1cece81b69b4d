use super::{Kind, names};

/// Why a metric was refused. Nothing changed; the same request will be refused again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetricError {
    /// The name is empty, too long, or has a character that names cannot have.
    #[error(
        "metric name `{name}` is not usable; use 1 to {} letters, digits, `_` or `.`, not beginning with a digit",
        names::NAME_BYTES_MAX
    )]
    Name {
        /// The refused name.
        name: String,
    },
    /// The label's name is empty, too long, reserved, or has a character that names cannot have.
    #[error(
        "label name `{label}` of metric `{name}` is not usable; use 1 to {} letters, digits, `_` or `.`, not beginning with a \
         digit or `__`, and not `le`, `quantile` or `{}`",
        names::NAME_BYTES_MAX,
        names::OVERFLOW
    )]
    Label {
        /// The metric.
        name: String,
        /// The refused label name.
        label: String,
    },
    /// The label is given twice (dots and underscores are the same here).
    #[error("label `{label}` of metric `{name}` is given twice; give each label once")]
    LabelTwice {
        /// The metric.
        name: String,
        /// The label.
        label: String,
    },
    /// Too many labels.
    #[error(
        "metric `{name}` has {count} labels; use at most {}",
        names::LABELS_MAX
    )]
    Labels {
        /// The metric.
        name: String,
        /// How many were given.
        count: usize,
    },
    /// A metric of this name has another type.
    #[error("metric `{name}` is a {is} already and cannot be a {wanted} too; use another name")]
    OtherKind {
        /// The metric.
        name: String,
        /// What it is.
        is: Kind,
        /// What was asked for.
        wanted: Kind,
    },
    /// A counter of this name adds up whole numbers and is wanted for fractions, or the other way round.
    #[error(
        "counter `{name}` exists already, and one of the two adds up whole numbers and the other fractions; use another name"
    )]
    OtherNumbers {
        /// The metric.
        name: String,
    },
    /// The metric would be shown under a line name that another metric uses (`x_count` beside a histogram `x`).
    #[error(
        "metric `{name}` would be shown as `{line}`, which metric `{other}` uses already; use another name"
    )]
    Clash {
        /// The metric.
        name: String,
        /// The line that both would write.
        line: String,
        /// The metric that has it.
        other: String,
    },
    /// A measurement is converted to a base unit that the metric's name does not end in.
    #[error("metric `{name}` is measured in {unit}; end its name in `_{unit}`")]
    Unit {
        /// The metric.
        name: String,
        /// The base unit of its values.
        unit: &'static str,
    },
    /// There are as many metric names as a node may have.
    #[error(
        "metric `{name}` would be one more than the {max} names that fit; put what varies into labels"
    )]
    TooManyNames {
        /// The metric.
        name: String,
        /// The limit.
        max: usize,
    },
}

/// Why a handler was not attached or detached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandlerError {
    /// A handler with this id is attached.
    #[error("a handler `{id}` is attached already; detach it first or use another id")]
    AlreadyExists {
        /// The id.
        id: String,
    },
    /// No handler has this id (any more).
    #[error("no handler `{id}` is attached; list_handlers shows those that are")]
    NotFound {
        /// The id.
        id: String,
    },
    /// The thread of a handler that runs elsewhere was not given by the system; try again later.
    #[error("no thread for handler `{id}`: {reason}")]
    NoThread {
        /// The id.
        id: String,
        /// What the system said.
        reason: String,
    },
    /// A handler was given no event to listen to.
    #[error("handler `{id}` has no event; give at least one")]
    NoEvent {
        /// The id.
        id: String,
    },
}

/// Why metrics were not defined. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DefineError {
    /// A metric cannot be had.
    #[error(transparent)]
    Metric(#[from] MetricError),
    /// The handler that feeds them cannot be attached.
    #[error(transparent)]
    Handler(#[from] HandlerError),
}

/// Why a poll was not added or removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PollError {
    /// A poll with this id is there.
    #[error("a poll `{id}` is there already; remove it first or use another id")]
    AlreadyExists {
        /// The id.
        id: String,
    },
    /// No poll has this id (any more).
    #[error("there is no poll `{id}`; it was removed, or it panicked")]
    NotFound {
        /// The id.
        id: String,
    },
}

/// Why a text is not an event name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event name {segments:?} is not usable; use 1 to 16 parts that are not empty")]
pub struct EventNameError {
    /// The refused parts.
    pub segments: Vec<String>,
}
