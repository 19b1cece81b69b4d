//! What a supervisor is told of its children: they end, their starts and stops are over, a timer fires.

use std::sync::Arc;

use ractor::ActorId;

use super::{
    Message,
    body::Life,
    effect::Timer,
    room::Room,
    state::Key,
    stop::{Ended, stopped},
};
use crate::otp::{ExitReason, incarnation::Left, start::Started};

impl Room {
    pub(super) fn stopping(&mut self, actor: ActorId, stop: ExitReason) {
        if let Some(key) = self.actors.get(&actor) {
            self.stops.insert(*key, stop);
        }
    }

    /// A child's task is about to end. When how it ended is not known yet, ractor's own event is waited for: it has been
    /// sent already, and comes first next time.
    pub(super) fn exited(&mut self, key: Key, incarnation: u64, asked_again: bool) {
        let Some(started) = self.alive(key, incarnation) else {
            return;
        };
        let life = Arc::clone(&started.incarnation);
        let stop = self.stops.remove(&key);
        let Some(reason) = life.reason(stop, asked_again) else {
            return self.tell_me(Message::Exited {
                child: key,
                incarnation,
                asked_again: true,
            });
        };
        self.forget_actor(key);
        let Some(started) = self.alive(key, incarnation) else {
            return;
        };
        if let Some(slot) = &started.slot {
            slot.vacate(&started.incarnation);
        }
        if started.is_gone() {
            self.gone(key, incarnation, reason);
        } else {
            self.await_end(key, incarnation, reason);
        }
    }

    /// The child's task still has to drop what it holds; its successor must not meet that.
    fn await_end(&mut self, key: Key, incarnation: u64, reason: ExitReason) {
        let me = self.place.me.clone();
        let Some(started) = self.alive(key, incarnation) else {
            return;
        };
        let life = started.incarnation.number;
        let join = started.join.take();
        let last = reason.clone();
        // From here on, waiting for the child is waiting for this.
        started.join = Some(tokio::spawn(async move {
            if let Some(join) = join {
                let _ = join.await;
            }
            let _ = me.send_message(Message::Gone {
                child: key,
                incarnation,
                reason: last,
            });
        }));
        if let Some(body) = self.bodies.get_mut(&key) {
            body.own_end = Some(reason.clone());
        }
        self.state.ending(key, life, reason);
        self.carry_out();
    }

    /// Everything of the child is gone.
    pub(super) fn gone(&mut self, key: Key, incarnation: u64, reason: ExitReason) {
        let Some(started) = self.alive(key, incarnation) else {
            return;
        };
        // Whoever told of this is at its end, too.
        started.join = None;
        started.incarnation.finish(reason.clone());
        let life = started.incarnation.number;
        if let Some(body) = self.bodies.get_mut(&key) {
            drop(body.take_life());
        }
        let (now, luck) = self.now();
        self.state.gone(key, life, reason, now, luck);
        self.carry_out();
    }

    pub(super) fn start_done(&mut self, key: Key, incarnation: u64) {
        let Some(body) = self.bodies.get_mut(&key) else {
            return;
        };
        if !matches!(&body.life, Life::Starting(slow) if slow.incarnation == incarnation) {
            return;
        }
        if let Life::Starting(slow) = body.take_life() {
            let outcome = slow.outcome(&body.spec);
            self.settle(key, self.state.life(key), outcome);
            self.carry_out();
        }
    }

    pub(super) fn stop_done(&mut self, key: Key, life: u64) {
        if self.state.life(key) != life {
            return;
        }
        let Some(body) = self.bodies.get_mut(&key) else {
            return;
        };
        if !matches!(body.life, Life::Stopping { .. }) {
            return;
        }
        let Ended { report, leaked } = body.take_ended();
        let has_leaked = leaked.is_some();
        // One that is judged has exited: that is told then.
        let exits = self.state.is_judged(key) && !has_leaked;
        if let Some(report) = report.filter(|_| !exits) {
            self.place.reports.publish(stopped(&body.node, &report));
        }
        if let Some(task) = leaked {
            let me = self.place.me.clone();
            body.life = Life::Leaked(tokio::spawn(async move {
                let _ = task.await;
                let _ = me.send_message(Message::Freed { child: key, life });
            }));
        }
        let (now, luck) = self.now();
        self.state.stopped(key, life, has_leaked, now, luck);
        self.carry_out();
    }

    pub(super) fn freed(&mut self, key: Key, life: u64) {
        if self.state.life(key) == life
            && let Some(body) = self.bodies.get_mut(&key)
        {
            drop(body.take_life());
        }
        let (now, luck) = self.now();
        self.state.freed(key, life, now, luck);
        self.carry_out();
    }

    pub(super) fn due(&mut self, timer: Timer) {
        let (now, _) = self.now();
        self.state.due(timer, now);
        self.carry_out();
    }

    pub(super) fn unhealthy(&mut self, key: Key, incarnation: u64, reason: ExitReason) {
        let Some(started) = self.alive(key, incarnation) else {
            return;
        };
        if started.incarnation.has_ended() {
            // It ended by itself meanwhile; its notice comes next.
            return;
        }
        // How it ends is what is wrong with it, and not the kill that follows.
        started.incarnation.leave(Left::Reason(reason.clone()));
        let life = started.incarnation.number;
        self.state.unhealthy(key, life, reason);
        self.carry_out();
    }

    pub(super) fn alive(&mut self, key: Key, incarnation: u64) -> Option<&mut Started> {
        match &mut self.bodies.get_mut(&key)?.life {
            Life::Alive(started) if started.incarnation.id == incarnation => Some(started),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use ractor::{Actor, ActorProcessingErr, ActorRef};
    use tokio::{
        sync::{mpsc, oneshot},
        time::Instant,
    };
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::otp::{
        Address, ChildKind, ChildSpec, Intensity, Lifecycle, Restart, Strategy, SupervisorSpec,
        incarnation::Incarnation, lifecycle::Reports, supervisor::room::Place, tree::TreeNode,
    };

    /// Stands where the supervisor's own actor would: what it is told, the story hands on when it likes.
    struct Post;

    impl Actor for Post {
        type Msg = Message;
        type State = mpsc::UnboundedSender<Message>;
        type Arguments = mpsc::UnboundedSender<Message>;

        async fn pre_start(
            &self,
            _: ActorRef<Message>,
            post: Self::Arguments,
        ) -> Result<Self::State, ActorProcessingErr> {
            Ok(post)
        }

        async fn handle(
            &self,
            _: ActorRef<Message>,
            message: Message,
            post: &mut Self::State,
        ) -> Result<(), ActorProcessingErr> {
            Ok(post.send(message)?)
        }

        async fn handle_supervisor_evt(
            &self,
            _: ActorRef<Message>,
            _: ractor::SupervisionEvent,
            _: &mut Self::State,
        ) -> Result<(), ActorProcessingErr> {
            Ok(())
        }
    }

    /// Ends well when it is told to.
    struct Ends;

    struct End;
    crate::otp::message!(End);

    impl Actor for Ends {
        type Msg = End;
        type State = ();
        type Arguments = ();

        async fn pre_start(&self, _: ActorRef<End>, (): ()) -> Result<(), ActorProcessingErr> {
            Ok(())
        }

        async fn handle(
            &self,
            me: ActorRef<End>,
            End: End,
            (): &mut (),
        ) -> Result<(), ActorProcessingErr> {
            me.stop(None);
            Ok(())
        }
    }

    /// A room with these children, what is told to its supervisor, and what is reported of it.
    async fn room_of(
        children: Vec<ChildSpec>,
    ) -> (Room, mpsc::UnboundedReceiver<Message>, Reports) {
        let (post, letters) = mpsc::unbounded_channel();
        let (me, _) = Actor::spawn(None, Post, post).await.expect("starts");
        let spec = SupervisorSpec::new("s", Intensity::new(9, std::time::Duration::from_secs(1)));
        let spec = spec.strategy(Strategy::OneForAll);
        let (reports, now) = (Reports::new(), Instant::now());
        let place = Place {
            me,
            incarnation: Incarnation::new(1),
            node: TreeNode::new(&Arc::from("s"), None, ChildKind::Supervisor, None, now),
            reports: reports.clone(),
            office: Arc::clone(&spec.office),
        };
        let mut room = Room::new(place, spec.terms());
        let started = room.start_all(children, &CancellationToken::new()).await;
        started.expect("starts");
        (room, letters, reports)
    }

    /// Its end was known, and those that watched it were told that it had ended as if nothing had been said.
    #[tokio::test]
    async fn a_child_that_was_ending_when_its_supervisor_was_killed_is_told_of_by_its_own_end() {
        let b = Address::new();
        let children = vec![ChildSpec::actor("b", &b, |_| (Ends, ()))];
        let (mut room, mut letters, _) = room_of(children).await;
        let watched = b.monitor();
        b.send(End).expect("runs");
        let Some(Message::Exited {
            child, incarnation, ..
        }) = letters.recv().await
        else {
            panic!("another letter");
        };
        let (release, until) = oneshot::channel::<()>();
        let dropping = tokio::spawn(async move { drop(until.await) });
        room.alive(child, incarnation).expect("is there").join = Some(dropping);
        let moved = ExitReason::from_stop(Some("moved away"));
        room.stops.insert(child, moved.clone());
        room.exited(child, incarnation, false);

        drop(room);
        drop(release);

        assert_eq!(watched.down().await.reason, moved);
    }

    /// It was told as stopped, for the one reason, and then as exited, for the other, and counted twice; those that watched it heard of
    /// the first.
    #[tokio::test(start_paused = true)]
    async fn a_child_that_ends_by_itself_while_it_is_stopped_for_a_sibling_has_exited_and_is_told_of_once()
     {
        let b = Address::new();
        let children = vec![
            ChildSpec::task("a", |_| std::future::pending()),
            ChildSpec::actor("b", &b, |_| (Ends, ())).restart(Restart::Transient),
        ];
        let (mut room, mut letters, reports) = room_of(children).await;
        let mut reports = reports.subscribe();
        let watched = b.monitor();

        // Its task has still to drop what it holds when it tells that it has ended.
        b.send(End).expect("runs");
        let (release, until) = oneshot::channel::<()>();
        let told = letters.recv().await;
        let Some(Message::Exited {
            child, incarnation, ..
        }) = told
        else {
            panic!("another letter");
        };
        let dropping = tokio::spawn(async move { drop(until.await) });
        room.alive(child, incarnation).expect("is there").join = Some(dropping);
        room.exited(child, incarnation, true);
        // Its sibling ends, and all are to be started anew.
        let a = match &room.bodies[&0].life {
            Life::Alive(started) => Arc::clone(&started.incarnation),
            _ => panic!("a runs"),
        };
        room.gone(0, a.id, ExitReason::Killed);
        drop(release);
        loop {
            match letters.recv().await.expect("tells") {
                Message::Gone {
                    child,
                    incarnation,
                    reason,
                } => room.gone(child, incarnation, reason),
                Message::StopDone { child, life } => break room.stop_done(child, life),
                _ => {}
            }
        }

        assert_eq!(watched.down().await.reason, ExitReason::Normal);
        let mut told = Vec::new();
        loop {
            let report = reports.next().await.expect("tells");
            if &*report.path == "s/b" {
                told.push(report.what);
            } else if let Lifecycle::Started { incarnation: 2 } = report.what {
                break;
            }
        }
        let exited = Lifecycle::Exited {
            incarnation: 1,
            reason: ExitReason::Normal,
        };
        assert_eq!(told, [exited]);
    }
}
