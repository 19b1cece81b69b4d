//! How events come into the store: they are admitted, appended, and waited for.

use std::{iter::once, sync::Arc};

use tokio::sync::TryAcquireError;

use crate::ids::EventId;

use super::{
    Admission, Checkpoint, Event, Events, StoreError,
    commit::Commit,
    log::{Appended, Known, Log, Prepared},
    options::Durability,
    preparing::prepare,
    record::Record,
    segment::Segment,
    view::{Access, View},
};

/// What an import did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct ImportOutcome {
    /// Events that are new.
    pub stored: u64,
    /// Events that were there already.
    pub skipped: u64,
}

impl Events {
    /// The longest batch, in bytes as encoded: 32 MiB, some 100,000 small events. It is written at once, and all or none of it is there.
    pub const BATCH_BYTES_MAX: usize = 32 << 20;

    /// Stores one event, as durably as the options say, and answers its id. The same event stored again is there once.
    ///
    /// # Errors
    ///
    /// [`StoreError::Event`], [`StoreError::Conflict`], [`StoreError::Full`], [`StoreError::Down`]: nothing was stored.
    /// [`StoreError::Failed`], [`StoreError::Unanswered`]: it may be stored; storing the same event again is safe.
    ///
    /// # Cancel safety
    ///
    /// A future dropped while it waits for its turn stores nothing; dropped later the event is stored, and only the answer is lost.
    pub async fn store(&self, event: Event) -> Result<EventId, StoreError> {
        let id = event.id();
        let prepared = prepare(once(Ok(&event)), None)?;
        self.put(prepared, event).await?;
        Ok(id)
    }

    /// Stores all events or none, and answers their ids in order. At most [`Events::BATCH_BYTES_MAX`].
    ///
    /// # Errors
    ///
    /// As [`Events::store`], and [`StoreError::BatchTooLarge`].
    ///
    /// # Cancel safety
    ///
    /// As [`Events::store`].
    pub async fn store_batch(&self, events: Vec<Event>) -> Result<Vec<EventId>, StoreError> {
        let ids = events.iter().map(Event::id).collect();
        if !events.is_empty() {
            let prepared = prepare(events.iter().map(Ok), None)?;
            self.put(prepared, events).await?;
        }
        Ok(ids)
    }

    /// As [`Events::store_batch`], with events that are made one after the other, so that none has to be kept while the others are made.
    #[cfg(feature = "capture")]
    pub(crate) async fn store_each(
        &self,
        events: impl Iterator<Item = Result<Event, super::EventError>>,
    ) -> Result<(), StoreError> {
        let prepared = prepare(events, None)?;
        if prepared.events > 0 {
            self.put(prepared, ()).await?;
        }
        Ok(())
    }

    /// Stores events and moves a checkpoint, if there is one, all or nothing. Events that are there already are skipped, so that an import
    /// that was cut short can be repeated from its checkpoint. The store keeps 1024 checkpoints; retention never loses them.
    ///
    /// # Errors
    ///
    /// As [`Events::store_batch`]; [`StoreError::Checkpoint`], [`StoreError::TooManyCheckpoints`]: nothing was stored.
    ///
    /// # Cancel safety
    ///
    /// As [`Events::store`].
    pub async fn store_import(
        &self,
        events: Vec<Event>,
        checkpoint: impl Into<Option<Checkpoint>>,
    ) -> Result<ImportOutcome, StoreError> {
        let checkpoint = checkpoint.into();
        let checkpoint = checkpoint.as_ref().map(Checkpoint::encode).transpose()?;
        if events.is_empty() && checkpoint.is_none() {
            return Ok(ImportOutcome::default());
        }
        let prepared = prepare(events.iter().map(Ok), checkpoint)?;
        self.put(prepared, events).await
    }

    /// Hands one event over without waiting, neither for room nor for the disk, and answers its id. It will be stored unless the store
    /// fails first; what is refused is counted, also where that comes about later. An event whose id is there already is not compared.
    ///
    /// # Errors
    ///
    /// [`StoreError::Event`]: it is no event that can be stored. [`StoreError::Full`], [`StoreError::Down`]: it was refused.
    pub fn try_store(&self, event: &Event) -> Result<EventId, StoreError> {
        let prepared = prepare(once(Ok(event)), None)?;
        self.hand_over(prepared)
            .inspect_err(|_| self.count_refused())?;
        Ok(event.id())
    }

    fn hand_over(&self, mut prepared: Prepared) -> Result<(), StoreError> {
        let down = |reason: String| StoreError::Down { reason };
        let log = self
            .shared
            .open_log()
            .ok_or_else(|| down(self.shared.why_down()))?;
        self.admit_at_once(&log, &mut prepared)?;
        self.hand_over_admitted(Admitted::to(log, &prepared), prepared)
    }

    fn hand_over_admitted(&self, admitted: Admitted, prepared: Prepared) -> Result<(), StoreError> {
        match admitted.log.append(&prepared) {
            Appended::Stored | Appended::Waiting(_) => {
                admitted.was_taken();
                self.count_stored(&prepared);
            }
            Appended::Known(..) => self.shared.count_duplicates(1),
            Appended::Unsure(unsure) => {
                return self.hand_over_looked_up(admitted, prepared, unsure);
            }
            // Without a checkpoint there are never too many.
            Appended::TooManyCheckpoints => {}
            Appended::Refused(failure) => {
                let reason = failure.reason.to_string();
                return Err(StoreError::Down { reason });
            }
        }
        Ok(())
    }

    /// Whether the id is there already has to be looked up on the disk. That is done beside the caller where there is a runtime, for a
    /// limited number of events; from then on it is stored as by those who wait, also where the log is opened anew meanwhile. It keeps
    /// the room that it was given.
    fn hand_over_looked_up(
        &self,
        admitted: Admitted,
        mut prepared: Prepared,
        unsure: Unsure,
    ) -> Result<(), StoreError> {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            prepared.looked_up.extend(look_up(&unsure)?);
            return self.hand_over_admitted(admitted, prepared);
        };
        let turn = self.shared.looking_up.clone().try_acquire_owned();
        let turn = turn.map_err(|_| StoreError::Full)?;
        let events = self.clone();
        runtime.spawn(async move {
            let stored = async {
                prepared.looked_up.extend(ask_the_disk(unsure).await?);
                drop(turn);
                events.put_admitted(admitted, prepared, ()).await
            };
            match stored.await {
                // What is handed over is not compared.
                Err(StoreError::Conflict { .. }) => events.shared.count_duplicates(1),
                Err(error) if error.is_uncounted_refusal() => events.count_refused(),
                _ => {}
            }
        });
        Ok(())
    }

    fn admit_at_once(&self, log: &Log, prepared: &mut Prepared) -> Result<(), StoreError> {
        let wanted = self.bytes_to_admit(prepared);
        match log.admission.try_acquire_many(wanted) {
            Ok(permit) => {
                // The batch gives it back.
                permit.forget();
                prepared.admitted = wanted;
                Ok(())
            }
            Err(TryAcquireError::NoPermits) => Err(StoreError::Full),
            Err(TryAcquireError::Closed) => Err(StoreError::Down {
                reason: self.shared.why_down(),
            }),
        }
    }

    fn bytes_to_admit(&self, prepared: &Prepared) -> u32 {
        let limit = self.shared.options.in_flight_bytes;
        match self.shared.options.durability {
            // Nothing is ever in flight.
            Durability::Memory => 0,
            Durability::Interval(_) | Durability::Always => u32::try_from(prepared.body.len())
                .unwrap_or(limit)
                .min(limit),
        }
    }

    /// What the events were `given` in is dropped while the disk is waited for: of a thousand that takes as long as their encoding.
    pub(super) async fn put(
        &self,
        mut prepared: Prepared,
        given: impl Send,
    ) -> Result<ImportOutcome, StoreError> {
        if self.shared.options.durability == Durability::Memory
            && let Some(log) = &*self.shared.log.load()
            && let Appended::Stored = log.append(&prepared)
        {
            // There was nothing to wait for, neither for room nor for a disk.
            return Ok(ImportOutcome {
                stored: self.count_stored(&prepared),
                skipped: 0,
            });
        }
        let log = self
            .shared
            .view()
            .await
            .inspect_err(|_| self.count_refused())?;
        let admitted = self.admit(log, &mut prepared).await?;
        self.put_admitted(admitted, prepared, given).await
    }

    async fn put_admitted(
        &self,
        mut admitted: Admitted,
        mut prepared: Prepared,
        given: impl Send,
    ) -> Result<ImportOutcome, StoreError> {
        let mut outcome = ImportOutcome::default();
        loop {
            match admitted.log.append(&prepared) {
                Appended::Stored => {
                    admitted.was_taken();
                    outcome.stored += self.count_stored(&prepared);
                    return Ok(outcome);
                }
                Appended::Waiting(commit) => {
                    admitted.was_taken();
                    drop(given);
                    self.wait(&commit).await?;
                    outcome.stored += self.count_stored(&prepared);
                    return Ok(outcome);
                }
                Appended::Known(known, commit) => {
                    let log = admitted.log.clone();
                    drop(admitted);
                    self.compare(&prepared, &known).await?;
                    self.wait(&commit).await?;
                    outcome.skipped += known.len() as u64;
                    self.shared.count_duplicates(known.len() as u64);
                    let at: Vec<_> = known.iter().map(|known| known.at).collect();
                    prepared = prepared.without(&at);
                    if prepared.events == 0 && prepared.checkpoint.is_none() {
                        return Ok(outcome);
                    }
                    admitted = self.admit(log, &mut prepared).await?;
                }
                Appended::Unsure(unsure) => {
                    prepared.looked_up.extend(ask_the_disk(unsure).await?);
                }
                Appended::TooManyCheckpoints => return Err(StoreError::TooManyCheckpoints),
                Appended::Refused(_) => {
                    let log = self.log_after(&admitted.log, &mut prepared).await?;
                    admitted = self.admit(log, &mut prepared).await?;
                }
            }
        }
    }

    /// Waits for room, or is refused; where the log was closed meanwhile, in the one after it.
    async fn admit(
        &self,
        mut log: Arc<Log>,
        prepared: &mut Prepared,
    ) -> Result<Admitted, StoreError> {
        loop {
            match self.admit_at_once(&log, prepared) {
                Ok(()) => return Ok(Admitted::to(log, prepared)),
                Err(StoreError::Full) if self.shared.options.admission == Admission::Wait => {
                    let bytes = self.bytes_to_admit(prepared);
                    let waited = self.shared.options.answer_wait;
                    let room = log.admission.acquire_many(bytes);
                    let is_open = match tokio::time::timeout(waited, room).await {
                        Ok(Ok(permit)) => {
                            permit.forget();
                            true
                        }
                        Ok(Err(_closed)) => false,
                        Err(_) => {
                            return Err(StoreError::Full).inspect_err(|_| self.count_refused());
                        }
                    };
                    if is_open {
                        prepared.admitted = bytes;
                        return Ok(Admitted::to(log, prepared));
                    }
                }
                Err(StoreError::Full) => {
                    return Err(StoreError::Full).inspect_err(|_| self.count_refused());
                }
                Err(_closed) => {}
            }
            log = self.log_after(&log, prepared).await?;
        }
    }

    /// The log that was opened after this one. What the disk said of that one does not hold there: rows may have moved.
    async fn log_after(
        &self,
        closed: &Arc<Log>,
        prepared: &mut Prepared,
    ) -> Result<Arc<Log>, StoreError> {
        prepared.looked_up.clear();
        let other = self.shared.other_than(Some(closed)).await;
        other.inspect_err(|_| self.count_refused())
    }

    async fn wait(&self, commit: &Commit) -> Result<(), StoreError> {
        let waited = self.shared.options.answer_wait;
        match tokio::time::timeout(waited, commit.wait()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(failure)) => Err(StoreError::Failed {
                reason: failure.reason.to_string(),
            }),
            Err(_) => Err(StoreError::Unanswered { waited }),
        }
    }

    /// Whether the events that are there are the ones that are to be stored.
    async fn compare(&self, prepared: &Prepared, known: &[Known]) -> Result<(), StoreError> {
        for known in known {
            let given = Record::read(&prepared.body[known.at..]);
            let given = given.map(|record| record.bytes).unwrap_or_default();
            let id = id_of(known.id)?;
            let stored = bytes_of(&known.segment, known.row, id).await?;
            let stored = Record::read(&stored).map(|record| record.bytes);
            if stored != Some(given) {
                return Err(StoreError::Conflict { id });
            }
        }
        Ok(())
    }

    fn count_stored(&self, prepared: &Prepared) -> u64 {
        self.shared.metrics.stored.add(prepared.events.into());
        prepared.events.into()
    }

    fn count_refused(&self) {
        self.shared.count_refused(1);
    }
}

/// Room in a log, given back unless the log took what it is for.
struct Admitted {
    log: Arc<Log>,
    bytes: u32,
}

impl Admitted {
    fn to(log: Arc<Log>, prepared: &Prepared) -> Self {
        let bytes = prepared.admitted;
        Self { log, bytes }
    }

    /// The batch gives it back.
    fn was_taken(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.log.admission.add_permits(self.bytes as usize);
    }
}

/// Ids, and the segments on the disk that may have them.
type Unsure = Vec<(u64, Arc<Segment>)>;

async fn ask_the_disk(unsure: Unsure) -> Result<Vec<(u64, u64, Option<u32>)>, StoreError> {
    let looked = tokio::task::spawn_blocking(move || look_up(&unsure)).await;
    looked.map_err(|error| StoreError::Panicked(error.to_string()))?
}

async fn bytes_of(segment: &Arc<Segment>, row: u32, id: EventId) -> Result<Vec<u8>, StoreError> {
    let read = move |segment: &Segment, access| {
        let mut bytes = Vec::new();
        let read = segment.read(row, access, &mut |record| bytes = record.to_vec());
        read.map(|()| bytes)
    };
    if let Ok(bytes) = read(segment, Access::Memory) {
        return Ok(bytes);
    }
    let segment = segment.clone();
    let read = tokio::task::spawn_blocking(move || read(&segment, Access::Disk)).await;
    let read = read.map_err(|error| StoreError::Panicked(error.to_string()))?;
    read.map_err(|error| unreadable(id, error))
}

/// Which rows of segments on the disk have these ids: id, segment, row. Blocks.
pub(super) fn look_up(
    unsure: &[(u64, Arc<Segment>)],
) -> Result<Vec<(u64, u64, Option<u32>)>, StoreError> {
    let find = |(id, segment): &(u64, Arc<Segment>)| match segment.find_any(*id, Access::Disk) {
        Ok(row) => Ok((*id, segment.base, row)),
        Err(error) => Err(unreadable(id_of(*id)?, error)),
    };
    unsure.iter().map(find).collect()
}

pub(super) fn unreadable(id: EventId, error: std::io::Error) -> StoreError {
    match error.kind() {
        std::io::ErrorKind::InvalidData => StoreError::Damaged { id },
        _ => StoreError::Read { id, error },
    }
}

fn id_of(id: u64) -> Result<EventId, StoreError> {
    EventId::new(id).map_err(|error| StoreError::Panicked(error.to_string()))
}
