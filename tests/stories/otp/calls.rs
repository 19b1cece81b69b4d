use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;
use underpin::{
    otp::{
        Address, AddressStatus, Admission, CallError, ChildSpec, Context, ExitReason, Lifecycle,
        NotSent, Reply, Requests, Restart, StartError, Supervisor, SupervisorError, Unanswered,
    },
    ractor,
    testing::{self, with_tree},
};

use super::{
    counter::{Book, Count, busy, counter, counter_that_casts},
    probe::{Do, LONG, Notes, incarnation, lenient, probe},
};

async fn one_probe(address: &Address<Do>) -> Supervisor {
    let spec = lenient("calls").child(probe("a", address, &Notes::default()));
    Supervisor::start(spec).await.expect("starts")
}

#[tokio::test]
async fn c01_a_call_is_answered_and_a_slow_one_times_out_without_a_late_answer() {
    let address = Address::new();
    let supervisor = one_probe(&address).await;
    address.send(Do::Add(2)).expect("sent");
    assert_eq!(address.call(Do::Total, LONG).await, Ok(2));

    let limit = Duration::from_millis(20);
    let late = address.call(Do::Keep, limit).await;

    assert_eq!(late, Err(Unanswered::Timeout(limit).into()));
    assert_eq!(address.call(Do::Total, LONG).await, Ok(2));
    supervisor.stop().await;
}

/// A reply that was let go by a handler that was still at work was looked into for 50 ms, whatever the caller's own limit.
#[tokio::test(start_paused = true)]
async fn a_call_whose_reply_is_let_go_in_a_long_handler_keeps_to_its_limit() {
    let address = Address::new();
    let supervisor = one_probe(&address).await;
    let limit = Duration::from_millis(7);
    let begin = tokio::time::Instant::now();

    let lost = address.call(
        |reply: Reply<u64>| {
            Do::Await(Box::pin(async move {
                drop(reply);
                std::future::pending::<()>().await;
            }))
        },
        limit,
    );

    assert_eq!(lost.await, Err(Unanswered::Timeout(limit).into()));
    assert_eq!(begin.elapsed(), limit);
    address.actor().expect("runs").kill();
    supervisor.stop().await;
}

#[tokio::test]
async fn c03_an_actor_that_calls_itself_gets_an_error_not_a_deadlock() {
    let address = Address::new();
    let supervisor = one_probe(&address).await;

    let answer = address
        .call(|reply| Do::CallYourself(address.clone(), reply), LONG)
        .await
        .expect("answers");

    assert!(answer.contains("CallingSelf"), "{answer}");
    supervisor.stop().await;
}

#[tokio::test]
async fn c04_a_cast_to_nobody_is_an_error_at_once() {
    let address = Address::<Do>::new();
    let (_open, held) = oneshot::channel();

    let refused = address.try_cast(|permit| Do::Hold(permit, held));

    assert_eq!(refused, Err(NotSent::Down));
    assert_eq!(address.status(), AddressStatus::Vacant);
    assert_eq!(address.admitted(), 0);
}

#[tokio::test]
async fn a_caller_learns_that_the_actor_died_and_how() {
    let address = Address::new();
    let supervisor = one_probe(&address).await;

    let died = address.call(Do::PanicInCall, LONG).await;

    let reason = ExitReason::Panic("in the middle of a call".into());
    assert_eq!(died, Err(CallError::Unanswered(Unanswered::Died(reason))));
    supervisor.stop().await;
}

#[tokio::test]
async fn a_caller_learns_that_its_request_was_dropped_by_a_living_actor() {
    let address = Address::new();
    let supervisor = one_probe(&address).await;

    let dropped = address.call(Do::Drop, LONG).await;

    assert_eq!(dropped, Err(CallError::Unanswered(Unanswered::Dropped)));
    assert_eq!(incarnation(&address).await, 1);
    supervisor.stop().await;
}

#[tokio::test]
async fn a_call_made_during_a_restart_reaches_the_next_incarnation() {
    let address = Address::new();
    let supervisor = one_probe(&address).await;

    for life in 1..50 {
        assert_eq!(incarnation(&address).await, life);
        address.send(Do::PanicWith("again")).expect("sent");
        while address.status() == (AddressStatus::Running { incarnation: life }) {
            tokio::task::yield_now().await;
        }
    }

    assert_eq!(incarnation(&address).await, 50);
    supervisor.stop().await;
}

#[tokio::test]
async fn a_call_to_nobody_says_that_it_did_not_run() {
    let address = Address::<Do>::new();

    let refused = address.call(Do::Total, Duration::from_millis(5)).await;

    assert_eq!(refused, Err(CallError::NotSent(NotSent::Down)));
}

#[tokio::test]
async fn a_full_address_refuses_and_counts_or_makes_callers_wait() {
    let refusing = Address::with_admission(Admission::refuse(1));
    let supervisor = one_probe(&refusing).await;
    let (release, held) = oneshot::channel();
    refusing
        .try_cast(|permit| Do::Hold(permit, held))
        .expect("there is a place");

    let refused = refusing.call(Do::Total, LONG).await;

    assert_eq!(refused, Err(CallError::NotSent(NotSent::Full)));
    assert_eq!((refusing.admitted(), refusing.refused()), (1, 1));
    release.send(()).expect("still held");
    while refusing.admitted() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(refusing.call(Do::Total, LONG).await, Ok(0));
    supervisor.stop().await;
}

#[tokio::test]
async fn c13_a_handler_can_see_that_its_caller_has_gone() {
    let address = Address::new();
    let supervisor = one_probe(&address).await;
    let gone = address.call(Do::Keep, Duration::from_millis(1)).await;

    assert!(matches!(
        gone,
        Err(CallError::Unanswered(Unanswered::Timeout(_)))
    ));
    // The probe still holds the reply, and with it the caller's place.
    assert_eq!(address.admitted(), 1);
    supervisor.stop().await;
    assert_eq!(address.admitted(), 0);
}

#[tokio::test]
async fn a_request_carries_the_callers_correlation() {
    let address = Address::<Do>::new();
    let context = Context::new(7, 9);

    let seen = context
        .scope(async {
            let (sent, seen) = std::sync::mpsc::channel();
            let _ = address.try_cast(|permit| {
                sent.send(permit.context()).expect("looked at");
                Do::Add(1)
            });
            seen.recv().expect("the closure ran")
        })
        .await;

    assert_eq!((seen.trace, seen.cause), (7, 9));
    assert_eq!(Context::current(), Context::default());
}

#[tokio::test(start_paused = true)]
async fn c05_a_start_slower_than_its_timeout_is_an_error_and_leaves_no_actor() {
    struct Slow {
        _alive: Arc<()>,
    }
    impl Actor for Slow {
        type Msg = Do;
        type State = ();
        type Arguments = ();
        async fn pre_start(&self, _: ActorRef<Do>, (): ()) -> Result<(), ActorProcessingErr> {
            std::future::pending().await
        }
    }
    let (address, alive) = (Address::new(), Arc::new(()));
    let limit = Duration::from_millis(100);
    let held = Arc::clone(&alive);
    let child = ChildSpec::actor("slow", &address, move |_| {
        (
            Slow {
                _alive: Arc::clone(&held),
            },
            (),
        )
    });

    let supervisor = Supervisor::start(lenient("calls")).await.expect("starts");
    let started = supervisor.start_child(child.start_timeout(limit)).await;

    let timeout = StartError::Timeout {
        child: "slow".into(),
        limit,
    };
    assert_eq!(started.err(), Some(SupervisorError::Start(timeout)));
    assert_eq!(address.status(), AddressStatus::Vacant);
    // The actor held it, and so did the spec that is forgotten.
    testing::eventually("nothing is left", async || Arc::strong_count(&alive) == 1).await;
    supervisor.stop().await;
}

#[tokio::test]
async fn c08_a_request_can_be_waited_for_again_and_a_death_is_an_error() {
    let address = Address::new();
    let spec = lenient("calls").child(counter(&address, &Notes::default()));
    with_tree(spec, async |_| {
        let (answer, when) = oneshot::channel();
        let mut request = address
            .request(|reply| Count::TotalWhen(when, reply))
            .expect("there is a place");
        assert_eq!(request.wait(Duration::ZERO).await, None);
        answer.send(()).expect("it waits for this");

        assert_eq!(request.wait(LONG).await, Some(Ok(0)));
        assert_eq!(request.wait(LONG).await, None, "it was handed out");

        let (_never, when) = oneshot::channel();
        let request = address
            .request(|reply| Count::TotalWhen(when, reply))
            .expect("there is a place");
        address.actor().expect("it runs").kill();
        assert_eq!(request.await, Err(Unanswered::Died(ExitReason::Killed)));
    })
    .await;
}

#[tokio::test]
async fn c08_requests_give_each_answer_once_with_its_label() {
    let addresses: Vec<Address<Count>> = (0..3).map(|_| Address::new()).collect();
    let children = addresses.iter().enumerate().map(|(n, address)| {
        let inner = lenient(&n.to_string()).child(counter(address, &Notes::default()));
        ChildSpec::supervisor(inner)
    });
    with_tree(lenient("calls").children(children), async |_| {
        let mut requests = Requests::new();
        assert_eq!(requests.next().await, None);
        let (answers, waits): (Vec<_>, Vec<_>) = (0..3).map(|_| oneshot::channel()).unzip();
        for (n, (address, when)) in addresses.iter().zip(waits).enumerate() {
            address.send(Count::Add(n as u64)).expect("sent");
            let request = address.request(|reply| Count::TotalWhen(when, reply));
            requests.add(n, request.expect("there is a place"));
        }
        assert_eq!(requests.next_within(Duration::from_millis(1)).await, None);
        assert_eq!(requests.len(), 3);

        let mut answers: Vec<_> = answers.into_iter().map(Some).collect();
        for n in [2, 0] {
            let answer = answers[n].take().expect("not yet used");
            answer.send(()).expect("it waits for this");
            assert_eq!(requests.next().await, Some((n, Ok(n as u64))));
        }
        addresses[1].actor().expect("it runs").kill();

        let killed = Unanswered::Died(ExitReason::Killed);
        assert_eq!(requests.next().await, Some((1, Err(killed))));
        assert!(requests.is_empty());
    })
    .await;
}

#[test]
fn a_request_to_nobody_is_none_that_nobody_waited_for() {
    let address = Address::<Count>::new();

    let request = address.request(Count::Total);

    assert_eq!(request.err(), Some(NotSent::Down));
    assert_eq!(address.expired(), 0);
}

#[tokio::test]
async fn a_request_that_is_dropped_gives_its_answer_up() {
    let address = Address::new();
    let spec = lenient("calls").child(counter(&address, &Notes::default()));
    with_tree(spec, async |_| {
        let (answer, when) = oneshot::channel();
        let request = address.request(|reply| Count::TotalWhen(when, reply));
        drop(request.expect("there is a place"));
        answer.send(()).expect("it waits for this");

        testing::eventually("it was skipped", async || address.expired() == 1).await;

        assert_eq!(address.late(), 0);
    })
    .await;
}

#[tokio::test]
async fn c09_what_follows_a_start_or_an_answer_runs_before_the_messages_that_wait() {
    let address = Address::new();
    let child = counter_that_casts(&address, &Notes::default(), Some(7));
    with_tree(lenient("calls").child(child), async |_| {
        let work = busy(&address).await;
        let answer = address.request(|reply| Count::AnswerThenAdd(reply, 1));
        let answer = answer.expect("there is a place");
        address.send(Count::Add(2)).expect("sent");
        drop(work);

        assert_eq!(answer.await, Ok(7));
        assert_eq!(address.call(Count::Total, LONG).await, Ok(10));
        let sys = address.sys();
        let added = sys.get_state(LONG, |book: &Book| book.added.clone());
        // After its start (0), what it had sent itself before (7), after its answer (1), what came later (2).
        assert_eq!(added.await.expect("seen"), [0, 7, 1, 2]);
    })
    .await;
}

#[tokio::test]
async fn c10_a_shutdown_makes_no_crash_report_and_a_crash_makes_one() {
    let address = Address::new();
    let child = counter(&address, &Notes::default()).restart(Restart::Transient);
    with_tree(lenient("calls").child(child), async |supervisor| {
        let mut reports = supervisor.reports().expect("it runs");
        let clean = [
            ExitReason::Normal,
            ExitReason::Shutdown(None),
            ExitReason::from_stop(Some("moved away")),
        ];
        for reason in &clean {
            let ended = address.stop(reason.clone(), LONG).await;
            assert_eq!(ended.as_ref(), Ok(reason));
            testing::eventually("it rests, and is started again", async || {
                supervisor.restart_child("counter").await.is_ok()
            })
            .await;
        }
        address.send(Count::Panic("boom")).expect("sent");

        // All there is until its fifth life.
        let mut ends = Vec::new();
        super::probe::report(&mut reports, |report| match &report.what {
            Lifecycle::Exited { reason, .. } => {
                ends.push(reason.clone());
                None
            }
            Lifecycle::Started { incarnation: 5 } => Some(()),
            _ => None,
        })
        .await;
        let crashes = ends.iter().filter(|reason| !reason.is_clean());
        assert_eq!((ends.len(), crashes.count()), (4, 1), "{ends:?}");
    })
    .await;
}

#[tokio::test]
async fn c11_a_stop_waits_ends_with_its_reason_and_runs_the_last_callback_once() {
    let (address, notes) = (Address::new(), Notes::default());
    with_tree(
        lenient("calls").child(counter(&address, &notes)),
        async |_| {
            let down = address.monitor();
            for n in 0..10 {
                address.send(Count::Add(n)).expect("sent");
            }
            let reason = ExitReason::Error("worn out".into());

            let ended = address.stop(reason.clone(), LONG).await;

            assert_eq!(ended, Ok(reason.clone()));
            assert_eq!(down.down().await.reason, reason);
            assert_eq!(notes.take(), ["post_stop"]);
        },
    )
    .await;
}

#[tokio::test]
async fn c11_a_stop_that_takes_too_long_says_so_and_still_happens() {
    let (address, notes) = (Address::new(), Notes::default());
    with_tree(
        lenient("calls").child(counter(&address, &notes)),
        async |_| {
            let work = busy(&address).await;
            let moment = Duration::from_millis(5);

            let ended = address.stop(ExitReason::Normal, moment).await;

            assert_eq!(ended, Err(Unanswered::Timeout(moment).into()));
            drop(work);
            testing::eventually("it has stopped", async || notes.take() == ["post_stop"]).await;
        },
    )
    .await;
    let vacant = Address::<Count>::new();
    let nobody = vacant.stop(ExitReason::Normal, LONG).await;
    assert_eq!(nobody, Err(NotSent::Down.into()));
}

#[tokio::test(start_paused = true)]
async fn a_timer_sends_when_it_is_due_unless_it_is_called_off() {
    let address = Address::new();
    let spec = lenient("calls").child(counter(&address, &Notes::default()));
    with_tree(spec, async |_| {
        let s = Duration::from_secs;
        let total = async || address.call(Count::Total, LONG).await.expect("answers");
        let kept = address.send_after(s(10), Count::Add(1));
        let called_off = address.send_after(s(10), Count::Add(10));
        drop(address.cast_after(s(10), Count::AddOne));
        address.send_after(s(10), Count::Add(100)).detach();
        tokio::time::advance(s(4)).await;
        assert_eq!(called_off.cancel(), Some(s(6)));
        assert_eq!(called_off.cancel(), None);
        assert_eq!(kept.time_left(), Some(s(6)));

        tokio::time::sleep(s(7)).await;

        assert_eq!(total().await, 101);
        assert_eq!((kept.cancel(), kept.time_left()), (None, None));
        let every = address.cast_every(s(1), Count::AddOne);
        tokio::time::sleep(Duration::from_millis(3500)).await;
        assert_eq!(total().await, 104);
        every.cancel();
        tokio::time::sleep(s(5)).await;
        assert_eq!(total().await, 104);
    })
    .await;
}

#[tokio::test]
async fn what_a_timer_casts_begins_a_trace_of_its_own_and_names_its_cause() {
    let address = Address::<Do>::new();
    let (sent, mut seen) = tokio::sync::mpsc::unbounded_channel();

    let timer = Context::new(7, 9).enter(|| {
        address.cast_after(Duration::ZERO, move |permit| {
            sent.send(permit.context()).expect("looked at");
            Do::Add(1)
        })
    });

    let context = seen.recv().await.expect("it is due");
    assert_eq!(context.cause, 9);
    assert!(context.trace != 0 && context.trace != 7);
    drop(timer);
}

/// What one call is to meet.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Answered,
    AnsweredElsewhere,
    Dropped,
    Crash,
    Late,
}

struct Judge(Arc<Mutex<Vec<u64>>>);

struct Case(u64, Fate, Reply<u64>);
underpin::otp::message!(Case);

impl Actor for Judge {
    type Msg = Case;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Case>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Case>,
        Case(id, fate, reply): Case,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        self.0.lock().expect("no panic").push(id);
        match fate {
            Fate::Answered => reply.send(id),
            Fate::AnsweredElsewhere => {
                tokio::spawn(async move { reply.send(id) });
            }
            Fate::Dropped => drop(reply),
            Fate::Crash => panic!("as told"),
            Fate::Late => {
                tokio::spawn(async move {
                    let mut reply = reply;
                    reply.closed().await;
                });
            }
        }
        Ok(())
    }
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(24))]

    /// Callers in a crowd at an address that is too small for them, with crashes and restarts between: each call has one outcome, which says
    /// the truth about whether its request ran, and none runs twice.
    #[test]
    fn each_call_has_one_outcome_that_is_true_and_none_is_sent_twice(
        fates in proptest::collection::vec(0_u8..12, 1..120),
        limit in 1_usize..5,
        wait in proptest::bool::ANY,
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(crowd(&fates, if wait { Admission::wait(limit) } else { Admission::refuse(limit) }));
    }
}

async fn crowd(fates: &[u8], admission: Admission) {
    let address = Address::with_admission(admission);
    let ran = Arc::new(Mutex::new(Vec::new()));
    let book = Arc::clone(&ran);
    let child = ChildSpec::actor("judge", &address, move |_| (Judge(Arc::clone(&book)), ()));
    with_tree(lenient("calls").child(child), async |_| {
        let callers: Vec<_> = (0..)
            .zip(fates)
            .map(|(id, fate)| {
                let fate = match fate {
                    0..=5 => Fate::Answered,
                    6..=7 => Fate::AnsweredElsewhere,
                    8..=9 => Fate::Dropped,
                    10 => Fate::Crash,
                    _ => Fate::Late,
                };
                let address = address.clone();
                tokio::spawn(async move {
                    let patience = match fate {
                        Fate::Late => Duration::from_millis(10),
                        _ => LONG,
                    };
                    let outcome = address.call(|reply| Case(id, fate, reply), patience).await;
                    (id, fate, outcome)
                })
            })
            .collect();
        for caller in callers {
            let (id, fate, outcome) = caller.await.expect("no panic");
            let runs = ran
                .lock()
                .expect("no panic")
                .iter()
                .filter(|other| **other == id)
                .count();
            match (&outcome, fate) {
                (Ok(answer), Fate::Answered | Fate::AnsweredElsewhere) => {
                    assert_eq!((*answer, runs), (id, 1));
                }
                (Err(CallError::NotSent(_)), _) => assert_eq!(runs, 0, "{fate:?}"),
                // A request that waits in the mailbox of an actor that crashes dies with it unseen.
                (Err(CallError::Unanswered(Unanswered::Died(_))), _) => assert!(runs <= 1),
                (Err(CallError::Unanswered(Unanswered::Dropped)), Fate::Dropped) => {
                    assert_eq!(runs, 1);
                }
                (Err(CallError::Unanswered(Unanswered::Timeout(_))), Fate::Late) => {
                    assert!(runs <= 1);
                }
                other => panic!("call {id} ran {runs} times and ended with {other:?}"),
            }
        }
    })
    .await;
    assert_eq!(address.status(), AddressStatus::Vacant);
    testing::eventually("all places are free", async || address.admitted() == 0).await;
}
