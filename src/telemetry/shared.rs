//! What outlives the service's actor and works without it.

use std::{
    num::NonZeroU32,
    sync::{Arc, OnceLock, Weak},
};

use parking_lot::Mutex;

use super::{
    Counter, EventName, Kind, Options, alarms,
    clock::Clock,
    counter::CounterCells,
    gauge::GaugeCell,
    handlers::{DROPPED, Handlers},
    history::History,
    polls::{Polls, Turn},
    process::{self, ProcessMetrics},
    registry::{Limits, Registry, report},
    remembered::Forgetful,
    workers::{self, WorkerMetrics},
};

/// Everything that outlives the service's actor.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) clock: Clock,
    pub(super) polls: Polls,
    pub(super) registry: Arc<Registry>,
    pub(super) handlers: Arc<Handlers>,
    pub(super) history: Mutex<History>,
    /// Those who remember handles to series.
    forgetful: Mutex<Vec<Weak<dyn Forgetful>>>,
    poll_failures: Counter,
    poll_delays: Counter,
}

impl Shared {
    pub(super) fn new(options: Options) -> Self {
        let clock = Clock::start();
        let registry = Arc::new(Registry::new(Limits {
            names: options.names_max,
            series: options.series_max,
        }));
        for (kind, name, labels, help) in OWN {
            report(registry.describe(kind, name, labels, help));
        }
        let counter = |name| registry.series_or_lost::<CounterCells>(name, &[]);
        let shared = Self {
            clock,
            polls: Polls::default(),
            handlers: Arc::new(Handlers::new(counter(HANDLER_FAILURES), &registry, clock)),
            history: Mutex::new(History::new(options.history_points, options.history_tracks)),
            forgetful: Mutex::default(),
            poll_failures: counter(FAILED_POLLS),
            poll_delays: counter(OVERDUE_POLLS),
            registry,
            options,
        };
        shared.add_own_polls();
        shared
    }

    fn add_own_polls(&self) {
        report(process::describe(&self.registry));
        report(workers::describe(&self.registry));
        let every = self.options.process_every;
        // Made with the first figures: a process that was never looked at does not use nothing.
        let (process, registry) = (OnceLock::new(), Arc::clone(&self.registry));
        let look_at_process = move || match process::Figures::read() {
            Ok(figures) => {
                let metrics = process.get_or_init(|| report(ProcessMetrics::new(&registry)));
                if let Some(metrics) = metrics {
                    metrics.show(&figures);
                }
            }
            Err(error) => tracing::debug!(%error, "no figures of the process"),
        };
        let (workers, registry) = (OnceLock::new(), Arc::clone(&self.registry));
        let look_at_workers = move || {
            let metrics = workers.get_or_init(|| report(WorkerMetrics::new(&registry)));
            let runtime = tokio::runtime::Handle::current().metrics();
            if let Some(metrics) = metrics {
                metrics.show(&runtime);
            }
        };
        let added = [
            self.polls.add("process", every, Box::new(look_at_process)),
            self.polls.add("tokio", every, Box::new(look_at_workers)),
        ];
        debug_assert!(added.iter().all(Result::is_ok), "they are the first");
    }

    /// Adds a point to the history.
    pub(super) fn remember(&self) {
        let mut history = self.history.lock();
        history.begin(self.clock.unix_ms());
        self.registry
            .sample(|name, labels, part, number| history.put(name, labels, part, number));
    }

    /// Forgets or hides idle series; returns how many.
    pub(super) fn sweep(&self) -> usize {
        for one in self.forgetful.lock().iter().filter_map(Weak::upgrade) {
            one.forget();
        }
        self.registry
            .sweep(self.clock.now(), self.options.retention)
    }

    /// Before each sweep this is told to forget what it remembers, as long as it is there.
    pub(super) fn remind(&self, forgetful: Weak<dyn Forgetful>) {
        let mut all = self.forgetful.lock();
        all.retain(|one| one.strong_count() > 0);
        all.push(forgetful);
    }

    /// Shows how the events that are sampled are sampled, again and again, so that it does not expire.
    pub(super) fn show_rates(&self) {
        for (event, one_in) in self.handlers.sampled() {
            self.show_rate(&event, one_in);
        }
    }

    pub(super) fn show_rate(&self, event: &EventName, one_in: NonZeroU32) {
        let labels = [("event", &*event.to_string())];
        let gauge = self.registry.series_or_lost::<GaugeCell>(SAMPLED, &labels);
        gauge.set(one_in.get().into());
    }

    /// Tells of metrics that got their overflow series.
    pub(super) fn tell_overflows(&self) {
        for overflow in self.registry.take_overflows() {
            let metric = overflow.metric.as_str();
            let max = self.options.series_max;
            tracing::warn!(
                metric,
                max,
                "label sets of a metric share a series: there are too many, or a value is too long"
            );
            alarms::tell_overflow(&self.handlers, &self.clock, &overflow, max);
        }
    }

    pub(super) fn poll_failed(&self, turn: &Turn) {
        self.poll_failures.inc();
        let (id, removed) = (&**turn.id(), self.polls.remove_this(turn));
        tracing::error!(poll = id, removed, "a poll panicked and was removed");
        alarms::tell_poll(&self.handlers, &self.clock, id, "panic");
    }

    pub(super) fn poll_overdue(&self, id: &str) {
        self.poll_delays.inc();
        let so_far = self.poll_delays.value();
        if so_far.is_power_of_two() {
            tracing::warn!(poll = id, so_far, "a poll is not done in time");
            alarms::tell_poll(&self.handlers, &self.clock, id, "overdue");
        }
    }
}

const HANDLER_FAILURES: &str = "underpin_telemetry_handler_failures";
const FAILED_POLLS: &str = "underpin_telemetry_failed_polls";
const OVERDUE_POLLS: &str = "underpin_telemetry_overdue_polls";
const SAMPLED: &str = "underpin_telemetry_sampled_one_in";

/// What telemetry says about itself, beside what the registry does.
const OWN: [(Kind, &str, &[&str], &str); 5] = [
    (
        Kind::Counter,
        HANDLER_FAILURES,
        &[],
        "Panics of event handlers.",
    ),
    (
        Kind::Counter,
        DROPPED,
        &["handler"],
        "Emissions that a handler did not get: its queue was full, or it was left alone after a failure.",
    ),
    (
        Kind::Counter,
        FAILED_POLLS,
        &[],
        "Polls that panicked and were removed.",
    ),
    (
        Kind::Counter,
        OVERDUE_POLLS,
        &[],
        "Times that a poll was not done when its next turn came, or within a second.",
    ),
    (
        Kind::Gauge,
        SAMPLED,
        &["event"],
        "Of how many emissions of an event handlers see one, where it is sampled.",
    ),
];
