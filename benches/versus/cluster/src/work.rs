//! What the other process does for all sides: it counts what arrives, and its actors.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::Notify;

use crate::MEMBERS;

/// How many broadcasts all members have got.
#[derive(Default)]
pub(crate) struct Arrivals {
    count: AtomicU64,
    /// All members have got one more.
    all: Notify,
}

impl Arrivals {
    fn one(&self) {
        let count = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        if count.is_multiple_of(MEMBERS) {
            self.all.notify_waiters();
        }
    }

    pub(crate) fn broadcasts(&self) -> u64 {
        self.count.load(Ordering::SeqCst) / MEMBERS
    }

    /// Waits until all members have got this many.
    pub(crate) async fn until(&self, broadcasts: u64) {
        loop {
            let mut all = pin!(self.all.notified());
            all.as_mut().enable();
            if self.count.load(Ordering::SeqCst) >= broadcasts * MEMBERS {
                return;
            }
            all.await;
        }
    }
}

/// An actor that hears a broadcast.
pub(crate) struct Member<M>(pub(crate) Arc<Arrivals>, std::marker::PhantomData<fn(M)>);

impl<M: ractor::Message> Actor for Member<M> {
    type Msg = M;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<M>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, _: ActorRef<M>, _: M, (): &mut ()) -> Result<(), ActorProcessingErr> {
        self.0.one();
        Ok(())
    }
}

pub(crate) async fn members<M: ractor::Message>(
    arrivals: &Arc<Arrivals>,
) -> anyhow::Result<Vec<ActorRef<M>>> {
    let mut members = Vec::new();
    for _ in 0..MEMBERS {
        let member = Member(Arc::clone(arrivals), std::marker::PhantomData);
        members.push(Actor::spawn(None, member, ()).await?.0);
    }
    Ok(members)
}
