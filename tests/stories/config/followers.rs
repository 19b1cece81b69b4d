//! Who is told of what, and who is woken for it.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use proptest::prelude::*;
use tokio::{runtime::Builder, task::yield_now};
use underpin::{
    config::{Options, Subscription},
    value::{Path, Value},
};

use super::foundation::{Node, sources};

const PATHS: [&str; 7] = [
    "",
    "dev",
    "dev.debug_mode",
    "interface",
    "interface.max_results",
    "ai.planning.sampling_rate",
    "not.there",
];

#[derive(Debug, Clone)]
enum Step {
    /// Writes at the path; the number decides what.
    Write(&'static str, i64),
    /// The task that tells followers gets to run, or not.
    Yield,
    /// A follower looks once.
    Look(usize),
    /// A follower is replaced by a new one.
    Anew(usize),
}

fn steps() -> impl Strategy<Value = Step> {
    let written = vec!["dev", "dev.debug_mode", "interface.max_results"];
    prop_oneof![
        5 => (proptest::sample::select(written), 1..4i64).prop_map(|(path, n)| Step::Write(path, n)),
        2 => Just(Step::Yield),
        4 => (0..PATHS.len()).prop_map(Step::Look),
        1 => (0..PATHS.len()).prop_map(Step::Anew),
    ]
}

fn value_for(path: &str, n: i64) -> Value {
    match path {
        "dev" => Value::from([("debug_mode", n == 1), ("verbose_logging", n == 2)]),
        "dev.debug_mode" => Value::from(n == 1),
        _ => Value::from(n),
    }
}

/// The table at one revision, and where it was changed to come to that.
struct Past {
    revision: u64,
    table: Value,
    written: &'static str,
}

struct Model {
    past: Vec<Past>,
    log_changes: u64,
    /// Up to where changes were brought to followers for certain.
    told: u64,
    /// Up to where more came than could be told apart.
    blurred: u64,
}

struct Follower {
    subscription: Subscription,
    path: &'static str,
    seen: u64,
}

fn at<'a>(table: &'a Value, path: &str) -> Option<&'a Value> {
    if path.is_empty() {
        return Some(table);
    }
    table.get(&Path::parse(path).expect("a path"))
}

fn is_within(inner: &str, outer: &str) -> bool {
    outer.is_empty() || inner == outer || inner.starts_with(&format!("{outer}."))
}

impl Model {
    /// The revision that a follower who has seen this much is told next.
    fn next(&self, path: &str, seen: u64) -> Option<&Past> {
        let concerns = |(before, after): &(&Past, &Past)| {
            let beneath = is_within(after.written, path);
            let above = is_within(path, after.written);
            beneath || above && at(&before.table, path) != at(&after.table, path)
        };
        let later = self.past.iter().zip(&self.past[1..]);
        let mut later = later.filter(|(_, after)| after.revision > seen);
        later.find(concerns).map(|(_, after)| after)
    }

    fn now(&self) -> &Past {
        self.past.last().expect("there is a first")
    }

    /// What came up to this revision is forgotten.
    fn floor(&self) -> u64 {
        let first = self.past[0].revision;
        first.max(self.now().revision.saturating_sub(self.log_changes))
    }

    fn tell(&mut self) {
        if self.told < self.floor() {
            self.blurred = self.now().revision;
        }
        self.told = self.now().revision;
    }

    /// Whether a follower who has seen this much may be told that it missed something.
    fn may_have_missed(&self, seen: u64, expected: Option<&Past>) -> bool {
        let floor = self.floor();
        let in_doubt = self.told < floor || seen < self.blurred;
        seen < floor && (in_doubt || expected.is_some_and(|past| past.revision <= floor))
    }

    fn check(&self, follower: &mut Follower) -> Result<bool, TestCaseError> {
        let path = follower.path;
        let expected = self.next(path, follower.seen);
        let Some(notice) = follower.subscription.try_recv() else {
            prop_assert_eq!(
                expected.map(|past| past.revision),
                None,
                "`{}` has missed it",
                path
            );
            return Ok(false);
        };
        let told = if notice.record.is_some() {
            let expected = expected.expect("nobody is told of what does not concern it");
            prop_assert_eq!((notice.revision.0, notice.missed), (expected.revision, 0));
            expected
        } else {
            let may = self.may_have_missed(follower.seen, expected);
            prop_assert!(may, "`{}` was told of a gap that there is not", path);
            prop_assert!(notice.missed > 0);
            let oldest = self.now().revision - self.log_changes / 16;
            prop_assert!(notice.revision.0 >= oldest, "that is not the newest state");
            let told = self
                .past
                .iter()
                .find(|past| past.revision == notice.revision.0);
            told.expect("there was such a revision")
        };
        prop_assert_eq!(notice.value.as_ref(), at(&told.table, path));
        follower.seen = told.revision;
        Ok(true)
    }
}

fn follow(node: &Node, path: &'static str) -> Follower {
    let mut subscription = node.config.subscribe(path).expect("a path");
    let seen = subscription
        .try_recv()
        .expect("the current value")
        .revision
        .0;
    Follower {
        subscription,
        path,
        seen,
    }
}

async fn told_as_the_model_says(steps: Vec<Step>, log_changes: usize) -> Result<(), TestCaseError> {
    let options = Options {
        log_changes,
        ..Options::default()
    };
    let node = Node::start_with(sources(), options).await;
    let table = || node.config.get_value("").expect("the table");
    let mut followers = PATHS.map(|path| follow(&node, path));
    let mut model = Model {
        past: vec![Past {
            revision: node.document.revision().0,
            table: table(),
            written: "",
        }],
        log_changes: log_changes as u64,
        told: 0,
        blurred: 0,
    };

    for step in steps {
        match step {
            Step::Write(path, n) => {
                let written = node.config.update(path, value_for(path, n)).await;
                model.past.push(Past {
                    revision: written.expect("it is valid").0,
                    table: table(),
                    written: path,
                });
            }
            Step::Yield => {
                yield_now().await;
                model.tell();
            }
            Step::Look(which) => drop(model.check(&mut followers[which])?),
            Step::Anew(which) => followers[which] = follow(&node, PATHS[which]),
        }
    }

    for follower in &mut followers {
        while model.check(follower)? {}
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn whoever_follows_any_path_is_told_all_that_concerns_it_and_nothing_else(
        steps in proptest::collection::vec(steps(), 1..128),
        log_changes in prop_oneof![4 => 1..6usize, 1 => Just(32)],
    ) {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(told_as_the_model_says(steps, log_changes))?;
    }
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_change_wakes_only_those_whom_it_concerns() {
    let node = Node::start().await;
    let mut sleeper = follow(&node, "interface").subscription;
    let mut awake = follow(&node, "dev").subscription;
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    let mut waiting = pin!(sleeper.recv());
    assert!(waiting.as_mut().poll(&mut cx).is_pending());

    for on in [true, false, true] {
        node.config
            .update("dev.debug_mode", on)
            .await
            .expect("it is valid");
        awake.recv().await.expect("the node is there");
    }
    let before = woken.0.load(Ordering::SeqCst);
    node.config
        .update("interface.max_results", 7)
        .await
        .expect("it is valid");
    while woken.0.load(Ordering::SeqCst) == before {
        yield_now().await;
    }

    assert_eq!(before, 0, "nothing of it concerned the sleeper");
    let Poll::Ready(Some(notice)) = waiting.as_mut().poll(&mut cx) else {
        panic!("it was woken for something");
    };
    assert!(notice.record.is_some() && notice.missed == 0);
}

#[tokio::test]
async fn whoever_makes_changes_without_end_lets_others_run() {
    let node = Node::start().await;
    let mut subscriber = follow(&node, "dev.debug_mode").subscription;
    let heard = Arc::new(AtomicBool::new(false));
    let is_heard = Arc::clone(&heard);
    tokio::spawn(async move {
        subscriber.recv().await.expect("the node is there");
        is_heard.store(true, Ordering::SeqCst);
    });

    let mut on = false;
    while !heard.load(Ordering::SeqCst) {
        on = !on;
        node.config
            .update("dev.debug_mode", on)
            .await
            .expect("it is valid");
    }

    assert!(node.document.revision().0 > 0);
}

/// Counts how many followers hear of one change while somebody else waits for a turn.
#[tokio::test]
async fn thousands_of_followers_of_one_change_are_not_all_before_everybody_else() {
    let node = Node::start().await;
    let heard = Arc::new(AtomicUsize::new(0));
    for _ in 0..2000 {
        let mut subscription = follow(&node, "interface.max_results").subscription;
        let heard = Arc::clone(&heard);
        tokio::spawn(async move {
            while subscription.recv().await.is_some() {
                heard.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    let config = node.config.clone();
    // A task as they are: what the test itself does comes before all tasks.
    let other = tokio::spawn(async move {
        let written = config.update("interface.max_results", 7).await;
        written.expect("it is valid");
        let (mut before, mut most) = (0, 0);
        while before < 2000 {
            // To the end of the line.
            let turn = tokio::spawn(async {});
            turn.await.expect("it does nothing");
            let now = heard.load(Ordering::SeqCst);
            most = most.max(now - before);
            before = now;
        }
        most
    });
    let most = other.await.expect("all heard");
    assert!(most <= 256, "{most} of 2000 came first");
}

#[tokio::test]
async fn a_follower_that_is_behind_lets_others_run_after_128_changes() {
    let node = Node::start().await;
    let mut subscription = follow(&node, "interface.max_results").subscription;
    for n in 1..=300 {
        let written = node.config.update("interface.max_results", n).await;
        written.expect("it is valid");
    }
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    let mut turns = vec![0];
    while turns.iter().sum::<i64>() < 300 {
        let next = pin!(subscription.recv());
        match next.poll(&mut cx) {
            Poll::Ready(notice) => {
                let told = notice.expect("the node is there").value;
                assert_eq!(told, Some(Value::from(turns.iter().sum::<i64>() + 1)));
                *turns.last_mut().expect("there is one") += 1;
            }
            Poll::Pending => turns.push(0),
        }
    }
    assert_eq!(turns, [128, 128, 44]);
    assert_eq!(woken.0.load(Ordering::SeqCst), 2, "it comes back by itself");
}

#[tokio::test]
async fn whoever_keeps_to_a_writer_without_end_misses_nothing_and_nobody_is_told_of_others_changes()
{
    let node = Node::start().await;
    let mut beside = follow(&node, "dev.debug_mode").subscription;
    let others: Vec<_> = (0..100)
        .map(|_| {
            let mut subscription = follow(&node, "interface.max_results").subscription;
            tokio::spawn(async move {
                for n in 1..=5000 {
                    let notice = subscription.recv().await.expect("the node is there");
                    assert_eq!((notice.value, notice.missed), (Some(Value::from(n)), 0));
                }
            })
        })
        .collect();
    let config = node.config.clone();
    let writing = tokio::spawn(async move {
        for n in 1..=5000 {
            let written = config.update("interface.max_results", n).await;
            written.expect("it is valid");
        }
    });
    writing.await.expect("it wrote");
    for other in others {
        other.await.expect("it missed none");
    }
    assert!(
        beside.try_recv().is_none(),
        "it was told of others' changes"
    );
}
