//! Plain ractor_cluster programs as members: they are seen, with their actors and groups.
//!
//! A plain program speaks to a listener of its own, in ractor_cluster's protocol, of which this is the part that a member needs. It is
//! not run by ractor_cluster here: that would give the program's actors a place in the groups and names of this process, and this
//! process' actors to the program. So nothing of the program becomes an actor here, and it is told of none: a hostile one can say what
//! it likes of itself, as far as is remembered of one program, and nothing else.

mod protobuf;
mod protocol;
mod room;
mod roster;
mod session;
#[cfg(test)]
mod stories;

pub use roster::{PlainGroup, PlainMember};

pub(super) use room::Plain;
pub(super) use session::listen;
