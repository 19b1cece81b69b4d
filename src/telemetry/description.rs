use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Kind, MetricError, MetricName, names};

/// What a metric is and means, for those who read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The name, a counter's without `_total`.
    pub name: MetricName,
    /// What it is.
    pub kind: Kind,
    /// Names of the labels that its series have.
    pub labels: Vec<String>,
    /// What it means.
    pub help: Arc<str>,
}

impl Description {
    pub(super) fn new(
        kind: Kind,
        name: &str,
        labels: &[&str],
        help: &str,
    ) -> Result<Self, MetricError> {
        let label = |label: &&str| {
            names::label_name(label).ok_or_else(|| MetricError::Label {
                name: name.to_owned(),
                label: names::shorten(label),
            })
        };
        Ok(Self {
            name: MetricName::new(name, kind)?,
            kind,
            labels: labels.iter().map(label).collect::<Result<_, _>>()?,
            help: help.into(),
        })
    }
}
