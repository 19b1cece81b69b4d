//! The children of one supervisor, and what is done to them. Time and randomness come from `actor`'s side: this is part of
//! the shell.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use ractor::{ActorId, ActorRef};
use tokio::{
    task::JoinHandle,
    time::{self, Instant},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    ChildCounts, ChildInfo, ChildReport, Message,
    intensity::Window,
    spec::check_id,
    stop::{self, Ended},
    verdict::{Verdict, verdict},
};
use crate::otp::{
    ChildContext, ChildKind, ChildSpec, ChildState, ExitReason, IntensityExceeded, Lifecycle,
    OnExceed, Reply, Restart, Shutdown, ShutdownCause, StartError, SupervisorError,
    incarnation::{Incarnation, Left, discard},
    lifecycle::Reports,
    office::Office,
    start::{Control, ExitNotice, NotStarted, Overseer, Seat, Started},
    tree::TreeNode,
};

/// `None`: the start declined.
type Outcome = Result<Option<Started>, StartError>;
type Answer = Reply<Result<(), SupervisorError>>;

/// A slow retry without a pause would be a fast one.
const SLOW_RETRY_MIN: Duration = Duration::from_millis(10);
/// Stands for delays that the clock cannot hold.
const FAR_FUTURE: Duration = Duration::from_hours(100 * 365 * 24);

/// How many exits a child's history keeps for the record of a give-up.
const HISTORY: usize = 8;

/// Where a supervisor stands.
pub(super) struct Place {
    pub(super) me: ActorRef<Message>,
    pub(super) incarnation: Arc<Incarnation>,
    pub(super) node: Arc<TreeNode>,
    pub(super) reports: Reports,
    pub(super) office: Arc<Office<Message>>,
}

pub(crate) struct Room {
    place: Place,
    window: Window,
    began: Instant,
    next_key: u64,
    /// In start order.
    children: BTreeMap<u64, Child>,
    keys: HashMap<Arc<str>, u64>,
    actors: HashMap<ActorId, u64>,
    /// The words of a stop that ractor told of, by child.
    words: HashMap<u64, Option<String>>,
}

struct Child {
    spec: ChildSpec,
    life: Life,
    /// Lives so far.
    lives: u64,
    /// Ends since the last stable run: what the backoff grows with.
    failures: u32,
    window: Option<Window>,
    /// Its budget was used up, and it has not run stably since.
    slow: bool,
    history: VecDeque<ExitReason>,
    node: Arc<TreeNode>,
}

/// What a child is doing. Each state holds all that belongs to it and nothing else.
enum Life {
    /// Its start took more than a moment and goes on in a task.
    Starting {
        incarnation: u64,
        task: AbortOnDropHandle<()>,
        outcome: Arc<Mutex<Option<Outcome>>>,
        cancel: CancellationToken,
        why: Why,
    },
    Running {
        started: Started,
        since: Instant,
    },
    /// Its end was seen; its task has not quite finished.
    Ending {
        started: Started,
        since: Instant,
        reason: ExitReason,
    },
    /// A restart did not get it going; the next attempt is in the mailbox.
    Retrying {
        incarnation: u64,
    },
    /// The next start is due when the timer fires.
    Waiting {
        incarnation: u64,
        _timer: AbortOnDropHandle<()>,
    },
    /// Terminated on request; these want to know when it is done.
    Stopping {
        incarnation: u64,
        task: JoinHandle<()>,
        ended: Arc<Mutex<Ended>>,
        forget: bool,
        replies: Vec<Answer>,
    },
    /// It did not end when killed. Nothing is started in its place while its task is there.
    Leaked(JoinHandle<()>),
    Stopped,
}

/// Who wanted a start, and so what its failure means.
enum Why {
    /// `start_child`: on failure the spec is forgotten.
    Add(Answer),
    /// `restart_child`: on failure the spec stays.
    Again(Answer),
    /// After an end: a failure counts as one more.
    Restart,
}

impl Room {
    pub(super) fn new(place: Place, window: Window) -> Self {
        Self {
            place,
            window,
            began: Instant::now(),
            next_key: 0,
            children: BTreeMap::new(),
            keys: HashMap::new(),
            actors: HashMap::new(),
            words: HashMap::new(),
        }
    }

    /// Starts the first children, one after the other. On failure those before it are stopped again.
    /// So they are when the supervisor itself is to stop before it has started.
    pub(super) async fn start_all(
        &mut self,
        specs: Vec<ChildSpec>,
        cancel: &CancellationToken,
    ) -> Result<(), StartError> {
        for spec in specs {
            let key = self.insert(spec.clone());
            let begun = self.prepare(key);
            // Polled also when cancelled already: a nested start takes itself back.
            let own = begun.cancel.clone();
            let mut start = pin!(finish_in(&spec, begun));
            let outcome = tokio::select! {
                outcome = &mut start => outcome,
                () = cancel.cancelled() => {
                    own.cancel();
                    let child = Arc::clone(&spec.id);
                    if let Ok(Ok(Some(started))) = time::timeout(stop::KILL_GRACE, start).await {
                        stop::stop(child, started, spec.shutdown).await;
                    }
                    Err(StartError::Stopping { child: Arc::clone(&spec.id) })
                }
            };
            match outcome {
                Ok(Some(started)) => self.run(key, started),
                Ok(None) => self.ignored(key),
                Err(error) => {
                    self.note_failed_start(key, &error);
                    self.remove(key);
                    self.stop_all().await;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    // What the children do.

    pub(super) fn words_of_stop(&mut self, actor: ActorId, words: Option<String>) {
        if let Some(key) = self.actors.get(&actor) {
            self.words.insert(*key, words);
        }
    }

    /// A child's task is about to end. When how it ended is not known yet, ractor's own event is waited for: it has been
    /// sent already, and comes first next time.
    pub(super) fn exited(&mut self, key: u64, incarnation: u64, asked_again: bool) {
        let Some(child) = self.children.get_mut(&key) else {
            return;
        };
        let Life::Running { started, .. } = &child.life else {
            return;
        };
        if started.incarnation.id != incarnation {
            return;
        }
        let reason = match (started.incarnation.left(), self.words.remove(&key)) {
            (Some(Left::Reason(reason)), _) => reason.clone(),
            (None, _) => ExitReason::Killed,
            (Some(Left::Clean | Left::Ignored), Some(words)) => {
                ExitReason::from_stop(words.as_deref())
            }
            (Some(Left::Clean | Left::Ignored), None) if asked_again => ExitReason::Normal,
            (Some(Left::Clean | Left::Ignored), None) => {
                self.tell_me(Message::Exited {
                    child: key,
                    incarnation,
                    asked_again: true,
                });
                return;
            }
        };
        let Life::Running { started, since } = std::mem::replace(&mut child.life, Life::Stopped)
        else {
            return;
        };
        if let Control::Actor(cell) = &started.control {
            self.actors.remove(&cell.get_id());
        }
        if let Some(slot) = &started.slot {
            slot.vacate(&started.incarnation);
        }
        if started.is_gone() {
            self.gone(key, started, since, reason);
        } else {
            self.await_end(key, started, since, reason);
        }
    }

    /// The child's task still has to drop what it holds; its successor must not meet that.
    fn await_end(&mut self, key: u64, mut started: Started, since: Instant, reason: ExitReason) {
        let me = self.place.me.clone();
        let incarnation = started.incarnation.id;
        let join = started.join.take();
        // From here on, waiting for the child is waiting for this.
        started.join = Some(tokio::spawn(async move {
            if let Some(join) = join {
                let _ = join.await;
            }
            let _ = me.send_message(Message::Gone {
                child: key,
                incarnation,
            });
        }));
        if let Some(child) = self.children.get_mut(&key) {
            child.life = Life::Ending {
                started,
                since,
                reason,
            };
        }
    }

    pub(super) fn ended(&mut self, key: u64, incarnation: u64) {
        let Some(child) = self.children.get_mut(&key) else {
            return;
        };
        if !matches!(&child.life, Life::Ending { started, .. } if started.incarnation.id == incarnation)
        {
            return;
        }
        if let Life::Ending {
            started,
            since,
            reason,
        } = std::mem::replace(&mut child.life, Life::Stopped)
        {
            self.gone(key, started, since, reason);
        }
    }

    /// Everything of the child is gone: give the verdict.
    fn gone(&mut self, key: u64, started: Started, since: Instant, reason: ExitReason) {
        started.incarnation.finish(reason.clone());
        let lived = since.elapsed();
        drop(started);
        let Some(child) = self.children.get_mut(&key) else {
            return;
        };
        child.note_end(lived, &reason);
        let incarnation = child.lives;
        let exited = Lifecycle::Exited {
            incarnation,
            reason: reason.clone(),
        };
        self.place.reports.send(child.node.path(), exited);
        match verdict(child.spec.restart, &reason) {
            Verdict::Restart => self.restart(key, reason),
            Verdict::Keep => self.rest(key),
            Verdict::Forget => self.remove(key),
        }
    }

    /// Starts a child again, if its budget or the supervisor's allows.
    fn restart(&mut self, key: u64, reason: ExitReason) {
        let now = self.began.elapsed();
        let Some(child) = self.children.get_mut(&key) else {
            return;
        };
        let backoff = child.next_delay();
        let within = match &mut child.window {
            Some(own) => !child.slow && own.record(now),
            None => self.window.record(now),
        };
        let on_exceed = child
            .spec
            .budget
            .map_or(OnExceed::Escalate, |own| own.on_exceed);
        let (delay, slow) = match on_exceed {
            _ if within => (backoff, false),
            OnExceed::SlowRetry(pause) => {
                child.slow = true;
                (backoff.max(pause).max(SLOW_RETRY_MIN), true)
            }
            OnExceed::Escalate => return self.give_up(key, reason),
            OnExceed::Stop => {
                let exceeded = Lifecycle::BudgetExceeded { reason };
                self.place.reports.send(child.node.path(), exceeded);
                return self.rest(key);
            }
        };
        let restarting = Lifecycle::Restarting { after: delay, slow };
        self.place.reports.send(child.node.path(), restarting);
        if delay.is_zero() {
            self.begin(key, Why::Restart);
        } else {
            self.wait(key, delay);
        }
    }

    fn wait(&mut self, key: u64, delay: Duration) {
        let me = self.place.me.clone();
        let Some(child) = self.children.get_mut(&key) else {
            return;
        };
        let incarnation = child.lives;
        let now = Instant::now();
        let due = now.checked_add(delay).unwrap_or(now + FAR_FUTURE);
        let timer = tokio::spawn(async move {
            time::sleep_until(due).await;
            let _ = me.send_message(Message::Retry {
                child: key,
                incarnation,
            });
        });
        child.life = Life::Waiting {
            incarnation,
            _timer: AbortOnDropHandle::new(timer),
        };
        child.node.restart_at(due, now);
    }

    pub(super) fn retry(&mut self, key: u64, incarnation: u64) {
        let due = self.children.get(&key).is_some_and(|child| {
            matches!(&child.life, Life::Waiting { incarnation: due, .. } if *due == incarnation)
        });
        if due {
            self.begin(key, Why::Restart);
        }
    }

    /// More restarts than allowed: the supervisor ends, and says why.
    fn give_up(&mut self, key: u64, reason: ExitReason) {
        self.rest(key);
        let Some(child) = self.children.get(&key) else {
            return;
        };
        let window = child.window.as_ref().unwrap_or(&self.window).intensity();
        let facts = IntensityExceeded {
            child: Arc::clone(&child.spec.id),
            intensity: window.restarts,
            period: window.period,
            history: child.history.iter().cloned().collect(),
        };
        let gave_up = Lifecycle::GaveUp {
            child: Arc::clone(&child.spec.id),
            reason,
        };
        self.place.reports.send(self.place.node.path(), gave_up);
        let cause = ShutdownCause::IntensityExceeded(Arc::new(facts));
        let reason = ExitReason::Shutdown(Some(cause));
        self.place.incarnation.leave(Left::Reason(reason));
        self.place.me.stop(None);
    }

    // Starting.

    fn insert(&mut self, spec: ChildSpec) -> u64 {
        let key = self.next_key;
        self.next_key += 1;
        let node = TreeNode::new(
            &spec.id,
            Some(self.place.node.path()),
            spec.kind,
            spec.start.slot(),
            Instant::now(),
        );
        self.place.node.add(key, Arc::clone(&node));
        self.keys.insert(Arc::clone(&spec.id), key);
        let window = spec.budget.map(|budget| Window::new(budget.intensity));
        let child = Child {
            spec,
            life: Life::Stopped,
            lives: 0,
            failures: 0,
            window,
            history: VecDeque::new(),
            slow: false,
            node,
        };
        self.children.insert(key, child);
        key
    }

    /// Makes the next incarnation of a child; it is alive when the future is done.
    fn prepare(&mut self, key: u64) -> Begun {
        let cancel = CancellationToken::new();
        let Some(child) = self.children.get_mut(&key) else {
            return Begun {
                start: Box::pin(std::future::ready(Err(ExitReason::NoProc.into()))),
                incarnation: 0,
                cancel,
            };
        };
        child.lives += 1;
        let incarnation = Incarnation::new(child.lives);
        child.node.starting(&incarnation, Instant::now());
        let id = incarnation.id;
        let overseer = Overseer::new(&self.place.me, self.place.incarnation.id);
        let start = child.spec.start.start(Seat {
            context: ChildContext {
                path: Arc::clone(child.node.path()),
                incarnation: child.lives,
                cancel: cancel.clone(),
            },
            notice: ExitNotice {
                overseer: Some(overseer.clone()),
                child: key,
                incarnation: Arc::clone(&incarnation),
            },
            incarnation,
            overseer: Some(overseer),
            node: Arc::clone(&child.node),
            reports: self.place.reports.clone(),
        });
        Begun {
            start,
            incarnation: id,
            cancel,
        }
    }

    /// Starts a child. Most starts are done in a moment; one that is not goes on in a task, so that the supervisor stays
    /// free for everything else.
    fn begin(&mut self, key: u64, why: Why) {
        let mut begun = self.prepare(key);
        let Some(child) = self.children.get_mut(&key) else {
            return;
        };
        if let Some(outcome) = (&mut begun.start).now_or_never() {
            let outcome = outcome_of(&child.spec.id, outcome);
            return self.settle(key, why, outcome);
        }
        let (spec, incarnation, cancel) =
            (child.spec.clone(), begun.incarnation, begun.cancel.clone());
        let outcome = Arc::new(Mutex::new(None));
        let done = StartNotice {
            me: self.place.me.clone(),
            child: key,
            incarnation,
        };
        let task = tokio::spawn({
            let outcome = Arc::clone(&outcome);
            async move {
                let _done = done;
                let ended = finish_in(&spec, begun).await;
                *outcome.lock() = Some(ended);
            }
        });
        child.life = Life::Starting {
            incarnation,
            task: AbortOnDropHandle::new(task),
            outcome,
            cancel,
            why,
        };
    }

    pub(super) fn start_done(&mut self, key: u64, incarnation: u64) {
        let Some(child) = self.children.get_mut(&key) else {
            return;
        };
        if !matches!(&child.life, Life::Starting { incarnation: this, .. } if *this == incarnation)
        {
            return;
        }
        if let Life::Starting { outcome, why, .. } =
            std::mem::replace(&mut child.life, Life::Stopped)
        {
            // A start task without an outcome panicked, in a drop of the child's own.
            let outcome = outcome.lock().take().unwrap_or_else(|| {
                let reason = ExitReason::Panic("its start panicked when it was dropped".into());
                let child = Arc::clone(&child.spec.id);
                Err(StartError::Failed { child, reason })
            });
            self.settle(key, why, outcome);
        }
    }

    /// A start has come to its end; what that means depends on who wanted it.
    fn settle(&mut self, key: u64, why: Why, outcome: Outcome) {
        let error = match outcome {
            Ok(started) => {
                match started {
                    Some(started) => self.run(key, started),
                    None => self.ignored(key),
                }
                if let Why::Add(reply) | Why::Again(reply) = why {
                    reply.send(Ok(()));
                }
                return;
            }
            Err(error) => error,
        };
        self.note_failed_start(key, &error);
        match why {
            Why::Add(reply) => {
                self.remove(key);
                reply.send(Err(error.into()));
            }
            Why::Again(reply) => {
                self.rest(key);
                reply.send(Err(error.into()));
            }
            Why::Restart => self.restart_after_failed_start(key, &error),
        }
    }

    /// Through the mailbox, as OTP does it: other requests are served between two attempts.
    fn restart_after_failed_start(&mut self, key: u64, error: &StartError) {
        let reason = match error {
            StartError::Failed { reason, .. } => reason.clone(),
            other => ExitReason::Error(other.to_string().into()),
        };
        if let Some(child) = self.children.get_mut(&key) {
            child.note_end(Duration::ZERO, &reason);
            let incarnation = child.lives;
            child.life = Life::Retrying { incarnation };
            child.node.enter(ChildState::Restarting, Instant::now());
            self.tell_me(Message::FailedAgain {
                child: key,
                incarnation,
                reason,
            });
        }
    }

    pub(super) fn failed_again(&mut self, key: u64, incarnation: u64, reason: ExitReason) {
        let still = self.children.get(&key).is_some_and(|child| {
            matches!(&child.life, Life::Retrying { incarnation: due } if *due == incarnation)
        });
        if still {
            self.restart(key, reason);
        }
    }

    fn run(&mut self, key: u64, started: Started) {
        let Some(child) = self.children.get_mut(&key) else {
            return;
        };
        if let Control::Actor(cell) = &started.control {
            self.actors.insert(cell.get_id(), key);
        }
        let now = Instant::now();
        child.node.enter(ChildState::Running, now);
        let life = Arc::clone(&started.incarnation);
        child.life = Life::Running {
            started,
            since: now,
        };
        let incarnation = child.lives;
        self.place
            .reports
            .send(child.node.path(), Lifecycle::Started { incarnation });
        if life.has_ended() {
            // Its notice may have come while it still counted as starting.
            self.tell_me(Message::Exited {
                child: key,
                incarnation: life.id,
                asked_again: false,
            });
        }
    }

    fn note_failed_start(&self, key: u64, error: &StartError) {
        if let Some(child) = self.children.get(&key) {
            let reason = match error {
                StartError::Failed { reason, .. } => reason.clone(),
                other => ExitReason::Error(other.to_string().into()),
            };
            child.node.start_failed(&reason);
            self.place
                .reports
                .send(child.node.path(), Lifecycle::StartFailed { reason });
        }
    }

    /// Its start declined.
    fn ignored(&mut self, key: u64) {
        let temporary = |child: &Child| child.spec.restart == Restart::Temporary;
        if self.children.get(&key).is_some_and(temporary) {
            self.remove(key);
        } else {
            self.rest(key);
        }
    }

    /// It stays, and stays down.
    fn rest(&mut self, key: u64) {
        if let Some(child) = self.children.get_mut(&key) {
            child.life = Life::Stopped;
            child.node.enter(ChildState::Stopped, Instant::now());
        }
    }

    fn remove(&mut self, key: u64) {
        if let Some(child) = self.children.remove(&key) {
            self.keys.remove(&child.spec.id);
            self.words.remove(&key);
            self.place.node.remove(key);
            // A closure of the user's goes with it.
            let _ = discard(child);
        }
    }

    fn tell_me(&self, message: Message) {
        // A mailbox that is closed belongs to a supervisor that is ending: nothing of this matters then.
        let _ = self.place.me.send_message(message);
    }

    // What the supervisor is asked.

    pub(super) fn start_child(&mut self, spec: ChildSpec, reply: Answer) {
        if let Err(error) = check_id(&spec.id) {
            return reply.send(Err(error));
        }
        if let Some(child) = self.child(&spec.id) {
            let id = Arc::clone(&spec.id);
            return reply.send(Err(match child.life.state() {
                ChildState::Running => SupervisorError::AlreadyStarted(id),
                ChildState::Starting | ChildState::Restarting => SupervisorError::Restarting(id),
                ChildState::Leaked => SupervisorError::Leaked(id),
                ChildState::Stopping | ChildState::Stopped => SupervisorError::AlreadyPresent(id),
            }));
        }
        let key = self.insert(spec);
        self.begin(key, Why::Add(reply));
    }

    pub(super) fn restart_child(&mut self, id: &Arc<str>, reply: Answer) {
        match self.stopped(id) {
            Ok(key) => self.begin(key, Why::Again(reply)),
            Err(refused) => reply.send(Err(refused)),
        }
    }

    pub(super) fn delete_child(&mut self, id: &Arc<str>, reply: Answer) {
        let stopped = self.stopped(id);
        reply.send(stopped.map(|key| self.remove(key)));
    }

    /// The child with this id, if it is stopped and nothing of it is left.
    fn stopped(&mut self, id: &Arc<str>) -> Result<u64, SupervisorError> {
        let found = self.keys.get(id).and_then(|key| {
            let child = self.children.get_mut(key)?;
            Some((*key, child))
        });
        let (key, child) = found.ok_or_else(|| SupervisorError::NotFound(Arc::clone(id)))?;
        if matches!(&child.life, Life::Leaked(task) if task.is_finished()) {
            child.life = Life::Stopped;
        }
        let id = Arc::clone(id);
        match child.life.state() {
            ChildState::Stopped => Ok(key),
            ChildState::Running | ChildState::Stopping => Err(SupervisorError::Running(id)),
            ChildState::Starting | ChildState::Restarting => Err(SupervisorError::Restarting(id)),
            ChildState::Leaked => Err(SupervisorError::Leaked(id)),
        }
    }

    pub(super) fn terminate_child(&mut self, id: &Arc<str>, caller: u64, reply: Answer) {
        let found = self.keys.get(id).and_then(|key| {
            let child = self.children.get_mut(key)?;
            Some((*key, child))
        });
        let Some((key, child)) = found else {
            return reply.send(Err(SupervisorError::NotFound(Arc::clone(id))));
        };
        match &mut child.life {
            Life::Stopping { replies, .. } => return replies.push(reply),
            Life::Leaked(task) if !task.is_finished() => {
                return reply.send(Err(SupervisorError::Leaked(Arc::clone(id))));
            }
            Life::Stopped | Life::Leaked(_) => return reply.send(Ok(())),
            Life::Running { started, .. } if started.incarnation.id == caller => {
                return reply.send(Err(SupervisorError::CallingSelf));
            }
            _ => {}
        }
        let incarnation = child.lives;
        let life = std::mem::replace(&mut child.life, Life::Stopped);
        if let Life::Running { started, .. } = &life
            && let Control::Actor(cell) = &started.control
        {
            self.actors.remove(&cell.get_id());
        }
        self.words.remove(&key);
        // A child that never came to life is forgotten, as when its start fails.
        let never_lived = matches!(
            &life,
            Life::Starting {
                why: Why::Add(_),
                ..
            }
        );
        let stopping = end(child.spec.clone(), life);
        let me = self.place.me.clone();
        let ended = Arc::new(Mutex::new(Ended::NOTHING));
        let task = tokio::spawn({
            let ended = Arc::clone(&ended);
            async move {
                let outcome = stopping.await;
                *ended.lock() = outcome;
                let _ = me.send_message(Message::StopDone {
                    child: key,
                    incarnation,
                });
            }
        });
        child.node.enter(ChildState::Stopping, Instant::now());
        child.life = Life::Stopping {
            incarnation,
            task,
            ended,
            forget: never_lived || child.spec.restart == Restart::Temporary,
            replies: vec![reply],
        };
    }

    pub(super) fn stop_done(&mut self, key: u64, incarnation: u64) {
        let Some(child) = self.children.get_mut(&key) else {
            return;
        };
        if !matches!(&child.life, Life::Stopping { incarnation: this, .. } if *this == incarnation)
        {
            return;
        }
        let Life::Stopping {
            replies,
            ended,
            forget,
            ..
        } = std::mem::replace(&mut child.life, Life::Stopped)
        else {
            return;
        };
        let Ended { report, leaked } = std::mem::replace(&mut *ended.lock(), Ended::NOTHING);
        if let Some(report) = &report {
            note_stop(&self.place.reports, &child.node, report);
        }
        let answer = match &leaked {
            Some(_) => Err(SupervisorError::Leaked(Arc::clone(&child.spec.id))),
            None => Ok(()),
        };
        match leaked {
            Some(task) => {
                child.life = Life::Leaked(task);
                child.node.enter(ChildState::Leaked, Instant::now());
            }
            None if forget => self.remove(key),
            None => self.rest(key),
        }
        for reply in replies {
            reply.send(answer.clone());
        }
    }

    pub(super) fn which(&self) -> Vec<ChildInfo> {
        let info = |child: &Child| ChildInfo {
            id: Arc::clone(&child.spec.id),
            kind: child.spec.kind,
            state: child.life.state(),
        };
        self.children.values().map(info).collect()
    }

    pub(super) fn count(&self) -> ChildCounts {
        let mut counts = ChildCounts {
            specs: self.children.len(),
            ..ChildCounts::default()
        };
        for child in self.children.values() {
            if child.life.state() == ChildState::Running {
                counts.active += 1;
            }
            match child.spec.kind {
                ChildKind::Supervisor => counts.supervisors += 1,
                ChildKind::Actor | ChildKind::Task => counts.workers += 1,
            }
        }
        counts
    }

    pub(super) fn spec(&self, id: &Arc<str>) -> Result<ChildSpec, SupervisorError> {
        let child = self.child(id);
        child
            .map(|child| child.spec.clone())
            .ok_or_else(|| SupervisorError::NotFound(Arc::clone(id)))
    }

    fn child(&self, id: &str) -> Option<&Child> {
        self.keys.get(id).and_then(|key| self.children.get(key))
    }

    // The end.

    /// Stops all children, last started first, each after the one before it is gone.
    pub(super) async fn stop_all(&mut self) -> Vec<ChildReport> {
        let mut reports = Vec::new();
        while let Some((_, child)) = self.children.pop_last() {
            child.node.enter(ChildState::Stopping, Instant::now());
            let Ended { report, leaked } = end(child.spec.clone(), child.life).await;
            if let Some(mut report) = report {
                note_stop(&self.place.reports, &child.node, &report);
                report.children = child.spec.start.stopped_children();
                reports.push(report);
            }
            let state = leaked.map_or(ChildState::Stopped, |_| ChildState::Leaked);
            child.node.enter(state, Instant::now());
        }
        reports
    }
}

impl Drop for Room {
    /// A supervisor that ends without its stop, by a kill or a panic, takes its children along; its next life waits for
    /// them.
    fn drop(&mut self) {
        let now = Instant::now();
        let mut left = self.place.office.left_behind.lock();
        for child in std::mem::take(&mut self.children).into_values() {
            child.node.enter(ChildState::Stopped, now);
            match child.life {
                Life::Running { started, .. } | Life::Ending { started, .. } => {
                    started.kill();
                    left.extend(started.into_task());
                }
                Life::Stopping { task, .. } | Life::Leaked(task) => left.push(task),
                Life::Starting { task, .. } => {
                    task.abort();
                    left.push(task.detach());
                }
                // Timers end with their handles.
                Life::Waiting { .. } | Life::Retrying { .. } | Life::Stopped => {}
            }
            let _ = discard(child.spec);
        }
        self.place.node.enter(ChildState::Stopped, now);
        self.place.office.close();
    }
}

fn note_stop(reports: &Reports, node: &TreeNode, ended: &ChildReport) {
    node.exited(&ended.reason);
    let stopped = Lifecycle::Stopped {
        how: ended.how,
        took: ended.took,
        reason: ended.reason.clone(),
    };
    reports.send(node.path(), stopped);
}

/// Brings a child to its end, whatever it is doing.
async fn end(spec: ChildSpec, life: Life) -> Ended {
    let (id, shutdown) = (Arc::clone(&spec.id), spec.shutdown);
    match life {
        Life::Running { started, .. } | Life::Ending { started, .. } => {
            stop::stop(id, started, shutdown).await
        }
        Life::Starting {
            task,
            outcome,
            cancel,
            why,
            ..
        } => {
            let ended = end_start(&spec, task, cancel, &outcome).await;
            if let Why::Add(reply) | Why::Again(reply) = why {
                reply.send(Err(StartError::Stopping { child: id }.into()));
            }
            ended
        }
        Life::Stopping {
            task,
            ended,
            replies,
            ..
        } => {
            // A panic in there leaves no report.
            let _ = task.await;
            let ended = std::mem::replace(&mut *ended.lock(), Ended::NOTHING);
            for reply in replies {
                reply.send(match &ended.leaked {
                    Some(_) => Err(SupervisorError::Leaked(Arc::clone(&id))),
                    None => Ok(()),
                });
            }
            ended
        }
        Life::Leaked(task) if !task.is_finished() => stop::leaked_start(id, Duration::ZERO, task),
        Life::Leaked(_) | Life::Waiting { .. } | Life::Retrying { .. } | Life::Stopped => {
            Ended::NOTHING
        }
    }
}

/// Takes back a start that is under way. A nested supervisor takes its own children back, in order; anything else is cut
/// off where it awaits.
async fn end_start(
    spec: &ChildSpec,
    mut task: AbortOnDropHandle<()>,
    cancel: CancellationToken,
    outcome: &Mutex<Option<Outcome>>,
) -> Ended {
    let begin = Instant::now();
    cancel.cancel();
    if spec.kind == ChildKind::Supervisor {
        let patience = match spec.shutdown {
            Shutdown::Brutal => Duration::ZERO,
            Shutdown::Timeout(limit) => limit,
            Shutdown::Infinity => Duration::MAX,
        };
        let _ = time::timeout(patience, &mut task).await;
    }
    task.abort();
    if !task.is_finished() && time::timeout(stop::KILL_GRACE, &mut task).await.is_err() {
        return stop::leaked_start(Arc::clone(&spec.id), begin.elapsed(), task.detach());
    }
    let started = outcome.lock().take();
    match started {
        Some(Ok(Some(started))) => stop::stop(Arc::clone(&spec.id), started, spec.shutdown).await,
        _ => Ended::NOTHING,
    }
}

/// Waits for a start, but not for ever. A nested supervisor whose time is up takes back what it has started.
async fn finish_in(spec: &ChildSpec, begun: Begun) -> Outcome {
    let Begun {
        mut start, cancel, ..
    } = begun;
    let Ok(outcome) = time::timeout(spec.start_timeout, &mut start).await else {
        cancel.cancel();
        if spec.kind == ChildKind::Supervisor {
            let _ = time::timeout(spec.start_timeout, start).await;
        }
        return Err(StartError::Timeout {
            child: Arc::clone(&spec.id),
            limit: spec.start_timeout,
        });
    };
    outcome_of(&spec.id, outcome)
}

fn outcome_of(id: &Arc<str>, outcome: Result<Started, NotStarted>) -> Outcome {
    match outcome {
        Ok(started) => Ok(Some(started)),
        Err(NotStarted::Ignored) => Ok(None),
        Err(NotStarted::Failed(reason)) => Err(StartError::Failed {
            child: Arc::clone(id),
            reason,
        }),
    }
}

/// A start that was begun.
struct Begun {
    start: BoxFuture<'static, Result<Started, NotStarted>>,
    incarnation: u64,
    cancel: CancellationToken,
}

/// Tells the supervisor that a start task has ended, also when it panicked.
struct StartNotice {
    me: ActorRef<Message>,
    child: u64,
    incarnation: u64,
}

impl Drop for StartNotice {
    fn drop(&mut self) {
        let _ = self.me.send_message(Message::StartDone {
            child: self.child,
            incarnation: self.incarnation,
        });
    }
}

impl Child {
    fn note_end(&mut self, lived: Duration, reason: &ExitReason) {
        if self.spec.backoff.is_stable(lived) {
            self.failures = 0;
        }
        let window = self.window.as_ref().map(Window::intensity);
        if window.is_none_or(|window| lived >= window.period) {
            self.slow = false;
        }
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(reason.clone());
        self.node.exited(reason);
    }

    fn next_delay(&mut self) -> Duration {
        let failures = self.failures;
        self.failures = failures.saturating_add(1);
        self.spec.backoff.delay(failures, fastrand::f64())
    }
}

impl Life {
    fn state(&self) -> ChildState {
        match self {
            Self::Starting {
                why: Why::Restart, ..
            }
            | Self::Ending { .. }
            | Self::Retrying { .. }
            | Self::Waiting { .. } => ChildState::Restarting,
            Self::Starting { .. } => ChildState::Starting,
            Self::Running { .. } => ChildState::Running,
            Self::Stopping { .. } => ChildState::Stopping,
            Self::Leaked(_) => ChildState::Leaked,
            Self::Stopped => ChildState::Stopped,
        }
    }
}
