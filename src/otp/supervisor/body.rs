//! What a supervisor holds of one child.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::{runtime::Handle, task::JoinHandle};
use tokio_util::task::AbortOnDropHandle;

use super::{
    StartOutcome,
    launch::Slow,
    stop::{self, Ended, Patience},
};
use crate::otp::{
    ChildKind, ChildSpec, ExitReason, Reply, StartError, SupervisorError, start::Started,
    tree::TreeNode,
};

/// Who waits for a child to start.
pub(super) type StartAnswer = Reply<Result<StartOutcome, SupervisorError>>;
/// Who waits for a child to end.
pub(super) type EndAnswer = Reply<Result<(), SupervisorError>>;

pub(super) struct Body {
    pub(super) spec: ChildSpec,
    pub(super) node: Arc<TreeNode>,
    pub(super) life: Life,
    /// How its life ended by itself, while not all of it is gone.
    pub(super) own_end: Option<ExitReason>,
    pub(super) start_asked: Option<StartAnswer>,
    pub(super) ends_asked: Vec<EndAnswer>,
    /// Its next start.
    pub(super) timer: Option<AbortOnDropHandle<()>>,
    /// A deadline had passed before its turn came to be stopped.
    pub(super) hurried: bool,
    /// What looks whether it hangs.
    pub(super) probe: Option<AbortOnDropHandle<()>>,
}

/// What there is of a child. What it is doing is decided in `state`.
pub(super) enum Life {
    None,
    Starting(Slow),
    /// It runs, or has ended by itself and is not quite gone.
    Alive(Started),
    Stopping {
        task: JoinHandle<()>,
        ended: Arc<Mutex<Ended>>,
    },
    /// The task that waits until it is gone after all.
    Leaked(JoinHandle<()>),
}

impl Body {
    pub(super) fn new(spec: ChildSpec, node: Arc<TreeNode>) -> Self {
        Self {
            spec,
            node,
            life: Life::None,
            own_end: None,
            start_asked: None,
            ends_asked: Vec::new(),
            timer: None,
            hurried: false,
            probe: None,
        }
    }

    pub(super) fn take_life(&mut self) -> Life {
        self.probe = None;
        self.own_end = None;
        std::mem::replace(&mut self.life, Life::None)
    }

    /// How it was brought to its end, when that is over.
    pub(super) fn take_ended(&mut self) -> Ended {
        match self.take_life() {
            Life::Stopping { ended, .. } => std::mem::replace(&mut *ended.lock(), Ended::NOTHING),
            Life::None | Life::Starting(_) | Life::Alive(_) | Life::Leaked(_) => Ended::NOTHING,
        }
    }

    /// Its time is over before its turn has come: tells it to go, now, without waiting for it. What is being stopped already
    /// knows the deadline.
    pub(super) fn hurry(&mut self) {
        match &self.life {
            // A supervisor is not killed: it knows the deadline, and hurries its own children.
            Life::Alive(started) if self.spec.kind == ChildKind::Supervisor => started.stop(),
            Life::Alive(started) => {
                started.kill();
                self.hurried = true;
            }
            Life::None | Life::Starting(_) | Life::Stopping { .. } | Life::Leaked(_) => {}
        }
    }

    /// The supervisor ends: those that wait have no other answer to come.
    pub(super) fn answer_all(&mut self, ended: &Ended) {
        if let Some(reply) = self.start_asked.take() {
            let child = Arc::clone(&self.spec.id);
            reply.send(Err(StartError::Stopping { child }.into()));
        }
        for reply in self.ends_asked.drain(..) {
            reply.send(match &ended.leaked {
                Some(_) => Err(SupervisorError::Leaked(Arc::clone(&self.spec.id))),
                None => Ok(()),
            });
        }
    }
}

impl Life {
    /// Brings it to its end, whatever it is doing.
    pub(super) async fn end(
        self,
        spec: &ChildSpec,
        own_end: Option<ExitReason>,
        patience: Patience,
    ) -> Ended {
        match self {
            Self::Alive(started) => {
                stop::stop(Arc::clone(&spec.id), started, own_end, patience).await
            }
            Self::Starting(slow) => slow.end(spec, patience).await,
            Self::Leaked(task) if !task.is_finished() => {
                stop::leaked_start(spec, std::time::Duration::ZERO, task)
            }
            Self::None | Self::Stopping { .. } | Self::Leaked(_) => Ended::NOTHING,
        }
    }

    /// Cuts it off. What is returned ends when nothing of it is left.
    pub(super) fn abandon(self, own_end: Option<ExitReason>) -> Option<JoinHandle<()>> {
        match self {
            Self::None => None,
            Self::Alive(started) => {
                started.kill();
                started.conclude(own_end)
            }
            Self::Starting(slow) => spawn(slow.cut_off()),
            Self::Stopping { task, ended } => spawn(async move {
                let _ = task.await;
                let leaked = ended.lock().leaked.take();
                if let Some(leaked) = leaked {
                    let _ = leaked.await;
                }
            }),
            Self::Leaked(task) => Some(task),
        }
    }
}

/// Where the runtime itself ends, nothing is left to wait for.
pub(in crate::otp) fn spawn(
    work: impl Future<Output = ()> + Send + 'static,
) -> Option<JoinHandle<()>> {
    let runtime = Handle::try_current().ok()?;
    Some(runtime.spawn(work))
}
