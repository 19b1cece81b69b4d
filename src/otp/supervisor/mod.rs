//! Supervisors: start children in order, restart them when they end, give up when that does not help, stop them in
//! reverse order.
//!
//! The decisions are in `state`, `phase` and `regroup` (what to stop and start, in which order), `record`, `intensity` and `verdict`: pure. `room` carries
//! them out and tells what came of it, with `launch` and `stop` for one start and one stop; `actor` is the table of contents.

mod actor;
pub(in crate::otp) mod body;
mod effect;
mod ending;
mod handle;
pub(in crate::otp) mod intensity;
pub(in crate::otp) mod launch;
mod message;
#[cfg(test)]
mod model;
mod phase;
pub(in crate::otp) mod record;
mod regroup;
mod report;
mod requests;
mod room;
pub(in crate::otp) mod spec;
mod state;
pub(in crate::otp) mod stop;
mod strategy;
pub(in crate::otp) mod verdict;

pub use handle::{ChildCounts, ChildInfo, StartOutcome, Supervisor};
pub use intensity::Intensity;
pub use report::{ChildReport, ShutdownReport, StopKind};
pub use spec::SupervisorSpec;
pub use strategy::{AutoShutdown, Strategy};

pub(crate) use message::Message;
pub(crate) use state::Rules;
