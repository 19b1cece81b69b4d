use std::time::Duration;

use underpin::otp::{
    Address, ChildSpec, ExitReason, Intensity, Lifecycle, Shutdown, ShutdownReport, StopKind,
    Supervisor, SupervisorError, SupervisorSpec,
};

use super::probe::{
    Do, LONG, Notes, Probe, broken, grows_linearly, incarnation, lenient, probe, report,
};

fn slow_to_stop(
    name: &'static str,
    address: &Address<Do>,
    notes: &Notes,
    slow: Duration,
) -> ChildSpec {
    let notes = notes.clone();
    ChildSpec::actor(name, address, move |_| {
        let probe = Probe {
            name,
            notes: notes.clone(),
            incarnation: 0,
            slow_stop: Some(slow),
        };
        (probe, ())
    })
}

fn kinds(report: &ShutdownReport) -> Vec<(&str, StopKind)> {
    let kind = |child: &'_ underpin::otp::ChildReport| child.how;
    report
        .walk()
        .map(|child| (&*child.id, kind(child)))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d08_a_hundred_thousand_children_start_and_stop_in_linear_time() {
    async fn start_and_stop(children: usize) -> (Duration, Duration) {
        let mut spec = SupervisorSpec::new("many", Intensity::new(0, Duration::from_secs(1)));
        for n in 0..children {
            spec = spec.child(ChildSpec::task(n.to_string(), |ctx| async move {
                ctx.cancelled().await;
                Ok(())
            }));
        }
        let begin = std::time::Instant::now();
        let many = Supervisor::start(spec).await.expect("starts");
        let start = begin.elapsed();
        let counts = many.count_children().await.expect("answers");
        assert_eq!(counts.active, children);
        let begin = std::time::Instant::now();
        let report = many.stop().await;
        let stop = begin.elapsed();
        assert!(report.is_graceful());
        assert_eq!((report.children.len(), report.unlisted), (children, 0));
        (start, stop)
    }
    grows_linearly(100_000, async |children| {
        let (start, stop) = start_and_stop(children).await;
        [start, stop]
    })
    .await;
}

#[tokio::test]
async fn s01_a_supervisor_without_children_starts_and_stops_with_shutdown() {
    let supervisor = Supervisor::start(lenient("empty")).await.expect("starts");

    let report = supervisor.stop().await;

    assert_eq!(report.children, []);
    assert_eq!(supervisor.ended().await, ExitReason::Shutdown(None));
    assert!(!supervisor.is_running());
}

#[tokio::test]
async fn p01_children_stop_in_reverse_start_order() {
    let notes = Notes::default();
    let (a, b, c) = (Address::new(), Address::new(), Address::new());
    let spec = lenient("order")
        .child(probe("a", &a, &notes))
        .child(probe("b", &b, &notes))
        .child(probe("c", &c, &notes));
    let supervisor = Supervisor::start(spec).await.expect("starts");

    let report = supervisor.stop().await;

    let expected = [
        "start a", "start b", "start c", "stop c", "stop b", "stop a",
    ];
    assert_eq!(notes.take(), expected);
    let graceful = |id| (id, StopKind::Graceful);
    assert_eq!(
        kinds(&report),
        [graceful("c"), graceful("b"), graceful("a")]
    );
    assert!(report.is_graceful());
}

#[tokio::test(start_paused = true)]
async fn p03_a_child_that_does_not_come_to_its_stop_is_killed_after_its_time() {
    let (a, b) = (Address::new(), Address::new());
    let notes = Notes::default();
    let second = Duration::from_secs(1);
    let spec = lenient("deaf")
        .child(probe("b", &b, &notes))
        .child(probe("a", &a, &notes).shutdown(Shutdown::Timeout(second)));
    let supervisor = Supervisor::start(spec).await.expect("starts");
    a.send(Do::SleepForEver).expect("sent");
    tokio::task::yield_now().await;

    let report = supervisor.stop().await;

    assert_eq!(
        kinds(&report),
        [("a", StopKind::Killed), ("b", StopKind::Graceful)]
    );
    assert!(report.children[0].took >= second && report.children[0].took < second * 2);
    assert_eq!(report.children[0].reason, ExitReason::Killed);
}

#[tokio::test]
async fn p04_a_brutal_kill_leaves_no_time_for_post_stop() {
    let (a, b) = (Address::new(), Address::new());
    let notes = Notes::default();
    let spec = lenient("brutal")
        .child(probe("a", &a, &notes).shutdown(Shutdown::Brutal))
        .child(probe("b", &b, &notes));
    let supervisor = Supervisor::start(spec).await.expect("starts");

    let report = supervisor.stop().await;

    assert_eq!(
        kinds(&report),
        [("b", StopKind::Graceful), ("a", StopKind::Killed)]
    );
    assert_eq!(notes.take(), ["start a", "start b", "stop b"]);
}

#[tokio::test(start_paused = true)]
async fn p05_with_infinity_a_long_clean_up_is_waited_for() {
    let a = Address::new();
    let long = Duration::from_mins(10);
    let child = slow_to_stop("a", &a, &Notes::default(), long).shutdown(Shutdown::Infinity);
    let supervisor = Supervisor::start(lenient("patient").child(child))
        .await
        .expect("starts");

    let report = supervisor.stop().await;

    assert!(report.is_graceful());
    assert!(report.took >= long);
}

#[tokio::test(start_paused = true)]
async fn p09_a_static_supervisor_stops_its_children_one_after_the_other() {
    let notes = Notes::default();
    let each = Duration::from_millis(100);
    let names = ["a", "b", "c", "d", "e"];
    let addresses = names.map(|_| Address::new());
    let children = names
        .iter()
        .zip(&addresses)
        .map(|(name, address)| slow_to_stop(name, address, &notes, each));
    let supervisor = Supervisor::start(lenient("sequence").children(children))
        .await
        .expect("starts");

    let report = supervisor.stop().await;

    assert!(report.took >= each * 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p12_a_child_that_blocks_its_thread_is_reported_as_leaked_and_the_stop_goes_on() {
    let (a, b) = (Address::new(), Address::new());
    let notes = Notes::default();
    let spec = lenient("blocked")
        .child(probe("b", &b, &notes))
        .child(probe("a", &a, &notes).shutdown(Shutdown::Brutal));
    let supervisor = Supervisor::start(spec).await.expect("starts");
    let (release, until) = std::sync::mpsc::channel();
    let (begun, blocked) = tokio::sync::oneshot::channel();
    // Both have finished with the start: else the thread that the child blocks might have the supervisor to run next.
    incarnation(&a).await;
    supervisor.count_children().await.expect("answers");
    a.send(Do::BlockThread(begun, until)).expect("sent");
    blocked.await.expect("blocks now");

    let report = supervisor.stop().await;

    assert_eq!(
        kinds(&report),
        [("a", StopKind::Leaked), ("b", StopKind::Graceful)]
    );
    drop(release);
}

#[tokio::test]
async fn p18_a_supervisor_that_is_killed_leaves_no_orphans() {
    let a = Address::new();
    let inner = lenient("inner").child(probe("a", &a, &Notes::default()));
    let handle = inner.handle();
    let outer = Supervisor::start(lenient("outer").child(ChildSpec::supervisor(inner)))
        .await
        .expect("starts");
    let mut reports = outer.reports().expect("runs");
    let orphan = a.actor().expect("runs");

    handle.actor().expect("runs").kill();
    report(&mut reports, |report| {
        let restarted = matches!(report.what, Lifecycle::Started { incarnation: 2 });
        (&*report.path == "outer/inner" && restarted).then_some(())
    })
    .await;

    tokio::time::timeout(LONG, orphan.wait(None))
        .await
        .expect("the child of the killed supervisor is gone")
        .expect("gone");
    assert!(a.actor().is_some_and(|now| now.get_id() != orphan.get_id()));
    outer.stop().await;
}

#[tokio::test]
async fn s06_a_child_that_does_not_start_stops_those_before_it_and_nothing_is_retried() {
    let (a, b, c) = (Address::new(), Address::new(), Address::new());
    let notes = Notes::default();
    let attempts = notes.clone();
    let failing = ChildSpec::actor("b", &b, move |_| {
        attempts.add("try b");
        broken("no probe today")
    });
    let spec = lenient("start")
        .child(probe("a", &a, &notes))
        .child(failing)
        .child(probe("c", &c, &notes));

    let refused = Supervisor::start(spec).await.expect_err("b does not start");

    assert!(matches!(refused, SupervisorError::Start(_)), "{refused}");
    assert!(refused.to_string().contains("no probe today"), "{refused}");
    assert_eq!(notes.take(), ["start a", "try b", "stop a"]);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_hangs_is_cut_off_and_says_so() {
    let hanging = ChildSpec::supervisor(lenient("inner").child(ChildSpec::actor(
        "hangs",
        &Address::new(),
        |_| (Hangs, ()),
    )))
    .start_timeout(Duration::from_secs(3));

    let refused = Supervisor::start(lenient("outer").child(hanging))
        .await
        .expect_err("never starts");

    assert!(refused.to_string().contains("within 3s"), "{refused}");
}

struct Hangs;

impl underpin::ractor::Actor for Hangs {
    type Msg = Do;
    type State = ();
    type Arguments = ();

    async fn pre_start(
        &self,
        _: underpin::ractor::ActorRef<Do>,
        (): (),
    ) -> Result<(), underpin::ractor::ActorProcessingErr> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_start_does_not_keep_the_supervisor_from_answering_or_stopping() {
    let a = Address::new();
    let supervisor = Supervisor::start(lenient("slow").child(probe("a", &a, &Notes::default())))
        .await
        .expect("starts");
    let adding = tokio::spawn({
        let supervisor = supervisor.clone();
        let hanging = ChildSpec::actor("hangs", &Address::new(), |_| (Hangs, ()));
        async move { supervisor.start_child(hanging).await }
    });
    tokio::task::yield_now().await;

    let counts = supervisor.count_children().await.expect("answers");
    assert_eq!((counts.specs, counts.active), (2, 1));
    let report = supervisor.stop().await;

    assert_eq!(kinds(&report), [("a", StopKind::Graceful)]);
    let refused = adding.await.expect("answered").expect_err("never started");
    assert!(refused.to_string().contains("stopping"), "{refused}");
}
