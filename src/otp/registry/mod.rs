//! Names for whoever owns them: Elixir's `Registry`.
//!
//! A [`Registry`] leads from keys to values, each owned by somebody whose end can be seen: an actor, a supervised child, or a
//! [`Lease`] that a task holds. It belongs to whoever made it: there are no names for the whole process, and two registries never
//! meet.
//!
//! Guarantees:
//! * A unique key has one owner at most, also when many try to become it at once. The entry of a dead owner is taken over at
//!   once; that of one that is still ending is not.
//! * No answer ever names an owner that has ended.
//! * What an owner registered goes with it, also when it crashes, and [listeners](Registry::listen) hear of that.
//! * Nothing grows but with living entries.
//!
//! The usual value is an [`Address`](super::Address): found by name, it survives restarts. A supervised child whose spec says
//! [`ChildSpec::registered`](super::ChildSpec::registered) has its name from before each start until its end.
//!
//! ```
//! use std::time::Duration;
//! use underpin::otp::{Keys, Lease, Registry};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let desks: Registry<&str, u32> = Registry::new("desks", Keys::Unique);
//! let ann = Lease::new();
//! desks.register("window", &ann, 7)?;
//!
//! let desk = desks.wait_for(&"window", Duration::from_secs(1)).await?;
//! assert_eq!(desk.value, 7);
//! assert!(desks.register("window", &Lease::new(), 8).is_err());
//!
//! drop(ann);
//! assert!(desks.whereis(&"window").is_none());
//! # Ok(()) }
//! ```

mod checks;
mod error;
mod handle;
mod listener;
mod lock;
mod owner;
mod partition;
mod state;
mod via;

pub use error::{CheckError, NotRegistered, RegisterError, UpdateError};
pub use handle::{Keys, Registered, Registry, RegistryStats};
pub use listener::{Listener, Listening, RegistryEvent};
pub use lock::KeyLock;
pub use owner::{Lease, Owner};
