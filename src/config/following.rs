//! Who is told without asking: actors in a group, and callbacks. Each is a supervised child that follows a subscription.

use std::sync::Arc;

use ractor::{ActorCell, ActorRef, Message};

use super::{AsPath, Configuration, Notice, ReadError, Subscription};
use crate::otp::{ChildSpec, Group, GroupEvent};

impl Configuration {
    /// A child that tells the actors of a group what stands at `path`: each the current value when it joins, and then every change in
    /// order, as messages. An actor that ends is out by itself; the child goes on over restarts of the server. Add it to any
    /// supervisor, such as `node.app()`.
    ///
    /// The group is the subscription: [`Group::join`] is to subscribe, [`Group::leave`] to end it. Messages go into unbounded
    /// mailboxes: an actor that may be too slow for that follows a [`Subscription`] of its own, which keeps to the newest state.
    ///
    /// ```
    /// use underpin::{config::{Configuration, Notice, ReadError}, otp::{ChildSpec, Groups}};
    ///
    /// enum Message {
    ///     Workers(Notice),
    /// }
    /// underpin::otp::message!(Message);
    ///
    /// impl From<Notice> for Message {
    ///     fn from(notice: Notice) -> Self {
    ///         Self::Workers(notice)
    ///     }
    /// }
    ///
    /// fn teller(config: &Configuration, groups: &Groups) -> Result<ChildSpec, ReadError> {
    ///     config.telling("workers", "app.workers", &groups.group::<Message>("workers"))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ReadError::InvalidPath`].
    pub fn telling<M: Message + From<Notice>>(
        &self,
        id: impl Into<Arc<str>>,
        path: impl AsPath,
        group: &Group<M>,
    ) -> Result<ChildSpec, ReadError> {
        let path = path.as_path()?.into_owned();
        let (config, group) = (self.clone(), group.clone());
        Ok(ChildSpec::task(id, move |ctx| {
            let telling = tell(config.subscribe_at(&path), group.clone());
            async move {
                tokio::select! {
                    () = ctx.cancelled() => {}
                    () = telling => {}
                }
                Ok(())
            }
        }))
    }

    /// A child that calls `callback` with what stands at `path`: the current value first, then every change in order. A callback that
    /// panics is called again with the current value when its supervisor has restarted the child.
    ///
    /// It runs on a worker of the runtime: it must be quick. One that is slow gets the newest state and how many it missed.
    ///
    /// # Errors
    ///
    /// [`ReadError::InvalidPath`].
    pub fn calling(
        &self,
        id: impl Into<Arc<str>>,
        path: impl AsPath,
        callback: impl Fn(Notice) + Send + Sync + 'static,
    ) -> Result<ChildSpec, ReadError> {
        let path = path.as_path()?.into_owned();
        let (config, callback) = (self.clone(), Arc::new(callback));
        Ok(ChildSpec::task(id, move |ctx| {
            let mut subscription = config.subscribe_at(&path);
            let callback = Arc::clone(&callback);
            async move {
                loop {
                    let notice = tokio::select! {
                        () = ctx.cancelled() => return Ok(()),
                        notice = subscription.recv() => notice,
                    };
                    match notice {
                        Some(notice) => callback(notice),
                        None => return Ok(()),
                    }
                }
            }
        }))
    }
}

/// Who is told, and what they know.
struct Told<M> {
    members: Vec<ActorRef<M>>,
    current: Notice,
}

/// Runs until the node is gone.
async fn tell<M: Message + From<Notice>>(mut subscription: Subscription, group: Group<M>) {
    let (members, mut news) = group.monitor();
    let Some(current) = subscription.recv().await else {
        return;
    };
    let mut told = Told::<M>::new(members.into_iter().map(ActorRef::from), current);
    loop {
        tokio::select! {
            notice = subscription.recv() => match notice {
                Some(notice) => told.change(notice),
                None => return,
            },
            event = news.next() => told.hear(event),
        }
    }
}

impl<M: Message + From<Notice>> Told<M> {
    fn new(members: impl Iterator<Item = ActorRef<M>>, current: Notice) -> Self {
        let members: Vec<_> = members.collect();
        for member in &members {
            send(member, &current);
        }
        Self { members, current }
    }

    fn change(&mut self, notice: Notice) {
        for member in &self.members {
            send(member, &notice);
        }
        self.current = Notice {
            record: None,
            missed: 0,
            ..notice
        };
    }

    fn hear(&mut self, event: GroupEvent) {
        match event {
            GroupEvent::Joined { actors, .. } => self.join(&actors),
            GroupEvent::Left { actors, .. } => self.leave(&actors),
            GroupEvent::Resync { groups, .. } => {
                let all: Vec<ActorCell> = groups.into_values().flatten().collect();
                let known = |cell: &ActorCell| {
                    let members = &mut self.members.iter();
                    members.any(|member| member.get_id() == cell.get_id())
                };
                let new: Vec<ActorCell> = all.iter().filter(|cell| !known(cell)).cloned().collect();
                self.members
                    .retain(|member| all.iter().any(|cell| cell.get_id() == member.get_id()));
                self.join(&new);
            }
        }
    }

    fn join(&mut self, actors: &[ActorCell]) {
        for actor in actors {
            let member = ActorRef::from(actor.clone());
            send(&member, &self.current);
            self.members.push(member);
        }
    }

    /// One who joined twice is told twice, until it has left twice.
    fn leave(&mut self, actors: &[ActorCell]) {
        for actor in actors {
            let place = self
                .members
                .iter()
                .position(|member| member.get_id() == actor.get_id());
            if let Some(place) = place {
                self.members.swap_remove(place);
            }
        }
    }
}

fn send<M: Message + From<Notice>>(member: &ActorRef<M>, notice: &Notice) {
    if member.send_message(M::from(notice.clone())).is_err() {
        tracing::trace!("a member ended; the group will say so");
    }
}
