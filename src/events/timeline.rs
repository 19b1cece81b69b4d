//! From changes of state to the state at any time. Pure.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use serde::Serialize;

use crate::{
    ids::EventId,
    value::{Path, Value},
};

use super::{Event, Timestamp, constructors::STATE_CHANGE};

/// How states came to be what they are: the changes that `state_change` events tell of, in order of time.
///
/// A state belongs to a source; the timeline of a correlation may hold those of several.
///
/// ```
/// use underpin::{
///     events::{StateChange, Timeline},
///     ids::{IdGenerator, NodeId},
///     value::Value,
/// };
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let ids = IdGenerator::new(NodeId::new(7)?);
/// let stock = |n: i64| Value::from([("stock", n)]);
/// let sold = StateChange::new("sell", stock(5), stock(4)).event(ids.next(), "shelf").build()?;
/// let when = sold.time();
///
/// let timeline = Timeline::of([sold]);
/// assert_eq!(timeline.state("shelf", when), Some(&stock(4)));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Timeline {
    changes: Vec<Change>,
    untold: usize,
    /// Of each source the places of its changes.
    sources: BTreeMap<Arc<str>, Vec<usize>>,
}

/// One change of a state.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// The event that tells of it.
    pub id: EventId,
    /// When.
    pub time: Timestamp,
    /// Whose state.
    pub source: Arc<str>,
    /// What changed it; empty where the event does not say.
    pub callback: Arc<str>,
    /// The state before; `None` where the event does not say.
    pub before: Option<Value>,
    /// The state after.
    pub after: Value,
}

/// What differs between two states, at one path.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Whose states.
    pub source: Arc<str>,
    /// Where; the root where the whole state is another one.
    pub path: Path,
    /// What stood there before; `None` where nothing did.
    pub before: Option<Value>,
    /// What stands there after; `None` where nothing does.
    pub after: Option<Value>,
}

impl Change {
    fn of(event: &Event) -> Option<Self> {
        let data = event.data().as_map()?;
        let callback = data.get("callback").and_then(Value::as_str);
        Some(Self {
            id: event.id(),
            time: event.time(),
            source: event.source().into(),
            callback: callback.unwrap_or_default().into(),
            before: data.get("old_state").cloned(),
            after: data.get("new_state")?.clone(),
        })
    }

    /// Whether the state after it was too long to be kept: a map with `truncated`, its size and its beginning stands in its place.
    #[must_use]
    pub fn is_shortened(&self) -> bool {
        is_shortened(&self.after)
    }

    /// What it changed, path by path.
    #[must_use]
    pub fn differences(&self) -> Vec<Difference> {
        let mut found = Vec::new();
        compare(
            &self.source,
            &Path::root(),
            self.before.as_ref(),
            Some(&self.after),
            &mut found,
        );
        found
    }
}

impl Timeline {
    /// The timeline of these events, in whatever order they come. Events that are no `state_change` are left out; those that are and
    /// have no `new_state` in their data are counted, as [`Timeline::untold`].
    pub fn of(events: impl IntoIterator<Item = Event>) -> Self {
        let (mut changes, mut untold) = (Vec::new(), HashSet::new());
        for event in events
            .into_iter()
            .filter(|event| event.kind() == STATE_CHANGE)
        {
            match Change::of(&event) {
                Some(change) => changes.push(change),
                None => {
                    untold.insert(event.id());
                }
            }
        }
        changes.sort_by_key(|change| (change.time, change.id));
        changes.dedup_by_key(|change| change.id);
        let untold = untold.len();
        let mut sources: BTreeMap<Arc<str>, Vec<usize>> = BTreeMap::new();
        for (at, change) in changes.iter().enumerate() {
            sources.entry(change.source.clone()).or_default().push(at);
        }
        Self {
            changes,
            untold,
            sources,
        }
    }

    /// How many `state_change` events tell of no state: what they changed is missing here.
    #[must_use]
    pub fn untold(&self) -> usize {
        self.untold
    }

    /// All changes, the earliest first.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Whose states it tells of.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        self.sources.keys().map(AsRef::as_ref)
    }

    /// The change that made a source's state what it was at `time`, itself included; `None` before the first one.
    #[must_use]
    pub fn change_at(&self, source: &str, time: Timestamp) -> Option<&Change> {
        let places = self.sources.get(source)?;
        let after = places.partition_point(|at| self.changes[*at].time <= time);
        Some(&self.changes[places[after.checked_sub(1)?]])
    }

    /// The state of a source at `time`; `None` before its first change.
    #[must_use]
    pub fn state(&self, source: &str, time: Timestamp) -> Option<&Value> {
        self.change_at(source, time).map(|change| &change.after)
    }

    /// The states of all sources at `time`, without those that had none yet.
    #[must_use]
    pub fn states(&self, time: Timestamp) -> BTreeMap<Arc<str>, Value> {
        let of = |source: &Arc<str>| Some((source.clone(), self.state(source, time)?.clone()));
        self.sources.keys().filter_map(of).collect()
    }

    /// What differs between the states at two times, path by path, from the earlier to the later. Lists are compared as a whole, and so
    /// is what was shortened: by its size and its beginning, which is all that is known of it.
    #[must_use]
    pub fn between(&self, one: Timestamp, other: Timestamp) -> Vec<Difference> {
        let (from, to) = (one.min(other), one.max(other));
        let mut found = Vec::new();
        for source in self.sources.keys() {
            let (before, after) = (self.state(source, from), self.state(source, to));
            compare(source, &Path::root(), before, after, &mut found);
        }
        found
    }

    /// The changes that began from another state than the change before them had left: something changed in between that no event tells
    /// of, or an event is missing. Shortened states are not compared, nor where a change does not say from which it began.
    pub fn breaks(&self) -> impl Iterator<Item = &Change> {
        self.sources.values().flat_map(move |places| {
            places.windows(2).filter_map(move |pair| {
                let (earlier, later) = (&self.changes[pair[0]], &self.changes[pair[1]]);
                let began = later.before.as_ref()?;
                let comparable = !earlier.is_shortened() && !is_shortened(began);
                (comparable && earlier.after != *began).then_some(later)
            })
        })
    }

    /// The first change after which `holds` is false: where a rule was broken that held before.
    pub fn first_without(&self, mut holds: impl FnMut(&Value) -> bool) -> Option<&Change> {
        self.changes.iter().find(|change| !holds(&change.after))
    }
}

fn is_shortened(state: &Value) -> bool {
    let Some(map) = state.as_map() else {
        return false;
    };
    let names = ["truncated", "original_size", "preview"];
    map.len() == names.len()
        && names.iter().all(|name| map.get(name).is_some())
        && map.get("truncated").and_then(Value::as_bool) == Some(true)
}

fn compare(
    source: &Arc<str>,
    path: &Path,
    before: Option<&Value>,
    after: Option<&Value>,
    found: &mut Vec<Difference>,
) {
    if before == after {
        return;
    }
    let is_whole = |state: Option<&Value>| !state.is_some_and(is_shortened);
    if let (Some(Value::Map(old)), Some(Value::Map(new))) = (before, after)
        && is_whole(before)
        && is_whole(after)
    {
        let mut names: Vec<&str> = old.iter().chain(new.iter()).map(|(name, _)| name).collect();
        names.sort_unstable();
        names.dedup();
        // A name that no path can hold is told with what is around it.
        let inner: Option<Vec<_>> = names
            .into_iter()
            .map(|name| Some((path.child(name).ok()?, old.get(name), new.get(name))))
            .collect();
        if let Some(inner) = inner {
            for (path, before, after) in inner {
                compare(source, &path, before, after, found);
            }
            return;
        }
    }
    found.push(Difference {
        source: source.clone(),
        path: path.clone(),
        before: before.cloned(),
        after: after.cloned(),
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::events::{EventBuilder, StateChange};

    fn at(nanos: i64) -> Timestamp {
        Timestamp::from_nanos(nanos)
    }

    fn change(number: u64, nanos: i64, source: &str, old: Value, new: Value) -> Event {
        StateChange::new("set", old, new)
            .event(EventId::new(number).expect("valid"), source)
            .time(at(nanos))
            .build()
            .expect("valid")
    }

    fn stock(apples: i64, pears: i64) -> Value {
        Value::from([("fruit", Value::from([("apples", apples), ("pears", pears)]))])
    }

    fn path(text: &str) -> Path {
        text.parse().expect("a path")
    }

    #[test]
    fn the_state_at_a_time_is_what_the_last_change_up_to_then_left() {
        let timeline = Timeline::of([
            change(2, 20, "shelf", stock(5, 1), stock(4, 1)),
            change(1, 10, "shelf", Value::Null, stock(5, 1)),
            change(3, 15, "till", Value::Null, Value::from(0)),
        ]);

        assert_eq!(timeline.state("shelf", at(9)), None);
        assert_eq!(timeline.state("shelf", at(10)), Some(&stock(5, 1)));
        assert_eq!(timeline.state("shelf", at(19)), Some(&stock(5, 1)));
        assert_eq!(timeline.state("shelf", at(20)), Some(&stock(4, 1)));
        assert_eq!(timeline.state("nobody", at(20)), None);
        assert_eq!(timeline.states(at(12)).len(), 1);
        assert_eq!(timeline.states(at(15))["till"], Value::from(0));
        assert_eq!(timeline.sources().collect::<Vec<_>>(), ["shelf", "till"]);
    }

    #[test]
    fn two_times_differ_path_by_path() {
        let timeline = Timeline::of([
            change(1, 10, "shelf", Value::Null, stock(5, 1)),
            change(2, 20, "shelf", stock(5, 1), stock(4, 1)),
        ]);

        let difference = Difference {
            source: "shelf".into(),
            path: path("fruit.apples"),
            before: Some(5.into()),
            after: Some(4.into()),
        };
        assert_eq!(
            timeline.between(at(10), at(20)),
            std::slice::from_ref(&difference)
        );
        assert_eq!(timeline.between(at(20), at(10)), [difference]);
        assert_eq!(timeline.between(at(11), at(12)), []);
        let appeared = &timeline.between(at(0), at(10))[0];
        assert_eq!((appeared.path.len(), &appeared.before), (0, &None));
    }

    #[test]
    fn a_state_that_nobody_told_of_is_a_break() {
        let timeline = Timeline::of([
            change(1, 10, "shelf", Value::Null, stock(5, 1)),
            change(2, 20, "shelf", stock(3, 1), stock(2, 1)),
            change(3, 30, "shelf", stock(2, 1), stock(1, 1)),
        ]);

        let breaks: Vec<_> = timeline.breaks().map(|change| change.id.get()).collect();
        assert_eq!(breaks, [2]);
        let broken = timeline.first_without(|state| state != &stock(2, 1));
        assert_eq!(broken.map(|change| change.id.get()), Some(2));
    }

    /// A change that said only what came of it was left out, and nobody was told.
    #[test]
    fn a_change_may_say_only_what_came_of_it_and_what_tells_of_no_state_is_counted() {
        let said = |number: u64, data: Value| {
            EventBuilder::new(EventId::new(number).expect("valid"), STATE_CHANGE)
                .source("shelf")
                .time(at(i64::try_from(number).expect("small") * 10))
                .data(data)
                .build()
                .expect("valid")
        };
        let timeline = Timeline::of([
            said(1, Value::from([("new_state", stock(5, 1))])),
            said(2, Value::from([("callback", "sell")])),
            change(3, 30, "shelf", stock(5, 1), stock(4, 1)),
            said(4, Value::Null),
            said(5, Value::from([("new_state", stock(1, 1))])),
        ]);

        assert_eq!(timeline.state("shelf", at(10)), Some(&stock(5, 1)));
        assert_eq!(timeline.state("shelf", at(60)), Some(&stock(1, 1)));
        let first = &timeline.changes()[0];
        assert_eq!((&first.before, &*first.callback), (&None, ""));
        assert_eq!(first.differences().len(), 1);
        let counts = (timeline.changes().len(), timeline.untold());
        assert_eq!((counts, timeline.breaks().count()), ((3, 2), 0));
    }

    #[test]
    fn a_state_that_was_cut_says_so_and_breaks_nothing() {
        let large = Value::from("x".repeat(20_000));
        let timeline = Timeline::of([
            change(1, 10, "s", Value::Null, large.clone()),
            change(2, 20, "s", large, Value::Null),
        ]);

        assert!(timeline.changes()[0].is_shortened());
        assert_eq!(timeline.breaks().count(), 0);
    }

    /// The names that tell of a shortened state were told as parts of it: `preview` had changed.
    #[test]
    fn a_state_that_was_cut_differs_as_a_whole() {
        let large = |n: u8| {
            Value::from([
                ("n", Value::from(u64::from(n))),
                ("pad", "x".repeat(20_000).into()),
            ])
        };
        let timeline = Timeline::of([
            change(1, 10, "s", Value::Null, large(1)),
            change(2, 20, "s", large(1), large(2)),
            change(3, 30, "s", large(2), stock(5, 1)),
        ]);

        for (from, to) in [(10, 20), (20, 30)] {
            let paths: Vec<_> = timeline
                .between(at(from), at(to))
                .into_iter()
                .map(|found| found.path)
                .collect();
            assert_eq!(paths, [Path::root()], "{from} to {to}");
        }
        let told = timeline.changes()[1].differences();
        assert_eq!((told.len(), &told[0].path), (1, &Path::root()));
    }

    /// Applies differences to a state: what they say must lead from one to the other.
    fn apply(state: Option<Value>, differences: &[Difference]) -> Option<Value> {
        differences.iter().fold(state, |state, difference| {
            if difference.path.is_empty() {
                return difference.after.clone();
            }
            let state = state.expect("a state to change");
            Some(match &difference.after {
                Some(value) => state.with(&difference.path, value.clone()).expect("a path"),
                None => state.without(&difference.path),
            })
        })
    }

    fn any_state() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(Value::Null), (0..4_i64).prop_map(Value::from)];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop::collection::vec(("[a-c]", inner), 0..3)
                .prop_map(|entries| Value::Map(entries.into_iter().collect()))
        })
    }

    proptest! {
        #[test]
        fn a_plain_fold_gives_the_same_states_and_differences_lead_from_one_to_the_other(
            given in prop::collection::vec((0..20_i64, 0..2_usize, any_state()), 1..12),
            one in -1..21_i64,
            other in -1..21_i64,
        ) {
            let sources = ["a", "b"];
            let events: Vec<_> = (1..)
                .zip(&given)
                .map(|(number, (time, source, state))| change(number, *time, sources[*source], Value::Null, state.clone()))
                .collect();
            let timeline = Timeline::of(events);
            let model = |source: usize, until: i64| {
                let mut known: Vec<_> = (1..).zip(&given).filter(|(_, (time, of, _))| *of == source && *time <= until).collect();
                known.sort_by_key(|(number, (time, ..))| (*time, *number));
                known.last().map(|(_, (_, _, state))| state.clone())
            };
            let (from, to) = (one.min(other), one.max(other));
            let differences = timeline.between(at(one), at(other));
            for (number, source) in sources.iter().enumerate() {
                prop_assert_eq!(timeline.state(source, at(one)).cloned(), model(number, one));
                let own: Vec<_> = differences.iter().filter(|d| &*d.source == *source).cloned().collect();
                prop_assert_eq!(apply(model(number, from), &own), model(number, to));
            }
        }
    }
}
