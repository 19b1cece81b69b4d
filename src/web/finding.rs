//! Finding events over HTTP: answers, pages, counts, causes, effects, timelines, and the log as it goes on.

use std::{convert::Infallible, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response, Sse, sse},
};
use futures_util::{Stream, StreamExt, stream};
use serde::Serialize;
use serde_json::{Value as Answer, json};
use tokio::{sync::OwnedSemaphorePermit, task};
use tokio_util::sync::CancellationToken;

use super::{Interface, body, error::ApiError, events::store_error, query::Given};
use crate::{
    events::{
        Change, Difference, Edge, Event, Pages, Query, QueryError, QueryReader, Start, StoreError,
        Subscription, Timeline, Timestamp, When,
    },
    ids::EventId,
    value::Value,
};

/// The parameter with a query as text.
const TEXT: &str = "q";
/// How often a stream of nothing says that it is there; a client or a proxy that hears nothing for a minute gives up.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Answers with NDJSON, read part by part; with one page as an object where that is what is accepted. An event that cannot be read has a
/// line of its own, which says so.
pub(super) async fn query(
    State(interface): State<Interface>,
    headers: HeaderMap,
    given: Given,
) -> Result<Response, ApiError> {
    let query = read(given?.0)?;
    let accept = headers.get(header::ACCEPT);
    let accept = accept.and_then(|value| value.to_str().ok());
    if accept.is_some_and(|accept| accept.starts_with(body::JSON)) {
        let page = interface.events.query(query).await.map_err(store_error)?;
        return beside(move || text(&page)).await;
    }
    lines(interface.events.pages(query)).await
}

/// Makes the text of an answer beside the runtime: of many events that takes tenths of a second.
async fn beside(
    text: impl FnOnce() -> serde_json::Result<String> + Send + 'static,
) -> Result<Response, ApiError> {
    let defect = |why| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "defect", why);
    let made = task::spawn_blocking(text).await;
    let body = made.map_err(|error| defect(error.to_string()))?;
    let body = body.map_err(|error| defect(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, body::JSON)], body).into_response())
}

/// An answer as text, written once and straight from what was found.
fn text(answer: &impl Serialize) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct Versioned<'a, T> {
        version: u8,
        #[serde(flatten)]
        answer: &'a T,
    }
    serde_json::to_string(&Versioned { version: 1, answer })
}

/// The first page has to be there before the answer begins, so that what is refused is refused.
async fn lines(mut pages: Pages) -> Result<Response, ApiError> {
    let first = next_lines(&mut pages).await?.unwrap_or_default();
    let first = stream::once(async move { Ok::<_, ApiError>(first) });
    let rest = stream::try_unfold(pages, async |mut pages| {
        let lines = next_lines(&mut pages).await?;
        Ok(lines.map(|lines| (lines, pages)))
    });
    let content_type = [(header::CONTENT_TYPE, body::NDJSON)];
    Ok((content_type, Body::from_stream(first.chain(rest))).into_response())
}

async fn next_lines(pages: &mut Pages) -> Result<Option<Vec<u8>>, ApiError> {
    let Some(page) = pages.next().await.map_err(store_error)? else {
        return Ok(None);
    };
    let mut lines = Vec::new();
    for event in &page.events {
        write_line(event, &mut lines)?;
    }
    for id in &page.unreadable {
        let line = json!({ "version": 1, "unreadable": id });
        lines.extend_from_slice(line.to_string().as_bytes());
        lines.push(b'\n');
    }
    Ok(Some(lines))
}

pub(super) async fn get(
    State(interface): State<Interface>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let id = read_id(id)?;
    let event = interface.events.get(id).await.map_err(store_error)?;
    let event = event.ok_or_else(|| no_such(id))?;
    let mut line = Vec::new();
    write_line(&event, &mut line)?;
    let content_type = [(header::CONTENT_TYPE, body::JSON)];
    Ok((content_type, Body::from(line)).into_response())
}

pub(super) async fn count(
    State(interface): State<Interface>,
    given: Given,
) -> Result<Json<Answer>, ApiError> {
    let query = read(given?.0)?;
    let count = interface.events.count(query).await.map_err(store_error)?;
    Ok(Json(json!({ "version": 1, "count": count })))
}

pub(super) async fn explain(
    State(interface): State<Interface>,
    given: Given,
) -> Result<Json<Answer>, ApiError> {
    let query = read(given?.0)?;
    let explained = interface.events.explain(query).await.map_err(store_error)?;
    let text = explained.to_string();
    Ok(Json(
        json!({ "version": 1, "explanation": explained, "text": text }),
    ))
}

pub(super) async fn causes(
    State(interface): State<Interface>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let id = read_id(id)?;
    let causes = interface.events.causes(id).await.map_err(store_error)?;
    let causes = causes.ok_or_else(|| no_such(id))?;
    beside(move || text(&causes)).await
}

pub(super) async fn effects(
    State(interface): State<Interface>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let id = read_id(id)?;
    let effects = interface.events.effects(id).await.map_err(store_error)?;
    if effects.event.is_none() && effects.effects.is_empty() && effects.complete {
        return Err(no_such(id));
    }
    beside(move || text(&effects)).await
}

/// States at a time (`at`, else now), or what differs between two (`from`, `to`); any filter says whose.
pub(super) async fn timeline(
    State(interface): State<Interface>,
    given: Given,
) -> Result<Response, ApiError> {
    let when = When::utc(Timestamp::now());
    let mut times = [const { None }; 3];
    let mut filters = Vec::new();
    for (name, value) in given?.0 {
        match ["at", "from", "to"].iter().position(|known| *known == name) {
            None => filters.push((name, value)),
            Some(place) => {
                let edge = if name == "from" {
                    Edge::Before
                } else {
                    Edge::End
                };
                let read = when.read(&value, edge);
                let time =
                    read.map_err(|why| ApiError::malformed(format!("{name}={value}: {why}")))?;
                if times[place].replace(time).is_some() {
                    let words = format!("the parameter {name:?} is given twice; give it once");
                    return Err(ApiError::malformed(words));
                }
            }
        }
    }
    let query = read(filters)?;
    if let [at, None, None] = times {
        return states(&interface, query, at.unwrap_or(when.now)).await;
    }
    let [None, Some(from), to] = times else {
        return Err(ApiError::malformed(
            "say at, or from and to, as in ?source=till&from=10m",
        ));
    };
    let to = to.unwrap_or(when.now);
    if from > to {
        return Err(ApiError::malformed("`from` is later than `to`; swap them"));
    }
    let timeline = interface
        .events
        .timeline(query)
        .await
        .map_err(store_error)?;
    beside(move || text(&differences(&timeline, (from, to)))).await
}

#[derive(Serialize)]
struct Between {
    from: Timestamp,
    to: Timestamp,
    differences: Vec<Difference>,
    breaks: Vec<EventId>,
    untold: usize,
}

fn differences(timeline: &Timeline, (from, to): (Timestamp, Timestamp)) -> Between {
    let within = |change: &&Change| from < change.time && change.time <= to;
    let breaks = timeline.breaks().filter(within).map(|change| change.id);
    Between {
        from,
        to,
        differences: timeline.between(from, to),
        breaks: breaks.collect(),
        untold: timeline.untold(),
    }
}

#[derive(Serialize)]
struct Then<'t> {
    at: Timestamp,
    states: Vec<StateOf<'t>>,
    changes: usize,
    untold: usize,
}

#[derive(Serialize)]
struct StateOf<'t> {
    source: &'t str,
    state: &'t Value,
    since: Timestamp,
    event: EventId,
    truncated: bool,
}

async fn states(interface: &Interface, query: Query, at: Timestamp) -> Result<Response, ApiError> {
    let timeline = interface
        .events
        .timeline(query.not_after(at))
        .await
        .map_err(store_error)?;
    beside(move || {
        let states = timeline.sources().filter_map(|source| {
            let change = timeline.change_at(source, at)?;
            Some(StateOf {
                source: &change.source,
                state: &change.after,
                since: change.time,
                event: change.id,
                truncated: change.is_shortened(),
            })
        });
        text(&Then {
            at,
            states: states.collect(),
            changes: timeline.changes().len(),
            untold: timeline.untold(),
        })
    })
    .await
}

/// The log as it goes on, as server-sent events: each with a bookmark as its id, so that whoever reconnects goes on where they were.
pub(super) async fn follow(
    State(interface): State<Interface>,
    headers: HeaderMap,
    given: Given,
) -> Result<Response, ApiError> {
    let mut from = None;
    let mut filters = Vec::new();
    for (name, value) in given?.0 {
        match name.as_str() {
            "from" if from.is_some() => {
                return Err(ApiError::malformed(
                    "the parameter \"from\" is given twice; give it once",
                ));
            }
            "from" => from = Some(value),
            _ => filters.push((name, value)),
        }
    }
    // What the client got last counts more than what its address says.
    let last = headers.get("last-event-id");
    let last = last
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let start = start(last.or(from).as_deref().unwrap_or("now"))?;
    let subscription = interface.events.subscribe(read(filters)?, start).await;
    let subscription = subscription.map_err(|error| match error {
        StoreError::Unknown { .. } | StoreError::OtherLog => {
            ApiError::new(StatusCode::GONE, "gone", error)
        }
        error => store_error(error),
    })?;
    let place = interface.followers.clone().try_acquire_owned();
    let place = place.map_err(|_| ApiError::unavailable("as many follow as may; retry later"))?;
    let following = Following {
        subscription,
        stop: interface.stop.clone(),
        _place: place,
        begun: false,
        held_up: false,
    };
    let alive = sse::KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(following.into_stream())
        .keep_alive(alive)
        .into_response())
}

fn start(text: &str) -> Result<Start, ApiError> {
    match text {
        "now" => Ok(Start::Now),
        "beginning" => Ok(Start::Beginning),
        text => {
            let id = text.parse().map(Start::After).ok();
            let bookmark = || text.parse().map(Start::At).ok();
            id.or_else(bookmark).ok_or_else(|| {
                ApiError::malformed(format!(
                    "there is no start {text:?}; give now, beginning, an event's id or a bookmark"
                ))
            })
        }
    }
}

/// A client that follows, until it goes away or the interface stops.
struct Following {
    subscription: Subscription,
    stop: CancellationToken,
    _place: OwnedSemaphorePermit,
    /// The client was told where it begins, so that it loses nothing when it is cut off before the first event.
    begun: bool,
    /// The client was told that the log cannot be read on, and is told nothing until it can.
    held_up: bool,
}

impl Following {
    fn into_stream(self) -> impl Stream<Item = Result<sse::Event, Infallible>> {
        stream::unfold(self, async |mut following| {
            if !std::mem::replace(&mut following.begun, true) {
                let place = following.subscription.bookmark().to_string();
                let begin = sse::Event::default().id(place).comment("from here");
                return Some((Ok(begin), following));
            }
            let next = loop {
                let next = tokio::select! {
                    () = following.stop.cancelled() => return None,
                    next = following.subscription.next() => next,
                };
                let is_of_one_event = !matches!(
                    &next,
                    Err(StoreError::Index(_) | StoreError::Panicked(_) | StoreError::Down { .. })
                );
                let was_held_up = std::mem::replace(&mut following.held_up, !is_of_one_event);
                if is_of_one_event || !was_held_up {
                    break next;
                }
            };
            let event = told(next, following.subscription.bookmark().to_string());
            Some((Ok(event), following))
        })
    }
}

fn told(next: Result<Event, StoreError>, bookmark: String) -> sse::Event {
    let event = sse::Event::default().id(bookmark);
    let line = match next {
        Ok(found) => {
            let line = Line {
                version: 1,
                event: &found,
            };
            serde_json::to_string(&line).map_err(|error| error.to_string())
        }
        Err(error) => Err(error.to_string()),
    };
    match line {
        Ok(line) => event.data(line),
        Err(why) => event
            .event("unreadable")
            .data(json!({ "version": 1, "error": why }).to_string()),
    }
}

/// Reads a query from parameters: `q` is text, every other one a condition of its own.
fn read(given: Vec<(String, String)>) -> Result<Query, ApiError> {
    let when = When::utc(Timestamp::now());
    let mut reader = QueryReader::new(&when);
    let mut texts = 0;
    for (name, value) in given {
        texts += usize::from(name == TEXT);
        if texts > 1 {
            return Err(ApiError::malformed(
                "the parameter \"q\" is given twice; give it once",
            ));
        }
        let read = if name == TEXT {
            reader.text(&value)
        } else {
            reader.option(&name, &value)
        };
        reader = read.map_err(refused)?;
    }
    reader.finish().map_err(refused)
}

fn refused(error: QueryError) -> ApiError {
    let refusal = ApiError::malformed(&error);
    match error {
        QueryError::Text(misread) => refusal.pointing(&misread.pointer()),
        _ => refusal,
    }
}

fn read_id(id: Result<Path<String>, PathRejection>) -> Result<EventId, ApiError> {
    let Path(id) = id?;
    id.parse().map_err(ApiError::malformed)
}

fn no_such(id: EventId) -> ApiError {
    ApiError::not_found(format!("there is no event {id}"))
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;
    use crate::{
        events::{EventBuilder, Events, Options, SimulatedDisk},
        ids::{IdGenerator, NodeId},
        otp::{Intensity, Supervisor, SupervisorSpec},
        telemetry::{self, Telemetry},
    };

    /// A client was sent the same error as fast as it could be made, for ever.
    #[tokio::test]
    async fn a_client_is_told_once_that_the_log_cannot_be_read_on_and_then_what_comes() {
        let disk = SimulatedDisk::new(1);
        let options = Options {
            hot_bytes: 0,
            segment_bytes: 4096,
            ..Options::default()
        };
        let ids = Arc::new(IdGenerator::new(NodeId::new(7).expect("small")));
        let telemetry = Telemetry::new(telemetry::Options::default());
        let events = Events::new(options, Arc::new(disk.clone()), ids.clone(), &telemetry);
        let spec = SupervisorSpec::new("root", Intensity::new(9, Duration::from_secs(1)));
        let _supervisor = Supervisor::start(spec.child(events.child_spec()))
            .await
            .expect("it opens");
        for _ in 0..200 {
            let event = EventBuilder::new(ids.next(), "k").data("x".repeat(100));
            let event = event.build().expect("valid");
            events.store(event).await.expect("stored");
        }
        while events.stats().sealed < 3 {
            task::yield_now().await;
        }
        let filter = Query::new().kind("k");
        let subscription = events.subscribe(filter, Start::Beginning).await;
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned();
        let following = Following {
            subscription: subscription.expect("subscribed"),
            stop: CancellationToken::new(),
            _place: place.expect("free"),
            begun: true,
            held_up: false,
        };
        let stream = following.into_stream();
        let mut stream = std::pin::pin!(stream);

        disk.fail_reads(u32::MAX);
        tokio::time::pause();
        let first = stream.next().await.expect("it is told").expect("never");
        assert!(format!("{first:?}").contains("index"), "{first:?}");
        let begin = tokio::time::Instant::now();
        let more = tokio::time::timeout(Duration::from_mins(1), stream.next());
        assert!(more.await.is_err(), "it was told already");
        assert!(begin.elapsed() >= Duration::from_mins(1));

        disk.fail_reads(0);
        let event = stream.next().await.expect("it goes on").expect("never");
        assert!(format!("{event:?}").contains("xxxx"), "{event:?}");
    }

    #[test]
    fn an_index_that_cannot_be_read_is_not_the_askers_mistake() {
        let error = StoreError::Index(std::io::ErrorKind::InvalidData.into());
        let answer = store_error(error).into_response();
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
