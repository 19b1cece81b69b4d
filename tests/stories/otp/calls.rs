use std::time::Duration;

use underpin::otp::{
    Address, AddressStatus, Admission, CallError, Context, ExitReason, NotSent, Supervisor,
    Unanswered,
};

use super::probe::{Do, LONG, Notes, incarnation, lenient, probe};

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
    let (_open, held) = tokio::sync::oneshot::channel();

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
    let (release, held) = tokio::sync::oneshot::channel();
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
