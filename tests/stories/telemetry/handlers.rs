use std::{
    num::{NonZeroU32, NonZeroUsize},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use tokio::time;
use underpin::{
    telemetry::{
        Emission, EventName, HANDLER_FAILURE, HandlerOptions, OnFailure, OwnedEmission, Runs,
        Telemetry,
    },
    testing::{Recorder, eventually},
};

use super::telemetry;

static SOLD: EventName = EventName::from_static(&["shop", "sold"]);
const DROPPED: &str = "underpin_telemetry_dropped_emissions";

fn in_emitter(on_failure: OnFailure) -> HandlerOptions {
    HandlerOptions {
        on_failure,
        ..HandlerOptions::default()
    }
}

fn elsewhere(queue: usize, on_failure: OnFailure) -> HandlerOptions {
    HandlerOptions {
        on_failure,
        runs: Runs::Elsewhere {
            queue: NonZeroUsize::new(queue).expect("not zero"),
        },
    }
}

/// A handler that counts its runs, and panics while it is told to.
#[derive(Debug, Default)]
struct Shaky {
    runs: AtomicU64,
    broken: AtomicBool,
}

impl Shaky {
    fn attach(telemetry: &Telemetry, options: &HandlerOptions) -> Arc<Self> {
        let shaky = Arc::new(Self::default());
        let attached = telemetry.attach_with(
            "shaky",
            std::slice::from_ref(&SOLD),
            options,
            Arc::clone(&shaky),
            |_, shaky| {
                shaky.runs.fetch_add(1, Ordering::SeqCst);
                assert!(!shaky.broken.load(Ordering::SeqCst), "no stock");
            },
        );
        attached.expect("the id is free");
        shaky
    }

    fn runs(&self) -> u64 {
        self.runs.load(Ordering::SeqCst)
    }

    fn is_broken(&self, broken: bool) {
        self.broken.store(broken, Ordering::SeqCst);
    }
}

fn sell(telemetry: &Telemetry, times: usize) {
    (0..times).for_each(|_| telemetry.execute(&SOLD, &[("pieces", 1.into())], &[]));
}

#[test]
fn f87_a_failing_handler_may_be_kept_and_each_failure_is_counted_and_announced() {
    let telemetry = telemetry();
    let failures = Recorder::attach(&telemetry, std::slice::from_ref(&HANDLER_FAILURE));
    let shaky = Shaky::attach(&telemetry, &in_emitter(OnFailure::Keep));

    shaky.is_broken(true);
    sell(&telemetry, 3);
    shaky.is_broken(false);
    sell(&telemetry, 1);

    assert_eq!((shaky.runs(), failures.all().len()), (4, 3));
    let info = &telemetry.list_handlers(&["shop"])[0];
    assert_eq!((info.failures, info.dropped), (3, 0));
    let snapshot = telemetry.snapshot();
    assert_eq!(
        snapshot.counter("underpin_telemetry_handler_failures", &[]),
        3
    );
}

#[tokio::test(start_paused = true)]
async fn f87_a_failing_handler_may_be_left_alone_for_a_while_and_then_tried_again() {
    let telemetry = telemetry();
    let pause = Duration::from_secs(10);
    let shaky = Shaky::attach(&telemetry, &in_emitter(OnFailure::RetryAfter(pause)));
    shaky.is_broken(true);
    sell(&telemetry, 1);

    time::advance(Duration::from_millis(9_999)).await;
    sell(&telemetry, 5);
    assert_eq!(shaky.runs(), 1);

    time::advance(Duration::from_millis(1)).await;
    sell(&telemetry, 2);
    assert_eq!(shaky.runs(), 2, "tried once, failed, and left alone again");

    shaky.is_broken(false);
    time::advance(pause).await;
    sell(&telemetry, 3);
    assert_eq!(shaky.runs(), 5);
    let info = &telemetry.list_handlers(&[])[0];
    assert_eq!((info.failures, info.dropped), (2, 6));
    let dropped = telemetry
        .snapshot()
        .counter(DROPPED, &[("handler", "shaky")]);
    assert_eq!(dropped, 6);
}

#[test]
fn a_handler_elsewhere_never_holds_the_emitter_up_and_what_does_not_fit_is_counted() {
    let telemetry = telemetry();
    let (begun, has_begun) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (own, may_go_on) = (Arc::clone(&seen), Mutex::new(may_go_on));
    let attached = telemetry.attach_with(
        "slow",
        std::slice::from_ref(&SOLD),
        &elsewhere(2, OnFailure::Detach),
        (),
        move |sold, ()| {
            begun.send(()).expect("the story waits");
            // Until the story lets it, or has ended.
            let _ = may_go_on.lock().expect("one thread").recv();
            let piece = sold.measurements.get("piece").expect("is there").as_f64();
            own.lock()
                .expect("not poisoned")
                .push((piece, thread::current().id()));
        },
    );
    attached.expect("the id is free");
    let sell = |piece: i32| telemetry.execute(&SOLD, &[("piece", piece.into())], &[]);

    sell(0);
    has_begun.recv().expect("it runs");
    (1..=5).for_each(sell);

    let info = &telemetry.list_handlers(&[])[0];
    assert_eq!((info.waiting, info.dropped), (2, 3));
    let dropped = telemetry
        .snapshot()
        .counter(DROPPED, &[("handler", "slow")]);
    assert_eq!(dropped, 3);

    drop(go_on);
    has_begun.recv().expect("goes on");
    has_begun.recv().expect("goes on");
    telemetry.detach("slow").expect("is attached");
    // The thread has ended when its end of the channel has gone.
    assert!(has_begun.recv().is_err());
    let seen = seen.lock().expect("not poisoned");
    let pieces: Vec<f64> = seen.iter().map(|(piece, _)| *piece).collect();
    assert_eq!(pieces, [0.0, 1.0, 2.0]);
    assert!(
        seen.iter()
            .all(|(_, thread)| *thread != thread::current().id())
    );
}

#[tokio::test]
async fn a_handler_elsewhere_that_panics_is_detached_or_kept_as_it_was_told() {
    let telemetry = telemetry();
    let mut failures = Recorder::attach(&telemetry, std::slice::from_ref(&HANDLER_FAILURE));
    let kept = Shaky::attach(&telemetry, &elsewhere(8, OnFailure::Keep));
    kept.is_broken(true);
    sell(&telemetry, 1);
    assert_eq!(failures.wait().await.text("handler_id"), Some("shaky"));
    kept.is_broken(false);
    sell(&telemetry, 1);
    eventually("it runs on", async || kept.runs() == 2).await;
    telemetry.detach("shaky").expect("is attached");

    let gone = Shaky::attach(&telemetry, &elsewhere(8, OnFailure::Detach));
    gone.is_broken(true);
    sell(&telemetry, 1);
    failures.wait().await;
    assert!(telemetry.list_handlers(&["shop"]).is_empty());
}

#[test]
fn what_waits_for_a_handler_that_is_detached_is_counted() {
    let telemetry = telemetry();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let (ended, has_ended) = mpsc::channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    let options = elsewhere(8, OnFailure::Detach);
    let fragile = move |_: &Emission<'_>, (): &()| {
        let _ended = &ended;
        // Until the story lets it.
        let _ = may_go_on.lock().expect("one run").recv();
        panic!("no stock");
    };
    let events = std::slice::from_ref(&SOLD);
    let attached = telemetry.attach_with("fragile", events, &options, (), fragile);
    attached.expect("the id is free");

    sell(&telemetry, 4);
    drop(go_on);
    // Its thread has ended when its end of the channel has gone.
    assert_eq!(has_ended.recv(), Err(mpsc::RecvError));

    let snapshot = telemetry.snapshot();
    let failures = snapshot.counter("underpin_telemetry_handler_failures", &[]);
    let dropped = snapshot.counter(DROPPED, &[("handler", "fragile")]);
    assert_eq!((failures, dropped), (1, 3));
}

#[test]
fn handlers_elsewhere_end_with_their_telemetry() {
    let telemetry = telemetry();
    let (alive, ended) = mpsc::channel::<()>();
    let options = elsewhere(8, OnFailure::Detach);
    telemetry
        .attach_with(
            "one",
            std::slice::from_ref(&SOLD),
            &options,
            (),
            move |_, ()| {
                let _ = &alive;
            },
        )
        .expect("the id is free");

    drop(telemetry);

    assert_eq!(ended.recv(), Err(mpsc::RecvError));
}

#[test]
fn a_sampled_event_is_handled_now_and_then_and_says_how_often() {
    let telemetry = telemetry();
    let one_in = |n| NonZeroU32::new(n).expect("not zero");
    telemetry.sample(&SOLD, one_in(10));
    let seen = Recorder::attach(&telemetry, std::slice::from_ref(&SOLD));

    sell(&telemetry, 10_000);

    let seen_of_ten_thousand = seen.all().len();
    // 1000 expected with a deviation of 30: ten of them are never reached by chance.
    assert!(
        (700..1300).contains(&seen_of_ten_thousand),
        "{seen_of_ten_thousand}"
    );
    assert!(seen.all().iter().all(|one| one.weight() == 10));
    let rate = telemetry.snapshot().gauge(
        "underpin_telemetry_sampled_one_in",
        &[("event", "shop.sold")],
    );
    assert_eq!(rate, Some(10.0));

    telemetry.sample(&SOLD, one_in(1));
    let rate = telemetry.snapshot().gauge(
        "underpin_telemetry_sampled_one_in",
        &[("event", "shop.sold")],
    );
    assert_eq!(rate, Some(1.0));
    sell(&telemetry, 5);
    assert_eq!(seen.all().len(), seen_of_ten_thousand + 5);
    assert_eq!(seen.all().last().map(OwnedEmission::weight), Some(1));
}

/// Whoever attached it was panicked.
#[test]
fn a_queue_without_a_limit_is_as_long_as_there_is_memory() {
    let telemetry = telemetry();
    let (sold, has_sold) = mpsc::channel();
    let events = std::slice::from_ref(&SOLD);
    let options = elsewhere(usize::MAX, OnFailure::Detach);
    let attached = telemetry.attach_with("endless", events, &options, sold, |_, sold| {
        // The story waits for it.
        let _ = sold.send(());
    });
    attached.expect("the id is free");

    sell(&telemetry, 3);

    (0..3).for_each(|_| has_sold.recv().expect("it runs"));
    assert_eq!(telemetry.list_handlers(&[])[0].dropped, 0);
}
