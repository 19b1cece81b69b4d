//! The hot path: spans and events as they happen go into the queue.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::Guard;
use tracing::{
    Event, Metadata, Subscriber,
    field::Visit,
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
    subscriber::Interest,
};
use tracing_subscriber::{
    Layer,
    layer::{Context as Subscribed, Filter},
    registry::LookupSpan,
};

use super::{
    fields::Writer,
    handle::{Owner, Shared},
    propagation::context_of,
    queue::What,
    rules::Rules,
};
use crate::{ids::TraceId, otp::Context};

/// Captures what its subscriber sees.
#[derive(Debug)]
pub(super) struct CaptureLayer {
    shared: Arc<Shared>,
    _owner: Arc<Owner>,
}

/// Which callsites are captured at all. Asked once for each callsite, until the rules change.
#[derive(Debug)]
pub(super) struct Wanted(pub(super) Arc<Shared>);

/// What is known of an open span.
#[derive(Debug)]
struct Open {
    /// What happens in it belongs to this.
    context: Context,
    began: Instant,
    busy: Duration,
    /// How often it is entered at the moment, and since when.
    entered: u32,
    since: Instant,
}

thread_local! {
    /// The spans that are entered on this thread, and the context that stood before each. Of each span the capture it belongs to too,
    /// since two nodes in one process may have spans of the same number.
    static ENTERED: RefCell<Vec<(u64, u64, Context)>> = const { RefCell::new(Vec::new()) };
    /// A buffer for fields. Taken while it is used: a field that logs while it is written finds none, and makes its own.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A larger buffer is not kept: one huge event should not cost each thread its size for ever.
const SCRATCH_KEPT_BYTES: usize = 64 << 10;

impl CaptureLayer {
    pub(super) fn new(shared: Arc<Shared>, owner: Arc<Owner>) -> Self {
        Self {
            shared,
            _owner: owner,
        }
    }

    /// Writes fields into the thread's buffer and hands them over; answers what `traceparent` said.
    fn with_fields<T>(
        &self,
        rules: &Rules,
        record: impl FnOnce(&mut dyn Visit),
        then: impl FnOnce(&[u8], Option<String>) -> T,
    ) -> T {
        let mut bytes = SCRATCH.try_with(Cell::take).unwrap_or_default();
        bytes.clear();
        let mut writer = Writer {
            bytes: &mut bytes,
            text_bytes_max: rules.text_bytes_max,
            fields_left: rules.fields_max,
            shortened: 0,
            traceparent: None,
        };
        record(&mut writer);
        let (shortened, traceparent) = (writer.shortened, writer.traceparent.take());
        self.shared.count_shortened(shortened);
        let result = then(&bytes, traceparent);
        if bytes.capacity() <= SCRATCH_KEPT_BYTES {
            let _ = SCRATCH.try_with(|scratch| scratch.set(bytes));
        }
        result
    }

    fn rules(&self) -> Guard<Arc<Rules>> {
        self.shared.rules.load()
    }
}

/// The context of the thing that a span or an event was made in.
fn context_around<S>(
    contextual: bool,
    parent: Option<&Id>,
    subscribed: &Subscribed<'_, S>,
) -> Context
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    if contextual {
        return Context::current();
    }
    let span = parent.and_then(|parent| subscribed.span(parent));
    span.and_then(|span| span.extensions().get::<Open>().map(|open| open.context))
        .unwrap_or_default()
}

impl<S> Layer<S> for CaptureLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, subscribed: Subscribed<'_, S>) {
        let Some(span) = subscribed.span(id) else {
            return;
        };
        let around = context_around(attributes.is_contextual(), attributes.parent(), &subscribed);
        let record = |writer: &mut dyn Visit| attributes.record(writer);
        let rules = self.rules();
        let context = self.with_fields(&rules, record, |fields, traceparent| {
            let mut context = around;
            if context.trace == 0 {
                let said = traceparent.as_deref().and_then(context_of);
                context.trace = said.map_or_else(|| TraceId::random().get(), |said| said.trace);
            }
            if rules.samples(context.trace) {
                let opened = What::Opened(attributes.metadata());
                context.cause = self.shared.push(opened, context, fields);
            }
            context
        });
        let now = Instant::now();
        span.extensions_mut().replace(Open {
            context,
            began: now,
            busy: Duration::ZERO,
            entered: 0,
            since: now,
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, subscribed: Subscribed<'_, S>) {
        let Some((context, metadata)) = open(id, &subscribed) else {
            return;
        };
        let rules = self.rules();
        if rules.samples(context.trace) {
            let record = |writer: &mut dyn Visit| values.record(writer);
            self.with_fields(&rules, record, |fields, _| {
                self.shared.push(What::Recorded(metadata), context, fields)
            });
        }
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, subscribed: Subscribed<'_, S>) {
        let both = open(id, &subscribed).zip(open(follows, &subscribed));
        if let Some(((context, metadata), (other, _))) = both
            && self.rules().samples(context.trace)
        {
            let linked = What::Linked(metadata, other.cause);
            self.shared.push(linked, context, &[]);
        }
    }

    fn on_event(&self, event: &Event<'_>, subscribed: Subscribed<'_, S>) {
        let context = context_around(event.is_contextual(), event.parent(), &subscribed);
        let rules = self.rules();
        if rules.samples(context.trace) {
            let record = |writer: &mut dyn Visit| event.record(writer);
            self.with_fields(&rules, record, |fields, _| {
                self.shared
                    .push(What::Event(event.metadata()), context, fields)
            });
        }
    }

    fn on_enter(&self, id: &Id, subscribed: Subscribed<'_, S>) {
        let Some(span) = subscribed.span(id) else {
            return;
        };
        let mut extensions = span.extensions_mut();
        let Some(open) = extensions.get_mut::<Open>() else {
            return;
        };
        if open.entered == 0 {
            open.since = Instant::now();
        }
        open.entered += 1;
        let before = open.context.replace();
        drop(extensions);
        let _ = ENTERED.try_with(|entered| {
            let own = (self.shared.number, id.into_u64(), before);
            entered.borrow_mut().push(own);
        });
    }

    fn on_exit(&self, id: &Id, subscribed: Subscribed<'_, S>) {
        let _ =
            ENTERED.try_with(|entered| leave(&mut entered.borrow_mut(), self.shared.number, id));
        let Some(span) = subscribed.span(id) else {
            return;
        };
        let mut extensions = span.extensions_mut();
        if let Some(open) = extensions.get_mut::<Open>() {
            open.entered = open.entered.saturating_sub(1);
            if open.entered == 0 {
                open.busy += open.since.elapsed();
            }
        }
    }

    fn on_close(&self, id: Id, subscribed: Subscribed<'_, S>) {
        let Some(span) = subscribed.span(&id) else {
            return;
        };
        let Some(open) = span.extensions_mut().remove::<Open>() else {
            return;
        };
        if self.rules().samples(open.context.trace) {
            let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            let closed = What::Closed {
                metadata: span.metadata(),
                busy_ns: nanos(open.busy),
                idle_ns: nanos(open.began.elapsed().saturating_sub(open.busy)),
            };
            self.shared.push(closed, open.context, &[]);
        }
    }
}

/// Takes a span off the thread's pile. Usually it lies on top; one that is left before those inside it leaves them what stood before it.
fn leave(entered: &mut Vec<(u64, u64, Context)>, number: u64, id: &Id) {
    let own =
        |(capture, span, _): &(u64, u64, Context)| (*capture, *span) == (number, id.into_u64());
    let Some(at) = entered.iter().rposition(own) else {
        return;
    };
    let (_, _, before) = entered.remove(at);
    match entered.get_mut(at) {
        Some((_, _, inner)) => *inner = before,
        None => before.restore(),
    }
}

fn open<S>(id: &Id, subscribed: &Subscribed<'_, S>) -> Option<(Context, &'static Metadata<'static>)>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let span = subscribed.span(id)?;
    let context = span.extensions().get::<Open>()?.context;
    Some((context, span.metadata()))
}

impl<S> Filter<S> for Wanted {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Subscribed<'_, S>) -> bool {
        self.0.rules.load().wants(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.0.rules.load().wants(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0.rules.load().most_verbose())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_left_out_of_order_leave_the_right_context() {
        let [outside, first, second] = [0, 1, 2].map(|trace| Context::new(trace, 0));
        let (one, two) = (Id::from_u64(1), Id::from_u64(2));
        outside.enter(|| {
            let mut entered = vec![(7, 1, first.replace()), (7, 2, second.replace())];

            leave(&mut entered, 7, &one);
            assert_eq!(Context::current(), second);
            leave(&mut entered, 7, &two);
            assert_eq!(Context::current(), outside);
            leave(&mut entered, 7, &two);
            assert_eq!(Context::current(), outside);
        });
    }
}
