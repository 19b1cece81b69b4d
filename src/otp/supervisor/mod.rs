//! Supervisors: start children in order, restart them when they end, give up when that does not help, stop them in
//! reverse order.
//!
//! The decisions are in `intensity` and `verdict`, pure; `room` holds the children and carries the decisions out; `actor`
//! is the table of contents.

mod actor;
mod handle;
pub(in crate::otp) mod intensity;
mod message;
mod report;
mod room;
pub(in crate::otp) mod spec;
pub(in crate::otp) mod stop;
pub(in crate::otp) mod verdict;

pub use handle::{ChildCounts, ChildInfo, Supervisor};
pub use intensity::Intensity;
pub use report::{ChildReport, ShutdownReport, StopKind};
pub use spec::SupervisorSpec;

pub(crate) use message::Message;
