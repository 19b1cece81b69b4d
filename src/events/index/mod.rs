//! The index of a sealed segment: a file with a directory and pages, each a frame. Pure.
//!
//! The directory is small and stays in memory; pages are read when they are asked for. A reader takes nothing for granted: what does not
//! add up is `None`, whatever the checksums say.

mod building;
mod directory;
mod pages;

use super::frame::Header;

pub(super) use self::{
    building::IndexBuilder,
    directory::{Directory, PagesOfId},
    pages::{Keys, Listed, find_term, list_page, page_body, rows_of_id, terms},
};

/// How an index is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Layout {
    /// As until version 2 of the directory: one filter for ids, parents and correlations, and larger pages of terms.
    OneFilter,
    /// Ids are many, and seldom looked for where none is; without them among them the links are in memory that is near.
    #[default]
    TwoFilters,
}

impl Layout {
    fn of(header: &Header) -> Self {
        if header.version < Self::TwoFilters.version() {
            Self::OneFilter
        } else {
            Self::TwoFilters
        }
    }

    /// That of a file; of one that is damaged, as it would be made now.
    pub(super) fn of_file(index: &[u8]) -> Self {
        let header = Header::decode(index);
        header.map_or_else(|_| Self::default(), |header| Self::of(&header))
    }

    /// Of the directory.
    fn version(self) -> u8 {
        match self {
            Self::OneFilter => 2,
            Self::TwoFilters => 3,
        }
    }

    /// Bytes after which a page of terms ends: what is read, checked and gone through to find one.
    fn page_bytes(self) -> usize {
        match self {
            Self::OneFilter => 4096,
            Self::TwoFilters => 1024,
        }
    }
}

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
