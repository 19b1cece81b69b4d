//! Everything that finds events, beside a plain list that is filtered and sorted.

use std::{cmp::Reverse, collections::BTreeSet, sync::Arc, time::Duration};

use proptest::prelude::*;
use underpin::{
    events::{
        Comparison, Cursor, Durability, Event, EventBuilder, Events, Operator, Options, Order,
        Query, SimulatedDisk, Start, StoreError, Subscription, Timestamp, When,
    },
    ids::{CorrelationId, EventId, NodeId},
    otp::Supervisor,
    value::Value,
};

use super::support::{Store, correlation, kill_actor, on, until};

const KINDS: [&str; 5] = [
    "order",
    "order.paid",
    "order.paid.late",
    "or",
    "till.opened",
];

fn at(nanos: i64) -> Timestamp {
    Timestamp::from_nanos(nanos)
}

/// An event by its fields, which the model compares one by one.
#[derive(Debug, Clone)]
struct Given {
    ms: u64,
    node: u16,
    time: i64,
    kind: usize,
    source: usize,
    together: usize,
    parent: Option<usize>,
    worth: i64,
}

impl Given {
    fn event(&self, number: u16, earlier: &[Event]) -> Event {
        let node = NodeId::new(self.node).expect("small");
        let id = EventId::from_parts(FIRST_MS + self.ms, node, number).expect("in range");
        let mut event = EventBuilder::new(id, KINDS[self.kind]).time(at(self.time));
        if self.source > 0 {
            event = event.source(format!("s{}", self.source));
        }
        if self.together > 0 {
            event = event.correlation(correlation(&format!("c{}", self.together)));
        }
        if let Some(parent) = self.parent.and_then(|at| earlier.get(at)) {
            event = event.parent(parent.id());
        }
        let data = Value::from([
            ("worth", Value::from(self.worth)),
            ("pad", "x".repeat(self.kind * 40).into()),
        ]);
        event.data(data).build().expect("valid")
    }
}

/// Ids begin in 2024.
const FIRST_MS: u64 = 1_800_000_000_000;

fn any_given() -> impl Strategy<Value = Given> {
    (
        (0..40_u64, 1..4_u16, 0..60_i64),
        (0..KINDS.len(), 0..3_usize, 0..5_usize),
        proptest::option::of(0..30_usize),
        0..20_i64,
    )
        .prop_map(
            |((ms, node, time), (kind, source, together), parent, worth)| Given {
                ms,
                node,
                time,
                kind,
                source,
                together,
                parent,
                worth,
            },
        )
}

/// What is asked for, as the model understands it.
#[derive(Debug, Clone)]
struct Asked {
    kind: Option<(usize, bool)>,
    source: Option<usize>,
    together: Option<usize>,
    parent: Option<usize>,
    node: Option<u16>,
    times: (i64, i64),
    ids: Option<(u64, u64)>,
    as_of: Option<u64>,
    worth: Option<(usize, i64)>,
    order: usize,
    skip: usize,
    limit: usize,
}

const OPERATORS: [Operator; 6] = [
    Operator::Equal,
    Operator::NotEqual,
    Operator::Less,
    Operator::AtMost,
    Operator::Greater,
    Operator::AtLeast,
];

impl Asked {
    /// Only which events: what a subscription takes.
    fn filter(&self, log: &[Event]) -> Query {
        let mut query = Query::new().since(at(self.times.0)).until(at(self.times.1));
        query = match self.kind {
            Some((kind, true)) => query.kind_prefix(KINDS[kind]),
            Some((kind, false)) => query.kind(KINDS[kind]),
            None => query,
        };
        if let Some(source) = self.source {
            query = query.source(if source == 0 {
                String::new()
            } else {
                format!("s{source}")
            });
        }
        if let Some(together) = self.together {
            query = query.correlation(correlation(&format!("c{together}")));
        }
        if let Some(parent) = self.parent_in(log) {
            query = query.parent(parent);
        }
        if let Some(node) = self.node {
            query = query.node(NodeId::new(node).expect("small"));
        }
        if let Some((first, last)) = self.ids {
            query = query.first_id(first_of(first)).last_id(first_of(last));
        }
        if let Some(ms) = self.as_of {
            query = query.as_of(at(i64::try_from((FIRST_MS + ms) * 1_000_000).expect("fits")));
        }
        if let Some((operator, worth)) = self.worth {
            let path = "worth".parse().expect("a path");
            query = query.data(Comparison::new(path, OPERATORS[operator], worth));
        }
        query
    }

    fn query(&self, log: &[Event]) -> Query {
        self.filter(log)
            .order(Order::ALL[self.order])
            .skip(self.skip)
            .limit(self.limit)
    }

    fn parent_in(&self, log: &[Event]) -> Option<EventId> {
        self.parent.and_then(|at| log.get(at)).map(Event::id)
    }

    fn takes(&self, event: &Event, log: &[Event]) -> bool {
        let worth = event.data().as_map().and_then(|map| map.get("worth"));
        let worth = worth.and_then(Value::as_i64).expect("a number");
        let text = |prefix: &str, number: usize| match number {
            0 => String::new(),
            number => format!("{prefix}{number}"),
        };
        self.kind.is_none_or(|(kind, prefix)| {
            event.kind() == KINDS[kind] || prefix && event.kind().starts_with(KINDS[kind])
        }) && self
            .source
            .is_none_or(|source| event.source() == text("s", source))
            && self.together.is_none_or(|together| {
                event.correlation() == Some(&correlation(&format!("c{together}")))
            })
            && self
                .parent_in(log)
                .is_none_or(|parent| event.parent() == Some(parent))
            && self.node.is_none_or(|node| event.node().get() == node)
            && (self.times.0..=self.times.1).contains(&event.time().as_nanos())
            && self.ids.is_none_or(|(first, last)| {
                (first_of(first)..=first_of(last)).contains(&event.id())
            })
            && self
                .as_of
                .is_none_or(|ms| event.id().unix_ms() <= FIRST_MS + ms)
            && self.worth.is_none_or(|(operator, limit)| match operator {
                0 => worth == limit,
                1 => worth != limit,
                2 => worth < limit,
                3 => worth <= limit,
                4 => worth > limit,
                _ => worth >= limit,
            })
    }

    /// What a plain list answers, limit and skip aside.
    fn answer<'a>(&self, shown: &'a [Event], log: &[Event]) -> Vec<&'a Event> {
        let mut found: Vec<_> = shown
            .iter()
            .filter(|event| self.takes(event, log))
            .collect();
        match Order::ALL[self.order] {
            Order::OldestFirst => found.sort_by_key(|event| (event.time(), event.id())),
            Order::NewestFirst => found.sort_by_key(|event| Reverse((event.time(), event.id()))),
            Order::IdAscending => found.sort_by_key(|event| event.id()),
            Order::IdDescending => found.sort_by_key(|event| Reverse(event.id())),
        }
        found
    }
}

/// The lowest id of a millisecond.
fn first_of(ms: u64) -> EventId {
    EventId::from_parts(FIRST_MS + ms, NodeId::new(0).expect("small"), 0).expect("in range")
}

fn any_asked() -> impl Strategy<Value = Asked> {
    let maybe = |upto: usize| proptest::option::weighted(0.35, 0..upto);
    (
        (
            proptest::option::weighted(0.5, (0..KINDS.len(), any::<bool>())),
            maybe(3),
            proptest::option::weighted(0.35, 1..5_usize),
            proptest::option::weighted(0.2, 0..30_usize),
            proptest::option::weighted(0.2, 1..4_u16),
        ),
        (0..60_i64, 0..60_i64, any::<bool>()),
        proptest::option::weighted(0.2, (0..40_u64, 0..40_u64)),
        proptest::option::weighted(0.2, 0..40_u64),
        proptest::option::weighted(0.3, (0..6_usize, 0..20_i64)),
        (0..4_usize, 0..5_usize, 0..60_usize),
    )
        .prop_map(
            |(names, (a, b, all), ids, as_of, worth, (order, skip, limit))| {
                let (kind, source, together, parent, node) = names;
                Asked {
                    kind,
                    source,
                    together,
                    parent,
                    node,
                    times: if all { (0, 60) } else { (a.min(b), a.max(b)) },
                    ids: ids.map(|(a, b)| (a.min(b), a.max(b))),
                    as_of,
                    worth,
                    order,
                    skip,
                    limit,
                }
            },
        )
}

#[derive(Debug, Clone)]
enum Step {
    Store(Vec<Given>),
    PruneBefore(i64),
    /// To that part of what there is, in tenths.
    PruneTo(u64),
    Reopen,
    Kill,
    /// The power fails that many calls of the disk from now on, in the middle of a batch.
    PowerCut(u64, Vec<Given>),
    Ask(Asked),
    /// The next page of a query that goes on through all steps.
    TurnPage,
    /// So many events of a subscription that goes on through all steps.
    Pull(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec(any_given(), 1..60).prop_map(Step::Store),
        1 => (0..40_i64).prop_map(Step::PruneBefore),
        1 => (3..10_u64).prop_map(Step::PruneTo),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
        1 => (1..8_u64, prop::collection::vec(any_given(), 1..30)).prop_map(|(calls, given)| Step::PowerCut(calls, given)),
        6 => any_asked().prop_map(Step::Ask),
        3 => Just(Step::TurnPage),
        3 => (1..40_usize).prop_map(Step::Pull),
    ]
}

/// The store and what is known of it.
struct Bench {
    disk: SimulatedDisk,
    options: Options,
    events: Events,
    supervisor: Supervisor,
    /// How many events were made; each has an id of its own, stored or not.
    made: u16,
    /// Every event, in the order in which they were stored.
    log: Vec<Event>,
    /// Those that were not pruned.
    shown: Vec<Event>,
    book: Asked,
    turned: Option<(Cursor, Event)>,
    over: bool,
    followed: Asked,
    following: Option<Subscription>,
    pulled: Vec<EventId>,
    /// So many events of the log were there before one that was pulled and lost.
    passed: usize,
}

impl Bench {
    async fn take(&mut self, step: Step) {
        match step {
            Step::Store(given) => self.put(given).await,
            Step::PruneBefore(time) => {
                let before = self.shown.len();
                self.shown.retain(|event| event.time() >= at(time));
                let pruned = self.events.prune_before(at(time)).await;
                assert_eq!(pruned.expect("pruned"), (before - self.shown.len()) as u64);
            }
            Step::PruneTo(tenths) => {
                let keep = self.shown.len() * usize::try_from(tenths).expect("small") / 10;
                let excess = self.shown.len() - keep;
                self.shown.drain(..excess);
                let pruned = self.events.prune_to(keep as u64).await;
                assert_eq!(pruned.expect("pruned"), excess as u64);
            }
            Step::Reopen => {
                self.reopen().await;
            }
            Step::PowerCut(calls, given) => {
                let batch = self.batch_of(given);
                self.disk.cut_power_after(calls);
                let stored = self.events.store_batch(batch.clone()).await;
                if self.options.durability != Durability::Always {
                    self.log.extend(batch.clone());
                    self.shown.extend(batch);
                    return self.reopen().await;
                }
                self.reopen().await;
                // What was not acknowledged is there whole or not at all.
                let first = self.events.get(batch[0].id()).await.expect("readable");
                assert!(first.is_some() || stored.is_err());
                if first.is_some() {
                    self.log.extend(batch.clone());
                    self.shown.extend(batch);
                }
            }
            Step::Kill => {
                let opened = self.events.stats().openings;
                kill_actor(&self.events).await;
                // A prune that finds it dying is not answered, and may have happened.
                until("it is back", || {
                    self.events.stats().openings > opened && self.events.actor().is_some()
                })
                .await;
            }
            Step::Ask(asked) => self.ask(&asked).await,
            Step::TurnPage => self.turn_page().await,
            Step::Pull(count) => self.pull(count).await,
        }
    }

    /// The subscription ends with its store; another one goes on where it was.
    async fn reopen(&mut self) {
        let bookmark = self.following.as_ref().map(Subscription::bookmark);
        self.following = None;
        self.supervisor.stop().await;
        self.disk.restore_power();
        (self.events, self.supervisor) =
            on(Arc::new(self.disk.clone()), self.options.clone()).await;
        if self.options.durability != Durability::Always {
            self.forget_what_was_lost().await;
        }
        let bookmark = bookmark.map(|bookmark| bookmark.to_string().parse());
        let start = bookmark.map_or(Start::Beginning, |bookmark| {
            Start::At(bookmark.expect("our own form"))
        });
        let lost = |id: EventId| self.log.iter().all(|event| event.id() != id);
        if let Start::At(bookmark) = start
            && bookmark.id().is_some_and(lost)
        {
            // All that is left was there before what it stands behind.
            self.passed = self.log.len();
        }
        let filter = self.followed.filter(&[]);
        match self.events.subscribe(filter, start).await {
            Err(StoreError::OtherLog) if self.shown.is_empty() => {
                // Nothing is left, not even the log.
                self.log.clear();
                self.pulled.clear();
                self.passed = 0;
                self.follow(Start::Beginning).await;
            }
            following => self.following = Some(following.expect("subscribed")),
        }
    }

    /// What was not synced goes, from the end of the log on; so do prunes that were not. In memory, everything goes.
    async fn forget_what_was_lost(&mut self) {
        let left = self.events.query(Query::new().limit(Query::LIMIT_MAX));
        let left = left.await.expect("answered").events;
        let left: BTreeSet<_> = left.iter().map(Event::id).collect();
        let is_left = |event: &Event| left.contains(&event.id());
        let shown: BTreeSet<_> = self.shown.iter().map(Event::id).collect();
        let was_lost = |event: &Event| shown.contains(&event.id()) && !is_left(event);
        if let Some(first) = self.log.iter().position(was_lost) {
            assert!(!self.log[first..].iter().any(is_left), "lost in the middle");
            self.log.truncate(first);
        }
        self.shown = self
            .log
            .iter()
            .filter(|event| is_left(event))
            .cloned()
            .collect();
        let log: BTreeSet<_> = self.log.iter().map(Event::id).collect();
        self.pulled.retain(|id| log.contains(id));
        self.passed = self.passed.min(self.log.len());
    }

    fn batch_of(&mut self, given: Vec<Given>) -> Vec<Event> {
        let event = |given: Given| {
            self.made += 1;
            given.event(self.made, &self.log)
        };
        given.into_iter().map(event).collect()
    }

    async fn put(&mut self, given: Vec<Given>) {
        let batch = self.batch_of(given);
        self.events
            .store_batch(batch.clone())
            .await
            .expect("stored");
        self.log.extend(batch.clone());
        self.shown.extend(batch);
    }

    async fn ask(&self, asked: &Asked) {
        let events = &self.events;
        let query = asked.query(&self.log);
        let expected = asked.answer(&self.shown, &self.log);

        let page = events.query(query.clone()).await.expect("answered");
        let cut: Vec<_> = expected
            .iter()
            .copied()
            .skip(asked.skip)
            .take(asked.limit)
            .cloned()
            .collect();
        assert_eq!(page.events, cut, "{query}");
        assert_eq!(page.unreadable, []);
        let more = asked.limit > 0 && expected.len() > asked.skip + asked.limit;
        assert_eq!(page.next.is_some(), more, "{query}");
        let count = events.count(query.clone()).await.expect("countable");
        let behind = expected.len().saturating_sub(asked.skip);
        assert_eq!(count, behind as u64, "{query}");

        let when = When::utc(at(0));
        assert_eq!(Query::parse(&query.to_string(), &when), Ok(query.clone()));
        let explained = events.explain(query).await.expect("explained");
        assert_eq!(explained.found, page.events.len());
    }

    async fn turn_page(&mut self) {
        if self.over {
            return;
        }
        let mut query = self.book.query(&self.log).skip(0).limit(7);
        if let Some((cursor, _)) = self.turned {
            query = query.after(cursor);
        }
        let page = self.events.query(query).await.expect("answered");

        let all = self.book.answer(&self.shown, &self.log);
        let last = self.turned.as_ref().map(|(_, event)| event);
        let rest = match last {
            None => all,
            Some(last) => all
                .into_iter()
                .filter(|event| self.comes_after(event, last))
                .collect(),
        };
        let expected: Vec<_> = rest.iter().take(7).copied().cloned().collect();
        assert_eq!(page.events, expected);
        match (page.next, page.events.last()) {
            (Some(cursor), Some(last)) => self.turned = Some((cursor, last.clone())),
            _ => self.over = true,
        }
    }

    fn comes_after(&self, event: &Event, last: &Event) -> bool {
        let key = |event: &Event| (event.time(), event.id());
        match Order::ALL[self.book.order] {
            Order::OldestFirst => key(event) > key(last),
            Order::NewestFirst => key(event) < key(last),
            Order::IdAscending => event.id() > last.id(),
            Order::IdDescending => event.id() < last.id(),
        }
    }

    async fn follow(&mut self, start: Start) {
        // What it follows must not change with the log: a parent is one that is there from the start.
        let filter = self.followed.filter(&[]);
        let following = self.events.subscribe(filter, start).await;
        self.following = Some(following.expect("subscribed"));
    }

    /// What is still to come, as far as it was not pruned.
    fn to_come(&self) -> Vec<EventId> {
        let last = self.pulled.last();
        let from = last.and_then(|last| self.log.iter().position(|event| event.id() == *last));
        let shown: BTreeSet<_> = self.shown.iter().map(Event::id).collect();
        self.log[from.map_or(0, |at| at + 1).max(self.passed)..]
            .iter()
            .filter(|event| shown.contains(&event.id()) && self.followed.takes(event, &[]))
            .map(Event::id)
            .collect()
    }

    async fn pull(&mut self, count: usize) {
        let mut count = count;
        while count > 0 {
            // What was read ahead may have been pruned since.
            let following = self.following.as_mut().expect("subscribed");
            let event = match following.next_at_once() {
                Some(event) => event.expect("readable"),
                None if self.to_come().is_empty() => return,
                None => {
                    let following = self.following.as_mut().expect("subscribed");
                    let next = tokio::time::timeout(Duration::from_secs(20), following.next());
                    next.await.expect("there is more").expect("readable")
                }
            };
            self.pulled.push(event.id());
            count -= 1;
        }
    }

    async fn end(&mut self) {
        self.pull(usize::MAX).await;
        assert_eq!(self.to_come(), [], "nothing is left out");
        let order: Vec<_> = self
            .log
            .iter()
            .filter(|event| self.followed.takes(event, &[]))
            .map(Event::id)
            .collect();
        let mut rest = order.iter();
        for id in &self.pulled {
            assert!(
                rest.any(|next| next == id),
                "in order, and none twice: {id}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// F68, F70, F71: whatever is stored, pruned, killed, struck by a power cut and opened again, answers, counts, pages and subscriptions are those of a list.
    #[test]
    fn f68_f70_f71_all_that_finds_events_agrees_with_a_plain_list(
        steps in prop::collection::vec(any_step(), 4..30),
        book in any_asked(),
        followed in any_asked(),
        hot_bytes in prop_oneof![Just(0_usize), Just(4 << 10), Just(1 << 20)],
        durability in prop_oneof![
            2 => Just(Durability::Always),
            2 => Just(Durability::Interval(Duration::from_hours(1))),
            1 => Just(Durability::Memory),
        ],
        seed in any::<u64>(),
    ) {
        let runtime = tokio::runtime::Runtime::new().expect("runtime");
        runtime.block_on(async {
            let options = Options {
                // In memory it is a limit of the store itself, which the list has not.
                hot_bytes: if durability == Durability::Memory { 1 << 20 } else { hot_bytes },
                segment_bytes: 8 << 10,
                durability,
                ..Options::default()
            };
            let disk = SimulatedDisk::new(seed);
            let (events, supervisor) = on(Arc::new(disk.clone()), options.clone()).await;
            let mut bench = Bench {
                disk,
                options,
                events,
                supervisor,
                made: 0,
                log: Vec::new(),
                shown: Vec::new(),
                book: Asked { parent: None, ..book },
                turned: None,
                over: false,
                followed: Asked { parent: None, ..followed },
                following: None,
                pulled: Vec::new(),
                passed: 0,
            };
            bench.follow(Start::Beginning).await;
            for step in steps {
                bench.take(step).await;
            }
            bench.end().await;
        });
    }
}

#[tokio::test]
async fn f71_a_correlation_is_chronological_and_holds_nothing_foreign() {
    let store = Store::memory().await;
    let mut expected = Vec::new();
    for number in (1..=10).rev() {
        for text in ["ours", "theirs"] {
            let builder = store.events.event("step").correlation(correlation(text));
            let event = builder.time(at(number * 1_000_000)).build().expect("valid");
            store.events.store(event.clone()).await.expect("stored");
            expected.extend((text == "ours").then_some(event));
        }
    }
    expected.reverse();

    let ours = CorrelationId::new("ours").expect("short");
    let page = store.events.correlation(&ours).await.expect("answered");

    assert_eq!(page.events, expected);
}
