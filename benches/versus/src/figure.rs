//! What a figure is: its name, its unit, what is to be reached, and how its sides are measured.

use std::time::Duration;

use anyhow::Result;

/// The side that is this crate's.
pub const UNDERPIN: &str = "underpin";
/// The side that no library could beat: the same work by hand, without what a library is for.
pub const LIMIT: &str = "limit";

/// One row of the comparison.
pub struct Figure {
    /// Dotted; a filter is a prefix of it.
    pub name: &'static str,
    pub unit: Unit,
    pub goals: &'static [Goal],
    /// Sets up all sides. Called only when the figure is wanted.
    pub sides: fn(&mut Sides) -> Result<()>,
}

/// What a value counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Nanoseconds,
    Microseconds,
    Milliseconds,
    Bytes,
    MessagesPerSecond,
    EventsPerSecond,
    IdsPerSecond,
}

/// What underpin has to reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// This ratio to another side: at most for a time, at least for a rate.
    Ratio(f64, &'static str),
    /// At most this much more than another side.
    More(f64, &'static str),
    /// This ratio to the best of the peers.
    BestPeer(f64),
    /// This value itself.
    Value(f64),
}

/// The sides of one figure, in the order in which they were added.
pub struct Sides {
    folder: std::path::PathBuf,
    pub(crate) all: Vec<Side>,
}

/// Measures for at least the given time and answers one value in the figure's unit.
pub type Sample = Box<dyn FnMut(Duration) -> Result<f64>>;

/// One side of a figure.
pub struct Side {
    pub who: &'static str,
    pub sample: Sample,
}

impl Unit {
    pub fn text(self) -> &'static str {
        match self {
            Self::Nanoseconds => "ns",
            Self::Microseconds => "us",
            Self::Milliseconds => "ms",
            Self::Bytes => "bytes",
            Self::MessagesPerSecond => "messages/s",
            Self::EventsPerSecond => "events/s",
            Self::IdsPerSecond => "ids/s",
        }
    }

    /// A rate is better when it is higher, a time or a size when it is lower.
    pub fn is_rate(self) -> bool {
        self.text().ends_with("/s")
    }
}

impl Sides {
    pub fn new(folder: std::path::PathBuf) -> Self {
        Self {
            folder,
            all: Vec::new(),
        }
    }

    /// Adds a side. `sample` measures for at least the time that it is given.
    pub fn add(
        &mut self,
        who: &'static str,
        sample: impl FnMut(Duration) -> Result<f64> + 'static,
    ) {
        self.all.push(Side {
            who,
            sample: Box::new(sample),
        });
    }

    /// An empty folder on the disk that is measured, gone when it is dropped.
    pub fn folder(&self) -> Result<tempfile::TempDir> {
        Ok(tempfile::Builder::new()
            .prefix("versus-")
            .tempdir_in(&self.folder)?)
    }
}
