//! Where the state of an actor lies between two messages, and how others get at it there.

use std::{
    any::{Any, type_name},
    fmt,
    mem::ManuallyDrop,
    ops::{Deref, DerefMut},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use crossbeam_utils::atomic::AtomicCell;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::{
    sync::{self, Notify},
    time,
};

use crate::otp::{ExitReason, incarnation::discard, start::ExitNotice, waiting::Waiting};

/// Holds an actor's state. The actor takes it out for each message, by one exchange, and puts it back, by a plain write;
/// whoever looks inside takes it out for a moment as well, in its turn.
pub(crate) struct Cell<S> {
    /// Only [`Cell::take`] and [`Cell::set`] touch it.
    state: AtomicCell<Option<ManuallyDrop<Box<S>>>>,
    /// Those that wait for the state. The actor looks here before each message, and lines up behind them.
    waiting: AtomicUsize,
    line: sync::Mutex<()>,
    /// Something may be different now: the state is back, aside, or gone.
    changed: Notify,
    /// The state of a suspended actor.
    aside: Mutex<Option<Box<S>>>,
    /// Whether there is one; for those who must not wait for whoever looks at it.
    suspended: AtomicBool,
    gone: AtomicBool,
    /// Last, so that the end is told when the state has gone, whoever had it.
    _notice: ExitNotice,
}

/// The state, until this is dropped.
pub(crate) struct Lent<'a, S> {
    cell: &'a Cell<S>,
    state: Option<Box<S>>,
}

/// The actor has ended, and its state with it.
#[derive(Debug)]
pub(crate) struct Gone;

/// A wake-up that is missed costs no more than this: the actor does not pay for an exchange that could not miss it.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

impl<S> Cell<S> {
    pub(crate) fn new(notice: ExitNotice) -> Self {
        Self {
            state: AtomicCell::new(None),
            waiting: AtomicUsize::new(0),
            line: sync::Mutex::new(()),
            changed: Notify::new(),
            aside: Mutex::new(None),
            suspended: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            _notice: notice,
        }
    }

    fn take(&self) -> Option<Box<S>> {
        self.state.take().map(ManuallyDrop::into_inner)
    }

    /// Whoever has the state alone says this, so that there is none here: one would be lost, and what must be dropped could not
    /// be written without an exchange.
    fn set(&self, state: Box<S>) {
        self.state.store(Some(ManuallyDrop::new(state)));
    }

    /// The actor puts its state back.
    pub(crate) fn put(&self, state: Box<S>) {
        self.set(state);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.changed.notify_waiters();
        }
    }

    /// Takes the state, where it is there and nobody waits for it.
    #[inline]
    pub(crate) fn try_lend(&self) -> Option<Lent<'_, S>> {
        if self.waiting.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let state = self.take()?;
        Some(Lent {
            cell: self,
            state: Some(state),
        })
    }

    /// Takes the state in turn; for the actor itself, which waits while it is suspended.
    pub(crate) async fn lend(&self) -> Result<Lent<'_, S>, Gone> {
        if let Some(lent) = self.try_lend() {
            return Ok(lent);
        }
        // In its own place: this is rare, and what each actor's future holds would be larger by it.
        match Box::pin(self.reach(Aside::Wait)).await {
            Reached::Lent(lent) => Ok(lent),
            Reached::Aside | Reached::Gone => Err(Gone),
        }
    }

    /// The actor ends: what it has here goes, and nobody waits for it any more.
    pub(crate) fn end(&self) -> Result<(), ExitReason> {
        self.gone.store(true, Ordering::SeqCst);
        let own = discard(self.take());
        let aside = discard(self.take_aside());
        self.changed.notify_waiters();
        own.and(aside)
    }

    pub(crate) fn resume(&self) {
        if let Some(state) = self.take_aside() {
            self.give_back(state);
        }
    }

    pub(crate) fn is_suspended(&self) -> bool {
        self.suspended.load(Ordering::SeqCst)
    }

    fn take_aside(&self) -> Option<Box<S>> {
        let mut aside = self.aside.lock();
        self.suspended.store(false, Ordering::SeqCst);
        aside.take()
    }

    /// Waits for the message that is being handled, and lets no other begin. Twice is as once.
    pub(crate) async fn suspend(&self) -> Result<(), Gone> {
        match self.reach(Aside::Take).await {
            Reached::Gone => Err(Gone),
            Reached::Aside => Ok(()),
            Reached::Lent(mut lent) => {
                {
                    let mut aside = self.aside.lock();
                    *aside = lent.state.take();
                    self.suspended.store(true, Ordering::SeqCst);
                }
                if self.gone.load(Ordering::SeqCst) {
                    let _ = discard(self.take_aside());
                    return Err(Gone);
                }
                self.changed.notify_waiters();
                Ok(())
            }
        }
    }

    /// Runs a short piece of code on the state, between two messages. Its panic is an error, and harms nobody.
    pub(crate) async fn with<R>(
        &self,
        mut code: impl FnMut(&mut S) -> R,
    ) -> Result<Result<R, ExitReason>, Gone> {
        loop {
            match self.reach(Aside::Take).await {
                Reached::Gone => return Err(Gone),
                Reached::Lent(mut lent) => {
                    let result = caught(|| code(&mut lent));
                    drop(lent);
                    // The actor may have come to wait unseen, and does not look again by itself.
                    self.changed.notify_waiters();
                    return Ok(result);
                }
                Reached::Aside => {
                    if let Some(state) = self.aside.lock().as_mut() {
                        return Ok(caught(|| code(state)));
                    }
                }
            }
        }
    }

    async fn reach(&self, aside: Aside) -> Reached<'_, S> {
        let _waiting = Waiting::new(&self.waiting);
        let mut line = pin!(self.line.lock());
        let mut turn = None;
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.gone.load(Ordering::SeqCst) {
                return Reached::Gone;
            }
            if aside == Aside::Take && self.is_suspended() {
                return Reached::Aside;
            }
            if turn.is_some()
                && let Some(state) = self.take()
            {
                return Reached::Lent(Lent {
                    cell: self,
                    state: Some(state),
                });
            }
            tokio::select! {
                mine = &mut line, if turn.is_none() => turn = Some(mine),
                () = changed => {}
                () = time::sleep(LOOK_AGAIN), if turn.is_some() && aside == Aside::Take => {}
            }
        }
    }

    /// From somebody else than the actor, which may have ended meanwhile.
    fn give_back(&self, state: Box<S>) {
        self.set(state);
        if self.gone.load(Ordering::SeqCst) {
            let _ = discard(self.take());
        }
        self.changed.notify_waiters();
    }
}

/// What the state of a suspended actor is to whoever wants it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Aside {
    Take,
    Wait,
}

enum Reached<'a, S> {
    Lent(Lent<'a, S>),
    /// The actor is suspended, and its state lies aside.
    Aside,
    Gone,
}

fn caught<R>(code: impl FnOnce() -> R) -> Result<R, ExitReason> {
    catch_unwind(AssertUnwindSafe(code)).map_err(|payload| {
        let reason = ExitReason::from_panic(&*payload);
        let _ = discard(payload);
        reason
    })
}

impl<S> Lent<'_, S> {
    /// Drops the state, whose drop may panic.
    pub(crate) fn discard(mut self) -> Result<(), ExitReason> {
        discard(self.state.take())
    }
}

const TAKEN: &str = "the state is there until this is dropped";

impl<S> Deref for Lent<'_, S> {
    type Target = S;

    fn deref(&self) -> &S {
        self.state.as_deref().expect(TAKEN)
    }
}

impl<S> DerefMut for Lent<'_, S> {
    fn deref_mut(&mut self) -> &mut S {
        self.state.as_deref_mut().expect(TAKEN)
    }
}

impl<S> Drop for Lent<'_, S> {
    fn drop(&mut self) {
        if let Some(state) = self.state.take() {
            self.cell.put(state);
            if self.cell.gone.load(Ordering::Relaxed) {
                let _ = discard(self.cell.take());
            }
        }
    }
}

impl<S> Drop for Cell<S> {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// A [`Cell`] of whatever state.
pub(crate) trait AnyCell: fmt::Debug + Send + Sync {
    fn suspend(self: Arc<Self>) -> BoxFuture<'static, Result<(), Gone>>;
    fn resume(&self);
    fn is_suspended(&self) -> bool;
    fn state_type(&self) -> &'static str;
    /// The state as `form` tells it; `form` is a [`StateFormat`] for some type of state.
    fn format(
        self: Arc<Self>,
        form: Arc<dyn Any + Send + Sync>,
    ) -> BoxFuture<'static, Result<Option<Result<String, ExitReason>>, Gone>>;
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

/// How a state is shown.
pub(crate) type StateFormat<S> = fn(&S) -> String;

impl<S: Send + 'static> AnyCell for Cell<S> {
    fn suspend(self: Arc<Self>) -> BoxFuture<'static, Result<(), Gone>> {
        Box::pin(async move { Cell::suspend(&self).await })
    }

    fn resume(&self) {
        Cell::resume(self);
    }

    fn is_suspended(&self) -> bool {
        Cell::is_suspended(self)
    }

    fn state_type(&self) -> &'static str {
        type_name::<S>()
    }

    fn format(
        self: Arc<Self>,
        form: Arc<dyn Any + Send + Sync>,
    ) -> BoxFuture<'static, Result<Option<Result<String, ExitReason>>, Gone>> {
        Box::pin(async move {
            let Some(form) = form.downcast_ref::<StateFormat<S>>() else {
                return Ok(None);
            };
            self.with(|state| form(state)).await.map(Some)
        })
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

impl<S> fmt::Debug for Cell<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cell")
            .field("state", &type_name::<S>())
            .field("suspended", &self.is_suspended())
            .finish_non_exhaustive()
    }
}
