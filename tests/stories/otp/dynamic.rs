//! Children that come and go: `DynamicSupervisor`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};
use underpin::{
    otp::{
        Address, AutoShutdown, Budget, ChildCounts, ChildRef, ChildSpec, ChildState, Context,
        DynamicSupervisor, DynamicSupervisorSpec, ExitReason, Ignore, Intensity, Lifecycle,
        OnExceed, Restart, Shutdown, ShutdownCause, StartError, StopKind, Supervisor,
        SupervisorError, SupervisorSpec,
    },
    resilience::Backoff,
    testing::eventually,
};

use super::probe::{
    Do, LONG, Notes, Probe, broken, grows_linearly, incarnation, lenient, probe, report, started,
};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

async fn running(intensity: Intensity) -> DynamicSupervisor {
    let spec = DynamicSupervisorSpec::new("many", intensity);
    DynamicSupervisor::start(spec).await.expect("starts")
}

async fn patient() -> DynamicSupervisor {
    running(Intensity::new(100_000, S)).await
}

async fn strict(restarts: u32) -> DynamicSupervisor {
    running(Intensity::new(restarts, Duration::from_hours(1))).await
}

/// A child that is a probe, with its address.
fn one(name: &'static str) -> (Address<Do>, ChildSpec) {
    let address = Address::new();
    let spec = probe(name, &address, &Notes::default());
    (address, spec)
}

async fn start(many: &DynamicSupervisor, restart: Restart) -> (Address<Do>, ChildRef) {
    let (address, spec) = one("a");
    let child = many.start_child(spec.restart(restart)).await;
    (address, child.expect("starts"))
}

fn counts(many: &DynamicSupervisor) -> [usize; 4] {
    let ChildCounts {
        specs,
        active,
        supervisors,
        workers,
    } = many.count_children().expect("answers");
    [specs, active, supervisors, workers]
}

/// Waits until so many children are known, and so many of them run.
async fn settled(many: &DynamicSupervisor, specs: usize, active: usize) {
    let settled = async {
        while counts(many)[..2] != [specs, active] {
            tokio::task::yield_now().await;
        }
    };
    let settled = timeout(LONG, settled).await;
    settled.unwrap_or_else(|_| panic!("not {specs}, {active}: {:?}", many.count_children()));
}

fn gave_up(reason: &ExitReason) -> Option<&str> {
    match reason {
        ExitReason::Shutdown(Some(ShutdownCause::IntensityExceeded(facts))) => Some(&facts.child),
        _ => None,
    }
}

#[tokio::test]
async fn d01_no_more_children_than_allowed_are_started() {
    let none = DynamicSupervisorSpec::new("none", Intensity::new(0, S)).max_children(0);
    let none = DynamicSupervisor::start(none).await.expect("starts");
    let refused = none.start_child(one("a").1).await;
    assert_eq!(refused, Err(SupervisorError::MaxChildren(0)));
    none.stop().await;

    let two = DynamicSupervisorSpec::new("two", Intensity::new(0, S)).max_children(2);
    let two = DynamicSupervisor::start(two).await.expect("starts");
    let first = two.start_child(one("a").1).await.expect("starts");
    two.start_child(one("b").1).await.expect("starts");
    let third = two.start_child(one("c").1).await;
    assert_eq!(third, Err(SupervisorError::MaxChildren(2)));

    two.terminate_child(&first).await.expect("runs");

    two.start_child(one("c").1).await.expect("there is a place");
    assert_eq!(counts(&two), [2, 2, 0, 2]);
    two.stop().await;
}

#[tokio::test]
async fn d04_whatever_a_start_answers_the_supervisor_goes_on() {
    let many = patient().await;
    let at = Address::<Do>::new();

    let panics = ChildSpec::actor("bad", &at, |_| broken("no"));
    let panicked = many.start_child(panics).await;
    let fails = ChildSpec::actor("late", &at, |_| (Failing, "no luck"));
    let failed = many.start_child(fails).await;
    let (_, idle) = one("none");
    let declined = many.start_child(idle.start_if(|_| false)).await;

    let reason = |result: Result<ChildRef, SupervisorError>| match result {
        Err(SupervisorError::Start(StartError::Failed { reason, .. })) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(panicked), ExitReason::Panic("no".into()));
    assert_eq!(reason(failed), ExitReason::Error("no luck".into()));
    assert_eq!(declined, Err(SupervisorError::Ignored("none".into())));
    assert_eq!(counts(&many), [0, 0, 0, 0]);
    start(&many, Restart::Permanent).await;
    assert_eq!(counts(&many), [1, 1, 0, 1]);
    many.stop().await;
}

/// Its `pre_start` answers this error, or declines for `ignore`.
struct Failing;

impl ractor::Actor for Failing {
    type Msg = Do;
    type State = ();
    type Arguments = &'static str;

    async fn pre_start(
        &self,
        _: ractor::ActorRef<Do>,
        words: &'static str,
    ) -> Result<(), ractor::ActorProcessingErr> {
        // Not at once, so that the start goes on in a task.
        tokio::task::yield_now().await;
        Err(match words {
            "ignore" => Ignore.into(),
            words => words.into(),
        })
    }
}

#[tokio::test]
async fn s05_a_start_that_declines_leaves_nothing_behind() {
    let many = patient().await;

    let at = Address::new();
    let slow = ChildSpec::actor("slow", &at, |_| (Failing, "ignore"));
    let declined = many.start_child(slow).await;

    assert_eq!(declined, Err(SupervisorError::Ignored("slow".into())));
    assert_eq!(counts(&many), [0, 0, 0, 0]);
    assert!(many.tree().expect("runs").children.is_empty());
    assert!(many.stop().await.is_graceful());
}

#[tokio::test]
async fn d05_a_child_is_terminated_once_and_only_by_its_own_supervisor() {
    let (many, other) = (patient().await, patient().await);
    let (address, child) = start(&many, Restart::Permanent).await;

    let foreign = other.terminate_child(&child).await;
    many.terminate_child(&child).await.expect("runs");
    let again = many.terminate_child(&child).await;

    let not_found = Err(SupervisorError::NotFound("a#1".into()));
    assert_eq!(foreign, not_found);
    assert_eq!(again, not_found);
    assert!(address.actor().is_none());
    many.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn d06_many_children_may_have_one_id() {
    let many = patient().await;

    let (_, first) = start(&many, Restart::Permanent).await;
    let (_, second) = start(&many, Restart::Permanent).await;

    assert_eq!((first.id(), second.id()), ("a", "a"));
    assert_ne!(first, second);
    let listed = many.which_children().expect("answers");
    let listed: Vec<_> = listed.into_iter().map(|child| child.child).collect();
    assert_eq!(listed, [first, second]);
    let tree = many.tree().expect("runs");
    assert!(tree.find("many/a#1").is_some() && tree.find("many/a#2").is_some());
    many.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d07_ten_thousand_children_stop_in_linear_time() {
    async fn stop_many(children: usize) -> Duration {
        let many = patient().await;
        for _ in 0..children {
            start(&many, Restart::Temporary).await;
        }
        let begin = std::time::Instant::now();
        assert!(many.stop().await.is_graceful());
        begin.elapsed()
    }
    grows_linearly(10_000, async |children| [stop_many(children).await]).await;
}

fn idle(id: &str) -> ChildSpec {
    ChildSpec::task(id, |ctx| async move {
        ctx.cancelled().await;
        Ok(())
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_children_start_and_stop_in_linear_time() {
    async fn start_and_stop(children: usize) -> (Duration, Duration, usize) {
        let many = patient().await;
        let begin = std::time::Instant::now();
        for _ in 0..children {
            // However long all of them take together, nobody is late.
            let child = idle("a").shutdown(Shutdown::Infinity);
            many.start_child(child).await.expect("starts");
        }
        let start = begin.elapsed();
        assert_eq!(many.count_children().expect("answers").active, children);
        let begin = std::time::Instant::now();
        let report = many.stop().await;
        let stop = begin.elapsed();
        assert!(report.is_graceful());
        (start, stop, report.children.len() + report.unlisted)
    }
    grows_linearly(100_000, async |children| {
        let (start, stop, told) = start_and_stop(children).await;
        assert_eq!(told, children);
        [start, stop]
    })
    .await;
}

#[tokio::test]
async fn a_report_counts_the_graceful_ones_that_it_does_not_list_and_lists_whoever_was_killed() {
    let inner = DynamicSupervisorSpec::new("inner", Intensity::new(0, S));
    let many = inner.handle();
    let outer = SupervisorSpec::new("outer", Intensity::new(0, S)).child(inner.child_spec());
    let outer = Supervisor::start(outer).await.expect("starts");
    for n in 0..1500 {
        let child = idle("polite");
        many.start_child(child).await.expect("starts");
        if n % 500 == 0 {
            let child = idle("rude").shutdown(Shutdown::Brutal);
            many.start_child(child).await.expect("starts");
        }
    }

    let report = outer.stop().await;

    let [inner] = &report.children[..] else {
        panic!("one child: {report:?}");
    };
    assert_eq!((report.unlisted, inner.unlisted), (0, 500));
    let how_many = |how| {
        inner
            .children
            .iter()
            .filter(|child| child.how == how)
            .count()
    };
    assert_eq!(
        (how_many(StopKind::Graceful), how_many(StopKind::Killed)),
        (1000, 3)
    );
}

#[tokio::test]
async fn d09_and_d10_what_makes_no_sense_is_refused_and_no_time_to_stop_is_fine() {
    let no_period = DynamicSupervisorSpec::new("many", Intensity::new(1, Duration::ZERO));
    let refused = DynamicSupervisor::start(no_period).await.map(|_| ());
    assert!(matches!(refused, Err(SupervisorError::Invalid(_))));
    let no_id = DynamicSupervisorSpec::new("", Intensity::new(1, S));
    let refused = DynamicSupervisor::start(no_id).await.map(|_| ());
    assert!(matches!(refused, Err(SupervisorError::Invalid(_))));

    let many = patient().await;
    for limit in [Duration::ZERO, MS] {
        let spec = one("a").1.shutdown(Shutdown::Timeout(limit));
        let child = many.start_child(spec).await.expect("starts");
        many.terminate_child(&child).await.expect("ends");
    }
    many.stop().await;
}

#[tokio::test]
async fn g09_a_dynamic_child_cannot_be_significant() {
    let many = patient().await;
    let (_, spec) = one("a");

    let refused = many
        .start_child(spec.restart(Restart::Transient).significant())
        .await;

    assert!(matches!(refused, Err(SupervisorError::Invalid(_))));
    assert_eq!(AutoShutdown::default(), AutoShutdown::Never);
    many.stop().await;
}

#[tokio::test(start_paused = true)]
async fn p07_and_p13_and_p14_each_child_ends_as_it_is_told_and_the_supervisor_with_shutdown() {
    let many = patient().await;
    let (_, patiently) = one("patient");
    many.start_child(patiently.shutdown(Shutdown::Infinity))
        .await
        .expect("starts");
    let (_, brutal) = one("brutal");
    many.start_child(brutal.shutdown(Shutdown::Brutal))
        .await
        .expect("starts");
    let deaf_at = Address::new();
    let deaf = ChildSpec::actor("deaf", &deaf_at, |_| {
        let slow_stop = Some(Duration::from_hours(1));
        let probe = Probe {
            slow_stop,
            ..Probe::default()
        };
        (probe, ())
    });
    many.start_child(deaf.shutdown(Shutdown::Timeout(MS)))
        .await
        .expect("starts");
    let (at, failing) = one("failing");
    many.start_child(failing.restart(Restart::Temporary))
        .await
        .expect("starts");
    let monitor = many.monitor();

    at.send(Do::Fail("at the last moment")).expect("runs");
    let report = many.stop().await;

    assert_eq!(monitor.down().await.reason, ExitReason::Shutdown(None));
    let ended = |id: &str| {
        let found = report.children.iter().find(|child| &*child.id == id);
        found.map(|child| (child.how, child.reason.clone()))
    };
    let graceful = (StopKind::Graceful, ExitReason::Shutdown(None));
    let killed = (StopKind::Killed, ExitReason::Killed);
    assert_eq!(ended("patient"), Some(graceful));
    assert_eq!(ended("brutal"), Some(killed.clone()));
    assert_eq!(ended("deaf"), Some(killed));
}

#[tokio::test(start_paused = true)]
async fn p08_and_p09_children_stop_at_the_same_time_each_within_its_own() {
    let many = patient().await;
    for cleanup in [S, S, 5 * S] {
        let at = Address::new();
        let spec = ChildSpec::actor("cleans", &at, move |_| {
            let slow_stop = Some(cleanup);
            let probe = Probe {
                slow_stop,
                ..Probe::default()
            };
            (probe, ())
        });
        let spec = spec.shutdown(Shutdown::Timeout(2 * S));
        many.start_child(spec).await.expect("starts");
    }

    let begin = Instant::now();
    let report = many.stop().await;
    let took = begin.elapsed();

    assert!(took >= S && took < 3 * S, "{took:?}");
    let mut how: Vec<_> = report
        .children
        .iter()
        .map(|child| (child.took.as_secs(), child.how))
        .collect();
    how.sort_by_key(|(took, _)| *took);
    let expected = [
        (1, StopKind::Graceful),
        (1, StopKind::Graceful),
        (2, StopKind::Killed),
    ];
    assert_eq!(how, expected);
}

#[tokio::test]
async fn t10_a_transient_child_goes_after_a_clean_end_and_comes_back_after_a_crash() {
    let many = patient().await;
    for words in [None, Some("shutdown"), Some("moved away")] {
        let (address, _) = start(&many, Restart::Transient).await;
        address.send(Do::Stop(words)).expect("runs");
        settled(&many, 0, 0).await;
    }

    let (address, _) = start(&many, Restart::Transient).await;
    address.send(Do::PanicWith("boom")).expect("runs");

    assert_eq!(incarnation(&address).await, 2);
    assert_eq!(counts(&many), [1, 1, 0, 1]);
    many.stop().await;
}

#[tokio::test]
async fn t11_a_permanent_child_is_always_replaced() {
    let many = patient().await;
    let (address, child) = start(&many, Restart::Permanent).await;
    let ends = [Do::KillYourself, Do::Stop(Some("shutdown")), Do::Fail("e")];

    for (end, life) in ends.into_iter().zip(2..) {
        address.send(end).expect("runs");
        address.wait_ready(LONG).await.expect("comes back");
        while incarnation(&address).await < life {}
    }

    assert_eq!(counts(&many), [1, 1, 0, 1]);
    many.terminate_child(&child).await.expect("the same child");
    many.stop().await;
}

#[tokio::test]
async fn i03_and_i06_one_restart_too_many_ends_the_supervisor_with_shutdown() {
    for limit in [0, 2] {
        let many = strict(limit).await;
        let (bystander, _) = start(&many, Restart::Permanent).await;
        let (address, _) = start(&many, Restart::Permanent).await;
        let monitor = many.monitor();

        for life in 1..=limit + 1 {
            assert_eq!(incarnation(&address).await, u64::from(life));
            address.send(Do::PanicWith("boom")).expect("runs");
        }

        let reason = monitor.down().await.reason;
        assert!(reason.is_clean(), "{reason}");
        assert_eq!(gave_up(&reason), Some("a"));
        assert!(bystander.actor().is_none());
        assert_eq!(
            many.start_child(one("b").1).await,
            Err(SupervisorError::Down)
        );
    }
}

/// A child whose starts work until this says otherwise.
fn fickle(works: &Arc<AtomicUsize>) -> (Address<Do>, ChildSpec) {
    let (address, works) = (Address::new(), Arc::clone(works));
    let spec = ChildSpec::actor("fickle", &address, move |_| {
        let left = works.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        left.map_or_else(|_| broken("not now"), |_| (Probe::default(), ()))
    });
    (address, spec)
}

#[tokio::test]
async fn i04_and_i13_restarts_that_fail_spend_the_intensity_too() {
    for limit in [1, 10] {
        let many = strict(limit).await;
        let (works, tries) = (Arc::new(AtomicUsize::new(1)), AtomicU64::new(0));
        let (address, spec) = fickle(&works);
        many.start_child(spec).await.expect("starts");
        let (monitor, mut reports) = (many.monitor(), many.reports().expect("runs"));

        address.send(Do::PanicWith("boom")).expect("runs");

        let reason = monitor.down().await.reason;
        assert_eq!(gave_up(&reason), Some("fickle"));
        while let Some(report) = reports.next().await {
            let failed = matches!(report.what, Lifecycle::StartFailed { .. });
            tries.fetch_add(u64::from(failed), Ordering::SeqCst);
        }
        assert_eq!(tries.load(Ordering::SeqCst), u64::from(limit));
    }
}

#[tokio::test]
async fn i15_with_elixirs_intensity_the_fourth_crash_is_one_too_many() {
    let many = running(Intensity::new(3, 5 * S)).await;
    let (address, _) = start(&many, Restart::Permanent).await;
    let monitor = many.monitor();
    for life in 2..=4 {
        address.send(Do::PanicWith("boom")).expect("runs");
        assert_eq!(incarnation(&address).await, life);
    }
    assert!(monitor.peek().is_none());

    address.send(Do::PanicWith("boom")).expect("runs");

    assert_eq!(gave_up(&monitor.down().await.reason), Some("a"));
}

#[tokio::test]
async fn a05_a_reference_leads_to_the_child_through_its_restarts() {
    let many = patient().await;
    let works = Arc::new(AtomicUsize::new(1));
    let backoff = Backoff::new(LONG, LONG).expect("is valid");
    let (address, spec) = fickle(&works);
    let child = many
        .start_child(spec.backoff(backoff))
        .await
        .expect("starts");
    let mut reports = many.reports().expect("runs");

    address.send(Do::PanicWith("boom")).expect("runs");
    report(&mut reports, |report| {
        matches!(report.what, Lifecycle::Restarting { .. }).then_some(())
    })
    .await;
    let listed = many.which_children().expect("answers");
    assert_eq!(listed[0].state, ChildState::Restarting);
    assert_eq!(counts(&many), [1, 0, 0, 1]);

    many.terminate_child(&child).await.expect("is known");

    assert_eq!(counts(&many), [0, 0, 0, 0]);
    many.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a06_children_between_two_lives_are_counted_but_not_as_active() {
    let many = patient().await;
    let works = Arc::new(AtomicUsize::new(3));
    let mut children = Vec::new();
    for _ in 0..3 {
        let (address, spec) = fickle(&works);
        let backoff = Backoff::new(S, S).expect("is valid");
        let child = many.start_child(spec.backoff(backoff)).await;
        children.push((address, child.expect("starts")));
    }
    assert_eq!(counts(&many), [3, 3, 0, 3]);

    for (address, _) in &children[..2] {
        address.send(Do::PanicWith("boom")).expect("runs");
    }
    settled(&many, 3, 1).await;
    works.store(2, Ordering::SeqCst);
    settled_later(&many, 3, 3).await;
    assert_eq!(counts(&many), [3, 3, 0, 3]);

    for (left, (_, child)) in (0..3).rev().zip(&children) {
        many.terminate_child(child).await.expect("is known");
        assert_eq!(counts(&many), [left, left, 0, left]);
    }
    many.stop().await;
}

/// As `settled`, for what happens after a time.
async fn settled_later(many: &DynamicSupervisor, specs: usize, active: usize) {
    eventually("the children", async || {
        counts(many)[..2] == [specs, active]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a07_thousands_are_listed_and_counted_right_whatever_they_are() {
    let many = patient().await;
    let mut workers = Vec::new();
    for _ in 0..1000 {
        workers.push(start(&many, Restart::Temporary).await.0);
    }
    assert_eq!(counts(&many), [1000, 1000, 0, 1000]);
    for _ in 0..1000 {
        let inner = SupervisorSpec::new("inner", Intensity::new(1, S));
        let inner = ChildSpec::supervisor(inner).restart(Restart::Temporary);
        many.start_child(inner).await.expect("starts");
    }
    assert_eq!(counts(&many), [2000, 2000, 1000, 1000]);
    let listed = many.which_children().expect("answers");
    assert_eq!(listed.len(), 2000);
    assert!(
        listed
            .iter()
            .all(|child| child.state == ChildState::Running)
    );

    for worker in workers {
        worker.send(Do::KillYourself).expect("runs");
    }
    settled(&many, 1000, 1000).await;
    for child in many.which_children().expect("answers") {
        many.terminate_child(&child.child).await.expect("runs");
    }

    assert_eq!(counts(&many), [0, 0, 0, 0]);
    many.stop().await;
}

#[tokio::test]
async fn a_dynamic_supervisor_is_a_child_like_any_other_and_loses_its_children_with_its_life() {
    let spec = DynamicSupervisorSpec::new("many", Intensity::new(0, S));
    let many = spec.handle();
    let top = lenient("top").child(spec.child_spec());
    let top = Supervisor::start(top).await.expect("starts");
    let mut reports = top.reports().expect("runs");
    let (address, child) = start(&many, Restart::Permanent).await;
    assert!(top.tree().expect("runs").find("top/many/a#1").is_some());

    address.send(Do::PanicWith("boom")).expect("runs");
    started(&mut reports, "top/many", 2).await;

    assert_eq!(counts(&many), [0, 0, 0, 0]);
    let gone = many.terminate_child(&child).await;
    assert!(matches!(gone, Err(SupervisorError::NotFound(_))));
    start(&many, Restart::Permanent).await;
    let report = top.stop().await;
    assert!(report.is_graceful());
    assert_eq!(report.children[0].children.len(), 1);
    assert!(!many.is_running());
}

#[tokio::test]
async fn a_budget_of_its_own_spares_the_supervisor() {
    let many = strict(0).await;
    let (address, spec) = one("a");
    let budget = Budget::new(Intensity::new(1, Duration::from_hours(1)), OnExceed::Stop);
    many.start_child(spec.budget(budget)).await.expect("starts");

    address.send(Do::PanicWith("boom")).expect("runs");
    assert_eq!(incarnation(&address).await, 2);
    address.send(Do::PanicWith("boom")).expect("runs");

    settled(&many, 0, 0).await;
    assert!(many.is_running());
    many.stop().await;
}

/// A child that asked its supervisor for another one while it started waited for itself, in OTP.
#[tokio::test]
async fn a_child_may_start_others_while_it_starts() {
    let many = patient().await;
    let (made, seen) = (many.clone(), Arc::new(Notify::new()));
    let told = Arc::clone(&seen);
    let parent = ChildSpec::task("parent", move |_| {
        let (many, told) = (made.clone(), Arc::clone(&told));
        async move {
            many.start_child(one("child").1).await?;
            told.notify_one();
            Ok(())
        }
    });

    many.start_child(parent.restart(Restart::Temporary))
        .await
        .expect("starts");

    timeout(LONG, seen.notified()).await.expect("is started");
    settled(&many, 1, 1).await;
    many.stop().await;
}

/// Whoever stopped a supervisor while many started children was left with some that nobody knew of.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stop_amid_starts_leaves_no_child_behind() {
    for _ in 0..5 {
        let many = patient().await;
        let starters = (0..4).map(|_| {
            let many = many.clone();
            tokio::spawn(async move {
                let mut addresses = Vec::new();
                loop {
                    let (address, spec) = one("a");
                    match many.start_child(spec).await {
                        Ok(_) => addresses.push(address),
                        Err(_) => return addresses,
                    }
                }
            })
        });
        let starters: Vec<_> = starters.collect();
        while counts(&many)[0] < 50 {
            tokio::task::yield_now().await;
        }

        many.stop().await;

        for starter in starters {
            let addresses = starter.await.expect("goes on until refused");
            assert!(addresses.iter().all(|address| address.actor().is_none()));
        }
    }
}

#[tokio::test]
async fn killing_a_dynamic_supervisor_leaves_no_orphans() {
    let many = patient().await;
    let (address, _) = start(&many, Restart::Permanent).await;
    let actor = address.actor().expect("runs");

    many.actor().expect("runs").kill();

    assert_eq!(many.ended().await, ExitReason::Killed);
    timeout(LONG, actor.wait(None))
        .await
        .expect("goes")
        .expect("ends");
    assert_eq!(
        many.start_child(one("b").1).await,
        Err(SupervisorError::Down)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_is_shown_as_its_spec_says_and_fails_in_the_context_that_it_was_in() {
    let many = patient().await;
    let mut reports = many.reports().expect("runs");
    let (address, spec) = one("a");
    let spec = spec
        .stuck_after(50 * MS)
        .budget(Budget::new(Intensity::new(3, 100 * S), OnExceed::Stop));
    many.start_child(spec).await.expect("starts");
    let look = || many.tree().expect("runs").children[0].clone();
    assert_eq!(look().budget_left, Some(3));

    let (go, wait) = tokio::sync::oneshot::channel();
    let hang_and_fail = Context::new(7, 9).scope(async {
        let _ = wait.await;
        panic!("wanted by the story");
    });
    address
        .send(Do::Await(Box::pin(hang_and_fail)))
        .expect("is there");
    eventually("it is stuck", async || look().stuck).await;
    go.send(()).expect("is waited for");

    let context = report(&mut reports, |report| {
        matches!(report.what, Lifecycle::Exited { .. }).then_some(report.context)
    })
    .await;
    assert_eq!((context.trace, context.cause), (7, 9));
    eventually("its restart counts", async || look().budget_left == Some(2)).await;
    many.stop().await;
}

/// Only a start that worked let others run: whoever tried again and again kept the supervisor from hearing that there was room.
#[tokio::test]
async fn whoever_tries_to_start_a_child_too_many_again_and_again_lets_the_others_end() {
    let one = DynamicSupervisorSpec::new("one", Intensity::new(0, S)).max_children(1);
    let one = DynamicSupervisor::start(one).await.expect("starts");
    let short = || ChildSpec::task("short", async |_| Ok(())).restart(Restart::Temporary);
    one.start_child(short()).await.expect("there is room");

    let mut tries = 0;
    while let Err(refused) = one.start_child(short()).await {
        assert_eq!(refused, SupervisorError::MaxChildren(1));
        tries += 1;
        assert!(tries < 10_000, "nothing else runs");
    }
    one.stop().await;
}
