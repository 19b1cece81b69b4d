//! The shell around [`Children`]: carries out what they decide, and tells them what came of it. Time, chance, tasks and actors
//! are here, in `news`, in `requests` and in `ending`.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use ractor::{ActorId, ActorRef};
use tokio::time::{self, Instant};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    Message, StartOutcome,
    body::{Body, Life},
    effect::{Effect, How, Timer},
    launch::{Launch, Outcome},
    state::{Children, Key, Terms},
    stop::{Ended, Patience},
};
use crate::otp::{
    ChildSpec, ChildState, ExitReason, Lifecycle, Report, StartError,
    incarnation::{Incarnation, Left, discard},
    lifecycle::Reports,
    office::Office,
    start::{Control, Overseer, Seat, Started},
    tree::TreeNode,
};

/// Stands for delays that the clock cannot hold.
const FAR_FUTURE: Duration = Duration::from_hours(100 * 365 * 24);

/// Where a supervisor stands.
pub(super) struct Place {
    pub(super) me: ActorRef<Message>,
    pub(super) incarnation: Arc<Incarnation>,
    pub(super) node: Arc<TreeNode>,
    pub(super) reports: Reports,
    pub(super) office: Arc<Office<Message>>,
}

pub(crate) struct Room {
    pub(super) place: Place,
    pub(super) terms: Terms,
    began: Instant,
    pub(super) state: Children,
    /// What there is of each child, in start order.
    pub(super) bodies: BTreeMap<Key, Body>,
    pub(super) actors: HashMap<ActorId, Key>,
    /// What ractor told of the stop of a child that has not told of its end yet.
    pub(super) stops: HashMap<Key, ExitReason>,
    /// The next start in a restart of several.
    group_timer: Option<AbortOnDropHandle<()>>,
}

impl Room {
    pub(super) fn new(place: Place, terms: Terms) -> Self {
        Self {
            place,
            terms,
            began: Instant::now(),
            state: Children::new(terms),
            bodies: BTreeMap::new(),
            actors: HashMap::new(),
            stops: HashMap::new(),
            group_timer: None,
        }
    }

    /// Starts the first children, one after the other. On failure those before it are stopped again.
    /// So they are when the supervisor itself is to stop before it has started.
    pub(super) async fn start_all(
        &mut self,
        specs: Vec<ChildSpec>,
        stopped: &CancellationToken,
    ) -> Result<(), StartError> {
        for spec in specs {
            // Checked before: no two have one id.
            let Ok(key) = self.state.start_child(spec.rules()) else {
                continue;
            };
            self.add_body(key, spec.clone());
            // The effect of this is awaited here.
            while self.state.next_effect().is_some() {}
            let launch = self.launch(key);
            let outcome = match launch {
                Some(launch) => {
                    let deadline = self.place.office.deadline();
                    launch.finish(&spec, stopped, deadline).await
                }
                None => Ok(None),
            };
            let failed = outcome.as_ref().err().cloned();
            self.settle(key, self.state.life(key), outcome);
            self.carry_out();
            if let Some(error) = failed {
                self.stop_all().await;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Whoever asked hears of it last, when everybody else can see it.
    pub(super) fn carry_out(&mut self) {
        let (mut started, mut ended) = (Vec::new(), Vec::new());
        while let Some(effect) = self.state.next_effect() {
            match effect {
                Effect::Start(key) => self.start(key),
                Effect::Stop(key, how) => self.stop(key, how),
                Effect::Wake(timer, delay) => self.wake(timer, delay),
                Effect::Settled(key, outcome) => {
                    let body = self.bodies.get_mut(&key);
                    let asked = body.and_then(|body| body.start_asked.take());
                    started.extend(asked.map(|reply| (reply, outcome)));
                }
                Effect::Ended(key, outcome) => {
                    let body = self.bodies.get_mut(&key);
                    let asked = body.into_iter().flat_map(|body| body.ends_asked.drain(..));
                    ended.extend(asked.map(|reply| (reply, outcome.clone())));
                }
                Effect::Show(key) => self.show(key),
                Effect::Tell(key, what) => self.tell(key, what),
                Effect::Forget(key) => self.forget(key),
                Effect::End(cause, what) => {
                    self.place.reports.send(self.place.node.path(), what);
                    let reason = ExitReason::Shutdown(Some(cause));
                    self.place.incarnation.leave(Left::Reason(reason));
                    self.place.me.stop(None);
                }
            }
        }
        for (reply, outcome) in started {
            reply.send(outcome);
        }
        for (reply, outcome) in ended {
            reply.send(outcome);
        }
    }

    /// Most starts are done in a moment; one that is not goes on in a task, so that the supervisor stays free for everything
    /// else.
    fn start(&mut self, key: Key) {
        let Some(mut launch) = self.launch(key) else {
            return;
        };
        let Some(body) = self.bodies.get_mut(&key) else {
            return;
        };
        body.timer = None;
        if let Some(outcome) = launch.at_once(&body.spec) {
            self.settle(key, self.state.life(key), outcome);
        } else {
            let me = self.place.me.clone();
            let incarnation = launch.incarnation;
            let deadline = self.place.office.deadline();
            let slow = launch.go_on(body.spec.clone(), deadline, move || {
                let _ = me.send_message(Message::StartDone {
                    child: key,
                    incarnation,
                });
            });
            body.life = Life::Starting(slow);
        }
    }

    /// Makes the next incarnation of a child; it is alive when the future is done.
    fn launch(&mut self, key: Key) -> Option<Launch> {
        let number = self.state.life(key);
        let body = self.bodies.get_mut(&key)?;
        let overseer = Overseer::new(&self.place.me, self.place.incarnation.id);
        let (node, reports) = (&body.node, &self.place.reports);
        let seat = Seat::new(Some(overseer), key, number, node, reports, Instant::now());
        Some(Launch::of(&body.spec, seat))
    }

    /// A start has come to its end: keeps what lives, and tells what came of it.
    pub(super) fn settle(&mut self, key: Key, life: u64, outcome: Outcome) {
        let outcome = match outcome {
            Ok(Some(started)) => {
                self.keep(key, started);
                Ok(StartOutcome::Running)
            }
            Ok(None) => Ok(StartOutcome::Ignored),
            Err(error) => Err(error),
        };
        if let (Err(error), Some(body)) = (&outcome, self.bodies.get(&key)) {
            body.node.start_failed(&error.reason());
        }
        let (now, luck) = self.now();
        self.state.started(key, life, outcome, now, luck);
    }

    fn keep(&mut self, key: Key, started: Started) {
        let Some(body) = self.bodies.get_mut(&key) else {
            return;
        };
        if let Control::Actor(cell) = &started.control {
            self.actors.insert(cell.get_id(), key);
        }
        let incarnation = Arc::clone(&started.incarnation);
        body.life = Life::Alive(started);
        if let Some(probe) = &body.spec.extras().health {
            let me = self.place.me.clone();
            let (id, hang) = (incarnation.id, probe.clone().hang(Arc::clone(&incarnation)));
            let watch = tokio::spawn(async move {
                let _ = me.send_message(Message::Unhealthy {
                    child: key,
                    incarnation: id,
                    reason: hang.await,
                });
            });
            body.probe = Some(AbortOnDropHandle::new(watch));
        }
        if incarnation.has_ended() {
            // Its notice may have come while it still counted as starting.
            self.tell_me(Message::Exited {
                child: key,
                incarnation: incarnation.id,
                asked_again: false,
            });
        }
    }

    fn stop(&mut self, key: Key, how: How) {
        self.forget_actor(key);
        let Some(body) = self.bodies.get(&key) else {
            return;
        };
        let patience = Patience::of(&body.spec, self.place.office.deadline());
        let patience = match how {
            How::AsSaid => patience,
            How::Kill => patience.none(),
        };
        self.end_in_task(key, patience);
    }

    /// Brings a child to its end in a task of its own: the supervisor stays free, and when it is cut off meanwhile, it still knows
    /// what to wait for.
    pub(super) fn end_in_task(&mut self, key: Key, patience: Patience) {
        let life = self.state.life(key);
        let Some(body) = self.bodies.get_mut(&key) else {
            return;
        };
        let (spec, own_end) = (body.spec.clone(), body.own_end.take());
        let ending = body.take_life();
        let me = self.place.me.clone();
        let ended = Arc::new(Mutex::new(Ended::NOTHING));
        let task = tokio::spawn({
            let ended = Arc::clone(&ended);
            async move {
                let outcome = ending.end(&spec, own_end, patience).await;
                *ended.lock() = outcome;
                let _ = me.send_message(Message::StopDone { child: key, life });
            }
        });
        body.life = Life::Stopping { task, ended };
    }

    fn wake(&mut self, timer: Timer, delay: Duration) {
        let me = self.place.me.clone();
        let now = Instant::now();
        let due = now.checked_add(delay).unwrap_or(now + FAR_FUTURE);
        let sleeper = (!delay.is_zero()).then(|| {
            let task = tokio::spawn(async move {
                time::sleep_until(due).await;
                let _ = me.send_message(Message::Due(timer));
            });
            AbortOnDropHandle::new(task)
        });
        if sleeper.is_none() {
            // Through the mailbox all the same: other requests come first.
            self.tell_me(Message::Due(timer));
        }
        match timer {
            Timer::Group(_) => {
                self.group_timer = sleeper;
                for (key, body) in &self.bodies {
                    if self.state.state(*key) == ChildState::Restarting {
                        body.node.restart_at(due, now);
                    }
                }
            }
            Timer::Child(key, _) => {
                if let Some(body) = self.bodies.get_mut(&key) {
                    body.timer = sleeper;
                    body.node.restart_at(due, now);
                }
            }
        }
    }

    fn show(&mut self, key: Key) {
        let state = self.state.state(key);
        if let Some(body) = self.bodies.get_mut(&key) {
            body.timer = None;
            body.node.enter(state, Instant::now());
        }
    }

    fn tell(&self, key: Key, what: Lifecycle) {
        if let Some(body) = self.bodies.get(&key) {
            let own_budget = body.spec.extras().budget.is_some();
            let (reports, supervisor) = (&self.place.reports, &self.place.node);
            reports.publish(Report::of_child(supervisor, &body.node, own_budget, what));
        }
    }

    pub(super) fn add_body(&mut self, key: Key, spec: ChildSpec) {
        let node = TreeNode::new(
            &spec.id,
            Some(self.place.node.path()),
            spec.kind,
            spec.start.slot(),
            Instant::now(),
        );
        node.heed(&spec, Instant::now());
        self.place.node.add(key, Arc::clone(&node));
        self.bodies.insert(key, Body::new(spec, node));
    }

    fn forget(&mut self, key: Key) {
        self.forget_actor(key);
        if let Some(body) = self.bodies.remove(&key) {
            self.place.node.remove(key);
            // A closure of the user's goes with it.
            let _ = discard(body);
        }
    }

    pub(super) fn forget_actor(&mut self, key: Key) {
        self.stops.remove(&key);
        let life = self.bodies.get(&key).map(|body| &body.life);
        if let Some(Life::Alive(started)) = life
            && let Control::Actor(cell) = &started.control
        {
            self.actors.remove(&cell.get_id());
        }
    }

    pub(super) fn tell_me(&self, message: Message) {
        // A mailbox that is closed belongs to a supervisor that is ending: nothing of this matters then.
        let _ = self.place.me.send_message(message);
    }

    /// The time as the decisions count it, and a draw from 0 to 1.
    pub(super) fn now(&self) -> (Duration, f64) {
        (self.began.elapsed(), fastrand::f64())
    }
}
