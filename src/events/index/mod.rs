//! The index of a sealed segment: a file with a directory and pages, each a frame. Pure.
//!
//! The directory is small and stays in memory; pages are read when they are asked for. A reader takes nothing for granted: what does not
//! add up is `None`, whatever the checksums say.

mod building;
mod directory;
mod pages;

pub(super) use self::{
    building::IndexBuilder,
    directory::{Directory, PagesOfId},
    pages::{Keys, Listed, find_term, list_page, page_body, rows_of_id, terms},
};

/// Rows of a page of keys, and of a page of a long list.
pub(super) const PAGE_ROWS: u32 = 1024;
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

/// Keeps the order of signed numbers among unsigned ones.
fn ordered(time: i64) -> u64 {
    time.cast_unsigned() ^ (1 << 63)
}

fn time_of(ordered: u64) -> i64 {
    (ordered ^ (1 << 63)).cast_signed()
}
