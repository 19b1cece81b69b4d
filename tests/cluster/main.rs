//! Stories of clusters of real processes. `processes` are of the binary alone; the others also have programs of their own, whose cable
//! is cut and slow, and that are stopped, flooded and started anew.
#![cfg(all(feature = "cli", feature = "cluster"))]

mod cable;
mod certificates;
mod cut;
mod faults;
mod floods;
#[cfg(target_os = "linux")]
mod namespaces;
mod plain;
mod player;
mod processes;
#[path = "../ready/mod.rs"]
mod ready;
mod rolling;
mod scene;
