//! How one child is stopped: asked, waited for, killed, and waited for a little longer.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{self, Instant},
};

use super::{ChildReport, StopKind};
use crate::otp::{
    ChildKind, ChildSpec, Context, ExitReason, Lifecycle, Report, Shutdown, start::Started,
    tree::TreeNode,
};

/// How long a killed child may take to go. Kill is cooperative: it acts at the next `.await`, so that a child that blocks
/// its thread does not go at all. A second is far more than any await needs.
pub(crate) const KILL_GRACE: Duration = Duration::from_secs(1);
/// What a supervisor needs beyond its children's own time, to tell how they went.
const MARGIN: Duration = Duration::from_millis(100);

/// How a child was brought to its end, and its task when it is still there.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) report: Option<ChildReport>,
    pub(crate) leaked: Option<JoinHandle<()>>,
}

impl Ended {
    /// There was nothing to stop.
    pub(crate) const NOTHING: Self = Self {
        report: None,
        leaked: None,
    };
}

/// When everything is to be over, whatever the specs say. It may be set while a stop is under way.
pub(crate) type Deadline = watch::Receiver<Option<Instant>>;

/// How long a child has to end.
#[derive(Debug, Clone)]
pub(crate) struct Patience {
    pub(crate) shutdown: Shutdown,
    /// A supervisor stops its own children first, each in its time.
    nested: bool,
    deadline: Deadline,
}

impl Patience {
    pub(crate) fn of(spec: &ChildSpec, deadline: Deadline) -> Self {
        Self {
            shutdown: spec.shutdown,
            nested: spec.kind == ChildKind::Supervisor,
            deadline,
        }
    }

    /// None at all, whatever its spec says.
    pub(crate) fn none(self) -> Self {
        Self {
            shutdown: Shutdown::Brutal,
            ..self
        }
    }

    /// Until when one that was asked at `begin` may take its time; `None` is for ever. A supervisor has until its own children
    /// have had theirs.
    fn until(&self, begin: Instant) -> Option<Instant> {
        let own = match self.shutdown {
            Shutdown::Brutal => Some(begin),
            Shutdown::Timeout(limit) => begin.checked_add(limit),
            Shutdown::Infinity => None,
        };
        let deadline = self.deadline.borrow().map(|deadline| {
            if self.nested {
                deadline + KILL_GRACE + MARGIN
            } else {
                deadline
            }
        });
        match (own, deadline) {
            (Some(own), Some(deadline)) => Some(own.min(deadline)),
            (own, deadline) => own.or(deadline),
        }
    }

    /// How long it may take to go once it is killed. All that are killed at a deadline share one grace.
    pub(in crate::otp) fn grace(&self) -> Duration {
        let deadline = *self.deadline.borrow();
        deadline.map_or(KILL_GRACE, |deadline| {
            let left = (deadline + KILL_GRACE).saturating_duration_since(Instant::now());
            left.clamp(MARGIN, KILL_GRACE)
        })
    }

    /// Waits for `work` as long as there is patience; `None` when there is none left.
    pub(in crate::otp) async fn wait<F: Future + Unpin>(
        &mut self,
        mut work: F,
    ) -> Option<F::Output> {
        let begin = Instant::now();
        let mut may_change = true;
        loop {
            let until = self.until(begin);
            let over = async {
                match until {
                    Some(until) => time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                output = &mut work => return Some(output),
                changed = self.deadline.changed(), if may_change => may_change = changed.is_ok(),
                () = over => return None,
            }
        }
    }
}

/// Stops a child and waits until it is gone, or until it is plain that it will not go. `own_end`: how it had ended by itself, where
/// that is known.
pub(crate) async fn stop(
    id: Arc<str>,
    mut started: Started,
    own_end: Option<ExitReason>,
    mut patience: Patience,
) -> Ended {
    let begin = Instant::now();
    let how = match patience.shutdown {
        Shutdown::Brutal => kill(&mut started, &patience).await,
        Shutdown::Timeout(_) | Shutdown::Infinity => {
            started.stop();
            let graceful = patience.wait(pin!(started.gone())).await;
            match graceful {
                Some(()) => StopKind::Graceful,
                None => kill(&mut started, &patience).await,
            }
        }
    };
    let reason = own_end.unwrap_or_else(|| started.incarnation.end_by_request());
    let leaked = started.conclude(Some(reason.clone()));
    let report = ChildReport {
        id,
        how,
        allowed: patience.shutdown,
        asked_after: Duration::ZERO,
        took: begin.elapsed(),
        reason,
        children: Vec::new(),
        unlisted: 0,
    };
    Ended {
        report: Some(report),
        leaked,
    }
}

/// Shows how a child was stopped, and says it.
pub(in crate::otp) fn stopped(node: &TreeNode, ended: &ChildReport) -> Report {
    node.exited(&ended.reason);
    Report {
        path: Arc::clone(node.path()),
        what: Lifecycle::Stopped {
            how: ended.how,
            took: ended.took,
            reason: ended.reason.clone(),
        },
        context: Context::default(),
    }
}

/// Reports a start that did not even end when it was aborted.
pub(crate) fn leaked_start(spec: &ChildSpec, took: Duration, task: JoinHandle<()>) -> Ended {
    Ended {
        report: Some(ChildReport {
            id: Arc::clone(&spec.id),
            how: StopKind::Leaked,
            allowed: spec.shutdown,
            asked_after: Duration::ZERO,
            took,
            reason: ExitReason::Killed,
            children: Vec::new(),
            unlisted: 0,
        }),
        leaked: Some(task),
    }
}

async fn kill(started: &mut Started, patience: &Patience) -> StopKind {
    started.kill();
    match time::timeout(patience.grace(), started.gone()).await {
        Ok(()) => StopKind::Killed,
        Err(_) => StopKind::Leaked,
    }
}
