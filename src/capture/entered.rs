//! Which spans are entered on a thread, and what each capture of the process makes of the context they leave there.
//!
//! A thread has one [`Context`], and several captures may see its spans: each has events of its own, so that what one of them
//! names as a cause, another one does not have.

use std::cell::{Cell, RefCell};

use tracing::Id;

use crate::otp::Context;

/// A span that a capture saw being entered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entered {
    /// Which capture: two nodes in one process may have spans of the same number.
    pub(super) capture: u64,
    pub(super) span: u64,
    /// What the thread's context was before, and what it is now.
    pub(super) before: Context,
    pub(super) inside: Context,
    /// Whether the span's trace is captured.
    pub(super) sampled: bool,
}

thread_local! {
    static ENTERED: RefCell<Vec<Entered>> = const { RefCell::new(Vec::new()) };
    /// Which capture saw the last one, and what it put in place; nearly always all that is asked for. A bare value without a destructor,
    /// which costs an instruction to read.
    static LAST: Cell<(u64, Context)> = const { Cell::new(NOBODY) };
}

/// No capture has this number.
const NOBODY: (u64, Context) = (0, Context::new(0, 0));

/// Notes a span whose context was just put in place.
pub(super) fn enter(span: Entered) {
    // Not there any more while the thread ends.
    let _ = ENTERED.try_with(|entered| {
        entered.borrow_mut().push(span);
        LAST.set((span.capture, span.inside));
    });
}

/// Puts back what was there before a span.
pub(super) fn leave(capture: u64, span: &Id) {
    let _ = ENTERED.try_with(|entered| {
        let mut entered = entered.borrow_mut();
        take_off(&mut entered, capture, span);
        LAST.set(last(&entered));
    });
}

fn last(entered: &[Entered]) -> (u64, Context) {
    let last = entered.last();
    last.map_or(NOBODY, |span| (span.capture, span.inside))
}

/// The thread's context as a capture knows it.
#[inline]
pub(super) fn context_for(capture: u64) -> Context {
    let (current, last) = (Context::current(), LAST.get());
    if last.0 == NOBODY.0 || last == (capture, current) {
        return current;
    }
    context_among_others(capture, current)
}

#[inline(never)]
fn context_among_others(capture: u64, current: Context) -> Context {
    let seen = ENTERED.try_with(|entered| own(&entered.borrow(), capture, current));
    seen.unwrap_or(current)
}

/// Whether the trace of the thread's context is captured, as far as that was decided here: where no capture's span put the context
/// in place, nobody has decided against it.
pub(super) fn is_sampled() -> bool {
    let current = Context::current();
    let sampled = ENTERED.try_with(|entered| {
        let entered = entered.borrow();
        let mut deciders = placing(&entered, current).peekable();
        deciders.peek().is_none() || deciders.any(|span| span.sampled)
    });
    sampled.unwrap_or(true)
}

/// The spans that put this context in place, one over the other, the last one first. What somebody put in place between them by other
/// means ends them.
fn placing(entered: &[Entered], current: Context) -> impl Iterator<Item = &Entered> {
    let mut below = current;
    entered.iter().rev().map_while(move |span| {
        let placed = span.inside == below;
        below = span.before;
        placed.then_some(span)
    })
}

/// What other captures put over a capture's own context is taken off again. Where there is none of its own, the trace is still the
/// one that all share.
fn own(entered: &[Entered], capture: u64, current: Context) -> Context {
    let mut under = current;
    for span in placing(entered, current) {
        if span.capture == capture {
            return span.inside;
        }
        under = span.before;
    }
    if under.trace == 0 {
        return Context::new(current.trace, under.cause);
    }
    under
}

/// Takes a span off the pile. Usually it lies on top; one that is left before those inside it leaves them what stood before it.
fn take_off(entered: &mut Vec<Entered>, capture: u64, span: &Id) {
    let own = |other: &Entered| (other.capture, other.span) == (capture, span.into_u64());
    let Some(at) = entered.iter().rposition(own) else {
        return;
    };
    let before = entered.remove(at).before;
    match entered.get_mut(at) {
        Some(inner) => inner.before = before,
        None => before.restore(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn context(trace: u128, cause: u64) -> Context {
        Context::new(trace, cause)
    }

    const fn entered(capture: u64, span: u64, before: Context, inside: Context) -> Entered {
        Entered {
            capture,
            span,
            before,
            inside,
            sampled: true,
        }
    }

    #[test]
    fn spans_left_out_of_order_leave_the_right_context() {
        let [outside, first, second] = [0, 1, 2].map(|trace| context(trace, 0));
        let (one, two) = (Id::from_u64(1), Id::from_u64(2));
        outside.enter(|| {
            let mut pile = vec![
                entered(7, 1, first.replace(), first),
                entered(7, 2, second.replace(), second),
            ];

            take_off(&mut pile, 7, &one);
            assert_eq!(Context::current(), second);
            take_off(&mut pile, 7, &two);
            assert_eq!(Context::current(), outside);
            take_off(&mut pile, 7, &two);
            assert_eq!(Context::current(), outside);
        });
    }

    #[test]
    fn each_capture_finds_its_own_context_under_that_of_others() {
        let nothing = Context::default();
        let [mine, theirs] = [context(5, 10), context(5, 20)];
        let pile = [entered(1, 1, nothing, mine), entered(2, 1, mine, theirs)];

        assert_eq!(own(&pile, 1, theirs), mine);
        assert_eq!(own(&pile, 2, theirs), theirs);
        assert_eq!(own(&pile, 3, theirs), context(5, 0), "the trace is shared");
        assert_eq!(own(&[], 1, theirs), theirs, "somebody said so");
        let caused = context(0, 30);
        assert_eq!(own(&[], 1, caused), caused);
        let begun = [entered(2, 1, caused, theirs)];
        assert_eq!(own(&begun, 1, theirs), context(5, 30));
    }

    #[test]
    fn a_context_that_somebody_enters_inside_a_span_is_that_of_all() {
        let said = context(6, 30);
        let pile = [entered(1, 1, Context::default(), context(5, 10))];

        assert_eq!(own(&pile, 1, said), said);
        assert_eq!(own(&pile, 2, said), said);
    }
}
