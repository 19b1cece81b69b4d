//! The reading half of the handle.

use std::{
    any::Any,
    cell::Cell,
    collections::HashSet,
    io,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use futures_util::{Stream, StreamExt, stream};

use crate::ids::{CorrelationId, EventId};

use super::{
    Bookmark, Causes, Effects, Event, Events, Explanation, Order, Page, Query, QueryError,
    STATE_CHANGE, Start, StoreError, Subscription, Timeline,
    lineage::{BYTES_MAX, Descent, End},
    log::Log,
    record::Record,
    search::{Asked, Halt, PAGE_BYTES_MAX, QUICK_BYTES, Search, Work},
    storing::unreadable,
    view::{Access, View},
};

impl Events {
    /// One event; `None` if there is none of that id.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`], [`StoreError::Read`], [`StoreError::Index`] if it cannot be read; [`StoreError::Down`] if the store was
    /// never open.
    pub async fn get(&self, id: EventId) -> Result<Option<Event>, StoreError> {
        Ok(self.sized(id).await?.map(|(event, _)| event))
    }

    /// An event, and how many bytes it has as encoded.
    async fn sized(&self, id: EventId) -> Result<Option<(Event, usize)>, StoreError> {
        let log = self.shared.view().await?;
        let segments = log.segments();
        let found = self
            .off_the_writer(move |_, access| get(&segments, id, access))
            .await?;
        match found {
            Some(Ok(found)) => Ok(Some(found)),
            Some(Err(error)) => {
                log.count_unreadable(1);
                Err(unreadable(id, error))
            }
            None => Ok(None),
        }
    }

    /// The events that a query asks for. It is answered beside the writer, from what is stored when it starts.
    ///
    /// # Errors
    ///
    /// [`StoreError::Query`] if it cannot be answered; [`StoreError::Index`]; [`StoreError::Panicked`]; [`StoreError::Down`] if the store
    /// was never open.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe; a query of which the future is dropped stops its work.
    pub async fn query(&self, query: Query) -> Result<Page, StoreError> {
        let (page, _) = self.search(query, Asked::Page(PAGE_BYTES_MAX)).await?;
        Ok(page)
    }

    /// Answers a query, and tells how: which index each segment was searched by, and how much was looked at.
    ///
    /// # Errors
    ///
    /// As [`Events::query`].
    pub async fn explain(&self, query: Query) -> Result<Explanation, StoreError> {
        let begin = Instant::now();
        let text = query.to_string();
        let (page, work) = self.search(query, Asked::Explained).await?;
        Ok(Explanation::of(text, &page, work, begin.elapsed()))
    }

    /// As [`Events::query`], with a page that ends after so many bytes of events, as encoded.
    #[cfg(feature = "cluster")]
    pub(crate) async fn page(&self, query: Query, bytes: usize) -> Result<Page, StoreError> {
        let (page, _) = self.search(query, Asked::Page(bytes)).await?;
        Ok(page)
    }

    async fn search(&self, query: Query, asked: Asked) -> Result<(Page, Work), StoreError> {
        query.check()?;
        self.shared.metrics.queries.inc();
        let log = self.shared.view().await?;
        let segments = log.segments();
        let work = move |cancelled: &AtomicBool, access: Access<'_>| {
            Search::new(&query, asked, &segments, cancelled, access).page()
        };
        let (page, work) = self.off_the_writer(work).await?;
        log.count_unreadable(page.unreadable.len() as u64);
        Ok((page, work))
    }

    /// How many events a query asks for, whatever its limit: what comes behind its cursor, without those that it skips.
    ///
    /// # Errors
    ///
    /// As [`Events::query`].
    pub async fn count(&self, query: Query) -> Result<u64, StoreError> {
        query.check()?;
        self.shared.metrics.queries.inc();
        let segments = self.shared.view().await?.segments();
        self.off_the_writer(move |cancelled, access| {
            Search::new(&query, Asked::Count, &segments, cancelled, access).count()
        })
        .await
    }

    /// The answer to a query page by page, in bounded memory whatever its limit, which here may be above [`Query::LIMIT_MAX`].
    ///
    /// Not one snapshot: each page is answered from what is stored when it is asked for. What is stored meanwhile behind the place that
    /// was reached is part of the answer.
    #[must_use]
    pub fn pages(&self, query: Query) -> Pages {
        Pages {
            events: self.clone(),
            left: query.limit,
            query: Some(query),
            part: Pages::PART_FIRST,
            bytes: 0,
        }
    }

    /// The answer to a query as a stream, in bounded memory; read as it is pulled, as [`Events::pages`]. An event that cannot be read is
    /// an error behind those of its page, after which the stream goes on; any other error ends it.
    pub fn stream(&self, query: Query) -> impl Stream<Item = Result<Event, StoreError>> + use<> {
        let pages = stream::unfold(self.pages(query), async |mut pages| {
            let page = pages.next().await.transpose()?;
            Some((page, pages))
        });
        pages.flat_map(|page| {
            let items: Vec<_> = match page {
                Ok(Page {
                    events, unreadable, ..
                }) => {
                    let damaged = |id| Err(StoreError::Damaged { id });
                    let events = events.into_iter().map(Ok);
                    events.chain(unreadable.into_iter().map(damaged)).collect()
                }
                Err(error) => vec![Err(error)],
            };
            stream::iter(items)
        })
    }

    /// The `n` latest events, the latest first.
    ///
    /// # Errors
    ///
    /// As [`Events::query`].
    pub async fn recent(&self, n: usize) -> Result<Page, StoreError> {
        self.query(Query::new().order(Order::NewestFirst).limit(n))
            .await
    }

    /// What belongs together, the earliest first; the first [`Query::LIMIT_DEFAULT`], with a cursor if there are more.
    ///
    /// # Errors
    ///
    /// As [`Events::query`].
    pub async fn correlation(&self, id: &CorrelationId) -> Result<Page, StoreError> {
        self.query(Query::new().correlation(id.clone())).await
    }

    /// Why an event came about: itself, its parent, the parent's parent, up to the first cause, at most [`Causes::EVENTS_MAX`] and 32 MiB
    /// of them; `None` if there is no such event.
    ///
    /// # Errors
    ///
    /// As [`Events::get`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn causes(&self, id: EventId) -> Result<Option<Causes>, StoreError> {
        let Some((event, mut bytes)) = self.sized(id).await? else {
            return Ok(None);
        };
        let mut seen = HashSet::from([id]);
        let mut next = event.parent();
        let mut events = vec![event];
        let end = loop {
            let Some(parent) = next else {
                break End::Root;
            };
            if !seen.insert(parent) {
                break End::Circle { id: parent };
            }
            if events.len() == Causes::EVENTS_MAX || bytes > BYTES_MAX {
                break End::TooLong;
            }
            let Some((event, len)) = self.sized(parent).await? else {
                break End::Missing { id: parent };
            };
            bytes += len;
            next = event.parent();
            events.push(event);
            let_others_run(events.len()).await;
        };
        Ok(Some(Causes { events, end }))
    }

    /// What came of an event: those it caused, those that they caused, and so on, each before its own effects, the earliest first; at most
    /// [`Effects::EVENTS_MAX`], and 32 MiB of them. The event itself need not be stored any more.
    ///
    /// # Errors
    ///
    /// As [`Events::query`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn effects(&self, id: EventId) -> Result<Effects, StoreError> {
        let (event, bytes) = self.sized(id).await?.unzip();
        let mut descent = Descent::from(id, bytes.unwrap_or(0));
        let mut looks = 0;
        while let Some(cause) = descent.next_cause() {
            let (events, bytes) = descent.room();
            let query = Query::new().parent(cause.id).limit(events);
            let (page, work) = self.search(query, Asked::Page(bytes)).await?;
            if !descent.take(cause, page, work.page_bytes) {
                break;
            }
            looks += 1;
            let_others_run(looks).await;
        }
        Ok(descent.effects(event))
    }

    /// How states came to be what they are, from the `state_change` events that a filter takes: of a source, of a correlation, in a range
    /// of time. The whole of it is in memory: at most [`Query::LIMIT_MAX`] changes, and 32 MiB of them as encoded.
    ///
    /// # Errors
    ///
    /// As [`Events::query`]. [`QueryError::NotAFilter`] if it says order, limit, skip or cursor, [`QueryError::TimelineKind`] if it says
    /// another kind, [`QueryError::TimelineTooLong`]; [`StoreError::Damaged`] if a change cannot be read.
    pub async fn timeline(&self, of: Query) -> Result<Timeline, StoreError> {
        if !of.is_only_a_filter() {
            return Err(QueryError::NotAFilter.into());
        }
        let query = match of.filter.kind {
            None => of.kind(STATE_CHANGE),
            Some(_) if of == of.clone().kind(STATE_CHANGE) => of,
            Some(_) => return Err(QueryError::TimelineKind.into()),
        };
        let mut pages = self.pages(query.limit(Query::LIMIT_MAX + 1));
        let mut events = Vec::new();
        while let Some(page) = pages.next().await? {
            if let Some(id) = page.unreadable.first() {
                return Err(StoreError::Damaged { id: *id });
            }
            events.extend(page.events);
            if events.len() > Query::LIMIT_MAX || pages.bytes > BYTES_MAX {
                let max = Query::LIMIT_MAX;
                return Err(QueryError::TimelineTooLong { max }.into());
            }
        }
        beside(move || Timeline::of(events)).await
    }

    /// Follows the log: every event that the filter takes, in the order in which they were stored, none left out and none twice, from
    /// `start` on and for ever after. See [`Subscription`].
    ///
    /// # Errors
    ///
    /// [`StoreError::Query`] if the filter cannot be answered, or says order, limit, skip or cursor; [`StoreError::Unknown`] if there is
    /// no such event to start after; [`StoreError::OtherLog`] if the bookmark is of another log; [`StoreError::Down`] if the store was never open.
    pub async fn subscribe(&self, filter: Query, start: Start) -> Result<Subscription, StoreError> {
        if !filter.is_only_a_filter() {
            return Err(QueryError::NotAFilter.into());
        }
        filter.check()?;
        let log = self.shared.view().await?;
        let (place, after) = match start {
            Start::Now => (Bookmark::end_of(&log.segments()), None),
            Start::Beginning => ((0, 0), None),
            Start::After(id) => {
                let found = self.place_after(&log, id).await?;
                (found.ok_or(StoreError::Unknown { id })?, Some(id))
            }
            Start::At(bookmark) if !bookmark.is_of(&log) => return Err(StoreError::OtherLog),
            Start::At(bookmark) => (self.place_of(&log, bookmark).await?, bookmark.id()),
        };
        let filter = filter.filter;
        Ok(Subscription::new(self.clone(), filter, log, place, after))
    }

    /// Where to go on from a bookmark of this log.
    pub(super) async fn place_of(
        &self,
        log: &Log,
        bookmark: Bookmark,
    ) -> Result<(u64, u32), StoreError> {
        let (segments, opened_at) = (log.segments(), log.opened_at());
        self.off_the_writer(move |_, access| {
            if let Some(id) = bookmark.id() {
                if let Some((view, row)) = find(&segments, id, access)? {
                    return Ok((view.base(), row + 1));
                }
                if bookmark.stands_behind_its_row(&segments, id, access)? {
                    return Ok(bookmark.place());
                }
            }
            Ok(bookmark.without_its_event(&segments, opened_at))
        })
        .await
    }

    /// The place behind an event.
    async fn place_after(&self, log: &Log, id: EventId) -> Result<Option<(u64, u32)>, StoreError> {
        let segments = log.segments();
        self.off_the_writer(move |_, access| {
            let found = find(&segments, id, access)?;
            Ok(found.map(|(view, row)| (view.base(), row + 1)))
        })
        .await
    }

    /// Runs a search on the caller's task if that takes microseconds, else beside the runtime. A panic is an error of this search alone.
    pub(super) async fn off_the_writer<T: Send + 'static>(
        &self,
        work: impl for<'a> Fn(&'a AtomicBool, Access<'a>) -> Result<T, Halt> + Send + 'static,
    ) -> Result<T, StoreError> {
        /// Parts of files that are read on the caller's task where the system has them in memory: half a millisecond at the most.
        const PARTS_AT_HAND: u32 = 32;
        let quick = {
            let (never, parts) = (AtomicBool::new(false), Cell::new(PARTS_AT_HAND));
            let at_hand = Access::AtHand(&parts);
            panic::catch_unwind(AssertUnwindSafe(|| work(&never, at_hand)))
        };
        match quick {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(Halt::NotQuick | Halt::Cancelled)) => {}
            Ok(Err(Halt::Unreadable(error))) => return Err(StoreError::Index(error)),
            Err(panic) => return Err(StoreError::Panicked(text_of(panic.as_ref()))),
        }
        let cancelled = Cancel(Arc::new(AtomicBool::new(false)));
        let (flag, shared) = (cancelled.0.clone(), self.shared.clone());
        let searching = beside(move || {
            let answer = work(&flag, Access::Disk);
            if matches!(answer, Err(Halt::Cancelled)) {
                shared.metrics.queries_cancelled.inc();
            }
            answer
        });
        match searching.await? {
            Ok(answer) => Ok(answer),
            Err(Halt::Unreadable(error)) => Err(StoreError::Index(error)),
            Err(halt) => Err(StoreError::Panicked(format!("search ended as {halt:?}"))),
        }
    }
}

/// Runs work beside the runtime. A panic is an error of this work alone.
async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| {
        StoreError::Panicked(match error.try_into_panic() {
            Ok(panic) => text_of(panic.as_ref()),
            Err(error) => error.to_string(),
        })
    })
}

/// Lets other tasks run after some looks, each of which may take tens of microseconds and never waits.
async fn let_others_run(looks: usize) {
    const LOOKS: usize = 16;
    if looks.is_multiple_of(LOOKS) {
        tokio::task::yield_now().await;
    }
}

/// The answer to a query, page by page. See [`Events::pages`].
#[derive(Debug)]
pub struct Pages {
    events: Events,
    /// What is still to be asked; `None` at the end.
    query: Option<Query>,
    /// How many events are still wanted.
    left: usize,
    /// How many are read at once.
    part: usize,
    /// Bytes of all pages so far, as encoded.
    bytes: usize,
}

impl Pages {
    /// The first page is small, for whoever only wants to see what there is.
    const PART_FIRST: usize = 64;
    /// The largest page, in events: as many as a query usually asks for.
    const PART_MAX: usize = 4096;
    /// Bytes of events, as encoded, after which a page ends: what many readers at once may hold.
    const PART_BYTES: usize = 1 << 20;

    /// The next page; `None` after the last one. The first one is always there, if only to say that nothing was found.
    ///
    /// # Errors
    ///
    /// As [`Events::query`]; then it is over.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped future has lost nothing, the same page comes again.
    pub async fn next(&mut self) -> Result<Option<Page>, StoreError> {
        let Some(query) = &self.query else {
            return Ok(None);
        };
        let query = query.clone().limit(self.part.min(self.left));
        let page = match self
            .events
            .search(query, Asked::Page(Self::PART_BYTES))
            .await
        {
            Ok((page, work)) => {
                self.bytes += work.page_bytes;
                page
            }
            Err(error) => {
                self.query = None;
                return Err(error);
            }
        };
        self.left -= page.events.len().min(self.left);
        self.part = (self.part * 4).min(Self::PART_MAX);
        self.query = match (self.query.take(), page.next) {
            (Some(query), Some(cursor)) if self.left > 0 => Some(query.after(cursor).skip(0)),
            _ => None,
        };
        Ok(Some(page))
    }
}

/// An event that is there and its bytes as encoded, or why it cannot be read.
pub(super) type Read = Option<Result<(Event, usize), io::Error>>;

pub(super) fn get<V: View>(
    views: &[Arc<V>],
    id: EventId,
    access: Access<'_>,
) -> Result<Read, Halt> {
    let Some((view, row)) = find(views, id, access)? else {
        return Ok(None);
    };
    let mut record = Vec::new();
    let read = view.read(row, access, &mut |bytes| record.extend_from_slice(bytes));
    let error = match read {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(Halt::NotQuick),
        Err(error) => error,
        Ok(()) if record.len() > QUICK_BYTES && !access.is_patient() => {
            return Err(Halt::NotQuick);
        }
        Ok(()) => match Record::read(&record).as_ref().and_then(Event::decode) {
            Some(event) => return Ok(Some(Ok((event, record.len())))),
            None => io::ErrorKind::InvalidData.into(),
        },
    };
    // It may have been pruned since it was found: then it is not there, and nothing is wrong.
    let is_still_there = view.find(id.get(), access)? == Some(row);
    Ok(is_still_there.then_some(Err(error)))
}

fn find<'v, V: View>(
    views: &'v [Arc<V>],
    id: EventId,
    access: Access<'_>,
) -> Result<Option<(&'v V, u32)>, Halt> {
    for view in views.iter().rev() {
        if let Some(row) = view.find(id.get(), access)? {
            return Ok(Some((view.as_ref(), row)));
        }
    }
    Ok(None)
}

/// Stops a search when the future that waits for it is dropped.
struct Cancel(Arc<AtomicBool>);

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a panic said.
pub(super) fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without a message".into())
}
