//! The children of one life of a dynamic supervisor, and what is done to them: part of the shell, the decisions are in `state`.
//!
//! Under a lock, and not behind the actor's mailbox: whoever starts a child does it here and now, without waking the actor,
//! and many can at once. The actor gets what the children tell. Nothing is awaited under the lock,
//! and no code of a user's runs under it: starts are made outside, and what goes is dropped outside.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use futures_util::{future::join_all, join};
use parking_lot::Mutex;
use ractor::{ActorId, ActorRef};
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{self, Instant},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    ChildRef, DynamicChild,
    child::{Child, Life, StartReply, StopReply, Stopping, answer},
    message::Message,
    state::{End, Next, Record, Rules},
    together::{Leaving, stop_together},
};
use crate::otp::{
    ChildCounts, ChildKind, ChildReport, ChildSpec, ChildState, ExitReason, Intensity, Lifecycle,
    ShutdownCause, StopKind, SupervisorError,
    incarnation::{Incarnation, Left, discard},
    lifecycle::Reports,
    office::Office,
    start::{Control, Overseer, Seat, Started},
    supervisor::{
        intensity::Window,
        launch::{Launch, Outcome},
        stop::{Deadline, Ended, KILL_GRACE, Patience},
    },
    tree::TreeNode,
};

/// Stands for delays that the clock cannot hold.
const FAR_FUTURE: Duration = Duration::from_hours(100 * 365 * 24);
/// How many children that stopped when asked a report lists; those that did not are listed all.
const LISTED: usize = 1000;

/// A child that runs, or its answer to wait for.
type Begun = Result<ChildRef, oneshot::Receiver<Result<ChildRef, SupervisorError>>>;
/// The answer of an end to wait for.
type Parting = oneshot::Receiver<Result<(), SupervisorError>>;

/// Where the supervisor stands.
pub(super) struct Place {
    pub(super) me: ActorRef<Message>,
    pub(super) incarnation: Arc<Incarnation>,
    pub(super) node: Arc<TreeNode>,
    pub(super) reports: Reports,
    pub(super) office: Arc<Office<Message>>,
}

pub(super) struct Nursery {
    place: Place,
    max: usize,
    began: Instant,
    room: Mutex<Room>,
}

struct Room {
    /// Whether children may be started.
    open: bool,
    /// Starts that are being made, outside of the lock.
    launching: usize,
    /// The restarts of all.
    window: Window,
    next_key: u64,
    children: HashMap<u64, Child>,
    actors: HashMap<ActorId, u64>,
    /// What ractor told of the stop of a child that has not told of its end yet.
    stops: HashMap<u64, ExitReason>,
    /// Children that are gone, with closures of a user's.
    gone: Vec<Child>,
}

/// What is needed to make a start outside of the lock.
struct Birth {
    key: u64,
    spec: Arc<ChildSpec>,
    seat: Seat,
}

impl Nursery {
    pub(super) fn new(place: Place, intensity: Intensity, max: usize) -> Self {
        Self {
            place,
            max,
            began: Instant::now(),
            room: Mutex::new(Room {
                open: true,
                launching: 0,
                window: Window::new(intensity),
                next_key: 1,
                children: HashMap::new(),
                actors: HashMap::new(),
                stops: HashMap::new(),
                gone: Vec::new(),
            }),
        }
    }

    /// Runs this under the lock; what went meanwhile is dropped after it.
    fn with<T>(&self, work: impl FnOnce(&mut Room) -> T) -> T {
        let (done, gone) = {
            let mut room = self.room.lock();
            let done = work(&mut room);
            (done, std::mem::take(&mut room.gone))
        };
        for child in gone {
            let _ = discard(child);
        }
        done
    }

    // What is asked.

    /// Starts a child: at once, or there is something to wait for.
    pub(super) fn start_child(&self, spec: ChildSpec) -> Result<Begun, SupervisorError> {
        let spec = Arc::new(spec);
        let birth = self.with(|room| {
            if !room.open {
                return Err(SupervisorError::Down);
            }
            if room.children.len() >= self.max {
                return Err(SupervisorError::MaxChildren(self.max));
            }
            let key = room.next_key;
            room.next_key += 1;
            let node = self.node(key, &spec);
            self.place.node.add(key, Arc::clone(&node));
            let mut child = Child::new(spec, node);
            let birth = self.conceive(key, &mut child);
            room.children.insert(key, child);
            room.launching += 1;
            Ok(birth)
        })?;
        let (reply, wait) = oneshot::channel();
        match self.bear(birth, Some(reply)) {
            Some(answer) => answer.map(Ok),
            None => Ok(Err(wait)),
        }
    }

    pub(super) fn terminate_child(
        &self,
        who: &ChildRef,
        caller: u64,
    ) -> Result<Parting, SupervisorError> {
        let (reply, wait) = oneshot::channel();
        self.with(|room| {
            let mine = who.supervisor == self.place.incarnation.id;
            let child = room.children.get_mut(&who.key).filter(|_| mine);
            let child = child.ok_or_else(|| SupervisorError::NotFound(who.to_string().into()))?;
            match &mut child.life {
                Life::Launching(replies) => {
                    replies.push(reply);
                    return Ok(());
                }
                Life::Stopping(stopping) => {
                    // A child that hung is not started again either.
                    stopping.hung = None;
                    stopping.replies.push(reply);
                    return Ok(());
                }
                Life::Leaked(_) => return Err(SupervisorError::Leaked(who.to_string().into())),
                Life::Running { started, .. } if started.incarnation.id == caller => {
                    return Err(SupervisorError::CallingSelf);
                }
                Life::Waiting { .. } => {
                    room.remove(who.key, &self.place.node);
                    let _ = reply.send(Ok(()));
                    return Ok(());
                }
                Life::Running { .. } | Life::Starting(_) | Life::Ending(_) => {}
            }
            self.stop(room, who.key, vec![reply], None);
            Ok(())
        })?;
        Ok(wait)
    }

    pub(super) fn which(&self) -> Vec<DynamicChild> {
        let supervisor = self.place.incarnation.id;
        let info = |(key, child): (&u64, &Child)| DynamicChild {
            child: ChildRef {
                id: Arc::clone(&child.spec.id),
                key: *key,
                supervisor,
            },
            kind: child.spec.kind,
            state: child.state(),
        };
        let mut list: Vec<_> = self.with(|room| room.children.iter().map(info).collect());
        list.sort_unstable_by_key(|child| child.child.key);
        list
    }

    pub(super) fn count(&self) -> ChildCounts {
        self.with(|room| {
            let mut counts = ChildCounts {
                specs: room.children.len(),
                ..ChildCounts::default()
            };
            for child in room.children.values() {
                if matches!(child.life, Life::Running { .. }) {
                    counts.active += 1;
                }
                match child.spec.kind {
                    ChildKind::Supervisor => counts.supervisors += 1,
                    ChildKind::Actor | ChildKind::Task => counts.workers += 1,
                }
            }
            counts
        })
    }

    // Starting.

    fn node(&self, key: u64, spec: &ChildSpec) -> Arc<TreeNode> {
        let (id, slot) = (format!("{}#{key}", spec.id).into(), spec.start.slot());
        let (parent, now) = (Some(&**self.place.node.path()), Instant::now());
        let node = TreeNode::new(&id, parent, spec.kind, slot, now);
        node.heed(spec, now);
        node
    }

    fn tell(&self, child: &Child, what: Lifecycle) {
        let own_budget = child.spec.budget.is_some();
        let (reports, supervisor) = (&self.place.reports, &self.place.node);
        reports.of_child(supervisor, &child.node, own_budget, what);
    }

    /// Everything for the next life of a child but the life.
    fn conceive(&self, key: u64, child: &mut Child) -> Birth {
        child.lives += 1;
        let overseer = Overseer::new(&self.place.me, self.place.incarnation.id);
        let (node, reports) = (&child.node, &self.place.reports);
        let seat = Seat::new(Some(overseer), key, child.lives, node, reports);
        child.incarnation = seat.incarnation.id;
        child.life = Life::Launching(Vec::new());
        Birth {
            key,
            spec: Arc::clone(&child.spec),
            seat,
        }
    }

    /// Makes the start. Most are done in a moment; one that is not goes on in a task, and answers later.
    fn bear(
        &self,
        birth: Birth,
        reply: Option<StartReply>,
    ) -> Option<Result<ChildRef, SupervisorError>> {
        let Birth { key, spec, seat } = birth;
        let mut launch = Launch::of(&spec, seat, self.place.office.deadline());
        let incarnation = launch.incarnation;
        if let Some(outcome) = launch.at_once(&spec) {
            let wanted = reply.is_some();
            return Some(self.with(|room| {
                room.launching -= 1;
                self.settle(room, key, wanted, outcome)
            }));
        }
        let me = self.place.me.clone();
        let done = move || {
            let _ = me.send_message(Message::StartDone {
                child: key,
                incarnation,
            });
        };
        self.with(|room| {
            room.launching -= 1;
            // In the lock, so that it is not done before it is known.
            let slow = launch.go_on(ChildSpec::clone(&spec), done);
            let Some(child) = room.children.get_mut(&key) else {
                return;
            };
            let starting = Life::Starting(Box::new((slow, reply)));
            if let Life::Launching(replies) = std::mem::replace(&mut child.life, starting)
                && !replies.is_empty()
            {
                self.stop(room, key, replies, None);
            }
        });
        None
    }

    pub(super) fn start_done(&self, key: u64, incarnation: u64) {
        self.with(|room| {
            let Some(child) = room.current(key, incarnation) else {
                return;
            };
            if !matches!(child.life, Life::Starting(_)) {
                return;
            }
            if let Life::Starting(starting) = child.take_life() {
                let (slow, reply) = *starting;
                let outcome = slow.outcome(&child.spec);
                let answer = self.settle(room, key, reply.is_some(), outcome);
                if let Some(reply) = reply {
                    // Whoever wanted it has gone; the child stays all the same.
                    let _ = reply.send(answer);
                }
            }
        });
    }

    /// A start has come to its end. When nobody waits for it, it was a restart.
    fn settle(
        &self,
        room: &mut Room,
        key: u64,
        wanted: bool,
        outcome: Outcome,
    ) -> Result<ChildRef, SupervisorError> {
        // It went with the supervisor's end meanwhile, and what has started goes with this.
        let child = room.children.get(&key).ok_or(SupervisorError::Down)?;
        let id = Arc::clone(&child.spec.id);
        match outcome {
            Ok(Some(started)) => {
                self.run(room, key, started);
                let supervisor = self.place.incarnation.id;
                Ok(ChildRef {
                    id,
                    key,
                    supervisor,
                })
            }
            Ok(None) => {
                self.tell(child, Lifecycle::Ignored);
                room.remove(key, &self.place.node);
                Err(SupervisorError::Ignored(id))
            }
            Err(error) => {
                let reason = error.reason();
                child.node.start_failed(&reason);
                let failed = Lifecycle::StartFailed {
                    reason: reason.clone(),
                };
                self.tell(child, failed);
                if wanted {
                    room.remove(key, &self.place.node);
                } else if let Some(after) = self.judge(room, key, &reason, Duration::ZERO) {
                    // Through the mailbox also when it is due at once, as in OTP: other things come first.
                    self.wait(room, key, after);
                }
                Err(error.into())
            }
        }
    }

    fn run(&self, room: &mut Room, key: u64, started: Started) {
        let Some(child) = room.children.get_mut(&key) else {
            return;
        };
        if let Control::Actor(cell) = &started.control {
            room.actors.insert(cell.get_id(), key);
        }
        let since = Instant::now();
        child.node.enter(ChildState::Running, since);
        let life = Arc::clone(&started.incarnation);
        let before = std::mem::replace(&mut child.life, Life::Running { started, since });
        child.probe = self.watch(key, &child.spec, &life);
        let incarnation = life.number;
        let started = Lifecycle::Started { incarnation };
        self.tell(child, started);
        if life.has_ended() {
            // Its notice may have come while it still counted as starting.
            self.tell_me(Message::Exited {
                child: key,
                incarnation: life.id,
                asked_again: false,
            });
        }
        if let Life::Launching(replies) = before
            && !replies.is_empty()
        {
            self.stop(room, key, replies, None);
        }
    }

    fn watch(
        &self,
        key: u64,
        spec: &ChildSpec,
        life: &Arc<Incarnation>,
    ) -> Option<AbortOnDropHandle<()>> {
        let hang = spec.health.clone()?.hang(Arc::clone(life));
        let (me, incarnation) = (self.place.me.clone(), life.id);
        Some(AbortOnDropHandle::new(tokio::spawn(async move {
            let _ = me.send_message(Message::Unhealthy {
                child: key,
                incarnation,
                reason: hang.await,
            });
        })))
    }

    // What the children do.

    pub(super) fn stopping(&self, actor: ActorId, stop: ExitReason) {
        self.with(|room| {
            if let Some(key) = room.actors.get(&actor) {
                room.stops.insert(*key, stop);
            }
        });
    }

    /// A child's task is about to end. When how it ended is not known yet, ractor's own event is waited for: it has been
    /// sent already, and comes first next time.
    pub(super) fn exited(&self, key: u64, incarnation: u64, asked_again: bool) {
        let next = self.with(|room| {
            let stop = room.stops.remove(&key);
            let child = room.current(key, incarnation)?;
            let Life::Running { started, .. } = &child.life else {
                return None;
            };
            let Some(reason) = started.incarnation.reason(stop, asked_again) else {
                self.tell_me(Message::Exited {
                    child: key,
                    incarnation,
                    asked_again: true,
                });
                return None;
            };
            let Life::Running { mut started, since } = child.take_life() else {
                return None;
            };
            room.forget_actor(&started);
            if let Some(slot) = &started.slot {
                slot.vacate(&started.incarnation);
            }
            if started.is_gone() {
                return self.over(room, key, started, since, &reason);
            }
            // The child's task still has to drop what it holds; its successor must not meet that.
            let join = started.join.take();
            started.join = join.map(|join| self.tell_when_gone(key, incarnation, join));
            if let Some(child) = room.children.get_mut(&key) {
                child.life = Life::Ending(Box::new((started, since, reason)));
            }
            None
        });
        self.bear_again(next);
    }

    fn tell_when_gone(&self, key: u64, incarnation: u64, task: JoinHandle<()>) -> JoinHandle<()> {
        let me = self.place.me.clone();
        tokio::spawn(async move {
            let _ = task.await;
            let _ = me.send_message(Message::Gone {
                child: key,
                incarnation,
            });
        })
    }

    pub(super) fn gone(&self, key: u64, incarnation: u64) {
        let next = self.with(|room| {
            let child = room.current(key, incarnation)?;
            match &child.life {
                Life::Ending(_) => {}
                Life::Leaked(_) => {
                    // It has ended after all.
                    room.remove(key, &self.place.node);
                    return None;
                }
                _ => return None,
            }
            let Life::Ending(ending) = child.take_life() else {
                return None;
            };
            let (started, since, reason) = *ending;
            self.over(room, key, started, since, &reason)
        });
        self.bear_again(next);
    }

    /// Everything of the child is gone: give the verdict. The next start is to be made outside of the lock.
    fn over(
        &self,
        room: &mut Room,
        key: u64,
        started: Started,
        since: Instant,
        reason: &ExitReason,
    ) -> Option<Birth> {
        let incarnation = Arc::clone(&started.incarnation);
        incarnation.finish(reason.clone());
        drop(started);
        let child = room.children.get(&key)?;
        let exited = Lifecycle::Exited {
            incarnation: incarnation.number,
            reason: reason.clone(),
        };
        self.tell(child, exited);
        self.go_on(room, key, reason, since.elapsed())
    }

    /// A child that is to be started again at once is; another waits.
    fn go_on(
        &self,
        room: &mut Room,
        key: u64,
        reason: &ExitReason,
        lived: Duration,
    ) -> Option<Birth> {
        let after = self.judge(room, key, reason, lived)?;
        if after.is_zero() {
            return self.again(room, key);
        }
        self.wait(room, key, after);
        None
    }

    /// What becomes of a child that ended. When it is started again: after how long.
    fn judge(
        &self,
        room: &mut Room,
        key: u64,
        reason: &ExitReason,
        lived: Duration,
    ) -> Option<Duration> {
        let Room {
            children, window, ..
        } = room;
        let child = children.get_mut(&key)?;
        let rules = Rules {
            restart: child.spec.restart,
            backoff: child.spec.backoff,
            budget: child.spec.budget,
        };
        let end = End {
            reason,
            lived,
            now: self.began.elapsed(),
            luck: fastrand::f64(),
        };
        let record = child
            .record
            .get_or_insert_with(|| Box::new(Record::new(&rules)));
        let next = record.judge(&rules, end, window);
        let child = &*child;
        match next {
            Next::Again { after, slow } => {
                let restarting = Lifecycle::Restarting { after, slow };
                self.tell(child, restarting);
                return Some(after);
            }
            Next::Forget => {}
            Next::Exceeded => {
                let reason = reason.clone();
                let exceeded = Lifecycle::BudgetExceeded { reason };
                self.tell(child, exceeded);
            }
            Next::GiveUp(facts) => {
                let child = Arc::clone(&child.spec.id);
                let gave_up = Lifecycle::GaveUp {
                    child: Arc::clone(&child),
                    reason: reason.clone(),
                };
                self.place.reports.send(self.place.node.path(), gave_up);
                let cause = ShutdownCause::IntensityExceeded(Arc::new(facts.of(child)));
                let reason = ExitReason::Shutdown(Some(cause));
                self.place.incarnation.leave(Left::Reason(reason));
                self.place.me.stop(None);
            }
        }
        room.remove(key, &self.place.node);
        None
    }

    fn wait(&self, room: &mut Room, key: u64, delay: Duration) {
        let Some(child) = room.children.get_mut(&key) else {
            return;
        };
        let me = self.place.me.clone();
        let retry = Message::Retry {
            child: key,
            incarnation: child.incarnation,
        };
        let now = Instant::now();
        let due = now.checked_add(delay).unwrap_or(now + FAR_FUTURE);
        child.node.restart_at(due, now);
        let timer = if delay.is_zero() {
            let _ = me.send_message(retry);
            None
        } else {
            Some(tokio::spawn(async move {
                time::sleep_until(due).await;
                let _ = me.send_message(retry);
            }))
        };
        child.life = Life::Waiting {
            _timer: timer.map(AbortOnDropHandle::new),
        };
    }

    pub(super) fn retry(&self, key: u64, incarnation: u64) {
        let next = self.with(|room| {
            let child = room.current(key, incarnation)?;
            let due = matches!(child.life, Life::Waiting { .. });
            due.then(|| self.again(room, key)).flatten()
        });
        self.bear_again(next);
    }

    fn again(&self, room: &mut Room, key: u64) -> Option<Birth> {
        if !room.open {
            return None;
        }
        let birth = self.conceive(key, room.children.get_mut(&key)?);
        room.launching += 1;
        Some(birth)
    }

    fn bear_again(&self, birth: Option<Birth>) {
        if let Some(birth) = birth {
            // Nobody waits for a restart.
            let _ = self.bear(birth, None);
        }
    }

    pub(super) fn unhealthy(&self, key: u64, incarnation: u64, reason: ExitReason) {
        self.with(|room| {
            let Some(child) = room.current(key, incarnation) else {
                return;
            };
            if let Life::Running { started, since } = &child.life {
                // How it ends is what is wrong with it, and not the kill that follows.
                started.incarnation.leave(Left::Reason(reason.clone()));
                let lived = since.elapsed();
                self.stop(room, key, Vec::new(), Some((lived, reason)));
            }
        });
    }

    // Stopping.

    /// Brings a child to its end in a task of its own; at once when it hung.
    fn stop(
        &self,
        room: &mut Room,
        key: u64,
        replies: Vec<StopReply>,
        hung: Option<(Duration, ExitReason)>,
    ) {
        let Some(child) = room.children.get_mut(&key) else {
            return;
        };
        let life = child.take_life();
        child.node.enter(ChildState::Stopping, Instant::now());
        let (spec, incarnation) = (Arc::clone(&child.spec), child.incarnation);
        let patience = Patience::of(&spec, self.place.office.deadline());
        let patience = if hung.is_some() {
            patience.none()
        } else {
            patience
        };
        if let Life::Running { started, .. } = &life {
            room.forget_actor(started);
        }
        room.stops.remove(&key);
        let ended = Arc::new(Mutex::new(Ended::NOTHING));
        let me = self.place.me.clone();
        let task = tokio::spawn({
            let ended = Arc::clone(&ended);
            async move {
                let outcome = life.end(&spec, patience).await;
                *ended.lock() = outcome;
                let _ = me.send_message(Message::StopDone {
                    child: key,
                    incarnation,
                });
            }
        });
        if let Some(child) = room.children.get_mut(&key) {
            child.life = Life::Stopping(Box::new(Stopping {
                task,
                ended,
                replies,
                hung,
            }));
        }
    }

    pub(super) fn stop_done(&self, key: u64, incarnation: u64) {
        let next = self.with(|room| {
            let child = room.current(key, incarnation)?;
            if !matches!(child.life, Life::Stopping(_)) {
                return None;
            }
            let Life::Stopping(stopping) = child.take_life() else {
                return None;
            };
            let mut ended = std::mem::replace(&mut *stopping.ended.lock(), Ended::NOTHING);
            let name: Arc<str> = format!("{}#{key}", child.spec.id).into();
            if let Some(report) = &ended.report {
                note_stop(&self.place.reports, &child.node, report);
            }
            answer(stopping.replies, &name, &ended);
            if let Some(task) = ended.leaked.take() {
                child.node.enter(ChildState::Leaked, Instant::now());
                child.life = Life::Leaked(self.tell_when_gone(key, incarnation, task));
                return None;
            }
            let Some((lived, reason)) = stopping.hung else {
                room.remove(key, &self.place.node);
                return None;
            };
            self.go_on(room, key, &reason, lived)
        });
        self.bear_again(next);
    }

    fn tell_me(&self, message: Message) {
        // A mailbox that is closed belongs to a supervisor that is ending: nothing of this matters then.
        let _ = self.place.me.send_message(message);
    }

    // The end.

    /// Stops all children at the same time. A deadline that is set meanwhile is passed on.
    pub(super) async fn stop_all(&self) -> Vec<ChildReport> {
        self.close().await;
        let children = self.with(|room| std::mem::take(&mut room.children));
        let deadline = self.place.office.deadline();
        let (mut running, mut others, mut nested) = (Vec::new(), Vec::new(), Vec::new());
        let now = Instant::now();
        for mut child in children.into_values() {
            child.node.enter(ChildState::Stopping, now);
            if child.spec.kind == ChildKind::Supervisor {
                nested.push(Arc::clone(&child.spec));
            }
            let life = child.take_life();
            let Child { spec, node, .. } = child;
            match life {
                Life::Running { started, .. } => running.push(Leaving::new(spec, node, started)),
                Life::Ending(ending) => running.push(Leaving::new(spec, node, ending.0)),
                other => {
                    let patience = Patience::of(&spec, deadline.clone());
                    others.push(async move {
                        let ended = other.end(&spec, patience).await;
                        (spec, node, ended)
                    });
                }
            }
        }
        let all = async { join!(stop_together(running, &deadline), join_all(others)) };
        let pass_on = pass_on(self.place.office.deadline(), &nested);
        let (running, others) = tokio::select! {
            biased;
            stopped = all => stopped,
            never = pass_on => match never {},
        };
        let running = running.into_iter().map(Leaving::ended);
        self.tell_of(running.chain(others))
    }

    /// Lets no more children in, and waits for those whose start is being made: that takes a moment, unless a start blocks
    /// its thread.
    async fn close(&self) {
        self.with(|room| room.open = false);
        let all_there = async {
            while self.with(|room| room.launching > 0) {
                tokio::task::yield_now().await;
            }
        };
        let _ = time::timeout(KILL_GRACE, all_there).await;
    }

    /// Reports how children ended: each to whoever listens, and those that are worth it to whoever stopped them.
    fn tell_of(
        &self,
        ended: impl Iterator<Item = (Arc<ChildSpec>, Arc<TreeNode>, Ended)>,
    ) -> Vec<ChildReport> {
        let (mut graceful, mut reports) = (0, Vec::new());
        let now = Instant::now();
        for (spec, node, ended) in ended {
            let leaked = ended.leaked.map(|_| ChildState::Leaked);
            node.enter(leaked.unwrap_or(ChildState::Stopped), now);
            let Some(mut report) = ended.report else {
                continue;
            };
            note_stop(&self.place.reports, &node, &report);
            report.children = spec.start.stopped_children();
            if report.how == StopKind::Graceful && report.children.is_empty() {
                graceful += 1;
            }
            if graceful <= LISTED || report.how != StopKind::Graceful {
                reports.push(report);
            }
            let _ = discard(spec);
        }
        reports
    }

    /// The supervisor has ended: without its stop there are children still. They are cut off; its next life waits for them.
    pub(super) fn abandon(&self) {
        let children = self.with(|room| {
            room.open = false;
            std::mem::take(&mut room.children)
        });
        let now = Instant::now();
        let mut left = self.place.office.left_behind.lock();
        for mut child in children.into_values() {
            child.node.enter(ChildState::Stopped, now);
            let task = child.take_life().abandon();
            left.extend(task.map(|task| (Arc::clone(&child.spec.id), task)));
            let _ = discard(child);
        }
        drop(left);
        self.place.node.enter(ChildState::Stopped, now);
        self.place.office.close();
    }
}

impl Room {
    /// A child in its latest incarnation.
    fn current(&mut self, key: u64, incarnation: u64) -> Option<&mut Child> {
        let child = self.children.get_mut(&key)?;
        (child.incarnation == incarnation).then_some(child)
    }

    fn remove(&mut self, key: u64, supervisor: &TreeNode) {
        if let Some(child) = self.children.remove(&key) {
            self.stops.remove(&key);
            supervisor.remove(key);
            self.gone.push(child);
        }
    }

    fn forget_actor(&mut self, started: &Started) {
        if let Control::Actor(cell) = &started.control {
            self.actors.remove(&cell.get_id());
        }
    }
}

impl fmt::Debug for Nursery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nursery").finish_non_exhaustive()
    }
}

/// Tells nested supervisors of each deadline.
async fn pass_on(mut deadline: Deadline, nested: &[Arc<ChildSpec>]) -> std::convert::Infallible {
    loop {
        if let Some(at) = *deadline.borrow_and_update() {
            for spec in nested {
                spec.start.hurry(at);
            }
        }
        if deadline.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
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
