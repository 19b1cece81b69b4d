//! What children did between two looks at them, summed up by their names. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::otp::Tree;

/// What was seen the last time. Only of what is there: children and groups may come and go by the thousand.
#[derive(Debug, Default)]
pub(super) struct Seen {
    at: Option<Instant>,
    children: HashMap<Arc<str>, Child>,
    names: BTreeSet<String>,
    groups: BTreeSet<Arc<str>>,
}

/// What is looked at of a child.
#[derive(Debug, Clone, Copy)]
pub(super) struct Child {
    incarnation: u64,
    admitted: usize,
    busy: bool,
    handled: u64,
    refused: u64,
    dead_letters: u64,
    busy_ratio: f64,
    handling: Duration,
}

/// What all children of one name do, and what was added since the last look.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Sums {
    pub(super) admitted: usize,
    pub(super) busy: usize,
    pub(super) handled: u64,
    pub(super) refused: u64,
    pub(super) dead_letters: u64,
    /// Of the one that is at it most.
    pub(super) busy_ratio: f64,
    /// Of all together.
    pub(super) busy_seconds: f64,
    /// Of the one that is longest at its message.
    pub(super) handling: Duration,
}

impl Seen {
    /// What the children are at now and have done since the last look, by their names. What a life did after the last look at
    /// it is not known. A name that no child has any more is there once more, with nothing.
    pub(super) fn look(
        &mut self,
        children: impl Iterator<Item = (Arc<str>, Child)>,
        at: Instant,
    ) -> BTreeMap<String, Sums> {
        let before = self.at.replace(at);
        let passed = before.map_or(0.0, |before| (at - before).as_secs_f64());
        let names = mem::take(&mut self.names);
        let mut all: BTreeMap<String, Sums> = names
            .into_iter()
            .map(|name| (name, Sums::default()))
            .collect();
        let mut now = HashMap::new();
        for (path, child) in children {
            let before = self.children.get(&path);
            let same_life = before.filter(|before| before.incarnation == child.incarnation);
            let handled = same_life.map_or(0, |before| before.handled);
            let refused = before.map_or(0, |before| before.refused);
            let dead_letters = before.map_or(0, |before| before.dead_letters);
            let name = name(&path);
            let sums = all.entry(name.clone()).or_default();
            sums.admitted += child.admitted;
            sums.busy += usize::from(child.busy);
            sums.handled += child.handled.saturating_sub(handled);
            sums.refused += child.refused.saturating_sub(refused);
            sums.dead_letters += child.dead_letters.saturating_sub(dead_letters);
            sums.busy_ratio = sums.busy_ratio.max(child.busy_ratio);
            sums.busy_seconds += child.busy_ratio * passed;
            sums.handling = sums.handling.max(child.handling);
            self.names.insert(name);
            now.insert(path, child);
        }
        self.children = now;
        all
    }

    /// The groups that were there the last time and are not now, with no members.
    pub(super) fn gone<'a>(
        &mut self,
        groups: impl Iterator<Item = &'a Arc<str>>,
    ) -> Vec<(Arc<str>, usize)> {
        let now: BTreeSet<Arc<str>> = groups.cloned().collect();
        let before = mem::replace(&mut self.groups, now);
        let gone = before.difference(&self.groups);
        gone.map(|group| (Arc::clone(group), 0)).collect()
    }
}

impl From<&Tree> for Child {
    fn from(tree: &Tree) -> Self {
        Self {
            incarnation: tree.incarnation,
            admitted: tree.admitted,
            busy: tree.busy,
            handled: tree.handled,
            refused: tree.refused,
            dead_letters: tree.expired + tree.late,
            busy_ratio: tree.busy_share,
            handling: Duration::from_millis(tree.in_message_ms.unwrap_or_default()),
        }
    }
}

/// The name that children are counted under: their path, without the numbers that dynamic children have (`app/mail#17` is
/// `app/mail`), so that there are as many names as there are specs.
pub(super) fn name(path: &str) -> String {
    let parts = path.split('/').map(|part| match part.rsplit_once('#') {
        Some((spec, number))
            if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) =>
        {
            spec
        }
        _ => part,
    });
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(path: &str, incarnation: u64, handled: u64, refused: u64) -> (Arc<str>, Child) {
        let child = Child {
            incarnation,
            admitted: 1,
            busy: false,
            handled,
            refused,
            dead_letters: 2 * refused,
            busy_ratio: 0.25,
            handling: Duration::from_millis(handled),
        };
        (path.into(), child)
    }

    #[test]
    fn what_was_done_since_the_last_look_is_counted_over_lives_and_children() {
        let (mut seen, begin) = (Seen::default(), Instant::now());
        let mut look = |children: &[(Arc<str>, Child)]| {
            let sums = seen
                .look(children.iter().cloned(), begin)
                .remove("app/mail");
            let sums = sums.expect("is there");
            (sums.admitted, sums.handled, sums.refused)
        };

        assert_eq!(look(&[child("app/mail#1", 1, 10, 2)]), (1, 10, 2));
        assert_eq!(look(&[child("app/mail#1", 1, 15, 2)]), (1, 5, 0));
        // A new life begins at nothing; its address goes on.
        assert_eq!(look(&[child("app/mail#1", 2, 3, 4)]), (1, 3, 2));
        let two = [child("app/mail#1", 2, 3, 4), child("app/mail#2", 1, 7, 1)];
        assert_eq!(look(&two), (2, 7, 1));
        assert_eq!(look(&two[1..]), (1, 0, 0));
        assert_eq!(look(&[child("app/other", 1, 1, 1)]), (0, 0, 0));
        let other = [child("app/other", 1, 1, 1)];
        assert!(seen.look(other.into_iter(), begin).len() == 1);
    }

    #[test]
    fn children_were_busy_for_their_part_of_the_time_that_passed() {
        let (mut seen, begin) = (Seen::default(), Instant::now());
        let two = [child("app/mail#1", 1, 10, 2), child("app/mail#2", 1, 70, 1)];
        let mut busy = |seconds| {
            let at = begin + Duration::from_secs(seconds);
            let sums = seen.look(two.iter().cloned(), at).remove("app/mail");
            sums.expect("is there").busy_seconds.to_bits()
        };

        assert_eq!(
            [busy(0), busy(1), busy(5)],
            [0.0, 0.5, 2.0].map(f64::to_bits)
        );
    }

    #[test]
    fn of_several_children_the_busiest_and_the_slowest_count() {
        let (mut seen, begin) = (Seen::default(), Instant::now());
        let mut look = |children: &[(Arc<str>, Child)]| {
            let sums = seen
                .look(children.iter().cloned(), begin)
                .remove("app/mail");
            let sums = sums.expect("is there");
            (
                sums.dead_letters,
                sums.busy_ratio.to_bits(),
                sums.handling.as_millis(),
            )
        };

        let mut two = [child("app/mail#1", 1, 10, 2), child("app/mail#2", 1, 70, 1)];
        two[0].1.busy_ratio = 0.75;
        assert_eq!(look(&two), (6, 0.75_f64.to_bits(), 70));
        assert_eq!(look(&two[..1]), (0, 0.75_f64.to_bits(), 10));
        assert_eq!(look(&[]), (0, 0.0_f64.to_bits(), 0));
    }

    #[test]
    fn a_group_that_has_gone_has_no_members_once() {
        let mut seen = Seen::default();
        let groups: [Arc<str>; 2] = ["a".into(), "b".into()];
        assert!(seen.gone(groups.iter()).is_empty());
        assert_eq!(seen.gone(groups[..1].iter()), [("b".into(), 0)]);
        assert!(seen.gone(groups[..1].iter()).is_empty());
    }

    #[test]
    fn dynamic_children_are_counted_under_their_spec() {
        for (path, counted) in [
            ("node/app/mail", "node/app/mail"),
            ("node/app/mail#17", "node/app/mail"),
            ("node/pool#3/worker#4", "node/pool/worker"),
            ("node/c#", "node/c#"),
            ("node/c#1a", "node/c#1a"),
        ] {
            assert_eq!(name(path), counted);
        }
    }
}
