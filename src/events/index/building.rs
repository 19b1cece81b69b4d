//! An index as it is made. Pure.

use std::collections::HashMap;

use crate::ids::CorrelationId;

use super::{
    super::{
        blocks::Block,
        bloom::{BITS_PER_ID, BITS_PER_LINK, Member, Membership},
        columns::{ZONE_ROWS, Zone},
        frame::{Header, Kind},
        packed,
        record::Record,
        recovery::Summary,
        wire::{len16, len32},
    },
    INLINE_ROWS, Layout, PAGE_ROWS,
    directory::{Directory, Firsts},
    ordered,
    pages::write_rising,
};

/// The rows of a segment, gathered to be written as its index.
#[derive(Debug, Default)]
pub(in crate::events) struct IndexBuilder {
    ids: Vec<u64>,
    times: Vec<i64>,
    offsets: Vec<u32>,
    kinds: HashMap<Box<[u8]>, Vec<u32>, foldhash::fast::RandomState>,
    sources: HashMap<Box<[u8]>, Vec<u32>, foldhash::fast::RandomState>,
    correlations: Vec<(u64, u32)>,
    parents: Vec<(u64, u32)>,
}

/// Pages as they are made.
#[derive(Debug, Default)]
struct Pages {
    log: u64,
    bytes: Vec<u8>,
    starts: Vec<u32>,
}

impl IndexBuilder {
    pub(in crate::events) fn push(&mut self, record: &Record<'_>, offset: u32) {
        let row = self.rows();
        self.ids.push(record.id);
        self.times.push(record.time);
        self.offsets.push(offset);
        list(&mut self.kinds, record.kind, row);
        list(&mut self.sources, record.source, row);
        let correlation = record.correlation.and_then(CorrelationId::hash64_of);
        self.correlations
            .extend(correlation.map(|hash| (hash, row)));
        self.parents.extend(record.parent.map(|id| (id, row)));
    }

    pub(in crate::events) fn rows(&self) -> u32 {
        len32(self.ids.len())
    }

    pub(in crate::events) fn offsets(&self) -> impl Iterator<Item = u32> + '_ {
        self.offsets.iter().copied()
    }

    /// The file: of log `log`, for a segment of `bytes` bytes in these blocks.
    pub(in crate::events) fn finish(
        mut self,
        layout: Layout,
        log: u64,
        summary: &Summary,
        bytes: u32,
        blocks: &[Block],
        blocks_bytes: u32,
    ) -> Vec<u8> {
        let mut pages = Pages {
            log,
            ..Pages::default()
        };
        self.write_keys(&mut pages);
        let orders = self.write_order(&mut pages);
        let (ids, links) = self.filters(layout);
        let numbers = |mut pairs: Vec<(u64, u32)>| {
            pairs.sort_unstable();
            let mut lists: Vec<(Box<[u8]>, Vec<u32>)> = Vec::new();
            for (number, row) in pairs {
                let key = number.to_be_bytes();
                match lists.last_mut() {
                    Some((last, rows)) if **last == key => rows.push(row),
                    _ => lists.push((key.into(), vec![row])),
                }
            }
            lists
        };
        let texts = |lists: HashMap<_, _, _>| {
            let mut lists: Vec<(Box<[u8]>, Vec<u32>)> = lists.into_iter().collect();
            lists.sort_unstable();
            lists
        };
        let tables = [
            texts(self.kinds),
            texts(self.sources),
            numbers(self.correlations),
            numbers(self.parents),
        ]
        .map(|lists| write_terms(&lists, layout.page_bytes(), &mut pages));
        let zones = zones(&self.ids, &self.times);
        let directory = Directory {
            layout,
            summary: summary.clone(),
            bytes,
            blocks: blocks.to_vec(),
            blocks_bytes,
            rows: len32(self.ids.len()),
            span: zones.iter().copied().reduce(Zone::and),
            zones,
            ids,
            links,
            orders,
            tables,
            pages: [pages.starts, vec![len32(pages.bytes.len())]].concat(),
            own_bytes: 0,
        };
        let mut file = directory.encode(log);
        file.extend_from_slice(&pages.bytes);
        file
    }

    fn write_keys(&self, pages: &mut Pages) {
        let size = PAGE_ROWS as usize;
        let chunks = self.ids.chunks(size).zip(self.times.chunks(size));
        for ((ids, times), offsets) in chunks.zip(self.offsets.chunks(size)) {
            let mut page = Vec::new();
            page.extend_from_slice(&len32(ids.len()).to_le_bytes());
            packed::write(&mut page, ids);
            let times: Vec<u64> = times.iter().map(|time| ordered(*time)).collect();
            packed::write(&mut page, &times);
            let offsets: Vec<u64> = offsets.iter().map(|offset| u64::from(*offset)).collect();
            packed::write(&mut page, &offsets);
            pages.push(&page);
        }
    }

    fn write_order(&self, pages: &mut Pages) -> Vec<u64> {
        if self.ids.is_sorted_by(|one, next| one < next) {
            return Vec::new();
        }
        let mut order: Vec<(u64, u32)> = self.ids.iter().copied().zip(0..).collect();
        order.sort_unstable();
        let mut lowest = Vec::new();
        for part in order.chunks(PAGE_ROWS as usize) {
            let ids: Vec<u64> = part.iter().map(|(id, _)| *id).collect();
            let rows: Vec<u64> = part.iter().map(|(_, row)| u64::from(*row)).collect();
            let mut page = Vec::new();
            page.extend_from_slice(&len32(part.len()).to_le_bytes());
            packed::write(&mut page, &ids);
            packed::write(&mut page, &rows);
            pages.push(&page);
            lowest.push(ids[0]);
        }
        lowest
    }

    /// Of ids, and of links.
    fn filters(&mut self, layout: Layout) -> (Membership, Membership) {
        self.correlations.sort_unstable();
        self.parents.sort_unstable();
        let keys = |pairs: &[(u64, u32)]| pairs.chunk_by(|one, next| one.0 == next.0).count();
        let links_count = keys(&self.correlations) + keys(&self.parents);
        let ids = self.ids.iter().map(|id| Member::Id(*id));
        let correlations = self.correlations.iter();
        let correlations = correlations.map(|(hash, _)| Member::Correlation(*hash));
        let parents = self.parents.iter().map(|(id, _)| Member::Parent(*id));
        let links = correlations.chain(parents);
        match layout {
            Layout::OneFilter => {
                let count = self.ids.len() + links_count;
                let all = Membership::of(count, BITS_PER_ID, ids.chain(links));
                (all.clone(), all)
            }
            Layout::TwoFilters => (
                Membership::of(self.ids.len(), BITS_PER_ID, ids),
                Membership::of(links_count, BITS_PER_LINK, links),
            ),
        }
    }
}

fn list(
    lists: &mut HashMap<Box<[u8]>, Vec<u32>, foldhash::fast::RandomState>,
    text: &[u8],
    row: u32,
) {
    match lists.get_mut(text) {
        Some(rows) => rows.push(row),
        None => {
            lists.insert(text.into(), vec![row]);
        }
    }
}

fn zones(ids: &[u64], times: &[i64]) -> Vec<Zone> {
    let size = ZONE_ROWS as usize;
    let keys = |(ids, times): (&[u64], &[i64])| {
        let keys = ids.iter().zip(times).map(|(id, time)| Zone::of(*id, *time));
        keys.reduce(Zone::and)
    };
    ids.chunks(size)
        .zip(times.chunks(size))
        .filter_map(keys)
        .collect()
}

impl Pages {
    /// Adds a page; answers its number.
    fn push(&mut self, body: &[u8]) -> u32 {
        let number = len32(self.starts.len());
        self.starts.push(len32(self.bytes.len()));
        let mut header = Header::of(Kind::Page, self.log, 0, 0, body);
        header.sequence = u64::from(number) + 2;
        self.bytes.extend_from_slice(&header.encode());
        self.bytes.extend_from_slice(body);
        number
    }
}

/// Writes a table's pages; answers the first key and the number of each. A list never spans two pages of terms.
fn write_terms(lists: &[(Box<[u8]>, Vec<u32>)], page_bytes: usize, pages: &mut Pages) -> Firsts {
    let mut table = Firsts::default();
    let (mut page, mut first): (Vec<u8>, Option<&[u8]>) = (Vec::new(), None);
    for (key, rows) in lists {
        first = first.or(Some(key));
        page.extend_from_slice(&len16(key.len()).to_le_bytes());
        page.extend_from_slice(key);
        page.extend_from_slice(&len32(rows.len()).to_le_bytes());
        if rows.len() <= INLINE_ROWS {
            write_rising(&mut page, rows);
        } else {
            for part in rows.chunks(PAGE_ROWS as usize) {
                let number = write_list(part, pages);
                page.extend_from_slice(&part[0].to_le_bytes());
                page.extend_from_slice(&number.to_le_bytes());
            }
        }
        if page.len() >= page_bytes {
            if let Some(first) = first {
                table.push(first, pages.push(&page));
            }
            (page, first) = (Vec::new(), None);
        }
    }
    if let Some(first) = first {
        table.push(first, pages.push(&page));
    }
    table
}

fn write_list(rows: &[u32], pages: &mut Pages) -> u32 {
    let mut page = Vec::new();
    page.extend_from_slice(&len32(rows.len()).to_le_bytes());
    let rows: Vec<u64> = rows.iter().map(|row| u64::from(*row)).collect();
    packed::write(&mut page, &rows);
    pages.push(&page)
}
