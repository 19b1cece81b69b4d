//! A correlation as a Chrome trace, which Perfetto and `chrome://tracing` open. Pure.
//!
//! The format is the JSON object form of the Trace Event Format: `{"traceEvents": […]}`, times in microseconds, here since the first event
//! so that a float keeps each nanosecond; `otherData.began` says when that was. A span is a pair of async events (`b`, `e`), which stand
//! inside one another where they have one id, last begun first ended. So a span that lies within its parent takes the parent's id, and one
//! that overlaps with a sibling, goes on after its parent, or is another node's, an id of its own. Anything else is an instant (`i`).
//!
//! <https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU>; Perfetto reads it by the same rules, in
//! `src/trace_processor/importers/json`.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value as Json, json};

use crate::{
    events::{Event, Timestamp},
    ids::{EventId, NodeId},
};

/// The events of a correlation, in any order, as one Chrome trace. Each node is shown as a process, each source as a thread of it. Open
/// `ui.perfetto.dev` and drop the file there.
///
/// Spans that were not closed end with the last event.
#[must_use]
pub fn chrome_trace(events: &[Event]) -> Json {
    let mut events: Vec<&Event> = events.iter().collect();
    events.sort_by_key(|event| (event.time(), event.id()));
    let (first, last) = match (events.first(), events.last()) {
        (Some(first), Some(last)) => (first.time(), last.time()),
        _ => return json!({"displayTimeUnit": "ns", "traceEvents": []}),
    };
    let closed: HashMap<EventId, &Event> = events
        .iter()
        .filter(|event| event.kind() == CLOSED)
        .filter_map(|event| Some((event.parent()?, *event)))
        .collect();
    let mut trace = Trace {
        first,
        rows: Rows::default(),
        lanes: Vec::new(),
        lane_of: HashMap::new(),
        shown: Vec::new(),
    };
    for event in events {
        match event.kind() {
            CLOSED => {}
            OPENED => trace.open(event, closed.get(&event.id()).copied(), last),
            _ => trace.instant(event),
        }
    }
    trace.finish()
}

const OPENED: &str = "span.opened";
const CLOSED: &str = "span.closed";

struct Trace<'a> {
    first: Timestamp,
    rows: Rows,
    lanes: Vec<Lane<'a>>,
    /// By the event that opened a span.
    lane_of: HashMap<EventId, usize>,
    shown: Vec<Json>,
}

/// Spans that stand inside one another.
struct Lane<'a> {
    id: EventId,
    open: Vec<Span<'a>>,
}

#[derive(Clone, Copy)]
struct Span<'a> {
    opened: &'a Event,
    closed: Option<&'a Event>,
    ends: Timestamp,
}

/// A number for each source, in the order in which they appear.
#[derive(Default)]
struct Rows(BTreeMap<(u16, String), usize>);

/// The process that a node is shown as. Perfetto keeps 0 for the machine's idle task; no node has the number that stands for it here.
fn process(node: u16) -> u16 {
    if node == 0 { NodeId::MAX + 1 } else { node }
}

impl<'a> Trace<'a> {
    fn open(&mut self, opened: &'a Event, closed: Option<&'a Event>, last: Timestamp) {
        let ends = closed.map_or(last, Event::time).max(opened.time());
        let span = Span {
            opened,
            closed,
            ends,
        };
        let lane = self.lane_for(span);
        self.lane_of.insert(opened.id(), lane);
        self.lanes[lane].open.push(span);
        self.side("b", lane, span, opened.time(), Some(opened));
    }

    /// That of its parent, where it lies within it and beside no sibling; or a new one.
    fn lane_for(&mut self, span: Span<'a>) -> usize {
        let parent = span.opened.parent();
        let of_parent = parent.and_then(|parent| self.lane_of.get(&parent).copied());
        if let Some(lane) = of_parent {
            self.end(lane, |open| open.ends <= span.opened.time());
            let innermost = self.lanes[lane].open.last();
            let holds = |open: &Span<'_>| {
                let (outer, inner) = (open.opened, span.opened);
                Some(outer.id()) == parent && outer.node() == inner.node() && span.ends <= open.ends
            };
            if innermost.is_some_and(holds) {
                return lane;
            }
        }
        self.lanes.push(Lane {
            id: span.opened.id(),
            open: Vec::new(),
        });
        self.lanes.len() - 1
    }

    /// Ends the innermost spans of a lane as long as this holds for them.
    fn end(&mut self, lane: usize, ends: impl Fn(&Span<'_>) -> bool) {
        while let Some(span) = self.lanes[lane].open.pop_if(|span| ends(span)) {
            self.side("e", lane, span, span.ends, span.closed);
        }
    }

    fn side(
        &mut self,
        phase: &str,
        lane: usize,
        span: Span<'_>,
        at: Timestamp,
        about: Option<&Event>,
    ) {
        let (node, row) = self.rows.of(span.opened);
        let name = text(span.opened, "name").unwrap_or(OPENED);
        let shown = json!({
            "ph": phase, "cat": "span", "name": name, "id": self.lanes[lane].id.to_string(), "pid": node, "tid": row,
            "ts": self.micros(at), "args": about.map_or_else(|| json!({}), arguments),
        });
        self.shown.push(shown);
    }

    fn instant(&mut self, event: &Event) {
        let (node, row) = self.rows.of(event);
        let name = text(event, "message").unwrap_or(event.kind());
        let shown = json!({
            "ph": "i", "s": "t", "cat": event.kind(), "name": name, "pid": node, "tid": row,
            "ts": self.micros(event.time()), "args": arguments(event),
        });
        self.shown.push(shown);
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "nanoseconds of a hundred days fit 2^53"
    )]
    fn micros(&self, at: Timestamp) -> f64 {
        at.as_nanos().saturating_sub(self.first.as_nanos()) as f64 / 1_000.0
    }

    fn finish(mut self) -> Json {
        for lane in 0..self.lanes.len() {
            self.end(lane, |_| true);
        }
        let named = self.rows.names();
        json!({
            "displayTimeUnit": "ns",
            "otherData": {"began": self.first.to_string()},
            "traceEvents": named.into_iter().chain(self.shown).collect::<Vec<_>>(),
        })
    }
}

impl Rows {
    fn of(&mut self, event: &Event) -> (u16, usize) {
        let next = self.0.len() + 1;
        let node = event.node().get();
        let row = self
            .0
            .entry((node, event.source().to_owned()))
            .or_insert(next);
        (process(node), *row)
    }

    fn names(&self) -> Vec<Json> {
        let name = |what: &str, node: &u16, row: usize, name: String| json!({"ph": "M", "name": what, "pid": process(*node), "tid": row, "args": {"name": name}});
        let mut names = Vec::new();
        let mut before = None;
        for ((node, source), row) in &self.0 {
            if before != Some(node) {
                names.push(name("process_name", node, *row, format!("node {node}")));
                before = Some(node);
            }
            names.push(name("thread_name", node, *row, source.clone()));
        }
        names
    }
}

fn arguments(event: &Event) -> Json {
    json!({"event": event.id().to_string(), "data": event.data()})
}

fn text<'a>(event: &'a Event, name: &str) -> Option<&'a str> {
    event.data().as_map()?.get(name)?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{events::EventBuilder, ids::NodeId, value::Value};

    fn event(
        number: u16,
        kind: &str,
        micros: i64,
        parent: Option<&Event>,
        data: [(&str, Value); 1],
    ) -> Event {
        let node = NodeId::new(7).expect("valid");
        let id = EventId::from_parts(1_800_000_000_000, node, number).expect("valid");
        let event = EventBuilder::new(id, kind)
            .time(Timestamp::from_nanos(micros * 1000))
            .source("shop")
            .data(Value::from(data));
        let event = parent.map_or(event.clone(), |parent| event.parent(parent.id()));
        event.build().expect("valid")
    }

    fn opened(number: u16, micros: i64, parent: Option<&Event>, name: &str) -> Event {
        event(number, OPENED, micros, parent, [("name", name.into())])
    }

    fn closed(number: u16, micros: i64, opened: &Event) -> Event {
        event(
            number,
            CLOSED,
            micros,
            Some(opened),
            [("busy_ns", 5_u64.into())],
        )
    }

    /// Phase, name, time and, of spans, whose lane it is in.
    fn shown(trace: &Json) -> Vec<(String, String, Option<f64>, Option<String>)> {
        let text = |of: &Json| of.as_str().map(str::to_owned);
        let all = trace["traceEvents"].as_array().expect("a list").iter();
        all.filter(|event| event["ph"] != "M")
            .map(|event| {
                let phase = text(&event["ph"]).expect("a phase");
                let name = text(&event["name"]).expect("a name");
                (phase, name, event["ts"].as_f64(), text(&event["id"]))
            })
            .collect()
    }

    /// The rules of the Trace Event Format: what each phase has to have, and that the spans of an id stand inside one another.
    fn assert_well_formed(trace: &Json) {
        let mut open: HashMap<&str, Vec<(&str, f64)>> = HashMap::new();
        for event in trace["traceEvents"].as_array().expect("a list") {
            assert!(event["pid"].is_u64() && event["tid"].is_u64(), "{event}");
            assert!(
                event["name"].is_string() && event["args"].is_object(),
                "{event}"
            );
            let phase = event["ph"].as_str().expect("a phase");
            if phase == "M" {
                continue;
            }
            let at = event["ts"]
                .as_f64()
                .filter(|at| *at >= 0.0)
                .expect("a time");
            assert!(event["cat"].is_string(), "{event}");
            let name = event["name"].as_str().expect("a name");
            match phase {
                "i" => assert_eq!(event["s"], "t"),
                "b" => open
                    .entry(event["id"].as_str().expect("an id"))
                    .or_default()
                    .push((name, at)),
                "e" => {
                    let begun = open
                        .get_mut(event["id"].as_str().expect("an id"))
                        .and_then(Vec::pop);
                    assert!(
                        begun.is_some_and(|(begun, since)| begun == name && since <= at),
                        "{event}"
                    );
                }
                other => panic!("no phase of ours: {other}"),
            }
        }
        assert!(open.values().all(Vec::is_empty), "{open:?} did not end");
    }

    #[test]
    fn a_span_begins_and_ends_and_everything_else_is_a_mark() {
        let request = opened(1, 10, None, "request");
        let said = event(
            2,
            "tracing.info",
            15,
            Some(&request),
            [("message", "hello".into())],
        );
        let ended = closed(3, 30, &request);

        let trace = chrome_trace(&[ended, said, request.clone()]);

        assert_well_formed(&trace);
        let own = Some(request.id().to_string());
        let mark =
            |phase: &str, name: &str, at, id| (phase.to_owned(), name.to_owned(), Some(at), id);
        let expected = [
            mark("b", "request", 0.0, own.clone()),
            mark("i", "hello", 5.0, None),
            mark("e", "request", 20.0, own),
        ];
        assert_eq!(shown(&trace), expected);
        let all = trace["traceEvents"].as_array().expect("a list");
        let names: Vec<&Json> = all
            .iter()
            .filter(|event| event["ph"] == "M")
            .map(|event| &event["args"]["name"])
            .collect();
        assert_eq!(names, ["node 7", "shop"]);
        assert_eq!(
            all.last().map(|end| &end["args"]["data"]["busy_ns"]),
            Some(&json!(5))
        );
        assert_eq!(trace["otherData"]["began"], "1970-01-01T00:00:00.00001Z");
    }

    #[test]
    fn a_span_within_its_parent_is_shown_inside_it_and_one_that_overlaps_with_a_sibling_beside_it()
    {
        let root = opened(1, 0, None, "root");
        let inside = opened(2, 10, Some(&root), "inside");
        let deeper = opened(3, 20, Some(&inside), "deeper");
        let beside = opened(4, 25, Some(&root), "beside");
        let next = opened(5, 60, Some(&root), "next");
        let late = opened(6, 90, Some(&next), "late");
        let ends = [
            (7, 30, &deeper),
            (8, 40, &inside),
            (9, 70, &beside),
            (10, 100, &next),
            (11, 100, &root),
            (12, 300, &late),
        ];
        let ends = ends.map(|(number, micros, opened)| closed(number, micros, opened));
        let spans = [&root, &inside, &deeper, &beside, &next, &late];

        let trace = chrome_trace(&spans.into_iter().chain(&ends).cloned().collect::<Vec<_>>());

        assert_well_formed(&trace);
        let lanes: HashMap<String, Option<String>> = shown(&trace)
            .into_iter()
            .map(|(_, name, _, lane)| (name, lane))
            .collect();
        let of = |span: &Event| Some(span.id().to_string());
        assert_eq!(
            ["inside", "deeper", "next"].map(|name| lanes[name].clone()),
            [of(&root), of(&root), of(&root)]
        );
        assert_eq!(
            ["beside", "late"].map(|name| lanes[name].clone()),
            [of(&beside), of(&late)]
        );
    }

    #[test]
    fn a_span_that_is_still_open_lasts_until_the_last_event() {
        let request = opened(1, 10, None, "request");
        let said = event(
            2,
            "tracing.info",
            50,
            Some(&request),
            [("message", "hello".into())],
        );

        let trace = chrome_trace(&[request, said]);

        assert_well_formed(&trace);
        assert_eq!(shown(&trace).last().and_then(|(.., at, _)| *at), Some(40.0));
        assert_eq!(chrome_trace(&[])["traceEvents"], json!([]));
    }

    #[test]
    fn a_span_of_another_node_is_in_its_own_process_beside_its_cause_and_none_is_the_idle_one() {
        let of = |node: u16, micros: u64, kind: &str, parent: Option<&Event>| {
            let node = NodeId::new(node).expect("valid");
            let id = EventId::from_parts(1_800_000_000_000 + micros, node, 1).expect("valid");
            let event = EventBuilder::new(id, kind)
                .time(Timestamp::from_nanos(micros.cast_signed() * 1000));
            let event = parent.map_or(event.clone(), |parent| event.parent(parent.id()));
            event.build().expect("valid")
        };
        let here = of(7, 0, OPENED, None);
        let there = of(0, 10, OPENED, Some(&here));
        let ends = [
            of(0, 20, CLOSED, Some(&there)),
            of(7, 30, CLOSED, Some(&here)),
        ];

        let begun = [here.clone(), there.clone()];
        let trace = chrome_trace(&[begun, ends].concat());

        assert_well_formed(&trace);
        let lanes = shown(&trace).into_iter().map(|(_, _, _, lane)| lane);
        let [here, there] = [here, there].map(|span| Some(span.id().to_string()));
        assert_eq!(
            lanes.collect::<Vec<_>>(),
            [&here, &there, &here, &there].map(Clone::clone)
        );
        let all = trace["traceEvents"].as_array().expect("a list");
        assert!(all.iter().all(|event| event["pid"].as_u64() > Some(0)));
    }

    #[test]
    fn each_nanosecond_counts_also_years_after_1970() {
        let at = |number, nanos: i64| {
            let node = NodeId::new(7).expect("valid");
            let id = EventId::from_parts(1_800_000_000_000, node, number).expect("valid");
            let event = EventBuilder::new(id, OPENED)
                .time(Timestamp::from_nanos(1_800_000_000_000_000_000 + nanos));
            event.build().expect("valid")
        };

        let trace = chrome_trace(&[at(1, 0), at(2, 1)]);

        let begun = shown(&trace).into_iter().filter(|(phase, ..)| phase == "b");
        assert_eq!(
            begun.map(|(_, _, at, _)| at).collect::<Vec<_>>(),
            [Some(0.0), Some(0.001)]
        );
    }
}
