use std::sync::Arc;

use super::{Author, Preview, Record, Reloaded, UpdateError, load::Fresh, state::Request};
use crate::otp::Reply;

/// Everything the config server can be asked. Reads are not among it: they never ask.
#[derive(Debug)]
pub(super) enum Message {
    /// Make a change.
    Change {
        request: Request,
        reply: Reply<Result<Arc<Record>, UpdateError>>,
    },
    /// Take over what the sources say now.
    Reload {
        fresh: Box<Fresh>,
        author: Arc<Author>,
        reply: Reply<Result<Reloaded, UpdateError>>,
    },
    /// Say what a change would do, and make none.
    DryRun {
        request: Request,
        reply: Reply<Preview>,
    },
    /// Bring the disk in step with what readers see.
    Mend,
}

crate::otp::message!(Message);
