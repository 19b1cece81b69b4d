use std::{any::type_name, fmt, sync::Arc, time::Duration};

use tokio::time::{self, Instant};

use super::{AnyCell, Cell, Gone, Keep, Statistics, SysError, Traffic};
use crate::otp::{
    CallError, ExitReason, NotSent,
    address::{Live, Slot},
    scope,
};

/// A look inside the actor at an [`Address`](crate::otp::Address), whichever incarnation that is. Cheap to clone.
///
/// ```
/// # use std::time::Duration;
/// # use underpin::otp::{Address, ChildSpec, Intensity, Permit, Supervisor, SupervisorSpec};
/// # use underpin::ractor::{Actor, ActorProcessingErr, ActorRef};
/// # struct Counter;
/// # enum Message { Add(u64) }
/// # underpin::otp::message!(Message);
/// # impl Actor for Counter {
/// #     type Msg = Message;
/// #     type State = u64;
/// #     type Arguments = ();
/// #     async fn pre_start(&self, _: ActorRef<Message>, (): ()) -> Result<u64, ActorProcessingErr> { Ok(0) }
/// #     async fn handle(&self, _: ActorRef<Message>, Message::Add(n): Message, total: &mut u64) -> Result<(), ActorProcessingErr> {
/// #         *total += n;
/// #         Ok(())
/// #     }
/// # }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let counter = Address::new();
/// # let spec = SupervisorSpec::new("doc", Intensity::new(3, Duration::from_secs(5)))
/// #     .child(ChildSpec::actor("counter", &counter, |_| (Counter, ())));
/// # let supervisor = Supervisor::start(spec).await?;
/// const PATIENCE: Duration = Duration::from_secs(1);
/// let sys = counter.sys();
///
/// sys.suspend(PATIENCE).await?; // Messages queue up from here on.
/// counter.send(Message::Add(2))?;
/// assert_eq!(sys.get_state(PATIENCE, |total: &u64| *total).await?, 0);
/// sys.replace_state(PATIENCE, |total: &u64| total + 40).await?;
/// sys.resume();
///
/// while sys.get_state(PATIENCE, |total: &u64| *total).await? != 42 {
///     tokio::task::yield_now().await;
/// }
/// # supervisor.stop().await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Sys {
    slot: Arc<Slot>,
}

/// What [`Sys::status`] says.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// Which life this is.
    pub incarnation: u64,
    /// Whether it is suspended.
    pub suspended: bool,
    /// Messages that it has handled in this life.
    pub handled: u64,
    /// Statistics, while they are on.
    pub statistics: Option<Statistics>,
    /// The type of its state.
    pub state_type: &'static str,
    /// Its state, as its address says that it may be shown; `None` without such a saying, or with one for another type. What went wrong where
    /// the formatter panicked.
    pub state: Option<Result<String, ExitReason>>,
}

impl Sys {
    /// How many messages a log keeps at most: beyond it, hang a hook that stores them.
    pub const LOG_MAX: usize = 10_000;

    pub(crate) fn new(slot: Arc<Slot>) -> Self {
        Self { slot }
    }

    /// Runs `look` on the state between two messages, also while the actor is suspended. `S` is the type of its state, which who
    /// cannot name cannot see.
    ///
    /// `look` holds the actor up while it runs, and must not block: copy out what is needed.
    ///
    /// # Errors
    ///
    /// [`SysError`]; after a [`SysError::Timeout`] or [`SysError::Down`] `look` has not run.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn get_state<S: Send + 'static, R>(
        &self,
        timeout: Duration,
        look: impl FnOnce(&S) -> R,
    ) -> Result<R, SysError> {
        let cell = self.cell::<S>()?;
        let mut look = Some(look);
        let looked = cell.with(|state| look.take().map(|look| look(state)));
        let seen = in_time(timeout, looked).await?;
        let seen = seen.map_err(SysError::Failed)?;
        seen.ok_or(SysError::Down)
    }

    /// Puts what `make` makes of the state in its place. When `make` panics, the state stays.
    ///
    /// # Errors
    ///
    /// [`SysError`]; the state is as it was.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it has happened or not.
    pub async fn replace_state<S: Send + 'static>(
        &self,
        timeout: Duration,
        make: impl FnOnce(&S) -> S,
    ) -> Result<(), SysError> {
        let cell = self.cell::<S>()?;
        let mut make = Some(make);
        let replaced = cell.with(|state| {
            if let Some(make) = make.take() {
                *state = make(state);
            }
        });
        in_time(timeout, replaced).await?.map_err(SysError::Failed)
    }

    /// Waits for the message at work, and lets no other begin: they queue, in order, and their callers time out. Twice is as
    /// once. An actor that its supervisor or its [`Address`](super::super::Address) is to stop is resumed for it. A plain
    /// [`ractor::ActorCell::stop`] of one that has a message, or its `post_start`, in hand already takes effect when it is resumed: ractor looks at stops
    /// between two messages only, and tells nobody of them before. Its kill ends it at once.
    ///
    /// # Errors
    ///
    /// [`SysError::Timeout`], [`SysError::Down`], [`SysError::CallingSelf`]: it is not suspended.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped future has not suspended it.
    pub async fn suspend(&self, timeout: Duration) -> Result<(), SysError> {
        let cell = self.any_cell()?;
        in_time(timeout, cell.suspend()).await
    }

    /// Lets messages be handled again, in the order in which they came. Twice is as once.
    pub fn resume(&self) {
        if let Some(live) = self.slot.life() {
            live.incarnation.resume();
        }
    }

    /// Whether it is suspended.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        let cell = self.slot.life().and_then(|live| live.incarnation.cell());
        cell.is_some_and(|cell| cell.is_suspended())
    }

    /// How it is, with its state as its address says that it may be shown
    /// ([`Address::state_format`](crate::otp::Address::state_format)).
    ///
    /// # Errors
    ///
    /// [`SysError::Timeout`], [`SysError::Down`], [`SysError::CallingSelf`]. A formatter that fails is no error: the status says so.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn status(&self, timeout: Duration) -> Result<Status, SysError> {
        let live = self.live()?;
        let cell = self.any_cell()?;
        let (suspended, state_type) = (cell.is_suspended(), cell.state_type());
        let state = match self.slot.state_format() {
            None => None,
            Some(format) => in_time(timeout, cell.format(format)).await?,
        };
        Ok(Status {
            incarnation: live.incarnation.number,
            suspended,
            handled: live.incarnation.handled(),
            statistics: self.statistics(),
            state_type,
            state,
        })
    }

    /// Starts counting from 0, or stops.
    pub fn set_statistics(&self, on: bool) {
        self.slot.debug().set_statistics(on, Instant::now());
    }

    /// What was counted; `None` while nothing is.
    #[must_use]
    pub fn statistics(&self) -> Option<Statistics> {
        self.slot.debug().statistics(Instant::now())
    }

    /// Keeps the newest `room` messages and answers, at most [`LOG_MAX`](Self::LOG_MAX); 0 turns the log off. OTP's default is 10.
    pub fn set_log(&self, room: usize) {
        self.slot.debug().set_log(room.min(Self::LOG_MAX));
    }

    /// What the log holds, oldest first; `None` while it is off.
    #[must_use]
    pub fn log(&self) -> Option<Vec<Traffic>> {
        self.slot.debug().log()
    }

    /// Sends each message and answer to `tracing` at level info, under this name; `None` turns it off.
    pub fn set_trace(&self, name: Option<&str>) {
        self.slot.debug().set_trace(name.map(Arc::from));
    }

    /// Calls `hook` for each message that comes in and each answer that goes out, in the actor's own task: it must be quick. One that
    /// says [`Keep::No`] or panics is removed. `false` when a hook of this id is there, which stays.
    pub fn install(&self, id: &str, hook: impl FnMut(&Traffic) -> Keep + Send + 'static) -> bool {
        self.slot.debug().install(id.into(), Box::new(hook))
    }

    /// Removes a hook. Whether there was one.
    #[expect(
        clippy::must_use_candidate,
        reason = "it is called for what it does; the answer is a courtesy"
    )]
    pub fn remove(&self, id: &str) -> bool {
        self.slot.debug().remove(id)
    }

    /// Turns off statistics, log and trace, and removes all hooks.
    pub fn no_debug(&self) {
        self.slot.debug().clear();
    }

    /// Ends the actor with this reason, as [`Address::stop`](crate::otp::Address::stop) does.
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: it ends all the same.
    pub async fn terminate(
        &self,
        reason: ExitReason,
        timeout: Duration,
    ) -> Result<ExitReason, CallError> {
        let live = self.slot.life().ok_or(NotSent::Down)?;
        if scope::waits_for(live.incarnation.id) {
            return Err(NotSent::CallingSelf.into());
        }
        live.stop(reason, timeout).await
    }

    fn live(&self) -> Result<Arc<Live>, SysError> {
        let live = self.slot.life().ok_or(SysError::Down)?;
        if scope::waits_for(live.incarnation.id) {
            return Err(SysError::CallingSelf);
        }
        Ok(live)
    }

    fn any_cell(&self) -> Result<Arc<dyn AnyCell>, SysError> {
        self.live()?.incarnation.cell().ok_or(SysError::Down)
    }

    fn cell<S: Send + 'static>(&self) -> Result<Arc<Cell<S>>, SysError> {
        let cell = self.any_cell()?;
        let is = cell.state_type();
        let asked = type_name::<S>();
        let other = |_| SysError::OtherState { is, asked };
        cell.into_any().downcast::<Cell<S>>().map_err(other)
    }
}

async fn in_time<T>(
    timeout: Duration,
    work: impl Future<Output = Result<T, Gone>>,
) -> Result<T, SysError> {
    match time::timeout(timeout, work).await {
        Ok(done) => done.map_err(|Gone| SysError::Down),
        Err(_) => Err(SysError::Timeout(timeout)),
    }
}

impl fmt::Debug for Sys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sys")
            .field("suspended", &self.is_suspended())
            .finish_non_exhaustive()
    }
}
