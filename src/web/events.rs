//! Events over HTTP.

use std::num::NonZeroU32;

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Path, State, rejection::JsonRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value as Answer, json};

use super::{Interface, error::ApiError, query};
use crate::{
    events::{
        Checkpoint, Event, EventDraft, EventError, ImportOutcome, Query, StoreError, Timestamp,
    },
    ids::{CorrelationId, EventId},
    value::Value,
};

/// How many ids can be reserved at once: ten batches of an import.
const IDS_MAX: u32 = 10_000;
/// How many refused lines are told one by one; the rest is counted.
const REFUSED_TOLD: usize = 1000;

pub(super) async fn query(
    State(interface): State<Interface>,
    given: query::Given,
) -> Result<Response, ApiError> {
    let query = read_query(given)?;
    let page = interface.events.query(query).await.map_err(store_error)?;
    let mut lines = Vec::with_capacity(page.events.len() * 300);
    for event in &page.events {
        write_line(event, &mut lines)?;
    }
    let content_type = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((content_type, Body::from(lines)).into_response())
}

fn read_query(given: query::Given) -> Result<Query, ApiError> {
    let names = [
        "kind",
        "correlation",
        "source",
        "since",
        "until",
        "limit",
        "order",
    ];
    let [kind, correlation, source, since, until, limit, order] = query::known(given, names)?;
    let mut query = Query::new();
    if let Some(kind) = kind {
        query = query.kind(kind);
    }
    if let Some(correlation) = correlation {
        query = query.correlation(CorrelationId::new(&correlation).map_err(ApiError::malformed)?);
    }
    if let Some(source) = source {
        query = query.source(source);
    }
    if let Some(since) = since {
        query = query.since(since.parse().map_err(ApiError::malformed)?);
    }
    if let Some(until) = until {
        query = query.until(until.parse().map_err(ApiError::malformed)?);
    }
    if let Some(order) = order {
        query = query.order(order.parse().map_err(ApiError::malformed)?);
    }
    if let Some(limit) = limit {
        let number = limit.parse();
        query = query.limit(number.map_err(|_| {
            ApiError::malformed(format!(
                "the limit {limit:?} is not a number; give one, as in limit=100"
            ))
        })?);
    }
    Ok(query)
}

pub(super) async fn get(
    State(interface): State<Interface>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let id: EventId = id.parse().map_err(ApiError::malformed)?;
    let event = interface.events.get(id).await.map_err(store_error)?;
    let event = event.ok_or_else(|| ApiError::not_found(format!("there is no event {id}")))?;
    let mut line = Vec::new();
    write_line(&event, &mut line)?;
    let content_type = [(header::CONTENT_TYPE, "application/json")];
    Ok((content_type, Body::from(line)).into_response())
}

/// One event as an object of the interface.
#[derive(serde::Serialize)]
struct Line<'a> {
    version: u32,
    #[serde(flatten)]
    event: &'a Event,
}

fn write_line(event: &Event, out: &mut Vec<u8>) -> Result<(), ApiError> {
    let line = Line { version: 1, event };
    serde_json::to_writer(&mut *out, &line)
        .map_err(|error| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "defect", error))?;
    out.push(b'\n');
    Ok(())
}

pub(super) async fn store(
    State(interface): State<Interface>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default();
    if content_type.starts_with("application/x-ndjson") {
        return store_lines(&interface, &body).await;
    }
    if !content_type.starts_with("application/json") {
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "media_type",
            "send one event as application/json, or one a line as application/x-ndjson",
        ));
    }
    let event = read_event(&interface, &body).map_err(ApiError::malformed)?;
    let id = interface.events.store(event).await.map_err(store_error)?;
    Ok((StatusCode::CREATED, Json(json!({ "version": 1, "id": id }))).into_response())
}

/// One event from its JSON; an id and the time are made where it has none.
fn read_event(interface: &Interface, json: &[u8]) -> Result<Event, String> {
    let draft: EventDraft = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    complete(interface, draft).map_err(|error| error.to_string())
}

fn complete(interface: &Interface, draft: EventDraft) -> Result<Event, EventError> {
    let id = draft.id.unwrap_or_else(|| interface.ids.next());
    draft.into_event(id, Timestamp::now())
}

/// Stores the good lines in one batch and tells the bad ones by number.
async fn store_lines(interface: &Interface, body: &[u8]) -> Result<Response, ApiError> {
    let mut events = Vec::new();
    let mut refused = Vec::new();
    let mut refusals = 0_u64;
    for (number, line) in body.split(|&byte| byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        match read_event(interface, line) {
            Ok(event) => events.push(event),
            Err(error) => {
                refusals += 1;
                if refused.len() < REFUSED_TOLD {
                    refused.push(json!({ "line": number + 1, "why": error }));
                }
            }
        }
    }
    let stored = interface
        .events
        .store_batch(events)
        .await
        .map_err(store_error)?;
    Ok(Json(json!({
        "version": 1,
        "stored": stored.len(),
        "refusals": refusals,
        "refused": refused,
    }))
    .into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reserve {
    count: u32,
}

pub(super) async fn reserve(
    State(interface): State<Interface>,
    body: Result<Json<Reserve>, JsonRejection>,
) -> Result<Json<Answer>, ApiError> {
    let Json(Reserve { count }) = body?;
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
    body: Result<Json<Import>, JsonRejection>,
) -> Result<Json<Answer>, ApiError> {
    let Json(Import { events, checkpoint }) = body?;
    let mut batch = Vec::with_capacity(events.len());
    for (index, draft) in events.into_iter().enumerate() {
        if draft.id.is_none() {
            return Err(ApiError::malformed(
                "an imported event needs an id; reserve some at /api/v1/ids",
            )
            .at(index));
        }
        let event = complete(&interface, draft);
        batch.push(event.map_err(|error| ApiError::malformed(error).at(index))?);
    }
    let outcome = match checkpoint {
        Some(Note { key, value }) => {
            let checkpoint = Checkpoint {
                key: key.into(),
                value,
            };
            interface.events.store_import(batch, checkpoint).await
        }
        None => interface
            .events
            .store_batch(batch)
            .await
            .map(|ids| ImportOutcome {
                stored: ids.len() as u64,
                skipped: 0,
            }),
    };
    let ImportOutcome { stored, skipped } = outcome.map_err(store_error)?;
    Ok(Json(
        json!({ "version": 1, "stored": stored, "duplicates": skipped }),
    ))
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

fn store_error(error: StoreError) -> ApiError {
    let (status, code) = match &error {
        StoreError::Event(EventError::DataTooLarge { .. }) | StoreError::BatchTooLarge { .. } => {
            (StatusCode::PAYLOAD_TOO_LARGE, "too_large")
        }
        StoreError::Conflict { .. } => (StatusCode::CONFLICT, "conflict"),
        StoreError::Full
        | StoreError::Down { .. }
        | StoreError::Failed { .. }
        | StoreError::Unanswered { .. } => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        StoreError::Damaged { .. } | StoreError::Read { .. } | StoreError::Panicked(_) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "damaged")
        }
        _ => (StatusCode::BAD_REQUEST, "malformed"),
    };
    ApiError::new(status, code, error)
}
