//! Another node as a whole: its settings, events, metrics and tree.

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    error::{Part, RemoteError},
    metrics::Pages,
    offered::{
        BEGINNING, CONFIG, ConfigAsk, EVENTS, EventsAsk, Found, Nothing, Setting, TELEMETRY, TREE,
        Told, WAIT_MAX,
    },
    service::{decode, encode},
    shared::Shared,
};
use crate::{
    events::Event,
    ids::{EventId, NodeName},
    telemetry::Snapshot,
    value::{Value, from_value},
};

/// Another node as a whole. From [`Cluster::node`](super::Cluster::node). Cheap to clone.
///
/// What it shows is what its operators would see on the spot: secrets are left out of its settings. It can be changed only when it was
/// started with leave for others to change things; there is no stop and no kill.
#[derive(Clone)]
pub struct NodeAddress {
    shared: Arc<Shared>,
    node: NodeName,
    timeout: Duration,
}

/// Why another node did not do what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeAskError {
    /// It was not reached, or did not answer.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// It answered that it cannot; why, in its own words. It is as it was.
    #[error("node {node} says: {why}")]
    Said {
        /// The node.
        node: NodeName,
        /// Why not.
        why: String,
    },
    /// An event that is followed cannot be read there; the next call goes on behind it.
    #[error("event {id} cannot be read on node {node}; `underpin events get {id}` there says why")]
    EventUnreadable {
        /// The node.
        node: NodeName,
        /// The event.
        id: EventId,
    },
}

/// A setting of another node, and of which revision of its settings it is.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RemoteSetting {
    /// The value.
    pub value: Value,
    /// The revision; a later change has a higher one.
    pub revision: u64,
}

/// Events of another node.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RemotePage {
    /// In the order asked for.
    pub events: Vec<Event>,
    /// Where to go on, if there are more: `after=` in the next query.
    pub next: Option<String>,
    /// Events that belong here and could not be read there: they are damaged, or the disk failed.
    pub unreadable: Vec<EventId>,
}

impl NodeAddress {
    /// How long to wait for an answer unless one says otherwise: OTP's timeout.
    pub const TIMEOUT: Duration = Duration::from_secs(5);

    pub(super) fn new(shared: Arc<Shared>, node: NodeName) -> Self {
        Self {
            shared,
            node,
            timeout: Self::TIMEOUT,
        }
    }

    /// The same with another time to wait for each answer.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The node.
    #[must_use]
    pub fn name(&self) -> &NodeName {
        &self.node
    }

    /// A setting of the node, or a table of them.
    ///
    /// # Errors
    ///
    /// [`NodeAskError`]; a retry is safe.
    pub async fn setting(&self, path: &str) -> Result<RemoteSetting, NodeAskError> {
        let path = path.to_owned();
        let setting = self
            .ask(CONFIG, &ConfigAsk::Get { path }, self.timeout)
            .await?;
        Ok(of(setting))
    }

    /// The same in a type.
    ///
    /// # Errors
    ///
    /// As [`setting`](Self::setting), and [`RemoteError::Unreadable`] when it is not of this type.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, NodeAskError> {
        let setting = self.setting(path).await?;
        from_value(&setting.value).map_err(|error| unreadable(error.to_string()))
    }

    /// Changes a setting of the node. Gives the revision that came of it.
    ///
    /// # Errors
    ///
    /// [`NodeAskError`]; [`RemoteError::Refused`] unless the node gives leave. [`RemoteError::may_have_run`] says whether a change may
    /// have been made without an answer.
    pub async fn update(&self, path: &str, value: impl Into<Value>) -> Result<u64, NodeAskError> {
        let ask = ConfigAsk::Update {
            path: path.to_owned(),
            value: value.into(),
            by: format!("node {}", self.shared.me.name),
        };
        let setting: Setting = self.ask(CONFIG, &ask, self.timeout).await?;
        Ok(setting.revision)
    }

    /// Follows a setting: the current value first, then each newer one. Whoever reads slowly sees the newest alone. It goes on over
    /// a lost connection, where the node is asked again.
    #[must_use]
    pub fn follow_setting(&self, path: &str) -> SettingFollower {
        SettingFollower {
            node: self.clone(),
            path: path.to_owned(),
            seen: None,
        }
    }

    /// Events of the node that fit a query, in the language of `underpin events query`; at most a thousand at once.
    ///
    /// # Errors
    ///
    /// [`NodeAskError`]; a retry is safe.
    pub async fn query(&self, query: &str) -> Result<RemotePage, NodeAskError> {
        let ask = EventsAsk::Query {
            query: query.to_owned(),
        };
        let found: Found = self.ask(EVENTS, &ask, self.timeout).await?;
        Ok(RemotePage {
            events: events(&found)?,
            next: found.next,
            unreadable: found.unreadable,
        })
    }

    /// Follows the events of the node that fit a filter, from now on or from the beginning of its log: none is left out and none comes
    /// twice, also over a lost connection or a restart of the node.
    #[must_use]
    pub fn follow_events(&self, filter: &str, from_beginning: bool) -> EventFollower {
        EventFollower {
            node: self.clone(),
            filter: filter.to_owned(),
            behind: from_beginning.then(|| BEGINNING.to_owned()),
            came: VecDeque::new(),
        }
    }

    /// The metrics of the node as they are now.
    ///
    /// # Errors
    ///
    /// [`NodeAskError`]; a retry is safe.
    pub async fn metrics(&self) -> Result<Snapshot, NodeAskError> {
        let pages: Pages = self.ask(TELEMETRY, &Nothing, self.timeout).await?;
        pages.whole().map_err(unreadable)
    }

    /// The supervision tree of the node, with the names that it has in JSON.
    ///
    /// # Errors
    ///
    /// [`NodeAskError`]; a retry is safe.
    pub async fn tree(&self) -> Result<Value, NodeAskError> {
        self.ask(TREE, &Nothing, self.timeout).await
    }

    async fn ask<Q: Serialize, A: DeserializeOwned>(
        &self,
        service: &str,
        ask: &Q,
        timeout: Duration,
    ) -> Result<A, NodeAskError> {
        let node = || self.node.clone();
        let link = self.shared.link(&self.node);
        let link = link.ok_or_else(|| RemoteError::NoConnection { node: node() })?;
        let request = encode(ask).map_err(|why| RemoteError::Unreadable {
            what: Part::Request,
            why,
        })?;
        let answer = link.call(service, &request, timeout).await?;
        let answer: Told<A> = decode(&answer).map_err(unreadable)?;
        answer.map_err(|why| NodeAskError::Said { node: node(), why })
    }

    /// Asks for what comes next until there is an answer: a node that is down is asked again.
    async fn ask_next<Q: Serialize, A: DeserializeOwned>(
        &self,
        service: &str,
        ask: &Q,
    ) -> Result<A, NodeAskError> {
        loop {
            let news = self.shared.news.subscribe();
            match self.ask(service, ask, WAIT_MAX + self.timeout).await {
                Err(NodeAskError::Remote(
                    RemoteError::NoConnection { .. }
                    | RemoteError::Lost { .. }
                    | RemoteError::Full { .. }
                    | RemoteError::Timeout { .. }
                    | RemoteError::NoService { .. },
                )) => {
                    let mut news = news;
                    // A change of who is up, or some time: whichever comes first.
                    let _ = tokio::time::timeout(AGAIN, news.recv()).await;
                }
                answer => return answer,
            }
        }
    }
}

/// When a node that did not answer is asked again, where nothing is heard of it.
const AGAIN: Duration = Duration::from_secs(1);

fn of(setting: Setting) -> RemoteSetting {
    RemoteSetting {
        value: setting.value.unwrap_or_default(),
        revision: setting.revision,
    }
}

fn unreadable(why: String) -> NodeAskError {
    RemoteError::Unreadable {
        what: Part::Answer,
        why,
    }
    .into()
}

fn events(found: &Found) -> Result<Vec<Event>, NodeAskError> {
    let events = found.events.iter().map(|event| match event {
        Value::Bytes(bytes) => {
            Event::from_bytes(bytes).map_err(|error| unreadable(error.to_string()))
        }
        _ => Err(unreadable("an event is no bytes".to_owned())),
    });
    events.collect()
}

impl fmt::Debug for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeAddress")
            .field("node", &self.node)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// Follows a setting of another node. From [`NodeAddress::follow_setting`].
#[derive(Debug)]
pub struct SettingFollower {
    node: NodeAddress,
    path: String,
    seen: Option<RemoteSetting>,
}

impl SettingFollower {
    /// Waits for the next value.
    ///
    /// # Errors
    ///
    /// [`NodeAskError::Said`] when there is no such setting.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a value that was not given out comes again.
    pub async fn next(&mut self) -> Result<RemoteSetting, NodeAskError> {
        loop {
            let path = self.path.clone();
            let ask = match &self.seen {
                None => ConfigAsk::Get { path },
                Some(seen) => ConfigAsk::Next {
                    path,
                    after: seen.revision,
                    wait_ms: millis(WAIT_MAX),
                },
            };
            let setting = of(self.node.ask_next(CONFIG, &ask).await?);
            let is_new = self
                .seen
                .as_ref()
                .is_none_or(|seen| seen.value != setting.value);
            self.seen = Some(setting.clone());
            if is_new {
                return Ok(setting);
            }
        }
    }
}

/// Follows events of another node. From [`NodeAddress::follow_events`].
#[derive(Debug)]
pub struct EventFollower {
    node: NodeAddress,
    filter: String,
    /// Where to go on; `None` is from now on.
    behind: Option<String>,
    came: VecDeque<Result<Event, EventId>>,
}

impl EventFollower {
    /// Takes the place from which it goes on, so that what is stored from then on is not left out. Without it, that is the first
    /// [`next`](Self::next).
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub async fn begin(&mut self) -> Result<(), NodeAskError> {
        if self.behind.is_none() {
            self.look(Duration::ZERO).await?;
        }
        Ok(())
    }

    /// Waits for the next event.
    ///
    /// # Errors
    ///
    /// [`NodeAskError::Said`] when the filter is none, or the node's store is down. [`NodeAskError::EventUnreadable`] in the place of an
    /// event that cannot be read there; the next call goes on behind it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: an event that was not given out comes again.
    pub async fn next(&mut self) -> Result<Event, NodeAskError> {
        loop {
            if let Some(event) = self.came.pop_front() {
                return event.map_err(|id| NodeAskError::EventUnreadable {
                    node: self.node.node.clone(),
                    id,
                });
            }
            self.begin().await?;
            if self.came.is_empty() {
                self.look(WAIT_MAX).await?;
            }
        }
    }

    async fn look(&mut self, wait: Duration) -> Result<(), NodeAskError> {
        let ask = EventsAsk::Next {
            filter: self.filter.clone(),
            behind: self.behind.clone(),
            wait_ms: millis(wait),
        };
        let found: Found = self.node.ask_next(EVENTS, &ask).await?;
        self.came.extend(events(&found)?.into_iter().map(Ok));
        self.came.extend(found.unreadable.into_iter().map(Err));
        self.behind = found.next.or_else(|| self.behind.take());
        Ok(())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
