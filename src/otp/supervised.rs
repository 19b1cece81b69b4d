//! The wrapper around a user's actor: it tells panic from error from stop, and lets nothing of the actor outlive its end.

use std::{pin::pin, sync::Arc};

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::Mutex;

use super::{
    ExitReason, Ignore,
    incarnation::{Incarnation, Left, discard},
    start::ExitNotice,
};

pub(crate) struct Supervised<A: Actor> {
    actor: A,
    /// Here and not with ractor, which sends the state of a killed actor to its supervisor: it goes in the actor's own
    /// task, before the notice, whatever the end. The lock is never contended.
    state: Mutex<Option<A::State>>,
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
            state: Mutex::new(None),
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

impl<A: Actor> Drop for Supervised<A> {
    /// The state of a killed actor goes here.
    fn drop(&mut self) {
        let _ = discard(self.state.get_mut().take());
    }
}

/// A callback after the state has gone cannot happen: every path that takes it ends the actor.
const GONE: &str = "the actor has ended";

impl<A: Actor> Actor for Supervised<A> {
    type Msg = A::Msg;
    type State = ();
    type Arguments = A::Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<A::Msg>,
        arguments: A::Arguments,
    ) -> Result<(), ActorProcessingErr> {
        let started = {
            let start = pin!(self.actor.pre_start(myself, arguments));
            self.incarnation.run_start(self.supervisor_id, start).await
        };
        match started {
            Ok(Ok(state)) => {
                *self.state.lock().await = Some(state);
                Ok(())
            }
            Ok(Err(error)) if error.is::<Ignore>() => {
                self.incarnation.leave(Left::Ignored);
                Err(error)
            }
            Ok(Err(error)) => self.note(Ok(Err(error)), &mut None),
            Err(panicked) => self.note(Err(panicked), &mut None),
        }
    }

    async fn post_start(
        &self,
        myself: ActorRef<A::Msg>,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let mut state = self.state.lock().await;
        let inner = state.as_mut().ok_or(GONE)?;
        let outcome = {
            let callback = pin!(self.actor.post_start(myself, inner));
            self.incarnation.run(callback).await
        };
        self.note(outcome, &mut state)
    }

    async fn handle(
        &self,
        myself: ActorRef<A::Msg>,
        message: A::Msg,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        // A try costs a third of a lock that could wait.
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(_) => self.state.lock().await,
        };
        let inner = state.as_mut().ok_or(GONE)?;
        self.incarnation.step();
        let outcome = {
            let callback = pin!(self.actor.handle(myself, message, inner));
            self.incarnation.run(callback).await
        };
        // What went wrong is noted before the message counts as handled: a caller whose reply was dropped looks at both.
        let noted = self.note(outcome, &mut state);
        self.incarnation.step();
        noted
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<A::Msg>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let mut state = self.state.lock().await;
        let inner = state.as_mut().ok_or(GONE)?;
        let outcome = {
            let callback = pin!(self.actor.handle_supervisor_evt(myself, event, inner));
            self.incarnation.run(callback).await
        };
        self.note(outcome, &mut state)
    }

    async fn post_stop(
        &self,
        myself: ActorRef<A::Msg>,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let mut state = self.state.lock().await;
        let inner = state.as_mut().ok_or(GONE)?;
        let outcome = {
            let callback = pin!(self.actor.post_stop(myself, inner));
            self.incarnation.run(callback).await
        };
        self.note(outcome, &mut state)?;
        match discard(state.take()) {
            Ok(()) => {
                self.incarnation.leave(Left::Clean);
                Ok(())
            }
            Err(panicked) => self.note(Err(panicked), &mut None),
        }
    }
}
