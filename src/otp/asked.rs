//! That the child that runs here was asked to end, for what of its code waits for another one's next life. The two may be part of one
//! restart, whose next step is the end of this one.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;

use super::scope;

/// Incarnation and number.
type Key = (u64, u64);

/// Those that wait, of the whole process: they are rare, and whoever asks for an end mostly finds none.
static WAITING: AtomicUsize = AtomicUsize::new(0);
static WAKERS: Mutex<BTreeMap<Key, Waker>> = Mutex::new(BTreeMap::new());

/// Done when the child that runs here has been asked to end; never outside of any.
#[derive(Debug, Default)]
pub(super) struct AskedToEnd(Option<Key>);

impl Future for AskedToEnd {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if scope::is_ending() {
            return Poll::Ready(());
        }
        let here = scope::current();
        if here == 0 {
            return Poll::Pending;
        }
        let key = *self.0.get_or_insert_with(|| {
            static NEXT: AtomicU64 = AtomicU64::new(0);
            WAITING.fetch_add(1, Ordering::SeqCst);
            (here, NEXT.fetch_add(1, Ordering::Relaxed))
        });
        // What wakers do when they are copied and dropped is others' code: not in the lock.
        let waker = cx.waker().clone();
        let before = WAKERS.lock().insert(key, waker);
        if before.is_none() {
            // It is new, or it has been told: it may have been asked since this poll began. That is seen next time.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl Drop for AskedToEnd {
    fn drop(&mut self) {
        if let Some(key) = self.0 {
            let waker = WAKERS.lock().remove(&key);
            drop(waker);
            WAITING.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// This incarnation has been asked to end.
pub(super) fn tell(incarnation: u64) {
    if WAITING.load(Ordering::SeqCst) == 0 {
        return;
    }
    // Taken out, so that those are known that were told.
    let wakers: Vec<Waker> = {
        let mut all = WAKERS.lock();
        let its_own = all.range((incarnation, 0)..=(incarnation, u64::MAX));
        let keys: Vec<Key> = its_own.map(|(key, _)| *key).collect();
        keys.iter().filter_map(|key| all.remove(key)).collect()
    };
    wakers.into_iter().for_each(Waker::wake);
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, mpsc},
        task::Wake,
        time::Duration,
    };

    use futures_util::task::noop_waker_ref;

    use super::*;

    /// Counts how often it is woken. Asks everybody of the incarnation to end when it goes, as a task's drop may.
    struct Woken {
        times: AtomicUsize,
        tells: u64,
    }

    impl Woken {
        fn new(tells: u64) -> Arc<Self> {
            Arc::new(Self {
                times: AtomicUsize::new(0),
                tells,
            })
        }

        fn take(&self) -> usize {
            self.times.swap(0, Ordering::SeqCst)
        }
    }

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.times.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Drop for Woken {
        fn drop(&mut self) {
            tell(self.tells);
        }
    }

    fn poll(asked: &mut AskedToEnd, waker: &Waker) -> bool {
        let mut cx = Context::from_waker(waker);
        Pin::new(asked).poll(&mut cx).is_ready()
    }

    #[test]
    fn one_that_is_asked_while_it_is_polled_from_elsewhere_is_woken_there() {
        const HERE: u64 = u64::MAX - 1;
        let (one, other) = (Woken::new(0), Woken::new(0));
        let (here, there) = (
            Waker::from(Arc::clone(&one)),
            Waker::from(Arc::clone(&other)),
        );
        let mut asked = AskedToEnd::default();
        {
            let _scope = scope::enter(HERE, 0, false);
            assert!(!poll(&mut asked, &here) && !poll(&mut asked, &here));
            assert_eq!(one.take(), 1, "once, when it is new");

            // Its poll has begun, and does not know.
            tell(HERE);
            assert!(!poll(&mut asked, &there));
        }

        assert_eq!((one.take(), other.take()), (1, 1));
        let _scope = scope::enter(HERE, 0, true);
        assert!(poll(&mut asked, &there));
    }

    #[test]
    fn a_waker_may_do_as_it_likes_when_it_goes() {
        const HERE: u64 = u64::MAX - 2;
        let (done, is_done) = mpsc::channel();
        std::thread::spawn(move || {
            let _scope = scope::enter(HERE, 0, false);
            let mut asked = AskedToEnd::default();
            poll(&mut asked, &Waker::from(Woken::new(HERE)));
            // It takes the other one's place.
            poll(&mut asked, noop_waker_ref());
            poll(&mut asked, &Waker::from(Woken::new(HERE)));
            drop(asked);
            let _ = done.send(());
        });
        let done = is_done.recv_timeout(Duration::from_secs(20));
        done.expect("nobody waits for a lock that they hold");
    }
}
