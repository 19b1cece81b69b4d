use std::sync::Arc;

use super::{Record, UpdateError, state::Request};
use crate::otp::Reply;

/// Everything the config server can be asked. Reads are not among it: they never ask.
#[derive(Debug)]
pub(super) enum Message {
    /// Make a change.
    Change {
        request: Request,
        reply: Reply<Result<Arc<Record>, UpdateError>>,
    },
    /// Say what a change would do, and make none.
    DryRun {
        request: Request,
        reply: Reply<Result<Arc<Record>, UpdateError>>,
    },
}

crate::otp::message!(Message);
