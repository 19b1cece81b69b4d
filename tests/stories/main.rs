//! What users of underpin can rely on, room by room.

#[cfg(feature = "capture")]
mod capture;
#[cfg(feature = "cluster")]
mod cluster;
mod config;
mod events;
mod faults;
mod ids;
mod journal;
mod node;
mod otp;
mod resilience;
mod support;
mod telemetry;
mod testing;
mod value;
#[cfg(feature = "web")]
mod web;
#[cfg(feature = "web")]
mod web_finding;
#[cfg(feature = "web")]
mod web_page;
