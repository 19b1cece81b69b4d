//! What a node offers to others of itself: its settings, events, metrics and tree. The services behind [`NodeAddress`].
//!
//! [`NodeAddress`]: super::NodeAddress

use std::{str::FromStr, sync::Arc, time::Duration};

use futures_util::future::{self, BoxFuture, FutureExt};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time;

use super::{
    error::Failure,
    gateway::{Gateway, Incoming, Route},
    metrics::Pages,
    service::{decode, encode, may_change},
};
use crate::{
    config::Configuration,
    events::{Bookmark, Event, Events, Query, Start, Timestamp, When},
    otp::{Monitor, Supervisor},
    telemetry::Telemetry,
    value::Value,
};

/// What a node shows to others.
#[derive(Debug, Clone)]
pub struct Offered {
    /// Its settings; secrets are left out of what others see.
    pub config: Configuration,
    /// Its events.
    pub events: Events,
    /// Its metrics.
    pub telemetry: Telemetry,
    /// The root of its tree.
    pub root: Supervisor,
}

pub(super) const CONFIG: &str = "underpin.config";
pub(super) const EVENTS: &str = "underpin.events";
pub(super) const TELEMETRY: &str = "underpin.telemetry";
pub(super) const TREE: &str = "underpin.tree";

/// How long one question for what comes next may wait here: well below what callers wait for an answer.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(20);
/// How many events one answer has at most, and about how many bytes: an answer is one frame.
const EVENTS_MAX: usize = 1000;
const EVENT_BYTES_MAX: usize = 4 << 20;

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ConfigAsk {
    Get {
        path: String,
    },
    Update {
        path: String,
        value: Value,
        by: String,
    },
    /// The value once it is of a later revision than this, or at the end of the wait.
    Next {
        path: String,
        after: u64,
        wait_ms: u64,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Setting {
    pub(super) revision: u64,
    #[serde(default)]
    pub(super) value: Option<Value>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum EventsAsk {
    Query {
        query: String,
    },
    /// What comes behind a bookmark, or from now on, and fits the filter; an empty answer at the end of the wait.
    Next {
        filter: String,
        behind: Option<String>,
        wait_ms: u64,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Found {
    /// Each as [`Event::to_bytes`] writes it.
    pub(super) events: Vec<Value>,
    /// Where to go on: a cursor of a query, a bookmark of a subscription.
    #[serde(default)]
    pub(super) next: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Nothing;

/// An error of the service is an answer: it was asked, and says why not.
pub(super) type Told<T> = Result<T, String>;

impl Offered {
    pub(super) fn open(self, gateway: &Gateway, allow_changes: bool) {
        let Self {
            config,
            events,
            telemetry,
            root,
        } = self;
        gateway.add(
            CONFIG,
            route(allow_changes, changes_settings, move |ask| {
                about_config(config.clone(), ask).boxed()
            }),
        );
        gateway.add(
            EVENTS,
            route(
                allow_changes,
                |_| false,
                move |ask| about_events(events.clone(), ask).boxed(),
            ),
        );
        gateway.add(
            TELEMETRY,
            route(
                allow_changes,
                |_| false,
                move |Nothing| future::ready(Pages::of(&telemetry.snapshot())).boxed(),
            ),
        );
        gateway.add(
            TREE,
            route(
                allow_changes,
                |_| false,
                move |Nothing| {
                    let tree = root.tree().ok_or_else(|| "the node is stopping".to_owned());
                    let tree = tree.and_then(|tree| {
                        crate::value::to_value(&tree).map_err(|error| error.to_string())
                    });
                    future::ready(tree).boxed()
                },
            ),
        );
    }
}

fn changes_settings(ask: &ConfigAsk) -> bool {
    matches!(ask, ConfigAsk::Update { .. })
}

async fn about_config(config: Configuration, ask: ConfigAsk) -> Told<Setting> {
    match ask {
        ConfigAsk::Get { path } => setting(&config, &path),
        ConfigAsk::Update { path, value, by } => {
            let change = config.propose().set(path.as_str(), value).by(by);
            let record = change.apply().await.map_err(|error| error.to_string())?;
            Ok(Setting {
                revision: record.revision.0,
                value: None,
            })
        }
        ConfigAsk::Next {
            path,
            after,
            wait_ms,
        } => {
            let mut subscription = config
                .subscribe(path.as_str())
                .map_err(|error| error.to_string())?;
            let newer = async {
                // The first notice is what is.
                while let Some(notice) = subscription.recv().await {
                    if notice.revision.0 > after {
                        break;
                    }
                }
            };
            let _ = time::timeout(wait(wait_ms), newer).await;
            setting(&config, &path)
        }
    }
}

/// The revision first: a change in between shows as a newer value of an older revision, and is told once more.
fn setting(config: &Configuration, path: &str) -> Told<Setting> {
    let revision = config.revision().0;
    let value = config.shown(path).map_err(|error| error.to_string())?;
    Ok(Setting {
        revision,
        value: Some(value),
    })
}

fn wait(ms: u64) -> Duration {
    Duration::from_millis(ms).min(WAIT_MAX)
}

async fn about_events(events: Events, ask: EventsAsk) -> Told<Found> {
    match ask {
        EventsAsk::Query { query } => {
            let query = read(&query)?;
            let wanted = query.wanted().min(EVENTS_MAX);
            let page = events.query(query.clone().limit(wanted)).await;
            let page = page.map_err(|error| error.to_string())?;
            let mut found = Found {
                events: Vec::new(),
                next: None,
            };
            let mut bytes = 0;
            for event in &page.events {
                if bytes > EVENT_BYTES_MAX {
                    break;
                }
                bytes += push(&mut found, event)?;
            }
            let told = found.events.len();
            found.next = match page.events.get(told.wrapping_sub(1)) {
                Some(last) if told < page.events.len() => {
                    Some(query.cursor_behind(last.time(), last.id()).to_string())
                }
                _ => page.next.map(|cursor| cursor.to_string()),
            };
            Ok(found)
        }
        EventsAsk::Next {
            filter,
            behind,
            wait_ms,
        } => {
            let filter = read(&filter)?;
            let start = match behind {
                None => Start::Now,
                Some(behind) if behind == BEGINNING => Start::Beginning,
                Some(behind) => {
                    Start::At(Bookmark::from_str(&behind).map_err(|error| error.to_string())?)
                }
            };
            let subscription = events.subscribe(filter, start).await;
            let mut subscription = subscription.map_err(|error| error.to_string())?;
            let mut found = Found {
                events: Vec::new(),
                next: None,
            };
            let mut bytes = 0;
            if let Ok(first) = time::timeout(wait(wait_ms), subscription.next()).await {
                bytes += push(&mut found, &first.map_err(|error| error.to_string())?)?;
                while bytes < EVENT_BYTES_MAX
                    && found.events.len() < EVENTS_MAX
                    && let Some(next) = subscription.next_at_once()
                {
                    bytes += push(&mut found, &next.map_err(|error| error.to_string())?)?;
                }
            }
            found.next = Some(subscription.bookmark().to_string());
            Ok(found)
        }
    }
}

/// Times without a zone are UTC: whoever asks may be elsewhere.
fn read(query: &str) -> Told<Query> {
    let when = When {
        now: Timestamp::now(),
        zone: TimeZone::UTC,
    };
    Query::parse(query, &when).map_err(|error| error.to_string())
}

/// The bookmark that stands before all events.
pub(super) const BEGINNING: &str = "beginning";

fn push(found: &mut Found, event: &Event) -> Told<usize> {
    let bytes = event.to_bytes().map_err(|error| error.to_string())?;
    let length = bytes.len();
    found.events.push(Value::Bytes(bytes.into()));
    Ok(length)
}

/// A route to a function.
struct Function<Q, F> {
    allow_changes: bool,
    changes: fn(&Q) -> bool,
    answer: F,
}

fn route<Q, A, F>(allow_changes: bool, changes: fn(&Q) -> bool, answer: F) -> Arc<dyn Route>
where
    Q: DeserializeOwned + Send + 'static,
    A: Serialize + Send + 'static,
    F: Fn(Q) -> BoxFuture<'static, Told<A>> + Send + Sync + 'static,
{
    Arc::new(Function {
        allow_changes,
        changes,
        answer,
    })
}

impl<Q, A, F> Route for Function<Q, F>
where
    Q: DeserializeOwned + Send + 'static,
    A: Serialize + Send + 'static,
    F: Fn(Q) -> BoxFuture<'static, Told<A>> + Send + Sync + 'static,
{
    fn call(
        &self,
        incoming: Incoming<'_>,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, Failure>> {
        let request = decode::<Q>(incoming.payload)
            .map_err(Failure::RequestUnreadable)
            .and_then(|request| {
                may_change((self.changes)(&request), self.allow_changes).map(|()| request)
            });
        let answer = match request {
            Ok(request) => (self.answer)(request),
            Err(failure) => return future::ready(Err(failure)).boxed(),
        };
        async move {
            let answer = time::timeout(timeout, answer).await;
            let answer = answer.map_err(|_| Failure::Timeout)?;
            encode(&answer).map_err(Failure::AnswerUnreadable)
        }
        .boxed()
    }

    fn cast(&self, _: Incoming<'_>) -> Option<BoxFuture<'static, ()>> {
        None
    }

    fn monitor(&self) -> Option<Monitor> {
        None
    }
}
