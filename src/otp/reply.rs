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
    /// First, so that a caller that hears of its end finds its place free.
    permit: Permit,
    answer: Option<oneshot::Sender<T>>,
    deadline: Option<Instant>,
}

impl<T> Reply<T> {
    pub(crate) fn new(permit: Permit, deadline: Option<Instant>) -> (Self, oneshot::Receiver<T>) {
        let (answer, wait) = oneshot::channel();
        let reply = Self {
            permit,
            answer: Some(answer),
            deadline,
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
        let is_late = answer.is_closed();
        if is_late {
            self.permit.gate().count_late();
        }
        // Before the answer: the caller may call again at once, and would find its own place taken.
        let place = self.permit.give_back();
        if answer.send(value).is_err() && !is_late {
            place.count_late();
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

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::SeqCst},
        },
        task::{Context, Wake, Waker},
    };

    use super::*;
    use crate::otp::admission::{Admission, Door};

    /// Looks how many are inside at the moment when it is woken.
    struct Look(Door, AtomicUsize);

    impl Wake for Look {
        fn wake(self: Arc<Self>) {
            self.1.store(self.0.admitted(), SeqCst);
        }
    }

    /// A caller that was answered and called again at once was refused: its own place was still taken.
    #[test]
    fn a_caller_that_hears_of_its_call_finds_its_place_free() {
        for answered in [true, false] {
            let look = Arc::new(Look(Door::new(Admission::refuse(1)), AtomicUsize::new(9)));
            let (reply, answer) = Reply::new(look.0.try_enter().expect("has a place"), None);
            let mut answer = pin!(answer);
            let waker = Waker::from(Arc::clone(&look));
            assert!(
                answer
                    .as_mut()
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
            );
            assert_eq!(look.0.admitted(), 1);

            if answered {
                reply.send(());
            } else {
                drop(reply);
            }

            assert_eq!(look.1.load(SeqCst), 0, "answered: {answered}");
        }
    }

    #[test]
    fn an_answer_that_comes_late_is_counted_and_so_is_a_request_that_nobody_wanted() {
        let door = Door::new(Admission::refuse(1));
        for answered in [true, false] {
            let (reply, answer) = Reply::new(door.try_enter().expect("has a place"), None);
            drop(answer);
            if answered {
                reply.send(());
            } else {
                drop(reply);
            }
        }
        assert_eq!((door.gate().late(), door.gate().expired()), (1, 1));
    }
}
