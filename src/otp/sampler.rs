//! Looks at all children of a tree from a thread of its own, some times a second, so that no message pays for a clock.
//!
//! A thread and not a task: a task sees only actors on other threads at work, and none at all while its runtime is blocked.

use std::{
    sync::{Arc, Weak, mpsc},
    thread,
    time::{Duration, Instant},
};

use super::{
    Stuck,
    incarnation::Incarnation,
    tree::{Cursor, StuckOnes, TreeNode},
};

/// How often a tree at work is looked at: ten times a second resolves what people notice.
const PERIOD: Duration = Duration::from_millis(100);
/// How often one is looked at where nothing happens.
const IDLE_PERIOD: Duration = Duration::from_secs(1);
/// How many children are looked at each time: some tenths of a millisecond. Larger trees take several times.
const AT_ONCE: usize = 4096;
/// How far back the busy share looks: what was longer ago than this counts less than a third.
const MEMORY: Duration = Duration::from_secs(10);

/// What was seen of one life.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Look {
    last: Option<Seen>,
    busy_share: f64,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    steps: u64,
    /// When this count of steps was seen first.
    first: Instant,
    at: Instant,
}

/// What a look says at a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Work {
    /// How long the current message has been seen at work, at least; `None` between two messages.
    pub(crate) in_message: Option<Duration>,
    /// Which part of the time it was handling messages lately, from 0 to 1.
    pub(crate) busy_share: f64,
}

/// Steps count the begin and the end of each message, so an odd number is a message at work.
fn is_busy(steps: u64) -> bool {
    steps % 2 == 1
}

impl Look {
    /// Takes in what was seen now. Whether anything happened since the last time.
    pub(crate) fn see(&mut self, steps: u64, now: Instant) -> bool {
        let busy = f64::from(u8::from(is_busy(steps)));
        let Some(last) = self.last else {
            self.busy_share = busy;
            self.last = Some(Seen {
                steps,
                first: now,
                at: now,
            });
            return true;
        };
        let passed = now.saturating_duration_since(last.at);
        let old = (-passed.as_secs_f64() / MEMORY.as_secs_f64()).exp();
        self.busy_share = self.busy_share * old + busy * (1.0 - old);
        let first = if steps == last.steps { last.first } else { now };
        self.last = Some(Seen {
            steps,
            first,
            at: now,
        });
        steps != last.steps
    }

    /// What is known now, `steps` being the count of this moment.
    pub(crate) fn work(&self, steps: u64, now: Instant) -> Work {
        let since = self.last.filter(|last| last.steps == steps);
        let seen = since.map_or(Duration::ZERO, |last| {
            now.saturating_duration_since(last.first)
        });
        Work {
            in_message: is_busy(steps).then_some(seen),
            busy_share: self.busy_share,
        }
    }
}

impl Incarnation {
    /// How long it has been in its current message, and how busy it was.
    pub(crate) fn work(&self) -> Work {
        let steps = self.steps();
        self.look.lock().work(steps, Instant::now())
    }

    fn see(&self, now: Instant) -> bool {
        let steps = self.steps();
        self.look.lock().see(steps, now)
    }
}

/// The thread of one tree; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Sampler {
    _until: mpsc::Sender<()>,
    pub(crate) stuck: Arc<StuckOnes>,
}

impl Sampler {
    /// Without a thread, which the system may refuse, a tree has no busy shares, and says so in the log.
    pub(crate) fn start(root: &Arc<TreeNode>) -> Self {
        let (until, ended) = mpsc::channel();
        let tree = Arc::downgrade(root);
        let stuck = Arc::new(StuckOnes::default());
        let noted = Arc::clone(&stuck);
        let started = thread::Builder::new()
            .name("underpin-sampler".into())
            .stack_size(512 << 10)
            .spawn(move || sample(&tree, &noted, &ended));
        if let Err(error) = started {
            tracing::warn!(%error, "no thread to look at the tree with: it shows no busy shares and nothing stuck");
        }
        Self {
            _until: until,
            stuck,
        }
    }
}

fn sample(tree: &Weak<TreeNode>, stuck: &StuckOnes, ended: &mpsc::Receiver<()>) {
    let mut cursor = Cursor::default();
    let mut period = PERIOD;
    while ended.recv_timeout(period) == Err(mpsc::RecvTimeoutError::Timeout) {
        let Some(root) = tree.upgrade() else { return };
        let mut lively = false;
        root.each_from(&mut cursor, AT_ONCE, &mut |node| {
            let Some(life) = node.running() else { return };
            lively |= life.see(Instant::now()) || life.is_busy();
            if node.becomes_stuck(&life) {
                stuck.add(node);
                tell(node);
            }
        });
        period = if lively {
            PERIOD
        } else {
            (period * 2).min(IDLE_PERIOD)
        };
    }
}

fn tell(node: &TreeNode) {
    if let Some(stuck) = node.stuck() {
        let Stuck {
            path,
            message,
            elapsed,
        } = stuck;
        tracing::warn!(%path, message, ?elapsed, "is stuck in one message");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_message_has_been_at_work_since_its_step_was_first_seen() {
        let begin = Instant::now();
        let mut look = Look::default();
        look.see(4, begin);
        assert_eq!(look.work(4, begin).in_message, None);

        assert!(look.see(5, begin + 100 * MS));
        assert!(!look.see(5, begin + 200 * MS));

        let now = begin + 250 * MS;
        assert_eq!(look.work(5, now).in_message, Some(150 * MS));
        // Another message than the one that was seen is not older than now.
        assert_eq!(look.work(7, now).in_message, Some(Duration::ZERO));
        assert_eq!(look.work(8, now).in_message, None);
    }

    #[test]
    fn the_busy_share_goes_towards_what_is_seen() {
        let begin = Instant::now();
        let mut look = Look::default();
        for (n, steps) in (0..1000).enumerate() {
            // At work at every fourth look.
            let odd = u64::from(n % 4 == 0);
            look.see(
                2 * steps + odd,
                begin + u32::try_from(n).expect("small") * 100 * MS,
            );
        }
        let share = look.work(0, begin).busy_share;
        assert!((share - 0.25).abs() < 0.02, "{share}");
    }

    #[test]
    fn the_busy_share_forgets_at_the_same_pace_however_often_is_looked() {
        let begin = Instant::now();
        let share_after = |looks: u32| {
            let mut look = Look::default();
            look.see(1, begin);
            for n in 1..=looks {
                look.see(2, begin + MEMORY * n / looks);
            }
            look.work(2, begin).busy_share
        };
        assert!((share_after(1) - share_after(100)).abs() < 1e-6);
        assert!((share_after(1) - (-1.0_f64).exp()).abs() < 1e-6);
    }

    proptest::proptest! {
        #[test]
        fn the_share_is_a_share_whatever_is_seen(
            looks in proptest::collection::vec((0_u64..1000, 0_u64..100_000), 0..50),
        ) {
            let (mut now, mut look) = (Instant::now(), Look::default());
            for (steps, passed) in looks {
                now += Duration::from_micros(passed);
                look.see(steps, now);
                let share = look.work(steps, now).busy_share;
                proptest::prop_assert!((0.0..=1.0).contains(&share));
            }
        }
    }
}
