//! What a plain program has told of its actors and groups.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use super::protocol::Members;

/// What a plain program has told of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PlainMember {
    /// How many actors it has that take messages from afar.
    pub actors: usize,
    /// Its groups, sorted.
    pub groups: Vec<PlainGroup>,
}

/// A group of a plain program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PlainGroup {
    /// The scope of ractor's `pg`.
    pub scope: String,
    /// Its name.
    pub name: String,
    /// How many of the program's actors are in it.
    pub members: usize,
}

/// How many actors and memberships one program may tell of.
const MEMBERSHIPS_MAX: usize = 65_536;
const GROUPS_MAX: usize = 4096;
/// How long the names of a group and its scope may be.
const NAME_BYTES_MAX: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Roster {
    actors: HashSet<u64>,
    groups: BTreeMap<(String, String), HashSet<u64>>,
    memberships: usize,
}

/// It tells of more than is remembered of one program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany;

impl Roster {
    pub(super) fn spawned(&mut self, actors: &[u64]) -> Result<(), TooMany> {
        for actor in actors {
            self.actors.insert(*actor);
            if self.actors.len() > MEMBERSHIPS_MAX {
                return Err(TooMany);
            }
        }
        Ok(())
    }

    pub(super) fn terminated(&mut self, actors: &[u64]) {
        let mut gone: HashSet<u64> = actors.iter().copied().collect();
        gone.retain(|actor| self.actors.remove(actor));
        if gone.is_empty() {
            return;
        }
        self.groups.retain(|_, members| {
            members.retain(|member| !gone.contains(member));
            !members.is_empty()
        });
        self.memberships = self.groups.values().map(HashSet::len).sum();
    }

    pub(super) fn joined(&mut self, joined: &Members<'_>) -> Result<(), TooMany> {
        if joined.actors.is_empty() {
            return Ok(());
        }
        self.spawned(&joined.actors)?;
        let key = (joined.scope.to_owned(), joined.group.to_owned());
        let is_known = self.groups.contains_key(&key);
        let is_long = joined.scope.len() + joined.group.len() > NAME_BYTES_MAX;
        if !is_known && (self.groups.len() >= GROUPS_MAX || is_long) {
            return Err(TooMany);
        }
        let members = self.groups.entry(key).or_default();
        for actor in &joined.actors {
            self.memberships += usize::from(members.insert(*actor));
            if self.memberships > MEMBERSHIPS_MAX {
                return Err(TooMany);
            }
        }
        Ok(())
    }

    pub(super) fn left(&mut self, left: &Members<'_>) {
        let key = (left.scope.to_owned(), left.group.to_owned());
        let Some(members) = self.groups.get_mut(&key) else {
            return;
        };
        for actor in &left.actors {
            self.memberships -= usize::from(members.remove(actor));
        }
        if members.is_empty() {
            self.groups.remove(&key);
        }
    }

    pub(super) fn seen(&self) -> PlainMember {
        let groups = self
            .groups
            .iter()
            .map(|((scope, name), members)| PlainGroup {
                scope: scope.clone(),
                name: name.clone(),
                members: members.len(),
            });
        PlainMember {
            actors: self.actors.len(),
            groups: groups.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(group: &str, actors: impl IntoIterator<Item = u64>) -> Members<'_> {
        Members {
            scope: "s",
            group,
            actors: actors.into_iter().collect(),
        }
    }

    #[test]
    fn who_dies_is_in_no_group_and_a_group_without_members_is_gone() {
        let mut roster = Roster::default();
        roster.joined(&members("one", [1, 2])).expect("few");
        roster.joined(&members("two", [1])).expect("few");

        roster.terminated(&[1]);

        let seen = roster.seen();
        assert_eq!(seen.actors, 1);
        let [group] = &seen.groups[..] else {
            panic!("{seen:?}");
        };
        assert_eq!((group.name.as_str(), group.members), ("one", 1));
        roster.left(&members("one", [2]));
        assert_eq!(roster.seen().groups, []);
        assert_eq!(roster.memberships, 0);
    }

    #[test]
    fn nobody_tells_of_more_than_is_remembered() {
        let mut roster = Roster::default();
        let most = MEMBERSHIPS_MAX as u64;
        roster
            .joined(&members("one", 0..most))
            .expect("as many as may be");
        assert_eq!(roster.spawned(&[most]), Err(TooMany));

        let mut roster = Roster::default();
        for group in 0..GROUPS_MAX {
            roster
                .joined(&members(&group.to_string(), [1]))
                .expect("as many as may be");
        }
        assert_eq!(roster.joined(&members("one more", [1])), Err(TooMany));
        let mut roster = Roster::default();
        let long = "x".repeat(NAME_BYTES_MAX);
        assert_eq!(roster.joined(&members(&long, [1])), Err(TooMany));
    }
}
