//! Storing events over HTTP.

use std::{collections::HashMap, num::NonZeroU32};

use axum::{
    Json,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value as Answer, json};

use super::{Interface, body, error::ApiError, query};
use crate::{
    events::{
        Checkpoint, Event, EventDraft, EventError, Events, ImportOutcome, StoreError, Timestamp,
    },
    ids::EventId,
    value::Value,
};

/// How many ids can be reserved at once: ten batches of an import.
const IDS_MAX: u32 = 10_000;
/// How many refused lines are told one by one; the rest is counted.
const REFUSED_TOLD: usize = 1000;

pub(super) async fn store(
    State(interface): State<Interface>,
    headers: HeaderMap,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    match &*body::media_type(&headers) {
        body::JSON => store_one(&interface, bytes?).await,
        body::NDJSON => store_lines(&interface, bytes?).await,
        _ => Err(body::media_type_refused(
            "send one event as application/json, or one a line as application/x-ndjson",
        )),
    }
}

async fn store_one(interface: &Interface, bytes: Bytes) -> Result<Response, ApiError> {
    let Interface { ids, readers, .. } = interface.clone();
    let read = move |body: &[u8]| read_event(body, || ids.next());
    let event = readers.read(bytes, read).await?;
    let event = event.map_err(ApiError::malformed)?;
    let id = interface.events.store(event).await.map_err(store_error)?;
    Ok((StatusCode::CREATED, Json(json!({ "version": 1, "id": id }))).into_response())
}

/// One event from its JSON; an id and the time are made where it has none.
fn read_event(json: &[u8], id: impl FnOnce() -> EventId) -> Result<Event, String> {
    let draft: EventDraft = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    complete(draft, id).map_err(|error| error.to_string())
}

fn complete(draft: EventDraft, id: impl FnOnce() -> EventId) -> Result<Event, EventError> {
    let id = draft.id.unwrap_or_else(id);
    draft.into_event(id, Timestamp::now())
}

/// The lines of a request: those that are events, by number, and why the others are none.
#[derive(Default)]
struct Lines {
    good: Vec<(usize, Event)>,
    refused: Refused,
}

#[derive(Default)]
struct Refused {
    told: Vec<Answer>,
    count: u64,
}

impl Refused {
    fn add(&mut self, line: usize, why: &str) {
        self.count += 1;
        if self.told.len() < REFUSED_TOLD {
            self.told.push(json!({ "line": line, "why": why }));
        }
    }
}

/// Stores the good lines in one batch and tells the bad ones by number.
async fn store_lines(interface: &Interface, bytes: Bytes) -> Result<Response, ApiError> {
    let Interface { ids, readers, .. } = interface.clone();
    let read = move |body: &[u8]| read_lines(body, || ids.next());
    let mut lines = readers.read(bytes, read).await?;
    let stored = store_good(&interface.events, &mut lines).await;
    let ImportOutcome { stored, skipped } = stored.map_err(store_error)?;
    Ok(Json(json!({
        "version": 1,
        "stored": stored,
        "duplicates": skipped,
        "refusals": lines.refused.count,
        "refused": lines.refused.told,
    }))
    .into_response())
}

fn read_lines(bytes: &[u8], id: impl Fn() -> EventId) -> Lines {
    let mut lines = Lines::default();
    for (number, line) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
        if line.trim_ascii().is_empty() {
            continue;
        }
        match read_event(line, &id) {
            Ok(event) => lines.good.push((number, event)),
            Err(error) => lines.refused.add(number, &error),
        }
    }
    lines
}

/// Stores the good lines. Where one of them turns out not to be storable, each is looked at, and the others are stored.
async fn store_good(events: &Events, lines: &mut Lines) -> Result<ImportOutcome, StoreError> {
    match events.store_import(batch_of(lines), None).await {
        Err(StoreError::Conflict { .. } | StoreError::Event(_)) => {}
        outcome => return outcome,
    }
    sift(events, lines).await?;
    events.store_import(batch_of(lines), None).await
}

fn batch_of(lines: &Lines) -> Vec<Event> {
    lines.good.iter().map(|(_, event)| event.clone()).collect()
}

/// Takes out what cannot be stored: what is too large, and what has the id of another event.
async fn sift(events: &Events, lines: &mut Lines) -> Result<(), StoreError> {
    let mut seen: HashMap<EventId, Event> = HashMap::new();
    for (number, event) in std::mem::take(&mut lines.good) {
        let id = event.id();
        if let Err(error) = event.check() {
            lines.refused.add(number, &error.to_string());
            continue;
        }
        let known = match seen.get(&id) {
            Some(known) => Some(known.clone()),
            None => events.get(id).await?,
        };
        if known.is_some_and(|known| known != event) {
            let conflict = StoreError::Conflict { id };
            lines.refused.add(number, &conflict.to_string());
            continue;
        }
        seen.insert(id, event.clone());
        lines.good.push((number, event));
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reserve {
    count: u32,
}

pub(super) async fn reserve(
    State(interface): State<Interface>,
    body::Json(Reserve { count }): body::Json<Reserve>,
) -> Result<Json<Answer>, ApiError> {
    let count = NonZeroU32::new(count).filter(|count| count.get() <= IDS_MAX);
    let count = count.ok_or_else(|| {
        ApiError::malformed(format!(
            "that many ids cannot be reserved at once; ask for 1 to {IDS_MAX}"
        ))
    })?;
    let ids: Vec<EventId> = interface.ids.reserve(count).collect();
    Ok(Json(json!({ "version": 1, "ids": ids })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Import {
    events: Vec<EventDraft>,
    checkpoint: Option<Note>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    key: String,
    value: Value,
}

/// Stores a batch and the note of how far its file was read as one: both or neither.
pub(super) async fn import(
    State(interface): State<Interface>,
    body::Json(Import { events, checkpoint }): body::Json<Import>,
) -> Result<Json<Answer>, ApiError> {
    let mut batch = Vec::with_capacity(events.len());
    for (index, draft) in events.into_iter().enumerate() {
        let Some(id) = draft.id else {
            let words = "an imported event needs an id; reserve some at /api/v1/ids";
            return Err(ApiError::malformed(words).at(index));
        };
        let event = complete(draft, || id);
        batch.push(event.map_err(|error| ApiError::malformed(error).at(index))?);
    }
    let checkpoint = checkpoint.map(Note::into_checkpoint).transpose()?;
    let stored = interface
        .events
        .store_import(batch.clone(), checkpoint)
        .await;
    let ImportOutcome { stored, skipped } = stored.map_err(|error| about_batch(&batch, error))?;
    Ok(Json(
        json!({ "version": 1, "stored": stored, "duplicates": skipped }),
    ))
}

/// Says which event of a batch cannot be stored.
fn about_batch(batch: &[Event], error: StoreError) -> ApiError {
    let index = match &error {
        StoreError::Event(_) => batch.iter().position(|event| event.check().is_err()),
        // Of two in one batch the later one is refused.
        StoreError::Conflict { id } => batch.iter().rposition(|event| event.id() == *id),
        _ => None,
    };
    match index {
        Some(index) => store_error(error).at(index),
        None => store_error(error),
    }
}

impl Note {
    /// The checkpoints of the node's own parts are not for others to move.
    fn into_checkpoint(self) -> Result<Checkpoint, ApiError> {
        if self.key.starts_with(Checkpoint::OWN) {
            return Err(ApiError::forbidden(format!(
                "checkpoints named {}… are the node's own; use another key",
                Checkpoint::OWN
            )));
        }
        Ok(Checkpoint {
            key: self.key.into(),
            value: self.value,
        })
    }
}

pub(super) async fn checkpoint(
    State(interface): State<Interface>,
    given: query::Given,
) -> Result<Json<Answer>, ApiError> {
    let [key] = query::known(given, ["key"])?;
    let key = key
        .ok_or_else(|| ApiError::malformed("say whose checkpoint, as in ?key=/var/log/dpkg.log"))?;
    let value = interface
        .events
        .checkpoint(&key)
        .await
        .map_err(store_error)?;
    Ok(Json(json!({ "version": 1, "value": value })))
}

pub(super) fn store_error(error: StoreError) -> ApiError {
    let (status, code) = match &error {
        StoreError::Event(EventError::DataTooLarge { .. }) | StoreError::BatchTooLarge { .. } => {
            (StatusCode::PAYLOAD_TOO_LARGE, "too_large")
        }
        StoreError::Conflict { .. } => (StatusCode::CONFLICT, "conflict"),
        StoreError::Full
        | StoreError::Down { .. }
        | StoreError::Failed { .. }
        | StoreError::Unanswered { .. } => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        StoreError::Damaged { .. }
        | StoreError::Read { .. }
        | StoreError::Index(_)
        | StoreError::Panicked(_) => (StatusCode::INTERNAL_SERVER_ERROR, "damaged"),
        _ => (StatusCode::BAD_REQUEST, "malformed"),
    };
    ApiError::new(status, code, error)
}
