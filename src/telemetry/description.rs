use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Kind, MetricName};

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
