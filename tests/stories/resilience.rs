//! Guarded calls: tried again, spared, limited, answered from memory.

use std::{
    error::Error,
    num::NonZeroU32,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;
use underpin::{
    otp::{CallError, Context, NotSent, Unanswered},
    resilience::{
        Again, Backoff, BreakerError, BreakerOptions, Bulkhead, BulkheadFull, CircuitBreaker,
        CircuitState, Happening, Jitter, LastGood, Observer, Outcome, Protection, ProtectionError,
        Protections, RateLimit, Retry, RetryError, Retryable, Trip,
    },
    testing::{eventually, in_memory, with_node},
};

const SECOND: Duration = Duration::from_secs(1);

fn count(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).expect("not zero")
}

/// What guards said, in order.
#[derive(Default)]
struct Said(Mutex<Vec<String>>);

impl Said {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("no panic"))
    }
}

impl Observer for Said {
    fn observe(&self, guard: &str, happening: &Happening) {
        let words = format!("{guard} {}", happening.word());
        self.0.lock().expect("no panic").push(words);
    }
}

#[test]
fn f100_delays_double_from_one_second_to_thirty_and_are_never_negative() {
    let backoff =
        Backoff::new(Duration::from_secs(1), Duration::from_secs(30)).expect("base is below cap");

    let delays: Vec<u128> = (0..=100)
        .map(|attempt| backoff.delay(attempt, 0.0).as_millis())
        .collect();

    assert_eq!(delays[..6], [1_000, 2_000, 4_000, 8_000, 16_000, 30_000]);
    assert!(delays[6..].iter().all(|delay| *delay == 30_000));
}

#[test]
fn chance_pulls_apart_what_failed_together() {
    let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30))
        .and_then(|backoff| backoff.with_jitter(Jitter::Full))
        .expect("valid settings");

    let delays: Vec<Duration> = [0.0, 0.25, 0.5, 0.75]
        .map(|random| backoff.delay(2, random))
        .to_vec();

    assert_eq!(delays, [4, 3, 2, 1].map(Duration::from_secs));
}

fn whole(base: Duration, cap: Duration) -> Backoff {
    Backoff::new(base, cap)
        .and_then(|backoff| backoff.with_jitter(Jitter::None))
        .expect("valid settings")
}

#[tokio::test(start_paused = true)]
async fn f97_what_fails_is_tried_again_and_the_last_error_is_told() {
    let retry = Retry::new("f97", whole(Duration::from_millis(100), 5 * SECOND));
    let begin = Instant::now();

    let first = retry.run(|attempt| async move { Ok::<_, ()>(attempt) });
    assert_eq!(first.await, Ok(1));
    assert_eq!(begin.elapsed(), Duration::ZERO);

    let third = retry.run(|attempt| async move { (attempt == 3).then_some("ok").ok_or("busy") });
    assert_eq!(third.await, Ok("ok"));
    assert!((300..310).contains(&begin.elapsed().as_millis()));

    let twice = retry.clone().attempts(count(2));
    let never = twice.run(|attempt| async move { Err::<(), _>(format!("no {attempt}")) });
    let exhausted = never.await.expect_err("always fails");
    assert_eq!(exhausted.to_string(), "failed 2 times, at last with: no 2");
    assert_eq!(exhausted.into_last(), Some("no 2".into()));
}

#[tokio::test(start_paused = true)]
async fn a_retry_waits_as_the_other_side_asks_and_gives_up_what_makes_no_sense() {
    let retry = Retry::new("hint", whole(SECOND, SECOND));
    let begin = Instant::now();

    let hinted = retry.run_when(
        |attempt| async move {
            if attempt == 1 {
                Err("429")
            } else {
                Ok(attempt)
            }
        },
        |_| Again::After(60 * SECOND),
    );
    assert_eq!(hinted.await, Ok(2));
    assert_eq!(begin.elapsed().as_secs(), 60);

    let permanent = retry.run_when(|_| async { Err::<(), _>("404") }, |_| Again::Never);
    let expected = RetryError::Permanent {
        attempts: 1,
        last: "404",
    };
    assert_eq!(permanent.await, Err(expected));
}

#[tokio::test(start_paused = true)]
async fn a_retry_begins_no_attempt_after_its_time() {
    let retry = Retry::new("time", whole(SECOND, SECOND))
        .without_end()
        .elapsed_limit(10 * SECOND);
    let begin = Instant::now();

    let failed = retry.run(|_| async { Err::<(), _>("busy") }).await;

    let Err(RetryError::Elapsed { attempts, .. }) = failed else {
        panic!("{failed:?}");
    };
    assert!((10..=11).contains(&attempts), "{attempts}");
    assert!(begin.elapsed() <= 10 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_retry_ends_at_once_when_it_is_cancelled() {
    let cancel = CancellationToken::new();
    let hour = Duration::from_hours(1);
    let retry = Retry::new("cancel", Backoff::constant(hour)).cancelled_by(cancel.clone());
    let begin = Instant::now();

    let waiting = tokio::spawn({
        let retry = retry.clone();
        async move { retry.run(|_| async { Err::<(), _>("busy") }).await }
    });
    time::sleep(SECOND).await;
    cancel.cancel();

    let expected = RetryError::Cancelled {
        attempts: 1,
        last: Some("busy"),
    };
    assert_eq!(waiting.await.expect("no panic"), Err(expected));
    assert!(begin.elapsed() < 2 * SECOND);
    let late = retry.run(|_| async { Ok::<_, ()>("not even begun") }).await;
    assert!(matches!(
        late,
        Err(RetryError::Cancelled { attempts: 0, .. })
    ));
}

#[test]
fn calls_say_themselves_whether_a_retry_is_safe() {
    let again = |error: CallError| error.again();
    assert_eq!(again(NotSent::Down.into()), Again::Backoff);
    assert_eq!(again(NotSent::Full.into()), Again::Backoff);
    assert_eq!(again(NotSent::CallingSelf.into()), Again::Never);
    assert_eq!(again(Unanswered::Dropped.into()), Again::Never);
}

/// Six failures within a minute, as the original's default of 5 tolerated ones.
fn original(open_for: Duration) -> BreakerOptions {
    BreakerOptions {
        trip: Trip::Count {
            failures: count(6),
            within: 60 * SECOND,
        },
        open_for,
        ..BreakerOptions::default()
    }
}

#[tokio::test(start_paused = true)]
async fn f126_after_six_failures_the_seventh_call_is_refused_without_running() {
    let said = Arc::new(Said::default());
    let observer: Arc<dyn Observer> = said.clone();
    let breaker = CircuitBreaker::observed_by("fuse", original(60 * SECOND), observer)
        .expect("valid options");
    for _ in 0..6 {
        let failed = breaker.run(async { Err::<(), _>("bad") }).await;
        assert_eq!(failed, Err(BreakerError::Failed("bad")));
    }

    let ran = AtomicU32::new(0);
    let refused = breaker
        .run(async {
            ran.fetch_add(1, Ordering::Relaxed);
            Ok::<_, &str>(())
        })
        .await;

    let Err(BreakerError::Open(open)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!((&*open.breaker, open.retry_in), ("fuse", 60 * SECOND));
    assert_eq!(ran.load(Ordering::Relaxed), 0);
    assert_eq!(
        said.take()[5..],
        ["fuse failed", "fuse opened", "fuse rejected"]
    );
    breaker.reset();
    assert_eq!(breaker.run(async { Ok::<_, ()>(1) }).await, Ok(1));
    let bad = BreakerOptions {
        trip: Trip::Rate {
            share: 2.0,
            calls_min: count(1),
            within: SECOND,
        },
        ..BreakerOptions::default()
    };
    let invalid = CircuitBreaker::new("bad", bad).expect_err("no share");
    assert!(invalid.to_string().starts_with("a failure rate of 2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f127_many_at_once_are_all_told_and_breakers_are_independent() {
    let options = BreakerOptions {
        trip: Trip::Consecutive(count(4)),
        ..BreakerOptions::default()
    };
    let breakers: Vec<_> = (0..8)
        .map(|n| CircuitBreaker::new(format!("{n}"), options).expect("valid options"))
        .collect();
    let all = |breaker: &CircuitBreaker, calls: u32, works: bool| {
        let call = |_| {
            let breaker = breaker.clone();
            tokio::spawn(async move {
                breaker
                    .run(async move { works.then_some(()).ok_or(()) })
                    .await
            })
        };
        (0..calls).map(call).collect::<Vec<_>>()
    };

    for call in all(&breakers[0], 10, false) {
        assert!(call.await.expect("no panic").is_err());
    }
    for call in all(&breakers[1], 50, true) {
        assert_eq!(call.await.expect("no panic"), Ok(()));
    }
    let mut refused = 0;
    for call in all(&breakers[2], 100, false) {
        match call.await.expect("no panic") {
            Err(BreakerError::Failed(())) => {}
            Err(BreakerError::Open(_)) => refused += 1,
            Ok(()) => panic!("all fail"),
        }
    }

    assert!(refused <= 96, "four at least have to fail");
    for (breaker, n) in breakers.iter().zip(0..) {
        let closed = breaker.state() == CircuitState::Closed;
        assert_eq!(closed, n != 0 && n != 2, "breaker {n}");
    }
}

#[tokio::test(start_paused = true)]
async fn f128_after_its_time_a_circuit_lets_a_probe_through_and_works_again() {
    let options = BreakerOptions {
        trip: Trip::Consecutive(count(2)),
        open_for: Duration::from_millis(100),
        probes: count(1),
    };
    let breaker = CircuitBreaker::new("f128", options).expect("valid options");
    for _ in 0..2 {
        let _ = breaker.run(async { Err::<(), _>("bad") }).await;
    }
    assert!(breaker.admit().is_err());

    time::sleep(Duration::from_millis(150)).await;

    // One probe is out, and nobody else goes through; if it is given up, another may.
    let probe = breaker.admit().expect("a probe");
    let others = breaker.admit().expect_err("one is out");
    assert_eq!(others.again(), Again::Backoff);
    drop(probe);
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
    assert_eq!(breaker.run(async { Ok::<_, ()>(1) }).await, Ok(1));
    assert_eq!(breaker.state(), CircuitState::Closed);
}

#[tokio::test]
async fn f129_errors_and_panics_are_failures_and_what_is_ignored_is_none() {
    let options = BreakerOptions {
        trip: Trip::Consecutive(count(3)),
        ..BreakerOptions::default()
    };
    let breaker = CircuitBreaker::new("f129", options).expect("valid options");
    let guard = Protection::new("f129").circuit_breaker(breaker.clone());

    for _ in 0..10 {
        let mistake = breaker.run_when(async { Err::<(), _>("my mistake") }, |_| Outcome::Ignore);
        assert!(mistake.await.is_err());
    }
    let _ = breaker.run(async { Err::<(), _>("error") }).await;
    for guarded in [false, true] {
        let (breaker, guard) = (breaker.clone(), guard.clone());
        let panicking = tokio::spawn(async move {
            let boom = async { panic!("boom") };
            if guarded {
                let _: Result<(), ProtectionError<()>> = guard.run(boom).await;
            } else {
                let _: Result<(), BreakerError<()>> = breaker.run(boom).await;
            }
        });
        assert!(panicking.await.expect_err("panics").is_panic());
    }

    assert!(matches!(breaker.state(), CircuitState::Open { .. }));
}

/// Panics whenever a guard says one of these.
struct Grumpy(&'static [&'static str]);

impl Observer for Grumpy {
    fn observe(&self, _: &str, happening: &Happening) {
        assert!(!self.0.contains(&happening.word()), "an observer's panic");
    }
}

fn breaker_under(grumpy: &'static [&'static str]) -> CircuitBreaker {
    let options = BreakerOptions {
        trip: Trip::Consecutive(count(1)),
        ..BreakerOptions::default()
    };
    let observer = Arc::new(Grumpy(grumpy));
    CircuitBreaker::observed_by("watched", options, observer).expect("valid options")
}

/// The place of the probe was lost, and the circuit refused all calls from then on, until it was reset by hand.
#[tokio::test(start_paused = true)]
async fn a_probe_whose_observer_panics_gives_its_place_back() {
    let breaker = breaker_under(&["half_opened"]);
    let _ = breaker.run(async { Err::<(), _>("error") }).await;

    for _ in 0..3 {
        time::sleep(30 * SECOND).await;
        let own = breaker.clone();
        let probe = tokio::spawn(async move { own.run(async { Ok::<_, ()>(1) }).await });
        assert!(probe.await.expect_err("goes to the caller").is_panic());
    }
}

/// Two panics at once end a program.
#[tokio::test]
async fn an_observer_that_panics_beside_a_call_leaves_the_calls_own_panic() {
    let breaker = breaker_under(&["failed", "opened"]);
    let own = breaker.clone();
    let call = async { panic!("the call's own") };
    let panicked = tokio::spawn(async move { own.run::<(), ()>(call).await }).await;

    let panicked = panicked.expect_err("panics").into_panic();
    assert_eq!(panicked.downcast_ref(), Some(&"the call's own"));
    assert!(matches!(breaker.state(), CircuitState::Open { .. }));
}

#[tokio::test(start_paused = true)]
async fn f130_so_many_go_through_for_each_key_apart() {
    let limit = RateLimit::new("logins", 5, 60 * SECOND);
    for _ in 0..5 {
        limit.check(&("ann", "login")).expect("is allowed");
    }
    let sixth = limit.check(&("ann", "login")).expect_err("is too many");
    assert_eq!(&*sixth.limit, "logins");
    assert_eq!(sixth.retry_in, 12 * SECOND);
    assert_eq!(sixth.again(), Again::After(12 * SECOND));
    limit.check(&("bob", "login")).expect("another user");
    limit.check(&("ann", "logout")).expect("another operation");

    // Whoever was told to come back in a second came back every second, for ever.
    let none = RateLimit::new("none", 0, SECOND);
    let refused = none.check(&()).expect_err("lets nothing through");
    assert_eq!(refused.again(), Again::Never);
    let words = "the rate limit none lets nothing through";
    assert_eq!(refused.to_string(), words);
    let long = time::timeout(3600 * SECOND, none.ready(&())).await;
    assert!(long.is_err());

    let short = RateLimit::new("short", 2, Duration::from_millis(500));
    assert!(
        (0..3)
            .map(|_| short.check(&()))
            .filter_map(Result::ok)
            .count()
            == 2
    );
    time::sleep(Duration::from_millis(600)).await;
    short.check(&()).expect("is allowed again");
    let begin = Instant::now();
    for _ in 0..4 {
        short.ready(&()).await;
    }
    assert!(begin.elapsed() >= Duration::from_millis(500));
}

#[tokio::test(start_paused = true)]
async fn f132_there_is_no_burst_where_one_window_ends_and_the_next_begins() {
    let limit = RateLimit::new("boundary", 100, 60 * SECOND);
    let burst = || (0..1000).filter(|_| limit.check(&()).is_ok()).count();
    time::sleep(59 * SECOND + Duration::from_millis(900)).await;

    let before = burst();
    time::sleep(Duration::from_millis(200)).await;
    let after = burst();

    assert_eq!((before, after), (100, 0));
    // And over a long time it is what was said.
    let mut all = 0;
    for _ in 0..600 {
        time::sleep(SECOND).await;
        all += burst();
    }
    assert!((990..=1010).contains(&all), "{all} in ten minutes");
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_forgets_keys_that_are_whole_again() {
    let limit = RateLimit::new("keys", 1, SECOND);
    for key in 0..10_000_u32 {
        let _ = limit.check(&key);
        time::advance(Duration::from_millis(10)).await;
    }

    // Those of one window, and those since the last look.
    assert!(limit.keys() <= 100 + 1024 + 1, "{}", limit.keys());
}

#[tokio::test]
async fn f133_a_place_is_given_back_whatever_becomes_of_its_holder() {
    let pool = Bulkhead::new("pool", count(8));
    let work = |n: u32| {
        let pool = pool.clone();
        async move {
            let _place = pool.enter(20 * SECOND).await?;
            tokio::task::yield_now().await;
            assert!(n != 3, "three panics");
            Ok::<_, BulkheadFull>(n)
        }
    };
    let workers: Vec<_> = (0..13).map(|n| tokio::spawn(work(n))).collect();
    let mut done = 0;
    for worker in workers {
        done += u32::from(worker.await.is_ok_and(|worked| worked.is_ok()));
    }
    assert_eq!((done, pool.free()), (12, 8));

    // One that is cancelled while it holds one, and one while it waits.
    let all = pool
        .enter_with(count(100), SECOND)
        .await
        .expect("all are free");
    assert_eq!(pool.free(), 0);
    let waiting = tokio::spawn(work(0));
    eventually("it waits", async || pool.waiters() == 1).await;
    waiting.abort();
    eventually("it is gone", async || pool.waiters() == 0).await;
    let holding = tokio::spawn(async move {
        let _all = all;
        std::future::pending::<()>().await;
    });
    let full = pool.enter(Duration::ZERO).await.expect_err("all are taken");
    assert_eq!((&*full.bulkhead, full.limit), ("pool", 8));
    holding.abort();
    eventually("all are free", async || pool.free() == 8).await;
}

#[tokio::test(start_paused = true)]
async fn a_bulkhead_refuses_when_too_many_wait_or_one_waits_too_long() {
    let pool = Bulkhead::new("pool", count(1)).waiting(1);
    let held = pool.enter(Duration::ZERO).await.expect("is free");
    let patient = tokio::spawn({
        let pool = pool.clone();
        async move { pool.enter(SECOND).await.map(drop) }
    });
    eventually("one waits", async || pool.waiters() == 1).await;

    let begin = Instant::now();
    assert!(pool.enter(SECOND).await.is_err(), "one waits already");
    assert!(begin.elapsed() < Duration::from_millis(100));

    assert!(
        patient.await.expect("no panic").is_err(),
        "a second is over"
    );
    drop(held);
    assert!(pool.enter(Duration::ZERO).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_last_good_value_is_given_until_it_is_too_old() {
    let rates = LastGood::new("rates", 60 * SECOND);
    let offline = || async { Err::<f64, _>("offline") };
    assert_eq!(rates.run(offline()).await, Err("offline"));
    rates
        .run(async { Ok::<_, &str>(1.08) })
        .await
        .expect("works");

    time::sleep(60 * SECOND).await;
    let kept = rates.run(offline()).await.expect("is kept");
    assert!((*kept.value - 1.08).abs() < f64::EPSILON);
    assert_eq!(kept.age.map(|age| age.as_secs()), Some(60));

    time::sleep(SECOND).await;
    assert_eq!(rates.run(offline()).await, Err("offline"));
}

#[tokio::test(start_paused = true)]
async fn f134_a_chain_refuses_at_each_guard_in_turn_and_lets_the_rest_through() {
    let options = BreakerOptions {
        trip: Trip::Consecutive(count(2)),
        ..BreakerOptions::default()
    };
    let breaker = CircuitBreaker::new("bank", options).expect("valid options");
    let pool = Bulkhead::new("bank", count(1));
    let bank = Protection::new("bank")
        .rate_limit(RateLimit::new("bank", 6, 60 * SECOND))
        .circuit_breaker(breaker.clone())
        .bulkhead(pool.clone(), Duration::ZERO)
        .timeout(SECOND);

    assert_eq!(bank.run(async { Ok::<_, &str>(42) }).await, Ok(42));
    let held = pool.enter(Duration::ZERO).await.expect("is free");
    let full = bank.run(async { Ok::<_, &str>(42) }).await;
    assert!(matches!(full, Err(ProtectionError::Full(_))));
    drop(held);
    assert_eq!(breaker.state(), CircuitState::Closed);
    let slow = bank.run(std::future::pending::<Result<(), &str>>()).await;
    assert!(matches!(slow, Err(ProtectionError::TimedOut { .. })));
    let failed = bank.run(async { Err::<(), _>("bad") }).await;
    assert_eq!(failed, Err(ProtectionError::Failed("bad")));
    let open = bank.run(async { Ok::<_, &str>(42) }).await;
    assert!(matches!(open, Err(ProtectionError::Open(_))));
    assert_eq!(pool.free(), 1);
    let _ = bank.run(async { Ok::<_, &str>(42) }).await;
    let limited = bank.run(async { Ok::<_, &str>(42) }).await;
    assert!(matches!(limited, Err(ProtectionError::RateLimited(_))));

    let all = Protections::new();
    all.add(bank.clone()).expect("is the first");
    all.add(Protection::new("atm")).expect("has another name");
    assert!(all.add(bank).is_err());
    assert_eq!(all.names(), ["atm".into(), "bank".into()]);
    assert!(all.get("bank").is_some_and(|bank| bank.breaker().is_some()));
    assert!(all.get("door").is_none());
    assert!(all.remove("atm").is_some());
    assert_eq!(all.names(), ["bank".into()]);
}

#[tokio::test]
async fn f99_an_error_keeps_what_it_was_through_every_guard_around_it() {
    let context = Context::new(7, 0);
    let guard = Protection::new("guard");
    let retry = Retry::new("retry", Backoff::AT_ONCE).attempts(count(2));
    let call = |_| async {
        // The correlation goes through them all.
        assert_eq!(Context::current().trace, 7);
        guard
            .run(async { Err::<(), _>(CallError::from(NotSent::Full)) })
            .await
    };

    let failed = context.scope(retry.run(call)).await.expect_err("fails");

    let guarded = failed.source().expect("what was retried");
    let called = guarded.source().expect("what was guarded");
    assert_eq!(called.to_string(), NotSent::Full.to_string());
    let original = called.downcast_ref::<CallError>();
    assert_eq!(original, Some(&CallError::NotSent(NotSent::Full)));
    assert!(
        failed
            .to_string()
            .starts_with("failed 2 times, at last with: the address is at its limit")
    );
}

#[tokio::test]
async fn f102_a_context_is_a_tasks_own_and_the_outer_one_comes_back_also_after_a_panic() {
    let trace = |trace| Context::new(trace, 0);
    let seen = trace(1)
        .scope(async {
            let mut seen = vec![Context::current().trace];
            let inner = trace(2).scope(async {
                tokio::task::yield_now().await;
                Context::current().trace
            });
            seen.push(inner.await);
            seen.push(Context::current().trace);
            let stranger = tokio::spawn(async { Context::current().trace });
            seen.push(stranger.await.expect("no panic"));
            let panics = std::panic::AssertUnwindSafe(trace(3).scope(async { panic!("boom") }));
            let panicked: Result<(), _> = futures_util::FutureExt::catch_unwind(panics).await;
            assert!(panicked.is_err());
            seen.push(Context::current().trace);
            seen
        })
        .await;

    assert_eq!(seen, [1, 2, 1, 0, 1]);
    assert_eq!(Context::current(), Context::default());
}

#[tokio::test]
async fn a_node_counts_what_guards_do() {
    with_node(in_memory(), async |node| {
        let retry = Retry::new("till", Backoff::AT_ONCE).observed_by(node.observer());
        let _ = retry.run(|_| async { Err::<(), _>("busy") }).await;
        let pool = Bulkhead::new("pool", count(1)).observed_by(node.observer());
        let _held = pool.enter(Duration::ZERO).await.expect("is free");
        let _ = pool.enter(Duration::ZERO).await;

        let counted = node.telemetry().snapshot();

        let count = |guard, what| {
            let labels = [("guard", guard), ("what", what)];
            counted.counter("underpin_guards", &labels)
        };
        assert_eq!(count("till", "retrying"), 2);
        assert_eq!(count("till", "gave_up"), 1);
        assert_eq!(count("pool", "full"), 1);
    })
    .await;
}
