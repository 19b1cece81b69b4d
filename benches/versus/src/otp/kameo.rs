//! kameo, with an unbounded mailbox.

use std::time::Duration;

use kameo::{
    Actor,
    actor::{ActorRef, Spawn},
    mailbox,
    message::{Context, Message},
};
use tokio::sync::oneshot;

use super::count::{Count, calls, casts};

#[derive(Actor, Default)]
struct Counter(Count);

struct Inc;
struct Get;
struct Expect(u64, oneshot::Sender<()>);

impl Message<Inc> for Counter {
    type Reply = ();

    async fn handle(&mut self, _: Inc, _: &mut Context<Self, ()>) {
        self.0.add();
    }
}

impl Message<Get> for Counter {
    type Reply = u64;

    async fn handle(&mut self, _: Get, _: &mut Context<Self, u64>) -> u64 {
        self.0.get()
    }
}

impl Message<Expect> for Counter {
    type Reply = ();

    async fn handle(&mut self, Expect(more, reached): Expect, _: &mut Context<Self, ()>) {
        self.0.expect(more, reached);
    }
}

pub(super) async fn cast(time: Duration) -> f64 {
    let actor = start().await;
    let rate = casts!(
        time,
        |more, reached| actor.tell(Expect(more, reached)).try_send().expect(LIVES),
        actor.tell(Inc).try_send().expect(LIVES)
    );
    stop(&actor).await;
    rate
}

pub(super) async fn call(time: Duration) -> f64 {
    let actor = start().await;
    let took = calls!(time, actor.ask(Get).send().await.expect(LIVES));
    stop(&actor).await;
    took
}

const LIVES: &str = "the actor lives until it is stopped";

async fn start() -> ActorRef<Counter> {
    let actor = Counter::spawn_with_mailbox(Counter::default(), mailbox::unbounded());
    actor.wait_for_startup().await;
    actor
}

async fn stop(actor: &ActorRef<Counter>) {
    actor.stop_gracefully().await.expect(LIVES);
    actor.wait_for_shutdown().await;
}
