//! Ten thousand children: started one after the other, stopped together, and what one of them holds.

use std::time::{Duration, Instant};

use anyhow::Result;
use kameo::{
    actor::{ActorRef as KameoRef, Spawn as _},
    mailbox,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{sync::oneshot, task::JoinHandle};
use underpin::otp::{
    Address, ChildSpec, DynamicSupervisor, DynamicSupervisorSpec, Intensity, Restart,
};

use crate::{
    figure::{LIMIT, Sides, UNDERPIN},
    measure::{Workers, drive, median},
};

const CHILDREN: usize = 10_000;

/// What is wanted of a round of starting and stopping.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted {
    /// Milliseconds until all have started.
    Start,
    /// Milliseconds until all have ended.
    Stop,
    /// Bytes of heap for each while all live.
    Bytes,
}

/// Two workers. All actors are the same empty one.
///
/// Not equal: underpin's children are each asked for from outside of the supervisor, which answers; each has an address of its
/// own, a restart plan, a place in the tree and in the reports, and the supervisor reports how each ended. `ractor` is bare
/// actors linked to one supervisor, spawned by the caller itself, stopped and joined by it; `kameo` the same without a
/// supervisor. `limit` is a tokio task for each, which waits for a word to end. The bytes are those in use in the heap, as
/// glibc counts them (`mallinfo2`), with what the caller holds of each child.
///
/// `otp.start.10k` lies between 1.65 and 2.6 times `ractor`, by how calm the machine is (the median of eleven runs: 1.9; the build before, in
/// turns with it: 2.05, and 15 to 30 % longer). A start takes 10,250 instructions until it is answered (callgrind, before: 13,870), of which
/// ractor's own spawn has 6,370. Done about it: starts are made by whoever asks, not by the supervisor's own actor, and outside of
/// its lock; none goes on in a task for want of budget, as one in 124 did, with two more wakes; a start's future is small enough for
/// what the allocator has at hand; a path is put together, and a start is told, only where somebody looks or listens; and the
/// supervisor passes by ractor's events of starts, which it does not need.
///
/// What remains is memory and the kernel (cpu-clock, with stacks; of 5.6 µs for a start): 1 µs for pages and for `mprotect`, with which
/// glibc has a thread's heap grow page by page; 0.9 µs to wake the other worker, which has done the last child before the next one
/// comes, twice as often as with `ractor`, where the next one comes sooner; 2 µs in ractor's channels. Tried, and no gain within the
/// noise: no link to the supervisor and so no events at all; no yield to others between starts; no maps of actors and of the tree. The
/// floor is near 1.6: so much is left without all that a supervised child has and a bare one has not.
///
/// `otp.child.bytes` came down by a third of what was beyond ractor's own by keeping what most specs leave as it is in one place for
/// all, and what is rare (the line before a full address, a supervision event in an actor's future) in a place of its own.
pub(super) fn sides(sides: &mut Sides, wanted: Wanted) -> Result<()> {
    let runtime = Workers::Two.runtime();
    sides.add(UNDERPIN, move |time| {
        Ok(drive(&runtime, rounds(time, wanted, underpin)))
    });
    let runtime = Workers::Two.runtime();
    sides.add(LIMIT, move |time| {
        Ok(drive(&runtime, rounds(time, wanted, tasks)))
    });
    let runtime = Workers::Two.runtime();
    sides.add("ractor", move |time| {
        Ok(drive(&runtime, rounds(time, wanted, bare)))
    });
    let runtime = Workers::Two.runtime();
    sides.add("kameo", move |time| {
        Ok(drive(&runtime, rounds(time, wanted, kameo)))
    });
    Ok(())
}

/// One round of a side.
#[derive(Debug, Clone, Copy)]
struct Round {
    start: Duration,
    stop: Duration,
    bytes: usize,
}

/// The median of as many rounds as fit.
async fn rounds<F: Future<Output = Round>>(
    time: Duration,
    wanted: Wanted,
    round: impl Fn() -> F,
) -> f64 {
    let (mut spent, mut values) = (Duration::ZERO, Vec::new());
    while spent < time {
        let one = round().await;
        spent += one.start + one.stop;
        values.push(match wanted {
            Wanted::Start => one.start.as_secs_f64() * 1e3,
            Wanted::Stop => one.stop.as_secs_f64() * 1e3,
            Wanted::Bytes => one.bytes as f64 / CHILDREN as f64,
        });
    }
    median(&mut values)
}

/// Bytes of heap in use in the whole process.
#[expect(
    unsafe_code,
    reason = "only the C library knows; it reads its own counters"
)]
fn heap() -> usize {
    let counted = unsafe { libc::mallinfo2() };
    counted.uordblks + counted.hblkhd
}

/// A macro for the reason of `casts`.
macro_rules! round {
    ($start:expr, |$children:ident| $stop:expr) => {{
        let before = heap();
        let begin = Instant::now();
        let $children = $start;
        let start = begin.elapsed();
        let bytes = heap().saturating_sub(before);
        let begin = Instant::now();
        $stop;
        Round {
            start,
            stop: begin.elapsed(),
            bytes,
        }
    }};
}

struct Idle;

impl Actor for Idle {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

const LIVES: &str = "the actor lives until it is stopped";

async fn underpin() -> Round {
    let intensity = Intensity::new(0, Duration::from_secs(1));
    let spec = DynamicSupervisorSpec::new("versus", intensity);
    let supervisor = DynamicSupervisor::start(spec)
        .await
        .expect("the tree starts");
    round!(
        {
            let mut addresses = Vec::with_capacity(CHILDREN);
            for _ in 0..CHILDREN {
                let address = Address::<()>::new();
                let child = ChildSpec::actor("child", &address, |_| (Idle, ()));
                let started = supervisor.start_child(child.restart(Restart::Temporary));
                started.await.expect("the child starts");
                addresses.push(address);
            }
            addresses
        },
        |addresses| {
            assert!(supervisor.stop().await.is_graceful());
            drop(addresses);
        }
    )
}

async fn bare() -> Round {
    let (supervisor, end) = Actor::spawn(None, Idle, ()).await.expect(LIVES);
    let round = round!(
        {
            let mut children: Vec<(ActorRef<()>, JoinHandle<()>)> = Vec::with_capacity(CHILDREN);
            for _ in 0..CHILDREN {
                let cell = supervisor.get_cell();
                let child = Actor::spawn_linked(None, Idle, (), cell).await;
                children.push(child.expect(LIVES));
            }
            children
        },
        |children| {
            for (child, _) in &children {
                child.unlink(supervisor.get_cell());
                child.stop(None);
            }
            for (_, end) in children {
                end.await.expect(LIVES);
            }
        }
    );
    supervisor.stop(None);
    end.await.expect(LIVES);
    round
}

#[derive(kameo::Actor)]
struct KameoIdle;

async fn kameo() -> Round {
    round!(
        {
            let mut children: Vec<KameoRef<KameoIdle>> = Vec::with_capacity(CHILDREN);
            for _ in 0..CHILDREN {
                let child = KameoIdle::spawn_with_mailbox(KameoIdle, mailbox::unbounded());
                child.wait_for_startup().await;
                children.push(child);
            }
            children
        },
        |children| {
            for child in &children {
                child.stop_gracefully().await.expect(LIVES);
            }
            for child in &children {
                child.wait_for_shutdown().await;
            }
        }
    )
}

async fn tasks() -> Round {
    round!(
        {
            let mut children = Vec::with_capacity(CHILDREN);
            for _ in 0..CHILDREN {
                let (stop, stopped) = oneshot::channel::<()>();
                let task = tokio::spawn(async move {
                    let _ = stopped.await;
                });
                children.push((stop, task));
            }
            children
        },
        |children| {
            let mut ends = Vec::with_capacity(CHILDREN);
            for (stop, end) in children {
                drop(stop);
                ends.push(end);
            }
            for end in ends {
                end.await.expect("the task ends");
            }
        }
    )
}
