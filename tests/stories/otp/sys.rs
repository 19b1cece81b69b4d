use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use underpin::{
    otp::{
        Address, CallError, Direction, ExitReason, Keep, Lifecycle, NotSent, Restart, Statistics,
        Supervisor, SysError, Unanswered,
    },
    testing::{eventually, with_tree},
};

use super::{
    counter::{Book, Count, busy, counter, name},
    probe::{LONG, Notes, lenient, report},
};

const MOMENT: Duration = Duration::from_millis(20);

async fn with_counter(address: &Address<Count>, story: impl AsyncFnOnce(&Supervisor)) {
    let spec = lenient("sys").child(counter(address, &Notes::default()));
    with_tree(spec, story).await;
}

async fn total(address: &Address<Count>) -> u64 {
    let sys = address.sys();
    let total = sys.get_state(LONG, |book: &Book| book.total).await;
    total.expect("it can be looked at")
}

#[tokio::test]
async fn y01_the_state_can_be_read_and_replaced_also_while_suspended() {
    let address = Address::new();
    with_counter(&address, async |_| {
        let sys = address.sys();
        address.send(Count::Add(2)).expect("sent");
        eventually("it is added", async || total(&address).await == 2).await;

        sys.suspend(LONG).await.expect("suspended");
        assert_eq!(total(&address).await, 2);
        let more = |book: &Book| Book {
            total: book.total + 40,
            ..book.clone()
        };
        sys.replace_state(LONG, more).await.expect("replaced");
        assert_eq!(total(&address).await, 42);
        sys.resume();

        assert_eq!(address.call(Count::Total, LONG).await, Ok(42));
    })
    .await;
}

#[tokio::test]
async fn y01_code_that_fails_on_a_state_is_an_error_and_leaves_it_as_it_was() {
    let address = Address::new();
    with_counter(&address, async |_| {
        let sys = address.sys();
        let failed = |words: &str| SysError::Failed(ExitReason::Panic(words.into()));

        let replaced = sys.replace_state(LONG, |_: &Book| panic!("no new one"));
        assert_eq!(replaced.await, Err(failed("no new one")));
        let looked = sys.get_state(LONG, |_: &Book| -> u64 { panic!("no look") });
        assert_eq!(looked.await, Err(failed("no look")));
        let other = sys.get_state(LONG, |words: &String| words.len()).await;

        assert!(
            matches!(other, Err(SysError::OtherState { is, asked }) if is.ends_with("Book") && asked.ends_with("String"))
        );
        assert_eq!(address.call(Count::Total, LONG).await, Ok(0));
    })
    .await;
}

#[tokio::test]
async fn a_look_waits_for_the_message_at_work_and_no_longer_than_it_is_told() {
    let address = Address::new();
    with_counter(&address, async |_| {
        let work = busy(&address).await;
        let sys = address.sys();
        let early = sys.get_state(MOMENT, |book: &Book| book.total).await;
        assert_eq!(early, Err(SysError::Timeout(MOMENT)));
        for n in 0..100 {
            address.send(Count::Add(n)).expect("sent");
        }
        let look = tokio::spawn(async move { sys.get_state(LONG, |book: &Book| book.total).await });
        tokio::task::yield_now().await;

        drop(work);

        // Before all that was waiting in the mailbox.
        let seen = look.await.expect("no panic").expect("seen");
        assert!(seen < 4950, "{seen}");
        assert_eq!(address.call(Count::Total, LONG).await, Ok(4950));
    })
    .await;
}

#[tokio::test]
async fn y03_a_suspended_actor_lets_calls_time_out_and_takes_its_messages_in_order_when_resumed() {
    let address = Address::new();
    with_counter(&address, async |_| {
        let sys = address.sys();
        sys.suspend(LONG).await.expect("suspended");
        sys.suspend(LONG).await.expect("twice is as once");
        for n in 1..=50 {
            address.send(Count::Add(n)).expect("sent");
        }

        let called = address.call(Count::Total, MOMENT).await;

        assert_eq!(called, Err(Unanswered::Timeout(MOMENT).into()));
        assert!(sys.is_suspended());
        let status = sys.status(LONG).await.expect("it answers");
        assert!(status.suspended);
        assert_eq!(total(&address).await, 0);
        sys.resume();
        sys.resume();
        assert!(!sys.is_suspended());
        assert_eq!(address.call(Count::Total, LONG).await, Ok(1275));
        let added = sys.get_state(LONG, |book: &Book| book.added.clone()).await;
        assert_eq!(added.expect("seen"), (0..=50).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test]
async fn y03_a_suspended_actor_is_resumed_to_be_stopped() {
    let (address, notes) = (Address::new(), Notes::default());
    let supervisor = Supervisor::start(lenient("sys").child(counter(&address, &notes)));
    let supervisor = supervisor.await.expect("starts");
    address.sys().suspend(LONG).await.expect("suspended");
    address.send(Count::Add(1)).expect("sent");

    let stopped = supervisor.stop().await;

    assert!(stopped.is_graceful(), "{stopped:?}");
    assert_eq!(notes.take(), ["post_stop"]);
    let sys = address.sys();
    let looked = sys.get_state(LONG, |book: &Book| book.total).await;
    assert_eq!(looked, Err(SysError::Down));
}

#[tokio::test]
async fn a_suspended_actor_that_is_killed_is_restarted_and_runs() {
    let address = Address::new();
    with_counter(&address, async |_| {
        let sys = address.sys();
        sys.suspend(LONG).await.expect("suspended");
        address.send(Count::Add(1)).expect("sent");
        let waiting = sys.clone();
        let late = tokio::spawn(async move { waiting.suspend(LONG).await });

        address.actor().expect("it runs").kill();

        eventually("its next life runs", async || {
            address.status() == underpin::otp::AddressStatus::Running { incarnation: 2 }
        })
        .await;
        let _ = late.await.expect("no panic");
        sys.resume();
        assert_eq!(address.call(Count::Total, LONG).await, Ok(0));
    })
    .await;
}

#[tokio::test]
async fn many_looks_and_many_messages_at_once_lose_nothing() {
    let address = Address::new();
    with_counter(&address, async |_| {
        let lookers: Vec<_> = (0..8)
            .map(|n: u32| {
                let sys = address.sys();
                tokio::spawn(async move {
                    for round in 0..50 {
                        if n == 0 && round % 5 == 0 {
                            sys.suspend(LONG).await.expect("suspended");
                            tokio::task::yield_now().await;
                            sys.resume();
                        }
                        let consistent = |book: &Book| book.total == book.added.iter().sum::<u64>();
                        let seen = sys.get_state(LONG, consistent).await;
                        assert!(seen.expect("seen"));
                    }
                })
            })
            .collect();
        for _ in 0..2000 {
            address.cast(Count::AddOne).await.expect("it runs");
        }
        for looker in lookers {
            looker.await.expect("no looker failed");
        }

        assert_eq!(address.call(Count::Total, LONG).await, Ok(2000));
    })
    .await;
}

#[tokio::test]
async fn y04_statistics_count_from_when_they_are_turned_on() {
    let address = Address::new();
    with_counter(&address, async |_| {
        let sys = address.sys();
        assert_eq!(sys.statistics(), None);
        address.call(Count::Total, LONG).await.expect("answers");
        sys.set_statistics(true);

        address.call(Count::Total, LONG).await.expect("answers");

        let counted = sys.statistics().expect("they are on");
        assert!(
            matches!(
                counted,
                Statistics {
                    messages_in: 1,
                    messages_out: 1,
                    ..
                }
            ),
            "{counted:?}"
        );
        sys.set_statistics(false);
        assert_eq!(sys.statistics(), None);
    })
    .await;
}

#[tokio::test]
async fn y05_the_log_of_a_call_is_the_message_and_the_answer() {
    let address = Address::new().message_names(name);
    with_counter(&address, async |_| {
        let sys = address.sys();
        sys.set_log(10);

        address.call(Count::Total, LONG).await.expect("answers");

        let log = sys.log().expect("it is on");
        let seen: Vec<_> = log
            .iter()
            .map(|entry| (entry.direction, entry.name))
            .collect();
        assert_eq!(seen, [(Direction::In, "total"), (Direction::Out, "u64")]);
        sys.set_log(0);
        assert_eq!(sys.log(), None);
    })
    .await;
}

#[tokio::test]
async fn y06_a_hook_hangs_once_under_its_id_and_goes_when_it_fails() {
    let address = Address::new();
    with_counter(&address, async |_| {
        let sys = address.sys();
        let called = Arc::new(AtomicU32::new(0));
        let hook = || {
            let called = Arc::clone(&called);
            move |_: &underpin::otp::Traffic| {
                called.fetch_add(1, Ordering::Relaxed);
                Keep::Yes
            }
        };
        let calls_of_one_addition = async || {
            let before = called.load(Ordering::Relaxed);
            let (begun, begins) = tokio::sync::oneshot::channel();
            let (_end, until) = tokio::sync::oneshot::channel();
            address.send(Count::Work(begun, until)).expect("sent");
            begins.await.expect("begins");
            called.load(Ordering::Relaxed) - before
        };

        assert!(sys.install("a", hook()));
        assert!(!sys.install("a", hook()));
        assert_eq!(calls_of_one_addition().await, 1);
        assert!(sys.install("b", hook()));
        assert_eq!(calls_of_one_addition().await, 2);
        assert!(sys.remove("a"));
        assert!(!sys.remove("a"));
        assert_eq!(calls_of_one_addition().await, 1);
        sys.no_debug();
        assert_eq!(calls_of_one_addition().await, 0);

        let tries = Arc::clone(&called);
        sys.install("fails", move |_| {
            tries.fetch_add(1, Ordering::Relaxed);
            panic!("a bad hook")
        });
        assert_eq!(calls_of_one_addition().await, 1);
        assert_eq!(calls_of_one_addition().await, 0);
        assert!(!sys.remove("fails"), "it was removed when it failed");
        assert_eq!(address.call(Count::Total, LONG).await, Ok(0));
    })
    .await;
}

#[tokio::test]
async fn y07_a_status_shows_what_the_formatter_lets_through() {
    let address = Address::new().state_format(|book: &Book| format!("total {}", book.total));
    with_counter(&address, async |_| {
        let status = address.sys().status(LONG).await.expect("it answers");

        assert_eq!(status.state, Some(Ok("total 0".to_owned())));
        assert!(status.state_type.ends_with("Book"));
        assert!(!format!("{status:?}").contains("sesame"));
    })
    .await;
}

#[tokio::test]
async fn y07_a_formatter_that_fails_harms_nobody() {
    let address = Address::new().state_format(|_: &Book| panic!("no words"));
    with_counter(&address, async |_| {
        let status = address.sys().status(LONG).await.expect("it answers");

        assert_eq!(
            status.state,
            Some(Err(ExitReason::Panic("no words".into())))
        );
        assert_eq!(address.call(Count::Total, LONG).await, Ok(0));
    })
    .await;
}

#[tokio::test]
async fn y08_an_actor_that_is_terminated_ends_with_that_reason_and_leaves_its_address_free() {
    let (address, notes) = (Address::new(), Notes::default());
    let child = counter(&address, &notes).restart(Restart::Transient);
    with_tree(lenient("sys").child(child), async |supervisor| {
        let mut reports = supervisor.reports().expect("it runs");

        let ended = address.sys().terminate(ExitReason::Normal, LONG).await;

        assert_eq!(ended, Ok(ExitReason::Normal));
        let reason = report(&mut reports, |report| match &report.what {
            Lifecycle::Exited { reason, .. } => Some(reason.clone()),
            _ => None,
        });
        assert_eq!(reason.await, ExitReason::Normal);
        assert_eq!(notes.take(), ["post_stop"]);
        supervisor
            .restart_child("counter")
            .await
            .expect("its address is free");
        assert_eq!(address.call(Count::Total, LONG).await, Ok(0));
    })
    .await;
}

#[tokio::test]
async fn an_actor_that_looks_inside_itself_is_told_so() {
    let address = Address::<super::probe::Do>::new();
    let spec = lenient("sys").child(super::probe::probe("a", &address, &Notes::default()));
    with_tree(spec, async |_| {
        let (asked, answers) = tokio::sync::oneshot::channel();
        let own = address.clone();
        let look = async move {
            let suspended = own.sys().suspend(LONG).await;
            let ended = own.stop(ExitReason::Normal, LONG).await;
            let _ = asked.send((suspended, ended));
        };
        address
            .send(super::probe::Do::Await(Box::pin(look)))
            .expect("sent");

        let (suspended, ended) = answers.await.expect("it answers");

        assert_eq!(suspended, Err(SysError::CallingSelf));
        assert_eq!(ended, Err(CallError::NotSent(NotSent::CallingSelf)));
    })
    .await;
}

/// ractor looks at a plain stop between two messages: one that waits for the state of a suspended actor is in hand.
#[tokio::test]
async fn a_plain_stop_ends_a_suspended_actor_unless_it_has_a_message_in_hand_and_then_when_it_is_resumed()
 {
    for in_hand in [false, true] {
        let (address, notes) = (Address::new(), Notes::default());
        let child = counter(&address, &notes).restart(Restart::Temporary);
        with_tree(lenient("sys").child(child), async |_| {
            let (sys, life) = (address.sys(), address.monitor());
            let actor = address.actor().expect("it runs");
            // Its `post_start` would be in hand, too.
            assert_eq!(address.call(Count::Total, LONG).await, Ok(0));
            sys.suspend(LONG).await.expect("suspended");
            if in_hand {
                let begun = address.call(Count::Total, MOMENT).await;
                assert_eq!(begun, Err(Unanswered::Timeout(MOMENT).into()));
            }

            actor.stop(None);

            if in_hand {
                assert!(
                    tokio::time::timeout(MOMENT, actor.wait(None))
                        .await
                        .is_err()
                );
                assert_eq!(life.peek(), None);
                sys.resume();
            }
            let ended = tokio::time::timeout(LONG, life.down()).await;
            assert_eq!(ended.expect("it ends").reason, ExitReason::Normal);
            assert_eq!(notes.take(), ["post_stop"]);
        })
        .await;
    }
}
