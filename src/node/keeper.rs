//! Keeps the mark of the node's ids ahead of them, off the async workers.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::{self, MissedTickBehavior};

use crate::{ids::Identity, otp::ChildSpec};

/// The node's identity, shared with the node's stop, which takes it out.
#[derive(Debug, Clone)]
pub(super) struct Keeper(Arc<Mutex<Option<Identity>>>);

impl Keeper {
    pub(super) fn new(identity: &Arc<Mutex<Option<Identity>>>) -> Self {
        Self(Arc::clone(identity))
    }

    pub(super) fn child_spec(&self) -> ChildSpec {
        let keeper = self.clone();
        ChildSpec::task("ids", move |ctx| {
            let keeper = keeper.clone();
            async move {
                let mut ticks = time::interval(Identity::RENEW_WITHIN / 2);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    tokio::select! {
                        () = ctx.cancelled() => return Ok(()),
                        _ = ticks.tick() => keeper.renew().await,
                    }
                }
            }
        })
    }

    async fn renew(&self) {
        let identity = Arc::clone(&self.0);
        let renewed = tokio::task::spawn_blocking(move || {
            identity.lock().as_mut().map(Identity::renew).transpose()
        });
        match renewed.await {
            Ok(Ok(_)) => {}
            // Ids are made all the same, and the next tick tries again.
            Ok(Err(error)) => {
                tracing::warn!(%error, "the mark ahead of the event ids was not kept")
            }
            Err(_) => tracing::debug!("the runtime is shutting down"),
        }
    }
}
