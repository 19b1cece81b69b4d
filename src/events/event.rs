use std::{num::NonZeroU128, sync::Arc};

use crate::{
    ids::{CorrelationId, EventId, NodeId, TraceId},
    otp::Context,
    value::{
        Value,
        codec::{self, CodecError},
    },
};

use super::{
    EventError, Timestamp,
    record::{self, Record},
    texts::Texts,
};

/// The longest kind, in bytes: a dotted name, not a message.
pub const KIND_BYTES_MAX: usize = 256;
/// The longest source, in bytes: a name of a part of a program, not its state.
pub const SOURCE_BYTES_MAX: usize = 256;
/// The largest data of one event, in bytes as encoded: what a log line with its context needs, and far from a file.
pub const DATA_BYTES_MAX: usize = 1_000_000;

/// Something that happened. Immutable, and within its limits by construction.
///
/// As JSON: `{"id":"…","kind":"…","time":"RFC 3339","node":7,"source":"…","correlation":"…","parent":"…","data":…}`; source, correlation and
/// parent are left out where there are none.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    id: EventId,
    kind: Arc<str>,
    time: Timestamp,
    source: Arc<str>,
    correlation: Option<CorrelationId>,
    parent: Option<EventId>,
    data: Value,
}

/// An event being put together.
///
/// ```
/// use underpin::{events::{EventBuilder, Timestamp}, ids::{IdGenerator, NodeId}, value::Value};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let ids = IdGenerator::new(NodeId::new(7)?);
/// let event = EventBuilder::new(ids.next(), "order.paid")
///     .source("till/1")
///     .data(Value::from(42))
///     .build()?;
/// assert_eq!(event.kind(), "order.paid");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct EventBuilder {
    event: Event,
}

impl Event {
    /// Its id, which rises on each node.
    #[must_use]
    pub fn id(&self) -> EventId {
        self.id
    }

    /// What happened, as a dotted name.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// When it happened.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// The node that made it: part of its id.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.id.node()
    }

    /// Where it happened; empty if nobody said.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What it belongs to.
    #[must_use]
    pub fn correlation(&self) -> Option<&CorrelationId> {
        self.correlation.as_ref()
    }

    /// The event that caused it.
    #[must_use]
    pub fn parent(&self) -> Option<EventId> {
        self.parent
    }

    /// What there is to say about it.
    #[must_use]
    pub fn data(&self) -> &Value {
        &self.data
    }

    /// Whether it can be stored: only of its data's size that is not known before. Costs as much as encoding it.
    ///
    /// # Errors
    ///
    /// [`EventError::DataTooLarge`], [`EventError::Data`].
    pub fn check(&self) -> Result<(), EventError> {
        self.encode(&mut Vec::new())
    }

    /// Writes its record; on an error `out` is as before.
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> Result<(), EventError> {
        match &self.correlation {
            None => self.encode_as(None, out),
            Some(correlation) => correlation.with_text(|text| self.encode_as(Some(text), out)),
        }
    }

    fn encode_as(&self, correlation: Option<&str>, out: &mut Vec<u8>) -> Result<(), EventError> {
        let head = record::Head {
            id: self.id.get(),
            time: self.time.as_nanos(),
            parent: self.parent.map(EventId::get),
            kind: &self.kind,
            source: &self.source,
            correlation,
        };
        record::write(out, &head, |out| {
            let start = out.len();
            codec::encode_value(&self.data, out).map_err(|error| refused(&error))?;
            let bytes = out.len() - start;
            if bytes > DATA_BYTES_MAX {
                return Err(EventError::DataTooLarge { bytes });
            }
            Ok(())
        })
    }

    /// The event of a record whose checksum was verified; `None` if its parts are not what they should be.
    pub(super) fn decode(record: &Record<'_>) -> Option<Self> {
        // Alone it shares nothing with anyone.
        let mut texts = Texts::none();
        Self::of(record, texts.data(record.data)?, &mut texts)
    }

    /// The event of a record, of which the data was decoded before.
    pub(super) fn of(record: &Record<'_>, data: Value, texts: &mut Texts) -> Option<Self> {
        let correlation = match record.correlation {
            Some(bytes) => Some(texts.correlation(bytes)?),
            None => None,
        };
        let parent = match record.parent {
            Some(id) => Some(EventId::new(id).ok()?),
            None => None,
        };
        Some(Self {
            id: EventId::new(record.id).ok()?,
            kind: texts.kind(record.kind)?,
            time: Timestamp::from_nanos(record.time),
            source: texts.source(record.source)?,
            correlation,
            parent,
            data,
        })
    }
}

fn refused(error: &CodecError) -> EventError {
    EventError::Data(error.to_string())
}

impl EventBuilder {
    /// An event of a kind, at the moment that its id was made, without anything else.
    pub fn new(id: EventId, kind: impl Into<Arc<str>>) -> Self {
        let nanos = i64::try_from(id.unix_ms()).unwrap_or(i64::MAX);
        let event = Event {
            id,
            kind: kind.into(),
            time: Timestamp::from_nanos(nanos.saturating_mul(1_000_000)),
            source: Arc::default(),
            correlation: None,
            parent: None,
            data: Value::Null,
        };
        Self { event }
    }

    /// When it happened.
    pub fn time(mut self, time: Timestamp) -> Self {
        self.event.time = time;
        self
    }

    /// Where it happened, at most [`SOURCE_BYTES_MAX`] bytes.
    pub fn source(mut self, source: impl Into<Arc<str>>) -> Self {
        self.event.source = source.into();
        self
    }

    /// What it belongs to.
    pub fn correlation(mut self, correlation: CorrelationId) -> Self {
        self.event.correlation = Some(correlation);
        self
    }

    /// Within a trace, and caused by an event, as far as the context says so.
    pub fn within(mut self, context: Context) -> Self {
        if let Some(trace) = NonZeroU128::new(context.trace) {
            self = self.correlation(TraceId::new(trace).into());
        }
        match EventId::new(context.cause) {
            Ok(parent) => self.parent(parent),
            Err(_) => self,
        }
    }

    /// The event that caused it.
    pub fn parent(mut self, parent: EventId) -> Self {
        self.event.parent = Some(parent);
        self
    }

    /// What there is to say about it, at most [`DATA_BYTES_MAX`] bytes encoded; its size is looked at when it is stored.
    pub fn data(mut self, data: impl Into<Value>) -> Self {
        self.event.data = data.into();
        self
    }

    /// The event.
    ///
    /// # Errors
    ///
    /// [`EventError::Kind`], [`EventError::Source`] outside their lengths.
    pub fn build(self) -> Result<Event, EventError> {
        let (kind, source) = (self.event.kind.len(), self.event.source.len());
        if kind == 0 || kind > KIND_BYTES_MAX {
            return Err(EventError::Kind { bytes: kind });
        }
        if source > SOURCE_BYTES_MAX {
            return Err(EventError::Source { bytes: source });
        }
        Ok(self.event)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(id: u64) -> EventId {
        EventId::new(id).expect("test id is valid")
    }

    fn encoded(event: &Event) -> Result<Vec<u8>, EventError> {
        let mut out = Vec::new();
        event.encode(&mut out)?;
        Ok(out)
    }

    fn round_trip(event: &Event) -> Event {
        let bytes = encoded(event).expect("event is within its limits");
        let record = Record::read_checked(&bytes).expect("record is whole");
        Event::decode(&record).expect("what was encoded is decoded")
    }

    fn with_data(data: impl Into<Value>) -> Event {
        EventBuilder::new(id(1), "kind")
            .data(data)
            .build()
            .expect("valid")
    }

    /// Text whose encoding, with tag and length, has `bytes` bytes.
    fn text_of(bytes: usize) -> String {
        let overhead = encoded(&with_data("x".repeat(900_000)))
            .expect("fits")
            .len()
            - encoded(&with_data(Value::Null)).expect("fits").len()
            - 900_000
            + 1;
        "x".repeat(bytes - overhead)
    }

    #[test]
    fn f36_data_of_a_million_bytes_is_the_most() {
        assert!(encoded(&with_data(text_of(DATA_BYTES_MAX))).is_ok());
        assert_eq!(
            encoded(&with_data(text_of(DATA_BYTES_MAX + 1))),
            Err(EventError::DataTooLarge {
                bytes: DATA_BYTES_MAX + 1
            })
        );
    }

    #[test]
    fn kinds_and_sources_have_their_lengths() {
        let kind = |len| EventBuilder::new(id(1), "k".repeat(len)).build().map(drop);
        let source = |len| {
            EventBuilder::new(id(1), "k")
                .source("s".repeat(len))
                .build()
                .map(drop)
        };

        assert_eq!(kind(0), Err(EventError::Kind { bytes: 0 }));
        assert_eq!(kind(1), Ok(()));
        assert_eq!(kind(256), Ok(()));
        assert_eq!(kind(257), Err(EventError::Kind { bytes: 257 }));
        assert_eq!(source(0), Ok(()));
        assert_eq!(source(256), Ok(()));
        assert_eq!(source(257), Err(EventError::Source { bytes: 257 }));
    }

    #[test]
    fn f37_every_shape_of_data_is_an_event() {
        let shapes = [
            Value::Null,
            Value::map(),
            Value::from(Vec::<Value>::new()),
            Value::from("string"),
            Value::from(42),
            Value::from(true),
            Value::from(vec![Value::from(1), Value::from("two")]),
        ];
        for data in shapes {
            let event = with_data(data);
            assert_eq!(round_trip(&event), event);
        }
    }

    #[test]
    fn f44_text_and_bytes_of_every_kind_come_back_to_the_letter() {
        let texts = [
            "🚀🔥💯",
            "你好世界",
            "مرحبا بالعالم",
            "\"quoted\\\" 'and' escaped\n",
            "test\0null",
        ];
        for text in texts {
            let event = EventBuilder::new(id(1), text)
                .source(text)
                .data(text)
                .build()
                .expect("valid");
            assert_eq!(round_trip(&event), event);
        }
        let png = Value::Bytes([0x89, b'P', b'N', b'G', 13, 10, 26, 10, 0, 255].into());
        assert_eq!(round_trip(&with_data(png.clone())).data(), &png);
    }

    #[test]
    fn f45_bytes_that_are_no_event_are_none() {
        for bytes in [
            &b"definitely not a valid serialized event"[..],
            &[1, 2, 3, 255, 254, 253],
        ] {
            assert_eq!(Record::read_checked(bytes), None);
        }
    }

    #[test]
    fn f48_strange_correlations_are_kept_to_the_letter() {
        let texts = [
            "12",
            "../../../etc/passwd",
            "'; DROP TABLE events; --",
            "<script>alert(1)</script>",
        ];
        for text in texts {
            let correlation = CorrelationId::new(text).expect("short text");
            let event = EventBuilder::new(id(1), "k")
                .correlation(correlation)
                .build()
                .expect("valid");
            let read = round_trip(&event);
            assert_eq!(
                read.correlation().map(ToString::to_string).as_deref(),
                Some(text)
            );
        }
        assert!(CorrelationId::new("").is_err());
        assert!(CorrelationId::new(&"a".repeat(1000)).is_err());
    }

    fn any_data() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1e300..1e300_f64).prop_map(Value::from),
            ".{0,20}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((".{0,8}", inner), 0..6).prop_map(|entries| Value::Map(
                    entries
                        .into_iter()
                        .map(|(key, value)| (Arc::<str>::from(key), value))
                        .collect()
                )),
            ]
        })
    }

    proptest! {
        #[test]
        fn f43_what_is_encoded_is_decoded(
            kind in ".{1,40}", source in ".{0,40}", time in any::<i64>(),
            correlation in proptest::option::of(".{1,40}"), parent in proptest::option::of(1..u64::MAX / 2), data in any_data(),
        ) {
            let mut event = EventBuilder::new(id(7), kind).source(source).time(Timestamp::from_nanos(time)).data(data).build().expect("valid");
            event.correlation = correlation.map(|text| CorrelationId::new(&text).expect("short text"));
            event.parent = parent.map(id);

            prop_assert_eq!(round_trip(&event), event);
        }
    }
}
