//! What users of the runtime can rely on: calls, restarts, intensity, stopping, tasks, the tree.

mod administration;
mod calls;
mod edges;
mod groups;
mod monitors;
mod probe;
mod registry;
mod restarts;
mod stopping;
mod tasks;
