//! What a request carries along: which trace it belongs to, and which event caused it.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::pin,
};

use crate::ids::TraceId;

/// The correlation that travels with a [`Reply`](super::Reply) or a [`Permit`](super::Permit) from caller to handler.
///
/// A handler enters it with [`scope`](Self::scope), and what it does there belongs to the caller's trace. Two kinds of message
/// start a trace of their own instead, whose first event names the event that caused it: one that an actor casts to itself, and
/// one that stands at the end of [`HOPS_MAX`](Self::HOPS_MAX) messages. Otherwise actors that keep themselves or each other
/// going would hang their whole lives on one old request.
///
/// Small and `Copy`: a message pays two words for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Context {
    /// A W3C trace id; 0 where there is none (the W3C format calls 0 invalid).
    pub trace: u128,
    /// The id of the event that caused this; 0 where there is none.
    pub cause: u64,
    /// How many messages lie between the begin of the trace and here.
    hops: u8,
}

thread_local! {
    static CURRENT: Cell<Context> = const { Cell::new(Context::NONE) };
    /// The last one that was left on this thread, for whoever wants to know in which one something went wrong.
    static LEFT: Cell<Context> = const { Cell::new(Context::NONE) };
}

impl Context {
    /// How many messages a trace is followed through: more than any request passes, and a bound for those that never end.
    pub const HOPS_MAX: u8 = 64;

    const NONE: Self = Self::new(0, 0);

    /// A trace, and the event in it that caused what comes; each 0 where there is none.
    #[must_use]
    pub const fn new(trace: u128, cause: u64) -> Self {
        Self {
            trace,
            cause,
            hops: 0,
        }
    }

    /// A trace of its own that begins when this is entered, caused by what caused this. For timers and whatever else is not
    /// part of the request that set it going.
    #[must_use]
    pub const fn linked(self) -> Self {
        Self::new(0, self.cause)
    }

    /// All of it, for a message that leaves the process.
    #[cfg(feature = "cluster")]
    pub(crate) const fn parts(self) -> (u128, u64, u8) {
        (self.trace, self.cause, self.hops)
    }

    /// What came from another process.
    #[cfg(feature = "cluster")]
    pub(crate) const fn from_parts(trace: u128, cause: u64, hops: u8) -> Self {
        Self { trace, cause, hops }
    }

    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(self) -> bool {
        (self.trace, self.cause) == (0, 0)
    }

    /// The context that the code on this thread runs in; empty outside of any [`Context::scope`].
    #[must_use]
    pub fn current() -> Self {
        CURRENT.get()
    }

    /// The same to send along; `None` where it is empty.
    #[inline]
    pub(super) fn current_boxed() -> Option<Box<Self>> {
        let current = Self::current();
        (!current.is_empty()).then(|| Box::new(current.one_on()))
    }

    fn one_on(self) -> Self {
        if self.hops >= Self::HOPS_MAX {
            return self.linked();
        }
        Self {
            hops: self.hops + 1,
            ..self
        }
    }

    /// Puts this in place as the thread's context, and gives back what was there. Whoever calls it puts that back.
    #[cfg(feature = "capture")]
    pub(crate) fn replace(self) -> Self {
        CURRENT.replace(self)
    }

    /// The same when the context that is in place is left.
    pub(crate) fn restore(self) {
        let left = CURRENT.replace(self);
        if !left.is_empty() {
            LEFT.set(left);
        }
    }

    /// The context that was left last on this thread, once. Take it before code is run, and again when it has failed: its scopes are
    /// gone by then.
    pub(super) fn take_left() -> Self {
        LEFT.take()
    }

    /// A trace of its own where there is only a cause.
    fn begun(self) -> Self {
        if self.trace == 0 && self.cause != 0 {
            return Self::new(TraceId::random().get(), self.cause);
        }
        self
    }

    /// Runs `work` in this context, across its `.await`s.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use underpin::otp::Context;
    ///
    /// let context = Context::new(7, 0);
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
        let context = self.begun();
        poll_fn(|cx| {
            let _restore = Restore(CURRENT.replace(context));
            work.as_mut().poll(cx)
        })
        .await
    }

    /// Runs `work` in this context, where nothing is awaited.
    ///
    /// ```
    /// use underpin::otp::Context;
    ///
    /// let context = Context::new(7, 0);
    /// assert_eq!(context.enter(Context::current), context);
    /// assert!(Context::current().is_empty());
    /// ```
    pub fn enter<T>(self, work: impl FnOnce() -> T) -> T {
        let _restore = Restore(CURRENT.replace(self.begun()));
        work()
    }
}

struct Restore(Context);

impl Drop for Restore {
    fn drop(&mut self) {
        self.0.restore();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_carried_from_message_to_message_until_the_last_hop_starts_a_trace_of_its_own() {
        let mut here = Context::new(7, 9);
        for hop in 1..=Context::HOPS_MAX {
            let carried = here
                .enter(Context::current_boxed)
                .expect("something to carry");
            assert_eq!((carried.trace, carried.cause), (7, 9), "hop {hop}");
            here = *carried;
        }

        let last = here.enter(Context::current_boxed).expect("its cause");

        assert_eq!(*last, Context::new(0, 9));
        let begun = last.enter(Context::current);
        assert!(begun.trace != 0 && begun.trace != 7);
        assert_eq!(begun.cause, 9);
    }

    #[test]
    fn nothing_is_carried_where_there_is_nothing_to_say() {
        assert!(Context::current_boxed().is_none());
        assert_eq!(
            Context::new(0, 0).enter(Context::current),
            Context::default()
        );
    }
}
