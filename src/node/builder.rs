use std::{ffi::OsString, path::PathBuf, sync::Arc};

use super::{Node, NodeError, Settings, boot};
use crate::{
    config::{ConfigError, Configuration, FreeTable, Problem, Schema, Sources, load, template},
    events::Events,
    ids::{IdGenerator, NodeId, NodeName},
    otp::{ChildSpec, Groups, Intensity, SupervisorSpec, TaskSupervisor},
    telemetry::Telemetry,
};

/// Says what a node is to be. [`Node::builder`] begins one; [`start`](Self::start) starts it.
///
/// Without anything said: named `underpin`, events and settings kept in `./underpin-data`, no HTTP interface, no children.
#[derive(Debug)]
pub struct NodeBuilder {
    pub(super) name: String,
    pub(super) node_id: Option<NodeId>,
    /// `None` keeps nothing.
    pub(super) folder: Option<PathBuf>,
    #[cfg(feature = "web")]
    pub(super) http: bool,
    pub(super) file: Option<PathBuf>,
    pub(super) conf_d: Option<PathBuf>,
    pub(super) environment: Environment,
    pub(super) sets: Vec<String>,
    pub(super) app_prefix: Option<String>,
    pub(super) tables: fn() -> Sources,
    pub(super) app: SupervisorSpec,
    pub(super) children: Children,
    pub(super) allow_panic_abort: bool,
    #[cfg(feature = "capture")]
    pub(super) capture: Option<crate::capture::Options>,
    #[cfg(feature = "cluster")]
    pub(super) cluster: Option<crate::cluster::ClusterOptions>,
    #[cfg(feature = "testing")]
    pub(super) events_disk: Option<Arc<dyn crate::events::Disk>>,
}

/// The services of a node, for those who are to use them: each survives restarts and is cheap to clone.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Services {
    /// The settings.
    pub config: Configuration,
    /// The event store.
    pub events: Events,
    /// The metrics.
    pub telemetry: Telemetry,
    /// One-off work.
    pub tasks: TaskSupervisor,
    /// The groups of actors of this node.
    pub groups: Groups,
    /// The node's generator of event ids.
    pub ids: Arc<IdGenerator>,
    /// The node's part in a cluster, where it is in one.
    #[cfg(feature = "cluster")]
    pub cluster: Option<crate::cluster::Cluster>,
}

/// Gives the variables of the moment.
#[derive(Clone)]
pub(super) struct Environment(Arc<dyn Fn() -> Vec<(OsString, OsString)> + Send + Sync>);

impl Environment {
    pub(super) fn variables(&self) -> Vec<(OsString, OsString)> {
        (self.0)()
    }
}

impl Default for Environment {
    fn default() -> Self {
        Self(Arc::new(|| std::env::vars_os().collect()))
    }
}

impl std::fmt::Debug for Environment {
    /// Without the variables, some of which are secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment").finish_non_exhaustive()
    }
}

/// The program's children, in the order in which they were said.
#[derive(Default)]
pub(super) struct Children(Vec<MakeChild>);

type MakeChild = Box<dyn FnOnce(&Services) -> ChildSpec + Send>;

impl Children {
    /// The supervisor with all of them.
    pub(super) fn into_spec(self, app: SupervisorSpec, services: &Services) -> SupervisorSpec {
        let children = self.0.into_iter().map(|make| make(services));
        children.fold(app, SupervisorSpec::child)
    }
}

impl std::fmt::Debug for Children {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Children").field(&self.0.len()).finish()
    }
}

impl Default for NodeBuilder {
    fn default() -> Self {
        Self {
            name: "underpin".to_owned(),
            node_id: None,
            folder: Some(PathBuf::from("underpin-data")),
            #[cfg(feature = "web")]
            http: false,
            file: None,
            conf_d: None,
            environment: Environment::default(),
            sets: Vec::new(),
            app_prefix: None,
            tables: Sources::new::<Settings, FreeTable>,
            app: SupervisorSpec::new("app", APP_INTENSITY),
            children: Children::default(),
            allow_panic_abort: false,
            #[cfg(feature = "capture")]
            capture: None,
            #[cfg(feature = "cluster")]
            cluster: None,
            #[cfg(feature = "testing")]
            events_disk: None,
        }
    }
}

/// Elixir's default for a supervisor. The embedder's own [`NodeBuilder::app`] says its own.
const APP_INTENSITY: Intensity = Intensity::new(3, std::time::Duration::from_secs(5));

impl NodeBuilder {
    /// The node's name, as health and logs show it.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The node's number in its event ids. Without it, one is drawn at random and kept in the data folder.
    #[must_use]
    pub fn node_id(mut self, id: NodeId) -> Self {
        self.node_id = Some(id);
        self
    }

    /// Where events, changed settings and the node's identity are kept. One node at a time can use it.
    #[must_use]
    pub fn data_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Keeps everything in memory: no folder, and nothing is left when the node stops.
    #[must_use]
    pub fn memory(mut self) -> Self {
        self.folder = None;
        self
    }

    /// A settings file that must be there.
    #[must_use]
    pub fn config_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.file = Some(file.into());
        self
    }

    /// A folder of further settings files, laid over the file in the order of their names.
    #[must_use]
    pub fn conf_d(mut self, folder: impl Into<PathBuf>) -> Self {
        self.conf_d = Some(folder.into());
        self
    }

    /// A setting that wins over files and environment, as in `underpin.events.durability=interval`.
    #[must_use]
    pub fn set(mut self, setting: impl Into<String>) -> Self {
        self.sets.push(setting.into());
        self
    }

    /// Does not look at the process's environment for settings.
    #[must_use]
    pub fn without_environment(self) -> Self {
        self.environment_from(Vec::new)
    }

    /// Another environment than the process's own, looked at anew by each reload of the settings.
    #[must_use]
    pub fn environment_from<I>(mut self, look: impl Fn() -> I + Send + Sync + 'static) -> Self
    where
        I: IntoIterator<Item = (OsString, OsString)>,
    {
        self.environment = Environment(Arc::new(move || look().into_iter().collect()));
        self
    }

    /// The type of the program's own settings, the table `app`. See [`Node::app_config`].
    #[must_use]
    pub fn app_config<T: Schema>(mut self) -> Self {
        self.tables = Sources::new::<Settings, T>;
        self
    }

    /// A prefix of the program's own for environment variables: with `SHOP`, `SHOP__PORT` is `app.port`.
    #[must_use]
    pub fn app_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.app_prefix = Some(prefix.into());
        self
    }

    /// Turns the HTTP interface on, at this loopback address; port 0 takes any that is free.
    #[cfg(feature = "web")]
    #[must_use]
    pub fn http(mut self, address: impl std::fmt::Display) -> Self {
        self.sets.push(format!("underpin.http.listen={address}"));
        self.http = true;
        self
    }

    /// Turns the HTTP interface on, where the setting `underpin.http.listen` says.
    #[cfg(feature = "web")]
    #[must_use]
    pub fn serve_http(mut self) -> Self {
        self.http = true;
        self
    }

    /// Begins [`Node::capture`] with the node, with these options. Without this, the first call of it begins it with the default ones.
    ///
    /// ```
    /// use underpin::{capture, node::Node};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let options = capture::Options { filter: "warn,shop=debug".into(), queue_bytes: 4 << 20, ..Default::default() };
    /// let node = Node::builder().memory().capture(options).start().await?;
    /// # node.shutdown().await;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "capture")]
    #[must_use]
    pub fn capture(mut self, options: crate::capture::Options) -> Self {
        self.capture = Some(options);
        self
    }

    /// Puts the node into a cluster, under its [`name`](Self::name), which no other node there may have.
    ///
    /// A [`node_id`](Self::node_id) that is not configured is agreed with the nodes to join before any event id is made: one that is
    /// taken is drawn anew and kept. When none of them answers within a second, the node starts with the one it has, and is refused
    /// later should that be taken.
    #[cfg(feature = "cluster")]
    #[must_use]
    pub fn cluster(mut self, options: crate::cluster::ClusterOptions) -> Self {
        self.cluster = Some(options);
        self
    }

    /// One more child of the program's own, under the supervisor `app`. It starts when the node's services are ready, and
    /// stops before them.
    #[must_use]
    pub fn child(self, child: ChildSpec) -> Self {
        self.child_with(|_| child)
    }

    /// One more child of the program's own that uses the node's services: `make` gets their handles before anything has
    /// started. It starts and stops as one given to [`child`](Self::child), in the order in which they were said.
    ///
    /// ```
    /// use underpin::{node::Node, otp::ChildSpec};
    ///
    /// # async fn story() -> Result<(), underpin::node::NodeError> {
    /// let node = Node::builder().memory().child_with(|services| {
    ///     let (config, events) = (services.config.clone(), services.events.clone());
    ///     ChildSpec::task("greeter", move |_| {
    ///         let (config, events) = (config.clone(), events.clone());
    ///         async move {
    ///             let words = config.get_or("app.greeting", "hello".to_owned());
    ///             events.store(events.event("greeted").data(words).build()?).await?;
    ///             Ok(())
    ///         }
    ///     })
    /// });
    /// let node = node.start().await?;
    /// # node.shutdown().await;
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().expect("a runtime").block_on(story()).expect("the story holds");
    /// ```
    #[must_use]
    pub fn child_with(
        mut self,
        make: impl FnOnce(&Services) -> ChildSpec + Send + 'static,
    ) -> Self {
        self.children.0.push(Box::new(make));
        self
    }

    /// The supervisor of the program's own children, with its own intensity, in place of the default of 3 restarts in 5 s.
    /// The children of [`child`](Self::child) are added to it.
    #[must_use]
    pub fn app(mut self, app: SupervisorSpec) -> Self {
        self.app = app;
        self
    }

    /// Starts even though the program is built with `panic = "abort"`, which leaves nothing to heal.
    #[must_use]
    pub fn allow_panic_abort(mut self) -> Self {
        self.allow_panic_abort = true;
        self
    }

    /// Keeps the events on this disk, to see what a program does when it fails. Everything else is kept where it would be.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn events_disk(mut self, disk: Arc<dyn crate::events::Disk>) -> Self {
        self.events_disk = Some(disk);
        self
    }

    /// Reads and validates the settings that the node would start with, and starts nothing: files, environment and what was
    /// [`set`](Self::set). What is kept of changes while running is left out. It blocks the thread.
    ///
    /// Gives the variables that were probably meant to name a setting and do not, as
    /// [`Loaded::misnamed`](crate::config::Loaded::misnamed): none of them keeps the node from starting.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with all that is wrong.
    pub fn check_config(&self) -> Result<Vec<Problem>, ConfigError> {
        load(boot::given(self)).map(|loaded| loaded.misnamed().to_vec())
    }

    /// A settings file with every setting of the node and of the program, its default and what is known of it, commented out.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when the defaults of the program's type cannot be used: a defect of the program.
    pub fn config_template(&self) -> Result<String, ConfigError> {
        template(&(self.tables)())
    }

    /// Starts the node: settings first, then its services one after the other, then the program's children.
    ///
    /// # Errors
    ///
    /// [`NodeError`]; what had started is stopped again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops abruptly what has started so far; the data folder is free a moment later.
    pub async fn start(self) -> Result<Node, NodeError> {
        if cfg!(panic = "abort") && !self.allow_panic_abort {
            return Err(NodeError::PanicAborts);
        }
        let name = NodeName::new(Arc::<str>::from(self.name.as_str()))?;
        boot::start(self, name).await
    }
}
