//! Looks at all parts of the node and says how it is doing.

use std::{
    borrow::Cow,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    Health, HealthStatus,
    figures::Figures,
    health::{Complaint, Crashes, Record},
    journal::Journal,
    keeper::Keeper,
};
use crate::{
    config::{Configuration, Revision, Serving},
    events::{Events, EventsHealth},
    ids::NodeName,
    otp::{ChildState, Groups, ReportStream, Stuck, Supervisor, Tree},
    telemetry::Telemetry,
};

/// Everything that is looked at, and what was seen.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) name: NodeName,
    pub(super) events: Events,
    pub(super) config: Configuration,
    #[cfg(any(feature = "capture", feature = "web"))]
    pub(super) telemetry: Telemetry,
    pub(super) keeper: Keeper,
    pub(super) journal: Journal,
    pub(super) figures: Figures,
    /// Whether events end with the process.
    pub(super) in_memory: bool,
    /// The settings' revision when the node began.
    pub(super) loaded_revision: Revision,
    #[cfg(feature = "capture")]
    capture: OnceLock<crate::capture::Capture>,
    #[cfg(feature = "cluster")]
    pub(super) cluster: Option<crate::cluster::Cluster>,
    root: OnceLock<Supervisor>,
    /// What is reported of the tree, with whoever follows it at the moment.
    pub(super) reports: tokio::sync::Mutex<Option<ReportStream>>,
    began: Instant,
    phase: AtomicU8,
    record: Mutex<Record>,
    crashes: Mutex<Crashes>,
}

/// Where in its life a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Starting = 0,
    Running = 1,
    Stopping = 2,
}

impl Watch {
    pub(super) fn new(
        name: NodeName,
        events: &Events,
        config: &Configuration,
        telemetry: &Telemetry,
        keeper: &Keeper,
        groups: &Groups,
        in_memory: bool,
    ) -> Self {
        Self {
            figures: Figures::new(telemetry, groups),
            keeper: keeper.clone(),
            journal: Journal::new(events, telemetry),
            in_memory,
            loaded_revision: config.revision(),
            name,
            events: events.clone(),
            config: config.clone(),
            #[cfg(any(feature = "capture", feature = "web"))]
            telemetry: telemetry.clone(),
            #[cfg(feature = "capture")]
            capture: OnceLock::new(),
            #[cfg(feature = "cluster")]
            cluster: None,
            root: OnceLock::new(),
            reports: tokio::sync::Mutex::default(),
            began: Instant::now(),
            phase: AtomicU8::new(Phase::Starting as u8),
            record: Mutex::default(),
            crashes: Mutex::default(),
        }
    }

    #[cfg(feature = "cluster")]
    pub(super) fn with_cluster(self, cluster: Option<crate::cluster::Cluster>) -> Self {
        Self { cluster, ..self }
    }

    #[cfg(feature = "web")]
    pub(super) fn root(&self) -> Option<&Supervisor> {
        self.root.get()
    }

    pub(super) fn look_at(&self, root: Supervisor) {
        let _ = self.root.set(root);
    }

    /// A capture that begins with the node.
    #[cfg(feature = "capture")]
    pub(super) fn with_capture(self, capture: Option<crate::capture::Capture>) -> Self {
        if let Some(capture) = capture {
            capture.count_in(&self.telemetry);
            let _ = self.capture.set(capture);
        }
        self
    }

    #[cfg(feature = "capture")]
    pub(super) fn capture(&self) -> &crate::capture::Capture {
        self.capture.get_or_init(|| {
            let capture = crate::capture::Capture::of(&self.events);
            capture.count_in(&self.telemetry);
            capture
        })
    }

    /// Stores what is captured so far, where something is.
    #[cfg(feature = "capture")]
    pub(super) async fn flush_capture(&self) {
        if let Some(capture) = self.capture.get() {
            about_flush(capture.flush(CAPTURE_PATIENCE).await);
        }
    }

    /// The same, and nothing more is captured when the node stops.
    #[cfg(feature = "capture")]
    pub(super) async fn end_capture(&self) {
        match self.capture.get() {
            Some(capture) if self.phase() == Phase::Stopping => {
                about_flush(capture.close(CAPTURE_PATIENCE).await);
            }
            _ => self.flush_capture().await,
        }
    }

    pub(super) fn ready(&self) {
        self.phase.store(Phase::Running as u8, Ordering::Release);
    }

    pub(super) fn stopping(&self) {
        self.phase.store(Phase::Stopping as u8, Ordering::Release);
    }

    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Running,
            _ => Phase::Stopping,
        }
    }

    pub(super) fn uptime(&self) -> Duration {
        self.began.elapsed()
    }

    /// From here on reports are kept for whoever follows them; those parts that are there already are counted.
    pub(super) fn follow(&self) {
        // Locked, somebody follows them.
        let Ok(mut reports) = self.reports.try_lock() else {
            return;
        };
        if reports.is_none() {
            *reports = self.root.get().and_then(Supervisor::reports);
            if let Some(tree) = self.tree() {
                self.figures.catch_up(&tree);
            }
        }
    }

    pub(super) fn tree(&self) -> Option<Tree> {
        self.root.get().and_then(Supervisor::tree)
    }

    /// Children that have been at one message for too long.
    pub(super) fn stuck(&self) -> Vec<Stuck> {
        self.root.get().map_or_else(Vec::new, Supervisor::stuck)
    }

    pub(super) fn crashed(&self, part: Arc<str>, reason: String) {
        self.crashes.lock().add(part, reason, Timestamp::now());
    }

    /// How the node is doing. Asks nobody: every part is looked at from outside, so that a stuck one does not hold this up.
    pub(super) fn health(&self) -> Health {
        let now = Timestamp::now();
        let running = self.root.get().is_some_and(Supervisor::is_running);
        let (down, mut complaints) = match (self.phase(), running) {
            (Phase::Starting, _) => (false, vec![about_node("starting", "is starting")]),
            (_, false) => (true, vec![about_node("down", "does not run")]),
            (Phase::Running, true) => (false, Vec::new()),
            (Phase::Stopping, true) => (false, vec![about_node("stopping", "is stopping")]),
        };
        if !down {
            complaints.extend(self.about_parts(now));
        }
        let mut health = self.record.lock().judge(complaints, now);
        if down {
            health.health = HealthStatus::Down;
        }
        health
    }

    fn about_parts(&self, now: Timestamp) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        if let Some(tree) = self.tree() {
            complaints.extend(tree.walk().filter_map(|child| about_child(child, now)));
        }
        complaints.extend(self.stuck().iter().map(|stuck| about_stuck(stuck, now)));
        complaints.extend(about_events(&self.events.health()));
        complaints.extend(about_config(&self.config));
        complaints.extend(self.keeper.trouble().as_deref().map(about_ids));
        complaints.extend(about_drift(self.events.ids().drift()));
        #[cfg(feature = "cluster")]
        if let Some(cluster) = &self.cluster {
            complaints.extend(super::joining::complaints(cluster));
        }
        let limit = self.config.get_or("underpin.health.crash_loop", 3);
        complaints.extend(self.crashes.lock().loops(limit, now));
        complaints
    }
}

/// How long the store may take for what was captured: it may be down. Shorter than the store itself has to stop.
#[cfg(feature = "capture")]
const CAPTURE_PATIENCE: Duration = Duration::from_secs(4);

#[cfg(feature = "capture")]
fn about_flush(flushed: Result<(), crate::capture::FlushError>) {
    if let Err(error) = flushed {
        tracing::warn!(%error, "not everything that was captured is stored");
    }
}

fn about_node(kind: &'static str, words: &str) -> Complaint {
    Complaint {
        part: "node".into(),
        kind: kind.into(),
        reason: format!("the node {words}"),
        since: None,
    }
}

fn about_ids(trouble: &str) -> Complaint {
    Complaint {
        part: "node/wiring/ids".into(),
        kind: "mark".into(),
        reason: format!("the mark ahead of the event ids cannot be kept: {trouble}"),
        since: None,
    }
}

/// Ids never go back with the clock, so that the times in them are not the clock's.
fn about_drift(drift: Duration) -> Option<Complaint> {
    /// Above what an outburst of ids brings about, and a hundred kills in a row: each start after one begins two seconds ahead.
    const ALLOWED: Duration = Duration::from_mins(5);
    (drift > ALLOWED).then(|| Complaint {
        part: "node/wiring/ids".into(),
        kind: "drift".into(),
        reason: format!(
            "event ids are {} s ahead of the clock: it stepped back, or the node was killed again and again; set it right, or `as_of` is wrong by that much until it has caught up",
            drift.as_secs()
        ),
        since: None,
    })
}

/// A child that is to run and does not. The node's own parts are to run always; a child of the program's may have come to
/// its end.
fn about_child(child: &Tree, now: Timestamp) -> Option<Complaint> {
    let last = child.last_exit.as_deref().unwrap_or("it has not run yet");
    let own_part = child.path.matches('/').count() == 1;
    let clean = last.starts_with("normal") || last.starts_with("shutdown");
    let reason = match child.state {
        ChildState::Restarting => format!("is being restarted; {last}"),
        ChildState::Starting if child.incarnation > 1 => format!("is starting again; {last}"),
        ChildState::Stopped if own_part || !clean => format!("is stopped; {last}"),
        ChildState::Leaked => "did not end when killed; something of it blocks a thread".to_owned(),
        _ if child.suspended => {
            return Some(Complaint {
                part: Arc::clone(&child.path),
                kind: "suspended".into(),
                reason: "is suspended; resume it".to_owned(),
                since: None,
            });
        }
        _ => return None,
    };
    Some(Complaint {
        part: Arc::clone(&child.path),
        kind: "not_running".into(),
        reason,
        since: before(now, Duration::from_millis(child.for_ms)),
    })
}

fn about_stuck(stuck: &Stuck, now: Timestamp) -> Complaint {
    let message = stuck.message.unwrap_or("one message");
    Complaint {
        part: Arc::clone(&stuck.path),
        kind: "stuck".into(),
        reason: format!(
            "has been handling {message} for {} s",
            stuck.elapsed.as_secs()
        ),
        since: before(now, stuck.elapsed),
    }
}

fn before(now: Timestamp, elapsed: Duration) -> Option<Timestamp> {
    let elapsed = jiff::SignedDuration::try_from(elapsed).ok()?;
    now.checked_sub(elapsed).ok()
}

fn about_events(health: &EventsHealth) -> Vec<Complaint> {
    let complaint = |kind: Cow<'static, str>, reason| Complaint {
        part: "node/events".into(),
        kind,
        reason,
        since: None,
    };
    match health {
        EventsHealth::Healthy => Vec::new(),
        EventsHealth::Degraded { reasons } => reasons
            .iter()
            .map(|reason| complaint(without_digits(reason).into(), reason.clone()))
            .collect(),
        EventsHealth::Opening { progress } => {
            let words = format!(
                "is being opened: {} of {} segments read",
                progress.segments_read, progress.segments_total
            );
            vec![complaint("opening".into(), words)]
        }
        EventsHealth::Down { reason } => vec![complaint("down".into(), reason.clone())],
    }
}

/// What stays the same of a reason while its figures change.
fn without_digits(reason: &str) -> String {
    reason.chars().filter(|c| !c.is_ascii_digit()).collect()
}

fn about_config(config: &Configuration) -> Vec<Complaint> {
    let status = config.status();
    let mut complaints: Vec<Complaint> = status
        .alarms
        .iter()
        .map(|alarm| Complaint {
            part: "node/config".into(),
            kind: alarm.kind.name().into(),
            reason: alarm.message.clone(),
            since: Some(alarm.since),
        })
        .collect();
    if let Serving::Stale { since } = status.serving {
        complaints.push(Complaint {
            part: "node/config".into(),
            kind: "stale".into(),
            reason: format!(
                "has been down for {} ms; settings can be read and not changed",
                since.as_millis()
            ),
            since: None,
        });
    }
    complaints
}
