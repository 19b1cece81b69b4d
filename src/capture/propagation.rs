//! The correlation in and out of the process: W3C Trace Context, <https://www.w3.org/TR/trace-context-2/>.

use std::num::{NonZeroU64, NonZeroU128};

use super::entered;
use crate::{
    ids::{SpanId, TraceId, TraceParent},
    otp::Context,
};

/// Reads a header `traceparent`: whoever enters this context goes on with the caller's trace. `None` where it is malformed; begin a trace
/// of your own then, as the recommendation says.
///
/// ```
/// use underpin::{capture, otp::Context};
///
/// let theirs = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let context = capture::context_of(theirs).expect("well formed");
///
/// context.enter(|| {
///     let ours = capture::traceparent().expect("in a trace");
///     assert_eq!(ours.trace().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
/// });
/// assert!(capture::context_of("4bf92f35").is_none());
/// ```
#[must_use]
pub fn context_of(traceparent: &str) -> Option<Context> {
    let parent: TraceParent = traceparent.trim().parse().ok()?;
    Some(Context::new(parent.trace().get(), 0))
}

/// The header `traceparent` for a request to somebody else: the current trace, and as its parent id the event that is the cause of what
/// happens now (a random one where there is none). It says that the trace is sampled unless the captured span that this happens in
/// belongs to one that is not ([`Options::share`](super::Options::share)). `None` outside of any trace.
#[must_use]
pub fn traceparent() -> Option<TraceParent> {
    let current = Context::current();
    let trace = TraceId::new(NonZeroU128::new(current.trace)?);
    let parent = NonZeroU64::new(current.cause).map_or_else(SpanId::random, SpanId::new);
    Some(TraceParent::new(trace, parent, entered::is_sampled()))
}
