//! The routes, and what holds for all of them.

use std::{collections::BTreeMap, pin::pin, time::Duration};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderMap, HeaderName, Method, StatusCode, header, uri::Authority},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};
use serde_json::json;
use tokio::time;

use super::{
    Interface,
    body::Reading,
    cluster,
    error::ApiError,
    events, finding,
    guard::{self, Sender},
    page, settings, tree,
};
use crate::telemetry::Format;

/// The largest body of a request. An import sends batches of about 1 MiB; one event may be 1 MB.
const BODY_BYTES_MAX: usize = 16 << 20;
/// How long a request may take, its answer's body not counted.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What browsers say of where a request comes from (Fetch Metadata Request Headers, W3C).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Where it is, what its methods do, and who answers.
type Path = (&'static str, &'static [Does], MethodRouter<Interface>);

/// Every path there is.
#[expect(clippy::too_many_lines, reason = "a line or a few for each path")]
fn paths() -> [Path; 27] {
    use self::Does::{Get, Post, Put};
    [
        (
            "/",
            &[Get("this list; in a browser, the page that shows the node")],
            get(front),
        ),
        (
            "/page.css",
            &[Get("how the page looks")],
            get(async || page::css()),
        ),
        (
            "/page.js",
            &[Get("what the page does")],
            get(async || page::js()),
        ),
        (
            "/livez",
            &[Get("whether the process lives")],
            get(async || "ok\n"),
        ),
        (
            "/readyz",
            &[Get("whether the node takes work; 503 and why, if not")],
            get(readyz),
        ),
        (
            "/metrics",
            &[Get("all metrics, for OpenMetrics and Prometheus")],
            get(metrics),
        ),
        (
            "/api/v1/status",
            &[Get("how the node is, and what is wrong since when")],
            get(status),
        ),
        (
            "/api/v1/tree",
            &[Get("the supervision tree, or ?path=… of it")],
            get(tree::get),
        ),
        (
            "/api/v1/events",
            &[
                Get("events for which the conditions hold, ?kind=…&source=… or ?q=…"),
                Post("stores an event, or many as application/x-ndjson"),
            ],
            get(finding::query).post(events::store),
        ),
        (
            "/api/v1/events/count",
            &[Get("how many there are, by the same conditions")],
            get(finding::count),
        ),
        (
            "/api/v1/events/explain",
            &[Get("which index finds them")],
            get(finding::explain),
        ),
        (
            "/api/v1/events/stream",
            &[Get(
                "what is stored from now on, as server-sent events; goes on after Last-Event-ID",
            )],
            get(finding::follow),
        ),
        (
            "/api/v1/events/{id}",
            &[Get("one event")],
            get(finding::get),
        ),
        (
            "/api/v1/events/{id}/causes",
            &[Get("what led to it")],
            get(finding::causes),
        ),
        (
            "/api/v1/events/{id}/effects",
            &[Get("what came of it")],
            get(finding::effects),
        ),
        (
            "/api/v1/timeline",
            &[Get("states of sources, ?source=…&at=… or ?from=…&to=…")],
            get(finding::timeline),
        ),
        (
            "/api/v1/ids",
            &[Post("reserves ids for an import")],
            post(events::reserve),
        ),
        (
            "/api/v1/import",
            &[Post("stores events and a checkpoint, all or nothing")],
            post(events::import),
        ),
        (
            "/api/v1/checkpoints",
            &[Get("how far an import came, ?key=…")],
            get(events::checkpoint),
        ),
        (
            "/api/v1/config",
            &[Get("settings, or those at ?path=…"), Put("changes one")],
            get(settings::get).put(settings::put),
        ),
        (
            "/api/v1/config/changes",
            &[Post("changes several at once, or tries it")],
            post(settings::change),
        ),
        (
            "/api/v1/config/history",
            &[Get("who changed what, when and why")],
            get(settings::history),
        ),
        (
            "/api/v1/config/diff",
            &[Get("what is not as the files say")],
            get(settings::diff),
        ),
        (
            "/api/v1/config/explain",
            &[Get("where the value at ?path=… comes from")],
            get(settings::explain),
        ),
        (
            "/api/v1/config/reload",
            &[Post("reads the files again")],
            post(settings::reload),
        ),
        (
            "/api/v1/cluster",
            &[Get("the other nodes and how they are")],
            get(cluster::get),
        ),
        (
            "/api/v1/cluster/leave",
            &[Post("leaves them")],
            post(cluster::leave),
        ),
    ]
}

/// A method, and what it does at a path.
#[derive(Clone, Copy)]
enum Does {
    Get(&'static str),
    Post(&'static str),
    Put(&'static str),
}

impl Does {
    fn told(self) -> (&'static str, &'static str) {
        match self {
            Self::Get(what) => ("GET", what),
            Self::Post(what) => ("POST", what),
            Self::Put(what) => ("PUT", what),
        }
    }
}

/// The page for people, the paths there are for programs.
async fn front(headers: HeaderMap) -> Response {
    if page::is_wanted(&headers) {
        return page::html();
    }
    let paths = paths().into_iter().map(|(path, does, _)| {
        let does: BTreeMap<_, _> = does.iter().map(|does| does.told()).collect();
        json!({"path": path, "does": does})
    });
    let paths: Vec<_> = paths.collect();
    Json(json!({"version": 1, "underpin": env!("CARGO_PKG_VERSION"), "paths": paths}))
        .into_response()
}

pub(super) fn routes(interface: Interface) -> Router {
    let counted = interface.clone();
    let routes = paths()
        .into_iter()
        .fold(Router::new(), |routes, (path, _, answers)| {
            routes.route(path, answers)
        });
    routes
        .fallback(async || {
            ApiError::not_found("there is nothing at this path; `GET /` lists the paths there are")
        })
        .method_not_allowed_fallback(async || {
            ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method",
                "this path does not take this method; `allow` says which it takes, `GET /` what they do",
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
    let site = the_one(request, &SEC_FETCH_SITE)?;
    let mode = the_one(request, &SEC_FETCH_MODE)?;
    guard::check(Sender {
        host: address.or(host),
        origin,
        site,
        goes_to_the_page: mode == Some("navigate")
            && request.method() == Method::GET
            && request.uri().path() == "/",
    })
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
    let (request, reading) = Reading::watch(request);
    let mut answer = pin!(next.run(request));
    if let Ok(answer) = time::timeout(REQUEST_TIMEOUT, &mut answer).await {
        return answer;
    }
    if reading.goes_on() {
        let late = format!(
            "the body did not arrive within {REQUEST_TIMEOUT:?}; nothing was done, send it again"
        );
        let late = ApiError::new(StatusCode::REQUEST_TIMEOUT, "too_slow", late);
        // The rest of it may be still to come (RFC 9110, section 15.5.9).
        return ([(header::CONNECTION, "close")], late).into_response();
    }
    let late = format!("no answer within {REQUEST_TIMEOUT:?}; it may still take effect");
    ApiError::unavailable(late).into_response()
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

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::pending};

    use axum::body::{Body, Bytes};
    use futures_util::stream;
    use hyper::service::Service as _;
    use hyper_util::service::TowerToHyperService;

    use super::*;

    /// What a request with this body is answered, by a path that reads it and one that then does not end.
    async fn answered(path: &str, body: Body) -> StatusCode {
        let routes = Router::new()
            .route("/read", post(async |body: Bytes| body))
            .route("/stuck", post(async |_: Bytes| pending::<()>().await))
            .route("/unread", post(async || pending::<()>().await))
            .layer(from_fn(in_time));
        let request = Request::post(path).body(body).expect("a request");
        let answer = TowerToHyperService::new(routes).call(request).await;
        answer.expect("it is infallible").status()
    }

    /// It was answered as if the node had been too slow, which monitoring takes for the node's fault, and clients for what may have
    /// taken effect.
    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_end_is_the_clients_fault_and_an_answer_that_does_not_come_is_not()
    {
        let begun = || stream::iter([Ok::<_, Infallible>("[")]);
        let never_ends = futures_util::StreamExt::chain(begun(), stream::pending());

        let slow = answered("/read", Body::from_stream(never_ends)).await;
        let whole = answered("/read", Body::from_stream(begun())).await;
        let stuck = answered("/stuck", Body::from("[]")).await;
        let unread = answered("/unread", Body::from_stream(begun())).await;

        assert_eq!(slow, StatusCode::REQUEST_TIMEOUT);
        assert_eq!(whole, StatusCode::OK);
        assert_eq!(stuck, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(unread, StatusCode::SERVICE_UNAVAILABLE);
    }
}
