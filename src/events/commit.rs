//! What all callers of one batch wait for.

use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

/// Settled once, when the batch is stored or has failed.
#[derive(Debug, Default)]
pub(super) struct Commit {
    outcome: OnceLock<Result<(), Failure>>,
    settled: Notify,
}

/// Why the log stopped taking events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) reason: Arc<str>,
}

impl Failure {
    pub(super) fn new(reason: impl std::fmt::Display) -> Self {
        Self {
            reason: reason.to_string().into(),
        }
    }
}

impl Commit {
    pub(super) fn settled(outcome: Result<(), Failure>) -> Arc<Self> {
        let commit = Self::default();
        commit.settle(outcome);
        Arc::new(commit)
    }

    /// Wakes all who wait; only the first outcome counts.
    pub(super) fn settle(&self, outcome: Result<(), Failure>) {
        // A second outcome only comes from a writer that failed after it had answered.
        let _ = self.outcome.set(outcome);
        self.settled.notify_waiters();
    }

    pub(super) fn outcome(&self) -> Option<Result<(), Failure>> {
        self.outcome.get().cloned()
    }

    pub(super) async fn wait(&self) -> Result<(), Failure> {
        loop {
            // Enlisted before the look, so that an outcome between the two is not missed.
            let settled = self.settled.notified();
            if let Some(outcome) = self.outcome() {
                return outcome;
            }
            settled.await;
        }
    }
}
