//! From a panic until the successor answers, as a caller outside of the supervisor sees it.

use std::{
    panic::panic_any,
    time::{Duration, Instant},
};

use anyhow::Result;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use underpin::otp::{Address, CallError, Unanswered};

use super::{BOOM, supervised};
use crate::{
    figure::{LIMIT, Sides, UNDERPIN},
    measure::{Workers, drive, median},
};

/// A caller makes an actor panic and asks its successor until it answers. Two workers.
///
/// Not equal: underpin's caller asks the address and the call waits for the restart; the supervisor counts it against
/// its intensity, reports it and shows it in the tree. With bare ractor the caller gets the new reference from a
/// supervisor that only respawns. `limit` is a tokio task with a mailbox, respawned by the caller itself.
///
/// Seen: 1.13 to 1.29 times `ractor`, where the build before had 1.40 to 1.45 in turns with it on the same busy machine; on a calm one 6.55 µs, where
/// that had 7.15. It is not work: a restart took 62,500 instructions, with `ractor` it takes 74,000 (callgrind, one worker), since what unwinds is
/// shorter. What differs is how often somebody is woken: the caller twice more, as its first call has reached the actor that
/// panics, and is told how that one died once everything of it is gone, and its second one waits until the address is filled. On two
/// workers each may wake a thread, which is what a busy machine makes dear.
///
/// Tried, to take a wake out: the verdict told only when the successor is at the address, so that whoever waits for the one finds the other,
/// 6.75 µs instead of 6.65, since the supervisor gives the one and makes the other in one turn anyway; looking some more times whether the
/// dead actor's task is gone instead of being woken by that, no change, as it is gone at the first look in 999 of 1000 restarts. What
/// helped: the supervisor passes by what ractor tells of starts and failures, which it knows by itself. That a call is answered when
/// everything of the dead actor is gone, and not before, is a promise and stays.
pub(super) fn sides(sides: &mut Sides) -> Result<()> {
    let runtime = Workers::Two.runtime();
    sides.add(UNDERPIN, move |time| Ok(drive(&runtime, underpin(time))));
    let runtime = Workers::Two.runtime();
    sides.add(LIMIT, move |time| Ok(drive(&runtime, task(time))));
    let runtime = Workers::Two.runtime();
    sides.add("ractor", move |time| Ok(drive(&runtime, bare(time))));
    Ok(())
}

/// The median of many restarts, in microseconds. A macro for the reason of `casts`.
macro_rules! restarts {
    ($time:expr, $restart:block) => {{
        let (begin, mut took) = (Instant::now(), Vec::new());
        while begin.elapsed() < $time {
            let one = Instant::now();
            $restart
            took.push(one.elapsed().as_secs_f64() * 1e6);
        }
        median(&mut took)
    }};
}

async fn underpin(time: Duration) -> f64 {
    let (counter, supervisor) = supervised::start().await;
    let took = restarts!(time, {
        counter.send(supervised::Message::Panic).expect("it lives");
        answered(&counter).await;
    });
    supervisor.stop().await;
    took
}

/// Asks until the successor answers: a request may still have reached the one that panics.
async fn answered(counter: &Address<supervised::Message>) {
    const TIMEOUT: Duration = Duration::from_secs(1);
    loop {
        match counter.call(supervised::Message::Get, TIMEOUT).await {
            Ok(_) => return,
            Err(CallError::Unanswered(Unanswered::Died(_) | Unanswered::Dropped)) => {}
            Err(error) => panic!("nobody answers: {error}"),
        }
    }
}

struct Child;

enum ChildMessage {
    Get(RpcReplyPort<u64>),
    Panic,
}

impl Actor for Child {
    type Msg = ChildMessage;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<ChildMessage>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<ChildMessage>,
        message: ChildMessage,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ChildMessage::Get(reply) => Ok(reply.send(0)?),
            ChildMessage::Panic => panic_any(BOOM),
        }
    }
}

/// Respawns its child and tells who it is now.
struct Respawner;

type Children = mpsc::UnboundedSender<ActorRef<ChildMessage>>;

impl Actor for Respawner {
    type Msg = ();
    type State = Children;
    type Arguments = Children;

    async fn pre_start(
        &self,
        me: ActorRef<()>,
        children: Children,
    ) -> Result<Children, ActorProcessingErr> {
        spawn_child(&me, &children).await?;
        Ok(children)
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<()>,
        event: SupervisionEvent,
        children: &mut Children,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(..) = event {
            spawn_child(&me, children).await?;
        }
        Ok(())
    }
}

async fn spawn_child(me: &ActorRef<()>, children: &Children) -> Result<(), ActorProcessingErr> {
    let (child, _) = Actor::spawn_linked(None, Child, (), me.get_cell()).await?;
    Ok(children.send(child)?)
}

async fn bare(time: Duration) -> f64 {
    let (sender, mut children) = mpsc::unbounded_channel();
    let (respawner, task) = Actor::spawn(None, Respawner, sender)
        .await
        .expect("the supervisor starts");
    let mut child = children.recv().await.expect("the child starts");
    let took = restarts!(time, {
        child.cast(ChildMessage::Panic).expect("it lives");
        child = children.recv().await.expect("it is started again");
        ractor::call!(child, ChildMessage::Get).expect("it answers");
    });
    respawner.stop(None);
    task.await.expect("the supervisor ends");
    took
}

/// `None` panics.
type TaskMessage = Option<oneshot::Sender<u64>>;

fn spawn_task() -> (mpsc::UnboundedSender<TaskMessage>, JoinHandle<()>) {
    let (sender, mut messages) = mpsc::unbounded_channel::<TaskMessage>();
    let task = tokio::spawn(async move {
        while let Some(message) = messages.recv().await {
            let Some(reply) = message else {
                panic_any(BOOM);
            };
            let _ = reply.send(0);
        }
    });
    (sender, task)
}

async fn task(time: Duration) -> f64 {
    let (mut messages, mut task) = spawn_task();
    restarts!(time, {
        messages.send(None).expect("it lives");
        (&mut task).await.expect_err("it panicked");
        (messages, task) = spawn_task();
        let (reply, answer) = oneshot::channel();
        messages.send(Some(reply)).expect("it lives");
        answer.await.expect("it answers");
    })
}
