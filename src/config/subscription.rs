use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{Stream, stream};

use super::{
    Change, Record, Revision,
    followers::{Found, Seat},
    record::Steps,
    shared::{Published, Shared},
    turn,
};
use crate::value::{Path, Value};

/// Follows what stands at a path: the current value first, then every change, in order.
///
/// Nothing is queued for it: it looks up what is new, so a slow one costs no writer anything, and it is woken only by changes at its path.
/// When it is behind it takes up to 8 changes at once, and holds their values until it has told them or is told of newer ones. After 128
/// in a row it lets other tasks run, and after fewer where more than 128 follow, down to 8: a hundred keep up with whoever makes changes
/// without end, thousands let it go first. When it has fallen behind by more than
/// [`Options::log_changes`](super::Options::log_changes), it gets the newest state, or one that is behind by a sixteenth of that at most,
/// and is told how many revisions it missed. It survives restarts of the server, and is cleaned up when it is dropped.
pub struct Subscription {
    feed: Feed,
    /// Taken from the log together, so that many who are behind seldom stand in the writer's way.
    taken: VecDeque<Notice>,
    /// How many were told in this turn.
    in_a_row: usize,
    /// Whether it has been given anything yet.
    is_new: bool,
}

/// What a subscriber is told.
#[derive(Clone)]
pub struct Notice {
    /// The revision whose value this is.
    pub revision: Revision,
    /// What stands at the path; `None` when nothing does. Not redacted: it may be a secret.
    pub value: Option<Value>,
    /// The change; `None` for the current value at the start and after missed changes.
    pub record: Option<Arc<Record>>,
    /// How many revisions before this one were missed.
    pub missed: u64,
}

/// Follows all changes for the books: who, when, why, and what with secrets left out.
pub struct AuditFeed {
    feed: Feed,
    /// Taken from the log together, so that whoever keeps the books of many changes seldom stands in the writer's way.
    taken: VecDeque<Arc<Record>>,
    /// The document after the last change taken, where it is known.
    document: Option<Value>,
}

/// One change for the books.
#[derive(Debug, Clone, PartialEq)]
pub struct Audit {
    /// The change, with secrets replaced.
    pub record: Arc<Record>,
    /// How many changes before this one were missed.
    pub missed: u64,
    /// What those came to, all in all, with secrets replaced; empty where that is not known any more.
    pub missed_changes: Vec<Change>,
}

/// How many changes an audit feed takes from the log at once.
const TAKEN_AT_ONCE: usize = 64;
/// How many a subscription does, of which there may be thousands, and what they may weigh, in bytes: it holds them until it is asked.
const NOTICES_AT_ONCE: usize = 8;
const NOTICES_BYTES: usize = 64 * 1024;

/// Which part of the log's changes may have come after what counts as the newest state.
const AS_GOOD_AS_NEWEST: u64 = 16;

/// A place among those who follow a path.
struct Feed {
    published: Arc<Published>,
    /// How many of the newest changes the log holds.
    log_changes: u64,
    seat: Seat,
    /// What comes after this revision is still to be told.
    seen: Revision,
}

impl Subscription {
    pub(super) fn new(shared: &Shared, path: &Path) -> Self {
        Self {
            feed: Feed::new(shared, Some(path), None),
            taken: VecDeque::new(),
            in_a_row: 0,
            is_new: true,
        }
    }

    /// The next value; `None` when the node is gone. After 8 to 128 in a row it waits for those who wait for their turn, also where
    /// there is more: what is there at this moment tells [`Subscription::try_recv`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is lost when the future is dropped.
    pub async fn recv(&mut self) -> Option<Notice> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    fn poll_recv(&mut self, cx: &Context<'_>) -> Poll<Option<Notice>> {
        if self.in_a_row >= self.feed.published.followers.turn() {
            self.in_a_row = 0;
            return turn::end_now(cx);
        }
        self.in_a_row += 1;
        if let Some(notice) = self.try_recv() {
            return Poll::Ready(Some(notice));
        }
        self.feed.seat.wait(cx.waker());
        match self.try_recv() {
            None if !self.feed.is_over() => {
                self.in_a_row = 0;
                Poll::Pending
            }
            last => Poll::Ready(last),
        }
    }

    /// The next value, when there is one already.
    pub fn try_recv(&mut self) -> Option<Notice> {
        if self.is_new {
            return Some(self.current(None));
        }
        if let Some(notice) = self.next_taken() {
            return Some(notice);
        }
        match self.feed.seat.find(self.feed.seen) {
            Found::Next(notice) => {
                self.feed.seen = notice.revision;
                Some(notice)
            }
            Found::NothingUpTo(revision) => {
                self.feed.seen = revision;
                (self.feed.published.revision() > revision).then(|| self.look_up())?
            }
        }
    }

    /// The next of those that were taken, unless the log has forgotten it.
    fn next_taken(&mut self) -> Option<Notice> {
        let notice = self.taken.pop_front()?;
        let now = self.feed.published.revision();
        if now.0.saturating_sub(notice.revision.0) >= self.feed.log_changes {
            self.taken.clear();
            return Some(self.newest());
        }
        self.feed.seen = notice.revision;
        Some(notice)
    }

    /// The next values as the log has them.
    fn look_up(&mut self) -> Option<Notice> {
        let path = self.feed.seat.path();
        loop {
            let seen = self.feed.seen;
            let now = self.feed.published.revision();
            if now.0.saturating_sub(seen.0) > self.feed.log_changes {
                return Some(self.newest());
            }
            let steps = self
                .feed
                .published
                .with_log_at(|log, _| log.steps_after(seen, NOTICES_AT_ONCE, NOTICES_BYTES));
            // They are looked at without the log, which the writer needs.
            let Some(Steps { before, steps }) = steps else {
                return Some(self.current(Some(seen)));
            };
            let mut before = before.as_ref();
            for step in &steps {
                if step.concerns(path, before) {
                    self.taken.push_back(Notice {
                        revision: step.record.revision,
                        value: step.value(path).cloned(),
                        record: Some(Arc::clone(&step.record)),
                        missed: 0,
                    });
                }
                before = step.document.as_ref();
            }
            if let Some(notice) = self.taken.pop_front() {
                self.feed.seen = notice.revision;
                return Some(notice);
            }
            self.feed.seen = steps.last()?.record.revision;
        }
    }

    /// The subscription as a stream, which ends when the node is gone.
    pub fn into_stream(self) -> impl Stream<Item = Notice> + Send {
        stream::unfold(self, |mut subscription| async move {
            let notice = subscription.recv().await?;
            Some((notice, subscription))
        })
    }

    /// The newest state, after changes that the log does not hold any more. Where changes come so fast that thousands are behind, they
    /// would all ask the log for it, which the writer needs: what the place was told of last is new enough.
    fn newest(&mut self) -> Notice {
        let (seen, now) = (self.feed.seen, self.feed.published.revision());
        let recent = Revision(
            now.0
                .saturating_sub(self.feed.log_changes / AS_GOOD_AS_NEWEST),
        );
        match self.feed.seat.newest(recent) {
            Some((value, revision)) if revision > seen => self.state(value, revision, Some(seen)),
            _ => self.current(Some(seen)),
        }
    }

    /// What stands there now, and how much came between that and the last revision seen.
    fn current(&mut self, last: Option<Revision>) -> Notice {
        let path = self.feed.seat.path();
        let (value, revision) = self
            .feed
            .published
            .with_log_at(|log, now| (log.value(path).cloned(), now));
        self.state(value, revision, last)
    }

    fn state(
        &mut self,
        value: Option<Value>,
        revision: Revision,
        last: Option<Revision>,
    ) -> Notice {
        self.feed.seen = revision;
        self.is_new = false;
        Notice {
            revision,
            value,
            record: None,
            missed: last.map_or(0, |last| revision.0 - last.0),
        }
    }
}

impl AuditFeed {
    pub(super) fn new(shared: &Shared, after: Revision) -> Self {
        let document = shared
            .published
            .with_log(|_, state| (state.revision == after).then(|| state.document.clone()));
        Self {
            feed: Feed::new(shared, None, Some(after)),
            taken: VecDeque::new(),
            document,
        }
    }

    /// The next change; `None` when the node is gone.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is lost when the future is dropped.
    pub async fn recv(&mut self) -> Option<Audit> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    fn poll_recv(&mut self, cx: &Context<'_>) -> Poll<Option<Audit>> {
        if let Some(audit) = self.try_recv() {
            return Poll::Ready(Some(audit));
        }
        self.feed.seat.wait(cx.waker());
        match self.try_recv() {
            None if !self.feed.is_over() => Poll::Pending,
            last => Poll::Ready(last),
        }
    }

    /// The next change, when there is one already.
    pub fn try_recv(&mut self) -> Option<Audit> {
        let (missed, missed_changes) = if self.taken.is_empty() {
            self.take()?
        } else {
            (0, Vec::new())
        };
        let record = self.taken.pop_front()?;
        self.feed.seen = record.revision;
        Some(Audit {
            record,
            missed,
            missed_changes,
        })
    }

    /// Takes the next changes from the log; gives how many are not in it any more, and what those came to.
    fn take(&mut self) -> Option<(u64, Vec<Change>)> {
        if self.feed.published.revision() <= self.feed.seen {
            return None;
        }
        let seen = self.feed.seen;
        self.feed.published.with_log(|log, state| {
            let floor = log.floor();
            let from = seen.max(floor);
            let known = self.document.as_ref().zip(log.floor_document());
            let lost = known.filter(|_| seen < floor);
            let changes = lost.map(|(before, after)| state.changes(before, after));
            // Of the documents only the last one: each other one that is held would be given back by two.
            let mut newest = None;
            for step in log.after(from).into_iter().flatten().take(TAKEN_AT_ONCE) {
                self.taken.push_back(Arc::clone(&step.record));
                newest = Some(step);
            }
            self.document = newest.and_then(|step| step.document.clone());
            Some((from.0 - seen.0, changes.unwrap_or_default()))
        })
    }

    /// The feed as a stream, which ends when the node is gone.
    pub fn into_stream(self) -> impl Stream<Item = Audit> + Send {
        stream::unfold(self, |mut feed| async move {
            let audit = feed.recv().await?;
            Some((audit, feed))
        })
    }
}

impl Feed {
    /// From now on, or from what came after a revision.
    /// Whoever follows no path is woken by all changes.
    fn new(shared: &Shared, path: Option<&Path>, after: Option<Revision>) -> Self {
        let published = Arc::clone(&shared.published);
        // First, so that what is brought there from here on is either seen now or found.
        let seat = match path {
            Some(path) => published.followers.sit(path),
            None => published.followers.sit_with_the_books(),
        };
        let seen = after.unwrap_or_else(|| published.revision());
        Self {
            published,
            log_changes: u64::try_from(shared.options.log_changes.max(1)).unwrap_or(u64::MAX),
            seat,
            seen,
        }
    }

    fn is_over(&self) -> bool {
        self.published.followers.is_closed()
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("path", self.feed.seat.path())
            .field("seen", &self.feed.seen)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for AuditFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditFeed")
            .field("seen", &self.feed.seen)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Notice {
    /// Without the value, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notice")
            .field("revision", &self.revision)
            .field("record", &self.record)
            .field("missed", &self.missed)
            .finish_non_exhaustive()
    }
}
