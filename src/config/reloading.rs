//! Reads the sources anew, for no longer than that may take, and has the server take over what they say.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::{task::spawn_blocking, time::timeout};

use super::{
    Alarm, AlarmKind, Author, ConfigError, Configuration, ReloadError, Reloaded, UpdateError,
    files::Fingerprint,
    load::{Fresh, Reader},
    message::Message,
};

impl Configuration {
    /// Reads files and environment again and takes over what they say, `by` whom is in the history. What was changed while running
    /// stays over it; what may not change while running stays as it is, and is told.
    ///
    /// # Errors
    ///
    /// [`ReloadError`]: nothing changed, and an alarm says why until a reload works, unless nothing was looked at, as `by` is too long. Files that do not answer are given up after
    /// [`Options::read_timeout`](super::Options::read_timeout). [`UpdateError::Call`] in it with an unanswered
    /// call leaves open whether it was taken over; it may be repeated.
    ///
    /// # Cancel safety
    ///
    /// As [`Configuration::update`].
    pub async fn reload(&self, by: impl Into<Arc<str>>) -> Result<Reloaded, ReloadError> {
        let author = Author {
            by: by.into(),
            why: Arc::default(),
        };
        author.check()?;
        let _one_at_a_time = self.shared().reloading.lock().await;
        let against = self.revision();
        let (seen, outcome) = match self.read_sources().await {
            Err(error) => (None, Err(error)),
            Ok((seen, Err(error))) => (Some(seen), Err(error.into())),
            Ok((seen, Ok(fresh))) => (Some(seen), self.take_over(fresh, author).await),
        };
        self.shared().metrics.count_reload(outcome.is_ok());
        match &outcome {
            Ok(_) => self.shared().published.clear(AlarmKind::FilesBroken),
            Err(error) => {
                tracing::warn!(%error, "the settings were not reloaded; what held before holds");
                // While the files do not answer, nothing is known of what they say.
                if seen.is_some() {
                    self.raise(AlarmKind::FilesBroken, error);
                }
            }
        }
        if let Some(seen) = seen
            && !outcome.as_ref().is_err_and(ReloadError::is_transient)
        {
            // What was against it may have gone while it was looked at.
            let still_counts = || outcome.is_ok() || self.revision() == against;
            self.shared().sources.know(seen, still_counts);
        }
        outcome
    }

    /// The files as they stand, and what all sources say.
    async fn read_sources(&self) -> Result<(Fingerprint, Result<Fresh, ConfigError>), ReloadError> {
        self.look(|sources| (sources.fingerprint(), sources.read()))
            .await
    }

    /// Looks at the sources, for no longer than that may take. One look at a time: files that do not answer hold one thread, not one
    /// for each that asks.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Reader) -> T + Send + 'static,
    ) -> Result<T, ReloadError> {
        let limit = self.shared().options.read_timeout;
        let sources = Arc::clone(&self.shared().sources);
        let looking = Arc::clone(&self.shared().looking);
        let look = async {
            let alone = looking.lock_owned().await;
            let look = spawn_blocking(move || {
                let _alone = alone;
                look(&sources)
            });
            look.await.map_err(|_| ReloadError::RuntimeGone)
        };
        let outcome = timeout(limit, look)
            .await
            .unwrap_or(Err(ReloadError::Stuck { limit }));
        match &outcome {
            Ok(_) => self.shared().published.clear(AlarmKind::FilesStuck),
            Err(error @ ReloadError::Stuck { .. }) => self.raise(AlarmKind::FilesStuck, error),
            Err(_) => {}
        }
        outcome
    }

    fn raise(&self, kind: AlarmKind, error: &ReloadError) {
        let alarm = Alarm::new(kind, error.to_string(), Timestamp::now());
        self.shared().published.raise(alarm);
    }

    async fn take_over(&self, fresh: Fresh, author: Author) -> Result<Reloaded, ReloadError> {
        let (fresh, author) = (Box::new(fresh), Arc::new(author));
        let reload = |reply| Message::Reload {
            fresh,
            author,
            reply,
        };
        match self.call(reload).await {
            Ok(outcome) => outcome.map_err(ReloadError::from),
            Err(error) => Err(UpdateError::from(error).into()),
        }
    }
}
