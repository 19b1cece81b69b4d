//! Who watches an actor learns of its end once, with the reason, and leaves nothing behind.

use ractor::{Actor, ActorProcessingErr, ActorRef};
use underpin::otp::{
    Address, ChildSpec, Down, ExitReason, Forwarded, Monitor, Monitors, Restart, ShutdownCause,
    Supervisor,
};
use underpin::{ractor, testing::eventually};

use super::probe::{Do, Notes, incarnation, lenient, probe};

async fn one_child(id: &str) -> (Supervisor, Address<Do>) {
    let address = Address::new();
    let child = probe("a", &address, &Notes::default());
    let supervisor = Supervisor::start(lenient(id).child(child)).await;
    (supervisor.expect("starts"), address)
}

#[tokio::test]
async fn m01_a_monitor_of_the_dead_tells_so_at_once_and_once() {
    let nobody = Address::<Do>::new();
    let mut monitors = Monitors::new();

    assert_eq!(nobody.monitor().peek(), Some(ExitReason::NoProc));
    let id = monitors.add(nobody.monitor());
    let down = monitors.next().await;

    assert_eq!((down.monitor, down.reason), (id, ExitReason::NoProc));
    assert_eq!(monitors.try_next(), None);
    assert!(monitors.is_empty());
}

#[tokio::test]
async fn m01_a_stopped_childs_old_life_is_dead_to_new_monitors() {
    let (supervisor, a) = one_child("stopped").await;
    let before = a.monitor();

    supervisor.terminate_child("a").await.expect("known");

    assert_eq!(before.down().await.reason, ExitReason::Shutdown(None));
    assert_eq!(a.monitor().down().await.reason, ExitReason::NoProc);
    supervisor.stop().await;
}

#[tokio::test]
async fn m06_a_down_tells_normal_from_shutdown_from_kill_from_panic() {
    let said = ShutdownCause::Said("moved away".into());
    let cases = [
        (Do::Stop(None), ExitReason::Normal),
        (Do::Stop(Some("shutdown")), ExitReason::Shutdown(None)),
        (
            Do::Stop(Some("moved away")),
            ExitReason::Shutdown(Some(said)),
        ),
        (Do::KillYourself, ExitReason::Killed),
        (Do::PanicWith("boom"), ExitReason::Panic("boom".into())),
        (Do::Fail("bad"), ExitReason::Error("bad".into())),
    ];
    let (supervisor, a) = one_child("reasons").await;

    for (end, expected) in cases {
        incarnation(&a).await;
        let monitor = a.monitor();
        a.send(end).expect("runs");
        assert_eq!(monitor.down().await.reason, expected);
    }
    supervisor.stop().await;
}

#[tokio::test]
async fn two_monitors_of_one_actor_tell_independently_each_under_its_own_name() {
    let (supervisor, a) = one_child("two").await;
    let mut monitors = Monitors::new();
    let (one, two) = (monitors.add(a.monitor()), monitors.add(a.monitor()));
    assert_ne!(one, two);

    a.send(Do::KillYourself).expect("runs");
    let downs = [monitors.next().await, monitors.next().await];

    let mut told = downs.map(|down| down.monitor);
    told.sort_unstable();
    assert_eq!(told, [one, two]);
    assert_eq!(monitors.try_next(), None, "each tells once");
    supervisor.stop().await;
}

#[tokio::test]
async fn m03_after_demonitor_nothing_is_told_not_even_what_had_come() {
    let (supervisor, a) = one_child("flush").await;
    let mut monitors = Monitors::new();
    let (before, after) = (monitors.add(a.monitor()), monitors.add(a.monitor()));
    let own = a.monitor();

    assert!(monitors.demonitor(before));
    a.send(Do::KillYourself).expect("runs");
    own.down().await;

    assert!(monitors.demonitor(after), "it had come and was not read");
    assert!(!monitors.demonitor(after));
    assert_eq!(monitors.try_next(), None);
    supervisor.stop().await;
}

#[tokio::test]
async fn m05_ten_thousand_observers_that_left_leave_nothing_behind() {
    /// What the life that is watched would hold as long as the observer is entered there.
    async fn observers_of(a: &Address<Do>) -> usize {
        let held = std::sync::Arc::new(());
        let mut all = Vec::new();
        for _ in 0..10_000 {
            let (observer, task) =
                Actor::spawn(None, Observer(std::sync::Arc::clone(&held)), a.monitor())
                    .await
                    .expect("starts");
            all.push((observer, task));
        }
        for (observer, task) in all {
            observer.kill();
            let _ = task.await;
        }
        std::sync::Arc::strong_count(&held) - 1
    }
    let (supervisor, a) = one_child("leak").await;

    assert_eq!(observers_of(&a).await, 0);

    let mut monitors = Monitors::new();
    for _ in 0..10_000 {
        let id = monitors.add(a.monitor());
        assert!(monitors.demonitor(id));
    }
    assert!(monitors.is_empty());
    // The life itself holds none: its picture would name them.
    let life = format!("{:?}", a.monitor());
    assert!(
        life.contains("watchers: Mutex { data: Some({}) }"),
        "{life}"
    );
    supervisor.stop().await;
}

/// Watches an actor, and holds the monitor in its state.
struct Observer(std::sync::Arc<()>);

enum Seen {
    Down(Down),
}
underpin::otp::message!(Seen);

impl From<Down> for Seen {
    fn from(down: Down) -> Self {
        Self::Down(down)
    }
}

impl Actor for Observer {
    type Msg = Seen;
    type State = (Forwarded, std::sync::Arc<()>);
    type Arguments = Monitor;

    async fn pre_start(
        &self,
        me: ActorRef<Seen>,
        monitor: Monitor,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok((monitor.forward_to(&me), std::sync::Arc::clone(&self.0)))
    }

    async fn handle(
        &self,
        me: ActorRef<Seen>,
        Seen::Down(down): Seen,
        (forwarded, _): &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        assert_eq!(down.monitor, forwarded.id());
        me.stop(Some(down.reason.to_string()));
        Ok(())
    }
}

#[tokio::test]
async fn an_actor_is_told_by_a_message_of_its_own() {
    let (supervisor, a) = one_child("told").await;
    let (watcher, watching) = (Address::new(), a.clone());
    let observer = ChildSpec::actor("watcher", &watcher, move |_| {
        (Observer(std::sync::Arc::default()), watching.monitor())
    })
    .restart(Restart::Temporary);
    supervisor.start_child(observer).await.expect("starts");
    let end = watcher.monitor();

    a.send(Do::PanicWith("boom")).expect("runs");

    let said = ShutdownCause::Said("panic: boom".into());
    assert_eq!(end.down().await.reason, ExitReason::Shutdown(Some(said)));
    supervisor.stop().await;
}

#[tokio::test]
async fn a_monitor_is_of_one_life_and_told_although_a_successor_follows() {
    let (supervisor, a) = one_child("successor").await;
    let first = a.monitor();

    a.send(Do::KillYourself).expect("runs");
    eventually("a successor lives", async || incarnation(&a).await == 2).await;

    assert_eq!(first.down().await.reason, ExitReason::Killed);
    assert_eq!(a.monitor().peek(), None);
    supervisor.stop().await;
}
