//! Who listens to which event, and the running of handlers in the emitter.

use std::{
    backtrace::Backtrace,
    cell::Cell,
    collections::{BTreeMap, HashMap},
    fmt,
    hash::{BuildHasherDefault, Hasher},
    num::NonZeroU32,
    sync::{Arc, Weak},
    thread,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::{
    runtime,
    sync::{Semaphore, mpsc},
};

use super::{
    Counter, Emission, EventName, Field, HandlerError, HandlerOptions, Measurements, Metadata,
    Number, OnFailure, OwnedEmission, Runs, alarms,
    clock::Clock,
    counter::CounterCells,
    handler::{Body, Function, Handler, Panic, describe, discard},
    registry::Registry,
};

/// Executed when a handler panicked: measurements `monotonic_time`, `system_time` (ns) and `failures` (how often it did so far), metadata `event_name`,
/// `handler_id`, `handler_config`, `kind`, `reason` and `stacktrace` (that of the place where the panic was caught, and
/// only with `RUST_BACKTRACE` set: the place where it began is known to the program's panic hook alone).
pub static HANDLER_FAILURE: EventName =
    EventName::from_static(&["telemetry", "handler", "failure"]);

/// How deep announcements of failures may nest in one thread before they are only logged: a failure handler that fails,
/// attaches itself again and fails again would never end.
const ANNOUNCEMENTS_MAX: u8 = 3;

thread_local! {
    static ANNOUNCEMENTS: Cell<u8> = const { Cell::new(0) };
}

/// An attached handler, as [`list_handlers`](super::Telemetry::list_handlers) shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandlerInfo {
    /// The id it was attached under.
    pub id: Arc<str>,
    /// One of its events.
    pub event: EventName,
    /// Its configuration, as `Debug` shows it.
    pub config: String,
    /// How often it panicked.
    pub failures: u64,
    /// How many emissions it did not get: its queue was full, or it was left alone after a failure.
    pub dropped: u64,
    /// How many emissions wait in its queue, if it runs elsewhere.
    pub waiting: usize,
}

/// The handler table. Read without a lock; changes take turns and publish a new table.
#[derive(Debug)]
pub(super) struct Handlers {
    table: ArcSwap<Table>,
    changing: Mutex<()>,
    failures: Counter,
    registry: Arc<Registry>,
    clock: Clock,
}

#[derive(Debug, Clone, Default)]
struct Table {
    by_id: BTreeMap<Arc<str>, Arc<Handler>>,
    by_event: HashMap<EventName, Listeners, BuildHasherDefault<ReadyHash>>,
}

/// Who listens to an event, and how many of its emissions they are shown.
#[derive(Debug, Clone)]
struct Listeners {
    handlers: Arc<[Arc<Handler>]>,
    one_in: NonZeroU32,
}

/// What became of a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Stays,
    Gone,
}

/// Event names bring their hash along.
#[derive(Default)]
struct ReadyHash(u64);

impl Hasher for ReadyHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl Handlers {
    pub(super) fn new(failures: Counter, registry: &Arc<Registry>, clock: Clock) -> Self {
        Self {
            table: ArcSwap::default(),
            changing: Mutex::new(()),
            failures,
            registry: Arc::clone(registry),
            clock,
        }
    }

    pub(super) fn attach<C, F>(
        self: &Arc<Self>,
        id: &str,
        events: &[EventName],
        options: &HandlerOptions,
        (config, function): (C, F),
    ) -> Result<(), HandlerError>
    where
        C: fmt::Debug + Send + Sync + 'static,
        F: Fn(&Emission<'_>, &C) + Send + Sync + 'static,
    {
        // Most handlers never drop anything and need no metric of it.
        let may_drop = options.runs != Runs::InEmitter
            || matches!(options.on_failure, OnFailure::RetryAfter(_));
        let dropped = if may_drop {
            let labels = [("handler", id)];
            self.registry
                .series_or_lost::<CounterCells>(DROPPED, &labels)
        } else {
            Counter::over(Arc::new(CounterCells::new()))
        };
        let body = Arc::new(Body::new(
            id,
            distinct(events),
            options.on_failure,
            Box::new(Function { config, function }),
            dropped,
        ));
        let (queue, work) = match options.runs {
            Runs::InEmitter => (None, None),
            Runs::Elsewhere { queue } => {
                let (queue, work) = mpsc::channel(queue.get().min(Semaphore::MAX_PERMITS));
                (Some(queue), Some(work))
            }
        };
        let handler = Arc::new(Handler::new(Arc::clone(&body), queue));
        self.change(|table| table.insert(handler))?;
        match work {
            None => Ok(()),
            Some(work) => self.start_thread(&body, work),
        }
    }

    /// The thread ends when the handler was detached, or when there is no table any more.
    fn start_thread(
        self: &Arc<Self>,
        body: &Arc<Body>,
        mut work: mpsc::Receiver<OwnedEmission>,
    ) -> Result<(), HandlerError> {
        let (table, own) = (Arc::downgrade(self), Arc::clone(body));
        // So that it reads the clock that everybody else reads, and may spawn.
        let runtime = runtime::Handle::try_current().ok();
        let run = move || {
            let _runtime = runtime.as_ref().map(runtime::Handle::enter);
            while let Some(emission) = work.blocking_recv() {
                let Some(handlers) = Weak::upgrade(&table) else {
                    return;
                };
                if emission.with(|emission| handlers.run(&own, emission)) == Next::Gone {
                    work.close();
                    // To its very end: somebody may be about to put one in.
                    let waited = std::iter::from_fn(|| work.blocking_recv());
                    own.drop_emissions(waited.count());
                    return;
                }
            }
        };
        let started = thread::Builder::new()
            .name(format!("telemetry:{}", body.id))
            .spawn(run);
        started.map(drop).map_err(|error| {
            self.detach_this(body);
            HandlerError::NoThread {
                id: body.id.to_string(),
                reason: error.to_string(),
            }
        })
    }

    pub(super) fn detach(&self, id: &str) -> Result<(), HandlerError> {
        self.change(|table| table.remove(id).map(drop))
    }

    /// From now on handlers are shown one in so many emissions of an event.
    pub(super) fn sample(&self, event: &EventName, one_in: NonZeroU32) {
        let changed = self.change(|table| {
            table.sample(event, one_in);
            Ok(())
        });
        debug_assert!(changed.is_ok(), "nothing in it can fail");
    }

    /// The events that are sampled.
    pub(super) fn sampled(&self) -> Vec<(EventName, NonZeroU32)> {
        let table = self.table.load();
        let events = table.by_event.iter();
        let sampled = events.filter(|(_, listeners)| listeners.one_in > NonZeroU32::MIN);
        sampled
            .map(|(event, listeners)| (event.clone(), listeners.one_in))
            .collect()
    }

    pub(super) fn list(&self, prefix: &[&str]) -> Vec<HandlerInfo> {
        let table = self.table.load();
        let attached = table.by_id.values().flat_map(|handler| {
            handler
                .body
                .events
                .iter()
                .map(move |event| (handler, event))
        });
        let wanted = attached.filter(|(_, event)| event.starts_with(prefix));
        wanted
            .map(|(handler, event)| HandlerInfo {
                id: Arc::clone(&handler.body.id),
                event: event.clone(),
                config: format!("{:?}", handler.body.config()),
                failures: handler.body.failures(),
                dropped: handler.body.dropped(),
                waiting: handler.waiting(),
            })
            .collect()
    }

    /// Runs the event's handlers, one after the other, here and now.
    #[inline]
    pub(super) fn execute(
        &self,
        name: &EventName,
        measurements: Measurements<'_>,
        metadata: Metadata<'_>,
    ) {
        let table = self.table.load();
        let Some(listeners) = table.by_event.get(name) else {
            return;
        };
        let weight = listeners.one_in.get();
        if weight > 1 && fastrand::u32(0..weight) != 0 {
            return;
        }
        let emission = Emission {
            name,
            measurements,
            metadata,
            weight,
        };
        for handler in listeners.handlers.iter() {
            if let Err(panic) = handler.accept(&emission, || self.clock.now()) {
                self.failed(&handler.body, name, panic);
            }
        }
    }

    /// Runs one handler, in its own thread.
    fn run(&self, body: &Arc<Body>, emission: &Emission<'_>) -> Next {
        match body.run(emission, || self.clock.now()) {
            Ok(()) => Next::Stays,
            Err(panic) => self.failed(body, emission.name, panic),
        }
    }

    #[cold]
    fn failed(&self, body: &Arc<Body>, event: &EventName, panic: Panic) -> Next {
        let reason = describe(&*panic);
        discard(panic);
        self.failures.inc();
        let failures = body.failed(self.clock.now());
        if body.on_failure == OnFailure::Detach {
            self.detach_this(body);
            tracing::error!(handler = &*body.id, event = %event, reason, "telemetry handler panicked and was detached");
        } else if failures.is_power_of_two() {
            // One that fails at each emission must not fill a disk.
            tracing::error!(handler = &*body.id, event = %event, reason, failures, "telemetry handler panicked");
        }
        if ANNOUNCEMENTS.get() < ANNOUNCEMENTS_MAX {
            ANNOUNCEMENTS.set(ANNOUNCEMENTS.get() + 1);
            self.announce(body, event, &reason, failures);
            ANNOUNCEMENTS.set(ANNOUNCEMENTS.get() - 1);
        }
        match body.on_failure {
            OnFailure::Detach => Next::Gone,
            OnFailure::Keep | OnFailure::RetryAfter(_) => Next::Stays,
        }
    }

    /// Only this very handler: somebody may have put another one under its id meanwhile.
    fn detach_this(&self, body: &Arc<Body>) {
        let detached = self.change(|table| match table.by_id.get(&body.id) {
            Some(current) if Arc::ptr_eq(&current.body, body) => table.remove(&body.id).map(drop),
            _ => Ok(()),
        });
        debug_assert!(detached.is_ok(), "the id was looked up in this table");
    }

    fn announce(&self, body: &Body, event: &EventName, reason: &str, failures: u64) {
        let [monotonic, system] = alarms::times(&self.clock);
        let measurements = [monotonic, system, ("failures", Number::UInt(failures))];
        let stacktrace = Backtrace::capture();
        let metadata = [
            ("event_name", Field::Event(event)),
            ("handler_id", Field::Text(&body.id)),
            ("handler_config", Field::Debug(body.config())),
            ("kind", Field::Text("panic")),
            ("reason", Field::Text(reason)),
            ("stacktrace", Field::Debug(&stacktrace)),
        ];
        self.execute(
            &HANDLER_FAILURE,
            Measurements::new(&measurements, &[]),
            Metadata::new(&metadata, &[]),
        );
    }

    fn change(
        &self,
        change: impl FnOnce(&mut Table) -> Result<(), HandlerError>,
    ) -> Result<(), HandlerError> {
        let turn = self.changing.lock();
        let mut table = Table::clone(&self.table.load());
        change(&mut table)?;
        let old = self.table.swap(Arc::new(table));
        // A detached handler's own drop may attach or detach.
        drop(turn);
        drop(old);
        Ok(())
    }
}

impl Table {
    fn insert(&mut self, handler: Arc<Handler>) -> Result<(), HandlerError> {
        let id = handler.body.id.to_string();
        if handler.body.events.is_empty() {
            return Err(HandlerError::NoEvent { id });
        }
        if self.by_id.contains_key(&handler.body.id) {
            return Err(HandlerError::AlreadyExists { id });
        }
        for event in &handler.body.events {
            let listeners = self.by_event.entry(event.clone()).or_default();
            let before = listeners.handlers.iter().cloned();
            listeners.handlers = before.chain([Arc::clone(&handler)]).collect();
        }
        self.by_id.insert(Arc::clone(&handler.body.id), handler);
        Ok(())
    }

    fn remove(&mut self, id: &str) -> Result<Arc<Handler>, HandlerError> {
        let handler = self
            .by_id
            .remove(id)
            .ok_or_else(|| HandlerError::NotFound { id: id.to_owned() })?;
        for event in &handler.body.events {
            self.relisten(event, |listeners| {
                let before = listeners.handlers.iter();
                let without = before.filter(|other| !Arc::ptr_eq(other, &handler));
                listeners.handlers = without.cloned().collect();
            });
        }
        Ok(handler)
    }

    fn sample(&mut self, event: &EventName, one_in: NonZeroU32) {
        self.relisten(event, |listeners| listeners.one_in = one_in);
    }

    /// An event that nobody listens to and that is not sampled is not kept.
    fn relisten(&mut self, event: &EventName, change: impl FnOnce(&mut Listeners)) {
        let listeners = self.by_event.entry(event.clone()).or_default();
        change(listeners);
        if listeners.handlers.is_empty() && listeners.one_in == NonZeroU32::MIN {
            self.by_event.remove(event);
        }
    }
}

impl Default for Listeners {
    fn default() -> Self {
        Self {
            handlers: Arc::default(),
            one_in: NonZeroU32::MIN,
        }
    }
}

/// The metric of what handlers did not get.
pub(super) const DROPPED: &str = "underpin_telemetry_dropped_emissions";

/// An event given twice is listened to once.
fn distinct(events: &[EventName]) -> Vec<EventName> {
    let mut distinct: Vec<EventName> = Vec::with_capacity(events.len());
    for event in events {
        if !distinct.contains(event) {
            distinct.push(event.clone());
        }
    }
    distinct
}
