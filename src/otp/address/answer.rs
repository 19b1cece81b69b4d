//! What a caller that waits for its answer may find instead.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{self, Instant},
};

use super::Live;
use crate::otp::Unanswered;

/// Waits for an answer. Arms a timer only when the answer is not there after the actor had a chance to run: a timer for
/// each call doubled its cost.
pub(super) async fn within<T>(
    deadline: Option<Instant>,
    mut answer: oneshot::Receiver<T>,
) -> Option<Result<T, oneshot::error::RecvError>> {
    let Some(deadline) = deadline else {
        return Some(answer.await);
    };
    let mut pause = pin!(tokio::task::yield_now());
    let soon = poll_fn(|cx| {
        if let Poll::Ready(answer) = pin!(&mut answer).poll(cx) {
            return Poll::Ready(Some(answer));
        }
        pause.as_mut().poll(cx).map(|()| None)
    });
    match soon.await {
        Some(answer) => Some(answer),
        None => time::timeout_at(deadline, answer).await.ok(),
    }
}

/// A reply was dropped unsent: did the actor end, or did its handler let the reply go?
///
/// The reply goes before the actor's end shows, so the message at work is given time to come to its end: a panic on another
/// thread takes some, and more where it prints where it happened.
pub(in crate::otp) async fn why_dropped(
    live: &Live,
    deadline: Option<Instant>,
    timeout: Duration,
) -> Unanswered {
    const AT_FIRST: usize = 64;
    const LATER: usize = 50;
    let before = live.incarnation.steps();
    let undecided = || before % 2 == 1 && live.incarnation.steps() == before && !live.is_ending();
    let is_over = || deadline.is_some_and(|deadline| deadline <= Instant::now());
    for look in 0..AT_FIRST + LATER {
        if !undecided() {
            break;
        }
        if is_over() {
            return Unanswered::Timeout(timeout);
        }
        if look < AT_FIRST {
            tokio::task::yield_now().await;
        } else {
            let next = Instant::now() + Duration::from_millis(1);
            time::sleep_until(deadline.map_or(next, |deadline| next.min(deadline))).await;
        }
    }
    if !live.is_ending() {
        return Unanswered::Dropped;
    }
    let ended = match deadline {
        None => Some(live.incarnation.ended().await),
        Some(deadline) => time::timeout_at(deadline, live.incarnation.ended())
            .await
            .ok(),
    };
    ended.map_or(Unanswered::Timeout(timeout), Unanswered::Died)
}
