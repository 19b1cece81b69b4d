//! What there is of one child. There may be 100,000 of them, so that one that just runs holds little.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::oneshot, task::JoinHandle, time::Instant};
use tokio_util::task::AbortOnDropHandle;

use super::ChildRef;
use crate::otp::{
    ChildSpec, ChildState, ExitReason, StartError, SupervisorError,
    start::Started,
    supervisor::{
        body::spawn,
        launch::Slow,
        record::Record,
        stop::{self, Ended, Patience},
    },
    tree::TreeNode,
};

/// Who waits for a start that takes more than a moment.
pub(super) type StartReply = oneshot::Sender<Result<ChildRef, SupervisorError>>;
/// Who waits for an end.
pub(super) type StopReply = oneshot::Sender<Result<(), SupervisorError>>;

pub(super) struct Child {
    pub(super) spec: Arc<ChildSpec>,
    pub(super) node: Arc<TreeNode>,
    /// Its latest incarnation's own id: what is told of an earlier one does nothing.
    pub(super) incarnation: u64,
    /// Lives so far.
    pub(super) lives: u64,
    pub(super) life: Life,
    pub(super) record: Option<Box<Record>>,
    /// What looks whether it hangs.
    pub(super) probe: Option<AbortOnDropHandle<()>>,
}

/// What a child is doing. The rare ones are kept apart, so that the usual one is small.
pub(super) enum Life {
    /// A start is being made; these want its end meanwhile.
    Launching(Vec<StopReply>),
    /// Its start took more than a moment. `None` when it is a restart.
    Starting(Box<(Slow, Option<StartReply>)>),
    Running {
        started: Started,
        since: Instant,
    },
    /// Its end was seen; its task has not quite finished.
    Ending(Box<(Started, Instant, ExitReason)>),
    /// The next start is due when the timer fires, or is in the mailbox already.
    Waiting {
        _timer: Option<AbortOnDropHandle<()>>,
    },
    Stopping(Box<Stopping>),
    /// It did not end when killed. It keeps its place while its task is there.
    Leaked {
        task: JoinHandle<()>,
        hung: Option<Box<Hung>>,
    },
}

pub(super) struct Stopping {
    pub(super) task: JoinHandle<()>,
    pub(super) ended: Arc<Mutex<Ended>>,
    /// Those that asked for it.
    pub(super) replies: Vec<StopReply>,
    pub(super) hung: Option<Box<Hung>>,
}

/// It was alive and did not work, and nobody asked for its end: this counts as one of its own.
pub(super) struct Hung {
    pub(super) lived: Duration,
    pub(super) reason: ExitReason,
}

impl Child {
    pub(super) fn new(spec: Arc<ChildSpec>, node: Arc<TreeNode>) -> Self {
        Self {
            spec,
            node,
            incarnation: 0,
            lives: 0,
            life: Life::Launching(Vec::new()),
            record: None,
            probe: None,
        }
    }

    pub(super) fn take_life(&mut self) -> Life {
        self.probe = None;
        std::mem::replace(&mut self.life, Life::Waiting { _timer: None })
    }

    pub(super) fn state(&self) -> ChildState {
        match &self.life {
            Life::Launching(_) | Life::Starting(_) if self.lives <= 1 => ChildState::Starting,
            Life::Launching(_) | Life::Starting(_) | Life::Ending(_) | Life::Waiting { .. } => {
                ChildState::Restarting
            }
            Life::Running { .. } => ChildState::Running,
            Life::Stopping(_) => ChildState::Stopping,
            Life::Leaked { .. } => ChildState::Leaked,
        }
    }
}

impl Life {
    /// Brings a child to its end, whatever it is doing.
    pub(super) async fn end(self, spec: &ChildSpec, patience: Patience) -> Ended {
        let id = Arc::clone(&spec.id);
        match self {
            Self::Running { started, .. } => stop::stop(id, started, None, patience).await,
            Self::Ending(ending) => {
                let (started, _, reason) = *ending;
                stop::stop(id, started, Some(reason), patience).await
            }
            Self::Starting(starting) => {
                let (slow, reply) = *starting;
                let ended = slow.end(spec, patience).await;
                if let Some(reply) = reply {
                    let _ = reply.send(Err(StartError::Stopping { child: id }.into()));
                }
                ended
            }
            Self::Stopping(stopping) => {
                let Stopping {
                    task,
                    ended,
                    replies,
                    ..
                } = *stopping;
                // A panic in there leaves no report.
                let _ = task.await;
                let ended = std::mem::replace(&mut *ended.lock(), Ended::NOTHING);
                answer(replies, &id, &ended);
                ended
            }
            Self::Leaked { task, .. } if !task.is_finished() => {
                stop::leaked_start(spec, Duration::ZERO, task)
            }
            Self::Leaked { .. } | Self::Waiting { .. } | Self::Launching(_) => Ended::NOTHING,
        }
    }

    /// Cuts it off; what is left of it ends with this task.
    pub(super) fn abandon(self) -> Option<JoinHandle<()>> {
        match self {
            Self::Running { started, .. } => {
                started.kill();
                started.conclude(None)
            }
            Self::Ending(ending) => ending.0.conclude(Some(ending.2)),
            Self::Stopping(stopping) => spawn(async move {
                let _ = stopping.task.await;
                let leaked = stopping.ended.lock().leaked.take();
                if let Some(leaked) = leaked {
                    let _ = leaked.await;
                }
            }),
            Self::Leaked { task, .. } => Some(task),
            Self::Starting(starting) => spawn(starting.0.cut_off()),
            // Timers end with their handles.
            Self::Launching(_) | Self::Waiting { .. } => None,
        }
    }
}

/// Tells those that wait for an end how it went. `name` says of whom.
pub(super) fn answer(replies: Vec<StopReply>, name: &Arc<str>, ended: &Ended) {
    for reply in replies {
        let _ = reply.send(match &ended.leaked {
            Some(_) => Err(SupervisorError::Leaked(Arc::clone(name))),
            None => Ok(()),
        });
    }
}
