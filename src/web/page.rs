//! The page that a node shows in a browser: it reads the interface beside it, and changes nothing.

use axum::{
    http::{HeaderMap, HeaderName, header},
    response::{IntoResponse, Response},
};

/// Nothing from elsewhere, nothing inline, in nobody's frame: what an event says cannot become a program.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Whether whoever asks is a browser that wants to show something. Programs take anything, or JSON.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT);
    let accept = accept.and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

pub(super) fn html() -> Response {
    file("text/html; charset=utf-8", include_str!("page/page.html"))
}

pub(super) fn css() -> Response {
    file("text/css; charset=utf-8", include_str!("page/page.css"))
}

pub(super) fn js() -> Response {
    file(
        "text/javascript; charset=utf-8",
        include_str!("page/page.js"),
    )
}

fn file(content_type: &'static str, text: &'static str) -> Response {
    let fields: [(HeaderName, &str); 5] = [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Another version of the node has another page.
        (header::CACHE_CONTROL, "no-cache"),
        (header::VARY, "accept"),
    ];
    (fields, text).into_response()
}
