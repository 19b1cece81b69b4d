//! ractor alone, without the span propagation that is its default and that underpin leaves off too.

use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::sync::oneshot;

use super::count::{Count, calls, casts};

struct Counter;

enum Message {
    Inc,
    Get(RpcReplyPort<u64>),
    Expect(u64, oneshot::Sender<()>),
}

const TIMEOUT_MS: u64 = 1000;

impl Actor for Counter {
    type Msg = Message;
    type State = Count;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Message>, (): ()) -> Result<Count, ActorProcessingErr> {
        Ok(Count::default())
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        count: &mut Count,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Inc => count.add(),
            Message::Get(reply) => reply.send(count.get())?,
            Message::Expect(more, reached) => count.expect(more, reached),
        }
        Ok(())
    }
}

pub(super) async fn cast(time: Duration) -> f64 {
    let (actor, task) = start().await;
    let rate = casts!(
        time,
        |more, reached| actor.cast(Message::Expect(more, reached)).expect(LIVES),
        actor.cast(Message::Inc).expect(LIVES)
    );
    actor.stop(None);
    task.await.expect(LIVES);
    rate
}

pub(super) async fn call(time: Duration) -> f64 {
    let (actor, task) = start().await;
    let took = calls!(time, ractor::call!(actor, Message::Get).expect(LIVES));
    actor.stop(None);
    task.await.expect(LIVES);
    took
}

pub(super) async fn call_with_timeout(time: Duration) -> f64 {
    let (actor, task) = start().await;
    let took = calls!(
        time,
        ractor::call_t!(actor, Message::Get, TIMEOUT_MS).expect(LIVES)
    );
    actor.stop(None);
    task.await.expect(LIVES);
    took
}

const LIVES: &str = "the actor lives until it is stopped";

async fn start() -> (ActorRef<Message>, tokio::task::JoinHandle<()>) {
    Actor::spawn(None, Counter, ())
        .await
        .expect("the actor starts")
}
