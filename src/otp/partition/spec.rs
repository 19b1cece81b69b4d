use std::{
    fmt,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{PartitionSupervisor, handle::Shared};
use crate::otp::{ChildSpec, Intensity, SupervisorSpec};

/// What a [`PartitionSupervisor`] is to be: its id, its partitions, its intensity.
pub struct PartitionSupervisorSpec<H> {
    pub(super) supervisor: SupervisorSpec,
    pub(super) shared: Arc<Shared<H>>,
}

impl<H> PartitionSupervisorSpec<H> {
    /// As many partitions as said, each made by `make` from its index, together with the handle that leads to it. The id of
    /// each is its index, whatever `make` calls it. `std::thread::available_parallelism` is a good number.
    ///
    /// Each partition is restarted alone; `intensity` counts the restarts of all.
    pub fn new(
        id: impl Into<Arc<str>>,
        partitions: NonZeroUsize,
        intensity: Intensity,
        make: impl FnMut(usize) -> (H, ChildSpec),
    ) -> Self {
        let (handles, children): (Vec<H>, Vec<ChildSpec>) = (0..partitions.get()).map(make).unzip();
        let wanted = Arc::new(AtomicUsize::new(handles.len()));
        let named = children.into_iter().enumerate().map(|(index, mut child)| {
            child.id = index.to_string().into();
            let (wanted, own) = (Arc::clone(&wanted), child.extras_mut().start_if.take());
            child.start_if(move |ctx| {
                index < wanted.load(Ordering::Acquire) && own.as_ref().is_none_or(|own| own(ctx))
            })
        });
        let supervisor = SupervisorSpec::new(id, intensity).children(named);
        let shared = Shared {
            supervisor: supervisor.handle(),
            partitions: AtomicUsize::new(handles.len()),
            handles: handles.into(),
            wanted: Arc::clone(&wanted),
            resizing: tokio::sync::Mutex::default(),
        };
        Self {
            supervisor,
            shared: Arc::new(shared),
        }
    }

    /// The handle to this supervisor. It exists before the supervisor runs, and survives its restarts.
    #[must_use]
    pub fn handle(&self) -> PartitionSupervisor<H> {
        PartitionSupervisor {
            shared: Arc::clone(&self.shared),
        }
    }

    /// The same as a child of another supervisor.
    #[must_use]
    pub fn child_spec(self) -> ChildSpec {
        ChildSpec::supervisor(self.supervisor)
    }
}

impl<H> fmt::Debug for PartitionSupervisorSpec<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartitionSupervisorSpec")
            .field("supervisor", &self.supervisor)
            .finish_non_exhaustive()
    }
}
