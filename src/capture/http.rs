//! Requests of an axum program, correlated.

use axum::{extract::Request, middleware::Next, response::Response};
use tracing::Instrument as _;

use super::context_of;
use crate::{ids::TraceId, otp::Context};

/// An axum middleware that puts each request into a trace: the caller's, where it sent one well-formed `traceparent`, or a fresh one. A span `request`
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
    let mut headers = request.headers().get_all("traceparent").iter();
    // Two are none: nobody knows which of them is meant.
    let theirs = match (headers.next(), headers.next()) {
        (Some(header), None) => header.to_str().ok().and_then(context_of),
        _ => None,
    };
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
