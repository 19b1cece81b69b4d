//! That a child is to end, for those of its code that look.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, Ordering, fence},
};

use tokio_util::sync::CancellationToken;

/// Most children never look, so that the token is made when one does.
#[derive(Debug, Default)]
pub(super) struct Cancel {
    cancelled: AtomicBool,
    token: OnceLock<CancellationToken>,
}

impl Cancel {
    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        // Whoever makes the token looks at the flag after that: one of the two sees the other.
        fence(Ordering::SeqCst);
        if let Some(token) = self.token.get() {
            token.cancel();
        }
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    pub(super) fn token(&self) -> &CancellationToken {
        let token = self.token.get_or_init(CancellationToken::new);
        fence(Ordering::SeqCst);
        if self.is_cancelled() {
            token.cancel();
        }
        token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_fires_whether_it_was_there_before_or_comes_after() {
        let (early, late) = (Cancel::default(), Cancel::default());
        let before = early.token().clone();
        assert!(!before.is_cancelled() && !early.is_cancelled());

        early.cancel();
        late.cancel();

        assert!(before.is_cancelled() && early.is_cancelled());
        assert!(late.token().is_cancelled());
    }

    #[test]
    fn a_token_that_is_made_while_the_end_comes_fires() {
        for _ in 0..1000 {
            let cancel = Cancel::default();
            std::thread::scope(|threads| {
                let token = threads.spawn(|| cancel.token().clone());
                threads.spawn(|| cancel.cancel());
                let token = token.join().expect("does not panic");
                while !cancel.is_cancelled() {
                    std::thread::yield_now();
                }
                // The one that cancels may still be on its way to the token that it saw.
                let fired = (0..1_000_000).any(|_| {
                    std::thread::yield_now();
                    token.is_cancelled()
                });
                assert!(fired);
            });
        }
    }
}
