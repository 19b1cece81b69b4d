//! What becomes of two nodes when the cable between them is cut, one way and both ways, and when it is slow.

use std::time::{Duration, Instant};

use crate::{
    cable::Cable,
    player::{Part, Player},
    scene::{free_address, until},
};

/// After how much silence a node is down.
const TIMEOUT: Duration = Duration::from_secs(1);

/// How long it may take to ask two processes in turn, on a busy machine.
const ASKING: Duration = Duration::from_secs(1);

fn two_players() -> (Cable, Player, Player) {
    let [at_a, at_b] = [free_address(), free_address()];
    let cable = Cable::between(&at_a, &at_b);
    let mut a = Part::new("a", &at_a);
    a.advertise = Some(cable.to_a.clone());
    let mut b = Part::new("b", &at_b).join(&cable.to_a);
    b.advertise = Some(cable.to_b.clone());
    let [mut a, mut b] = [a, b].map(|part| Player::start(&part));
    see_each_other(&mut a, &mut b);
    (cable, a, b)
}

fn see_each_other(a: &mut Player, b: &mut Player) {
    until("both are up", || {
        a.state("b") == "alive" && b.state("a") == "alive"
    });
}

/// Both are down for the other within twice the timeout, and what is asked of them meanwhile is not sent.
pub(crate) fn lose_each_other(a: &mut Player, b: &mut Player, cut: Instant) {
    until("both are down", || {
        a.state("b") == "down" && b.state("a") == "down"
    });
    let took = cut.elapsed();
    assert!(took < 2 * TIMEOUT + ASKING, "down after {took:?}");
    assert_eq!(a.asked("call b nothing"), "no connection");
    assert_eq!(b.asked("call a nothing"), "no connection");
}

/// All that a has sent to b since came once and in its order.
pub(crate) fn whole_again(a: &mut Player, b: &mut Player, runs: &[String; 2]) {
    see_each_other(a, b);
    assert_eq!(&[run_of(a, "b"), run_of(b, "a")], runs, "no process ended");
    assert_eq!(a.asked("row b 1000 1100"), "100");
    until("the last has come", || {
        a.asked("counted b").ends_with(" 1099")
    });
    let all = b.all();
    let disorder: Vec<_> = all
        .iter()
        .filter(|line| line.starts_with("disorder"))
        .collect();
    assert!(disorder.is_empty(), "twice, or in disorder: {disorder:?}");
    assert_eq!(a.asked("call b again"), "ok");
    assert_eq!(b.asked("call a again"), "ok");
}

pub(crate) fn run_of(player: &mut Player, other: &str) -> String {
    player.members().remove(other).expect("it is known").1
}

#[test]
fn nodes_whose_cable_is_cut_lose_each_other_and_are_whole_again_when_it_is_healed() {
    let (cable, mut a, mut b) = two_players();
    let runs = [run_of(&mut a, "b"), run_of(&mut b, "a")];
    assert_eq!(a.asked("row b 1 100"), "99");

    let cut = Instant::now();
    cable.cut();
    // On their way when nobody knows of it yet.
    a.asked("row b 100 200");
    lose_each_other(&mut a, &mut b, cut);
    assert_eq!(a.asked("row b 200 300"), "0");

    cable.heal();
    whole_again(&mut a, &mut b, &runs);
}

#[test]
fn nodes_whose_cable_is_cut_one_way_lose_each_other_just_so() {
    let (cable, mut a, mut b) = two_players();
    let runs = [run_of(&mut a, "b"), run_of(&mut b, "a")];

    let cut = Instant::now();
    cable.cut_from_a();
    a.asked("row b 1 100");
    lose_each_other(&mut a, &mut b, cut);

    cable.heal();
    whole_again(&mut a, &mut b, &runs);
}

/// With a cable of this test's own; `namespaces` has one that the system makes slow.
#[test]
fn a_slow_cable_makes_who_sends_wait_and_nobody_is_taken_for_dead() {
    let (cable, mut a, mut b) = two_players();
    waits_for_a_slow_cable(
        (&mut a, &mut b),
        || cable.slow_from_a(SLOW),
        || cable.heal(),
    );
}

/// So many bytes a second.
pub(crate) const SLOW: u32 = 128 << 10;

/// A floods b over a slow cable: it waits in bounded memory, each takes the other for alive, and all comes when it is as it was.
pub(crate) fn waits_for_a_slow_cable(
    (a, b): (&mut Player, &mut Player),
    slow: impl FnOnce(),
    heal: impl FnOnce(),
) {
    let before = a.resident_bytes();
    slow();

    let begin = Instant::now();
    a.told("flood b 1000");
    until("there is no credit left, and time has passed", || {
        let flow = flow(a);
        flow.in_flight >= STUCK && begin.elapsed() > 4 * TIMEOUT
    });
    let grown = a.resident_bytes().saturating_sub(before);
    a.told("rest");
    let sent: u64 = a.says("flooded", 0).parse().expect("a number");
    heal();

    until("all has come", || {
        a.asked("counted b") == format!("{sent} {sent}")
    });
    for player in [&*a, &*b] {
        let news = player.all();
        assert!(!news.iter().any(|line| line.contains("Down")), "{news:?}");
    }
    assert!(grown < 32 << 20, "it grew by {grown} bytes");
    assert_eq!(b.state("a"), "alive");
}

/// What one service may have on its way to a node that takes nothing is half of the window of 4 MiB; this is well on the way there.
pub(crate) const STUCK: u64 = 1 << 20;

pub(crate) struct Flow {
    pub(crate) sent: u64,
    pub(crate) in_flight: u64,
}

pub(crate) fn flow(a: &mut Player) -> Flow {
    let flow = a.asked("flow b");
    let mut flow = flow
        .split(' ')
        .map(|number| number.parse().expect("a number"));
    let mut number = || flow.next().expect("three numbers");
    Flow {
        sent: number(),
        in_flight: number(),
    }
}
