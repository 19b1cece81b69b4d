use std::time::Duration;

use crate::otp::{Intensity, Shutdown};

/// Settings of a [`TaskSupervisor`](super::TaskSupervisor).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskOptions {
    /// How many tasks may run at once, those of [`start_child`](super::TaskSupervisor::start_child) included. Default: 10,000;
    /// more is a queue in disguise. Elixir has no limit.
    pub max_children: usize,
    /// How many restarts of the tasks of [`start_child`](super::TaskSupervisor::start_child) are allowed; nothing else is
    /// restarted. Default: 3 in 5 s, which is that of Elixir's `Task.Supervisor`.
    pub intensity: Intensity,
    /// How tasks are stopped when their supervisor is: [`Shutdown::Brutal`] counts them as killed, and does not wait; with a
    /// timeout those that have not ended by then are told of. They end at their next `.await` either way. Default: 5 s, as
    /// in Elixir.
    pub shutdown: Shutdown,
}

impl Default for TaskOptions {
    fn default() -> Self {
        Self {
            max_children: 10_000,
            intensity: Intensity::new(3, Duration::from_secs(5)),
            shutdown: Shutdown::WORKER,
        }
    }
}

/// What happens to a task that takes longer than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnTimeout {
    /// The stream fails: the timeout is its last item, and all its tasks are killed. Elixir's default, too.
    #[default]
    Fail,
    /// That task is killed, and its item says so; the others go on.
    Kill,
}
