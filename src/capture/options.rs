/// What is captured, and how much of it. Filter, share and hidden fields may be changed while it runs
/// ([`Capture::set_filter`](super::Capture::set_filter) and its like); the limits stay.
///
/// A node's own capture gets them by [`NodeBuilder::capture`](crate::node::NodeBuilder::capture).
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Targets and the least severe level captured of each, as in `info,hyper=warn`. Default `info`.
    pub filter: String,
    /// The share of traces that is captured, 0 to 1. A trace is captured whole or not at all, on every node alike. What belongs to no
    /// trace is always captured. Default 1.
    pub share: f64,
    /// Fields whose names contain one of these, in either case, are stored as `[redacted]`. Default: `password`, `passwd`, `secret`,
    /// `token`, `authorization`, `cookie`, `api_key`, `apikey`, `private_key`.
    pub redact: Vec<String>,
    /// Bytes that may wait for the store; beyond them events are dropped and counted. Default 16 MiB: some 100,000 events, a second
    /// of a busy program.
    pub queue_bytes: usize,
    /// The longest text of a field, in bytes; longer ones are cut, and end in `…`. Default 8 KiB: a stack trace fits.
    pub text_bytes_max: usize,
    /// The most fields of an event; further ones are left out. Default 64: `tracing` itself takes 32 in one place.
    pub fields_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        const SECRET: [&str; 9] = [
            "password",
            "passwd",
            "secret",
            "token",
            "authorization",
            "cookie",
            "api_key",
            "apikey",
            "private_key",
        ];
        Self {
            filter: "info".to_owned(),
            share: 1.0,
            redact: SECRET.map(str::to_owned).into(),
            queue_bytes: 16 << 20,
            text_bytes_max: 8 << 10,
            fields_max: 64,
        }
    }
}
