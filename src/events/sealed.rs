//! A sealed segment: its directory in memory, its blocks and index pages read when they are asked for and kept for a while.

use std::{
    io,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    blocks,
    bloom::Member,
    cache::{Cache, Found, Part},
    columns::{self, Zone},
    disk::{Disk, DiskFile},
    frame::{self, HEADER_BYTES, Header},
    hidden::Times,
    index::{self, Directory, Field, Keys, Listed, PagesOfId},
    own::Own,
    record::Record,
    view::{Access, Term},
    wire::len32,
};

/// The files of one sealed segment.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) directory: Directory,
    blocks: Arc<dyn DiskFile>,
    index: Arc<dyn DiskFile>,
    cache: Arc<Cache>,
    owner: u64,
    /// A page of the index does not hold what was written.
    index_damaged: AtomicBool,
}

/// What a reader of many rows was given last: the next row is often in the same part.
#[derive(Debug, Default)]
struct Held {
    page: Option<(u32, Found)>,
    near: Near,
}

#[derive(Debug, Default)]
struct Near {
    /// Where in the segment it starts, and its bytes.
    block: Option<(u32, Found)>,
    /// Where in the file of blocks they are, and their bytes: frames that were read with the one before.
    frames: Option<(u32, Own)>,
}

impl Near {
    /// The bytes from an offset of the segment on, if they are in the block.
    fn from(&self, offset: u32) -> Option<&[u8]> {
        let (start, block) = self.block.as_ref()?;
        let at = offset.checked_sub(*start)? as usize;
        block.get(at..).filter(|bytes| !bytes.is_empty())
    }

    /// The bytes of a frame that was read with the one before.
    fn frame(&self, (from, to): (u32, u32)) -> Option<&[u8]> {
        let (at, frames) = self.frames.as_ref()?;
        let start = from.checked_sub(*at)? as usize;
        frames.get(start..start + to.checked_sub(from)? as usize)
    }
}

/// Why a sealed segment cannot be opened by its index.
#[derive(Debug)]
pub(super) enum IndexFault {
    /// It is damaged, missing, or of another segment.
    Damaged,
    Unknown {
        version: u8,
        codec: u8,
    },
    Disk(io::Error),
}

impl Sealed {
    /// Reads the directory of an index.
    pub(super) fn open(
        disk: &dyn Disk,
        names: (&str, &str),
        cache: &Arc<Cache>,
    ) -> Result<Self, IndexFault> {
        let open = |name| match disk.open(name) {
            Ok(file) => Ok(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(IndexFault::Damaged),
            Err(error) => Err(IndexFault::Disk(error)),
        };
        let (blocks, index) = (open(names.0)?, open(names.1)?);
        let directory = read_directory(index.as_ref())?;
        Ok(Self {
            directory,
            blocks,
            index,
            owner: Cache::owner(),
            index_damaged: AtomicBool::new(false),
            cache: cache.clone(),
        })
    }

    /// Whether a reader found the index damaged.
    pub(super) fn is_index_damaged(&self) -> bool {
        self.index_damaged.load(Ordering::Acquire)
    }

    /// What the reader of a damaged page is told; the index is made anew from its blocks.
    fn index_fault(&self) -> io::Error {
        if !self.index_damaged.swap(true, Ordering::AcqRel) {
            self.cache.raise_alarm();
        }
        damaged()
    }

    /// The body of a page.
    fn page(&self, number: u32, access: Access<'_>) -> io::Result<Found> {
        self.cache.get((self.owner, Part::Page(number)), |key| {
            let place = self.directory.page(number);
            let (from, to) = place.ok_or_else(|| self.index_fault())?;
            let page = Own::filled(key, |bytes| {
                let frame = read(self.index.as_ref(), from, to, access, bytes)?;
                let body = index::page_body(frame, number).ok_or_else(|| why_not(frame))?;
                Ok(HEADER_BYTES..HEADER_BYTES + body.len())
            });
            match page {
                Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(self.index_fault()),
                page => page,
            }
        })
    }

    /// Hands the record that starts at `offset` of the segment to `work`.
    pub(super) fn read_record<T>(
        &self,
        offset: u32,
        access: Access<'_>,
        work: impl FnOnce(&[u8]) -> T,
    ) -> io::Result<T> {
        let (mut near, alone) = (Near::default(), |_| None);
        self.record_at(offset, alone, access, &mut near).map(work)
    }

    /// Hands the records of some rows to `work`, as [`View::read_while`](super::view::View::read_while).
    pub(super) fn read_while(
        &self,
        rows: &[u32],
        access: Access<'_>,
        work: &mut dyn FnMut(io::Result<&[u8]>) -> bool,
    ) -> io::Result<()> {
        let mut held = Held::default();
        for at in 0..rows.len() {
            let record = match self.first_record_of(&rows[at..], access, &mut held) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                record => record,
            };
            if !work(record) {
                break;
            }
        }
        Ok(())
    }

    /// The record of the first of some rows, of which the others are read next.
    fn first_record_of<'h>(
        &self,
        rows: &[u32],
        access: Access<'_>,
        held: &'h mut Held,
    ) -> io::Result<&'h [u8]> {
        let number = Directory::page_of_row(rows[0]);
        let page = match held.page.take() {
            Some((of, page)) if of == number => page,
            _ => self.page(number, access)?,
        };
        let page = &held.page.insert((number, page)).1;
        let keys = Keys::read(page).ok_or_else(|| self.index_fault())?;
        let offset_of = |row: u32| {
            let is_here = Directory::page_of_row(row) == number;
            let at = is_here.then_some(row % index::PAGE_ROWS);
            at.and_then(|at| keys.offset(at))
        };
        let offset = offset_of(rows[0]).ok_or_else(|| self.index_fault())?;
        let next_from = |end: u32| {
            let is_before = |row: &u32| offset_of(*row).is_some_and(|offset| offset < end);
            let behind = rows.partition_point(is_before);
            rows.get(behind).and_then(|row| offset_of(*row))
        };
        self.record_at(offset, next_from, access, &mut held.near)
    }

    /// The record at an offset; `next_from` tells the next one's at or behind an offset.
    fn record_at<'h>(
        &self,
        offset: u32,
        next_from: impl Fn(u32) -> Option<u32>,
        access: Access<'_>,
        near: &'h mut Near,
    ) -> io::Result<&'h [u8]> {
        if near.from(offset).is_none() {
            let (number, from, to) = self.directory.block_at(offset).ok_or_else(damaged)?;
            let start = self.directory.blocks[number as usize].start;
            // Its memory may be used for this one.
            near.block = None;
            let block = self.cache.get((self.owner, Part::Block(number)), |key| {
                let behind = self.directory.blocks.get(number as usize + 1);
                let next = behind.and_then(|block| next_from(block.start));
                let next = next.and_then(|offset| self.directory.block_at(offset));
                let next = next.filter(|(next, ..)| *next == number + 1);
                let until = next.map_or(to, |(_, _, end)| end);
                self.fetch((from, to), until, access, near)?;
                let frame = near.frame((from, to)).unwrap_or_default();
                Own::filled(key, |bytes| Ok(0..self.expand(number, frame, bytes)?))
            })?;
            near.block = Some((start, block));
        }
        near.from(offset)
            .and_then(Record::read_checked)
            .map(|record| record.bytes)
            .ok_or_else(damaged)
    }

    /// Reads a block's frame, and what is behind it, `until` where that is needed, too.
    fn fetch(
        &self,
        (from, to): (u32, u32),
        until: u32,
        access: Access<'_>,
        near: &mut Near,
    ) -> io::Result<()> {
        if near.frame((from, to)).is_some() {
            return Ok(());
        }
        near.frames = None;
        let fetch = |until| {
            Own::filled(None, |bytes| {
                let frames = read(self.blocks.as_ref(), from, until, access, bytes)?;
                Ok(0..frames.len())
            })
        };
        let frames = match fetch(until) {
            // Whatever is the matter with the one behind.
            Err(_) if until > to => fetch(to),
            frames => frames,
        };
        near.frames = Some((from, frames?));
        Ok(())
    }

    /// Expands a block into the front of `out`; answers how many bytes it has.
    fn expand(&self, number: u32, frame: &[u8], out: &mut Vec<u8>) -> io::Result<usize> {
        let whole = frame::decode(frame).ok();
        let expanded = whole.and_then(|(header, body)| blocks::expand(&header, body, out));
        let (at, len) = expanded.ok_or_else(|| why_not(frame))?;
        let block = &self.directory.blocks[number as usize];
        (at == block.start).then_some(len).ok_or_else(damaged)
    }

    pub(super) fn offset(&self, row: u32, access: Access<'_>) -> io::Result<u32> {
        let page = self.page(Directory::page_of_row(row), access)?;
        let keys = Keys::read(&page).ok_or_else(|| self.index_fault())?;
        keys.offset(row % index::PAGE_ROWS)
            .ok_or_else(|| self.index_fault())
    }

    /// How many rows start before `offset`.
    pub(super) fn rows_before(&self, offset: u32) -> io::Result<u32> {
        let pages = self.directory.rows.div_ceil(index::PAGE_ROWS);
        let (mut low, mut high) = (0, pages);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.offset(middle * index::PAGE_ROWS, Access::Disk)? < offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let Some(last) = low.checked_sub(1) else {
            return Ok(0);
        };
        let page = self.page(last, Access::Disk)?;
        let keys = Keys::read(&page).ok_or_else(|| self.index_fault())?;
        Ok(last * index::PAGE_ROWS + keys.below(offset))
    }

    /// Hands id and time of each row to `work`.
    pub(super) fn keys(
        &self,
        rows: &[u32],
        access: Access<'_>,
        mut work: impl FnMut(u32, u64, i64),
    ) -> io::Result<()> {
        let same_page =
            |one: &u32, next: &u32| Directory::page_of_row(*one) == Directory::page_of_row(*next);
        for rows in rows.chunk_by(same_page) {
            let page = self.page(Directory::page_of_row(rows[0]), access)?;
            let keys = Keys::read(&page).ok_or_else(|| self.index_fault())?;
            for row in rows {
                let (id, time) = keys
                    .get(row % index::PAGE_ROWS)
                    .ok_or_else(|| self.index_fault())?;
                work(*row, id, time);
            }
        }
        Ok(())
    }

    /// The rows of an id.
    pub(super) fn find(&self, id: u64, access: Access<'_>) -> io::Result<Vec<u32>> {
        let directory = &self.directory;
        if !directory.ids.may_have(&Member::Id(id).probe()) {
            return Ok(Vec::new());
        }
        match directory.pages_of_id(id) {
            PagesOfId::Keys(None) => Ok(Vec::new()),
            PagesOfId::Keys(Some(number)) => {
                let page = self.page(number, access)?;
                let keys = Keys::read(&page).ok_or_else(|| self.index_fault())?;
                let row = keys.find(id).map(|at| number * index::PAGE_ROWS + at);
                Ok(row.into_iter().collect())
            }
            PagesOfId::Order(pages) => {
                let mut rows = Vec::new();
                for number in pages {
                    let page = self.page(number, access)?;
                    rows.extend(index::rows_of_id(&page, id).ok_or_else(|| self.index_fault())?);
                }
                Ok(rows)
            }
        }
    }

    /// The rows of a term, as its page lists them.
    fn listed(&self, term: Term<'_>, access: Access<'_>) -> io::Result<Option<Listed>> {
        let links = &self.directory.links;
        let number;
        let (field, key) = match term {
            Term::Kind(text) => (Field::Kind, text.as_bytes()),
            Term::Source(text) => (Field::Source, text.as_bytes()),
            Term::Correlation(id) => {
                if !links.may_have(&Member::Correlation(id.hash64()).probe()) {
                    return Ok(None);
                }
                number = id.hash64().to_be_bytes();
                (Field::Correlation, &number[..])
            }
            Term::Parent(id) => {
                if !links.may_have(&Member::Parent(id).probe()) {
                    return Ok(None);
                }
                number = id.to_be_bytes();
                (Field::Parent, &number[..])
            }
        };
        let Some(page) = self.directory.page_of_term(field, key) else {
            return Ok(None);
        };
        let page = self.page(page, access)?;
        index::find_term(&page, key).ok_or_else(|| self.index_fault())
    }

    pub(super) fn count(
        &self,
        term: Term<'_>,
        access: Access<'_>,
        few: &mut Vec<u32>,
    ) -> io::Result<u32> {
        match self.listed(term, access)? {
            None => Ok(0),
            Some(Listed::Rows(rows)) => {
                few.extend_from_slice(&rows);
                Ok(len32(rows.len()))
            }
            Some(Listed::Pages(count, _)) => Ok(count),
        }
    }

    pub(super) fn rows_with(
        &self,
        term: Term<'_>,
        within: Range<u32>,
        access: Access<'_>,
        out: &mut Vec<u32>,
    ) -> io::Result<()> {
        let pages = match self.listed(term, access)? {
            None => return Ok(()),
            Some(Listed::Rows(rows)) => {
                out.extend_from_slice(columns::part(&rows, within));
                return Ok(());
            }
            Some(Listed::Pages(_, pages)) => pages,
        };
        let from = pages.partition_point(|(first, _)| *first <= within.start);
        for (_, number) in pages[from.saturating_sub(1)..]
            .iter()
            .take_while(|(first, _)| *first < within.end)
        {
            let page = self.page(*number, access)?;
            let rows = index::list_page(&page).ok_or_else(|| self.index_fault())?;
            let to = rows.below(within.end.into());
            for at in rows.below(within.start.into())..to {
                out.push(u32::try_from(rows.get(at)).map_err(|_| self.index_fault())?);
            }
        }
        Ok(())
    }

    pub(super) fn kinds(
        &self,
        prefix: &str,
        access: Access<'_>,
        out: &mut Vec<(Arc<str>, u32)>,
    ) -> io::Result<()> {
        for number in self.directory.pages_from(Field::Kind, prefix.as_bytes()) {
            let page = self.page(number, access)?;
            let terms = index::terms(&page).ok_or_else(|| self.index_fault())?;
            for (text, rows) in terms {
                let text = str::from_utf8(text).map_err(|_| self.index_fault())?;
                out.extend(text.starts_with(prefix).then(|| (text.into(), rows)));
            }
        }
        Ok(())
    }

    /// The whole segment as it was before it was compressed; zeros, and the number of lost blocks, where a block is damaged.
    pub(super) fn expand_all(&self) -> io::Result<(Vec<u8>, usize)> {
        let (mut bytes, mut lost) = (Vec::new(), 0);
        let (mut frame, mut part) = (Vec::new(), Vec::new());
        let blocks = &self.directory.blocks;
        for (number, block) in (0..).zip(blocks) {
            let next = blocks.get(number as usize + 1);
            let to = next.map_or(self.directory.blocks_bytes, |next| next.at);
            let frame = read(self.blocks.as_ref(), block.at, to, Access::Disk, &mut frame);
            match frame.and_then(|frame| self.expand(number, frame, &mut part)) {
                // Blocks rise, and end where the segment does.
                Ok(len) => {
                    bytes.resize(block.start as usize, 0);
                    bytes.extend_from_slice(&part[..len]);
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidData => lost += 1,
                Err(error) => return Err(error),
            }
        }
        bytes.resize(self.directory.bytes as usize, 0);
        Ok((bytes, lost))
    }
}

impl Times for Sealed {
    fn zones(&self) -> &[Zone] {
        &self.directory.zones
    }

    fn times(&self, rows: Range<u32>) -> io::Result<Vec<i64>> {
        let rows: Vec<u32> = rows.collect();
        let mut times = Vec::with_capacity(rows.len());
        self.keys(&rows, Access::Disk, |_, _, time| times.push(time))?;
        Ok(times)
    }
}

fn read_directory(index: &dyn DiskFile) -> Result<Directory, IndexFault> {
    let mut bytes = Vec::new();
    let header = read(index, 0, len32(HEADER_BYTES), Access::Disk, &mut bytes);
    let header = Header::decode(header.map_err(IndexFault::of)?).map_err(|fault| match fault {
        frame::Fault::Broken => IndexFault::Damaged,
        frame::Fault::Unknown { version, codec } => IndexFault::Unknown { version, codec },
    })?;
    let len = u32::try_from(header.frame_bytes()).map_err(|_| IndexFault::Damaged)?;
    let frame = read(index, 0, len, Access::Disk, &mut bytes).map_err(IndexFault::of)?;
    let directory = frame::decode(frame).ok();
    let directory = directory.and_then(|(header, body)| Directory::decode(&header, body));
    directory.ok_or(IndexFault::Damaged)
}

impl IndexFault {
    fn of(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData => Self::Damaged,
            _ => Self::Disk(error),
        }
    }
}

/// Reads the bytes of a file from one offset to another into the front of `buffer`; fewer are damage. What is claimed takes memory only as
/// far as the file has it.
fn read<'b>(
    file: &dyn DiskFile,
    from: u32,
    to: u32,
    access: Access<'_>,
    buffer: &'b mut Vec<u8>,
) -> io::Result<&'b [u8]> {
    /// More than the largest record takes in a block.
    const PIECE_BYTES: usize = 2 << 20;
    let len = to.checked_sub(from).ok_or_else(damaged)? as usize;
    let mut at = 0;
    while at < len {
        let end = len.min(at + PIECE_BYTES);
        if buffer.len() < end {
            buffer.resize(end, 0);
        }
        let read = access.read_at(file, &mut buffer[at..end], u64::from(from) + at as u64)?;
        if read != end - at {
            return Err(damaged());
        }
        at = end;
    }
    Ok(&buffer[..len])
}

/// Why a frame is none that can be used: damaged, or of a later version, in which nothing is wrong.
fn why_not(frame: &[u8]) -> io::Error {
    match Header::decode(frame) {
        Err(frame::Fault::Unknown { version, codec }) => io::Error::new(
            io::ErrorKind::Unsupported,
            format!(
                "it has format {version}, codec {codec}; open it with the version of underpin that wrote it"
            ),
        ),
        _ => damaged(),
    }
}

pub(super) fn damaged() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "checksum of the stored bytes does not fit",
    )
}
