//! The cluster over HTTP.

use axum::{Json, extract::State};
use serde_json::{Value as Answer, json};

use super::{Interface, error::ApiError};

pub(super) async fn get(State(interface): State<Interface>) -> Result<Json<Answer>, ApiError> {
    let cluster = interface.overview.cluster();
    Ok(Json(cluster.ok_or_else(alone)?))
}

pub(super) async fn leave(State(interface): State<Interface>) -> Result<Json<Answer>, ApiError> {
    if interface.overview.cluster().is_none() {
        return Err(alone());
    }
    match interface.overview.leave().await {
        Ok(()) => Ok(Json(json!({ "version": 1, "left": true }))),
        Err(error) => Err(ApiError::unavailable(error)),
    }
}

fn alone() -> ApiError {
    ApiError::not_found(
        "the node is in no cluster; start it with --cluster-listen or --join, and a cookie",
    )
}
