#[cfg(feature = "web")]
use std::net::SocketAddr;
use std::{sync::Arc, time::Duration};

use super::{
    Health, NodeBuilder,
    keeper::Keeper,
    watch::{Phase, Watch},
};
use crate::{
    config::{Config, Configuration, Schema},
    events::Events,
    ids::{IdGenerator, NodeId},
    otp::{Groups, ShutdownReport, Supervisor, TaskSupervisor, Tree},
    telemetry::Telemetry,
};

/// A running node: configuration, events and telemetry under one supervisor, and the program's own children beside them.
///
/// ```
/// use underpin::node::Node;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = Node::builder().memory().start().await?;
///
/// let event = node.events().event("greeting").build()?;
/// let id = node.events().store(event).await?;
/// assert!(node.events().get(id).await?.is_some());
///
/// node.shutdown().await;
/// # Ok(()) }
/// ```
///
/// End it with [`shutdown`](Self::shutdown). A node that is dropped without it is stopped abruptly, and says so in the log;
/// what was acknowledged is stored all the same.
#[derive(Debug)]
pub struct Node {
    pub(super) supervisor: Supervisor,
    pub(super) app: Supervisor,
    pub(super) events: Events,
    pub(super) config: Configuration,
    pub(super) telemetry: Telemetry,
    pub(super) tasks: TaskSupervisor,
    pub(super) groups: Groups,
    pub(super) ids: Arc<IdGenerator>,
    pub(super) keeper: Keeper,
    pub(super) watch: Arc<Watch>,
    #[cfg(feature = "cluster")]
    pub(super) cluster: Option<crate::cluster::Cluster>,
    #[cfg(feature = "web")]
    pub(super) http: Option<SocketAddr>,
    pub(super) stopped: bool,
}

impl Node {
    /// Says what a node is to be.
    #[must_use]
    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.watch.name.as_str()
    }

    /// Its number, as it stands in its event ids.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.ids.node()
    }

    /// Its events.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Its settings, and the program's, as one document.
    #[must_use]
    pub fn config(&self) -> &Configuration {
        &self.config
    }

    /// The program's settings in their type; `None` unless the builder was told this type.
    #[must_use]
    pub fn app_config<T: Schema>(&self) -> Option<Config<T>> {
        self.config.app::<T>()
    }

    /// Its metrics and telemetry events.
    #[must_use]
    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// Runs one-off work under supervision.
    #[must_use]
    pub fn tasks(&self) -> &TaskSupervisor {
        &self.tasks
    }

    /// Its groups of actors, which no other node in this process meets.
    #[must_use]
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// Its part in a cluster, where it is in one.
    #[cfg(feature = "cluster")]
    #[must_use]
    pub fn cluster(&self) -> Option<&crate::cluster::Cluster> {
        self.cluster.as_ref()
    }

    /// The supervisor of the program's own children; more can be started while the node runs.
    #[must_use]
    pub fn app(&self) -> &Supervisor {
        &self.app
    }

    /// The root of its tree.
    #[must_use]
    pub fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    /// Makes ids that no other event of this node has.
    #[must_use]
    pub fn ids(&self) -> &Arc<IdGenerator> {
        &self.ids
    }

    /// A capture of what the program does into the node's events, counted in its metrics. The first call begins it, with the default
    /// options, unless [`NodeBuilder::capture`] had it begin with the node; each further one gives the same. It is flushed and closed
    /// when the node shuts down.
    #[cfg(feature = "capture")]
    #[must_use]
    pub fn capture(&self) -> &crate::capture::Capture {
        self.watch.capture()
    }

    /// Where the HTTP interface listens, when it is on.
    #[cfg(feature = "web")]
    #[must_use]
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http
    }

    /// How it is doing. Always an answer, never an error; nobody is waited for.
    #[must_use]
    pub fn health(&self) -> Health {
        self.watch.health()
    }

    /// Whether it has started and not begun to stop.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.watch.phase() == Phase::Running
    }

    /// How long it has been there.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.watch.uptime()
    }

    /// A picture of its whole tree.
    #[must_use]
    pub fn tree(&self) -> Option<Tree> {
        self.watch.tree()
    }

    /// Stops everything in order: the program's children, the interface, then the services, events flushed. Says how each
    /// part went. A part that does not stop in its time is cut off, so that a disk that hangs does not hold this up for more than
    /// some seconds; the program's own children have the time that their specs say.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: dropping the future stops abruptly what has not stopped yet.
    pub async fn shutdown(mut self) -> ShutdownReport {
        self.watch.stopping();
        let report = self.supervisor.stop().await;
        self.stopped = true;
        self.keeper.close().await;
        report
    }

    /// Runs until the process is told to end (SIGTERM, or Ctrl-C), then shuts down. A second signal ends the process at
    /// once. SIGHUP reloads the settings.
    ///
    /// This installs handlers for these signals; nothing else of underpin does.
    ///
    /// # Errors
    ///
    /// The system refuses a signal handler; the node has been shut down.
    pub async fn run_until_signal(self) -> std::io::Result<ShutdownReport> {
        use tokio::signal::unix::{SignalKind, signal};
        let handlers = (
            signal(SignalKind::terminate()),
            signal(SignalKind::interrupt()),
            signal(SignalKind::hangup()),
        );
        let (mut terminate, mut interrupt, mut hangup) = match handlers {
            (Ok(terminate), Ok(interrupt), Ok(hangup)) => (terminate, interrupt, hangup),
            (Err(error), _, _) | (_, Err(error), _) | (_, _, Err(error)) => {
                self.shutdown().await;
                return Err(error);
            }
        };
        tokio::select! {
            _ = terminate.recv() => tracing::info!("told to end"),
            _ = interrupt.recv() => tracing::info!("interrupted"),
            () = reload_at(&mut hangup, &self.config) => {}
        }
        tokio::select! {
            report = self.shutdown() => Ok(report),
            _ = terminate.recv() => std::process::exit(1),
            _ = interrupt.recv() => std::process::exit(1),
        }
    }
}

/// Reloads the settings at each signal, for ever. What is wrong with them is in the log and in health.
async fn reload_at(hangup: &mut tokio::signal::unix::Signal, config: &Configuration) {
    loop {
        match hangup.recv().await {
            Some(()) => drop(config.reload("SIGHUP").await),
            None => std::future::pending().await,
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.stopped {
            return;
        }
        self.watch.stopping();
        if let Some(root) = self.supervisor.actor() {
            tracing::warn!(
                node = self.watch.name.as_str(),
                "dropped without shutdown; stopped abruptly"
            );
            root.kill();
        }
    }
}
