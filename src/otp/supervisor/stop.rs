//! How one child is stopped: asked, waited for, killed, and waited for a little longer.

use std::{sync::Arc, time::Duration};

use tokio::time::{self, Instant};

use super::{ChildReport, StopKind};
use crate::otp::{ExitReason, Shutdown, incarnation::Left, start::Started};

/// How long a killed child may take to go. Kill is cooperative: it acts at the next `.await`, so that a child that blocks
/// its thread does not go at all. A second is far more than any await needs.
const KILL_GRACE: Duration = Duration::from_secs(1);

/// Stops a child and waits until it is gone, or until it is plain that it will not go.
pub(super) async fn stop(id: Arc<str>, mut started: Started, shutdown: Shutdown) -> ChildReport {
    let begin = Instant::now();
    let how = match shutdown {
        Shutdown::Brutal => kill(&mut started).await,
        Shutdown::Infinity => {
            started.control.stop();
            // A panic in the child's last moments is in its incarnation.
            let _ = (&mut started.join).await;
            StopKind::Graceful
        }
        Shutdown::Timeout(limit) => {
            started.control.stop();
            match time::timeout(limit, &mut started.join).await {
                Ok(_) => StopKind::Graceful,
                Err(_) => kill(&mut started).await,
            }
        }
    };
    let reason = match started.incarnation.left() {
        None => ExitReason::Killed,
        Some(Left::Clean) => ExitReason::Shutdown(None),
        Some(Left::Reason(reason)) => reason.clone(),
    };
    started.incarnation.finish(reason.clone());
    ChildReport {
        id,
        how,
        took: begin.elapsed(),
        reason,
        children: Vec::new(),
    }
}

async fn kill(started: &mut Started) -> StopKind {
    started.control.kill();
    match time::timeout(KILL_GRACE, &mut started.join).await {
        Ok(_) => StopKind::Killed,
        Err(_) => StopKind::Leaked,
    }
}
