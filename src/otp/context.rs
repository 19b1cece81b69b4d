//! What a request carries along: which trace it belongs to, and which event caused it.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::pin,
};

/// The correlation that travels with a [`Reply`](super::Reply) or a [`Permit`](super::Permit) from caller to handler.
///
/// Small and `Copy`: a call pays two words for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Context {
    /// A W3C trace id; 0 where there is none (the W3C format calls 0 invalid).
    pub trace: u128,
    /// The id of the event that caused this; 0 where there is none.
    pub cause: u64,
}

thread_local! {
    static CURRENT: Cell<Context> = const { Cell::new(Context { trace: 0, cause: 0 }) };
}

impl Context {
    /// The context that the code on this thread runs in; empty outside of any [`Context::scope`].
    #[must_use]
    pub fn current() -> Self {
        CURRENT.get()
    }

    /// The same to send along; `None` where it is empty.
    #[inline]
    pub(super) fn current_boxed() -> Option<Box<Self>> {
        let current = Self::current();
        (current != Self::default()).then(|| Box::new(current))
    }

    /// Runs `work` in this context, across its `.await`s.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use underpin::otp::Context;
    ///
    /// let context = Context { trace: 7, cause: 0 };
    /// let seen = context.scope(async { Context::current() }).await;
    /// assert_eq!(seen, context);
    /// assert_eq!(Context::current(), Context::default());
    /// # });
    /// ```
    ///
    /// # Cancel safety
    ///
    /// As safe as `work` itself.
    pub async fn scope<F: Future>(self, work: F) -> F::Output {
        let mut work = pin!(work);
        poll_fn(|cx| {
            let _restore = Restore(CURRENT.replace(self));
            work.as_mut().poll(cx)
        })
        .await
    }
}

struct Restore(Context);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}
