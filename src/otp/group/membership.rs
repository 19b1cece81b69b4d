//! Supervised children that are members in each of their lives.

use std::sync::Arc;

use futures_util::{FutureExt, future::BoxFuture};
use ractor::Message;

use super::{Group, JoinError};
use crate::otp::{
    ChildSpec, ExitReason,
    start::{Around, Control, NotStarted, Seat, Start, Started},
};

impl ChildSpec {
    /// The child, an actor that understands `M`, is a member of `group` from each of its starts until its end.
    ///
    /// A child that is no such actor does not start.
    #[must_use]
    pub fn joins<M: Message>(mut self, group: &Group<M>) -> Self {
        let group = group.clone();
        self.start = Arc::new(Around {
            inner: self.start,
            start: move |inner: &dyn Start, seat: Seat| start(inner, seat, group.clone()),
        });
        self
    }
}

fn start<M: Message>(
    inner: &dyn Start,
    seat: Seat,
    group: Group<M>,
) -> BoxFuture<'static, Result<Started, NotStarted>> {
    let starting = inner.start(seat);
    async move {
        let started = starting.await?;
        join(&group, &started.control)?;
        Ok(started)
    }
    .boxed()
}

fn join<M: Message>(group: &Group<M>, child: &Control) -> Result<(), ExitReason> {
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
    match group.add(std::slice::from_ref(actor)) {
        // One that ended as soon as it had started is no failed start.
        Ok(()) | Err(JoinError::Ended { .. }) => Ok(()),
        Err(error) => Err(ExitReason::from_error(&error)),
    }
}
