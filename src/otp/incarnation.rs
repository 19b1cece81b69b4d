//! One life of a child: what it counts while it lives, and how it ended.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    Context, ExitReason, asked, cancel::Cancel, monitor::Watchers, sampler::Look, scope,
    sys::AnyCell,
};

/// Shared by the child, its address, its supervisor and the tree.
#[derive(Debug)]
pub(crate) struct Incarnation {
    /// Unique in the process; what `CallingSelf` compares.
    pub(crate) id: u64,
    /// First life is 1.
    pub(crate) number: u64,
    /// Odd while a message is handled; half of it is the count. One writer, so no read-modify-write is needed.
    steps: AtomicU64,
    /// What the message is called that was begun last, where somebody gives them names.
    message: Mutex<Option<&'static str>>,
    /// What the tree's sampler saw.
    pub(super) look: Mutex<Look>,
    /// Where its state is, while it has one.
    cell: OnceLock<Weak<dyn AnyCell>>,
    /// That it was asked to end, or has ended.
    cancel: Cancel,
    /// The reason that it was asked to end with.
    asked: OnceLock<Box<ExitReason>>,
    /// The child's task has come to its end; the notice of it may still be on its way.
    ending: AtomicBool,
    /// What the child itself left: written at the moment of the failure, before anything is torn down.
    left: OnceLock<Box<Left>>,
    /// Where it was when it failed.
    failed_in: OnceLock<Box<Context>>,
    /// The verdict, once everything of the child is gone.
    exit: OnceLock<Box<ExitReason>>,
    ended: Notify,
    /// Those that wait for the verdict without a task of their own.
    watchers: Mutex<Option<Box<Watchers>>>,
    /// Where a test can hurt it.
    #[cfg(feature = "testing")]
    pub(crate) fault: super::fault::Fault,
}

/// What a child leaves behind when it ends.
#[derive(Debug, Clone)]
pub(crate) enum Left {
    /// Its `post_stop` ran to its end; the words of the stop are not known here.
    Clean,
    /// This went wrong, or was said.
    Reason(ExitReason),
    /// Its start declined: there was nothing to do.
    Ignored,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Incarnation {
    pub(crate) fn new(number: u64) -> Arc<Self> {
        Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            number,
            steps: AtomicU64::new(0),
            message: Mutex::new(None),
            look: Mutex::default(),
            cell: OnceLock::new(),
            cancel: Cancel::default(),
            asked: OnceLock::new(),
            ending: AtomicBool::new(false),
            left: OnceLock::new(),
            failed_in: OnceLock::new(),
            exit: OnceLock::new(),
            ended: Notify::new(),
            watchers: Mutex::default(),
            #[cfg(feature = "testing")]
            fault: super::fault::Fault::default(),
        })
    }

    /// How many messages were handled to their end.
    pub(crate) fn handled(&self) -> u64 {
        self.steps.load(Ordering::Relaxed) / 2
    }

    /// Whether a message is being handled now.
    pub(crate) fn is_busy(&self) -> bool {
        self.steps.load(Ordering::Relaxed) % 2 == 1
    }

    pub(crate) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Acquire)
    }

    pub(crate) fn step(&self) {
        let steps = self.steps.load(Ordering::Relaxed);
        self.steps.store(steps + 1, Ordering::Release);
    }

    pub(crate) fn set_message(&self, name: &'static str) {
        *self.message.lock() = Some(name);
    }

    /// What the message is called that was begun last.
    pub(crate) fn message(&self) -> Option<&'static str> {
        *self.message.lock()
    }

    pub(crate) fn offer(&self, cell: Weak<impl AnyCell + 'static>) {
        let _ = self.cell.set(cell);
    }

    /// Where its state is, while it has one.
    pub(crate) fn cell(&self) -> Option<Arc<dyn AnyCell>> {
        self.cell.get().and_then(Weak::upgrade)
    }

    /// A suspended child could not even be stopped.
    pub(crate) fn resume(&self) {
        if let Some(cell) = self.cell() {
            cell.resume();
        }
    }

    /// Tells it that it is to end, or has.
    pub(crate) fn cancel(&self) {
        self.cancel.cancel();
        asked::tell(self.id);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Fires when it is told to end, and at the latest when it has ended.
    pub(crate) fn cancellation(&self) -> &CancellationToken {
        self.cancel.token()
    }

    /// Asks for an end with this reason. The first reason counts.
    pub(crate) fn ask(&self, reason: ExitReason) {
        let _ = self.asked.set(Box::new(reason));
    }

    /// How it ends when it ends well.
    pub(crate) fn asked_end(&self) -> Left {
        let asked = self.asked.get().map(|reason| (**reason).clone());
        asked.map_or(Left::Clean, Left::Reason)
    }

    pub(crate) fn end(&self) {
        self.ending.store(true, Ordering::Release);
        self.ended.notify_waiters();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// Waits until everything of the child is gone.
    pub(crate) async fn gone(&self) {
        while !self.has_ended() {
            let mut ended = pin!(self.ended.notified());
            ended.as_mut().enable();
            if !self.has_ended() {
                ended.await;
            }
        }
    }

    /// Notes how the child ends. The first word counts. A failure is noted in the same poll in which the code failed, so that the context
    /// it left last is the one it failed in.
    pub(crate) fn leave(&self, left: Left) {
        if matches!(&left, Left::Reason(reason) if !reason.is_clean()) {
            let _ = self.failed_in.set(Box::new(Context::take_left()));
        }
        let _ = self.left.set(Box::new(left));
    }

    /// How it ended, from what it left and from what ractor told of its stop. `None` where these are still to come: ractor
    /// has sent them already, so that whoever asks again knows.
    pub(crate) fn reason(&self, stop: Option<ExitReason>, asked_again: bool) -> Option<ExitReason> {
        match (self.left(), stop) {
            (Some(Left::Reason(reason)), _) => Some(reason.clone()),
            (None, _) => Some(ExitReason::Killed),
            (Some(Left::Clean | Left::Ignored), Some(stop)) => Some(stop),
            (Some(Left::Clean | Left::Ignored), None) => asked_again.then_some(ExitReason::Normal),
        }
    }

    /// How it ended, once it was asked to.
    pub(crate) fn end_by_request(&self) -> ExitReason {
        match self.left() {
            None => ExitReason::Killed,
            Some(Left::Clean | Left::Ignored) => ExitReason::Shutdown(None),
            Some(Left::Reason(reason)) => reason.clone(),
        }
    }

    /// The context that it failed in; empty where there was none.
    pub(crate) fn failed_in(&self) -> Context {
        self.failed_in
            .get()
            .map_or_else(Context::default, |context| **context)
    }

    pub(crate) fn left(&self) -> Option<&Left> {
        self.left.get().map(|left| &**left)
    }

    /// Gives the verdict, once. Everything of the child is gone by now.
    pub(crate) fn finish(&self, reason: ExitReason) {
        self.decide(reason);
        self.tell_watchers();
    }

    /// The verdict for whoever looks and waits.
    pub(crate) fn decide(&self, reason: ExitReason) {
        let _ = self.exit.set(Box::new(reason));
        self.ended.notify_waiters();
    }

    /// The verdict for those that are told. Code of a user's runs in there.
    fn tell_watchers(&self) {
        let watchers = std::mem::take(&mut *self.watchers.lock());
        if let (Some(watchers), Some(reason)) = (watchers, self.exit()) {
            watchers.tell(reason);
        }
    }

    /// Runs `enter` on those that wait for the verdict, or gives the verdict.
    pub(crate) fn watch(&self, enter: impl FnOnce(&mut Watchers)) -> Option<&ExitReason> {
        let mut watchers = self.watchers.lock();
        let exit = self.exit();
        if exit.is_none() {
            enter(watchers.get_or_insert_default());
        }
        exit
    }

    /// The verdict from what the child left, where nobody can tell more.
    pub(crate) fn finish_from_left(&self) {
        self.finish(match self.left() {
            None => ExitReason::Killed,
            Some(Left::Clean | Left::Ignored) => ExitReason::Normal,
            Some(Left::Reason(reason)) => reason.clone(),
        });
    }

    pub(crate) fn exit(&self) -> Option<&ExitReason> {
        self.exit.get().map(|reason| &**reason)
    }

    /// Waits for the verdict.
    pub(crate) async fn ended(&self) -> ExitReason {
        loop {
            let mut ended = pin!(self.ended.notified());
            ended.as_mut().enable();
            if let Some(reason) = self.exit() {
                return reason.clone();
            }
            ended.await;
        }
    }

    /// Runs a callback of the child as the child: its panic becomes an [`ExitReason`], and a call that it makes to itself
    /// is recognised.
    ///
    /// Takes it pinned: an async function would copy it, with the message inside, once or twice.
    #[inline]
    pub(crate) fn run<'a, F: Future>(
        &'a self,
        callback: Pin<&'a mut F>,
    ) -> impl Future<Output = Result<F::Output, ExitReason>> + 'a {
        self.run_start(0, callback)
    }

    /// The same while the child starts, when it must not call the supervisor that waits for it.
    #[inline]
    pub(crate) fn run_start<'a, F: Future>(
        &'a self,
        supervisor: u64,
        mut callback: Pin<&'a mut F>,
    ) -> impl Future<Output = Result<F::Output, ExitReason>> + 'a {
        poll_fn(move |cx| {
            let polled = self.catch(supervisor, || {
                #[cfg(feature = "testing")]
                self.fault.strike(cx.waker());
                callback.as_mut().poll(cx)
            });
            match polled {
                Ok(Poll::Pending) => Poll::Pending,
                Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
                Err(panicked) => Poll::Ready(Err(panicked)),
            }
        })
    }

    /// Runs a piece of the child's code as the child.
    pub(crate) fn catch<T>(
        &self,
        supervisor: u64,
        code: impl FnOnce() -> T,
    ) -> Result<T, ExitReason> {
        let _scope = scope::enter(self.id, supervisor, self.is_cancelled());
        // What others left here is not its own.
        Context::take_left();
        catch_unwind(AssertUnwindSafe(code)).map_err(|payload| {
            let reason = ExitReason::from_panic(&*payload);
            let _ = discard(payload);
            reason
        })
    }
}

/// Drops something of a user's, whose drop may panic.
pub(crate) fn discard<T>(thing: T) -> Result<(), ExitReason> {
    catch_unwind(AssertUnwindSafe(|| drop(thing))).map_err(|payload| {
        let reason = ExitReason::from_panic(&*payload);
        // A payload whose own drop panics is not worth a crash of ours.
        std::mem::forget(payload);
        reason
    })
}
