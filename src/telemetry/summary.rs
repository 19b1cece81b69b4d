use std::sync::Arc;

use super::{Counter, histogram::HistogramCells};

/// A histogram that is shown by its quantiles instead of its buckets.
#[derive(Debug)]
pub(super) struct SummaryCells(HistogramCells);

/// A handle to a summary.
#[derive(Debug, Clone)]
pub(super) struct Summary(Arc<SummaryCells>);

impl Summary {
    pub(super) fn over(cells: Arc<SummaryCells>) -> Self {
        Self(cells)
    }

    pub(super) fn record_many(&self, value: f64, times: u64) {
        self.0.0.record_times(value, times);
    }
}

impl SummaryCells {
    pub(super) fn new(refused: Counter) -> Self {
        Self(HistogramCells::new(refused))
    }

    pub(super) fn histogram(&self) -> &HistogramCells {
        &self.0
    }
}
