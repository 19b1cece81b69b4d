//! underpin's event store, supervised.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Result;
use tokio::runtime::Runtime;
use underpin::{
    events::{Events, Folder, Options},
    ids::{IdGenerator, NodeId},
    otp::{Intensity, Supervisor, SupervisorSpec},
    telemetry::{self, Telemetry},
};

/// A running store. Its folder has to outlive it.
pub(super) struct Store {
    pub(super) events: Events,
    supervisor: Supervisor,
}

impl Store {
    /// A store without a disk, with room for all that a round stores.
    pub(super) fn in_memory(runtime: &Runtime) -> Result<Self> {
        let options = Options {
            hot_bytes: 4 << 30,
            ..Options::memory()
        };
        Self::start(runtime, options, Path::new(""))
    }

    /// A store that answers when an event is synced.
    pub(super) fn on_disk(runtime: &Runtime, folder: &Path) -> Result<Self> {
        Self::start(runtime, Options::default(), folder)
    }

    pub(super) fn start(runtime: &Runtime, options: Options, folder: &Path) -> Result<Self> {
        let ids = Arc::new(IdGenerator::new(NodeId::new(1)?));
        let telemetry = Telemetry::new(telemetry::Options::default());
        let events = Events::new(options, Arc::new(Folder::new(folder)), ids, &telemetry);
        let intensity = Intensity::new(0, Duration::from_secs(1));
        let spec = SupervisorSpec::new("versus", intensity).child(events.child_spec());
        let supervisor = runtime.block_on(Supervisor::start(spec))?;
        Ok(Self { events, supervisor })
    }

    pub(super) fn stop(self, runtime: &Runtime) {
        runtime.block_on(self.supervisor.stop());
    }
}
