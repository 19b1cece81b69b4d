//! One who is told of changes: a stream with a bound, or an actor.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
};

use parking_lot::Mutex;
use ractor::{ActorRef, Message};
use tokio::sync::Notify;

/// Told under the lock of whatever changes, so that all hear all in one order.
pub(in crate::otp) enum Subscriber<E> {
    Stream(Arc<Inbox<E>>),
    Actor(Box<dyn Fn(&E) + Send + Sync>),
}

impl<E: Clone + 'static> Subscriber<E> {
    /// An observer that gets what it is told as messages of its own.
    pub(in crate::otp) fn actor<M: Message + From<E>>(observer: &ActorRef<M>) -> Self {
        let observer = observer.clone();
        Self::Actor(Box::new(move |event| {
            // An observer that has gone needs no news.
            let _ = observer.send_message(M::from(event.clone()));
        }))
    }

    pub(in crate::otp) fn tell(&self, event: &E) {
        match self {
            Self::Stream(inbox) => {
                inbox.backlog.lock().push(event.clone());
                inbox.arrived.notify_one();
            }
            Self::Actor(tell) => {
                // A conversion of the user's runs in there.
                if catch_unwind(AssertUnwindSafe(|| tell(event))).is_err() {
                    tracing::error!("an observer panicked when it was told of a change");
                }
            }
        }
    }
}

/// What has been told and not been read.
pub(in crate::otp) struct Inbox<E> {
    backlog: Mutex<Backlog<E>>,
    arrived: Notify,
}

impl<E> Inbox<E> {
    pub(in crate::otp) fn new(bound: usize) -> Arc<Self> {
        Arc::new(Self {
            backlog: Mutex::new(Backlog::new(bound)),
            arrived: Notify::new(),
        })
    }

    /// Waits until there is something to read. Cancel safe.
    pub(in crate::otp) async fn unread(&self) -> Unread<E> {
        loop {
            let mut arrived = pin!(self.arrived.notified());
            arrived.as_mut().enable();
            match self.pop() {
                Unread::Nothing => arrived.await,
                unread => return unread,
            }
        }
    }

    pub(in crate::otp) fn pop(&self) -> Unread<E> {
        self.backlog.lock().pop()
    }

    pub(in crate::otp) fn clear(&self) -> u64 {
        self.backlog.lock().clear()
    }
}

/// What one has not read yet. When it would be more than its bound, it becomes "so many were missed", and whoever reads
/// looks at the whole again.
#[derive(Debug)]
struct Backlog<E> {
    events: VecDeque<E>,
    bound: usize,
    missed: u64,
}

/// What there is to read.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::otp) enum Unread<E> {
    Nothing,
    Event(E),
    /// As many as this went by: look at the whole.
    Missed(u64),
}

impl<E> Backlog<E> {
    fn new(bound: usize) -> Self {
        Self {
            events: VecDeque::new(),
            bound,
            missed: 0,
        }
    }

    fn push(&mut self, event: E) {
        if self.missed == 0 && self.events.len() < self.bound {
            self.events.push_back(event);
        } else {
            self.missed += 1 + self.events.len() as u64;
            self.events = VecDeque::new();
        }
    }

    /// Forgets all, and tells how many those were.
    fn clear(&mut self) -> u64 {
        let unread = std::mem::take(&mut self.events).len() as u64;
        unread + std::mem::take(&mut self.missed)
    }

    /// After [`Unread::Missed`], nothing is missed any more: the whole that is looked at now holds it.
    fn pop(&mut self) -> Unread<E> {
        let missed = std::mem::take(&mut self.missed);
        if missed > 0 {
            return Unread::Missed(missed);
        }
        match self.events.pop_front() {
            Some(event) => Unread::Event(event),
            None => Unread::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_beyond_its_bound_becomes_a_number() {
        let mut backlog = Backlog::new(2);
        for event in 0..2 {
            backlog.push(event);
        }
        assert_eq!(backlog.pop(), Unread::Event(0));

        for event in 2..5 {
            backlog.push(event);
        }

        assert_eq!(backlog.pop(), Unread::Missed(4));
        assert_eq!(backlog.pop(), Unread::Nothing);
        backlog.push(9);
        assert_eq!(backlog.pop(), Unread::Event(9));

        for event in 0..2 {
            backlog.push(event);
        }
        assert_eq!(backlog.clear(), 2);
        assert_eq!((backlog.clear(), backlog.pop()), (0, Unread::Nothing));
    }
}
