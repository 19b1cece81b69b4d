//! One life of a task supervisor: the tasks that run in it, and how they end.

use std::{collections::HashMap, pin::pin, sync::Arc};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{TaskId, TaskInfo, handle::Place};
use crate::otp::{
    ExitReason,
    incarnation::{Incarnation, Left},
};

/// What ends a task.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) incarnation: Arc<Incarnation>,
    pub(super) cancel: CancellationToken,
}

impl Control {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            incarnation: Incarnation::new(1),
            cancel: CancellationToken::new(),
        })
    }

    /// Ends the task at its next `.await`, for this reason unless there is one already.
    pub(super) fn end(&self, reason: ExitReason) {
        if !self.cancel.is_cancelled() {
            self.incarnation.leave(Left::Reason(reason));
            self.cancel.cancel();
        }
    }
}

#[derive(Debug)]
pub(super) struct Life {
    tasks: Mutex<Tasks>,
    idle: Notify,
}

#[derive(Debug)]
struct Tasks {
    open: bool,
    running: HashMap<TaskId, (Instant, Arc<Control>)>,
}

impl Life {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            tasks: Mutex::new(Tasks {
                open: true,
                running: HashMap::new(),
            }),
            idle: Notify::new(),
        })
    }

    /// Takes a task in; `false` when this life is over.
    pub(super) fn enter(&self, id: TaskId, control: &Arc<Control>) -> bool {
        let mut tasks = self.tasks.lock();
        if tasks.open {
            let entry = (Instant::now(), Arc::clone(control));
            tasks.running.insert(id, entry);
        }
        tasks.open
    }

    fn leave(&self, id: TaskId) {
        let mut tasks = self.tasks.lock();
        tasks.running.remove(&id);
        if tasks.running.is_empty() {
            self.idle.notify_waiters();
        }
    }

    pub(super) fn find(&self, id: TaskId) -> Option<Arc<Control>> {
        let tasks = self.tasks.lock();
        let (_, control) = tasks.running.get(&id)?;
        Some(Arc::clone(control))
    }

    pub(super) fn list(&self) -> Vec<TaskInfo> {
        let now = Instant::now();
        let tasks = self.tasks.lock();
        let info = |(id, (since, _)): (&TaskId, &(Instant, _))| TaskInfo {
            id: *id,
            running_for: now.saturating_duration_since(*since),
        };
        let mut list: Vec<_> = tasks.running.iter().map(info).collect();
        list.sort_unstable_by_key(|task| task.id);
        list
    }

    /// Takes in no more tasks, and ends those there are.
    pub(super) fn close(&self, reason: &ExitReason) {
        let running: Vec<_> = {
            let mut tasks = self.tasks.lock();
            tasks.open = false;
            let running = tasks.running.values();
            running.map(|(_, control)| Arc::clone(control)).collect()
        };
        for control in running {
            control.end(reason.clone());
        }
    }

    /// Waits until no task is left.
    pub(super) async fn idle(&self) {
        loop {
            let mut idle = pin!(self.idle.notified());
            idle.as_mut().enable();
            if self.tasks.lock().running.is_empty() {
                return;
            }
            idle.await;
        }
    }
}

/// The end of a task, however its future ends: done, panicked, cancelled, or dropped with the runtime. By then everything of
/// the task is gone; its place is given back before anybody hears of it, so that whoever has the result may start the next.
pub(super) struct Finish<T, D: FnOnce(Result<T, ExitReason>)> {
    pub(super) id: TaskId,
    pub(super) control: Arc<Control>,
    pub(super) life: Arc<Life>,
    pub(super) place: Option<Place>,
    pub(super) value: Option<T>,
    pub(super) deliver: Option<D>,
}

impl<T, D: FnOnce(Result<T, ExitReason>)> Finish<T, D> {
    pub(super) fn done(&mut self, value: T) {
        self.value = Some(value);
    }
}

impl<T, D: FnOnce(Result<T, ExitReason>)> Drop for Finish<T, D> {
    fn drop(&mut self) {
        let incarnation = &self.control.incarnation;
        self.life.leave(self.id);
        self.place = None;
        if self.value.is_some() {
            incarnation.leave(Left::Clean);
        }
        incarnation.finish_from_left();
        let result = match self.value.take() {
            Some(value) => Ok(value),
            None => Err(incarnation.exit().cloned().unwrap_or(ExitReason::Killed)),
        };
        if let Some(deliver) = self.deliver.take() {
            // Code of the user's, which may panic; nobody is left to be told.
            let _ = incarnation.catch(0, || deliver(result));
        }
    }
}
