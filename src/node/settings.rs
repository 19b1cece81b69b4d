//! The node's own settings: the table `underpin`. Plain data.

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    config::{Invalid, Rules, Schema},
    events, telemetry,
};

/// The node's own settings, the table `underpin` of its configuration.
///
/// | setting | default | changes |
/// |---|---|---|
/// | `http.listen` | `127.0.0.1:4610` | at start |
/// | `events.durability` | `always` | at start |
/// | `events.interval_ms` | 100 | at start |
/// | `events.hot_bytes` | 64 MiB | while running |
/// | `events.segment_bytes` | 64 MiB | while running |
/// | `events.queue_bytes` | 64 MiB | at start |
/// | `events.keep_events`, `events.keep_days`, `events.keep_bytes` | 0: no limit | while running |
/// | `telemetry.retention_secs` | 300 | at start |
/// | `health.crash_loop` | 3 | while running |
///
/// A key that is not in the table is an error; configuration looks for those itself, and says what was probably meant.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Settings {
    /// The HTTP interface.
    pub http: HttpSettings,
    /// The event store.
    pub events: EventSettings,
    /// Metrics.
    pub telemetry: TelemetrySettings,
    /// What counts as healthy.
    pub health: HealthSettings,
}

/// `underpin.http`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct HttpSettings {
    /// Where the interface listens: a loopback address and a port; port 0 takes any that is free.
    pub listen: SocketAddr,
}

/// `underpin.events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct EventSettings {
    /// When an event counts as stored.
    pub durability: Durability,
    /// With durability `interval`: how long a stored event may wait for its sync, in milliseconds.
    pub interval_ms: u64,
    /// How many bytes of the newest events stay in memory.
    pub hot_bytes: u64,
    /// How large a file of the log grows before the next is begun, in bytes, 4 KiB to 256 MiB.
    pub segment_bytes: u32,
    /// How many bytes may wait for the disk; callers wait beyond that.
    pub queue_bytes: u32,
    /// The most events to keep; 0 keeps all.
    pub keep_events: u64,
    /// How many days to keep events by their own time; 0 keeps all.
    pub keep_days: u32,
    /// The most bytes to keep on disk; 0 keeps all.
    pub keep_bytes: u64,
}

/// When an event counts as stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Once it is synced to the disk.
    #[default]
    Always,
    /// Once the system has it; synced within `interval_ms`.
    Interval,
    /// Once it is in memory. Nothing is kept when the node stops.
    Memory,
}

/// `underpin.telemetry`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct TelemetrySettings {
    /// How long a gauge or histogram that nobody writes to is still shown, in seconds.
    pub retention_secs: u32,
}

/// `underpin.health`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct HealthSettings {
    /// How many crashes of one child within a minute make the node count as degraded.
    pub crash_loop: u32,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], Self::PORT)),
        }
    }
}

impl HttpSettings {
    /// The port that a node listens on unless told otherwise.
    pub const PORT: u16 = 4610;
}

impl Default for EventSettings {
    fn default() -> Self {
        let options = events::Options::default();
        Self {
            durability: Durability::default(),
            interval_ms: 100,
            hot_bytes: options.hot_bytes as u64,
            segment_bytes: options.segment_bytes,
            queue_bytes: options.in_flight_bytes,
            keep_events: 0,
            keep_days: 0,
            keep_bytes: 0,
        }
    }
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self {
            retention_secs: 300,
        }
    }
}

impl Default for HealthSettings {
    fn default() -> Self {
        Self { crash_loop: 3 }
    }
}

impl Schema for Settings {
    fn validate(&self) -> Result<(), Invalid> {
        let events = &self.events;
        if !self.http.listen.ip().to_canonical().is_loopback() {
            return Err(Invalid::constraint(
                "http.listen",
                "other machines could reach it, and the interface has no encryption and no password; use 127.0.0.1 or [::1]",
            ));
        }
        check_range("events.interval_ms", events.interval_ms, 1, 60_000)?;
        check_range("events.hot_bytes", events.hot_bytes, 1 << 20, 1 << 40)?;
        check_range(
            "events.segment_bytes",
            events.segment_bytes.into(),
            4 << 10,
            256 << 20,
        )?;
        check_range(
            "events.queue_bytes",
            events.queue_bytes.into(),
            4 << 20,
            1 << 31,
        )?;
        check_range(
            "telemetry.retention_secs",
            self.telemetry.retention_secs.into(),
            1,
            86_400,
        )?;
        check_range(
            "health.crash_loop",
            self.health.crash_loop.into(),
            1,
            1_000_000,
        )
    }

    fn rules() -> Rules {
        described(Rules::fixed())
            .allow("events.hot_bytes")
            .allow("events.segment_bytes")
            .allow("events.keep_events")
            .allow("events.keep_days")
            .allow("events.keep_bytes")
            .allow("health.crash_loop")
    }
}

/// What the settings are, in a template.
fn described(rules: Rules) -> Rules {
    let settings = [
        (
            "http.listen",
            "Where the HTTP interface listens: a loopback address and a port; port 0 takes any that is free.",
        ),
        (
            "events.durability",
            "When an event counts as stored: \"always\" once it is synced to the disk, \"interval\" once the system\nhas it and synced within interval_ms, \"memory\" once it is in memory (nothing is kept).",
        ),
        (
            "events.interval_ms",
            "With durability \"interval\": how long a stored event may wait for its sync, in milliseconds, 1 to 60000.",
        ),
        (
            "events.hot_bytes",
            "How many bytes of the newest events stay in memory, 1 MiB to 1 TiB.",
        ),
        (
            "events.segment_bytes",
            "How large a file of the log grows before the next is begun, in bytes, 4 KiB to 256 MiB.",
        ),
        (
            "events.queue_bytes",
            "How many bytes may wait for the disk, 4 MiB to 2 GiB; callers wait beyond that.",
        ),
        (
            "events.keep_events",
            "The most events to keep; 0 keeps all.",
        ),
        (
            "events.keep_days",
            "How many days to keep events by their own time; 0 keeps all.",
        ),
        (
            "events.keep_bytes",
            "The most bytes to keep on disk; 0 keeps all.",
        ),
        (
            "telemetry.retention_secs",
            "How long a gauge or histogram that nobody writes to is still shown, in seconds, 1 to 86400.",
        ),
        (
            "health.crash_loop",
            "How many crashes of one child within a minute make the node count as degraded.",
        ),
    ];
    settings
        .into_iter()
        .fold(rules, |rules, (path, words)| rules.describe(path, words))
}

fn check_range(path: &str, value: u64, least: u64, most: u64) -> Result<(), Invalid> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let reason = format!("{value} is out of range; use {least} to {most}");
    Err(Invalid::range(path, reason))
}

impl EventSettings {
    /// What the store is started with.
    pub(super) fn options(&self) -> events::Options {
        events::Options {
            durability: match self.durability {
                Durability::Always => events::Durability::Always,
                Durability::Memory => events::Durability::Memory,
                Durability::Interval => {
                    events::Durability::Interval(Duration::from_millis(self.interval_ms))
                }
            },
            hot_bytes: usize::try_from(self.hot_bytes).unwrap_or(usize::MAX),
            segment_bytes: self.segment_bytes,
            in_flight_bytes: self.queue_bytes,
            retention: self.retention(),
            ..events::Options::default()
        }
    }

    /// What the store prunes by itself.
    pub(super) fn retention(&self) -> events::Retention {
        const DAY: u64 = 24 * 60 * 60;
        let days = u64::from(self.keep_days);
        events::Retention {
            max_events: some(self.keep_events),
            max_age: some(days).map(|days| Duration::from_secs(days * DAY)),
            max_bytes: some(self.keep_bytes),
        }
    }
}

impl TelemetrySettings {
    pub(super) fn options(&self) -> telemetry::Options {
        telemetry::Options {
            retention: Duration::from_secs(self.retention_secs.into()),
            ..telemetry::Options::default()
        }
    }
}

/// 0 is no limit.
fn some(limit: u64) -> Option<u64> {
    (limit > 0).then_some(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_are_the_rooms_own() {
        let settings = Settings::default();

        assert_eq!(settings.validate(), Ok(()));
        assert_eq!(settings.events.options(), events::Options::default());
        assert_eq!(settings.telemetry.options(), telemetry::Options::default());
        assert_eq!(settings.http.listen.to_string(), "127.0.0.1:4610");
    }

    #[test]
    fn an_address_that_others_can_reach_is_refused() {
        let mut settings = Settings::default();
        settings.http.listen = SocketAddr::from(([0, 0, 0, 0], 4610));

        let refused = settings.validate().expect_err("not loopback");

        assert_eq!(refused.path, "http.listen");
    }

    #[test]
    fn limits_hold_at_their_edges() {
        let mut settings = Settings::default();
        for (bytes, valid) in [
            ((4 << 10) - 1, false),
            (4 << 10, true),
            (256 << 20, true),
            ((256 << 20) + 1, false),
        ] {
            settings.events.segment_bytes = bytes;
            assert_eq!(settings.validate().is_ok(), valid, "{bytes}");
        }
    }
}
