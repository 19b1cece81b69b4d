//! The place that an address leads to, and who lives there.

use std::{
    any::Any,
    pin::pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use ractor::{ActorCell, ActorStatus, Message, MessagingErr};
use tokio::{sync::Notify, time};

use crate::otp::{
    Admission, CallError, ExitReason, NotSent, Unanswered,
    admission::{Door, Gate},
    asked::AskedToEnd,
    incarnation::Incarnation,
    sys::Debug,
};

/// The place that the supervisor refills. Not generic, so that supervisors can hold any.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(super) current: ArcSwapOption<Live>,
    filled: Notify,
    pub(super) door: Door,
    /// How what is here is shown, where that is said.
    words: OnceLock<Box<Words>>,
}

#[derive(Debug, Default)]
pub(super) struct Words {
    /// A `fn(&M) -> &'static str` for the address's `M`.
    pub(super) message_name: OnceLock<Box<dyn Any + Send + Sync>>,
    /// A `StateFormat<S>` for some `S`.
    pub(super) state_format: OnceLock<Arc<dyn Any + Send + Sync>>,
}

/// An actor that lives at an address.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) actor: ActorCell,
    pub(crate) incarnation: Arc<Incarnation>,
}

impl Slot {
    pub(super) fn new(admission: Admission) -> Self {
        Self {
            current: ArcSwapOption::empty(),
            filled: Notify::new(),
            door: Door::new(admission),
            words: OnceLock::new(),
        }
    }

    pub(crate) fn fill(&self, actor: ActorCell, incarnation: Arc<Incarnation>) {
        self.current
            .store(Some(Arc::new(Live { actor, incarnation })));
        self.filled.notify_waiters();
    }

    /// Empties the place, if it is still this incarnation's.
    pub(crate) fn vacate(&self, incarnation: &Incarnation) {
        let current = self.current.load();
        if current
            .as_ref()
            .is_some_and(|live| live.incarnation.id == incarnation.id)
        {
            self.current.store(None);
        }
    }

    /// Two children at one address would take it from each other.
    pub(crate) fn check_free(&self) -> Result<(), ExitReason> {
        let current = self.current.load();
        let taken = current
            .as_ref()
            .is_some_and(|live| live.incarnation.exit().is_none());
        if taken {
            let words =
                "its address leads to another running child already; give each child its own";
            return Err(ExitReason::Error(words.into()));
        }
        Ok(())
    }

    /// Who lives here now.
    pub(crate) fn life(&self) -> Option<Arc<Live>> {
        self.current.load_full()
    }

    pub(crate) fn gate(&self) -> &Gate {
        self.door.gate()
    }

    pub(crate) fn admitted(&self) -> usize {
        self.door.admitted()
    }

    pub(crate) fn debug(&self) -> &Debug {
        self.gate().debug()
    }

    pub(super) fn words(&self) -> &Words {
        self.words.get_or_init(Box::default)
    }

    /// How messages are named, where `M` is the address's own.
    pub(crate) fn message_name<M: 'static>(&self) -> Option<fn(&M) -> &'static str> {
        self.words
            .get()?
            .message_name
            .get()?
            .downcast_ref()
            .copied()
    }

    pub(crate) fn state_format(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.words.get()?.state_format.get().cloned()
    }

    /// Waits until somebody other than `gone` lives here. Whoever has been asked to end does not.
    pub(super) async fn filled(&self, gone: u64) -> Result<Arc<Live>, NotSent> {
        tokio::select! {
            biased;
            live = self.next_life(gone) => Ok(live),
            () = AskedToEnd::default() => Err(NotSent::Down),
        }
    }

    async fn next_life(&self, gone: u64) -> Arc<Live> {
        loop {
            let mut filled = pin!(self.filled.notified());
            filled.as_mut().enable();
            if let Some(live) = self.current.load_full()
                && live.incarnation.id != gone
            {
                return live;
            }
            filled.await;
        }
    }
}

pub(super) enum Handed<M> {
    Over,
    Back(M),
}

impl Live {
    pub(super) fn is_ending(&self) -> bool {
        self.incarnation.left().is_some() || self.actor.get_status() >= ActorStatus::Stopping
    }

    pub(super) fn hand<M: Message>(&self, message: M) -> Result<Handed<M>, NotSent> {
        match self.actor.send_message(message) {
            Ok(()) => Ok(Handed::Over),
            Err(MessagingErr::SendErr(message)) => Ok(Handed::Back(message)),
            Err(_) => Err(NotSent::Down),
        }
    }

    /// Ends the actor, and waits for that.
    pub(crate) async fn stop(
        &self,
        reason: ExitReason,
        timeout: Duration,
    ) -> Result<ExitReason, CallError> {
        self.incarnation.ask(reason.clone());
        self.incarnation.cancel();
        self.incarnation.resume();
        self.actor.stop(Some(reason.to_string()));
        match time::timeout(timeout, self.incarnation.ended()).await {
            Ok(ended) => Ok(ended),
            Err(_) => Err(Unanswered::Timeout(timeout).into()),
        }
    }
}
