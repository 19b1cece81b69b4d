//! Who is told without asking: actors in a group, and callbacks. Each is a supervised child that follows a subscription.

use std::{
    collections::{BTreeMap, HashSet, btree_map::Entry},
    sync::Arc,
};

use ractor::{ActorCell, ActorId, ActorRef, Message};

use super::{AsPath, Configuration, Notice, ReadError, Subscription};
use crate::otp::{ChildSpec, Group, GroupEvent};

impl Configuration {
    /// A child that tells the actors of a group what stands at `path`: each the current value when it joins, and then every change in
    /// order, as messages. An actor that ends is out by itself; the child goes on over restarts of the server. Add it to any
    /// supervisor, such as `node.app()`.
    ///
    /// The group is the subscription: [`Group::join`] is to subscribe, [`Group::leave`] to end it. One that joined twice is told once,
    /// until it has left as often. Messages go into unbounded
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

/// Who is told, each with how often it joined, and what they know.
struct Told<M> {
    /// In the order in which they were made, which is mostly that of their memory.
    members: BTreeMap<ActorId, (ActorRef<M>, usize)>,
    current: Notice,
}

/// Runs until the node is gone.
async fn tell<M: Message + From<Notice>>(mut subscription: Subscription, group: Group<M>) {
    let (members, mut news) = group.monitor();
    let Some(current) = subscription.recv().await else {
        return;
    };
    let mut told = Told::<M> {
        members: BTreeMap::new(),
        current,
    };
    told.join(&members);
    loop {
        tokio::select! {
            // Who left before a change is not told of it.
            biased;
            event = news.next() => told.hear(event),
            notice = subscription.recv() => match notice {
                Some(notice) => told.change(notice),
                None => return,
            },
        }
    }
}

impl<M: Message + From<Notice>> Told<M> {
    fn change(&mut self, notice: Notice) {
        for (member, _) in self.members.values() {
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
                let here: HashSet<ActorId> = all.iter().map(ActorCell::get_id).collect();
                self.members.retain(|id, (_, times)| {
                    *times = 0; // counted anew
                    here.contains(id)
                });
                self.join(&all);
            }
        }
    }

    fn join(&mut self, actors: &[ActorCell]) {
        for actor in actors {
            let (_, times) = self.members.entry(actor.get_id()).or_insert_with(|| {
                let member = ActorRef::from(actor.clone());
                send(&member, &self.current);
                (member, 0)
            });
            *times += 1;
        }
    }

    fn leave(&mut self, actors: &[ActorCell]) {
        for actor in actors {
            if let Entry::Occupied(mut member) = self.members.entry(actor.get_id()) {
                member.get_mut().1 -= 1;
                if member.get().1 == 0 {
                    member.remove();
                }
            }
        }
    }
}

fn send<M: Message + From<Notice>>(member: &ActorRef<M>, notice: &Notice) {
    if member.send_message(M::from(notice.clone())).is_err() {
        tracing::trace!("a member ended; the group will say so");
    }
}
