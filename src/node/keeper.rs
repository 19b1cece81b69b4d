//! Keeps the mark of the node's ids ahead of them, and gives the data folder back; off the async workers.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    task::spawn_blocking,
    time::{self, MissedTickBehavior},
};

use crate::{config::Configuration, ids::Identity, otp::ChildSpec};

/// The node's identity, until it is given back. `None` where nothing is kept.
#[derive(Debug, Clone)]
pub(super) struct Keeper {
    identity: Arc<Mutex<Option<Identity>>>,
    /// Why the mark could not be written, the last time.
    trouble: Arc<Mutex<Option<String>>>,
    /// It writes into the same folder.
    config: Configuration,
}

/// How long the folder's disk may take at the end; then the start after this one makes up for it.
const CLOSE_WITHIN: Duration = Duration::from_secs(3);

impl Keeper {
    pub(super) fn new(identity: Option<Identity>, config: Configuration) -> Self {
        Self {
            config,
            identity: Arc::new(Mutex::new(identity)),
            trouble: Arc::default(),
        }
    }

    pub(super) fn child_spec(&self) -> ChildSpec {
        let keeper = self.clone();
        ChildSpec::task("ids", move |ctx| {
            let keeper = keeper.clone();
            async move {
                tokio::select! {
                    () = ctx.cancelled() => Ok(()),
                    () = keeper.keep_ahead() => Ok(()),
                }
            }
        })
    }

    /// What keeps the mark from being written. Waits for nobody.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    /// Leaves the exact mark and gives the folder back.
    pub(super) async fn close(&self) {
        let keeper = self.clone();
        // The locks may be held by writes that hang; the folder is given back when the last one has ended.
        let closing = spawn_blocking(move || {
            keeper.config.close_disk();
            let identity = keeper.identity.lock().take();
            identity.map(Identity::close).transpose()
        });
        match time::timeout(CLOSE_WITHIN, closing).await {
            Ok(Ok(Ok(_))) => {}
            Ok(Ok(Err(error))) => {
                tracing::warn!(%error, "the node's identity was not closed; the next start makes up for it");
            }
            Ok(Err(_)) => tracing::debug!("the runtime is shutting down"),
            Err(_) => {
                tracing::warn!(
                    "the disk does not answer; the data folder stays in use until it does"
                );
            }
        }
    }

    async fn keep_ahead(&self) {
        let mut ticks = time::interval(Identity::RENEW_WITHIN / 2);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.renew().await;
        }
    }

    async fn renew(&self) {
        let identity = Arc::clone(&self.identity);
        let renewed =
            spawn_blocking(move || identity.lock().as_mut().map(Identity::renew).transpose());
        match renewed.await {
            Ok(Ok(_)) => *self.trouble.lock() = None,
            // Ids are made all the same, and the next tick tries again.
            Ok(Err(error)) => self.note(&error.to_string()),
            Err(_) => tracing::debug!("the runtime is shutting down"),
        }
    }

    fn note(&self, trouble: &str) {
        let before = self.trouble.lock().replace(trouble.to_owned());
        if before.as_deref() != Some(trouble) {
            tracing::warn!(trouble, "the mark ahead of the event ids was not kept");
        }
    }
}
