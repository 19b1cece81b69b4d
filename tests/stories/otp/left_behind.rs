//! The next life of a supervisor does not begin beside what is left of the last one, whoever gave up to wait for that meanwhile.

use std::{
    future::pending,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use tokio::{sync::oneshot, task::block_in_place, time::timeout};
use underpin::otp::{ChildSpec, ChildState, Shutdown, Supervisor, SupervisorSpec};
use underpin::testing::eventually;

use super::probe::{Awake, lenient};

/// A supervisor with a task that blocks its thread in its first life: `begun` says when, and it does so until `release` goes.
struct Blocking {
    spec: SupervisorSpec,
    begun: oneshot::Receiver<()>,
    release: mpsc::Sender<()>,
}

impl Blocking {
    fn under(id: &str) -> Self {
        let ((tell, begun), (release, until)) = (oneshot::channel(), mpsc::channel::<()>());
        let first = Arc::new(Mutex::new(Some((tell, until))));
        let task = ChildSpec::task("a", move |_| {
            let first = first.lock().expect("nobody panics").take();
            async move {
                if let Some((tell, until)) = first {
                    let _ = tell.send(());
                    let _ = block_in_place(|| until.recv());
                }
                pending().await
            }
        });
        Self {
            spec: lenient(id).child(task.shutdown(Shutdown::Brutal)),
            begun,
            release,
        }
    }
}

async fn refused(spec: &SupervisorSpec) -> String {
    let started = Supervisor::start(spec.clone()).await.map(drop);
    let refused = started.expect_err("something is still there");
    refused.to_string()
}

/// Whoever gave up to wait took the list of what was left along, and the next start began beside it at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_start_that_is_given_up_does_not_let_the_next_one_begin_beside_what_is_left() {
    let _awake = Awake::keep();
    let Blocking {
        spec,
        begun,
        release,
    } = Blocking::under("root");
    let root = Supervisor::start(spec.clone()).await.expect("starts");
    begun.await.expect("blocks");
    root.actor().expect("runs").kill();
    root.ended().await;

    let given_up = timeout(Duration::ZERO, Supervisor::start(spec.clone())).await;
    assert!(given_up.is_err());

    let refused = refused(&spec).await;
    assert!(refused.contains("root/a did not end"), "{refused}");
    drop(release);
    let root = Supervisor::start(spec).await.expect("nothing is left");
    root.stop().await;
}

/// The start of a nested supervisor waited for what was left of it, was cut off when the outer one was killed, and took the list
/// along.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_killed_supervisors_next_life_does_not_begin_beside_what_its_child_was_waiting_for() {
    let _awake = Awake::keep();
    let Blocking {
        spec,
        begun,
        release,
    } = Blocking::under("inner");
    let inner = spec.handle();
    let outer_spec = lenient("outer").child(ChildSpec::supervisor(spec));
    let outer = Supervisor::start(outer_spec.clone()).await.expect("starts");
    begun.await.expect("blocks");
    inner.actor().expect("runs").kill();
    eventually("the inner one waits in its second start", async || {
        let tree = outer.tree().expect("runs");
        let inner = tree.find("outer/inner").expect("is there");
        inner.incarnation == 2 && inner.state == ChildState::Starting
    })
    .await;
    outer.actor().expect("runs").kill();
    outer.ended().await;

    let refused = refused(&outer_spec).await;

    assert!(refused.contains("outer/inner/a did not end"), "{refused}");
    drop(release);
    let outer = Supervisor::start(outer_spec)
        .await
        .expect("nothing is left");
    outer.stop().await;
}

/// The tree that it had run in took the list along, so that in another tree it began beside what was left of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_supervisor_that_leaked_in_one_tree_does_not_begin_in_another_beside_that() {
    let _awake = Awake::keep();
    let Blocking {
        spec,
        begun,
        release,
    } = Blocking::under("middle");
    let one = lenient("one").child(ChildSpec::supervisor(spec.clone()));
    let other = lenient("other").child(ChildSpec::supervisor(spec));
    let first = Supervisor::start(one.clone()).await.expect("starts");
    begun.await.expect("blocks");
    first.stop().await;

    for spec in [&other, &one, &other] {
        let refused = refused(spec).await;
        assert!(refused.contains("one/middle/a did not end"), "{refused}");
    }
    drop(release);

    let other = Supervisor::start(other).await.expect("nothing is left");
    other.stop().await;
    let one = Supervisor::start(one).await.expect("nothing is left");
    one.stop().await;
}
