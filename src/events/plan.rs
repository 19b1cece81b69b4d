//! Which index a segment is searched by. Pure.

use std::fmt;

use serde::Serialize;

use super::filter::{Filter, KindFilter};

/// An index that lists rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Index {
    /// The rows of one correlation.
    Correlation,
    /// The rows that one event caused.
    Parent,
    /// The rows of one source.
    Source,
    /// The rows of one kind.
    Kind,
    /// The rows of all kinds that begin alike.
    KindPrefix,
    /// None: every row, block by block, without those blocks that are outside of the ranges of time and id.
    Blocks,
}

/// How a segment is searched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The index that the rows come from.
    pub by: Index,
    /// How many rows that index has here, at the most.
    pub rows: u32,
    /// Indexes whose rows are intersected with those.
    pub and: Vec<Index>,
    /// Whether the event itself has to be looked at, and not only its index: for the text of a correlation, and for data.
    pub reads_events: bool,
}

/// An index that a query could use, and how many rows it has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) index: Index,
    pub(super) rows: u32,
}

/// So few rows are looked at one by one sooner than another list is read.
const FEW_ROWS: u32 = 64;
/// A list that is so many times longer than the one it is intersected with excludes little for what it costs.
const TOO_LONG: u32 = 256;

impl Index {
    /// The indexes that a filter names.
    pub(super) fn of(filter: &Filter) -> impl Iterator<Item = Self> + use<> {
        let kind = filter.kind.as_ref().map(|kind| match kind {
            KindFilter::Exact(_) => Self::Kind,
            KindFilter::Prefix(_) => Self::KindPrefix,
        });
        let named = [
            filter.correlation.as_ref().map(|_| Self::Correlation),
            filter.parent.map(|_| Self::Parent),
            filter.source.as_ref().map(|_| Self::Source),
            kind,
        ];
        named.into_iter().flatten()
    }

    /// Whether a row that it lists may belong to another value: it goes by hashes.
    pub(super) fn is_by_hash(self) -> bool {
        matches!(self, Self::Correlation | Self::Parent)
    }
}

impl Plan {
    /// The cheapest way through a segment of `rows` rows; `None` if none of its rows can match.
    pub(super) fn choose(offers: &[Offer], rows: u32, has_data: bool) -> Option<Self> {
        if rows == 0 || offers.iter().any(|offer| offer.rows == 0) {
            return None;
        }
        let Some(best) = offers.iter().min_by_key(|offer| offer.rows) else {
            return Some(Self {
                by: Index::Blocks,
                rows,
                and: Vec::new(),
                reads_events: has_data,
            });
        };
        let others = offers.iter().filter(|offer| offer.index != best.index);
        let and: Vec<_> = others
            .clone()
            .filter(|offer| best.rows > FEW_ROWS && offer.rows / TOO_LONG < best.rows)
            .map(|offer| offer.index)
            .collect();
        let unproven = offers.iter().any(|offer| {
            offer.index.is_by_hash() || !(offer.index == best.index || and.contains(&offer.index))
        });
        Some(Self {
            by: best.index,
            rows: best.rows,
            and,
            reads_events: has_data || unproven,
        })
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Correlation => "correlation",
            Self::Parent => "parent",
            Self::Source => "source",
            Self::Kind => "kind",
            Self::KindPrefix => "kind prefix",
            Self::Blocks => "every row, in blocks",
        })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "by {}, at most {} rows", self.by, self.rows)?;
        for index in &self.and {
            write!(f, ", intersected with {index}")?;
        }
        if self.reads_events {
            f.write_str(", reading events")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(index: Index, rows: u32) -> Offer {
        Offer { index, rows }
    }

    fn choose(offers: &[Offer]) -> Option<Plan> {
        Plan::choose(offers, 100_000, false)
    }

    #[test]
    fn the_shortest_list_leads() {
        let offers = [offer(Index::Correlation, 15), offer(Index::Kind, 12_000)];
        let plan = choose(&offers).expect("there are rows");
        assert_eq!((plan.by, plan.rows), (Index::Correlation, 15));
        assert_eq!(plan.and, [], "15 rows are looked at one by one");

        let offers = [offer(Index::Correlation, 50_000), offer(Index::Kind, 12)];
        assert_eq!(choose(&offers).map(|plan| plan.by), Some(Index::Kind));
    }

    #[test]
    fn long_lists_are_intersected_unless_one_excludes_next_to_nothing() {
        let plan = choose(&[offer(Index::Source, 20_000), offer(Index::Kind, 12_000)]);
        let plan = plan.expect("there are rows");
        assert_eq!(
            (plan.by, plan.and, plan.reads_events),
            (Index::Kind, vec![Index::Source], false)
        );

        let plan = choose(&[offer(Index::Source, 90_000), offer(Index::Kind, 100)]);
        let plan = plan.expect("there are rows");
        assert_eq!(
            (plan.by, plan.and, plan.reads_events),
            (Index::Kind, vec![], true)
        );
    }

    #[test]
    fn a_list_without_rows_ends_the_search_of_a_segment() {
        assert_eq!(
            choose(&[offer(Index::Kind, 0), offer(Index::Source, 5)]),
            None
        );
        assert_eq!(Plan::choose(&[], 0, false), None);
    }

    #[test]
    fn events_are_only_looked_at_for_what_no_index_can_tell() {
        let reads = |offers: &[Offer], data| {
            Plan::choose(offers, 100_000, data).map(|plan| plan.reads_events)
        };

        assert_eq!(reads(&[], false), Some(false));
        assert_eq!(reads(&[offer(Index::Kind, 5)], false), Some(false));
        assert_eq!(reads(&[offer(Index::KindPrefix, 5)], false), Some(false));
        assert_eq!(reads(&[offer(Index::Correlation, 5)], false), Some(true));
        assert_eq!(reads(&[offer(Index::Parent, 5)], false), Some(true));
        assert_eq!(reads(&[offer(Index::Kind, 5)], true), Some(true));
    }

    #[test]
    fn without_any_index_rows_are_gone_through_block_by_block() {
        let plan = choose(&[]).expect("there are rows");
        assert_eq!((plan.by, plan.rows), (Index::Blocks, 100_000));
    }
}
