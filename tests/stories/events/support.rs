//! A store of its own for each story.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use tempfile::TempDir;
use underpin::{
    events::{Disk, Event, Events, EventsHealth, Folder, Options, Page, Timestamp},
    ids::{CorrelationId, EventId, IdGenerator, NodeId},
    otp::{Intensity, Supervisor, SupervisorSpec},
    telemetry::{self, Telemetry},
    value::Value,
};

/// A supervised store in a folder of its own.
pub(crate) struct Store {
    pub(crate) events: Events,
    pub(crate) supervisor: Supervisor,
    pub(crate) folder: Arc<TempDir>,
    pub(crate) options: Options,
}

/// A supervised store on a given disk.
pub(crate) async fn on(disk: Arc<dyn Disk>, options: Options) -> (Events, Supervisor) {
    let events = events_on(disk, options);
    let supervisor = supervise(&events).await;
    (events, supervisor)
}

impl Store {
    pub(crate) async fn durable() -> Self {
        Self::with(Options::default()).await
    }

    pub(crate) async fn memory() -> Self {
        Self::with(Options::memory()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let folder = Arc::new(tempfile::tempdir().expect("folder for the test"));
        Self::open(folder, options).await
    }

    pub(crate) async fn open(folder: Arc<TempDir>, options: Options) -> Self {
        let events = events_in(&folder, options.clone());
        let supervisor = supervise(&events).await;
        Self {
            events,
            supervisor,
            folder,
            options,
        }
    }

    /// Stops the store in good order and opens its folder again.
    pub(crate) async fn reopen(self) -> Self {
        self.supervisor.stop().await;
        Self::open(self.folder, self.options).await
    }

    /// The files of the folder with this ending, in the order of their names.
    pub(crate) fn files(&self, ending: &str) -> Vec<PathBuf> {
        let files = fs::read_dir(self.folder.path()).expect("readable");
        let mut files: Vec<_> = files
            .map(|file| file.expect("readable").path())
            .filter(|path| path.extension().is_some_and(|found| found == ending))
            .collect();
        files.sort();
        files
    }
}

pub(crate) fn events_in(folder: &TempDir, options: Options) -> Events {
    events_on(Arc::new(Folder::new(folder.path())), options)
}

pub(crate) fn events_on(disk: Arc<dyn Disk>, options: Options) -> Events {
    let ids = Arc::new(IdGenerator::new(NodeId::new(7).expect("small number")));
    let telemetry = Telemetry::new(telemetry::Options::default());
    Events::new(options, disk, ids, &telemetry)
}

pub(crate) async fn supervise(events: &Events) -> Supervisor {
    let spec = SupervisorSpec::new("root", Intensity::new(1000, Duration::from_secs(1)));
    Supervisor::start(spec.child(events.child_spec()))
        .await
        .expect("store opens")
}

pub(crate) fn id(id: u64) -> EventId {
    EventId::new(id).expect("test id is valid")
}

pub(crate) fn correlation(text: &str) -> CorrelationId {
    CorrelationId::new(text).expect("short text")
}

/// An event with everything said.
pub(crate) fn event(number: u64, kind: &str, nanos: i64) -> Event {
    underpin::events::EventBuilder::new(id(number), kind)
        .time(Timestamp::from_nanos(nanos))
        .data(Value::from(i64::try_from(number).expect("small number")))
        .build()
        .expect("event is within its limits")
}

/// Events 1 to `n` of kind `step`, each at its number of nanoseconds.
pub(crate) fn steps(n: u64) -> Vec<Event> {
    (1..=n)
        .map(|number| event(number, "step", i64::try_from(number).expect("small number")))
        .collect()
}

pub(crate) fn ids_of(page: &Page) -> Vec<u64> {
    page.events.iter().map(|event| event.id().get()).collect()
}

/// Kills the store's actor, once it runs.
pub(crate) async fn kill(store: &Store) {
    kill_actor(&store.events).await;
}

pub(crate) async fn kill_actor(events: &Events) {
    until("the actor", || events.actor().is_some()).await;
    if let Some(actor) = events.actor() {
        actor.kill();
    }
}

/// Waits until `holds`; a story that waits in vain fails.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .unwrap_or_else(|_| panic!("{what} did not come about"));
}

pub(crate) fn is_healthy(events: &Events) -> bool {
    events.health() == EventsHealth::Healthy
}
