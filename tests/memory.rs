//! What events cost in memory, in a process of its own, since others would be counted along.
#![cfg(target_os = "linux")]

use underpin::{
    events::{Event, EventBuilder},
    ids::{IdGenerator, NodeId},
    value::Value,
};

/// Memory of this process that is in use, in bytes: the data and stack of `/proc/self/statm`, in pages.
fn in_use() -> usize {
    let page_bytes = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux tells");
    let resident = statm.split(' ').nth(1).expect("a second number");
    resident.parse::<usize>().expect("a number") * page_bytes
}

#[test]
fn f47_a_thousand_events_take_less_than_a_megabyte() {
    let ids = IdGenerator::new(NodeId::new(7).expect("small"));
    let make = |n: u64| -> Event {
        let data = Value::from([("n", Value::from(n)), ("text", "some text".into())]);
        let event = EventBuilder::new(ids.next(), "kind")
            .source("source")
            .data(data);
        event.build().expect("valid")
    };
    drop((0..10).map(make).collect::<Vec<_>>());
    let before = in_use();

    let events: Vec<_> = (0..1000).map(make).collect();

    let grown = in_use().saturating_sub(before);
    assert!(grown < 1_000_000, "{grown} bytes");
    assert_eq!(events.len(), 1000);
}
