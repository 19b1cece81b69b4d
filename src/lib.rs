//! An OTP-style foundation for Rust services on the [`ractor`] actor crate.
//!
//! # Layout
//!
//! Rooms stand on floors; a room uses only the floors below, and another room only through its handle.
//!
//! * floor 0, plain building blocks: [`value`], [`ids`], [`resilience`], and [`otp`], the supervised runtime on ractor;
//! * floor 1: [`telemetry`];
//! * floor 2: [`config`], [`events`];
//! * floor 3: `web`, the HTTP interface (feature `web`), `capture`, a `tracing` layer into the events (feature `capture`), and
//!   `cluster`, nodes that form one system (feature `cluster`);
//! * floor 4: [`node`], the composition: the one place that knows every room.
//!
//! Above them all stands `testing` (feature `testing`): the kit for tests of programs built on underpin.

pub use ractor;

/// The README's programs, built as the examples of the documentation are.
#[cfg(all(doctest, feature = "full"))]
#[doc = include_str!("../README.md")]
pub struct Readme;

#[cfg(feature = "capture")]
pub mod capture;
#[cfg(feature = "cluster")]
pub mod cluster;
pub mod config;
pub mod events;
pub mod ids;
pub mod node;
pub mod otp;
pub mod resilience;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
pub mod value;
#[cfg(feature = "web")]
pub mod web;
