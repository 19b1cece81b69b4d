//! Turns: whoever has much to do lets others run in between, and comes back right after them.
//!
//! [`tokio::task::yield_now`] comes back when its worker has nothing else to do: with ten thousand tasks that are to run, long after.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use tokio::task::coop;

/// Comes back after those who wait for their turn now.
pub(super) async fn end() {
    let mut is_over = false;
    poll_fn(|cx| {
        if is_over {
            return Poll::Ready(());
        }
        is_over = true;
        end_now(cx)
    })
    .await;
}

/// The same in a `poll`, which is to be called again.
pub(super) fn end_now<T>(cx: &Context<'_>) -> Poll<T> {
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// A part of the task's turn, or its end when this was all.
pub(super) async fn take_part() {
    if coop::has_budget_remaining() {
        coop::consume_budget().await;
    } else {
        end().await;
    }
}
