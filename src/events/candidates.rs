//! The rows of one segment that match in everything an index can tell.

use std::{io, ops::Range, sync::Arc};

use super::{
    columns::part,
    filter::{Filter, KindFilter},
    plan::{Index, Offer, Plan},
    view::{Access, Key, Term, View},
};

/// So many lists of kinds are looked into for each window; more are listed once.
const FEW_KINDS: usize = 16;
/// Kinds that begin alike and are looked at on the caller's own task: some tens of microseconds.
const QUICK_KINDS: usize = 1024;

/// Finds the rows of a segment that may match a filter, some at a time.
#[derive(Debug)]
pub(super) struct Candidates<'a> {
    filter: &'a Filter,
    view: &'a dyn View,
    access: Access<'a>,
    plan: Plan,
    /// How many rows there are.
    all: u32,
    chains: Vec<Chain>,
    #[cfg(test)]
    walked: u32,
    /// The kinds that begin as wanted.
    kinds: Vec<Arc<str>>,
    rows: Vec<u32>,
    other: Vec<u32>,
    keys: Vec<Key>,
}

/// Rows of an index that were listed: where they are chained, the newest first, each window would walk from the newest row back again.
#[derive(Debug)]
struct Chain {
    index: Index,
    /// All rows from this one on.
    from: u32,
    rows: Vec<u32>,
}

/// A row with what it is sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) row: u32,
    pub(super) key: Key,
}

impl<'a> Candidates<'a> {
    /// Plans the way through the first `rows` rows; `None` if none of them can match.
    pub(super) fn plan(
        filter: &'a Filter,
        view: &'a dyn View,
        rows: u32,
        access: Access<'a>,
    ) -> io::Result<Option<Self>> {
        let (mut kinds, mut chains) = (Vec::new(), Vec::new());
        let mut offers = Vec::new();
        for index in Index::of(filter) {
            let mut few = Vec::new();
            let rows = match (index, &filter.kind) {
                (Index::KindPrefix, Some(KindFilter::Prefix(prefix))) => {
                    view.kinds(prefix, access, &mut kinds)?;
                    if kinds.len() > QUICK_KINDS && !access.is_patient() {
                        return Err(io::ErrorKind::WouldBlock.into());
                    }
                    kinds
                        .iter()
                        .fold(0, |sum: u32, (_, rows)| sum.saturating_add(*rows))
                }
                _ => match term(filter, index) {
                    Some(term) => view.count(term, access, &mut few)?,
                    None => rows,
                },
            };
            if rows == 0 {
                return Ok(None);
            }
            if !few.is_empty() {
                chains.push(Chain {
                    index,
                    from: 0,
                    rows: few,
                });
            }
            offers.push(Offer { index, rows });
        }
        let plan = Plan::choose(&offers, rows, !filter.data.is_empty());
        Ok(plan.map(|plan| Self {
            filter,
            view,
            access,
            plan,
            all: rows,
            chains,
            #[cfg(test)]
            walked: 0,
            kinds: kinds.into_iter().map(|(kind, _)| kind).collect(),
            rows: Vec::new(),
            other: Vec::new(),
            keys: Vec::new(),
        }))
    }

    /// How many rows of chains were gone through, one by one.
    #[cfg(test)]
    pub(super) fn walked(&self) -> u32 {
        self.walked
    }

    pub(super) fn the_plan(&self) -> &Plan {
        &self.plan
    }

    /// The candidates in a range of rows, as their rows rise; answers how many rows were looked at.
    pub(super) fn within(
        &mut self,
        window: Range<u32>,
        out: &mut Vec<Candidate>,
    ) -> io::Result<usize> {
        let mut rows = std::mem::take(&mut self.rows);
        rows.clear();
        self.list(self.plan.by, window.clone(), &mut rows)?;
        let mut other = std::mem::take(&mut self.other);
        for at in 0..self.plan.and.len() {
            if rows.is_empty() {
                break;
            }
            other.clear();
            self.list(self.plan.and[at], window.clone(), &mut other)?;
            intersect(&mut rows, &other);
        }
        self.keys.clear();
        self.view.keys(&rows, self.access, &mut self.keys)?;
        let looked_at = rows.len();
        let with_keys = rows.iter().zip(&self.keys);
        out.extend(
            with_keys
                .filter(|(_, key)| !key.hidden && self.filter.takes_keys(key.time, key.id))
                .map(|(row, key)| Candidate {
                    row: *row,
                    key: *key,
                }),
        );
        (self.rows, self.other) = (rows, other);
        Ok(looked_at)
    }

    fn list(&mut self, index: Index, window: Range<u32>, out: &mut Vec<u32>) -> io::Result<()> {
        let is_listed = self.chains.iter().any(|chain| chain.index == index);
        let many_kinds = index == Index::KindPrefix && self.kinds.len() > FEW_KINDS;
        if is_listed || (many_kinds || index.is_by_hash()) && window != (0..self.all) {
            let rows = self.chained(index, window.start)?;
            out.extend_from_slice(part(rows, window));
            return Ok(());
        }
        self.ask(index, window, out)
    }

    /// Asks the segment, whatever is known already.
    fn ask(&self, index: Index, window: Range<u32>, out: &mut Vec<u32>) -> io::Result<()> {
        if let Some(term) = term(self.filter, index) {
            return self.view.rows_with(term, window, self.access, out);
        }
        if index == Index::Blocks {
            out.extend(window);
            return Ok(());
        }
        for kind in &self.kinds {
            self.view
                .rows_with(Term::Kind(kind), window.clone(), self.access, out)?;
        }
        if self.kinds.len() > 1 {
            out.sort_unstable();
        }
        Ok(())
    }

    /// The rows of a chain or of many kinds, from one on: first from where it is needed, and the whole if that was not enough.
    fn chained(&mut self, index: Index, from: u32) -> io::Result<&[u32]> {
        let known = self.chains.iter().position(|chain| chain.index == index);
        let at = known.unwrap_or(self.chains.len());
        let is_enough = self.chains.get(at).is_some_and(|chain| chain.from <= from);
        if !is_enough {
            let from = known.map_or(from, |_| 0);
            let mut rows = Vec::new();
            self.ask(index, from..self.all, &mut rows)?;
            #[cfg(test)]
            {
                self.walked += super::wire::len32(rows.len());
            }
            let chain = Chain { index, from, rows };
            match known {
                Some(at) => self.chains[at] = chain,
                None => self.chains.push(chain),
            }
        }
        Ok(&self.chains[at].rows)
    }
}

/// What an index is asked for; `None` for those that are no single list.
fn term(filter: &Filter, index: Index) -> Option<Term<'_>> {
    match index {
        Index::Correlation => filter.correlation.as_ref().map(Term::Correlation),
        Index::Parent => filter.parent.map(|parent| Term::Parent(parent.get())),
        Index::Source => filter.source.as_deref().map(Term::Source),
        Index::Kind => match &filter.kind {
            Some(KindFilter::Exact(kind)) => Some(Term::Kind(kind)),
            _ => None,
        },
        Index::KindPrefix | Index::Blocks => None,
    }
}

/// Keeps of the first list what stands in the second, too; both rise.
fn intersect(rows: &mut Vec<u32>, other: &[u32]) {
    let mut rest = other;
    rows.retain(|row| {
        let skip = rest.iter().take_while(|other| *other < row).count();
        rest = &rest[skip..];
        rest.first() == Some(row)
    });
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lists_are_intersected_as_sets_are(
            one in prop::collection::btree_set(0_u32..60, 0..40),
            other in prop::collection::btree_set(0_u32..60, 0..40),
        ) {
            let mut rows: Vec<_> = one.iter().copied().collect();
            intersect(&mut rows, &other.iter().copied().collect::<Vec<_>>());
            let expected: BTreeSet<_> = one.intersection(&other).copied().collect();
            prop_assert_eq!(rows, expected.into_iter().collect::<Vec<_>>());
        }
    }
}
