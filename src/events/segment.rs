//! One segment of the log: its files, its index, and the part of it that is still in memory.
//!
//! It grows with its columns in memory, is rolled when the next one begins, and is sealed later: then its columns go when its bytes are no
//! longer hot, and everything is read from the sealed files. Offsets and rows stay what they were.

use std::{
    io,
    ops::Range,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use parking_lot::{MappedRwLockReadGuard, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{
    bloom::Membership,
    columns::{Columns, Zone},
    disk::{Disk, DiskFile},
    hidden::{Hidden, Times},
    hot::Hot,
    naming::sealed_names,
    record::{self, Record},
    recovery::Summary,
    sealed::{Sealed, damaged},
    view::{Access, Key, Term, View},
    wire::len32,
};

/// A segment. Rows are added by whoever holds the log's intake and show once they are published; nothing is ever changed.
#[derive(Debug)]
pub(super) struct Segment {
    face: Face,
    /// Sequence number of its first frame.
    pub(super) base: u64,
    /// Name of its file before it is sealed.
    pub(super) name: String,
    inner: RwLock<Inner>,
    /// Held by whoever hides rows: that may need the disk, which `inner` is never held for.
    hiding: Mutex<()>,
    /// Bytes of the segment that were written.
    written: AtomicU32,
    /// Up to where the writer made its file long; zero where it did not.
    room: AtomicU32,
    /// Where they were written to, until it is sealed.
    file: Mutex<Option<Arc<dyn DiskFile>>>,
    /// What was found when it was opened.
    pub(super) found: OnceLock<Summary>,
    /// What a later opening need not scan again; set when no more will be written.
    pub(super) rolled: OnceLock<Summary>,
    /// It was pruned: its files go.
    gone: AtomicBool,
}

/// What every search asks of every segment: in one line of the processor's cache, and without a lock.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Face {
    /// Rows that readers may see.
    published: AtomicU32,
    /// Set once it is sealed, unless it has no rows.
    outline: OnceLock<Outline>,
}

/// What all rows of a sealed segment lie within.
#[derive(Debug)]
struct Outline {
    span: Zone,
    links: Membership,
}

impl Outline {
    fn of(sealed: &Sealed) -> Option<Self> {
        Some(Self {
            span: sealed.directory.span?,
            links: sealed.directory.links.clone(),
        })
    }
}

/// What changes with the segment's age.
#[derive(Debug, Default)]
struct Inner {
    /// `None` once everything is read from the sealed files.
    columns: Option<Columns>,
    sealed: Option<Arc<Sealed>>,
    hot: Hot,
    hidden: Hidden,
}

/// Where the index of a segment is.
enum Source<'a> {
    Columns(MappedRwLockReadGuard<'a, Columns>),
    Sealed(Arc<Sealed>),
}

/// Rows after which readers that wait are let in: some tens of microseconds.
const PIECE_ROWS: usize = 256;

impl Segment {
    /// A segment that grows.
    pub(super) fn new(base: u64, name: String) -> Self {
        let inner = Inner {
            columns: Some(Columns::default()),
            ..Inner::default()
        };
        Self::with(base, name, inner)
    }

    /// A segment that was sealed before.
    pub(super) fn sealed(name: String, sealed: Sealed) -> Self {
        let summary = sealed.directory.summary.clone();
        let rows = sealed.directory.rows;
        let bytes = sealed.directory.bytes;
        let outline = Outline::of(&sealed).map(OnceLock::from);
        let inner = Inner {
            sealed: Some(Arc::new(sealed)),
            ..Inner::default()
        };
        let mut segment = Self::with(summary.base, name, inner);
        segment.face = Face {
            published: rows.into(),
            outline: outline.unwrap_or_default(),
        };
        segment.set_written(bytes);
        // Set once, here.
        let _ = segment.rolled.set(summary);
        segment
    }

    fn with(base: u64, name: String, inner: Inner) -> Self {
        Self {
            face: Face::default(),
            base,
            name,
            inner: RwLock::new(inner),
            hiding: Mutex::new(()),
            written: AtomicU32::new(0),
            room: AtomicU32::new(0),
            file: Mutex::new(None),
            found: OnceLock::new(),
            rolled: OnceLock::new(),
            gone: AtomicBool::new(false),
        }
    }

    /// Adds one frame and its events, which stand in `body` from `front` on, behind a header of so many bytes; answers how many rows there
    /// are.
    pub(super) fn push(&self, offset: u32, header: usize, body: &[u8], front: usize) -> u32 {
        self.add(&mut self.inner.write(), (offset, header), body, front)
    }

    /// Adds events that stand in `body` and lets readers see them at once; answers how many that shows.
    pub(super) fn push_shown(&self, offset: u32, body: &[u8]) -> u64 {
        let mut inner = self.inner.write();
        let rows = self.add(&mut inner, (offset, 0), body, 0);
        let before = self.face.published.swap(rows, Ordering::AcqRel);
        inner.shown(before..rows)
    }

    fn add(
        &self,
        guard: &mut RwLockWriteGuard<'_, Inner>,
        (offset, header): (u32, usize),
        body: &[u8],
        front: usize,
    ) -> u32 {
        guard.hot.push(offset, header, body);
        let records = offset + len32(header + front);
        let mut all = record::all(&body[front..]).peekable();
        let mut rows = 0;
        while all.peek().is_some() {
            if rows == PIECE_ROWS {
                RwLockWriteGuard::bump(guard);
                rows = 0;
            }
            let Some(columns) = &mut guard.columns else {
                debug_assert!(false, "{} is sealed", self.name);
                return self.published();
            };
            for (at, record) in all.by_ref().take(PIECE_ROWS) {
                columns.push(&record, records + len32(at));
                rows += 1;
            }
        }
        guard.columns.as_ref().map_or(0, Columns::rows)
    }

    /// All rows, also those that readers do not see yet.
    pub(super) fn all_rows(&self) -> u32 {
        self.read_index(Columns::rows, |sealed| sealed.directory.rows)
    }

    /// No more rows will come.
    pub(super) fn finish(&self) {
        if let Some(columns) = &mut self.inner.write().columns {
            columns.seal();
        }
    }

    /// Rows that readers may see. They never become fewer.
    pub(super) fn published(&self) -> u32 {
        self.face.published.load(Ordering::Acquire)
    }

    /// Lets readers see the first `rows` rows; answers how many more that shows.
    pub(super) fn publish(&self, rows: u32) -> u64 {
        let before = self.face.published.swap(rows, Ordering::AcqRel);
        self.inner.read().shown(before..rows)
    }

    pub(super) fn written(&self) -> u32 {
        self.written.load(Ordering::Relaxed)
    }

    pub(super) fn set_written(&self, bytes: u32) {
        self.written.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn room(&self) -> u32 {
        self.room.load(Ordering::Relaxed)
    }

    pub(super) fn set_room(&self, end: u32) {
        self.room.store(end, Ordering::Relaxed);
    }

    /// Bytes of the file of its events, or of their blocks.
    pub(super) fn file_bytes(&self) -> u64 {
        let sealed = self.inner.read().sealed.clone();
        sealed
            .map_or(self.written(), |sealed| sealed.directory.blocks_bytes)
            .into()
    }

    /// Bytes of its files.
    pub(super) fn disk_bytes(&self) -> u64 {
        let sealed = self.inner.read().sealed.clone();
        sealed.map_or(self.written().into(), |sealed| {
            sealed.directory.disk_bytes()
        })
    }

    pub(super) fn file(&self) -> Option<Arc<dyn DiskFile>> {
        self.file.lock().clone()
    }

    pub(super) fn set_file(&self, file: Arc<dyn DiskFile>) {
        *self.file.lock() = Some(file);
    }

    pub(super) fn is_sealed(&self) -> bool {
        self.inner.read().sealed.is_some()
    }

    /// Whether its index was found damaged, and is not made anew yet.
    pub(super) fn has_damaged_index(&self) -> bool {
        let inner = self.inner.read();
        let sealed = inner.sealed.as_ref();
        sealed.is_some_and(|sealed| sealed.is_index_damaged())
    }

    /// Whether it waits to be sealed: no more is written, and nothing in it is damaged.
    pub(super) fn can_be_sealed(&self) -> bool {
        let whole = |summary: &Summary| summary.damage.is_empty() && summary.has_head;
        self.rolled.get().is_some_and(whole) && !self.is_sealed() && !self.is_gone()
    }

    /// From now on reads what is not in memory from the sealed files.
    pub(super) fn adopt(&self, sealed: Sealed) {
        if let Some(outline) = Outline::of(&sealed) {
            // One that was set before says the same.
            let _ = self.face.outline.set(outline);
        }
        let mut inner = self.inner.write();
        inner.sealed = Some(Arc::new(sealed));
        inner.forget_columns();
        drop(inner);
        *self.file.lock() = None;
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// It was pruned; answers how many hot bytes that frees.
    pub(super) fn go(&self) -> usize {
        self.gone.store(true, Ordering::Release);
        self.inner.write().hot.clear()
    }

    /// Removes all files that it has or may have had.
    pub(super) fn remove(&self, disk: &dyn Disk) {
        let (blocks, index) = sealed_names(&self.name);
        for name in [&self.name, &index, &blocks] {
            match disk.remove(name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(file = name, %error, "the file of a pruned segment was not removed");
                }
                _ => {}
            }
        }
    }

    pub(super) fn hot_bytes(&self) -> usize {
        self.inner.read().hot.bytes()
    }

    #[cfg(test)]
    pub(super) fn hot_chunks(&self) -> usize {
        self.inner.read().hot.chunks()
    }

    /// Lets the oldest hot bytes go; answers how many.
    pub(super) fn cool(&self) -> usize {
        let mut inner = self.inner.write();
        let freed = inner.hot.let_go(self.written());
        inner.forget_columns();
        freed
    }

    /// Memory of the index in bytes.
    pub(super) fn index_bytes(&self) -> usize {
        let inner = self.inner.read();
        let columns = inner.columns.as_ref().map_or(0, Columns::bytes);
        let sealed = inner.sealed.as_ref();
        columns + sealed.map_or(0, |sealed| sealed.directory.memory())
    }

    fn source(&self) -> Source<'_> {
        match RwLockReadGuard::try_map(self.inner.read(), |inner| inner.columns.as_ref()) {
            Ok(columns) => Source::Columns(columns),
            Err(inner) => match &inner.sealed {
                Some(sealed) => Source::Sealed(sealed.clone()),
                None => unreachable!("a segment has columns until it is sealed"),
            },
        }
    }

    fn read_index<T>(
        &self,
        columns: impl FnOnce(&Columns) -> T,
        sealed: impl FnOnce(&Sealed) -> T,
    ) -> T {
        let inner = self.inner.read();
        match (&inner.columns, &inner.sealed) {
            (Some(in_memory), _) => columns(in_memory),
            (None, Some(files)) => sealed(files),
            (None, None) => unreachable!("a segment has columns until it is sealed"),
        }
    }

    /// The row of an id that is not pruned, also one that readers do not see yet.
    pub(super) fn find_any(&self, id: u64, access: Access<'_>) -> io::Result<Option<u32>> {
        let in_span = |span: Option<Zone>| span.is_some_and(|span| span.has_id(id));
        let (sealed, hidden) = {
            let inner = self.inner.read();
            if let Some(columns) = &inner.columns {
                let shows = |row: u32| !inner.hidden.is_hidden(row, columns.times[row as usize]);
                let found = in_span(columns.span()).then(|| columns.find(id, shows));
                return Ok(found.flatten());
            }
            let sealed = inner.sealed.as_ref();
            match sealed.filter(|sealed| in_span(sealed.directory.span)) {
                Some(sealed) => (sealed.clone(), inner.hidden.clone()),
                None => return Ok(None),
            }
        };
        let rows = sealed.find(id, access)?;
        let mut found = None;
        sealed.keys(&rows, access, |row, _, time| {
            if found.is_none() && !hidden.is_hidden(row, time) {
                found = Some(row);
            }
        })?;
        Ok(found)
    }

    /// Where a row starts.
    pub(super) fn offset_of(&self, row: u32) -> io::Result<u32> {
        match self.source() {
            Source::Columns(columns) => Ok(columns.offset(row)),
            Source::Sealed(sealed) if row >= sealed.directory.rows => Ok(sealed.directory.bytes),
            Source::Sealed(sealed) => sealed.offset(row, Access::Disk),
        }
    }

    /// How many rows start before an offset.
    pub(super) fn rows_before(&self, offset: u32) -> io::Result<u32> {
        match self.source() {
            Source::Columns(columns) => Ok(columns.rows_before(offset)),
            Source::Sealed(sealed) => sealed.rows_before(offset),
        }
    }

    /// Whether it had events and none shows any more; or, rolled, none was ever in it.
    pub(super) fn is_pruned(&self) -> bool {
        self.all_rows() == self.hidden_rows()
    }

    pub(super) fn hidden_rows(&self) -> u32 {
        self.inner.read().hidden.count()
    }

    /// All rows below are hidden.
    pub(super) fn hidden_prefix(&self) -> u32 {
        self.inner.read().hidden.prefix()
    }

    /// Takes all hiding back.
    pub(super) fn show_all(&self) {
        let _hiding = self.hiding.lock();
        self.inner.write().hidden = Hidden::default();
    }

    /// Hides the oldest `wanted` rows below row `rows` that still show; answers how many there were.
    pub(super) fn hide_oldest(&self, wanted: u64, rows: u32) -> u64 {
        self.hide(|hidden, times| match times {
            Source::Columns(columns) => hidden.hide_oldest(wanted, rows, &**columns),
            Source::Sealed(sealed) => hidden.hide_oldest(wanted, rows, &**sealed),
        })
    }

    /// Hides rows below row `rows` that are earlier than `time`; answers how many still showed.
    pub(super) fn hide_before(&self, time: i64, rows: u32) -> u64 {
        self.hide(|hidden, times| match times {
            Source::Columns(columns) => hidden.hide_before(time, rows, &**columns),
            Source::Sealed(sealed) => hidden.hide_before(time, rows, &**sealed),
        })
    }

    fn hide(&self, work: impl FnOnce(&mut Hidden, &Source<'_>) -> io::Result<u64>) -> u64 {
        let _hiding = self.hiding.lock();
        let mut hidden = self.inner.read().hidden.clone();
        let done = work(&mut hidden, &self.source());
        match done {
            Ok(count) => {
                self.inner.write().hidden = hidden;
                count
            }
            Err(error) => {
                tracing::warn!(segment = self.name, %error, "events were not pruned: their index cannot be read");
                0
            }
        }
    }

    /// All its bytes, as they were before it was sealed.
    pub(super) fn load(&self) -> io::Result<Vec<u8>> {
        let sealed = self.inner.read().sealed.clone();
        if let Some(sealed) = sealed {
            return Ok(sealed.expand_all()?.0);
        }
        let file = self.file().ok_or(io::ErrorKind::NotFound)?;
        super::sealing::read_whole(file.as_ref(), self.written().into())
    }

    /// The record at an offset of the file before it is sealed, with its checksum verified.
    fn read_file(&self, (start, end): (u32, u32), access: Access<'_>) -> io::Result<Vec<u8>> {
        let file = self.file().ok_or(io::ErrorKind::NotFound)?;
        let mut bytes = vec![0; (end - start) as usize];
        let read = access.read_at(file.as_ref(), &mut bytes, u64::from(start))?;
        bytes.truncate(read);
        let len = Record::read_checked(&bytes)
            .ok_or_else(damaged)?
            .bytes
            .len();
        bytes.truncate(len);
        Ok(bytes)
    }

    /// Hands records to `work` as long as they are in memory, and takes them off `rows`; answers where the first one is that is not.
    /// `None` once there is nothing more to do, or no row has a place in memory any more.
    fn read_hot(
        &self,
        rows: &mut &[u32],
        work: &mut dyn FnMut(io::Result<&[u8]>) -> bool,
    ) -> Option<(u32, u32)> {
        let inner = self.inner.read();
        let columns = inner.columns.as_ref()?;
        while let Some((row, rest)) = rows.split_first() {
            let (start, end) = columns.extent(*row);
            let Some(bytes) = inner.hot.get(start, end) else {
                return Some((start, end));
            };
            *rows = if work(Ok(bytes)) { rest } else { &[] };
        }
        None
    }

    fn read_cold(
        &self,
        extent: (u32, u32),
        access: Access<'_>,
        work: &mut dyn FnMut(&[u8]),
    ) -> io::Result<()> {
        let sealed = self.inner.read().sealed.clone();
        if let Some(sealed) = sealed {
            return sealed.read_record(extent.0, access, work);
        }
        match self.read_file(extent, access) {
            Ok(bytes) => {
                work(&bytes);
                Ok(())
            }
            // It was sealed between the two looks.
            Err(_) if self.is_sealed() => self.read_cold(extent, access, work),
            Err(error) => Err(error),
        }
    }
}

impl View for Segment {
    fn base(&self) -> u64 {
        self.base
    }

    fn rows(&self) -> u32 {
        self.published()
    }

    fn span(&self) -> Option<Zone> {
        if let Some(outline) = self.face.outline.get() {
            return Some(outline.span);
        }
        self.read_index(Columns::span, |sealed| sealed.directory.span)
    }

    fn zones(&self, zones: Range<u32>, out: &mut Vec<Zone>) {
        let take = |all: &[Zone], out: &mut Vec<Zone>| {
            let end = (zones.end as usize).min(all.len());
            out.extend_from_slice(all.get(zones.start as usize..end).unwrap_or_default());
        };
        match self.source() {
            Source::Columns(columns) => take(Times::zones(&*columns), out),
            Source::Sealed(sealed) => take(Times::zones(&*sealed), out),
        }
    }

    fn kinds(
        &self,
        prefix: &str,
        access: Access<'_>,
        out: &mut Vec<(Arc<str>, u32)>,
    ) -> io::Result<()> {
        match self.source() {
            Source::Columns(columns) => {
                columns.kinds(prefix, out);
                Ok(())
            }
            Source::Sealed(sealed) => sealed.kinds(prefix, access, out),
        }
    }

    fn links(&self) -> Option<&Membership> {
        let outline = self.face.outline.get()?;
        Some(&outline.links)
    }

    fn count(&self, term: Term<'_>, access: Access<'_>, few: &mut Vec<u32>) -> io::Result<u32> {
        match self.source() {
            Source::Columns(columns) => Ok(columns.count(term, few)),
            Source::Sealed(sealed) => sealed.count(term, access, few),
        }
    }

    fn rows_with(
        &self,
        term: Term<'_>,
        within: Range<u32>,
        access: Access<'_>,
        out: &mut Vec<u32>,
    ) -> io::Result<()> {
        match self.source() {
            Source::Columns(columns) => {
                columns.rows_with(term, within, out);
                Ok(())
            }
            Source::Sealed(sealed) => sealed.rows_with(term, within, access, out),
        }
    }

    fn keys(&self, rows: &[u32], access: Access<'_>, out: &mut Vec<Key>) -> io::Result<()> {
        let (sealed, hidden) = {
            let inner = self.inner.read();
            let hidden = &inner.hidden;
            if let Some(columns) = &inner.columns {
                out.extend(rows.iter().map(|row| {
                    let (id, time) = (columns.ids[*row as usize], columns.times[*row as usize]);
                    let hidden = hidden.is_hidden(*row, time);
                    Key { id, time, hidden }
                }));
                return Ok(());
            }
            (inner.sealed.clone(), hidden.clone())
        };
        let sealed = sealed.ok_or(io::ErrorKind::NotFound)?;
        sealed.keys(rows, access, |row, id, time| {
            let hidden = hidden.is_hidden(row, time);
            out.push(Key { id, time, hidden });
        })
    }

    fn find(&self, id: u64, access: Access<'_>) -> io::Result<Option<u32>> {
        let row = self.find_any(id, access)?;
        Ok(row.filter(|row| *row < self.published()))
    }

    fn read_while(
        &self,
        rows: &[u32],
        access: Access<'_>,
        work: &mut dyn FnMut(io::Result<&[u8]>) -> bool,
    ) -> io::Result<()> {
        let mut rest = rows;
        while let Some(extent) = self.read_hot(&mut rest, work) {
            // No guard is held from here on: a second look under a first one waits for a writer that waits for the first.
            let mut goes_on = true;
            let read = self.read_cold(extent, access, &mut |bytes| goes_on = work(Ok(bytes)));
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Err(error) => goes_on = work(Err(error)),
                Ok(()) => {}
            }
            rest = rest.get(1..).unwrap_or_default();
            if !goes_on {
                return Ok(());
            }
        }
        if rest.is_empty() {
            return Ok(());
        }
        let sealed = self.inner.read().sealed.clone();
        let sealed = sealed.ok_or(io::ErrorKind::NotFound)?;
        sealed.read_while(rest, access, work)
    }
}

impl Inner {
    /// How many of rows that begin to show are not hidden.
    fn shown(&self, rows: Range<u32>) -> u64 {
        match &self.columns {
            Some(columns) if self.hidden.count() > 0 => {
                self.hidden.shown(rows, columns).unwrap_or_default()
            }
            _ => u64::from(rows.end.saturating_sub(rows.start)),
        }
    }

    /// The columns of a sealed segment are worth their memory only while its bytes are in memory, too.
    fn forget_columns(&mut self) {
        if self.sealed.is_some() && self.hot.bytes() == 0 {
            self.columns = None;
        }
    }
}
