use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::ids::{CorrelationId, EventId, NodeId};

use super::{
    Comparison, Event, QueryError, Timestamp,
    filter::{Filter, KindFilter},
};

/// Which events are wanted, in which order. Everything said must hold; nothing said means every event.
///
/// [`Query::parse`] reads one from text; [`fmt::Display`] writes it as such.
///
/// ```
/// use underpin::events::{Order, Query};
///
/// let newest_failures = Query::new().kind("order.failed").order(Order::NewestFirst).limit(10);
/// assert!(newest_failures.check().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Query {
    pub(super) filter: Filter,
    pub(super) order: Order,
    pub(super) skip: usize,
    pub(super) limit: usize,
    pub(super) after: Option<Cursor>,
}

/// The order of an answer. Events of one time go by their id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Order {
    /// By time, the earliest first.
    #[default]
    OldestFirst,
    /// By time, the latest first.
    NewestFirst,
    /// By id, the lowest first.
    IdAscending,
    /// By id, the highest first.
    IdDescending,
}

/// A place in the answer to a query: what comes after it is the next page. Stays good while events are stored and pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    order: Order,
    time: i64,
    id: EventId,
}

/// Some of the events that a query asked for.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Page {
    /// The events, in the order asked for.
    pub events: Vec<Event>,
    /// Where to go on, if there are more: beyond the limit, or because events of a page have at most 32 MiB together, as encoded.
    pub next: Option<Cursor>,
    /// Events that belong here and could not be read: their bytes no longer fit their checksum, or the disk failed.
    pub unreadable: Vec<EventId>,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            filter: Filter::default(),
            order: Order::default(),
            skip: 0,
            limit: Self::LIMIT_DEFAULT,
            after: None,
        }
    }
}

impl Query {
    /// How many events an answer holds if nothing else is said.
    pub const LIMIT_DEFAULT: usize = 1000;
    /// The most events of one answer: about 100 MB of small events. More are read page by page.
    pub const LIMIT_MAX: usize = 100_000;
    /// The most comparisons of data in one query: far above what anybody writes, and each costs a look at every candidate's data.
    pub const COMPARISONS_MAX: usize = 32;

    /// Every event, the earliest first, at most [`Query::LIMIT_DEFAULT`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Only events of exactly this kind.
    pub fn kind(mut self, kind: impl Into<Arc<str>>) -> Self {
        self.filter.kind = Some(KindFilter::Exact(kind.into()));
        self
    }

    /// Only events whose kind begins so: `order.` for all that happens to orders.
    pub fn kind_prefix(mut self, prefix: impl Into<Arc<str>>) -> Self {
        self.filter.kind = Some(KindFilter::Prefix(prefix.into()));
        self
    }

    /// Only events of exactly this source; empty for those that name none.
    pub fn source(mut self, source: impl Into<Arc<str>>) -> Self {
        self.filter.source = Some(source.into());
        self
    }

    /// Only events of this correlation; of a trace id in any spelling.
    pub fn correlation(mut self, correlation: CorrelationId) -> Self {
        self.filter.correlation = Some(correlation);
        self
    }

    /// Only events that this one caused.
    pub fn parent(mut self, parent: EventId) -> Self {
        self.filter.parent = Some(parent);
        self
    }

    /// Only events that this node made.
    pub fn node(mut self, node: NodeId) -> Self {
        self.filter.node = Some(node);
        self
    }

    /// Only events at this time or later.
    pub fn since(mut self, time: Timestamp) -> Self {
        self.filter.since = time;
        self
    }

    /// Only events at this time or earlier.
    pub fn until(mut self, time: Timestamp) -> Self {
        self.filter.until = time;
        self
    }

    /// Only events at this time or earlier, and none that an earlier `until` leaves out.
    #[cfg(feature = "web")]
    pub(crate) fn not_after(mut self, time: Timestamp) -> Self {
        self.filter.until = self.filter.until.min(time);
        self
    }

    /// Only events with this id or a higher one.
    pub fn first_id(mut self, id: EventId) -> Self {
        self.filter.first = id;
        self
    }

    /// Only events with this id or a lower one.
    pub fn last_id(mut self, id: EventId) -> Self {
        self.filter.last = id;
        self
    }

    /// Only events whose data compares so. May be said several times, up to [`Query::COMPARISONS_MAX`]; all must hold.
    ///
    /// Data is only decoded of events that match in everything else.
    pub fn data(mut self, comparison: Comparison) -> Self {
        self.filter.data.push(comparison);
        self
    }

    /// The store as it was at this time: without what was made later, to the millisecond.
    ///
    /// An event is made when its id is, which is when it is about to be stored: an import that ran later is not there yet, however old
    /// its events' own times. What was pruned since does not come back, and an event that was stored long after its id was made counts
    /// from its id on.
    pub fn as_of(mut self, time: Timestamp) -> Self {
        self.filter.as_of = Some(time);
        self
    }

    /// In this order.
    pub fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// Without the first `n`. Cursors cost less: skipped events are searched for as well.
    pub fn skip(mut self, n: usize) -> Self {
        self.skip = n;
        self
    }

    /// At most `n`; none at all for 0.
    pub fn limit(mut self, n: usize) -> Self {
        self.limit = n;
        self
    }

    /// How many events are asked for at most.
    #[must_use]
    pub fn wanted(&self) -> usize {
        self.limit
    }

    /// The place behind an event in this query's answer.
    #[must_use]
    pub fn cursor_behind(&self, time: Timestamp, id: EventId) -> Cursor {
        Cursor {
            order: self.order,
            time: time.as_nanos(),
            id,
        }
    }

    /// Only what comes after a place in an earlier answer to the same query.
    pub fn after(mut self, cursor: Cursor) -> Self {
        self.after = Some(cursor);
        self
    }

    /// Whether it says nothing but which events: order, limit, skip and cursor are as they are by default.
    pub(super) fn is_only_a_filter(&self) -> bool {
        let Self {
            filter: _,
            order,
            skip,
            limit,
            after,
        } = self;
        *order == Order::default() && *skip == 0 && *limit == Self::LIMIT_DEFAULT && after.is_none()
    }

    /// Whether the query can be answered. Every answer checks it, too.
    ///
    /// # Errors
    ///
    /// [`QueryError::Limit`] if limit and skip together are above [`Query::LIMIT_MAX`], [`QueryError::Range`] if `until` is before
    /// `since`, [`QueryError::IdRange`] if the last id is below the first, [`QueryError::Kind`] and [`QueryError::Source`] if no event can
    /// have such a one, [`QueryError::Comparisons`] if there are too many, [`QueryError::CursorOrder`] if the cursor belongs to another
    /// order.
    pub fn check(&self) -> Result<(), QueryError> {
        let limit = self.limit.saturating_add(self.skip);
        if limit > Self::LIMIT_MAX {
            return Err(QueryError::Limit {
                limit,
                max: Self::LIMIT_MAX,
            });
        }
        self.filter.check()?;
        if self.after.is_some_and(|cursor| cursor.order != self.order) {
            return Err(QueryError::CursorOrder);
        }
        Ok(())
    }
}

/// Smaller comes first, whatever the order.
pub(super) type Rank = (u64, u64);

impl Order {
    /// Every order there is.
    pub const ALL: [Self; 4] = [
        Self::OldestFirst,
        Self::NewestFirst,
        Self::IdAscending,
        Self::IdDescending,
    ];

    /// Its name in queries: `time`, `-time`, `id`, `-id`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OldestFirst => "time",
            Self::NewestFirst => "-time",
            Self::IdAscending => "id",
            Self::IdDescending => "-id",
        }
    }

    /// Whether the latest, or the highest id, comes first.
    pub(super) fn descends(self) -> bool {
        matches!(self, Self::NewestFirst | Self::IdDescending)
    }

    pub(super) fn rank(self, time: i64, id: u64) -> Rank {
        // Flipping the sign bit keeps the order of signed numbers among unsigned ones.
        let time = time.cast_unsigned() ^ (1 << 63);
        match self {
            Self::OldestFirst => (time, id),
            Self::NewestFirst => (!time, !id),
            Self::IdAscending => (id, 0),
            Self::IdDescending => (!id, 0),
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Order {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        let named = Self::ALL.into_iter().find(|order| order.as_str() == text);
        named.ok_or_else(|| QueryError::Order(text.to_owned()))
    }
}

impl Cursor {
    pub(super) fn rank(&self) -> Rank {
        self.order.rank(self.time, self.id.get())
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.order, self.time, self.id)
    }
}

impl FromStr for Cursor {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        let parse = || {
            let (order, rest) = text.split_once(':')?;
            let (time, id) = rest.split_once(':')?;
            Some(Self {
                order: order.parse().ok()?,
                time: time.parse().ok()?,
                id: id.parse().ok()?,
            })
        };
        parse().ok_or_else(|| QueryError::Cursor(text.to_owned()))
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::When;

    #[test]
    fn limits_hold_to_the_event() {
        let asks = |limit, skip| Query::new().limit(limit).skip(skip).check();

        assert_eq!(asks(Query::LIMIT_MAX, 0), Ok(()));
        assert_eq!(asks(0, Query::LIMIT_MAX), Ok(()));
        assert!(matches!(
            asks(Query::LIMIT_MAX, 1),
            Err(QueryError::Limit { .. })
        ));
        assert!(matches!(
            asks(usize::MAX, usize::MAX),
            Err(QueryError::Limit { .. })
        ));
    }

    #[test]
    fn a_range_that_ends_before_it_starts_is_refused() {
        let (early, late) = (Timestamp::from_nanos(1), Timestamp::from_nanos(2));

        assert_eq!(Query::new().since(early).until(early).check(), Ok(()));
        assert_eq!(
            Query::new().since(late).until(early).check(),
            Err(QueryError::Range)
        );
    }

    /// An empty kind found nothing, while its text was refused.
    #[test]
    fn a_kind_or_a_source_that_no_event_can_have_is_refused_as_its_text_is() {
        let when = When::utc(Timestamp::MIN);
        let long = |bytes| "x".repeat(bytes);
        for (query, answer) in [
            (Query::new().kind(""), Err(QueryError::Kind { bytes: 0 })),
            (
                Query::new().kind(long(257)),
                Err(QueryError::Kind { bytes: 257 }),
            ),
            (
                Query::new().kind_prefix(long(257)),
                Err(QueryError::Kind { bytes: 257 }),
            ),
            (
                Query::new().source(long(257)),
                Err(QueryError::Source { bytes: 257 }),
            ),
            (Query::new().kind(long(256)), Ok(())),
            (Query::new().kind_prefix(""), Ok(())),
            (Query::new().kind_prefix(long(256)), Ok(())),
            (Query::new().source(long(256)), Ok(())),
        ] {
            let text = query.to_string();
            assert_eq!(Query::parse(&text, &when).is_ok(), answer.is_ok(), "{text}");
            assert_eq!(query.check(), answer, "{text}");
        }
    }

    #[test]
    fn a_cursor_survives_as_text_and_belongs_to_its_order() {
        let cursor: Cursor = "-time:-5:77".parse().expect("our own form");

        assert_eq!(cursor.to_string(), "-time:-5:77");
        assert_eq!(
            Query::new().after(cursor).check(),
            Err(QueryError::CursorOrder)
        );
        assert_eq!(
            Query::new().order(Order::NewestFirst).after(cursor).check(),
            Ok(())
        );
        for text in ["", "time", "time:1", "time:x:1", "time:1:0", "sideways:1:1"] {
            assert_eq!(text.parse::<Cursor>(), Err(QueryError::Cursor(text.into())));
        }
    }

    #[test]
    fn ranks_sort_as_their_order_says() {
        let sorted = |order: Order| {
            let mut keys = [(-1, 9), (3, 1), (3, 2), (i64::MIN, 5), (i64::MAX, 4)];
            keys.sort_by_key(|(time, id)| order.rank(*time, *id));
            keys.map(|(_, id)| id)
        };

        assert_eq!(sorted(Order::OldestFirst), [5, 9, 1, 2, 4]);
        assert_eq!(sorted(Order::NewestFirst), [4, 2, 1, 9, 5]);
        assert_eq!(sorted(Order::IdAscending), [1, 2, 4, 5, 9]);
        assert_eq!(sorted(Order::IdDescending), [9, 5, 4, 2, 1]);
    }
}
