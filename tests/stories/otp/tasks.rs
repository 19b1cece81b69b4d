//! One-off work: `TaskSupervisor`, `Task`, `TaskStream`.

use std::{
    future::pending,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout},
};
use underpin::{
    otp::{
        Address, ChildSpec, Context, ExitReason, Intensity, OnTimeout, Restart, Shutdown,
        SpawnError, Supervisor, SupervisorError, Task, TaskError, TaskExit, TaskOptions,
        TaskSupervisor, YieldMany, await_many, yield_many,
    },
    ractor::{Actor, ActorProcessingErr, ActorRef},
    testing::Life,
};

use super::probe::{Do, LONG, Notes, incarnation, lenient, probe};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

async fn running(tasks: &TaskSupervisor) -> Supervisor {
    let spec = lenient("tree").child(tasks.child_spec("tasks"));
    Supervisor::start(spec).await.expect("starts")
}

fn at_most(max_children: usize) -> TaskSupervisor {
    TaskSupervisor::with_options(TaskOptions {
        max_children,
        ..TaskOptions::default()
    })
}

fn number(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).expect("some")
}

/// Waits until no task is running any more.
async fn all_ended(tasks: &TaskSupervisor) {
    let none = async {
        while tasks.running() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, none).await.expect("all end");
}

/// Sleeps this many milliseconds, and says so.
async fn slept(ms: u64) -> u64 {
    sleep(MS * u32::try_from(ms).expect("is short")).await;
    ms
}

fn exit(why: TaskError) -> TaskExit {
    TaskExit { input: (), why }
}

#[tokio::test]
async fn k01_a_task_gives_its_value_and_is_listed_while_it_runs() {
    let tasks = TaskSupervisor::new();
    let supervisor = running(&tasks).await;
    let (go, wait) = oneshot::channel::<()>();

    let task = tasks
        .spawn(async move {
            let _ = wait.await;
            42
        })
        .expect("spawned");
    let listed: Vec<_> = tasks.which().iter().map(|task| task.id).collect();
    assert_eq!((listed, tasks.running()), (vec![task.id()], 1));
    go.send(()).expect("waits");

    assert_eq!(task.await, Ok(42));
    assert_eq!((tasks.which(), tasks.running()), (vec![], 0));
    supervisor.stop().await;
}

#[tokio::test]
async fn k02_and_f118_a_task_that_panics_harms_nobody_and_says_why() {
    let tasks = TaskSupervisor::new();
    let supervisor = running(&tasks).await;

    let failed = tasks
        .spawn_nolink(async { panic!("oops") })
        .expect("spawned");
    let reason = failed.await.map(|()| "done");
    let ten = (0..10).map(|n| tasks.spawn(async move { n }).expect("spawned"));
    let mut sum = 0;
    for task in ten.collect::<Vec<_>>() {
        sum += task.await.expect("works");
    }

    assert_eq!(reason, Err(ExitReason::Panic("oops".into())));
    assert_eq!(sum, 45);
    supervisor.stop().await;
}

/// Does its work in a task of its own, whose failure is its own.
struct Owner(TaskSupervisor);

enum Ask {
    Work(&'static str),
    Hold(oneshot::Sender<()>),
    Done(Result<u64, ExitReason>),
}
underpin::otp::message!(Ask);

impl Actor for Owner {
    type Msg = Ask;
    type State = (mpsc::UnboundedSender<u64>, Option<Task<()>>);
    type Arguments = mpsc::UnboundedSender<u64>;

    async fn pre_start(
        &self,
        _: ActorRef<Ask>,
        told: mpsc::UnboundedSender<u64>,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok((told, None))
    }

    async fn handle(
        &self,
        me: ActorRef<Ask>,
        message: Ask,
        (told, held): &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Ask::Work(words) => {
                let work = async move {
                    assert!(words.is_empty(), "{words}");
                    7
                };
                self.0.spawn_for(&me, work, Ask::Done)?;
            }
            Ask::Hold(until) => {
                let mut gone = until;
                *held = Some(self.0.spawn(async move {
                    gone.closed().await;
                    drop(gone);
                })?);
            }
            Ask::Done(result) => told.send(result?)?,
        }
        Ok(())
    }
}

fn owner(tasks: &TaskSupervisor) -> (Address<Ask>, ChildSpec, mpsc::UnboundedReceiver<u64>) {
    let (address, tasks) = (Address::new(), tasks.clone());
    let (told, hears) = mpsc::unbounded_channel();
    let spec = ChildSpec::actor("owner", &address, move |_| {
        (Owner(tasks.clone()), told.clone())
    });
    (address, spec, hears)
}

#[tokio::test]
async fn k03_the_failure_of_a_linked_task_is_its_owners_own() {
    let tasks = TaskSupervisor::new();
    let supervisor = running(&tasks).await;
    let (address, spec, mut hears) = owner(&tasks);
    supervisor.start_child(spec).await.expect("starts");
    address.send(Ask::Work("")).expect("runs");
    assert_eq!(hears.recv().await, Some(7));
    let life = Life::of(&supervisor, &address);

    address.send(Ask::Work("boom")).expect("runs");

    let restarted = life.restarted().await;
    assert_eq!(restarted.reason, ExitReason::Error("panic: boom".into()));
    supervisor.stop().await;
}

#[tokio::test]
async fn k04_a_task_can_be_waited_for_again_after_a_timeout() {
    let tasks = TaskSupervisor::new();
    let supervisor = running(&tasks).await;
    let (go, wait) = oneshot::channel::<()>();
    let mut task = tasks
        .spawn(async move { wait.await.is_ok() })
        .expect("spawned");

    let early = task.yield_for(MS).await;
    go.send(()).expect("waits");

    assert_eq!(early, Ok(None));
    assert_eq!(task.yield_for(LONG).await, Ok(Some(true)));
    assert_eq!(task.yield_for(LONG).await, Err(ExitReason::NoProc));
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn k04_a_task_that_nobody_waits_for_any_more_ends_and_its_result_never_comes() {
    let tasks = TaskSupervisor::new();
    let supervisor = running(&tasks).await;
    let task = tasks.spawn(slept(100)).expect("spawned");

    let late = timeout(50 * MS, task).await;

    assert!(late.is_err());
    all_ended(&tasks).await;
    supervisor.stop().await;
}

#[tokio::test]
async fn k05_dropping_a_linked_task_cancels_it_and_an_unlinked_one_goes_on() {
    let tasks = TaskSupervisor::new();
    let supervisor = running(&tasks).await;
    let (go, wait) = oneshot::channel::<()>();
    let (done, seen) = oneshot::channel::<()>();

    drop(tasks.spawn(pending::<()>()).expect("spawned"));
    all_ended(&tasks).await;
    let unlinked = tasks.spawn_nolink(async move {
        let _ = wait.await;
        let _ = done.send(());
    });
    drop(unlinked.expect("spawned"));
    go.send(()).expect("still waits");

    seen.await.expect("ran to its end");
    supervisor.stop().await;
}

#[tokio::test]
async fn k05_a_linked_task_ends_with_the_actor_that_holds_it() {
    let tasks = TaskSupervisor::new();
    let supervisor = running(&tasks).await;
    let (address, spec, _hears) = owner(&tasks);
    supervisor.start_child(spec).await.expect("starts");
    let (held, until) = oneshot::channel::<()>();
    address.send(Ask::Hold(held)).expect("runs");
    while tasks.running() == 0 {
        tokio::task::yield_now().await;
    }

    Life::of(&supervisor, &address).kill().ended().await;

    // It held the other end, and let it go.
    assert!(timeout(LONG, until).await.expect("goes").is_err());
    all_ended(&tasks).await;
    supervisor.stop().await;
}

#[tokio::test]
async fn k05_a_task_for_an_actor_ends_with_it() {
    let tasks = TaskSupervisor::new();
    let supervisor = running(&tasks).await;
    let at = Address::new();
    let spec = probe("a", &at, &Notes::default()).restart(Restart::Temporary);
    supervisor.start_child(spec).await.expect("starts");
    let actor: ActorRef<Do> = at.actor().expect("runs").into();
    let forever = pending::<u64>();
    tasks
        .spawn_for(&actor, forever, |n| Do::Add(n.unwrap_or(0)))
        .expect("spawned");

    at.send(Do::Stop(None)).expect("runs");

    all_ended(&tasks).await;
    supervisor.stop().await;
}

#[tokio::test]
async fn k06_tasks_that_are_stopped_brutally_count_as_killed() {
    for (shutdown, reason) in [
        (Shutdown::Brutal, ExitReason::Killed),
        (Shutdown::Timeout(LONG), ExitReason::Shutdown(None)),
    ] {
        let tasks = TaskSupervisor::with_options(TaskOptions {
            shutdown,
            ..TaskOptions::default()
        });
        let supervisor = running(&tasks).await;
        let task = tasks.spawn_nolink(pending::<()>()).expect("spawned");

        supervisor.stop().await;

        assert_eq!(task.await, Err(reason));
    }
}

#[tokio::test]
async fn k07_more_tasks_than_allowed_are_refused() {
    let tasks = at_most(1);
    let supervisor = running(&tasks).await;
    let first = tasks.spawn(pending::<()>()).expect("there is a place");

    let refused = tasks.spawn(async {}).map(|_| "ran");
    let child = ChildSpec::task("child", |_| pending());
    let child = tasks.start_child(child).await;

    assert_eq!(refused.err(), Some(SpawnError::MaxChildren(1)));
    assert_eq!(child.err(), Some(SupervisorError::MaxChildren(1)));
    let ended = first.shutdown(Shutdown::Timeout(LONG)).await;
    assert_eq!(ended, Err(ExitReason::Shutdown(None)));
    let next = tasks.spawn(async { 1 }).expect("the place is free again");
    assert_eq!(next.await, Ok(1));
    supervisor.stop().await;
}

#[tokio::test]
async fn k08_a_child_is_run_again_as_its_spec_says() {
    let runs = Arc::new(AtomicUsize::new(0));
    for (restart, expected) in [
        (None, 1),
        (Some(Restart::Temporary), 1),
        (Some(Restart::Transient), 1),
        (Some(Restart::Permanent), 4),
    ] {
        let tasks = TaskSupervisor::with_options(TaskOptions {
            intensity: Intensity::new(3, LONG),
            ..TaskOptions::default()
        });
        let supervisor = Supervisor::start(super::probe::strict("tree", 0).child(
            // Where it gives up, so does all above it.
            tasks.child_spec("tasks"),
        ));
        let supervisor = supervisor.await.expect("starts");
        runs.store(0, Ordering::SeqCst);
        let counted = Arc::clone(&runs);

        let child = ChildSpec::task("child", move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            async { Ok(()) }
        });
        let child = match restart {
            None => child,
            Some(restart) => child.restart(restart),
        };
        tasks.start_child(child).await.expect("starts");

        if restart == Some(Restart::Permanent) {
            supervisor.ended().await;
        } else {
            all_ended(&tasks).await;
        }
        assert_eq!(runs.load(Ordering::SeqCst), expected, "{restart:?}");
        supervisor.stop().await;
    }
}

#[tokio::test]
async fn k09_a_task_is_terminated_once_and_then_not_found() {
    let tasks = TaskSupervisor::new();
    let supervisor = running(&tasks).await;
    let task = tasks.spawn_nolink(pending::<()>()).expect("spawned");
    let child = ChildSpec::task("child", |_| pending()).shutdown(Shutdown::Brutal);
    let child = tasks.start_child(child).await.expect("starts");

    tasks.terminate(task.id()).await.expect("runs");
    tasks
        .children()
        .terminate_child(&child)
        .await
        .expect("runs");

    assert_eq!((tasks.which(), tasks.running()), (vec![], 0));
    let again = tasks.terminate(task.id()).await;
    assert!(matches!(again, Err(SupervisorError::NotFound(_))));
    let again = tasks.children().terminate_child(&child).await;
    assert!(matches!(again, Err(SupervisorError::NotFound(_))));
    assert_eq!(task.await, Err(ExitReason::Shutdown(None)));
    supervisor.stop().await;
}

#[tokio::test]
async fn a_task_that_ends_itself_is_told_that_it_cannot() {
    let tasks = TaskSupervisor::new();
    let supervisor = running(&tasks).await;
    let (tell, told) = oneshot::channel();
    let own = tasks.clone();
    let task = tasks.spawn(async move {
        let id = told.await.expect("is told");
        own.terminate(id).await
    });
    let task = task.expect("spawned");

    tell.send(task.id()).expect("waits");

    assert_eq!(task.await, Ok(Err(SupervisorError::CallingSelf)));
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn k10_results_come_in_the_order_of_the_inputs_whatever_is_done_first() {
    let tasks = TaskSupervisor::new();
    let supervisor = running(&tasks).await;

    let results = tasks.stream([4, 3, 2, 1], slept).max_concurrency(number(4));

    assert_eq!(results.try_collect::<Vec<_>>().await, Ok(vec![4, 3, 2, 1]));
    assert_eq!(tasks.running(), 0);
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn k11_unordered_results_come_when_they_are_there() {
    let tasks = TaskSupervisor::new();
    let supervisor = running(&tasks).await;
    let inputs = [400, 300, 200, 100];

    let all = tasks.stream(inputs, slept).max_concurrency(number(4));
    let one = tasks.stream(inputs, slept).max_concurrency(number(1));

    let all = all.unordered().try_collect::<Vec<_>>().await;
    assert_eq!(all, Ok(vec![100, 200, 300, 400]));
    let one = one.unordered().try_collect::<Vec<_>>().await;
    assert_eq!(one, Ok(inputs.to_vec()));
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn k13_the_input_of_a_late_task_comes_with_its_error() {
    let tasks = TaskSupervisor::new();
    let supervisor = running(&tasks).await;

    let results = tasks
        .stream([1, 100], slept)
        .timeout(50 * MS, OnTimeout::Kill)
        .zip_input_on_exit();

    let late = TaskExit {
        input: 100,
        why: TaskError::Timeout(50 * MS),
    };
    assert_eq!(results.collect::<Vec<_>>().await, [Ok(1), Err(late)]);
    all_ended(&tasks).await;
    supervisor.stop().await;
}

/// Counts how many run at once.
#[derive(Clone, Default)]
struct Gauge(Arc<(AtomicUsize, AtomicUsize)>);

impl Gauge {
    async fn work(self, n: u64) -> u64 {
        let (now, most) = &*self.0;
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        slept(n % 7 + 1).await;
        now.fetch_sub(1, Ordering::SeqCst);
        n
    }

    fn most(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }
}

#[tokio::test(start_paused = true)]
async fn k15_no_more_run_at_once_than_allowed_and_all_are_done() {
    let tasks = TaskSupervisor::new();
    let supervisor = running(&tasks).await;
    for concurrency in [4, 2, 8] {
        for ordered in [true, false] {
            let gauge = Gauge::default();
            let work = |n| gauge.clone().work(n);
            let mut results = tasks
                .stream(0..4, work)
                .max_concurrency(number(concurrency));
            if !ordered {
                results = results.unordered();
            }

            let mut results = results.try_collect::<Vec<_>>().await.expect("all work");

            results.sort_unstable();
            assert_eq!(results, [0, 1, 2, 3]);
            assert_eq!(gauge.most(), concurrency.min(4));
        }
    }
    supervisor.stop().await;
}

#[tokio::test]
async fn k16_tasks_that_fail_are_errors_in_their_place_and_harm_nobody() {
    let tasks = TaskSupervisor::new();
    let supervisor = running(&tasks).await;

    let results = tasks.stream(0..4, |n: u64| async move {
        assert!(n > 9, "{n} is too small");
        n
    });

    let results: Vec<_> = results.collect().await;
    let expected: Vec<Result<u64, TaskExit>> = (0..4)
        .map(|n| {
            let words = format!("{n} is too small").into();
            Err(exit(TaskError::Exited(ExitReason::Panic(words))))
        })
        .collect();
    assert_eq!(results, expected);
    supervisor.stop().await;
}

#[tokio::test]
async fn k17_a_stream_that_gets_no_place_says_so_and_ends_cleanly() {
    let tasks = at_most(1);
    let supervisor = running(&tasks).await;

    let results = tasks.stream(0..4, |_| pending::<()>());
    let results: Vec<_> = results.max_concurrency(number(2)).collect().await;

    let refused = TaskError::NotStarted(SpawnError::MaxChildren(1));
    assert_eq!(results, [Err(exit(refused))]);
    all_ended(&tasks).await;
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn k18_one_task_too_slow_fails_the_whole_stream_unless_told_otherwise() {
    let tasks = TaskSupervisor::new();
    let supervisor = running(&tasks).await;

    let results = tasks
        .stream([1, 3_600_000, 2], slept)
        .max_concurrency(number(3));
    let results: Vec<_> = results.collect().await;

    let late = exit(TaskError::Timeout(5 * S));
    assert_eq!(results, [Ok(1), Err(late)]);
    all_ended(&tasks).await;
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn k19_behind_a_slow_head_others_go_on_until_the_buffer_is_full() {
    let tasks = TaskSupervisor::new();
    let supervisor = running(&tasks).await;
    let started = Arc::new(AtomicUsize::new(0));
    let (go, wait) = oneshot::channel::<()>();
    let mut head = Some(wait);
    let counted = Arc::clone(&started);
    let work = move |n: u64| {
        let wait = head.take();
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            if let Some(wait) = wait {
                let _ = wait.await;
            }
            n
        }
    };
    let mut results = tasks
        .stream(0.., work)
        .max_concurrency(number(2))
        .max_buffered(10)
        .no_timeout();

    let early = timeout(S, results.next()).await;
    assert!(early.is_err());
    // The head, and as many as the buffer holds.
    assert_eq!(started.load(Ordering::SeqCst), 11);
    go.send(()).expect("waits");

    let first: Vec<_> = results.take(20).try_collect().await.expect("all work");
    assert_eq!(first, (0..20).collect::<Vec<_>>());
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn dropping_a_stream_ends_its_tasks_and_leaves_nothing_behind() {
    let tasks = TaskSupervisor::new();
    let supervisor = running(&tasks).await;
    let (inputs, taken) = (Arc::new(()), AtomicUsize::new(0));
    let held = Arc::downgrade(&inputs);
    let work = |n: u64| {
        let held = Arc::clone(&inputs);
        async move {
            slept(n).await;
            held
        }
    };
    let counted = (0..1_000_000).inspect(|_| {
        taken.fetch_add(1, Ordering::SeqCst);
    });
    let mut results = tasks.stream(counted, work).max_concurrency(number(4));
    results.next().await.expect("comes").expect("works");
    assert!(tasks.running() > 0);

    drop(results);
    drop(inputs);

    all_ended(&tasks).await;
    assert_eq!(held.strong_count(), 0);
    assert!(taken.load(Ordering::SeqCst) < 10, "inputs are taken lazily");
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn inputs_may_come_later_and_from_a_stream() {
    let tasks = TaskSupervisor::new();
    let supervisor = running(&tasks).await;
    let inputs = stream::unfold(0_u64, |n| async move {
        sleep(10 * MS).await;
        (n < 5).then_some((n, n + 1))
    });

    let results = tasks.stream_of(inputs, slept).max_concurrency(number(2));

    assert_eq!(results.size_hint().0, 0);
    let results: Vec<_> = results.try_collect().await.expect("all work");
    assert_eq!(results, [0, 1, 2, 3, 4]);
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_panics_takes_its_tasks_along() {
    let tasks = TaskSupervisor::new();
    let supervisor = running(&tasks).await;
    let own = tasks.clone();
    let consumer = tokio::spawn(async move {
        let inputs = (0..4).inspect(|n| assert!(*n < 2, "no more"));
        let results = own.stream(inputs, |_| pending::<()>());
        results.max_concurrency(number(4)).collect::<Vec<_>>().await
    });

    assert!(consumer.await.is_err());

    all_ended(&tasks).await;
    supervisor.stop().await;
}

fn spawn_all(tasks: &TaskSupervisor, sleeps: &[u64]) -> Vec<Task<u64>> {
    let spawn = |ms: &u64| tasks.spawn(slept(*ms)).expect("spawned");
    sleeps.iter().map(spawn).collect()
}

#[tokio::test(start_paused = true)]
async fn k21_several_tasks_give_what_they_have_in_their_order() {
    let tasks = TaskSupervisor::new();
    let supervisor = running(&tasks).await;
    let mut three = spawn_all(&tasks, &[30, 10, 60_000]);

    let first = YieldMany {
        limit: Some(1),
        ..YieldMany::all(S)
    };
    let begin = Instant::now();
    assert_eq!(
        yield_many(&mut three, first).await,
        [None, Some(Ok(10)), None]
    );
    assert!(begin.elapsed() < 30 * MS);
    let consumed = Some(Err(ExitReason::NoProc));
    let then = yield_many(&mut three, YieldMany::all(S)).await;
    assert_eq!(then, [Some(Ok(30)), consumed.clone(), None]);
    let kill = YieldMany {
        kill_late: true,
        ..YieldMany::all(S)
    };
    let last = yield_many(&mut three, kill).await;

    assert_eq!(last, [consumed.clone(), consumed, None]);
    let killed = three.pop().expect("is there").await;
    assert_eq!(killed, Err(ExitReason::Killed));
    supervisor.stop().await;
}

#[tokio::test(start_paused = true)]
async fn k22_all_results_or_the_first_failure_at_once() {
    let tasks = TaskSupervisor::new();
    let supervisor = running(&tasks).await;

    let all = await_many(spawn_all(&tasks, &[30, 10, 20]), S).await;
    let failing: Task<u64> = tasks
        .spawn(async {
            sleep(MS).await;
            panic!("boom")
        })
        .expect("spawned");
    let mut some = spawn_all(&tasks, &[3_600_000]);
    some.push(failing);
    let begin = Instant::now();
    let failed = await_many(some, Duration::from_hours(2)).await;
    let took = begin.elapsed();
    let late = await_many(spawn_all(&tasks, &[1, 3_600_000]), S).await;

    assert_eq!(all, Ok(vec![30, 10, 20]));
    let exit = |input, why| Err(TaskExit { input, why });
    let boom = TaskError::Exited(ExitReason::Panic("boom".into()));
    assert_eq!(failed, exit(1, boom));
    assert!(took < S, "{took:?}");
    assert_eq!(late, exit(1, TaskError::Timeout(S)));
    all_ended(&tasks).await;
    supervisor.stop().await;
}

#[tokio::test]
async fn k25_a_task_that_is_ignored_goes_on_and_a_result_that_is_there_is_given() {
    let tasks = TaskSupervisor::new();
    let supervisor = running(&tasks).await;
    let (done, seen) = oneshot::channel();
    let (go, wait) = oneshot::channel::<()>();
    let ready = tasks.spawn(async { 1 }).expect("spawned");
    let later = tasks.spawn(async move {
        let _ = wait.await;
        let _ = done.send(());
    });
    while tasks.running() > 1 {
        tokio::task::yield_now().await;
    }

    assert_eq!(ready.ignore(), Some(Ok(1)));
    assert_eq!(later.expect("spawned").ignore(), None);
    go.send(()).expect("still waits");

    seen.await.expect("ran to its end");
    supervisor.stop().await;
}

#[tokio::test]
async fn a_task_runs_in_the_context_of_its_caller() {
    let tasks = TaskSupervisor::new();
    let supervisor = running(&tasks).await;
    let context = Context::new(7, 3);

    let seen = context
        .scope(async { tasks.spawn(async { Context::current() }) })
        .await;

    let seen = seen.expect("spawned").await.expect("works");
    assert_eq!((seen.trace, seen.cause), (7, 3));
    supervisor.stop().await;
}

#[tokio::test]
async fn stopping_the_supervisor_cancels_its_tasks_and_then_it_refuses() {
    let tasks = TaskSupervisor::new();
    let supervisor = running(&tasks).await;
    let task = tasks.spawn_nolink(pending::<()>()).expect("spawned");

    let report = supervisor.stop().await;

    assert!(report.is_graceful(), "{report:?}");
    assert_eq!(task.await, Err(ExitReason::Shutdown(None)));
    let refused = tasks.spawn(async {}).map(|_| "ran");
    assert_eq!(refused.err(), Some(SpawnError::Down));
    assert_eq!(tasks.running(), 0);
}

/// Tasks that were running when their supervisor was killed went on without it.
#[tokio::test]
async fn tasks_end_with_a_supervisor_that_is_killed_and_the_next_one_takes_new_ones() {
    let tasks = TaskSupervisor::new();
    let supervisor = running(&tasks).await;
    let task = tasks.spawn_nolink(pending::<()>()).expect("spawned");

    let life = Life::of(&supervisor, "tasks");
    life.kill().restarted().await;

    assert_eq!(task.await, Err(ExitReason::Killed));
    let at = Address::new();
    let spec = probe("a", &at, &Notes::default());
    supervisor.start_child(spec).await.expect("starts");
    assert_eq!(incarnation(&at).await, 1);
    assert_eq!(tasks.spawn(async { 1 }).expect("spawned").await, Ok(1));
    supervisor.stop().await;
}
