//! Following the log. The log itself is the buffer: a subscription is a place in it, and reads on from there when it is pulled.

mod bookmark;
mod reading_on;

use std::{collections::VecDeque, io, num::NonZeroU32, sync::Arc, time::Duration};

use futures_util::{Stream, stream};
use ractor::Message;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use self::reading_on::Delivery;
use super::{Event, Events, StoreError, filter::Filter, log::Log, view::View as _};
use crate::{
    ids::EventId,
    otp::{Address, Group, NotSent, Permit},
};

pub use bookmark::Bookmark;
pub(super) use reading_on::read_on;

/// Where a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With what is stored from now on.
    Now,
    /// With the oldest event there is.
    Beginning,
    /// With what was stored after this event.
    After(EventId),
    /// Where another subscription of the same log had come to; also when the event it stands for was pruned meanwhile.
    At(Bookmark),
}

/// Follows the log: the events that a filter takes, in the order in which they were stored, from a place on and for ever after.
///
/// First what is stored already, then what comes, without a seam: nothing is left out and nothing comes twice, whether the store is
/// written, pruned, fails and is opened anew meanwhile. An event shows once it is as durable as the store's
/// [`Durability`](super::Durability) says. Events that are pruned before they are pulled do not come any more.
///
/// It is driven by whoever pulls: nothing is sent and nothing piles up, and at most some hundred events or a megabyte are read ahead. A
/// slow consumer reads what it missed from storage, and is never a reason for the writer to wait.
///
/// ```
/// # use std::{sync::Arc, time::Duration};
/// # use underpin::{events::{Events, Folder, Options, Query, Start}, ids::{IdGenerator, NodeId}};
/// # use underpin::{otp::{Intensity, Supervisor, SupervisorSpec}, telemetry::{self, Telemetry}};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let ids = Arc::new(IdGenerator::new(NodeId::new(7)?));
/// # let telemetry = Telemetry::new(telemetry::Options::default());
/// # let events = Events::new(Options::memory(), Arc::new(Folder::new("")), ids, &telemetry);
/// # let root = SupervisorSpec::new("root", Intensity::new(3, Duration::from_secs(5)));
/// # let root = Supervisor::start(root.child(events.child_spec())).await?;
/// let mut orders = events.subscribe(Query::new().kind_prefix("order."), Start::Now).await?;
///
/// let paid = events.store(events.event("order.paid").build()?).await?;
/// events.store(events.event("till.opened").build()?).await?;
/// let shipped = events.store(events.event("order.shipped").build()?).await?;
///
/// assert_eq!(orders.next().await?.id(), paid);
/// assert_eq!(orders.next().await?.id(), shipped);
/// # root.stop().await;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Subscription {
    events: Events,
    filter: Arc<Filter>,
    log: Arc<Log>,
    /// Segment and row up to which the log was read.
    place: (u64, u32),
    /// Read and not yet pulled.
    ahead: VecDeque<Delivery>,
    /// Behind the last event that was pulled.
    bookmark: Bookmark,
    /// When to read again after the log could not be read on.
    again_at: Option<Instant>,
}

/// What a member of a group that is fed drops when it is done with an event. When all have, another event may be sent.
#[derive(Debug, Clone)]
pub struct Credit(
    #[expect(dead_code, reason = "it is there to be dropped")] Arc<OwnedSemaphorePermit>,
);

/// How soon an index that could not be read is read again: it takes a repair, or a disk that answers again.
const AGAIN: Duration = Duration::from_secs(1);
impl Subscription {
    pub(super) fn new(
        events: Events,
        filter: Filter,
        log: Arc<Log>,
        place: (u64, u32),
        after: Option<EventId>,
    ) -> Self {
        let bookmark = Bookmark::new(&log, place, after);
        Self {
            events,
            filter: Arc::new(filter),
            log,
            place,
            ahead: VecDeque::new(),
            bookmark,
            again_at: None,
        }
    }

    /// The next event, waiting for it as long as it takes.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`], [`StoreError::Read`] for an event that cannot be read; the next call goes on behind it.
    /// [`StoreError::Index`], [`StoreError::Panicked`]: the log cannot be read on; the next call tries again, a second later at the
    /// earliest.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what a dropped future had read comes with the next call.
    pub async fn next(&mut self) -> Result<Event, StoreError> {
        loop {
            if let Some(delivery) = self.ahead.pop_front() {
                return self.hand_out(delivery);
            }
            self.look_ahead().await?;
        }
    }

    /// Reads on until something is read ahead.
    async fn look_ahead(&mut self) -> Result<(), StoreError> {
        while self.ahead.is_empty() {
            if let Some(at) = self.again_at {
                tokio::time::sleep_until(at).await;
                self.again_at = None;
            }
            // Enlisted before the looks, so that neither another log nor what is stored between is missed.
            let mut phases = self.events.shared.phases();
            if let Err(error) = self.follow_log().await {
                return Err(self.held_up(error));
            }
            let log = self.log.clone();
            let news = log.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            let before = self.place;
            if let Err(error) = self.read_on().await {
                return Err(self.held_up(error));
            }
            if self.ahead.is_empty() && self.place == before {
                tokio::select! {
                    () = news => {}
                    // The log may be another one now.
                    _ = phases.changed() => {}
                }
            }
        }
        Ok(())
    }

    /// What was read ahead and is there at once; `None` when the next event has to be read or waited for.
    #[must_use]
    pub fn next_at_once(&mut self) -> Option<Result<Event, StoreError>> {
        let delivery = self.ahead.pop_front()?;
        Some(self.hand_out(delivery))
    }

    /// Behind the last event that was pulled, at first where it began: where another subscription can go on.
    #[must_use]
    pub fn bookmark(&self) -> Bookmark {
        self.bookmark
    }

    /// The events as a stream, which never ends. An error is an item in its place.
    pub fn into_stream(self) -> impl Stream<Item = Result<Event, StoreError>> {
        stream::unfold(self, async |mut subscription| {
            let next = subscription.next().await;
            Some((next, subscription))
        })
    }

    /// Sends each event to an actor, until one cannot be read. Driven by the actor: no more messages are under way than its address
    /// [admits](crate::otp::Admission), each with a [`Permit`] that the actor drops when it is done with it. While nobody lives at the
    /// address, it waits. Run it as a task of your own, or of a supervisor.
    ///
    /// A message that was under way when its actor died is lost with the mailbox; an actor that must miss nothing keeps a bookmark with
    /// what it made of the events, and begins there.
    ///
    /// # Errors
    ///
    /// As [`Subscription::next`], with which it ends; called again, it goes on.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: an event that a dropped future had not sent comes next.
    pub async fn feed<M: Message>(
        &mut self,
        to: &Address<M>,
        mut message: impl FnMut(Event, Permit) -> M,
    ) -> StoreError {
        /// How soon an address is asked again that has no place, or where nobody is waited for.
        const SOON: Duration = Duration::from_millis(5);
        loop {
            if let Err(error) = self.look_ahead().await {
                return error;
            }
            if let Some(Ok(event)) = self.ahead.front().map(|delivery| &delivery.event) {
                let event = event.clone();
                while let Err(refused) = to.cast(|permit| message(event.clone(), permit)).await {
                    match refused {
                        NotSent::Down => {
                            // Waits as long as it takes, in steps; a task that is to end is told at once.
                            match to.wait_ready(Duration::from_mins(1)).await {
                                Ok(()) => tokio::task::yield_now().await,
                                Err(_) => tokio::time::sleep(SOON).await,
                            }
                        }
                        _ => tokio::time::sleep(SOON).await,
                    }
                }
            }
            // Only now: a feed that is dropped while it waits sends the event with its next call.
            if let Some(delivery) = self.ahead.pop_front()
                && let Err(error) = self.hand_out(delivery)
            {
                return error;
            }
        }
    }

    /// Sends each event to all members of a group, until one cannot be read. Driven by the slowest member: messages of at most `ahead`
    /// events are under way, each with a [`Credit`] that its member drops when it is done with it. Who joins later is told what comes
    /// later; while the group is empty, events go by. Run it as a task of your own, or of a supervisor.
    ///
    /// # Errors
    ///
    /// As [`Subscription::next`], with which it ends; called again, it goes on.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: an event that a dropped future had not sent comes next.
    pub async fn feed_group<M: Message>(
        &mut self,
        to: &Group<M>,
        ahead: NonZeroU32,
        mut message: impl FnMut(Event, Credit) -> M,
    ) -> StoreError {
        let places = Arc::new(Semaphore::new(ahead.get() as usize));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else {
                return StoreError::Panicked("the places of a feed are never closed".into());
            };
            let event = match self.next().await {
                Ok(event) => event,
                Err(error) => return error,
            };
            let credit = Credit(Arc::new(place));
            // Members that end meanwhile have no need of it.
            let _ = to.broadcast_with(|| message(event.clone(), credit.clone()));
        }
    }

    /// Whoever asks on and on is not answered with the same error as fast as it can be made.
    fn held_up(&mut self, error: StoreError) -> StoreError {
        if matches!(error, StoreError::Index(_) | StoreError::Panicked(_)) {
            self.again_at = Some(Instant::now() + AGAIN);
        }
        error
    }

    fn hand_out(&mut self, delivery: Delivery) -> Result<Event, StoreError> {
        let Ok(id) = EventId::new(delivery.id) else {
            return Err(StoreError::Index(io::ErrorKind::InvalidData.into()));
        };
        self.bookmark = Bookmark::new(&self.log, delivery.place, Some(id));
        delivery.event.map_err(|error| {
            self.log.count_unreadable(1);
            match error.kind() {
                io::ErrorKind::InvalidData => StoreError::Damaged { id },
                _ => StoreError::Read { id, error },
            }
        })
    }

    /// After the log was opened anew, finds the place again: damage may have cost rows before it. Another log is new from its beginning.
    async fn follow_log(&mut self) -> Result<(), StoreError> {
        let newest = self.events.shared.view().await?;
        if Arc::ptr_eq(&newest, &self.log) {
            return Ok(());
        }
        if newest.id() != self.log.id() {
            self.place = (0, 0);
            self.bookmark = Bookmark::new(&newest, self.place, None);
        } else if self.bookmark.id().is_some() && self.bookmark.place() == self.place {
            self.place = self.events.place_of(&newest, self.bookmark).await?;
        } else {
            // What it had read and was lost with the end of the log is not there: other rows come in its place.
            let place = self.place.min(newest.opened_at());
            self.place = match self.rows_lost(&newest, place.0) {
                0 => place,
                // Between the two nothing matched.
                _ if self.bookmark.id().is_some() => {
                    self.events.place_of(&newest, self.bookmark).await?
                }
                lost => (place.0, place.1.saturating_sub(lost)),
            };
        }
        self.log = newest;
        Ok(())
    }

    /// How many rows of a segment that is not the newest one are not there any more: later ones have moved up.
    fn rows_lost(&self, newest: &Log, base: u64) -> u32 {
        let rows = |log: &Log| {
            let segments = log.segments();
            let view = segments.iter().find(|view| view.base() == base);
            view.map_or(0, |view| view.rows())
        };
        if base == newest.opened_at().0 {
            return 0;
        }
        rows(&self.log).saturating_sub(rows(newest))
    }

    #[cfg(test)]
    pub(super) fn read_to(&self) -> (u64, u32) {
        self.place
    }

    async fn read_on(&mut self) -> Result<(), StoreError> {
        let (filter, segments, place) = (self.filter.clone(), self.log.segments(), self.place);
        let stretch = self
            .events
            .off_the_writer(move |cancelled, access| {
                read_on(&filter, &segments, place, cancelled, access)
            })
            .await?;
        self.place = stretch.place;
        self.ahead = stretch.deliveries.into();
        Ok(())
    }
}
