//! Work on a folder of events without its store: look at every byte, mend, write out, copy.
//!
//! [`verify`], [`export`] and [`backup`] change nothing in the folder and may run beside the store that has it open; [`repair`] needs it for
//! itself. All go from segment to segment, with one of them in memory at a time.
//!
//! A backup is restored by starting a store on it.

mod backup;
mod export;
mod repair;
mod segments;
mod verify;

pub use backup::{BackedUp, backup};
pub use export::{Exported, export};
pub use repair::{Repaired, repair};
pub use verify::{Fault, Verified, verify};
