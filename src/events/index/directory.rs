//! What is known of a sealed segment in memory. Pure.

use std::ops::Range;

use super::{
    super::{
        blocks::{Block, SEGMENT_BYTES_MAX},
        bloom::Membership,
        columns::{ZONE_ROWS, Zone},
        frame::{Header, Kind},
        recovery::{SEQUENCE_MAX, Summary},
        wire::{Reader, len16, len32},
    },
    FIELDS, Field, Layout, PAGE_ROWS, ordered, time_of,
};

/// What is known of a sealed segment without reading its pages.
#[derive(Debug, Clone, Default)]
pub(in crate::events) struct Directory {
    pub(super) layout: Layout,
    pub(in crate::events) summary: Summary,
    /// Bytes of the segment before it was compressed.
    pub(in crate::events) bytes: u32,
    pub(in crate::events) blocks: Vec<Block>,
    /// Bytes of the file of blocks.
    pub(in crate::events) blocks_bytes: u32,
    pub(in crate::events) rows: u32,
    pub(in crate::events) zones: Vec<Zone>,
    pub(in crate::events) span: Option<Zone>,
    pub(in crate::events) ids: Membership,
    /// Parents and correlations; with the layout of one filter that is the same.
    pub(in crate::events) links: Membership,
    /// The lowest id of each page of ids in their order, unless ids rise with the rows: then there are none.
    pub(super) orders: Vec<u64>,
    pub(super) tables: [Firsts; FIELDS],
    /// Where each page starts behind the directory, and last where they end.
    pub(super) pages: Vec<u32>,
    /// Bytes of the directory's own frame.
    pub(super) own_bytes: u32,
}

/// The first key of each page of terms, and that page's number. In a few pieces of memory, so that a search meets few of its lines.
#[derive(Debug, Clone, Default)]
pub(super) struct Firsts {
    keys: Vec<u8>,
    /// Where each key ends.
    ends: Vec<u32>,
    pages: Vec<u32>,
}

/// Where rows of an id are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::events) enum PagesOfId {
    /// In a page of keys, if at all.
    Keys(Option<u32>),
    /// In pages of ids in their order.
    Order(Range<u32>),
}

impl Directory {
    pub(super) fn encode(&self, log: u64) -> Vec<u8> {
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
        self.ids.write(&mut body);
        if self.layout == Layout::TwoFilters {
            self.links.write(&mut body);
        }
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
        header.version = self.layout.version();
        [&header.encode()[..], &body].concat()
    }

    /// The directory in its frame.
    pub(in crate::events) fn decode(header: &Header, body: &[u8]) -> Option<Self> {
        if header.kind != Kind::Directory {
            return None;
        }
        let mut reader = Reader::new(body);
        let mut directory = Self {
            layout: Layout::of(header),
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
        self.ids = Membership::read(reader)?;
        self.links = match self.layout {
            Layout::OneFilter => self.ids.clone(),
            Layout::TwoFilters => Membership::read(reader)?,
        };
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
    pub(in crate::events) fn disk_bytes(&self) -> u64 {
        let pages = self.pages.last().copied().unwrap_or_default();
        u64::from(self.blocks_bytes) + u64::from(self.own_bytes) + u64::from(pages)
    }

    /// Memory in bytes.
    pub(in crate::events) fn memory(&self) -> usize {
        let links = match self.layout {
            Layout::OneFilter => 0,
            Layout::TwoFilters => self.links.bytes(),
        };
        let keys: usize = self.tables.iter().map(Firsts::bytes).sum();
        self.blocks.len() * size_of::<Block>()
            + self.zones.len() * size_of::<Zone>()
            + self.ids.bytes()
            + links
            + self.orders.len() * size_of::<u64>()
            + self.pages.len() * size_of::<u32>()
            + keys
    }

    /// Where a page's frame lies in the file, first and one past the last byte.
    pub(in crate::events) fn page(&self, number: u32) -> Option<(u32, u32)> {
        let from = *self.pages.get(number as usize)?;
        let to = *self.pages.get(number as usize + 1)?;
        Some((
            self.own_bytes.checked_add(from)?,
            self.own_bytes.checked_add(to)?,
        ))
    }

    /// The block that has the byte at `offset` of the segment, and where its frame lies, first and one past the last byte.
    pub(in crate::events) fn block_at(&self, offset: u32) -> Option<(u32, u32, u32)> {
        // They are as long as each other, nearly.
        let part = u64::from(offset) << 32;
        let part = part.checked_div(self.bytes.into()).unwrap_or(0);
        let near = share(self.blocks.len(), part);
        let behind = end_of(self.blocks.len(), near, |at| {
            self.blocks[at].start <= offset
        });
        let number = behind.checked_sub(1)?;
        let end = self
            .blocks
            .get(behind)
            .map_or(self.blocks_bytes, |next| next.at);
        Some((len32(number), self.blocks[number].at, end))
    }

    /// The page of keys that has a row.
    pub(in crate::events) fn page_of_row(row: u32) -> u32 {
        row / PAGE_ROWS
    }

    /// The pages that may have an id, in rising rows: of keys, or else of ids in their order.
    pub(in crate::events) fn pages_of_id(&self, id: u64) -> PagesOfId {
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
    pub(in crate::events) fn page_of_term(&self, field: Field, key: &[u8]) -> Option<u32> {
        let table = &self.tables[field as usize];
        let near = match field {
            // Hashes lie where their first bits say, nearly.
            Field::Correlation => share(
                table.len(),
                key.first_chunk().copied().map_or(0, first_bits),
            ),
            Field::Kind | Field::Source | Field::Parent => table.len() / 2,
        };
        Some(table.pages[table.not_above(key, near).checked_sub(1)?])
    }

    /// The pages of terms that may have keys with this beginning.
    pub(in crate::events) fn pages_from(
        &self,
        field: Field,
        prefix: &[u8],
    ) -> impl Iterator<Item = u32> + '_ {
        let table = &self.tables[field as usize];
        let from = table.not_above(prefix, table.len() / 2).saturating_sub(1);
        let prefix = prefix.to_vec();
        (from..table.len())
            .take_while(move |at| *at == from || table.key(*at).starts_with(&prefix))
            .map(|at| table.pages[at])
    }
}

impl Firsts {
    pub(super) fn push(&mut self, key: &[u8], page: u32) {
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

    /// How many of the keys, which rise, are not above `key`; looked for from place `near` on.
    fn not_above(&self, key: &[u8], near: usize) -> usize {
        end_of(self.len(), near, |at| self.key(at) <= key)
    }

    fn bytes(&self) -> usize {
        self.keys.len() + (self.ends.len() + self.pages.len()) * size_of::<u32>()
    }
}

fn first_bits(key: [u8; 4]) -> u64 {
    u32::from_be_bytes(key).into()
}

/// A part of `len`, in 2^32ths.
fn share(len: usize, part: u64) -> usize {
    let share = (u128::from(part) * len as u128) >> 32;
    usize::try_from(share).unwrap_or(len)
}

/// Where what holds for the first of `len` things ends to hold. Looked for around a place that is near, most often: so few lines of memory
/// are met that are not in the processor's cache.
fn end_of(len: usize, near: usize, holds: impl Fn(usize) -> bool) -> usize {
    const STEP: usize = 4;
    let (mut low, mut high) = (near.min(len), near.min(len));
    let mut step = STEP;
    while low > 0 && !holds(low - 1) {
        high = low - 1;
        low = low.saturating_sub(step);
        step *= 2;
    }
    step = STEP;
    while high < len && holds(high) {
        low = high + 1;
        high = len.min(high + step);
        step *= 2;
    }
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// Reads `count` things, as far as there are bytes for them.
fn many<'a, T>(
    reader: &mut Reader<'a>,
    mut read: impl FnMut(&mut Reader<'a>) -> Option<T>,
) -> Option<Vec<T>> {
    let count = reader.u32()?;
    (0..count).map(|_| read(reader)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_end_is_found_from_wherever_it_is_looked_for(len in 0_usize..300, end in 0_usize..300, near in 0_usize..400) {
            let end = end.min(len);

            prop_assert_eq!(end_of(len, near, |at| { assert!(at < len); at < end }), end);
        }
    }
}
