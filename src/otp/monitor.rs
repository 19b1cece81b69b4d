//! Who wants to know of one actor's end: a [`Monitor`], several at once in [`Monitors`], or an actor that gets a message.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use ractor::{ActorRef, Message};
use tokio::sync::Notify;

use super::{Address, ExitReason, Supervisor, incarnation::Incarnation};

/// Names one monitor; no other in the process has the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonitorRef(u64);

/// What a monitor tells, exactly once: the monitored life is over, and everything of it is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Down {
    /// Which monitor tells it.
    pub monitor: MonitorRef,
    /// How the life ended; [`ExitReason::NoProc`] when it was over before the monitor was made.
    pub reason: ExitReason,
}

/// Watches one life of an actor, from any task, without touching it.
///
/// It is bound to the incarnation that lived when it was made: its end is told, also when a successor follows. Two monitors
/// of one actor are independent. Dropping a monitor is OTP's `demonitor` with `flush`: nothing is delivered any more, and
/// nothing is left behind in the actor that was watched. OTP's semantics (`erlang:monitor/2`), with a typed reason.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use underpin::otp::{ChildSpec, ExitReason, Intensity, Supervisor, SupervisorSpec};
///
/// let spec = SupervisorSpec::new("shop", Intensity::new(3, Duration::from_secs(5)));
/// let shop = Supervisor::start(spec).await?;
/// let monitor = shop.monitor();
///
/// shop.stop().await;
///
/// assert_eq!(monitor.down().await.reason, ExitReason::Shutdown(None));
/// assert_eq!(shop.monitor().down().await.reason, ExitReason::NoProc);
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "a monitor that is dropped tells nothing"]
pub struct Monitor {
    id: MonitorRef,
    /// `None` when nobody lived.
    target: Option<Arc<Incarnation>>,
}

impl Monitor {
    pub(crate) fn new(target: Option<Arc<Incarnation>>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            id: MonitorRef(NEXT.fetch_add(1, Ordering::Relaxed)),
            target: target.filter(|life| life.exit().is_none()),
        }
    }

    /// Which one it is.
    #[must_use]
    pub fn id(&self) -> MonitorRef {
        self.id
    }

    /// Waits for the end of the life that is watched; at once when it is over.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the monitor. To go on with it, pin the future and poll it again.
    pub async fn down(self) -> Down {
        let reason = match &self.target {
            None => ExitReason::NoProc,
            Some(life) => life.ended().await,
        };
        self.tells(reason)
    }

    /// How the life ended, if it is over; without waiting.
    #[must_use]
    pub fn peek(&self) -> Option<ExitReason> {
        match &self.target {
            None => Some(ExitReason::NoProc),
            Some(life) => life.exit().cloned(),
        }
    }

    /// Sends the [`Down`] to an actor, as a message of its own, instead of telling it here.
    ///
    /// Dropping what is returned is `demonitor`; kept in the observer's state, it goes when the observer does. As in OTP without
    /// `flush`, a message that is in the mailbox already stays there: compare its [`MonitorRef`].
    pub fn forward_to<M: Message + From<Down>>(self, observer: &ActorRef<M>) -> Forwarded {
        let observer = observer.clone();
        let id = self.id;
        let target = self.deliver(move |down| {
            // An observer that has gone needs no news.
            let _ = observer.send_message(M::from(down));
        });
        Forwarded { id, target }
    }

    fn tells(&self, reason: ExitReason) -> Down {
        Down {
            monitor: self.id,
            reason,
        }
    }

    /// Has `to` told, now or at the end; where that is still to come, the life from which it can be taken back.
    fn deliver(self, to: impl FnOnce(Down) + Send + 'static) -> Weak<Incarnation> {
        let mut to = Some(to);
        let over = match &self.target {
            None => Some(ExitReason::NoProc),
            Some(life) => {
                let enter = |watchers: &mut Watchers| {
                    if let Some(to) = to.take() {
                        watchers.0.insert(self.id, Box::new(to));
                    }
                };
                life.watch(enter).cloned()
            }
        };
        if let (Some(reason), Some(to)) = (over, to) {
            to(self.tells(reason));
        }
        self.target.as_ref().map(Arc::downgrade).unwrap_or_default()
    }
}

/// A monitor that tells an actor. Dropping it takes the monitor back.
#[derive(Debug)]
#[must_use = "a monitor that is dropped tells nothing"]
pub struct Forwarded {
    id: MonitorRef,
    target: Weak<Incarnation>,
}

impl Forwarded {
    /// Which monitor it is.
    #[must_use]
    pub fn id(&self) -> MonitorRef {
        self.id
    }
}

impl Drop for Forwarded {
    fn drop(&mut self) {
        forget(&self.target, self.id);
    }
}

/// Many monitors in one place: each tells its [`Down`] here, exactly once, in the order in which the lives ended.
///
/// Waiting costs the same for one as for ten thousand. What waits to be read is at most one [`Down`] for each monitor. Dropping
/// the whole takes all monitors back.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use underpin::otp::{Intensity, Monitors, Supervisor, SupervisorSpec};
///
/// let intensity = Intensity::new(3, Duration::from_secs(5));
/// let (one, two) = (SupervisorSpec::new("one", intensity), SupervisorSpec::new("two", intensity));
/// let (one, two) = (Supervisor::start(one).await?, Supervisor::start(two).await?);
/// let mut monitors = Monitors::new();
/// monitors.add(one.monitor());
/// let second = monitors.add(two.monitor());
///
/// two.stop().await;
///
/// assert_eq!(monitors.next().await.monitor, second);
/// # one.stop().await;
/// # Ok(()) }
/// ```
#[derive(Debug, Default)]
pub struct Monitors {
    inbox: Arc<Inbox>,
    targets: HashMap<MonitorRef, Weak<Incarnation>>,
}

#[derive(Debug, Default)]
struct Inbox {
    downs: Mutex<VecDeque<Down>>,
    arrived: Notify,
}

impl Monitors {
    /// None so far.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one. What it tells comes from [`next`](Self::next), at once when the life is over.
    pub fn add(&mut self, monitor: Monitor) -> MonitorRef {
        let id = monitor.id;
        let inbox = Arc::clone(&self.inbox);
        let target = monitor.deliver(move |down| {
            inbox.downs.lock().push_back(down);
            inbox.arrived.notify_one();
        });
        self.targets.insert(id, target);
        id
    }

    /// The next end. Waits for ever while there is nothing to come.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Down {
        let inbox = Arc::clone(&self.inbox);
        loop {
            let mut arrived = pin!(inbox.arrived.notified());
            arrived.as_mut().enable();
            if let Some(down) = self.try_next() {
                return down;
            }
            arrived.await;
        }
    }

    /// The next end, if one has come.
    pub fn try_next(&mut self) -> Option<Down> {
        let mut downs = self.inbox.downs.lock();
        loop {
            let down = downs.pop_front()?;
            // One that was taken back while it was about to tell is not told any more.
            if self.targets.remove(&down.monitor).is_some() {
                return Some(down);
            }
        }
    }

    /// Takes a monitor back, also when its end has come and was not read yet: OTP's `demonitor` with `flush`. `false` when there
    /// is no such monitor, or it has told already.
    pub fn demonitor(&mut self, monitor: MonitorRef) -> bool {
        let Some(target) = self.targets.remove(&monitor) else {
            return false;
        };
        forget(&target, monitor);
        self.inbox
            .downs
            .lock()
            .retain(|down| down.monitor != monitor);
        true
    }

    /// How many have not told yet, or not been read.
    #[must_use]
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether there is nothing to come.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }
}

impl Drop for Monitors {
    fn drop(&mut self) {
        for (id, target) in self.targets.drain() {
            forget(&target, id);
        }
    }
}

fn forget(target: &Weak<Incarnation>, id: MonitorRef) {
    if let Some(life) = target.upgrade() {
        let mut removed = None;
        life.watch(|watchers| removed = watchers.0.remove(&id));
        // Outside of the lock: it drops what an observer of the user's holds.
        drop(removed);
    }
}

type Tell = Box<dyn FnOnce(Down) + Send>;

/// Those that are told at the end of one life.
#[derive(Default)]
pub(crate) struct Watchers(HashMap<MonitorRef, Tell>);

impl Watchers {
    pub(crate) fn tell(self, reason: &ExitReason) {
        for (monitor, tell) in self.0 {
            let down = Down {
                monitor,
                reason: reason.clone(),
            };
            // A conversion of the user's runs in there.
            if catch_unwind(AssertUnwindSafe(|| tell(down))).is_err() {
                tracing::error!("an observer panicked when it was told of an end");
            }
        }
    }
}

impl fmt::Debug for Watchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl<M: Message> Address<M> {
    /// Watches the life that the address leads to now. Where nobody lives, the monitor tells [`ExitReason::NoProc`] at once.
    pub fn monitor(&self) -> Monitor {
        let life = self.slot().life();
        Monitor::new(life.map(|live| Arc::clone(&live.incarnation)))
    }
}

impl Supervisor {
    /// Watches the life that the supervisor leads now; [`ExitReason::NoProc`] at once when it does not run.
    pub fn monitor(&self) -> Monitor {
        self.address().monitor()
    }
}
