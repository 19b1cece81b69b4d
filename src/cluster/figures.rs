//! What the room counts.

use std::{collections::HashMap, sync::atomic::Ordering};

use super::{link::Link, member::MemberState};
use crate::{
    ids::NodeName,
    telemetry::{Counter, Kind, Telemetry},
};

pub(super) struct Figures {
    telemetry: Telemetry,
    /// Connections that were dropped before they had proven who they are, to make room.
    pub(super) evicted: Counter,
    /// Connections that came to nothing, or were not let in.
    pub(super) failed: Counter,
    /// Broadcasts of other nodes that no member got, since members hold too much of that node's.
    pub(super) let_go: Counter,
}

const NODES: &str = "underpin_cluster_nodes";
const ROUND_TRIP: &str = "underpin_cluster_round_trip_seconds";
const IN_FLIGHT: &str = "underpin_cluster_in_flight_bytes";
const BYTES: &str = "underpin_cluster_bytes";
const MESSAGES: &str = "underpin_cluster_messages";
const EVICTED: &str = "underpin_cluster_strangers_evicted";
const FAILED: &str = "underpin_cluster_connects_failed";
const LET_GO: &str = "underpin_cluster_broadcasts_let_go";
const EVENTS: &str = "underpin_cluster_events";

const METRICS: [(Kind, &str, &[&str], &str); 9] = [
    (
        Kind::Gauge,
        NODES,
        &["state"],
        "Other nodes, by how they are.",
    ),
    (
        Kind::Gauge,
        ROUND_TRIP,
        &["node"],
        "The last round trip of a heartbeat.",
    ),
    (
        Kind::Gauge,
        IN_FLIGHT,
        &["node"],
        "What was sent to a node and not dealt with there, in bytes.",
    ),
    (
        Kind::Counter,
        BYTES,
        &["node", "direction"],
        "Bytes that went over connections to a node.",
    ),
    (
        Kind::Counter,
        MESSAGES,
        &["node", "direction"],
        "Requests and broadcasts that went over connections to a node.",
    ),
    (
        Kind::Counter,
        EVICTED,
        &[],
        "Connections that made room before they had proven who they are.",
    ),
    (
        Kind::Counter,
        FAILED,
        &[],
        "Connections to other nodes that came to nothing.",
    ),
    (
        Kind::Counter,
        LET_GO,
        &[],
        "Broadcasts of other nodes that were let go, since members hold too much of what such a node sent earlier.",
    ),
    (
        Kind::Counter,
        EVENTS,
        &["event"],
        "What became of other nodes: up, suspect, recovered, down, left.",
    ),
];

const STATES: [(MemberState, &str); 5] = [
    (MemberState::Joining, "joining"),
    (MemberState::Alive, "alive"),
    (MemberState::Suspect, "suspect"),
    (MemberState::Down, "down"),
    (MemberState::Left, "left"),
];

/// What was counted of a connection so far.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counted([u64; 4]);

impl Figures {
    pub(super) fn new(telemetry: &Telemetry) -> Self {
        telemetry.declare(&METRICS);
        Self {
            telemetry: telemetry.clone(),
            evicted: telemetry.counter(EVICTED, &[]),
            failed: telemetry.counter(FAILED, &[]),
            let_go: telemetry.counter(LET_GO, &[]),
        }
    }

    pub(super) fn event(&self, name: &str) {
        self.telemetry.counter(EVENTS, &[("event", name)]).add(1);
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a gauge is a float, and these are counts of nodes"
    )]
    pub(super) fn nodes(&self, states: impl Iterator<Item = MemberState>) {
        let mut counts: HashMap<MemberState, u64> = HashMap::new();
        states.for_each(|state| *counts.entry(state).or_default() += 1);
        for (state, name) in STATES {
            let count = counts.get(&state).copied().unwrap_or_default();
            self.telemetry
                .gauge(NODES, &[("state", name)])
                .set(count as f64);
        }
    }

    /// A connection is over: the rest of what went over it, and nothing is on its way any more.
    pub(super) fn lost(&self, link: &Link, mut counted: Counted) {
        self.traffic(link, &mut counted);
        let node = link.node().as_str();
        self.telemetry.gauge(IN_FLIGHT, &[("node", node)]).set(0.0);
    }

    /// Adds what went over a connection since it was looked at last.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a gauge is a float, and a window is below 4 GiB"
    )]
    pub(super) fn traffic(&self, link: &Link, counted: &mut Counted) {
        let node: &NodeName = link.node();
        let node = node.as_str();
        let traffic = &link.traffic;
        let now = [
            (BYTES, "sent", &traffic.bytes_sent),
            (BYTES, "received", &traffic.bytes_received),
            (MESSAGES, "sent", &traffic.messages_sent),
            (MESSAGES, "received", &traffic.messages_received),
        ];
        for ((name, direction, count), before) in now.into_iter().zip(&mut counted.0) {
            let count = count.load(Ordering::Relaxed);
            let labels = [("node", node), ("direction", direction)];
            self.telemetry.counter(name, &labels).add(count - *before);
            *before = count;
        }
        if let Some(round_trip) = link.round_trip() {
            self.telemetry
                .gauge(ROUND_TRIP, &[("node", node)])
                .set(round_trip.as_secs_f64());
        }
        let in_flight = link.outbox.in_flight() as f64;
        self.telemetry
            .gauge(IN_FLIGHT, &[("node", node)])
            .set(in_flight);
    }
}
