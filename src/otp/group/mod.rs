//! Groups of actors that anybody can send to at once: OTP's `pg`.
//!
//! [`Groups`] is one scope, independent of every other, also of one with the same name: two nodes in one process never meet. A
//! [`Group`] of a scope is known by its name and has the type of the messages that its members understand. It is there when
//! somebody joins, and gone when the last has left.
//!
//! Guarantees:
//! * Membership is a multiset, as in `pg`: who joins twice is a member twice, hears twice, and must leave twice. Who dies is
//!   out: from then on nothing is sent to it, and monitors hear of it as soon as ractor tells.
//! * ractor's own `pg` is the truth: whoever joins or leaves by other means, or is there by ractor's cluster, is seen here too.
//! * A [`GroupMonitor`] begins with what is and goes on with what changes, with no gap and nothing twice.
//! * [`Group::broadcast`] goes through a list that is kept, and asks nobody.
//!
//! A member is one life of an actor. A supervised child whose spec says [`ChildSpec::joins`](super::ChildSpec::joins) is a
//! member in each of its lives; one that joined by itself is out when it ends, and its successor joins anew (in `pre_start`, as in
//! OTP). Not offered: a bound on what a member that is too slow has in its mailbox; a member that may be too slow takes messages by
//! another way.
//!
//! ```
//! use underpin::otp::Groups;
//! use underpin::ractor::{Actor, ActorProcessingErr, ActorRef};
//!
//! #[derive(Clone)]
//! struct Fire;
//! underpin::otp::message!(Fire);
//!
//! struct Guard;
//! impl Actor for Guard {
//!     type Msg = Fire;
//!     type State = ();
//!     type Arguments = ();
//!     async fn pre_start(&self, _: ActorRef<Fire>, (): ()) -> Result<(), ActorProcessingErr> {
//!         Ok(())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let groups = Groups::new("house");
//! let guards = groups.group::<Fire>("guards");
//! let (guard, task) = Actor::spawn(None, Guard, ()).await?;
//! guards.join(&guard)?;
//!
//! assert_eq!(guards.broadcast(&Fire).sent, 1);
//!
//! guard.stop(None);
//! task.await?;
//! assert_eq!(guards.broadcast(&Fire).sent, 0);
//! # Ok(()) }
//! ```

mod error;
mod handle;
mod keeper;
mod membership;
mod monitor;
mod scope;
mod state;

pub use error::{JoinError, NotJoined};
pub use handle::{Broadcast, Group, Groups};
pub use monitor::{GroupEvent, GroupForwarding, GroupMonitor, GroupSnapshot};
