use std::{panic::Location, sync::Arc};

use crate::otp::{Address, ExitReason, Lifecycle, Report, ReportStream, Subject, Supervisor, Tree};

use super::wait::{PATIENCE, patiently};

/// One life of a child: end it, and wait for what follows.
///
/// Take it before the crash, and do the crash with [`kill`](Self::kill), with [`panic`](Self::panic), or with whatever makes the
/// program itself fail.
///
/// ```
/// # use underpin::ractor::{Actor, ActorProcessingErr, ActorRef};
/// use std::time::Duration;
/// use underpin::{
///     otp::{Address, ChildSpec, ExitReason, Intensity, SupervisorSpec},
///     testing::{Life, with_tree},
/// };
/// # struct Till;
/// # enum Message { Sell(u32) }
/// # underpin::otp::message!(Message);
/// # impl Actor for Till {
/// #     type Msg = Message;
/// #     type State = u32;
/// #     type Arguments = ();
/// #     async fn pre_start(&self, _: ActorRef<Message>, (): ()) -> Result<u32, ActorProcessingErr> { Ok(10) }
/// #     async fn handle(&self, _: ActorRef<Message>, Message::Sell(n): Message, stock: &mut u32) -> Result<(), ActorProcessingErr> {
/// #         *stock = stock.checked_sub(n).ok_or("sold out")?;
/// #         Ok(())
/// #     }
/// # }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let till = Address::new();
/// let spec = SupervisorSpec::new("shop", Intensity::new(3, Duration::from_secs(5)))
///     .child(ChildSpec::actor("till", &till, |_| (Till, ())));
///
/// with_tree(spec, async |shop| {
///     let life = Life::of(shop, &till);
///     till.send(Message::Sell(11)).expect("it runs");
///     assert_eq!(life.restarted().await.reason, ExitReason::Error("sold out".into()));
///
///     let restarted = Life::of(shop, &till).kill().restarted().await;
///     assert_eq!((restarted.from, restarted.to), (2, 3));
/// })
/// .await;
/// # }
/// ```
#[derive(Debug)]
#[must_use = "say `ended` or `restarted`, or the crash may not have happened yet"]
pub struct Life {
    subject: Subject,
    supervisor: Supervisor,
    reports: ReportStream,
    caller: &'static Location<'static>,
}

/// A child that lives again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restarted {
    /// Where it stands in the tree.
    pub path: Arc<str>,
    /// The life that ended.
    pub from: u64,
    /// The life that it leads now: the next one, unless a start in between failed.
    pub to: u64,
    /// How the old life ended.
    pub reason: ExitReason,
}

/// What tells a child from others: its path, from the root on or from below it; or its [`Address`].
pub trait Child: sealed::Child {}

impl<C: sealed::Child + ?Sized> Child for C {}

mod sealed {
    use super::{Address, Arc, Supervisor};

    pub trait Child {
        fn path(&self, supervisor: &Supervisor) -> Option<Arc<str>>;
    }

    impl Child for str {
        fn path(&self, supervisor: &Supervisor) -> Option<Arc<str>> {
            let tree = supervisor.tree()?;
            let below = format!("{}/{self}", tree.path);
            let found = tree.find(self).or_else(|| tree.find(&below));
            found.map(|child| Arc::clone(&child.path))
        }
    }

    impl<M: ractor::Message> Child for Address<M> {
        fn path(&self, supervisor: &Supervisor) -> Option<Arc<str>> {
            supervisor.path_of(self)
        }
    }
}

impl Life {
    /// The life that a child of this tree leads now.
    ///
    /// # Panics
    ///
    /// There is no such child, or it has not been started yet.
    #[track_caller]
    pub fn of(supervisor: &Supervisor, child: &(impl Child + ?Sized)) -> Self {
        let caller = Location::caller();
        // First, so that nothing that follows is missed.
        let reports = supervisor.reports();
        let path = child.path(supervisor);
        let subject = path.and_then(|path| supervisor.subject(&path));
        let (Some(reports), Some(subject)) = (reports, subject) else {
            panic!("{caller}: no such child; there are {}", paths(supervisor));
        };
        Self {
            subject,
            supervisor: supervisor.clone(),
            reports,
            caller,
        }
    }

    /// Kills it. That acts when its code waits for something; an actor's `post_stop` does not run.
    pub fn kill(self) -> Self {
        self.subject.kill();
        self
    }

    /// Makes it panic with these words, in the middle of what it does, or between two messages. That acts when its code waits
    /// for something or begins something new.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn panic(self, words: &str) -> Self {
        self.subject.panic(words);
        self
    }

    /// Waits until this life is over, and says how it ended.
    ///
    /// # Panics
    ///
    /// It is not over within [`PATIENCE`].
    pub async fn ended(self) -> ExitReason {
        match patiently(self.subject.ended()).await {
            Some(reason) => reason,
            None => self.fail("has not ended"),
        }
    }

    /// Waits until the child lives again.
    ///
    /// # Panics
    ///
    /// It does not within [`PATIENCE`], or never will: it was stopped, it has used up its budget, or its supervisor has ended.
    pub async fn restarted(mut self) -> Restarted {
        match patiently(self.next_life()).await {
            Some(Ok(restarted)) => restarted,
            Some(Err(why)) => self.fail(&why),
            None => self.fail("was not restarted"),
        }
    }

    async fn next_life(&mut self) -> Result<Restarted, String> {
        loop {
            let report = tokio::select! {
                biased;
                report = self.reports.next() => report,
                reason = self.supervisor.ended() => return Err(format!("has no tree any more, which ended with {reason}")),
            };
            let Some(report) = report else {
                return Err("has no tree any more".to_owned());
            };
            if let Some(to) = self.judge(&report)? {
                return Ok(Restarted {
                    path: Arc::clone(&self.subject.path),
                    from: self.subject.incarnation(),
                    to,
                    reason: self.subject.ended().await,
                });
            }
        }
    }

    /// The next life, if this report is about its beginning; an error if there will be none.
    fn judge(&self, report: &Report) -> Result<Option<u64>, String> {
        let mine = report.path == self.subject.path;
        match &report.what {
            Lifecycle::Started { incarnation } if mine => {
                let next = *incarnation > self.subject.incarnation();
                Ok(next.then_some(*incarnation))
            }
            Lifecycle::Stopped { .. } if mine => Err("was stopped".to_owned()),
            Lifecycle::BudgetExceeded { .. } if mine => {
                Err("used up its budget and stays down".to_owned())
            }
            Lifecycle::GaveUp { child, reason } if self.is_below(&report.path) => Err(format!(
                "lost its supervisor {}, which gave up on {child} ({reason})",
                report.path
            )),
            Lifecycle::Exited { reason, .. } | Lifecycle::Stopped { reason, .. }
                if self.is_below(&report.path) =>
            {
                let above = &report.path;
                Err(format!(
                    "lost its supervisor {above}, which ended ({reason})"
                ))
            }
            _ => Ok(None),
        }
    }

    fn is_below(&self, path: &str) -> bool {
        let rest = self.subject.path.strip_prefix(path);
        rest.is_some_and(|rest| rest.starts_with('/'))
    }

    /// Fails the test, with all that is known about the child.
    fn fail(&self, what: &str) -> ! {
        let (caller, path) = (self.caller, &self.subject.path);
        let tree = self.supervisor.tree();
        let now = tree.as_ref().and_then(|tree| tree.find(path));
        let now = now.map_or("gone from the tree".to_owned(), |child| {
            let last = child.last_exit.as_deref().unwrap_or("nothing yet");
            format!(
                "{:?} in life {}, its last end was {last}",
                child.state, child.incarnation
            )
        });
        let life = self.subject.incarnation();
        panic!("{caller}: life {life} of {path} {what} (waited up to {PATIENCE:?}); it is {now}");
    }
}

fn paths(supervisor: &Supervisor) -> String {
    let tree = supervisor.tree();
    let paths = |tree: &Tree| tree.walk().map(|child| child.path.to_string()).collect();
    let paths: Vec<String> = tree.as_ref().map(paths).unwrap_or_default();
    paths.join(", ")
}
