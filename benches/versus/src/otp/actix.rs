//! actix, all on the thread of its system.

use std::{thread, time::Duration};

use actix::{Actor, Addr, Context, Handler, Message, System};
use tokio::sync::oneshot;

use super::count::{Count, calls, casts};

#[derive(Default)]
struct Counter(Count);

struct Inc;
struct Get;
struct Expect(u64, oneshot::Sender<()>);

impl Actor for Counter {
    type Context = Context<Self>;
}

impl Message for Inc {
    type Result = ();
}

impl Message for Get {
    type Result = u64;
}

impl Message for Expect {
    type Result = ();
}

impl Handler<Inc> for Counter {
    type Result = ();

    fn handle(&mut self, _: Inc, _: &mut Context<Self>) {
        self.0.add();
    }
}

impl Handler<Get> for Counter {
    type Result = u64;

    fn handle(&mut self, _: Get, _: &mut Context<Self>) -> u64 {
        self.0.get()
    }
}

impl Handler<Expect> for Counter {
    type Result = ();

    fn handle(&mut self, Expect(more, reached): Expect, _: &mut Context<Self>) {
        self.0.expect(more, reached);
    }
}

pub(super) fn cast(time: Duration) -> f64 {
    in_system(async move |actor: Addr<Counter>| {
        casts!(
            time,
            |more, reached| actor.do_send(Expect(more, reached)),
            actor.do_send(Inc)
        )
    })
}

pub(super) fn call(time: Duration) -> f64 {
    in_system(async move |actor: Addr<Counter>| {
        calls!(time, actor.send(Get).await.expect("the actor lives"))
    })
}

/// A system belongs to its thread for ever, so each gets a thread of its own.
fn in_system(measure: impl AsyncFnOnce(Addr<Counter>) -> f64 + Send + 'static) -> f64 {
    let system =
        move || System::new().block_on(async { measure(Counter::default().start()).await });
    thread::spawn(system)
        .join()
        .expect("the measured system came to its end")
}
