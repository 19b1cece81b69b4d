use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::{DynamicSupervisor, actor::DynamicActor, message::Message, nursery::Nursery};
use crate::otp::{
    ChildKind, ChildSpec, Intensity, Shutdown, SupervisorError,
    incarnation::Incarnation,
    office::{AnySupervisorSpec, NestedStart, Office},
    supervisor::spec::{check_id, check_period},
};

/// What a [`DynamicSupervisor`] is to be: its id, its intensity, how many children it may have.
#[derive(Debug, Clone)]
pub struct DynamicSupervisorSpec {
    id: Arc<str>,
    pub(super) intensity: Intensity,
    pub(super) max_children: usize,
    pub(super) desk: Arc<Desk>,
}

/// What handles and the supervisor's lives have in common.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) office: Arc<Office<Message>>,
    /// The children of the life that there is.
    pub(super) nursery: ArcSwapOption<Nursery>,
}

impl DynamicSupervisorSpec {
    /// A supervisor for any number of children, restarted `intensity` at most, all together.
    #[must_use]
    pub fn new(id: impl Into<Arc<str>>, intensity: Intensity) -> Self {
        Self {
            id: id.into(),
            intensity,
            max_children: usize::MAX,
            desk: Arc::new(Desk {
                office: Office::new(),
                nursery: ArcSwapOption::empty(),
            }),
        }
    }

    /// How many children there may be at once, those between two lives included; 0 is possible. Default: no limit, as in Elixir.
    #[must_use]
    pub fn max_children(mut self, limit: usize) -> Self {
        self.max_children = limit;
        self
    }

    /// The supervisor's id.
    #[must_use]
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// The handle to this supervisor. It exists before the supervisor runs, and survives its restarts; children do not.
    #[must_use]
    pub fn handle(&self) -> DynamicSupervisor {
        DynamicSupervisor::new(Arc::clone(&self.desk))
    }

    /// The same as a child of another supervisor.
    #[must_use]
    pub fn child_spec(self) -> ChildSpec {
        let id = Arc::clone(&self.id);
        ChildSpec::new(id, ChildKind::Supervisor, NestedStart::new(self))
            .shutdown(Shutdown::Infinity)
    }
}

impl AnySupervisorSpec for DynamicSupervisorSpec {
    type Message = Message;
    type Actor = DynamicActor;

    fn id(&self) -> &Arc<str> {
        &self.id
    }

    fn office(&self) -> &Arc<Office<Message>> {
        &self.desk.office
    }

    fn check(&self) -> Result<(), SupervisorError> {
        check_id(&self.id)?;
        check_period(&self.id, self.intensity)
    }

    fn actor(self, incarnation: Arc<Incarnation>) -> DynamicActor {
        DynamicActor::new(self, incarnation)
    }
}
