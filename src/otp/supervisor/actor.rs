//! The shell: takes messages in, hands each to [`Room`].

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::time::Instant;

use super::{
    Message, ShutdownReport, SupervisorSpec,
    room::{Place, Room},
};
use crate::otp::{
    ExitReason,
    incarnation::{Incarnation, Left},
    office::Arguments,
};

/// Marker type; all data lives in [`Room`].
pub(crate) struct SupervisorActor {
    pub(super) spec: SupervisorSpec,
    pub(super) incarnation: Arc<Incarnation>,
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
        let office = &self.spec.office;
        office.open(&node, &reports).await?;
        let place = Place {
            me,
            incarnation: Arc::clone(&self.incarnation),
            node,
            reports,
            office: Arc::clone(office),
        };
        place.node.set_budget(self.spec.intensity, Instant::now());
        let mut room = Room::new(place, self.spec.terms());
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
            Message::Gone {
                child,
                incarnation,
                reason,
            } => room.gone(child, incarnation, reason),
            Message::StartDone { child, incarnation } => room.start_done(child, incarnation),
            Message::StopDone { child, life } => room.stop_done(child, life),
            Message::Freed { child, life } => room.freed(child, life),
            Message::Unhealthy {
                child,
                incarnation,
                reason,
            } => room.unhealthy(child, incarnation, reason),
            Message::Due(timer) => room.due(timer),
            Message::StartChild { spec, reply } => room.start_child(*spec, reply),
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
            room.stopping(actor.get_id(), ExitReason::from_stop(words.as_deref()));
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
        *self.spec.office.stopped.lock() = ShutdownReport {
            children,
            unlisted: 0,
            took: begin.elapsed(),
        };
        let reason = self.spec.office.asked_reason();
        self.incarnation.leave(Left::Reason(reason));
        Ok(())
    }
}
