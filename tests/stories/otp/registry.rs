//! Names and their owners. What Elixir runs with one partition and with several, runs here so too.

use std::{
    collections::BTreeSet,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::{mpsc, oneshot};
use underpin::{
    otp::{
        Address, CheckError, Keys, Lease, Listening, Owner, RegisterError, Registered, Registry,
        RegistryEvent, Supervisor, UpdateError,
    },
    ractor,
    testing::{Life, eventually, with_tree},
};

use super::probe::{Do, LONG, Notes, Probe, lenient, probe};

type Names = Registry<&'static str, u32>;

/// The same with one partition and with eight.
fn each(keys: Keys) -> [Names; 2] {
    [1, 8].map(|partitions| {
        let partitions = NonZeroUsize::new(partitions).expect("not zero");
        Registry::with_partitions(format!("{partitions} partitions"), keys, partitions)
    })
}

async fn actor() -> ActorRef<Do> {
    let (actor, _) = Actor::spawn(None, Probe::default(), ())
        .await
        .expect("starts");
    actor
}

async fn empty(registry: &Names) {
    eventually("the tables are empty", async || {
        let stats = registry.stats();
        (stats.entries, stats.owners) == (0, 0)
    })
    .await;
}

#[tokio::test]
async fn e01_f120_a_unique_key_is_registered_once_also_by_its_owner() {
    for registry in each(Keys::Unique) {
        let (ann, bob) = (actor().await, actor().await);
        registry.register("name", &ann, 1).expect("is free");
        let before = registry.stats();

        for taker in [&bob, &ann] {
            let refused = registry.register("name", taker, 2).expect_err("is taken");
            assert_eq!(
                refused,
                RegisterError::AlreadyRegistered {
                    registry: registry.name().into(),
                    key: "\"name\"".into(),
                    owner: Owner::from(&ann),
                }
            );
        }

        let after = registry.stats();
        assert_eq!(
            (after.entries, after.owners),
            (before.entries, before.owners)
        );
        assert_eq!(after.refused, 2);
        assert_eq!(registry.find(&"name").expect("is there").value, 1);
        assert_eq!(registry.keys(&bob), [""; 0]);
    }
}

#[tokio::test]
async fn e02_the_entries_of_an_owner_go_with_it() {
    for keys in [Keys::Unique, Keys::Duplicate, Keys::DuplicateByKey] {
        for registry in each(keys) {
            let ann = actor().await;
            for name in ["a", "b", "c"] {
                registry.register(name, &ann, 0).expect("is free");
            }
            let mut names = registry.keys(&ann);
            names.sort_unstable();
            assert_eq!(names, ["a", "b", "c"]);

            ann.kill();

            empty(&registry).await;
            assert_eq!(registry.stats().expired, 3);
            assert_eq!(registry.count(), 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e04_f120_no_answer_names_an_owner_that_is_known_to_be_dead() {
    for registry in each(Keys::Unique) {
        for _ in 0..200 {
            let (ann, task) = Actor::spawn(None, Probe::default(), ())
                .await
                .expect("starts");
            registry.register("name", &ann, 0).expect("is free");
            ann.kill();
            task.await.expect("ends");

            // Nobody has cleaned up yet, or somebody is at it.
            assert_eq!(registry.whereis(&"name"), None);
            assert!(registry.lookup(&"name").is_empty());
            assert!(registry.entries().is_empty());
            assert!(registry.find(&"name").is_err());
            assert_eq!(registry.count(), 0);
            // And the name is free at once.
            let lease = Lease::new();
            registry.register("name", &lease, 1).expect("is taken over");
            assert_eq!(registry.whereis(&"name"), Some(Owner::from(&lease)));
        }
        empty(&registry).await;
    }
}

#[tokio::test]
async fn what_has_ended_cannot_own_anything_and_what_is_still_ending_keeps_its_name() {
    for registry in each(Keys::Unique) {
        let slow = Probe {
            slow_stop: Some(LONG),
            ..Probe::default()
        };
        let (ann, task) = Actor::spawn(None, slow, ()).await.expect("starts");
        registry.register("name", &ann, 0).expect("is free");

        ann.stop(None);
        eventually("it is ending", async || registry.whereis(&"name").is_none()).await;
        let lease = Lease::new();
        let refused = registry.register("name", &lease, 1);
        assert!(matches!(
            refused,
            Err(RegisterError::AlreadyRegistered { .. })
        ));
        ann.kill();
        task.await.expect("ends");

        let refused = registry.register("other", &ann, 1);
        assert!(matches!(refused, Err(RegisterError::OwnerEnded { .. })));
        registry.register("name", &lease, 1).expect("is free now");
    }
}

#[tokio::test]
async fn e05_e11_duplicates_count_one_by_one_and_go_key_by_key() {
    for keys in [Keys::Duplicate, Keys::DuplicateByKey] {
        for registry in each(keys) {
            let (ann, bob) = (actor().await, actor().await);
            assert_eq!(registry.unregister(&"a", &ann), 0);
            for (name, value) in [("a", 1), ("a", 2), ("b", 3)] {
                registry
                    .register(name, &ann, value)
                    .expect("any number may");
            }
            registry.register("a", &bob, 4).expect("any number may");
            assert_eq!(registry.count(), 4);
            assert_eq!(registry.keys(&ann).len(), 3);

            assert_eq!(registry.unregister(&"a", &ann), 2);

            assert_eq!(values(&registry.lookup(&"a")), [4].into());
            assert_eq!(values(&registry.lookup(&"b")), [3].into());
            assert_eq!(registry.unregister(&"b", &ann), 1);
            assert_eq!(registry.unregister(&"b", &ann), 0);
            // Only the other is still watched.
            assert_eq!(registry.stats().owners, 1);
            registry.unregister(&"a", &bob);
            assert_eq!(registry.stats().owners, 0);
        }
    }
}

fn values(found: &[Registered<u32>]) -> BTreeSet<u32> {
    found.iter().map(|entry| entry.value).collect()
}

#[tokio::test]
async fn e06_only_the_owner_changes_a_value_and_only_where_it_is_one() {
    for registry in each(Keys::Unique) {
        let (ann, bob) = (actor().await, actor().await);
        registry.register("name", &ann, 1).expect("is free");

        assert_eq!(
            registry.update_value(&"name", &ann, |value| value + 1),
            Ok((2, 1))
        );

        let foreign = registry.update_value(&"name", &bob, |_| 9);
        assert!(
            matches!(foreign, Err(UpdateError::NotOwner { owner, .. }) if owner == (&ann).into())
        );
        let missing = registry.update_value(&"other", &ann, |_| 9);
        assert!(matches!(missing, Err(UpdateError::NotRegistered(_))));
        assert_eq!(registry.find(&"name").expect("is there").value, 2);
    }
    for registry in each(Keys::Duplicate) {
        let ann = actor().await;
        registry.register("name", &ann, 1).expect("any number may");
        let refused = registry.update_value(&"name", &ann, |_| 9);
        assert!(matches!(refused, Err(UpdateError::NotUnique { .. })));
    }
}

#[tokio::test]
async fn e07_dispatch_gets_all_entries_of_a_key_and_is_not_called_for_none() {
    for keys in [Keys::Unique, Keys::Duplicate, Keys::DuplicateByKey] {
        for registry in each(keys) {
            let (ann, bob) = (actor().await, actor().await);
            registry.register("a", &ann, 1).expect("is free");
            if keys != Keys::Unique {
                registry.register("a", &bob, 2).expect("any number may");
            }
            registry.register("b", &bob, 3).expect("is free");
            registry.dispatch(&"c", |_| panic!("there is nothing"));

            let mut got = Vec::new();
            registry.dispatch(&"a", |found| got.push(values(found)));

            let all: BTreeSet<u32> = if keys == Keys::Unique {
                [1].into()
            } else {
                [1, 2].into()
            };
            assert_eq!(got, [all]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e08_parallel_dispatch_runs_in_tasks_where_there_are_several_partitions() {
    for (registry, partitions) in each(Keys::Duplicate).into_iter().zip([1, 8]) {
        let leases: Vec<_> = (0..64).map(|_| Lease::new()).collect();
        for (lease, value) in leases.iter().zip(0..) {
            registry
                .register("a", lease, value)
                .expect("any number may");
        }
        let calls = Arc::new(Mutex::new(Vec::new()));
        let note = {
            let calls = Arc::clone(&calls);
            move |found: &[Registered<u32>]| {
                let here = tokio::task::try_id();
                calls.lock().expect("no panic").push((here, values(found)));
            }
        };
        let here = tokio::task::try_id();

        registry.dispatch_parallel(&"a", note).await;

        let calls = std::mem::take(&mut *calls.lock().expect("no panic"));
        let all: BTreeSet<u32> = calls.iter().flat_map(|(_, got)| got.clone()).collect();
        assert_eq!(all, (0..64).collect());
        if partitions == 1 {
            assert_eq!(calls.len(), 1);
            assert_eq!(calls[0].0, here);
        } else {
            assert!(calls.len() > 1, "64 owners are in one of 8 partitions");
            assert!(calls.iter().all(|(task, _)| *task != here));
        }
        // A panic in one of them goes on to the caller, as it does from a plain one.
        let dispatcher = registry.clone();
        let failing = tokio::spawn(async move {
            let boom = |_: &[Registered<u32>]| panic!("boom");
            dispatcher.dispatch_parallel(&"a", boom).await;
        });
        assert!(failing.await.expect_err("panics").is_panic());
    }
}

#[tokio::test]
async fn e09_c07_s17_a_child_is_started_under_a_name_and_called_by_it_and_no_second_is() {
    let registry: Registry<&str, Address<Do>> = Registry::new("services", Keys::Unique);
    let (address, notes) = (Address::new(), Notes::default());
    let named = |id| probe(id, &address, &notes).registered(&registry, "adder", address.clone());

    with_tree(lenient("shop").child(named("first")), async |shop| {
        let adder = registry.find(&"adder").expect("has started");
        adder.value.send(Do::Add(2)).expect("lives");
        assert_eq!(adder.value.call(Do::Total, LONG).await, Ok(2));
        assert_eq!(adder.owner.to_string(), "shop/first (life 1)");

        let other = Address::new();
        let second = probe("second", &other, &notes);
        let refused = shop
            .start_child(second.registered(&registry, "adder", other.clone()))
            .await;

        let words = refused.expect_err("is taken").to_string();
        assert!(
            words.contains("\"adder\" is registered in services by shop/first (life 1) already"),
            "{words}"
        );
        assert_eq!(notes.take(), ["start first"]);
    })
    .await;

    assert!(registry.whereis(&"adder").is_none());
}

#[tokio::test]
async fn a_named_child_has_its_name_in_each_of_its_lives_and_one_that_does_not_start_has_none() {
    let registry: Registry<&str, Address<Do>> = Registry::new("services", Keys::Unique);
    let (address, notes) = (Address::new(), Notes::default());
    let child = probe("a", &address, &notes).registered(&registry, "adder", address.clone());
    with_tree(lenient("shop").child(child), async |shop| {
        let mut listener = registry.listen();

        Life::of(shop, "a").kill().restarted().await;

        let ended = listener.next().await;
        assert!(matches!(
            ended,
            RegistryEvent::Unregistered { ended: true, .. }
        ));
        let owner = registry.whereis(&"adder").expect("is there again");
        assert_eq!(owner.to_string(), "shop/a (life 2)");
        let started = listener.next().await;
        assert!(matches!(started, RegistryEvent::Registered { owner: new, .. } if new == owner));
    })
    .await;

    let broken = underpin::otp::ChildSpec::actor("b", &address, |_| super::probe::broken("no"));
    let broken = broken.registered(&registry, "adder", address.clone());
    let failed = Supervisor::start(lenient("shop").child(broken)).await;
    assert!(failed.is_err());
    assert_eq!(registry.stats().entries, 0);
}

#[tokio::test]
async fn e10_a_listener_hears_of_registrations_and_their_end_also_by_a_crash() {
    for registry in each(Keys::Unique) {
        let mut listener = registry.listen();
        let ann = actor().await;
        registry.register("a", &ann, 1).expect("is free");
        registry.register("b", &ann, 2).expect("is free");
        registry.unregister(&"a", &ann);
        ann.kill();

        let owner = || Owner::from(&ann);
        let registered = |key, value| RegistryEvent::Registered {
            key,
            owner: owner(),
            value,
        };
        let unregistered = |key, ended| RegistryEvent::Unregistered {
            key,
            owner: owner(),
            ended,
        };
        assert_eq!(listener.next().await, registered("a", 1));
        assert_eq!(listener.next().await, registered("b", 2));
        assert_eq!(listener.next().await, unregistered("a", false));
        assert_eq!(listener.next().await, unregistered("b", true));
        assert_eq!(listener.try_next(), None);
        drop(listener);
        assert_eq!(registry.listeners(), 0);
    }
}

#[tokio::test]
async fn a_takeover_is_told_before_the_new_registration() {
    for registry in each(Keys::Unique) {
        let (ann, bob) = (Lease::new(), Lease::new());
        let mut listener = registry.listen();
        registry.register("a", &ann, 1).expect("is free");
        let gone = Owner::from(&ann);
        drop(ann);
        registry.register("a", &bob, 2).expect("is free");

        assert!(matches!(
            listener.next().await,
            RegistryEvent::Registered { value: 1, .. }
        ));
        let ended = RegistryEvent::Unregistered {
            key: "a",
            owner: gone,
            ended: true,
        };
        assert_eq!(listener.next().await, ended);
        assert!(matches!(
            listener.next().await,
            RegistryEvent::Registered { value: 2, .. }
        ));
    }
}

#[tokio::test]
async fn a_listener_that_is_not_read_is_told_how_much_it_missed() {
    let [registry, _] = each(Keys::Unique);
    let ann = Lease::new();
    let mut listener = registry.listen();

    for _ in 0..600 {
        registry.register("a", &ann, 1).expect("is free");
        registry.unregister(&"a", &ann);
    }

    assert_eq!(listener.next().await, RegistryEvent::Missed { count: 1200 });
    assert_eq!(listener.try_next(), None);
}

/// Tells on what it hears, for as long as its state lives.
struct Watcher(mpsc::UnboundedSender<RegistryEvent<&'static str, u32>>);

struct Heard(RegistryEvent<&'static str, u32>);
underpin::otp::message!(Heard);

impl From<RegistryEvent<&'static str, u32>> for Heard {
    fn from(event: RegistryEvent<&'static str, u32>) -> Self {
        Self(event)
    }
}

impl Actor for Watcher {
    type Msg = Heard;
    type State = Listening<&'static str, u32>;
    type Arguments = Names;

    async fn pre_start(
        &self,
        me: ActorRef<Heard>,
        registry: Names,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(registry.forward_to(&me))
    }

    async fn handle(
        &self,
        _: ActorRef<Heard>,
        Heard(event): Heard,
        _: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let _ = self.0.send(event);
        Ok(())
    }
}

#[tokio::test]
async fn an_actor_can_listen_and_is_forgotten_when_it_ends() {
    let [registry, _] = each(Keys::Unique);
    let (tell, mut told) = mpsc::unbounded_channel();
    let (watcher, task) = Actor::spawn(None, Watcher(tell), registry.clone())
        .await
        .expect("starts");
    let ann = Lease::new();

    registry.register("a", &ann, 1).expect("is free");

    assert!(matches!(
        told.recv().await,
        Some(RegistryEvent::Registered { key: "a", .. })
    ));
    assert_eq!(registry.listeners(), 1);
    watcher.stop(None);
    task.await.expect("ends");
    assert_eq!(registry.listeners(), 0);
}

#[tokio::test]
async fn e13_a_lock_excludes_by_key_in_turn_and_is_free_again_whatever_happens() {
    for registry in each(Keys::Unique) {
        let held = registry.lock(&"a").await;
        // Another key is free.
        drop(registry.lock(&"b").await);
        let order = Arc::new(Mutex::new(Vec::new()));
        let waiter = |n: u32| {
            let (registry, order) = (registry.clone(), Arc::clone(&order));
            async move {
                let _lock = registry.lock(&"a").await;
                order.lock().expect("no panic while it is held").push(n);
                assert!(n != 2, "two panics while it holds the lock");
                if n == 3 {
                    // Holds it until it is cancelled.
                    std::future::pending::<()>().await;
                }
            }
        };
        let mut waiting = Vec::new();
        for n in 0..5 {
            waiting.push(tokio::spawn(waiter(n)));
            // In turn, so that they wait in this order.
            tokio::task::yield_now().await;
        }
        // One gives up before it is its turn.
        waiting[1].abort();
        tokio::task::yield_now().await;
        assert!(order.lock().expect("no panic").is_empty());

        drop(held);

        eventually("three has it", async || {
            order.lock().expect("no panic").last() == Some(&3)
        })
        .await;
        waiting[3].abort();
        eventually("four had it", async || {
            order.lock().expect("no panic").last() == Some(&4)
        })
        .await;
        assert_eq!(*order.lock().expect("no panic"), [0, 2, 3, 4]);
        eventually("nothing is left", async || registry.locked() == 0).await;
    }
}

#[tokio::test]
async fn f120_two_registries_are_two_namespaces_whatever_their_names() {
    let (one, other) = (
        Names::new("services", Keys::Unique),
        Names::new("services", Keys::Unique),
    );
    let ann = Lease::new();

    one.register("config", &ann, 1).expect("is free");

    assert!(other.whereis(&"config").is_none());
    assert!(other.entries().is_empty());
    other.register("config", &ann, 2).expect("is free there");
    assert_eq!(one.unregister(&"config", &ann), 1);
    assert_eq!(one.unregister(&"config", &ann), 0);
    assert_eq!(other.find(&"config").expect("is there").value, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f121_of_many_who_want_a_name_at_once_exactly_one_gets_it() {
    for registry in each(Keys::Unique) {
        for _ in 0..300 {
            let barrier = Arc::new(tokio::sync::Barrier::new(4));
            let racers = (0..4_u32).map(|n| {
                let (registry, barrier) = (registry.clone(), Arc::clone(&barrier));
                tokio::spawn(async move {
                    let lease = Lease::new();
                    barrier.wait().await;
                    let won = registry.register("name", &lease, n).is_ok();
                    // All hold theirs until all have tried.
                    barrier.wait().await;
                    won
                })
            });
            let mut winners = 0;
            for racer in racers.collect::<Vec<_>>() {
                winners += u32::from(racer.await.expect("no panic"));
            }
            assert_eq!(winners, 1);
        }
        empty(&registry).await;
    }
}

#[tokio::test]
async fn f122_a_name_cannot_be_taken_from_a_living_owner() {
    let registry: Registry<&str, Address<Do>> = Registry::new("services", Keys::Unique);
    let (address, notes) = (Address::new(), Notes::default());
    let server = probe("config", &address, &notes);
    let server = server.registered(&registry, "config_server", address.clone());

    with_tree(lenient("node").child(server), async |_| {
        let thief = Lease::new();
        let fake = Address::new();

        let taken = registry.register("config_server", &thief, fake.clone());
        assert!(taken.is_err());
        assert_eq!(registry.unregister(&"config_server", &thief), 0);
        let changed = registry.update_value(&"config_server", &thief, |_| fake.clone());
        assert!(matches!(changed, Err(UpdateError::NotOwner { .. })));

        let found = registry.find(&"config_server").expect("is there");
        assert_eq!(found.owner.to_string(), "node/config (life 1)");
        assert_eq!(found.value.call(Do::Total, LONG).await, Ok(0));
    })
    .await;
}

#[tokio::test]
async fn f123_what_is_not_there_is_said_with_names_and_all_is_counted() {
    let [registry, _] = each(Keys::Unique);
    let ann = Lease::new();

    let missing = registry.find(&"till").expect_err("is not there");
    registry.register("till", &ann, 1).expect("is free");
    registry.find(&"till").expect("is there");
    let _ = registry.register("till", &ann, 2);
    registry.unregister(&"till", &ann);

    assert_eq!(&*missing.registry, "1 partitions");
    assert_eq!(missing.key, "\"till\"");
    assert_eq!(
        missing.to_string(),
        "nobody has registered \"till\" in 1 partitions; start its owner, or wait for it"
    );
    let stats = registry.stats();
    assert_eq!((stats.lookups, stats.registered), (2, 1));
    assert_eq!((stats.refused, stats.unregistered), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn f124_a_health_check_tells_what_is_wrong() {
    let [registry, _] = each(Keys::Unique);
    let ann = Lease::new();
    registry.register("till", &ann, 7).expect("is free");
    let limit = Duration::from_millis(50);

    let well = registry
        .health_check(&"till", limit, async |till| match till.value {
            7 => Ok(()),
            _ => Err("no seven"),
        })
        .await;
    assert_eq!(well.map(|till| till.value), Ok(7));

    let failed = registry
        .health_check(&"till", limit, async |_| Err("out of paper"))
        .await;
    assert!(matches!(
        failed,
        Err(CheckError::Failed {
            error: "out of paper",
            ..
        })
    ));

    let slow = registry
        .health_check(&"till", limit, async |_| {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok::<_, ()>(())
        })
        .await;
    assert!(matches!(slow, Err(CheckError::Timeout { limit: passed, .. }) if passed == limit));

    let panicked = registry
        .health_check(&"till", limit, async |_| -> Result<(), ()> {
            panic!("boom")
        })
        .await;
    assert!(matches!(panicked, Err(CheckError::Panicked { words, .. }) if words == "panic: boom"));

    let missing = registry
        .health_check(&"door", limit, async |_| Ok::<_, ()>(()))
        .await;
    assert!(matches!(missing, Err(CheckError::NotRegistered(_))));

    let (go, going) = oneshot::channel();
    let checked = registry.health_check(&"till", limit, async |_| {
        let _ = go.send(());
        std::future::pending::<Result<(), ()>>().await
    });
    let ends = async {
        going.await.expect("it is being checked");
        drop(ann);
    };
    let (ended, ()) = tokio::join!(checked, ends);
    assert!(matches!(ended, Err(CheckError::Ended { .. })));
}

#[tokio::test(start_paused = true)]
async fn f124_a_service_is_waited_for_until_it_comes_and_no_longer_than_wanted() {
    for registry in each(Keys::Unique) {
        let later = {
            let registry = registry.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                let lease = Lease::new();
                registry.register("till", &lease, 7).expect("is free");
                lease
            })
        };
        let begin = tokio::time::Instant::now();

        let till = registry.wait_for(&"till", Duration::from_secs(5)).await;

        assert_eq!(till.expect("came").value, 7);
        assert!((50..55).contains(&begin.elapsed().as_millis()));
        let _held = later.await.expect("no panic");
        let never = registry.wait_for(&"door", Duration::from_millis(100)).await;
        assert!((150..155).contains(&begin.elapsed().as_millis()));
        let words = never.expect_err("never comes").to_string();
        assert!(words.contains("within 100ms"), "{words}");
    }
}

#[tokio::test(start_paused = true)]
async fn f125_the_end_of_a_namespace_leaves_the_others_alone() {
    let (test, production) = (
        Registry::new("test", Keys::Unique),
        Registry::new("production", Keys::Unique),
    );
    let notes = Notes::default();
    let tree = |registry: &Registry<&'static str, Address<Do>>| {
        ["a", "b", "c"]
            .into_iter()
            .fold(lenient("tree"), |tree, id| {
                let address = Address::new();
                let child = probe(id, &address, &notes);
                tree.child(child.registered(registry, id, address.clone()))
            })
    };
    let kept = Supervisor::start(tree(&production)).await.expect("starts");
    let cleaned = Supervisor::start(tree(&test)).await.expect("starts");
    assert_eq!((test.count(), production.count()), (3, 3));
    let begin = tokio::time::Instant::now();

    let report = cleaned.stop().await;

    assert!(report.is_graceful());
    assert!(begin.elapsed() < Duration::from_millis(350));
    assert_eq!((test.count(), production.count()), (0, 3));
    for (_, service) in production.entries() {
        assert_eq!(service.value.call(Do::Total, LONG).await, Ok(0));
    }
    kept.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn look_ups_in_a_tumult_of_names_never_see_the_dead_and_nothing_is_left() {
    for registry in each(Keys::Unique) {
        let seen = Arc::new(AtomicUsize::new(0));
        let owners = (0..4).map(|n| {
            let (registry, seen) = (registry.clone(), Arc::clone(&seen));
            tokio::spawn(async move {
                let names = ["a", "b", "c", "d"];
                for round in 0..200 {
                    let lease = Lease::new();
                    let name = names[(n + round) % names.len()];
                    let _ = registry.register(name, &lease, 0);
                    if let Some(owner) = registry.whereis(&names[round % names.len()]) {
                        seen.fetch_add(1, Ordering::Relaxed);
                        drop(owner);
                    }
                    if round % 3 == 0 {
                        registry.unregister(&name, &lease);
                    }
                    let gone = Owner::from(&lease);
                    drop(lease);
                    assert_ne!(registry.whereis(&name), Some(gone));
                    tokio::task::yield_now().await;
                }
            })
        });
        for owner in owners.collect::<Vec<_>>() {
            owner.await.expect("no panic");
        }
        empty(&registry).await;
        assert!(seen.load(Ordering::Relaxed) > 0);
    }
}
