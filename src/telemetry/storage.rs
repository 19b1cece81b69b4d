//! The cells of the series of each kind of metric.

use std::sync::Arc;

use super::{
    Counter, Gauge, Histogram, Kind, Reading,
    counter::CounterCells,
    gauge::GaugeCell,
    histogram::HistogramCells,
    history::Part,
    sum::{Sum, SumCells},
    summary::{Summary, SummaryCells},
};

/// Cells of one kind of metric, so that one lookup serves all kinds.
pub(super) trait Cells: Sized {
    type Handle;
    const KIND: Kind;
    /// Whether what is added up comes in whole numbers.
    const WHOLE: bool;
    fn new(refused_values: &Counter) -> Self;
    fn into_storage(self: Arc<Self>) -> Storage;
    fn from_storage(storage: &Storage) -> Option<&Arc<Self>>;
    fn handle(self: Arc<Self>) -> Self::Handle;
}

/// The cells of one series.
#[derive(Debug)]
pub(super) enum Storage {
    Counter(Arc<CounterCells>),
    Sum(Arc<SumCells>),
    Gauge(Arc<GaugeCell>),
    Histogram(Arc<HistogramCells>),
    Summary(Arc<SummaryCells>),
}

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) kind: Kind,
    /// A counter of whole numbers and one of fractions are of the same kind, and yet not the same.
    pub(super) whole: bool,
}

/// What cells of this kind are.
pub(super) fn shape<C: Cells>() -> Shape {
    Shape {
        kind: C::KIND,
        whole: C::WHOLE,
    }
}

impl Storage {
    pub(super) fn read(&self) -> Reading {
        match self {
            Self::Counter(cells) => Reading::Counter(cells.value()),
            Self::Sum(cells) => Reading::Sum(cells.value()),
            Self::Gauge(cell) => Reading::Gauge(cell.value()),
            Self::Histogram(cells) => Reading::Histogram(cells.distribution()),
            Self::Summary(cells) => Reading::Summary(cells.histogram().distribution()),
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a chart does not show what is beyond 2^53"
    )]
    pub(super) fn sample(&self, mut see: impl FnMut(Part, f64)) {
        match self {
            Self::Counter(cells) => see(Part::Value, cells.value() as f64),
            Self::Sum(cells) => see(Part::Value, cells.value()),
            Self::Gauge(cell) => see(Part::Value, cell.value()),
            Self::Histogram(_) | Self::Summary(_) => {
                see(Part::Count, self.count() as f64);
                see(Part::Sum, self.histogram().map_or(0.0, HistogramCells::sum));
            }
        }
    }

    fn histogram(&self) -> Option<&HistogramCells> {
        match self {
            Self::Histogram(cells) => Some(cells),
            Self::Summary(cells) => Some(cells.histogram()),
            Self::Counter(_) | Self::Sum(_) | Self::Gauge(_) => None,
        }
    }

    /// Counters never expire: a total that vanished and came back at zero would be a lie.
    pub(super) fn can_expire(&self) -> bool {
        !matches!(self, Self::Counter(_) | Self::Sum(_))
    }

    /// Whether somebody outside the registry could still write. A new handle is only made from an existing one or under
    /// the registry's lock, so that under that lock `false` stays true.
    pub(super) fn has_handles(&self) -> bool {
        let handles = match self {
            Self::Counter(cells) => Arc::strong_count(cells),
            Self::Sum(cells) => Arc::strong_count(cells),
            Self::Gauge(cell) => Arc::strong_count(cell),
            Self::Histogram(cells) => Arc::strong_count(cells),
            Self::Summary(cells) => Arc::strong_count(cells),
        };
        handles > 1
    }

    /// How many values a histogram or summary holds. 0 for others: gauges say themselves whether they were touched.
    pub(super) fn count(&self) -> u64 {
        self.histogram().map_or(0, HistogramCells::count)
    }

    pub(super) fn is_touched(&self) -> bool {
        matches!(self, Self::Gauge(cell) if cell.is_touched())
    }

    pub(super) fn take_touched(&self) -> bool {
        matches!(self, Self::Gauge(cell) if cell.take_touched())
    }
}

macro_rules! cells {
    ($($cells:ty, $variant:ident, $kind:ident, $handle:ty, $whole:literal, |$refused:pat_param| $new:expr;)+) => {$(
        impl Cells for $cells {
            type Handle = $handle;
            const KIND: Kind = Kind::$kind;
            const WHOLE: bool = $whole;

            fn new($refused: &Counter) -> Self {
                $new
            }

            fn into_storage(self: Arc<Self>) -> Storage {
                Storage::$variant(self)
            }

            fn from_storage(storage: &Storage) -> Option<&Arc<Self>> {
                match storage {
                    Storage::$variant(cells) => Some(cells),
                    _ => None,
                }
            }

            fn handle(self: Arc<Self>) -> $handle {
                <$handle>::over(self)
            }
        }
    )+};
}

cells! {
    CounterCells, Counter, Counter, Counter, true, |_| Self::new();
    SumCells, Sum, Counter, Sum, false, |_| Self::new();
    GaugeCell, Gauge, Gauge, Gauge, true, |_| Self::default();
    HistogramCells, Histogram, Histogram, Histogram, true, |refused| Self::new(refused.clone());
    SummaryCells, Summary, Summary, Summary, true, |refused| Self::new(refused.clone());
}
