//! A correlation as a Chrome trace, which Perfetto and `chrome://tracing` open. Pure.
//!
//! The format is the JSON object form of the Trace Event Format: `{"traceEvents": […]}`, times in microseconds. A span is a pair of async
//! events (`b`, `e`) with the id of its `span.opened`, so that spans that overlap on one thread are shown right; anything else is an
//! instant (`i`).

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value as Json, json};

use crate::{events::Event, ids::EventId};

/// The events of a correlation, in any order, as one Chrome trace. Each node is shown as a process, each source as a thread of it. Open
/// `ui.perfetto.dev` and drop the file there.
///
/// Spans that were not closed end with the last event.
#[must_use]
pub fn chrome_trace(events: &[Event]) -> Json {
    let mut events: Vec<&Event> = events.iter().collect();
    events.sort_by_key(|event| (event.time(), event.id()));
    let last = events.last().map_or(0.0, |event| micros(event));
    let closed: HashMap<EventId, &Event> = events
        .iter()
        .filter(|event| event.kind() == CLOSED)
        .filter_map(|event| Some((event.parent()?, *event)))
        .collect();
    let mut rows = Rows::default();
    let shown: Vec<Json> = events
        .iter()
        .flat_map(|event| {
            let row = rows.of(event);
            match event.kind() {
                CLOSED => Vec::new(),
                OPENED => span(event, closed.get(&event.id()).copied(), last, row),
                _ => vec![instant(event, row)],
            }
        })
        .collect();
    let named = rows.names();
    json!({
        "displayTimeUnit": "ms",
        "traceEvents": named.into_iter().chain(shown).collect::<Vec<_>>(),
    })
}

const OPENED: &str = "span.opened";
const CLOSED: &str = "span.closed";

/// A number for each source, in the order in which they appear.
#[derive(Default)]
struct Rows(BTreeMap<(u16, String), usize>);

impl Rows {
    fn of(&mut self, event: &Event) -> (u16, usize) {
        let next = self.0.len() + 1;
        let node = event.node().get();
        let row = self
            .0
            .entry((node, event.source().to_owned()))
            .or_insert(next);
        (node, *row)
    }

    fn names(self) -> Vec<Json> {
        let name = |((node, source), row)| json!({"ph": "M", "name": "thread_name", "pid": node, "tid": row, "args": {"name": source}});
        self.0.into_iter().map(name).collect()
    }
}

fn span(opened: &Event, closed: Option<&Event>, last: f64, (node, row): (u16, usize)) -> Vec<Json> {
    let name = text(opened, "name").unwrap_or(opened.kind());
    let side = |phase: &str, at: f64, about: Option<&Event>| {
        json!({
            "ph": phase, "cat": "span", "name": name, "id": opened.id().to_string(), "pid": node, "tid": row, "ts": at,
            "args": about.map(arguments),
        })
    };
    let end = closed.map_or(last, micros);
    vec![
        side("b", micros(opened), Some(opened)),
        side("e", end, closed),
    ]
}

fn instant(event: &Event, (node, row): (u16, usize)) -> Json {
    let name = text(event, "message").unwrap_or(event.kind());
    json!({
        "ph": "i", "s": "t", "cat": event.kind(), "name": name, "pid": node, "tid": row, "ts": micros(event),
        "args": arguments(event),
    })
}

fn arguments(event: &Event) -> Json {
    json!({"event": event.id().to_string(), "data": event.data()})
}

fn text<'a>(event: &'a Event, name: &str) -> Option<&'a str> {
    event.data().as_map()?.get(name)?.as_str()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "microseconds since 1970 fit 2^53"
)]
fn micros(event: &Event) -> f64 {
    event.time().as_nanos() as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        events::{EventBuilder, Timestamp},
        ids::NodeId,
        value::Value,
    };

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

    #[test]
    fn a_span_begins_and_ends_and_everything_else_is_a_mark() {
        let opened = event(1, "span.opened", 10, None, [("name", "request".into())]);
        let said = event(
            2,
            "tracing.info",
            15,
            Some(&opened),
            [("message", "hello".into())],
        );
        let closed = event(
            3,
            "span.closed",
            30,
            Some(&opened),
            [("busy_ns", 5_u64.into())],
        );

        let trace = chrome_trace(&[closed.clone(), said, opened.clone()]);

        let shown: Vec<_> = trace["traceEvents"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|event| {
                (
                    event["ph"].as_str().expect("a phase"),
                    event["name"].as_str().expect("a name"),
                    event["ts"].as_f64(),
                )
            })
            .collect();
        let expected = [
            ("M", "thread_name", None),
            ("b", "request", Some(10.0)),
            ("e", "request", Some(30.0)),
            ("i", "hello", Some(15.0)),
        ];
        assert_eq!(shown, expected);
        assert_eq!(trace["traceEvents"][2]["args"]["data"]["busy_ns"], 5);
        assert_eq!(trace["traceEvents"][1]["id"], opened.id().to_string());
    }

    #[test]
    fn a_span_that_is_still_open_lasts_until_the_last_event() {
        let opened = event(1, "span.opened", 10, None, [("name", "request".into())]);
        let said = event(
            2,
            "tracing.info",
            50,
            Some(&opened),
            [("message", "hello".into())],
        );

        let trace = chrome_trace(&[opened, said]);

        assert_eq!(trace["traceEvents"][2]["ph"], "e");
        assert_eq!(trace["traceEvents"][2]["ts"], 50.0);
        assert_eq!(
            chrome_trace(&[])["traceEvents"].as_array().map(Vec::len),
            Some(0)
        );
    }
}
