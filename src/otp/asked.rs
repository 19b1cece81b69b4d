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
        let is_new = self.0.is_none();
        let key = *self.0.get_or_insert_with(|| {
            static NEXT: AtomicU64 = AtomicU64::new(0);
            WAITING.fetch_add(1, Ordering::SeqCst);
            (here, NEXT.fetch_add(1, Ordering::Relaxed))
        });
        WAKERS.lock().insert(key, cx.waker().clone());
        if is_new {
            // It may have been asked since it was polled: that is seen next time.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl Drop for AskedToEnd {
    fn drop(&mut self) {
        if let Some(key) = self.0 {
            WAKERS.lock().remove(&key);
            WAITING.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// This incarnation has been asked to end.
pub(super) fn tell(incarnation: u64) {
    if WAITING.load(Ordering::SeqCst) == 0 {
        return;
    }
    let wakers: Vec<Waker> = {
        let all = WAKERS.lock();
        let its_own = all.range((incarnation, 0)..=(incarnation, u64::MAX));
        its_own.map(|(_, waker)| waker.clone()).collect()
    };
    wakers.into_iter().for_each(Waker::wake);
}
