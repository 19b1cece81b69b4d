//! Events as the trees that their parents make of them. Pure.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use serde_json::Value as Json;

/// An event in its place.
#[derive(Debug, PartialEq)]
pub(super) struct Row<'a> {
    pub(super) event: &'a Json,
    pub(super) depth: usize,
    /// How long after its parent, in nanoseconds; may be negative where clocks differ.
    pub(super) after: Option<i128>,
    /// What it says that it took, or how long it went on until the last of its effects.
    pub(super) took: Option<i128>,
}

/// Puts events below their parents, siblings in order of time. An event whose parent is not among them is a root, and so is the earliest
/// of those that are each other's parents.
pub(super) fn arrange(events: &[Json]) -> Vec<Row<'_>> {
    let by_id: HashMap<&str, usize> = events
        .iter()
        .enumerate()
        .filter_map(|(at, event)| Some((event["id"].as_str()?, at)))
        .collect();
    let parent = |at: usize| {
        let parent = events[at]["parent"].as_str()?;
        by_id.get(parent).copied().filter(|parent| *parent != at)
    };
    let mut order: Vec<usize> = (0..events.len()).collect();
    order.sort_by_key(|at| (nanos(&events[*at]), *at));
    let mut children: HashMap<Option<usize>, Vec<usize>> = HashMap::new();
    for at in &order {
        children.entry(parent(*at)).or_default().push(*at);
    }
    let mut tree = Tree {
        events,
        children,
        seen: HashSet::new(),
        rows: Vec::new(),
    };
    for root in tree.children.get(&None).cloned().unwrap_or_default() {
        tree.add(root, None);
    }
    for left in order {
        tree.add(left, None);
    }
    tree.rows
}

struct Tree<'a> {
    events: &'a [Json],
    children: HashMap<Option<usize>, Vec<usize>>,
    seen: HashSet<usize>,
    rows: Vec<Row<'a>>,
}

impl Tree<'_> {
    /// Adds an event and all below it, without going deeper in calls: a chain may be thousands long.
    fn add(&mut self, root: usize, above: Option<usize>) {
        let first = self.rows.len();
        let mut next = vec![(root, 0, above)];
        while let Some((at, depth, above)) = next.pop() {
            if !self.seen.insert(at) {
                continue;
            }
            let event = &self.events[at];
            let after = above.and_then(|above| Some(nanos(event)? - nanos(&self.events[above])?));
            self.rows.push(Row {
                event,
                depth,
                after,
                took: None,
            });
            let below = self.children.get(&Some(at)).into_iter().flatten();
            next.extend(below.rev().map(|child| (*child, depth + 1, Some(at))));
        }
        self.measure(first);
    }

    /// Tells how long each went on, from the last row up: what is below a row stands right behind it.
    fn measure(&mut self, first: usize) {
        // The latest time at or below each depth, of the rows behind.
        let mut latest: Vec<Option<i128>> = Vec::new();
        for row in self.rows[first..].iter_mut().rev() {
            let own = nanos(row.event);
            latest.resize(latest.len().max(row.depth + 2), None);
            let below = latest.drain(row.depth + 1..).flatten().max();
            row.took = said(row.event).or_else(|| Some(below? - own?).filter(|took| *took >= 0));
            let all = own.max(below).max(latest[row.depth]);
            latest[row.depth] = all;
        }
    }
}

/// What an event says that it took, by the names that function exits and closed spans use.
fn said(event: &Json) -> Option<i128> {
    let nanos = |name: &str| event["data"][name].as_i64().map(i128::from);
    nanos("duration_ns").or_else(|| Some(nanos("busy_ns")? + nanos("idle_ns")?))
}

fn nanos(event: &Json) -> Option<i128> {
    let time: Timestamp = event["time"].as_str()?.parse().ok()?;
    Some(time.as_nanosecond())
}

/// `1.5ms`, in the largest unit of which there is one.
pub(super) fn duration(nanos: i128) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let (unit, name) = match nanos {
        0..1_000 => return format!("{sign}{nanos}ns"),
        1_000..1_000_000 => (1_000, "µs"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    // Two digits behind the point say enough.
    let hundredths = nanos * 100 / unit;
    format!("{sign}{}.{:02}{name}", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(id: &str, parent: Option<&str>, ms: u32) -> Json {
        let time = format!("2026-11-23T10:00:00.{ms:03}Z");
        json!({ "id": id, "parent": parent, "time": time, "data": null })
    }

    fn shape(events: &[Json]) -> Vec<(usize, &str)> {
        let rows = arrange(events);
        rows.iter()
            .map(|row| (row.depth, row.event["id"].as_str().expect("text")))
            .collect()
    }

    #[test]
    fn events_stand_below_their_parents_in_order_of_time() {
        let events = [
            event("4", Some("2"), 9),
            event("3", Some("1"), 5),
            event("2", Some("1"), 3),
            event("1", None, 1),
            event("9", Some("77"), 0),
        ];

        assert_eq!(
            shape(&events),
            [(0, "9"), (0, "1"), (1, "2"), (2, "4"), (1, "3")]
        );
        let rows = arrange(&events);
        let times: Vec<_> = rows.iter().map(|row| (row.after, row.took)).collect();
        let ms = |ms: i128| Some(ms * 1_000_000);
        assert_eq!(
            times,
            [
                (None, None),
                (None, ms(8)),
                (ms(2), ms(6)),
                (ms(6), None),
                (ms(4), None)
            ]
        );
    }

    #[test]
    fn what_an_event_says_that_it_took_counts() {
        let mut exit = event("1", None, 0);
        exit["data"] = json!({ "duration_ns": 1500 });
        assert_eq!(arrange(&[exit])[0].took, Some(1500));
        let mut closed = event("1", None, 0);
        closed["data"] = json!({ "busy_ns": 1500, "idle_ns": 500 });
        assert_eq!(arrange(&[closed])[0].took, Some(2000));
    }

    #[test]
    fn a_circle_of_parents_is_shown_once() {
        let events = [
            event("1", Some("2"), 1),
            event("2", Some("1"), 2),
            event("3", Some("3"), 3),
        ];
        assert_eq!(shape(&events), [(0, "3"), (0, "1"), (1, "2")]);
    }

    #[test]
    fn a_chain_of_ten_thousand_is_no_deeper_for_us() {
        let events: Vec<_> = (0..10_000_u32)
            .map(|n| {
                event(
                    &n.to_string(),
                    n.checked_sub(1).map(|n| n.to_string()).as_deref(),
                    n % 1000,
                )
            })
            .collect();
        assert_eq!(arrange(&events).last().map(|row| row.depth), Some(9_999));
    }

    #[test]
    fn durations_are_told_in_the_unit_that_fits() {
        for (nanos, text) in [
            (0, "0ns"),
            (999, "999ns"),
            (1_500, "1.50µs"),
            (-2_000_000, "-2.00ms"),
            (61_234_000_000, "61.23s"),
        ] {
            assert_eq!(duration(nanos), text);
        }
    }
}
