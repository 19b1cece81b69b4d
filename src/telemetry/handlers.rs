//! Who listens to which event, and the running of handlers in the emitter.

use std::{
    any::Any,
    backtrace::Backtrace,
    cell::Cell,
    collections::{BTreeMap, HashMap},
    fmt,
    hash::{BuildHasherDefault, Hasher},
    panic::{self, AssertUnwindSafe},
    sync::Arc,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::{
    Counter, Emission, EventName, Field, HandlerError, Measurements, Metadata, Number, clock::Clock,
};

/// Executed when a handler panicked and was detached: measurements `monotonic_time` and `system_time` (ns), metadata
/// `event_name`, `handler_id`, `handler_config`, `kind`, `reason` and `stacktrace` (that of the place where the panic was
/// caught, and only with `RUST_BACKTRACE` set: the place where it began is known to the program's panic hook alone).
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
}

/// The handler table. Read without a lock; changes take turns and publish a new table.
#[derive(Debug)]
pub(super) struct Handlers {
    table: ArcSwap<Table>,
    changing: Mutex<()>,
    failures: Counter,
    clock: Clock,
}

#[derive(Debug, Clone, Default)]
struct Table {
    by_id: BTreeMap<Arc<str>, Arc<Handler>>,
    by_event: HashMap<EventName, Arc<[Arc<Handler>]>, BuildHasherDefault<ReadyHash>>,
}

struct Handler {
    id: Arc<str>,
    events: Vec<EventName>,
    callback: Box<dyn Callback>,
}

trait Callback: Send + Sync {
    fn call(&self, emission: &Emission<'_>);
    fn config(&self) -> &dyn fmt::Debug;
}

struct Function<C, F> {
    config: C,
    function: F,
}

impl<C, F> Callback for Function<C, F>
where
    C: fmt::Debug + Send + Sync,
    F: Fn(&Emission<'_>, &C) + Send + Sync,
{
    fn call(&self, emission: &Emission<'_>) {
        (self.function)(emission, &self.config);
    }

    fn config(&self) -> &dyn fmt::Debug {
        &self.config
    }
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
    pub(super) fn new(failures: Counter, clock: Clock) -> Self {
        Self {
            table: ArcSwap::default(),
            changing: Mutex::new(()),
            failures,
            clock,
        }
    }

    pub(super) fn attach<C, F>(
        &self,
        id: &str,
        events: &[EventName],
        config: C,
        function: F,
    ) -> Result<(), HandlerError>
    where
        C: fmt::Debug + Send + Sync + 'static,
        F: Fn(&Emission<'_>, &C) + Send + Sync + 'static,
    {
        let handler = Arc::new(Handler {
            id: id.into(),
            events: distinct(events),
            callback: Box::new(Function { config, function }),
        });
        self.change(|table| table.insert(handler))
    }

    pub(super) fn detach(&self, id: &str) -> Result<(), HandlerError> {
        self.change(|table| table.remove(id).map(drop))
    }

    pub(super) fn list(&self, prefix: &[&str]) -> Vec<HandlerInfo> {
        let table = self.table.load();
        let attached = table
            .by_id
            .values()
            .flat_map(|handler| handler.events.iter().map(move |event| (handler, event)));
        let wanted = attached.filter(|(_, event)| event.starts_with(prefix));
        wanted
            .map(|(handler, event)| HandlerInfo {
                id: Arc::clone(&handler.id),
                event: event.clone(),
                config: format!("{:?}", handler.callback.config()),
            })
            .collect()
    }

    /// Runs the event's handlers, one after the other, here and now.
    #[inline]
    pub(super) fn execute(&self, emission: &Emission<'_>) {
        let table = self.table.load();
        let Some(handlers) = table.by_event.get(emission.name) else {
            return;
        };
        for handler in handlers.iter() {
            if let Err(panic) =
                panic::catch_unwind(AssertUnwindSafe(|| handler.callback.call(emission)))
            {
                self.failed(handler, emission.name, panic);
            }
        }
    }

    #[cold]
    fn failed(&self, handler: &Arc<Handler>, event: &EventName, panic: Box<dyn Any + Send>) {
        let reason = describe(&*panic);
        discard(panic);
        self.failures.inc();
        self.detach_failed(handler);
        tracing::error!(handler = &*handler.id, event = %event, reason, "telemetry handler panicked and was detached");
        if ANNOUNCEMENTS.get() < ANNOUNCEMENTS_MAX {
            ANNOUNCEMENTS.set(ANNOUNCEMENTS.get() + 1);
            self.announce(handler, event, &reason);
            ANNOUNCEMENTS.set(ANNOUNCEMENTS.get() - 1);
        }
    }

    /// Only this very handler: somebody may have put another one under its id meanwhile.
    fn detach_failed(&self, failed: &Arc<Handler>) {
        let detached = self.change(|table| match table.by_id.get(&failed.id) {
            Some(current) if Arc::ptr_eq(current, failed) => table.remove(&failed.id).map(drop),
            _ => Ok(()),
        });
        debug_assert!(detached.is_ok(), "the id was looked up in this table");
    }

    fn announce(&self, handler: &Handler, event: &EventName, reason: &str) {
        let measurements = [
            ("monotonic_time", Number::UInt(self.clock.monotonic_ns())),
            ("system_time", Number::UInt(self.clock.unix_ns())),
        ];
        let stacktrace = Backtrace::capture();
        let metadata = [
            ("event_name", Field::Event(event)),
            ("handler_id", Field::Text(&handler.id)),
            ("handler_config", Field::Debug(handler.callback.config())),
            ("kind", Field::Text("panic")),
            ("reason", Field::Text(reason)),
            ("stacktrace", Field::Debug(&stacktrace)),
        ];
        self.execute(&Emission {
            name: &HANDLER_FAILURE,
            measurements: Measurements::new(&measurements, &[]),
            metadata: Metadata::new(&metadata, &[]),
        });
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
        let id = handler.id.to_string();
        if handler.events.is_empty() {
            return Err(HandlerError::NoEvent { id });
        }
        if self.by_id.contains_key(&handler.id) {
            return Err(HandlerError::AlreadyExists { id });
        }
        for event in &handler.events {
            let before = self
                .by_event
                .get(event)
                .into_iter()
                .flat_map(|handlers| handlers.iter().cloned());
            let with = before.chain([Arc::clone(&handler)]).collect();
            self.by_event.insert(event.clone(), with);
        }
        self.by_id.insert(Arc::clone(&handler.id), handler);
        Ok(())
    }

    fn remove(&mut self, id: &str) -> Result<Arc<Handler>, HandlerError> {
        let handler = self
            .by_id
            .remove(id)
            .ok_or_else(|| HandlerError::NotFound { id: id.to_owned() })?;
        for event in &handler.events {
            let before = self.by_event.remove(event).unwrap_or_default();
            let without: Arc<[_]> = before
                .iter()
                .filter(|other| other.id != handler.id)
                .cloned()
                .collect();
            if !without.is_empty() {
                self.by_event.insert(event.clone(), without);
            }
        }
        Ok(handler)
    }
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, events, .. } = self;
        f.debug_struct("Handler")
            .field("id", id)
            .field("events", events)
            .finish_non_exhaustive()
    }
}

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

/// The panic's message.
pub(super) fn describe(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic whose payload is no text")
        .to_owned()
}

/// Drops a panic's payload, which may panic itself.
fn discard(panic: Box<dyn Any + Send>) {
    if let Err(again) = panic::catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
}
