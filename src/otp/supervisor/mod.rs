//! Supervisors: start children in order, restart them when they end, give up when that does not help, stop them in
//! reverse order.
//!
//! The decisions are pure: `state` has the children and what is asked and told of them, `judge` what becomes of one that ended, `regroup` what
//! is stopped and started in which order, with `phase`, `record`, `intensity` and `verdict` below them. `room` carries them out, with
//! `launch` and `stop` for one start and one stop; `requests`, `news` and `ending` are what comes in; `actor` is the table of contents.

mod actor;
pub(in crate::otp) mod body;
mod effect;
mod ending;
mod handle;
pub(in crate::otp) mod intensity;
mod judge;
pub(in crate::otp) mod launch;
mod message;
#[cfg(test)]
mod model;
mod news;
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
