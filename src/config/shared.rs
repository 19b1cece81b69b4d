//! What outlives the server: the published settings that readers load, the log that subscribers follow, the signs of life.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use arc_swap::ArcSwap;
use crossbeam_utils::CachePadded;
use parking_lot::{Mutex, MutexGuard, RwLock};
use tokio::{sync::Notify, time::Instant};

use super::{
    Alarm, AlarmKind, Kind, Options, Revision, Serving, Status, UpdateError,
    followers::{Followers, Waking},
    keeper::Keeper,
    load::Reader,
    record::{Entry, Log, Logged, Record},
    state::State,
    table::Cell,
    turn,
};
use crate::telemetry::{Counter, Telemetry};

/// How many changes are taken from the log at once, to be told of.
const TOLD_AT_ONCE: usize = 64;

/// Everything that handles and the server share. Who writes holds the server's [`Published::writing`].
pub(super) struct Shared {
    pub(super) published: Arc<Published>,
    /// Rouses the server's task that tells subscribers.
    pub(super) news: Notify,
    pub(super) keeper: Option<Arc<Keeper>>,
    pub(super) sources: Arc<Reader>,
    /// One reload at a time, so that none puts what it read earlier over what another read later.
    pub(super) reloading: tokio::sync::Mutex<()>,
    /// One look at the sources at a time.
    pub(super) looking: Arc<tokio::sync::Mutex<()>>,
    pub(super) options: Options,
    pub(super) metrics: Metrics,
}

/// What is counted.
pub(super) struct Metrics {
    updates: Counter,
    resets: Counter,
    refused: Counter,
    reloads: Counter,
    failed_reloads: Counter,
}

/// What readers and subscribers see.
pub(super) struct Published {
    state: ArcSwap<State>,
    cells: Vec<Box<dyn Cell>>,
    /// What followers look at all the time, apart from what the writer alone needs.
    followed: CachePadded<Followed>,
    pub(super) followers: Arc<Followers>,
    /// Whether the server is up; held while a change is made.
    writing: Mutex<bool>,
    health: Mutex<Health>,
    /// How many alarms there are; to look at without the lock.
    alarms: AtomicUsize,
}

struct Followed {
    log: RwLock<Log>,
    /// Of the newest change that the log has.
    revision: AtomicU64,
}

struct Health {
    server: Server,
    alarms: Vec<Alarm>,
}

#[derive(Clone, Copy)]
enum Server {
    Starting,
    Running { since: Instant, incarnation: u64 },
    Down { since: Instant, incarnation: u64 },
}

impl Drop for Shared {
    /// The node is gone.
    fn drop(&mut self) {
        self.published.followers.close();
    }
}

impl Metrics {
    pub(super) fn new(telemetry: &Telemetry) -> Self {
        use crate::telemetry::Kind::Counter;
        let counters = [
            ("underpin_config_updates", "Changes of settings."),
            ("underpin_config_resets", "Resets of settings."),
            (
                "underpin_config_refused",
                "Changes of settings that were refused.",
            ),
            (
                "underpin_config_reloads",
                "Reloads of the settings' sources that were taken over.",
            ),
            (
                "underpin_config_failed_reloads",
                "Reloads of the settings' sources that changed nothing, for an error.",
            ),
        ];
        telemetry.declare(&counters.map(|(name, help)| (Counter, name, &[][..], help)));
        Self {
            updates: telemetry.counter("underpin_config_updates", &[]),
            resets: telemetry.counter("underpin_config_resets", &[]),
            refused: telemetry.counter("underpin_config_refused", &[]),
            reloads: telemetry.counter("underpin_config_reloads", &[]),
            failed_reloads: telemetry.counter("underpin_config_failed_reloads", &[]),
        }
    }

    /// Counts how a request to change something ended.
    pub(super) fn count(&self, outcome: Option<Kind>) {
        match outcome {
            None => self.refused.inc(),
            Some(Kind::Reset) => self.resets.inc(),
            Some(Kind::Update | Kind::Rollback) => self.updates.inc(),
            // Counted as a reload by the one who asked for it.
            Some(Kind::Load) => {}
        }
    }

    /// Counts how a reload ended.
    pub(super) fn count_reload(&self, is_taken_over: bool) {
        if is_taken_over {
            self.reloads.inc();
        } else {
            self.failed_reloads.inc();
        }
    }
}

impl Published {
    pub(super) fn new(state: State, mut log: Log, alarms: Vec<Alarm>) -> Self {
        log.know(&state.document);
        let typed = state.tables.0.iter().zip(state.typed.iter());
        let cells = typed
            .filter_map(|(table, typed)| table.cell(typed))
            .collect();
        Self {
            followed: CachePadded::new(Followed {
                log: RwLock::new(log),
                revision: AtomicU64::new(state.revision.0),
            }),
            followers: Arc::new(Followers::new(state.revision)),
            state: ArcSwap::from_pointee(state),
            cells,
            writing: Mutex::new(false),
            alarms: AtomicUsize::new(alarms.len()),
            health: Mutex::new(Health {
                server: Server::Starting,
                alarms,
            }),
        }
    }

    /// The settings now. Lock-free.
    pub(super) fn state(&self) -> arc_swap::Guard<Arc<State>> {
        self.state.load()
    }

    pub(super) fn cells(&self) -> &[Box<dyn Cell>] {
        &self.cells
    }

    /// Looks at the log; the settings do not change meanwhile.
    pub(super) fn with_log<T>(&self, look: impl FnOnce(&Log, &State) -> T) -> T {
        self.with_log_at(|log, _| look(log, &self.state.load()))
    }

    /// The same for who needs nothing of the settings but their revision.
    pub(super) fn with_log_at<T>(&self, look: impl FnOnce(&Log, Revision) -> T) -> T {
        let log = self.followed.log.read();
        look(&log, self.revision())
    }

    /// What had been changed while running at an earlier revision.
    pub(super) fn overlay_at(&self, target: Revision) -> Result<Vec<Arc<Entry>>, UpdateError> {
        self.with_log(|log, state| state.overlay_at(target, log))
    }

    /// Puts a state in place that reads as the one before.
    pub(super) fn replace(&self, next: State) {
        let _log = self.followed.log.write();
        self.state.store(Arc::new(next));
    }

    /// Makes a change visible: first to typed readers, then to all.
    pub(super) fn publish(&self, next: State, record: Arc<Record>, options: &Options) {
        {
            let before = self.state.load();
            let typed = next.typed.iter().zip(&before.typed);
            for (cell, (new, old)) in self.cells.iter().zip(typed) {
                if !new.is_same(old) {
                    cell.publish(new.clone());
                }
            }
        }
        let step = Logged {
            record,
            document: Some(next.document.clone()),
        };
        let (revision, next) = (next.revision, Arc::new(next));
        let (before, forgotten);
        // Under the lock, so that whoever holds it sees settings and log of one revision.
        {
            let mut log = self.followed.log.write();
            before = self.state.swap(next);
            forgotten = log.push(step, options.log_changes, options.log_bytes);
            self.followed.revision.store(revision.0, Ordering::Release);
        }
        // Without the lock: it is much, and what is old lies far away.
        drop((before, forgotten));
    }

    /// The revision that readers see.
    pub(super) fn revision(&self) -> Revision {
        Revision(self.followed.revision.load(Ordering::Acquire))
    }

    /// Brings what is new to those who follow it, and lets others run in between.
    pub(super) async fn tell(&self) {
        if self.followers.tell_books(self.revision()) {
            return;
        }
        let mut waking = Waking::default();
        loop {
            self.bring_up_to(self.revision(), &mut waking);
            let is_over = !waking.wake_some();
            if is_over && self.revision() <= self.followers.told() {
                return;
            }
            turn::end().await;
        }
    }

    /// Only the waking is done by turns: whoever is told late of what was changed cannot tell any more that it does not concern them.
    fn bring_up_to(&self, until: Revision, waking: &mut Waking) {
        loop {
            let told = self.followers.told();
            if told >= until {
                return;
            }
            let look = |log: &Log, now| (log.steps_after(told, TOLD_AT_ONCE, usize::MAX), now);
            let (steps, now) = self.with_log_at(look);
            self.followers.tell(steps.as_ref(), now, waking);
        }
    }

    /// The right to write; whether the server is up.
    pub(super) fn writing(&self) -> MutexGuard<'_, bool> {
        self.writing.lock()
    }

    /// The right to write, where the server is up and nobody else has it.
    pub(super) fn try_writing(&self) -> Option<MutexGuard<'_, bool>> {
        self.writing.try_lock().filter(|is_up| **is_up)
    }

    /// The server has started; gives the number of this life.
    pub(super) fn server_started(&self, since: Instant) -> u64 {
        let mut writing = self.writing();
        let mut health = self.health.lock();
        let incarnation = match health.server {
            Server::Starting => 1,
            Server::Running { incarnation, .. } | Server::Down { incarnation, .. } => {
                incarnation + 1
            }
        };
        health.server = Server::Running { since, incarnation };
        *writing = true;
        incarnation
    }

    /// The server has ended, unless another one has started since.
    pub(super) fn server_ended(&self, ended: u64, since: Instant) {
        let mut writing = self.writing();
        let mut health = self.health.lock();
        if matches!(health.server, Server::Running { incarnation, .. } if incarnation == ended) {
            *writing = false;
            health.server = Server::Down {
                since,
                incarnation: ended,
            };
        }
    }

    /// Raises an alarm, in the place of one of the same kind, whose time it keeps.
    pub(super) fn raise(&self, mut alarm: Alarm) {
        let mut health = self.health.lock();
        let alarms = &mut health.alarms;
        match alarms.iter_mut().find(|known| known.kind == alarm.kind) {
            Some(known) => {
                alarm.since = known.since;
                *known = alarm;
            }
            None => alarms.push(alarm),
        }
        self.alarms.store(alarms.len(), Ordering::Release);
    }

    pub(super) fn clear(&self, kind: AlarmKind) {
        let mut health = self.health.lock();
        health.alarms.retain(|alarm| alarm.kind != kind);
        self.alarms.store(health.alarms.len(), Ordering::Release);
    }

    pub(super) fn has_alarms(&self) -> bool {
        self.alarms.load(Ordering::Acquire) > 0
    }

    pub(super) fn has(&self, kind: AlarmKind) -> bool {
        let health = self.health.lock();
        health.alarms.iter().any(|alarm| alarm.kind == kind)
    }

    pub(super) fn status(&self, now: Instant, persisted: bool) -> Status {
        let state = self.state.load_full();
        let (server, alarms) = {
            let health = self.health.lock();
            (health.server, health.alarms.clone())
        };
        Status {
            serving: match server {
                Server::Starting => Serving::Starting,
                Server::Running { since, .. } => Serving::Running {
                    uptime: now.saturating_duration_since(since),
                },
                Server::Down { since, .. } => Serving::Stale {
                    since: now.saturating_duration_since(since),
                },
            },
            revision: state.revision,
            updates_count: state.updates,
            last_update: state.last_update,
            subscribers: self.followers.count(),
            persisted,
            restart_needed: state.restart_needed(),
            alarms,
        }
    }
}
