//! What the node's parts and its tree are in metrics.

#![expect(clippy::cast_precision_loss, reason = "gauges are f64, exact to 2^53")]

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    HealthStatus,
    tally::{Seen, name},
    watch::Watch,
};
use crate::{
    otp::{ChildState, ExitReason, Groups, Lifecycle, Report, ShutdownCause, Tree},
    telemetry::{Definition, EventName, Kind, Number, Telemetry},
};

/// Counts what is reported of the tree, and looks at what is not.
#[derive(Debug)]
pub(super) struct Figures {
    telemetry: Telemetry,
    groups: Groups,
    seen: Mutex<Seen>,
    /// Lives that were there before reports were followed.
    begun: OnceLock<HashMap<Arc<str>, u64>>,
}

impl Figures {
    pub(super) fn new(telemetry: &Telemetry, groups: &Groups) -> Self {
        telemetry.declare(&METRICS);
        let busy = Definition::sum(BUSY_SECONDS, &LOOKED, "seconds")
            .tags(["child"])
            .help(BUSY_SECONDS_HELP);
        if let Err(error) = telemetry.define("underpin:figures", [busy]) {
            tracing::warn!(%error, "how long children handle messages is not shown");
        }
        Self {
            telemetry: telemetry.clone(),
            groups: groups.clone(),
            seen: Mutex::default(),
            begun: OnceLock::new(),
        }
    }

    /// Counts the lives that are there when reports begin to be followed.
    pub(super) fn catch_up(&self, tree: &Tree) {
        let children = tree.walk().filter(|child| child.incarnation > 0);
        let begun = children.map(|child| (Arc::clone(&child.path), child.incarnation));
        let begun: HashMap<Arc<str>, u64> = begun.collect();
        for (path, incarnation) in &begun {
            let child = name(path);
            let labels = [("child", &*child)];
            self.telemetry.counter(STARTS, &labels).inc();
            self.telemetry
                .counter(RESTARTS, &labels)
                .add(incarnation - 1);
        }
        // Reports are followed once.
        let _ = self.begun.set(begun);
    }

    fn is_counted(&self, path: &str, incarnation: u64) -> bool {
        let begun = self.begun.get().and_then(|begun| begun.get(path));
        begun.is_some_and(|begun| incarnation <= *begun)
    }

    /// Counts what happened to a child.
    pub(super) fn report(&self, report: &Report) {
        let child = name(&report.path);
        let count = |metric, more: &[(&str, &str)]| {
            let labels: Vec<(&str, &str)> = [("child", &*child)]
                .into_iter()
                .chain(more.to_vec())
                .collect();
            self.telemetry.counter(metric, &labels).inc();
        };
        match &report.what {
            Lifecycle::Started { incarnation } if self.is_counted(&report.path, *incarnation) => {}
            Lifecycle::Started { incarnation: 1 } => count(STARTS, &[]),
            Lifecycle::Started { .. } => count(RESTARTS, &[]),
            Lifecycle::StartFailed { .. } => count(FAILED_STARTS, &[]),
            Lifecycle::Exited { reason, .. } | Lifecycle::Stopped { reason, .. } => {
                count(STOPS, &[("reason", word(reason))]);
            }
            Lifecycle::GaveUp { .. } => count(GIVE_UPS, &[]),
            _ => {}
        }
    }

    /// Counts reports that came too fast to be counted.
    pub(super) fn missed(&self, reports: u64) {
        self.telemetry.counter(MISSED, &[]).add(reports);
    }

    /// Looks at everything that nobody tells.
    pub(super) fn take(&self, watch: &Watch, health: HealthStatus) {
        self.take_parts(watch, health);
        if let Some(tree) = watch.tree() {
            self.take_tree(&tree);
        }
        let groups = self.groups.local_counts();
        let gone = self.seen.lock().gone(groups.iter().map(|(group, _)| group));
        for (group, members) in groups.into_iter().chain(gone) {
            self.gauge(GROUP, &[("group", &group)], members as f64);
        }
    }

    fn take_parts(&self, watch: &Watch, health: HealthStatus) {
        let gauge = |name, value| self.gauge(name, &[], value);
        let stats = watch.events.stats();
        gauge(EVENTS, stats.events as f64);
        gauge(LOG_BYTES, stats.log_bytes as f64);
        gauge(HOT_BYTES, stats.hot_bytes as f64);
        gauge(INDEX_BYTES, stats.index_bytes as f64);
        gauge(IDS_AHEAD, watch.events.ids().drift().as_secs_f64());
        gauge(STUCK, watch.stuck().len() as f64);
        gauge(REVISION, watch.config.revision().0 as f64);
        let healthy = health == HealthStatus::Healthy;
        gauge(HEALTHY, f64::from(u8::from(healthy)));
    }

    fn take_tree(&self, tree: &Tree) {
        let mut states = BTreeMap::from(STATES.map(|state| (word_of(state), 0_u32)));
        for child in tree.walk() {
            *states.entry(word_of(child.state)).or_default() += 1;
        }
        for (state, children) in states {
            self.gauge(CHILDREN, &[("state", state)], children.into());
        }
        let children = tree
            .walk()
            .map(|child| (Arc::clone(&child.path), child.into()));
        let sums = self.seen.lock().look(children, Instant::now());
        for (child, sums) in sums {
            let labels = [("child", &*child)];
            self.telemetry.execute(
                &LOOKED,
                &[("seconds", Number::Float(sums.busy_seconds))],
                &[("child", (&*child).into())],
            );
            self.gauge(ADMITTED, &labels, sums.admitted as f64);
            self.gauge(BUSY, &labels, sums.busy as f64);
            self.telemetry.counter(HANDLED, &labels).add(sums.handled);
            self.telemetry.counter(REFUSED, &labels).add(sums.refused);
            let dead_letters = self.telemetry.counter(DEAD_LETTERS, &labels);
            dead_letters.add(sums.dead_letters);
            self.gauge(BUSY_RATIO, &labels, sums.busy_ratio);
            self.gauge(HANDLING, &labels, sums.handling.as_secs_f64());
        }
    }

    fn gauge(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.telemetry.gauge(name, labels).set(value);
    }
}

/// What kind of end it was.
fn word(reason: &ExitReason) -> &'static str {
    match reason {
        ExitReason::Normal => "normal",
        ExitReason::Shutdown(Some(ShutdownCause::IntensityExceeded(_))) => "intensity_exceeded",
        ExitReason::Shutdown(_) => "shutdown",
        ExitReason::Killed => "killed",
        ExitReason::Error(_) => "error",
        ExitReason::Panic(_) => "panic",
        ExitReason::Unhealthy(_) => "unhealthy",
        ExitReason::NoProc => "noproc",
        ExitReason::NoConnection => "noconnection",
    }
}

const STATES: [ChildState; 6] = [
    ChildState::Starting,
    ChildState::Running,
    ChildState::Restarting,
    ChildState::Stopping,
    ChildState::Stopped,
    ChildState::Leaked,
];

fn word_of(state: ChildState) -> &'static str {
    match state {
        ChildState::Starting => "starting",
        ChildState::Running => "running",
        ChildState::Restarting => "restarting",
        ChildState::Stopping => "stopping",
        ChildState::Stopped => "stopped",
        ChildState::Leaked => "leaked",
    }
}

const STARTS: &str = "underpin_child_starts";
const RESTARTS: &str = "underpin_child_restarts";
const FAILED_STARTS: &str = "underpin_child_failed_starts";
const STOPS: &str = "underpin_child_stops";
const GIVE_UPS: &str = "underpin_supervisor_give_ups";
const MISSED: &str = "underpin_reports_missed";
const ADMITTED: &str = "underpin_child_admitted";
const BUSY: &str = "underpin_child_busy";
const HANDLED: &str = "underpin_child_handled";
const REFUSED: &str = "underpin_child_refused";
const DEAD_LETTERS: &str = "underpin_child_dead_letters";
const BUSY_RATIO: &str = "underpin_child_busy_ratio";
const BUSY_SECONDS: &str = "underpin_child_busy_seconds";
/// It has no buckets: a histogram would have the clock read twice for each message, some 40 ns, and a message costs 200 all in all.
const BUSY_SECONDS_HELP: &str = "Time that children spent handling messages, from looks at them ten times a second; \
     what it grows by, divided by what `underpin_child_handled_total` grows by, is the mean handling time.";
/// What it is made of: executed for the children of each name, each second.
static LOOKED: EventName = EventName::from_static(&["underpin", "child", "looked"]);
const HANDLING: &str = "underpin_child_handling_seconds";
const CHILDREN: &str = "underpin_children";
const STUCK: &str = "underpin_children_stuck";
const GROUP: &str = "underpin_group_members";
const EVENTS: &str = "underpin_events";
const LOG_BYTES: &str = "underpin_events_log_bytes";
const HOT_BYTES: &str = "underpin_events_hot_bytes";
const INDEX_BYTES: &str = "underpin_events_index_bytes";
const IDS_AHEAD: &str = "underpin_events_ids_ahead_seconds";
const REVISION: &str = "underpin_config_revision";
const HEALTHY: &str = "underpin_healthy";

const METRICS: [(Kind, &str, &[&str], &str); 23] = [
    (
        Kind::Counter,
        STARTS,
        &["child"],
        "First lives of children that began. Children are named by their path, dynamic ones by that of their spec.",
    ),
    (
        Kind::Counter,
        RESTARTS,
        &["child"],
        "Further lives of children that began.",
    ),
    (
        Kind::Counter,
        FAILED_STARTS,
        &["child"],
        "Starts of children that failed.",
    ),
    (
        Kind::Counter,
        STOPS,
        &["child", "reason"],
        "Ends of children, by the kind of their exit reason.",
    ),
    (
        Kind::Counter,
        GIVE_UPS,
        &["child"],
        "Supervisors that ended because of too many restarts.",
    ),
    (
        Kind::Counter,
        MISSED,
        &[],
        "Reports of the tree that came too fast to be counted.",
    ),
    (
        Kind::Gauge,
        ADMITTED,
        &["child"],
        "Requests in flight to children, looked at each second.",
    ),
    (
        Kind::Gauge,
        BUSY,
        &["child"],
        "Children that are handling a message, looked at each second.",
    ),
    (
        Kind::Counter,
        HANDLED,
        &["child"],
        "Messages handled by children, looked at each second.",
    ),
    (
        Kind::Counter,
        REFUSED,
        &["child"],
        "Requests to children that were refused because there were too many.",
    ),
    (
        Kind::Counter,
        DEAD_LETTERS,
        &["child"],
        "Requests to children that were skipped, and answers that came too late, because their callers had given up.",
    ),
    (
        Kind::Gauge,
        BUSY_RATIO,
        &["child"],
        "Part of the last ten seconds in which children were handling messages; of several, the busiest's.",
    ),
    (
        Kind::Gauge,
        HANDLING,
        &["child"],
        "How long children have been at their current message, to a tenth of a second; of several, the longest.",
    ),
    (
        Kind::Gauge,
        CHILDREN,
        &["state"],
        "Children in the tree, by what they are doing.",
    ),
    (
        Kind::Gauge,
        STUCK,
        &[],
        "Children that have been handling one message for too long.",
    ),
    (
        Kind::Gauge,
        GROUP,
        &["group"],
        "Members of groups on this node.",
    ),
    (Kind::Gauge, EVENTS, &[], "Events in the store."),
    (Kind::Gauge, LOG_BYTES, &[], "Bytes of the log of events."),
    (
        Kind::Gauge,
        HOT_BYTES,
        &[],
        "Bytes of the newest events in memory.",
    ),
    (
        Kind::Gauge,
        INDEX_BYTES,
        &[],
        "Bytes of the index of events in memory.",
    ),
    (
        Kind::Gauge,
        IDS_AHEAD,
        &[],
        "How far event ids are ahead of the clock: it stepped back, or ids were used up faster than it went.",
    ),
    (Kind::Gauge, REVISION, &[], "The revision of the settings."),
    (
        Kind::Gauge,
        HEALTHY,
        &[],
        "1 if the node is healthy, else 0.",
    ),
];
