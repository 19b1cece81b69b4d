//! What users of the test kit can rely on.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use tokio::sync::Notify;
use underpin::{
    events::Query,
    ids::{CorrelationId, IdGenerator, NodeId},
    node::Node,
    otp::{
        Address, Budget, ChildSpec, ExitReason, Intensity, Lifecycle, OnExceed, Reply, Restart,
        Shutdown, Supervisor, SupervisorSpec,
    },
    ractor::{Actor, ActorProcessingErr, ActorRef},
    resilience::Backoff,
    testing::{Life, eventually, in_memory, report, seed, with_node, with_tree},
};

/// A till that keeps count of what it sold.
struct Till;

enum Message {
    Sell(u32),
    Sold(Reply<u32>),
    WaitForEver,
    Block(mpsc::Receiver<()>),
}
underpin::otp::message!(Message);

impl Actor for Till {
    type Msg = Message;
    type State = u32;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Message>, (): ()) -> Result<u32, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        sold: &mut u32,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Sell(0) => return Err("nothing to sell".into()),
            Message::Sell(n) => *sold += n,
            Message::Sold(reply) => reply.send(*sold),
            Message::WaitForEver => std::future::pending().await,
            Message::Block(until) => {
                let _ = tokio::task::block_in_place(|| until.recv());
            }
        }
        Ok(())
    }
}

const SECOND: Duration = Duration::from_secs(1);
const LENIENT: Intensity = Intensity::new(100, SECOND);
const STRICT: Intensity = Intensity::new(0, SECOND);

fn till(address: &Address<Message>) -> ChildSpec {
    ChildSpec::actor("till", address, |_| (Till, ()))
}

fn idle(id: &str) -> ChildSpec {
    ChildSpec::task(id, |ctx| async move {
        ctx.cancelled().await;
        Ok(())
    })
}

fn shop(child: ChildSpec) -> SupervisorSpec {
    SupervisorSpec::new("shop", LENIENT).child(child)
}

async fn busy(shop: &Supervisor) {
    eventually("the till is busy", async || {
        shop.tree().is_some_and(|tree| tree.children[0].busy)
    })
    .await;
}

/// The words that a story, which must fail, fails with.
async fn failure(story: impl Future<Output = ()>) -> String {
    let panicked = AssertUnwindSafe(story).catch_unwind().await;
    let words = panicked.expect_err("it must fail").downcast::<String>();
    *words.expect("a formatted message")
}

#[tokio::test]
async fn a_child_is_killed_by_address_or_by_path_and_its_restart_is_awaited() {
    let address = Address::new();
    with_tree(shop(till(&address)), async |shop| {
        address.send(Message::Sell(3)).expect("it runs");

        let first = Life::of(shop, &address).kill().restarted().await;
        let second = Life::of(shop, "till").kill().restarted().await;
        let third = Life::of(shop, "shop/till").kill().restarted().await;

        assert_eq!((first.from, first.to), (1, 2));
        assert_eq!((second.from, second.to), (2, 3));
        assert_eq!((third.from, third.to), (3, 4));
        assert_eq!(
            (&*first.path, first.reason),
            ("shop/till", ExitReason::Killed)
        );
        assert_eq!(address.call(Message::Sold, SECOND).await, Ok(0));
    })
    .await;
}

#[tokio::test]
async fn an_actor_panics_when_told_whether_it_waits_for_a_message_or_is_busy_with_one() {
    let address = Address::new();
    with_tree(shop(till(&address)), async |shop| {
        let idle = Life::of(shop, &address).panic("boom").restarted().await;
        address.send(Message::WaitForEver).expect("it runs");
        busy(shop).await;
        let in_work = Life::of(shop, &address).panic("bang").restarted().await;

        assert_eq!(idle.reason, ExitReason::Panic("boom".into()));
        assert_eq!(in_work.reason, ExitReason::Panic("bang".into()));
        assert_eq!(address.call(Message::Sold, SECOND).await, Ok(0));
    })
    .await;
}

#[tokio::test]
async fn a_task_is_killed_and_panics_like_an_actor() {
    with_tree(shop(idle("clock")), async |shop| {
        let killed = Life::of(shop, "clock").kill().restarted().await;
        let panicked = Life::of(shop, "clock").panic("boom").restarted().await;

        assert_eq!(killed.reason, ExitReason::Killed);
        assert_eq!(panicked.reason, ExitReason::Panic("boom".into()));
        assert_eq!(panicked.to, 3);
    })
    .await;
}

#[tokio::test]
async fn a_supervisor_that_crashes_comes_back_with_its_children() {
    let address = Address::new();
    let inner = SupervisorSpec::new("counter", LENIENT).child(till(&address));
    with_tree(shop(ChildSpec::supervisor(inner)), async |shop| {
        let child = Life::of(shop, &address);
        let restarted = Life::of(shop, "counter").panic("boom").restarted().await;

        assert_eq!(restarted.reason, ExitReason::Panic("boom".into()));
        assert_eq!(child.ended().await, ExitReason::Killed);
        assert_eq!(address.call(Message::Sold, SECOND).await, Ok(0));
    })
    .await;
}

#[tokio::test]
async fn a_crash_of_the_programs_own_making_is_awaited_just_the_same() {
    let address = Address::new();
    with_tree(shop(till(&address)), async |shop| {
        let life = Life::of(shop, &address);
        address.send(Message::Sell(0)).expect("it runs");

        let restarted = life.restarted().await;

        let reason = ExitReason::Error("nothing to sell".into());
        assert_eq!((restarted.to, restarted.reason), (2, reason));
    })
    .await;
}

/// Takes its time to start, from its second life on.
struct Slow {
    gate: Arc<Notify>,
    life: u64,
}

impl Actor for Slow {
    type Msg = Message;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Message>, (): ()) -> Result<(), ActorProcessingErr> {
        if self.life > 1 {
            self.gate.notified().await;
        }
        Ok(())
    }
}

fn slow(address: &Address<Message>, gate: &Arc<Notify>) -> ChildSpec {
    let gate = Arc::clone(gate);
    ChildSpec::actor("slow", address, move |ctx| {
        let (gate, life) = (Arc::clone(&gate), ctx.incarnation());
        (Slow { gate, life }, ())
    })
}

/// Ends the first life, and takes the second while it is still starting.
async fn second_life(shop: &Supervisor) -> Life {
    Life::of(shop, "slow").kill().ended().await;
    eventually("the second start has begun", async || {
        let tree = shop.tree().expect("it runs");
        tree.children[0].incarnation == 2
    })
    .await;
    Life::of(shop, "slow")
}

#[tokio::test]
async fn a_child_that_is_still_starting_crashes_once_it_runs() {
    let (gate, address) = (Arc::new(Notify::new()), Address::new());
    with_tree(shop(slow(&address, &gate)), async |shop| {
        let life = second_life(shop).await.panic("too late");

        gate.notify_one();

        assert_eq!(life.ended().await, ExitReason::Panic("too late".into()));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_life_that_never_began_ends_with_the_reason_of_its_failed_start() {
    let (gate, address) = (Arc::new(Notify::new()), Address::new());
    let child = slow(&address, &gate).start_timeout(SECOND);
    with_tree(shop(child), async |shop| {
        let reason = second_life(shop).await.ended().await;

        assert!(
            reason.to_string().contains("did not start within 1s"),
            "{reason}"
        );
    })
    .await;
}

#[tokio::test]
async fn the_end_of_a_child_that_is_not_restarted_is_awaited() {
    let child = idle("guest").restart(Restart::Temporary);
    with_tree(shop(child), async |shop| {
        let reason = Life::of(shop, "guest").kill().ended().await;

        assert_eq!(reason, ExitReason::Killed);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn under_a_paused_clock_an_hour_of_backoff_takes_no_time() {
    let hour = Duration::from_hours(1);
    let backoff = Backoff::new(hour, hour).expect("valid");
    let (begin, real) = (tokio::time::Instant::now(), Instant::now());
    let address = Address::new();
    with_tree(shop(till(&address).backoff(backoff)), async |shop| {
        let by_report = Life::of(shop, &address).kill().restarted().await;
        assert_eq!(by_report.to, 2);

        let _ = Life::of(shop, &address).kill().ended().await;
        eventually("the till is back", async || {
            shop.tree()
                .is_some_and(|tree| tree.children[0].incarnation == 3)
        })
        .await;
    })
    .await;

    // The jitter of a backoff takes up to half of it off.
    assert!(begin.elapsed() >= hour);
    assert!(real.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn two_trees_of_one_name_never_meet() {
    let (a, b) = (Address::new(), Address::new());
    with_tree(shop(till(&a)), async |first| {
        with_tree(shop(till(&b)), async |second| {
            Life::of(first, "till").kill().restarted().await;

            assert_eq!(
                first.tree().map(|tree| tree.children[0].incarnation),
                Some(2)
            );
            assert_eq!(
                second.tree().map(|tree| tree.children[0].incarnation),
                Some(1)
            );
        })
        .await;
        assert_eq!(a.call(Message::Sold, SECOND).await, Ok(0));
    })
    .await;
}

#[tokio::test]
async fn a_tree_is_stopped_when_its_story_fails_and_the_failure_is_the_storys() {
    let spec = shop(idle("clock"));
    let handle = spec.handle();

    let words = failure(with_tree(spec, async |shop| {
        panic!("{} is wrong", shop.tree().expect("it runs").path);
    }))
    .await;

    assert_eq!(words, "shop is wrong");
    assert!(!handle.is_running());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_leaked_fails_the_test() {
    let address = Address::new();
    let spec = shop(till(&address).shutdown(Shutdown::Brutal)).child(idle("clock"));
    let (release, until) = mpsc::channel();

    let words = failure(with_tree(spec, async |shop| {
        // Both have finished with the start: else the thread that the till blocks might have the supervisor to run next.
        address.call(Message::Sold, SECOND).await.expect("answers");
        shop.count_children().await.expect("answers");
        address.send(Message::Block(until)).expect("it runs");
        busy(shop).await;
    }))
    .await;

    assert!(
        words.contains("still hold what they held: shop/till"),
        "{words}"
    );
    assert!(words.contains("tests/stories/testing.rs:"), "{words}");
    drop(release);
}

#[tokio::test]
async fn a_restart_that_will_never_come_fails_at_once_and_says_why() {
    let once = Budget::new(STRICT, OnExceed::Stop);
    let stays_down = failure(with_tree(shop(idle("clock").budget(once)), async |shop| {
        Life::of(shop, "clock").kill().restarted().await;
    }))
    .await;
    let strict = SupervisorSpec::new("shop", STRICT).child(idle("clock"));
    let gave_up = failure(with_tree(strict, async |shop| {
        Life::of(shop, "clock").kill().restarted().await;
    }))
    .await;
    let unknown = failure(with_tree(shop(idle("clock")), async |shop| {
        let _ = Life::of(shop, "watch").kill();
    }))
    .await;

    assert!(stays_down.contains("used up its budget"), "{stays_down}");
    assert!(gave_up.contains("gave up on clock (killed)"), "{gave_up}");
    assert!(unknown.contains("there are shop, shop/clock"), "{unknown}");
}

#[tokio::test]
async fn a_lifecycle_report_is_awaited() {
    with_tree(shop(idle("clock")), async |shop| {
        let mut reports = shop.reports().expect("it runs");
        shop.terminate_child("clock").await.expect("known");

        let path = report(&mut reports, "a stop", |report| {
            matches!(report.what, Lifecycle::Stopped { .. }).then(|| report.path.clone())
        })
        .await;

        assert_eq!(&*path, "shop/clock");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_chance_draws_repeats_itself_from_a_seed() {
    async fn drawn(from: u64) -> (Vec<Duration>, CorrelationId, NodeId) {
        seed(from);
        let address = Address::new();
        let second = Duration::from_secs(1);
        let backoff = Backoff::new(second, 60 * second).expect("valid");
        let pauses = with_tree(shop(till(&address).backoff(backoff)), async |shop| {
            let mut reports = shop.reports().expect("it runs");
            let mut pauses = Vec::new();
            for _ in 0..3 {
                let life = Life::of(shop, &address).kill();
                let pause = report(
                    &mut reports,
                    "it is to be restarted",
                    |report| match report.what {
                        Lifecycle::Restarting { after, .. } => Some(after),
                        _ => None,
                    },
                );
                pauses.push(pause.await);
                life.restarted().await;
            }
            pauses
        })
        .await;
        (pauses, CorrelationId::random(), NodeId::random())
    }

    let once = drawn(7).await;

    assert_eq!(drawn(7).await, once);
    assert_ne!(drawn(8).await, once);
}

#[test]
fn ids_of_events_repeat_themselves_at_a_time_of_the_tests_own() {
    let ids = || {
        let ids = IdGenerator::new(NodeId::new(7).expect("valid"));
        [1, 1, 2].map(|ms| ids.next_at(1_800_000_000_000 + ms))
    };
    assert_eq!(ids(), ids());
}

#[tokio::test]
async fn a_node_of_its_own_lives_for_one_story() {
    let root = with_node(in_memory().child(idle("clock")), async |node| {
        let event = node.events().event("before").build().expect("valid");
        node.events().store(event).await.expect("stores");
        let app = Life::of(node.supervisor(), "app/clock").kill();
        let config = Life::of(node.supervisor(), "config").panic("boom");

        assert_eq!(app.restarted().await.to, 2);
        assert_eq!(config.restarted().await.to, 2);
        let stored = node.events().count(Query::new().kind("before")).await;
        assert_eq!(stored.expect("counts"), 1);
        node.supervisor().clone()
    })
    .await;

    assert!(!root.is_running());
}

#[tokio::test]
async fn a_node_that_does_not_start_says_why() {
    let wrong = Node::builder().memory().set("underpin.nonsense=1");

    let words = failure(with_node(wrong, async |_| ())).await;

    assert!(words.contains("the node did not start"), "{words}");
    assert!(words.contains("nonsense"), "{words}");
}
