use std::time::Duration;

/// Limits and rhythms of telemetry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How many series one metric may have; those that come later share one series labelled
    /// `otel_metric_overflow="true"`. Default 2000, the limit that OpenTelemetry's SDK specification sets.
    pub series_max: usize,
    /// How many metric names there may be; further ones are refused. Default 2000: names are written by people, and ten
    /// times what a large program has is a mistake.
    pub names_max: usize,
    /// How long a gauge or histogram that nobody writes to is still shown. Default 5 min: several scrapes at any usual
    /// interval. Counters never expire.
    pub retention: Duration,
    /// How often idle series are looked for. Default 60 s; a series stays up to that much longer than `retention`.
    pub sweep_every: Duration,
    /// How often the history takes a point. Default 1 s.
    pub history_every: Duration,
    /// How many points the history holds. Default 600: ten minutes.
    pub history_points: usize,
    /// How many numbers the history follows, a histogram having two; further ones are not followed. Default 1000, which
    /// is about 5 MB when full.
    pub history_tracks: usize,
    /// How often the process and the tokio runtime are looked at. Default 5 s: listing many open files costs milliseconds.
    pub process_every: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            series_max: 2000,
            names_max: 2000,
            retention: Duration::from_mins(5),
            sweep_every: Duration::from_mins(1),
            history_every: Duration::from_secs(1),
            history_points: 600,
            history_tracks: 1000,
            process_every: Duration::from_secs(5),
        }
    }
}
