use std::{fmt, future::Future, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use ractor::{Actor, Message};
use tokio_util::sync::CancellationToken;

use super::{
    Address, HealthProbe, Intensity, SupervisorSpec,
    incarnation::Incarnation,
    office::NestedStart,
    start::{ActorStart, NotStarted, Seat, Start, Started, TaskStart},
    supervisor::Rules,
    tree::TreeNode,
};
use crate::resilience::Backoff;

/// An error of a user's own, as a task child may return it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// When a child is started again after it ended. OTP's words and meaning.
///
/// | | after a clean end | after an abnormal end |
/// |---|---|---|
/// | `Permanent` | restarted | restarted |
/// | `Transient` | kept, stopped | restarted |
/// | `Temporary` | forgotten | forgotten |
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// Always.
    #[default]
    Permanent,
    /// Only after an abnormal end.
    Transient,
    /// Never; its spec is forgotten when it ends.
    Temporary,
}

/// How a child is stopped. OTP's words and meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Killed at once; its `post_stop` does not run.
    Brutal,
    /// Asked to stop, and killed when it is still there after this long.
    Timeout(Duration),
    /// Asked to stop, and waited for. Right for supervisors; risky for anything else.
    Infinity,
}

impl Shutdown {
    /// OTP's default for workers: 5 s.
    pub const WORKER: Self = Self::Timeout(Duration::from_secs(5));
}

/// What a supervised child is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ChildKind {
    /// A [`ractor::Actor`].
    Actor,
    /// A plain async task.
    Task,
    /// A supervisor with children of its own.
    Supervisor,
}

/// What a supervisor does when a child has used up a budget of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnExceed {
    /// The supervisor gives up, as OTP's does.
    Escalate,
    /// The child stays down; the supervisor and its siblings go on.
    Stop,
    /// The child is tried again, once in this long, for ever; until it has run for its budget's period, when the budget
    /// is whole again. Pauses below 10 ms count as that. Under one_for_all and rest_for_one the siblings that are restarted
    /// with it wait with it.
    SlowRetry(Duration),
}

/// A restart budget of one child: its restarts count here *instead* of against its supervisor.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use underpin::otp::{
///     Budget, ChildSpec, Intensity, Lifecycle, OnExceed, Supervisor, SupervisorSpec,
/// };
///
/// const MINUTE: Duration = Duration::from_secs(60);
/// // Tried twice more in a minute, then left alone. The supervisor itself tolerates nothing.
/// let budget = Budget::new(Intensity::new(2, MINUTE), OnExceed::Stop);
/// let printer = ChildSpec::task("printer", |_| async { Err("out of paper".into()) });
/// let office = Supervisor::start(SupervisorSpec::new("office", Intensity::new(0, MINUTE))).await?;
/// let mut reports = office.reports().expect("it runs");
///
/// office.start_child(printer.budget(budget)).await?;
/// while let Some(report) = reports.next().await {
///     if let Lifecycle::BudgetExceeded { reason } = report.what {
///         assert_eq!(reason.to_string(), "error: out of paper");
///         break;
///     }
/// }
/// assert!(office.is_running());
/// # office.stop().await;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    pub(crate) intensity: Intensity,
    pub(crate) on_exceed: OnExceed,
}

impl Budget {
    /// As many restarts as `intensity` says count against the child alone, and never against its supervisor; beyond
    /// them, `on_exceed` happens.
    #[must_use]
    pub fn new(intensity: Intensity, on_exceed: OnExceed) -> Self {
        Self {
            intensity,
            on_exceed,
        }
    }
}

/// How to start, restart and stop one child. Cheap to clone.
///
/// Defaults: [`Restart::Permanent`] ([`Restart::Temporary`] in
/// [`TaskSupervisor::start_child`](super::TaskSupervisor::start_child)), [`Shutdown::WORKER`], restarted at once, 60 s to start, no
/// budget of its own, stuck after 5 s in one message. A nested supervisor has all the time it needs to start and to stop, since its
/// children have limits of their own.
///
/// The first step of a start runs inside the supervisor: a start that blocks its thread blocks the supervisor too. Put such
/// work behind an `.await` (`tokio::task::spawn_blocking`).
#[derive(Clone)]
pub struct ChildSpec {
    pub(crate) id: Arc<str>,
    pub(crate) start: Arc<dyn Start>,
    pub(crate) kind: ChildKind,
    /// `None` where nothing was said.
    pub(crate) restart: Option<Restart>,
    pub(crate) shutdown: Shutdown,
    pub(crate) significant: bool,
    /// `None` where all of it is as usual: there may be very many children.
    extras: Option<Arc<Extras>>,
}

/// What most specs leave as it is.
#[derive(Clone)]
pub(crate) struct Extras {
    pub(crate) backoff: Backoff,
    pub(crate) budget: Option<Budget>,
    pub(crate) start_timeout: Duration,
    pub(crate) start_if: Option<Condition>,
    pub(crate) health: Option<HealthProbe>,
    pub(crate) stuck_after: Duration,
}

static USUAL: Extras = Extras {
    backoff: Backoff::AT_ONCE,
    budget: None,
    start_timeout: ChildSpec::START_TIMEOUT,
    start_if: None,
    health: None,
    stuck_after: ChildSpec::STUCK_AFTER,
};

type Condition = Arc<dyn Fn(&ChildContext) -> bool + Send + Sync>;

impl ChildSpec {
    /// How long a child may take to start by default. OTP waits for ever; a start that hangs should be noticed.
    pub const START_TIMEOUT: Duration = Duration::from_mins(1);

    /// How long a child may be at one message by default: callers with OTP's timeout have given up then.
    pub const STUCK_AFTER: Duration = Duration::from_secs(5);

    /// An actor that is reached through `address`. `make` gives a new actor and its arguments for each start.
    pub fn actor<A, F>(id: impl Into<Arc<str>>, address: &Address<A::Msg>, make: F) -> Self
    where
        A: Actor,
        A::Msg: Message,
        F: Fn(&ChildContext) -> (A, A::Arguments) + Send + Sync + 'static,
    {
        let slot = Arc::clone(address.slot());
        Self::new(id, ChildKind::Actor, ActorStart::new(slot, make))
    }

    /// A plain async task. It should end soon after [`ChildContext::cancelled`]; what it returns is how it ended.
    ///
    /// ```
    /// use underpin::otp::{ChildSpec, Restart};
    ///
    /// let ticker = ChildSpec::task("ticker", |ctx| async move {
    ///     ctx.cancelled().await;
    ///     Ok(())
    /// })
    /// .restart(Restart::Transient);
    /// assert_eq!(ticker.id(), "ticker");
    /// ```
    pub fn task<F, W>(id: impl Into<Arc<str>>, make: F) -> Self
    where
        F: Fn(ChildContext) -> W + Send + Sync + 'static,
        W: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        Self::new(id, ChildKind::Task, TaskStart::new(make))
    }

    /// A supervisor, with its own children, intensity and strategy. Its id is the one in `spec`.
    #[must_use]
    pub fn supervisor(spec: SupervisorSpec) -> Self {
        let id = Arc::clone(spec.id());
        let start = NestedStart::new(spec);
        // Its children have limits of their own, for starting as for stopping.
        Self::new(id, ChildKind::Supervisor, start)
            .shutdown(Shutdown::Infinity)
            .start_timeout(Duration::MAX)
    }

    pub(crate) fn new(id: impl Into<Arc<str>>, kind: ChildKind, start: impl Start) -> Self {
        Self {
            id: id.into(),
            start: Arc::new(start),
            kind,
            restart: None,
            shutdown: Shutdown::WORKER,
            significant: false,
            extras: None,
        }
    }

    /// When it is restarted.
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = Some(restart);
        self
    }

    /// How it is stopped.
    #[must_use]
    pub fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.shutdown = shutdown;
        self
    }

    /// How long to wait before each restart. Without it a restart happens at once, as in OTP.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.extras_mut().backoff = backoff;
        self
    }

    /// A restart budget of its own, so that its restarts do not count against the supervisor.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.extras_mut().budget = Some(budget);
        self
    }

    /// How long a start may take before it counts as failed.
    #[must_use]
    pub fn start_timeout(mut self, limit: Duration) -> Self {
        self.extras_mut().start_timeout = limit;
        self
    }

    /// Its end may end its supervisor, as [`AutoShutdown`](super::AutoShutdown) says. A permanent child cannot be significant.
    #[must_use]
    pub fn significant(mut self) -> Self {
        self.significant = true;
        self
    }

    /// Starts it only where `wanted` says so, asked anew before each start. Where it does not, the start is declined: OTP's
    /// `ignore`. The child then stays listed as stopped (a temporary one is forgotten), nothing is retried, and
    /// [`restart_child`](super::Supervisor::restart_child) asks again.
    ///
    /// ```
    /// use underpin::otp::{ChildSpec, Intensity, StartOutcome, Supervisor, SupervisorSpec};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let spec = SupervisorSpec::new("app", Intensity::new(3, std::time::Duration::from_secs(5)));
    /// let app = Supervisor::start(spec).await?;
    /// let reporter = ChildSpec::task("reporter", |ctx| async move { Ok(ctx.cancelled().await) });
    ///
    /// let wanted = std::env::var_os("REPORT_TO_SOMEBODY").is_some();
    /// let started = app.start_child(reporter.start_if(move |_| wanted)).await?;
    ///
    /// assert_eq!(started, StartOutcome::Ignored);
    /// assert_eq!(app.count_children().await?.active, 0);
    /// # app.stop().await;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn start_if(
        mut self,
        wanted: impl Fn(&ChildContext) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.extras_mut().start_if = Some(Arc::new(wanted));
        self
    }

    /// Watches whether it still works while it is alive. One that hangs is killed, and counts as crashed with
    /// [`ExitReason::Unhealthy`](super::ExitReason::Unhealthy).
    #[must_use]
    pub fn health(mut self, probe: HealthProbe) -> Self {
        self.extras_mut().health = Some(probe);
        self
    }

    /// How long it may be at one message before it is shown as stuck. [`Duration::MAX`] for one that is meant to take its time.
    #[must_use]
    pub fn stuck_after(mut self, limit: Duration) -> Self {
        self.extras_mut().stuck_after = limit;
        self
    }

    /// Its id, unique among its siblings.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> ChildKind {
        self.kind
    }

    /// When it is restarted, as [`restart`](Self::restart) said.
    #[must_use]
    pub fn get_restart(&self) -> Restart {
        self.restart.unwrap_or_default()
    }

    /// How it is stopped, as [`shutdown`](Self::shutdown) said.
    #[must_use]
    pub fn get_shutdown(&self) -> Shutdown {
        self.shutdown
    }

    /// Whether its end may end its supervisor.
    #[must_use]
    pub fn is_significant(&self) -> bool {
        self.significant
    }
}

impl ChildSpec {
    pub(crate) fn extras(&self) -> &Extras {
        self.extras.as_deref().unwrap_or(&USUAL)
    }

    pub(crate) fn extras_mut(&mut self) -> &mut Extras {
        let extras = self.extras.get_or_insert_with(|| Arc::new(USUAL.clone()));
        Arc::make_mut(extras)
    }

    /// Begins one life.
    pub(crate) fn begin(&self, seat: Seat) -> BoxFuture<'static, Result<Started, NotStarted>> {
        let declined = match &self.extras().start_if {
            None => None,
            Some(wanted) => match seat.catch(|| wanted(&seat.context)) {
                Ok(true) => None,
                Ok(false) => Some(NotStarted::Ignored),
                Err(panicked) => Some(NotStarted::Failed(panicked)),
            },
        };
        match declined {
            None => self.start.start(seat),
            Some(declined) => Box::pin(std::future::ready(Err(declined))),
        }
    }

    pub(crate) fn rules(&self) -> Rules {
        Rules {
            id: Arc::clone(&self.id),
            kind: self.kind,
            restart: self.get_restart(),
            significant: self.significant,
            backoff: self.extras().backoff,
            budget: self.extras().budget,
        }
    }
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extras = self.extras();
        f.debug_struct("ChildSpec")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("restart", &self.get_restart())
            .field("shutdown", &self.shutdown)
            .field("significant", &self.significant)
            .field("backoff", &extras.backoff)
            .field("budget", &extras.budget)
            .field("start_timeout", &extras.start_timeout)
            .field("health", &extras.health)
            .field("stuck_after", &extras.stuck_after)
            .finish_non_exhaustive()
    }
}

/// What a child is told about itself when it starts.
#[derive(Clone)]
pub struct ChildContext {
    pub(crate) node: Arc<TreeNode>,
    pub(crate) life: Arc<Incarnation>,
}

impl ChildContext {
    /// Where it stands in the tree: the ids from the root on, joined by `/`.
    #[must_use]
    pub fn path(&self) -> &str {
        self.node.path()
    }

    /// Which life this is: 1 for the first start, one more for each restart.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.life.number
    }

    /// Waits until the child is asked to stop. An actor has its `post_stop` as well.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn cancelled(&self) {
        self.life.cancellation().cancelled().await;
    }

    /// A token that fires when the child is asked to stop, and at the latest when it has ended; to hand on to what it starts.
    #[must_use]
    pub fn cancellation(&self) -> CancellationToken {
        self.life.cancellation().clone()
    }
}

impl fmt::Debug for ChildContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildContext")
            .field("path", &self.path())
            .field("incarnation", &self.incarnation())
            .finish_non_exhaustive()
    }
}
