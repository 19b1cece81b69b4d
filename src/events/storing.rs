//! How events come into the store: they are admitted, appended, and waited for.

use std::{iter::once, sync::Arc};

use tokio::sync::TryAcquireError;

use crate::ids::EventId;

use super::{
    Admission, Checkpoint, Event, EventError, Events, StoreError,
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
        events: impl Iterator<Item = Result<Event, EventError>>,
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
        self.hand_over_admitted(&log, prepared)
    }

    fn hand_over_admitted(&self, log: &Arc<Log>, prepared: Prepared) -> Result<(), StoreError> {
        match log.append(&prepared) {
            Appended::Stored | Appended::Waiting(_) => {
                self.count_stored(&prepared);
            }
            Appended::Known(..) => {
                self.shared.count_duplicates(1);
                log.admission.add_permits(prepared.admitted as usize);
            }
            Appended::Unsure(unsure) => {
                return self.hand_over_looked_up(log, prepared, &unsure);
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
    /// limited number of events; from then on it is stored as by those who wait, also where the log is opened anew meanwhile.
    fn hand_over_looked_up(
        &self,
        log: &Arc<Log>,
        mut prepared: Prepared,
        unsure: &[(u64, Arc<Segment>)],
    ) -> Result<(), StoreError> {
        let refused = |error| {
            log.admission.add_permits(prepared.admitted as usize);
            Err(error)
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return match look_up(unsure) {
                Ok(looked_up) => {
                    prepared.looked_up.extend(looked_up);
                    self.hand_over_admitted(log, prepared)
                }
                Err(error) => refused(error),
            };
        };
        let Ok(turn) = self.shared.looking_up.clone().try_acquire_owned() else {
            return refused(StoreError::Full);
        };
        log.admission.add_permits(prepared.admitted as usize);
        let events = self.clone();
        runtime.spawn(async move {
            let _turn = turn;
            match events.put(prepared, ()).await {
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
    async fn put(
        &self,
        mut prepared: Prepared,
        given: impl Send,
    ) -> Result<ImportOutcome, StoreError> {
        let mut outcome = ImportOutcome::default();
        if self.shared.options.durability == Durability::Memory
            && let Some(log) = &*self.shared.log.load()
            && let Appended::Stored = log.append(&prepared)
        {
            // There was nothing to wait for, neither for room nor for a disk.
            outcome.stored = self.count_stored(&prepared);
            return Ok(outcome);
        }
        let mut log = self
            .shared
            .view()
            .await
            .inspect_err(|_| self.count_refused())?;
        loop {
            if !self.admit(&log, &mut prepared).await? {
                log = self
                    .shared
                    .other_than(Some(&log))
                    .await
                    .inspect_err(|_| self.count_refused())?;
                continue;
            }
            match log.append(&prepared) {
                Appended::Stored => {
                    outcome.stored += self.count_stored(&prepared);
                    return Ok(outcome);
                }
                Appended::Waiting(commit) => {
                    drop(given);
                    self.wait(&commit).await?;
                    outcome.stored += self.count_stored(&prepared);
                    return Ok(outcome);
                }
                Appended::Known(known, commit) => {
                    log.admission.add_permits(prepared.admitted as usize);
                    self.compare(&prepared, &known).await?;
                    self.wait(&commit).await?;
                    outcome.skipped += known.len() as u64;
                    self.shared.count_duplicates(known.len() as u64);
                    let at: Vec<_> = known.iter().map(|known| known.at).collect();
                    prepared = prepared.without(&at);
                    if prepared.events == 0 && prepared.checkpoint.is_none() {
                        return Ok(outcome);
                    }
                }
                Appended::Unsure(unsure) => {
                    log.admission.add_permits(prepared.admitted as usize);
                    let looked = tokio::task::spawn_blocking(move || look_up(&unsure)).await;
                    let looked = looked.map_err(|error| StoreError::Panicked(error.to_string()))?;
                    prepared.looked_up.extend(looked?);
                }
                Appended::TooManyCheckpoints => {
                    log.admission.add_permits(prepared.admitted as usize);
                    return Err(StoreError::TooManyCheckpoints);
                }
                Appended::Refused(_) => {
                    log = self
                        .shared
                        .other_than(Some(&log))
                        .await
                        .inspect_err(|_| self.count_refused())?;
                }
            }
        }
    }

    /// Waits for room, or is refused; false if the log was closed meanwhile.
    async fn admit(&self, log: &Log, prepared: &mut Prepared) -> Result<bool, StoreError> {
        match self.admit_at_once(log, prepared) {
            Ok(()) => Ok(true),
            Err(StoreError::Full) if self.shared.options.admission == Admission::Wait => {
                let bytes = self.bytes_to_admit(prepared);
                let waited = self.shared.options.answer_wait;
                match tokio::time::timeout(waited, log.admission.acquire_many(bytes)).await {
                    Ok(Ok(permit)) => {
                        permit.forget();
                        prepared.admitted = bytes;
                        Ok(true)
                    }
                    Ok(Err(_closed)) => Ok(false),
                    Err(_) => Err(StoreError::Full).inspect_err(|_| self.count_refused()),
                }
            }
            Err(StoreError::Full) => Err(StoreError::Full).inspect_err(|_| self.count_refused()),
            Err(_closed) => Ok(false),
        }
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
