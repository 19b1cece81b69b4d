//! Waiting for a service, and asking how it is.

use std::{fmt::Debug, hash::Hash, panic::AssertUnwindSafe, pin::pin, time::Duration};

use futures_util::FutureExt;
use tokio::time;

use super::{CheckError, NotRegistered, Registered, Registry};
use crate::otp::ExitReason;

impl<K, V> Registry<K, V>
where
    K: Hash + Eq + Clone + Debug + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Waits until somebody has registered a key.
    ///
    /// # Errors
    ///
    /// [`NotRegistered`] when nobody came within `timeout`.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn wait_for(
        &self,
        key: &K,
        timeout: Duration,
    ) -> Result<Registered<V>, NotRegistered> {
        let waiting = time::timeout(timeout, self.registered(key)).await;
        waiting.map_err(|_| self.not_registered(key, timeout))
    }

    async fn registered(&self, key: &K) -> Registered<V> {
        loop {
            let mut entered = pin!(self.entered().notified());
            entered.as_mut().enable();
            if let Some(found) = self.try_find(key) {
                return found;
            }
            entered.await;
        }
    }

    /// Finds a service and asks how it is, by a check that calls it and says what is wrong.
    ///
    /// A check that only has to find it is [`find`](Self::find).
    ///
    /// ```
    /// use std::time::Duration;
    /// use underpin::otp::{CheckError, Keys, Lease, Registry};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let desks: Registry<&str, u32> = Registry::new("desks", Keys::Unique);
    /// let ann = Lease::new();
    /// desks.register("window", &ann, 7)?;
    ///
    /// let limit = Duration::from_secs(5);
    /// let is_tidy = async |desk: underpin::otp::Registered<u32>| if desk.value < 9 { Ok(()) } else { Err("heaps") };
    /// assert!(desks.health_check(&"window", limit, is_tidy).await.is_ok());
    /// assert!(matches!(desks.health_check(&"door", limit, is_tidy).await, Err(CheckError::NotRegistered(_))));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`CheckError`] says what is wrong, with the service or with the check.
    ///
    /// # Cancel safety
    ///
    /// As safe as the check.
    pub async fn health_check<E: Debug>(
        &self,
        key: &K,
        limit: Duration,
        check: impl AsyncFnOnce(Registered<V>) -> Result<(), E>,
    ) -> Result<Registered<V>, CheckError<E>> {
        let found = self.find(key)?;
        let owner = || found.owner.clone();
        let checking = AssertUnwindSafe(check(found.clone())).catch_unwind();
        let outcome = tokio::select! {
            biased;
            outcome = time::timeout(limit, checking) => outcome,
            () = found.owner.ended() => return Err(CheckError::Ended { owner: owner() }),
        };
        match outcome {
            Ok(Ok(Ok(()))) => Ok(found),
            Ok(Ok(Err(error))) => Err(CheckError::Failed {
                owner: owner(),
                error,
            }),
            Ok(Err(panicked)) => Err(CheckError::Panicked {
                owner: owner(),
                words: ExitReason::from_panic(&*panicked).to_string(),
            }),
            Err(_) => Err(CheckError::Timeout {
                owner: owner(),
                limit,
            }),
        }
    }
}
