use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

use ractor::{ActorCell, Message, MessagingErr};
use tokio::time::{self, Instant};

use self::{answer::within, slot::Handed};
use super::{
    Admission, CallError, ExitReason, NotSent, Permit, Reply, Request, Sys, Unanswered, scope,
    sys::StateFormat,
};

mod answer;
mod slot;

pub(super) use answer::why_dropped;
pub(crate) use slot::{Live, Slot};

/// How everybody talks to a supervised actor. It survives restarts, and exists before the actor does.
///
/// Clones are cheap and lead to the same actor. The supervisor that starts the actor puts each new incarnation in; nothing
/// is registered by name.
///
/// ```
/// use std::time::Duration;
/// use underpin::otp::{Address, Reply};
/// use underpin::ractor::{Actor, ActorProcessingErr, ActorRef};
///
/// enum Message {
///     Add(u64),
///     Total(Reply<u64>),
/// }
/// underpin::otp::message!(Message);
///
/// struct Counter;
/// impl Actor for Counter {
///     type Msg = Message;
///     type State = u64;
///     type Arguments = ();
///     async fn pre_start(&self, _: ActorRef<Message>, (): ()) -> Result<u64, ActorProcessingErr> {
///         Ok(0)
///     }
///     async fn handle(&self, _: ActorRef<Message>, message: Message, total: &mut u64) -> Result<(), ActorProcessingErr> {
///         match message {
///             Message::Add(n) => *total += n,
///             Message::Total(reply) => reply.send(*total),
///         }
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use underpin::otp::{ChildSpec, Intensity, Supervisor, SupervisorSpec};
///
/// let counter = Address::new();
/// let spec = SupervisorSpec::new("doc", Intensity::new(3, Duration::from_secs(5)))
///     .child(ChildSpec::actor("counter", &counter, |_| (Counter, ())));
/// let supervisor = Supervisor::start(spec).await?;
///
/// counter.send(Message::Add(2))?;
/// assert_eq!(counter.call(Message::Total, Duration::from_secs(1)).await?, 2);
/// supervisor.stop().await;
/// # Ok(()) }
/// ```
pub struct Address<M> {
    slot: Arc<Slot>,
    message: PhantomData<fn(M)>,
}

/// What an [`Address`] leads to at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressStatus {
    /// Nobody, for now: not started yet, or between two lives.
    Vacant,
    /// A running actor; the number of its life, counted from 1.
    Running {
        /// 1 for the first start, one more for each restart.
        incarnation: u64,
    },
}

impl<M: Message> Address<M> {
    /// A new address where nobody lives yet, with the default [`Admission`].
    #[must_use]
    pub fn new() -> Self {
        Self::with_admission(Admission::default())
    }

    /// A new address that admits as many requests at once as `admission` says.
    #[must_use]
    pub fn with_admission(admission: Admission) -> Self {
        Self {
            slot: Arc::new(Slot::new(admission)),
            message: PhantomData,
        }
    }

    /// Gives messages names, so that the [`Tree`](super::Tree) can tell which one a child is at work on. Costs some
    /// nanoseconds a message. Say it before the child is started; the first one said counts.
    ///
    /// ```
    /// use underpin::otp::Address;
    ///
    /// enum Message { Add(u64), Clear }
    /// underpin::otp::message!(Message);
    ///
    /// let counter = Address::new().message_names(|message| match message {
    ///     Message::Add(_) => "add",
    ///     Message::Clear => "clear",
    /// });
    /// # let _ = counter.send(Message::Add(1)).is_err() && counter.send(Message::Clear).is_err();
    /// ```
    #[must_use]
    pub fn message_names(self, name: fn(&M) -> &'static str) -> Self {
        let _ = self.slot.words().message_name.set(Box::new(name));
        self
    }

    /// Says how the state of the actor here is shown by [`Sys::status`]; leave out what nobody should read. The first one said
    /// counts.
    #[must_use]
    pub fn state_format<S: 'static>(self, format: fn(&S) -> String) -> Self {
        let format: StateFormat<S> = format;
        let _ = self.slot.words().state_format.set(Arc::new(format));
        self
    }

    /// Looks inside the actor here, whichever incarnation that is.
    #[must_use]
    pub fn sys(&self) -> Sys {
        Sys::new(Arc::clone(&self.slot))
    }

    /// Sends a request and waits for its answer.
    ///
    /// `timeout` covers everything: waiting for a place, waiting for a restart in progress, and the answer. A request is
    /// never sent twice. A child that has been asked to end waits for nobody's restart, which may come after its own end:
    /// it is told [`NotSent::Down`].
    ///
    /// # Errors
    ///
    /// [`CallError::NotSent`]: the request did not run, a retry is safe.
    /// [`CallError::Unanswered`]: it may have run.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the answer, not the request: once sent, it may still run.
    pub async fn call<T: Send + 'static>(
        &self,
        request: impl FnOnce(Reply<T>) -> M,
        timeout: Duration,
    ) -> Result<T, CallError> {
        self.check_caller()?;
        let deadline = Instant::now().checked_add(timeout);
        let permit = match self.slot.door.try_enter() {
            Some(permit) => permit,
            None => self.admit_later(deadline).await?,
        };
        let (reply, answer) = Reply::new(permit, deadline);
        let live = self.deliver(request(reply), deadline).await?;
        match within(deadline, answer).await {
            Some(Ok(answer)) => Ok(answer),
            None => Err(Unanswered::Timeout(timeout).into()),
            Some(Err(_)) => Err(why_dropped(&live, deadline, timeout).await.into()),
        }
    }

    /// Sends a request now, without ever waiting, and gives a handle on its answer. [`Requests`](super::Requests) gathers
    /// several.
    ///
    /// # Errors
    ///
    /// [`NotSent`]: the request did not run, a retry is safe.
    pub fn request<T: Send + 'static>(
        &self,
        request: impl FnOnce(Reply<T>) -> M,
    ) -> Result<Request<T>, NotSent> {
        let permit = self.try_admit()?;
        // Before there is a reply: one that nobody was sent is none that nobody waited for.
        let live = self.slot.life().ok_or(NotSent::Down)?;
        let (reply, answer) = Reply::new(permit, None);
        match live.hand(request(reply))? {
            Handed::Over => Ok(Request::new(answer, live)),
            Handed::Back(_) => Err(NotSent::Down),
        }
    }

    /// Ends the actor here with this reason, after the message it is at, and waits until everything of it is gone. Its
    /// `post_stop` runs, once. Whether it is started again is its supervisor's decision, by this reason. OTP's
    /// `gen_server:stop`.
    ///
    /// It is told at once, as by its supervisor: its [`cancellation`](super::ChildContext::cancellation) fires, so a handler that
    /// waits for that as well may cut its message short, and one that waits for somebody's restart gives that up.
    ///
    /// Gives the reason it ended with: another one when something went wrong at its end, or when it was ending already.
    ///
    /// # Errors
    ///
    /// [`NotSent::Down`] when nobody lives here, [`NotSent::CallingSelf`] when the actor itself asks;
    /// [`Unanswered::Timeout`] when it had not ended in time: it still ends.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: it ends all the same.
    pub async fn stop(
        &self,
        reason: ExitReason,
        timeout: Duration,
    ) -> Result<ExitReason, CallError> {
        self.check_caller()?;
        let live = self.slot.life().ok_or(NotSent::Down)?;
        live.stop(reason, timeout).await
    }

    /// Sends a message that carries a [`Permit`], waiting for a place where the address is full and set to wait.
    ///
    /// # Errors
    ///
    /// [`NotSent`]: the message was not sent. Nobody at the address is an error at once: a cast does not wait for a restart.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped future has sent nothing.
    pub async fn cast(&self, message: impl FnOnce(Permit) -> M) -> Result<(), NotSent> {
        if let Some(permit) = self.slot.door.try_enter() {
            return self.send(message(self.own_start(permit)));
        }
        // An actor that waits for a place at its own address waits for itself.
        self.check_caller()?;
        let permit = self.admit_later(None).await?;
        self.send(message(permit))
    }

    /// Sends a message that carries a [`Permit`], without ever waiting.
    ///
    /// # Errors
    ///
    /// [`NotSent`]: the message was not sent; [`NotSent::Full`] is counted.
    pub fn try_cast(&self, message: impl FnOnce(Permit) -> M) -> Result<(), NotSent> {
        let permit = self.try_admit()?;
        self.send(message(self.own_start(permit)))
    }

    /// A place for a message that is made when there is one; `None` where there is none now.
    #[cfg(feature = "cluster")]
    pub(crate) fn admit_now(&self) -> Option<Permit> {
        self.slot.door.try_enter()
    }

    /// The same, waiting for a place where the address is set to wait.
    #[cfg(feature = "cluster")]
    pub(crate) async fn admit(&self) -> Result<Permit, NotSent> {
        match self.admit_now() {
            Some(permit) => Ok(permit),
            None => self.admit_later(None).await,
        }
    }

    fn try_admit(&self) -> Result<Permit, NotSent> {
        let door = &self.slot.door;
        door.try_enter().ok_or_else(|| {
            door.gate().refuse();
            NotSent::Full
        })
    }

    /// Sends a plain message, outside of admission.
    ///
    /// # Errors
    ///
    /// [`NotSent::Down`] when nobody lives at the address.
    pub fn send(&self, message: M) -> Result<(), NotSent> {
        let current = self.slot.current.load();
        let live = current.as_ref().ok_or(NotSent::Down)?;
        live.actor
            .send_message(message)
            .map_err(|_: MessagingErr<M>| NotSent::Down)
    }

    /// Waits until somebody lives at the address.
    ///
    /// # Errors
    ///
    /// [`NotSent::Down`] when nobody came within `timeout`, or when a child asks that has itself been asked to end.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn wait_ready(&self, timeout: Duration) -> Result<(), NotSent> {
        match time::timeout(timeout, self.slot.filled(0)).await {
            Ok(filled) => filled.map(|_| ()),
            Err(_) => Err(NotSent::Down),
        }
    }

    /// What the address leads to now.
    #[must_use]
    pub fn status(&self) -> AddressStatus {
        match &*self.slot.current.load() {
            None => AddressStatus::Vacant,
            Some(live) => AddressStatus::Running {
                incarnation: live.incarnation.number,
            },
        }
    }

    /// How many requests are in flight.
    #[must_use]
    pub fn admitted(&self) -> usize {
        self.slot.admitted()
    }

    /// How many requests were refused because the address was full.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.slot.gate().refused()
    }

    /// How many requests were let go unanswered because their callers had given up ([`Reply::is_closed`]).
    #[must_use]
    pub fn expired(&self) -> u64 {
        self.slot.gate().expired()
    }

    /// How many answers were dropped because their callers had given up.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.slot.gate().late()
    }

    /// The actor that lives here now, for what only ractor offers. It does not survive a restart.
    #[must_use]
    pub fn actor(&self) -> Option<ActorCell> {
        let current = self.slot.current.load();
        current.as_ref().map(|live| live.actor.clone())
    }

    pub(crate) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    fn check_caller(&self) -> Result<(), NotSent> {
        if scope::current() == 0 {
            return Ok(());
        }
        let current = self.slot.current.load();
        let own = current
            .as_ref()
            .is_some_and(|live| scope::waits_for(live.incarnation.id));
        if own {
            Err(NotSent::CallingSelf)
        } else {
            Ok(())
        }
    }

    /// What an actor casts to itself starts a trace of its own.
    fn own_start(&self, mut permit: Permit) -> Permit {
        if permit.has_context() && self.check_caller().is_err() {
            permit.link();
        }
        permit
    }

    /// For when there was no place: the usual case does without a future of its own.
    async fn admit_later(&self, deadline: Option<Instant>) -> Result<Permit, NotSent> {
        let door = &self.slot.door;
        let admitted = match deadline {
            _ if !door.waits() => None,
            None => Some(door.enter().await),
            Some(deadline) => time::timeout_at(deadline, door.enter()).await.ok(),
        };
        admitted.ok_or_else(|| {
            door.gate().refuse();
            NotSent::Full
        })
    }

    /// Hands the message to whoever lives here; while that is nobody, waits for the next incarnation.
    async fn deliver(&self, message: M, deadline: Option<Instant>) -> Result<Arc<Live>, NotSent> {
        let mut message = message;
        let mut gone = 0;
        if let Some(live) = &*self.slot.current.load() {
            match live.hand(message)? {
                Handed::Over => return Ok(Arc::clone(live)),
                Handed::Back(back) => (message, gone) = (back, live.incarnation.id),
            }
        }
        loop {
            let live = match deadline {
                None => self.slot.filled(gone).await?,
                Some(deadline) => time::timeout_at(deadline, self.slot.filled(gone))
                    .await
                    .map_err(|_| NotSent::Down)??,
            };
            match live.hand(message)? {
                Handed::Over => return Ok(live),
                Handed::Back(back) => (message, gone) = (back, live.incarnation.id),
            }
        }
    }
}

impl<M: Message> Default for Address<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M> Clone for Address<M> {
    fn clone(&self) -> Self {
        Self {
            slot: Arc::clone(&self.slot),
            message: PhantomData,
        }
    }
}

impl<M> fmt::Debug for Address<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let current = self.slot.current.load();
        f.debug_struct("Address")
            .field("actor", &current.as_ref().map(|live| live.actor.get_id()))
            .field("admitted", &self.slot.admitted())
            .finish()
    }
}
