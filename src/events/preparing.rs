//! What a caller gives becomes the body of one frame.

use std::{borrow::Borrow, sync::Arc};

use crate::{
    ids::EventId,
    value::{Value, codec},
};

use super::{Event, EventError, Events, StoreError, log::Prepared, notes};

/// How far something outside has been stored, kept beside the events that it moves with.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Its name, 1 to [`Checkpoint::KEY_BYTES_MAX`] bytes.
    pub key: Arc<str>,
    /// Where it stands, at most [`Checkpoint::VALUE_BYTES_MAX`] bytes encoded. Null removes the checkpoint.
    pub value: Value,
}

impl Checkpoint {
    /// The longest key: a path fits.
    pub const KEY_BYTES_MAX: usize = 1024;
    /// How the keys begin that underpin's own parts use; its interfaces let nobody else move those.
    pub const OWN: &str = "underpin:";
    /// The longest value: each new segment carries all of them.
    pub const VALUE_BYTES_MAX: usize = 4096;

    pub(super) fn encode(&self) -> Result<(Arc<str>, Arc<[u8]>), StoreError> {
        let refused = |bytes| StoreError::Checkpoint {
            bytes,
            key_max: Self::KEY_BYTES_MAX,
            value_max: Self::VALUE_BYTES_MAX,
        };
        if self.key.is_empty() || self.key.len() > Self::KEY_BYTES_MAX {
            return Err(refused(self.key.len()));
        }
        let mut bytes = Vec::new();
        if !self.value.is_null() {
            codec::encode_value(&self.value, &mut bytes)
                .map_err(|error| EventError::Data(error.to_string()))?;
        }
        if bytes.len() > Self::VALUE_BYTES_MAX {
            return Err(refused(bytes.len()));
        }
        Ok((self.key.clone(), bytes.into()))
    }
}

/// Room made at once for an event: most are smaller, and making room again and again costs more than encoding them.
const ROOM_BYTES: usize = 400;

/// Room is made at once for so many.
const ROOM_EVENTS_MAX: usize = 4096;

/// Encodes events into one frame's body.
pub(super) fn prepare<E: Borrow<Event>>(
    events: impl Iterator<Item = Result<E, EventError>>,
    checkpoint: Option<(Arc<str>, Arc<[u8]>)>,
) -> Result<Prepared, StoreError> {
    let mut prepared = Prepared {
        lowest: u64::MAX,
        ..Prepared::default()
    };
    if let Some((key, value)) = &checkpoint {
        notes::write_checkpoints(&mut prepared.body, [(key, value)].into_iter());
        prepared.front = prepared.body.len();
    }
    prepared.checkpoint = checkpoint;
    prepared
        .body
        .reserve(events.size_hint().0.min(ROOM_EVENTS_MAX) * ROOM_BYTES);
    let mut rising = true;
    for event in events {
        let event = event?;
        let event = event.borrow();
        event.encode(&mut prepared.body)?;
        if prepared.body.len() > Events::BATCH_BYTES_MAX {
            return Err(StoreError::BatchTooLarge {
                bytes: prepared.body.len(),
                max: Events::BATCH_BYTES_MAX,
            });
        }
        let id = event.id().get();
        rising &= id > prepared.highest;
        prepared.count(id);
    }
    if rising {
        Ok(prepared)
    } else {
        without_repeats(prepared)
    }
}

/// An event that stands in a batch twice is stored once; two that share an id are refused.
fn without_repeats(prepared: Prepared) -> Result<Prepared, StoreError> {
    let mut seen: std::collections::HashMap<u64, &[u8]> = std::collections::HashMap::new();
    let mut repeats = Vec::new();
    for (at, record) in super::record::all(&prepared.body[prepared.front..]) {
        match seen.insert(record.id, record.bytes) {
            Some(first) if first == record.bytes => repeats.push(prepared.front + at),
            Some(_) => {
                let id =
                    EventId::new(record.id).map_err(|error| EventError::Data(error.to_string()))?;
                return Err(StoreError::Conflict { id });
            }
            None => {}
        }
    }
    Ok(if repeats.is_empty() {
        prepared
    } else {
        prepared.without(&repeats)
    })
}
