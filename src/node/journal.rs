//! What happens in the node's own tree, as events: crashes, restarts and give-ups, each turn of the node's health, and telemetry's alarms.
//!
//! What goes as it should leaves no event: a supervisor of a hundred thousand children would fill the store with their comings and goings.

use std::{collections::BTreeMap, fmt, sync::Arc};

use parking_lot::Mutex;
use tokio::{sync::mpsc, time};

use super::{Health, wiring::PAUSE};
use crate::{
    events::{Event, Events, SOURCE_BYTES_MAX, StoreError},
    ids::EventId,
    otp::{ChildContext, Context, Lifecycle, Report, StopKind},
    telemetry::{
        Counter, Emission, EventName, HANDLER_FAILURE, Kind, METRIC_OVERFLOW, Number, POLL_FAILURE,
        Telemetry,
    },
    value::{Map, Value},
};

/// Takes notes of what happened, for the store. Never waits; what finds no room is counted.
#[derive(Debug)]
pub(super) struct Journal {
    notes: Notes,
    /// With whoever keeps the journal at the moment.
    pages: tokio::sync::Mutex<Pages>,
    health: Mutex<Option<Health>>,
    /// The events of the ends that were not followed by a new life yet, for what comes of them.
    ends: Mutex<BTreeMap<Arc<str>, Context>>,
}

/// Where notes are written; what is written there waits for the store.
#[derive(Clone)]
struct Notes {
    events: Events,
    waiting: mpsc::Sender<Event>,
    dropped: Counter,
}

#[derive(Debug)]
struct Pages {
    notes: mpsc::Receiver<Event>,
    /// Being stored, under ids of their own: a keeper that is started anew goes on with them.
    open: Vec<Event>,
}

/// The part that is the node itself, and the source of its own events.
const NODE: &str = "node";
/// The source of telemetry's alarms, and the id of the handler that hears of them.
const TELEMETRY: &str = "node/telemetry";
const HANDLER: &str = "underpin:journal";
/// The kind of a give-up.
const GAVE_UP: &str = "otp.gave_up";
/// How many notes may wait for the store: a crash loop of a minute at ten a second, some hundred bytes each.
const NOTES: usize = 1024;
/// How many children may be down at once and have their restart told as the consequence of their end.
const ENDS: usize = 1024;
/// How many are stored at once.
const PAGE: usize = 256;

impl Journal {
    pub(super) fn new(events: &Events, telemetry: &Telemetry) -> Self {
        telemetry.declare(&[(
            Kind::Counter,
            "underpin_journal_dropped",
            &[],
            "What happened in the tree or to the node's health and did not become an event: no room, or no store until the node's end.",
        )]);
        let (waiting, receiver) = mpsc::channel(NOTES);
        let notes = Notes {
            events: events.clone(),
            waiting,
            dropped: telemetry.counter("underpin_journal_dropped", &[]),
        };
        let alarms = [&HANDLER_FAILURE, &METRIC_OVERFLOW, &POLL_FAILURE].map(EventName::clone);
        let attached = telemetry.attach_many(HANDLER, &alarms, notes.clone(), |alarm, notes| {
            if let Some((kind, data)) = alarmed(alarm) {
                notes.write(kind, TELEMETRY, data, Context::current());
            }
        });
        if let Err(error) = attached {
            tracing::warn!(%error, "telemetry's alarms will leave no events");
        }
        Self {
            notes,
            pages: tokio::sync::Mutex::new(Pages {
                notes: receiver,
                open: Vec::new(),
            }),
            health: Mutex::default(),
            ends: Mutex::default(),
        }
    }

    /// Notes what happened to a child, if it is worth an event.
    pub(super) fn report(&self, report: &Report) {
        let Some((kind, data)) = told(&report.what) else {
            return;
        };
        let mut ends = self.ends.lock();
        let cause = match &report.what {
            Lifecycle::Exited { .. } => report.context,
            // What follows an end belongs to it.
            Lifecycle::Started { .. } => ends.remove(&report.path).unwrap_or_default(),
            Lifecycle::GaveUp { child, .. } => {
                let child = format!("{}/{child}", report.path);
                ends.get(&*child).copied().unwrap_or_default()
            }
            _ => ends.get(&report.path).copied().unwrap_or_default(),
        };
        let noted = self.notes.write(kind, &report.path, data, cause);
        let is_end = matches!(
            report.what,
            Lifecycle::Exited { .. } | Lifecycle::GaveUp { .. }
        );
        if let (true, Some(id)) = (is_end, noted) {
            if ends.len() == ENDS {
                forget_oldest(&mut ends);
            }
            ends.insert(
                Arc::clone(&report.path),
                Context::new(cause.trace, id.get()),
            );
        }
    }

    /// Notes how the node is doing, when that is something else than before.
    pub(super) fn health(&self, now: &Health) {
        if is_coming_or_going(now) {
            return;
        }
        let mut before = self.health.lock();
        if is_turn(before.as_ref(), now) {
            let data = crate::value::to_value(now).unwrap_or_default();
            self.notes
                .write("node.health", NODE, data, Context::default());
        }
        *before = Some(now.clone());
    }

    /// Notes what became of another node.
    #[cfg(feature = "cluster")]
    pub(super) fn cluster(&self, kind: &'static str, data: Value) {
        self.notes
            .write(kind, "node/cluster", data, Context::default());
    }

    /// Stores the notes, each once, until it is to end; then those that are there. Before a give-up is stored, `led_up` has what led to
    /// it stored. When the node `stops`, what is not stored by then never will be, and is counted.
    pub(super) async fn keep<F: Future<Output = ()>>(
        &self,
        ctx: ChildContext,
        led_up: impl Fn() -> F,
        stops: impl Fn() -> bool,
    ) {
        let mut pages = self.pages.lock().await;
        let Pages { notes, open } = &mut *pages;
        loop {
            if open.is_empty() {
                tokio::select! {
                    biased;
                    // None when the node has stopped.
                    got = notes.recv_many(open, PAGE) => if got == 0 { return },
                    () = ctx.cancelled() => break,
                }
                if open.iter().any(|note| note.kind() == GAVE_UP) {
                    tokio::select! {
                        () = led_up() => {}
                        () = ctx.cancelled() => {}
                    }
                }
            }
            let stored = match self.notes.events.store_batch(open.clone()).await {
                Ok(_) => {
                    open.clear();
                    Ok(())
                }
                Err(error) if error.is_final() => self.store_one_by_one(open).await,
                Err(error) => Err(error),
            };
            match stored {
                Ok(()) => {}
                // A node that stops has no more time for a store that does not work.
                Err(_) if ctx.cancellation().is_cancelled() => break,
                Err(_) => time::sleep(PAUSE).await,
            }
        }
        if stops() {
            self.notes.give_up(notes, open);
        }
    }

    /// What is wrong with one of them costs that one alone.
    async fn store_one_by_one(&self, open: &mut Vec<Event>) -> Result<(), StoreError> {
        while let Some(event) = open.first().cloned() {
            match self.notes.events.store(event).await {
                Err(error) if error.is_final() => {
                    tracing::warn!(%error, "what happened in the tree could not be stored");
                    self.notes.dropped.inc();
                }
                stored => _ = stored?,
            }
            open.remove(0);
        }
        Ok(())
    }
}

impl Notes {
    /// Notes an event, and answers its id; `None` if there was no room.
    fn write(
        &self,
        kind: &'static str,
        source: &str,
        data: Value,
        cause: Context,
    ) -> Option<EventId> {
        let source = &source[..source.floor_char_boundary(SOURCE_BYTES_MAX)];
        let event = self.events.event(kind).source(source).data(data);
        let event = event.within(cause).build().ok()?;
        let id = event.id();
        if self.waiting.try_send(event).is_err() {
            self.dropped.inc();
            return None;
        }
        Some(id)
    }

    /// Counts what will not be stored any more, and what comes from now on.
    fn give_up(&self, notes: &mut mpsc::Receiver<Event>, open: &mut Vec<Event>) {
        notes.close();
        let waiting = std::iter::from_fn(|| notes.try_recv().ok()).count();
        let lost = open.len() + waiting;
        open.clear();
        if lost > 0 {
            tracing::warn!(
                lost,
                "what happened in the tree before the end was not stored"
            );
            self.dropped.add(lost as u64);
        }
    }
}

/// Shown among the handlers.
impl fmt::Debug for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the node's journal")
    }
}

/// What is wrong with the node as a whole is that it starts, stops or is down: no turn of its health.
fn is_coming_or_going(health: &Health) -> bool {
    health.reasons.iter().any(|reason| &*reason.part == NODE)
}

/// Whether other parts have something to say than before. A node that begins well leaves no event.
fn is_turn(before: Option<&Health>, now: &Health) -> bool {
    let parts = |health: &Health| -> Vec<Arc<str>> {
        let reasons = health.reasons.iter();
        reasons.map(|reason| Arc::clone(&reason.part)).collect()
    };
    before.map(parts).unwrap_or_default() != parts(now)
}

/// Some children never live again, as temporary ones; their ends make room for newer ones. Ids rise, so the oldest has the lowest.
fn forget_oldest(ends: &mut BTreeMap<Arc<str>, Context>) {
    let oldest = ends.iter().min_by_key(|(_, end)| end.cause);
    if let Some(path) = oldest.map(|(path, _)| Arc::clone(path)) {
        ends.remove(&path);
    }
}

/// What is told of one of telemetry's alarms. A handler that fails and stays is told of the first, second, fourth, eighth time and so on:
/// it may fail at each emission.
fn alarmed(alarm: &Emission<'_>) -> Option<(&'static str, Value)> {
    let number = |name: &str| match alarm.measurements.get(name)? {
        Number::UInt(number) => Some(number),
        Number::Int(_) | Number::Float(_) => None,
    };
    let text = |name: &'static str| {
        let field = alarm.metadata.get(name).map(|field| field.to_string());
        (name, Value::from(field.unwrap_or_default()))
    };
    let (kind, data): (_, Map) = if *alarm.name == HANDLER_FAILURE {
        let failures = number("failures").filter(|failures| failures.is_power_of_two())?;
        let said = ["handler_id", "event_name", "kind", "reason"].map(text);
        let counted = [("failures", Value::from(failures))];
        (
            "telemetry.handler_failure",
            said.into_iter().chain(counted).collect(),
        )
    } else if *alarm.name == METRIC_OVERFLOW {
        let series = Value::from(number("series")?);
        (
            "telemetry.metric_overflow",
            [text("metric"), ("series", series)].into_iter().collect(),
        )
    } else if *alarm.name == POLL_FAILURE {
        (
            "telemetry.poll_failure",
            ["poll", "kind"].map(text).into_iter().collect(),
        )
    } else {
        return None;
    };
    Some((kind, Value::Map(data)))
}

/// What is told of something that happened; nothing of what goes as it should.
fn told(what: &Lifecycle) -> Option<(&'static str, Value)> {
    let reason = |reason: &crate::otp::ExitReason| Value::from(reason.to_string());
    let millis = |time: &std::time::Duration| {
        Value::from(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    };
    let (kind, data) = match what {
        Lifecycle::Started { incarnation } if *incarnation > 1 => (
            "otp.restarted",
            vec![("incarnation", Value::from(*incarnation))],
        ),
        Lifecycle::StartFailed { reason: why } => {
            ("otp.start_failed", vec![("reason", reason(why))])
        }
        Lifecycle::Exited {
            incarnation,
            reason: why,
        } if !why.is_clean() => {
            let of = Value::from(*incarnation);
            (
                "otp.exited",
                vec![("incarnation", of), ("reason", reason(why))],
            )
        }
        Lifecycle::Restarting { after, slow } if *slow || !after.is_zero() => {
            let slow = Value::from(*slow);
            (
                "otp.restarting",
                vec![("after_ms", millis(after)), ("slow", slow)],
            )
        }
        Lifecycle::BudgetExceeded { reason: why } => {
            ("otp.budget_exceeded", vec![("reason", reason(why))])
        }
        Lifecycle::Stopped {
            how,
            took,
            reason: why,
        } if *how != StopKind::Graceful => {
            let how = Value::from(format!("{how:?}").to_ascii_lowercase());
            (
                "otp.stopped",
                vec![
                    ("how", how),
                    ("took_ms", millis(took)),
                    ("reason", reason(why)),
                ],
            )
        }
        Lifecycle::GaveUp { child, reason: why } => {
            let child = Value::from(Arc::clone(child));
            (GAVE_UP, vec![("child", child), ("reason", reason(why))])
        }
        _ => return None,
    };
    Some((kind, Value::Map(data.into_iter().collect())))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{node::HealthStatus, otp::ExitReason};

    fn health(parts: &[&str]) -> Health {
        let reason = |part: &&str| crate::node::Reason {
            part: Arc::from(*part),
            reason: "for a reason".to_owned(),
            since: jiff::Timestamp::UNIX_EPOCH,
        };
        let status = match parts {
            [] => HealthStatus::Healthy,
            _ => HealthStatus::Degraded,
        };
        Health {
            health: status,
            reasons: parts.iter().map(reason).collect(),
        }
    }

    #[test]
    fn a_turn_of_health_is_when_other_parts_have_something_to_say() {
        let (well, ill) = (health(&[]), health(&["node/events"]));

        assert!(!is_turn(None, &well) && !is_turn(Some(&ill), &ill));
        assert!(is_turn(None, &ill) && is_turn(Some(&ill), &well));
        assert!(is_turn(
            Some(&ill),
            &health(&["node/config", "node/events"])
        ));
        assert!(is_coming_or_going(&health(&["node"])));
        assert!(!is_coming_or_going(&ill) && !is_coming_or_going(&well));
    }

    #[test]
    fn the_oldest_end_is_forgotten_when_there_are_too_many() {
        let ends = [("b", 3), ("a", 2), ("c", 1)];
        let mut ends: BTreeMap<Arc<str>, Context> = ends
            .into_iter()
            .map(|(path, id)| (path.into(), Context::new(0, id)))
            .collect();

        forget_oldest(&mut ends);

        assert_eq!(
            ends.keys().map(|path| &**path).collect::<Vec<_>>(),
            ["a", "b"]
        );
    }

    #[test]
    fn what_goes_as_it_should_leaves_no_event_and_what_does_not_leaves_one_with_its_reason() {
        let quiet = [
            Lifecycle::Started { incarnation: 1 },
            Lifecycle::Exited {
                incarnation: 3,
                reason: ExitReason::Normal,
            },
            Lifecycle::Restarting {
                after: Duration::ZERO,
                slow: false,
            },
        ];
        for what in quiet {
            assert_eq!(told(&what), None);
        }

        let crash = Lifecycle::Exited {
            incarnation: 3,
            reason: ExitReason::Panic("boom".into()),
        };
        let expected = Value::from([
            ("incarnation", Value::from(3_u64)),
            ("reason", "panic: boom".into()),
        ]);
        assert_eq!(told(&crash), Some(("otp.exited", expected)));
        let later = Lifecycle::Restarting {
            after: Duration::from_millis(1500),
            slow: true,
        };
        let expected = Value::from([("after_ms", Value::from(1500_u64)), ("slow", true.into())]);
        assert_eq!(told(&later), Some(("otp.restarting", expected)));
    }
}
