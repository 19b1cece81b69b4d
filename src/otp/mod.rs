//! The supervised runtime on [`ractor`]: children that are restarted, addresses that survive it, and a tree to look at.
//!
//! There is one actor trait, [`ractor::Actor`]: bring the actors you have. A [`ChildSpec`] says how one is made, restarted
//! and stopped; a [`Supervisor`] does it; an [`Address`] leads to whichever incarnation lives now. What ractor's messages
//! lack rides inside a message variant: a [`Reply`] in a call, a [`Permit`] in a cast.
//!
//! Guarantees: a child's successor starts only after everything of its predecessor is gone; children stop in reverse
//! start order, each within its time; a request is never sent twice, and an error tells whether it may have run.
//! Not offered: a kill of code that blocks its thread (it is reported as leaked, and tokio may keep whatever that thread was
//! to run next waiting as long), or a bound on messages sent without a permit.

mod address;
mod admission;
mod asked;
mod cancel;
mod child;
mod context;
mod dynamic;
mod error;
mod exit;
#[cfg(feature = "testing")]
mod fault;
mod features;
mod feed;
mod group;
mod incarnation;
mod left_behind;
mod lifecycle;
mod monitor;
mod office;
mod partition;
mod probe;
mod registry;
mod reply;
mod request;
mod retry;
mod sampler;
mod scope;
mod start;
mod supervised;
mod supervisor;
mod sys;
mod tasks;
mod timer;
mod tree;
mod waiting;

pub mod names {
    #![doc = include_str!("names.md")]
}

pub use address::{Address, AddressStatus};
pub use admission::{Admission, Permit};
pub use child::{
    BoxError, Budget, ChildContext, ChildKind, ChildSpec, OnExceed, Restart, Shutdown,
};
pub use context::Context;
pub use dynamic::{ChildRef, DynamicChild, DynamicSupervisor, DynamicSupervisorSpec};
pub use error::{CallError, Ignore, NotSent, StartError, SupervisorError, Unanswered};
pub use exit::{ExitReason, IntensityExceeded, ShutdownCause};
pub use group::{
    Broadcast, Group, GroupEvent, GroupForwarding, GroupMonitor, GroupSnapshot, Groups, JoinError,
    NotJoined,
};
pub use lifecycle::{Lifecycle, Report, ReportStream};
pub use monitor::{Down, Forwarded, Monitor, MonitorRef, Monitors};
pub use partition::{
    PartitionError, PartitionKey, PartitionSupervisor, PartitionSupervisorSpec, stable_hash,
};
pub use probe::HealthProbe;
pub use registry::{
    CheckError, KeyLock, Keys, Lease, Listener, Listening, NotRegistered, Owner, RegisterError,
    Registered, Registry, RegistryEvent, RegistryStats, UpdateError,
};
pub use reply::Reply;
pub use request::{Request, Requests};
pub use supervisor::{
    AutoShutdown, ChildCounts, ChildInfo, ChildReport, Intensity, ShutdownReport, StartOutcome,
    StopKind, Strategy, Supervisor, SupervisorSpec,
};
pub use sys::{Direction, Keep, Statistics, Status, Sys, SysError, Traffic};
pub use tasks::{
    OnTimeout, SpawnError, Task, TaskError, TaskExit, TaskId, TaskInfo, TaskOptions, TaskStream,
    TaskSupervisor, YieldMany, await_many, yield_many,
};
pub use timer::Timer;
pub(crate) use tree::Stuck;
pub use tree::{ChildState, Tree, TreeLimits};

#[cfg(feature = "testing")]
pub(crate) use fault::Subject;

/// Makes an enum a message for actors, with and without ractor's `cluster` feature.
///
/// ractor implements `Message` for every type, except under its `cluster` feature, where each message type says so itself.
/// Say this once beside each message enum and it is right both ways, as long as underpin's own `cluster` feature is on when
/// ractor's is.
///
/// ```
/// enum Greeting { Hello }
/// underpin::otp::message!(Greeting);
/// # let _ = Greeting::Hello;
/// ```
#[cfg(feature = "cluster")]
#[doc(hidden)]
#[macro_export]
macro_rules! __message {
    ($($message:ty),+ $(,)?) => {
        $(impl $crate::ractor::Message for $message {})+
    };
}

/// Without the `cluster` feature every type is a message already.
#[cfg(not(feature = "cluster"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __message {
    ($($message:ty),+ $(,)?) => {};
}

#[doc(inline)]
pub use __message as message;
