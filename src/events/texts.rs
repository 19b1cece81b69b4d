//! Texts that events share. Pure.

use std::sync::Arc;

use crate::{
    ids::CorrelationId,
    value::{
        Limits, Value,
        codec::{self, Names},
    },
};

/// Texts of events that were decoded before: those of one answer share most of theirs.
#[derive(Debug, Default)]
pub(super) struct Texts {
    kinds: Recent,
    sources: Recent,
    correlation: Option<(Vec<u8>, CorrelationId)>,
    /// Of maps in the data.
    names: Names,
    keeps_none: bool,
}

/// Some texts, the one that was made first going first.
#[derive(Debug, Default)]
struct Recent {
    texts: Vec<Arc<str>>,
    next: usize,
}

impl Texts {
    pub(super) fn none() -> Self {
        Self {
            keeps_none: true,
            ..Self::default()
        }
    }

    pub(super) fn kind(&mut self, bytes: &[u8]) -> Option<Arc<str>> {
        if self.keeps_none {
            return str::from_utf8(bytes).ok().map(Arc::from);
        }
        self.kinds.get(bytes)
    }

    pub(super) fn source(&mut self, bytes: &[u8]) -> Option<Arc<str>> {
        if self.keeps_none {
            return str::from_utf8(bytes).ok().map(Arc::from);
        }
        self.sources.get(bytes)
    }

    /// The data in these bytes; `None` if they are not a value, and all of it.
    pub(super) fn data(&mut self, bytes: &[u8]) -> Option<Value> {
        let (data, used) = if self.keeps_none {
            codec::decode_value(bytes, Limits::DEFAULT)
        } else {
            codec::decode_value_among(bytes, Limits::DEFAULT, &mut self.names)
        }
        .ok()?;
        (used == bytes.len()).then_some(data)
    }

    pub(super) fn correlation(&mut self, bytes: &[u8]) -> Option<CorrelationId> {
        match &self.correlation {
            Some((known, id)) if known == bytes => Some(id.clone()),
            _ => {
                let id = CorrelationId::new(str::from_utf8(bytes).ok()?).ok()?;
                if !self.keeps_none {
                    self.correlation = Some((bytes.to_vec(), id.clone()));
                }
                Some(id)
            }
        }
    }
}

impl Recent {
    /// So few that looking through them costs less than making one anew.
    const TEXTS: usize = 8;

    fn get(&mut self, bytes: &[u8]) -> Option<Arc<str>> {
        let mut known = self.texts.iter();
        if let Some(text) = known.find(|text| text.as_bytes() == bytes) {
            return Some(text.clone());
        }
        let text: Arc<str> = str::from_utf8(bytes).ok()?.into();
        match self.texts.get_mut(self.next) {
            Some(place) => *place = text.clone(),
            None => self.texts.push(text.clone()),
        }
        self.next = (self.next + 1) % Self::TEXTS;
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Event, EventBuilder, record::Record},
        *,
    };
    use crate::ids::EventId;

    #[test]
    fn texts_that_events_share_are_made_once_and_none_is_taken_for_another() {
        let mut texts = Texts::default();
        let mut decode = |kind: &str, source: &str, correlation: Option<&str>| {
            let mut event = EventBuilder::new(EventId::MAX, kind).source(source);
            if let Some(correlation) = correlation {
                event = event.correlation(CorrelationId::new(correlation).expect("short"));
            }
            let event = event.build().expect("valid");
            let mut bytes = Vec::new();
            event.encode(&mut bytes).expect("valid");
            let record = Record::read(&bytes).expect("whole");
            let data = texts.data(record.data).expect("whole");
            let read = Event::of(&record, data, &mut texts).expect("valid");
            assert_eq!(read, event);
            read
        };

        let one = decode("order.paid", "till/1", Some("req-1"));
        let other = decode("order.shipped", "till/1", None);
        let third = decode("order.paid", "till/2", Some("req-2"));
        assert!(std::ptr::eq(one.kind(), third.kind()));
        assert!(std::ptr::eq(one.source(), other.source()));
        for number in 0..40 {
            let kind = format!("kind.{}", number % 13);
            decode(&kind, &kind, Some(&format!("req-{}", number % 3)));
        }
    }
}
