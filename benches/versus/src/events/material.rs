//! The events that all sides are given, made before the clock runs.

use std::{
    num::NonZeroU32,
    sync::{Arc, LazyLock},
};

use underpin::{
    events::{Event, EventBuilder},
    ids::{CorrelationId, IdGenerator, NodeId},
    value::{Limits, Map, Value, codec},
};

use super::inline;

/// Makes events whose ids have never been used before.
pub(super) struct Material {
    kinds: Vec<Arc<str>>,
    sources: Vec<Arc<str>>,
    data: Vec<Value>,
    correlation: CorrelationId,
    made: usize,
}

/// An event as the engines and the plain log take it: encoded, with the keys that it is found by.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) id: u64,
    pub(super) correlation: u64,
    pub(super) kind: u32,
    pub(super) time: i64,
    pub(super) bytes: Vec<u8>,
}

/// An event's parts out of a record, as a reader wants them.
#[derive(Debug)]
#[expect(dead_code, reason = "decoding is what is measured")]
pub(super) struct Decoded {
    id: u64,
    time: i64,
    kind: Arc<str>,
    source: Arc<str>,
    correlation: CorrelationId,
    data: Value,
}

impl Decoded {
    pub(super) fn of(bytes: &[u8]) -> Self {
        const FIXED_BYTES: usize = 32;
        let word = |at: usize| bytes[at..at + 8].try_into().expect("8 bytes");
        let short = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
        let text = |at: usize, len: usize| str::from_utf8(&bytes[at..at + len]).expect("text");
        let (kind, source, correlation) = (short(26), short(28), short(30));
        let texts = FIXED_BYTES + kind + source;
        let (data, _) =
            codec::decode_value(&bytes[texts + correlation..], Limits::DEFAULT).expect("a value");
        Self {
            id: u64::from_le_bytes(word(8)),
            time: i64::from_le_bytes(word(16)),
            kind: text(FIXED_BYTES, kind).into(),
            source: text(FIXED_BYTES + kind, source).into(),
            correlation: CorrelationId::new(text(texts, correlation)).expect("short"),
            data,
        }
    }
}

/// Events of one correlation, as a request through a few services makes them.
const OF_ONE_CORRELATION: usize = 15;

/// One for all, since some stores are filled from several materials.
static IDS: LazyLock<IdGenerator> =
    LazyLock::new(|| IdGenerator::new(NodeId::new(1).expect("1 is a node id")));

impl Material {
    pub(super) fn new() -> Self {
        let names = |prefix: &str, count: usize| {
            let name = |n| Arc::from(format!("{prefix}{n}"));
            (0..count).map(name).collect()
        };
        Self {
            kinds: names("order.payment.accepted.", 8),
            sources: names("payments/worker-", 4),
            data: (0..64).map(data).collect(),
            correlation: CorrelationId::random(),
            made: 0,
        }
    }

    /// New events. Their data is shared among them, so that making them leaves the caches as they are.
    pub(super) fn events(&mut self, count: usize) -> Vec<Event> {
        let count32 = u32::try_from(count).ok().and_then(NonZeroU32::new);
        let ids = IDS.reserve(count32.expect("some events"));
        ids.map(|id| {
            if self.made.is_multiple_of(OF_ONE_CORRELATION) {
                self.correlation = CorrelationId::random();
            }
            let n = self.made;
            self.made += 1;
            EventBuilder::new(id, self.kinds[n % self.kinds.len()].clone())
                .source(self.sources[n % self.sources.len()].clone())
                .correlation(self.correlation.clone())
                .data(self.data[n % self.data.len()].clone())
                .build()
                .expect("kind and source are short")
        })
        .collect()
    }

    /// The kind with that number.
    pub(super) fn kind(number: u32) -> String {
        format!("order.payment.accepted.{number}")
    }

    /// The same as encoded records.
    pub(super) fn records(&mut self, count: usize) -> Vec<Record> {
        let first = self.made;
        let kinds = self.kinds.len();
        let record = |(n, event): (usize, Event)| {
            let mut bytes = Vec::new();
            inline::encode(&event, &mut bytes);
            Record {
                id: event.id().get(),
                correlation: inline::correlation(&event),
                kind: u32::try_from(n % kinds).unwrap_or(0),
                time: event.time().as_nanos(),
                bytes,
            }
        };
        (first..).zip(self.events(count)).map(record).collect()
    }
}

/// A map of seven entries, about 200 bytes as encoded.
fn data(n: i64) -> Value {
    let text = format!(
        "amount={n}.55;currency=EUR;method=card;risk=low;gateway=gw-17;merchant=acme-corp-{n}"
    );
    let entries: [(&str, Value); 7] = [
        ("amount", Value::from(1290.55)),
        ("attempt", Value::from(n)),
        ("body", Value::from(text)),
        ("ok", Value::from(true)),
        ("region", Value::from("eu-west-1")),
        ("tenant", Value::from("acme-corp")),
        ("user_agent", Value::from("checkout/4.12.0")),
    ];
    let map: Map = entries
        .into_iter()
        .map(|(key, value)| (Arc::from(key), value))
        .collect();
    Value::Map(map)
}

#[cfg(test)]
mod tests {
    use underpin::value::codec;

    use super::*;

    #[test]
    fn data_is_about_200_bytes() {
        let mut bytes = Vec::new();
        codec::encode_value(&data(7), &mut bytes).expect("it is within its limits");
        assert!((180..=220).contains(&bytes.len()), "{} bytes", bytes.len());
    }

    #[test]
    fn ids_rise_and_fifteen_events_share_a_correlation() {
        let mut material = Material::new();
        let events = [material.events(20), material.events(10)].concat();
        assert!(events.is_sorted_by(|one, next| one.id() < next.id()));
        let first = events[0].correlation();
        let same = events
            .iter()
            .filter(|event| event.correlation() == first)
            .count();
        assert_eq!(same, OF_ONE_CORRELATION);
    }
}
