//! Supervised children that are members in each of their lives.

use std::sync::Arc;

use futures_util::{FutureExt, future::BoxFuture};
use ractor::Message;

use super::Group;
use crate::otp::{
    ChildSpec, ExitReason,
    address::Slot,
    start::{Control, NotStarted, Seat, Start, Started},
    supervisor::ChildReport,
};

impl ChildSpec {
    /// The child, an actor that understands `M`, is a member of `group` from each of its starts until its end.
    ///
    /// A child that is no such actor does not start.
    #[must_use]
    pub fn joins<M: Message>(mut self, group: &Group<M>) -> Self {
        self.start = Arc::new(JoiningStart {
            inner: self.start,
            group: group.clone(),
        });
        self
    }
}

struct JoiningStart<M> {
    inner: Arc<dyn Start>,
    group: Group<M>,
}

impl<M: Message> Start for JoiningStart<M> {
    fn start(&self, seat: Seat) -> BoxFuture<'static, Result<Started, NotStarted>> {
        let starting = self.inner.start(seat);
        let group = self.group.clone();
        async move {
            let started = starting.await?;
            join(&group, &started.control)?;
            Ok(started)
        }
        .boxed()
    }

    fn slot(&self) -> Option<Arc<Slot>> {
        self.inner.slot()
    }

    fn stopped_children(&self) -> Vec<ChildReport> {
        self.inner.stopped_children()
    }
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
        Ok(()) | Err(super::JoinError::Ended { .. }) => Ok(()),
        Err(error) => Err(ExitReason::from_error(&error)),
    }
}
