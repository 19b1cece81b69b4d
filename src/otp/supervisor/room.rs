//! The children of one supervisor, and what is done to them. Time and randomness come from `actor`'s side: this is part of
//! the shell.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
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
use tokio_util::sync::CancellationToken;

use super::{
    ChildCounts, ChildInfo, ChildReport, Message,
    intensity::Window,
    spec::check_id,
    stop,
    verdict::{Verdict, verdict},
};
use crate::otp::{
    ChildContext, ChildKind, ChildSpec, ChildState, ExitReason, IntensityExceeded, Lifecycle,
    OnExceed, Reply, Restart, Shutdown, ShutdownCause, StartError, SupervisorError,
    incarnation::{Incarnation, Left},
    lifecycle::Reports,
    start::{Control, ExitNotice, Seat, Started},
    tree::TreeNode,
};

type Outcome = Result<Started, StartError>;
type Answer = Reply<Result<(), SupervisorError>>;

/// How many exits a child's history keeps for the record of a give-up.
const HISTORY: usize = 8;

/// Where a supervisor stands.
pub(super) struct Place {
    pub(super) me: ActorRef<Message>,
    pub(super) incarnation: Arc<Incarnation>,
    pub(super) node: Arc<TreeNode>,
    pub(super) reports: Reports,
}

pub(super) struct Room {
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
    history: VecDeque<ExitReason>,
    node: Arc<TreeNode>,
}

/// What a child is doing. Each state holds all that belongs to it and nothing else.
enum Life {
    /// Its start took more than a moment and goes on in a task.
    Starting {
        incarnation: u64,
        task: JoinHandle<()>,
        outcome: Arc<Mutex<Option<Outcome>>>,
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
    /// The next start is due when the timer fires.
    Waiting {
        incarnation: u64,
        timer: JoinHandle<()>,
    },
    /// Terminated on request; these want to know when it is done.
    Stopping {
        incarnation: u64,
        task: JoinHandle<()>,
        replies: Vec<Answer>,
    },
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
    pub(super) async fn start_all(&mut self, specs: Vec<ChildSpec>) -> Result<(), StartError> {
        for spec in specs {
            let id = Arc::clone(&spec.id);
            let limit = spec.start_timeout;
            let key = self.insert(spec);
            let (start, _) = self.prepare(key);
            let outcome = finish_in(id, limit, start).await;
            match outcome {
                Ok(started) => self.run(key, started),
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
            (Some(Left::Clean), Some(words)) => ExitReason::from_stop(words.as_deref()),
            (Some(Left::Clean), None) if asked_again => ExitReason::Normal,
            (Some(Left::Clean), None) => {
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
        if started.join.is_finished() {
            self.gone(key, started, since, reason);
        } else {
            self.await_end(key, started, since, reason);
        }
    }

    /// The child's task still has to drop what it holds; its successor must not meet that.
    fn await_end(&mut self, key: u64, mut started: Started, since: Instant, reason: ExitReason) {
        let me = self.place.me.clone();
        let incarnation = started.incarnation.id;
        let join = std::mem::replace(&mut started.join, tokio::spawn(std::future::ready(())));
        tokio::spawn(async move {
            let _ = join.await;
            let _ = me.send_message(Message::Gone {
                child: key,
                incarnation,
            });
        });
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
            Some(own) => own.record(now),
            None => self.window.record(now),
        };
        let on_exceed = child
            .spec
            .budget
            .map_or(OnExceed::Escalate, |own| own.on_exceed);
        let (delay, slow) = match on_exceed {
            _ if within => (backoff, false),
            OnExceed::SlowRetry(pause) => (backoff.max(pause), true),
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
        let due = now + delay;
        let timer = tokio::spawn(async move {
            time::sleep_until(due).await;
            let _ = me.send_message(Message::Retry {
                child: key,
                incarnation,
            });
        });
        child.life = Life::Waiting { incarnation, timer };
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
            node,
        };
        self.children.insert(key, child);
        key
    }

    /// Makes the next incarnation of a child; it is alive when the future is done.
    fn prepare(&mut self, key: u64) -> (BoxFuture<'static, Result<Started, ExitReason>>, u64) {
        let Some(child) = self.children.get_mut(&key) else {
            return (Box::pin(std::future::ready(Err(ExitReason::NoProc))), 0);
        };
        child.lives += 1;
        let incarnation = Incarnation::new(child.lives);
        child.node.starting(&incarnation, Instant::now());
        let id = incarnation.id;
        let start = child.spec.start.start(Seat {
            context: ChildContext {
                path: Arc::clone(child.node.path()),
                incarnation: child.lives,
                cancel: CancellationToken::new(),
            },
            notice: ExitNotice {
                supervisor: Some(self.place.me.clone()),
                child: key,
                incarnation: Arc::clone(&incarnation),
            },
            incarnation,
            supervisor: Some(self.place.me.clone()),
            supervisor_id: self.place.incarnation.id,
            node: Arc::clone(&child.node),
            reports: self.place.reports.clone(),
        });
        (start, id)
    }

    /// Starts a child. Most starts are done in a moment; one that is not goes on in a task, so that the supervisor stays
    /// free for everything else.
    fn begin(&mut self, key: u64, why: Why) {
        let (mut start, incarnation) = self.prepare(key);
        let Some(child) = self.children.get_mut(&key) else {
            return;
        };
        let id = Arc::clone(&child.spec.id);
        if let Some(outcome) = (&mut start).now_or_never() {
            let outcome = outcome.map_err(|reason| StartError::Failed { child: id, reason });
            return self.settle(key, why, outcome);
        }
        let limit = child.spec.start_timeout;
        let slot = Arc::new(Mutex::new(None));
        let me = self.place.me.clone();
        let task = tokio::spawn({
            let slot = Arc::clone(&slot);
            async move {
                let outcome = finish_in(id, limit, start).await;
                *slot.lock() = Some(outcome);
                let _ = me.send_message(Message::StartDone {
                    child: key,
                    incarnation,
                });
            }
        });
        child.life = Life::Starting {
            incarnation,
            task,
            outcome: slot,
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
            && let Some(outcome) = outcome.lock().take()
        {
            self.settle(key, why, outcome);
        }
    }

    /// A start has come to its end; what that means depends on who wanted it.
    fn settle(&mut self, key: u64, why: Why, outcome: Outcome) {
        let error = match outcome {
            Ok(started) => {
                self.run(key, started);
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
            child.life = Life::Waiting {
                incarnation,
                timer: tokio::spawn(std::future::ready(())),
            };
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
            matches!(&child.life, Life::Waiting { incarnation: due, .. } if *due == incarnation)
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
        child.life = Life::Running {
            started,
            since: now,
        };
        let incarnation = child.lives;
        self.place
            .reports
            .send(child.node.path(), Lifecycle::Started { incarnation });
    }

    fn note_failed_start(&self, key: u64, error: &StartError) {
        if let Some(child) = self.children.get(&key) {
            let reason = match error {
                StartError::Failed { reason, .. } => reason.clone(),
                other => ExitReason::Error(other.to_string().into()),
            };
            child.node.exited(&reason);
            self.place
                .reports
                .send(child.node.path(), Lifecycle::StartFailed { reason });
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
                _ => SupervisorError::AlreadyPresent(id),
            }));
        }
        let key = self.insert(spec);
        self.begin(key, Why::Add(reply));
    }

    pub(super) fn restart_child(&mut self, id: &Arc<str>, reply: Answer) {
        let refused = match self.child(id).map(|child| child.life.state()) {
            None => SupervisorError::NotFound(Arc::clone(id)),
            Some(ChildState::Stopped) => {
                let key = self.keys[id];
                return self.begin(key, Why::Again(reply));
            }
            Some(ChildState::Running | ChildState::Stopping) => {
                SupervisorError::Running(Arc::clone(id))
            }
            Some(_) => SupervisorError::Restarting(Arc::clone(id)),
        };
        reply.send(Err(refused));
    }

    pub(super) fn delete_child(&mut self, id: &Arc<str>, reply: Answer) {
        let refused = match self.child(id).map(|child| child.life.state()) {
            None => SupervisorError::NotFound(Arc::clone(id)),
            Some(ChildState::Stopped) => {
                self.remove(self.keys[id]);
                return reply.send(Ok(()));
            }
            Some(ChildState::Running | ChildState::Stopping) => {
                SupervisorError::Running(Arc::clone(id))
            }
            Some(_) => SupervisorError::Restarting(Arc::clone(id)),
        };
        reply.send(Err(refused));
    }

    pub(super) fn terminate_child(&mut self, id: &Arc<str>, reply: Answer) {
        let Some(&key) = self.keys.get(id) else {
            return reply.send(Err(SupervisorError::NotFound(Arc::clone(id))));
        };
        let Some(child) = self.children.get_mut(&key) else {
            return;
        };
        if let Life::Stopping { replies, .. } = &mut child.life {
            return replies.push(reply);
        }
        if matches!(child.life, Life::Stopped) {
            return reply.send(Ok(()));
        }
        let incarnation = child.lives;
        let life = std::mem::replace(&mut child.life, Life::Stopped);
        if let Life::Running { started, .. } = &life
            && let Control::Actor(cell) = &started.control
        {
            self.actors.remove(&cell.get_id());
        }
        let stopping = end(Arc::clone(id), life, child.spec.shutdown);
        let me = self.place.me.clone();
        let task = tokio::spawn(async move {
            let ended = stopping.await;
            let _ = me.send_message(Message::StopDone {
                child: key,
                incarnation,
                ended,
            });
        });
        child.node.enter(ChildState::Stopping, Instant::now());
        child.life = Life::Stopping {
            incarnation,
            task,
            replies: vec![reply],
        };
    }

    pub(super) fn stop_done(&mut self, key: u64, incarnation: u64, ended: Option<&ChildReport>) {
        let Some(child) = self.children.get_mut(&key) else {
            return;
        };
        if !matches!(&child.life, Life::Stopping { incarnation: this, .. } if *this == incarnation)
        {
            return;
        }
        let Life::Stopping { replies, .. } = std::mem::replace(&mut child.life, Life::Stopped)
        else {
            return;
        };
        if let Some(ended) = ended {
            note_stop(&self.place.reports, &child.node, ended);
        }
        if child.spec.restart == Restart::Temporary {
            self.remove(key);
        } else {
            self.rest(key);
        }
        for reply in replies {
            reply.send(Ok(()));
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
        while let Some((key, child)) = self.children.pop_last() {
            child.node.enter(ChildState::Stopping, Instant::now());
            let ended = end(Arc::clone(&child.spec.id), child.life, child.spec.shutdown).await;
            if let Some(mut ended) = ended {
                note_stop(&self.place.reports, &child.node, &ended);
                ended.children = child.spec.start.stopped_children();
                reports.push(ended);
            }
            child.node.enter(ChildState::Stopped, Instant::now());
            self.actors.retain(|_, owner| *owner != key);
        }
        reports
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

/// Brings a child to its end, whatever it is doing. `None` when there was nothing to stop.
async fn end(id: Arc<str>, life: Life, shutdown: Shutdown) -> Option<ChildReport> {
    match life {
        Life::Running { started, .. } | Life::Ending { started, .. } => {
            Some(stop::stop(id, started, shutdown).await)
        }
        Life::Starting {
            task, outcome, why, ..
        } => {
            task.abort();
            let _ = task.await;
            if let Why::Add(reply) | Why::Again(reply) = why {
                let child = Arc::clone(&id);
                reply.send(Err(StartError::Stopping { child }.into()));
            }
            let outcome = outcome.lock().take();
            match outcome {
                Some(Ok(started)) => Some(stop::stop(id, started, shutdown).await),
                _ => None,
            }
        }
        Life::Waiting { timer, .. } => {
            timer.abort();
            None
        }
        Life::Stopping { task, replies, .. } => {
            let _ = task.await;
            for reply in replies {
                reply.send(Ok(()));
            }
            None
        }
        Life::Stopped => None,
    }
}

/// Waits for a start, but not for ever.
async fn finish_in(
    child: Arc<str>,
    limit: Duration,
    start: BoxFuture<'static, Result<Started, ExitReason>>,
) -> Outcome {
    match time::timeout(limit, start).await {
        Ok(Ok(started)) => Ok(started),
        Ok(Err(reason)) => Err(StartError::Failed { child, reason }),
        Err(_) => Err(StartError::Timeout { child, limit }),
    }
}

impl Child {
    fn note_end(&mut self, lived: Duration, reason: &ExitReason) {
        if self.spec.backoff.is_stable(lived) {
            self.failures = 0;
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
            | Self::Waiting { .. } => ChildState::Restarting,
            Self::Starting { .. } => ChildState::Starting,
            Self::Running { .. } => ChildState::Running,
            Self::Stopping { .. } => ChildState::Stopping,
            Self::Stopped => ChildState::Stopped,
        }
    }
}
