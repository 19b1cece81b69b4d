//! The hot path: spans and events as they happen go into the queue.

use std::{
    cell::Cell,
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
    entered::{self, Entered},
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

/// What is known of an open span, by each capture that sees it: a subscriber may have several.
#[derive(Debug)]
struct Opens {
    /// Nearly always the only one.
    first: Open,
    more: Vec<Open>,
}

/// What a capture knows of an open span.
#[derive(Debug, Clone, Copy)]
struct Open {
    /// Which capture.
    capture: u64,
    /// What happens in it belongs to this.
    context: Context,
    /// Whether its trace was captured when it began.
    sampled: bool,
    began: Instant,
    busy: Duration,
    /// How often it is entered at the moment, and since when.
    entered: u32,
    since: Instant,
}

thread_local! {
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

    /// The context of the thing that a span or an event was made in.
    fn context_around<S>(
        &self,
        contextual: bool,
        parent: Option<&Id>,
        subscribed: &Subscribed<'_, S>,
    ) -> Context
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        if contextual {
            return entered::context_for(self.shared.number);
        }
        let open = parent.and_then(|parent| self.open(parent, subscribed));
        open.map(|(open, _)| open.context).unwrap_or_default()
    }

    /// What this capture knows of a span.
    fn open<S>(
        &self,
        id: &Id,
        subscribed: &Subscribed<'_, S>,
    ) -> Option<(Open, &'static Metadata<'static>)>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let span = subscribed.span(id)?;
        let open = *span.extensions().get::<Opens>()?.of(self.shared.number)?;
        Some((open, span.metadata()))
    }
}

impl Opens {
    fn of(&self, capture: u64) -> Option<&Open> {
        let mut all = [&self.first].into_iter().chain(&self.more);
        all.find(|open| open.capture == capture)
    }

    fn of_mut(&mut self, capture: u64) -> Option<&mut Open> {
        let mut all = [&mut self.first].into_iter().chain(&mut self.more);
        all.find(|open| open.capture == capture)
    }
}

impl<S> Layer<S> for CaptureLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, subscribed: Subscribed<'_, S>) {
        let Some(span) = subscribed.span(id) else {
            return;
        };
        let around =
            self.context_around(attributes.is_contextual(), attributes.parent(), &subscribed);
        let record = |writer: &mut dyn Visit| attributes.record(writer);
        let rules = self.rules();
        let (context, sampled) = self.with_fields(&rules, record, |fields, traceparent| {
            let mut context = around;
            if context.trace == 0 {
                let said = traceparent.as_deref().and_then(context_of);
                // Another capture may have begun the trace of this very span.
                let begun = || {
                    let extensions = span.extensions();
                    extensions.get::<Opens>().map(|opens| opens.first.context)
                };
                let known = said.or_else(begun);
                context.trace = known.map_or_else(|| TraceId::random().get(), |known| known.trace);
            }
            let sampled = rules.samples(context.trace);
            if sampled {
                let opened = What::Opened(attributes.metadata());
                context.cause = self.shared.push(opened, context, fields);
            }
            (context, sampled)
        });
        let now = Instant::now();
        let open = Open {
            capture: self.shared.number,
            context,
            sampled,
            began: now,
            busy: Duration::ZERO,
            entered: 0,
            since: now,
        };
        let mut extensions = span.extensions_mut();
        match extensions.get_mut::<Opens>() {
            Some(opens) => opens.more.push(open),
            None => extensions.insert(Opens {
                first: open,
                more: Vec::new(),
            }),
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, subscribed: Subscribed<'_, S>) {
        let Some((open, metadata)) = self.open(id, &subscribed) else {
            return;
        };
        let rules = self.rules();
        if rules.samples(open.context.trace) {
            let record = |writer: &mut dyn Visit| values.record(writer);
            self.with_fields(&rules, record, |fields, _| {
                let recorded = What::Recorded(metadata);
                self.shared.push(recorded, open.context, fields)
            });
        }
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, subscribed: Subscribed<'_, S>) {
        let other = self.open(follows, &subscribed);
        let both = self.open(id, &subscribed).zip(other);
        // What was not captured, nor anything around it, is nothing to point at.
        if let Some(((open, metadata), (other, _))) = both
            && other.context.cause != 0
            && self.rules().samples(open.context.trace)
        {
            let linked = What::Linked(metadata, other.context.cause);
            self.shared.push(linked, open.context, &[]);
        }
    }

    fn on_event(&self, event: &Event<'_>, subscribed: Subscribed<'_, S>) {
        let context = self.context_around(event.is_contextual(), event.parent(), &subscribed);
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
        let opens = extensions.get_mut::<Opens>();
        let Some(open) = opens.and_then(|opens| opens.of_mut(self.shared.number)) else {
            return;
        };
        if open.entered == 0 {
            open.since = Instant::now();
        }
        open.entered += 1;
        let (inside, sampled) = (open.context, open.sampled);
        drop(extensions);
        entered::enter(Entered {
            capture: self.shared.number,
            span: id.into_u64(),
            before: inside.replace(),
            inside,
            sampled,
        });
    }

    fn on_exit(&self, id: &Id, subscribed: Subscribed<'_, S>) {
        entered::leave(self.shared.number, id);
        let Some(span) = subscribed.span(id) else {
            return;
        };
        let mut extensions = span.extensions_mut();
        let opens = extensions.get_mut::<Opens>();
        if let Some(open) = opens.and_then(|opens| opens.of_mut(self.shared.number)) {
            open.entered = open.entered.saturating_sub(1);
            if open.entered == 0 {
                open.busy += open.since.elapsed();
            }
        }
    }

    fn on_close(&self, id: Id, subscribed: Subscribed<'_, S>) {
        let Some((open, metadata)) = self.open(&id, &subscribed) else {
            return;
        };
        if self.rules().samples(open.context.trace) {
            let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            let closed = What::Closed {
                metadata,
                busy_ns: nanos(open.busy),
                idle_ns: nanos(open.began.elapsed().saturating_sub(open.busy)),
            };
            self.shared.push(closed, open.context, &[]);
        }
    }
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
