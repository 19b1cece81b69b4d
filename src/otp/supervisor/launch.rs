//! One start of one child: made, waited for, taken back.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use tokio::time::{self, Instant};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::stop::{self, Deadline, Ended, Patience};
use crate::otp::{
    ChildKind, ChildSpec, ExitReason, StartError,
    incarnation::Incarnation,
    start::{NotStarted, Seat, Started},
};

/// `None`: the start declined.
pub(in crate::otp) type Outcome = Result<Option<Started>, StartError>;

/// A start that was begun. Dropped, it takes back what can be taken back at once.
pub(in crate::otp) struct Launch {
    start: BoxFuture<'static, Result<Started, NotStarted>>,
    /// The incarnation's own id.
    pub(in crate::otp) incarnation: u64,
    life: Arc<Incarnation>,
}

/// A start that took more than a moment, and goes on in a task.
pub(in crate::otp) struct Slow {
    pub(in crate::otp) incarnation: u64,
    task: AbortOnDropHandle<()>,
    outcome: Arc<Mutex<Option<Outcome>>>,
    life: Arc<Incarnation>,
}

impl Launch {
    /// Begins a start of this child, in this place.
    pub(in crate::otp) fn of(spec: &ChildSpec, seat: Seat) -> Self {
        let life = Arc::clone(&seat.incarnation);
        Self {
            start: spec.begin(seat),
            incarnation: life.id,
            life,
        }
    }

    /// Looks whether the start is done in a moment, as most are.
    pub(in crate::otp) fn at_once(&mut self, spec: &ChildSpec) -> Option<Outcome> {
        // What a start that fails drops is the user's, and may panic in turn.
        let start = AssertUnwindSafe(&mut self.start).catch_unwind();
        let outcome = start
            .now_or_never()?
            .unwrap_or_else(|panic| Err(NotStarted::Failed(ExitReason::from_panic(&*panic))));
        Some(outcome_of(spec, outcome))
    }

    /// Waits for the start, but not for ever, and not beyond `stopped`. A nested supervisor whose time is up takes back what it
    /// has started, by `deadline` at the latest.
    pub(in crate::otp) async fn finish(
        mut self,
        spec: &ChildSpec,
        stopped: &CancellationToken,
        deadline: Deadline,
    ) -> Outcome {
        let finished = tokio::select! {
            biased;
            // Polled also when it is to stop already: a start may be done at once.
            outcome = time::timeout(spec.extras().start_timeout, &mut self.start) => Some(outcome),
            () = stopped.cancelled() => None,
        };
        let child = Arc::clone(&spec.id);
        match finished {
            Some(Ok(outcome)) => outcome_of(spec, outcome),
            Some(Err(_)) => {
                self.take_back(spec, deadline).await;
                let limit = spec.extras().start_timeout;
                Err(StartError::Timeout { child, limit })
            }
            None => {
                self.take_back(spec, deadline).await;
                Err(StartError::Stopping { child })
            }
        }
    }

    /// Only a nested supervisor has anything to take back in order; what else starts is cut off where it awaits.
    async fn take_back(&mut self, spec: &ChildSpec, deadline: Deadline) {
        self.life.cancel();
        if spec.kind != ChildKind::Supervisor {
            return;
        }
        let mut patience = Patience::of(spec, deadline);
        if let Some(Ok(started)) = patience.wait(&mut self.start).await {
            stop::stop(Arc::clone(&spec.id), started, None, patience).await;
        }
    }

    /// Nobody is left that wants it: takes it back, and is done when nothing of it is left.
    pub(in crate::otp) async fn undo(self, spec: Arc<ChildSpec>, deadline: Deadline) {
        let life = Arc::clone(&self.life);
        // Also when what it drops panics.
        let _verdict = OnDrop(Some(move || life.finish_from_left()));
        let mut launch = self;
        launch.take_back(&spec, deadline).await;
    }

    /// Goes on in a task of its own. `done` is called when it has come to its end, also by a panic.
    pub(in crate::otp) fn go_on(
        self,
        spec: ChildSpec,
        deadline: Deadline,
        done: impl FnOnce() + Send + 'static,
    ) -> Slow {
        let outcome = Arc::new(Mutex::new(None));
        let (incarnation, life) = (self.incarnation, Arc::clone(&self.life));
        let done = OnDrop(Some(done));
        let task = tokio::spawn({
            let outcome = Arc::clone(&outcome);
            async move {
                let _done = done;
                let finished = self
                    .finish(&spec, &CancellationToken::new(), deadline)
                    .await;
                *outcome.lock() = Some(finished);
            }
        });
        Slow {
            incarnation,
            task: AbortOnDropHandle::new(task),
            outcome,
            life,
        }
    }
}

impl Slow {
    /// What came of it; the supervisor was told that it is done.
    pub(in crate::otp) fn outcome(&self, spec: &ChildSpec) -> Outcome {
        let outcome = self.outcome.lock().take();
        // A start without an outcome panicked, in a drop of the child's own.
        outcome.unwrap_or_else(|| {
            let reason = ExitReason::Panic("its start panicked when it was dropped".into());
            let child = Arc::clone(&spec.id);
            Err(StartError::Failed { child, reason })
        })
    }

    /// Takes the start back. A nested supervisor takes its own children back, in order; anything else is cut off where it
    /// awaits.
    pub(in crate::otp) async fn end(mut self, spec: &ChildSpec, mut patience: Patience) -> Ended {
        let begin = Instant::now();
        self.life.cancel();
        if spec.kind == ChildKind::Supervisor {
            let _ = patience.wait(&mut self.task).await;
        }
        self.task.abort();
        let grace = patience.grace();
        if !self.task.is_finished() && time::timeout(grace, &mut self.task).await.is_err() {
            return stop::leaked_start(spec, begin.elapsed(), tokio::spawn(self.cut_off()));
        }
        let started = self.outcome.lock().take();
        match started {
            Some(Ok(Some(started))) => {
                stop::stop(Arc::clone(&spec.id), started, None, patience).await
            }
            _ => Ended::NOTHING,
        }
    }

    /// Cuts it off, and waits until nothing of it is left: it may have been done already, with nobody told yet.
    pub(in crate::otp) async fn cut_off(mut self) {
        self.life.cancel();
        self.task.abort();
        if !self.task.is_finished() {
            let _ = (&mut self.task).await;
        }
        let outcome = self.outcome.lock().take();
        if let Some(Ok(Some(mut started))) = outcome {
            started.kill();
            started.gone().await;
        }
        self.life.finish_from_left();
    }
}

fn outcome_of(spec: &ChildSpec, outcome: Result<Started, NotStarted>) -> Outcome {
    match outcome {
        Ok(started) => Ok(Some(started)),
        Err(NotStarted::Ignored) => Ok(None),
        Err(NotStarted::Failed(reason)) => Err(StartError::Failed {
            child: Arc::clone(&spec.id),
            reason,
        }),
    }
}

/// Calls this when it is dropped.
struct OnDrop<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            done();
        }
    }
}
