//! How many members of each group a node has, as it has told over one connection: what it told goes with the connection.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::RandomState;
use parking_lot::Mutex;

/// How many groups one other node may tell of.
const GROUPS_MAX: usize = 65_536;

/// The longest name of a group that others are told of.
pub(super) const GROUP_BYTES_MAX: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Counts(Mutex<HashMap<Arc<str>, u32, RandomState>>);

impl Counts {
    /// The node tells of some groups, or begins to tell of all of them.
    pub(super) fn learn(&self, whole: bool, groups: &[(&str, u32)]) {
        let mut counts = self.0.lock();
        if whole {
            counts.clear();
        }
        for (group, count) in groups {
            if *count == 0 {
                counts.remove(*group);
            } else if counts.len() < GROUPS_MAX && group.len() <= GROUP_BYTES_MAX {
                counts.insert((*group).into(), *count);
            }
        }
    }

    /// `None` where it has no members.
    pub(super) fn of(&self, group: &str) -> Option<u32> {
        self.0.lock().get(group).copied()
    }

    pub(super) fn names(&self) -> Vec<Arc<str>> {
        self.0.lock().keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_without_members_is_gone_and_a_whole_list_is_all_there_is() {
        let counts = Counts::default();
        counts.learn(true, &[("readers", 2), ("writers", 1)]);
        counts.learn(false, &[("readers", 3), ("writers", 0)]);
        assert_eq!(
            (counts.of("readers"), counts.of("writers")),
            (Some(3), None)
        );

        counts.learn(true, &[("writers", 1)]);
        counts.learn(false, &[("others", 1)]);

        assert_eq!(
            (counts.of("readers"), counts.of("writers")),
            (None, Some(1))
        );
        assert_eq!(counts.names().len(), 2);
    }

    #[test]
    fn nobody_tells_of_more_groups_than_are_remembered_or_of_longer_names() {
        let counts = Counts::default();
        let names: Vec<_> = (0..=GROUPS_MAX).map(|n| n.to_string()).collect();
        for name in &names {
            counts.learn(false, &[(name, 1)]);
        }
        assert_eq!(counts.names().len(), GROUPS_MAX);

        let counts = Counts::default();
        let [fits, long] = [256, 257].map(|bytes| "x".repeat(bytes));
        counts.learn(true, &[(&fits, 1), (&long, 1)]);
        assert_eq!(counts.names(), [Arc::<str>::from(fits)]);
    }
}
