//! Settings over HTTP.

use axum::{Json, extract::State, http::StatusCode};
use serde::Deserialize;
use serde_json::{Value as Answer, json};

use super::{Interface, body, error::ApiError, query};
use crate::{
    config::{ReadError, UpdateError},
    value::Value,
};

pub(super) async fn get(
    State(interface): State<Interface>,
    given: query::Given,
) -> Result<Json<Answer>, ApiError> {
    let [path] = query::known(given, ["path"])?;
    let path = path.unwrap_or_default();
    let config = &interface.config;
    let value = config.shown(path.as_str()).map_err(read_error)?;
    let origin = config.origin(path.as_str()).map_err(read_error)?;
    Ok(Json(json!({
        "version": 1,
        "path": path,
        "value": value,
        "origin": origin.to_string(),
        "revision": config.revision().0,
    })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Put {
    path: String,
    value: Value,
}

pub(super) async fn put(
    State(interface): State<Interface>,
    body::Json(Put { path, value }): body::Json<Put>,
) -> Result<Json<Answer>, ApiError> {
    let proposal = interface
        .config
        .propose()
        .set(path.as_str(), value)
        .by("http");
    let record = proposal.apply().await.map_err(update_error)?;
    Ok(Json(json!({ "version": 1, "revision": record.revision.0 })))
}

fn read_error(error: ReadError) -> ApiError {
    match error {
        ReadError::NotFound { .. } => ApiError::not_found(error),
        _ => ApiError::malformed(error),
    }
}

fn update_error(error: UpdateError) -> ApiError {
    let (status, code) = match &error {
        UpdateError::NotFound { .. } => (StatusCode::NOT_FOUND, "not_found"),
        UpdateError::Fixed { .. } => (StatusCode::FORBIDDEN, "forbidden"),
        UpdateError::Stale { .. } => (StatusCode::CONFLICT, "stale"),
        UpdateError::WrongType { .. }
        | UpdateError::Invalid { .. }
        | UpdateError::BeyondLimits { .. }
        | UpdateError::TooLarge { .. }
        | UpdateError::TooMany { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "refused"),
        UpdateError::NotPersisted { .. } | UpdateError::DiskStuck { .. } | UpdateError::Call(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
        }
        UpdateError::Panicked { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "defect"),
        _ => (StatusCode::BAD_REQUEST, "malformed"),
    };
    ApiError::new(status, code, error)
}
