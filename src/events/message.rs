use std::sync::Arc;

use crate::otp::{self, Reply};

use super::{StoreError, log::Log};

/// Everything the store's actor can be asked. Only [`Events`](super::Events), the writer and the actor itself send these.
#[derive(Debug)]
pub(super) enum Message {
    /// Hide what is earlier than a time.
    PruneBefore {
        nanos: i64,
        reply: Reply<Result<u64, StoreError>>,
    },
    /// Hide the oldest stored events until so many are left.
    PruneTo {
        count: u64,
        reply: Reply<Result<u64, StoreError>>,
    },
    /// Look whether anything is to be pruned by retention.
    Retain,
    /// The same, once: what is kept was changed.
    RetainNow,
    /// The writer of this log gave up.
    Failed { log: Arc<Log> },
}

otp::message!(Message);
