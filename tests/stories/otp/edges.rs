//! Where two things happen at once, or one goes wrong inside of another: each story was a bug once, and tells it.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    task::{Context, Wake, Waker},
    thread,
    time::Duration,
};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;
use underpin::otp::{
    Address, Admission, Budget, ChildSpec, ChildState, ExitReason, Intensity, Lifecycle, NotSent,
    OnExceed, Restart, Shutdown, StartError, StopKind, Supervisor, SupervisorError, TaskOptions,
    TaskSupervisor,
};
use underpin::{ractor, testing::eventually};

use super::probe::{
    Awake, Do, LONG, Notes, Probe, State, block, incarnation, lenient, probe, report, started,
    strict,
};

type Outcome = Result<(), ActorProcessingErr>;
type Hook = Arc<dyn Fn(u64) -> Pin<Box<dyn Future<Output = Outcome> + Send>> + Send + Sync>;

/// A probe whose start, stop and state do what a story needs. Each hook is told which life it is in.
#[derive(Clone, Default)]
struct Staged {
    life: u64,
    probe: Probe,
    starts: Option<Hook>,
    started: Option<Hook>,
    stops: Option<Hook>,
    holds: Option<Arc<dyn Fn(u64) -> OnDrop + Send + Sync>>,
}

impl Staged {
    fn starts<W>(mut self, hook: impl Fn(u64) -> W + Send + Sync + 'static) -> Self
    where
        W: Future<Output = Outcome> + Send + 'static,
    {
        self.starts = Some(Arc::new(move |life| Box::pin(hook(life))));
        self
    }

    fn started<W>(mut self, hook: impl Fn(u64) -> W + Send + Sync + 'static) -> Self
    where
        W: Future<Output = Outcome> + Send + 'static,
    {
        self.started = Some(Arc::new(move |life| Box::pin(hook(life))));
        self
    }

    fn stops<W>(mut self, hook: impl Fn(u64) -> W + Send + Sync + 'static) -> Self
    where
        W: Future<Output = Outcome> + Send + 'static,
    {
        self.stops = Some(Arc::new(move |life| Box::pin(hook(life))));
        self
    }

    /// What its state holds, and drops with it.
    fn holds(mut self, make: impl Fn(u64) -> OnDrop + Send + Sync + 'static) -> Self {
        self.holds = Some(Arc::new(make));
        self
    }

    fn child(self, id: &str, address: &Address<Do>) -> ChildSpec {
        ChildSpec::actor(id, address, move |ctx| {
            let mut staged = self.clone();
            staged.life = ctx.incarnation();
            staged.probe.incarnation = ctx.incarnation();
            (staged, ())
        })
    }

    async fn run(&self, hook: Option<&Hook>) -> Outcome {
        match hook {
            Some(hook) => hook(self.life).await,
            None => Ok(()),
        }
    }
}

impl Actor for Staged {
    type Msg = Do;
    type State = (State, Option<OnDrop>);
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<Do>, (): ()) -> Result<Self::State, ActorProcessingErr> {
        self.run(self.starts.as_ref()).await?;
        let held = self.holds.as_ref().map(|make| make(self.life));
        Ok((self.probe.pre_start(me, ()).await?, held))
    }

    async fn post_start(&self, _: ActorRef<Do>, _: &mut Self::State) -> Outcome {
        self.run(self.started.as_ref()).await
    }

    async fn post_stop(&self, _: ActorRef<Do>, _: &mut Self::State) -> Outcome {
        self.run(self.stops.as_ref()).await
    }

    async fn handle(&self, me: ActorRef<Do>, message: Do, state: &mut Self::State) -> Outcome {
        self.probe.handle(me, message, &mut state.0).await
    }
}

struct OnDrop(Option<Box<dyn FnOnce() + Send>>);

impl OnDrop {
    fn new(work: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(work)))
    }
}

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(work) = self.0.take() {
            work();
        }
    }
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(thread::panicking(), "a drop that panics");
    }
}

/// Counts those that hold something only one may hold.
#[derive(Clone, Default)]
struct Census {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Census {
    /// Holds until it is dropped, which takes this long: a file that is written out, a socket that is closed.
    fn hold(&self, letting_go: Duration) -> OnDrop {
        let now = self.now.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(now, SeqCst);
        let held = Arc::clone(&self.now);
        OnDrop::new(move || {
            thread::sleep(letting_go);
            held.fetch_sub(1, SeqCst);
        })
    }
}

const NO_TIME: Duration = Duration::ZERO;
const A_WHILE: Duration = Duration::from_millis(50);

/// Blocks the thread of the actor at this address until what is returned is dropped.
fn state(supervisor: &Supervisor, path: &str) -> Option<(ChildState, u64)> {
    let tree = supervisor.tree()?;
    let child = tree.find(path)?;
    Some((child.state, child.incarnation))
}

async fn tasks_under(id: &str, tasks: &TaskSupervisor) -> Supervisor {
    Supervisor::start(lenient(id).child(tasks.child_spec("tasks")))
        .await
        .expect("starts")
}

/// Stands for a thread that is preempted while it wakes a caller.
struct SlowWake;

impl Wake for SlowWake {
    fn wake(self: Arc<Self>) {
        thread::sleep(A_WHILE);
    }
}

/// A child that died right after a slow start, before its supervisor knew of the start, was listed as running for ever and
/// never restarted. Its death is seen, whenever it comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_child_that_dies_at_the_end_of_its_slow_start_is_restarted() {
    let at = Address::new();
    let (go, gate) = oneshot::channel::<()>();
    let gate = Arc::new(Mutex::new(Some(gate)));
    let dying = Staged::default()
        .starts(move |life| {
            let gate = (life == 2)
                .then(|| gate.lock().expect("whole").take())
                .flatten();
            async move {
                if let Some(gate) = gate {
                    let _ = gate.await;
                }
                Ok(())
            }
        })
        .started(async |life| {
            if life == 2 {
                Err("dies at once".into())
            } else {
                Ok(())
            }
        });
    let supervisor = Supervisor::start(lenient("lost").child(dying.child("a", &at)))
        .await
        .expect("starts");
    at.send(Do::PanicWith("boom")).expect("runs");
    eventually("its second start is under way", async || {
        state(&supervisor, "lost/a") == Some((ChildState::Starting, 2))
    })
    .await;

    let _awake = Awake::keep();
    let mut slow = Box::pin(at.wait_ready(LONG));
    let waker = Waker::from(Arc::new(SlowWake));
    assert!(
        slow.as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    let _ = go.send(());

    assert_eq!(incarnation(&at).await, 3);
    supervisor.stop().await;
}

/// The same, with the many callers that wait for a busy service: waking them all gave the child the time to die unseen.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_child_that_dies_while_its_callers_are_woken_is_restarted() {
    let at = Address::with_admission(Admission::wait(10_000));
    let dying = Staged::default()
        .starts(async |_| {
            tokio::task::yield_now().await;
            Ok(())
        })
        .started(async |life| {
            if life % 2 == 0 {
                Err("dies at once".into())
            } else {
                Ok(())
            }
        });
    let supervisor = Supervisor::start(lenient("lost").child(dying.child("a", &at)))
        .await
        .expect("starts");

    for round in 0..5 {
        at.send(Do::PanicWith("boom")).expect("runs");
        let ask = |_| {
            let at = at.clone();
            tokio::spawn(async move { at.call(Do::Incarnation, LONG).await.is_ok() })
        };
        let callers: Vec<_> = (0..300).map(ask).collect();

        eventually("an odd life answers", async || {
            incarnation(&at).await > round * 2 + 1
        })
        .await;
        for caller in callers {
            caller.abort();
        }
    }
    supervisor.stop().await;
}

/// A child that blocked its thread was given a successor beside it, and its termination was said to have worked: two wrote
/// to one file. Now both are refused, with the child's name.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_leaked_child_has_no_successor_beside_it() {
    let at = Address::new();
    let spec = probe("a", &at, &Notes::default()).shutdown(Shutdown::Brutal);
    let supervisor = Supervisor::start(lenient("leak").child(spec))
        .await
        .expect("starts");
    let _awake = Awake::keep();
    let release = block(&at).await;

    let leaked = Err(SupervisorError::Leaked("a".into()));
    assert_eq!(supervisor.terminate_child("a").await, leaked);
    assert_eq!(supervisor.restart_child("a").await.map(drop), leaked);
    drop(release);
}

/// A nested supervisor whose start took too long was started again while its children still ran, and held what the new
/// ones needed. They are gone first.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_children_of_a_start_that_timed_out_are_gone_before_the_next_start() {
    for patience in [Shutdown::Infinity, Shutdown::Brutal] {
        let (census, tries) = (Census::default(), AtomicUsize::new(0));
        let (a, b) = (Address::new(), Address::new());
        let holding = census.clone();
        let holder = Staged::default().holds(move |_| holding.hold(A_WHILE));
        let hanging = Staged::default().starts(move |_| {
            let hangs = tries.fetch_add(1, SeqCst) == 1;
            async move {
                if hangs {
                    std::future::pending::<()>().await;
                }
                Ok(())
            }
        });
        let inner = strict("inner", 0)
            .child(holder.child("holder", &a))
            .child(hanging.child("hangs", &b));
        let inner = ChildSpec::supervisor(inner)
            .start_timeout(A_WHILE * 8)
            .shutdown(patience);
        let outer = Supervisor::start(lenient("outer").child(inner))
            .await
            .expect("starts");
        let mut reports = outer.reports().expect("runs");

        b.send(Do::PanicWith("boom")).expect("runs");
        started(&mut reports, "outer/inner", 3).await;

        assert_eq!(census.most.load(SeqCst), 1, "two held it at once");
        outer.stop().await;
    }
}

/// A child whose slow start was done at the very moment when its supervisor was killed was let go unseen, and the supervisor's next
/// life began beside it. It is gone first.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_start_that_was_done_when_its_supervisor_was_killed_is_gone_before_the_next_life() {
    let census = Census::default();
    let (a, b) = (Address::new(), Address::new());
    let (go, gate) = oneshot::channel::<()>();
    let (holding, gate) = (census.clone(), Arc::new(Mutex::new(Some(gate))));
    let slow = Staged::default()
        .starts(move |life| {
            let gate = (life == 2)
                .then(|| gate.lock().expect("whole").take())
                .flatten();
            async move {
                if let Some(gate) = gate {
                    let _ = gate.await;
                }
                Ok(())
            }
        })
        .holds(move |_| holding.hold(A_WHILE));
    let inner = lenient("inner").child(slow.child("a", &a));
    let handle = inner.handle();
    let outer = Supervisor::start(lenient("outer").child(ChildSpec::supervisor(inner)))
        .await
        .expect("starts");
    let mut reports = outer.reports().expect("runs");
    a.send(Do::PanicWith("boom")).expect("runs");
    eventually("its second start is under way", async || {
        state(&outer, "outer/inner/a") == Some((ChildState::Starting, 2))
    })
    .await;

    // The supervisor is busy with another start, so that it is not told when the first one is done.
    let (release, until) = mpsc::channel::<()>();
    let (begun, blocked) = oneshot::channel();
    let stage = Mutex::new(Some((begun, until)));
    let busy = ChildSpec::actor("b", &b, move |_| {
        if let Some((begun, until)) = stage.lock().expect("whole").take() {
            let _ = begun.send(());
            let _ = tokio::task::block_in_place(|| until.recv());
        }
        (Probe::default(), ())
    });
    let adding = tokio::spawn({
        let handle = handle.clone();
        async move { handle.start_child(busy).await }
    });
    blocked.await.expect("blocks now");
    let _awake = Awake::keep();
    let _ = go.send(());
    eventually("the first start is done", async || a.actor().is_some()).await;
    handle.actor().expect("runs").kill();
    drop(release);

    started(&mut reports, "outer/inner", 2).await;
    assert_eq!(census.most.load(SeqCst), 1, "two held it at once");
    // It was started, and died with its supervisor.
    adding.await.expect("answered").expect("started");
    outer.stop().await;
}

/// A stop that came while a nested supervisor started stopped the older children first, and pulled the ground from under
/// the younger ones. The order holds.
#[tokio::test(start_paused = true)]
async fn a_stop_during_a_nested_start_keeps_the_order() {
    let notes = Notes::default();
    let (a, b, c) = (Address::new(), Address::new(), Address::new());
    let hanging = Staged::default().starts(async |_| std::future::pending().await);
    let inner = lenient("inner")
        .child(probe("user", &b, &notes))
        .child(hanging.child("hangs", &c));
    let outer = Supervisor::start(lenient("outer").child(probe("base", &a, &notes)))
        .await
        .expect("starts");
    let adding = tokio::spawn({
        let outer = outer.clone();
        async move { outer.start_child(ChildSpec::supervisor(inner)).await }
    });
    b.wait_ready(LONG).await.expect("starts");

    outer.stop().await;

    assert_eq!(
        notes.take(),
        ["start base", "start user", "stop user", "stop base"]
    );
    assert!(adding.await.expect("answered").is_err());
}

/// A start that blocked its thread held up the stop of the whole tree for ever. It has as long as any child to go.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_start_that_blocks_its_thread_does_not_hold_up_the_stop() {
    let at = Address::new();
    let ((go, gate), (begun, blocked)) = (oneshot::channel::<()>(), oneshot::channel());
    let (release, until) = mpsc::channel::<()>();
    let stage = Arc::new(Mutex::new(Some((gate, begun, until))));
    let blocking = Staged::default().starts(move |_| {
        let stage = stage.lock().expect("whole").take();
        async move {
            let (gate, begun, until) = stage.expect("starts once");
            let _ = gate.await;
            let _ = begun.send(());
            let _ = tokio::task::block_in_place(|| until.recv());
            Ok(())
        }
    });
    let supervisor = Supervisor::start(lenient("blocked")).await.expect("starts");
    let adding = tokio::spawn({
        let supervisor = supervisor.clone();
        let spec = blocking.child("a", &at).shutdown(Shutdown::Brutal);
        async move { supervisor.start_child(spec).await }
    });
    eventually("its start is under way", async || {
        state(&supervisor, "blocked/a").is_some_and(|(state, _)| state == ChildState::Starting)
    })
    .await;
    // It has finished with the start: else the thread that is blocked might have the supervisor to run next.
    supervisor.count_children().await.expect("answers");
    let _awake = Awake::keep();
    let _ = go.send(());
    blocked.await.expect("blocks now");

    let stopped = tokio::time::timeout(LONG, supervisor.stop()).await;

    drop(release);
    assert!(stopped.is_ok(), "the stop hangs");
    assert!(adding.await.expect("answered").is_err());
}

/// A pause of `Duration::MAX`, meant as never, overflowed the clock and took the supervisor down.
#[tokio::test]
async fn a_pause_without_end_does_not_crash_the_supervisor() {
    let at = Address::new();
    let never = Budget::new(Intensity::new(0, LONG), OnExceed::SlowRetry(Duration::MAX));
    let spec = probe("a", &at, &Notes::default()).budget(never);
    let supervisor = Supervisor::start(lenient("never").child(spec))
        .await
        .expect("starts");
    let mut reports = supervisor.reports().expect("runs");

    at.send(Do::PanicWith("boom")).expect("runs");
    report(&mut reports, |report| {
        matches!(report.what, Lifecycle::Restarting { slow: true, .. }).then_some(())
    })
    .await;

    assert_eq!(supervisor.count_children().await.expect("answers").specs, 1);
    supervisor.stop().await;
}

/// To ask a task for its result once more than there is one panicked in the caller. It is an error that says so.
#[tokio::test]
async fn a_result_that_was_handed_out_is_not_there_again() {
    let tasks = TaskSupervisor::new();
    let supervisor = tasks_under("results", &tasks).await;
    let mut good = tasks.spawn(async { 1 }).expect("has a place");
    let mut bad = tasks.spawn(async { panic!("boom") }).expect("has a place");

    assert_eq!(good.yield_for(LONG).await, Ok(Some(1)));
    let failed: Result<Option<()>, _> = bad.yield_for(LONG).await;
    assert!(matches!(failed, Err(ExitReason::Panic(_))), "{failed:?}");

    assert_eq!(good.yield_for(LONG).await, Err(ExitReason::NoProc));
    assert_eq!(bad.yield_for(LONG).await, Err(ExitReason::NoProc));
    supervisor.stop().await;
}

/// Whoever ran one task after the other under a limit of one was refused now and then: the place was freed after the result.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_place_of_a_task_is_free_when_its_result_is_there() {
    let tasks = TaskSupervisor::with_options(TaskOptions {
        max_children: 1,
        ..TaskOptions::default()
    });
    let supervisor = tasks_under("places", &tasks).await;

    for n in 0..3000 {
        let task = tasks.spawn(async move { n });
        let task = task.unwrap_or_else(|refused| panic!("round {n}: {refused}"));
        assert_eq!(task.await, Ok(n));
    }
    supervisor.stop().await;
}

/// The shutdown of a task that blocked its thread never returned, whatever its limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_shutdown_of_a_blocked_task_has_an_end() {
    let tasks = TaskSupervisor::new();
    let supervisor = tasks_under("tasks", &tasks).await;
    let _awake = Awake::keep();
    let (task, release) = blocked_task(&tasks).await;

    let ended = tokio::time::timeout(LONG, task.shutdown(Shutdown::Timeout(NO_TIME))).await;

    drop(release);
    assert_eq!(ended, Ok(Err(ExitReason::Killed)));
    supervisor.stop().await;
}

/// A task supervisor that left a blocked task behind was reported as stopped in good order, so nobody looked for the thread.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_task_that_did_not_end_shows_in_the_report() {
    let tasks = TaskSupervisor::new();
    let spec = tasks
        .child_spec("tasks")
        .shutdown(Shutdown::Timeout(A_WHILE));
    let supervisor = Supervisor::start(lenient("t").child(spec))
        .await
        .expect("starts");
    let _awake = Awake::keep();
    let (_task, release) = blocked_task(&tasks).await;

    let report = supervisor.stop().await;

    assert_eq!(tasks.running(), 1);
    assert!(!report.is_graceful(), "{report:?}");
    drop(release);
}

async fn blocked_task(tasks: &TaskSupervisor) -> (underpin::otp::Task<()>, mpsc::Sender<()>) {
    let (release, until) = mpsc::channel();
    let (begun, blocked) = oneshot::channel();
    let work = async move {
        let _ = begun.send(());
        let _ = tokio::task::block_in_place(|| until.recv());
    };
    let task = tasks.spawn_nolink(work).expect("has a place");
    blocked.await.expect("blocks now");
    (task, release)
}

/// An actor that handed its cancellation to helpers left them running: it never fired for actors.
#[tokio::test]
async fn the_cancellation_of_an_actor_fires_when_it_is_stopped() {
    let token = Arc::new(Mutex::new(None));
    let (at, seen) = (Address::new(), Arc::clone(&token));
    let spec = ChildSpec::actor("a", &at, move |ctx| {
        *seen.lock().expect("whole") = Some(ctx.cancellation());
        (Probe::default(), ())
    });
    let supervisor = Supervisor::start(lenient("c").child(spec))
        .await
        .expect("starts");

    supervisor.stop().await;

    let token = token.lock().expect("whole").take();
    assert!(token.expect("was made").is_cancelled());
}

/// A stopped root was shown as running, and its report streams never ended: whoever watched a tree waited for ever.
#[tokio::test]
async fn a_stopped_root_is_shown_as_stopped_and_its_reports_end() {
    let supervisor = Supervisor::start(lenient("root")).await.expect("starts");
    let mut reports = supervisor.reports().expect("runs");

    supervisor.stop().await;

    assert_eq!(
        state(&supervisor, "root").map(|(state, _)| state),
        Some(ChildState::Stopped)
    );
    let end = tokio::time::timeout(LONG, async { while reports.next().await.is_some() {} }).await;
    assert!(end.is_ok(), "the stream has no end");
}

/// The report on a nested supervisor that had to be killed listed children that its life before had stopped.
#[tokio::test]
async fn a_killed_supervisor_reports_no_children_of_an_earlier_life() {
    let (keep, a) = (Address::new(), Address::new());
    let notes = Notes::default();
    let inner = strict("inner", 0)
        .child(probe("keep", &keep, &notes))
        .child(probe("a", &a, &notes));
    let inner = ChildSpec::supervisor(inner).shutdown(Shutdown::Brutal);
    let outer = Supervisor::start(lenient("outer").child(inner))
        .await
        .expect("starts");
    let mut reports = outer.reports().expect("runs");
    a.send(Do::PanicWith("boom")).expect("runs");
    started(&mut reports, "outer/inner", 2).await;

    let report = outer.stop().await;

    assert_eq!(report.children[0].how, StopKind::Killed);
    assert_eq!(report.children[0].children, []);
}

/// A start that was cut short by a termination was refused, and its id was taken from then on. It is forgotten.
#[tokio::test(start_paused = true)]
async fn a_start_cut_short_by_a_termination_is_forgotten() {
    let supervisor = Supervisor::start(lenient("s")).await.expect("starts");
    let hanging = Staged::default().starts(async |_| std::future::pending().await);
    let adding = tokio::spawn({
        let supervisor = supervisor.clone();
        let spec = hanging.child("h", &Address::new());
        async move { supervisor.start_child(spec).await }
    });
    eventually("it is known", async || {
        supervisor
            .count_children()
            .await
            .is_ok_and(|counts| counts.specs == 1)
    })
    .await;

    supervisor.terminate_child("h").await.expect("is known");

    let refused = adding.await.expect("answered");
    assert!(
        matches!(refused, Err(SupervisorError::Start(_))),
        "{refused:?}"
    );
    assert_eq!(supervisor.count_children().await.expect("answers").specs, 0);
}

/// To start one spec twice killed the tree that ran, without a word. The second start is refused.
#[tokio::test]
async fn a_spec_that_runs_is_not_started_again() {
    let at = Address::new();
    let spec = lenient("twice").child(probe("a", &at, &Notes::default()));
    let first = Supervisor::start(spec.clone()).await.expect("starts");

    let second = Supervisor::start(spec).await;

    assert!(second.is_err(), "{second:?}");
    assert_eq!(incarnation(&at).await, 1);
    assert!(first.is_running());
    first.stop().await;
}

/// Of two children with one address, the second took the first one's callers, and nobody could reach that any more.
#[tokio::test]
async fn one_address_for_two_children_is_refused() {
    let (at, notes) = (Address::new(), Notes::default());
    let spec = lenient("shared")
        .child(probe("a", &at, &notes))
        .child(probe("b", &at, &notes));

    let refused = Supervisor::start(spec).await;

    assert!(
        matches!(refused, Err(SupervisorError::Start(_))),
        "{refused:?}"
    );
    assert_eq!(notes.take(), ["start a", "stop a"]);
}

/// An actor that cast to itself while its address was full waited for ever for a place that only it could free.
#[tokio::test(start_paused = true)]
async fn a_cast_to_oneself_at_the_limit_is_an_error() {
    let at = Address::with_admission(Admission::wait(1));
    let spec = lenient("s").child(probe("a", &at, &Notes::default()));
    let supervisor = Supervisor::start(spec).await.expect("starts");
    let itself = at.clone();

    // The call itself has the only place.
    let answer = at.call(
        |reply| {
            Do::Await(Box::pin(async move {
                let (_, release) = oneshot::channel();
                reply.send(itself.cast(|permit| Do::Hold(permit, release)).await);
            }))
        },
        LONG,
    );

    assert_eq!(answer.await, Ok(Err(NotSent::CallingSelf)));
    supervisor.stop().await;
}

/// A child that asked its stopping supervisor from its own stop waited for an answer that could not come, and was killed.
#[tokio::test(start_paused = true)]
async fn a_stopping_supervisor_says_at_once_that_it_is_down() {
    let at = Address::new();
    let (slot, answers) = (Arc::new(Mutex::new(None::<Supervisor>)), Notes::default());
    let (asked, noted) = (Arc::clone(&slot), answers.clone());
    let asking = Staged::default().stops(move |_| {
        let (supervisor, noted) = (asked.lock().expect("whole").clone(), noted.clone());
        async move {
            let answer = supervisor.expect("was set").which_children().await;
            noted.add(format!("{answer:?}"));
            Ok(())
        }
    });
    let supervisor = Supervisor::start(lenient("s").child(asking.child("a", &at)))
        .await
        .expect("starts");
    *slot.lock().expect("whole") = Some(supervisor.clone());

    let report = supervisor.stop().await;

    assert!(report.is_graceful(), "{report:?}");
    assert_eq!(answers.take(), ["Err(Down)"]);
}

/// A child over its budget was to be tried every half minute, and was tried as often as its budget allowed in each.
#[tokio::test(start_paused = true)]
async fn a_slow_retry_is_one_try_in_each_pause() {
    let starts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&starts);
    let pause = Duration::from_secs(30);
    let spec = ChildSpec::task("t", move |_| {
        counted.fetch_add(1, SeqCst);
        async { Err("no".into()) }
    })
    .budget(Budget::new(
        Intensity::new(5, Duration::from_secs(1)),
        OnExceed::SlowRetry(pause),
    ));
    let supervisor = Supervisor::start(lenient("slow").child(spec))
        .await
        .expect("starts");
    tokio::time::sleep(pause / 2).await;
    let before = starts.load(SeqCst);

    tokio::time::sleep(pause * 10).await;

    assert_eq!(starts.load(SeqCst) - before, 10);
    supervisor.stop().await;
}

/// A start that was under way when its supervisor was killed went on beside the start of its successor.
#[tokio::test]
async fn a_start_under_way_ends_with_its_supervisor() {
    let (census, at) = (Census::default(), Address::new());
    let counted = census.clone();
    let hanging = Staged::default().starts(move |life| {
        let starting = counted.hold(NO_TIME);
        async move {
            let _starting = starting;
            if life == 2 {
                std::future::pending::<()>().await;
            }
            Ok(())
        }
    });
    let inner = lenient("inner").child(hanging.child("a", &at));
    let handle = inner.handle();
    let outer = Supervisor::start(lenient("outer").child(ChildSpec::supervisor(inner)))
        .await
        .expect("starts");
    at.send(Do::PanicWith("boom")).expect("runs");
    eventually("its second start is under way", async || {
        state(&outer, "outer/inner/a") == Some((ChildState::Starting, 2))
            && census.now.load(SeqCst) == 1
    })
    .await;

    handle.actor().expect("runs").kill();
    at.wait_ready(LONG).await.expect("comes back");

    assert_eq!(census.most.load(SeqCst), 1, "two starts at once");
    assert_eq!(census.now.load(SeqCst), 0, "the old start goes on");
    outer.stop().await;
}

/// A child that leaked while it was being terminated was missing in the report on the stop of its supervisor, and whoever had
/// asked for the termination was told that it had worked.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_child_that_leaks_under_termination_is_in_the_report() {
    let at = Address::new();
    let spec = probe("a", &at, &Notes::default()).shutdown(Shutdown::Brutal);
    let supervisor = Supervisor::start(lenient("leak").child(spec))
        .await
        .expect("starts");
    let _awake = Awake::keep();
    let release = block(&at).await;
    let terminating = tokio::spawn({
        let supervisor = supervisor.clone();
        async move { supervisor.terminate_child("a").await }
    });
    eventually("it is being stopped", async || {
        state(&supervisor, "leak/a").is_some_and(|(state, _)| state != ChildState::Running)
    })
    .await;

    let report = supervisor.stop().await;

    assert_eq!(
        report.children.first().map(|child| child.how),
        Some(StopKind::Leaked)
    );
    let leaked = Err(SupervisorError::Leaked("a".into()));
    assert_eq!(terminating.await.expect("answered"), leaked);
    drop(release);
}

/// After a kill of a nested supervisor, its children were started again while those of before still held what they need.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_the_kill_of_a_supervisor_no_two_lives_of_a_child_overlap() {
    let (census, at) = (Census::default(), Address::new());
    let holding = census.clone();
    let holder = Staged::default().holds(move |_| holding.hold(A_WHILE));
    let inner = lenient("inner").child(holder.child("holder", &at));
    let handle = inner.handle();
    let outer = Supervisor::start(lenient("outer").child(ChildSpec::supervisor(inner)))
        .await
        .expect("starts");
    let mut reports = outer.reports().expect("runs");

    handle.actor().expect("runs").kill();
    started(&mut reports, "outer/inner", 2).await;

    assert_eq!(census.most.load(SeqCst), 1, "two held it at once");
    outer.stop().await;
}

/// A start that was cut off and panicked while it was dropped was never settled: whoever had asked for it waited for ever.
#[tokio::test(start_paused = true)]
async fn a_start_that_panics_as_it_is_cut_off_is_answered() {
    let supervisor = Supervisor::start(lenient("bomb")).await.expect("starts");
    let hanging = Staged::default().starts(async |_| {
        let _bomb = Bomb;
        std::future::pending().await
    });
    let spec = hanging
        .child("a", &Address::new())
        .start_timeout(Duration::from_secs(1));

    let refused = tokio::time::timeout(LONG, supervisor.start_child(spec))
        .await
        .expect("answered");

    assert!(
        matches!(
            refused,
            Err(SupervisorError::Start(StartError::Failed { .. }))
        ),
        "{refused:?}"
    );
    supervisor.stop().await;
}

/// An actor whose start failed was dropped inside of its supervisor, which died when that panicked.
#[tokio::test]
async fn an_actor_that_does_not_start_and_panics_as_it_is_dropped_harms_nobody() {
    struct Reluctant(Bomb);

    impl Actor for Reluctant {
        type Msg = Do;
        type State = ();
        type Arguments = ();

        async fn pre_start(&self, _: ActorRef<Do>, (): ()) -> Result<(), ActorProcessingErr> {
            Err("not today".into())
        }
    }

    let at = Address::new();
    let spec = lenient("bomb").child(probe("a", &at, &Notes::default()));
    let supervisor = Supervisor::start(spec).await.expect("starts");
    let reluctant = || ChildSpec::actor("b", &Address::new(), |_| (Reluctant(Bomb), ()));

    let refused = supervisor.start_child(reluctant()).await;

    assert!(
        matches!(
            refused,
            Err(SupervisorError::Start(StartError::Failed { .. }))
        ),
        "{refused:?}"
    );
    assert_eq!(incarnation(&at).await, 1);
    supervisor.stop().await;
}

/// A spec whose captures panicked while they were dropped took the supervisor, and with it all its other children, down.
#[tokio::test]
async fn a_forgotten_spec_that_panics_as_it_is_dropped_harms_nobody() {
    let at = Address::new();
    let spec = lenient("bomb").child(probe("a", &at, &Notes::default()));
    let supervisor = Supervisor::start(spec).await.expect("starts");
    let bomb = Bomb;
    let armed = ChildSpec::task("t", move |_| {
        let _ = &bomb;
        async { Ok(()) }
    })
    .restart(Restart::Temporary);

    supervisor.start_child(armed).await.expect("starts");
    eventually("it is forgotten", async || {
        supervisor.count_children().await.expect("still runs").specs == 1
    })
    .await;

    assert_eq!(incarnation(&at).await, 1);
    supervisor.stop().await;
}

/// A child that terminated itself waited for its own end, until it was killed. It is told not to.
#[tokio::test(start_paused = true)]
async fn a_child_that_would_terminate_itself_gets_an_error() {
    let at = Address::new();
    let spec = lenient("s").child(probe("a", &at, &Notes::default()));
    let supervisor = Supervisor::start(spec).await.expect("starts");
    let own = supervisor.clone();

    let answer = at.call(
        |reply| {
            Do::Await(Box::pin(async move {
                reply.send(own.terminate_child("a").await);
            }))
        },
        LONG,
    );

    assert_eq!(answer.await, Ok(Err(SupervisorError::CallingSelf)));
    assert_eq!(incarnation(&at).await, 1);
    supervisor.stop().await;
}

/// The state of a killed child was dropped inside of its supervisor, which died when that panicked.
#[tokio::test]
async fn a_killed_childs_state_that_panics_as_it_is_dropped_harms_nobody() {
    let at = Address::new();
    let armed = Staged::default()
        .holds(|life| OnDrop::new(move || assert_ne!(life, 1, "a state that panics")));
    let supervisor = Supervisor::start(lenient("s").child(armed.child("a", &at)))
        .await
        .expect("starts");
    assert_eq!(incarnation(&at).await, 1);

    let first = at.status();
    at.actor().expect("runs").kill();
    eventually("it is seen to have ended", async || at.status() != first).await;

    assert_eq!(incarnation(&at).await, 2);
    assert!(supervisor.is_running());
    supervisor.stop().await;
}

/// The state of a child that was killed in a stop lived on until everybody else had stopped: what it used went away under it.
#[tokio::test]
async fn a_killed_childs_state_is_gone_before_the_next_child_is_stopped() {
    let (gone, seen) = (Arc::new(AtomicBool::new(false)), Notes::default());
    let (a, b) = (Address::new(), Address::new());
    let (looked, noted) = (Arc::clone(&gone), seen.clone());
    let base = Staged::default().stops(move |_| {
        noted.add(format!("gone: {}", looked.load(SeqCst)));
        async { Ok(()) }
    });
    let user = Staged::default().holds(move |_| {
        let gone = Arc::clone(&gone);
        OnDrop::new(move || gone.store(true, SeqCst))
    });
    let spec = lenient("s")
        .child(base.child("base", &a))
        .child(user.child("user", &b).shutdown(Shutdown::Brutal));
    let supervisor = Supervisor::start(spec).await.expect("starts");

    supervisor.stop().await;

    assert_eq!(seen.take(), ["gone: true"]);
}

/// A successor started while the state of its killed predecessor still lay in the supervisor's mailbox.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_killed_childs_state_is_gone_before_its_successor_starts() {
    let (census, at) = (Census::default(), Address::new());
    let holding = census.clone();
    let holder = Staged::default().holds(move |_| holding.hold(NO_TIME));
    let spec = strict("s", u32::MAX).child(holder.child("a", &at));
    let supervisor = Supervisor::start(spec).await.expect("starts");
    // Keeps the supervisor between its two mailboxes when the news come.
    let busy = tokio::spawn({
        let supervisor = supervisor.clone();
        async move { while supervisor.count_children().await.is_ok() {} }
    });

    for _ in 0..50 {
        at.wait_ready(LONG).await.expect("comes back");
        let life = at.status();
        at.actor().expect("runs").kill();
        while at.status() == life {
            tokio::task::yield_now().await;
        }
    }

    assert_eq!(census.most.load(SeqCst), 1, "two held it at once");
    supervisor.stop().await;
    busy.await.expect("ends with the supervisor");
}
