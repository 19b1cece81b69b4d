use std::{collections::HashSet, sync::Arc};

use super::{
    AutoShutdown, Intensity, Message, Strategy, Supervisor, actor::SupervisorActor, state::Terms,
};
use crate::otp::{
    ChildSpec, Restart, SupervisorError,
    incarnation::Incarnation,
    office::{AnySupervisorSpec, Office},
};

/// What a supervisor is to be: its id, its intensity, its strategy, its children in start order.
///
/// ```
/// use std::time::Duration;
/// use underpin::otp::{ChildSpec, Intensity, Strategy, SupervisorSpec};
///
/// let idle = |id: &str| ChildSpec::task(id, |ctx| async move { Ok(ctx.cancelled().await) });
/// let spec = SupervisorSpec::new("shop", Intensity::new(3, Duration::from_secs(5)))
///     .strategy(Strategy::RestForOne)
///     .child(idle("stock"))
///     .child(idle("till"));
/// assert!(spec.check().is_ok());
///
/// let twice = spec.child(idle("till"));
/// assert!(twice.check().is_err());
/// ```
#[derive(Debug, Clone)]
pub struct SupervisorSpec {
    pub(super) id: Arc<str>,
    pub(super) intensity: Intensity,
    pub(super) strategy: Strategy,
    pub(super) auto_shutdown: AutoShutdown,
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
            strategy: Strategy::default(),
            auto_shutdown: AutoShutdown::default(),
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

    /// What else is restarted when a child is; [`Strategy::OneForOne`] where nothing is said.
    #[must_use]
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// Whether the supervisor ends with its significant children; [`AutoShutdown::Never`] where nothing is said.
    #[must_use]
    pub fn auto_shutdown(mut self, auto_shutdown: AutoShutdown) -> Self {
        self.auto_shutdown = auto_shutdown;
        self
    }

    /// Checks everything that can be checked before anything starts, down to the last nested supervisor;
    /// [`Supervisor::start`] does so first, too. OTP's `check_childspecs`.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Invalid`], which says what to change.
    pub fn check(&self) -> Result<(), SupervisorError> {
        AnySupervisorSpec::check(self)
    }

    pub(super) fn terms(&self) -> Terms {
        Terms {
            strategy: self.strategy,
            intensity: self.intensity,
            auto_shutdown: self.auto_shutdown,
        }
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
        check_period(&self.id, self.intensity)?;
        let mut seen = HashSet::new();
        for child in &self.children {
            check_child(child, self.auto_shutdown)?;
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

/// Checks everything of one child that can be checked before it starts.
pub(crate) fn check_child(
    child: &ChildSpec,
    auto_shutdown: AutoShutdown,
) -> Result<(), SupervisorError> {
    check_id(&child.id)?;
    let id = &child.id;
    if child.significant && child.get_restart() == Restart::Permanent {
        return invalid(format!(
            "{id} is significant and permanent, so it would never end for good; make it transient or temporary"
        ));
    }
    if child.significant && auto_shutdown == AutoShutdown::Never {
        return invalid(format!(
            "{id} is significant, but its supervisor never shuts down by itself; set auto_shutdown, or leave it out"
        ));
    }
    if child.extras().start_timeout.is_zero() {
        return invalid(format!(
            "{id} has no time to start; give its start_timeout a length"
        ));
    }
    if let Some(budget) = &child.extras().budget {
        check_period(id, budget.intensity)?;
    }
    if let Some(why) = child
        .extras()
        .health
        .as_ref()
        .and_then(|probe| probe.refuses(child.kind))
    {
        return invalid(format!("{id}: {why}"));
    }
    child.start.check()
}

/// A window without a length holds nothing.
pub(crate) fn check_period(id: &str, intensity: Intensity) -> Result<(), SupervisorError> {
    if intensity.period.is_zero() {
        return invalid(format!(
            "the intensity of {id} has a period of 0, in which nothing can be counted; give it a length"
        ));
    }
    Ok(())
}

fn invalid(words: String) -> Result<(), SupervisorError> {
    Err(SupervisorError::Invalid(words.into()))
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
