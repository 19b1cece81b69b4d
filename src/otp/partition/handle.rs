use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{PartitionError, PartitionKey, PartitionSupervisorSpec, routing};
use crate::otp::{ChildCounts, ChildInfo, Supervisor, SupervisorError};

/// A handle to several copies of one child. Cheap to clone; survives restarts.
pub struct PartitionSupervisor<H> {
    pub(super) shared: Arc<Shared<H>>,
}

pub(super) struct Shared<H> {
    pub(super) supervisor: Supervisor,
    pub(super) handles: Box<[H]>,
    /// Keys are spread over the first so many.
    pub(super) partitions: AtomicUsize,
    /// How many are to run; those beyond it decline to start, also when their supervisor is restarted.
    pub(super) wanted: Arc<AtomicUsize>,
    /// Two that resize at once would start what the other stops.
    pub(super) resizing: tokio::sync::Mutex<()>,
}

impl<H> PartitionSupervisor<H> {
    /// Starts all partitions.
    ///
    /// # Errors
    ///
    /// As [`Supervisor::start`].
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: dropping the future kills what has started so far.
    pub async fn start(spec: PartitionSupervisorSpec<H>) -> Result<Self, SupervisorError> {
        let partitions = spec.handle();
        Supervisor::start(spec.supervisor).await?;
        Ok(partitions)
    }

    /// The handle of the partition that a key belongs to. Takes no lock, asks nobody.
    ///
    /// # Errors
    ///
    /// [`PartitionError::Empty`].
    #[inline]
    pub fn get<K: PartitionKey + ?Sized>(&self, key: &K) -> Result<&H, PartitionError> {
        let index = self.index(key)?;
        self.shared.handles.get(index).ok_or(PartitionError::Empty)
    }

    /// The index of the partition that a key belongs to, from 0 on.
    ///
    /// # Errors
    ///
    /// [`PartitionError::Empty`].
    #[inline]
    pub fn index<K: PartitionKey + ?Sized>(&self, key: &K) -> Result<usize, PartitionError> {
        routing::partition(key, self.partitions()).ok_or(PartitionError::Empty)
    }

    /// The handles of all partitions that keys are spread over, in order.
    #[must_use]
    pub fn all(&self) -> &[H] {
        self.shared
            .handles
            .get(..self.partitions())
            .unwrap_or_default()
    }

    /// How many partitions keys are spread over.
    #[must_use]
    pub fn partitions(&self) -> usize {
        self.shared.partitions.load(Ordering::Acquire)
    }

    /// Spreads keys over another number of partitions, from none up to what the supervisor was made with. Fewer: keys go
    /// to the others first, then those that are left over are stopped. More: they are started first.
    ///
    /// # Errors
    ///
    /// [`PartitionError::TooMany`]; [`PartitionError::Supervisor`] when a partition did not start or stop.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: some partitions may have been stopped or started. Asking again completes it.
    pub async fn resize(&self, partitions: usize) -> Result<(), PartitionError> {
        let most = self.shared.handles.len();
        if partitions > most {
            let asked = partitions;
            return Err(PartitionError::TooMany { asked, most });
        }
        let _one_at_a_time = self.shared.resizing.lock().await;
        if partitions < self.partitions() {
            self.publish(partitions);
        }
        self.shared.wanted.store(partitions, Ordering::Release);
        let supervisor = &self.shared.supervisor;
        for left_over in (partitions..most).rev() {
            supervisor.terminate_child(&left_over.to_string()).await?;
        }
        for missing in self.partitions()..partitions {
            match supervisor.restart_child(&missing.to_string()).await {
                Ok(_) | Err(SupervisorError::Running(_) | SupervisorError::Restarting(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.publish(partitions);
        Ok(())
    }

    fn publish(&self, partitions: usize) {
        self.shared.partitions.store(partitions, Ordering::Release);
    }

    /// The partitions; the id of each is its index. Those that keys do not go to any more are stopped.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Down`].
    pub async fn which_children(&self) -> Result<Vec<ChildInfo>, SupervisorError> {
        self.shared.supervisor.which_children().await
    }

    /// How many partitions there are, and how many of them run.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Down`].
    pub async fn count_children(&self) -> Result<ChildCounts, SupervisorError> {
        self.shared.supervisor.count_children().await
    }

    /// The supervisor of the partitions: to stop it, to wait for its end, to look at its tree.
    #[must_use]
    pub fn supervisor(&self) -> &Supervisor {
        &self.shared.supervisor
    }
}

impl<H> Clone for PartitionSupervisor<H> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<H> fmt::Debug for PartitionSupervisor<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartitionSupervisor")
            .field("supervisor", &self.shared.supervisor)
            .field("partitions", &self.partitions())
            .finish_non_exhaustive()
    }
}
