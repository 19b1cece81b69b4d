//! What a user of the event store can rely on.

mod durability;
mod finding;
mod following;
mod formats;
mod maintenance;
mod making;
mod models;
mod pruning;
mod racing;
mod storing;
pub(crate) mod support;
mod travelling;
