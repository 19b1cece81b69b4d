use crate::otp::{self, Reply};

/// Everything the service can be asked. Only [`Telemetry`](super::Telemetry) and the service itself send these.
#[derive(Debug)]
pub(super) enum Message {
    /// Do what is due and come back after the next step.
    Tick,
    /// Do everything now, due or not.
    Refresh { reply: Reply<()> },
}

otp::message!(Message);
