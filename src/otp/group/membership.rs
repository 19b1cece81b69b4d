//! Supervised children that are members in each of their lives.

use std::sync::Arc;

use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use ractor::{ActorCell, Message};

use super::{Group, JoinError};
use crate::otp::{
    ChildSpec, ExitReason,
    start::{Around, Control, NotStarted, Seat, Start, Started},
};

impl ChildSpec {
    /// The child, an actor that understands `M`, is a member of `group` from each of its starts until its end. Monitors hear that
    /// one life has left before they hear that the next has joined.
    ///
    /// A child that is no such actor does not start.
    #[must_use]
    pub fn joins<M: Message>(mut self, group: &Group<M>) -> Self {
        let (group, before) = (group.clone(), Predecessor::default());
        self.start = Arc::new(Around {
            inner: self.start,
            start: move |inner: &dyn Start, seat: Seat| {
                start(inner, seat, group.clone(), Arc::clone(&before))
            },
        });
        self
    }
}

/// The actor of the child's last life.
type Predecessor = Arc<Mutex<Option<ActorCell>>>;

fn start<M: Message>(
    inner: &dyn Start,
    seat: Seat,
    group: Group<M>,
    before: Predecessor,
) -> BoxFuture<'static, Result<Started, NotStarted>> {
    let starting = inner.start(seat);
    async move {
        let started = starting.await?;
        join(&group, &started.control, &before)?;
        Ok(started)
    }
    .boxed()
}

fn join<M: Message>(
    group: &Group<M>,
    child: &Control,
    before: &Predecessor,
) -> Result<(), ExitReason> {
    let actor = match child {
        Control::Actor(actor) if actor.is_message_type_of::<M>() == Some(true) => actor,
        _ => {
            let name = group.name();
            let words = format!(
                "it cannot be in the group {name}, whose members are actors with other messages"
            );
            return Err(ExitReason::Error(words.into()));
        }
    };
    // That one is gone by now, also where ractor has not told so yet.
    if let Some(gone) = before.lock().replace(actor.clone()) {
        group.ended(gone);
    }
    match group.add(std::slice::from_ref(actor)) {
        // One that ended as soon as it had started is no failed start.
        Ok(()) | Err(JoinError::Ended { .. }) => Ok(()),
        Err(error) => Err(ExitReason::from_error(&error)),
    }
}
