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
    events::{Bookmark, Events, Query, Start, StoreError, Timestamp, When},
    ids::EventId,
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
/// What an answer has beside its events: the names of its fields, and where to go on.
const BESIDE_EVENTS: usize = 4 << 10;
/// What each of them has beside its bytes: their kind and length.
const BESIDE_EVENT: usize = 16;

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

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Found {
    /// Each as [`Event::to_bytes`](crate::events::Event::to_bytes) writes it.
    pub(super) events: Vec<Value>,
    /// Where to go on: a cursor of a query, a bookmark of a subscription.
    #[serde(default)]
    pub(super) next: Option<String>,
    /// Those that belong here and cannot be read: behind `events`, where a log is followed.
    #[serde(default)]
    pub(super) unreadable: Vec<EventId>,
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
            route(allow_changes, changes_settings, move |ask, _| {
                about_config(config.clone(), ask).boxed()
            }),
        );
        gateway.add(
            EVENTS,
            route(
                allow_changes,
                |_| false,
                move |ask, answer_max| about_events(events.clone(), ask, answer_max).boxed(),
            ),
        );
        gateway.add(
            TELEMETRY,
            route(
                allow_changes,
                |_| false,
                move |Nothing, _| future::ready(Pages::of(&telemetry.snapshot())).boxed(),
            ),
        );
        gateway.add(
            TREE,
            route(
                allow_changes,
                |_| false,
                move |Nothing, _| {
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
                // The first notice is what is. A lower revision is that of a node that was started with other settings.
                while let Some(notice) = subscription.recv().await {
                    if notice.revision.0 != after {
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

async fn about_events(events: Events, ask: EventsAsk, answer_max: usize) -> Told<Found> {
    let most = EVENT_BYTES_MAX.min(answer_max.saturating_sub(BESIDE_EVENTS));
    match ask {
        EventsAsk::Query { query } => {
            let query = read(&query)?;
            let wanted = query.wanted().min(EVENTS_MAX);
            let page = events.page(query.clone().limit(wanted), most).await;
            let page = page.map_err(|error| error.to_string())?;
            let mut found = Found {
                next: page.next.map(|cursor| cursor.to_string()),
                unreadable: page.unreadable,
                ..Found::default()
            };
            let mut bytes = 0;
            for (at, event) in page.events.iter().enumerate() {
                let event = event.to_bytes().map_err(|error| error.to_string())?;
                bytes += event.len() + BESIDE_EVENT;
                if bytes > most && at > 0 {
                    let last = &page.events[at - 1];
                    let cursor = query.cursor_behind(last.time(), last.id());
                    found.next = Some(cursor.to_string());
                    break;
                }
                found.events.push(Value::Bytes(event.into()));
            }
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
            let mut found = Found::default();
            let mut bytes = 0;
            let first = time::timeout(wait(wait_ms), subscription.next()).await;
            let mut place = subscription.bookmark();
            let mut next = first.ok();
            while let Some(event) = next {
                match event {
                    Ok(event) => {
                        let event = event.to_bytes().map_err(|error| error.to_string())?;
                        bytes += event.len() + BESIDE_EVENT;
                        if bytes > most && !found.events.is_empty() {
                            // It comes with the next answer.
                            break;
                        }
                        found.events.push(Value::Bytes(event.into()));
                        place = subscription.bookmark();
                    }
                    // What comes behind it comes with the next answer, so that it stands in its place.
                    Err(StoreError::Damaged { id } | StoreError::Read { id, .. }) => {
                        found.unreadable.push(id);
                        place = subscription.bookmark();
                        break;
                    }
                    Err(error) => return Err(error.to_string()),
                }
                let has_room = found.events.len() < EVENTS_MAX;
                next = has_room.then(|| subscription.next_at_once()).flatten();
            }
            found.next = Some(place.to_string());
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

/// A route to a function, which is told how long its answer may be.
struct Function<Q, F> {
    allow_changes: bool,
    changes: fn(&Q) -> bool,
    answer: F,
}

fn route<Q, A, F>(allow_changes: bool, changes: fn(&Q) -> bool, answer: F) -> Arc<dyn Route>
where
    Q: DeserializeOwned + Send + 'static,
    A: Serialize + Send + 'static,
    F: Fn(Q, usize) -> BoxFuture<'static, Told<A>> + Send + Sync + 'static,
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
    F: Fn(Q, usize) -> BoxFuture<'static, Told<A>> + Send + Sync + 'static,
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
            Ok(request) => (self.answer)(request, incoming.answer_max),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        events::{Event, EventBuilder, Folder, Options},
        ids::{IdGenerator, NodeId},
        otp::{Intensity, SupervisorSpec},
        telemetry,
    };

    fn id(id: u64) -> EventId {
        EventId::new(id).expect("test id is valid")
    }

    fn ids(found: &Found) -> Vec<u64> {
        let read = |event: &Value| match event {
            Value::Bytes(bytes) => Event::from_bytes(bytes).expect("an event").id().get(),
            other => panic!("{other:?} is no event"),
        };
        found.events.iter().map(read).collect()
    }

    /// Whoever followed from another node got the same error for every question, and nothing of what was before and behind it.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_damaged_event_is_named_and_others_follow_past_it() {
        let folder = tempfile::tempdir().expect("folder for the test");
        let disk = Arc::new(Folder::new(folder.path()));
        let options = Options {
            hot_bytes: 0,
            ..Options::default()
        };
        let generator = Arc::new(IdGenerator::new(NodeId::new(7).expect("small")));
        let telemetry = Telemetry::new(telemetry::Options::default());
        let events = Events::new(options, disk, generator, &telemetry);
        let spec = SupervisorSpec::new("root", Intensity::new(9, Duration::from_secs(1)));
        let _supervisor = Supervisor::start(spec.child(events.child_spec()))
            .await
            .expect("it opens");
        for number in 1..=5 {
            let event = EventBuilder::new(id(number), "k").data(format!("number {number}"));
            let event = event.build().expect("valid");
            events.store(event).await.expect("stored");
        }
        let logs = std::fs::read_dir(folder.path()).expect("readable");
        let mut logs = logs.filter_map(|entry| Some(entry.ok()?.path()));
        let log = logs.find(|path| path.extension().is_some_and(|found| found == "seg"));
        let log = log.expect("a log");
        let mut bytes = std::fs::read(&log).expect("readable");
        let at = bytes.windows(8).position(|part| part == b"number 3");
        bytes[at.expect("the third")] ^= 1;
        std::fs::write(&log, bytes).expect("writable");

        let next = async |behind: &str| {
            let ask = EventsAsk::Next {
                filter: "kind=k".into(),
                behind: Some(behind.into()),
                wait_ms: 1_000,
            };
            about_events(events.clone(), ask, usize::MAX)
                .await
                .expect("answered")
        };
        let first = next(BEGINNING).await;
        assert_eq!((ids(&first), &first.unreadable), (vec![1, 2], &vec![id(3)]));
        let rest = next(&first.next.expect("a bookmark")).await;
        assert_eq!((ids(&rest), &rest.unreadable), (vec![4, 5], &vec![]));
        let query = "kind=k".into();
        let page = about_events(events.clone(), EventsAsk::Query { query }, usize::MAX).await;
        let page = page.expect("answered");
        assert_eq!(
            (ids(&page), page.unreadable),
            (vec![1, 2, 4, 5], vec![id(3)])
        );
    }
}
