//! How one child is stopped: asked, waited for, killed, and waited for a little longer.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinHandle,
    time::{self, Instant},
};

use super::{ChildReport, StopKind};
use crate::otp::{ExitReason, Shutdown, incarnation::Left, start::Started};

/// How long a killed child may take to go. Kill is cooperative: it acts at the next `.await`, so that a child that blocks
/// its thread does not go at all. A second is far more than any await needs.
pub(crate) const KILL_GRACE: Duration = Duration::from_secs(1);

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

/// Stops a child and waits until it is gone, or until it is plain that it will not go.
pub(crate) async fn stop(id: Arc<str>, mut started: Started, shutdown: Shutdown) -> Ended {
    let begin = Instant::now();
    let how = match shutdown {
        Shutdown::Brutal => kill(&mut started).await,
        Shutdown::Infinity => {
            started.stop();
            started.gone().await;
            StopKind::Graceful
        }
        Shutdown::Timeout(limit) => {
            started.stop();
            match time::timeout(limit, started.gone()).await {
                Ok(()) => StopKind::Graceful,
                Err(_) => kill(&mut started).await,
            }
        }
    };
    let reason = match started.incarnation.left() {
        None => ExitReason::Killed,
        Some(Left::Clean | Left::Ignored) => ExitReason::Shutdown(None),
        Some(Left::Reason(reason)) => reason.clone(),
    };
    started.incarnation.finish(reason.clone());
    let report = ChildReport {
        id,
        how,
        took: begin.elapsed(),
        reason,
        children: Vec::new(),
    };
    Ended {
        report: Some(report),
        leaked: started.into_task(),
    }
}

/// Reports a start that did not even end when it was aborted.
pub(crate) fn leaked_start(id: Arc<str>, took: Duration, task: JoinHandle<()>) -> Ended {
    Ended {
        report: Some(ChildReport {
            id,
            how: StopKind::Leaked,
            took,
            reason: ExitReason::Killed,
            children: Vec::new(),
        }),
        leaked: Some(task),
    }
}

async fn kill(started: &mut Started) -> StopKind {
    started.kill();
    match time::timeout(KILL_GRACE, started.gone()).await {
        Ok(()) => StopKind::Killed,
        Err(_) => StopKind::Leaked,
    }
}
