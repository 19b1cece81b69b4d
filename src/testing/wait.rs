use std::{
    collections::VecDeque,
    fmt,
    panic::Location,
    pin::pin,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use tokio::{sync::oneshot, time};

use crate::otp::{Report, ReportStream};

/// How long the kit waits for anything before it fails the test, in real time: 20 s, since a machine that runs all tests at once
/// is slow, and a test that passes never waits that long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until something holds that can only be looked at: looks, lets others run, and looks again.
///
/// For what a tree reports, [`report`] is exact and does not look again and again. Under a paused clock the time that passes is
/// not exact: the steps between two looks grow from a millisecond to a 64th of what has passed.
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use underpin::testing::eventually;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// static DONE: AtomicU32 = AtomicU32::new(0);
/// tokio::spawn(async { DONE.store(1, Ordering::Relaxed) });
///
/// eventually("the work is done", async || DONE.load(Ordering::Relaxed) == 1).await;
/// # }
/// ```
///
/// # Panics
///
/// It does not hold within [`PATIENCE`]; `what` is in the message.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    let caller = Location::caller();
    async move {
        let looking = async {
            let mut pause = Pause::new();
            while !holds().await {
                pause.next().await;
            }
        };
        let came_true = patiently(looking).await.is_some();
        assert!(
            came_true,
            "{caller}: waited {PATIENCE:?} and it did not come true: {what}"
        );
    }
}

/// Waits for a report that `pick` makes something of.
///
/// ```
/// use std::time::Duration;
/// use underpin::{
///     otp::{Budget, ChildSpec, Intensity, Lifecycle, OnExceed, SupervisorSpec},
///     testing::{Life, report, with_tree},
/// };
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let never = Intensity::new(0, Duration::from_secs(1));
/// let child = ChildSpec::task("fragile", |ctx| async move { Ok(ctx.cancelled().await) })
///     .budget(Budget::new(never, OnExceed::Stop));
///
/// with_tree(SupervisorSpec::new("shop", never).child(child), async |shop| {
///     let mut reports = shop.reports().expect("it runs");
///     let _ = Life::of(shop, "fragile").kill();
///
///     let reason = report(&mut reports, "fragile stays down", |report| match &report.what {
///         Lifecycle::BudgetExceeded { reason } => Some(reason.clone()),
///         _ => None,
///     });
///     assert_eq!(reason.await.to_string(), "killed");
/// })
/// .await;
/// # }
/// ```
///
/// # Panics
///
/// No such report comes within [`PATIENCE`]; `what` is in the message, and the last reports that came instead.
#[track_caller]
pub fn report<T>(
    reports: &mut ReportStream,
    what: &str,
    mut pick: impl FnMut(&Report) -> Option<T>,
) -> impl Future<Output = T> {
    let caller = Location::caller();
    async move {
        let mut others = Others::default();
        let picking = async {
            while let Some(report) = reports.next().await {
                match pick(&report) {
                    Some(picked) => return Some(picked),
                    None => others.note(report),
                }
            }
            None
        };
        match patiently(picking).await {
            Some(Some(picked)) => picked,
            Some(None) => panic!("{caller}: the tree is gone before this report: {what}; {others}"),
            None => panic!("{caller}: waited {PATIENCE:?} for this report: {what}; {others}"),
        }
    }
}

/// The last reports that were not the one.
#[derive(Default)]
struct Others(VecDeque<Report>);

impl Others {
    const KEPT: usize = 8;

    fn note(&mut self, report: Report) {
        if self.0.len() == Self::KEPT {
            self.0.pop_front();
        }
        self.0.push_back(report);
    }
}

impl fmt::Display for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nothing was reported");
        }
        f.write_str("the last reports were")?;
        let list = self.0.iter();
        list.map(|report| (&report.path, &report.what))
            .try_for_each(|(path, what)| write!(f, "\n  {path}: {what:?}"))
    }
}

/// Lets others run between two looks.
struct Pause {
    looks: u32,
    real: Instant,
    clock: time::Instant,
}

impl Pause {
    /// Looks that only yield: what is ready to run needs no clock.
    const YIELDS: u32 = 64;
    const STEP: Duration = Duration::from_millis(1);

    fn new() -> Self {
        Self {
            looks: 0,
            real: Instant::now(),
            clock: time::Instant::now(),
        }
    }

    async fn next(&mut self) {
        self.looks += 1;
        if self.looks < Self::YIELDS {
            return tokio::task::yield_now().await;
        }
        // Only a paused clock goes ahead of the real one.
        let ahead = self.clock.elapsed().saturating_sub(self.real.elapsed());
        time::sleep(Self::STEP + ahead / 64).await;
    }
}

/// Waits for something, at most [`PATIENCE`]. The bound is a thread's and not the runtime's: under a paused clock a timer
/// would go off as soon as all tasks are idle, before anything that happens outside of the runtime.
pub(super) async fn patiently<T>(work: impl Future<Output = T>) -> Option<T> {
    within(PATIENCE, work).await
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    if let Some(done) = futures_util::FutureExt::now_or_never(work.as_mut()) {
        return Some(done);
    }
    let (_in_time, end) = mpsc::channel::<()>();
    let (ring, bell) = oneshot::channel::<()>();
    thread::spawn(move || {
        if end.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            let _ = ring.send(());
        }
    });
    tokio::select! {
        biased;
        done = work => Some(done),
        Ok(()) = bell => None,
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn what_never_comes_is_not_waited_for_for_ever() {
        assert_eq!(within(SOON, pending::<()>()).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_leaps_does_not_end_a_wait_and_a_real_limit_does() {
        let hour = time::sleep(Duration::from_hours(1));
        assert_eq!(within(SOON, hour).await, Some(()));
        assert_eq!(within(SOON, pending::<()>()).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_between_looks_grow_with_what_has_passed() {
        let begin = time::Instant::now();
        let mut pause = Pause::new();
        for _ in 0..2000 {
            pause.next().await;
        }
        assert!(begin.elapsed() > Duration::from_hours(1));
    }

    #[test]
    fn the_last_reports_are_told_and_no_more() {
        let mut others = Others::default();
        assert_eq!(others.to_string(), "nothing was reported");
        for incarnation in 1..=9 {
            let what = crate::otp::Lifecycle::Started { incarnation };
            let path = "shop/till".into();
            others.note(Report {
                path,
                what,
                context: crate::otp::Context::default(),
            });
        }
        let told = others.to_string();
        assert_eq!(told.lines().count(), 1 + Others::KEPT);
        assert!(
            told.ends_with("shop/till: Started { incarnation: 9 }"),
            "{told}"
        );
    }
}
