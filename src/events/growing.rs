//! A segment in memory, as its readers see it.

use std::{io, ops::Range, sync::Arc};

use super::{
    columns::{Columns, Zone},
    segment::{Place, Segment},
    view::{Access, Key, Term, View},
};

impl View for Segment {
    fn base(&self) -> u64 {
        self.base
    }

    fn rows(&self) -> u32 {
        self.published()
    }

    fn span(&self) -> Option<Zone> {
        self.inner.read().columns.span()
    }

    fn zones(&self, zones: Range<u32>, out: &mut Vec<Zone>) {
        let inner = self.inner.read();
        let all = inner.columns.zones();
        let end = (zones.end as usize).min(all.len());
        out.extend_from_slice(all.get(zones.start as usize..end).unwrap_or_default());
    }

    fn kinds(&self, prefix: &str, _: Access, out: &mut Vec<(Arc<str>, u32)>) -> io::Result<()> {
        let inner = self.inner.read();
        for (text, rows) in inner.columns.kinds.texts() {
            let text = str::from_utf8(text).ok();
            out.extend(
                text.filter(|text| text.starts_with(prefix))
                    .map(|text| (text.into(), rows)),
            );
        }
        Ok(())
    }

    fn count(&self, term: Term<'_>, _: Access) -> io::Result<u32> {
        let inner = self.inner.read();
        Ok(inner.columns.count(term))
    }

    fn rows_with(
        &self,
        term: Term<'_>,
        within: Range<u32>,
        _: Access,
        out: &mut Vec<u32>,
    ) -> io::Result<()> {
        let from = out.len();
        let inner = self.inner.read();
        let mut next = inner.columns.newest_with(term);
        while let Some(row) = next.filter(|row| *row >= within.start) {
            if row < within.end {
                out.push(row);
            }
            next = inner.columns.previous_with(term, row);
        }
        out[from..].reverse();
        Ok(())
    }

    fn keys(&self, rows: &[u32], _: Access, out: &mut Vec<Key>) -> io::Result<()> {
        let inner = self.inner.read();
        let columns = &inner.columns;
        out.extend(rows.iter().map(|row| Key {
            id: columns.ids[*row as usize],
            time: columns.times[*row as usize],
            hidden: columns.is_hidden(*row),
        }));
        Ok(())
    }

    fn find(&self, id: u64, _: Access) -> io::Result<Option<u32>> {
        Ok(Self::find(self, id).filter(|row| *row < self.published()))
    }

    fn read(&self, row: u32, access: Access, work: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        match self.look(row, &mut *work) {
            Place::Hot(()) => Ok(()),
            Place::Cold(..) if access == Access::Memory => Err(io::ErrorKind::WouldBlock.into()),
            Place::Cold(start, end) => {
                work(&self.read_file(start, end)?);
                Ok(())
            }
        }
    }
}

impl Columns {
    /// How many rows have the term, at the most: of a correlation and a parent only whether there are any is known.
    fn count(&self, term: Term<'_>) -> u32 {
        /// What a correlation or the effects of an event usually have.
        const SOME: u32 = 16;
        match term {
            Term::Kind(text) => self.kinds.count(text.as_bytes()),
            Term::Source("") => self.rows() - self.sources.total(),
            Term::Source(text) => self.sources.count(text.as_bytes()),
            Term::Correlation(_) | Term::Parent(_) => {
                self.newest_with(term).map_or(0, |row| SOME.min(row + 1))
            }
        }
    }

    fn newest_with(&self, term: Term<'_>) -> Option<u32> {
        match term {
            Term::Kind(text) => self.kinds.newest(text.as_bytes()),
            Term::Source("") => self.sourceless(self.rows()),
            Term::Source(text) => self.sources.newest(text.as_bytes()),
            Term::Correlation(id) => self.newest_with_correlation(id),
            Term::Parent(id) => self.newest_with_parent(id),
        }
    }

    fn previous_with(&self, term: Term<'_>, row: u32) -> Option<u32> {
        match term {
            Term::Kind(_) => self.kinds.previous(row),
            Term::Source("") => self.sourceless(row),
            Term::Source(_) => self.sources.previous(row),
            Term::Correlation(_) => self.previous_with_correlation(row),
            Term::Parent(_) => self.previous_with_parent(row),
        }
    }

    /// The newest row below `row` that names no source.
    fn sourceless(&self, row: u32) -> Option<u32> {
        (0..row)
            .rev()
            .find(|row| self.sources.rows[*row as usize] == super::columns::NONE)
    }
}
