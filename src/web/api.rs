//! The routes, and what holds for all of them.

use std::time::Duration;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderMap, HeaderName, StatusCode, header, uri::Authority},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tokio::time;

use super::{Interface, cluster, error::ApiError, events, finding, guard, settings, tree};
use crate::telemetry::Format;

/// The largest body of a request. An import sends batches of about 1 MiB; one event may be 1 MB.
const BODY_BYTES_MAX: usize = 16 << 20;
/// How long a request may take, its answer's body not counted.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) fn routes(interface: Interface) -> Router {
    let counted = interface.clone();
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/api/v1/status", get(status))
        .route("/api/v1/tree", get(tree::get))
        .route("/api/v1/events", get(finding::query).post(events::store))
        .route("/api/v1/events/count", get(finding::count))
        .route("/api/v1/events/explain", get(finding::explain))
        .route("/api/v1/events/stream", get(finding::follow))
        .route("/api/v1/events/{id}", get(finding::get))
        .route("/api/v1/events/{id}/causes", get(finding::causes))
        .route("/api/v1/events/{id}/effects", get(finding::effects))
        .route("/api/v1/timeline", get(finding::timeline))
        .route("/api/v1/ids", post(events::reserve))
        .route("/api/v1/import", post(events::import))
        .route("/api/v1/checkpoints", get(events::checkpoint))
        .route("/api/v1/config", get(settings::get).put(settings::put))
        .route("/api/v1/cluster", get(cluster::get))
        .route("/api/v1/cluster/leave", post(cluster::leave))
        .route("/api/v1/config/changes", post(settings::change))
        .route("/api/v1/config/history", get(settings::history))
        .route("/api/v1/config/diff", get(settings::diff))
        .route("/api/v1/config/explain", get(settings::explain))
        .route("/api/v1/config/reload", post(settings::reload))
        .fallback(async || {
            ApiError::not_found(
                "there is nothing at this path; see the README for the paths there are",
            )
        })
        .method_not_allowed_fallback(async || {
            ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method",
                "this path does not take this method; see the README",
            )
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn(in_time))
        .layer(from_fn(from_this_machine))
        .layer(from_fn_with_state(counted, count))
        .with_state(interface)
}

async fn from_this_machine(request: Request, next: Next) -> Response {
    match names(&request) {
        Ok(()) => next.run(request).await,
        Err(outside) => ApiError::forbidden(outside).into_response(),
    }
}

/// Looks at the names that a request carries.
fn names(request: &Request) -> Result<(), guard::Outside> {
    let host = the_one(request, &header::HOST)?;
    let origin = the_one(request, &header::ORIGIN)?;
    // An absolute request names the host in its address, which is what counts (RFC 9112, section 3.2.2).
    let address = request.uri().authority().map(Authority::as_str);
    guard::check(address.or(host), origin)
}

/// What a header says that may be there once.
fn the_one<'a>(request: &'a Request, name: &HeaderName) -> Result<Option<&'a str>, guard::Outside> {
    let mut values = request.headers().get_all(name).iter();
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(guard::Outside::Ambiguous),
        (first, None) => Ok(first.map(|value| value.to_str().unwrap_or("?"))),
    }
}

async fn in_time(request: Request, next: Next) -> Response {
    match time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::unavailable(format!(
            "no answer within {REQUEST_TIMEOUT:?}; it may still take effect"
        ))
        .into_response(),
    }
}

async fn count(State(interface): State<Interface>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let class = match response.status().as_u16() {
        200..300 => "2xx",
        400..500 => "4xx",
        _ => "5xx",
    };
    let labels = [("status", class)];
    interface
        .telemetry
        .counter("underpin_http_requests", &labels)
        .inc();
    response
}

async fn readyz(State(interface): State<Interface>) -> Response {
    match interface.overview.ready() {
        Ok(()) => "ready\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn metrics(State(interface): State<Interface>, headers: HeaderMap) -> Response {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    let format = Format::negotiate(accept.unwrap_or_default());
    let content_type = [(header::CONTENT_TYPE, format.content_type())];
    (content_type, interface.telemetry.render(format)).into_response()
}

async fn status(State(interface): State<Interface>) -> Response {
    Json(interface.overview.status()).into_response()
}
