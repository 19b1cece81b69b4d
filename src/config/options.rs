use std::time::Duration;

/// What the config service needs to run. Every limit has a unit and a reason.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long a handle waits for an answer. Default 5 s, as OTP's `gen_server:call`.
    pub call_timeout: Duration,
    /// How long a change may take to reach the disk before it is given up. Default 3 s: less than `call_timeout`, so that a caller
    /// of a stuck disk learns that nothing changed.
    pub persist_timeout: Duration,
    /// How many changes a slow subscriber may fall behind, and how far history and rollback go back, as long as the node runs.
    /// Default 1024: a burst of one full reload fits.
    pub log_changes: usize,
    /// How many bytes of values those changes may hold. Default 16 MB, of which a change of one number takes about 100 bytes.
    pub log_bytes: usize,
    /// How many changes of the history are kept over a restart. Default 100: each write of the file costs about as many times 200 bytes.
    pub kept_changes: usize,
    /// How many bytes of values those may hold. Default 2 MB, so that a change is on disk within some milliseconds.
    pub kept_bytes: usize,
    /// How long reading the settings' sources may take before a reload is given up. Default 10 s: a network folder that is not there
    /// any more does not answer for minutes.
    pub read_timeout: Duration,
    /// How often the settings files are looked at. Default 1 s: a person who saved a file waits no longer, and a look costs some
    /// microseconds a file.
    pub watch_every: Duration,
    /// How long the files must have been left alone before they are read. Default 500 ms: an editor or a copy is done by then.
    pub watch_settle: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            call_timeout: Duration::from_secs(5),
            persist_timeout: Duration::from_secs(3),
            log_changes: 1024,
            log_bytes: 16 << 20,
            kept_changes: 100,
            kept_bytes: 2 << 20,
            read_timeout: Duration::from_secs(10),
            watch_every: Duration::from_secs(1),
            watch_settle: Duration::from_millis(500),
        }
    }
}
