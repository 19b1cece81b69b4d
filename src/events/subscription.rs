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
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{
    ids::EventId,
    otp::{Address, Group, NotSent, Permit},
};

use super::{
    Event, Events, QueryError, StoreError,
    candidates::{Candidate, Candidates},
    columns::ZONE_ROWS,
    copied::Copied,
    event::Texts,
    filter::Filter,
    log::Log,
    record::Record,
    search::{Halt, QUICK_BYTES, QUICK_EVENTS},
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
    /// When to read again after the log could not be read on.
    again_at: Option<Instant>,
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
pub(super) struct Stretch {
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
/// How soon an index that could not be read is read again: it takes a repair, or a disk that answers again.
const AGAIN: Duration = Duration::from_secs(1);
/// Windows of one stretch, after which a subscription of rare events says how far it came.
const WINDOWS_MAX: usize = 512;

/// Before everything, in whatever log.
const BEGINNING: (u64, u32) = (0, 0);

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
        } else if self.bookmark.id.is_some() && self.bookmark.place() == self.place {
            self.place = self.events.place_of(&newest, self.bookmark).await?;
        } else {
            // What it had read and was lost with the end of the log is not there: other rows come in its place.
            let place = self.place.min(newest.opened_at());
            self.place = match self.rows_lost(&newest, place.0) {
                0 => place,
                // Between the two nothing matched.
                _ if self.bookmark.id.is_some() => {
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
            let views = log.views();
            let view = views.iter().find(|view| view.base() == base);
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
pub(super) fn read_on(
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
        looked_at: 0,
        bytes: 0,
        copied: Copied::default(),
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

#[cfg(test)]
impl Stretch {
    pub(super) fn found(&self) -> usize {
        self.deliveries.len()
    }

    pub(super) fn place(&self) -> (u64, u32) {
        self.place
    }
}

struct Reading<'a> {
    filter: &'a Filter,
    access: Access<'a>,
    cancelled: &'a AtomicBool,
    windows: usize,
    /// Events that were read, and bytes of their records.
    looked_at: usize,
    bytes: usize,
    copied: Copied,
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
            let mut rest = &found[..];
            while !rest.is_empty() {
                if self.has_enough()? {
                    return Ok(false);
                }
                let read = self.deliver(view, rest)?;
                rest = &rest[read..];
            }
            self.stretch.place = (base, end);
            start = end;
        }
        Ok(true)
    }

    /// Whether there is enough for now: on the caller's own task, what is decoded soon.
    fn has_enough(&self) -> Result<bool, Halt> {
        let found = self.stretch.deliveries.len();
        if found >= AHEAD_EVENTS_MAX || self.bytes >= AHEAD_BYTES_MAX {
            return Ok(true);
        }
        let is_quick = self.looked_at < QUICK_EVENTS && self.bytes < QUICK_BYTES;
        match found {
            _ if is_quick || self.access.is_patient() => Ok(false),
            0 => Err(Halt::NotQuick),
            _ => Ok(true),
        }
    }

    /// Reads some of these, the first at least, and answers how many.
    fn deliver(&mut self, view: &dyn View, found: &[Candidate]) -> Result<usize, Halt> {
        let rows = found.iter().take(Copied::RECORDS_MAX);
        let rows: Vec<_> = rows.map(|candidate| candidate.row).collect();
        self.copied.fill(view, &rows, self.access)?;
        let bytes = self.copied.all_bytes();
        if bytes > QUICK_BYTES && !self.access.is_patient() {
            return Err(Halt::NotQuick);
        }
        self.bytes += bytes;
        self.looked_at += self.copied.len();
        let read = &found[..self.copied.len()];
        for (at, candidate) in read.iter().enumerate() {
            let event = self.decode(at);
            let place = (view.base(), candidate.row + 1);
            self.stretch.place = place;
            if matches!(event, Some(Err(_))) && self.is_hidden(view, candidate.row)? {
                continue;
            }
            if let Some(event) = event {
                let id = candidate.key.id;
                self.stretch.deliveries.push(Delivery { id, place, event });
            }
        }
        Ok(read.len())
    }

    /// Whether a row was pruned since it was found.
    fn is_hidden(&self, view: &dyn View, row: u32) -> Result<bool, Halt> {
        let mut keys = Vec::new();
        view.keys(&[row], self.access, &mut keys)?;
        Ok(keys.first().is_none_or(|key| key.hidden))
    }

    /// The event of a copied record, if the filter takes it.
    fn decode(&mut self, place: usize) -> Option<io::Result<Event>> {
        let damaged = || Some(Err(io::ErrorKind::InvalidData.into()));
        let bytes = match self.copied.take(place) {
            Ok(bytes) => bytes,
            Err(error) => return Some(Err(error)),
        };
        let Some(record) = Record::read(bytes) else {
            return damaged();
        };
        if !self.filter.takes(&record) {
            return None;
        }
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
        self.log == log.id() || (self.id.is_none() && self.place() == BEGINNING)
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
        newest_shown.map_or(BEGINNING, |at| places.swap_remove(at))
    }

    /// Whether the row before it is that of its event, shown or pruned.
    pub(super) fn stands_behind_its_row(
        &self,
        views: &[Arc<dyn View>],
        id: EventId,
        access: Access<'_>,
    ) -> io::Result<bool> {
        let view = views.iter().find(|view| view.base() == self.base);
        let Some((view, row)) = view.zip(self.row.checked_sub(1)) else {
            return Ok(false);
        };
        if row >= view.rows() {
            return Ok(false);
        }
        let mut keys = Vec::new();
        view.keys(&[row], access, &mut keys)?;
        Ok(keys.first().is_some_and(|key| key.id == id.get()))
    }

    /// The place to go on from where its event is nowhere in the log any more.
    ///
    /// It may have been pruned with its segment: then nothing is wrong with the place. Or a power cut took the end of the log with it, as
    /// far as that was not synced, and the rows from where the log ended are other ones: they are all to come. Where they were written
    /// before this opening, nobody knows any more from which row on, and the whole segment comes.
    pub(super) fn without_its_event(
        &self,
        views: &[Arc<dyn View>],
        opened_at: (u64, u32),
    ) -> (u64, u32) {
        let place = self.place();
        let end = Self::end_of(views);
        let segment_is_there = views.iter().any(|view| view.base() == place.0);
        match self.id {
            Some(_) if segment_is_there && place > opened_at => opened_at.min(end),
            Some(_) if segment_is_there => (place.0, 0),
            _ => place.min(end),
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
