use std::{future::pending, time::Duration};

use underpin::otp::{ExitReason, SpawnError, Supervisor, TaskSupervisor};

use super::probe::{LONG, lenient};

async fn running(tasks: &TaskSupervisor) -> Supervisor {
    let spec = lenient("tasks").child(tasks.child_spec("tasks"));
    Supervisor::start(spec).await.expect("starts")
}

/// Waits until no task is running any more.
async fn all_ended(tasks: &TaskSupervisor) {
    let none = async {
        while tasks.running() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, none).await.expect("all end");
}

#[tokio::test]
async fn k01_a_task_gives_its_value_and_is_counted_while_it_runs() {
    let tasks = TaskSupervisor::new();
    let supervisor = running(&tasks).await;
    let (go, wait) = tokio::sync::oneshot::channel::<()>();

    let task = tasks
        .spawn(async move {
            let _ = wait.await;
            42
        })
        .expect("spawned");
    assert_eq!(tasks.running(), 1);
    go.send(()).expect("waits");

    assert_eq!(task.join().await, Ok(42));
    all_ended(&tasks).await;
    supervisor.stop().await;
}

#[tokio::test]
async fn k02_and_f118_a_task_that_panics_harms_nobody_and_says_why() {
    let tasks = TaskSupervisor::new();
    let supervisor = running(&tasks).await;

    let failed = tasks
        .spawn_nolink(async { panic!("oops") })
        .expect("spawned");
    let reason = failed.join().await.map(|()| "done");
    let ten = (0..10).map(|n| tasks.spawn(async move { n }).expect("spawned"));
    let mut sum = 0;
    for task in ten.collect::<Vec<_>>() {
        sum += task.join().await.expect("works");
    }

    assert_eq!(reason, Err(ExitReason::Panic("oops".into())));
    assert_eq!(sum, 45);
    supervisor.stop().await;
}

#[tokio::test]
async fn k04_a_task_can_be_waited_for_again_after_a_timeout() {
    let tasks = TaskSupervisor::new();
    let supervisor = running(&tasks).await;
    let (go, wait) = tokio::sync::oneshot::channel::<()>();
    let mut task = tasks
        .spawn(async move { wait.await.is_ok() })
        .expect("spawned");

    let early = task.join_timeout(Duration::from_millis(1)).await;
    go.send(()).expect("waits");

    assert_eq!(early, Ok(None));
    assert_eq!(task.join_timeout(LONG).await, Ok(Some(true)));
    supervisor.stop().await;
}

#[tokio::test]
async fn k05_dropping_a_linked_task_cancels_it_and_an_unlinked_one_goes_on() {
    let tasks = TaskSupervisor::new();
    let supervisor = running(&tasks).await;
    let (go, wait) = tokio::sync::oneshot::channel::<()>();
    let (done, seen) = tokio::sync::oneshot::channel::<()>();

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
async fn k07_more_tasks_than_allowed_are_refused() {
    let tasks = TaskSupervisor::with_limit(1);
    let supervisor = running(&tasks).await;
    let first = tasks.spawn(pending::<()>()).expect("there is a place");

    let refused = tasks.spawn(async {}).map(|_| "ran");

    assert_eq!(refused.err(), Some(SpawnError::MaxChildren(1)));
    assert_eq!(first.shutdown(LONG).await, Err(ExitReason::Shutdown(None)));
    all_ended(&tasks).await;
    tasks.spawn(async {}).expect("the place is free again");
    supervisor.stop().await;
}

#[tokio::test]
async fn stopping_the_supervisor_cancels_its_tasks_and_then_it_refuses() {
    let tasks = TaskSupervisor::new();
    let supervisor = running(&tasks).await;
    let task = tasks.spawn_nolink(pending::<()>()).expect("spawned");

    let report = supervisor.stop().await;

    assert!(report.is_graceful());
    assert_eq!(task.join().await, Err(ExitReason::Shutdown(None)));
    let refused = tasks.spawn(async {}).map(|_| "ran");
    assert_eq!(refused.err(), Some(SpawnError::Down));
    assert_eq!(tasks.running(), 0);
}
