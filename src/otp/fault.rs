//! What a test does to a child from outside: kill it, or make it panic. Only with the feature `testing`.

use std::{
    sync::{Arc, OnceLock},
    task::Waker,
};

use futures_util::task::AtomicWaker;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, Message};

use super::{Address, ExitReason, Supervisor, incarnation::Incarnation, start::Control};

/// Where a child can be hurt. Part of its incarnation; what is asked of it before the child runs happens when it does.
#[derive(Debug, Default)]
pub(crate) struct Fault {
    control: OnceLock<Control>,
    waker: AtomicWaker,
    killed: OnceLock<()>,
    words: OnceLock<Arc<str>>,
}

impl Fault {
    /// The child runs; this is what kills it.
    pub(crate) fn aim(&self, control: &Control) {
        let _ = self.control.set(control.clone());
        self.act();
    }

    /// Runs as the child, before each poll of its code.
    pub(crate) fn strike(&self, waker: &Waker) {
        self.waker.register(waker);
        if let (Some(words), Some(_)) = (self.words.get(), self.control.get()) {
            panic!("{words}");
        }
    }

    fn kill(&self) {
        let _ = self.killed.set(());
        self.act();
    }

    fn panic(&self, words: &str) {
        let _ = self.words.set(words.into());
        self.act();
    }

    /// To panic, a child that waits for something inside its code is woken; an actor that waits for its next message is
    /// nudged.
    fn act(&self) {
        let Some(control) = self.control.get() else {
            return;
        };
        if self.killed.get().is_some() {
            control.kill();
        }
        if self.words.get().is_some() {
            self.waker.wake();
            if let Control::Actor(actor) = control {
                tokio::spawn(nudge(actor.clone()));
            }
        }
    }
}

/// Lets an actor run a callback: ractor tells it that an actor has started beneath it.
async fn nudge(actor: ActorCell) {
    if let Ok((nudge, _)) = Actor::spawn_linked(None, Nudge, (), actor).await {
        nudge.stop(None);
    }
}

struct Nudge;

enum Nothing {}
crate::otp::message!(Nothing);

impl Actor for Nudge {
    type Msg = Nothing;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Nothing>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

/// One life of a child, in a test's hands.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) path: Arc<str>,
    incarnation: Arc<Incarnation>,
}

impl Subject {
    pub(crate) fn incarnation(&self) -> u64 {
        self.incarnation.number
    }

    pub(crate) fn kill(&self) {
        self.incarnation.fault.kill();
    }

    pub(crate) fn panic(&self, words: &str) {
        self.incarnation.fault.panic(words);
    }

    pub(crate) async fn ended(&self) -> ExitReason {
        self.incarnation.ended().await
    }
}

impl Supervisor {
    /// The life that the child at this path leads.
    pub(crate) fn subject(&self, path: &str) -> Option<Subject> {
        let node = self.node()?.find(&|node| &**node.path() == path)?;
        Some(Subject {
            path: Arc::clone(node.path()),
            incarnation: node.incarnation()?,
        })
    }

    /// Where the child stands that is reached through this address.
    pub(crate) fn path_of<M: Message>(&self, address: &Address<M>) -> Option<Arc<str>> {
        let node = self.node()?.find(&|node| node.is_at(address.slot()))?;
        Some(Arc::clone(node.path()))
    }
}
