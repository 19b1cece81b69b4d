//! Children that do not even end when they are killed: until they have, they keep their name, their address and their monitors.

use std::{
    pin::pin,
    sync::{Arc, Condvar, Mutex, OnceLock, mpsc},
    task::Poll,
    thread,
    time::Duration,
};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;
use tracing_subscriber::{Layer, layer::SubscriberExt as _, registry::LookupSpan};
use underpin::{
    otp::{
        Address, AddressStatus, ChildRef, ChildSpec, ChildState, Down, DynamicSupervisor,
        DynamicSupervisorSpec, ExitReason, HealthProbe, Intensity, Keys, Lifecycle, Registry,
        Restart, Shutdown, StopKind, Supervisor, SupervisorError,
    },
    ractor,
    testing::eventually,
};

use super::probe::{Awake, Do, LONG, Notes, block, incarnation, lenient, probe, report, started};

const MS: Duration = Duration::from_millis(1);

/// A child that is killed at once, with a name.
fn named(address: &Address<Do>, names: &Registry<String>) -> ChildSpec {
    let child = probe("a", address, &Notes::default()).shutdown(Shutdown::Brutal);
    child.registered(names, "a".to_owned(), ())
}

async fn dynamic(id: &str) -> DynamicSupervisor {
    let spec = DynamicSupervisorSpec::new(id, Intensity::new(1000, Duration::from_secs(1)));
    DynamicSupervisor::start(spec).await.expect("starts")
}

/// How a child comes to leak.
#[derive(Debug, Clone, Copy)]
enum How {
    Terminated,
    TerminatedDynamic,
    SupervisorStopped,
    DynamicStopped,
    SupervisorKilled,
    DynamicKilled,
}

/// A child that blocked its thread was told to be down, its name was free, and another child could be started at its address,
/// while it was still at work.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_child_that_leaks_keeps_its_name_its_address_and_its_monitors_until_it_has_ended() {
    let _awake = Awake::keep();
    for how in [
        How::Terminated,
        How::TerminatedDynamic,
        How::SupervisorStopped,
        How::DynamicStopped,
        How::SupervisorKilled,
        How::DynamicKilled,
    ] {
        let (at, names) = (Address::new(), Registry::new("names", Keys::Unique));
        let (name, child) = ("a".to_owned(), named(&at, &names));
        let supervisor = Supervisor::start(lenient("fixed")).await.expect("starts");
        let many = dynamic("many").await;
        let release;
        let monitor;
        match how {
            How::Terminated | How::SupervisorStopped | How::SupervisorKilled => {
                supervisor.start_child(child).await.expect("starts");
                (release, monitor) = (block(&at).await, at.monitor());
            }
            How::TerminatedDynamic | How::DynamicStopped | How::DynamicKilled => {
                let child = many.start_child(child).await.expect("starts");
                (release, monitor) = (block(&at).await, at.monitor());
                if let How::TerminatedDynamic = how {
                    let ended = many.terminate_child(&child).await;
                    assert!(matches!(ended, Err(SupervisorError::Leaked(_))));
                }
            }
        }
        match how {
            How::TerminatedDynamic => {}
            How::Terminated => {
                let ended = supervisor.terminate_child("a").await;
                assert_eq!(ended, Err(SupervisorError::Leaked("a".into())));
            }
            How::SupervisorStopped => drop(supervisor.stop().await),
            How::DynamicStopped => drop(many.stop().await),
            How::SupervisorKilled => {
                supervisor.actor().expect("runs").kill();
                supervisor.ended().await;
            }
            How::DynamicKilled => {
                many.actor().expect("runs").kill();
                many.ended().await;
            }
        }

        assert_eq!(monitor.peek(), None, "{how:?}");
        let there = AddressStatus::Running { incarnation: 1 };
        assert_eq!(at.status(), there, "{how:?}");
        let other = Supervisor::start(lenient("other")).await.expect("starts");
        let taken = other.start_child(named(&at, &names)).await;
        assert!(taken.is_err(), "{how:?}");
        let taken = other.start_child(probe("b", &at, &Notes::default())).await;
        assert!(taken.is_err(), "{how:?}");
        drop(release);

        assert_eq!(monitor.down().await.reason, ExitReason::Killed, "{how:?}");
        assert_eq!(at.status(), AddressStatus::Vacant, "{how:?}");
        eventually("the name is free", async || names.whereis(&name).is_none()).await;
        let again = other.start_child(named(&at, &names)).await;
        again.expect("name and address are free");
        other.stop().await;
        supervisor.stop().await;
        many.stop().await;
    }
}

/// The next life of a supervisor had children of the last one beside its own, when those had leaked in an orderly stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_supervisors_next_life_does_not_begin_beside_a_child_that_leaked_in_its_last_one() {
    let _awake = Awake::keep();
    let at = Address::new();
    let child = probe("a", &at, &Notes::default()).shutdown(Shutdown::Brutal);
    let inner = lenient("inner").child(child);
    let outer = Supervisor::start(lenient("outer").child(ChildSpec::supervisor(inner)))
        .await
        .expect("starts");
    let release = block(&at).await;
    outer.terminate_child("inner").await.expect("it ends");

    let refused = outer.restart_child("inner").await;

    let refused = refused.expect_err("its child is still there").to_string();
    assert!(refused.contains("did not end"), "{refused}");
    drop(release);
    outer.restart_child("inner").await.expect("it is gone");
    assert_eq!(incarnation(&at).await, 1);
    outer.stop().await;
}

/// A supervisor that was killed waited for its own children only: those of a supervisor that had been started in it by request
/// went on beside its next life.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_killed_supervisors_next_life_does_not_begin_beside_a_grandchild() {
    let _awake = Awake::keep();
    let inner = lenient("inner");
    let handle = inner.handle();
    let outer = Supervisor::start(lenient("outer").child(ChildSpec::supervisor(inner)))
        .await
        .expect("starts");
    let at = Address::new();
    let middle = lenient("middle").child(probe("a", &at, &Notes::default()));
    let started = handle.start_child(ChildSpec::supervisor(middle)).await;
    started.expect("starts");
    let release = block(&at).await;
    let mut reports = outer.reports().expect("runs");

    handle.actor().expect("runs").kill();
    let next = report(&mut reports, |report| match &report.what {
        _ if &*report.path != "outer/inner" => None,
        Lifecycle::StartFailed { reason } => Some(Err(reason.to_string())),
        Lifecycle::Started { .. } => Some(Ok(())),
        _ => None,
    })
    .await;

    let refused = next.expect_err("the child of its child is still there");
    assert!(
        refused.contains("outer/inner/middle/a did not end"),
        "{refused}"
    );
    drop(release);
    eventually("it lives anew when nothing is left", async || {
        handle.count_children().await.is_ok()
    })
    .await;
    outer.stop().await;
}

/// A hung dynamic child never told that it had exited; and one that leaked stayed away for ever, however permanent.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_dynamic_child_that_hangs_has_exited_and_is_restarted_also_when_it_leaks() {
    let _awake = Awake::keep();
    let many = dynamic("many").await;
    let mut reports = many.reports().expect("runs");
    let at = Address::new();
    let child = probe("a", &at, &Notes::default()).health(HealthProbe::busy(50 * MS));
    many.start_child(child).await.expect("starts");

    at.send(Do::SleepForEver).expect("runs");
    let exited = report(&mut reports, |report| match &report.what {
        Lifecycle::Exited {
            incarnation,
            reason,
        } => Some((*incarnation, reason.clone())),
        _ => None,
    })
    .await;
    assert!(
        matches!(exited, (1, ExitReason::Unhealthy(_))),
        "{exited:?}"
    );
    started(&mut reports, "many/a#1", 2).await;

    let release = block(&at).await;
    let how = report(&mut reports, |report| match &report.what {
        Lifecycle::Stopped { how, .. } => Some(*how),
        _ => None,
    })
    .await;
    assert_eq!(how, StopKind::Leaked);
    eventually("it shows", async || {
        many.which_children().expect("answers")[0].state == ChildState::Leaked
    })
    .await;
    drop(release);
    started(&mut reports, "many/a#1", 3).await;
    assert_eq!(incarnation(&at).await, 3);

    // Whoever asks for its end meanwhile has it stay away.
    let release = block(&at).await;
    eventually("it leaks", async || {
        many.which_children().expect("answers")[0].state == ChildState::Leaked
    })
    .await;
    let child = many.which_children().expect("answers")[0].child.clone();
    let ended = many.terminate_child(&child).await;
    assert!(matches!(ended, Err(SupervisorError::Leaked(_))));
    drop(release);
    eventually("it is forgotten", async || {
        many.count_children().expect("answers").specs == 0
    })
    .await;
    many.stop().await;
}

/// Asks a supervisor each time something is logged.
struct Curious(Arc<OnceLock<DynamicSupervisor>>);

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Curious {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        if event.metadata().target().starts_with("underpin")
            && let Some(many) = self.0.get()
        {
            let _ = many.count_children();
        }
    }
}

/// Is told of an end, and asks the supervisor as it is told.
struct Observer;

struct Told(usize);
underpin::otp::message!(Told);

static ASKED: OnceLock<DynamicSupervisor> = OnceLock::new();

impl From<Down> for Told {
    fn from(_: Down) -> Self {
        let many = ASKED.get().expect("is set before any end");
        Self(many.count_children().expect("runs").specs)
    }
}

impl Actor for Observer {
    type Msg = Told;
    type State = mpsc::Sender<usize>;
    type Arguments = mpsc::Sender<usize>;

    async fn pre_start(
        &self,
        _: ActorRef<Told>,
        tell: mpsc::Sender<usize>,
    ) -> Result<mpsc::Sender<usize>, ActorProcessingErr> {
        Ok(tell)
    }

    async fn handle(
        &self,
        _: ActorRef<Told>,
        Told(specs): Told,
        tell: &mut mpsc::Sender<usize>,
    ) -> Result<(), ActorProcessingErr> {
        Ok(tell.send(specs)?)
    }
}

/// Whoever was told of a dynamic child's end or start, in a conversion of its own or in a layer of the log, and asked the
/// supervisor then, waited for a lock that it held itself, for ever.
#[test]
fn whoever_is_told_of_a_dynamic_child_may_ask_its_supervisor() {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let curious = Arc::new(OnceLock::new());
        let log = tracing_subscriber::registry().with(Curious(Arc::clone(&curious)));
        let _logged = tracing::subscriber::set_default(log);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("can be built").block_on(async {
            let many = dynamic("many").await;
            let _ = curious.set(many.clone());
            let _ = ASKED.set(many.clone());
            let (observer, _) = Actor::spawn(None, Observer, tell).await.expect("starts");
            let at = Address::new();
            let child = probe("a", &at, &Notes::default()).restart(Restart::Temporary);
            many.start_child(child).await.expect("starts");
            let _told = at.monitor().forward_to(&observer);
            at.send(Do::PanicWith("boom")).expect("runs");
            eventually("it is forgotten", async || {
                many.count_children().expect("runs").specs == 0
            })
            .await;
            many.stop().await;
            observer.stop_and_wait(None, None).await.expect("ends");
        });
    });

    assert_eq!(told.recv_timeout(LONG), Ok(0));
    assert!(told.recv_timeout(LONG).is_err(), "the supervisor stops");
}

/// Takes its time with what it is told.
struct Slow;

struct Late;
underpin::otp::message!(Late);

/// Whether somebody is being told, and whether that may be over.
static GATE: (Mutex<(bool, bool)>, Condvar) = (Mutex::new((false, false)), Condvar::new());

impl From<Down> for Late {
    fn from(_: Down) -> Self {
        let (state, changed) = &GATE;
        let mut state = state.lock().expect("nobody panics");
        state.0 = true;
        drop(changed.wait_while(state, |(_, may_end)| !*may_end));
        Self
    }
}

impl Actor for Slow {
    type Msg = Late;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Late>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

/// While one of those that listen took its time, everything else that was to be told was kept, without a bound.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn starts_wait_while_somebody_is_slow_to_hear_of_dynamic_children() {
    const STARTS: usize = 5000;
    let _awake = Awake::keep();
    let many = dynamic("many").await;
    // Nobody is told of starts where nobody listens.
    let _reports = many.reports();
    let (slow, _) = Actor::spawn(None, Slow, ()).await.expect("starts");
    let at = Address::new();
    let child = probe("a", &at, &Notes::default()).restart(Restart::Temporary);
    many.start_child(child).await.expect("starts");
    let _told = at.monitor().forward_to(&slow);
    at.send(Do::PanicWith("boom")).expect("runs");
    eventually("somebody is told", async || {
        GATE.0.lock().expect("nobody panics").0
    })
    .await;

    let mut starts = pin!(async {
        for _ in 0..STARTS {
            let child = ChildSpec::task("t", |_| std::future::pending());
            many.start_child(child).await.expect("starts");
        }
    });
    // Where they do not wait, each look takes them a hundred children further.
    let mut all_started = false;
    for _ in 0..STARTS / 10 {
        all_started |= futures_util::poll!(starts.as_mut()).is_ready();
        if all_started {
            break;
        }
        tokio::task::yield_now().await;
    }
    let count = || many.count_children().expect("runs").specs;
    let started = count();
    // Before anything is said of it: whoever is told blocks a thread.
    GATE.0.lock().expect("nobody panics").1 = true;
    GATE.1.notify_all();
    assert!(!all_started && (1000..1100).contains(&started), "{started}");

    starts.await;
    assert_eq!(count(), STARTS);
    many.stop().await;
}

/// Has this child started by a thread of its own, for a start that blocks it.
fn start_aside(
    many: &DynamicSupervisor,
    child: ChildSpec,
) -> oneshot::Receiver<Result<ChildRef, SupervisorError>> {
    let (tell, told) = oneshot::channel();
    let (many, runtime) = (many.clone(), tokio::runtime::Handle::current());
    thread::spawn(move || drop(tell.send(runtime.block_on(many.start_child(child)))));
    told
}

/// Has it ended, with the time that it waits for a start that is still being made.
async fn terminate(outer: &Supervisor, id: &str) {
    let mut ending = pin!(outer.terminate_child(id));
    loop {
        if let Poll::Ready(ended) = futures_util::poll!(ending.as_mut()) {
            return ended.expect("it ends");
        }
        tokio::time::advance(MS).await;
    }
}

/// The next life of a dynamic supervisor began beside a start that its last one had been making for longer than it waits, and that
/// child ran unseen when it had started after all.
#[tokio::test(start_paused = true)]
async fn a_dynamic_supervisors_next_life_waits_for_a_start_that_blocked_its_thread() {
    let spec = DynamicSupervisorSpec::new("many", Intensity::new(1000, Duration::from_secs(1)));
    let many = spec.handle();
    let outer = Supervisor::start(lenient("outer").child(spec.child_spec()))
        .await
        .expect("starts");
    let (at, held) = (Address::new(), Arc::new(()));
    let ((begun, blocked), (release, until)) = (mpsc::channel(), mpsc::channel::<()>());
    let until = Mutex::new(until);
    let holds = Arc::clone(&held);
    let child = ChildSpec::actor("a", &at, move |_| {
        let _ = begun.send(());
        let _ = until.lock().expect("nobody panics").recv();
        (Holder(Arc::clone(&holds)), ())
    });
    let start = start_aside(&many, child);
    blocked.recv().expect("it starts");

    terminate(&outer, "many").await;
    let refused = outer.restart_child("many").await;
    let refused = refused.expect_err("a start is still made").to_string();
    assert!(refused.contains("did not end"), "{refused}");
    drop(release);

    let start = start.await.expect("the thread ends");
    assert_eq!(start, Err(SupervisorError::Down));
    outer.restart_child("many").await.expect("it is gone");
    // Its spec has gone, too.
    assert_eq!(Arc::strong_count(&held), 1);
    assert_eq!(at.status(), AddressStatus::Vacant);
    assert_eq!(many.count_children().expect("runs").specs, 0);
    outer.stop().await;
}

/// What a nested supervisor had started by then was killed, and the next life did not wait for that.
#[tokio::test(start_paused = true)]
async fn a_nested_supervisor_that_starts_too_late_takes_its_children_back_before_the_next_life() {
    let spec = DynamicSupervisorSpec::new("many", Intensity::new(1000, Duration::from_secs(1)));
    let many = spec.handle();
    let outer = Supervisor::start(lenient("outer").child(spec.child_spec()))
        .await
        .expect("starts");
    let ((begun, blocked), (release, until)) = (mpsc::channel(), mpsc::channel::<()>());
    let until = Mutex::new(until);
    let (at, notes) = (Address::new(), Notes::default());
    let endless = ChildSpec::actor("endless", &Address::new(), move |_| {
        let _ = begun.send(());
        let _ = until.lock().expect("nobody panics").recv();
        (Endless, ())
    });
    let inner = lenient("inner")
        .child(probe("a", &at, &notes))
        .child(endless);
    let start = start_aside(&many, ChildSpec::supervisor(inner));
    blocked.recv().expect("it starts");

    terminate(&outer, "many").await;
    assert_eq!(notes.take(), ["start a"]);
    drop(release);
    let start = start.await.expect("the thread ends");
    assert_eq!(start, Err(SupervisorError::Down));
    outer.restart_child("many").await.expect("it is gone");

    assert_eq!(notes.take(), ["stop a"]);
    assert_eq!(at.status(), AddressStatus::Vacant);
    outer.stop().await;
}

/// Its start never ends.
struct Endless;

impl Actor for Endless {
    type Msg = Do;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Do>, (): ()) -> Result<(), ActorProcessingErr> {
        std::future::pending().await
    }
}

/// Something that is held for as long as it lives.
struct Holder(#[expect(dead_code, reason = "held")] Arc<()>);

impl Actor for Holder {
    type Msg = Do;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Do>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}
