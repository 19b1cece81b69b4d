//! One-off work under supervision: counted, bounded, ended with whoever wanted it, its failures contained. Elixir's `Task` and
//! `Task.Supervisor`.
//!
//! | wanted | say |
//! |---|---|
//! | a result, of work that ends when nobody wants it any more | [`TaskSupervisor::spawn`], then `.await` the [`Task`] |
//! | work that goes on without its caller | [`TaskSupervisor::spawn_nolink`] |
//! | a result as a message, of work that ends with the actor | [`TaskSupervisor::spawn_for`] |
//! | many results, so many at a time | [`TaskSupervisor::stream`] |
//! | work that is started again when it ends | [`TaskSupervisor::start_child`] |
//!
//! A *link* is ownership: dropping a [`Task`] that was spawned linked ends the work at its next `.await`, so that an actor which
//! keeps a task in its state takes it along when it ends, however that comes about. The other way round, the failure of a task
//! is received by whoever awaits it, and one `?` makes it theirs.
//!
//! Guarantees: at most as many tasks as allowed run at once; the result of a task is given once or never; when a result is
//! there the task's place is free and everything of it is gone; a stopped supervisor leaves no task behind that it does not
//! tell of. Not offered: the end of work that blocks its thread.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use futures_util::TryStreamExt as _;
//! use underpin::otp::{Intensity, Supervisor, SupervisorSpec, TaskSupervisor};
//!
//! let tasks = TaskSupervisor::new();
//! let spec = SupervisorSpec::new("doc", Intensity::new(3, Duration::from_secs(5))).child(tasks.child_spec("tasks"));
//! let supervisor = Supervisor::start(spec).await?;
//!
//! let answer = tasks.spawn(async { 6 * 7 })?;
//! assert_eq!(answer.await?, 42);
//!
//! let squares = tasks.stream(1..=4, |n| async move { n * n });
//! assert_eq!(squares.try_collect::<Vec<_>>().await?, [1, 4, 9, 16]);
//! supervisor.stop().await;
//! # Ok(()) }
//! ```

mod error;
mod handle;
mod life;
mod many;
mod options;
mod reorder;
mod stream;
mod task;

pub use error::{SpawnError, TaskError, TaskExit};
pub use handle::{TaskInfo, TaskSupervisor};
pub use many::{YieldMany, await_many, yield_many};
pub use options::{OnTimeout, TaskOptions};
pub use stream::TaskStream;
pub use task::{Task, TaskId};
