//! underpin: an actor under a supervisor, reached through its address.

use std::{panic::panic_any, time::Duration};

use tokio::sync::oneshot;
use underpin::{
    otp::{Address, ChildSpec, Intensity, Permit, Reply, Supervisor, SupervisorSpec},
    ractor::{Actor, ActorProcessingErr, ActorRef},
};

use super::{
    BOOM,
    count::{Count, calls, casts},
};

pub(super) struct Counter;

pub(super) enum Message {
    Inc(Permit),
    Get(Reply<u64>),
    Expect(u64, oneshot::Sender<()>),
    Panic,
}
underpin::otp::message!(Message);

const TIMEOUT: Duration = Duration::from_secs(1);

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
            Message::Inc(permit) => {
                count.add();
                drop(permit);
            }
            Message::Get(reply) => reply.send(count.get()),
            Message::Expect(more, reached) => count.expect(more, reached),
            Message::Panic => panic_any(BOOM),
        }
        Ok(())
    }
}

pub(super) async fn cast(time: Duration) -> f64 {
    let (counter, supervisor) = start().await;
    let rate = casts!(
        time,
        |more, reached| counter.send(Message::Expect(more, reached)).expect(LIVES),
        counter.cast(Message::Inc).await.expect(LIVES)
    );
    supervisor.stop().await;
    rate
}

pub(super) async fn call(time: Duration) -> f64 {
    let (counter, supervisor) = start().await;
    let took = calls!(
        time,
        counter.call(Message::Get, TIMEOUT).await.expect(LIVES)
    );
    supervisor.stop().await;
    took
}

const LIVES: &str = "the actor lives until it is stopped";

pub(super) async fn start() -> (Address<Message>, Supervisor) {
    // As many restarts as a machine can make: it is their price that is measured.
    let intensity = Intensity::new(1000, Duration::from_millis(1));
    let counter = Address::new();
    let spec = SupervisorSpec::new("versus", intensity).child(ChildSpec::actor(
        "counter",
        &counter,
        |_| (Counter, ()),
    ));
    let supervisor = Supervisor::start(spec).await.expect("the tree starts");
    (counter, supervisor)
}
