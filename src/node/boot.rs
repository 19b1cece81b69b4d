//! The start of a node: everything that can fail for outside reasons first, then the tree.

use std::{fs, path::Path, sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::{
    Node, NodeBuilder, NodeError, Settings, keeper::Keeper, settings::Durability, watch::Watch,
    wiring,
};
use crate::{
    config::{self, BrokenFiles, Configuration, Loaded},
    events::{self, Events},
    ids::{IdGenerator, Identity, NodeId, NodeName},
    otp::{Budget, ChildSpec, Intensity, OnExceed, Supervisor, SupervisorSpec, TaskSupervisor},
    resilience::Backoff,
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
        let ground = prepare(&builder)?;
        Ok::<_, NodeError>((builder, ground))
    });
    let (builder, ground) = prepared.await.map_err(|_| NodeError::RuntimeGone)??;
    build(builder, name, ground).await
}

/// Folders, settings, identity, port: all that blocks, and all that a person may have got wrong.
fn prepare(builder: &NodeBuilder) -> Result<Ground, NodeError> {
    if let Some(folder) = &builder.folder {
        make(folder)?;
    }
    let identity = match &builder.folder {
        Some(folder) => Some(Identity::open(folder, builder.node_id)?),
        None => None,
    };
    let ids = identity.as_ref().map_or_else(
        || {
            Arc::new(IdGenerator::new(
                builder.node_id.unwrap_or_else(NodeId::random),
            ))
        },
        Identity::ids,
    );
    let loaded = config::load(sources(builder))?;
    let settings = settings(&loaded);
    #[cfg(feature = "web")]
    let listening = match builder.http {
        true => Some(crate::web::Listening::bind(settings.http.listen)?),
        false => None,
    };
    Ok(Ground {
        loaded,
        settings,
        ids,
        identity,
        #[cfg(feature = "web")]
        listening,
    })
}

/// Makes the folder, for its owner's eyes alone, and tries to write there.
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
    let mut sources = (builder.tables)().broken_files(BrokenFiles::UseLastGood);
    if let Some(file) = &builder.file {
        sources = sources.file(file);
    }
    if let Some(folder) = &builder.conf_d {
        sources = sources.conf_d(folder);
    }
    if builder.environment {
        sources = sources.environment(std::env::vars_os());
    }
    if let Some(prefix) = &builder.app_prefix {
        sources = sources.app_prefix(prefix);
    }
    for setting in &builder.sets {
        sources = sources.set(setting);
    }
    if let Some(folder) = &builder.folder {
        sources = sources.keep_in(folder.join("config"));
    }
    sources
}

/// The node's own table, which is valid or `load` had refused it.
fn settings(loaded: &Loaded) -> Settings {
    let table = loaded.value(config::Sources::NODE).ok();
    let settings = table.and_then(|table| crate::value::from_value(&table).ok());
    settings.unwrap_or_default()
}

async fn build(builder: NodeBuilder, name: NodeName, ground: Ground) -> Result<Node, NodeError> {
    let Ground {
        loaded,
        mut settings,
        ids,
        identity,
        #[cfg(feature = "web")]
        listening,
    } = ground;
    if builder.folder.is_none() {
        settings.events.durability = Durability::Memory;
    }
    let telemetry = Telemetry::new(settings.telemetry.options());
    let events = open_events(&settings, builder.folder.as_deref(), &ids, &telemetry);
    let config = Configuration::new(loaded, config::Options::default(), &telemetry);
    let tasks = TaskSupervisor::new();
    let app = builder.app.handle();
    let identity = Arc::new(Mutex::new(identity));
    let in_memory = settings.events.durability == Durability::Memory;
    let node = ids.node();
    let watch = Watch::new(name, node, &events, &config, &telemetry, in_memory);
    let watch = Arc::new(watch);

    let mut root = SupervisorSpec::new(ROOT, NEVER)
        .child(steady(telemetry.child_spec()))
        .child(steady(events.child_spec()))
        .child(steady(config.child_spec()))
        .child(steady(tasks.child_spec("tasks")))
        .child(steady(wiring::spec(&watch, Keeper::new(&identity))));
    #[cfg(feature = "web")]
    if let Some(listening) = &listening {
        let interface = super::view::interface(&watch, &ids);
        root = root.child(steady(crate::web::child_spec(
            "web",
            listening.clone(),
            interface,
        )));
    }
    root = root.child(patient(ChildSpec::supervisor(builder.app)));
    let root_handle = root.handle();
    watch.look_at(root_handle.clone());

    let supervisor = Supervisor::start(root).await?;
    watch.ready();
    Ok(Node {
        supervisor,
        app,
        events,
        config,
        telemetry,
        tasks,
        ids,
        identity,
        watch,
        #[cfg(feature = "web")]
        http: listening.map(|listening| listening.address()),
        stopped: false,
    })
}

fn open_events(
    settings: &Settings,
    folder: Option<&Path>,
    ids: &Arc<IdGenerator>,
    telemetry: &Telemetry,
) -> Events {
    let options = settings.events.options();
    // In memory the folder is never touched.
    let folder = folder.unwrap_or(Path::new("")).join("events");
    Events::new(
        options,
        Arc::new(events::Folder::new(folder)),
        Arc::clone(ids),
        telemetry,
    )
}

/// The id of the root of every node's tree.
pub(super) const ROOT: &str = "node";

/// The root has no intensity of its own to spend: each of its children has a budget that ends in trying slowly.
const NEVER: Intensity = Intensity::new(0, Duration::from_secs(1));

/// A service of the node: back within milliseconds after a first crash, and tried at least once a second for ever.
fn steady(child: ChildSpec) -> ChildSpec {
    keep_trying(child, Duration::from_millis(1), Duration::from_secs(1))
}

/// The program's own tree: it may have a reason to fail that takes a while to go.
fn patient(child: ChildSpec) -> ChildSpec {
    keep_trying(child, Duration::from_millis(100), Duration::from_secs(10))
}

fn keep_trying(child: ChildSpec, base: Duration, cap: Duration) -> ChildSpec {
    let budget = Budget::new(Intensity::new(20, cap * 10), OnExceed::SlowRetry(cap));
    match Backoff::new(base, cap) {
        Ok(backoff) => child.backoff(backoff.with_reset_after(cap)).budget(budget),
        Err(_) => child.budget(budget),
    }
}
