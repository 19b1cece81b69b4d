//! What follows of all that was read: prunes are ended, gaps are told, and it is known where the log goes on.

use std::{io, sync::Arc};

use super::{
    super::{
        error::OpenError,
        naming::sealed_names,
        notes::{LowWater, Position},
        recovery,
        segment::Segment,
        stats::{Gap, Opened},
    },
    FolderReader, Found,
};

impl FolderReader<'_> {
    pub(super) fn finish(mut self, draw: u64) -> Result<(Found, Opened), OpenError> {
        self.remove_dropped();
        self.remove_empty_newest();
        let last = self.summaries.iter().map(|summary| summary.last).max();
        self.found.next_sequence = last.unwrap_or(0) + 1;
        self.found.id = self.names.last().map_or(draw, |named| named.log);
        let id = self.found.id;
        self.opened.foreign = self.names.iter().filter(|named| named.log != id).count();
        self.disk.sync_folder().map_err(OpenError::Folder)?;
        let low = self.found.low.clone();
        for at in 0..self.found.segments.len() {
            self.hide_in(at, &low)?;
        }
        let gaps = recovery::gaps(&self.summaries, &low.dropped);
        self.opened.gaps = gaps
            .into_iter()
            .map(|(first, last)| Gap { first, last })
            .collect();
        Ok((self.found, self.opened))
    }

    /// Hides what was pruned of a segment. That may need pages of its index, which is made anew where they are damaged.
    fn hide_in(&mut self, at: usize, low: &LowWater) -> Result<(), OpenError> {
        let segment = self.found.segments[at].clone();
        let failed = |error| OpenError::Read {
            file: segment.name.clone(),
            error,
        };
        let named = self.names.iter().find(|named| named.name == segment.name);
        match (hide(&segment, low), named.cloned()) {
            (Err(error), Some(named))
                if error.kind() == io::ErrorKind::InvalidData && named.is_sealed =>
            {
                let (blocks, index) = sealed_names(&named.name);
                let sealed = self.rebuild(&named, &blocks, &index)?;
                let summary = &sealed.directory.summary;
                let before = self.summaries.iter_mut();
                for before in before.filter(|before| before.base == summary.base) {
                    *before = summary.clone();
                }
                let again = Segment::sealed(named.name, sealed);
                hide(&again, low).map_err(failed)?;
                self.found.segments[at] = Arc::new(again);
                Ok(())
            }
            (done, _) => done.map_err(failed),
        }
    }

    /// Goes on with a prune that a crash cut short.
    fn remove_dropped(&mut self) {
        let low = &self.found.low;
        self.found.segments.retain(|segment| {
            let dropped = low.was_dropped(segment.base);
            if dropped {
                segment.remove(self.disk);
                // What a crash left of its files is no damage to what is kept.
                let of_it = |(base, _): &&(u64, usize)| *base == segment.base;
                let blocks = self.damaged.iter().filter(of_it).map(|(_, blocks)| blocks);
                self.opened.quarantined -= blocks.sum::<usize>();
            }
            !dropped
        });
    }

    /// A newest segment of which nothing is whole gives its name back: its number is the next one.
    fn remove_empty_newest(&mut self) {
        let Some(newest) = self.summaries.last() else {
            return;
        };
        if newest.last >= newest.base || !newest.damage.is_empty() {
            return;
        }
        if let Some(segment) = self
            .found
            .segments
            .pop_if(|segment| segment.base == newest.base)
            && let Err(error) = self.disk.remove(&segment.name)
        {
            tracing::warn!(segment = segment.name, %error, "an empty segment was not removed");
        }
        self.found.active = None;
    }
}

fn hide(segment: &Segment, low: &LowWater) -> io::Result<()> {
    // A segment taken over may have hidden what a prune hid that was never written down.
    segment.show_all();
    let rows_before = |position: Position| match segment.base.cmp(&position.segment) {
        std::cmp::Ordering::Less => Ok(segment.all_rows()),
        std::cmp::Ordering::Equal => segment.rows_before(position.offset),
        std::cmp::Ordering::Greater => Ok(0),
    };
    segment.hide_oldest(u64::MAX, rows_before(low.through)?);
    for (time, position) in &low.before {
        segment.hide_before(*time, rows_before(*position)?);
    }
    Ok(())
}
