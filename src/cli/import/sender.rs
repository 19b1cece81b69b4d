//! From batches to the node.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use underpin::{
    ids::EventId,
    resilience::{Backoff, Jitter},
};

use super::{
    batch::{Batch, LINES_MAX},
    checkpoint::{Checkpoint, Pool},
    interrupt::Interrupt,
};
use crate::cli::{
    client::{Client, ClientError},
    failure::Failure,
};

/// How many ids are reserved at once: for this batch, for the next ones that a checkpoint covers, and not more than a node gives.
const IDS_RESERVED: usize = 4 * LINES_MAX;

/// Stores batches of one import, in order, each exactly once.
#[derive(Debug)]
pub(super) struct Sender<'a> {
    client: &'a Client,
    interrupt: &'a Interrupt,
    retry: Retry,
    /// Under which the checkpoint is kept; none for a pipe.
    key: Option<String>,
    pool: Pool,
    /// What the next checkpoint follows: where this import stands, none at its beginning.
    at: Option<Checkpoint>,
    /// The checkpoint in the store, as far as we know; that of another file when this one has taken its place.
    in_store: Option<Checkpoint>,
    /// A mark that waits for an event to travel with.
    unsent: Option<Checkpoint>,
    stored_any: bool,
}

/// How long and how often a request is tried again.
#[derive(Debug, Clone, Copy)]
struct Retry {
    backoff: Backoff,
    patience: Duration,
}

/// The checkpoint that an import keeps.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) key: String,
    /// The one that this import goes on from.
    pub(super) at: Option<Checkpoint>,
    /// The one that is in the store.
    pub(super) in_store: Option<Checkpoint>,
}

/// What became of a batch.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) stored: u64,
    /// Known to the store before this import sent them.
    pub(super) known: u64,
}

/// Why a batch was not stored.
#[derive(Debug)]
pub(super) enum SendError {
    /// Somebody else has moved the checkpoint: what was read has to be looked at again.
    Moved,
    Failure(Failure),
}

#[derive(Deserialize)]
struct ImportAnswer {
    stored: u64,
    duplicates: u64,
}

#[derive(Deserialize)]
struct IdsAnswer {
    ids: Vec<EventId>,
}

#[derive(Deserialize)]
struct CheckpointAnswer {
    value: Option<serde_json::Value>,
}

/// The checkpoint of a file; `None` when there is none.
pub(super) fn checkpoint(client: &Client, key: &str) -> Result<Option<Checkpoint>, ClientError> {
    let answer: CheckpointAnswer = client.get("/api/v1/checkpoints", &[("key", key)])?;
    let Some(value) = answer.value else {
        return Ok(None);
    };
    serde_json::from_value(value).map(Some).map_err(|error| {
        ClientError::Foreign(format!(
            "how far this file was read is not understood ({error}); say --from-start to read it again"
        ))
    })
}

impl<'a> Sender<'a> {
    pub(super) fn new(
        client: &'a Client,
        interrupt: &'a Interrupt,
        patience: Duration,
        checkpoint: Option<Kept>,
    ) -> Self {
        let (key, at, in_store) = match checkpoint {
            Some(Kept { key, at, in_store }) => (Some(key), at, in_store),
            None => (None, None, None),
        };
        let pool = at
            .as_ref()
            .map(|at| at.ids.clone().if_fresh(now_unix_ms()))
            .unwrap_or_default();
        Self {
            client,
            interrupt,
            retry: Retry::new(patience),
            key,
            pool,
            at,
            in_store,
            unsent: None,
            stored_any: false,
        }
    }

    /// Stores a batch together with its mark. Lines that the node refuses are added to the batch's refused ones.
    ///
    /// A batch without events is not sent: its mark goes with the next one that has some, or with the end of an input of which
    /// something was ever stored.
    pub(super) fn store(&mut self, batch: &mut Batch) -> Result<Stored, SendError> {
        if batch.mark.is_some() {
            self.unsent = batch.mark.take();
        }
        if batch.events() > 0 {
            self.give_ids(batch)?;
        }
        let mut stored = Stored::default();
        if batch.events() > 0 || (batch.last && self.has_mark_worth_keeping()) {
            let checkpoint = self.next_checkpoint(batch.last);
            stored = self.send(batch, checkpoint)?;
        }
        Ok(stored)
    }

    fn has_mark_worth_keeping(&self) -> bool {
        let has_begun = |mark: &Option<Checkpoint>| mark.as_ref().is_some_and(|at| at.done > 0);
        // A file that was emptied may grow with the very lines that it had.
        let is_emptied = self.unsent.as_ref().is_some_and(|mark| mark.offset == 0);
        let is_worth_it =
            self.stored_any || has_begun(&self.at) || is_emptied && has_begun(&self.in_store);
        is_worth_it && self.unsent.is_some() && self.unsent != self.at
    }

    /// The mark behind all that was stored or refused so far, and the one that is in the store.
    pub(super) fn reached(&self) -> (Option<Checkpoint>, Option<Checkpoint>) {
        let reached = self.unsent.as_ref().or(self.at.as_ref());
        (reached.cloned(), self.in_store.clone())
    }

    /// Every batch travels under ids that the checkpoint before it names: whoever is killed here, the next import sends the same lines
    /// under the same ids.
    fn give_ids(&mut self, batch: &mut Batch) -> Result<(), SendError> {
        let wanted = batch.ids_wanted();
        let covered = self
            .at
            .as_ref()
            .is_some_and(|at| at.ids.len() >= wanted && self.pool == at.ids);
        if self.key.is_some() && wanted > 0 && !covered {
            self.announce_ids(wanted)?;
        }
        self.reserve(wanted)?;
        batch.assign(self.pool.take(wanted));
        if self.key.is_some() && !batch.last {
            self.reserve(LINES_MAX)?;
        }
        Ok(())
    }

    /// Stores the ids of the next batch before it is sent, where no batch before it could carry them.
    fn announce_ids(&mut self, wanted: usize) -> Result<(), SendError> {
        self.reserve(wanted.max(LINES_MAX))?;
        let at = self.at.clone().unwrap_or_default();
        let checkpoint = at.with_ids(self.pool.clone());
        self.send(&mut Batch::default(), Some(checkpoint))?;
        Ok(())
    }

    fn reserve(&mut self, wanted: usize) -> Result<(), SendError> {
        if self.pool.len() >= wanted {
            return Ok(());
        }
        let body = json!({"count": IDS_RESERVED.max(wanted)}).to_string();
        let (answer, _) = self
            .try_for_a_while(|client| client.post::<IdsAnswer>("/api/v1/ids", body.as_bytes()))?;
        self.pool.add(answer.map_err(SendError::refused)?.ids);
        if self.pool.len() < wanted {
            return Err(SendError::Failure(Failure::refused(
                "foreign_answer",
                "the node reserved fewer ids than asked for; check --node",
            )));
        }
        Ok(())
    }

    fn next_checkpoint(&mut self, last: bool) -> Option<Checkpoint> {
        let mark = self.unsent.take()?;
        // At the end nobody has to take up ids, and they would be old when the file has grown.
        let ids = if last {
            Pool::default()
        } else {
            self.pool.clone()
        };
        Some(mark.with_ids(ids))
    }

    fn send(
        &mut self,
        batch: &mut Batch,
        checkpoint: Option<Checkpoint>,
    ) -> Result<Stored, SendError> {
        loop {
            let mark = self.key.as_deref().zip(checkpoint.as_ref());
            if batch.events() == 0 && mark.is_none() {
                return Ok(Stored::default());
            }
            let body = batch.body(mark);
            let (answer, sent_again) = self
                .try_for_a_while(|client| client.post::<ImportAnswer>("/api/v1/import", &body))?;
            let refusal = match answer {
                Ok(answer) => {
                    self.at.clone_from(&checkpoint);
                    self.in_store = checkpoint;
                    self.stored_any |= batch.events() > 0;
                    return Ok(Stored::of(&answer, sent_again));
                }
                Err(refusal) => refusal,
            };
            if self.has_moved()? {
                return Err(SendError::Moved);
            }
            match refusal {
                ClientError::Refused(why) => match batch.blamed(&why) {
                    Some(index) => batch.drop_refused(index, &why.message),
                    None => return Err(SendError::refused(ClientError::Refused(why))),
                },
                other => return Err(SendError::refused(other)),
            }
        }
    }

    /// Whether the store has another checkpoint than the one we left there.
    fn has_moved(&self) -> Result<bool, SendError> {
        let Some(key) = &self.key else {
            return Ok(false);
        };
        let (there, _) = self.try_for_a_while(|client| checkpoint(client, key))?;
        Ok(there.map_err(SendError::refused)? != self.in_store)
    }

    /// Asks until there is an answer, a refusal included, or until patience ends. Says whether it was asked more than once.
    fn try_for_a_while<T>(
        &self,
        ask: impl Fn(&Client) -> Result<T, ClientError>,
    ) -> Result<(Result<T, ClientError>, bool), SendError> {
        let began = Instant::now();
        let mut attempt = 0;
        loop {
            let why = match ask(self.client) {
                Err(ClientError::Lost(why) | ClientError::Unavailable(why)) => why,
                answer => return Ok((answer, attempt > 0)),
            };
            if self.interrupt.is_asked() {
                return Err(SendError::Failure(Failure::Interrupted(why)));
            }
            if began.elapsed() >= self.retry.patience {
                return Err(SendError::Failure(self.retry.gave_up(&why)));
            }
            self.interrupt
                .wait(self.retry.backoff.delay(attempt, fastrand::f64()));
            attempt += 1;
        }
    }
}

impl Stored {
    /// What a request that was sent again finds stored, it has most likely stored itself.
    fn of(answer: &ImportAnswer, sent_again: bool) -> Self {
        if sent_again {
            return Self {
                stored: answer.stored + answer.duplicates,
                known: 0,
            };
        }
        Self {
            stored: answer.stored,
            known: answer.duplicates,
        }
    }
}

impl Retry {
    fn new(patience: Duration) -> Self {
        let backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1))
            .and_then(|backoff| backoff.with_jitter(Jitter::Equal))
            .unwrap_or_else(|error| unreachable!("the numbers above are in range: {error}"));
        Self { backoff, patience }
    }

    fn gave_up(&self, why: &str) -> Failure {
        Failure::Unreachable {
            message: format!(
                "the node did not come back for {} s ({why})",
                self.patience.as_secs()
            ),
        }
    }
}

impl SendError {
    fn refused(error: ClientError) -> Self {
        Self::Failure(error.into())
    }
}

fn now_unix_ms() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default()
}
