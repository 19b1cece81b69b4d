//! The shell: takes messages in, hands each to [`Room`].

use std::sync::Arc;

use futures_util::future::BoxFuture;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    ChildReport, Message, ShutdownReport, SupervisorSpec,
    intensity::Window,
    room::{Place, Room},
};
use crate::otp::{
    ChildContext, ChildKind, ChildState, ExitReason, StartError, SupervisorError,
    address::Slot,
    incarnation::{Incarnation, Left},
    lifecycle::Reports,
    start::{Control, ExitNotice, NotStarted, Seat, Start, Started, spawn_actor},
    tree::TreeNode,
};

/// Marker type; all data lives in [`Room`].
pub(super) struct SupervisorActor {
    spec: SupervisorSpec,
    incarnation: Arc<Incarnation>,
}

pub(super) struct Arguments {
    node: Arc<TreeNode>,
    reports: Reports,
    /// Fires when the supervisor is to stop before it has started.
    cancel: CancellationToken,
}

impl Actor for SupervisorActor {
    type Msg = Message;
    type State = Room;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        me: ActorRef<Message>,
        arguments: Arguments,
    ) -> Result<Room, ActorProcessingErr> {
        let Arguments {
            node,
            reports,
            cancel,
        } = arguments;
        let shared = &self.spec.shared;
        shared.wait_for_the_left_behind().await;
        *shared.stopped.lock() = ShutdownReport::default();
        node.clear();
        shared.node.store(Some(Arc::clone(&node)));
        shared.reports.store(Some(Arc::new(reports.clone())));
        let place = Place {
            me,
            incarnation: Arc::clone(&self.incarnation),
            node,
            reports,
            shared: Arc::clone(shared),
        };
        let mut room = Room::new(place, Window::new(self.spec.intensity));
        room.start_all(self.spec.children.clone(), &cancel).await?;
        Ok(room)
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        room: &mut Room,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Exited {
                child,
                incarnation,
                asked_again,
            } => room.exited(child, incarnation, asked_again),
            Message::Gone { child, incarnation } => room.ended(child, incarnation),
            Message::StartDone { child, incarnation } => room.start_done(child, incarnation),
            Message::FailedAgain {
                child,
                incarnation,
                reason,
            } => room.failed_again(child, incarnation, reason),
            Message::Retry { child, incarnation } => room.retry(child, incarnation),
            Message::StopDone { child, incarnation } => room.stop_done(child, incarnation),
            Message::StartChild { spec, reply } => room.start_child(spec, reply),
            Message::TerminateChild { id, caller, reply } => {
                room.terminate_child(&id, caller, reply);
            }
            Message::RestartChild { id, reply } => room.restart_child(&id, reply),
            Message::DeleteChild { id, reply } => room.delete_child(&id, reply),
            Message::WhichChildren { reply } => reply.send(room.which()),
            Message::CountChildren { reply } => reply.send(room.count()),
            Message::ChildSpec { id, reply } => reply.send(room.spec(&id)),
        }
        Ok(())
    }

    /// ractor's own events matter only for the words of a stop; how a child ends is told by its own notice. Overridden
    /// also because the default stops the supervisor.
    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Message>,
        event: SupervisionEvent,
        room: &mut Room,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorTerminated(actor, _, words) = event {
            room.words_of_stop(actor.get_id(), words);
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<Message>,
        room: &mut Room,
    ) -> Result<(), ActorProcessingErr> {
        let begin = Instant::now();
        let children = room.stop_all().await;
        *self.spec.shared.stopped.lock() = ShutdownReport {
            children,
            took: begin.elapsed(),
        };
        self.incarnation
            .leave(Left::Reason(ExitReason::Shutdown(None)));
        Ok(())
    }
}

/// Starts the root of a tree.
pub(super) async fn start_root(spec: SupervisorSpec) -> Result<(), SupervisorError> {
    let id = Arc::clone(&spec.id);
    let shared = Arc::clone(&spec.shared);
    let start = NestedStart::new(spec);
    let now = Instant::now();
    let node = TreeNode::new(&id, None, ChildKind::Supervisor, start.slot(), now);
    let incarnation = Incarnation::new(1);
    node.starting(&incarnation, now);
    let seat = Seat {
        context: ChildContext {
            path: Arc::clone(&id),
            incarnation: 1,
            cancel: CancellationToken::new(),
        },
        notice: ExitNotice {
            overseer: None,
            child: 0,
            incarnation: Arc::clone(&incarnation),
        },
        incarnation,
        overseer: None,
        node: Arc::clone(&node),
        reports: Reports::new(),
    };
    let started = start.start(seat).await;
    let started = started.map_err(|error| StartError::Failed {
        child: id,
        reason: match error {
            NotStarted::Failed(reason) => reason,
            NotStarted::Ignored => ExitReason::Normal,
        },
    })?;
    node.enter(ChildState::Running, Instant::now());
    *shared.root.lock() = Some(started);
    Ok(())
}

/// A supervisor as a child of another.
pub(crate) struct NestedStart {
    spec: SupervisorSpec,
}

impl NestedStart {
    pub(crate) fn new(spec: SupervisorSpec) -> Self {
        Self { spec }
    }
}

impl Start for NestedStart {
    fn start(&self, seat: Seat) -> BoxFuture<'static, Result<Started, NotStarted>> {
        let spec = self.spec.clone();
        let checked = spec.check();
        let free = spec.shared.address.slot().check_free();
        Box::pin(async move {
            checked.map_err(|error| ExitReason::from_error(&error))?;
            free?;
            let slot = Arc::clone(spec.shared.address.slot());
            let arguments = Arguments {
                node: Arc::clone(&seat.node),
                reports: seat.reports.clone(),
                cancel: seat.context.cancel.clone(),
            };
            let actor = SupervisorActor {
                spec,
                incarnation: Arc::clone(&seat.incarnation),
            };
            let mut started = spawn_actor(actor, arguments, seat).await?;
            if let Control::Actor(cell) = &started.control {
                slot.fill(cell.clone(), Arc::clone(&started.incarnation));
            }
            started.slot = Some(slot);
            Ok(started)
        })
    }

    fn slot(&self) -> Option<Arc<Slot>> {
        Some(Arc::clone(self.spec.shared.address.slot()))
    }

    fn stopped_children(&self) -> Vec<ChildReport> {
        self.spec.shared.stopped.lock().children.clone()
    }
}
