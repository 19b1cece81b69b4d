//! Who is in which group, as plain data.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

/// One who can be in a group.
pub(super) trait Member: Clone {
    type Id: Copy + Eq + Hash;

    fn id(&self) -> Self::Id;
}

/// The members of one group, each as often as it joined, in the order in which they joined.
#[derive(Debug)]
pub(super) struct Roster<A: Member> {
    seats: BTreeMap<u64, A>,
    /// The seats of each, the newest last; none is empty.
    taken: HashMap<A::Id, Vec<u64>>,
    next: u64,
}

impl<A: Member> Default for Roster<A> {
    fn default() -> Self {
        Self {
            seats: BTreeMap::new(),
            taken: HashMap::new(),
            next: 0,
        }
    }
}

impl<A: Member> Roster<A> {
    pub(super) fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    pub(super) fn contains(&self, id: A::Id) -> bool {
        self.taken.contains_key(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &A> {
        self.seats.values()
    }

    /// Those who are in it, each once.
    pub(super) fn distinct(&self) -> impl Iterator<Item = &A> {
        let first = |seats: &Vec<u64>| seats.first().and_then(|seat| self.seats.get(seat));
        self.taken.values().filter_map(first)
    }

    /// Whether it is there for the first time.
    pub(super) fn add(&mut self, member: A) -> bool {
        let seat = self.next;
        self.next += 1;
        let seats = self.taken.entry(member.id()).or_default();
        seats.push(seat);
        self.seats.insert(seat, member);
        seats.len() == 1
    }

    /// Takes one seat back, the newest.
    pub(super) fn remove_one(&mut self, id: A::Id) -> Removed {
        let Some(seats) = self.taken.get_mut(&id) else {
            return Removed::NotThere;
        };
        if let Some(seat) = seats.pop() {
            self.seats.remove(&seat);
        }
        if seats.is_empty() {
            self.taken.remove(&id);
            Removed::Last
        } else {
            Removed::Once
        }
    }

    /// Takes all seats back.
    pub(super) fn remove_all(&mut self, id: A::Id) -> Vec<A> {
        let seats = self.taken.remove(&id).unwrap_or_default();
        seats
            .iter()
            .filter_map(|seat| self.seats.remove(seat))
            .collect()
    }
}

/// What became of a membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removed {
    NotThere,
    /// It is still in the group, as it had joined more than once.
    Once,
    /// It is out.
    Last,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Member for u8 {
        type Id = u8;

        fn id(&self) -> u8 {
            *self
        }
    }

    #[test]
    fn who_joins_twice_leaves_twice() {
        let mut roster = Roster::default();
        assert!(roster.add(7));
        assert!(!roster.add(7));

        assert_eq!(roster.remove_one(7), Removed::Once);
        assert_eq!(roster.remove_one(7), Removed::Last);
        assert_eq!(roster.remove_one(7), Removed::NotThere);
        assert!(roster.is_empty() && roster.taken.is_empty());
    }

    #[test]
    fn who_dies_leaves_all_its_seats() {
        let mut roster = Roster::default();
        for member in [1, 2, 1, 3, 1] {
            roster.add(member);
        }

        assert_eq!(roster.remove_all(1), [1, 1, 1]);
        assert_eq!(roster.iter().copied().collect::<Vec<_>>(), [2, 3]);
        assert_eq!(roster.remove_all(1), [0_u8; 0]);
    }

    proptest! {
        #[test]
        fn a_roster_is_a_list_with_removal(steps in prop::collection::vec((0..3_u8, 0..4_u8), 0..60)) {
            let mut roster = Roster::default();
            let mut list: Vec<u8> = Vec::new();
            for (what, who) in steps {
                match what {
                    0 => {
                        prop_assert_eq!(roster.add(who), !list.contains(&who));
                        list.push(who);
                    }
                    1 => {
                        let removed = roster.remove_one(who);
                        let at = list.iter().rposition(|member| *member == who);
                        if let Some(at) = at {
                            list.remove(at);
                        }
                        let expected = match at {
                            None => Removed::NotThere,
                            Some(_) if list.contains(&who) => Removed::Once,
                            Some(_) => Removed::Last,
                        };
                        prop_assert_eq!(removed, expected);
                    }
                    _ => {
                        let before = list.len();
                        list.retain(|member| *member != who);
                        prop_assert_eq!(roster.remove_all(who).len(), before - list.len());
                    }
                }
                prop_assert_eq!(roster.iter().copied().collect::<Vec<_>>(), list.clone());
                prop_assert_eq!(roster.is_empty(), list.is_empty());
                prop_assert_eq!(roster.contains(who), list.contains(&who));
                prop_assert_eq!(roster.distinct().count(), list.iter().collect::<std::collections::BTreeSet<_>>().len());
            }
        }
    }
}
