//! Following the log. The log itself is the buffer: a subscription is a place in it, and reads on from there when it is pulled.

use std::{
    collections::VecDeque,
    fmt, io,
    num::NonZeroU32,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{Stream, stream};
use ractor::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    ids::EventId,
    otp::{Address, Group, NotSent, Permit},
};

use super::{
    Event, Events, QueryError, StoreError,
    candidates::Candidates,
    columns::ZONE_ROWS,
    event::Texts,
    filter::Filter,
    log::Log,
    record::Record,
    search::Halt,
    view::{Access, View},
};

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

/// How far a subscription has come. As text it is `ID.LOG.SEGMENT.ROW`, good for as long as the log exists; the id is 0 where it does not
/// stand behind an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bookmark {
    id: Option<EventId>,
    /// Which log.
    log: u64,
    base: u64,
    /// The row behind the event's.
    row: u32,
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
}

/// What a member of a group that is fed drops when it is done with an event. When all have, another event may be sent.
#[derive(Debug, Clone)]
pub struct Credit(
    #[expect(dead_code, reason = "it is there to be dropped")] Arc<OwnedSemaphorePermit>,
);

/// An event, or the one that could not be read, and the row behind it.
#[derive(Debug)]
struct Delivery {
    id: u64,
    place: (u64, u32),
    event: Result<Event, io::Error>,
}

/// What reading on from a place found.
#[derive(Debug, Default)]
struct Stretch {
    deliveries: Vec<Delivery>,
    place: (u64, u32),
}

/// Events that are read ahead.
const AHEAD_EVENTS_MAX: usize = 256;
/// Bytes of events, as encoded, after which no more are read ahead.
const AHEAD_BYTES_MAX: usize = 1 << 20;
/// Rows that are searched for candidates at a time.
const WINDOW_ROWS: u32 = 8 * ZONE_ROWS;
/// Windows that are searched on the caller's own task: some tens of microseconds.
const QUICK_WINDOWS: usize = 4;
/// Windows of one stretch, after which a subscription of rare events says how far it came.
const WINDOWS_MAX: usize = 512;

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
        }
    }

    /// The next event, waiting for it as long as it takes.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`], [`StoreError::Read`] for an event that cannot be read; the next call goes on behind it.
    /// [`StoreError::Index`], [`StoreError::Panicked`]: the next call tries again.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what a dropped future had read comes with the next call.
    pub async fn next(&mut self) -> Result<Event, StoreError> {
        loop {
            if let Some(delivery) = self.ahead.pop_front() {
                return self.hand_out(delivery);
            }
            // Enlisted before the looks, so that neither another log nor what is stored between is missed.
            let mut phases = self.events.shared.phases();
            self.follow_log().await?;
            let log = self.log.clone();
            let news = log.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            let before = self.place;
            self.read_on().await?;
            if self.ahead.is_empty() && self.place == before {
                tokio::select! {
                    () = news => {}
                    // The log may be another one now.
                    _ = phases.changed() => {}
                }
            }
        }
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
    pub async fn feed<M: Message>(
        &mut self,
        to: &Address<M>,
        mut message: impl FnMut(Event, Permit) -> M,
    ) -> StoreError {
        /// How soon an address that refuses what it has no place for is asked again.
        const AGAIN: Duration = Duration::from_millis(5);
        loop {
            let event = match self.next().await {
                Ok(event) => event,
                Err(error) => return error,
            };
            while let Err(refused) = to.cast(|permit| message(event.clone(), permit)).await {
                match refused {
                    NotSent::Down => {
                        // Waits as long as it takes, in steps.
                        let _ = to.wait_ready(Duration::from_mins(1)).await;
                        tokio::task::yield_now().await;
                    }
                    _ => tokio::time::sleep(AGAIN).await,
                }
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
        } else if let Some(id) = self.bookmark.id
            && self.bookmark.place() == self.place
            && let Some(place) = self.events.place_after(&newest, id).await?
        {
            self.place = place;
        }
        self.log = newest;
        Ok(())
    }

    async fn read_on(&mut self) -> Result<(), StoreError> {
        let (filter, views, place) = (self.filter.clone(), self.log.views(), self.place);
        let stretch = self
            .events
            .off_the_writer(move |cancelled, access| {
                read_on(&filter, &views, place, cancelled, access)
            })
            .await?;
        self.place = stretch.place;
        self.ahead = stretch.deliveries.into();
        Ok(())
    }
}

/// Reads on from a place, up to what is shown, or until there is enough.
fn read_on(
    filter: &Filter,
    views: &[Arc<dyn View>],
    place: (u64, u32),
    cancelled: &AtomicBool,
    access: Access<'_>,
) -> Result<Stretch, Halt> {
    // Rows show in their order, so what shows of a segment was asked for after those behind it: if a later one has rows, this is complete.
    let rows: Vec<u32> = views.iter().rev().map(|view| view.rows()).collect();
    let mut reading = Reading {
        filter,
        access,
        cancelled,
        windows: 0,
        bytes: 0,
        record: Vec::new(),
        texts: Texts::default(),
        stretch: Stretch {
            deliveries: Vec::new(),
            place,
        },
    };
    for (view, rows) in views.iter().zip(rows.into_iter().rev()) {
        let from = match view.base() {
            base if base < place.0 => continue,
            base if base == place.0 => place.1.min(rows),
            _ => 0,
        };
        // Into a new segment only with its first row: until then more may show in the one before.
        if rows > from && !reading.segment(view.as_ref(), from, rows)? {
            break;
        }
    }
    Ok(reading.stretch)
}

struct Reading<'a> {
    filter: &'a Filter,
    access: Access<'a>,
    cancelled: &'a AtomicBool,
    windows: usize,
    bytes: usize,
    /// The record that is looked at: copied, so that no lock is held while it is decoded.
    record: Vec<u8>,
    texts: Texts,
    stretch: Stretch,
}

impl Reading<'_> {
    /// Reads rows of a segment; false when there is enough.
    fn segment(&mut self, view: &dyn View, from: u32, rows: u32) -> Result<bool, Halt> {
        let base = view.base();
        let Some(mut candidates) = Candidates::plan(self.filter, view, rows, self.access)? else {
            self.stretch.place = (base, rows);
            return Ok(true);
        };
        let mut found = Vec::new();
        let mut start = from;
        while start < rows {
            if self.cancelled.load(Relaxed) {
                return Err(Halt::Cancelled);
            }
            if self.windows == WINDOWS_MAX {
                return Ok(false);
            }
            if !self.access.is_patient() && self.windows == QUICK_WINDOWS {
                return Err(Halt::NotQuick);
            }
            self.windows += 1;
            let end = rows.min(start.saturating_add(WINDOW_ROWS));
            found.clear();
            candidates.within(start..end, &mut found)?;
            for candidate in &found {
                if self.has_enough() {
                    return Ok(false);
                }
                self.deliver(view, candidate.row, candidate.key.id)?;
            }
            self.stretch.place = (base, end);
            start = end;
        }
        Ok(true)
    }

    fn has_enough(&self) -> bool {
        self.stretch.deliveries.len() >= AHEAD_EVENTS_MAX || self.bytes >= AHEAD_BYTES_MAX
    }

    fn deliver(&mut self, view: &dyn View, row: u32, id: u64) -> Result<(), Halt> {
        let place = (view.base(), row + 1);
        let copy = &mut self.record;
        let read = view.read(row, self.access, &mut |found| {
            copy.clear();
            copy.extend_from_slice(found);
        });
        let event = match read {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(Halt::NotQuick),
            Err(error) => Some(Err(error)),
            Ok(()) => self.decode(),
        };
        self.stretch.place = place;
        if let Some(event) = event {
            self.stretch.deliveries.push(Delivery { id, place, event });
        }
        Ok(())
    }

    /// The event of the record, if the filter takes it.
    fn decode(&mut self) -> Option<io::Result<Event>> {
        let damaged = || Some(Err(io::ErrorKind::InvalidData.into()));
        let Some(record) = Record::read(&self.record) else {
            return damaged();
        };
        if !self.filter.takes(&record) {
            return None;
        }
        self.bytes += record.bytes.len();
        match self.filter.data_of(&record) {
            Ok(None) => None,
            Ok(Some(data)) => match Event::of(&record, data, &mut self.texts) {
                Some(event) => Some(Ok(event)),
                None => damaged(),
            },
            Err(()) => damaged(),
        }
    }
}

impl Bookmark {
    fn new(log: &Log, (base, row): (u64, u32), id: Option<EventId>) -> Self {
        let log = log.id();
        Self { id, log, base, row }
    }

    /// Whether it means a place in this log: it is of this one, or stands before everything in a log that had nothing yet.
    pub(super) fn is_of(&self, log: &Log) -> bool {
        self.log == log.id() || (self.id.is_none() && self.row == 0)
    }

    /// The event that it stands behind; `None` where a subscription began without one.
    #[must_use]
    pub fn id(&self) -> Option<EventId> {
        self.id
    }

    pub(super) fn place(&self) -> (u64, u32) {
        (self.base, self.row)
    }

    /// Behind all that shows.
    pub(super) fn end_of(views: &[Arc<dyn View>]) -> (u64, u32) {
        let with_rows = views.iter().rev().map(|view| (view.base(), view.rows()));
        let mut places: Vec<_> = with_rows.collect();
        let newest_shown = places.iter().position(|(_, rows)| *rows > 0);
        match newest_shown {
            Some(at) => places.swap_remove(at),
            None => places.last().copied().unwrap_or_default(),
        }
    }
}

impl fmt::Display for Bookmark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.id.map_or(0, EventId::get);
        write!(f, "{id}.{:016x}.{}.{}", self.log, self.base, self.row)
    }
}

impl FromStr for Bookmark {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        let read = || {
            let mut parts = text.split('.');
            let bookmark = Self {
                id: match parts.next()? {
                    "0" => None,
                    id => Some(id.parse().ok()?),
                },
                log: u64::from_str_radix(parts.next()?, 16).ok()?,
                base: parts.next()?.parse().ok()?,
                row: parts.next()?.parse().ok()?,
            };
            parts.next().is_none().then_some(bookmark)
        };
        read().ok_or_else(|| QueryError::Bookmark(text.to_owned()))
    }
}
