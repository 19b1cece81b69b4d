//! Requests of an axum program, correlated.

use axum::{extract::Request, middleware::Next, response::Response};
use tracing::Instrument as _;

use super::context_of;
use crate::{ids::TraceId, otp::Context};

/// An axum middleware that puts each request into a trace: the caller's, where it sent a `traceparent`, or a fresh one. A span `request`
/// of the target `http` is around its handler, with method, path and, in the end, the status.
///
/// ```no_run
/// use axum::{Router, middleware, routing::get};
///
/// let app: Router = Router::new()
///     .route("/", get(|| async { "hello" }))
///     .layer(middleware::from_fn(underpin::capture::http::traced));
/// # let _ = app;
/// ```
///
/// # Cancel safety
///
/// As safe as the handler: when the caller goes, the span is closed.
pub async fn traced(request: Request, next: Next) -> Response {
    let header = request.headers().get("traceparent");
    let theirs = header.and_then(|header| context_of(header.to_str().ok()?));
    let context = theirs.unwrap_or_else(|| Context::new(TraceId::random().get(), 0));
    let handle = async {
        let span = tracing::info_span!(
            target: "http",
            "request",
            method = %request.method(),
            path = request.uri().path(),
            status = tracing::field::Empty,
        );
        let response = next.run(request).instrument(span.clone()).await;
        span.record("status", response.status().as_u16());
        response
    };
    context.scope(handle).await
}
