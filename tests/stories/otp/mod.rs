//! What users of the runtime can rely on: calls, restarts, intensity, stopping, tasks, the tree.

mod administration;
mod calls;
mod counter;
mod deadlines;
mod dynamic;
mod edges;
mod groups;
mod health;
mod leaks;
mod left_behind;
mod meetings;
mod monitors;
mod partition;
mod probe;
mod registry;
mod restarts;
mod seeing;
mod stopping;
mod strategies;
mod sys;
mod tasks;
mod torture;
mod validation;
