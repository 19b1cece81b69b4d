//! The index of a sealed segment: a file with a directory and pages, each a frame. Pure.
//!
//! The directory is small and stays in memory; pages are read when they are asked for. A reader takes nothing for granted: what does not
//! add up is `None`, whatever the checksums say.

use std::{collections::HashMap, sync::Arc};

use crate::ids::CorrelationId;

use super::{
    blocks::{Block, SEGMENT_BYTES_MAX},
    bloom::{Member, Membership},
    columns::{ZONE_ROWS, Zone},
    frame::{HEADER_BYTES, Header, Kind},
    packed::{self, Packed},
    record::Record,
    recovery::{SEQUENCE_MAX, Summary},
    wire::{Reader, len16, len32},
};

/// Rows of a page of keys, and of a page of a long list.
pub(super) const PAGE_ROWS: u32 = 1024;
/// Bytes after which a page of terms ends.
const PAGE_BYTES: usize = 4096;
/// Longer lists have pages of their own.
const INLINE_ROWS: usize = 128;

/// What rows are listed by; its number is the place of its table in the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Kind = 0,
    Source = 1,
    /// The key is the hash, the highest byte first.
    Correlation = 2,
    /// The key is the id, the highest byte first.
    Parent = 3,
}

const FIELDS: usize = 4;

/// What is known of a sealed segment without reading its pages.
#[derive(Debug, Clone, Default)]
pub(super) struct Directory {
    pub(super) summary: Summary,
    /// Bytes of the segment before it was compressed.
    pub(super) bytes: u32,
    pub(super) blocks: Vec<Block>,
    /// Bytes of the file of blocks.
    pub(super) blocks_bytes: u32,
    pub(super) rows: u32,
    pub(super) zones: Vec<Zone>,
    pub(super) span: Option<Zone>,
    pub(super) membership: Arc<Membership>,
    /// The lowest id of each page of ids in their order, unless ids rise with the rows: then there are none.
    orders: Vec<u64>,
    tables: [Firsts; FIELDS],
    /// Where each page starts behind the directory, and last where they end.
    pages: Vec<u32>,
    /// Bytes of the directory's own frame.
    own_bytes: u32,
}

/// The first key of each page of terms, and that page's number. In a few pieces of memory, so that a search meets few of its lines.
#[derive(Debug, Clone, Default)]
struct Firsts {
    keys: Vec<u8>,
    /// Where each key ends.
    ends: Vec<u32>,
    pages: Vec<u32>,
}

/// The rows of a segment, gathered to be written as its index.
#[derive(Debug, Default)]
pub(super) struct IndexBuilder {
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
    pub(super) fn push(&mut self, record: &Record<'_>, offset: u32) {
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

    pub(super) fn rows(&self) -> u32 {
        len32(self.ids.len())
    }

    pub(super) fn offsets(&self) -> impl Iterator<Item = u32> + '_ {
        self.offsets.iter().copied()
    }

    /// The file: of log `log`, for a segment of `bytes` bytes in these blocks.
    pub(super) fn finish(
        mut self,
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
        let membership = self.membership();
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
        .map(|lists| write_terms(&lists, &mut pages));
        let zones = zones(&self.ids, &self.times);
        let directory = Directory {
            summary: summary.clone(),
            bytes,
            blocks: blocks.to_vec(),
            blocks_bytes,
            rows: len32(self.ids.len()),
            span: zones.iter().copied().reduce(Zone::and),
            zones,
            membership: Arc::new(membership),
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

    fn membership(&mut self) -> Membership {
        self.correlations.sort_unstable();
        self.parents.sort_unstable();
        let keys = |pairs: &[(u64, u32)]| pairs.chunk_by(|one, next| one.0 == next.0).count();
        let count = self.ids.len() + keys(&self.correlations) + keys(&self.parents);
        let mut membership = Membership::with_room_for(count);
        for id in &self.ids {
            membership.insert(Member::Id(*id));
        }
        for (hash, _) in &self.correlations {
            membership.insert(Member::Correlation(*hash));
        }
        for (id, _) in &self.parents {
            membership.insert(Member::Parent(*id));
        }
        membership
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

/// Keeps the order of signed numbers among unsigned ones.
fn ordered(time: i64) -> u64 {
    time.cast_unsigned() ^ (1 << 63)
}

fn time_of(ordered: u64) -> i64 {
    (ordered ^ (1 << 63)).cast_signed()
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
fn write_terms(lists: &[(Box<[u8]>, Vec<u32>)], pages: &mut Pages) -> Firsts {
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
        if page.len() >= PAGE_BYTES {
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

/// The first row, then each one's distance from the one before: seven bits a byte, the lowest first, the highest bit set but in the last.
fn write_rising(out: &mut Vec<u8>, rows: &[u32]) {
    let mut before = 0;
    for row in rows {
        let mut left = row - before;
        before = *row;
        while left >= 0x80 {
            out.push(left.to_le_bytes()[0] | 0x80);
            left >>= 7;
        }
        out.push(left.to_le_bytes()[0]);
    }
}

fn read_rising(reader: &mut Reader<'_>, count: u32) -> Option<Vec<u32>> {
    let mut rows = Vec::new();
    let mut row = 0_u32;
    for _ in 0..count {
        let mut step = 0_u32;
        for shift in (0..35).step_by(7) {
            let byte = reader.u8()?;
            step |= u32::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                break;
            }
        }
        row = row.checked_add(step)?;
        rows.push(row);
    }
    Some(rows)
}

/// Reads `count` things, as far as there are bytes for them.
fn many<'a, T>(
    reader: &mut Reader<'a>,
    mut read: impl FnMut(&mut Reader<'a>) -> Option<T>,
) -> Option<Vec<T>> {
    let count = reader.u32()?;
    (0..count).map(|_| read(reader)).collect()
}

impl Directory {
    fn encode(&self, log: u64) -> Vec<u8> {
        let mut body = Vec::new();
        let u32s = |body: &mut Vec<u8>, number: u32| body.extend_from_slice(&number.to_le_bytes());
        let u64s = |body: &mut Vec<u8>, number: u64| body.extend_from_slice(&number.to_le_bytes());
        u64s(&mut body, self.summary.base);
        u64s(&mut body, self.summary.last);
        u32s(&mut body, len32(self.summary.holes.len()));
        for (first, last) in &self.summary.holes {
            u64s(&mut body, *first);
            u64s(&mut body, *last);
        }
        u32s(&mut body, self.bytes);
        u32s(&mut body, self.blocks_bytes);
        u32s(&mut body, len32(self.blocks.len()));
        for block in &self.blocks {
            u32s(&mut body, block.start);
            u32s(&mut body, block.at);
        }
        u32s(&mut body, self.rows);
        for zone in &self.zones {
            u64s(&mut body, ordered(zone.time.0));
            u64s(&mut body, ordered(zone.time.1));
            u64s(&mut body, zone.id.0);
            u64s(&mut body, zone.id.1);
        }
        self.membership.write(&mut body);
        u32s(&mut body, len32(self.orders.len()));
        for lowest in &self.orders {
            u64s(&mut body, *lowest);
        }
        for table in &self.tables {
            u32s(&mut body, len32(table.len()));
            for at in 0..table.len() {
                let key = table.key(at);
                body.extend_from_slice(&len16(key.len()).to_le_bytes());
                body.extend_from_slice(key);
                u32s(&mut body, table.pages[at]);
            }
        }
        u32s(&mut body, len32(self.pages.len()));
        for page in &self.pages {
            u32s(&mut body, *page);
        }
        let mut header = Header::of(Kind::Directory, log, self.rows, 0, &body);
        header.sequence = 1;
        [&header.encode()[..], &body].concat()
    }

    /// The directory in its frame.
    pub(super) fn decode(header: &Header, body: &[u8]) -> Option<Self> {
        if header.kind != Kind::Directory {
            return None;
        }
        let mut reader = Reader::new(body);
        let mut directory = Self {
            own_bytes: len32(header.frame_bytes()),
            ..Self::default()
        };
        directory.read_facts(&mut reader)?;
        directory.read_rows(&mut reader)?;
        directory.read_tables(&mut reader)?;
        (reader.is_empty() && directory.adds_up()).then_some(directory)
    }

    fn read_facts(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        let (base, last) = (reader.u64()?, reader.u64()?);
        self.summary = Summary {
            base,
            last,
            synced: last,
            holes: many(reader, |reader| Some((reader.u64()?, reader.u64()?)))?,
            has_head: true,
            ..Summary::default()
        };
        self.bytes = reader.u32()?;
        self.blocks_bytes = reader.u32()?;
        self.blocks = many(reader, |reader| {
            Some(Block {
                start: reader.u32()?,
                at: reader.u32()?,
            })
        })?;
        Some(())
    }

    fn read_rows(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        self.rows = reader.u32()?;
        for _ in 0..self.rows.div_ceil(ZONE_ROWS) {
            self.zones.push(Zone {
                time: (time_of(reader.u64()?), time_of(reader.u64()?)),
                id: (reader.u64()?, reader.u64()?),
            });
        }
        self.span = self.zones.iter().copied().reduce(Zone::and);
        self.membership = Arc::new(Membership::read(reader)?);
        self.orders = many(reader, Reader::u64)?;
        Some(())
    }

    fn read_tables(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        for table in &mut self.tables {
            for _ in 0..reader.u32()? {
                let len = usize::from(reader.u16()?);
                table.push(reader.take(len)?, reader.u32()?);
            }
        }
        self.pages = many(reader, Reader::u32)?;
        Some(())
    }

    fn adds_up(&self) -> bool {
        let Summary { base, last, .. } = self.summary;
        let numbers = base >= 1 && last <= SEQUENCE_MAX && last >= base - 1;
        let holes = &self.summary.holes;
        let within = |(first, end): &(u64, u64)| base <= *first && first <= end && *end <= last;
        let rising = |one: &Block, next: &Block| one.start < next.start && one.at < next.at;
        let ends = self
            .blocks
            .last()
            .is_none_or(|block| block.start < self.bytes && block.at < self.blocks_bytes);
        let pages = self.rows.div_ceil(PAGE_ROWS) as usize + self.orders.len();
        self.blocks.is_sorted_by(rising)
            && ends
            && self.pages.is_sorted()
            && self.pages.len() > pages
            && numbers
            && holes.iter().all(within)
            && self.bytes <= SEGMENT_BYTES_MAX
    }

    /// Bytes of the segment's files.
    pub(super) fn disk_bytes(&self) -> u64 {
        let pages = self.pages.last().copied().unwrap_or_default();
        u64::from(self.blocks_bytes) + u64::from(self.own_bytes) + u64::from(pages)
    }

    /// Memory in bytes.
    pub(super) fn memory(&self) -> usize {
        let keys: usize = self.tables.iter().map(Firsts::bytes).sum();
        self.blocks.len() * size_of::<Block>()
            + self.zones.len() * size_of::<Zone>()
            + self.membership.bytes()
            + self.orders.len() * size_of::<u64>()
            + self.pages.len() * size_of::<u32>()
            + keys
    }

    /// Where a page's frame lies in the file, first and one past the last byte.
    pub(super) fn page(&self, number: u32) -> Option<(u32, u32)> {
        let from = *self.pages.get(number as usize)?;
        let to = *self.pages.get(number as usize + 1)?;
        Some((
            self.own_bytes.checked_add(from)?,
            self.own_bytes.checked_add(to)?,
        ))
    }

    /// The block that has the byte at `offset` of the segment, and where its frame lies, first and one past the last byte.
    pub(super) fn block_at(&self, offset: u32) -> Option<(u32, u32, u32)> {
        let behind = self.blocks.partition_point(|block| block.start <= offset);
        let number = behind.checked_sub(1)?;
        let end = self
            .blocks
            .get(behind)
            .map_or(self.blocks_bytes, |next| next.at);
        Some((len32(number), self.blocks[number].at, end))
    }

    /// The page of keys that has a row.
    pub(super) fn page_of_row(row: u32) -> u32 {
        row / PAGE_ROWS
    }

    /// The pages that may have an id, in rising rows: of keys, or else of ids in their order.
    pub(super) fn pages_of_id(&self, id: u64) -> PagesOfId {
        if self.orders.is_empty() {
            let zone = self.zones.partition_point(|zone| zone.id.1 < id);
            let has = self.zones.get(zone).is_some_and(|zone| zone.id.0 <= id);
            return PagesOfId::Keys(has.then(|| len32(zone) * ZONE_ROWS / PAGE_ROWS));
        }
        let first = self.rows.div_ceil(PAGE_ROWS);
        // Several rows of one id may begin in the page before.
        let from = self.orders.partition_point(|lowest| *lowest < id);
        let to = self.orders.partition_point(|lowest| *lowest <= id);
        PagesOfId::Order(first + len32(from.saturating_sub(1))..first + len32(to))
    }

    /// The page of terms that has a key, if any has.
    pub(super) fn page_of_term(&self, field: Field, key: &[u8]) -> Option<u32> {
        let table = &self.tables[field as usize];
        Some(table.pages[table.not_above(key).checked_sub(1)?])
    }

    /// The pages of terms that may have keys with this beginning.
    pub(super) fn pages_from(&self, field: Field, prefix: &[u8]) -> impl Iterator<Item = u32> + '_ {
        let table = &self.tables[field as usize];
        let from = table.not_above(prefix).saturating_sub(1);
        let prefix = prefix.to_vec();
        (from..table.len())
            .take_while(move |at| *at == from || table.key(*at).starts_with(&prefix))
            .map(|at| table.pages[at])
    }
}

impl Firsts {
    fn push(&mut self, key: &[u8], page: u32) {
        self.keys.extend_from_slice(key);
        self.ends.push(len32(self.keys.len()));
        self.pages.push(page);
    }

    fn len(&self) -> usize {
        self.pages.len()
    }

    fn key(&self, at: usize) -> &[u8] {
        let from = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.keys[from as usize..self.ends[at] as usize]
    }

    /// How many of the keys, which rise, are not above `key`.
    fn not_above(&self, key: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.key(middle) <= key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    fn bytes(&self) -> usize {
        self.keys.len() + (self.ends.len() + self.pages.len()) * size_of::<u32>()
    }
}

/// Where rows of an id are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PagesOfId {
    /// In a page of keys, if at all.
    Keys(Option<u32>),
    /// In pages of ids in their order.
    Order(std::ops::Range<u32>),
}

/// Ids, times and offsets of some rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys<'a> {
    ids: Packed<'a>,
    times: Packed<'a>,
    offsets: Packed<'a>,
}

impl<'a> Keys<'a> {
    pub(super) fn read(page: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(page);
        let rows = reader.u32().filter(|rows| *rows <= PAGE_ROWS)?;
        Some(Self {
            ids: Packed::read(&mut reader, rows)?,
            times: Packed::read(&mut reader, rows)?,
            offsets: Packed::read(&mut reader, rows)?,
        })
    }

    /// Id and time of the row with this number in the page.
    pub(super) fn get(&self, at: u32) -> Option<(u64, i64)> {
        (at < self.ids.len()).then(|| (self.ids.get(at), time_of(self.times.get(at))))
    }

    pub(super) fn offset(&self, at: u32) -> Option<u32> {
        (at < self.offsets.len())
            .then(|| u32::try_from(self.offsets.get(at)).ok())
            .flatten()
    }

    /// The row in the page with this id, where ids rise.
    pub(super) fn find(&self, id: u64) -> Option<u32> {
        let at = self.ids.below(id);
        (at < self.ids.len() && self.ids.get(at) == id).then_some(at)
    }

    /// How many rows of the page start before `offset`.
    pub(super) fn below(&self, offset: u32) -> u32 {
        self.offsets.below(offset.into())
    }
}

/// The rows of an id in a page of ids in their order.
pub(super) fn rows_of_id(page: &[u8], id: u64) -> Option<Vec<u32>> {
    let mut reader = Reader::new(page);
    let rows = reader.u32().filter(|rows| *rows <= PAGE_ROWS)?;
    let ids = Packed::read(&mut reader, rows)?;
    let numbers = Packed::read(&mut reader, rows)?;
    let from = ids.below(id);
    (from..ids.len())
        .take_while(|at| ids.get(*at) == id)
        .map(|at| u32::try_from(numbers.get(at)).ok())
        .collect()
}

/// The rows of one term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Listed {
    Rows(Vec<u32>),
    /// The first row of each page of the list, and that page's number; and how many rows there are.
    Pages(u32, Vec<(u32, u32)>),
}

impl Listed {
    pub(super) fn count(&self) -> u32 {
        match self {
            Self::Rows(rows) => len32(rows.len()),
            Self::Pages(count, _) => *count,
        }
    }
}

/// The next term of a page: its key and rows.
fn next_term<'a>(reader: &mut Reader<'a>) -> Option<(&'a [u8], Listed)> {
    let len = usize::from(reader.u16()?);
    let key = reader.take(len)?;
    let count = reader.u32()?;
    if count as usize <= INLINE_ROWS {
        return Some((key, Listed::Rows(read_rising(reader, count)?)));
    }
    let pages = (0..count.div_ceil(PAGE_ROWS)).map(|_| Some((reader.u32()?, reader.u32()?)));
    Some((key, Listed::Pages(count, pages.collect::<Option<_>>()?)))
}

/// Goes over the next term of a page, without its rows being read; answers its key.
fn skip_term<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    const PAGE_OF_LIST_BYTES: usize = 8;
    let len = usize::from(reader.u16()?);
    let key = reader.take(len)?;
    let count = reader.u32()?;
    if count as usize <= INLINE_ROWS {
        for _ in 0..count {
            while reader.u8()? & 0x80 != 0 {}
        }
    } else {
        reader.take(count.div_ceil(PAGE_ROWS) as usize * PAGE_OF_LIST_BYTES)?;
    }
    Some(key)
}

/// The rows of a term in its page; `Some(None)` if it is not there.
#[expect(clippy::option_option, reason = "damaged, absent, found")]
pub(super) fn find_term(page: &[u8], key: &[u8]) -> Option<Option<Listed>> {
    let mut reader = Reader::new(page);
    while !reader.is_empty() {
        let mut here = reader.clone();
        match skip_term(&mut reader)?.cmp(key) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => return Some(Some(next_term(&mut here)?.1)),
            std::cmp::Ordering::Greater => break,
        }
    }
    Some(None)
}

/// The keys in a page of terms, and how many rows each has.
pub(super) fn terms(page: &[u8]) -> Option<Vec<(&[u8], u32)>> {
    let mut reader = Reader::new(page);
    let mut terms = Vec::new();
    while !reader.is_empty() {
        let (key, rows) = next_term(&mut reader)?;
        terms.push((key, rows.count()));
    }
    Some(terms)
}

/// The rows in a page of a long list.
pub(super) fn list_page(page: &[u8]) -> Option<Packed<'_>> {
    let mut reader = Reader::new(page);
    let rows = reader.u32().filter(|rows| *rows <= PAGE_ROWS)?;
    Packed::read(&mut reader, rows)
}

/// The bytes of a page in its frame.
pub(super) fn page_body(frame: &[u8], number: u32) -> Option<&[u8]> {
    let (header, body) = super::frame::decode(frame).ok()?;
    let fits = header.kind == Kind::Page
        && header.sequence == u64::from(number) + 2
        && header.frame_bytes() == frame.len()
        && frame.len() >= HEADER_BYTES;
    fits.then_some(body)
}
