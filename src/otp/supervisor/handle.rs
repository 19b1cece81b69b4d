use std::{sync::Arc, time::Duration};

use ractor::ActorCell;

use super::{Message, ShutdownReport, SupervisorSpec};
#[cfg(feature = "testing")]
use crate::otp::tree::TreeNode;
use crate::otp::{
    Address, ChildKind, ChildSpec, ChildState, ExitReason, ReportStream, Stuck, SupervisorError,
    Sys, Tree, TreeLimits,
    office::{Office, start_root},
    scope,
};

/// A handle to a supervisor: it starts children in order, restarts them when they end, gives up when that does not help, and stops
/// them in reverse order. Cheap to clone; survives the supervisor's own restarts.
///
/// Dropping it stops nothing: say [`stop`](Self::stop).
///
/// ```
/// use std::time::Duration;
/// use underpin::otp::{ChildSpec, Intensity, Restart, Strategy, Supervisor, SupervisorSpec};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let idle = |id: &str| ChildSpec::task(id, |ctx| async move { Ok(ctx.cancelled().await) });
/// let spec = SupervisorSpec::new("shop", Intensity::new(3, Duration::from_secs(5)))
///     .strategy(Strategy::RestForOne)
///     .child(idle("stock"))
///     .child(idle("till").restart(Restart::Transient));
/// let shop = Supervisor::start(spec).await?;
///
/// shop.start_child(idle("lights")).await?;
/// shop.terminate_child("lights").await?;
/// assert_eq!(shop.count_children().await?.active, 2);
///
/// let report = shop.stop().await;
/// let order: Vec<&str> = report.children.iter().map(|child| &*child.id).collect();
/// assert_eq!(order, ["till", "stock"]);
/// # Ok(()) }
/// ```
///
/// # Where it differs from OTP
///
/// The words and their meaning are those of OTP's `supervisor` (25 to 28), but for these:
///
/// | OTP | here | why |
/// |---|---|---|
/// | a restart happens at once | at once by default; [`ChildSpec::backoff`] waits longer each time, visibly, and any request cancels the wait | what failed a millisecond ago fails again |
/// | one intensity for all children | a child may have a [`Budget`](crate::otp::Budget) that counts *instead* of its supervisor's: escalate, stop the child, or keep trying slowly | a printer that is out of paper must not take the shop down |
/// | the window is counted in whole seconds | a restart counts while it is at most one period old, exactly | a second more or less decided by chance |
/// | one_for_all and rest_for_one start every known child again | not one that had declined to start or ended cleanly, nor one that was terminated | it was meant to be down |
/// | a supervisor that gives up ends with `shutdown` | with [`ShutdownCause::IntensityExceeded`](crate::otp::ShutdownCause), or [`Significant`](crate::otp::ShutdownCause): a shutdown to its parent, and says why | nobody should have to guess |
/// | a child that was unlinked dies unseen | every end is seen | |
/// | a start that calls its own supervisor deadlocks | it gets [`SupervisorError::CallingSelf`] | |
/// | the supervisor answers nobody while a child starts or siblings are stopped | it answers, truthfully, all the while; a start that is asked for meanwhile has its turn | |
/// | a start may take for ever | 60 s, or [`ChildSpec::start_timeout`] | a start that hangs should be noticed |
/// | Elixir's `Task` is a temporary child | [`ChildSpec::task`] is permanent like any other, unless it says; in [`TaskSupervisor::start_child`](crate::otp::TaskSupervisor::start_child) it is temporary | one rule for whatever a supervisor has |
/// | the default intensity is 1 in 5 s (Elixir: 3 in 5 s) | it has to be said | neither fits everybody |
/// | a stop tells nothing | a [`ShutdownReport`]; [`stop_within`](Self::stop_within) has a deadline for the whole tree | |
/// | a child that hangs is not noticed | a [`HealthProbe`](crate::otp::HealthProbe) treats it as crashed | |
/// | a kill always works | it acts at the next `.await`; a child that blocks its thread is *leaked*: reported, nothing is started beside it, and it is restarted when it has ended after all | Rust cannot end a thread |
/// | a successor may meet what its predecessor still holds | it starts when everything of its predecessor is gone | |
/// | children are listed in reverse | in start order | |
/// | the answer to a start holds a pid | [`StartOutcome`]; the [`Address`](crate::otp::Address) is there before the child | it survives restarts |
#[derive(Debug, Clone)]
pub struct Supervisor {
    office: Arc<Office<Message>>,
}

/// One child, as [`Supervisor::which_children`] lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildInfo {
    /// Its id.
    pub id: Arc<str>,
    /// What it is.
    pub kind: ChildKind,
    /// What it is doing.
    pub state: ChildState,
}

/// What a start came to that went well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartOutcome {
    /// The child runs.
    Running,
    /// It declined, by [`Ignore`](crate::otp::Ignore) or [`ChildSpec::start_if`]: it is stopped; a temporary one is forgotten.
    Ignored,
}

/// How many children there are, in OTP's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChildCounts {
    /// All children, running or not.
    pub specs: usize,
    /// Those that run.
    pub active: usize,
    /// Those that are supervisors, running or not.
    pub supervisors: usize,
    /// Those that are not, running or not.
    pub workers: usize,
}

type Answer<T> = Result<T, SupervisorError>;

impl Supervisor {
    pub(super) fn new(office: Arc<Office<Message>>) -> Self {
        Self { office }
    }

    /// Starts a supervisor and its children, in order, each after the one before it has started.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Invalid`] before anything has started; [`SupervisorError::Start`] when a child did not start:
    /// those before it have been stopped again, in reverse order, and nothing is retried.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: dropping the future kills what has started so far.
    pub async fn start(spec: SupervisorSpec) -> Answer<Self> {
        let supervisor = spec.handle();
        start_root(spec).await?;
        Ok(supervisor)
    }

    /// Adds a child after those there are, and starts it.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::AlreadyStarted`] for the id of a child that runs, [`SupervisorError::AlreadyPresent`] for one that is known
    /// and does not; [`SupervisorError::Invalid`] before anything starts; [`SupervisorError::Start`] when it did not start: it is
    /// forgotten, not retried, and nothing counts against the intensity.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the child may still be started.
    pub async fn start_child(&self, spec: ChildSpec) -> Answer<StartOutcome> {
        self.office
            .ask(|reply| Message::StartChild {
                spec: Box::new(spec),
                reply,
            })
            .await?
    }

    /// Stops a child as its spec says, and waits until it is gone. Its spec stays, unless it is temporary. Stopping a
    /// stopped child is fine; a pending restart is cancelled.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::NotFound`]; [`SupervisorError::Leaked`] when it did not even end when killed;
    /// [`SupervisorError::CallingSelf`] when a child asks for its own end.
    pub async fn terminate_child(&self, id: &str) -> Answer<()> {
        let id = id.into();
        let caller = scope::current();
        self.office
            .ask(|reply| Message::TerminateChild { id, caller, reply })
            .await?
    }

    /// Starts a stopped child again.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Running`], [`SupervisorError::Restarting`], [`SupervisorError::Leaked`],
    /// [`SupervisorError::NotFound`], or [`SupervisorError::Start`]: its spec stays.
    pub async fn restart_child(&self, id: &str) -> Answer<StartOutcome> {
        let id = id.into();
        self.office
            .ask(|reply| Message::RestartChild { id, reply })
            .await?
    }

    /// Forgets a stopped child.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Running`], [`SupervisorError::Restarting`] or [`SupervisorError::NotFound`].
    pub async fn delete_child(&self, id: &str) -> Answer<()> {
        let id = id.into();
        self.office
            .ask(|reply| Message::DeleteChild { id, reply })
            .await?
    }

    /// The children, in start order (OTP lists them in reverse).
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Down`].
    pub async fn which_children(&self) -> Answer<Vec<ChildInfo>> {
        self.office
            .ask(|reply| Message::WhichChildren { reply })
            .await
    }

    /// How many children there are.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Down`].
    pub async fn count_children(&self) -> Answer<ChildCounts> {
        self.office
            .ask(|reply| Message::CountChildren { reply })
            .await
    }

    /// The spec of a child, defaults filled in.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::NotFound`] or [`SupervisorError::Down`].
    pub async fn child_spec(&self, id: &str) -> Answer<ChildSpec> {
        let id = id.into();
        self.office
            .ask(|reply| Message::ChildSpec { id, reply })
            .await?
    }

    /// Stops the children in reverse start order, each as its spec says, then the supervisor. Says how it went; an empty
    /// report when it was not running. One that is still starting is not running, and starts all the same: end the start instead, by
    /// dropping its future, or through the supervisor that it starts in.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the stop goes on, its report is lost.
    pub async fn stop(&self) -> ShutdownReport {
        self.office.stop().await
    }

    /// The same, with a deadline for the whole tree below, whatever the specs say: what has not ended after `limit` is killed, all at
    /// once. A second later at most, and a moment for each level of the tree, it is over;
    /// [`blockers`](ShutdownReport::blockers) names those that held it up.
    /// Also for a stop that is under way already.
    ///
    /// ```
    /// use std::time::Duration;
    /// use underpin::otp::{ChildSpec, Intensity, Shutdown, Supervisor, SupervisorSpec};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let stubborn = ChildSpec::task("stubborn", |_| std::future::pending()).shutdown(Shutdown::Infinity);
    /// let spec = SupervisorSpec::new("app", Intensity::new(3, Duration::from_secs(5))).child(stubborn);
    /// let app = Supervisor::start(spec).await?;
    ///
    /// let report = app.stop_within(Duration::from_secs(10)).await;
    ///
    /// let names: Vec<&str> = report.blockers().map(|child| &*child.id).collect();
    /// assert_eq!(names, ["stubborn"]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the stop goes on, its report is lost.
    pub async fn stop_within(&self, limit: Duration) -> ShutdownReport {
        self.office.stop_within(limit).await
    }

    /// The same as [`stop`](Self::stop), for a reason that those who wait for its end are told:
    /// [`ShutdownCause::Said`](crate::otp::ShutdownCause::Said).
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the stop goes on, its report is lost.
    pub async fn stop_because(&self, words: &str) -> ShutdownReport {
        self.office.stop_because(words).await
    }

    /// Waits until the supervisor has ended, and says why. At once when it is not running.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn ended(&self) -> ExitReason {
        self.office.ended().await
    }

    /// Whether it runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.office.life().is_some()
    }

    /// A picture of the supervisor and all below it, without waiting for anyone. `None` before its first start. A very large tree
    /// is shown in part ([`TreeLimits::DEFAULT`]).
    #[must_use]
    pub fn tree(&self) -> Option<Tree> {
        self.office.tree(None, TreeLimits::DEFAULT)
    }

    /// The same from the child at `path` on down, and as much of it as `limits` say; `None` also when there is none. Paths begin at
    /// the root of the tree, as [`Tree::path`] shows them.
    #[must_use]
    pub fn tree_at(&self, path: &str, limits: TreeLimits) -> Option<Tree> {
        self.office.tree(Some(path), limits)
    }

    /// Those in the whole tree that have been at one message for too long; at most a hundred. For the root of a tree.
    pub(crate) fn stuck(&self) -> Vec<Stuck> {
        self.office.stuck()
    }

    /// Looks inside the child at this path, which begins at the root of the tree. `None` when there is none, or it is a plain task.
    #[must_use]
    pub fn sys(&self, path: &str) -> Option<Sys> {
        self.office.sys(path)
    }

    /// What happens in the whole tree this supervisor belongs to, from now on. `None` before its first start.
    #[must_use]
    pub fn reports(&self) -> Option<ReportStream> {
        self.office.reports()
    }

    /// The supervisor's own actor, for what only ractor offers. Killing it kills its children and all below them, without their
    /// `post_stop`. Its next life waits up to a second until nothing of them is left, and does not start beside what is; a sibling
    /// that is restarted along with it, before it, does not wait for that.
    #[must_use]
    pub fn actor(&self) -> Option<ActorCell> {
        self.office.actor()
    }

    #[cfg(feature = "testing")]
    pub(crate) fn node(&self) -> Option<Arc<TreeNode>> {
        self.office.node()
    }

    pub(crate) fn address(&self) -> &Address<Message> {
        &self.office.address
    }
}
