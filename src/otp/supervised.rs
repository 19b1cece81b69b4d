//! The wrapper around a user's actor: it tells panic from error from stop, and lets nothing of the actor outlive its end.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};

use super::{
    ExitReason,
    incarnation::{Incarnation, Left, discard},
    start::ExitNotice,
};

pub(crate) struct Supervised<A> {
    actor: A,
    incarnation: Arc<Incarnation>,
    supervisor_id: u64,
    /// Last, so that the notice goes when everything else of the actor has gone.
    _notice: ExitNotice,
}

impl<A: Actor> Supervised<A> {
    pub(crate) fn new(
        actor: A,
        incarnation: Arc<Incarnation>,
        supervisor_id: u64,
        notice: ExitNotice,
    ) -> Self {
        Self {
            actor,
            incarnation,
            supervisor_id,
            _notice: notice,
        }
    }

    /// Notes how a callback ended. An end of the actor takes its state along, whose drop may panic too.
    fn note(
        &self,
        outcome: Result<Result<(), ActorProcessingErr>, ExitReason>,
        state: &mut Option<A::State>,
    ) -> Result<(), ActorProcessingErr> {
        let reason = match outcome {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => ExitReason::from_error(&*error),
            Err(panicked) => panicked,
        };
        let words = reason.to_string();
        self.incarnation.leave(Left::Reason(reason));
        let _ = discard(state.take());
        Err(words.into())
    }
}

/// A callback after the state has gone cannot happen: every path that takes it ends the actor.
const GONE: &str = "the actor has ended";

impl<A: Actor> Actor for Supervised<A> {
    type Msg = A::Msg;
    type State = Option<A::State>;
    type Arguments = A::Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<A::Msg>,
        arguments: A::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let started = self
            .incarnation
            .run_start(self.supervisor_id, self.actor.pre_start(myself, arguments))
            .await;
        match started {
            Ok(Ok(state)) => Ok(Some(state)),
            Ok(Err(error)) => self.note(Ok(Err(error)), &mut None).map(|()| None),
            Err(panicked) => self.note(Err(panicked), &mut None).map(|()| None),
        }
    }

    async fn post_start(
        &self,
        myself: ActorRef<A::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let inner = state.as_mut().ok_or(GONE)?;
        let outcome = self
            .incarnation
            .run(self.actor.post_start(myself, inner))
            .await;
        self.note(outcome, state)
    }

    async fn handle(
        &self,
        myself: ActorRef<A::Msg>,
        message: A::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let inner = state.as_mut().ok_or(GONE)?;
        self.incarnation.step();
        let outcome = self
            .incarnation
            .run(self.actor.handle(myself, message, inner))
            .await;
        // What went wrong is noted before the message counts as handled: a caller whose reply was dropped looks at both.
        let noted = self.note(outcome, state);
        self.incarnation.step();
        noted
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<A::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let inner = state.as_mut().ok_or(GONE)?;
        let outcome = self
            .incarnation
            .run(self.actor.handle_supervisor_evt(myself, event, inner))
            .await;
        self.note(outcome, state)
    }

    async fn post_stop(
        &self,
        myself: ActorRef<A::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let inner = state.as_mut().ok_or(GONE)?;
        let outcome = self
            .incarnation
            .run(self.actor.post_stop(myself, inner))
            .await;
        self.note(outcome, state)?;
        let dropped = discard(state.take());
        if dropped.is_ok() {
            self.incarnation.leave(Left::Clean);
            return Ok(());
        }
        self.note(dropped.map(|()| Ok(())), state)
    }
}
