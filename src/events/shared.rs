//! What outlives the store's actor: the log in use, the way to it, and what is known about it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use crate::telemetry::Telemetry;

use super::{
    Disk, EventsHealth, Opened, Options, Progress, StoreError,
    cache::Cache,
    commit::Failure,
    log::{Found, Log},
    metrics::Metrics,
    opening::{self, Opening},
    options::Durability,
    sealing::Sealer,
    workers::Workers,
    writer::{Witness, Writer},
};

/// Shared by all handles, the actor and the writer.
#[derive(Debug)]
pub(super) struct Shared {
    /// As the store was made.
    pub(super) options: Options,
    /// With what was changed since.
    current: Mutex<Options>,
    disk: Arc<dyn Disk>,
    /// The newest log, also after it failed: what it published can still be read.
    pub(super) log: ArcSwapOption<Log>,
    phase: watch::Sender<Phase>,
    cache: Arc<Cache>,
    /// Those who work on the newest log.
    pub(super) workers: Workers,
    last_failure: Mutex<Option<String>>,
    opened: Mutex<(Opened, Option<Instant>)>,
    earlier: Mutex<Earlier>,
    openings: AtomicU64,
    duplicates: AtomicU64,
    refused: AtomicU64,
    /// One permit for each event handed over of which the id is looked up on the disk.
    pub(super) looking_up: Arc<Semaphore>,
    pub(super) metrics: Metrics,
}

/// What the store is doing.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Phase {
    Starting,
    Opening(Progress),
    Open,
    Down(String),
}

/// Figures of logs that were closed before the one in use.
#[derive(Debug, Default, Clone, Copy)]
struct Earlier {
    stored: u64,
    pruned: u64,
    unreadable: u64,
    rebuilt: u64,
    commits: u64,
}

/// As many as are looked up in a moment; more would only wait for the disk.
const LOOKED_UP_AT_ONCE: usize = 1024;

/// How long an opening waits for those who worked on the log before it to let the folder go.
const WORKERS_GONE: Duration = Duration::from_secs(5);

/// How long one write may take before health says so. A sync takes milliseconds, and on a crowded spinning disk a second.
const STUCK: Duration = Duration::from_secs(2);

impl Shared {
    pub(super) fn new(options: Options, disk: Arc<dyn Disk>, telemetry: &Telemetry) -> Self {
        let cache = Arc::new(Cache::new(options.cache_bytes));
        Self {
            current: Mutex::new(options.clone()),
            options,
            disk,
            cache,
            log: ArcSwapOption::empty(),
            phase: watch::Sender::new(Phase::Starting),
            workers: Workers::default(),
            last_failure: Mutex::new(None),
            opened: Mutex::default(),
            earlier: Mutex::default(),
            openings: AtomicU64::new(0),
            duplicates: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            looking_up: Arc::new(Semaphore::new(LOOKED_UP_AT_ONCE)),
            metrics: Metrics::new(telemetry),
        }
    }

    /// Opens the log, and starts its writer, which tells `failed` when it gives up; the opening has a number. Gives up once it is
    /// `unwanted`. Blocks.
    pub(super) fn open(
        self: &Arc<Self>,
        draw: u64,
        unwanted: &AtomicBool,
        failed: impl Fn(Arc<Log>) + Send + Sync + 'static,
    ) -> Result<(Arc<Log>, u64), super::OpenError> {
        let previous = self.log.load_full();
        if self.options.durability == Durability::Memory {
            if unwanted.load(Ordering::Relaxed) {
                return Err(super::OpenError::Unwanted);
            }
            // Events in memory outlive the actor.
            let log = previous.unwrap_or_else(|| {
                let found = Found {
                    id: draw,
                    ..Found::default()
                };
                Arc::new(Log::new(&self.current(), found))
            });
            let opening = self.use_log(&log, Opened::default());
            return Ok((log, opening));
        }
        self.phase.send_replace(Phase::Opening(Progress::default()));
        let opened = self.open_folder(previous.as_deref(), draw, unwanted);
        match opened {
            Ok(opening) => {
                let log = opening.log.clone();
                self.workers.forget();
                let number = self.use_log(&log, opening.opened);
                self.start_workers(opening.writer, opening.sealer, &log, failed)?;
                Ok((log, number))
            }
            Err(error) => {
                self.phase.send_replace(Phase::Down(error.to_string()));
                Err(error)
            }
        }
    }

    fn open_folder(
        &self,
        previous: Option<&Log>,
        draw: u64,
        unwanted: &AtomicBool,
    ) -> Result<Opening, super::OpenError> {
        if let Some(previous) = previous {
            // An actor that was killed before it had the log could not close it.
            previous.close();
        }
        if !self.workers.are_gone(WORKERS_GONE) {
            return Err(super::OpenError::Busy);
        }
        let start = Instant::now();
        let progress = |progress| {
            self.phase.send_replace(Phase::Opening(progress));
            !unwanted.load(Ordering::Relaxed)
        };
        let mut opening = opening::open(
            &self.disk,
            &self.current(),
            &self.cache,
            previous,
            draw,
            &progress,
        )?;
        opening.opened.took = start.elapsed();
        Ok(opening)
    }

    /// The options as they are now.
    pub(super) fn current(&self) -> Options {
        self.current.lock().clone()
    }

    /// Changes options that may change at run time, for the log in use and all later ones.
    pub(super) fn change(&self, change: impl FnOnce(&mut Options)) {
        let mut current = self.current.lock();
        change(&mut current);
        if let Some(log) = self.log.load_full() {
            log.adapt(&current);
        }
    }

    fn use_log(&self, log: &Arc<Log>, opened: Opened) -> u64 {
        let before = self.log.swap(Some(log.clone()));
        // They may have been changed while it was opened.
        log.adapt(&self.current.lock());
        if let Some(before) = before.filter(|before| !Arc::ptr_eq(before, log)) {
            let mut earlier = self.earlier.lock();
            let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            earlier.stored += count(&before.facts.stored);
            earlier.pruned += count(&before.facts.pruned);
            earlier.unreadable += count(&before.facts.unreadable);
            earlier.rebuilt += count(&before.facts.rebuilt);
            earlier.commits += count(&before.facts.commits);
        }
        // Held until all of it is so: who leaves an earlier opening comes before or after.
        let mut last = self.opened.lock();
        *last = (opened, Some(Instant::now()));
        log.reopen_in_memory();
        self.phase.send_replace(Phase::Open);
        self.openings.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Where one of them cannot be started, the log is not opened; its supervisor tries again.
    fn start_workers(
        self: &Arc<Self>,
        writer: Writer,
        sealer: Sealer,
        log: &Arc<Log>,
        failed: impl Fn(Arc<Log>) + Send + Sync + 'static,
    ) -> Result<(), super::OpenError> {
        let reporter = Arc::new(Reporter {
            shared: self.clone(),
            log: log.clone(),
            failed,
        });
        let told = reporter.clone();
        let sealing = move || {
            if sealer.run(&told.shared.metrics.rebuilt) {
                told.reopen();
            }
        };
        self.workers
            .start("underpin-seal", sealing)
            .and_then(|()| {
                self.workers
                    .start("underpin-events", move || writer.run(&*reporter))
            })
            .map_err(|error| {
                log.fail(&Failure::new(&error));
                let error = super::OpenError::Threads(error);
                self.phase.send_replace(Phase::Down(error.to_string()));
                error
            })
    }

    /// Closes the log and waits until everything is written. Blocks.
    pub(super) fn close(&self, log: &Log, opening: u64) {
        self.leave(log, opening);
        if !self.workers.are_gone(self.options.answer_wait) {
            tracing::error!(
                "the event log still waits for the disk; what it had acknowledged is safe"
            );
        }
    }

    /// Closes the log without waiting: its writer writes what it has and lets the folder go. Whoever comes late, when it was opened
    /// again, takes nothing from who has it now: in memory that is the same log.
    pub(super) fn leave(&self, log: &Log, opening: u64) {
        let last = self.opened.lock();
        let is_last = self.openings.load(Ordering::Relaxed) == opening;
        if is_last || self.options.durability != Durability::Memory {
            log.close();
        }
        if is_last {
            self.phase.send_if_modified(|phase| {
                let open = matches!(phase, Phase::Open);
                if open {
                    *phase = Phase::Down("it was stopped".into());
                }
                open
            });
        }
        drop(last);
    }

    fn fail(&self, log: &Arc<Log>, failure: &Failure) {
        let reason = format!(
            "the last write failed: {}; the next one shows whether that is over",
            failure.reason
        );
        self.metrics.failures.inc();
        *self.last_failure.lock() = Some(reason.clone());
        self.phase.send_replace(Phase::Down(reason));
        log.fail(failure);
    }

    /// The log to read from, waiting a moment for the first one.
    pub(super) async fn view(&self) -> Result<Arc<Log>, StoreError> {
        if let Some(log) = self.log.load_full() {
            return Ok(log);
        }
        self.other_than(None).await
    }

    /// The log to write to, if it is open.
    pub(super) fn open_log(&self) -> Option<Arc<Log>> {
        self.log.load_full()
    }

    /// Waits a moment for a log that is not the one that `refused`, or for that one to be open again.
    pub(super) async fn other_than(
        &self,
        refused: Option<&Arc<Log>>,
    ) -> Result<Arc<Log>, StoreError> {
        let mut phase = self.phase.subscribe();
        let takes = |log: &Arc<Log>| {
            refused.is_none_or(|refused| !Arc::ptr_eq(refused, log)) || log.is_open()
        };
        let another = async {
            loop {
                if let Some(log) = self.log.load_full().filter(takes) {
                    return Some(log);
                }
                phase.changed().await.ok()?;
            }
        };
        match tokio::time::timeout(self.options.down_wait, another).await {
            Ok(Some(log)) => Ok(log),
            Ok(None) | Err(_) => Err(StoreError::Down {
                reason: self.why_down(),
            }),
        }
    }

    /// Changes when the store opens, closes or fails.
    pub(super) fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    pub(super) fn why_down(&self) -> String {
        match &*self.phase.borrow() {
            Phase::Down(reason) => reason.clone(),
            Phase::Starting => "it has not been started".into(),
            Phase::Opening(_) => "it is being opened".into(),
            Phase::Open => "it is being reopened".into(),
        }
    }

    pub(super) fn count_duplicates(&self, n: u64) {
        self.duplicates.fetch_add(n, Ordering::Relaxed);
        self.metrics.duplicates.add(n);
    }

    pub(super) fn count_refused(&self, n: u64) {
        self.refused.fetch_add(n, Ordering::Relaxed);
        self.metrics.refused.add(n);
    }

    pub(super) fn health(&self) -> EventsHealth {
        let phase = self.phase.borrow().clone();
        match phase {
            Phase::Starting => EventsHealth::Down {
                reason: self.why_down(),
            },
            Phase::Down(reason) => EventsHealth::Down { reason },
            Phase::Opening(progress) => EventsHealth::Opening { progress },
            Phase::Open => {
                let reasons = self.what_is_wrong();
                if reasons.is_empty() {
                    EventsHealth::Healthy
                } else {
                    EventsHealth::Degraded { reasons }
                }
            }
        }
    }

    fn what_is_wrong(&self) -> Vec<String> {
        let mut reasons: Vec<_> = self.last_failure.lock().clone().into_iter().collect();
        let opened = self.opened.lock().0.clone();
        if !opened.gaps.is_empty() {
            let frames: u64 = opened.gaps.iter().map(|gap| gap.last - gap.first + 1).sum();
            let kept = match opened.quarantined {
                0 => "`underpin events verify` says where",
                _ => "the damaged bytes are in files named *.damaged",
            };
            reasons.push(format!(
                "{frames} writes of the log are damaged or missing; {kept}"
            ));
        } else if opened.quarantined > 0 {
            reasons.push("the log has damaged places between whole writes; they are in files named *.damaged".into());
        }
        let log = self.log.load_full();
        let newest = log.as_ref().and_then(|log| log.segments().last().cloned());
        if let Some(newest) = newest.filter(|_| opened.foreign > 0) {
            let (n, newest) = (opened.foreign, &newest.name);
            reasons.push(format!(
                "{n} segments are of another log than the newest segment, {newest}; move those that were copied here to a folder of their \
                 own and import what `underpin events export` writes of them"
            ));
        }
        if let Some(waiting) = self.waits_for_disk().filter(|waited| *waited >= STUCK) {
            let seconds = waiting.as_secs();
            reasons.push(format!(
                "the disk has not ended a write for {seconds} s; nothing is stored until it does"
            ));
        }
        if let Some(log) = log {
            reasons.extend(log.rolled.trouble());
            for segment in log.with_damaged_index() {
                let name = &segment.name;
                reasons.push(format!(
                    "the index of {name} is damaged; it is made anew from its blocks"
                ));
            }
        }
        let unreadable = self.stats().unreadable;
        if unreadable > 0 {
            reasons.push(format!(
                "{unreadable} reads found a stored event that is damaged, or of a later version"
            ));
        }
        reasons
    }

    fn waits_for_disk(&self) -> Option<Duration> {
        let log = self.log.load_full()?;
        let since = *log.facts.writing.lock();
        since.map(|since| since.elapsed())
    }

    pub(super) fn stats(&self) -> super::EventStats {
        let (opened, since) = self.opened.lock().clone();
        let earlier = *self.earlier.lock();
        let mut stats = super::EventStats {
            stored: earlier.stored,
            pruned: earlier.pruned,
            unreadable: earlier.unreadable,
            rebuilt: earlier.rebuilt,
            commits: earlier.commits,
            duplicates: self.duplicates.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            opened,
            openings: self.openings.load(Ordering::Relaxed),
            uptime: since.map_or(Duration::ZERO, |since| since.elapsed()),
            ..super::EventStats::default()
        };
        if let Some(log) = self.log.load_full() {
            log.add_to_stats(&mut stats);
            stats.cache_bytes = self.cache.bytes();
        }
        stats
    }
}

/// Tells the world what a writer did.
struct Reporter<F> {
    shared: Arc<Shared>,
    log: Arc<Log>,
    failed: F,
}

impl<F: Fn(Arc<Log>)> Reporter<F> {
    /// What was handed in is written; what comes now waits for the next log.
    fn reopen(&self) {
        self.log.close();
        (self.failed)(self.log.clone());
    }
}

impl<F: Fn(Arc<Log>) + Send + Sync + 'static> Witness for Reporter<F> {
    fn stored(&self, took: Duration) {
        self.shared.metrics.commit.record_duration(took);
        let over = self.shared.last_failure.lock().take().is_some();
        if over {
            tracing::info!("the event log writes again");
        }
    }

    fn failed(&self, failure: &Failure) {
        self.shared.fail(&self.log, failure);
        (self.failed)(self.log.clone());
        // Last: where a log is written to the same full disk, writing it may panic.
        tracing::error!(reason = %failure.reason, "the event log failed and is opened anew");
    }

    fn waits_for_a_write(&self) -> bool {
        self.shared.last_failure.lock().is_some()
    }
}
