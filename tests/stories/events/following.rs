//! Subscriptions.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::sync::Notify;
use underpin::{
    events::{
        Bookmark, Credit, Durability, Event, Events, Options, Order, Query, QueryError,
        SimulatedDisk, Start, StoreError, Subscription,
    },
    ids::EventId,
    otp::{
        Address, Admission, ChildSpec, Groups, Intensity, Permit, Shutdown, StopKind, Supervisor,
        SupervisorSpec,
    },
    ractor::{Actor, ActorProcessingErr, ActorRef},
};

use super::support::{Store, event, id, kill, on, steps, until};

async fn follow(store: &Store, filter: Query, start: Start) -> Subscription {
    store
        .events
        .subscribe(filter, start)
        .await
        .expect("subscribed")
}

/// The next `count` ids.
async fn pull(subscription: &mut Subscription, count: usize) -> Vec<u64> {
    let mut ids = Vec::new();
    for _ in 0..count {
        let next = tokio::time::timeout(Duration::from_secs(20), subscription.next());
        ids.push(next.await.expect("it comes").expect("readable").id().get());
    }
    ids
}

/// Small segments, and nothing stays in memory.
fn cold() -> Options {
    Options {
        hot_bytes: 0,
        segment_bytes: 16 << 10,
        ..Options::default()
    }
}

#[tokio::test]
async fn a_subscription_begins_now_after_an_event_or_with_the_first() {
    for store in [Store::durable().await, Store::memory().await] {
        store.events.store_batch(steps(5)).await.expect("stored");
        let mut now = follow(&store, Query::new(), Start::Now).await;
        let mut after = follow(&store, Query::new(), Start::After(id(3))).await;
        let mut all = follow(&store, Query::new(), Start::Beginning).await;

        store
            .events
            .store(event(6, "step", 6))
            .await
            .expect("stored");

        assert_eq!(pull(&mut now, 1).await, [6]);
        assert_eq!(pull(&mut after, 3).await, [4, 5, 6]);
        assert_eq!(pull(&mut all, 6).await, [1, 2, 3, 4, 5, 6]);
    }
}

#[tokio::test]
async fn a_subscription_waits_for_what_is_not_there_yet() {
    let store = Store::durable().await;
    let mut following = follow(&store, Query::new().kind("wanted"), Start::Beginning).await;
    let waiting = tokio::spawn(async move { pull(&mut following, 2).await });

    for number in 1..=20 {
        let kind = if number % 10 == 0 { "wanted" } else { "other" };
        store
            .events
            .store(event(number, kind, 1))
            .await
            .expect("stored");
    }

    assert_eq!(waiting.await.expect("no panic"), [10, 20]);
}

/// The order is that in which the events were stored, whatever their times and ids.
#[tokio::test]
async fn events_come_in_the_order_in_which_they_were_stored() {
    let store = Store::durable().await;
    let mut following = follow(&store, Query::new(), Start::Now).await;
    for (number, time) in [(7, 3), (2, 9), (5, 1)] {
        store
            .events
            .store(event(number, "step", time))
            .await
            .expect("stored");
    }

    assert_eq!(pull(&mut following, 3).await, [7, 2, 5]);
}

#[tokio::test]
async fn a_slow_consumer_reads_from_storage_and_the_writer_never_waits_for_it() {
    let store = Store::with(cold()).await;
    let mut slow = follow(&store, Query::new(), Start::Now).await;

    // Nobody pulls while all of this is stored.
    for batch in steps(3000).chunks(100) {
        store
            .events
            .store_batch(batch.to_vec())
            .await
            .expect("stored");
    }

    let stats = store.events.stats();
    assert!(
        stats.hot_bytes < stats.log_bytes / 2 && stats.segments > 3,
        "{stats:?}"
    );
    assert_eq!(pull(&mut slow, 3000).await, (1..=3000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_subscription_outlives_the_death_of_the_store() {
    let store = Store::with(cold()).await;
    let mut following = follow(&store, Query::new(), Start::Beginning).await;
    let mut pulled = Vec::new();
    for round in 0..6_u64 {
        for number in 1..=50 {
            let event = event(round * 50 + number, "step", 1);
            store.events.store(event).await.expect("stored");
        }
        pulled.extend(pull(&mut following, 30).await);
        kill(&store).await;
    }
    pulled.extend(pull(&mut following, 120).await);

    assert_eq!(pulled, (1..=300).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_bookmark_leads_on_also_when_its_event_was_pruned() {
    let store = Store::with(cold()).await;
    store.events.store_batch(steps(200)).await.expect("stored");
    let mut first = follow(&store, Query::new(), Start::Beginning).await;
    assert_eq!(first.bookmark().id(), None);
    pull(&mut first, 50).await;
    let bookmark = first.bookmark().to_string();

    store
        .events
        .prune_before(underpin::events::Timestamp::from_nanos(100))
        .await
        .expect("pruned");
    let store = store.reopen().await;

    let start = Start::At(bookmark.parse().expect("our own form"));
    let mut second = follow(&store, Query::new(), start).await;
    assert_eq!(
        pull(&mut second, 101).await,
        (100..=200).collect::<Vec<_>>()
    );
    let gone = store
        .events
        .subscribe(Query::new(), Start::After(id(50)))
        .await;
    assert!(matches!(gone, Err(StoreError::Unknown { id: gone }) if gone == id(50)));
    for text in ["1.2", "1.x.2.3", "1.2.3", "1.2.3.4.5", "-1.2.3.4"] {
        assert!(text.parse::<Bookmark>().is_err(), "{text}");
    }
}

/// Small writes that are not synced before the power goes.
fn unsynced() -> Options {
    Options {
        durability: Durability::Interval(Duration::from_hours(1)),
        ..Options::default()
    }
}

/// What was stored after a power cut, in the rows of events that were lost and had been pulled, was never shown to whoever went on at a
/// bookmark: neither at once nor when the log had grown beyond it.
#[tokio::test]
async fn a_bookmark_of_what_a_power_cut_took_leads_to_all_that_came_instead() {
    let mut lost_some = 0;
    for (seed, late) in (0..6).flat_map(|seed| [(seed, false), (seed, true)]) {
        let disk = SimulatedDisk::new(seed);
        let (events, supervisor) = on(Arc::new(disk.clone()), unsynced()).await;
        events.store_batch(steps(50)).await.expect("stored");
        supervisor.stop().await;
        let (events, supervisor) = on(Arc::new(disk.clone()), unsynced()).await;
        for number in 51..=100 {
            let event = event(number, "step", 1);
            events.store(event).await.expect("written");
        }
        let all = events.subscribe(Query::new(), Start::Beginning).await;
        let mut following = all.expect("subscribed");
        assert_eq!(pull(&mut following, 100).await.len(), 100);
        let bookmark = following.bookmark();

        disk.cut_power_after(1);
        supervisor.stop().await;
        disk.restore_power();
        let (events, _supervisor) = on(Arc::new(disk.clone()), unsynced()).await;
        let left = events.stats().events;
        lost_some += usize::from(left < 100);
        let new: Vec<_> = (1001..=1080).map(|n| event(n, "step", 1)).collect();
        if late {
            events.store_batch(new.clone()).await.expect("stored");
        }
        let start = Start::At(bookmark);
        let again = events.subscribe(Query::new(), start).await;
        let mut again = again.expect("subscribed");
        if !late {
            events.store_batch(new).await.expect("stored");
        }

        let pulled = pull(&mut again, 80).await;
        assert_eq!(pulled, (1001..=1080).collect::<Vec<_>>(), "{left} left");
    }
    assert!(lost_some > 0, "the power cuts took nothing");
}

/// The same where the rows were written before the store was opened once more: then nobody knows from where on, and the segment comes whole.
#[tokio::test]
async fn a_bookmark_of_what_was_lost_two_openings_ago_leaves_nothing_out() {
    let mut lost_some = 0;
    for seed in 0..6 {
        let disk = SimulatedDisk::new(seed);
        let (events, supervisor) = on(Arc::new(disk.clone()), unsynced()).await;
        for number in 1..=100 {
            let event = event(number, "step", 1);
            events.store(event).await.expect("written");
        }
        let all = events.subscribe(Query::new(), Start::Beginning).await;
        let mut following = all.expect("subscribed");
        assert_eq!(pull(&mut following, 100).await.len(), 100);
        let bookmark = following.bookmark();
        disk.cut_power_after(1);
        supervisor.stop().await;
        disk.restore_power();
        let (events, supervisor) = on(Arc::new(disk.clone()), unsynced()).await;
        let is_lost = events.get(id(100)).await.expect("readable").is_none();
        lost_some += usize::from(is_lost);
        let new: Vec<_> = (1001..=1200).map(|n| event(n, "step", 1)).collect();
        events.store_batch(new).await.expect("stored");
        supervisor.stop().await;

        let (events, _supervisor) = on(Arc::new(disk.clone()), unsynced()).await;
        let again = events.subscribe(Query::new(), Start::At(bookmark)).await;
        let Ok(mut again) = again else {
            // The log itself had not reached the disk.
            assert!(is_lost);
            continue;
        };
        let mut pulled = pull(&mut again, 200).await;
        while pulled.last() != Some(&1200) {
            pulled.extend(pull(&mut again, 1).await);
        }
        let new: Vec<_> = pulled.into_iter().filter(|id| *id > 1000).collect();
        assert_eq!(new, (1001..=1200).collect::<Vec<_>>());
    }
    assert!(lost_some > 0, "the power cuts took nothing");
}

/// A store in memory began anew, and whoever went on at an old place was shown nothing until the new log had grown beyond it.
#[tokio::test]
async fn a_bookmark_of_another_log_is_refused_and_one_of_an_empty_log_is_its_beginning() {
    for options in [Options::memory(), Options::default()] {
        let first = Store::with(options.clone()).await;
        let empty = follow(&first, Query::new(), Start::Now).await.bookmark();
        first.events.store_batch(steps(5)).await.expect("stored");
        let mut following = follow(&first, Query::new(), Start::Beginning).await;
        pull(&mut following, 3).await;

        let other = Store::with(options).await;
        other.events.store_batch(steps(2)).await.expect("stored");
        let at = async |store: &Store, bookmark: Bookmark| {
            store
                .events
                .subscribe(Query::new(), Start::At(bookmark))
                .await
        };

        let refused = at(&other, following.bookmark()).await;
        assert!(matches!(refused, Err(StoreError::OtherLog)), "{refused:?}");
        // The first row of a later segment is not the beginning of every log.
        let later: Bookmark = "0.00000000000000ff.7.0".parse().expect("our own form");
        let refused = at(&other, later).await;
        assert!(matches!(refused, Err(StoreError::OtherLog)), "{refused:?}");
        let mut begins = at(&other, empty)
            .await
            .expect("it stands before everything");
        assert_eq!(pull(&mut begins, 2).await, [1, 2]);
        let mut goes_on = at(&first, following.bookmark()).await.expect("its own");
        assert_eq!(pull(&mut goes_on, 2).await, [4, 5]);
    }
}

#[tokio::test]
async fn what_a_subscription_cannot_honour_is_refused() {
    let store = Store::memory().await;
    for query in [
        Query::new().order(Order::NewestFirst),
        Query::new().limit(5),
        Query::new().skip(5),
        Query::new().after("time:1:1".parse().expect("a cursor")),
    ] {
        let refused = store.events.subscribe(query, Start::Now).await;
        assert!(matches!(
            refused,
            Err(StoreError::Query(QueryError::NotAFilter))
        ));
    }
}

#[tokio::test]
async fn a_dropped_wait_loses_nothing() {
    let store = Store::durable().await;
    let mut following = follow(&store, Query::new(), Start::Beginning).await;
    let mut pulled = Vec::new();
    for number in 1..=100 {
        // Asked for and given up, at whatever point it has reached.
        let _ = tokio::time::timeout(Duration::ZERO, following.next())
            .await
            .map(|event| {
                pulled.push(event.expect("readable").id().get());
            });
        store
            .events
            .store(event(number, "step", 1))
            .await
            .expect("stored");
    }
    pulled.extend(pull(&mut following, 100 - pulled.len()).await);

    assert_eq!(pulled, (1..=100).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_stream_gives_events_as_they_are_pulled() {
    let store = Store::memory().await;
    store.events.store_batch(steps(300)).await.expect("stored");
    let following = follow(&store, Query::new(), Start::Beginning).await;

    let ids: Vec<_> = following
        .into_stream()
        .take(300)
        .map(|event| event.expect("readable").id().get())
        .collect()
        .await;

    assert_eq!(ids, (1..=300).collect::<Vec<_>>());
}

/// Whoever waited in a segment of which blocks were lost, with its index, was shown none of the rows that moved up to where it had been.
#[tokio::test]
async fn rows_that_move_up_where_a_block_was_lost_are_shown_to_whoever_waits_behind_them() {
    let options = Options {
        hot_bytes: 0,
        cache_bytes: 0,
        segment_bytes: 128 << 10,
        ..Options::default()
    };
    for has_pulled in [false, true] {
        let store = Store::with(options.clone()).await;
        let put = async |ids: std::ops::RangeInclusive<u64>| {
            let batch = ids.map(|number| event(number, "common", 1)).collect();
            store.events.store_batch(batch).await.expect("stored");
        };
        let put_rare = async |number| {
            let stored = store.events.store(event(number, "rare", 1)).await;
            stored.expect("stored");
        };
        let mut rare = follow(&store, Query::new().kind("rare"), Start::Beginning).await;
        put(1..=600).await;
        if has_pulled {
            put_rare(601).await;
            assert_eq!(pull(&mut rare, 1).await, [601]);
        }
        put(602..=1000).await;
        // It reads on to the end, and waits there.
        tokio::time::pause();
        let waits = tokio::time::timeout(Duration::from_secs(1), rare.next()).await;
        tokio::time::resume();
        assert!(waits.is_err(), "there is none yet: {waits:?}");
        put_rare(1001).await;
        put(1002..=4000).await;
        put_rare(4001).await;
        until("it is sealed", || store.events.stats().sealed > 0).await;

        for (ending, step) in [("blocks", 1 << 20), ("index", 64)] {
            let file = &store.files(ending)[0];
            let mut bytes = std::fs::read(file).expect("readable");
            for byte in bytes.iter_mut().skip(200).step_by(step) {
                *byte ^= 1;
            }
            std::fs::write(file, bytes).expect("writable");
        }
        let all = store.events.stats().events;
        let asked = store.events.count(Query::new().kind("common")).await;
        assert!(matches!(asked, Err(StoreError::Index(_))), "{asked:?}");
        until("it is opened anew", || store.events.stats().events < all).await;

        assert_eq!(pull(&mut rare, 2).await, [1001, 4001]);
    }
}

/// Producers, pruning and subscribers that begin at any time, all at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn subscribing_while_events_are_stored_and_pruned_loses_nothing_that_stays() {
    const EACH: u64 = 300;
    const PRODUCERS: u64 = 4;
    let store = Store::with(cold()).await;
    // Both kinds: what goes is pruned while it is read.
    let early = follow(&store, Query::new(), Start::Beginning).await;

    let mut tasks = Vec::new();
    for producer in 0..PRODUCERS {
        let events = store.events.clone();
        tasks.push(tokio::spawn(async move {
            for number in 1..=EACH {
                let kept = event(producer * EACH + number, "stays", 1_000_000);
                let pruned = event(1_000_000 + producer * EACH + number, "goes", 1);
                events
                    .store_batch(vec![kept, pruned])
                    .await
                    .expect("stored");
            }
        }));
    }
    let pruning = tokio::spawn(prune_on_and_on(store.events.clone()));
    let mut subscribers = vec![tokio::spawn(all_of(early))];
    for _ in 0..8 {
        let late = follow(&store, Query::new(), Start::Beginning).await;
        subscribers.push(tokio::spawn(all_of(late)));
        tokio::task::yield_now().await;
    }

    for task in tasks {
        task.await.expect("no panic");
    }
    let mut orders = BTreeSet::new();
    for subscriber in subscribers {
        let order = subscriber.await.expect("no panic");
        let distinct: BTreeSet<_> = order.iter().copied().collect();
        assert_eq!((order.len(), distinct.len()), (1200, 1200));
        orders.insert(order);
    }
    assert_eq!(orders.len(), 1, "everybody saw the same order");
    assert_eq!(
        store.events.stats().unreadable,
        0,
        "what was pruned is no damage"
    );
    pruning.abort();
}

/// Those that stay, in the order in which they came; some of those that go may be among them.
async fn all_of(mut subscription: Subscription) -> Vec<u64> {
    let mut stay = Vec::new();
    while stay.len() < 1200 {
        let next = pull(&mut subscription, 1).await;
        stay.extend(next.into_iter().filter(|id| *id <= 1_000_000));
    }
    stay
}

async fn prune_on_and_on(events: Events) {
    loop {
        let before = underpin::events::Timestamp::from_nanos(2);
        events.prune_before(before).await.expect("pruned");
        tokio::task::yield_now().await;
    }
}

/// Remembers what it was told; waits in each message until it is let on; dies of `poison`.
struct Listener {
    told: Arc<Mutex<Vec<EventId>>>,
    go: Arc<Notify>,
    waits: bool,
}

/// What says that a message was handled when it is dropped.
#[expect(dead_code, reason = "they are there to be dropped")]
enum Done {
    Permit(Permit),
    Credit(Credit),
}

struct Told(Event, Done);
underpin::otp::message!(Told);

fn told(event: Event, permit: Permit) -> Told {
    Told(event, Done::Permit(permit))
}

impl Actor for Listener {
    type Msg = Told;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Told>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Told>,
        told: Told,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let Told(event, done) = told;
        if self.waits {
            self.go.notified().await;
        }
        self.told.lock().push(event.id());
        if event.kind() == "poison" {
            return Err("poisoned".into());
        }
        drop(done);
        Ok(())
    }
}

struct Fed {
    address: Address<Told>,
    told: Arc<Mutex<Vec<EventId>>>,
    go: Arc<Notify>,
    _supervisor: Supervisor,
}

async fn listener(waits: bool) -> Fed {
    let address = Address::with_admission(Admission::wait(4));
    let (told, go) = (
        Arc::<Mutex<Vec<EventId>>>::default(),
        Arc::new(Notify::new()),
    );
    let (memory, gate) = (told.clone(), go.clone());
    let child = ChildSpec::actor("listener", &address, move |_| {
        let (told, go) = (memory.clone(), gate.clone());
        (Listener { told, go, waits }, ())
    });
    let spec = SupervisorSpec::new("listeners", Intensity::new(100, Duration::from_secs(1)));
    let supervisor = Supervisor::start(spec.child(child))
        .await
        .expect("it starts");
    Fed {
        address,
        told,
        go,
        _supervisor: supervisor,
    }
}

fn feed(mut subscription: Subscription, to: &Address<Told>) -> tokio::task::JoinHandle<StoreError> {
    let to = to.clone();
    tokio::spawn(async move { subscription.feed(&to, told).await })
}

#[tokio::test]
async fn an_actor_is_told_as_fast_as_it_takes_and_no_faster() {
    let store = Store::memory().await;
    store.events.store_batch(steps(100)).await.expect("stored");
    let fed = listener(true).await;
    let feeding = feed(
        follow(&store, Query::new(), Start::Beginning).await,
        &fed.address,
    );

    super::support::until("the address is full", || fed.address.admitted() == 4).await;
    assert_eq!(fed.told.lock().len(), 0);
    for number in 1..=100 {
        fed.go.notify_one();
        super::support::until("it is told", || fed.told.lock().len() == number).await;
        assert!(fed.address.admitted() <= 4);
    }

    assert_eq!(*fed.told.lock(), (1..=100).map(id).collect::<Vec<_>>());
    feeding.abort();
}

/// The event that waited for a place was lost, and the bookmark stood behind it.
#[tokio::test]
async fn a_feed_that_is_dropped_loses_nothing() {
    let store = Store::memory().await;
    store.events.store_batch(steps(20)).await.expect("stored");
    let fed = listener(true).await;
    let mut following = follow(&store, Query::new(), Start::Beginning).await;

    {
        let feeding = following.feed(&fed.address, told);
        let mut feeding = std::pin::pin!(feeding);
        let full = super::support::until("it is full", || fed.address.admitted() == 4);
        tokio::select! {
            error = &mut feeding => panic!("{error}"),
            () = full => {}
        }
    }
    let sent = following.bookmark().id().map_or(0, EventId::get);
    assert!(sent <= 4, "{sent}");
    let feeding = feed(following, &fed.address);
    for number in 1..=20 {
        fed.go.notify_one();
        super::support::until("it is told", || fed.told.lock().len() == number).await;
    }

    assert_eq!(*fed.told.lock(), (1..=20).map(id).collect::<Vec<_>>());
    feeding.abort();
}

#[tokio::test]
async fn an_actor_that_is_restarted_is_told_on() {
    let store = Store::memory().await;
    let fed = listener(false).await;
    let feeding = feed(follow(&store, Query::new(), Start::Now).await, &fed.address);

    store
        .events
        .store(event(1, "poison", 1))
        .await
        .expect("stored");
    super::support::until("it died", || fed.told.lock().len() == 1).await;
    store
        .events
        .store(event(2, "step", 1))
        .await
        .expect("stored");

    super::support::until("it is told", || fed.told.lock().contains(&id(2))).await;
    assert_eq!(*fed.told.lock(), [id(1), id(2)]);
    feeding.abort();
}

/// A child that is to end is told at once that nobody is there: a feed that is such a child asks again, and must not do so without a
/// pause.
#[tokio::test]
async fn a_feed_that_is_to_end_while_nobody_is_there_asks_now_and_then() {
    const OFTEN: usize = 1000;
    let store = Store::memory().await;
    store.events.store_batch(steps(1)).await.expect("stored");
    let following = follow(&store, Query::new(), Start::Beginning).await;
    let (following, asked) = (Mutex::new(Some(following)), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&asked);
    let feed = ChildSpec::task("feed", move |_| {
        let (following, asked) = (following.lock().take(), Arc::clone(&counted));
        async move {
            let mut following = following.expect("it is not restarted");
            let told = |event, permit| {
                assert!(asked.fetch_add(1, Ordering::SeqCst) < OFTEN, "too often");
                told(event, permit)
            };
            Err(following.feed(&Address::new(), told).await.into())
        }
    });
    let feed = feed.shutdown(Shutdown::Timeout(Duration::from_millis(100)));
    let spec = SupervisorSpec::new("feeding", Intensity::new(0, Duration::from_secs(1)));
    let supervisor = Supervisor::start(spec.child(feed)).await.expect("starts");
    super::support::until("it asks", || asked.load(Ordering::SeqCst) > 0).await;

    let stopped = supervisor.stop().await;

    assert_eq!(stopped.children[0].how, StopKind::Killed, "{stopped:?}");
}

#[tokio::test]
async fn a_group_is_told_as_fast_as_its_slowest_member_takes() {
    let store = Store::memory().await;
    store.events.store_batch(steps(50)).await.expect("stored");
    let groups = Groups::new("events");
    let group = groups.group::<Told>("listeners");
    let (quick, slow) = (listener(false).await, listener(true).await);
    for member in [&quick, &slow] {
        group.join_address(&member.address).expect("joined");
    }
    let mut following = follow(&store, Query::new(), Start::Beginning).await;
    let ahead = std::num::NonZeroU32::new(3).expect("not 0");
    let feeding = tokio::spawn(async move {
        let message = |event, credit| Told(event, Done::Credit(credit));
        following.feed_group(&group, ahead, message).await
    });

    super::support::until("three are under way", || quick.told.lock().len() == 3).await;
    for number in 1..=50 {
        slow.go.notify_one();
        super::support::until("it is told", || slow.told.lock().len() == number).await;
        assert!(quick.told.lock().len() <= number + 3);
    }

    super::support::until("all is told", || quick.told.lock().len() == 50).await;
    assert_eq!(*slow.told.lock(), (1..=50).map(id).collect::<Vec<_>>());
    feeding.abort();
}
