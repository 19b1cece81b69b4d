use std::{any::type_name, fmt, time::Duration};

use tokio::{sync::oneshot, time::Instant};

use super::{Context, Permit};

/// Where the answer to a call goes. Put it into the call's message variant; send it exactly one value.
///
/// It carries the caller's deadline, its place among the admitted requests and its correlation. It may be kept and answered
/// later, from anywhere. Dropping it without an answer tells the caller so at once
/// ([`Unanswered::Dropped`](super::Unanswered::Dropped)).
///
/// A caller may be gone before its request is looked at. Skip such a request before any work is done for it:
///
/// ```
/// use underpin::otp::Reply;
///
/// fn handle(reply: Reply<u64>) {
///     if reply.is_closed() {
///         return; // Counted as expired in the tree.
///     }
///     reply.send(6 * 7);
/// }
/// ```
pub struct Reply<T> {
    answer: Option<oneshot::Sender<T>>,
    deadline: Option<Instant>,
    permit: Permit,
}

impl<T> Reply<T> {
    pub(crate) fn new(permit: Permit, deadline: Option<Instant>) -> (Self, oneshot::Receiver<T>) {
        let (answer, wait) = oneshot::channel();
        let reply = Self {
            answer: Some(answer),
            deadline,
            permit,
        };
        (reply, wait)
    }

    /// Answers the caller. A caller that has gone is not an error, since nobody is left to be told: such answers are counted
    /// as late in the [`Tree`](super::Tree).
    pub fn send(mut self, value: T) {
        let Some(answer) = self.answer.take() else {
            return;
        };
        let debug = self.permit.gate().debug();
        if debug.is_on() && !answer.is_closed() {
            debug.answer_out::<T>();
        }
        if answer.send(value).is_err() {
            self.permit.gate().count_late();
        }
    }

    /// Whether the caller has given up. Handlers skip such requests before they do any work.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.answer.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    /// Waits until the caller has given up; to break off work that nobody waits for any more.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn closed(&mut self) {
        if let Some(answer) = &mut self.answer {
            answer.closed().await;
        }
    }

    /// When the caller stops waiting. `None` where it waits for as long as it takes.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// How long the caller still waits: the timeout for calls that are made on its behalf.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        self.deadline.map_or(Duration::MAX, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        })
    }

    /// The correlation that came with the request.
    #[must_use]
    pub fn context(&self) -> Context {
        self.permit.context()
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if self.answer.as_ref().is_some_and(oneshot::Sender::is_closed) {
            self.permit.gate().count_expired();
        }
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("of", &type_name::<T>())
            .field("deadline", &self.deadline)
            .field("context", &self.context())
            .finish_non_exhaustive()
    }
}
