//! Which events are wanted. Pure.

use std::sync::Arc;

use crate::{
    ids::{CorrelationId, EventId, NodeId},
    value::Value,
};

use super::{
    Comparison, KIND_BYTES_MAX, Query, QueryError, SOURCE_BYTES_MAX, Timestamp,
    bloom::{Member, Probe},
    record::Record,
    texts::Texts,
};

/// What must hold for an event; nothing said means every event.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Filter {
    pub(super) kind: Option<KindFilter>,
    /// Empty for events that name no source.
    pub(super) source: Option<Arc<str>>,
    pub(super) correlation: Option<CorrelationId>,
    pub(super) parent: Option<EventId>,
    pub(super) node: Option<NodeId>,
    /// Both ends belong to it.
    pub(super) since: Timestamp,
    pub(super) until: Timestamp,
    /// Both ends belong to it.
    pub(super) first: EventId,
    pub(super) last: EventId,
    /// Only ids that were made by then.
    pub(super) as_of: Option<Timestamp>,
    pub(super) data: Vec<Comparison>,
}

/// Which kinds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KindFilter {
    Exact(Arc<str>),
    /// All that begin so.
    Prefix(Arc<str>),
}

/// The lowest id there is.
pub(super) const FIRST_ID: u64 = 1;

impl Default for Filter {
    fn default() -> Self {
        Self {
            kind: None,
            source: None,
            correlation: None,
            parent: None,
            node: None,
            since: Timestamp::MIN,
            until: Timestamp::MAX,
            first: EventId::new(FIRST_ID).unwrap_or(EventId::MAX),
            last: EventId::MAX,
            as_of: None,
            data: Vec::new(),
        }
    }
}

impl Filter {
    /// Whether anything can match at all.
    pub(super) fn check(&self) -> Result<(), QueryError> {
        if self.since > self.until {
            return Err(QueryError::Range);
        }
        if self.first > self.last {
            return Err(QueryError::IdRange);
        }
        match &self.kind {
            Some(KindFilter::Exact(kind)) if !(1..=KIND_BYTES_MAX).contains(&kind.len()) => {
                return Err(QueryError::Kind { bytes: kind.len() });
            }
            Some(KindFilter::Prefix(prefix)) if prefix.len() > KIND_BYTES_MAX => {
                let bytes = prefix.len();
                return Err(QueryError::Kind { bytes });
            }
            _ => {}
        }
        if let Some(source) = self
            .source
            .as_ref()
            .filter(|it| it.len() > SOURCE_BYTES_MAX)
        {
            let bytes = source.len();
            return Err(QueryError::Source { bytes });
        }
        match self.data.len() {
            0..=Query::COMPARISONS_MAX => Ok(()),
            given => Err(QueryError::Comparisons { given }),
        }
    }

    /// First and last id that may match; the first is above the last where none may.
    pub(super) fn ids(&self) -> (u64, u64) {
        let last = self.as_of.map_or(u64::MAX, last_made_by);
        (self.first.get(), last.min(self.last.get()))
    }

    /// What a segment must have for any of its rows to match, as far as a membership filter can tell.
    pub(super) fn links(&self) -> [Option<Probe>; 2] {
        let correlation = self.correlation.as_ref();
        [
            correlation.map(|id| Member::Correlation(id.hash64()).probe()),
            self.parent.map(|id| Member::Parent(id.get()).probe()),
        ]
    }

    /// Whether time and id are within their ranges, and the id is of the node.
    pub(super) fn takes_keys(&self, time: i64, id: u64) -> bool {
        let (first, last) = self.ids();
        (self.since.as_nanos()..=self.until.as_nanos()).contains(&time)
            && (first..=last).contains(&id)
            && self.node.is_none_or(|node| node_of(id) == Some(node))
    }

    /// Whether what the record holds before its data matches.
    pub(super) fn takes(&self, record: &Record<'_>, texts: &mut Texts) -> bool {
        self.takes_keys(record.time, record.id)
            && self
                .kind
                .as_ref()
                .is_none_or(|kind| kind.takes(record.kind))
            && self
                .source
                .as_ref()
                .is_none_or(|source| source.as_bytes() == record.source)
            && self.takes_links(record, texts)
    }

    /// Whether parent and correlation match, of which an index knows only a hash.
    fn takes_links(&self, record: &Record<'_>, texts: &mut Texts) -> bool {
        self.parent
            .is_none_or(|parent| record.parent == Some(parent.get()))
            && self.correlation.as_ref().is_none_or(|wanted| {
                let id = record.correlation.and_then(|text| texts.correlation(text));
                id.is_some_and(|id| wanted.is_same_trace(&id))
            })
    }

    /// Whether the data matches.
    pub(super) fn takes_data(&self, data: &Value) -> bool {
        self.data.iter().all(|comparison| comparison.holds(data))
    }

    /// The data of a record whose other fields match, if it does, too; `Err` if it cannot be decoded.
    pub(super) fn data_of(
        &self,
        record: &Record<'_>,
        texts: &mut Texts,
    ) -> Result<Option<Value>, ()> {
        let data = texts.data(record.data).ok_or(())?;
        Ok(self.takes_data(&data).then_some(data))
    }
}

impl KindFilter {
    pub(super) fn takes(&self, kind: &[u8]) -> bool {
        match self {
            Self::Exact(wanted) => wanted.as_bytes() == kind,
            Self::Prefix(prefix) => kind.starts_with(prefix.as_bytes()),
        }
    }
}

/// The node that made an id; a few bits, read for millions of rows.
fn node_of(id: u64) -> Option<NodeId> {
    EventId::new(id).ok().map(EventId::node)
}

/// The highest id that can have been made at or before `time`; 0 before the first one.
fn last_made_by(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanos().div_euclid(1_000_000))
        .ok()
        .and_then(EventId::last_by)
        .map_or(0, EventId::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_of_takes_the_ids_of_that_millisecond_and_none_after() {
        let node = NodeId::new(7).expect("small");
        let ms = 1_764_000_000_123;
        let id = |ms, sequence| {
            EventId::from_parts(ms, node, sequence)
                .expect("in range")
                .get()
        };
        let at = |nanos| last_made_by(Timestamp::from_nanos(nanos));

        let last = at(1_764_000_000_123_999_999);

        assert!(last >= id(ms, EventId::SEQUENCE_MAX));
        assert!(last < id(ms + 1, 0));
        assert_eq!(at(i64::MIN), 0);
        assert_eq!(at(0), 0);
        assert_eq!(at(i64::MAX), EventId::MAX.get());
    }
}
