//! Requests that are sent now and whose answers are fetched later: OTP's `send_request`.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{sync::oneshot, task::coop, time};

use super::{
    Unanswered,
    address::{Live, why_dropped},
};

/// A request that was sent, and its answer to come. From [`Address::request`](super::Address::request).
///
/// Await it for as long as it takes; or [`wait`](Self::wait) for some time, and again. Dropping it gives the answer up: the
/// request may still run, and its handler can see that nobody waits.
///
/// ```
/// # use std::time::Duration;
/// # use underpin::otp::{Address, NotSent, Reply, Unanswered};
/// # enum Message { Total(Reply<u64>) }
/// # underpin::otp::message!(Message);
/// # async fn work() {}
/// # async fn example(counter: Address<Message>) -> Result<(), Box<dyn std::error::Error>> {
/// let mut total = counter.request(Message::Total)?;
/// work().await;
/// match total.wait(Duration::from_millis(10)).await {
///     Some(answer) => println!("{}", answer?),
///     None => println!("not yet; later {}", total.await?),
/// }
/// # Ok(()) }
/// ```
#[must_use = "dropping it gives the answer up"]
pub struct Request<T> {
    stage: Stage<T>,
}

enum Stage<T> {
    Sent {
        answer: oneshot::Receiver<T>,
        live: Arc<Live>,
    },
    /// It will have no answer; why, is being found out.
    Lost(BoxFuture<'static, Unanswered>),
    Done,
}

impl<T> Request<T> {
    pub(super) fn new(answer: oneshot::Receiver<T>, live: Arc<Live>) -> Self {
        Self {
            stage: Stage::Sent { answer, live },
        }
    }

    /// Waits for the answer, at most this long. `None` when it has not come, and when it was handed out before.
    ///
    /// # Errors
    ///
    /// [`Unanswered::Died`] or [`Unanswered::Dropped`]: there will be no answer; the request may have run.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the answer is not lost.
    pub async fn wait(&mut self, timeout: Duration) -> Option<Result<T, Unanswered>> {
        if matches!(self.stage, Stage::Done) {
            return None;
        }
        time::timeout(timeout, self).await.ok()
    }
}

impl<T> Future for Request<T> {
    type Output = Result<T, Unanswered>;

    /// # Panics
    ///
    /// When it is polled after it has given its answer.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            let (stage, output) = match &mut this.stage {
                Stage::Sent { answer, live } => match answer.poll_unpin(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(answer)) => (Stage::Done, Some(Ok(answer))),
                    Poll::Ready(Err(_)) => {
                        let live = Arc::clone(live);
                        let why = async move { why_dropped(&live, None, Duration::MAX).await };
                        (Stage::Lost(Box::pin(why)), None)
                    }
                },
                Stage::Lost(why) => match why.poll_unpin(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(why) => (Stage::Done, Some(Err(why))),
                },
                Stage::Done => panic!("a request was polled after it had given its answer"),
            };
            this.stage = stage;
            if let Some(output) = output {
                return Poll::Ready(output);
            }
        }
    }
}

impl<T> Unpin for Request<T> {}

impl<T> fmt::Debug for Request<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match &self.stage {
            Stage::Sent { .. } => "sent",
            Stage::Lost(_) => "lost",
            Stage::Done => "done",
        };
        f.debug_struct("Request").field("stage", &stage).finish()
    }
}

/// Several requests under way, each with a label; their answers as they come: OTP's request id collections.
///
/// ```
/// # use underpin::otp::{Address, NotSent, Reply, Requests};
/// # enum Message { Total(Reply<u64>) }
/// # underpin::otp::message!(Message);
/// # async fn example(shops: Vec<(String, Address<Message>)>) -> Result<(), NotSent> {
/// let mut totals = Requests::new();
/// for (name, shop) in shops {
///     totals.add(name, shop.request(Message::Total)?);
/// }
/// while let Some((name, total)) = totals.next().await {
///     println!("{name}: {total:?}");
/// }
/// # Ok(()) }
/// ```
pub struct Requests<L, T> {
    under_way: FuturesUnordered<Labelled<L, T>>,
}

struct Labelled<L, T> {
    label: Option<L>,
    request: Request<T>,
}

impl<L, T> Requests<L, T> {
    /// None so far.
    #[must_use]
    pub fn new() -> Self {
        Self {
            under_way: FuturesUnordered::new(),
        }
    }

    /// One more. Labels need not differ.
    pub fn add(&self, label: L, request: Request<T>) {
        self.under_way.push(Labelled {
            label: Some(label),
            request,
        });
    }

    /// How many are under way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.under_way.len()
    }

    /// Whether none is under way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// The next one that comes to its end, with its label; each once. `None` when none is under way.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no answer is lost.
    pub async fn next(&mut self) -> Option<(L, Result<T, Unanswered>)> {
        // The answers are looked at outside of tokio's budget: with many of them it would be spent before all were looked at, again
        // and again. So it is this that gives way to others.
        coop::consume_budget().await;
        loop {
            let next = poll_fn(|cx| self.under_way.poll_next_unpin(cx));
            let (label, answer) = coop::unconstrained(next).await?;
            if let Some(label) = label {
                return Some((label, answer));
            }
        }
    }

    /// The same, at most this long; `None` also when none came to its end in time.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn next_within(&mut self, timeout: Duration) -> Option<(L, Result<T, Unanswered>)> {
        time::timeout(timeout, self.next()).await.ok().flatten()
    }
}

impl<L, T> Future for Labelled<L, T> {
    type Output = (Option<L>, Result<T, Unanswered>);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let answer = std::task::ready!(this.request.poll_unpin(cx));
        Poll::Ready((this.label.take(), answer))
    }
}

impl<L, T> Unpin for Labelled<L, T> {}

impl<L, T> Default for Requests<L, T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<L, T> fmt::Debug for Requests<L, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests")
            .field("under_way", &self.len())
            .finish()
    }
}
