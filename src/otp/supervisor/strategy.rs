use super::state::Key;

/// What else is restarted when a child is. OTP's words and meaning.
///
/// | | stopped, in reverse start order | then started, in start order |
/// |---|---|---|
/// | `OneForOne` | nobody | the child |
/// | `OneForAll` | all others | all |
/// | `RestForOne` | those started after it | the child, and those after it |
///
/// Siblings are stopped one after the other, each as its own spec says; the supervisor answers all the while. Temporary siblings
/// that are stopped for this are forgotten. One that declined to start, ended cleanly before, or was stopped by
/// [`terminate_child`](super::Supervisor::terminate_child), stays down (OTP starts it again). A sibling that ends by itself
/// meanwhile is part of the same restart and counts nothing. A child that fails during its start is tried again:
/// under rest_for_one those before it stay up, under one_for_all everything begins anew. One that leaks stays down, and the others go
/// on without it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{sync::Arc, time::Duration};
/// use tokio::sync::Notify;
/// use underpin::otp::{ChildSpec, Intensity, Strategy, Supervisor, SupervisorSpec};
///
/// // The pool holds on to the connection: a new connection needs a new pool.
/// let lost = Arc::new(Notify::new());
/// let cut = Arc::clone(&lost);
/// let connection = ChildSpec::task("connection", move |_| {
///     let lost = Arc::clone(&lost);
///     async move {
///         lost.notified().await;
///         Err("connection lost".into())
///     }
/// });
/// let pool = ChildSpec::task("pool", |ctx| async move { Ok(ctx.cancelled().await) });
/// let spec = SupervisorSpec::new("db", Intensity::new(3, Duration::from_secs(5)))
///     .strategy(Strategy::RestForOne)
///     .child(connection)
///     .child(pool);
/// let db = Supervisor::start(spec).await?;
/// let life = |id| db.tree().and_then(|tree| Some(tree.find(id)?.incarnation));
/// assert_eq!(life("db/pool"), Some(1));
///
/// cut.notify_one();
/// while life("db/pool") != Some(2) {
///     tokio::task::yield_now().await;
/// }
/// # db.stop().await;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The child alone. OTP's default.
    #[default]
    OneForOne,
    /// All children: for those that cannot do without each other.
    OneForAll,
    /// The child and those started after it: for those that build on earlier ones.
    RestForOne,
}

impl Strategy {
    /// Where several are restarted, the first of them; all after it are, too.
    pub(super) fn first_restarted(self, ended: Key) -> Option<Key> {
        match self {
            Self::OneForOne => None,
            Self::OneForAll => Some(Key::MIN),
            Self::RestForOne => Some(ended),
        }
    }
}

/// Whether a supervisor ends when its significant children have. OTP's words and meaning (since OTP 24).
///
/// Only an end that comes by itself and is not followed by a restart counts: a transient child that ended cleanly, a temporary
/// one whatever its end. A child that is stopped on request, or for a sibling's sake, never counts. The supervisor then stops
/// its other children, in reverse order, and ends with
/// [`ShutdownCause::Significant`](crate::otp::ShutdownCause::Significant).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use underpin::otp::{
///     AutoShutdown, ChildSpec, ExitReason, Intensity, Restart, ShutdownCause, Supervisor,
///     SupervisorSpec,
/// };
///
/// let helper = ChildSpec::task("helper", |ctx| async move { Ok(ctx.cancelled().await) });
/// let job = ChildSpec::task("job", |_| async { Ok(()) });
/// let spec = SupervisorSpec::new("batch", Intensity::new(3, Duration::from_secs(5)))
///     .auto_shutdown(AutoShutdown::AnySignificant)
///     .child(helper)
///     .child(job.restart(Restart::Transient).significant());
/// let batch = Supervisor::start(spec).await?;
///
/// let cause = ShutdownCause::Significant("job".into());
/// assert_eq!(batch.ended().await, ExitReason::Shutdown(Some(cause)));
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AutoShutdown {
    /// No; and no child may be significant. The default.
    #[default]
    Never,
    /// When one of them has ended.
    AnySignificant,
    /// When the last of them has ended.
    AllSignificant,
}
