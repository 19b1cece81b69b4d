//! A sender that is faster than its reader, and messages that are too long.

use crate::{
    cut::{STUCK, flow},
    player::{Part, Player},
    scene::{free_address, signal, until},
};

/// What a sender may cost for a node that reads nothing: its window of 4 MiB, in the buffer of the connection and in the two that are
/// exchanged with it, and what the allocator keeps of them.
const COST_MAX: u64 = 32 << 20;

#[test]
fn who_floods_a_node_that_is_stopped_waits_in_bounded_memory_and_loses_nothing() {
    let address = free_address();
    let mut patient = Part::new("a", &address);
    patient.timeout_ms = 60_000;
    let mut a = Player::start(&patient);
    let mut part = Part::new("b", &free_address()).join(&address);
    part.timeout_ms = 60_000;
    let b = Player::start(&part);
    until("they see each other", || a.state("b") == "alive");
    let before = a.resident_bytes();

    signal(b.process(), "-STOP");
    a.told("flood b 1000");
    let mut last = 0;
    until("there is no credit left, and nothing more is sent", || {
        let flow = flow(&mut a);
        let stands = flow.sent == last;
        last = flow.sent;
        stands && flow.in_flight >= STUCK
    });
    let grown = a.resident_bytes().saturating_sub(before);
    a.told("rest");
    let sent: u64 = a.says("flooded", 0).parse().expect("a number");
    signal(b.process(), "-CONT");

    assert!(grown < COST_MAX, "{sent} messages cost {grown} bytes");
    until("all has come, once and in order", || {
        a.asked("counted b") == format!("{sent} {sent}")
    });
    assert_eq!(a.asked("call b after"), "ok");
    let news = a.all();
    assert!(!news.iter().any(|line| line.contains("Down")), "{news:?}");
}

#[test]
fn a_message_that_is_too_long_is_refused_and_the_connection_goes_on() {
    let address = free_address();
    let mut a = Player::start(&Part::new("a", &address));
    let mut b = Player::start(&Part::new("b", &free_address()).join(&address));
    until("they see each other", || b.state("a") == "alive");

    let answer = b.asked("long a 9000000");
    assert!(
        answer.starts_with("no ") && answer.contains("split it"),
        "{answer}"
    );

    assert_eq!(b.asked("long a 900000"), "ok");
    let news = [a.all(), b.all()].concat();
    assert!(!news.iter().any(|line| line.contains("Down")), "{news:?}");
    assert_eq!(a.state("b"), "alive");
}

#[test]
fn a_node_with_an_id_that_is_taken_is_not_let_in_and_says_so() {
    let address = free_address();
    let mut first = Part::new("a", &address);
    first.id = Some(7);
    let mut a = Player::start(&first);
    let mut part = Part::new("twin", &free_address()).join(&address);
    part.id = Some(7);
    let mut twin = Player::start(&part);

    until("it says why it is alone", || {
        let failures = twin.asked("failures");
        failures.contains('7') && failures.contains("id")
    });
    assert_eq!(twin.members().len(), 0);
    assert_eq!(a.members().len(), 0);
}
