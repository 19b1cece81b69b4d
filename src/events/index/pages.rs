//! The pages of an index as they are read. Pure.

use super::{
    super::{
        frame::{self, Kind},
        packed::Packed,
        wire::{Reader, len32},
    },
    INLINE_ROWS, PAGE_ROWS, time_of,
};

/// Ids, times and offsets of some rows.
#[derive(Debug, Clone, Copy)]
pub(in crate::events) struct Keys<'a> {
    ids: Packed<'a>,
    times: Packed<'a>,
    offsets: Packed<'a>,
}

impl<'a> Keys<'a> {
    pub(in crate::events) fn read(page: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(page);
        let rows = reader.u32().filter(|rows| *rows <= PAGE_ROWS)?;
        Some(Self {
            ids: Packed::read(&mut reader, rows)?,
            times: Packed::read(&mut reader, rows)?,
            offsets: Packed::read(&mut reader, rows)?,
        })
    }

    /// Id and time of the row with this number in the page.
    pub(in crate::events) fn get(&self, at: u32) -> Option<(u64, i64)> {
        (at < self.ids.len()).then(|| (self.ids.get(at), time_of(self.times.get(at))))
    }

    pub(in crate::events) fn offset(&self, at: u32) -> Option<u32> {
        (at < self.offsets.len())
            .then(|| u32::try_from(self.offsets.get(at)).ok())
            .flatten()
    }

    /// The row in the page with this id, where ids rise.
    pub(in crate::events) fn find(&self, id: u64) -> Option<u32> {
        let at = self.ids.below(id);
        (at < self.ids.len() && self.ids.get(at) == id).then_some(at)
    }

    /// How many rows of the page start before `offset`.
    pub(in crate::events) fn below(&self, offset: u32) -> u32 {
        self.offsets.below(offset.into())
    }
}

/// The rows of an id in a page of ids in their order.
pub(in crate::events) fn rows_of_id(page: &[u8], id: u64) -> Option<Vec<u32>> {
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
pub(in crate::events) enum Listed {
    Rows(Vec<u32>),
    /// The first row of each page of the list, and that page's number; and how many rows there are.
    Pages(u32, Vec<(u32, u32)>),
}

impl Listed {
    pub(in crate::events) fn count(&self) -> u32 {
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
        skip_rising(reader, count)?;
    } else {
        reader.take(count.div_ceil(PAGE_ROWS) as usize * PAGE_OF_LIST_BYTES)?;
    }
    Some(key)
}

/// The rows of a term in its page; `Some(None)` if it is not there.
#[expect(clippy::option_option, reason = "damaged, absent, found")]
pub(in crate::events) fn find_term(page: &[u8], key: &[u8]) -> Option<Option<Listed>> {
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
pub(in crate::events) fn terms(page: &[u8]) -> Option<Vec<(&[u8], u32)>> {
    let mut reader = Reader::new(page);
    let mut terms = Vec::new();
    while !reader.is_empty() {
        let (key, rows) = next_term(&mut reader)?;
        terms.push((key, rows.count()));
    }
    Some(terms)
}

/// The rows in a page of a long list.
pub(in crate::events) fn list_page(page: &[u8]) -> Option<Packed<'_>> {
    let mut reader = Reader::new(page);
    let rows = reader.u32().filter(|rows| *rows <= PAGE_ROWS)?;
    Packed::read(&mut reader, rows)
}

/// The bytes of a page in its frame.
pub(in crate::events) fn page_body(bytes: &[u8], number: u32) -> Option<&[u8]> {
    let (header, body) = frame::decode(bytes).ok()?;
    let fits = header.kind == Kind::Page
        && header.sequence == u64::from(number) + 2
        && header.frame_bytes() == bytes.len();
    fits.then_some(body)
}

/// The first row, then each one's distance from the one before: seven bits a byte, the lowest first, the highest bit set but in the last.
pub(super) fn write_rising(out: &mut Vec<u8>, rows: &[u32]) {
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

/// Goes over so many of them: each ends with a byte without the highest bit.
fn skip_rising(reader: &mut Reader<'_>, count: u32) -> Option<()> {
    const HIGHEST: u64 = 0x8080_8080_8080_8080;
    let mut left = count;
    // Eight bytes at once, unless the last one may end among them.
    while let Some(bytes) = reader.clone().u64() {
        let ends = (!bytes & HIGHEST).count_ones();
        if ends >= left {
            break;
        }
        left -= ends;
        reader.u64()?;
    }
    for _ in 0..left {
        while reader.u8()? & 0x80 != 0 {}
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::super::wire::len16, *};

    proptest! {
        /// Terms before the wanted one are gone over eight bytes at a time.
        #[test]
        fn every_term_of_a_page_is_found_and_no_other(
            lists in prop::collection::btree_map(
                prop::collection::vec(any::<u8>(), 0..12),
                prop::collection::btree_set(prop_oneof![0_u32..300, any::<u32>()], 1..40),
                1..30,
            ),
            other in prop::collection::vec(any::<u8>(), 0..12),
        ) {
            let mut page = Vec::new();
            for (key, rows) in &lists {
                page.extend_from_slice(&len16(key.len()).to_le_bytes());
                page.extend_from_slice(key);
                page.extend_from_slice(&len32(rows.len()).to_le_bytes());
                write_rising(&mut page, &rows.iter().copied().collect::<Vec<_>>());
            }

            for key in lists.keys().chain([&other]) {
                let rows = lists.get(key).map(|rows| Listed::Rows(rows.iter().copied().collect()));
                prop_assert_eq!(find_term(&page, key), Some(rows));
            }
            let last = lists.keys().next_back().expect("one at least");
            prop_assert_eq!(find_term(&page[..page.len() - 1], last), None);
        }
    }
}
