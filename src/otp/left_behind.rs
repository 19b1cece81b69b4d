//! What outlives a supervisor: children that were still there when it ended, of which its next life has to wait for the last.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, FutureExt as _, Shared};
use parking_lot::Mutex;
use tokio::{
    task::{AbortHandle, JoinHandle},
    time,
};

use super::SupervisorError;

/// How long a new life waits for what an earlier one left behind. They were killed; what blocks a thread may never go.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many are named to whoever may not start beside them.
const NAMED: usize = 10;

/// The children that outlived one supervisor. Only those that are gone leave the list, so that whoever waits may give up, and several
/// may wait: the supervisor's own next life, and that of the supervisor it was in.
#[derive(Debug, Default)]
pub(crate) struct LeftBehind(Mutex<Vec<Left>>);

#[derive(Debug)]
struct Left {
    path: Arc<str>,
    /// `None`: it is gone itself.
    task: Option<Task>,
    /// Of a supervisor: what that leaves behind in turn, once it has ended.
    below: Option<Arc<LeftBehind>>,
}

#[derive(Debug)]
struct Task {
    task: AbortHandle,
    over: Over,
}

type Over = Shared<BoxFuture<'static, ()>>;

impl Left {
    fn is_gone(&self) -> bool {
        let below = |list: &Arc<LeftBehind>| list.still_there().is_empty();
        self.running().is_none() && self.below.as_ref().is_none_or(below)
    }

    fn running(&self) -> Option<&Over> {
        let running = self.task.as_ref().filter(|task| !task.task.is_finished());
        running.map(|task| &task.over)
    }
}

impl LeftBehind {
    /// The child at `path` is still there when its supervisor ends, as long as `task`; and, where it is a supervisor itself, what is in
    /// its own list is.
    pub(crate) fn add(
        &self,
        path: &Arc<str>,
        task: Option<JoinHandle<()>>,
        below: Option<Arc<Self>>,
    ) {
        let task = task.map(|task| Task {
            task: task.abort_handle(),
            over: task.map(drop).boxed().shared(),
        });
        let left = Left {
            path: Arc::clone(path),
            task,
            below,
        };
        if !left.is_gone() {
            self.0.lock().push(left);
        }
    }

    /// Done when nothing is left.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Leaked`]: something is still there after [`PATIENCE`].
    pub(crate) async fn gone(self: &Arc<Self>) -> Result<(), SupervisorError> {
        let gone = async {
            loop {
                let there = self.still_there();
                if there.is_empty() {
                    return;
                }
                // A supervisor among them may leave some behind in turn: they are found when it is gone.
                for (_, over) in there {
                    over.await;
                }
            }
        };
        let _ = time::timeout(PATIENCE, gone).await;
        let there = self.still_there();
        if there.is_empty() {
            self.0.lock().retain(|left| left.running().is_some());
            return Ok(());
        }
        let mut names: Vec<&str> = there.iter().map(|(path, _)| &**path).collect();
        names.sort_unstable();
        let more = names.len().saturating_sub(NAMED);
        names.truncate(NAMED);
        let names = names.join(", ");
        Err(SupervisorError::Leaked(match more {
            0 => names.into(),
            more => format!("{names} and {more} more").into(),
        }))
    }

    /// Whatever is there now, here and in the lists of those that are listed.
    fn still_there(self: &Arc<Self>) -> Vec<(Arc<str>, Over)> {
        let mut there = Vec::new();
        // A spec may stand in several trees, so that two lists may even name each other.
        let mut seen = HashSet::from([Arc::as_ptr(self)]);
        let mut lists = vec![Arc::clone(self)];
        while let Some(list) = lists.pop() {
            for left in &*list.0.lock() {
                if let Some(over) = left.running() {
                    there.push((Arc::clone(&left.path), over.clone()));
                }
                let below = left.below.iter();
                lists.extend(below.filter(|list| seen.insert(Arc::as_ptr(list))).cloned());
            }
        }
        there
    }
}

#[cfg(test)]
mod tests {
    use tokio::{sync::oneshot, time::Instant};

    use super::*;

    /// Something that is there until what is returned is dropped.
    fn lasting() -> (oneshot::Sender<()>, JoinHandle<()>) {
        let (release, until) = oneshot::channel();
        (release, tokio::spawn(async move { drop(until.await) }))
    }

    async fn named(list: &Arc<LeftBehind>) -> String {
        let leaked = list.gone().await.expect_err("something is there");
        leaked.to_string()
    }

    /// Whoever waited had the only list of what it waited for, and took it along when it was dropped.
    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_given_up_takes_nothing_away_and_several_may_wait() {
        let (list, (release, task)) = (Arc::<LeftBehind>::default(), lasting());
        list.add(&"s/a".into(), Some(task), None);

        let given_up = time::timeout(PATIENCE / 2, list.gone()).await;
        assert!(given_up.is_err());
        let (one, other) = tokio::join!(list.gone(), list.gone());
        assert!(one.is_err() && other.is_err());
        drop(release);

        let begin = Instant::now();
        assert_eq!(list.gone().await, Ok(()));
        assert_eq!(begin.elapsed(), Duration::ZERO);
        assert!(list.0.lock().is_empty());
    }

    /// The supervisor in between was named, which had ended long ago.
    #[tokio::test(start_paused = true)]
    async fn what_a_nested_supervisor_leaves_behind_once_it_has_ended_is_waited_for_and_named() {
        let (outer, inner) = (Arc::<LeftBehind>::default(), Arc::<LeftBehind>::default());
        let (end, ending) = lasting();
        outer.add(&"o/i".into(), Some(ending), Some(Arc::clone(&inner)));
        assert!(named(&outer).await.starts_with("o/i did not end"));
        let (release, task) = lasting();
        let leaves = async {
            inner.add(&"o/i/a".into(), Some(task), None);
            drop(end);
        };

        let (gone, ()) = tokio::join!(named(&outer), leaves);

        assert!(gone.starts_with("o/i/a did not end"), "{gone}");
        assert!(named(&inner).await.starts_with("o/i/a did not end"));
        drop(release);
        assert_eq!(outer.gone().await, Ok(()));
        assert_eq!(inner.gone().await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_some_are_named_and_the_others_counted() {
        let list = Arc::<LeftBehind>::default();
        let mut releases = Vec::new();
        for n in 0..NAMED + 2 {
            let (release, task) = lasting();
            releases.push(release);
            list.add(&format!("s/{n:02}").into(), Some(task), None);
        }

        let names = named(&list).await;

        assert!(names.starts_with("s/00, s/01, "), "{names}");
        assert!(names.contains(", s/09 and 2 more did not end"), "{names}");
        releases.truncate(1);
        let names = named(&list).await;
        assert!(names.starts_with("s/00 did not end"), "{names}");
    }

    #[tokio::test(start_paused = true)]
    async fn two_lists_may_name_each_other() {
        let (one, other) = (Arc::<LeftBehind>::default(), Arc::<LeftBehind>::default());
        let ((end, ending), (release, task)) = (lasting(), lasting());
        one.add(&"b".into(), Some(ending), Some(Arc::clone(&other)));
        other.add(&"a".into(), None, Some(Arc::clone(&one)));
        other.add(&"c".into(), Some(task), None);
        drop(end);

        assert!(named(&one).await.starts_with("c did not end"));
        drop(release);
        assert_eq!(other.gone().await, Ok(()));
        assert_eq!(one.gone().await, Ok(()));
    }
}
