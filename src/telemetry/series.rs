//! A series of a metric, and whether it is idle.

use std::{sync::Arc, time::Duration};

use super::{
    Labels,
    storage::{Cells, Storage},
    text,
};

#[derive(Debug)]
pub(super) struct Series {
    /// Its labels as the text formats write them.
    pub(super) written: Box<str>,
    pub(super) storage: Storage,
    activity: Activity,
}

/// What the sweeps saw of a gauge or histogram.
#[derive(Debug, Clone, Copy)]
enum Activity {
    /// Not seen by a sweep yet.
    New,
    /// Written to before the sweep at this time; a histogram then held so many values.
    Seen { at: Duration, count: u64 },
    /// Idle for longer than the retention, kept for the handles that exist, and not shown until written to.
    Hidden { count: u64 },
}

impl Series {
    pub(super) fn new<C: Cells>(labels: &Labels, cells: Arc<C>) -> Self {
        Self {
            written: text::written(labels),
            storage: cells.into_storage(),
            activity: Activity::New,
        }
    }

    /// Looks at it in a sweep: whether it has been idle for so long that it is not shown from now on.
    pub(super) fn expires(&mut self, now: Duration, retention: Duration) -> bool {
        let before = self.is_hidden();
        self.observe(now, retention);
        self.is_hidden() && !before
    }

    /// Whether it is kept after a sweep: one that is idle is, while somebody has a handle to it.
    pub(super) fn stays(&self) -> bool {
        !self.is_hidden() || self.storage.has_handles()
    }

    fn is_hidden(&self) -> bool {
        matches!(self.activity, Activity::Hidden { .. })
    }

    fn observe(&mut self, now: Duration, retention: Duration) {
        let count = self.storage.count();
        let wrote = self.storage.take_touched();
        self.activity = match self.activity {
            Activity::Hidden { count: was } if !wrote && count == was => Activity::Hidden { count },
            Activity::Seen { at, count: was } if !wrote && count == was => {
                if self.storage.can_expire() && now.saturating_sub(at) > retention {
                    Activity::Hidden { count }
                } else {
                    Activity::Seen { at, count }
                }
            }
            Activity::New | Activity::Seen { .. } | Activity::Hidden { .. } => {
                Activity::Seen { at: now, count }
            }
        };
    }

    pub(super) fn is_shown(&self) -> bool {
        match self.activity {
            Activity::New | Activity::Seen { .. } => true,
            Activity::Hidden { count } => {
                self.storage.is_touched() || self.storage.count() != count
            }
        }
    }
}
