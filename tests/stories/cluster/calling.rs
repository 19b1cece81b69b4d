//! Services of other nodes.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use underpin::{
    cluster::{Part, RemoteAddress, RemoteDown, RemoteError, RemoteService},
    otp::{Address, Admission, ChildSpec, Intensity, Permit, Reply, Supervisor, SupervisorSpec},
    testing::{PATIENCE, eventually},
};

use super::support::{
    Ask, Count, Counter, CounterActor, SECOND, TestNode, Told, context, name, options, total,
    total_becomes, two_nodes,
};

fn remote(from: &TestNode, to: &str) -> RemoteAddress<Counter> {
    from.cluster.remote(&name(to))
}

#[tokio::test]
async fn a_service_of_another_node_answers() {
    let (a, b) = two_nodes().await;
    let counter = remote(&a, "b");

    assert_eq!(
        counter.call(&Ask::Add(7), PATIENCE).await,
        Ok(Told::Number(7))
    );
    assert_eq!(
        counter.call(&Ask::Total, PATIENCE).await,
        Ok(Told::Number(7))
    );
    assert_eq!(total(&b).await, 7);
    assert_eq!(total(&a).await, 0, "each node has its own");
}

#[tokio::test]
async fn casts_arrive_in_order_and_before_the_call_behind_them() {
    let (a, b) = two_nodes().await;
    let counter = remote(&a, "b");

    for n in 1..=100 {
        counter.cast(&Ask::Add(n)).await.expect("connected");
    }
    let sent = counter.cast_all(&vec![Ask::Add(1); 10_000]).await;

    assert_eq!(sent, Ok(10_000));
    assert_eq!(
        counter.call(&Ask::Total, PATIENCE).await,
        Ok(Told::Number(5050 + 10_000))
    );
    drop(b);
}

#[tokio::test]
async fn many_callers_at_once_each_have_their_own_answer() {
    let (a, b) = two_nodes().await;
    let calls = (0..200).map(|n| {
        let counter = remote(&a, "b");
        tokio::spawn(async move {
            let text = format!("number {n}");
            let answer = counter.call(&Ask::Echo(text.clone()), PATIENCE).await;
            assert_eq!(answer, Ok(Told::Text(text)));
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.expect("its own answer");
    }
    drop(b);
}

#[tokio::test]
async fn what_cannot_be_answered_is_said_and_whether_it_may_have_run() {
    let (a, b) = two_nodes().await;
    let counter = remote(&a, "b");
    let node = name("b");

    let nowhere = remote(&a, "nobody").call(&Ask::Total, PATIENCE).await;
    assert_eq!(
        nowhere,
        Err(RemoteError::NoConnection {
            node: name("nobody")
        })
    );

    b.cluster.withdraw::<Counter>();
    let gone = counter
        .call(&Ask::Total, PATIENCE)
        .await
        .expect_err("withdrawn");
    assert_eq!(
        gone,
        RemoteError::NoService {
            node: node.clone(),
            service: "counter".to_owned()
        }
    );
    assert!(!gone.may_have_run());
    b.cluster.serve::<Counter>(&b.counter);

    let waited = Duration::from_millis(50);
    let late = counter
        .call(&Ask::Never, waited)
        .await
        .expect_err("never answered");
    assert_eq!(
        late,
        RemoteError::Timeout {
            node: node.clone(),
            waited
        }
    );
    assert!(late.may_have_run());

    let refused = counter
        .call(&Ask::Change, PATIENCE)
        .await
        .expect_err("not allowed");
    assert!(matches!(refused, RemoteError::Refused { .. }) && !refused.may_have_run());

    let died = counter
        .call(&Ask::Panic, PATIENCE)
        .await
        .expect_err("it panics");
    assert!(
        matches!(&died, RemoteError::Unanswered { why, .. } if why.contains("as it was asked to")),
        "{died}"
    );
    assert!(died.may_have_run());
    assert_eq!(
        counter.call(&Ask::Total, PATIENCE).await,
        Ok(Told::Number(0)),
        "its successor answers"
    );
}

#[tokio::test]
async fn a_caller_that_gives_up_is_known_at_the_other_node() {
    let (a, b) = two_nodes().await;
    let counter = remote(&a, "b");

    let call = tokio::time::timeout(
        Duration::from_millis(50),
        counter.call(&Ask::Never, PATIENCE),
    );
    assert!(call.await.is_err());

    eventually("the service sees that nobody waits", async || {
        counter.call(&Ask::Abandoned, PATIENCE).await == Ok(Told::Number(1))
    })
    .await;
    drop(b);
}

#[tokio::test]
async fn a_message_above_the_limit_is_refused_and_the_connection_stays() {
    let a = TestNode::start("a", 1, options()).await;
    let b = TestNode::start("b", 2, options().join(a.address()).frame_bytes_max(100_000)).await;
    a.sees("b").await;
    b.sees("a").await;

    let long = remote(&a, "b")
        .call(&Ask::Echo("x".repeat(100_000)), PATIENCE)
        .await;
    assert!(
        matches!(
            long,
            Err(RemoteError::TooLarge {
                what: Part::Request,
                bytes: 100_000..,
                limit: ..=100_000
            })
        ),
        "{long:?}"
    );
    let long = remote(&b, "a")
        .call(&Ask::Long(100_000), PATIENCE)
        .await
        .expect_err("too long for b");
    assert!(
        matches!(
            long,
            RemoteError::TooLarge {
                what: Part::Answer,
                ..
            }
        ),
        "{long:?}"
    );
    assert!(long.may_have_run());

    let most = remote(&a, "b")
        .call(&Ask::Echo("x".repeat(99_000)), PATIENCE)
        .await;
    assert!(most.is_ok());
    assert_eq!(
        a.telemetry
            .snapshot()
            .counter("underpin_cluster_events", &[("event", "down")]),
        0
    );
}

#[tokio::test]
async fn a_lost_connection_is_told_to_whoever_waits() {
    let (a, b) = two_nodes().await;
    let counter = remote(&a, "b");
    let waiting = tokio::spawn({
        let counter = counter.clone();
        async move { counter.call(&Ask::Never, PATIENCE).await }
    });
    eventually("it is under way", async || {
        b.member("a").connection.is_some_and(|it| it.serving > 0)
    })
    .await;

    b.kill();

    assert_eq!(
        waiting.await.expect("no panic"),
        Err(RemoteError::Lost { node: name("b") })
    );
    let after = counter.call(&Ask::Total, PATIENCE).await;
    assert_eq!(after, Err(RemoteError::NoConnection { node: name("b") }));
}

#[tokio::test]
async fn a_correlation_goes_along_to_the_other_node() {
    let (a, b) = two_nodes().await;
    let counter = remote(&a, "b");

    let told = context(0xABC, 9)
        .scope(counter.call(&Ask::Context, PATIENCE))
        .await;

    assert_eq!(told, Ok(Told::Context(format!("{:032x}", 0xABC), 9)));
    drop(b);
}

#[tokio::test]
async fn a_monitor_tells_the_end_of_the_service_of_the_node_and_of_nobody() {
    let (a, b) = two_nodes().await;
    let counter = remote(&a, "b");

    let watching = counter.monitor();
    counter.cast(&Ask::Panic).await.expect("connected");
    let ended = watching.down().await;
    assert!(
        matches!(&ended, RemoteDown::Ended(why) if why.contains("as it was asked to")),
        "{ended:?}"
    );

    let nobody = a.cluster.remote::<Unserved>(&name("b")).monitor();
    assert_eq!(nobody.down().await, RemoteDown::NoService);
    assert_eq!(
        remote(&a, "nobody").monitor().down().await,
        RemoteDown::NoConnection
    );

    counter
        .call(&Ask::Total, PATIENCE)
        .await
        .expect("its successor answers");
    let watching = counter.monitor();
    b.kill();
    let told = watching.down().await;
    assert!(
        matches!(told, RemoteDown::NoConnection | RemoteDown::Ended(_)),
        "{told:?}"
    );
}

/// Nobody offers it.
struct Unserved;

#[derive(Serialize, Deserialize)]
struct Nothing;

impl RemoteService for Unserved {
    const NAME: &'static str = "unserved";
    type Request = Nothing;
    type Response = Nothing;
    type Message = Count;

    fn call(_: Nothing, _: Reply<Nothing>) -> Count {
        unreachable!("nobody asks")
    }
}

#[tokio::test]
async fn a_slow_node_makes_senders_wait_or_tells_them_that_it_is_full() {
    let a = TestNode::start("a", 1, options()).await;
    let b = TestNode::start("b", 2, options().join(a.address()).window_bytes(64 << 10)).await;
    a.sees("b").await;
    let counter = remote(&a, "b");
    b.counter.sys().suspend(PATIENCE).await.expect("it runs");

    let mut sent = 0;
    let full = loop {
        match counter.try_cast(&Ask::Add(1)) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(full, RemoteError::Full { node: name("b") });
    eventually("what may be on its way is", async || {
        counter.try_cast(&Ask::Add(1)).map(|()| sent += 1).is_err()
    })
    .await;
    let waiting = tokio::spawn({
        let counter = counter.clone();
        async move { counter.cast(&Ask::Add(1)).await }
    });
    let in_flight = a.member("b").connection.expect("connected").in_flight_bytes;
    assert!(in_flight <= (64 << 10) + 1024, "{in_flight}");

    b.counter.sys().resume();

    waiting
        .await
        .expect("no panic")
        .expect("there is room again");
    total_becomes(&b, sent + 1).await;
}

#[tokio::test]
async fn many_casts_fit_into_frames_of_any_limit_whatever_their_sizes() {
    let a = TestNode::start("a", 1, options()).await;
    let b = TestNode::start("b", 2, options().join(a.address()).frame_bytes_max(100_000)).await;
    a.sees("b").await;
    let counter = remote(&a, "b");

    // Each message counts 256 bytes beside its own: sixteen KiB of short ones count for far more than a frame may have.
    let short = counter.cast_all(&vec![Ask::Add(1); 5000]).await;
    assert_eq!(short, Ok(5000));

    let mut mixed = vec![Ask::Add(1); 100];
    mixed.push(Ask::Echo("x".repeat(99_000)));
    mixed.extend(vec![Ask::Add(1); 100]);
    mixed.push(Ask::Echo("x".repeat(60_000)));
    mixed.push(Ask::Echo("x".repeat(60_000)));
    assert_eq!(counter.cast_all(&mixed).await, Ok(203));

    total_becomes(&b, 5200).await;
}

/// A second service, at an address of its own.
struct Other;

impl RemoteService for Other {
    const NAME: &'static str = "other";
    type Request = Ask;
    type Response = Told;
    type Message = Count;

    fn call(request: Ask, reply: Reply<Told>) -> Count {
        Count::Call(request, reply)
    }

    fn cast(request: Ask, permit: Permit) -> Option<Count> {
        Some(Count::Cast(request, permit))
    }
}

#[tokio::test]
async fn a_service_that_is_stuck_keeps_nobody_from_another_one() {
    let a = TestNode::start("a", 1, options()).await;
    let b = TestNode::start("b", 2, options().join(a.address()).window_bytes(64 << 10)).await;
    a.sees("b").await;
    let address = Address::with_admission(Admission::wait(1));
    b.cluster.serve::<Other>(&address);
    let often = Intensity::new(1, SECOND);
    let spec =
        SupervisorSpec::new("more", often)
            .child(ChildSpec::actor("other", &address, |_| (CounterActor, ())));
    let more = Supervisor::start(spec).await.expect("starts");
    address.sys().suspend(PATIENCE).await.expect("it runs");
    let stuck = a.cluster.remote::<Other>(&name("b"));
    let mut sent = 0;
    eventually("the stuck one takes no more", async || {
        while stuck.try_cast(&Ask::Add(1)).is_ok() {
            sent += 1;
        }
        let connection = a.member("b").connection.expect("connected");
        connection.in_flight_bytes >= 32 << 10
    })
    .await;
    let waiting = tokio::spawn(async move { stuck.cast(&Ask::Add(1)).await });

    let counter = remote(&a, "b");
    for n in 1..=1000 {
        let cast = tokio::time::timeout(PATIENCE, counter.cast(&Ask::Add(1)));
        cast.await
            .expect("nobody is in its way")
            .expect("connected");
        if n % 100 == 0 {
            let told = counter.call(&Ask::Total, PATIENCE).await;
            assert_eq!(told, Ok(Told::Number(n)));
        }
    }

    assert!(sent < 300 && !waiting.is_finished(), "{sent}");
    waiting.abort();
    more.stop().await;
}

/// Whoever reads one of its requests panics.
struct Fragile;

#[derive(Serialize)]
struct Glass;

impl<'de> Deserialize<'de> for Glass {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("it breaks")
    }
}

impl RemoteService for Fragile {
    const NAME: &'static str = "fragile";
    type Request = Glass;
    type Response = u64;
    type Message = Count;

    fn call(_: Glass, _: Reply<u64>) -> Count {
        unreachable!("it cannot be read")
    }
}

#[tokio::test]
async fn a_request_whose_reading_panics_is_unanswered_and_others_under_way_go_on() {
    let (a, b) = two_nodes().await;
    b.cluster.serve::<Fragile>(&b.counter);
    let counter = remote(&a, "b");
    let waiting = tokio::spawn({
        let counter = counter.clone();
        async move { counter.call(&Ask::Never, PATIENCE).await }
    });
    eventually("it is under way", async || {
        b.member("a").connection.is_some_and(|it| it.serving > 0)
    })
    .await;

    let fragile = a.cluster.remote::<Fragile>(&name("b"));
    let broken = fragile.call(&Glass, PATIENCE).await.expect_err("it panics");

    assert!(
        matches!(&broken, RemoteError::Unanswered { why, .. } if why.contains("it breaks")),
        "{broken}"
    );
    assert_eq!(
        counter.call(&Ask::Add(1), PATIENCE).await,
        Ok(Told::Number(1))
    );
    assert!(!waiting.is_finished());
    waiting.abort();
}
