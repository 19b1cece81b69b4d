use std::{fmt, sync::Arc};

use ractor::ActorCell;
use serde::de::DeserializeOwned;
use tokio::{sync::Notify, time::Instant};

use super::{
    AsPath, AuditFeed, Config, Loaded, Options, Origin, Preview, Proposal, ReadError, Record,
    Revision, Schema, Sources, Status, Subscription, UpdateError,
    actor::ConfigServer,
    keeper::Keeper,
    message::Message,
    proposal::full_path,
    read,
    shared::{Metrics, Published, Shared},
    state::{Action, Request},
    turn, watching,
};
use crate::{
    otp::{Address, CallError, ChildSpec, Reply},
    telemetry::Telemetry,
    value::{Path, Value},
};

/// The settings of a node, as one document with the tables `underpin` and `app`. Cheap to clone.
///
/// Reads never wait: they look at the published state, also while the server is down or has not started. Changes go through the
/// server, which [`Configuration::child_spec`] puts under a supervisor. Paths are full: `app.http.port`.
#[derive(Clone)]
pub struct Configuration {
    shared: Arc<Shared>,
    address: Address<Message>,
}

impl Configuration {
    /// Takes over what was loaded. Reads work from here on.
    ///
    /// The counters `underpin_config_updates`, `underpin_config_resets` and `underpin_config_refused` are kept with `telemetry`.
    #[must_use]
    pub fn new(loaded: Loaded, options: Options, telemetry: &Telemetry) -> Self {
        let Loaded {
            state,
            log,
            alarms,
            kept,
            reader,
            misnamed: _,
        } = loaded;
        Self {
            shared: Arc::new(Shared {
                published: Arc::new(Published::new(state, log, alarms)),
                news: Notify::new(),
                metrics: Metrics::new(telemetry),
                keeper: kept.map(|kept| Arc::new(Keeper::new(kept))),
                sources: reader,
                reloading: tokio::sync::Mutex::default(),
                looking: Arc::default(),
                options,
            }),
            address: Address::new(),
        }
    }

    /// The server as a supervised child, with the id `config`. A restarted server goes on with the published state.
    #[must_use]
    pub fn child_spec(&self) -> ChildSpec {
        let shared = Arc::clone(&self.shared);
        ChildSpec::actor("config", &self.address, move |_| {
            (ConfigServer, Arc::clone(&shared))
        })
    }

    /// The one who follows the settings files, as a supervised child with the id `settings`: what they say is taken over when they
    /// change and have come to rest. It does nothing where there are none.
    #[must_use]
    pub fn watch_spec(&self) -> ChildSpec {
        let config = self.clone();
        ChildSpec::task("settings", move |ctx| {
            let config = config.clone();
            async move {
                tokio::select! {
                    () = ctx.cancelled() => {}
                    () = watching::watch(config) => {}
                }
                Ok(())
            }
        })
    }

    /// The actor that is the server now, to watch it or to test what happens without it.
    #[must_use]
    pub fn actor(&self) -> Option<ActorCell> {
        self.address.actor()
    }

    /// The program's table, when it is of this type.
    #[must_use]
    pub fn app<T: Schema>(&self) -> Option<Config<T>> {
        Config::of(self, Sources::APP)
    }

    /// The node's own table, when it is of this type.
    #[must_use]
    pub fn node<T: Schema>(&self) -> Option<Config<T>> {
        Config::of(self, Sources::NODE)
    }

    /// The value at `path`, read into a type; the empty path is the whole document.
    ///
    /// # Errors
    ///
    /// [`ReadError`]; reading again gives the same until the settings change.
    pub fn get<V: DeserializeOwned>(&self, path: impl AsPath) -> Result<V, ReadError> {
        read::typed(
            &self.shared.published.state(),
            None,
            path.as_path()?.as_ref(),
        )
    }

    /// The value at `path` as it is, secrets included: for the program itself. The empty path is the whole document.
    ///
    /// # Errors
    ///
    /// [`ReadError::InvalidPath`] and [`ReadError::NotFound`], which also says so of a path through something that is no table.
    pub fn get_value(&self, path: impl AsPath) -> Result<Value, ReadError> {
        read::value(
            &self.shared.published.state(),
            None,
            path.as_path()?.as_ref(),
        )
    }

    /// The value at `path`, or `default` where there is none of that type.
    pub fn get_or<V: DeserializeOwned>(&self, path: impl AsPath, default: V) -> V {
        self.get(path).unwrap_or(default)
    }

    /// The value at `path` with each secret replaced by `[secret]`: for people, dumps and interfaces.
    ///
    /// # Errors
    ///
    /// As [`Configuration::get_value`].
    pub fn shown(&self, path: impl AsPath) -> Result<Value, ReadError> {
        let path = path.as_path()?;
        let state = self.shared.published.state();
        let value = read::value(&state, None, &path)?;
        Ok(state.tables.redact(&path, &value))
    }

    /// The value at `path` as it may be shown, where it comes from, and the revision at which both hold.
    #[cfg(feature = "web")]
    pub(crate) fn seen(&self, path: impl AsPath) -> Result<(Value, Origin, Revision), ReadError> {
        let path = path.as_path()?;
        let state = self.shared.published.state();
        let value = read::value(&state, None, &path)?;
        let origin = read::origin(&state, &path)?;
        Ok((state.tables.redact(&path, &value), origin, state.revision))
    }

    /// Where the value at `path` comes from; for a table, where its strongest part comes from.
    ///
    /// # Errors
    ///
    /// As [`Configuration::get_value`].
    pub fn origin(&self, path: impl AsPath) -> Result<Origin, ReadError> {
        read::origin(&self.shared.published.state(), path.as_path()?.as_ref())
    }

    /// What a text given by a person means at `path`: text where text stands, otherwise what TOML makes of it, otherwise text; the
    /// other reading where only that one has the setting's type.
    ///
    /// # Errors
    ///
    /// [`ReadError::InvalidPath`].
    pub fn read_text(&self, path: impl AsPath, text: &str) -> Result<Value, ReadError> {
        let path = path.as_path()?;
        Ok(self.shared.published.state().read_text(&path, text))
    }

    /// Whether and when the setting at `path` may change.
    ///
    /// # Errors
    ///
    /// As [`Configuration::get_value`].
    pub fn mutability(&self, path: impl AsPath) -> Result<super::Mutability, ReadError> {
        let path = path.as_path()?;
        let state = self.shared.published.state();
        read::value(&state, None, &path)?;
        Ok(state.tables.mutability(&path))
    }

    /// Whether the settings are as they should be, and whether they can be changed.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared
            .published
            .status(Instant::now(), self.shared.keeper.is_some())
    }

    /// The revision that readers see.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.shared.published.revision()
    }

    /// The newest `n` changes, newest first, without secrets.
    #[must_use]
    pub fn history(&self, n: usize) -> Vec<Arc<Record>> {
        self.shared.published.with_log(|log, _| log.newest(n))
    }

    /// Writes one setting.
    ///
    /// # Errors
    ///
    /// [`UpdateError`]: nothing changed and nobody was told. Only of [`UpdateError::Call`] with an unanswered call that is not known.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the answer; the change may still be made.
    pub async fn update(
        &self,
        path: impl AsPath,
        value: impl Into<Value>,
    ) -> Result<Revision, UpdateError> {
        self.write(full_path(None, path)?, value.into()).await
    }

    pub(super) async fn write(&self, path: Path, value: Value) -> Result<Revision, UpdateError> {
        let request = Request::new(Action::Set(vec![(path, value)]));
        self.change(request).await.map(|record| record.revision)
    }

    /// Writes several settings: all of them, or none.
    ///
    /// # Errors
    ///
    /// As [`Configuration::update`]; the error is about the first one that is refused.
    ///
    /// # Cancel safety
    ///
    /// As [`Configuration::update`].
    pub async fn update_many<P: AsPath, V: Into<Value>>(
        &self,
        changes: impl IntoIterator<Item = (P, V)>,
    ) -> Result<Revision, UpdateError> {
        let proposal = changes
            .into_iter()
            .fold(self.propose(), |proposal, (path, value)| {
                proposal.set(path, value)
            });
        proposal.apply().await.map(|record| record.revision)
    }

    /// Takes back all that was changed while running: what files, variables and flags say holds again.
    ///
    /// # Errors
    ///
    /// As [`Configuration::update`].
    ///
    /// # Cancel safety
    ///
    /// As [`Configuration::update`].
    pub async fn reset(&self) -> Result<Revision, UpdateError> {
        self.propose_reset("")
            .apply()
            .await
            .map(|record| record.revision)
    }

    /// Restores what held at an earlier revision, as a new revision.
    ///
    /// # Errors
    ///
    /// As [`Configuration::update`]; [`UpdateError::NoSuchRevision`] when it is not in the history.
    ///
    /// # Cancel safety
    ///
    /// As [`Configuration::update`].
    pub async fn rollback(&self, to: Revision) -> Result<Revision, UpdateError> {
        self.propose_rollback(to)
            .apply()
            .await
            .map(|record| record.revision)
    }

    /// Waits until nothing is being written any more, for as long as that takes; from here on no change is kept, so none is made.
    /// It blocks the thread.
    pub(crate) fn close_disk(&self) {
        if let Some(keeper) = &self.shared.keeper {
            keeper.close();
        }
    }

    /// A change with conditions, a name and a reason, or a dry run of it.
    pub fn propose(&self) -> Proposal {
        Proposal::new(self.clone(), None, Ok(Action::Set(Vec::new())))
    }

    /// Takes back what was changed while running at `path` and beneath it.
    pub fn propose_reset(&self, path: impl AsPath) -> Proposal {
        Proposal::new(self.clone(), None, path.into_path().map(Action::Reset))
    }

    /// Restores what held at an earlier revision.
    pub fn propose_rollback(&self, to: Revision) -> Proposal {
        Proposal::new(self.clone(), None, Ok(Action::Rollback(to)))
    }

    /// Follows what stands at `path`; the empty path is the whole document.
    ///
    /// # Errors
    ///
    /// [`ReadError::InvalidPath`]. A path where nothing stands yet can be followed.
    pub fn subscribe(&self, path: impl AsPath) -> Result<Subscription, ReadError> {
        Ok(Subscription::new(&self.shared, path.as_path()?.as_ref()))
    }

    /// Follows all changes after a revision, for the books. Changes older than the log are counted as missed.
    #[must_use]
    pub fn audit(&self, after: Revision) -> AuditFeed {
        AuditFeed::new(&self.shared, after)
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Asks the server.
    pub(super) async fn call<R: Send + 'static>(
        &self,
        message: impl FnOnce(Reply<R>) -> Message,
    ) -> Result<R, CallError> {
        let timeout = self.shared.options.call_timeout;
        self.address.call(message, timeout).await
    }

    pub(super) async fn change(&self, request: Request) -> Result<Arc<Record>, UpdateError> {
        // A change on the spot waits for nothing, so whoever makes many lets others run in between.
        turn::take_part().await;
        let request = match self.shared.change_at_once(request) {
            Ok(outcome) => return outcome,
            Err(request) => request,
        };
        self.call(|reply| Message::Change { request, reply })
            .await?
    }

    pub(super) async fn dry_run(&self, request: Request) -> Result<Preview, UpdateError> {
        Ok(self
            .call(|reply| Message::DryRun { request, reply })
            .await?)
    }

    pub(super) fn subscribe_at(&self, path: &Path) -> Subscription {
        Subscription::new(&self.shared, path)
    }
}

impl fmt::Debug for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Configuration")
            .field("revision", &self.revision())
            .finish_non_exhaustive()
    }
}
