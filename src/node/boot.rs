//! The start of a node: everything that can fail for outside reasons first, then the tree.

use std::{fs, path::Path, sync::Arc, time::Duration};

use super::{
    Node, NodeBuilder, NodeError, Services, Settings, keeper::Keeper, settings::Durability,
    watch::Watch, wiring,
};
use crate::{
    config::{self, BrokenFiles, Configuration, Loaded},
    events::{self, Events},
    ids::{IdGenerator, Identity, NodeId, NodeName},
    otp::{
        Budget, ChildSpec, Groups, Intensity, OnExceed, Shutdown, Supervisor, SupervisorSpec,
        TaskSupervisor,
    },
    resilience::{Backoff, BackoffError},
    telemetry::Telemetry,
};

/// What the tree is started from.
struct Ground {
    loaded: Loaded,
    settings: Settings,
    ids: Arc<IdGenerator>,
    identity: Option<Identity>,
    #[cfg(feature = "web")]
    listening: Option<crate::web::Listening>,
}

pub(super) async fn start(builder: NodeBuilder, name: NodeName) -> Result<Node, NodeError> {
    let prepared = tokio::task::spawn_blocking(move || {
        let ground = prepare(&builder, &name)?;
        Ok::<_, NodeError>((builder, name, ground))
    });
    let (builder, name, ground) = prepared.await.map_err(|_| NodeError::RuntimeGone)??;
    build(builder, name, ground).await
}

/// Folders, settings, identity, port: all that blocks, and all that a person may have got wrong.
fn prepare(builder: &NodeBuilder, name: &NodeName) -> Result<Ground, NodeError> {
    if let Some(folder) = &builder.folder {
        make(folder)?;
        make(&folder.join(EVENTS))?;
        make(&folder.join(CONFIG))?;
    }
    let (identity, ids) = identify(builder, builder.node_id)?;
    #[cfg(feature = "cluster")]
    let (identity, ids) = super::joining::agree(builder, name, identity, ids)?;
    #[cfg(not(feature = "cluster"))]
    let _ = name;
    let loaded = config::load(sources(builder))?;
    for misnamed in loaded.misnamed() {
        tracing::warn!("{misnamed}");
    }
    let settings = settings(&loaded);
    #[cfg(feature = "web")]
    let address = builder.http.then_some(settings.http.listen);
    #[cfg(feature = "web")]
    let listening = address.map(crate::web::Listening::bind).transpose()?;
    Ok(Ground {
        loaded,
        settings,
        ids,
        identity,
        #[cfg(feature = "web")]
        listening,
    })
}

/// Who the node is: as its folder says, unless `id` does.
pub(super) fn identify(
    builder: &NodeBuilder,
    id: Option<NodeId>,
) -> Result<(Option<Identity>, Arc<IdGenerator>), NodeError> {
    if let Some(folder) = &builder.folder {
        let identity = Identity::open(folder, id)?;
        let ids = identity.ids();
        return Ok((Some(identity), ids));
    }
    let id = id.unwrap_or_else(NodeId::random);
    Ok((None, Arc::new(IdGenerator::new(id))))
}

/// Where in the data folder the events are.
const EVENTS: &str = "events";
/// Where in the data folder the changed settings are.
const CONFIG: &str = "config";

/// Makes the folder where it is missing, for its owner's eyes alone.
fn make(folder: &Path) -> Result<(), NodeError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let unusable = |source| NodeError::Folder {
        folder: folder.to_owned(),
        source,
    };
    let mut dir = fs::DirBuilder::new();
    dir.recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(unusable)
}

fn sources(builder: &NodeBuilder) -> config::Sources {
    let sources = given(builder).broken_files(BrokenFiles::UseLastGood);
    match &builder.folder {
        Some(folder) => sources.keep_in(folder.join(CONFIG)),
        None => sources,
    }
}

/// What people say: files, environment and flags.
pub(super) fn given(builder: &NodeBuilder) -> config::Sources {
    let mut sources = (builder.tables)();
    if let Some(file) = &builder.file {
        sources = sources.file(file);
    }
    if let Some(folder) = &builder.conf_d {
        sources = sources.conf_d(folder);
    }
    let environment = builder.environment.clone();
    sources = sources.environment_from(move || environment.variables());
    if let Some(prefix) = &builder.app_prefix {
        sources = sources.app_prefix(prefix);
    }
    for setting in &builder.sets {
        sources = sources.set(setting);
    }
    sources
}

/// The node's own table, which is valid or `load` had refused it.
fn settings(loaded: &Loaded) -> Settings {
    let table = loaded.value(config::Sources::NODE).ok();
    let settings = table.and_then(|table| crate::value::from_value(&table).ok());
    settings.unwrap_or_default()
}

#[expect(
    clippy::too_many_lines,
    reason = "one line for each part, in the order of the start"
)]
async fn build(builder: NodeBuilder, name: NodeName, ground: Ground) -> Result<Node, NodeError> {
    let Ground {
        loaded,
        mut settings,
        ids,
        identity,
        #[cfg(feature = "web")]
        listening,
    } = ground;
    let disk = disk_of_events(&builder);
    if disk.is_none() {
        settings.events.durability = Durability::Memory;
    }
    // In memory the disk is never touched.
    let disk = disk.unwrap_or_else(|| Arc::new(events::Folder::new(EVENTS)));
    let telemetry = Telemetry::new(settings.telemetry.options());
    let options = settings.events.options();
    let events = Events::new(options, disk, Arc::clone(&ids), &telemetry);
    #[cfg(feature = "capture")]
    let capture = match &builder.capture {
        None => None,
        Some(options) => Some(crate::capture::Capture::new(&events, options)?),
    };
    let config = Configuration::new(loaded, config::Options::default(), &telemetry);
    let tasks = TaskSupervisor::new();
    let groups = Groups::new(name.as_str());
    #[cfg(feature = "cluster")]
    let incarnation = identity.as_ref().map_or_else(
        || fastrand::u64(1..),
        |identity| identity.incarnation().get(),
    );
    let keeper = Keeper::new(identity, config.clone());
    #[cfg(feature = "cluster")]
    let cluster = match builder.cluster {
        None => None,
        Some(options) => {
            let me = (name.clone(), ids.node(), incarnation);
            match super::joining::room(options, me, &groups, &telemetry) {
                Ok(cluster) => Some(cluster),
                Err(error) => {
                    keeper.close().await;
                    return Err(error.into());
                }
            }
        }
    };
    let in_memory = settings.events.durability == Durability::Memory;
    let watch = Watch::new(
        name, &events, &config, &telemetry, &keeper, &groups, in_memory,
    );
    #[cfg(feature = "capture")]
    let watch = watch.with_capture(capture);
    #[cfg(feature = "cluster")]
    let watch = watch.with_cluster(cluster.clone());
    let watch = Arc::new(watch);

    let mut root = SupervisorSpec::new(ROOT, NEVER)
        .child(steady(telemetry.child_spec()))
        .child(steady(events.child_spec().shutdown(FLUSH)))
        .child(steady(config.child_spec()))
        .child(steady(tasks.child_spec("tasks")))
        .child(steady(wiring::spec(&watch, &keeper)));
    #[cfg(feature = "cluster")]
    if let Some(cluster) = &cluster {
        root = root.child(steady(cluster.child_spec()));
    }
    #[cfg(feature = "web")]
    if let Some(listening) = &listening {
        let interface = super::view::interface(&watch, &ids);
        root = root.child(steady(crate::web::child_spec(
            "web",
            listening.clone(),
            interface,
        )));
    }
    let services = Services {
        config: config.clone(),
        events: events.clone(),
        telemetry: telemetry.clone(),
        tasks: tasks.clone(),
        groups: groups.clone(),
        ids: Arc::clone(&ids),
        #[cfg(feature = "cluster")]
        cluster: cluster.clone(),
    };
    let app_spec = builder.children.into_spec(builder.app, &services);
    let app = app_spec.handle();
    root = root.child(patient(ChildSpec::supervisor(app_spec)));
    let root_handle = root.handle();
    #[cfg(feature = "cluster")]
    if let Some(cluster) = &cluster {
        cluster.offer(crate::cluster::Offered {
            config: config.clone(),
            events: events.clone(),
            telemetry: telemetry.clone(),
            root: root_handle.clone(),
        });
    }
    watch.look_at(root_handle.clone());

    let supervisor = match Supervisor::start(root).await {
        Ok(supervisor) => supervisor,
        Err(error) => {
            keeper.close().await;
            return Err(error.into());
        }
    };
    watch.ready();
    Ok(Node {
        supervisor,
        app,
        events,
        config,
        telemetry,
        tasks,
        groups,
        ids,
        keeper,
        watch,
        #[cfg(feature = "cluster")]
        cluster,
        #[cfg(feature = "web")]
        http: listening.map(|listening| listening.address()),
        stopped: false,
    })
}

/// Where the events are kept; `None` in memory.
fn disk_of_events(builder: &NodeBuilder) -> Option<Arc<dyn events::Disk>> {
    #[cfg(feature = "testing")]
    if let Some(disk) = &builder.events_disk {
        return Some(Arc::clone(disk));
    }
    let folder = builder.folder.as_ref()?;
    Some(Arc::new(events::Folder::new(folder.join(EVENTS))))
}

/// The id of the root of every node's tree.
pub(super) const ROOT: &str = "node";

/// The root has no intensity of its own to spend: each of its children has a budget that ends in trying slowly.
const NEVER: Intensity = Intensity::new(0, Duration::from_secs(1));

/// How long the events may take to be flushed: OTP's limit for a worker. What was acknowledged is stored already; a disk that
/// takes longer is stuck, and whoever stops the node should not wait for it.
const FLUSH: Shutdown = Shutdown::WORKER;

/// A part of the node: back within milliseconds after a crash, also after the tenth in a row; a part that goes on crashing is
/// tried once a second for ever.
fn steady(child: ChildSpec) -> ChildSpec {
    let backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(50));
    keep_trying(child, backoff, Duration::from_secs(1))
}

/// The program's own tree: it may have a reason to fail that takes a while to go.
fn patient(child: ChildSpec) -> ChildSpec {
    let pause = Duration::from_secs(10);
    let backoff = Backoff::new(Duration::from_millis(100), pause);
    keep_trying(child, backoff, pause)
}

fn keep_trying(
    child: ChildSpec,
    backoff: Result<Backoff, BackoffError>,
    pause: Duration,
) -> ChildSpec {
    let intensity = Intensity::new(20, pause * 10);
    let child = child.budget(Budget::new(intensity, OnExceed::SlowRetry(pause)));
    match backoff {
        Ok(backoff) => child.backoff(backoff.with_reset_after(pause)),
        Err(_) => child,
    }
}
