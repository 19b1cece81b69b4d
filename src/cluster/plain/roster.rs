//! What a plain program has told of its actors and groups.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

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

/// A group by its scope and its name.
type Key = Arc<(String, String)>;

#[derive(Debug, Default)]
pub(super) struct Roster {
    /// Each actor with the groups that it is in, so that its end costs no look at those of others.
    actors: HashMap<u64, HashSet<Key>>,
    groups: BTreeMap<Key, usize>,
    memberships: usize,
}

/// It tells of more than is remembered of one program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany;

impl Roster {
    pub(super) fn spawned(&mut self, actors: &[u64]) -> Result<(), TooMany> {
        for actor in actors {
            self.actors.entry(*actor).or_default();
            if self.actors.len() > MEMBERSHIPS_MAX {
                return Err(TooMany);
            }
        }
        Ok(())
    }

    pub(super) fn terminated(&mut self, actors: &[u64]) {
        for actor in actors {
            for group in self.actors.remove(actor).into_iter().flatten() {
                self.less(&group);
            }
        }
    }

    pub(super) fn joined(&mut self, joined: &Members<'_>) -> Result<(), TooMany> {
        if joined.actors.is_empty() {
            return Ok(());
        }
        self.spawned(&joined.actors)?;
        let key = key(joined);
        let known = self.groups.get_key_value(&key).map(|(key, _)| key.clone());
        let is_long = joined.scope.len() + joined.group.len() > NAME_BYTES_MAX;
        if known.is_none() && (self.groups.len() >= GROUPS_MAX || is_long) {
            return Err(TooMany);
        }
        let key = known.unwrap_or(key);
        for actor in &joined.actors {
            if !self.actors.entry(*actor).or_default().insert(key.clone()) {
                continue;
            }
            *self.groups.entry(key.clone()).or_default() += 1;
            self.memberships += 1;
            if self.memberships > MEMBERSHIPS_MAX {
                return Err(TooMany);
            }
        }
        Ok(())
    }

    pub(super) fn left(&mut self, left: &Members<'_>) {
        let key = key(left);
        for actor in &left.actors {
            let was_in = self
                .actors
                .get_mut(actor)
                .is_some_and(|in_it| in_it.remove(&key));
            if was_in {
                self.less(&key);
            }
        }
    }

    /// A group has one member less. One that has none is gone.
    fn less(&mut self, group: &Key) {
        self.memberships -= 1;
        if let Some(members) = self.groups.get_mut(group) {
            *members -= 1;
            if *members == 0 {
                self.groups.remove(group);
            }
        }
    }

    pub(super) fn seen(&self) -> PlainMember {
        let groups = self.groups.iter().map(|(key, members)| PlainGroup {
            scope: key.0.clone(),
            name: key.1.clone(),
            members: *members,
        });
        PlainMember {
            actors: self.actors.len(),
            groups: groups.collect(),
        }
    }
}

fn key(members: &Members<'_>) -> Key {
    Arc::new((members.scope.to_owned(), members.group.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

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

    /// Each end looked through all groups of all others: a program that ended as many actors as it may have, one by one, kept a thread
    /// busy for minutes.
    #[test]
    fn the_end_of_an_actor_costs_what_it_had_and_not_what_others_have() {
        let mut roster = Roster::default();
        let most = MEMBERSHIPS_MAX as u64;
        roster
            .joined(&members("one", 0..most))
            .expect("as many as may be");

        let begin = Instant::now();
        for actor in 0..most {
            roster.terminated(&[actor]);
        }

        assert!(begin.elapsed() < Duration::from_secs(20));
        assert_eq!((roster.seen().actors, roster.memberships), (0, 0));
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
