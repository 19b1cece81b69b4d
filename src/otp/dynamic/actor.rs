//! The shell: takes in what children tell, hands it to the [`Nursery`].

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::time::Instant;

use super::{
    DynamicSupervisorSpec,
    message::Message,
    nursery::{Nursery, Place},
    spec::Desk,
};
use crate::otp::{
    ExitReason,
    incarnation::{Incarnation, Left},
    office::Arguments,
};

/// All data lives in [`Nursery`].
pub(crate) struct DynamicActor {
    spec: DynamicSupervisorSpec,
    incarnation: Arc<Incarnation>,
}

impl DynamicActor {
    pub(super) fn new(spec: DynamicSupervisorSpec, incarnation: Arc<Incarnation>) -> Self {
        Self { spec, incarnation }
    }
}

/// While this lives, children can be started. A supervisor that ends without its stop, by a kill or a panic, takes its
/// children along.
pub(crate) struct Shift {
    desk: Arc<Desk>,
    nursery: Arc<Nursery>,
}

impl Drop for Shift {
    fn drop(&mut self) {
        self.desk.nursery.store(None);
        self.nursery.abandon();
    }
}

impl Actor for DynamicActor {
    type Msg = Message;
    type State = Shift;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        me: ActorRef<Message>,
        arguments: Arguments,
    ) -> Result<Shift, ActorProcessingErr> {
        let Arguments { node, reports, .. } = arguments;
        let desk = Arc::clone(&self.spec.desk);
        desk.office.open(&node, &reports).await?;
        node.set_budget(self.spec.intensity, Instant::now());
        let place = Place {
            me,
            incarnation: Arc::clone(&self.incarnation),
            node,
            reports,
            office: Arc::clone(&desk.office),
        };
        let (intensity, max) = (self.spec.intensity, self.spec.max_children);
        let nursery = Arc::new(Nursery::new(place, intensity, max));
        desk.nursery.store(Some(Arc::clone(&nursery)));
        Ok(Shift { desk, nursery })
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        shift: &mut Shift,
    ) -> Result<(), ActorProcessingErr> {
        let nursery = &shift.nursery;
        match message {
            Message::Exited {
                child,
                incarnation,
                asked_again,
            } => nursery.exited(child, incarnation, asked_again),
            Message::Gone { child, incarnation } => nursery.gone(child, incarnation),
            Message::StartDone { child, incarnation } => nursery.start_done(child, incarnation),
            Message::Retry { child, incarnation } => nursery.retry(child, incarnation),
            Message::StopDone { child, incarnation } => nursery.stop_done(child, incarnation),
            Message::Unhealthy {
                child,
                incarnation,
                reason,
            } => nursery.unhealthy(child, incarnation, reason),
        }
        Ok(())
    }

    /// ractor's own events matter only for the words of a stop; how a child ends is told by its own notice. Overridden
    /// also because the default stops the supervisor.
    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Message>,
        event: SupervisionEvent,
        shift: &mut Shift,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorTerminated(actor, _, words) = event {
            shift
                .nursery
                .stopping(actor.get_id(), ExitReason::from_stop(words.as_deref()));
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<Message>,
        shift: &mut Shift,
    ) -> Result<(), ActorProcessingErr> {
        let stopped = shift.nursery.stop_all().await;
        let office = &self.spec.desk.office;
        *office.stopped.lock() = stopped;
        self.incarnation.leave(Left::Reason(office.asked_reason()));
        Ok(())
    }
}
