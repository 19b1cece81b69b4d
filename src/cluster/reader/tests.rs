use futures_util::{FutureExt, future};

use super::{work::WATCHES_MAX, *};
use crate::{
    cluster::{
        ClusterOptions, Cookie, figures::Figures, gateway::Incoming, gateway::Route,
        groups::SharedGroups, handshake::tests::about, state::Linked,
    },
    otp::{Address, Groups, Monitor},
    telemetry::{Options, Telemetry},
};

pub(in crate::cluster) fn shared() -> Arc<Shared> {
    let cookie = Cookie::new("a cookie of some length").expect("long enough");
    let telemetry = Telemetry::new(Options::default());
    let groups = SharedGroups::new(Groups::new("a"), 4 << 20);
    let options = ClusterOptions::new(cookie);
    Shared::new(
        options,
        about("a", 1, 1),
        None,
        groups,
        Figures::new(&telemetry),
    )
}

pub(in crate::cluster) fn link(shared: &Shared, number: u64) -> Arc<Link> {
    let linked = Linked {
        number,
        ours: true,
        serial: number,
    };
    Link::new(about("b", 2, 1), linked, shared.clock, 1 << 20)
}

fn call(tag: u64, service: &str) -> Frame<'_> {
    Frame::Call {
        tag,
        timeout_ms: 1000,
        context: Carried::default(),
        service,
        payload: &[],
    }
}

/// What waits to be written, frame by frame.
async fn written(link: &Link, mut look: impl FnMut(Frame<'_>)) {
    let mut bytes = Vec::new();
    if link.outbox.backlog() > 0 {
        assert!(link.outbox.next(&mut bytes).await);
    }
    let mut rest = &bytes[..];
    while let Some((body, taken)) = next_frame(rest, usize::MAX).expect("short") {
        look(Frame::read(body).expect("a frame"));
        rest = &rest[taken..];
    }
}

/// Answers nobody, or panics.
struct Odd {
    panics: bool,
    address: Address<Never>,
}

enum Never {}
crate::otp::message!(Never);

impl Route for Odd {
    fn call(&self, _: Incoming<'_>, _: Duration) -> BoxFuture<'static, Result<Vec<u8>, Failure>> {
        assert!(!self.panics, "as planned");
        future::pending().boxed()
    }

    fn cast(&self, _: Incoming<'_>) -> Option<BoxFuture<'static, ()>> {
        if self.panics {
            return Some(async { panic!("as planned") }.boxed());
        }
        Some(future::pending().boxed())
    }

    fn monitor(&self) -> Option<Monitor> {
        Some(self.address.monitor())
    }
}

fn odd(panics: bool) -> Arc<dyn Route> {
    Arc::new(Odd {
        panics,
        address: Address::new(),
    })
}

#[tokio::test(start_paused = true)]
async fn a_number_that_is_in_use_is_no_number_for_another_call_or_watch() {
    let shared = shared();
    shared.gateway.add("slow", odd(false));
    let link = link(&shared, 1);
    let mut reader = Reader::new(&shared, &link);
    let watch = Frame::Watch {
        reference: 1,
        service: "slow",
    };

    assert_eq!(reader.take(call(1, "slow")), Ok(()));
    assert_eq!(reader.take(watch.clone()), Ok(()));

    assert!(reader.take(call(1, "slow")).is_err());
    assert!(reader.take(watch).is_err());
    assert_eq!(reader.under_way.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_members_hold_of_a_node_counts_also_when_its_connection_is_another_one() {
    let shared = shared();
    let options = &shared.options;
    let lane = Lane::group("slow");
    let cost = u64::from(options.window) + 2 * u64::from(options.frame_bytes_max) + 1;
    let before = link(&shared, 1);
    let hoarded = Reader::new(&shared, &before)
        .dealt
        .hold(Charge { lane, cost });
    let now = link(&shared, 1);
    let mut reader = Reader::new(&shared, &now);
    let publish = |reader: &mut Reader<'_>| {
        let frame = Frame::Publish {
            context: Carried::default(),
            group: "slow",
            payload: &[],
        };
        assert_eq!(reader.take(frame), Ok(()));
        shared.figures.let_go.value()
    };

    assert_eq!(publish(&mut reader), 1);
    drop(hoarded);
    assert_eq!(publish(&mut reader), 1);
}

#[test]
fn more_casts_in_a_frame_than_any_node_sends_are_a_fault() {
    let shared = shared();
    let link = link(&shared, 1);
    let mut reader = Reader::new(&shared, &link);
    let casts = |count| {
        let mut payloads = Vec::new();
        for _ in 0..count {
            payloads.extend(0_u32.to_le_bytes());
        }
        payloads
    };
    let fault = |reader: &mut Reader<'_>, payloads: &[u8]| {
        let payloads = Payloads::read(payloads).expect("whole");
        reader
            .casts(Carried::default(), "nobody", payloads)
            .is_err()
    };

    assert!(!fault(&mut reader, &casts(CASTS_MAX)));
    assert!(fault(&mut reader, &casts(CASTS_MAX + 1)));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_watches_too_much_is_told_so() {
    let shared = shared();
    shared.gateway.add("slow", odd(false));
    let link = link(&shared, 1);
    let mut reader = Reader::new(&shared, &link);
    for reference in 0..=WATCHES_MAX as u64 {
        let watch = Frame::Watch {
            reference,
            service: "slow",
        };
        assert_eq!(reader.take(watch), Ok(()));
    }

    let mut told = Vec::new();
    written(&link, |frame| {
        if let Frame::Gone {
            reference, code, ..
        } = frame
        {
            told.push((reference, code));
        }
    })
    .await;

    assert_eq!(told, [(WATCHES_MAX as u64, Gone::full().code)]);
}

#[tokio::test(start_paused = true)]
async fn after_its_farewell_a_peer_says_nothing_more() {
    let shared = shared();
    let link = link(&shared, 1);
    let mut reader = Reader::new(&shared, &link);
    let mut bytes = Vec::new();
    Frame::Leave.put(&mut bytes);
    Frame::Ping { sent: 1 }.put(&mut bytes);

    assert_eq!(reader.take_frames(&bytes), Ok(bytes.len()));

    assert_eq!(link.outbox.backlog(), 0, "the ping is not answered");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_panics_is_an_answer_and_gives_its_credit_back() {
    let shared = shared();
    shared.gateway.add("odd", odd(true));
    let link = link(&shared, 1);
    let mut reader = Reader::new(&shared, &link);
    // As much as is worth telling of.
    let payload = vec![0; 1 << 20];
    let cast = Frame::Cast {
        context: Carried::default(),
        service: "odd",
        payload: &payload,
    };

    assert_eq!(reader.take(call(7, "odd")), Ok(()));
    assert_eq!(reader.take(cast), Ok(()));

    let (mut answers, mut granted) = (Vec::new(), Vec::new());
    written(&link, |frame| match frame {
        Frame::Failed { tag, text, .. } => answers.push((tag, text.to_owned())),
        Frame::Credit { lane, bytes } => granted.push((lane, u64::from(bytes))),
        _ => {}
    })
    .await;
    let both = cost(payload.len()) + cost(0);
    assert_eq!(granted, [(Lane::service("odd"), both)]);
    assert!(
        matches!(&answers[..], [(7, words)] if words.contains("as planned")),
        "{answers:?}"
    );
    assert!(reader.under_way.is_empty() && reader.calls.is_empty());
}

/// Takes as many as it has places for; the others wait until there is one.
struct Narrow(Arc<tokio::sync::Semaphore>);

impl Route for Narrow {
    fn call(&self, _: Incoming<'_>, _: Duration) -> BoxFuture<'static, Result<Vec<u8>, Failure>> {
        future::pending().boxed()
    }

    fn cast(&self, _: Incoming<'_>) -> Option<BoxFuture<'static, ()>> {
        if let Ok(permit) = self.0.try_acquire() {
            permit.forget();
            return None;
        }
        let places = Arc::clone(&self.0);
        Some(async move { places.acquire().await.expect("open").forget() }.boxed())
    }

    fn monitor(&self) -> Option<Monitor> {
        None
    }
}

/// The reader read on while a service had no place: all that it read waited, at several times the cost.
#[tokio::test(start_paused = true)]
async fn a_service_gets_its_turns_before_more_is_read_for_it_and_one_that_is_stuck_stops_nobody() {
    let shared = shared();
    let places = Arc::new(tokio::sync::Semaphore::new(TURN));
    shared
        .gateway
        .add("narrow", Arc::new(Narrow(Arc::clone(&places))));
    let link = link(&shared, 1);
    let mut reader = Reader::new(&shared, &link);
    let many = |count| (0..count).map(|_| &[][..]);
    let charge = |count| Charge {
        lane: Lane::service("narrow"),
        cost: count * cost(0),
    };

    assert_eq!(reader.turns(), 0);
    reader.cast(
        Carried::default(),
        "narrow",
        many(TURN),
        charge(TURN as u64),
    );
    assert_eq!((reader.turns(), reader.turns()), (1, 0));

    reader.cast(Carried::default(), "narrow", many(2), charge(2));
    // Those that go on waiting slow nobody else.
    assert_eq!((reader.turns(), reader.turns()), (TURNS_MAX, 0));
    reader.cast(Carried::default(), "narrow", many(1), charge(1));
    let (near, mut far) = tokio::io::duplex(64 << 10);
    let mut bytes = Vec::new();
    Frame::Ping { sent: 1 }.put(&mut bytes);
    tokio::io::AsyncWriteExt::write_all(&mut far, &bytes)
        .await
        .expect("open");
    drop(far);
    assert_eq!(reader.run(Box::new(near)).await, LostWhy::Closed);
    assert!(link.outbox.backlog() > 0, "the ping was answered");

    places.add_permits(3);
    while let Some(done) = reader.under_way.next().await {
        reader.done(done);
    }
    assert_eq!(reader.turns(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_tells_and_tells_has_one_message_in_the_mailbox() {
    let shared = shared();
    let link = link(&shared, 1);
    let peer = |n: u16| crate::cluster::frame::Peer {
        name: about(&format!("n{n}"), 3, 1).name,
        address: "b.example:1".to_owned(),
        id: about("b", 3, 1).id,
        incarnation: 1,
    };

    assert!(link.tells(vec![peer(1)]));
    for n in 0..2000 {
        assert!(!link.tells(vec![peer(n)]));
    }

    assert_eq!(link.take_told().len(), crate::cluster::state::NODES_MAX);
    assert!(link.tells(vec![peer(1)]));
}
