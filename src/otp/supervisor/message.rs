use std::sync::Arc;

use super::{
    ChildCounts, ChildInfo,
    body::{EndAnswer, StartAnswer},
    effect::Timer,
};
use crate::otp::{ChildSpec, ExitReason, Reply, SupervisorError, start::Ending};

/// All that a supervisor can be asked or told. Private to the runtime.
#[derive(Debug)]
pub(crate) enum Message {
    /// A child's task is coming to its end.
    Exited {
        child: u64,
        incarnation: u64,
        /// Whether the notice was put off once, so that ractor's own event with the words of the stop could come first.
        asked_again: bool,
    },
    /// A child's task has ended, and everything of it is gone.
    Gone {
        child: u64,
        incarnation: u64,
        reason: ExitReason,
    },
    /// A start that took more than a moment has come to its end.
    StartDone { child: u64, incarnation: u64 },
    /// A child that was to be stopped has ended, or will not end.
    StopDone { child: u64, life: u64 },
    /// A child that had not ended when killed has ended after all.
    Freed { child: u64, life: u64 },
    /// A child is alive, and hangs.
    Unhealthy {
        child: u64,
        incarnation: u64,
        reason: ExitReason,
    },
    /// A restart is due.
    Due(Timer),
    /// Add a child and start it.
    StartChild {
        spec: Box<ChildSpec>,
        reply: StartAnswer,
    },
    /// Stop a child; its spec stays unless it is temporary.
    TerminateChild {
        id: Arc<str>,
        /// The incarnation that asks: a child must not wait for its own end.
        caller: u64,
        reply: EndAnswer,
    },
    /// Start a stopped child again.
    RestartChild { id: Arc<str>, reply: StartAnswer },
    /// Forget a stopped child.
    DeleteChild { id: Arc<str>, reply: EndAnswer },
    /// List the children in start order.
    WhichChildren { reply: Reply<Vec<ChildInfo>> },
    /// Count the children.
    CountChildren { reply: Reply<ChildCounts> },
    /// Read back a child's spec.
    ChildSpec {
        id: Arc<str>,
        reply: Reply<Result<ChildSpec, SupervisorError>>,
    },
}

crate::otp::message!(Message);

impl From<Ending> for Message {
    fn from(Ending { child, incarnation }: Ending) -> Self {
        Self::Exited {
            child,
            incarnation,
            asked_again: false,
        }
    }
}
