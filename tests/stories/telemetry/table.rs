//! The table of all metrics that a node emits of itself.

use std::{collections::BTreeSet, env, fs, sync::Arc, time::Duration};

use tokio::sync::Semaphore;
use underpin::{
    cluster::{ClusterOptions, Cookie},
    events::{self, Events},
    ids::{IdGenerator, NodeId},
    node::Node,
    otp::{Address, Budget, ChildSpec, Intensity, OnExceed, Reply},
    ractor::{Actor, ActorProcessingErr, ActorRef},
    telemetry::{self, Description, Kind, Snapshot, Telemetry},
    testing::{Life, eventually, in_memory, with_node},
};

const FILE: &str = "METRICS.md";
/// Rewrites the file instead of comparing it.
const BLESS: &str = "UNDERPIN_BLESS";

/// A node in which everything has happened that is counted where it happens.
async fn busy_node() -> Node {
    let fragile = ChildSpec::task("fragile", |ctx| async move {
        ctx.cancelled().await;
        Ok(())
    });
    let often = Intensity::new(9, Duration::from_secs(9));
    let cookie = Cookie::new("known to nobody else").expect("long enough");
    let listen = "127.0.0.1:0".parse().expect("an address");
    let node = Node::builder()
        .memory()
        .cluster(ClusterOptions::new(cookie).listen(listen))
        .without_environment()
        .http("127.0.0.1:0")
        .child(fragile.budget(Budget::new(often, OnExceed::Stop)))
        .start()
        .await
        .expect("starts");
    let (_captured, _guarded) = (node.capture(), node.observer());
    let event = node.events().event("seen").build().expect("fits");
    node.events().store(event).await.expect("is stored");
    let life = Life::of(node.app(), "fragile");
    life.panic("to be seen").restarted().await;
    node.telemetry()
        .refresh(Duration::from_secs(20))
        .await
        .expect("answers");
    eventually("the tree was looked at", async || {
        let snapshot = node.telemetry().snapshot();
        let fragile = &[("child", "node/app/fragile")];
        snapshot.gauge("underpin_child_admitted", fragile).is_some()
            && snapshot.counter("underpin_child_restarts", fragile) == 1
    })
    .await;
    node
}

fn table(descriptions: &[Description]) -> String {
    let rows = descriptions.iter().map(|description| {
        let Description {
            name,
            kind,
            labels,
            help,
        } = description;
        let suffix = if *kind == Kind::Counter { "_total" } else { "" };
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        format!(
            "| `{}{suffix}` | {kind} | {} | {help} |\n",
            name.as_str(),
            labels.join(", ")
        )
    });
    format!(
        "# Metrics\n\n\
         What a node shows of itself under `/metrics` and in `underpin metrics`, beside the program's own. This table is made from the\n\
         registry of a running node by `{BLESS}=1 cargo test --test stories every_metric`, and held against it by the same test.\n\n\
         | metric | is a | labels | what it is |\n|---|---|---|---|\n{}",
        rows.collect::<String>()
    )
}

#[tokio::test]
async fn every_metric_that_a_node_emits_stands_in_the_table() {
    let node = busy_node().await;
    let descriptions = node.telemetry().descriptions("");
    let snapshot = node.telemetry().snapshot();
    node.shutdown().await;

    assert_described(&snapshot, &descriptions);
    let table = table(&descriptions);
    if env::var_os(BLESS).is_some() {
        fs::write(FILE, &table).expect("is written");
    }
    let written = fs::read_to_string(FILE).expect("the table is there");
    assert!(
        written == table,
        "{FILE} is not what a node shows; {BLESS}=1 cargo test --test stories every_metric writes it anew"
    );
}

/// What is there was described, and has the labels that were said.
fn assert_described(snapshot: &Snapshot, descriptions: &[Description]) {
    for family in &snapshot.families {
        let name = family.name.as_str();
        let described = descriptions.iter().find(|one| one.name == family.name);
        let described = described.unwrap_or_else(|| {
            panic!(
                "{name} is not described; say what it is with Telemetry::describe where it is made"
            )
        });
        assert_eq!(described.kind, family.kind, "{name}");
        let said: BTreeSet<&str> = described.labels.iter().map(String::as_str).collect();
        for series in &family.series {
            let has: BTreeSet<&str> = series.labels.iter().map(|(label, _)| label).collect();
            assert_eq!(has, said, "{name}");
        }
    }
}

#[tokio::test]
async fn ends_of_children_are_counted_by_their_reasons() {
    let node = busy_node().await;

    let snapshot = node.telemetry().snapshot();

    let fragile = ("child", "node/app/fragile");
    let stops = |reason| snapshot.counter("underpin_child_stops", &[fragile, ("reason", reason)]);
    assert_eq!((stops("panic"), stops("error"), stops("normal")), (1, 0, 0));
    assert_eq!(snapshot.counter("underpin_child_starts", &[fragile]), 1);
    let running = snapshot.gauge("underpin_children", &[("state", "running")]);
    assert!(running.is_some_and(|running| running > 5.0), "{running:?}");
    eventually("the service's messages are seen", async || {
        let service = [("child", "node/telemetry")];
        let snapshot = node.telemetry().snapshot();
        snapshot.counter("underpin_child_handled", &service) >= 1
    })
    .await;
    node.shutdown().await;
}

/// Handles a message when it is let.
struct Desk(Arc<Semaphore>);

struct Ask(Reply<()>);
underpin::otp::message!(Ask);

impl Actor for Desk {
    type Msg = Ask;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Ask>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Ask>,
        Ask(reply): Ask,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        self.0.acquire().await?.forget();
        reply.send(());
        Ok(())
    }
}

#[tokio::test]
async fn an_actor_shows_what_it_handles_how_long_that_takes_and_what_nobody_waits_for_any_more() {
    let (desk, open) = (Address::new(), Arc::new(Semaphore::new(0)));
    let (address, let_in) = (desk.clone(), Arc::clone(&open));
    let node = in_memory().child_with(move |services| {
        let make = move |_: &_| (Desk(Arc::clone(&let_in)), ());
        let group = services.groups.group::<Ask>("desks");
        ChildSpec::actor("desk", &address, make).joins(&group)
    });
    with_node(node, async |node| {
        let labels = &[("child", "node/app/desk")];
        let gauge = |name| node.telemetry().snapshot().gauge(name, labels);
        let counter = |name| node.telemetry().snapshot().counter(name, labels);
        let is = |name, wanted: f64| gauge(name).is_some_and(|value| value >= wanted);

        // One is being handled and one waits when their callers have gone.
        for _ in 0..2 {
            let gone = desk.call(Ask, Duration::from_millis(1)).await;
            assert!(gone.is_err());
        }
        eventually("it is seen at work", async || {
            is("underpin_child_busy", 1.0)
                && is("underpin_child_admitted", 1.0)
                && is("underpin_child_handling_seconds", 0.1)
                && is("underpin_child_busy_ratio", 0.01)
        })
        .await;
        open.add_permits(1000);
        let answered = desk.call(Ask, Duration::from_secs(20)).await;

        assert!(answered.is_ok());
        eventually("it is counted", async || {
            counter("underpin_child_dead_letters") == 2
                && counter("underpin_child_handled") >= 2
                && is("underpin_child_busy", 0.0)
        })
        .await;
        let snapshot = node.telemetry().snapshot();
        let busy = snapshot.sum("underpin_child_busy_seconds", labels);
        assert!(busy > 0.0, "{busy}");
        let members = [("group", "desks")];
        assert_eq!(
            snapshot.gauge("underpin_group_members", &members),
            Some(1.0)
        );

        let stopped = node.app().terminate_child("desk").await;
        stopped.expect("stops");
        eventually("it has left its group", async || {
            let snapshot = node.telemetry().snapshot();
            snapshot.gauge("underpin_group_members", &members) == Some(0.0)
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn f88_each_event_that_is_stored_is_counted_once_also_in_a_batch_and_when_it_comes_again() {
    let telemetry = Telemetry::new(telemetry::Options::default());
    let ids = Arc::new(IdGenerator::new(NodeId::random()));
    let disk = Arc::new(events::Folder::new("in-memory"));
    let store = Events::new(events::Options::memory(), disk, ids, &telemetry);
    let supervisor = crate::events::support::supervise(&store).await;
    let event = || store.event("sold").build().expect("fits");
    let stored = || telemetry.snapshot().counter("underpin_events_stored", &[]);

    for _ in 0..5 {
        store.store(event()).await.expect("stores");
    }
    assert_eq!(stored(), 5);
    let batch: Vec<_> = (0..100).map(|_| event()).collect();
    store.store_batch(batch.clone()).await.expect("stores");
    assert_eq!(stored(), 105);

    store.store_batch(batch).await.expect("is there already");

    assert_eq!(stored(), 105);
    supervisor.stop().await;
}
