use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer, ser::SerializeStruct};

use crate::{
    ids::{CorrelationId, EventId, NodeId},
    value::Value,
};

use super::{Event, EventBuilder, EventError, Timestamp};

/// An event as people and programs write it in JSON: the id may be missing, as may everything but the kind.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventDraft {
    /// The version of this form, as the interfaces write it. Only checked: there is one, [`EventDraft::VERSION`].
    #[serde(default)]
    pub version: Option<u32>,
    /// The event's own id, when it comes from a store; it says when the event was, unless `time` does.
    #[serde(default)]
    pub id: Option<EventId>,
    /// What happened.
    pub kind: Arc<str>,
    /// When; if missing, the moment of the event's own id, so that what is sent once more is the same event, or now if that is missing, too.
    #[serde(default)]
    pub time: Option<Timestamp>,
    /// The node that made the id. Only checked: an id knows its node.
    #[serde(default)]
    pub node: Option<NodeId>,
    /// Where it happened.
    #[serde(default)]
    pub source: Option<Arc<str>>,
    /// What it belongs to.
    #[serde(default)]
    pub correlation: Option<CorrelationId>,
    /// The event that caused it.
    #[serde(default)]
    pub parent: Option<EventId>,
    /// What there is to say about it.
    #[serde(default)]
    pub data: Value,
}

impl EventDraft {
    /// The version of this form.
    pub const VERSION: u32 = 1;

    /// The event, with `id` if it has none of its own; then also at `now` if it says no time.
    ///
    /// # Errors
    ///
    /// As [`EventBuilder::build`]; [`EventError::Node`] if it names another node than the one in its id; [`EventError::Version`].
    pub fn into_event(self, id: EventId, now: Timestamp) -> Result<Event, EventError> {
        if let Some(version) = self.version.filter(|version| *version != Self::VERSION) {
            return Err(EventError::Version { version });
        }
        if let (Some(id), Some(node)) = (self.id, self.node)
            && id.node() != node
        {
            return Err(EventError::Node {
                id,
                of_id: id.node().get(),
                given: node.get(),
            });
        }
        let mut builder = EventBuilder::new(self.id.unwrap_or(id), self.kind);
        // Of an event with an id of its own the builder knows when that was made.
        if let Some(time) = self.time.or(self.id.is_none().then_some(now)) {
            builder = builder.time(time);
        }
        let mut builder = builder
            .source(self.source.unwrap_or_default())
            .data(self.data);
        if let Some(correlation) = self.correlation {
            builder = builder.correlation(correlation);
        }
        if let Some(parent) = self.parent {
            builder = builder.parent(parent);
        }
        builder.build()
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Event", 8)?;
        fields.serialize_field("id", &self.id())?;
        fields.serialize_field("kind", self.kind())?;
        fields.serialize_field("time", &self.time())?;
        fields.serialize_field("node", &self.node())?;
        if self.source().is_empty() {
            fields.skip_field("source")?;
        } else {
            fields.serialize_field("source", self.source())?;
        }
        optional(&mut fields, "correlation", self.correlation())?;
        optional(&mut fields, "parent", self.parent().as_ref())?;
        fields.serialize_field("data", self.data())?;
        fields.end()
    }
}

fn optional<S: SerializeStruct>(
    fields: &mut S,
    name: &'static str,
    value: Option<&impl Serialize>,
) -> Result<(), S::Error> {
    match value {
        Some(value) => fields.serialize_field(name, value),
        None => fields.skip_field(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(id: u64) -> EventId {
        EventId::new(id).expect("test id is valid")
    }

    #[test]
    fn json_has_the_fields_that_are_documented_and_reads_them_back() {
        let event = EventBuilder::new(id(4_194_304 + 4096 * 7), "order.paid")
            .time(Timestamp::from_nanos(1_769_860_800_000_000_000))
            .source("till/1")
            .correlation(CorrelationId::new("req-abc").expect("short text"))
            .parent(id(5))
            .data(42)
            .build()
            .expect("valid");

        let json = serde_json::to_string(&event).expect("events are JSON");
        let draft: EventDraft = serde_json::from_str(&json).expect("our own JSON reads");

        assert_eq!(
            json,
            r#"{"id":"4222976","kind":"order.paid","time":"2026-01-31T12:00:00Z","node":7,"source":"till/1","correlation":"req-abc","parent":"5","data":42}"#
        );
        assert_eq!(draft.into_event(id(1), Timestamp::MIN), Ok(event));
    }

    #[test]
    fn a_draft_needs_only_a_kind_and_knows_its_fields() {
        let draft: EventDraft = serde_json::from_str(r#"{"kind":"k"}"#).expect("kind is enough");
        let event = draft
            .into_event(id(9), Timestamp::from_nanos(3))
            .expect("valid");
        assert_eq!((event.id(), event.time().as_nanos()), (id(9), 3));

        let unknown = serde_json::from_str::<EventDraft>(r#"{"kind":"k","colour":"red"}"#);
        assert!(
            unknown
                .expect_err("no such field")
                .to_string()
                .contains("colour")
        );
        let other_node: EventDraft =
            serde_json::from_str(r#"{"id":"1","kind":"k","node":7}"#).expect("reads");
        assert!(matches!(
            other_node.into_event(id(1), Timestamp::MIN),
            Err(EventError::Node { .. })
        ));
    }
}
