//! The node's HTTP interface: health, metrics, events, settings, the tree. For this machine only.
//!
//! `GET /` lists every path and what its methods do. A browser gets a page there instead, which shows how the node is, its tree, events,
//! settings, metrics and the other nodes, keeps up with them, and changes nothing.
//!
//! Guarantees: requests that do not name this machine are refused, also those that a browser sends for a page of somebody
//! else; bodies, heads, requests and connections are limited; an answer of an API is JSON with `"version":1`, and an error
//! says what to do. An event answered with 200 or 201 is stored as the node's durability says; sent again with the same id and
//! time it is there once.
//! Not offered: encryption and passwords, and so no address but loopback.

mod api;
mod body;
mod cluster;
mod error;
mod events;
mod finding;
mod guard;
mod page;
mod patience;
mod query;
mod server;
mod settings;
mod tree;

use std::sync::Arc;

use crate::{
    config::Configuration,
    events::Events,
    ids::IdGenerator,
    otp::{ChildSpec, TreeLimits},
    telemetry::{Kind, Telemetry},
};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use server::{ListenError, Listening};

use body::Readers;
use server::Limits;

/// What the interface shows and changes.
#[derive(Debug, Clone)]
pub(crate) struct Interface {
    events: Events,
    config: Configuration,
    telemetry: Telemetry,
    ids: Arc<IdGenerator>,
    overview: Arc<dyn Overview>,
    readers: Readers,
    /// A place for each client that follows the log: most of the connections are for others.
    followers: Arc<Semaphore>,
    /// Cancelled when the interface stops.
    stop: CancellationToken,
}

/// How many clients may follow the log at once.
const FOLLOWERS_MAX: usize = 128;

impl Interface {
    pub(crate) fn new(
        events: &Events,
        config: &Configuration,
        telemetry: &Telemetry,
        ids: &Arc<IdGenerator>,
        overview: Arc<dyn Overview>,
    ) -> Self {
        telemetry.declare(&[(
            Kind::Counter,
            "underpin_http_requests",
            &["status"],
            "Requests to the HTTP interface, by the class of the answer.",
        )]);
        Self {
            events: events.clone(),
            config: config.clone(),
            telemetry: telemetry.clone(),
            ids: Arc::clone(ids),
            overview,
            readers: Readers::new(),
            followers: Arc::new(Semaphore::new(FOLLOWERS_MAX)),
            stop: CancellationToken::new(),
        }
    }
}

/// What only the whole node knows.
pub(crate) trait Overview: std::fmt::Debug + Send + Sync + 'static {
    /// How the node is doing, as the object that `/api/v1/status` answers with.
    fn status(&self) -> serde_json::Value;

    /// Its tree, or the part of it at `path`, with what is wrong at each place.
    fn tree(&self, path: Option<&str>, limits: TreeLimits) -> Option<serde_json::Value>;

    /// The other nodes, and how they are; `None` where it is in no cluster.
    fn cluster(&self) -> Option<serde_json::Value>;

    /// Has the node leave its cluster.
    fn leave(&self) -> futures_util::future::BoxFuture<'static, Result<(), String>>;

    /// Whether it takes work, or why not.
    fn ready(&self) -> Result<(), String>;
}

/// The interface as a supervised child. Its address stays bound while it restarts.
pub(crate) fn child_spec(
    id: &'static str,
    listening: Listening,
    interface: Interface,
) -> ChildSpec {
    ChildSpec::task(id, move |ctx| {
        let stop = ctx.cancellation();
        let interface = Interface {
            stop: stop.clone(),
            ..interface.clone()
        };
        let (listening, routes) = (listening.clone(), api::routes(interface));
        async move {
            server::serve(&listening, routes, Limits::default(), stop).await?;
            Ok(())
        }
    })
}
