//! The drain: takes what is queued, makes events of it, and has the store keep them.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use tokio::runtime::{Builder, Runtime};
use tracing::{Metadata, callsite::Identifier};

use super::{
    fields::Reader,
    handle::Shared,
    queue::{Entry, Taken, What},
    rules::Rules,
};
use crate::{
    events::{Event, EventBuilder, Events, SOURCE_BYTES_MAX, StoreError},
    otp::Context,
    value::{Map, Value},
};

pub(super) struct Drain {
    shared: Arc<Shared>,
    events: Events,
    /// What is the same for all events of a callsite, under the rules it was made with.
    callsites: HashMap<Identifier, Arc<Callsite>>,
    rules: Arc<Rules>,
}

/// What an event takes from the place in the program where it was made.
struct Callsite {
    kind: Arc<str>,
    source: Arc<str>,
    name: Value,
    level: Value,
    at: Value,
    /// The field names by number, and whether the value is hidden.
    fields: Vec<(Arc<str>, bool)>,
}

/// How long the drain rests when there was nothing. Short, so that an event is soon to be found; a thread that is woken for each event would
/// cost its makers more.
const NAP: Duration = Duration::from_millis(5);
/// After so many empty looks the drain sleeps until it is woken.
const NAPS: u32 = 20;
/// Events stored at once: some MiB.
const BATCH: usize = 8192;
/// How long one attempt may take. The store holds a batch all the same; the next attempt finds it there.
const ATTEMPT: Duration = Duration::from_secs(5);
/// The pauses between attempts.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long a closed capture tries to store what it has.
const LAST_PATIENCE: Duration = Duration::from_secs(10);
/// What stands for a hidden value.
const REDACTED: &str = "[redacted]";
/// The names of our own; a field called so is kept as `fields.<name>`.
const OWN_NAMES: [&str; 5] = ["level", "at", "name", "busy_ns", "idle_ns"];

impl Drain {
    pub(super) fn new(shared: Arc<Shared>, events: Events) -> Self {
        let rules = shared.rules.load_full();
        Self {
            shared,
            events,
            callsites: HashMap::new(),
            rules,
        }
    }

    pub(super) fn run(mut self) {
        let runtime = Builder::new_current_thread().enable_time().build();
        match runtime {
            Ok(runtime) => self.passes(&runtime),
            Err(error) => {
                tracing::error!(%error, "nothing is captured: the system gives no timer for it");
                self.shared.queue.close();
            }
        }
        self.drop_all();
        self.shared.end_passes();
    }

    fn passes(&mut self, runtime: &Runtime) {
        let mut empty_looks = 0;
        loop {
            self.shared.begin_pass();
            let closed = self.shared.queue.is_closed();
            let taken = self.shared.queue.take();
            let nothing = taken.is_empty();
            if !nothing {
                let shared = Arc::clone(&self.shared);
                let hand = Hand::new(&shared, taken);
                // Nobody else's code runs in there; a fault of our own must not end the recording.
                let settled = catch_unwind(AssertUnwindSafe(|| {
                    runtime.block_on(self.settle(&hand));
                }));
                if settled.is_err() {
                    tracing::error!("a batch of captured events was given up");
                }
            }
            self.shared.end_pass();
            match (nothing, closed) {
                (false, _) => empty_looks = 0,
                (true, true) => return,
                (true, false) if empty_looks < NAPS => {
                    empty_looks += 1;
                    thread::park_timeout(NAP);
                }
                (true, false) => {
                    self.shared.queue.fall_asleep();
                    if self.shared.queue.waiting() == 0 && !self.shared.queue.is_closed() {
                        thread::park();
                    }
                    empty_looks = 0;
                }
            }
        }
    }

    /// What came in after the end.
    fn drop_all(&self) {
        let taken = self.shared.queue.take();
        drop(Hand::new(&self.shared, taken));
    }

    /// Stores all of it, however long that takes; what the store refuses for ever is counted.
    async fn settle(&mut self, hand: &Hand<'_>) {
        self.follow_rules();
        let mut entries: Vec<_> = hand.taken.iter().flat_map(Taken::iter).collect();
        entries.sort_unstable_by_key(|(entry, _)| entry.id);
        for batch in entries.chunks(BATCH) {
            self.store(batch, hand).await;
        }
    }

    async fn store(&mut self, batch: &[(&Entry, &[u8])], hand: &Hand<'_>) {
        let mut pause = PAUSE_MIN;
        let mut closed_since = None;
        loop {
            let made = batch.iter().map(|(entry, fields)| self.make(entry, fields));
            let stored = match made.collect::<Result<Vec<Event>, _>>() {
                Ok(events) => {
                    let attempt = self.events.store_batch(events);
                    tokio::time::timeout(ATTEMPT, attempt).await
                }
                Err(error) => Ok(Err(StoreError::Event(error))),
            };
            let refused = match stored {
                Ok(Ok(_)) => return hand.stored(batch.len()),
                Ok(Err(error)) => is_final(&error).then_some(error),
                Err(_elapsed) => None,
            };
            if let Some(error) = refused {
                if batch.len() == 1 {
                    tracing::warn!(%error, "a captured event cannot be stored");
                    return hand.refused();
                }
                for one in batch.chunks(1) {
                    Box::pin(self.store(one, hand)).await;
                }
                return;
            }
            if self.shared.queue.is_closed() {
                let since = *closed_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= LAST_PATIENCE {
                    return;
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Other rules may hide other fields.
    fn follow_rules(&mut self) {
        let rules = self.shared.rules.load_full();
        if !Arc::ptr_eq(&rules, &self.rules) {
            self.rules = rules;
            self.callsites.clear();
        }
    }

    fn make(&mut self, entry: &Entry, fields: &[u8]) -> Result<Event, crate::events::EventError> {
        let (kind, source, data) = match entry.what {
            What::Event(metadata) => {
                let site = self.callsite(metadata);
                let own = [("level", &site.level), ("at", &site.at)];
                let kind = Arc::clone(&site.kind);
                (kind, Arc::clone(&site.source), site.data(fields, own))
            }
            What::Opened(metadata) => {
                let site = self.callsite(metadata);
                let own = [
                    ("name", &site.name),
                    ("level", &site.level),
                    ("at", &site.at),
                ];
                (
                    "span.opened".into(),
                    Arc::clone(&site.source),
                    site.data(fields, own),
                )
            }
            What::Recorded(metadata) => {
                let site = self.callsite(metadata);
                (
                    "span.recorded".into(),
                    Arc::clone(&site.source),
                    site.data(fields, []),
                )
            }
            What::Linked(metadata, to) => {
                let site = self.callsite(metadata);
                let to = Value::from(to.to_string());
                (
                    "span.linked".into(),
                    Arc::clone(&site.source),
                    site.data(&[], [("to", &to)]),
                )
            }
            What::Closed {
                metadata,
                busy_ns,
                idle_ns,
            } => {
                let site = self.callsite(metadata);
                let (busy, idle) = (Value::from(busy_ns), Value::from(idle_ns));
                let own = [("name", &site.name), ("busy_ns", &busy), ("idle_ns", &idle)];
                (
                    "span.closed".into(),
                    Arc::clone(&site.source),
                    site.data(&[], own),
                )
            }
            What::Panic => ("panic".into(), "panic".into(), panic_data(fields)),
        };
        EventBuilder::new(entry.id, kind)
            .time(entry.time)
            .source(source)
            .data(data)
            .within(Context::new(entry.trace, entry.parent))
            .build()
    }

    fn callsite(&mut self, metadata: &'static Metadata<'static>) -> Arc<Callsite> {
        let rules = &self.rules;
        let known = self.callsites.entry(metadata.callsite());
        Arc::clone(known.or_insert_with(|| Arc::new(Callsite::new(metadata, rules))))
    }
}

/// Whether trying the same again is of no use.
fn is_final(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Event(_) | StoreError::Conflict { .. } | StoreError::BatchTooLarge { .. }
    )
}

fn panic_data(fields: &[u8]) -> Value {
    let text = String::from_utf8_lossy(fields);
    let names = ["message", "at", "thread"];
    Value::Map(names.into_iter().zip(text.split('\0')).collect::<Map>())
}

impl Callsite {
    fn new(metadata: &Metadata<'_>, rules: &Rules) -> Self {
        let level = metadata.level().as_str();
        let target = metadata.target();
        let source = &target[..target.floor_char_boundary(SOURCE_BYTES_MAX)];
        let at = match (metadata.file(), metadata.line()) {
            (Some(file), Some(line)) => Value::from(format!("{file}:{line}")),
            (Some(file), None) => Value::from(file),
            (None, _) => Value::Null,
        };
        let fields = metadata.fields().iter().map(|field| {
            let name = field.name();
            let shown = if OWN_NAMES.contains(&name) {
                format!("fields.{name}").into()
            } else {
                Arc::from(name)
            };
            (shown, rules.hides(name))
        });
        Self {
            kind: format!("tracing.{}", level.to_ascii_lowercase()).into(),
            source: source.into(),
            name: metadata.name().into(),
            level: level.into(),
            at,
            fields: fields.collect(),
        }
    }

    /// The fields, and what is ours beside them.
    fn data<const N: usize>(&self, fields: &[u8], own: [(&str, &Value); N]) -> Value {
        let fields = Reader(fields).filter_map(|(number, value)| {
            let (name, hidden) = self.fields.get(usize::from(number))?;
            let value = if *hidden { REDACTED.into() } else { value };
            Some((Arc::clone(name), value))
        });
        let own = own.map(|(name, value)| (Arc::from(name), value.clone()));
        Value::Map(fields.chain(own).collect())
    }
}

/// What the drain has taken: it is settled in the books and its room given back, whatever happens.
struct Hand<'a> {
    shared: &'a Shared,
    taken: Vec<Taken>,
}

impl<'a> Hand<'a> {
    fn new(shared: &'a Shared, taken: Vec<Taken>) -> Self {
        let entries: usize = taken.iter().map(|taken| taken.entries.len()).sum();
        shared.in_hand.store(entries as u64, Ordering::Relaxed);
        Self { shared, taken }
    }

    fn stored(&self, entries: usize) {
        let entries = entries as u64;
        self.shared.in_hand.fetch_sub(entries, Ordering::Relaxed);
        self.shared
            .counts
            .stored
            .fetch_add(entries, Ordering::Relaxed);
        if let Some(metrics) = self.shared.metrics.get() {
            metrics.stored.add(entries);
        }
    }

    fn refused(&self) {
        self.shared.in_hand.fetch_sub(1, Ordering::Relaxed);
        self.shared.counts.refused.fetch_add(1, Ordering::Relaxed);
        if let Some(metrics) = self.shared.metrics.get() {
            metrics.refused.inc();
        }
    }
}

impl Drop for Hand<'_> {
    fn drop(&mut self) {
        let left = self.shared.in_hand.swap(0, Ordering::Relaxed);
        if left > 0 {
            self.shared.count_dropped(left);
        }
        self.shared.queue.give_back(std::mem::take(&mut self.taken));
    }
}
