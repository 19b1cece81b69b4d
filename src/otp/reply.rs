use std::fmt;

use tokio::{sync::oneshot, time::Instant};

use super::{Context, Permit};

/// Where the answer to a call goes. Put it into the call's message variant; send it exactly one value.
///
/// It carries the caller's deadline, its place among the admitted requests and its correlation. Dropping it without an
/// answer tells the caller so at once ([`Unanswered::Dropped`](super::Unanswered::Dropped)).
pub struct Reply<T> {
    answer: oneshot::Sender<T>,
    deadline: Option<Instant>,
    permit: Permit,
}

impl<T> Reply<T> {
    pub(crate) fn new(permit: Permit, deadline: Option<Instant>) -> (Self, oneshot::Receiver<T>) {
        let (answer, wait) = oneshot::channel();
        let reply = Self {
            answer,
            deadline,
            permit,
        };
        (reply, wait)
    }

    /// Answers the caller. A caller that has gone is not an error: nobody is left to be told.
    pub fn send(self, value: T) {
        if self.answer.send(value).is_err() {
            tracing::trace!("the caller left before its answer");
        }
    }

    /// Whether the caller has given up. Handlers skip such requests before they do any work.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.answer.is_closed()
    }

    /// When the caller stops waiting; hand it on to calls made on its behalf.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The correlation that came with the request.
    #[must_use]
    pub fn context(&self) -> Context {
        self.permit.context()
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("deadline", &self.deadline)
            .field("context", &self.context())
            .finish_non_exhaustive()
    }
}
