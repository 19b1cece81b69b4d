use std::{fmt, sync::Arc};

use futures_util::{Stream, stream};
use tokio::sync::watch;

use super::{
    Change, Record, Revision,
    record::Next,
    shared::{Published, Shared},
};
use crate::value::{Path, Value};

/// Follows what stands at a path: the current value first, then every change, in order.
///
/// Nothing is sent: the subscription reads the server's log, so a slow one costs nobody anything. When it has fallen behind by more
/// than [`Options::log_changes`](super::Options::log_changes), it gets the newest state and is told how many revisions it missed. It
/// survives restarts of the server, and is cleaned up when it is dropped.
pub struct Subscription {
    feed: Feed,
    prefix: Path,
    known: Known,
}

/// What a subscriber knows stands at its path.
enum Known {
    Unasked,
    Value(Option<Value>),
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
    /// The document after the last change seen, where it is known.
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

struct Feed {
    published: Arc<Published>,
    wake: watch::Receiver<Revision>,
    seen: Revision,
    /// Everything that had been published at the last look was seen; what comes later wakes.
    has_all: bool,
}

impl Subscription {
    pub(super) fn new(shared: &Shared, prefix: Path) -> Self {
        Self {
            feed: Feed::new(shared, None),
            prefix,
            known: Known::Unasked,
        }
    }

    /// The next value; `None` when the node is gone.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is lost when the future is dropped.
    pub async fn recv(&mut self) -> Option<Notice> {
        loop {
            if !self.feed.has_all
                && let Some(notice) = self.try_recv()
            {
                return Some(notice);
            }
            self.feed.news().await?;
        }
    }

    /// The next value, when there is one already.
    pub fn try_recv(&mut self) -> Option<Notice> {
        if matches!(self.known, Known::Unasked) {
            return Some(self.current(0));
        }
        loop {
            match self.feed.next() {
                Next::None => return None,
                Next::Lost => {
                    let before = self.feed.seen;
                    self.feed.seen = self.feed.published.state().revision;
                    return Some(self.current(self.feed.seen.0 - before.0));
                }
                Next::Step { step, .. } => {
                    let document = step.document.unwrap_or_default();
                    let value = document.get(&self.prefix).cloned();
                    if self.concerns(&step.record, value.as_ref()) {
                        self.known = Known::Value(value.clone());
                        return Some(Notice {
                            revision: step.record.revision,
                            value,
                            record: Some(step.record),
                            missed: 0,
                        });
                    }
                }
            }
        }
    }

    /// The subscription as a stream, which ends when the node is gone.
    pub fn into_stream(self) -> impl Stream<Item = Notice> + Send {
        stream::unfold(self, |mut subscription| async move {
            let notice = subscription.recv().await?;
            Some((notice, subscription))
        })
    }

    fn current(&mut self, missed: u64) -> Notice {
        let (revision, value) = self
            .feed
            .published
            .with_log(|_, state| (state.revision, state.document.get(&self.prefix).cloned()));
        self.feed.seen = revision;
        self.known = Known::Value(value.clone());
        Notice {
            revision,
            value,
            record: None,
            missed,
        }
    }

    /// A write at the path or beneath it always does; one above it when it changed what stands here.
    fn concerns(&self, record: &Record, value: Option<&Value>) -> bool {
        let beneath = || {
            record
                .changes
                .iter()
                .any(|change| change.path.starts_with(&self.prefix))
        };
        let differs = || !matches!(&self.known, Known::Value(known) if known.as_ref() == value);
        record.touches(&self.prefix) && (self.prefix.is_empty() || beneath() || differs())
    }
}

impl AuditFeed {
    pub(super) fn new(shared: &Shared, after: Revision) -> Self {
        let document = shared
            .published
            .with_log(|_, state| (state.revision == after).then(|| state.document.clone()));
        Self {
            feed: Feed::new(shared, Some(after)),
            document,
        }
    }

    /// The next change; `None` when the node is gone.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is lost when the future is dropped.
    pub async fn recv(&mut self) -> Option<Audit> {
        loop {
            if !self.feed.has_all
                && let Some(audit) = self.try_recv()
            {
                return Some(audit);
            }
            self.feed.news().await?;
        }
    }

    /// The next change, when there is one already.
    pub fn try_recv(&mut self) -> Option<Audit> {
        let (mut missed, mut missed_changes) = (0, Vec::new());
        loop {
            match self.feed.next() {
                Next::None => return None,
                Next::Step { step, .. } => {
                    self.document = step.document;
                    return Some(Audit {
                        record: step.record,
                        missed,
                        missed_changes,
                    });
                }
                Next::Lost => {
                    let before = self.document.as_ref();
                    let (floor, changes) = self.feed.published.with_log(|log, state| {
                        let known = before.zip(log.floor_document());
                        let changes = known.map(|(before, after)| state.changes(before, after));
                        (log.floor(), changes.unwrap_or_default())
                    });
                    missed += floor.0 - self.feed.seen.0;
                    missed_changes = changes;
                    self.feed.seen = floor;
                }
            }
        }
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
    fn new(shared: &Shared, after: Option<Revision>) -> Self {
        let published = Arc::clone(&shared.published);
        let wake = shared.wake.subscribe();
        published.join();
        // Counted first, then the lock: a change is either seen here or its server sees that somebody waits.
        let now = published.with_log(|_, state| state.revision);
        Self {
            published,
            wake,
            seen: after.unwrap_or(now),
            has_all: false,
        }
    }

    /// Waits until there may be something new; `None` when the node is gone.
    async fn news(&mut self) -> Option<()> {
        self.wake.changed().await.ok()?;
        self.has_all = false;
        Some(())
    }

    fn next(&mut self) -> Next {
        let next = self.published.with_log(|log, _| log.after(self.seen));
        match &next {
            Next::None => self.has_all = true,
            Next::Step { step, is_newest } => {
                self.seen = step.record.revision;
                self.has_all = *is_newest;
            }
            Next::Lost => self.has_all = false,
        }
        next
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.published.leave();
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("prefix", &self.prefix)
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
