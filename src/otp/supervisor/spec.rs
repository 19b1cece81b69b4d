use std::{collections::HashSet, sync::Arc};

use super::{Intensity, Message, Supervisor, actor::SupervisorActor};
use crate::otp::{
    ChildSpec, SupervisorError,
    incarnation::Incarnation,
    office::{AnySupervisorSpec, Office},
};

/// What a supervisor is to be: its id, its intensity, its children in start order.
///
/// The strategy is one_for_one: a child that ends is restarted alone.
#[derive(Debug, Clone)]
pub struct SupervisorSpec {
    pub(super) id: Arc<str>,
    pub(super) intensity: Intensity,
    pub(super) children: Vec<ChildSpec>,
    pub(super) office: Arc<Office<Message>>,
}

impl SupervisorSpec {
    /// A supervisor without children so far.
    #[must_use]
    pub fn new(id: impl Into<Arc<str>>, intensity: Intensity) -> Self {
        Self {
            id: id.into(),
            intensity,
            children: Vec::new(),
            office: Office::new(),
        }
    }

    /// One more child, started after those before it and stopped before them.
    #[must_use]
    pub fn child(mut self, child: ChildSpec) -> Self {
        self.children.push(child);
        self
    }

    /// Several more children, in this order.
    #[must_use]
    pub fn children(mut self, children: impl IntoIterator<Item = ChildSpec>) -> Self {
        self.children.extend(children);
        self
    }

    /// The supervisor's id.
    #[must_use]
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// The handle to this supervisor. It exists before the supervisor runs, and survives its restarts.
    #[must_use]
    pub fn handle(&self) -> Supervisor {
        Supervisor::new(Arc::clone(&self.office))
    }
}

impl AnySupervisorSpec for SupervisorSpec {
    type Message = Message;
    type Actor = SupervisorActor;

    fn id(&self) -> &Arc<str> {
        &self.id
    }

    fn office(&self) -> &Arc<Office<Message>> {
        &self.office
    }

    fn check(&self) -> Result<(), SupervisorError> {
        check_id(&self.id)?;
        let mut seen = HashSet::new();
        for child in &self.children {
            check_id(&child.id)?;
            if !seen.insert(&child.id) {
                let words = format!(
                    "two children have the id {}; ids are unique among siblings",
                    child.id
                );
                return Err(SupervisorError::Invalid(words.into()));
            }
        }
        Ok(())
    }

    fn actor(self, incarnation: Arc<Incarnation>) -> SupervisorActor {
        SupervisorActor {
            spec: self,
            incarnation,
        }
    }
}

/// Ids become paths, so they must be something and must not look like one.
pub(crate) fn check_id(id: &str) -> Result<(), SupervisorError> {
    const ID_BYTES_MAX: usize = 128;
    if id.is_empty() || id.len() > ID_BYTES_MAX || id.contains('/') {
        let words = format!("{id:?} is not an id: use 1 to {ID_BYTES_MAX} bytes without a slash");
        return Err(SupervisorError::Invalid(words.into()));
    }
    Ok(())
}
