//! Who wants to know of an end at another node.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::link::{Gone, Link};
use crate::{ids::NodeName, otp::ExitReason};

/// Watches the life of a service at another node. From [`RemoteAddress::monitor`](super::RemoteAddress::monitor).
///
/// It is bound to the life that serves when the node hears of the watch: its end is told, also when a successor follows. When the
/// connection to the node goes, that is told: what became of the service is not known then.
#[derive(Debug)]
#[must_use = "a monitor that is dropped tells nothing"]
pub struct RemoteMonitor {
    node: NodeName,
    watch: Option<Watch>,
}

#[derive(Debug)]
struct Watch {
    link: Arc<Link>,
    reference: u64,
    gone: oneshot::Receiver<Gone>,
}

/// What a remote monitor tells, exactly once.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RemoteDown {
    /// There is no connection to the node, or it was lost: the service may be running still.
    NoConnection,
    /// Nobody at the node offers such a service.
    NoService,
    /// Nobody was serving when the node heard of the watch.
    NotRunning,
    /// The node watches 65,536 lives for this one already, and not this one.
    Full,
    /// The service ended; why, in the words of its node.
    Ended(String),
}

impl RemoteMonitor {
    pub(super) fn new(node: NodeName, link: Option<Arc<Link>>, service: &str) -> Self {
        let watch = link.and_then(|link| {
            let (reference, gone) = link.watch(service)?;
            Some(Watch {
                link,
                reference,
                gone,
            })
        });
        Self { node, watch }
    }

    /// The node where the service is.
    #[must_use]
    pub fn node(&self) -> &NodeName {
        &self.node
    }

    /// Waits for the end of the life that is watched.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the monitor. To go on with it, pin the future and poll it again.
    pub async fn down(mut self) -> RemoteDown {
        let Some(watch) = &mut self.watch else {
            return RemoteDown::NoConnection;
        };
        match (&mut watch.gone).await {
            Ok(gone) => RemoteDown::from(gone),
            Err(_) => RemoteDown::NoConnection,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.link.unwatch(self.reference);
    }
}

impl RemoteDown {
    const NO_SERVICE: u8 = 1;
    const NOT_RUNNING: u8 = 2;
    const ENDED: u8 = 3;
    const FULL: u8 = 4;
}

impl From<Gone> for RemoteDown {
    fn from(gone: Gone) -> Self {
        match gone.code {
            Self::NO_SERVICE => Self::NoService,
            Self::NOT_RUNNING => Self::NotRunning,
            Self::FULL => Self::Full,
            _ => Self::Ended(gone.text),
        }
    }
}

impl Gone {
    pub(super) fn no_service() -> Self {
        Self {
            code: RemoteDown::NO_SERVICE,
            text: String::new(),
        }
    }

    pub(super) fn full() -> Self {
        Self {
            code: RemoteDown::FULL,
            text: String::new(),
        }
    }

    pub(super) fn ended(reason: &ExitReason) -> Self {
        match reason {
            ExitReason::NoProc => Self {
                code: RemoteDown::NOT_RUNNING,
                text: String::new(),
            },
            reason => Self {
                code: RemoteDown::ENDED,
                text: reason.to_string(),
            },
        }
    }
}
