//! Finding and following while events are stored and pruned and the store is killed.

use std::{collections::BTreeSet, num::NonZeroU32, sync::Arc, time::Duration};

use futures_util::TryStreamExt as _;
use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use underpin::{
    events::{
        Credit, Durability, Event, Events, Options, Order, Query, Start, Subscription, Timestamp,
    },
    otp::{Address, ChildSpec, Groups, Intensity, Supervisor, SupervisorSpec},
};

use super::support::{Store, event, id, kill, steps, supervise, until};

/// Sealed soon, and read from the disk.
fn cold() -> Options {
    Options {
        hot_bytes: 0,
        segment_bytes: 4096,
        ..Options::default()
    }
}

/// Stores an event, also while the store is killed.
async fn store(events: &Events, event: Event) {
    while events.store(event.clone()).await.is_err() {
        tokio::task::yield_now().await;
    }
}

/// Stores events all over the order and prunes the earliest of them, on and on.
async fn come_and_go(events: Events) {
    for number in (10_000..).step_by(2) {
        let nanos = i64::try_from(number % 7000).expect("small");
        let nanos = if number % 4 == 0 {
            nanos
        } else {
            100_000 + nanos
        };
        store(&events, event(number, "passing", nanos)).await;
        if number % 40 == 0 {
            let _ = events.prune_before(Timestamp::from_nanos(50_000)).await;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cursors_and_streams_find_what_stays_once_while_all_else_comes_and_goes() {
    let store = Store::with(cold()).await;
    let stays = |number: u64| {
        let nanos = 100_000 + i64::try_from(number).expect("small") * 10;
        event(1000 + number * 2, "stays", nanos)
    };
    let batch = (0..500).map(stays).collect();
    store.events.store_batch(batch).await.expect("stored");
    let passing = tokio::spawn(come_and_go(store.events.clone()));

    for order in Order::ALL {
        let mut query = Query::new().order(order).limit(37);
        let (mut found, mut pages) = (Vec::new(), 0);
        loop {
            let page = store.events.query(query.clone()).await.expect("answered");
            assert_eq!(page.unreadable, []);
            found.extend(page.events);
            pages += 1;
            if pages == 5 {
                kill(&store).await;
            }
            let Some(next) = page.next else {
                break;
            };
            let next = next.to_string().parse().expect("our own form");
            query = query.after(next);
        }
        let stayed: Vec<_> = found
            .iter()
            .filter(|event| event.kind() == "stays")
            .collect();
        let ids: BTreeSet<_> = stayed.iter().map(|event| event.id()).collect();
        assert_eq!((stayed.len(), ids.len()), (500, 500), "{order}");
        let key = |event: &Event| match order {
            Order::OldestFirst | Order::NewestFirst => (event.time().as_nanos(), event.id()),
            Order::IdAscending | Order::IdDescending => (0, event.id()),
        };
        let descends = matches!(order, Order::NewestFirst | Order::IdDescending);
        let in_order = |pair: &[Event]| (key(&pair[0]) < key(&pair[1])) != descends;
        assert!(found.windows(2).all(in_order), "{order}");

        let streamed = store.events.stream(Query::new().kind("stays").order(order));
        let streamed: Vec<Event> = streamed.try_collect().await.expect("readable");
        assert_eq!(streamed.len(), 500, "{order}");
    }
    passing.abort();
}

/// Pulls until the last one; now and then it lets its subscription go and begins another one where it was.
async fn follow_to_the_last(events: Events, lets_go: bool) -> Vec<u64> {
    let mut subscription = events
        .subscribe(Query::new(), Start::Beginning)
        .await
        .expect("subscribed");
    let mut pulled = Vec::new();
    loop {
        let event = pull(&mut subscription).await;
        if event.kind() == "last" {
            return pulled;
        }
        pulled.push(event.id().get());
        if lets_go && pulled.len().is_multiple_of(50) {
            let bookmark = subscription.bookmark().to_string();
            let start = Start::At(bookmark.parse().expect("our own form"));
            let again = events.subscribe(Query::new(), start).await;
            subscription = again.expect("subscribed");
        }
    }
}

async fn pull(subscription: &mut Subscription) -> Event {
    let next = tokio::time::timeout(Duration::from_secs(30), subscription.next()).await;
    next.expect("it comes").expect("readable")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_who_follow_see_every_event_once_and_in_one_order_while_the_store_is_killed() {
    let soon = Durability::Interval(Duration::from_millis(5));
    for durability in [Durability::Always, soon, Durability::Memory] {
        let options = Options {
            durability,
            ..cold()
        };
        let options = match durability {
            Durability::Memory => Options::memory(),
            _ => options,
        };
        let stage = Store::with(options).await;
        let followers: Vec<_> = [false, true, true]
            .map(|lets_go| tokio::spawn(follow_to_the_last(stage.events.clone(), lets_go)))
            .into();
        let writers = (0..4_u64).map(|writer| {
            let events = stage.events.clone();
            tokio::spawn(async move {
                for number in 0..100 {
                    store(&events, event(1 + writer + number * 4, "step", 1)).await;
                }
            })
        });
        let writers: Vec<_> = writers.collect();

        for stored in [50, 150, 300] {
            until("some are stored", || stage.events.stats().stored >= stored).await;
            kill(&stage).await;
        }
        for writer in writers {
            writer.await.expect("it wrote");
        }
        store(&stage.events, event(9999, "last", 1)).await;

        let mut orders = Vec::new();
        for follower in followers {
            orders.push(follower.await.expect("it came to the last"));
        }
        let all: BTreeSet<u64> = orders[0].iter().copied().collect();
        assert_eq!((orders[0].len(), all.len()), (400, 400), "{durability:?}");
        assert!(
            orders.iter().all(|order| *order == orders[0]),
            "{durability:?}"
        );
    }
}

#[tokio::test]
async fn a_subscription_waits_while_its_store_is_stopped_and_goes_on_when_that_is_started_again() {
    let stage = Store::durable().await;
    let mut subscription = stage
        .events
        .subscribe(Query::new(), Start::Now)
        .await
        .expect("subscribed");
    stage.supervisor.stop().await;

    let waiting = tokio::spawn(async move { pull(&mut subscription).await.id() });
    let later = stage.events.subscribe(Query::new(), Start::Now).await;
    let mut later = later.expect("what was stored can be read");
    let _again = supervise(&stage.events).await;
    store(&stage.events, event(1, "step", 1)).await;

    assert_eq!(waiting.await.expect("it was told"), id(1));
    assert_eq!(pull(&mut later).await.id(), id(1));
}

/// Keeps what it is told, and what it would give back, until it ends.
struct Hoarder {
    told: Arc<Mutex<Vec<u64>>>,
    keeps: bool,
}

struct Told(Event, Credit);
underpin::otp::message!(Told);

impl Actor for Hoarder {
    type Msg = Told;
    type State = Vec<Credit>;
    type Arguments = ();

    async fn pre_start(
        &self,
        _: ActorRef<Told>,
        (): (),
    ) -> Result<Vec<Credit>, ActorProcessingErr> {
        Ok(Vec::new())
    }

    async fn handle(
        &self,
        _: ActorRef<Told>,
        Told(event, credit): Told,
        kept: &mut Vec<Credit>,
    ) -> Result<(), ActorProcessingErr> {
        if self.keeps {
            kept.push(credit);
        }
        self.told.lock().push(event.id().get());
        Ok(())
    }
}

async fn member(keeps: bool) -> (Address<Told>, Arc<Mutex<Vec<u64>>>, Supervisor) {
    let (address, told) = (Address::new(), Arc::<Mutex<Vec<u64>>>::default());
    let memory = Arc::clone(&told);
    let child = ChildSpec::actor("member", &address, move |_| {
        let told = Arc::clone(&memory);
        (Hoarder { told, keeps }, ())
    });
    let spec = SupervisorSpec::new("members", Intensity::new(9, Duration::from_secs(1)));
    let supervisor = Supervisor::start(spec.child(child)).await.expect("starts");
    (address, told, supervisor)
}

#[tokio::test]
async fn a_group_is_told_on_when_a_member_ends_with_what_it_owes_and_when_the_store_is_killed() {
    let stage = Store::durable().await;
    stage.events.store_batch(steps(50)).await.expect("stored");
    let groups = Groups::new("racing");
    let group = groups.group::<Told>("members");
    let (willing, told, _willing) = member(false).await;
    let (hoarding, owing, hoarder) = member(true).await;
    for address in [&willing, &hoarding] {
        group.join_address(address).expect("joined");
    }
    let following = stage.events.subscribe(Query::new(), Start::Beginning).await;
    let (mut following, fed) = (following.expect("subscribed"), group.clone());
    let three = NonZeroU32::new(3).expect("not 0");
    let feeding = tokio::spawn(async move { following.feed_group(&fed, three, Told).await });

    until("three are owed", || {
        owing.lock().len() == 3 && told.lock().len() == 3
    })
    .await;
    hoarder.stop().await;
    until("the others are told", || told.lock().len() == 50).await;
    assert_eq!(*told.lock(), (1..=50).collect::<Vec<_>>());
    assert_eq!(*owing.lock(), [1, 2, 3]);

    let (late, heard, _late) = member(false).await;
    group.join_address(&late).expect("joined");
    kill(&stage).await;
    store(&stage.events, event(60, "step", 1)).await;
    until("both are told", || {
        told.lock().len() == 51 && heard.lock().len() == 1
    })
    .await;
    assert_eq!(*heard.lock(), [60]);
    feeding.abort();
}
