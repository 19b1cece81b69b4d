//! Which rows of a segment were pruned: a prefix, and rules by time. Pure, and as small for a million rows as for one.

use std::{io, ops::Range};

use super::columns::{ZONE_ROWS, Zone};

/// Rows that do not show any more.
#[derive(Debug, Clone, Default)]
pub(super) struct Hidden {
    /// All rows below.
    prefix: u32,
    /// Rows below the number that are earlier than the time. Times fall and numbers rise.
    before: Vec<(i64, u32)>,
    /// How many rows are hidden.
    count: u32,
}

/// What tells the times of rows: in memory, or from a file.
pub(super) trait Times {
    fn zones(&self) -> &[Zone];
    /// The times of these rows, which lie in one zone.
    fn times(&self, rows: Range<u32>) -> io::Result<Vec<i64>>;
}

impl Hidden {
    pub(super) fn is_hidden(&self, row: u32, time: i64) -> bool {
        row < self.prefix
            || self
                .before
                .iter()
                .any(|(limit, rows)| time < *limit && row < *rows)
    }

    /// All rows below are hidden.
    pub(super) fn prefix(&self) -> u32 {
        self.prefix
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Hides the oldest `wanted` rows below row `rows` that still show; answers how many there were.
    pub(super) fn hide_oldest(
        &mut self,
        wanted: u64,
        rows: u32,
        times: &impl Times,
    ) -> io::Result<u64> {
        let mut hidden = 0;
        while hidden < wanted && self.prefix < rows {
            let part = self.prefix..rows.min(zone_end(self.prefix));
            let shown = self.shown_in(part.clone(), times)?;
            if hidden + u64::from(shown) <= wanted {
                hidden += u64::from(shown);
                self.count += shown;
                self.prefix = part.end;
                continue;
            }
            let in_zone = times.times(part.clone())?;
            for (row, time) in part.zip(in_zone) {
                if hidden == wanted {
                    break;
                }
                if !self.is_hidden(row, time) {
                    hidden += 1;
                    self.count += 1;
                }
                self.prefix = row + 1;
            }
        }
        Ok(hidden)
    }

    /// Hides rows below row `rows` that are earlier than `time`; answers how many still showed.
    pub(super) fn hide_before(
        &mut self,
        time: i64,
        rows: u32,
        times: &impl Times,
    ) -> io::Result<u64> {
        let mut hidden = 0;
        for (zone, first) in times.zones().iter().zip((0..).step_by(ZONE_ROWS as usize)) {
            let part = first.max(self.prefix)..rows.min(zone_end(first));
            if zone.time.0 >= time || part.is_empty() {
                continue;
            }
            hidden += if zone.time.1 < time {
                self.shown_in(part, times)?
            } else {
                let in_zone = times.times(part.clone())?;
                let newly = part
                    .zip(in_zone)
                    .filter(|(row, at)| *at < time && !self.is_hidden(*row, *at));
                super::wire::len32(newly.count())
            };
        }
        self.count += hidden;
        if hidden > 0 {
            self.before
                .retain(|(limit, below)| *limit > time || *below > rows);
            self.before.push((time, rows));
        }
        Ok(hidden.into())
    }

    /// How many of these rows show.
    pub(super) fn shown(&self, rows: Range<u32>, times: &impl Times) -> io::Result<u64> {
        let mut shown = 0;
        let mut from = rows.start;
        while from < rows.end {
            let end = rows.end.min(zone_end(from));
            shown += u64::from(self.shown_in(from..end, times)?);
            from = end;
        }
        Ok(shown)
    }

    /// As [`Hidden::shown`], within one zone.
    fn shown_in(&self, rows: Range<u32>, times: &impl Times) -> io::Result<u32> {
        let rows = rows.start.max(self.prefix)..rows.end;
        if rows.is_empty() {
            return Ok(0);
        }
        let zone = times.zones()[(rows.start / ZONE_ROWS) as usize];
        let touches = |(limit, below): &(i64, u32)| zone.time.0 < *limit && rows.start < *below;
        if !self.before.iter().any(touches) {
            return Ok(rows.end - rows.start);
        }
        let all = |(limit, below): &(i64, u32)| zone.time.1 < *limit && rows.end <= *below;
        if self.before.iter().any(all) {
            return Ok(0);
        }
        let in_zone = times.times(rows.clone())?;
        let shown = rows
            .zip(in_zone)
            .filter(|(row, time)| !self.is_hidden(*row, *time));
        Ok(super::wire::len32(shown.count()))
    }
}

fn zone_end(row: u32) -> u32 {
    (row - row % ZONE_ROWS).saturating_add(ZONE_ROWS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Listed {
        times: Vec<i64>,
        zones: Vec<Zone>,
    }

    impl Listed {
        fn new(times: Vec<i64>) -> Self {
            let zone = |times: &[i64]| Zone {
                time: (
                    *times.iter().min().expect("not empty"),
                    *times.iter().max().expect("not empty"),
                ),
                id: (0, 0),
            };
            let zones = times.chunks(ZONE_ROWS as usize).map(zone).collect();
            Self { times, zones }
        }
    }

    impl Times for Listed {
        fn zones(&self) -> &[Zone] {
            &self.zones
        }

        fn times(&self, rows: Range<u32>) -> io::Result<Vec<i64>> {
            Ok(self.times[rows.start as usize..rows.end as usize].to_vec())
        }
    }

    proptest! {
        #[test]
        fn hiding_agrees_with_a_plain_list(
            times in prop::collection::vec(0_i64..100, 1..900),
            rising in any::<bool>(),
            prunes in prop::collection::vec((0_i64..100, 0_u64..400, 0_u32..900), 1..6),
        ) {
            let mut times = times;
            if rising {
                times.sort_unstable();
            }
            let rows = u32::try_from(times.len()).expect("small");
            let listed = Listed::new(times.clone());
            let mut hidden = Hidden::default();
            let mut shown = vec![true; times.len()];

            for (time, oldest, below) in prunes {
                let below = below.min(rows);
                let mut expected = 0;
                for row in 0..below as usize {
                    if shown[row] && times[row] < time {
                        shown[row] = false;
                        expected += 1;
                    }
                }
                prop_assert_eq!(hidden.hide_before(time, below, &listed).expect("in memory"), expected);
                let mut left = oldest;
                for show in shown.iter_mut().take(below as usize).filter(|show| **show) {
                    if left > 0 {
                        *show = false;
                        left -= 1;
                    }
                }
                let hid = hidden.hide_oldest(oldest, below, &listed).expect("in memory");
                prop_assert_eq!(hid, oldest - left);
            }

            for (row, show) in (0..).zip(&shown) {
                prop_assert_eq!(hidden.is_hidden(row, times[row as usize]), !show);
            }
            let showing = u64::try_from(shown.iter().filter(|show| **show).count()).expect("small");
            prop_assert_eq!(hidden.shown(0..rows, &listed).expect("in memory"), showing);
            prop_assert_eq!(u64::from(rows - hidden.count()), showing);
        }
    }
}
