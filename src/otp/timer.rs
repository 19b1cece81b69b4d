//! Messages that are sent later, unless that is called off.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use ractor::Message;
use tokio::{
    task::JoinHandle,
    time::{self, Instant},
};

use super::{Address, Context, Permit};

/// A message to come. Dropping it calls the message off, so that the timers that an actor keeps in its state end with that
/// life; [`detach`](Self::detach) lets it go on alone.
///
/// ```
/// # use std::time::Duration;
/// # use underpin::otp::Address;
/// # enum Message { Tick }
/// # underpin::otp::message!(Message);
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let address = Address::<Message>::new();
/// let timer = address.send_after(Duration::from_secs(60), Message::Tick);
/// assert!(timer.cancel().is_some(), "it was still to come");
/// assert!(timer.cancel().is_none());
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping it calls the message off; say detach() to let it go on"]
pub struct Timer {
    plan: Arc<Mutex<Plan>>,
    task: Option<JoinHandle<()>>,
}

/// When the next message is due. Held while one is sent, so that none is sent after a cancel has returned.
#[derive(Debug)]
struct Plan {
    due: Option<Instant>,
}

impl Timer {
    /// Calls the message off. How long it would have been; `None` when it is on its way already, or was called off before.
    /// Nothing is sent after this has returned.
    #[expect(
        clippy::must_use_candidate,
        reason = "it is called for what it does; the answer is a courtesy"
    )]
    pub fn cancel(&self) -> Option<Duration> {
        let due = self.plan.lock().due.take()?;
        if let Some(task) = &self.task {
            task.abort();
        }
        Some(due.saturating_duration_since(Instant::now()))
    }

    /// How long until the next message; `None` when there will be none.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        let due = self.plan.lock().due?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    /// Lets it go on without this.
    pub fn detach(mut self) {
        self.task = None;
    }

    fn start(first: Instant, mut send: impl FnMut() -> Option<Instant> + Send + 'static) -> Self {
        let plan = Arc::new(Mutex::new(Plan { due: Some(first) }));
        let task = tokio::spawn({
            let plan = Arc::clone(&plan);
            async move {
                let mut due = first;
                loop {
                    time::sleep_until(due).await;
                    let mut plan = plan.lock();
                    if plan.due.is_none() {
                        return;
                    }
                    plan.due = send();
                    match plan.due {
                        Some(next) => due = next,
                        None => return,
                    }
                }
            }
        });
        Self {
            plan,
            task: Some(task),
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if self.task.is_some() {
            self.cancel();
        }
    }
}

/// What is armed here is caused by what runs here, and is no part of its trace.
fn linked() -> Context {
    Context::current().linked()
}

fn after(delay: Duration) -> Instant {
    /// Stands for delays that the clock cannot hold.
    const FAR: Duration = Duration::from_hours(100 * 365 * 24);
    let now = Instant::now();
    now.checked_add(delay).unwrap_or(now + FAR)
}

/// Timers. What they send goes to whoever lives at the address when it is due, also after a restart; it is lost when nobody does.
impl<M: Message> Address<M> {
    /// Sends a plain message after `delay`.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn send_after(&self, delay: Duration, message: M) -> Timer {
        let (address, mut message) = (self.clone(), Some(message));
        Timer::start(after(delay), move || {
            if let Some(message) = message.take() {
                lost(address.send(message).err());
            }
            None
        })
    }

    /// Sends a message with a permit after `delay`, without waiting for a place: when there is none then, it is refused and
    /// counted. The permit's correlation is a trace of its own, caused by
    /// what armed the timer.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn cast_after(
        &self,
        delay: Duration,
        message: impl FnOnce(Permit) -> M + Send + 'static,
    ) -> Timer {
        let (address, mut message, context) = (self.clone(), Some(message), linked());
        Timer::start(after(delay), move || {
            if let Some(message) = message.take() {
                lost(context.enter(|| address.try_cast(message)).err());
            }
            None
        })
    }

    /// Casts each `period`, first after one period. A beat for which there is no place is refused and counted, so that a slow
    /// actor does not pile them up; beats that the runtime was too late for are left out.
    ///
    /// Periods below a millisecond count as that, which is what tokio's clock resolves.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn cast_every(
        &self,
        period: Duration,
        mut message: impl FnMut(Permit) -> M + Send + 'static,
    ) -> Timer {
        let (address, context) = (self.clone(), linked());
        let period = period.max(Duration::from_millis(1));
        let mut due = after(period);
        Timer::start(due, move || {
            lost(context.enter(|| address.try_cast(&mut message)).err());
            due = next_beat(due, period, Instant::now());
            Some(due)
        })
    }
}

fn lost(error: Option<super::NotSent>) {
    if let Some(error) = error {
        tracing::debug!(%error, "a timer's message was not sent");
    }
}

/// The first beat after `now`, in step with `last`.
fn next_beat(last: Instant, period: Duration, now: Instant) -> Instant {
    let Some(late) = now.checked_duration_since(last) else {
        return last + period;
    };
    let beats = late.as_nanos() / period.as_nanos() + 1;
    u32::try_from(beats)
        .ok()
        .and_then(|beats| last.checked_add(period.checked_mul(beats)?))
        .unwrap_or_else(|| after(period))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_stay_in_step_and_those_that_were_missed_are_left_out() {
        let begin = Instant::now();
        let ms = Duration::from_millis;
        let next = |now| next_beat(begin, ms(10), begin + ms(now)) - begin;
        assert_eq!(next(0), ms(10));
        assert_eq!(next(9), ms(10));
        assert_eq!(next(10), ms(20));
        assert_eq!(next(95), ms(100));
        assert_eq!(next_beat(begin + ms(5), ms(10), begin), begin + ms(15));
    }
}
