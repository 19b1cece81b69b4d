//! The wrapper around a user's actor: it tells panic from error from stop, and lets nothing of the actor outlive its end.

use std::{pin::pin, sync::Arc};

use futures_util::future::{FutureExt as _, OptionFuture};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};

use super::{
    ExitReason, Ignore,
    address::Slot,
    incarnation::{Incarnation, Left},
    start::ExitNotice,
    sys::{Cell, Gone, Lent},
};

pub(crate) struct Supervised<A: Actor> {
    actor: A,
    incarnation: Arc<Incarnation>,
    supervisor_id: u64,
    watch: Watch<A::Msg>,
    /// Last, so that the state, and the notice of the end that is in there too, go when everything else of the actor has
    /// gone. Here and not with ractor, which sends the state of a killed actor to its supervisor.
    cell: Arc<Cell<A::State>>,
}

/// Who looks at the messages.
struct Watch<M> {
    /// `None` for the runtime's own supervisors, whose messages nobody looks at.
    slot: Option<Arc<Slot>>,
    name: Option<fn(&M) -> &'static str>,
}

impl<A: Actor> Supervised<A> {
    pub(crate) fn new(
        actor: A,
        incarnation: Arc<Incarnation>,
        supervisor_id: u64,
        slot: Option<Arc<Slot>>,
        notice: ExitNotice,
    ) -> Self {
        let cell = Arc::new(Cell::new(notice));
        incarnation.offer(Arc::downgrade(&cell));
        let name = slot.as_ref().and_then(|slot| slot.message_name());
        Self {
            actor,
            incarnation,
            supervisor_id,
            watch: Watch { slot, name },
            cell,
        }
    }

    /// Notes how a callback ended. An end of the actor takes its state along, whose drop may panic too.
    fn note(
        &self,
        outcome: Result<Result<(), ActorProcessingErr>, ExitReason>,
        state: Option<Lent<'_, A::State>>,
    ) -> Result<(), ActorProcessingErr> {
        let reason = match outcome {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => ExitReason::from_error(&*error),
            Err(panicked) => panicked,
        };
        let words = reason.to_string();
        self.incarnation.leave(Left::Reason(reason));
        let _ = state.map(Lent::discard);
        Err(words.into())
    }
}

impl<M: 'static> Watch<M> {
    /// Before each message.
    #[inline]
    fn look(&self, incarnation: &Incarnation, message: &M) {
        if let Some(name) = self.name {
            incarnation.set_message(name(message));
        }
        if let Some(slot) = &self.slot
            && slot.debug().is_on()
        {
            let name = self.name.map(|name| name(message));
            slot.debug().message_in::<M>(name);
        }
    }
}

impl<A: Actor> Drop for Supervised<A> {
    /// The state of a killed actor goes here.
    fn drop(&mut self) {
        let _ = self.cell.end();
    }
}

impl From<Gone> for ActorProcessingErr {
    /// A callback after the state has gone cannot happen: every path that takes it ends the actor.
    fn from(_: Gone) -> Self {
        "the actor has ended".into()
    }
}

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
                self.cell.put(Box::new(state));
                Ok(())
            }
            Ok(Err(error)) if error.is::<Ignore>() => {
                self.incarnation.leave(Left::Ignored);
                Err(error)
            }
            Ok(Err(error)) => self.note(Ok(Err(error)), None),
            Err(panicked) => self.note(Err(panicked), None),
        }
    }

    async fn post_start(
        &self,
        myself: ActorRef<A::Msg>,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let mut state = self.cell.lend().await?;
        let outcome = {
            let callback = pin!(self.actor.post_start(myself, &mut state));
            self.incarnation.run(callback).await
        };
        self.note(outcome, Some(state))
    }

    async fn handle(
        &self,
        myself: ActorRef<A::Msg>,
        message: A::Msg,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        // A try costs a third of what could wait.
        let mut state = match self.cell.try_lend() {
            Some(state) => state,
            None => self.cell.lend().await?,
        };
        self.watch.look(&self.incarnation, &message);
        self.incarnation.step();
        let outcome = {
            let callback = pin!(self.actor.handle(myself, message, &mut state));
            self.incarnation.run(callback).await
        };
        // What went wrong is noted before the message counts as handled: a caller whose reply was dropped looks at both.
        let noted = self.note(outcome, Some(state));
        self.incarnation.step();
        noted
    }

    /// In its own place: it is rare, and the future of each actor, which has room for it three times over, would be larger by it.
    ///
    /// Of a supervisor's children ractor's words of a stop are all that it wants: that they start and fail it knows by itself.
    fn handle_supervisor_evt(
        &self,
        myself: ActorRef<A::Msg>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> impl Future<Output = Result<(), ActorProcessingErr>> + Send {
        let wanted =
            self.watch.slot.is_some() || matches!(event, SupervisionEvent::ActorTerminated(..));
        let heard = wanted.then(move || {
            Box::pin(async move {
                let mut state = self.cell.lend().await?;
                let outcome = {
                    let callback =
                        pin!(self.actor.handle_supervisor_evt(myself, event, &mut state));
                    self.incarnation.run(callback).await
                };
                self.note(outcome, Some(state))
            })
        });
        OptionFuture::from(heard).map(|heard| heard.unwrap_or(Ok(())))
    }

    async fn post_stop(
        &self,
        myself: ActorRef<A::Msg>,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        // Also when it was stopped past its address.
        self.cell.resume();
        let mut state = self.cell.lend().await?;
        let outcome = {
            let callback = pin!(self.actor.post_stop(myself, &mut state));
            self.incarnation.run(callback).await
        };
        if !matches!(outcome, Ok(Ok(()))) {
            return self.note(outcome, Some(state));
        }
        match state.discard() {
            Ok(()) => {
                self.incarnation.leave(self.incarnation.asked_end());
                Ok(())
            }
            Err(panicked) => self.note(Err(panicked), None),
        }
    }
}
