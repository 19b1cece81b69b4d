//! One message to a thousand actors.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, pg};
use underpin::otp::Groups;

use crate::{
    figure::{LIMIT, Sides, UNDERPIN},
    measure::{Tally, Workers, drive},
};

const MEMBERS: usize = 1000;

#[derive(Clone, Copy)]
struct Ping;

/// Counts down what it gets.
struct Member(Arc<AtomicUsize>);

impl Actor for Member {
    type Msg = Ping;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Ping>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Ping>,
        _: Ping,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        self.0.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }
}

/// What one broadcast costs the one who sends it, in microseconds; the next begins when all have handled it.
///
/// Not equal: `limit` is a loop over references that somebody has, which knows of no joining and no death; `ractor` asks its
/// `pg` for the members each time, as its users do.
pub(super) fn broadcast(sides: &mut Sides) -> Result<()> {
    let runtime = Workers::Two.runtime();
    sides.add(UNDERPIN, move |time| {
        Ok(drive(&runtime, async move {
            let (members, pending) = start().await;
            let groups = Groups::new("versus");
            let group = groups.group::<Ping>("members");
            group.join_all(&members).expect(LIVES);
            let took = measure(time, &pending, || {
                let told = group.broadcast(&Ping);
                assert_eq!(told.sent, MEMBERS);
            });
            stop(members, took.await).await
        }))
    });
    let runtime = Workers::Two.runtime();
    sides.add(LIMIT, move |time| {
        Ok(drive(&runtime, async move {
            let (members, pending) = start().await;
            let took = measure(time, &pending, || {
                for member in &members {
                    member.send_message(Ping).expect(LIVES);
                }
            });
            let took = took.await;
            stop(members, took).await
        }))
    });
    let runtime = Workers::Two.runtime();
    sides.add("ractor", move |time| {
        Ok(drive(&runtime, async move {
            let (members, pending) = start().await;
            let (scope, group) = ("versus".to_owned(), "members".to_owned());
            let cells: Vec<ActorCell> = members.iter().map(ActorRef::get_cell).collect();
            pg::join_scoped(scope.clone(), group.clone(), cells.clone());
            let took = measure(time, &pending, || {
                for member in pg::get_scoped_members(&scope, &group) {
                    member.send_message(Ping).expect(LIVES);
                }
            });
            let took = took.await;
            pg::leave_scoped(scope, group, cells);
            stop(members, took).await
        }))
    });
    Ok(())
}

const LIVES: &str = "the members live until they are stopped";

async fn start() -> (Vec<ActorRef<Ping>>, Arc<AtomicUsize>) {
    let pending = Arc::new(AtomicUsize::new(0));
    let mut members = Vec::with_capacity(MEMBERS);
    for _ in 0..MEMBERS {
        let member = Member(Arc::clone(&pending));
        let (member, _) = Actor::spawn(None, member, ()).await.expect("starts");
        members.push(member);
    }
    (members, pending)
}

async fn measure(time: Duration, pending: &AtomicUsize, mut broadcast: impl FnMut()) -> f64 {
    let mut tally = Tally::default();
    while tally.is_below(time) {
        pending.store(MEMBERS, Ordering::Relaxed);
        let begin = Instant::now();
        broadcast();
        tally.add(1, begin.elapsed());
        while pending.load(Ordering::Relaxed) > 0 {
            tokio::task::yield_now().await;
        }
    }
    1e6 / tally.per_second()
}

/// The next side begins with a quiet machine.
async fn stop(members: Vec<ActorRef<Ping>>, took: f64) -> f64 {
    for member in members {
        let _ = member.stop_and_wait(None, None).await;
    }
    took
}
