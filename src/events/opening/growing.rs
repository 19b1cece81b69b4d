//! Reading a segment that is not sealed: its whole frames piece by piece, and at once what is behind them.

use std::{io, sync::Arc};

use super::{
    super::{
        disk::DiskFile,
        error::OpenError,
        frame::{HEADER_BYTES, Header},
        mending,
        naming::Named,
        recovery::{self, Scan, Unknown},
        sealing,
        segment::Segment,
        stats::Torn,
    },
    FolderReader,
};

/// Bytes that are read at once: few enough to stay close to the processor until they are checked and copied.
const PIECE_BYTES: usize = if cfg!(test) { 512 } else { 256 * 1024 };

impl FolderReader<'_> {
    pub(super) fn read(&mut self, named: &Named, is_last: bool) -> Result<(), OpenError> {
        let failed = |error| OpenError::Read {
            file: named.name.clone(),
            error,
        };
        let unknown = |unknown: Unknown| OpenError::Unknown {
            file: named.name.clone(),
            version: unknown.version,
            codec: unknown.codec,
        };
        sealing::within_limit(named.bytes).map_err(failed)?;
        let file = self.disk.open(&named.name).map_err(failed)?;
        let segment = Segment::new(named.base, named.name.clone());
        let mut scan = Scan::default();
        let mut unproven = Unproven::default();
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let (start, before) = (scan.end(), scan.frames.len());
            let read = self
                .read_piece(named, file.as_ref(), &mut piece, &mut scan, &segment)
                .map_err(failed)?
                .map_err(unknown)?;
            if read == 0 {
                break;
            }
            if is_last {
                unproven.go_on(&scan, before, (start, &piece[..read]));
            }
        }
        // Room that was made for what comes, a torn tail, or damage.
        let (front, start) = (scan.frames.len(), scan.end());
        let rest = sealing::read_from(file.as_ref(), start.into(), named.bytes).map_err(failed)?;
        recovery::scan_rest(&mut scan, &rest, named.log, named.base).map_err(unknown)?;
        if is_last {
            let seen = [(unproven.start, &unproven.bytes[..]), (start, &rest[..])];
            self.cut_torn_tail(named, file.as_ref(), &mut scan, seen)
                .map_err(failed)?;
        }
        for damage in &scan.damage {
            let from = (damage.offset - start) as usize;
            let bytes = &rest[from..from + damage.bytes as usize];
            self.quarantine(&named.name, damage.offset, bytes);
        }
        for (offset, header) in &scan.frames[front..] {
            self.take_in(
                &segment,
                *offset,
                header,
                &rest[(offset - start) as usize..],
            );
        }
        self.conclude(named, segment, file, &scan, is_last);
        Ok(())
    }

    /// Reads on behind what was scanned, and takes in the whole frames; answers how many bytes they have, at the front of `piece`.
    fn read_piece(
        &mut self,
        named: &Named,
        file: &dyn DiskFile,
        piece: &mut Vec<u8>,
        scan: &mut Scan,
        segment: &Segment,
    ) -> io::Result<Result<usize, Unknown>> {
        let (start, before) = (scan.end(), scan.frames.len());
        let left = named.bytes.saturating_sub(start.into());
        let mut read = file.fill_from(&mut piece[..], start.into())?;
        if let Ok(header) = Header::decode(&piece[..read])
            && header.frame_bytes() > piece.len()
            && header.frame_bytes() as u64 <= left
        {
            piece.resize(header.frame_bytes(), 0);
            read = file.fill_from(&mut piece[..], start.into())?;
        }
        let scanned = recovery::scan_front(scan, &piece[..read], (named.log, named.base));
        for (offset, header) in &scan.frames[before..] {
            self.take_in(
                segment,
                *offset,
                header,
                &piece[(offset - start) as usize..],
            );
        }
        Ok(scanned)
    }

    /// Takes in a whole frame, which stands at the front of `bytes`.
    fn take_in(&mut self, segment: &Segment, offset: u32, header: &Header, bytes: &[u8]) {
        let body = &bytes[HEADER_BYTES..header.frame_bytes()];
        let front = header.front as usize;
        self.learn(header, &body[..front]);
        segment.push(offset, HEADER_BYTES, body, front);
    }

    /// Makes the end of the newest segment certain: what is torn goes, and what may only be in the system's memory is written again,
    /// out of the bytes that were `seen`, each part with the place of its first one.
    fn cut_torn_tail(
        &mut self,
        named: &Named,
        file: &dyn DiskFile,
        scan: &mut Scan,
        seen: [(u32, &[u8]); 2],
    ) -> io::Result<()> {
        let synced = self
            .synced_before(named.base)
            .max(scan.summary(named.base).synced);
        let end = scan.end();
        if u64::from(end) < named.bytes {
            // Room that was made ahead is made anew.
            file.truncate(end.into())?;
        }
        if let Some(torn) = scan.torn_at(synced) {
            let frames = scan.cut(torn);
            self.opened.torn = Some(Torn {
                file: named.name.clone(),
                offset: torn.into(),
                bytes: u64::from(end - torn),
                whole_frames: frames,
            });
            file.truncate(torn.into())?;
            file.sync()?;
        }
        // After a failed sync the system may hold pages as clean that never reached the disk: only writing them again can tell. It may also
        // let them go at any time, so that they are not read again for it: what came then could be what the disk had before.
        let is_unproven = |(_, header): &(u32, Header)| header.sequence > synced;
        if let Some(unproven) = scan.frames.iter().position(is_unproven) {
            write_again(file, seen, (scan.frames[unproven].0, scan.end()))?;
            file.sync()?;
        }
        Ok(())
    }

    /// A segment is created only after everything before it was synced.
    fn synced_before(&self, base: u64) -> u64 {
        if self.summaries.is_empty() {
            0
        } else {
            base - 1
        }
    }

    /// Copies damaged bytes to a side file; they also stay where they are, so that every opening sees them.
    fn quarantine(&mut self, file: &str, offset: u32, bytes: &[u8]) {
        if let Err(error) = mending::quarantine(self.disk, file, offset, bytes) {
            tracing::warn!(file, %error, "damaged bytes were not copied to a side file");
        }
        self.opened.quarantined += 1;
    }

    fn conclude(
        &mut self,
        named: &Named,
        segment: Segment,
        file: Arc<dyn DiskFile>,
        scan: &Scan,
        is_last: bool,
    ) {
        let summary = scan.summary(named.base);
        self.knows_notes = summary.has_head;
        segment.set_file(file);
        segment.set_written(scan.end());
        segment.publish(segment.all_rows());
        // A damaged segment is not written on: the next one starts with a whole head.
        let go_on = is_last && summary.has_head && summary.damage.is_empty();
        if !go_on {
            segment.finish();
        }
        // Both are set once, here.
        let _ = segment.found.set(summary.clone());
        let segment = Arc::new(segment);
        if go_on {
            self.found.active = Some((segment.clone(), scan.end()));
        } else if !is_last {
            let _ = segment.rolled.set(summary.clone());
        }
        self.summaries.push(summary);
        self.found.segments.push(segment);
    }
}

/// The end of what was read of a segment, as it was checked: the frames for which no later one vouches so far. Seldom more than was written
/// between two syncs, never more than the segment.
#[derive(Debug, Default)]
struct Unproven {
    start: u32,
    bytes: Vec<u8>,
    /// The highest last-synced mark so far.
    synced: u64,
}

impl Unproven {
    /// Takes the next whole frames, those of `scan` from number `before` on; their bytes stand at `start`.
    fn go_on(&mut self, scan: &Scan, before: usize, (start, bytes): (u32, &[u8])) {
        let marks = scan.frames[before..]
            .iter()
            .map(|(_, header)| header.synced);
        self.synced = marks.fold(self.synced, u64::max);
        let proven = |(_, header): &(u32, Header)| header.sequence <= self.synced;
        let first = scan.frames.partition_point(proven);
        let from = scan.frames.get(first).map_or(scan.end(), |(at, _)| *at);
        if from < start {
            self.bytes.drain(..(from - self.start) as usize);
            self.bytes.extend_from_slice(bytes);
        } else {
            self.bytes.clear();
            self.bytes
                .extend_from_slice(&bytes[(from - start) as usize..]);
        }
        self.start = from;
    }
}

/// Writes the bytes from one place to another again, as they were seen.
fn write_again(
    file: &dyn DiskFile,
    seen: [(u32, &[u8]); 2],
    (from, to): (u32, u32),
) -> io::Result<()> {
    for (start, bytes) in seen {
        let first = from.max(start);
        let end = bytes.len().min(to.saturating_sub(start) as usize);
        let again = bytes.get((first - start) as usize..end);
        if let Some(again) = again.filter(|again| !again.is_empty()) {
            file.write_at(again, first.into())?;
        }
    }
    Ok(())
}
