//! What happens in a tree, as typed reports: to `tracing`, and to whoever subscribes.

use std::{sync::Arc, time::Duration};

use tokio::{sync::broadcast, time::Instant};

use super::{Context, ExitReason, StopKind, tree::TreeNode};

/// One thing that happened to one child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Where the child stands in the tree.
    pub path: Arc<str>,
    /// What happened to it.
    pub what: Lifecycle,
    /// In which request it failed, where that is known: the context that its code was in. Else empty.
    pub context: Context,
}

/// What can happen to a child.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lifecycle {
    /// It runs.
    Started {
        /// Which life this is, from 1 on.
        incarnation: u64,
    },
    /// Its start declined: there was nothing to do.
    Ignored,
    /// It did not start.
    StartFailed {
        /// What went wrong.
        reason: ExitReason,
    },
    /// It ended by itself, or hung and was killed for that. An end is told once: as this, or as [`Stopped`](Self::Stopped); one that hung
    /// and did not end when killed is told as both, the latter at once and this when it has ended.
    Exited {
        /// Which life ended.
        incarnation: u64,
        /// How.
        reason: ExitReason,
    },
    /// It will be started again.
    Restarting {
        /// After this long.
        after: Duration,
        /// Whether its own budget is used up, so that it is only tried slowly.
        slow: bool,
    },
    /// It used up its own budget and stays down.
    BudgetExceeded {
        /// Why it ended the last time.
        reason: ExitReason,
    },
    /// It was stopped by its supervisor.
    Stopped {
        /// How it went.
        how: StopKind,
        /// How long it took.
        took: Duration,
        /// How it ended.
        reason: ExitReason,
    },
    /// The supervisor at `path` gave up on a child and ends.
    GaveUp {
        /// The child whose restart was one too many.
        child: Arc<str>,
        /// Why that child ended the last time.
        reason: ExitReason,
    },
    /// The supervisor at `path` ends because this significant child did.
    AutoShutdown {
        /// The significant child whose end ends the supervisor.
        child: Arc<str>,
    },
}

/// How many reports a slow subscriber may fall behind before it misses some: a storm of a second at a thousand a second.
const CAPACITY: usize = 1024;

/// The reports of one whole tree.
#[derive(Debug, Clone)]
pub(crate) struct Reports(broadcast::Sender<Report>);

/// A subscription to a tree's [`Report`]s. They go to `tracing`, too: crashes and failed starts as errors, a give-up as an error, what had to
/// be killed as a warning, the rest as debug.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use underpin::otp::{ChildSpec, Intensity, Lifecycle, Supervisor, SupervisorSpec};
///
/// let spec = SupervisorSpec::new("app", Intensity::new(3, Duration::from_secs(5)));
/// let app = Supervisor::start(spec).await?;
/// let mut reports = app.reports().expect("it runs");
///
/// let idle = ChildSpec::task("idle", |ctx| async move { Ok(ctx.cancelled().await) });
/// app.start_child(idle).await?;
///
/// let report = reports.next().await.expect("the tree runs");
/// assert_eq!(&*report.path, "app/idle");
/// assert_eq!(report.what, Lifecycle::Started { incarnation: 1 });
/// # app.stop().await;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct ReportStream {
    reports: broadcast::Receiver<Report>,
    missed: u64,
}

impl Reports {
    pub(crate) fn new() -> Self {
        Self(broadcast::Sender::new(CAPACITY))
    }

    pub(crate) fn subscribe(&self) -> ReportStream {
        ReportStream {
            reports: self.0.subscribe(),
            missed: 0,
        }
    }

    pub(crate) fn send(&self, path: &Arc<str>, what: Lifecycle) {
        self.publish(Report {
            path: Arc::clone(path),
            what,
            context: Context::default(),
        });
    }

    /// Whether anybody would hear of a start now. There may be very many.
    pub(crate) fn is_heard(&self) -> bool {
        tracing::event_enabled!(tracing::Level::DEBUG, path, incarnation)
            || self.0.receiver_count() > 0
    }

    /// To `tracing`, and to whoever subscribes. Code of a user's runs in there.
    pub(crate) fn publish(&self, report: Report) {
        trace(&report.path, &report.what);
        // Nobody listening is not an error.
        let _ = self.0.send(report);
    }
}

impl Report {
    /// What happened to a child of a supervisor; shows it at their places. `own_budget`: its restarts count against the child's own
    /// budget.
    pub(crate) fn of_child(
        supervisor: &TreeNode,
        child: &TreeNode,
        own_budget: bool,
        what: Lifecycle,
    ) -> Self {
        let mut context = Context::default();
        match &what {
            Lifecycle::Exited { reason, .. } => {
                child.exited(reason);
                context = child.failed_in();
            }
            Lifecycle::Restarting { slow: false, .. } => {
                let budget = if own_budget { child } else { supervisor };
                budget.count_restart(Instant::now());
            }
            _ => {}
        }
        Self {
            path: Arc::clone(child.path()),
            what,
            context,
        }
    }
}

fn trace(path: &str, what: &Lifecycle) {
    match what {
        Lifecycle::Started { incarnation } => tracing::debug!(path, incarnation, "started"),
        Lifecycle::Ignored => tracing::debug!(path, "declined to start"),
        Lifecycle::AutoShutdown { child } => {
            tracing::info!(path, %child, "a significant child has ended, shutting down");
        }
        Lifecycle::StartFailed { reason } => tracing::error!(path, %reason, "did not start"),
        Lifecycle::Exited { reason, .. } if reason.is_clean() => {
            tracing::debug!(path, %reason, "ended");
        }
        Lifecycle::Exited {
            reason,
            incarnation,
        } => {
            tracing::error!(path, incarnation, %reason, "crashed");
        }
        Lifecycle::Restarting { after, slow } => {
            tracing::debug!(path, ?after, slow, "restarting");
        }
        Lifecycle::BudgetExceeded { reason } => {
            tracing::error!(path, %reason, "used up its restarts and stays down");
        }
        Lifecycle::Stopped {
            how: StopKind::Graceful,
            took,
            ..
        } => tracing::debug!(path, ?took, "stopped"),
        Lifecycle::Stopped { how, took, reason } => {
            tracing::warn!(path, ?how, ?took, %reason, "did not stop by itself");
        }
        Lifecycle::GaveUp { child, reason } => {
            tracing::error!(path, %child, %reason, "too many restarts, giving up");
        }
    }
}

impl ReportStream {
    /// The next report; `None` when the tree has ended and nobody holds a handle to its supervisor. Reports that a slow subscriber missed are counted in
    /// [`missed`](Self::missed).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Report> {
        loop {
            match self.reports.recv().await {
                Ok(report) => return Some(report),
                Err(broadcast::error::RecvError::Lagged(missed)) => self.missed += missed,
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// How many reports were missed so far.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed
    }
}
