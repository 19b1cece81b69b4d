//! Hears what ractor's `pg` tells, and has the scope look again.

use std::sync::{Arc, Weak};

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent, pg::GroupChangeMessage};

use super::scope::{News, Scope};

pub(super) struct Keeper;

/// Its news come on another way.
pub(super) enum Nothing {}
crate::otp::message!(Nothing);

impl Keeper {
    /// `None` where no runtime is to run it; the next who needs it tries again.
    pub(super) fn start(scope: &Arc<Scope>) -> Option<ActorRef<Nothing>> {
        let started = ractor::ActorRuntime::spawn_instant(None, Self, Arc::downgrade(scope));
        started.ok().map(|(keeper, _)| keeper)
    }
}

impl Actor for Keeper {
    type Msg = Nothing;
    type State = Weak<Scope>;
    type Arguments = Weak<Scope>;

    async fn pre_start(
        &self,
        _: ActorRef<Nothing>,
        scope: Weak<Scope>,
    ) -> Result<Weak<Scope>, ActorProcessingErr> {
        Ok(scope)
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Nothing>,
        event: SupervisionEvent,
        scope: &mut Weak<Scope>,
    ) -> Result<(), ActorProcessingErr> {
        let SupervisionEvent::ProcessGroupChanged(change) = event else {
            return Ok(());
        };
        let (news, group, actors) = match change {
            GroupChangeMessage::Join(_, group, actors) => (News::Joined, group, actors),
            GroupChangeMessage::Leave(_, group, actors) => (News::Left, group, actors),
        };
        if let Some(scope) = scope.upgrade() {
            scope.reconcile(news, &group, &actors);
        }
        Ok(())
    }
}
